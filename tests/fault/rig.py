# SPDX-License-Identifier: MIT
"""rig.py - what the harnesses with file systems of their own share.

isolate() runs the calling script again in a mount and a pid namespace: whatever happens to it, the
kernel ends its processes and takes its mounts and loop devices down, and the outer process removes
its directory. Without root or namespaces it ends with status 77 and says why.

A Tally counts verdicts and ends with "N passed, N failed, N skipped", as tests/run.sh does.

A ChangingDatabase and a ChangingTree are sources that never stand still and know what they were at
any moment, so that a copy that was made between two moments can be judged.
"""
import contextlib
import hashlib
import io
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

PATIENCE = 60  # seconds; only ends what hangs
INSIDE = "KEEPFS_RIG"
SKIPPED = 77
FINAL = {"succeeded", "failed", "interrupted"}


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, what, faults):
        """One verdict: `faults` is a list of sentences, empty if all is well."""
        if not faults:
            self.passed += 1
            return
        self.failed += 1
        for fault in faults:
            print(f"FAILED {what}: {fault}", flush=True)

    def skip(self, what, reason):
        self.skipped += 1
        print(f"skipped {what}: {reason}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0


def skip(reason):
    print(f"skipped: {reason}\n0 passed, 0 failed, 1 skipped", flush=True)
    sys.exit(SKIPPED)


def isolate():
    """Returns the rig's directory, inside; outside it does not return."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if INSIDE in os.environ:
        return pathlib.Path(os.environ[INSIDE])
    if os.geteuid() != 0:
        skip("mounting needs root")
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
                  "--propagation", "private"]
    probe = subprocess.run([*namespaces, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        skip(f"no namespaces: {probe.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="keepfs-fault.") as place:
        inner = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *namespaces, sys.executable, "-B", *sys.argv],
            env={**os.environ, INSIDE: place})
        try:
            sys.exit(inner.wait())
        finally:
            inner.kill()
            inner.wait()


def binary():
    """The keepfs under test, as tests/run.sh gives it."""
    path = os.environ.get("KEEPFS")
    if not path:
        sys.exit("KEEPFS is the keepfs binary to test; tests/run.sh sets it")
    return os.path.abspath(path)


def run(*command, ok=(0,)):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode not in ok:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def await_state(condition, what, patience=PATIENCE):
    """Looks until the condition holds; the pause only leaves the processor to others."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what}")
        time.sleep(0.002)
    return value


class Daemon:
    """keepfs in the foreground, a child of this process."""

    def __init__(self, config, mount, log, environ=None, program=None):
        self.config, self.mount, self.log = config, pathlib.Path(mount), pathlib.Path(log)
        self.environ = {**os.environ, **(environ or {})}
        self.program = program or binary()
        self.process = None

    def start(self):
        self.spawn()
        await_state(self._answers, "the mount")

    def spawn(self):
        """The beginning of a start."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.program), "mount", "-f", str(self.config), str(self.mount)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"keepfs ended with {self.process.returncode}: {self.last_words()}")
        try:
            # The mount of one that died answers from the kernel's cache what is kept there; of
            # this nothing is.
            return os.path.exists(self.mount / "last_error")
        except OSError:
            return False

    def last_words(self):
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self, unmount=True):
        """Without unmounting the next start has a dead mount to clear."""
        self.process.kill()
        self.process.wait()
        if unmount:
            subprocess.run(["umount", "-l", str(self.mount)], stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)

    def trigger(self, line):
        """The ids of the jobs that a line of ctl made; OSError as the mount gave it."""
        fd = os.open(self.mount / "ctl", os.O_RDWR)
        try:
            os.write(fd, line.encode() + b"\n")
            return [text.split()[0] for text in os.read(fd, 1 << 16).decode().splitlines()]
        finally:
            os.close(fd)

    def of_job(self, job, name):
        return (self.mount / "jobs" / job / name).read_text().strip()

    def finished(self, job):
        """Waits for the job's end; its final state."""
        return await_state(lambda: (state := self.of_job(job, "status")) in FINAL and state,
                           f"the end of job {job}")

    def record_of(self, job):
        """The id of the record that a job made, or None."""
        try:
            return os.path.basename(os.readlink(self.mount / "jobs" / job / "record"))
        except FileNotFoundError:
            return None

    # ---- what the process holds ----

    def figures(self):
        """Resident memory in KiB, threads and descriptors."""
        proc = f"/proc/{self.process.pid}"
        with open(f"{proc}/status") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return {"KiB": kib, "threads": len(os.listdir(f"{proc}/task")),
                "descriptors": len(os.listdir(f"{proc}/fd"))}

    def open_files(self, *directories):
        """What it has open in or below these."""
        base, found = f"/proc/{self.process.pid}/fd", []
        for fd in os.listdir(base):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"{base}/{fd}")
                found += [target for d in directories if f"{target}/".startswith(f"{d}/")]
        return found

    def children(self):
        base = f"/proc/{self.process.pid}/task"
        return [child for task in os.listdir(base)
                for child in pathlib.Path(base, task, "children").read_text().split()]

    def is_mounted(self):
        with open("/proc/self/mountinfo") as mounts:
            return any(line.split()[4] == str(self.mount) for line in mounts)

    # ---- records ----

    def records(self):
        return sorted(n for n in os.listdir(self.mount / "records") if n[0].isdigit())

    def jobs(self):
        """Every job's state."""
        return {name: self.of_job(name, "status") for name in os.listdir(self.mount / "jobs")
                if len(name) == 26}

    def payload(self, record):
        return (self.mount / "records" / record / "payload").read_bytes()


def archives(*repos):
    """Path of every whole archive, by its id; a repo that is not made yet has none."""
    return {manifest.parent.name: manifest.parent
            for repo in repos for manifest in pathlib.Path(repo).glob("*/manifest.yaml")
            if manifest.parent.suffix != ".tmp"}


def leftovers(state, *repos):
    """What should not be there while no job runs."""
    left = [path for repo in repos for path in pathlib.Path(repo).glob("*.tmp")]
    left += (pathlib.Path(state) / "staging").iterdir()
    return [f"{path} was left behind" for path in left]


def disagreements(daemon, state, *repos):
    """While no job runs: half-made things, and what is listed but not stored or the reverse."""
    listed, stored = set(daemon.records()), set(archives(*repos))
    return (leftovers(state, *repos)
            + [f"record {r} has no whole archive" for r in sorted(listed - stored)]
            + [f"archive {r} is not listed" for r in sorted(stored - listed)])


def verify(archive, key=None):
    """What keepfs verify has against an archive: a list, empty if it is whole."""
    command = [binary(), "verify", str(archive)] + (["--key", f"file:{key}"] if key else [])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and "\nresult ok\n" in done.stdout:
        return []
    return [f"verify of {archive}: status {done.returncode}, {done.stderr.strip()}"]


def make_database(path, rows):
    """Incompressible, in rollback-journal mode: its backup is the very file."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
        db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?)"
                   " INSERT INTO t SELECT i, randomblob(80) FROM n", (rows,))
        db.commit()


def make_key(path):
    with open(path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        f.write(os.urandom(32))


def file_digest(data):
    return hashlib.sha256(data).hexdigest()


def tree_digest(directory):
    """Of names and contents of the regular files below a directory."""
    root = pathlib.Path(directory)
    return _digest_of((str(p.relative_to(root)), p.read_bytes())
                      for p in root.rglob("*") if p.is_file())


def tar_digest(data):
    """The same of a directory's payload."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return _digest_of([(os.path.normpath(m.name), tar.extractfile(m).read())
                           for m in tar if m.isfile()])


def _digest_of(files):
    whole = hashlib.sha256()
    for name, content in sorted(files):
        whole.update(f"{name} {file_digest(content)}\n".encode())
    return whole.hexdigest()


def _filling(name, size):
    """The same bytes for the same name, and other ones for any other."""
    return random.Random(name).randbytes(size)


class ChangingDatabase:
    """A bank that never stands still, and remembers all that it ever was.

    Each step moves money, gives a row new bytes and counts the version up, in one transaction. So a
    copy of any moment has a version, and what it must hold besides is known.
    """
    EACH = 1000

    def __init__(self, path, mode, rows, size):
        self.path, self.rows, self.size = pathlib.Path(path), rows, size
        self.lock = threading.RLock()
        self.version, self.cents, self.stamps = 0, [self.EACH] * rows, [0] * rows
        self.history = {0: self._digest(self.cents, self.stamps)}
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        self.db.executescript(f"PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF;"
                              "CREATE TABLE account(id INTEGER PRIMARY KEY, cents, stamp, note);"
                              "CREATE TABLE version(n)")
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO account VALUES(?,?,0,?)",
                            ((i, self.EACH, _filling(f"{i} 0", size)) for i in range(rows)))
        self.db.execute("INSERT INTO version VALUES(0)")
        self.db.execute("COMMIT")

    @staticmethod
    def _digest(cents, stamps):
        return hashlib.sha256(repr((list(cents), list(stamps))).encode()).digest()

    def mark(self):
        """The moment that it is now."""
        with self.lock:
            return self.version

    def step(self, rng):
        with self.lock:
            a, b = rng.sample(range(self.rows), 2)
            cents, stamps, version = self.cents[:], self.stamps[:], self.version + 1
            cents[a], cents[b], stamps[a] = cents[a] - 7, cents[b] + 7, version
            self.history[version] = self._digest(cents, stamps)
            if self._commit(a, b, version, cents):
                self.version, self.cents, self.stamps = version, cents, stamps

    def _commit(self, a, b, version, cents):
        """False if a reader is in the way: without WAL it keeps writers out."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute("UPDATE account SET cents=?, stamp=?, note=? WHERE id=?",
                            (cents[a], version, _filling(f"{a} {version}", self.size), a))
            self.db.execute("UPDATE account SET cents=? WHERE id=?", (cents[b], b))
            self.db.execute("UPDATE version SET n=?", (version,))
            self.db.execute("COMMIT")
            return True
        except sqlite3.OperationalError:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            return False

    @contextlib.contextmanager
    def held(self):
        """Nobody can read it meanwhile, unless it has a WAL."""
        with self.lock:
            await_state(self._take, f"a lock on {self.path}")
            try:
                yield
            finally:
                self.db.execute("ROLLBACK")

    def _take(self):
        with contextlib.suppress(sqlite3.OperationalError):
            self.db.execute("BEGIN EXCLUSIVE")
        return self.db.in_transaction

    def faults_of(self, copy, since, until):
        """What is wrong with a copy that was made between two moments."""
        with contextlib.closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as db:
            said = db.execute("PRAGMA integrity_check").fetchone()[0]
            if said != "ok":
                return [f"integrity_check: {said}"]
            version = db.execute("SELECT n FROM version").fetchone()[0]
            rows = db.execute("SELECT id, cents, stamp, note FROM account ORDER BY id").fetchall()
        faults = [f"row {i} has not the bytes of version {stamp}" for i, _, stamp, note in rows
                  if note != _filling(f"{i} {stamp}", self.size)]
        if sum(row[1] for row in rows) != self.rows * self.EACH:
            faults.append("money was lost or made")
        if self.history.get(version) != self._digest([r[1] for r in rows], [r[2] for r in rows]):
            faults.append(f"it is not what version {version} was")
        if not since <= version <= until:
            faults.append(f"it is version {version}; between {since} and {until} was asked for")
        return faults


class ChangingTree:
    """A directory whose files are replaced, vanish and come back, each whole at any moment."""

    def __init__(self, path, files, size):
        self.path, self.size = pathlib.Path(path), size
        self.aside = self.path.with_name(self.path.name + ".new")
        self.lock, self.tick = threading.RLock(), 0
        self.path.mkdir()
        (self.path / "sub").mkdir()
        self.names = [f"{'sub/' if i % 3 == 0 else ''}{i}" for i in range(files)]
        self.history = {name: [] for name in self.names}  # of (moment, generation or None)
        for name in self.names:
            self._put(name, 0)

    def mark(self):
        with self.lock:
            return self.tick

    def _content(self, name, generation):
        head = f"{name} {generation}\n".encode()
        return head + _filling(head.decode(), self.size)

    def _put(self, name, generation):
        self.aside.write_bytes(self._content(name, generation))
        self.history[name].append((self.tick, generation))
        os.rename(self.aside, self.path / name)

    def step(self, rng):
        with self.lock:
            self.tick += 1
            name = rng.choice(self.names)
            if self.history[name][-1][1] is not None and rng.random() < 0.3:
                self.history[name].append((self.tick, None))
                os.unlink(self.path / name)
            else:
                self._put(name, self.tick)

    def faults_of(self, copy, since, until):
        copy = pathlib.Path(copy)
        there = {str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file()}
        faults = [f"{name} is there and never was" for name in there - set(self.names)]
        for name in self.names:
            generation = None
            if name in there:
                data = (copy / name).read_bytes()
                generation = int(data[:40].split(b"\n")[0].split()[1])
                if data != self._content(name, generation):
                    faults.append(f"{name} has not the bytes of generation {generation}")
            possible = self._between(name, since, until)
            if generation not in possible:
                faults.append(f"{name} is of {generation}; between {since} and {until} it was of "
                              f"{sorted(possible, key=str)}")
        return faults

    def _between(self, name, since, until):
        """What it was at the beginning and whatever it became. A name that is replaced while its
        directory is listed may be missed: POSIX leaves that open."""
        changes = [g for tick, g in self.history[name] if since < tick <= until]
        before = [g for tick, g in self.history[name] if tick <= since][-1:]
        return {*before, *changes, *([None] if changes else [])}
