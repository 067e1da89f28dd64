# SPDX-License-Identifier: MIT
"""lab.py - what the benchmarks share: a daemon to measure, data to measure it with, clocks."""
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

KEEPFS = os.environ["KEEPFS"]
MEGABYTES = int(os.environ.get("KEEPFS_BENCH_MB", "1000"))  # of the large databases


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def sync():
    subprocess.run(["sync"], check=True)


def timed(*command, **kw):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **kw)
    return time.monotonic() - begin


def tree_size(path):
    return sum(os.lstat(os.path.join(at, name)).st_size
               for at, _, names in os.walk(path) for name in names)


def children_cpu():
    """Seconds of user and system time of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Mount:
    """A daemon over some stores, in a directory that goes at the end.

    `stores` are (name, kind, path); each has the repos of `repos`, {name: [line of configuration]}.
    `lines` are more of [keepfs], `environ` more of the environment.
    """

    def __init__(self, base, stores, repos=None, lines=(), environ=None):
        self.environ = {**os.environ, **(environ or {})}
        self.dir = tempfile.mkdtemp(prefix="keepfs-bench.", dir=base)
        self.mnt = os.path.join(self.dir, "mnt")
        os.mkdir(self.mnt)
        self.conf = os.path.join(self.dir, "keepfs.conf")
        with open(self.conf, "w") as f:
            f.write(f"[keepfs]\nstate = {self.dir}/state\n")
            f.writelines(line + "\n" for line in lines)
            for name, kind, path in stores:
                f.write(f"[store {name}]\nkind = {kind}\npath = {path}\n")
                for repo, lines in (repos or {"main": []}).items():
                    f.write(f"[repo {name}/{repo}]\nkind = local\n"
                            f"path = {self.repo_path(name, repo)}\n")
                    f.writelines(line + "\n" for line in lines)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir)

    def start(self):
        # A file, not a pipe: the daemon keeps it open.
        with open(f"{self.dir}/stderr", "w+") as said:
            p = subprocess.run([KEEPFS, "mount", self.conf, self.mnt], stderr=said,
                               env=self.environ)
            said.seek(0)
            assert p.returncode == 0, said.read()
        with open(f"{self.dir}/state/lock") as f:
            self.pid = int(f.read().split()[1])

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{self.pid}"):
            time.sleep(0.01)

    def restart(self):
        """A new mount: nothing of it is in any cache."""
        self.stop()
        self.start()

    def cpu(self):
        """Seconds of user and system time of the daemon, in steps of 10 ms."""
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        """Bytes, now."""
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) * 1024

    def wakeups(self):
        """How often its threads went to sleep of themselves."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status") as f:
                total += sum(int(line.split()[1]) for line in f
                             if line.startswith("voluntary_ctxt_switches:"))
        return total

    def peak_rss(self):
        """Bytes."""
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) * 1024

    def trigger(self, line):
        fd = os.open(f"{self.mnt}/ctl", os.O_RDWR)
        os.write(fd, line.encode() + b"\n")
        job = os.read(fd, 4096).split()[0].decode()
        os.close(fd)
        return job

    def read(self, path):
        with open(f"{self.mnt}/{path}") as f:
            return f.read().strip()

    def wait(self, job, pause=0):
        """Looks without pause take a core of two: a long job is looked at every 10 ms."""
        while (state := self.read(f"jobs/{job}/status")) in ("pending", "running"):
            if pause:
                time.sleep(pause)
        return state

    def repo_path(self, store, repo="main"):
        return f"{self.dir}/repo/{store}/{repo}"

    def forget(self, store, repo="main"):
        """Removes its archives, as the peers' copies are: both sides write into the same memory."""
        path = self.repo_path(store, repo)
        for name in os.listdir(path):
            if len(name) == 26:
                shutil.rmtree(f"{path}/{name}")

    def run(self, line, pause=0):
        """The job of a backup that succeeded."""
        job = self.trigger(line)
        state = self.wait(job, pause)
        assert state == "succeeded", self.read(f"jobs/{job}/error")
        return job

    def backup(self, line, pause=0):
        begin = time.monotonic()
        self.run(line, pause)
        return time.monotonic() - begin

    def record(self, job):
        """The ULID of what a job made."""
        return os.path.basename(os.readlink(f"{self.mnt}/jobs/{job}/record"))


def make_db(path, size):
    """Mostly random bytes: what no compression can do much about."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)")
    while os.path.getsize(path) < size:
        db.execute("BEGIN")
        db.executemany("INSERT INTO t(v) VALUES(?)",
                       ((os.urandom(2000) + b"text " * 400,) for _ in range(16000)))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def text_rows(dice, words, count):
    for _ in range(count):
        account = dice.randrange(50_000)
        body = (f'{{"account": {account}, "amount": {dice.randrange(10**6) / 100:.2f}, '
                f'"currency": "{dice.choice(("EUR", "USD", "JPY"))}", '
                f'"token": "{dice.getrandbits(256):064x}", '
                f'"note": "{" ".join(dice.choices(words, k=60))}"}}')
        yield 1_700_000_000 + dice.randrange(10**8), account, body


def make_db_text(path, size):
    """What applications keep: records in JSON, words, numbers, some tokens; always the same ones.
    zstd -3 makes about a third of it."""
    dice = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    # Few words are frequent, most are rare, as in any language.
    words = ["".join(dice.choices(letters, range(26, 0, -1), k=dice.randint(2, 9)))
             for _ in range(4000)]
    words = [word for rank, word in enumerate(words) for _ in range(4000 // (rank + 1) or 1)]
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE doc(id INTEGER PRIMARY KEY, at INTEGER, account INTEGER, body TEXT)")
    db.execute("CREATE INDEX doc_account ON doc(account)")
    db.execute("PRAGMA journal_mode=WAL")
    while os.path.getsize(path) < size:
        db.execute("BEGIN")
        db.executemany("INSERT INTO doc(at, account, body) VALUES(?, ?, ?)",
                       text_rows(dice, words, 20_000))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
