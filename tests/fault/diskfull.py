#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""diskfull.py [LEVELS] - backups on file systems that have too little room, by a little or a lot.

The repos and the state, with its staging, stand on a tmpfs each. One of them is shrunk to what it
holds and a share of what a backup needs: LEVELS shares between nothing and just enough, of 100 (20
by default, drawn by a seed; the ends always), for each side and each of two stores, an encrypted
SQLite database with payload ids and a plain directory; then every number of free inodes likewise.
At each level one backup is tried:

  - ctl takes it or, with the state full, answers ENOSPC and starts nothing;
  - it succeeds and its record verifies and gives the source's bytes, or it fails with the code of
    the side that is full, and has no record. With nothing it fails, with enough it succeeds;
  - meanwhile an earlier record can be read; afterwards it is untouched, and with the space back the
    job has ended, nothing half-made is left, a backup succeeds, and after a restart records and
    archives are the same set.

A backup that was published while its success could not be stored is failed, and its archive is
adopted by that restart. Cancelling is tried with no byte free, of a running and of a pending job.

KEEPFS is the binary; KEEPFS_SEED repeats a run's choices. Needs root.
"""
import collections
import contextlib
import errno
import os
import random
import sqlite3
import sys

import rig

ROOMY = "size=64m,nr_inodes=10000"
SHARES = 100
SIDES = ("repo", "state")
STORES = ("app", "docs")
# A backup's writes to the state's -wal depend on how often it says its progress.
WAL_SLACK = 128 << 10

CONFIG = """
[keepfs]
state = {place}/state/keepfs
max_jobs = 1
[store app]
kind = sqlite
path = {place}/src/app.db
payload_ids = SELECT id FROM t
[repo app/main]
kind = local
path = {place}/repo/app
encryption_key = file:{place}/key
[store docs]
kind = directory
path = {place}/src/docs
[repo docs/main]
kind = local
path = {place}/repo/docs
compression = none
"""

Use = collections.namedtuple("Use", "bytes inodes")


class Room:
    """A tmpfs whose room can be taken away and given back."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        rig.run("mount", "-t", "tmpfs", "-o", f"{ROOMY},mode=0700", "tmpfs", path)

    def used(self):
        s = os.statvfs(self.path)
        return Use((s.f_blocks - s.f_bfree) * s.f_bsize, s.f_files - s.f_ffree)

    def _remount(self, options):
        rig.run("mount", "-o", f"remount,{options}", self.path)

    def leave_bytes(self, count):
        self._remount(f"size={self.used().bytes + count}")

    def leave_inodes(self, count):
        self._remount(f"nr_inodes={self.used().inodes + count}")

    def leave_nothing(self):
        """Also while somebody still writes: until what is used is what there is."""
        def exhausted():
            with contextlib.suppress(RuntimeError):
                self.leave_bytes(0)
            s = os.statvfs(self.path)
            return s.f_bfree == 0
        rig.await_state(exhausted, f"{self.path} to be full")

    def widen(self):
        self._remount(ROOMY)


class Bench:
    def __init__(self, place):
        self.place = place
        self.rooms = {side: Room(place / side) for side in SIDES}
        for name in ("mnt", "src", "src/docs"):
            (place / name).mkdir()
        rig.make_database(place / "src/app.db", 1000)
        for i in range(8):
            (place / "src/docs" / str(i)).write_bytes(os.urandom(12000))
        rig.make_key(place / "key")
        config = place / "keepfs.conf"
        config.write_text(CONFIG.format(place=place))
        self.log = place / "log"
        self.state, self.repos = place / "state/keepfs", [place / "repo" / s for s in STORES]
        self.daemon = rig.Daemon(config, place / "mnt", self.log)
        self.outcomes = collections.Counter()

    def prepare(self):
        """The first records, and what a backup needs of each side."""
        self.daemon.start()
        self.first, self.need = {}, {}
        for store in STORES:
            self.first[store] = self.daemon.record_of(self.backup(store))
        for store in STORES:
            self.restart()  # with an empty -wal, as at each level
            before = {side: room.used() for side, room in self.rooms.items()}
            self.backup(store)
            for side, room in self.rooms.items():
                self.need[store, side] = Use(*(b - a for a, b in zip(before[side], room.used())))
        staged = Use(os.path.getsize(self.place / "src/app.db"), 1)
        for store in STORES:
            need = self.need[store, "state"]
            extra = Use(WAL_SLACK, 0)
            if store == "app":
                extra = Use(WAL_SLACK + staged.bytes, staged.inodes)
            self.need[store, "state"] = Use(*(a + b for a, b in zip(need, extra)))

    def restart(self):
        self.daemon.stop()
        self.daemon.start()

    def backup(self, store):
        [job] = self.daemon.trigger(store)
        if self.daemon.finished(job) != "succeeded":
            raise RuntimeError(f"backup of {store}: {self.daemon.of_job(job, 'error')}")
        return job

    # ---- one level ----

    def attempt(self, store):
        """A backup that has ended or waits to store its end: the job, or None and an errno."""
        before = self.daemon.jobs()
        try:
            [job] = self.daemon.trigger(store)
        except OSError as e:
            if self.daemon.jobs() != before:
                return None, "ctl refused, but a job is there"
            return None, errno.errorcode[e.errno]
        rig.await_state(lambda: self.at_its_end(job), f"job {job}")
        return job, None

    def at_its_end(self, job):
        return (self.daemon.of_job(job, "status") in rig.FINAL
                or f"job {job}: its end is not stored yet" in self.log.read_text())

    def level(self, side, store, limit):
        """One backup in the room that `limit` leaves; its outcome and the faults found."""
        self.restart()
        limit(self.rooms[side])
        job, refusal = self.attempt(store)
        faults = self.judge_first("while it was full")
        self.rooms[side].widen()
        if job is None:
            outcome = "refused"
            if (side, refusal) != ("state", "ENOSPC"):
                faults.append(f"ctl answered {refusal}")
        else:
            outcome = self.daemon.finished(job)
            faults += self.judge_job(job, store, side, outcome)
        faults += rig.leftovers(self.state, *self.repos)
        try:
            faults += self.judge_success(self.backup(store), store)
        except RuntimeError as e:
            faults.append(f"with the space back: {e}")
        self.restart()
        faults += rig.disagreements(self.daemon, self.state, *self.repos)
        faults += self.judge_first("afterwards")
        self.outcomes[outcome] += 1
        return outcome, faults

    def judge_job(self, job, store, side, outcome):
        if outcome == "succeeded":
            return self.judge_success(job, store)
        faults = []
        expected = "destination_no_space" if side == "repo" else "state_no_space"
        code = self.daemon.of_job(job, "error_code")
        if (outcome, code) != ("failed", expected):
            faults.append(f"the job is {outcome} with {code}: {self.daemon.of_job(job, 'error')}")
        if self.daemon.record_of(job):
            faults.append("a failed job has a record")
        return faults

    def judge_success(self, job, store):
        record = self.daemon.record_of(job)
        archive = rig.archives(*self.repos).get(record)
        if not archive:
            return [f"job {job} succeeded and its record {record} has no archive"]
        faults = rig.verify(archive, self.place / "key" if store == "app" else None)
        return faults + self.judge_bytes(record, store, "just made")

    def judge_bytes(self, record, store, when):
        try:
            data = self.daemon.payload(record)
        except OSError as e:
            return [f"record {record} of {store} cannot be read {when}: {e}"]
        if store == "docs":
            same = rig.tar_digest(data) == rig.tree_digest(self.place / "src/docs")
        else:
            same = data == (self.place / "src/app.db").read_bytes()
        return [] if same else [f"record {record} of {store} gives other bytes {when}"]

    def judge_first(self, when):
        return [fault for store, record in self.first.items()
                for fault in self.judge_bytes(record, store, when)]

    # ---- cancelling ----

    def cancel(self, side):
        """A running and a pending job, with no byte free."""
        self.restart()
        with contextlib.closing(sqlite3.connect(self.place / "src/app.db")) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            [running], [pending] = self.daemon.trigger("app"), self.daemon.trigger("docs")
            rig.await_state(lambda: self.daemon.of_job(running, "status") == "running", running)
            self.rooms[side].leave_nothing()
            for job in (pending, running):
                (self.daemon.mount / "jobs" / job / "cancel").write_text("1\n")
            # A full repo takes nothing from the state; with that full, the work ends all the same.
            for job in (running, pending) if side == "repo" else (running,):
                rig.await_state(lambda: self.at_its_end(job), f"the work of job {job} to end")
        self.rooms[side].widen()
        faults = []
        for job in (running, pending):
            state, code = self.daemon.finished(job), self.daemon.of_job(job, "error_code")
            if (state, code) != ("interrupted", "cancelled"):
                faults.append(f"a cancelled job is {state} with {code}")
        return faults + rig.disagreements(self.daemon, self.state, *self.repos)


def try_bytes(bench, tally, side, store, share):
    need = bench.need[store, side].bytes
    free = need * share // SHARES
    outcome, faults = bench.level(side, store, lambda room: room.leave_bytes(free))
    if share == SHARES and outcome != "succeeded":
        faults.append("there was enough, and it did not succeed")
    if share == 0 and outcome == "succeeded":
        faults.append("there was nothing, and it succeeded")
    tally.check(f"{store} with {share}% of {need} bytes free for the {side}", faults)


def try_inodes(bench, tally, side, store):
    need = bench.need[store, side].inodes
    for count in range(need + 1):
        outcome, faults = bench.level(side, store, lambda room: room.leave_inodes(count))
        if count == need and outcome != "succeeded":
            faults.append("there were enough, and it did not succeed")
        # A job can do without its log, which is all that docs needs of the state.
        if count == 0 and outcome == "succeeded" and (store, side) != ("docs", "state"):
            faults.append("there was none, and it succeeded")
        tally.check(f"{store} with {count} of {need} inodes free for the {side}", faults)


def main():
    place = rig.isolate()
    levels = min(int(sys.argv[1]) if len(sys.argv) > 1 else 20, SHARES + 1)
    seed = int(os.environ.get("KEEPFS_SEED") or random.randrange(1 << 31))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    bench, tally = Bench(place), rig.Tally()
    bench.prepare()
    for side in SIDES:
        shares = sorted({0, SHARES, *rng.sample(range(1, SHARES), max(levels - 2, 0))})
        for i, share in enumerate(shares):
            ends = share in (0, SHARES)
            for store in STORES if ends else [STORES[i % 2]]:
                try_bytes(bench, tally, side, store, share)
        for store in STORES:
            try_inodes(bench, tally, side, store)
        tally.check(f"cancel with no byte free for the {side}", bench.cancel(side))
    bench.daemon.stop()
    print("levels: " + ", ".join(f"{n} {what}" for what, n in sorted(bench.outcomes.items())),
          flush=True)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
