#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""powercut.py [CUTS] - cuts the power under a loaded keepfs and looks at what is left.

State and repos stand on two ext4 file systems of their own, in loop-mounted images. Backups of four
kinds run without end: encrypted and compressed, raw, with reading back, of a larger tree. At a
random moment, or right behind the first success that is seen after it, EXT4_IOC_SHUTDOWN with
NOLOGFLUSH stops both file systems dead: dirty pages and the uncommitted part of the journal are
gone, as after a power cut on a disk without a cache that lies. Then the daemon is killed, the
journals are replayed by e2fsck, keepfs starts again, and:

  - every job whose success had been read from the mount has succeeded, and its record verifies and
    gives the source's bytes;
  - every job whose id had been given by ctl exists and has ended;
  - records and whole archives are the same set, each archive verifies, nothing half-made is left,
    and SQLite finds the catalog whole.

Each second cut is of one store alone, right behind a success: beside others that backup's own
fsync would not be missed, since theirs commit the same journal.

That this can fail is shown first: a rename without an fsync of its directory is undone by such a
cut and with one is not, and a keepfs whose fsync of a repo's directory is made to lie loses a
backup.

KEEPFS is the binary; KEEPFS_SEED repeats a run's choices. Needs root and loop devices.
"""
import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading

import rig

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NOLOGFLUSH = 2
LIAR_CUTS = 20  # a keepfs that lies is found out within so many

LIAR = """
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
int fsync(int fd)
{
    return faccessat(fd, ".keepfs", F_OK, 0) == 0 ? 0 : (int)syscall(SYS_fsync, fd);
}
"""

CONFIG = """
[keepfs]
state = {disk}/state/keepfs
max_jobs = 4
[store app]
kind = sqlite
path = {src}/app.db
[repo app/sealed]
kind = local
path = {disk}/repo/sealed
encryption_key = file:{key}
[store raw]
kind = sqlite
path = {src}/raw.db
[repo raw/main]
kind = local
path = {disk}/repo/raw
compression = none
[store docs]
kind = directory
path = {src}/docs
[repo docs/main]
kind = local
path = {disk}/repo/docs
verify_after_write = yes
[store big]
kind = directory
path = {src}/big
[repo big/main]
kind = local
path = {disk}/repo/big
encryption_key = file:{key}
compression = none
"""
STORES = ("app", "raw", "docs", "big")
ROOM = 200 << 20  # what the records of a few cuts need
TREES = ("docs", "big")


class Disk:
    """An ext4 file system in an image, whose power can be cut."""

    def __init__(self, place, name, megabytes):
        self.image, self.path = place / f"{name}.img", place / "disk" / name
        self.path.mkdir(parents=True)
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        rig.run("mkfs.ext4", "-q", "-F", self.image)

    def mount(self):
        rig.run("mount", "-o", "loop", self.image, self.path)
        self.fd = os.open(self.path, os.O_RDONLY)

    def cut(self):
        fcntl.ioctl(self.fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))

    def unmount(self):
        os.close(self.fd)
        rig.run("umount", self.path)

    def power_up(self):
        """After a cut: the journal is replayed, and what e2fsck must not correct is a fault."""
        self.unmount()
        rig.run("e2fsck", "-fp", self.image, ok=(0, 1))
        self.mount()


class Witness:
    """What the mount said before the cut. What it says later counts for nothing."""

    def __init__(self):
        self.lock = threading.Condition()
        self.cut = False
        self.accepted, self.succeeded = {}, {}  # job -> store

    def note(self, book, job, store):
        with self.lock:
            if not self.cut:
                book[job] = store
                self.lock.notify_all()

    def await_more(self, book, timeout=rig.PATIENCE):
        """Waits until the book has grown."""
        with self.lock:
            size = len(book)
            if not self.lock.wait_for(lambda: len(book) > size, timeout):
                raise TimeoutError("the load makes no progress")

    def rest(self, seconds):
        with self.lock:
            self.lock.wait_for(lambda: False, seconds)


def load(daemon, store, witness):
    """Backups of one store, one after another, until the power is gone."""
    with contextlib.suppress(OSError, TimeoutError):
        while not witness.cut:
            for job in daemon.trigger(store):
                witness.note(witness.accepted, job, store)
                if daemon.finished(job) == "succeeded":
                    witness.note(witness.succeeded, job, store)


class Bench:
    """Sources, disks and a daemon; it remembers what each record has to give back."""

    def __init__(self, place, environ=None):
        self.place, self.src, self.key = place, place / "src", place / "key"
        place.mkdir()
        self.src.mkdir()
        rig.make_key(self.key)
        self.disks = [Disk(place, "state", 64), Disk(place, "repo", 512)]
        for disk in self.disks:
            disk.mount()
        config = place / "keepfs.conf"
        config.write_text(CONFIG.format(disk=place / "disk", src=self.src, key=self.key))
        (place / "mnt").mkdir()
        self.state, self.root = place / "disk/state/keepfs", place / "disk/repo"
        self.daemon = rig.Daemon(config, place / "mnt", place / "log", environ)
        self.expected = {}  # record -> (store, digest)
        self.verified = set()
        self.figures = dict.fromkeys(("accepted", "succeeded", "interrupted"), 0)

    def repos(self):
        return [path for path in self.root.iterdir() if path.name != "lost+found"]

    def make_sources(self):
        """New ones for each cut, so that no record can pass for a later one."""
        for name in ("app", "raw"):
            (self.src / f"{name}.db").unlink(missing_ok=True)
            rig.make_database(self.src / f"{name}.db", 1000)
        for name, files, size in (("docs", 40, 5000), ("big", 3, 4 << 20)):
            (self.src / name).mkdir(exist_ok=True)
            for i in range(files):
                (self.src / name / str(i)).write_bytes(os.urandom(size))

    def source_digest(self, store):
        if store in TREES:
            return rig.tree_digest(self.src / store)
        return rig.file_digest((self.src / f"{store}.db").read_bytes())

    def payload_digest(self, store, record):
        data = self.daemon.payload(record)
        return rig.tar_digest(data) if store in TREES else rig.file_digest(data)

    def round(self, rng, stores=STORES):
        """One cut under load; the faults found after it. Of a store alone it comes at a success."""
        self.make_sources()
        self.daemon.start()
        witness = Witness()
        threads = [threading.Thread(target=load, args=(self.daemon, s, witness)) for s in stores]
        for thread in threads:
            thread.start()
        witness.await_more(witness.succeeded)
        witness.rest(rng.uniform(0, 0.6))
        if len(stores) == 1 or rng.random() < 0.5:
            witness.await_more(witness.succeeded)
        self.cut(witness, rng)
        for thread in threads:
            thread.join()
        return self.judge(witness)

    def cut(self, witness, rng):
        with witness.lock:
            witness.cut = True
            for disk in rng.sample(self.disks, 2):
                disk.cut()
        self.daemon.kill()
        for disk in self.disks:
            disk.power_up()

    def judge(self, witness):
        try:
            self.daemon.start()
        except (RuntimeError, TimeoutError) as e:
            return [f"keepfs does not start: {e}"]
        jobs = self.daemon.jobs()
        self.figures["accepted"] += len(witness.accepted)
        self.figures["succeeded"] += len(witness.succeeded)
        self.figures["interrupted"] += sum(jobs.get(j) == "interrupted" for j in witness.accepted)
        faults = [f"job {j} was accepted and is {jobs.get(j, 'gone')}"
                  for j in witness.accepted if jobs.get(j) not in rig.FINAL]
        faults += [f"job {j} has not ended" for j, state in jobs.items()
                   if state not in rig.FINAL and j not in witness.accepted]
        for job, store in witness.succeeded.items():
            faults += self.judge_success(job, store, jobs.get(job, "gone"))
        faults += rig.disagreements(self.daemon, self.state, *self.repos())
        faults += self.judge_archives()
        if shutil.disk_usage(self.root).free < ROOM:
            faults += self.make_room()
        self.daemon.stop()
        return faults + self.judge_catalog()

    def make_room(self):
        """Deletes all but the newest, once they have all been read again."""
        self.verified.clear()
        faults = self.judge_archives()
        for record in self.daemon.records()[:-4]:
            os.rmdir(self.daemon.mount / "records" / record)
            self.expected.pop(record, None)
            self.verified.discard(record)
        rig.await_state(lambda: len(rig.archives(*self.repos())) <= 4, "archives to be removed")
        return faults

    def judge_success(self, job, store, state):
        record = self.daemon.record_of(job)
        if state != "succeeded" or record not in self.daemon.records():
            return [f"job {job} was seen to succeed and is {state}, its record {record} lost"]
        self.expected[record] = (store, self.source_digest(store))
        return []

    def judge_archives(self):
        """New archives are read in full, and what had been promised of the old is still listed."""
        stored = rig.archives(*self.repos())
        faults = [f"record {r} was there before and is lost" for r in self.expected
                  if r not in stored]
        for record in sorted(set(stored) - self.verified):
            archive = stored[record]
            sealed = archive.parent.name in ("sealed", "big")
            faults += rig.verify(archive, self.key if sealed else None)
            store, digest = self.expected.get(record, (None, None))
            if store and self.payload_digest(store, record) != digest:
                faults.append(f"record {record} gives other bytes than {store} had")
            self.verified.add(record)
        return faults

    def judge_catalog(self):
        with contextlib.closing(sqlite3.connect(self.state / "catalog.sqlite")) as db:
            answer = db.execute("PRAGMA integrity_check").fetchone()[0]
        return [] if answer == "ok" else [f"catalog: {answer}"]

    def judge_all_again(self):
        """Once at the end: no cut took anything from an archive that was whole before."""
        self.verified.clear()
        self.daemon.start()
        faults = self.judge_archives()
        self.daemon.stop()
        return faults

    def close(self):
        for disk in self.disks:
            disk.unmount()


def rename_survives(place, with_fsync):
    """Is a file, durable itself, still under its new name after a cut?"""
    place.mkdir()
    disk = Disk(place, "probe", 16)
    disk.mount()
    (disk.path / "before").mkdir()
    fd = os.open(disk.path / "before/file", os.O_WRONLY | os.O_CREAT)
    os.fsync(fd)
    os.close(fd)
    os.fsync(disk.fd)
    os.rename(disk.path / "before", disk.path / "after")
    if with_fsync:
        os.fsync(disk.fd)
    disk.cut()
    disk.power_up()
    names = set(os.listdir(disk.path))
    disk.unmount()
    return "after" in names and "before" not in names


def judge_cut(place):
    faults = []
    if rename_survives(place / "renamed", False):
        faults.append("a rename that was never fsynced survived the cut: it proves nothing")
    if not rename_survives(place / "synced", True):
        faults.append("a rename that was fsynced did not survive the cut")
    return faults


def judge_liar(place, rng):
    """A keepfs that publishes without the last fsync has to be found out."""
    library, source = place / "liar.so", place / "liar.c"
    source.write_text(LIAR)
    rig.run("cc", "-shared", "-fPIC", "-o", library, source)
    bench = Bench(place / "liar", {"LD_PRELOAD": str(library)})
    for cut in range(1, LIAR_CUTS + 1):
        faults = bench.round(rng, ("app",))
        if any("seen to succeed" in f for f in faults):
            print(f"a keepfs whose fsync of the repo lies lost a backup at cut {cut}", flush=True)
            if bench.daemon.process.poll() is None:
                bench.daemon.stop()
            bench.close()
            return []
    return [f"a keepfs whose fsync of the repo lies lost nothing in {LIAR_CUTS} cuts"]


def judge_keepfs(place, rng, cuts, tally):
    bench = Bench(place / "keepfs")
    for cut in range(1, cuts + 1):
        alone = cut % 2 == 1
        tally.check(f"cut {cut}", bench.round(rng, [rng.choice(STORES)] if alone else STORES))
    tally.check("all archives once more", bench.judge_all_again())
    figures = ", ".join(f"{count} {what}" for what, count in bench.figures.items())
    print(f"{cuts} cuts: of the jobs {figures}; {len(bench.expected)} promised records of "
          f"{len(bench.verified)} checked", flush=True)
    bench.close()


def require_loop_devices(place):
    place.mkdir()
    try:
        disk = Disk(place, "probe", 16)
        disk.mount()
        disk.cut()
        disk.unmount()
    except (OSError, RuntimeError) as e:
        rig.skip(f"no ext4 on a loop device here: {e}")


def main():
    place = rig.isolate()
    cuts = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seed = int(os.environ.get("KEEPFS_SEED") or random.randrange(1 << 31))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    require_loop_devices(place / "probe")
    tally = rig.Tally()
    tally.check("self-check of the cut", judge_cut(place))
    tally.check("self-check with a liar", judge_liar(place, rng))
    judge_keepfs(place, rng, cuts, tally)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
