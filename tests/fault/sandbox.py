# SPDX-License-Identifier: MIT
"""sandbox.py - one daemon in a directory of its own, with the shim before libc.

A sandbox has a fixed place, so that the paths in its catalog stay true: what a workload starts from
(repo, state, source) is copied aside once as a template and copied back before each run.

All waiting is on states. The bounds only end what hangs, and a hang is a violation.
"""
import contextlib
import ctypes
import hashlib
import mmap
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import threading
import time

PATIENCE = 60  # seconds until something that waits is said to hang
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}$")
TERMINAL = ("succeeded", "failed", "interrupted")
PARTS = ("repo", "state", "src")

libc = ctypes.CDLL(None, use_errno=True)


class Violation(Exception):
    """Something that must never happen did; the text says what."""


def adopt_orphans():
    """Children of children come to this process when their parent dies, so that none is lost."""
    PR_SET_CHILD_SUBREAPER = 36
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Ledger:
    """The memory that is shared with the shim; its layout is in shim.c."""

    ARMED, HITS, HELD, RELEASED, CALLS = 0, 4, 8, 12, 20
    HEAD, CLASS, CLASSES, ORDER = 64, 128, 4096, 1 << 16
    SIZE = HEAD + CLASS * CLASSES + 4 * ORDER

    def __init__(self, path):
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, self.SIZE)
        self.map = mmap.mmap(fd, self.SIZE)
        os.close(fd)

    def close(self):
        self.map.close()
        os.unlink(self.path)

    def get(self, at):
        return struct.unpack_from("I", self.map, at)[0]

    def set(self, at, value=1):
        struct.pack_into("I", self.map, at, value)

    def name(self, slot):
        at = self.HEAD + slot * self.CLASS
        return self.map[at:at + 120].split(b"\0", 1)[0].decode()

    def counts(self):
        """{class: how many calls}"""
        found = {}
        for slot in range(self.CLASSES):
            if self.map[self.HEAD + slot * self.CLASS]:
                found[self.name(slot)] = self.get(self.HEAD + slot * self.CLASS + 120)
        return found

    def order(self):
        """The classes of all calls in the order of the calls."""
        base = self.HEAD + self.CLASS * self.CLASSES
        return [self.name(self.get(base + 4 * i)) for i in range(min(self.get(self.CALLS), self.ORDER))]


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fingerprint(top):
    """{path: content} of all that is below a directory; a catalog's -shm is nobody's content."""
    found = {}
    for at, dirs, names in os.walk(top):
        for name in names:
            path = os.path.join(at, name)
            if name.endswith("-shm"):
                continue
            found[os.path.relpath(path, top)] = os.readlink(path) if os.path.islink(path) else sha256(path)
        for name in dirs:
            found[os.path.relpath(os.path.join(at, name), top)] = "directory"
    return found


def copy(source, target):
    """A file with its holes and its times."""
    if os.path.islink(source) or os.stat(source).st_blocks * 512 >= os.stat(source).st_size:
        return shutil.copy2(source, target, follow_symlinks=False)
    at, size = 0, os.stat(source).st_size
    with open(source, "rb") as f, open(target, "wb") as out:
        with contextlib.suppress(OSError):  # there is no more data
            while True:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                os.pwrite(out.fileno(), os.pread(f.fileno(), end - at, at), at)
                at = end
        out.truncate(size)
    shutil.copystat(source, target)
    return target


class Sandbox:
    def __init__(self, base, keepfs, shim):
        self.keepfs, self.shim, self.base = keepfs, shim, base
        for part in ("", "mnt", "templates"):
            os.makedirs(os.path.join(base, part), mode=0o700, exist_ok=True)
        self.mnt, self.repo = self.path("mnt"), self.path("repo")
        self.conf, self.log = self.path("keepfs.conf"), self.path("log")
        self.daemon = None
        self.ledger = None
        self.slowest = 0.0  # the longest that the mount took to answer, in seconds
        with open(self.path("key"), "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(bytes(range(32)))

    def path(self, *parts):
        return os.path.join(self.base, *parts)

    # ---- what a run starts from ----

    def configure(self, kind, store_lines, repo_lines):
        source = self.path("src", "app.db") if kind == "sqlite" else self.path("src", "tree")
        lines = ["[keepfs]", f"state = {self.path('state')}",
                 "[store app]", f"kind = {kind}", f"path = {source}", *store_lines,
                 "[repo app/main]", "kind = local", f"path = {self.repo}", *repo_lines]
        with open(self.conf, "w") as f:
            f.write("\n".join(lines).replace("KEY", f"file:{self.path('key')}") + "\n")

    def wipe(self):
        for part in PARTS:
            shutil.rmtree(self.path(part), ignore_errors=True)

    def keep_template(self, name):
        for part in PARTS:
            if os.path.exists(self.path(part)):
                shutil.copytree(self.path(part), self.path("templates", name, part), symlinks=True,
                                copy_function=copy)

    def restore_template(self, name):
        self.wipe()
        for part in PARTS:
            if os.path.exists(self.path("templates", name, part)):
                shutil.copytree(self.path("templates", name, part), self.path(part), symlinks=True,
                                copy_function=copy)

    def alter_catalog(self, sql):
        """While no daemon runs."""
        db = sqlite3.connect(self.path("state", "catalog.sqlite"))
        try:
            with db:
                db.execute(sql)
        finally:
            db.close()

    def ask_catalog(self, sql):
        """Of a copy: a look with the last connection would put the log into the file."""
        aside = self.path("catalog")
        shutil.rmtree(aside, ignore_errors=True)
        os.makedirs(aside)
        for name in ("catalog.sqlite", "catalog.sqlite-wal"):
            if os.path.exists(self.path("state", name)):
                shutil.copy2(self.path("state", name), os.path.join(aside, name))
        db = sqlite3.connect(os.path.join(aside, "catalog.sqlite"))
        try:
            return [row[0] for row in db.execute(sql)]
        finally:
            db.close()

    # ---- programs with and without the shim ----

    def environment(self, shimmed, point=None, hold=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFS_")}
        if shimmed:
            env["LD_PRELOAD"] = self.shim
            env["KEEPFS_SHIM_LEDGER"] = self.ledger.path
            env["KEEPFS_SHIM_AREAS"] = ":".join(
                f"{name}={self.path(place)}" for name, place in
                (("repo", "repo"), ("state", "state"), ("source", "src"), ("key", "key")))
            if point:
                env["KEEPFS_SHIM_POINT"] = point
            if hold:
                env["KEEPFS_SHIM_HOLD"] = hold
        return env

    def new_ledger(self, armed):
        self.drop_ledger()
        self.ledger = Ledger(self.path("ledger"))
        self.ledger.set(Ledger.ARMED, int(armed))

    def drop_ledger(self):
        if self.ledger:
            self.ledger.close()
        self.ledger = None

    def command(self, *args, shimmed=False, point=None):
        """Runs `keepfs ARGS`: its exit status (negative for a signal) and its stdout."""
        with open(self.path("errors"), "wb") as log:
            done = subprocess.run([self.keepfs, *args], stdin=subprocess.DEVNULL, stderr=log,
                                  stdout=subprocess.PIPE, timeout=PATIENCE,
                                  env=self.environment(shimmed, point))
        return done.returncode, done.stdout

    def start(self, shimmed=False, point=None, hold=None, background=False):
        """Starts the daemon; True if the mount answers, False if it ended before."""
        options = [] if background else ["-f"]
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(
                [self.keepfs, "mount", *options, self.conf, self.mnt], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.environment(shimmed, point, hold))
        if background:
            return self.follow_child()
        end = time.monotonic() + PATIENCE
        while b" is mounted on " not in self.log_text():
            if self.ended():
                return False
            if time.monotonic() > end:
                raise Violation("the daemon neither mounts nor ends")
            time.sleep(0.001)
        return True

    def follow_child(self):
        """The parent has come back; the daemon is the child that it left."""
        if self.daemon.wait(PATIENCE) != 0:
            return False
        self.daemon = Orphan(self.find_daemon())
        return True

    def find_daemon(self):
        """By its command line: writing its pid into the lock may be the very call that failed."""
        wanted = "\0".join((self.conf, self.mnt)).encode() + b"\0"
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if f.read().endswith(wanted):
                        return int(pid)
            except OSError:
                pass  # it has ended meanwhile
        raise Violation("the mount answers, and there is no daemon")

    def log_text(self):
        with open(self.log, "rb") as f:
            return f.read()

    def errors(self):
        """What the last command wrote to stderr."""
        with open(self.path("errors"), errors="replace") as f:
            return f.read()

    def ended(self):
        return self.daemon is None or self.daemon.poll() is not None

    def kill(self):
        if self.daemon and not self.ended():
            os.kill(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait(PATIENCE)

    def end(self):
        """SIGTERM and the exit status that follows."""
        if not self.ended():
            os.kill(self.daemon.pid, signal.SIGTERM)
        try:
            return self.daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Violation("the daemon does not end at SIGTERM") from None

    def clear(self):
        """Whatever happened: no process, no mount."""
        self.kill()
        self.daemon = None
        while self.is_mounted():
            if libc.umount2(self.mnt.encode(), 2) != 0:
                subprocess.run(["fusermount3", "-uzq", self.mnt], check=False)
        self.drop_ledger()
        reap_strays()

    def is_mounted(self):
        with open("/proc/self/mountinfo") as f:
            return any(line.split()[4] == self.mnt for line in f)

    # ---- through the mount ----

    def read(self, *parts):
        """A file of the mount; also measures how long the mount took to answer."""
        begin = time.monotonic()
        try:
            with open(os.path.join(self.mnt, *parts), "rb", buffering=0) as f:
                return f.readall()
        finally:
            self.slowest = max(self.slowest, time.monotonic() - begin)

    def word(self, *parts):
        return self.read(*parts).decode().rstrip("\n")

    def ids(self, what):
        return sorted(n for n in os.listdir(os.path.join(self.mnt, what)) if ULID.match(n))

    def trigger(self, line):
        """Writes a line to ctl: the jobs that it made."""
        fd = os.open(os.path.join(self.mnt, "ctl"), os.O_RDWR)
        try:
            os.write(fd, line.encode() + b"\n")
            return [l.split()[0].decode() for l in os.read(fd, 1 << 16).splitlines()]
        finally:
            os.close(fd)

    def cancel(self, job):
        with open(os.path.join(self.mnt, "jobs", job, "cancel"), "wb", buffering=0) as f:
            f.write(b"1")

    def remove(self, record):
        os.rmdir(os.path.join(self.mnt, "records", record))

    def reload(self):
        with open(os.path.join(self.mnt, "reload"), "wb", buffering=0) as f:
            f.write(b"1")

    def open_files(self):
        """Descriptors of the daemon in repo and source, and of staging files."""
        found, base = [], f"/proc/{self.daemon.pid}/fd"
        for fd in os.listdir(base):
            try:
                target = os.readlink(os.path.join(base, fd))
            except FileNotFoundError:
                continue
            if target.startswith((self.repo, self.path("src"), self.path("state", "staging"),
                                  self.path("key"), self.path("state", "logs"))):
                found.append(target)
        return found


class Orphan:
    """A daemon that put itself into the background: as much of Popen as is needed here."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("keepfs", seconds)
            time.sleep(0.001)
        return self.returncode


def reap_strays():
    """Kills and counts children that nobody waits for."""
    strays = 0
    try:
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                strays += 1
                with open(f"/proc/self/task/{os.getpid()}/children") as f:
                    for child in f.read().split():
                        os.kill(int(child), signal.SIGKILL)
                os.waitpid(-1, 0)
    except ChildProcessError:
        return strays


class Watchdog:
    """Kills the daemon when a run takes too long: a mount that hangs would hang us with it."""

    def __init__(self, box):
        self.box, self.barked = box, False

    def bark(self):
        self.barked = True
        if self.box.daemon:
            try:
                os.kill(self.box.daemon.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def __enter__(self):
        self.timer = threading.Timer(2 * PATIENCE, self.bark)
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.timer.join()
