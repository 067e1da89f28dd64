# SPDX-License-Identifier: MIT
"""check.py - what must be true after every execution, whatever was done to it.

The daemon is started once more, without the shim, and then:

  archives   those that were there before are the same, byte for byte; each that is there is whole
             (keepfs verify) and its content is the source's
  listing    the mount lists exactly the archives that are there; while some are being deleted, none
             that is not
  deletion   what was deleted goes, and so does what the policy does not keep; nothing else
  jobs       what ctl answered for is there; all have ended; what was seen to have ended one way has
             not ended another way; a success has its archive
  remains    no *.tmp, nothing in staging, no process, no mount; the source is as it was
  next       the next backup succeeds
  fsck       finds nothing, once the daemon has stopped

A bit that was flipped in what is stored cannot be seen by who stores it. Then only this is asked:
what is altered must not be taken for good by verify.
"""
import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import time

import workloads
from sandbox import PATIENCE, TERMINAL, ULID, Violation, fingerprint, reap_strays

KEY_WRONG = 61  # exit status


class Yardstick:
    """What a workload starts from, and what its archives must decode to."""

    def __init__(self, box):
        self.content, self.ids = self.clean_backup(box)
        self.source, self.before, self.jobs = {}, {}, set()
        self.doomed, self.outdated = set(), set()  # records that go, jobs that go

    @staticmethod
    def clean_backup(box):
        workloads.one_backup(box)
        archive, = archives(box)
        status, content = box.command("extract", box.path("repo", archive), *keyed(box))
        if status != 0:
            raise Violation(f"a clean backup cannot be extracted: {box.errors()}")
        if os.path.exists(box.path("src", "tree")):
            prove_tree(box, content)
        else:
            prove_database(box, content)
        try:
            with open(box.path("repo", archive, "payload_ids"), "rb") as f:
                return content, f.read()
        except FileNotFoundError:
            return content, b""

    def note_start(self, box):
        """What stands in the template, once it does."""
        self.source, self.before = fingerprint(box.path("src")), fingerprint(box.path("repo"))
        if os.path.exists(box.path("state", "logs")):
            self.jobs = {n.removesuffix(".log") for n in os.listdir(box.path("state", "logs"))}
        if os.path.exists(box.path("state")):
            self.doomed = set(box.ask_catalog("SELECT ulid FROM records WHERE state = 'deleting'"))
            self.outdated = set(box.ask_catalog(
                "SELECT ulid FROM jobs WHERE finished_at < unixepoch('now', '-30 days') * 1000"))


def prepare(box, workload):
    """Makes the template of a workload, and the yardstick for its runs."""
    box.wipe()
    workloads.make_source(box, workload)
    box.configure(workload.kind, workload.store, workload.repo)
    yardstick = Yardstick(box)
    box.wipe()
    workloads.make_source(box, workload)
    workload.prepare(box)
    yardstick.note_start(box)
    box.keep_template(workload.name)
    return yardstick


def archives(box):
    try:
        return sorted(n for n in os.listdir(box.repo) if ULID.match(n))
    except FileNotFoundError:
        return []


def keyed(box):
    """The options with which extract and verify can read what the configuration writes."""
    with open(box.conf) as f:
        config = f.read()
    key = ["--key", "file:" + box.path("key")] if "encryption_key" in config else []
    return key + (["--allow-v1"] if "format = v1" in config else [])


def start_again(run):
    """The next start. A catalog with flipped bits may be refused; then the state is deleted."""
    if run.box.start():
        return
    log = run.box.log_text().decode()
    if not altered_catalog(run):
        raise Violation("the next start fails: " + log)
    shutil.rmtree(run.box.path("state"))
    if not run.box.start():
        raise Violation("the next start fails even without state: " + log)


def afterwards(run):
    box = run.box
    box.clear()
    if run.workload.daemon:
        start_again(run)
        check_deletion(run)
        check_owed(run)
        check_archives(run)
        check_jobs(run)
        check_remains(run)
        check_next(run)
        check_deletion(run)
        if box.end() != 0:
            run.violate("the daemon that was started clean ends with an error")
    else:
        check_archives(run)
    check_leftovers(run)
    check_fsck(run)


def await_true(condition):
    """Does it come true in time?"""
    end = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.001)
    return holds


def check_deletion(run):
    """The start finishes what was begun, and keeps to the policy."""
    box, w = run.box, run.workload
    kept = sorted({*archives(box), *box.ids("records")} - run.removed)[-w.keeps:]
    if w.keeps:
        run.may_go |= set(archives(box)) - set(kept)
        run.may_go |= {path.split("/")[0] for path in run.yardstick.before} - set(kept)
    if altered_store(run) or altered_catalog(run):
        return
    must_go = run.may_go if w.keeps else run.removed
    await_true(lambda: listing_is_true(run) and must_go.isdisjoint(archives(box)))
    if left := must_go & {*archives(box), *box.ids("records")}:
        run.violate(f"{sorted(left)} should be gone; archives are {archives(box)}")
    if not await_true(lambda: run.yardstick.outdated.isdisjoint(box.ids("jobs"))):
        run.violate(f"jobs {run.yardstick.outdated} are old and still there")
    logs = {n.removesuffix(".log") for n in os.listdir(box.path("state", "logs"))}
    if not await_true(lambda: logs <= set(box.ids("jobs")) | run.yardstick.outdated):
        run.violate("there is a log without a job")


def listing_is_true(run):
    """Are records and archives the same? What is listed before and after a look at its archive
    must have been whole, since no record comes back."""
    box = run.box
    before, found = box.ids("records"), archives(box)
    whole = {a for a in found if os.path.exists(box.path("repo", a, "manifest.yaml"))}
    if half := (set(before) & set(box.ids("records"))) - whole:
        raise Violation(f"records {sorted(half)} are listed, and have no whole archive")
    return before == found


def check_owed(run):
    """What the schedule owed was begun once, in whichever life."""
    box, owed = run.box, run.workload.owed
    if not owed:
        return

    def scheduled():
        return [j for j in box.ids("jobs") if box.word("jobs", j, "requested_by") == "schedule"]

    def at_rest():
        return not box.ids("jobs/active")

    if altered_store(run) or altered_catalog(run):
        await_true(at_rest)
        return
    if not await_true(lambda: len(scheduled()) >= owed and at_rest()) or len(scheduled()) != owed:
        run.violate(f"the schedule owed {owed} jobs and made {scheduled()}")


def check_archives(run):
    box, before = run.box, run.yardstick.before
    now = fingerprint(box.path("repo"))
    for path, content in before.items():
        archive = path.split("/")[0]
        if now.get(path) != content and ULID.match(archive) and archive not in run.may_go:
            run.violate(f"{path}, which was there before, is {'other' if path in now else 'gone'}")
    found = archives(box)
    for archive in found:
        if archive not in before:
            check_content(run, archive)
    if run.workload.daemon and not altered_store(run) and not altered_catalog(run):
        listed = box.ids("records")
        if listed != found:
            run.violate(f"records {listed}, but archives {found}")


def altered_store(run):
    """Were bits flipped in what repo or state keep?"""
    return bool(run.point and run.point.flips_stored)


def altered_catalog(run):
    """Or in the catalog, while it was read? Its pages have no checksum, and one that is changed
    after it was read is written back as a whole."""
    return bool(run.point and run.point.flips and run.point.place.startswith("state/catalog"))


def altered_key(run):
    """Was a bit of the key flipped while it was read? A key is 32 bytes of nothing but chance:
    nobody can know that these are others, and what they seal is for nobody to open."""
    return bool(run.point and run.point.flips and run.point.area == "key")


def check_content(run, archive):
    """A new archive is whole, and is what the source had."""
    box = run.box
    status, out = box.command("verify", box.path("repo", archive), *keyed(box))
    if status == KEY_WRONG and altered_key(run):
        return
    if status != 0:
        if not altered_store(run):
            run.violate(f"archive {archive} is there, and verify says {status}")
        return
    if run.point and run.point.flips and run.point.area == "source":
        return  # nobody can know that these are not the source's bytes
    if run.point and run.point.flips and run.point.place.startswith("state/staging"):
        return
    status, out = box.command("extract", box.path("repo", archive), *keyed(box))
    if status != 0:
        # What is deleted may go between the two; what may not go is asked for elsewhere.
        if os.path.exists(box.path("repo", archive)):
            run.violate(f"archive {archive} is good, and extract says {status}")
        return
    # Without memory libc has no UTF-8 locale, and says that there is none: the headers are binary
    # then. And a hole that cannot be found is stored as zeros.
    otherwise = run.hit_memory or (run.point and run.point.call == "lseek")
    if otherwise and run.workload.kind == "directory":
        same = members(out) == members(run.yardstick.content)
    else:
        same = out == run.yardstick.content
    if not same:
        run.violate(f"archive {archive} is not what was backed up, and verify says that it is good")


def check_jobs(run):
    box = run.box
    if run.point and run.point.flips and run.point.area == "state":
        return
    jobs = {job: box.word("jobs", job, "status") for job in box.ids("jobs")}
    for job in {*run.accepted, *run.yardstick.jobs} - set(jobs) - run.yardstick.outdated:
        run.violate(f"job {job} is gone")
    for job, state in jobs.items():
        if state not in TERMINAL:
            run.violate(f"job {job} is {state} after the start")
        if run.seen.get(job, state) != state:
            run.violate(f"job {job} was {run.seen[job]} and is {state}")
        if state == "succeeded":
            check_success(run, job)
        elif os.path.lexists(box.path("mnt", "jobs", job, "record")) and state == "failed" \
                and "the next start of keepfs adopts it" not in box.word("jobs", job, "error"):
            run.violate(f"job {job} failed and has a record")


def check_success(run, job):
    """Its record is there, unless it is one of those that were deleted since."""
    try:
        record = os.path.basename(os.readlink(run.box.path("mnt", "jobs", job, "record")))
    except FileNotFoundError:
        record = None
    if record not in archives(run.box) and not run.may_go:
        run.violate(f"job {job} succeeded and has no archive")


def check_remains(run):
    box = run.box
    strange = [n for n in (os.listdir(box.repo) if os.path.exists(box.repo) else ())
               if n != ".keepfs" and not ULID.match(n)]
    if strange:
        run.violate(f"left in the repo: {strange}")
    staged = os.listdir(box.path("state", "staging"))
    if staged:
        run.violate(f"left in staging: {staged}")
    if fingerprint(box.path("src")) != run.yardstick.source:
        run.violate("the source was changed")


def check_next(run):
    """One more backup, of which every byte is compared through the mount."""
    box = run.box
    job, = box.trigger("app")
    while (state := box.word("jobs", job, "status")) not in TERMINAL:
        if box.ended():
            raise Violation("the daemon ended in the next backup")
    if state != "succeeded":
        run.violate(f"the next backup is {state}: {box.word('jobs', job, 'error')}")
        return
    record = os.path.basename(os.readlink(box.path("mnt", "jobs", job, "record")))
    if box.read("records", record, "payload") != run.yardstick.content:
        run.violate("the next backup has other content")
    if run.yardstick.ids and box.read("records", record, "payload_ids") != run.yardstick.ids:
        run.violate("the next backup has other payload ids")


def check_leftovers(run):
    if run.box.is_mounted():
        run.violate("a mount is left")
    run.box.daemon = None
    if reap_strays():
        run.violate("a process is left")


def check_fsck(run):
    if not has_fsck(run.box) or not run.workload.daemon:
        return
    if altered_store(run) or altered_catalog(run):
        return
    status, out = run.box.command("fsck", run.box.conf)
    if status != 0 and not (status == KEY_WRONG and altered_key(run)):
        run.violate(f"fsck ends with {status}: {out.decode()}{run.box.errors()}")


def has_fsck(box):
    if not hasattr(box, "fsck"):
        _, out = box.command("--help")
        box.fsck = b" fsck " in out
    return box.fsck


# ---- the yardstick itself is checked by other programs than keepfs ----


def rows(path):
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT id, v FROM t ORDER BY id").fetchall()
    finally:
        db.close()


def prove_database(box, content):
    aside = box.path("aside")
    os.makedirs(aside)
    try:
        with open(os.path.join(aside, "got.db"), "wb") as f:
            f.write(content)
        for name in os.listdir(box.path("src")):
            shutil.copyfile(box.path("src", name), os.path.join(aside, name))
        if not rows(os.path.join(aside, "got.db")) == rows(os.path.join(aside, "app.db")) != []:
            raise Violation("a clean backup of the database has other rows")
    finally:
        shutil.rmtree(aside)


def members(content):
    """All that a tar says of its members, however it says it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(m.name, m.type, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime, m.linkname,
                 {k: v for k, v in m.pax_headers.items() if k.startswith("SCHILY.")},
                 m.isfile() and hashlib.sha256(tar.extractfile(m).read()).hexdigest())
                for m in tar]


def prove_tree(box, content):
    want = fingerprint(box.path("src", "tree"))
    got = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            name = os.path.normpath(member.name)
            if member.isfile():
                got[name] = hashlib.sha256(tar.extractfile(member).read()).hexdigest()
            elif name != ".":
                got[name] = member.linkname if member.issym() else "directory"
    if got != want:
        raise Violation(f"a clean backup of the directory has other files: {got}, not {want}")
