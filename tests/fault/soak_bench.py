# SPDX-License-Identifier: MIT
"""soak_bench.py - sources, repos, a daemon and what is known of them: for soak.py.

A Soak does one thing at a time for whoever calls it, from any thread, and holds each answer against
the model. The Gate keeps its clients out while the daemon is down or everybody pauses.
"""
import collections
import errno
import os
import shutil
import subprocess
import threading
import time

import rig
from rig import FINAL
from soak_model import Book, Model, Record

HANGS = 10 * rig.PATIENCE
REFUSALS = (errno.EBUSY, errno.EEXIST)
SOURCES = {
    "bank": lambda path: rig.ChangingDatabase(path, "WAL", rows=100, size=3000),
    "ledger": lambda path: rig.ChangingDatabase(path, "DELETE", rows=60, size=1500),
    "docs": lambda path: rig.ChangingTree(path, files=40, size=3000),
    "tree": lambda path: rig.ChangingTree(path, files=30, size=60000),
}
SEALED = "encryption_key = file:{key}"
REPOS = {  # STORE/REPO -> lines of its configuration
    "bank/near": [],
    "bank/sealed": [SEALED],
    "ledger/raw": ["compression = none"],
    "ledger/old": [SEALED, "format = v1"],
    "docs/near": ["verify_after_write = yes"],
    "docs/plain": ["format = v1"],
    "tree/sealed": [SEALED, "compression = none"],
}


class Hang(Exception):
    """Somebody waited longer than anything may take."""


class Gate:
    """Clients are let in, and kept out while the daemon is down or everybody is to pause."""

    def __init__(self):
        self.changed = threading.Condition()
        self.is_open, self.over, self.inside = False, False, 0

    def enter(self):
        with self.changed:
            self.changed.wait_for(lambda: self.is_open or self.over)
            self.inside += not self.over
            return not self.over

    def leave(self):
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def open(self):
        with self.changed:
            self.is_open = True
            self.changed.notify_all()

    def close(self):
        with self.changed:
            self.is_open = False
            if not self.changed.wait_for(lambda: self.inside == 0, 2 * rig.PATIENCE):
                raise Hang("an operation does not come back")

    def end(self):
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def rest(self, seconds):
        """Leaves the processors to others."""
        with self.changed:
            self.changed.wait_for(lambda: self.over, seconds)


class Soak:
    """Sources, repos, a daemon, and all that is known of them."""

    def __init__(self, place, rng, program=None, quiet=False):
        self.place, self.rng = place, rng
        self.patience = 2 if quiet else rig.PATIENCE
        self.book, self.model, self.gate = Book(quiet), Model(), Gate()
        for name in ("", "src", "repo", "restored", "point"):
            (place / name).mkdir()
        # Nobody makes a file ctl where a mount was.
        rig.run("mount", "-t", "tmpfs", "tmpfs", place / "point")
        (place / "point/mnt").mkdir()
        rig.run("mount", "-o", "remount,ro", place / "point")
        self.key, self.state, self.config = place / "key", place / "state", place / "keepfs.conf"
        rig.make_key(self.key)
        self.sources = {name: make(place / "src" / name) for name, make in SOURCES.items()}
        self.repos = {name: place / "repo" / name.replace("/", "-") for name in REPOS}
        self.config.write_text(self.configuration())
        reports = place / "sanitizer"
        environ = {f"{s}_OPTIONS": f"log_path={reports}:{more}" for s, more in
                   (("ASAN", "quarantine_size_mb=8"), ("UBSAN", "print_stacktrace=1"),
                    ("TSAN", "exitcode=0"))}
        self.daemon = rig.Daemon(self.config, place / "point/mnt", place / "log", environ, program)
        self.mount = self.daemon.mount
        self.life, self.ending = 0, False  # of the daemon: its number; is it being ended?
        self.done, self.longest = collections.Counter(), 0.0
        self.measured = []   # figures of the daemon in its pauses
        self.began, self.closed = time.monotonic(), False
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """Whoever waits for a mount that hangs is let go by the end of its daemon."""
        while not self.closed:
            self.gate.rest(HANGS / 100)
            if time.monotonic() > self.book.latest + HANGS and not self.closed:
                self.book.check("answers", False, f"nothing was answered for {HANGS} s")
                self.daemon.process.kill()

    def configuration(self):
        lines = ["[keepfs]", f"state = {self.state}", "max_jobs = 3"]
        for store, source in self.sources.items():
            kind = "sqlite" if isinstance(source, rig.ChangingDatabase) else "directory"
            lines += [f"[store {store}]", f"kind = {kind}", f"path = {source.path}"]
        for name, extra in REPOS.items():
            lines += [f"[repo {name}]", "kind = local", f"path = {self.repos[name]}", *extra]
        return "\n".join(lines).format(key=self.key) + "\n"

    def repos_of(self, store):
        return [name for name in REPOS if name.split("/")[0] == store]

    # ---- ctl ----

    def ask(self, target, key=None, shell=False, then=None):
        """One line to ctl; the Line, answered. OSError if the daemon's life ended meanwhile. `then`
        is called as soon as the line was taken."""
        store = target.split("/")[0]
        repos = [target] if "/" in target else self.repos_of(store)
        line = self.model.ask(store, repos, key, self.sources[store].mark())
        line.life = self.life
        try:
            reply = self.shell_writes(line.text()) if shell else self.write(line, then)
        except OSError as e:
            if e.errno not in REFUSALS and not (e.errno == errno.ESHUTDOWN and self.ending):
                raise
            self.refused(line, e.errno)
        else:
            self.accepted(line, reply)
        return line

    def write(self, line, then):
        fd = os.open(self.mount / "ctl", os.O_RDWR)
        try:
            os.write(fd, line.text().encode() + b"\n")
            line.answer = "written"
            if then:
                then()
            return os.read(fd, 1 << 16).decode()
        finally:
            os.close(fd)

    def shell_writes(self, text):
        script = 'exec 3<>"$1"; echo "$2" >&3 || exit 9; exec cat <&3'
        done = subprocess.run(["bash", "-c", script, "-", self.mount / "ctl", text],
                              capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        for number in errno.errorcode:
            if done.stderr.strip().endswith(os.strerror(number)):
                raise OSError(number, os.strerror(number))
        raise OSError(errno.EPROTO, done.stderr)

    def accepted(self, line, reply):
        check, model = self.book.check, self.model
        ids = dict(reversed(text.split()) for text in reply.splitlines())
        check("lines", sorted(ids) == sorted(line.repos),
              f"the answer to '{line.text()}' is {reply!r}")
        with model.lock:
            for repo, ulid in ids.items():
                check("lines", ulid not in model.jobs, f"job {ulid} is given a second time")
                model.add_job(ulid, line, repo)
            earlier = model.keys.get(line.key)
            model.settle(line, "accepted")
        check("keys", not earlier, f"key {line.key} of {earlier and earlier.ulid} is taken again")
        for rival in line.rivals:
            state = self.daemon.of_job(rival.ulid, "status")
            check("busy", state in FINAL, f"'{line.text()}' was taken while job {rival.ulid} of "
                                          f"{rival.repo} was {state}")

    def refused(self, line, number):
        check, name = self.book.check, errno.errorcode[number]
        self.model.settle(line, name)
        if line.key_taken:
            check("keys", number == errno.EEXIST, f"the second use of key {line.key} gives {name}")
        elif number == errno.EEXIST:
            with self.model.lock:
                others = [o for o in self.model.lines.values() if o is not line and line.key
                          and o.key == line.key and o.answer not in ("nothing", "EBUSY")]
            check("keys", others, f"EEXIST for key {line.key}, which nobody had used")
        if number == errno.EBUSY:
            check("busy", not self.model.was_alone(line),
                  f"EBUSY for '{line.text()}', and its repos were free")

    # ---- jobs and records ----

    def cancel(self, job):
        job.cancelled = True
        (self.mount / "jobs" / job.ulid / "cancel").write_text("1\n")

    def look_at(self, job):
        """What the mount says of a job now is not before what it said earlier."""
        state_before, progress_before = job.state, job.progress
        state = self.daemon.of_job(job.ulid, "status")
        went_back = Model.RANK[state] < Model.RANK[state_before]
        changed = state_before in FINAL and state != state_before
        self.book.check("final", not went_back and not changed,
                        f"job {job.ulid} was {state_before} and is {state}")
        with self.model.lock:
            job.state = max(job.state, state, key=Model.RANK.get)
        progress = int(self.daemon.of_job(job.ulid, "progress"))
        self.book.check("final", progress >= progress_before,
                        f"job {job.ulid} was at {progress_before} and is at {progress}")
        with self.model.lock:
            job.progress = max(job.progress, progress)
        if state in FINAL:
            self.at_end(job, state)
        return state

    def at_end(self, job, state):
        """Of a record that somebody removed nothing is asked."""
        known = self.model.records.get(job.record)
        if known and known.gone:
            return
        record = self.daemon.record_of(job.ulid)
        if record and record not in self.model.records:
            self.learn(record, job.line)
        if state == "succeeded":
            of = self.model.records.get(record)
            self.book.check("success", of and of.repo == job.repo and job.record in (None, record),
                            f"job {job.ulid} of {job.repo} succeeded, and has record {record}")
        by_nobody = state == "interrupted" and not job.cancelled and job.line.life == self.life
        if state == "failed" or by_nobody and not self.ending:
            self.book.check("success", False, f"job {job.ulid} of {job.repo} is {state}, and there "
                            f"is no reason: {self.daemon.of_job(job.ulid, 'error')}")
        with self.model.lock:
            job.record = job.record or record
        self.model.settle(job.line, job.line.answer)

    def learn(self, ulid, line):
        """A record that is seen for the first time. It may be of no known line."""
        of = {name: (self.mount / "records" / ulid / name).read_text().strip()
              for name in ("sha256", "store", "repo")}
        repo = f"{of['store']}/{of['repo']}"
        self.book.check("archives", (self.repos[repo] / ulid / "manifest.yaml").exists(),
                        f"record {ulid} of {repo} has no archive there")
        until = self.sources[of["store"]].mark()
        with self.model.lock:
            self.model.records.setdefault(
                ulid, Record(ulid, repo, of["sha256"], line.since if line else 0, until))

    def look_at_record(self, record):
        said = (self.mount / "records" / record.ulid / "sha256").read_text().strip()
        self.book.check("records", said == record.sha256,
                        f"record {record.ulid} had sha256 {record.sha256} and has {said}")

    def restore(self, record):
        """Copies the payload out as anybody would, and looks into it."""
        store = record.repo.split("/")[0]
        source, aside = self.sources[store], self.place / "restored" / str(threading.get_ident())
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            copy = aside / "copy"
            if not self.copies(record, copy):
                return
            digest = rig.file_digest(copy.read_bytes())
            self.book.check("content", record.digest in (None, digest),
                            f"record {record.ulid} of {record.repo} gave other bytes before")
            record.digest = digest
            if isinstance(source, rig.ChangingTree):
                (aside / "tree").mkdir()
                rig.run("tar", "-tf", copy)
                rig.run("tar", "-xf", copy, "-C", aside / "tree")
                copy = aside / "tree"
            self.book.all_well("content", source.faults_of(copy, record.since, record.until),
                               f"record {record.ulid} of {record.repo}: ")
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def copies(self, record, copy):
        try:
            rig.run("cp", self.mount / "records" / record.ulid / "payload", copy)
            return True
        except RuntimeError as e:
            if self.ending:
                raise
            return self.book.check("content", False, f"record {record.ulid} of {record.repo}: {e}")

    def verify(self, record):
        sealed = SEALED in REPOS[record.repo]
        done = self.command("verify", self.repos[record.repo] / record.ulid,
                            *(["--key", f"file:{self.key}", "--allow-v1"] if sealed else []))
        self.book.check("verify", done.returncode == 0 and "\nresult ok\n" in done.stdout,
                        f"{record.repo} {record.ulid}: status {done.returncode}, {done.stderr}")

    def command(self, *arguments):
        return subprocess.run([str(self.daemon.program), *map(str, arguments)],
                              capture_output=True, text=True)

    def fsck(self, *options, allowed=(0,)):
        """`allowed` says by which status it may end besides 0."""
        done = self.command("fsck", *options, self.config)
        self.book.check("fsck", done.returncode in (0, *allowed),
                        f"status {done.returncode}: {done.stdout[:600]}{done.stderr[:300]}")
