# SPDX-License-Identifier: MIT
"""run.py - one execution: a workload with one point spoilt, then the judgement of check.py.

While it goes on, a Run notes what was promised: jobs that ctl answered for, final states that were
seen, bytes that were read. What fails is held against the point: an error on a side where nothing
was spoilt is a violation, and so is an answer that comes too late.
"""
import errno
import os
import re
import signal
import time

import check
from faults import Point, codes_of
from sandbox import PATIENCE, TERMINAL, Ledger, Violation, Watchdog, fingerprint

ANSWER = 5  # seconds in which the mount must answer, on a machine that does other things too
# What the daemon logs of a job that has ended, one way or another.
ENDINGS = (b" succeeded", b" failed: ", b" interrupted: ", b" was not started: ")
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ESHUTDOWN)
# Exit statuses of keepfs by the side that failed; 1 is for its own shortage, 3 for a place that the
# configuration names and that cannot be resolved.
EXITS = {"repo": (3, *range(10, 17)), "key": (14,), "source": (3, 20), "state": (2, 3, 30, 31)}


# Libraries that use what they were denied. OpenSSL 3.0 does not look at what its initialisation is
# given; libarchive 3.6 does not look at the copy that it makes of each entry for its header
# (archive_write_pax_header, archive_entry_clone), and nobody can make that copy for it; glibc 2.36
# does not look at the state that getpwuid_r's first call allocates (nss_database_state_get).
CARELESS = ("libcrypto", "libarchive", "libc")


def aborts_of(point):
    """The signals that keepfs may end with when it was denied memory."""
    return (signal.SIGABRT, signal.SIGSEGV) if point.area in CARELESS else (signal.SIGABRT,)


class Run:
    def __init__(self, box, workload, yardstick, point=""):
        self.box, self.workload, self.yardstick = box, workload, yardstick
        self.point = Point(point) if point else None
        self.violations = []
        self.hits = 0
        self.counts, self.order = {}, []
        self.accepted, self.seen = [], {}
        self.removed, self.may_go = set(yardstick.doomed), set(yardstick.doomed)  # records
        self.stuck = False
        self.started, self.terminated, self.status = False, False, None

    def violate(self, text):
        self.violations.append(text)

    # ---- what the point excuses ----

    @property
    def hit(self):
        if self.box.ledger:
            self.hits = self.box.ledger.get(Ledger.HITS)
        return bool(self.point) and self.hits > 0

    @property
    def hit_memory(self):
        return self.hit and self.point.may_abort

    def dies(self):
        """Is the daemon dead, as it should be? It is given the time to die in."""
        if not (self.hit and (self.point.kills or self.point.may_abort)) and not self.terminated:
            return self.box.ended()
        end = time.monotonic() + (PATIENCE if self.point and self.point.kills else 0.1)
        while not self.box.ended() and time.monotonic() < end:
            time.sleep(0.001)
        return self.box.ended()

    def excuse(self, what, failure):
        """An errno from the mount is right only if the fault can have led to it."""
        if failure.errno in GONE and (self.terminated or self.dies()):
            return
        if not self.hit or self.point.harmless or not self.point.hits_state:
            self.violate(f"{what}: {failure}")

    # ---- steps of a workload ----

    def trigger(self):
        """Writes to ctl: the job, or None if there is none."""
        try:
            job, = self.box.trigger("app")
        except OSError as failure:
            self.excuse("ctl", failure)
            return None
        except ValueError:
            self.violate("ctl does not say which job it made")
            return None
        self.accepted.append(job)
        return job

    def state(self, job):
        """The job's state, or None if it cannot be read."""
        try:
            return self.box.word("jobs", job, "status")
        except OSError as failure:
            self.excuse(f"status of {job}", failure)
            return None

    def await_job(self, job, condition=lambda: False):
        """Until the job has ended, by what the daemon logs of it, or the condition holds; False if
        neither comes. Meanwhile the mount must answer. Jobs are not polled through it: each look is
        calls of the daemon, and their number would vary from run to run."""
        end = time.monotonic() + PATIENCE
        while job:
            said = [l for l in self.box.log_text().split(b"\n") if job.encode() in l]
            if condition() or any(word in line for line in said for word in ENDINGS):
                return True
            # A job whose end cannot be noted says so, and tries on until the stop.
            if self.hit and self.point.stays and any(b"is not stored yet" in l for l in said):
                self.stuck = True
                return False
            if self.box.ended():
                return False
            if time.monotonic() > end:
                self.violate(f"job {job} does not end")
                return False
            self.knock()
            time.sleep(0.001)
        return False

    def await_held(self, job):
        """Until the call to be held has come; False if the job ended, or hangs, without it."""
        return self.await_job(job, self.is_held) and self.is_held()

    def is_held(self):
        return bool(self.box.ledger.get(Ledger.HELD))

    def knock(self):
        begin = time.monotonic()
        try:
            os.stat(self.box.mnt)
        except OSError as failure:
            self.excuse("stat of the mount", failure)
        self.box.slowest = max(self.box.slowest, time.monotonic() - begin)

    def await_end(self, job):
        if not self.await_job(job):
            return
        state = self.state(job)
        if state in TERMINAL:
            self.seen[job] = state
            self.judge_end(job)
        elif state and not self.hit:
            self.violate(f"job {job} has ended and is {state}")

    def cancel(self, job):
        """True if it was accepted."""
        try:
            self.box.cancel(job)
            return True
        except OSError as failure:
            self.excuse("cancel", failure)
            return False

    def remove(self, record):
        """rmdir: True if it was accepted. If it was not answered, nobody knows."""
        self.may_go.add(record)
        try:
            self.box.remove(record)
        except OSError as failure:
            self.excuse(f"rmdir of {record}", failure)
            return False
        self.removed.add(record)
        return True

    def await_log(self, words):
        """Until the daemon has logged one of the words; False if it ends before, or cannot know:
        of a log of the catalog that is altered SQLite takes the part before."""
        end = time.monotonic() + PATIENCE
        while not any(word in self.box.log_text() for word in words):
            if self.box.ended() or (self.hit and check.altered_catalog(self)):
                return False
            if time.monotonic() > end:
                self.violate(f"none of {words} is logged")
                return False
            self.knock()
            time.sleep(0.001)
        return True

    def scheduled(self):
        """The job that the schedule asked for, by the log; None if there is none."""
        found = re.search(rb"job (\w{26}): backup of \S+, asked for by schedule", self.box.log_text())
        if found:
            self.accepted.append(found[1].decode())
        return found and found[1].decode()

    def reload(self, changes):
        """All of the changes are in force, or none; and all of them if the write was answered so."""
        box, w, taken = self.box, self.workload, False
        names = [line.split(" = ")[0] for line in changes]
        before = self.settings(names)
        box.configure(w.kind, w.store, changes)
        try:
            box.reload()
            taken = True
        except OSError as failure:
            # Whatever it reads or looks at on the way may be what refuses the whole.
            if not self.hit or self.point.harmless:
                self.excuse("reload", failure)
        after = self.settings(names)
        wanted = [line.split(" = ")[1] for line in changes] if taken else before
        if None not in (before, after) and after != wanted:
            self.violate(f"after reload, {'taken' if taken else 'refused'}: {after}, not {wanted}")

    def settings(self, names):
        """Of the repo, as the mount tells them; None if it cannot."""
        try:
            return [self.box.word("stores", "app", "repos", "main", name) for name in names]
        except OSError as failure:
            self.excuse("settings of the repo", failure)
            return None

    def release(self):
        self.box.ledger.set(Ledger.RELEASED)

    def terminate(self):
        self.terminated = True
        os.kill(self.box.daemon.pid, signal.SIGTERM)

    def ids(self, what):
        try:
            return self.box.ids(what)
        except OSError as failure:
            self.excuse(what, failure)
            return []

    def look(self, *parts):
        """Reads a file of the mount, whose content is not judged."""
        try:
            self.box.read(*parts)
        except OSError as failure:
            if not (self.hit and not self.point.harmless and parts[0] == "records"):
                self.excuse("/".join(parts), failure)

    def read_content(self, record, at=0, size=-1):
        """Bytes of a payload: an error if the fault excuses it, else exactly what was backed up."""
        try:
            with open(os.path.join(self.box.mnt, "records", record, "payload"), "rb") as f:
                f.seek(at)
                data = f.read(size)
        except OSError as failure:
            if not self.hit or self.point.harmless:
                self.excuse(f"payload of {record}", failure)
            return
        end = at + size if size >= 0 else None
        if data != self.yardstick.content[at:end] and not self.may_alter():
            self.violate(f"payload of {record} has other bytes than were backed up")

    def may_alter(self):
        """Were bytes spoilt that nothing protects?"""
        return self.hit and self.point.flips and not self.workload.checked

    def command(self, verb):
        """A command with the shim in it, on each archive."""
        for archive in check.archives(self.box):
            self.status, out = self.box.command(verb, self.box.path("repo", archive),
                                                *check.keyed(self.box), shimmed=True,
                                                point=self.point and self.point.text)
            if self.status == 0 and verb == "extract" and out != self.yardstick.content:
                self.violate("extract says that all is well, of other bytes than were backed up")
            if self.status == 0 and verb == "verify" and not out.endswith(b"\nresult ok\n"):
                self.violate("verify gives no result, and status 0")
        self.judge_command()

    def command_on_all(self, *words):
        """A command with the shim in it, on the configuration; it only looks."""
        before = fingerprint(self.box.path("state"))
        self.status, _ = self.box.command(*words, self.box.conf, shimmed=True,
                                          point=self.point and self.point.text)
        if fingerprint(self.box.path("state")) != before:
            self.violate(f"{words[0]} changed the state")
        self.judge_command()

    # ---- the whole ----

    def go(self):
        with Watchdog(self.box) as dog:
            try:
                self.execute()
                if not (self.point and self.violations):
                    check.afterwards(self)
            except Violation as what:
                self.violate(str(what))
            except OSError as failure:
                self.violate(f"without a fault: {failure}")
            if dog.barked:
                self.violate("something hung, and the daemon was killed")
            if self.violations:
                self.violations.append("log: " + self.box.log_text().decode(errors="replace")[-900:])
            self.box.clear()
        if self.box.slowest > ANSWER:
            self.violate(f"the mount took {self.box.slowest:.1f} s to answer")
        return self

    def execute(self):
        box, w = self.box, self.workload
        box.slowest = 0.0
        box.configure(w.kind, w.store, w.repo)
        box.restore_template(w.name)
        box.new_ledger(armed=w.armed == "start")
        if w.daemon:
            self.with_daemon()
        else:
            w.act(self)
        self.note_ledger()
        if self.point and not self.hit and not self.violations:
            self.point = None  # it was not reached: what follows is the check of a clean run

    def with_daemon(self):
        box, w = self.box, self.workload
        self.started = box.start(shimmed=True, point=self.point and self.point.text, hold=w.hold,
                                 background=w.background)
        if self.started:
            box.ledger.set(Ledger.ARMED)
            w.act(self)
            # libfuse loses a close that it has no memory for.
            lost = self.hit_memory and self.point.area == "libfuse3"
            if not (box.ended() or self.stuck or self.terminated or lost):
                self.await_no_files()
        self.status = self.daemon_status()
        self.judge_exit()

    def daemon_status(self):
        if not self.started:
            return self.box.daemon.returncode
        return self.box.daemon.wait(PATIENCE) if self.terminated or self.dies() else self.box.end()

    def note_ledger(self):
        self.hits = self.box.ledger.get(Ledger.HITS)
        if not self.point:
            self.counts, self.order = self.box.ledger.counts(), self.box.ledger.order()

    # ---- judging what was seen at once ----

    def await_no_files(self):
        """Nothing of a job that has ended, or of a file that was closed, stays open."""
        end = time.monotonic() + ANSWER
        try:
            while files := self.box.open_files():
                if time.monotonic() > end:
                    self.violate(f"left open: {files}")
                    return
                time.sleep(0.002)
        except FileNotFoundError:
            pass  # it has ended; judge_exit has its opinion

    def judge_end(self, job):
        state = self.seen[job]
        clean = not self.hit or self.point.harmless
        if clean and state not in self.workload.ends:
            self.violate(f"job {job} is {state}: {self.box.word('jobs', job, 'error')}")
        if state != "failed" or clean:
            return
        try:
            code = self.box.word("jobs", job, "error_code")
            error, hint = self.box.word("jobs", job, "error"), self.box.word("jobs", job, "hint")
        except OSError as failure:
            self.excuse(f"error of {job}", failure)
            return
        if code not in codes_of(self.point) and not self.point.flips:
            self.violate(f"job {job} failed with {code} ({error}), not with {codes_of(self.point)}")
        if not error or not hint:
            self.violate(f"job {job} failed without a word")

    def judge_exit(self):
        """The daemon ends by itself only when it was killed, was denied memory, or cannot start."""
        status, point = self.status, self.point if self.hit else None
        if status == 0 and not (point and point.kills):
            return
        if point and point.kills and (status == -signal.SIGKILL or self.workload.background):
            return
        if point and point.may_abort and (status > 0 or -status in aborts_of(point)):
            return
        if point and not self.started and status > 0:
            allowed = EXITS.get(point.area, range(1, 128))
            if status in allowed or status == 1:
                return
        if point and self.started and status > 0 and point.hits_state and not point.harmless:
            return
        self.violate(f"keepfs ended with {status}")

    def judge_command(self):
        status, point = self.status, self.point if self.hit else None
        if not point or point.harmless:
            good = status == 0
        elif point.may_abort:
            good = status >= 0 or -status in aborts_of(point)
        elif point.flips:
            good = status == 0 or 60 <= status <= 71 or status in EXITS.get(point.area, ())
        else:
            good = status in (0, 1) or status in EXITS.get(point.area, ())
        if not good:
            self.violate(f"the command ended with {status}: {self.box.errors()}")
