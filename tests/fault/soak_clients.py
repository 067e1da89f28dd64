# SPDX-License-Identifier: MIT
"""soak_clients.py - what people and scripts do with a mount, a row each: for soak.py."""
import collections
import errno
import os
import sqlite3
import time

import rig
from rig import FINAL
from soak_bench import KEEPS, REPOS, SOURCES

REPAIRABLE = 70  # how fsck ends when the next start puts right what it found
PINNED, LEFT = 12, 10  # records that are pinned at most, and that thinning out leaves
MALFORMED = (("nosuch", errno.ENOENT), ("bank/nosuch", errno.ENOENT), ("", errno.EINVAL),
             ("bank key=k", errno.EINVAL), ("docs/near label=", errno.EINVAL),
             ("docs/near colour=red", errno.EINVAL), ("x" * 1100, errno.E2BIG))


def trigger(soak, rng):
    target = rng.choice([*SOURCES, *REPOS])
    soak.ask(target, shell=rng.random() < 0.3)


def trigger_with_key(soak, rng):
    """Every key is tried several times, by whoever draws it: at once, or much later."""
    key = f"k{rng.randrange(max(0, len(soak.model.keys) - 5), len(soak.model.keys) + 2)}"
    line = soak.ask(rng.choice(list(REPOS)), key, shell=rng.random() < 0.3)
    job = soak.model.keys.get(key)
    if line.answer in ("accepted", "EEXIST") and job:
        named = os.path.basename(os.readlink(soak.mount / "jobs/by-key" / key))
        soak.book.check("keys", named == job.ulid, f"by-key/{key} is {named}, not {job.ulid}")


def trigger_held(soak, rng):
    """While somebody has the database to himself its job cannot end, unless it is cancelled."""
    with soak.sources["ledger"].held():
        soak.ask("ledger/raw")
        soak.ask(rng.choice(["ledger", "ledger/raw"]))


def trigger_malformed(soak, rng):
    text, expected = rng.choice(MALFORMED)
    fd, got = os.open(soak.mount / "ctl", os.O_WRONLY), 0
    try:
        os.write(fd, text.encode() + b"\n")
    except OSError as e:
        if e.errno != expected and soak.ending:
            raise
        got = e.errno
    finally:
        os.close(fd)
    soak.book.check("refusals", got == expected, f"'{text[:40]}' gives {errno.errorcode.get(got)}")


def trigger_and_cancel(soak, rng):
    """At any moment of the job: after so many looks."""
    line = soak.ask(rng.choice(["bank", "tree", "docs/near", "ledger"]))
    for job in rng.sample(line.jobs, len(line.jobs)):
        for _ in range(rng.randrange(6)):
            soak.look_at(job)
        soak.cancel(job)


def cancel(soak, rng):
    job = soak.model.pick_job(rng, rng.random() < 0.9)
    if job:
        soak.cancel(job)


def watch(soak, rng):
    job = soak.model.pick_job(rng, rng.random() < 0.8)
    if job:
        soak.look_at(job)


def list_all(soak, rng):
    with soak.model.lock:
        jobs, records = set(soak.model.jobs), soak.model.listed()
    soak.book.all_well("jobs", sorted(jobs - set(os.listdir(soak.mount / "jobs"))), "not listed: ")
    deleted, listed = soak.model.deleted(), set(soak.daemon.records())
    for ulid in records - listed:
        soak.is_missed(soak.model.records[ulid])
    soak.book.all_well("deleted", sorted(deleted & listed), "listed again: ")


def list_active(soak, rng):
    with soak.model.lock:
        ended = {j.ulid for j in soak.model.jobs.values() if j.state in FINAL}
    soak.book.all_well("final", sorted(ended & set(os.listdir(soak.mount / "jobs/active"))),
                       "active again: ")


def glance(soak, rng):
    """What a monitoring script does every minute; also how long the mount takes to answer."""
    begin = time.monotonic()
    for name in ("README", "ctl", "last_error"):
        (soak.mount / name).read_text()
    for store in os.listdir(soak.mount / "stores"):
        (soak.mount / "stores" / store / "state").read_text()
    took = time.monotonic() - begin
    soak.longest = max(soak.longest, took)
    soak.book.check("answers", took < rig.PATIENCE, f"the mount took {took:.0f} s to answer")


def read_record(soak, rng):
    record = soak.model.pick_record(rng)
    if record:
        soak.use(record, soak.look_at_record)


def hash_stored(soak, rng):
    def look(record):
        path = soak.mount / "records" / record.ulid / "payload.bin"
        got = rig.run("sha256sum", path).split()[0]
        soak.book.check("records", got == record.sha256, f"payload.bin of {record.ulid} is {got}")

    record = soak.model.pick_record(rng)
    if record:
        soak.use(record, look)


def restore(soak, rng):
    record = soak.model.pick_record(rng)
    if record:
        soak.restore(record)


def query(soak, rng):
    """A database is looked into where it is."""
    record = soak.model.pick_record(rng)
    if record and isinstance(soak.sources[record.repo.split("/")[0]], rig.ChangingDatabase):
        source = soak.sources[record.repo.split("/")[0]]
        payload = soak.mount / "records" / record.ulid / "payload"
        try:
            faults = source.faults_of(payload, record.since, record.until)
        except sqlite3.Error:
            if soak.ending or not soak.is_missed(record):
                raise
            return
        soak.book.all_well("content", faults, f"record {record.ulid} of {record.repo}, in place: ")


def verify(soak, rng):
    record = soak.model.pick_record(rng)
    if record:
        soak.verify(record)


def pin(soak, rng):
    record = soak.model.pick_record(rng)
    with soak.model.lock:
        few = sum(r.pinned is True for r in soak.model.records.values()) < PINNED
    if record:
        soak.use(record, lambda r: soak.pin(r, few and rng.random() < 0.7))


def unpin(soak, rng):
    with soak.model.lock:
        pinned = [r for r in soak.model.records.values() if r.pinned and not (r.gone or r.may_go)]
    for record in rng.sample(pinned, min(len(pinned), max(1, len(pinned) - PINNED))):
        soak.use(record, lambda r: soak.pin(r, False))


def delete(soak, rng):
    """Any, also a pinned one; sometimes two clients the same one."""
    record = soak.model.pick_record(rng)
    if record:
        soak.delete(record, by_rm=rng.random() < 0.4)


def thin_out(soak, rng):
    """Of a repo that keeps all, somebody deletes the older ones."""
    repo = rng.choice([name for name in REPOS if name not in KEEPS])
    with soak.model.lock:
        there = sorted(r.ulid for r in soak.model.records.values()
                       if r.repo == repo and not (r.gone or r.may_go or r.pinned))
    for ulid in there[:-LEFT]:
        soak.delete(soak.model.records[ulid], by_rm=rng.random() < 0.4)


def reload(soak, rng):
    soak.reload(by_signal=rng.random() < 0.5, refused=rng.random() < 0.3)


def fsck(soak, rng):
    done = soak.command("fsck", soak.config)
    allowed = (0, REPAIRABLE) if soak.ending else (0,)
    soak.book.check("fsck", done.returncode in allowed,
                    f"beside a daemon: status {done.returncode}: {done.stdout[:600]}")


Operation = collections.namedtuple("Operation", "weight run")
OPERATIONS = {
    "trigger": Operation(20, trigger),
    "trigger with a key": Operation(8, trigger_with_key),
    "trigger, held": Operation(2, trigger_held),
    "trigger, malformed": Operation(2, trigger_malformed),
    "trigger and cancel": Operation(5, trigger_and_cancel),
    "cancel": Operation(4, cancel),
    "watch": Operation(20, watch),
    "list": Operation(3, list_all),
    "list active": Operation(3, list_active),
    "glance": Operation(6, glance),
    "read a record": Operation(4, read_record),
    "hash what is stored": Operation(3, hash_stored),
    "restore": Operation(5, restore),
    "query in place": Operation(2, query),
    "verify": Operation(2, verify),
    "pin": Operation(3, pin),
    "unpin": Operation(2, unpin),
    "delete": Operation(3, delete),
    "thin out": Operation(3, thin_out),
    "reload": Operation(2, reload),
    "fsck": Operation(1, fsck),
}


def perform(soak, name, rng):
    """One operation. What fails while the daemon's life is being ended is cut off, not wrong."""
    try:
        OPERATIONS[name].run(soak, rng)
        soak.done[name] += 1
    except (OSError, RuntimeError, ValueError, sqlite3.Error) as e:
        if soak.ending:
            soak.done["cut off"] += 1
        else:
            soak.book.check("answers", False, f"{name}: {e!r}")


def client(soak, rng):
    names, weights = list(OPERATIONS), [o.weight for o in OPERATIONS.values()]
    while soak.gate.enter():
        begin = time.monotonic()
        try:
            perform(soak, rng.choices(names, weights)[0], rng)
        finally:
            soak.gate.leave()
        soak.gate.rest(min(time.monotonic() - begin, 1) + rng.uniform(0, 0.15))


def change_sources(soak, rng):
    while not soak.gate.over:
        rng.choice(list(soak.sources.values())).step(rng)
        soak.gate.rest(rng.uniform(0, 0.02))
