# SPDX-License-Identifier: MIT
"""soak_bench.py - sources, repos, a daemon and what is known of them: for soak.py.

A Soak does one thing at a time for whoever calls it, from any thread, and holds each answer against
the model. The Gate keeps its clients out while the daemon is down or everybody pauses.
"""
import collections
import errno
import os
import shutil
import signal
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
    "bank/near": ["keep_count = 6"],
    "bank/sealed": [SEALED],
    "ledger/raw": ["compression = none"],
    "ledger/old": [SEALED, "format = v1"],
    "docs/near": ["verify_after_write = yes"],
    "docs/plain": ["format = v1", "keep_count = 5"],
    "tree/sealed": [SEALED, "compression = none", "keep_count = {keep}"],
}
# What a repo keeps at least. That of one of them changes with each reload.
KEEPS = {"bank/near": 6, "docs/plain": 5, "tree/sealed": 4}
CHANGING, CHOICES = "tree/sealed", (4, 7)


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


# Exit statuses: destination_not_found, manifest_missing, archive_incomplete.
NOT_THERE = (11, 64, 65)


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
        self.keep, self.reloading = CHOICES[0], threading.Lock()
        self.configure()
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

    def configure(self, keep=CHOICES[0], jobs=3):
        """Whoever reads the file finds the one or the other whole."""
        aside = self.config.with_suffix(".new")
        aside.write_text(self.configuration(keep, jobs))
        os.rename(aside, self.config)

    def configuration(self, keep, jobs):
        lines = ["[keepfs]", f"state = {self.state}", f"max_jobs = {jobs}"]
        for store, source in self.sources.items():
            kind = "sqlite" if isinstance(source, rig.ChangingDatabase) else "directory"
            lines += [f"[store {store}]", f"kind = {kind}", f"path = {source.path}"]
        for name, extra in REPOS.items():
            lines += [f"[repo {name}]", "kind = local", f"path = {self.repos[name]}", *extra]
        return "\n".join(lines).format(key=self.key, keep=keep) + "\n"

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
        """Of a record that is gone nothing is asked."""
        known = self.model.records.get(job.record)
        if job.unseen or known and known.gone:
            return
        record = self.daemon.record_of(job.ulid)
        if record and record not in self.model.records:
            record = self.learn(record, job) and record
        if state == "succeeded" and not self.may_be_gone(job, record):
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

    def may_be_gone(self, job, record):
        """A job without its record: was it deleted, by a client or by retention?"""
        if record:
            return False
        known = self.model.records.get(job.record)
        if known:
            return self.is_missed(known)
        # Seen in a listing by one client and deleted by another before it was known whose it is.
        with self.model.lock:
            deleted = any(r.repo == job.repo and r.ulid > job.ulid and (r.gone or r.may_go)
                          for r in self.model.records.values())
        job.unseen = job.record is None and (deleted or job.repo in KEEPS)
        return job.unseen

    def learn(self, ulid, job):
        """A record that is seen for the first time, of a known job or not; False if retention took
        it meanwhile."""
        try:
            of = {name: (self.mount / "records" / ulid / name).read_text().strip()
                  for name in ("sha256", "store", "repo", "pinned")}
            repo = f"{of['store']}/{of['repo']}"
            whole = (self.repos[repo] / ulid / "manifest.yaml").exists() or not self.lists(ulid)
        except FileNotFoundError:
            if self.lists(ulid):
                raise
            return False
        self.book.check("archives", whole, f"record {ulid} of {repo} has no archive there")
        self.book.check("pins", of["pinned"] == "0", f"record {ulid} is pinned by nobody")
        until, since = self.sources[of["store"]].mark(), job.line.since if job else 0
        with self.model.lock:
            self.model.records.setdefault(ulid, Record(ulid, repo, of["sha256"], since, until))
            if job:
                job.record = job.record or ulid
        return True

    # ---- records that go ----

    def lists(self, ulid):
        return ulid in os.listdir(self.mount / "records")

    def is_missed(self, record):
        """True if it is not listed any more; and then that must be right."""
        if record.gone or record.may_go:
            return True
        if self.lists(record.ulid):
            return False
        if record.gone or record.may_go:  # meanwhile
            return True
        check, name = self.book.check, f"record {record.ulid} of {record.repo}"
        check("pins", record.pinned is not True, f"{name} was pinned and is gone")
        if record.repo in KEEPS:
            newer = self.model.newer_than(record)
            check("retention", newer >= KEEPS[record.repo],
                  f"{name} is lost, and only {newer} are newer")
        else:
            check("records", False, f"lost: {name}")
        record.gone = True
        return True

    def use(self, record, action):
        """Does something with a record, which may be deleted meanwhile."""
        try:
            action(record)
        except (OSError, RuntimeError):
            if self.ending or not self.is_missed(record):
                raise

    def look_at_record(self, record):
        said = (self.mount / "records" / record.ulid / "sha256").read_text().strip()
        self.book.check("records", said == record.sha256,
                        f"record {record.ulid} had sha256 {record.sha256} and has {said}")

    def pin(self, record, pinned):
        """Sets a pin, or takes it away, and looks."""
        path = self.mount / "records" / record.ulid / "pinned"
        with record.lock:
            before, record.pinned = record.pinned, None
            try:
                path.write_text(f"{pinned:d}\n")
                record.pinned = pinned
                said = path.read_text().strip()
            except FileNotFoundError:
                record.pinned = before if record.pinned is None else record.pinned
                raise
            self.book.check("pins", said == f"{pinned:d}",
                            f"record {record.ulid} was given {pinned:d} and says {said}")

    def delete(self, record, by_rm):
        """What was refused is still there, what was taken is gone for good."""
        with record.lock:
            if record.gone or record.may_go:
                return
            record.may_go = True  # unless it is refused; if this is cut off, nobody knows
            try:
                self.remove(self.mount / "records" / record.ulid, by_rm)
                record.gone = True
            except OSError as e:
                if self.ending:
                    raise
                record.may_go = False
                self.judge_refusal(record, e)
                return
            self.book.check("pins", record.pinned is not True, f"pinned {record.ulid} is deleted")
            self.book.check("deleted", not self.lists(record.ulid),
                            f"record {record.ulid} was deleted and is listed")

    def judge_refusal(self, record, failure):
        """Of a deletion: for a pin, or since retention was there before."""
        if failure.errno == errno.EPERM:
            self.book.check("pins", record.pinned is not False,
                            f"{record.ulid} is not pinned, and cannot be deleted: {failure}")
        elif failure.errno != errno.ENOENT or not self.is_missed(record):
            raise failure

    @staticmethod
    def remove(path, by_rm):
        if not by_rm:
            os.rmdir(path)
            return
        done = subprocess.run(["rm", "-r", path], capture_output=True, text=True)
        for number in (errno.EPERM, errno.ENOENT):
            if os.strerror(number) in done.stderr:
                raise OSError(number, done.stderr)
        if done.returncode != 0:
            raise OSError(errno.EPROTO, done.stderr)

    def reload(self, by_signal, refused):
        """All of the file or nothing: max_jobs cannot change, keep_count can."""
        with self.reloading:
            keep = self.rng.choice(CHOICES)
            self.configure(keep, jobs=4 if refused else 3)
            try:
                if by_signal and not refused:
                    self.daemon.process.send_signal(signal.SIGHUP)
                    rig.await_state(lambda: self.kept() == keep or self.ending, "the reload")
                else:
                    self.write_reload(refused)
                if not refused:
                    self.keep = keep
                self.book.check("reload", self.ending or self.kept() == self.keep,
                                f"keep_count is {self.kept()}, not {self.keep}")
            finally:
                self.configure(self.keep)

    def kept(self):
        store, repo = CHANGING.split("/")
        return int((self.mount / "stores" / store / "repos" / repo / "keep_count").read_text())

    def write_reload(self, refused):
        got = 0
        try:
            with open(self.mount / "reload", "wb", buffering=0) as f:
                f.write(b"1\n")
        except OSError as e:
            if self.ending:
                raise
            got = e.errno
        self.book.check("reload", got == (errno.EINVAL if refused else 0),
                        f"a {'faulty' if refused else 'good'} file gives {errno.errorcode.get(got)}")

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
            missed = self.is_missed(record)
            return self.book.check("content", missed,
                                   f"record {record.ulid} of {record.repo}: {e}") and not missed

    def verify(self, record):
        sealed, life = SEALED in REPOS[record.repo], self.life
        done = self.command("verify", self.repos[record.repo] / record.ulid,
                            *(["--key", f"file:{self.key}", "--allow-v1"] if sealed else []))
        good = done.returncode == 0 and "\nresult ok\n" in done.stdout
        # Who deleted it may not have had the answer; what is there is judged when the life is over.
        if done.returncode in NOT_THERE and (self.ending or self.life != life):
            self.done["cut off"] += 1
            return
        self.book.check("verify", good or self.is_missed(record),
                        f"{record.repo} {record.ulid}: status {done.returncode}, {done.stderr}")

    def command(self, *arguments):
        return subprocess.run([str(self.daemon.program), *map(str, arguments)],
                              capture_output=True, text=True)

    def fsck(self, *options, allowed=(), deleting=False):
        """`allowed` says by which status it may end besides 0; `deleting`, that deletions may be
        under way, of which the next start takes care."""
        done = self.command("fsck", *options, self.config)
        findings = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
        unfinished = deleting and set(findings) == {"deletion_unfinished"}
        self.book.check("fsck", done.returncode in (0, *allowed) or unfinished,
                        f"status {done.returncode}: {done.stdout[:600]}{done.stderr[:300]}")
