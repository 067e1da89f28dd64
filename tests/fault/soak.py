#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""soak.py [SECONDS] | --prove - everybody uses keepfs at once, and a model knows what must hold.

Four sources change all the time: a bank in WAL mode, one without, and two trees of files. They go
to seven repos: raw, compressed, sealed, format v1; three of them keep a few records, from the others
clients delete. Clients do what people and scripts do
(OPERATIONS in soak_clients.py); meanwhile the daemon is killed, stopped, unmounted and started
again, its catalog is deleted, or everybody pauses (ENDINGS). After each of these, and as it goes, what is seen is held
against what was promised (INVARIANTS in soak_model.py, one verdict each).

The model knows what every line written to ctl was answered, by a label of its own also when the
answer was lost; what was seen of every job and record; and what each source was at any moment, so
that a restored copy must be one of those between the writing of the line and the job's end. Of a
tree that holds file by file: a walk takes time, and is of no single moment.

The last third of the time, five minutes at most, is one life of the daemon, for memory and
descriptors that grow with time.

That this can fail is shown first: each of the LIES, told by a wrapper around keepfs, has to be
found out, and without a lie nothing may be found. --prove does only that.

KEEPFS is the binary; KEEPFS_SEED repeats a run's choices, though not how threads meet. Without
SECONDS it takes two minutes. Needs root.
"""
import collections
import concurrent.futures
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import rig
from rig import FINAL
from soak_bench import CHANGING, KEEPS, REPOS, SOURCES, Hang, Soak
from soak_clients import REPAIRABLE, change_sources, client, perform
from soak_model import INVARIANTS, SHOWN

CLIENTS = 5
SAMPLE = 40              # final jobs and records that are looked at again at each pause
LAST = 200               # records that are restored at the end
LAST_LIFE = 300          # seconds, at most


# ---- while nobody does anything ----

def judge_quiet(soak, fresh):
    """With the clients outside, and no job: right after a start, or when all have ended."""
    active = soak.mount / "jobs/active"
    if fresh:
        soak.book.all_well("jobs", os.listdir(active), "active after the start: ")
    rig.await_state(lambda: not os.listdir(active), "all jobs to end")
    await_agreement(soak)
    judge_jobs(soak)
    judge_records(soak, fresh)
    soak.book.all_well("archives", rig.disagreements(soak.daemon, soak.state, *soak.repos.values()))
    judge_process(soak)
    if soak.rng.random() < 0.3:
        soak.fsck()


def await_agreement(soak):
    """What is being deleted goes a little later than its record."""
    with contextlib.suppress(TimeoutError):
        rig.await_state(lambda: not rig.disagreements(soak.daemon, soak.state,
                                                      *soak.repos.values()), "", soak.patience)


def judge_jobs(soak):
    model, check = soak.model, soak.book.check
    names = [name for name in os.listdir(soak.mount / "jobs") if len(name) == 26]
    check("jobs", len(names) == len(set(names)), "a job is listed twice")
    for ulid in sorted(set(names) - set(model.jobs)):
        job = [soak.daemon.of_job(ulid, name) for name in ("label", "store", "repo")]
        line = model.lines.get(job[0])
        known = line and line.answer in ("asked", "written")
        if check("lines", known, f"job {ulid} is of nobody, or one too many of '{job[0]}'"):
            model.add_job(ulid, line, "/".join(job[1:]))
    resolve_lines(soak)
    soak.book.all_well("jobs", sorted(set(model.jobs) - set(names)), "lost: ")
    ended = [j for j in model.jobs.values() if j.state in FINAL]
    unseen = [j for j in model.jobs.values() if j.state not in FINAL
              or (j.state == "succeeded" and not j.record and not j.unseen)]
    for job in unseen + soak.rng.sample(ended, min(SAMPLE, len(ended))):
        if job.ulid in names:
            state = soak.look_at(job)
            check("jobs", state in FINAL, f"job {job.ulid} is {state}, and nothing runs")
    for line in list(model.open):
        model.settle(line, line.answer)


def resolve_lines(soak):
    """Lines whose answer was lost: all their jobs are there, or, if none was promised, none."""
    for line in [o for o in soak.model.open if o.answer in ("asked", "written")]:
        repos = sorted(job.repo for job in line.jobs)
        promised = line.answer == "written"
        soak.book.check("lines", repos == sorted(line.repos) or not (repos or promised),
                        f"'{line.text()}' was {line.answer} and has jobs for {repos}")
        soak.model.settle(line, "accepted" if line.jobs else "nothing")


def judge_records(soak, fresh):
    model = soak.model
    if fresh:
        judge_retention(soak)
    listed = set(soak.daemon.records())
    for ulid in sorted(listed - set(model.records)):
        job = None  # it may be adopted without one
        # A job that was killed behind its rename has the record; one that failed may.
        with contextlib.suppress(FileNotFoundError):
            job = os.path.basename(os.readlink(soak.mount / "records" / ulid / "job"))
        soak.learn(ulid, model.jobs.get(job))
    for record in list(model.records.values()):
        settle_record(soak, record, record.ulid in listed)
    known = sorted(model.listed() & set(soak.daemon.records()))
    for ulid in soak.rng.sample(known, min(SAMPLE, len(known))):
        soak.use(model.records[ulid], soak.look_at_record)
    soak.book.all_well("deleted", sorted(model.deleted() & listed), "listed again: ")


def settle_record(soak, record, listed):
    """What a client that was cut off did to it is known now."""
    if record.may_go and not record.gone:
        record.may_go, record.gone = False, not listed
    if record.gone or soak.is_missed(record):
        return
    said = (soak.mount / "records" / record.ulid / "pinned").read_text().strip() == "1"
    soak.book.check("pins", record.pinned in (None, said),
                    f"record {record.ulid} was {'' if record.pinned else 'not '}pinned, and that "
                    "has changed")
    record.pinned = said


def judge_retention(soak):
    """A start goes over all repos: what no policy keeps is gone soon."""
    def too_many():
        by_repo = collections.Counter()
        for ulid in soak.daemon.records():
            with contextlib.suppress(FileNotFoundError):
                of = {name: (soak.mount / "records" / ulid / name).read_text().strip()
                      for name in ("store", "repo", "pinned")}
                by_repo[f"{of['store']}/{of['repo']}"] += of["pinned"] == "0"
        limits = {**KEEPS, CHANGING: soak.keep}
        return [f"{name} has {by_repo[name]} records, and keeps {limit}"
                for name, limit in limits.items() if by_repo[name] > limit]

    with contextlib.suppress(TimeoutError):
        rig.await_state(lambda: not too_many(), "", soak.patience)
    soak.book.all_well("retention", too_many())
    await_agreement(soak)


def judge_process(soak):
    places = [*soak.repos.values(), soak.place / "src", soak.state / "staging", soak.state / "logs"]
    try:
        # Of what was closed the kernel tells the daemon a little later.
        rig.await_state(lambda: not soak.daemon.open_files(*places), "", soak.patience)
        left = []
    except TimeoutError:
        left = soak.daemon.open_files(*places)
        soak.patience = 2  # what has leaked once need not be waited for again
    soak.book.all_well("remains", left, "still open: ")
    soak.book.all_well("remains", soak.daemon.children(), "children: ")


def judge_ended(soak):
    reports = [p.read_text()[:3000] for p in soak.place.glob("sanitizer.*")]
    soak.book.all_well("sanitizer", reports)


# ---- how a life of the daemon ends: a row each ----


def end_life(soak, strike, busy=True):
    """Ends it by `strike`, which says whether jobs may have been cut short; starts the next. Mostly
    there is work to be cut short."""
    if busy and soak.rng.random() < 0.7:
        perform(soak, "trigger", soak.rng)
    soak.ending, log_from = True, soak.daemon.log.stat().st_size
    cut_short = strike()
    soak.gate.close()
    if cut_short:
        soak.model.forget_progress()
    with open(soak.daemon.log, "rb") as log:
        log.seek(log_from)
        cut_short = cut_short or b"in time" in log.read()
    judge_ended(soak)
    if soak.rng.random() < 0.3:
        soak.fsck(allowed=(REPAIRABLE,) if cut_short else (), deleting=True)
    try:
        soak.daemon.start()
    except (RuntimeError, TimeoutError) as e:
        soak.book.check("ends", False, f"keepfs does not start: {e}")
        raise Hang("without a daemon there is nothing to do") from None
    soak.book.check("ends", True, "")
    soak.ending, soak.life = False, soak.life + 1
    judge_quiet(soak, fresh=True)


def expect_end(soak):
    try:
        status = soak.daemon.process.wait(rig.PATIENCE)
    except subprocess.TimeoutExpired:
        status = "nothing"
        soak.daemon.kill()
    soak.book.check("ends", status == 0, f"told to end, keepfs gave {status}")
    soak.book.check("remains", not soak.daemon.is_mounted(), "the mount is left")
    return False


def kill(soak):
    """SIGKILL; half the time the next start finds the dead mount."""
    def strike():
        soak.daemon.kill(unmount=soak.rng.random() < 0.5)
        return True

    end_life(soak, strike)


def kill_behind_answer(soak):
    """What was answered is on disk: nothing is so late that it may be lost."""
    def strike():
        with contextlib.suppress(OSError):
            soak.ask(soak.rng.choice([*REPOS, *SOURCES]), then=soak.daemon.process.kill)
        soak.daemon.kill(unmount=False)
        return True

    end_life(soak, strike)


def kill_starts(soak):
    """And the starts that follow are killed at some moment, too."""
    def strike():
        soak.daemon.kill(unmount=False)
        for _ in range(soak.rng.randrange(1, 4)):
            soak.daemon.spawn()
            soak.gate.rest(soak.rng.uniform(0, 0.1))
            soak.daemon.kill(unmount=False)
        return True

    end_life(soak, strike)


def forget(soak):
    """With all deletions done, the catalog is deleted: the archives are all that there is."""
    soak.gate.close()
    judge_quiet(soak, fresh=False)

    def strike():
        soak.daemon.kill(unmount=soak.rng.random() < 0.5)
        for path in soak.state.glob("catalog.sqlite*"):
            path.unlink()
        soak.model.forget_jobs()
        return True

    end_life(soak, strike, busy=False)


def signalled(number):
    def end(soak):
        def strike():
            soak.daemon.process.send_signal(number)
            return expect_end(soak)
        end_life(soak, strike)
    return end


def unmount(soak):
    """From outside, with jobs running, and nobody's files open."""
    def strike():
        soak.gate.close()
        rig.run("umount", soak.mount)
        return expect_end(soak)
    end_life(soak, strike)


def pause(soak):
    """The daemon lives on; everybody waits until all jobs have ended."""
    soak.gate.close()
    judge_quiet(soak, fresh=False)
    soak.measured.append({"seconds": round(time.monotonic() - soak.began), **soak.daemon.figures()})


Ending = collections.namedtuple("Ending", "weight run")
ENDINGS = {
    "kill": Ending(6, kill),
    "kill behind an answer": Ending(3, kill_behind_answer),
    "kill, also of starts": Ending(2, kill_starts),
    "SIGTERM": Ending(3, signalled(signal.SIGTERM)),
    "SIGINT": Ending(1, signalled(signal.SIGINT)),
    "umount": Ending(1, unmount),
    "forget the catalog": Ending(2, forget),
    "pause": Ending(6, pause),
}


def live(soak, until, names):
    """Lives of the daemon, until that moment."""
    while time.monotonic() < until:
        soak.gate.open()
        soak.gate.rest(min(soak.rng.expovariate(1), max(until - time.monotonic(), 0.1)))
        name = soak.rng.choices(names, [ENDINGS[n].weight for n in names])[0]
        ENDINGS[name].run(soak)
        soak.done[name] += 1


def judge_everything(soak):
    """Once, at the end: every job and record, and each byte of every archive that is left."""
    pause(soak)
    for job in soak.model.jobs.values():
        soak.look_at(job)
    records = [soak.model.records[ulid] for ulid in sorted(soak.model.listed())]
    for record in records:
        soak.look_at_record(record)
    for record in soak.rng.sample(records, min(LAST, len(records))):
        soak.restore(record)
    soak.fsck("--deep")
    soak.daemon.process.terminate()
    expect_end(soak)
    judge_ended(soak)
    soak.fsck()


# What a daemon may have more at its end than early in its life. Memory with a sanitizer is mostly
# the sanitizer's.
SLACK = {"KiB": 64 << 10, "threads": 16, "descriptors": 16}


def judge_growth(soak):
    """Within the last life, from when its first third was over."""
    if len(soak.measured) < 3:
        return
    with open(rig.binary(), "rb") as program:
        sanitized = b"__asan_init" in program.read()
    early, late = soak.measured[len(soak.measured) // 3], soak.measured[-1]
    for what, slack in SLACK.items():
        slack *= 6 if sanitized and what == "KiB" else 1
        soak.book.check("growth", late[what] <= early[what] + slack,
                        f"{what}: {early[what]}, then {late[what]}")


def start_threads(soak):
    threads = [threading.Thread(target=target, daemon=True,
                                args=(soak, random.Random(f"{soak.rng.random()} {i}")))
               for i, target in enumerate([client] * CLIENTS + [change_sources])]
    for thread in threads:
        thread.start()
    return threads


def run(soak, seconds):
    soak.daemon.start()
    threads = start_threads(soak)
    end = soak.began + seconds
    try:
        live(soak, end - min(seconds / 3, LAST_LIFE), list(ENDINGS))
        soak.measured.clear()
        live(soak, end, ["pause"])
        soak.gate.end()
        for thread in threads:
            thread.join()
        judge_everything(soak)
        judge_growth(soak)
    except (Hang, OSError, RuntimeError, ValueError) as e:
        traceback.print_exc()
        soak.book.check("answers", False, f"given up: {e!r}")
        soak.daemon.kill()
    soak.closed = True


# ---- that it can fail ----

CATALOG = 'sqlite3 -cmd ".timeout 10000" "$STATE/catalog.sqlite"'
# The newest archive of a repo gets the content of the oldest, and everything agrees.
OLDER = f"""
        old=$(ls -d "$REPO"/{{0}}/0* | head -n 1) new=$(ls -d "$REPO"/{{0}}/0* | tail -n 1)
        cp "$old/payload.bin" "$new/payload.bin"
        sum=$(sha256sum "$new/payload.bin" | cut -d ' ' -f 1) size=$(stat -c %s "$new/payload.bin")
        content=$(sed -n 's/^content_bytes: //p' "$old/manifest.yaml")
        sed -i "s/^sha256: .*/sha256: $sum/; s/^size_bytes: .*/size_bytes: $size/
                s/^content_bytes: .*/content_bytes: $content/" "$new/manifest.yaml"
        {CATALOG} "UPDATE records SET sha256 = '$sum', size_bytes = $size,
            content_bytes = ${{{{content:-$size}}}} WHERE ulid = '${{{{new##*/}}}}'" """
LIES = {  # what it does: the invariant that finds it and a word of how, the command that lies, how
    "loses a job": ("jobs", "lost", "mount", f'{CATALOG} "DELETE FROM jobs WHERE id = 1"'),
    "makes two jobs of a line": ("lines", "one too many", "mount", f"""{CATALOG} "
        INSERT INTO jobs(ulid, kind, store, repo, state, requested_by, label, created_at,
                         finished_at, error_code)
        SELECT '01ARZ3NDEKTSV4RRFFQ69G5FAV', kind, store, repo, 'failed', requested_by, label,
               created_at, finished_at, 'internal' FROM jobs WHERE id = 2" """),
    "changes how a job ended": ("final", "was succeeded", "mount", f"""{CATALOG} "
        UPDATE jobs SET state = 'failed', error_code = 'internal' WHERE id = 2" """),
    "takes a job's record away": ("success", "has record None", "mount",
                                  f'{CATALOG} "UPDATE jobs SET record = NULL WHERE id = 2"'),
    "forgets a key": ("keys", "taken again", "mount", f'{CATALOG} "UPDATE jobs SET key = NULL"'),
    "loses a record": ("records", "lost", "mount",
                       'rm -r "$(ls -d "$REPO"/ledger-raw/0* | head -n 1)"'),
    "deletes what the policy keeps": ("retention", "lost", "mount",
                                      'rm -r "$(ls -d "$REPO"/docs-plain/0* | tail -n 1)"'),
    "deletes what is pinned": ("pins", "is gone", "mount",
                               'rm -r "$(ls -d "$REPO"/bank-sealed/0* | head -n 1)"'),
    "forgets a pin": ("pins", "has changed", "mount",
                      f'{CATALOG} "UPDATE records SET pinned = 0"'),
    "brings back what was deleted": ("deleted", "listed again", "mount",
                                     'cp -r "$STATE"/../deleted/0* "$REPO"/docs-near'),
    "hides an archive": ("archives", "is not listed", "verify",
                         f"""{CATALOG} "UPDATE records SET state = 'missing' WHERE id = 1" """),
    "alters an archive": ("content", "other bytes", "mount", """
        first=$(ls "$REPO"/ledger-raw/0*/payload.bin | head -n 1)
        printf X | dd of="$first" bs=1 seek=5000 conv=notrunc status=none"""),
    "gives an older database": ("content", "it is version", "mount", OLDER.format("ledger-raw")),
    "gives older files": ("content", "is of", "mount", OLDER.format("docs-plain")),
    "leaves a child": ("remains", "children", "mount", "sleep 1000 &"),
    "leaves a descriptor": ("remains", "still open", "mount", 'exec 9<"$REPO/ledger-raw"'),
    "leaves half an archive": ("archives", "left behind", "verify",
                               'mkdir -p "$REPO/ledger-raw/01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp"'),
    "leaves a staging file": ("archives", "left behind", "verify", 'touch "$STATE/staging/x"'),
    "ends with an error": ("ends", "gave 3", "mount",
                           '"$KEEPFS" "$@" & pid=$!; trap "kill $pid" TERM\n'
                           "wait $pid; wait $pid; exit 3"),
    "finds what is not there": ("fsck", "status 70", "fsck", "exit 70"),
    "finds an archive broken": ("verify", "status 71", "verify", "exit 71"),
    "has bad memory": ("sanitizer", "heap-use", "verify",
                       'echo heap-use-after-free >"$STATE/../sanitizer.1"'),
}


def wrap(place, command, script):
    """A keepfs that lies from the moment that a file `lie` is there."""
    program = place.with_name(place.name + ".sh")
    program.write_text(f'#!/bin/sh\nKEEPFS={rig.binary()} STATE={place}/state REPO={place}/repo\n'
                       f'if [ -e {place}/lie ] && [ "$1" = {command} ]; then\n{script}\nfi\n'
                       'exec "$KEEPFS" "$1" ${2:+"$2"} ${3:+"$3"} ${4:+"$4"}\n')
    program.chmod(0o755)
    return program


REHEARSED = ("ledger/raw", "bank/sealed", "docs/plain", "docs/near")


def pin_and_delete(soak):
    """One record is pinned, and another deleted whose archive is kept aside."""
    first = {}
    for ulid in sorted(soak.model.listed()):
        first.setdefault(soak.model.records[ulid].repo, soak.model.records[ulid])
    soak.pin(first["bank/sealed"], True)
    near = first["docs/near"]
    shutil.copytree(soak.repos["docs/near"] / near.ulid, soak.place / "deleted" / near.ulid)
    soak.delete(near, by_rm=False)
    rig.await_state(lambda: not (soak.repos["docs/near"] / near.ulid).exists(), "its archive's end")


def rehearse(place, rng, command="none", script=":"):
    """One life in which all goes well, and a second one with the lie; what was wrong."""
    soak = Soak(place, rng, wrap(place, command, script), quiet=True)
    soak.daemon.start()
    for number in (1, 2):
        for target in REHEARSED:
            for _ in range(3):
                soak.sources[target.split("/")[0]].step(rng)
            line = soak.ask(target, f"{target.replace('/', '-')}-{number}")
            for job in line.jobs:
                rig.await_state(lambda: soak.look_at(job) in FINAL, job.ulid)
    look_closely(soak)
    pin_and_delete(soak)
    (place / "lie").touch()
    try:
        signalled(signal.SIGTERM)(soak)
        look_closely(soak)
        soak.daemon.process.terminate()
        expect_end(soak)
        judge_ended(soak)
    except (Hang, OSError, RuntimeError) as e:
        soak.book.check("answers", False, repr(e))
        soak.daemon.kill()
    soak.closed = True
    return soak.book.faults


def look_closely(soak):
    for job in list(soak.model.jobs.values()):
        with contextlib.suppress(FileNotFoundError):
            soak.look_at(job)
    for ulid in sorted(soak.model.listed() & set(soak.daemon.records())):
        soak.restore(soak.model.records[ulid])
        soak.verify(soak.model.records[ulid])
    for key, job in list(soak.model.keys.items()):
        soak.ask(job.repo, key)
    judge_quiet(soak, fresh=False)
    soak.fsck()


def prove(place, seed, tally):
    place.mkdir()
    faults = rehearse(place / "honest", random.Random(seed))
    tally.check("self-check: an honest keepfs",
                [f"{name}: {text}" for name, texts in faults.items() for text in texts])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(
            lambda n, lie: rehearse(place / str(n), random.Random(f"{seed} {n}"), *lie[2:]),
            range(len(LIES)), LIES.values()))
    for (what, (invariant, word, *_)), faults in zip(LIES.items(), found):
        tally.check(f"self-check: a keepfs that {what}",
                    [] if any(word in text for text in faults[invariant])
                    else [f"it was not found out; but {dict(faults)}"])


def main():
    place = rig.isolate()
    arguments = sys.argv[1:]
    seed = int(os.environ.get("KEEPFS_SEED") or random.randrange(1 << 31))
    print(f"seed {seed}", flush=True)
    rng, tally = random.Random(seed), rig.Tally()
    prove(place / "proof", seed, tally)
    if arguments == ["--prove"]:
        return tally.end()
    soak = Soak(place / "soak", rng)
    run(soak, int(arguments[0]) if arguments else 120)
    report(soak)
    explain(soak)
    for invariant, sentence in INVARIANTS.items():
        faults = soak.book.faults[invariant]
        if len(faults) > SHOWN:
            faults[SHOWN:] = [f"and {len(faults) - SHOWN} more"]
        if soak.book.looks[invariant]:
            tally.check(sentence, faults)
        else:
            tally.skip(sentence, "nothing of it was seen")
    return tally.end()


def explain(soak):
    """What the daemon said of the jobs and records of the first faults."""
    told = " ".join(text for faults in soak.book.faults.values() for text in faults[:2])
    ids = re.findall(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b", told)[:8]
    lines = [line for line in soak.daemon.log.read_text(errors="replace").splitlines()
             if any(ulid in line for ulid in ids)]
    print("\n".join(lines[:40]), end="\n" if lines else "", flush=True)


def report(soak):
    outcomes = collections.Counter(job.state for job in soak.model.jobs.values())
    answers = collections.Counter(line.answer for line in soak.model.lines.values())
    for what, counts in (("operations", soak.done), ("lines", answers), ("jobs", outcomes),
                         ("looks", soak.book.looks)):
        print(f"{what}: " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    for figures in soak.measured[::max(1, len(soak.measured) // 6)]:
        print("in a pause: " + ", ".join(f"{n} {what}" for what, n in figures.items()))
    print(f"{time.monotonic() - soak.began:.0f} s; the longest glance took {soak.longest:.2f} s",
          flush=True)


if __name__ == "__main__":
    sys.exit(main())
