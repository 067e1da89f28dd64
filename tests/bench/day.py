#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""day.py [--stores N] [--speed N] [--hours N] [--jobs N] - a day of a daemon with much to start, in
a time that goes faster.

Each store is a small directory with a schedule of every minute, its jitter within the minute. The
daemon alone lives in the time of libfaketime; what it says of its jobs is judged afterwards: every
tick is one job, none is missed and none is there twice, no store's jobs overlap, and all succeeded.
Prints that and how late the starts were; exit status 1 if something is wrong. A machine that stands
still for a minute of that time, a second at a speed of 60, makes the daemon miss ticks by design.

KEEPFS is the binary. A day takes 24 minutes at a speed of 60.
"""
import argparse
import glob
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter

from lab import Mount, percentile

MINUTE = 60_000
BEGIN = "@2026-06-01 00:00:30"
POLICY = ["schedule = * * * * *", "jitter = 60", "keep_count = 2", "compression = none"]


def make_stores(base, count):
    for i in range(count):
        path = os.path.join(base, "src", f"s{i}")
        os.makedirs(path)
        with open(os.path.join(path, "file"), "w") as f:
            f.write(f"{i}\n" * 100)
        yield f"s{i}", "directory", path


def jitter_of(mount, store):
    """ms behind the minute, by the next start that the mount tells."""
    said = mount.read(f"stores/{store}/next_run")
    return int(float(said[17:23]) * 1000)


def jobs_of(state):
    """{store: [(created, started, finished, state)]} of the schedule's jobs."""
    db = sqlite3.connect(os.path.join(state, "catalog.sqlite"))
    found = {}
    for store, *job in db.execute(
            "SELECT store, created_at, started_at, finished_at, state FROM jobs"
            " WHERE requested_by = 'schedule' ORDER BY id"):
        found.setdefault(store, []).append(job)
    db.close()
    return found


def judge(store, jobs, jitter, first, last, late, faults):
    """One store: each minute from the first tick to the last has one job."""
    ticks, ended = Counter(), 0
    for created, started, finished, state in jobs:
        tick = (created - jitter) // MINUTE
        late.append(created - jitter - tick * MINUTE)
        ticks[tick] += 1
        faults["not succeeded"] += state != "succeeded"
        faults["overlapping"] += started is not None and started < ended
        ended = finished
    wanted = range(first, last)
    absent = [t * MINUTE + jitter for t in wanted if not ticks[t]]
    busy = sum(any(created <= fire <= (finished or fire) for created, _, finished, _ in jobs)
               for fire in absent)
    faults["dropped while busy"] += busy
    faults["missed"] += len(absent) - busy
    faults["twice"] += sum(n - 1 for n in ticks.values() if n > 1)


def live(mount, seconds):
    """Lets it run; then the daemon is told to end, and what it was in the middle of is cut off."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        time.sleep(min(10, begin + seconds - time.monotonic()))
    return mount.cpu(), mount.rss()


def report(args, jobs, jitters, cpu, rss, seconds):
    late, faults = [], Counter()
    everything = [j for of in jobs.values() for j in of]
    first = min(j[0] for j in everything) // MINUTE + 1
    # What the stop came upon is not judged.
    last = max(j[0] for j in everything) // MINUTE - 1
    for store, jitter in jitters.items():
        whole = [j for j in jobs.get(store, []) if first <= (j[0] - jitter) // MINUTE < last]
        judge(store, whole, jitter, first, last, late, faults)
    print(f"day: {args.stores} stores, a start a minute each, time x{args.speed}: {last - first} "
          f"minutes ({(last - first) / 14.4:.1f} % of a day) in {seconds:.0f} s, {len(late)} jobs judged")
    print("day: " + ", ".join(f"{faults[name]} {name}" for name in
                              ("missed", "dropped while busy", "twice", "overlapping",
                               "not succeeded")))
    real = [l / args.speed for l in late]
    print(f"day: late in real time: p50 {percentile(real, .5):.0f} ms, p99 {percentile(real, .99):.0f} "
          f"ms, max {max(real):.0f} ms; CPU {1000 * cpu / len(everything):.1f} ms a job, "
          f"RSS {rss / 1e6:.1f} MB at the end")
    return sum(faults.values()) or not late


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--stores", type=int, default=200)
    p.add_argument("--speed", type=int, default=60)
    p.add_argument("--hours", type=float, default=24)
    p.add_argument("--jobs", type=int, default=4, help="max_jobs")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not library:
        sys.exit("libfaketime is not installed")
    base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
    environ = {"LD_PRELOAD": library[0], "FAKETIME": f"{BEGIN} x{args.speed}", "TZ": "UTC",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    seconds = args.hours * 3600 / args.speed
    try:
        stores = list(make_stores(base, args.stores))
        with Mount(base, stores, {"main": POLICY}, [f"max_jobs = {args.jobs}"], environ) as mount:
            jitters = {name: jitter_of(mount, name) for name, _, _ in stores}
            cpu, rss = live(mount, seconds)
            mount.stop()
            wrong = report(args, jobs_of(f"{mount.dir}/state"), jitters, cpu, rss, seconds)
            mount.stop = lambda: None
    finally:
        shutil.rmtree(base)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
