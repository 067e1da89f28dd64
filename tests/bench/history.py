#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""history.py [--jobs N] [--records N] [--quiet SECONDS] - a daemon with a long history beside one
with none.

Of both: how long the start takes, memory, how long a trigger takes (the write to ctl, which is
answered when the job is on disk), and what an idle daemon with a schedule costs. Then a large one
with a job_history of a day: it prunes as it starts, and how long a trigger has to wait meanwhile is
the longest block. The catalogs are made by tests/big_catalog.py; their archives are not there, and
no repo is looked into for them, since none was used when the daemon starts.

KEEPFS is the binary. Figures of this machine and its disk; nothing is judged.
"""
import argparse
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

from lab import Mount, percentile

STORES = 10
TRIGGERS = 300
MAKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../big_catalog.py")
NIGHTLY = {"main": ["compression = none", "schedule = 0 3 * * *"]}


def make_source(base):
    path = os.path.join(base, "src")
    os.makedirs(path)
    for i in range(STORES):
        os.makedirs(f"{path}/app{i}")
        with open(f"{path}/app{i}/file", "w") as f:
            f.write("x" * 1000)
    return [(f"app{i}", "directory", f"{path}/app{i}") for i in range(STORES)]


def start(mount, what):
    begin = time.monotonic()
    mount.start()
    took = time.monotonic() - begin
    print(f"{what}: start {1000 * took:.0f} ms, RSS {mount.rss() / 1e6:.1f} MB", flush=True)


def triggers(mount, what, until):
    """One after another, each when the job before has ended; so often, or until it is enough."""
    times = []
    while not until(len(times)):
        begin = time.monotonic()
        job = mount.trigger(f"app{len(times) % STORES}/main")
        times.append(1000 * (time.monotonic() - begin))
        mount.wait(job)
    print(f"{what}: trigger, n {len(times)}: p50 {percentile(times, .5):.2f} ms, "
          f"p99 {percentile(times, .99):.2f} ms, max {max(times):.2f} ms; "
          f"RSS {mount.rss() / 1e6:.1f} MB", flush=True)


def idle(mount, what, seconds):
    cpu, wakeups = mount.cpu(), mount.wakeups()
    time.sleep(seconds)
    print(f"{what}: idle for {seconds} s: CPU {1000 * (mount.cpu() - cpu):.0f} ms, "
          f"{mount.wakeups() - wakeups} wake-ups", flush=True)


def large(base, stores, args, history):
    """A mount, not started, over a catalog of its own."""
    mount = Mount(base, stores, NIGHTLY, [f"job_history = {history}"])
    os.mkdir(f"{mount.dir}/state", 0o700)
    subprocess.run([sys.executable, MAKER, f"{mount.dir}/state/catalog.sqlite", "--jobs",
                    str(args.jobs), "--records", str(args.records), "--stores", str(STORES)],
                   check=True)
    return mount


def measure(mount, what, seconds):
    start(mount, what)
    triggers(mount, what, lambda n: n == TRIGGERS)
    time.sleep(5)  # until what was begun has ended
    idle(mount, what, seconds)
    mount.stop()


def prune(mount, what):
    """Until the youngest job that is old enough, and no success, has gone."""
    path = f"{mount.dir}/state/catalog.sqlite"
    before = int(time.time() - 2 * 86400) * 1000
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
    count, last = db.execute("SELECT count(*), max(id) FROM jobs WHERE finished_at < ?"
                             " AND state = 'failed'", (before,)).fetchone()
    rows = db.execute("SELECT count(*) FROM jobs").fetchone()[0]
    assert count, "nothing is old enough"
    begin = time.monotonic()
    start(mount, what)
    triggers(mount, what, lambda n: n > TRIGGERS and
             not db.execute("SELECT 1 FROM jobs WHERE id = ?", (last,)).fetchone())
    left = db.execute("SELECT count(*) FROM jobs").fetchone()[0]
    print(f"{what}: {rows} rows, then {left}, in {time.monotonic() - begin:.1f} s", flush=True)
    db.close()
    mount.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--jobs", type=int, default=1_000_000)
    p.add_argument("--records", type=int, default=100_000)
    p.add_argument("--quiet", type=int, default=30, help="seconds that it is watched doing nothing")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no daemon is left behind
    base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        stores = make_source(base)
        measure(Mount(base, stores, NIGHTLY), "empty", args.quiet)
        what = f"{args.jobs} jobs, {args.records} records"
        measure(large(base, stores, args, 36500), what, args.quiet)
        prune(large(base, stores, args, 1), f"{what}, pruning")
    finally:
        shutil.rmtree(base)


main()
