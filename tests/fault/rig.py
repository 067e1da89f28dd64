# SPDX-License-Identifier: MIT
"""rig.py - what the harnesses with file systems of their own share.

isolate() runs the calling script again in a mount and a pid namespace: whatever happens to it, the
kernel ends its processes and takes its mounts and loop devices down, and the outer process removes
its directory. Without root or namespaces it ends with status 77 and says why.

A Tally counts verdicts and ends with "N passed, N failed, N skipped", as tests/run.sh does.
"""
import contextlib
import hashlib
import io
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time

PATIENCE = 60  # seconds; only ends what hangs
INSIDE = "KEEPFS_RIG"
SKIPPED = 77
FINAL = {"succeeded", "failed", "interrupted"}


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, faults):
        """One verdict: `faults` is a list of sentences, empty if all is well."""
        if not faults:
            self.passed += 1
            return
        self.failed += 1
        for fault in faults:
            print(f"FAILED {what}: {fault}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, 0 skipped", flush=True)
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


def await_state(condition, what):
    """Looks until the condition holds; the pause only leaves the processor to others."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what}")
        time.sleep(0.002)
    return value


class Daemon:
    """keepfs in the foreground, a child of this process."""

    def __init__(self, config, mount, log, environ=None):
        self.config, self.mount, self.log = config, pathlib.Path(mount), pathlib.Path(log)
        self.environ = {**os.environ, **(environ or {})}
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [binary(), "mount", "-f", str(self.config), str(self.mount)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await_state(self._answers, "the mount")

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"keepfs ended with {self.process.returncode}: {self.last_words()}")
        try:
            return os.path.exists(self.mount / "ctl")
        except OSError:
            return False

    def last_words(self):
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self):
        self.process.kill()
        self.process.wait()
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

    def records(self):
        return sorted(os.listdir(self.mount / "records"))

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
