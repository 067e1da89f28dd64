# SPDX-License-Identifier: MIT
"""soak_model.py - what must hold, and what is known: for soak.py.

Of each line written to ctl the model knows what it was answered, of each job and record what was
seen of it. A line that got no answer (asked, or written if at least the write returned) is settled
by its label at the next pause.

A record is listed until somebody deletes it, or retention does: that may only take one with as many
newer ones behind it as its repo's keep_count says, and none that is pinned. What a client that was
cut off did to a record is not known until the next pause.
"""
import collections
import threading
import time

from rig import FINAL

SHOWN = 5  # faults of one invariant that are printed

INVARIANTS = {
    "lines": "a line that ctl took is one job a repo for ever, one that it refused is none",
    "refusals": "ctl refuses what is wrong, by the right errno",
    "busy": "a repo has one job at a time, and EBUSY is said only of a repo that is busy",
    "keys": "a key is used once; the second use gives EEXIST, and by-key names the first",
    "jobs": "a job that was seen stays, and none is left pending or running by a life that ended",
    "final": "a final state never changes; state and progress never go back",
    "success": "a job that succeeded has its record; none fails, or is interrupted by nobody",
    "records": "a record stays listed, with the same sha256, until somebody deletes it",
    "deleted": "what was deleted is not listed, and never comes back",
    "pins": "a pinned record is not deleted, and pins are as they were set",
    "retention": "retention keeps what the policy keeps, and no more",
    "reload": "a configuration is taken as a whole, or refused as a whole",
    "archives": "records and whole archives are the same set, and nothing half-made is left",
    "content": "what is restored is the source as it was between the line and the job's end",
    "verify": "keepfs verify finds every archive whole",
    "fsck": "keepfs fsck finds nothing, or what a life that was cut short explains",
    "remains": "no descriptor, child or mount is left",
    "answers": "the mount answers, and errors are those of a life that ends",
    "ends": "keepfs starts, and ends with 0 when it is told to",
    "growth": "memory, threads and descriptors do not grow with time",
    "sanitizer": "a sanitizer has nothing to say",
}


class Book:
    """What was looked at and what was wrong, by invariant."""

    def __init__(self, quiet=False):
        self.lock, self.quiet = threading.Lock(), quiet
        self.looks, self.faults = collections.Counter(), collections.defaultdict(list)
        self.latest = time.monotonic()

    def check(self, invariant, holds, fault):
        with self.lock:
            assert invariant in INVARIANTS
            self.looks[invariant] += 1
            self.latest = time.monotonic()
            if not holds:
                self.faults[invariant].append(fault)
                if not self.quiet and len(self.faults[invariant]) <= SHOWN:
                    print(f"{invariant}: {fault}", flush=True)
        return holds

    def all_well(self, invariant, faults, about=""):
        self.check(invariant, not faults, f"{about}{'; '.join(faults[:4])}")


class Line:
    """One line for ctl. Its label is its own, and so its jobs can be told whatever became of it."""

    def __init__(self, number, store, repos, key, since):
        self.label, self.store, self.repos, self.key = f"line {number}", store, repos, key
        self.since = since     # the source's moment before it was written
        self.answer = "asked"  # written | accepted | nothing | an errno's name
        self.jobs, self.life = [], None

    def text(self):
        target = self.store if len(self.repos) > 1 else self.repos[0]
        return f"{target}{f' key={self.key}' if self.key else ''} label={self.label}"


class Job:
    def __init__(self, ulid, line, repo):
        self.ulid, self.line, self.repo = ulid, line, repo
        self.state, self.progress = "pending", 0  # as last seen
        self.record, self.cancelled = None, False
        self.unseen = False  # it succeeded, and its record was gone before anybody saw it


class Record:
    def __init__(self, ulid, repo, sha256, since, until):
        self.ulid, self.repo, self.sha256 = ulid, repo, sha256
        self.since, self.until = since, until
        self.digest = None  # of its payload, once it was restored
        self.lock = threading.Lock()  # of who pins it or deletes it
        self.pinned = False   # None: nobody knows
        self.may_go = False   # somebody is about to delete it, or was cut off
        self.gone = False     # deleted by somebody, or by retention


class Model:
    """What was promised. No call to the mount or to a source is made with its lock held."""
    RANK = {"pending": 0, "running": 1, **dict.fromkeys(FINAL, 2)}

    def __init__(self):
        self.lock = threading.RLock()
        self.lines, self.jobs, self.records = {}, {}, {}  # by label, by ulid
        self.open, self.keys = set(), {}                  # lines not at their end; key -> its job
        self.begun = collections.Counter()                # lines, by repo

    def ask(self, store, repos, key, since):
        with self.lock:
            line = Line(len(self.lines), store, repos, key, since)
            self.lines[line.label] = line
            line.others = [o for o in self.open if set(o.repos) & set(repos)]
            line.rivals = [j for o in line.others for j in o.jobs
                           if j.repo in repos and j.state not in FINAL]
            line.key_taken = bool(key and key in self.keys)
            self.begun.update(repos)
            line.alone = [self.begun[r] for r in repos]
            self.open.add(line)
            return line

    def was_alone(self, line):
        """Nothing else could keep its repos busy, from before it was written until now."""
        with self.lock:
            return not line.others and line.alone == [self.begun[r] for r in line.repos]

    def add_job(self, ulid, line, repo):
        with self.lock:
            job = self.jobs[ulid] = Job(ulid, line, repo)
            line.jobs.append(job)
            return job

    def settle(self, line, answer):
        with self.lock:
            line.answer = answer
            if answer == "accepted" and line.key:
                self.keys.setdefault(line.key, line.jobs[0])
            if all(j.state in FINAL for j in line.jobs) and answer not in ("asked", "written"):
                self.open.discard(line)

    def forget_jobs(self):
        """The catalog was deleted, and with it jobs and keys. What was pinned is not known any more,
        and so all is."""
        with self.lock:
            for of in (self.lines, self.jobs, self.open, self.keys):
                of.clear()
            for record in self.records.values():
                record.pinned = True

    def newer_than(self, record):
        """How many records of its repo there may have been behind it: also those that nobody has
        seen yet, of jobs whose end nobody has seen, or that were killed behind the rename."""
        with self.lock:
            known = sum(r.repo == record.repo and r.ulid > record.ulid
                        for r in self.records.values())
            unknown = sum(j.repo == record.repo and j.ulid > record.ulid and not j.record
                          and j.state != "failed" for j in self.jobs.values())
            unanswered = sum(o.answer in ("asked", "written") and record.repo in o.repos
                             for o in self.open)
            return known + unknown + unanswered

    def forget_progress(self):
        """Of a job whose end was not stored; it is in memory, and worth nothing after a crash."""
        with self.lock:
            for line in self.open:
                for job in line.jobs:
                    job.progress = job.progress if job.state in FINAL else 0

    def listed(self):
        with self.lock:
            return {r.ulid for r in self.records.values() if not (r.gone or r.may_go)}

    def deleted(self):
        with self.lock:
            return {r.ulid for r in self.records.values() if r.gone}

    def pick_job(self, rng, is_open):
        with self.lock:
            jobs = [j for o in self.open for j in o.jobs] if is_open else list(self.jobs.values())
            return rng.choice(jobs) if jobs else None

    def pick_record(self, rng):
        with self.lock:
            records = sorted(self.listed())
            return self.records[rng.choice(records)] if records else None
