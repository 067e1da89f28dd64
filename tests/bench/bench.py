#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench.py - times of keepfs beside those of its peers, in one run on one machine.

Run by `meson test --benchmark -v`, or with KEEPFS=BINARY by hand. Each figure stands beside the
same work done by something known: restic, cp + fsync, tar | cat + fsync. A peer that is not
installed is left out, and said. Names of benchmarks to run may be given as arguments.
"""
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

KEEPFS = os.environ["KEEPFS"]
BANK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cases/bank.py")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def sync():
    subprocess.run(["sync"], check=True)


class Mount:
    """A daemon over some stores, in a directory that goes at the end."""

    def __init__(self, base, stores):
        self.dir = tempfile.mkdtemp(prefix="keepfs-bench.", dir=base)
        self.mnt = os.path.join(self.dir, "mnt")
        os.mkdir(self.mnt)
        self.conf = os.path.join(self.dir, "keepfs.conf")
        with open(self.conf, "w") as f:
            f.write(f"[keepfs]\nstate = {self.dir}/state\n")
            for name, kind, path in stores:
                f.write(f"[store {name}]\nkind = {kind}\npath = {path}\n"
                        f"[repo {name}/main]\nkind = local\npath = {self.dir}/repo/{name}\n")

    def __enter__(self):
        subprocess.run([KEEPFS, "mount", self.conf, self.mnt], check=True)
        with open(f"{self.dir}/state/lock") as f:
            self.pid = int(f.read().split()[1])
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{self.pid}"):
            time.sleep(0.01)
        shutil.rmtree(self.dir)

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

    def forget(self, store):
        """Removes its archives, as the peers' copies are: both sides write into the same memory."""
        for name in os.listdir(f"{self.dir}/repo/{store}"):
            if len(name) == 26:
                shutil.rmtree(f"{self.dir}/repo/{store}/{name}")

    def backup(self, store, pause=0):
        begin = time.monotonic()
        job = self.trigger(store)
        state = self.wait(job, pause)
        took = time.monotonic() - begin
        assert state == "succeeded", self.read(f"jobs/{job}/error")
        return took


def timed(*command, **kw):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **kw)
    return time.monotonic() - begin


def make_db(path, size):
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


def small(base):
    """A 4 KiB store, from the write to ctl to the terminal state, with all fsyncs."""
    path = os.path.join(base, "small.db")
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t(x)")
    db.commit()
    db.close()
    with Mount(base, [("app", "sqlite", path)]) as m:
        for _ in range(20):
            m.backup("app")
        times = [m.backup("app") for _ in range(300)]
    p50 = statistics.median(times)
    print(f"small: keepfs p50 {p50 * 1e3:.1f} ms, p99 {percentile(times, .99) * 1e3:.1f} ms", end="")
    if not shutil.which("restic"):
        print("; restic is not installed")
        return
    env = dict(os.environ, RESTIC_PASSWORD="x", RESTIC_REPOSITORY=os.path.join(base, "restic"),
               RESTIC_CACHE_DIR=os.path.join(base, "cache"))
    timed("restic", "init", env=env)
    peer = [timed("restic", "backup", "-q", path, env=env) for _ in range(10)]
    print(f"; restic backup p50 {statistics.median(peer) * 1e3:.0f} ms"
          f"; ratio {p50 / statistics.median(peer):.3f}")


def database(base):
    """A database of 1 GB, against cp + fsync."""
    path = os.path.join(base, "big.db")
    make_db(path, 10**9)
    copy = os.path.join(base, "copy.db")

    def cp():
        begin = time.monotonic()
        subprocess.run(["cp", path, copy], check=True)
        subprocess.run(["sync", copy], check=True)
        return time.monotonic() - begin

    ours, peer = [], []
    with Mount(base, [("app", "sqlite", path)]) as m:
        for _ in range(6):
            sync()
            ours.append(m.backup("app", 0.01))
            m.forget("app")
            sync()
            peer.append(cp())
            os.unlink(copy)
    report("database 1 GB", ours, "cp + fsync", peer)


def directory(base):
    """/usr/share, against tar | cat + fsync."""
    copy = os.path.join(base, "copy.tar")

    def tar():
        begin = time.monotonic()
        subprocess.run(f"tar -C /usr/share -cf - . | cat > {copy}; sync {copy}", shell=True,
                       check=True)
        return time.monotonic() - begin

    ours, peer = [], []
    with Mount(base, [("share", "directory", "/usr/share")]) as m:
        for _ in range(8):
            sync()
            ours.append(m.backup("share", 0.01))
            m.forget("share")
            sync()
            peer.append(tar())
            os.unlink(copy)
    report("directory /usr/share", ours, "tar | cat + fsync", peer)


def report(what, ours, name, peer):
    ours, peer = ours[1:], peer[1:]  # the first ones warm the caches up
    a, b = statistics.median(ours), statistics.median(peer)
    print(f"{what}: keepfs {a:.2f} s, {name} {b:.2f} s, ratio {a / b:.2f} (medians of {len(ours)})")


def cancel(base):
    """From the write to cancel to the terminal state, of running and of pending jobs."""
    path = os.path.join(base, "cancel.db")
    make_db(path, 2 * 10**8)
    times = []
    with Mount(base, [("app", "sqlite", path)]) as m:
        for i in range(100):
            job = m.trigger("app")
            end = time.monotonic() + (i % 20) * 0.01
            while time.monotonic() < end:
                pass
            begin = time.monotonic()
            with open(f"{m.mnt}/jobs/{job}/cancel", "w") as f:
                f.write("1\n")
            if m.wait(job) == "interrupted":
                times.append(time.monotonic() - begin)
    print(f"cancel of a 200 MB backup: {len(times)} interrupted, p50 "
          f"{statistics.median(times) * 1e3:.0f} ms, p99 {percentile(times, .99) * 1e3:.0f} ms")


def writers(base):
    """Transfers of four processes in a WAL database alone, and while backups follow each other."""

    def run(path, meanwhile):
        p = subprocess.Popen([sys.executable, BANK, path, "run", "4"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        meanwhile()
        out, _ = p.communicate("")
        return sum(int(n) / float(s) for n, s in (line.split() for line in out.splitlines()))

    path = os.path.join(base, "bank.db")
    subprocess.run([sys.executable, BANK, path, "make", "WAL"], check=True)
    alone, during, count = [], [], 0
    with Mount(base, [("bank", "sqlite", path)]) as m:
        def backups():
            nonlocal count
            end = time.monotonic() + 5
            while time.monotonic() < end:
                begin = time.monotonic()
                m.backup("bank")
                count += 1
                # Ten backups a second are far more than anybody makes.
                time.sleep(max(0, begin + 0.1 - time.monotonic()))
        for _ in range(3):
            alone.append(run(path, lambda: time.sleep(5)))
            during.append(run(path, backups))
    a, b = statistics.median(alone), statistics.median(during)
    print(f"writers: {a:.0f} transfers/s alone, {b:.0f} during {count} backups, ten a second at most, "
          f"ratio {b / a:.2f}")


def main():
    benchmarks = [small, cancel, writers, database, directory]
    wanted = sys.argv[1:] or [b.__name__ for b in benchmarks]
    for b in benchmarks:
        if b.__name__ not in wanted:
            continue
        base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
        try:
            b(base)
            sys.stdout.flush()
        finally:
            shutil.rmtree(base)


main()
