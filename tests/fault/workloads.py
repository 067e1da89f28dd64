# SPDX-License-Identifier: MIT
"""workloads.py - what is done while calls fail: a row of WORKLOADS for each thing keepfs does.

A row says what there is before (prepare), what is done (act), how it ends when nothing fails (ends),
and from when on calls are counted (armed). A new feature is a row, and a function if nothing here
does it yet. prepare gets the sandbox, in which the source stands already; act gets the Run, whose
steps note what was promised and by whom.
"""
import contextlib
import functools
import os
import random
import shutil
import sqlite3
import threading
from dataclasses import dataclass
from typing import Callable, Sequence

from sandbox import PATIENCE, Violation

# ---- sources ----


def make_database(box, journal):
    """40 KB; in WAL mode with its last rows in a -wal of an application that is not running."""
    place, rest = box.path("src", "app.db"), box.path("src", "made.db")
    rng = random.Random(7)
    db = sqlite3.connect(rest)
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    for part in range(2):
        db.executemany("INSERT INTO t(v) VALUES(?)",
                       [(rng.randbytes(50).hex(),) for _ in range(150)])
        db.commit()
        if part == 0:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(rest, place)
    if journal == "WAL":
        shutil.copyfile(rest + "-wal", place + "-wal")
    db.close()
    os.unlink(rest)


def make_tree(box):
    rng = random.Random(7)
    top = box.path("src", "tree")
    os.makedirs(os.path.join(top, "sub"))
    for name, size in (("a", 40000), ("b", 1), ("empty", 0), ("sub/c", 5000), ("sub/d", 200)):
        with open(os.path.join(top, name), "wb") as f:
            f.write(rng.randbytes(size))
    with open(os.path.join(top, "sparse"), "wb") as f:
        f.seek(1 << 16)
        f.write(rng.randbytes(100))
        f.truncate(1 << 18)
    os.symlink("a", os.path.join(top, "link"))
    with contextlib.suppress(OSError):  # tmpfs has none of these before Linux 6.6
        os.setxattr(os.path.join(top, "b"), "user.note", b"kept")
    # Times are in the archive: with these it is the same in each run.
    for at, _, names in os.walk(top, topdown=False):
        for name in names:
            os.utime(os.path.join(at, name), (1e9, 1e9), follow_symlinks=False)
        os.utime(at, (1e9, 1e9))


def make_source(box, workload):
    os.makedirs(box.path("src"))
    if workload.kind == "sqlite":
        make_database(box, workload.journal)
    else:
        make_tree(box)


# ---- what there is before ----


def one_backup(box):
    if not box.start():
        raise Violation("the daemon does not start: " + box.log_text().decode())
    job, = box.trigger("app")
    while box.word("jobs", job, "status") in ("pending", "running"):
        pass
    if box.word("jobs", job, "status") != "succeeded":
        raise Violation("a clean backup fails: " + box.word("jobs", job, "error"))
    box.end()


def nothing(_box):
    """Neither state nor repo: a first start, a first backup."""


def backed_up(box):
    one_backup(box)


def without_state(box):
    one_backup(box)
    one_backup(box)
    shutil.rmtree(box.path("state"))


def killed_at(point, box, begin=lambda box: box.trigger("app")):
    """A second backup, or what else is begun, whose daemon was killed."""
    one_backup(box)
    box.new_ledger(armed=True)
    box.start(shimmed=True, point=point)
    with contextlib.suppress(OSError):  # it may die before the answer is read
        begin(box)
    box.daemon.wait(PATIENCE)
    box.clear()


def half_written(box):
    killed_at("renameat2 repo/ULID#1=kill-before", box)


def without_row(box):
    killed_at("renameat2 repo/ULID#1=kill-after", box)


def twice_backed_up(box):
    one_backup(box)
    one_backup(box)


def half_deleted(point, box):
    """Of two records one is on its way out."""
    one_backup(box)
    killed_at(point, box, lambda box: box.remove(box.ids("records")[0]))


deleting = functools.partial(half_deleted, "unlinkat repo/ULID/manifest.yaml#1=kill-before")
deleting_without_manifest = functools.partial(half_deleted,
                                              "unlinkat repo/ULID/manifest.yaml#1=kill-after")


def grown_old(box):
    """Of two jobs the first is older than job_history; the second is the repo's newest success."""
    twice_backed_up(box)
    box.alter_catalog("UPDATE jobs SET finished_at = finished_at - 40 * 86400000"
                      " WHERE id = (SELECT min(id) FROM jobs)")


def behind_schedule(box):
    """Its schedule has missed years."""
    one_backup(box)
    box.alter_catalog("UPDATE ticks SET handled = handled - 3 * 366 * 86400000")


# ---- what is done ----


def idle(_run):
    """Starting and stopping is all."""


def backup(run):
    run.await_end(run.trigger())


def cancel_held(run, refused=lambda: None):
    """The backup is held in the middle of a call, until the cancel has been answered."""
    job = run.trigger()
    if run.await_held(job) and not run.cancel(job):
        refused()
    run.release()
    run.await_end(job)


def cancel_waiting(run):
    """The database is locked, the backup waits for it, the cancel ends the wait; if the cancel is
    refused, the end of the lock does."""
    db = sqlite3.connect(run.box.path("src", "app.db"), isolation_level=None)
    try:
        db.execute("BEGIN EXCLUSIVE")
        cancel_held(run, refused=lambda: db.execute("ROLLBACK"))
    finally:
        db.close()


def stop_held(run):
    """SIGTERM in the middle of a backup."""
    job = run.trigger()
    if run.await_held(job):
        run.terminate()
    run.release()


# What the daemon logs when a deletion is over for now, one way or another.
REMOVED = (b": its archive is removed", b"not removed yet", b"is not known: ", b": retention: ",
           b" is not deleted: ")
PRUNED = (b" and were removed", b"old jobs are not removed")


def delete(run):
    """rmdir of the older of two records, until its archive is gone."""
    for record in run.ids("records")[:1]:
        if run.remove(record):
            run.await_log(REMOVED)


def retain(run):
    """With the backup the record before it is one too many."""
    run.await_end(run.trigger())
    if "succeeded" in run.seen.values():
        run.await_log(REMOVED)


def end_deletion(run):
    run.await_log(REMOVED)


def prune(run):
    run.await_log(PRUNED)


def catch_up(run):
    """A start that is owed."""
    if run.await_log((b" asked for by schedule", b"is tried again", b"schedule begins now")):
        run.await_end(run.scheduled())


RELOADED = ("compression = none", "schedule = @yearly", "keep_count = 7")


def reload(run):
    """Three keys change, and all of them or none do."""
    run.reload(RELOADED)


def read_payload(run):
    """All of it, then a part."""
    for record in run.ids("records"):
        run.read_content(record)
        run.read_content(record, 7, 5000)


def read_records(run):
    for record in run.ids("records"):
        for name in ("manifest.yaml", "payload.bin", "size_bytes", "sha256", "created_at", "store"):
            run.look("records", record, name)
    for job in run.ids("jobs"):
        for name in ("status", "stats", "log", "job.json", "error"):
            run.look("jobs", job, name)


def wait_for(run, job, said):
    """Parked in the mount for as long as the job runs, so not timed like other reading."""
    try:
        with open(os.path.join(run.box.mnt, "jobs", job, "wait"), "rb", buffering=0) as f:
            said.append(f.readall().decode().strip())
    except OSError as failure:
        run.excuse(f"wait of {job}", failure)


def watch(run):
    """Somebody waits for a backup; then what people and monitoring look at."""
    job, said = run.trigger(), []
    reader = threading.Thread(target=wait_for, args=(run, job, said), daemon=True)
    if job:
        reader.start()
    run.await_end(job)
    if job in run.seen:
        reader.join(PATIENCE)
        if reader.is_alive():
            run.violate(f"wait of {job} does not end")
        elif said and said[0] != run.seen[job]:
            run.violate(f"wait of {job} says {said}, and it is {run.seen[job]}")
    for path in ("status", "metrics", "stores/app/why", "stores/app/repos/main/retention"):
        run.look(path)
    for record in run.ids("records/by-store/app"):
        run.look("records", record, "record.json")


def verify(run):
    run.command("verify")


def extract(run):
    run.command("extract")


def check(run):
    run.command_on_all("check")


def fsck(run):
    run.command_on_all("fsck")


def fsck_deep(run):
    run.command_on_all("fsck", "--deep")


# ---- the table ----


@dataclass(frozen=True)
class Workload:
    name: str
    kind: str
    act: Callable
    repo: Sequence[str] = ()  # lines of [repo]; KEY stands for the key's reference
    store: Sequence[str] = ()
    journal: str = "DELETE"
    prepare: Callable = backed_up
    ends: Sequence[str] = ("succeeded",)  # states of the job when nothing fails
    armed: str = "work"  # or "start": from the first call of the daemon on
    hold: str = ""  # a call that waits for act
    background: bool = False
    daemon: bool = True  # False: a command, the shim is in it
    checked: bool = True  # what is read has a checksum of its own
    keeps: int = 0  # keep_count of its repo; 0 keeps all
    owed: int = 0  # backups that the schedule has made, at the end


RAW, ZSTD = ("compression = none",), ("compression = zstd:3",)
SEALED = ("compression = zstd:3", "encryption_key = KEY")
V1 = ("format = v1", "encryption_key = KEY")
IDS = ("payload_ids = SELECT id FROM t WHERE id % 7 = 0",)
VERIFY = "verify_after_write = yes"
# What is read past a fault may have another size: that alone would stop retention.
KEEP_ONE = ("keep_count = 1", "suspect_ratio = 0")
CATCH_UP = ("schedule = @yearly", "jitter = 0", "catch_up = yes")

sqlite = functools.partial(Workload, kind="sqlite")
directory = functools.partial(Workload, kind="directory")

WORKLOADS = {w.name: w for w in (
    sqlite("sqlite-raw", act=backup, repo=RAW),
    sqlite("sqlite-wal-zstd", act=backup, repo=ZSTD, journal="WAL"),
    sqlite("sqlite-encrypted-ids", act=backup, repo=SEALED, store=IDS),
    sqlite("sqlite-v1", act=backup, repo=V1, store=IDS),
    sqlite("sqlite-verify", act=backup, repo=(*SEALED, VERIFY), journal="WAL"),
    directory("directory-raw", act=backup, repo=RAW),
    directory("directory-zstd", act=backup, repo=ZSTD),
    directory("directory-encrypted", act=backup, repo=SEALED),
    directory("directory-raw-verify", act=backup, repo=(*RAW, VERIFY)),
    directory("first-backup", act=backup, repo=ZSTD, prepare=nothing),
    directory("first-start", act=idle, prepare=nothing, armed="start"),
    directory("background", act=idle, repo=SEALED, armed="start", background=True),
    sqlite("cancel-waiting", act=cancel_waiting, ends=("interrupted",),
           hold="fcntl-lock source/app.db#2"),
    directory("cancel-reading", act=cancel_held, repo=RAW, ends=("interrupted",),
              hold="pread source/tree/a#1"),
    directory("cancel-writing", act=cancel_held, repo=SEALED, ends=("interrupted",),
              hold="fsync repo/ULID.tmp/payload.bin#1"),
    directory("stop", act=stop_held, repo=ZSTD, ends=("succeeded", "interrupted"),
              hold="pread source/tree/a#1"),
    directory("start", act=idle, repo=SEALED, armed="start"),
    directory("start-adopting", act=idle, repo=SEALED, armed="start", prepare=without_state),
    sqlite("start-after-kill-half", act=idle, armed="start", prepare=half_written),
    sqlite("start-after-kill-whole", act=idle, repo=SEALED, armed="start", prepare=without_row),
    directory("read-raw", act=read_payload, repo=RAW, checked=False),
    sqlite("read-encrypted", act=read_payload, repo=SEALED),
    directory("read-v1", act=read_payload, repo=V1),
    sqlite("read-records", act=read_records, repo=SEALED),
    sqlite("watch", act=watch, repo=(*RAW, "expect_every = 1d")),
    sqlite("verify-encrypted", act=verify, repo=SEALED, store=IDS, daemon=False, armed="start"),
    directory("verify-raw", act=verify, repo=RAW, daemon=False, armed="start"),
    directory("extract-encrypted", act=extract, repo=SEALED, daemon=False, armed="start"),
    sqlite("extract-v1", act=extract, repo=V1, daemon=False, armed="start"),
    sqlite("check", act=check, repo=SEALED, store=IDS, daemon=False, armed="start"),
    sqlite("fsck", act=fsck, repo=SEALED, store=IDS, daemon=False, armed="start"),
    directory("fsck-deep", act=fsck_deep, repo=ZSTD, daemon=False, armed="start"),
    sqlite("delete", act=delete, repo=SEALED, store=IDS, prepare=twice_backed_up),
    directory("delete-start", act=end_deletion, repo=RAW, prepare=deleting, armed="start"),
    sqlite("delete-start-half", act=end_deletion, repo=SEALED, store=IDS, armed="start",
           prepare=deleting_without_manifest),
    directory("retention", act=retain, repo=(*RAW, *KEEP_ONE), keeps=1),
    sqlite("prune", act=prune, repo=ZSTD, prepare=grown_old, armed="start"),
    directory("reload", act=reload, repo=ZSTD),
    directory("scheduled", act=catch_up, repo=(*RAW, *CATCH_UP), prepare=behind_schedule,
              armed="start", owed=1),
)}
