#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""parked.py - two thousand readers parked in wait and events: whom do they hold up, and for how long?

KEEPFS is the binary, PARKED the helper built from cases/parked.c; PARKED_READERS another number of readers.
Prints figures; what they should be is said beside them.
"""
import contextlib
import datetime
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cases"))
from lab import Mount, percentile  # noqa: E402
from parking import await_parked  # noqa: E402

PARKED = os.environ["PARKED"]
READERS = int(os.environ.get("PARKED_READERS", "2000"))


@contextlib.contextmanager
def held(m, database):
    """A running job that goes on when the block is left."""
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        job = m.trigger("app")
        while m.read(f"jobs/{job}/status") != "running":
            time.sleep(0.01)
        yield job
    finally:
        db.close()


def crowd(m, job):
    p = subprocess.Popen([PARKED, str(READERS), f"{m.mnt}/jobs/{job}/wait", f"{m.mnt}/events"],
                         stdout=subprocess.PIPE, text=True)
    await_parked(p.pid, READERS)
    return p


def ms_of(line):
    """Since the epoch, of a line of events."""
    return datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp() * 1e3


def figures(what, seconds, wanted):
    print(f"{what}: p50 {percentile(seconds, .5) * 1e3:.1f} ms, p99 {percentile(seconds, .99) * 1e3:.1f}"
          f" ms, worst {max(seconds) * 1e3:.1f} ms; p99 wanted {wanted} ms")


def times(count, fn):
    taken = []
    for _ in range(count):
        begin = time.monotonic()
        fn()
        taken.append(time.monotonic() - begin)
    return taken


def kill_latency(path, signum):
    p = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
    await_parked(p.pid, 1)
    begin = time.monotonic()
    p.send_signal(signum)
    p.wait()
    return time.monotonic() - begin


def look(m, job):
    def status():
        with open(f"{m.mnt}/jobs/{job}/status") as f:
            assert f.read() == "running\n"

    figures("listing of a job's directory", times(1000, lambda: os.listdir(f"{m.mnt}/jobs/{job}")), 100)
    figures("reading its status", times(1000, status), 100)
    for signum in signal.SIGINT, signal.SIGKILL:
        taken = [kill_latency(f"{m.mnt}/{path}", signum)
                 for path in [f"jobs/{job}/wait", "events"] for _ in range(20)]
        figures(f"{signum.name} of a parked reader", taken, 100)


def wake(m, database):
    """How long after the commit of the job's end the last reader had it."""
    with open(f"{m.mnt}/events") as events:
        with held(m, database) as job:
            p = crowd(m, job)
        last, *got = p.communicate()[0].splitlines()
        end = next(line for line in events if " running succeeded" in line)
    print(f"{READERS} readers ({', '.join(got)}) awake {int(last.split()[1]) - ms_of(end):.0f} ms after "
          "the job's end; wanted 100 ms")


def main():
    with tempfile.TemporaryDirectory(prefix="keepfs-bench.") as base:
        database = os.path.join(base, "app.db")
        db = sqlite3.connect(database)
        db.execute("CREATE TABLE t (a)")
        db.close()
        with Mount(base, [("app", "sqlite", database)]) as m:
            print(f"{READERS} readers, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
            with held(m, database) as job:
                p = crowd(m, job)
                look(m, job)
                p.kill()
                p.wait()
            m.wait(job, 0.01)
            for _ in range(3):
                wake(m, database)
            with held(m, database) as job:
                p = crowd(m, job)
                begin = time.monotonic()
                m.stop()
                print(f"SIGTERM with all of them parked: {time.monotonic() - begin:.2f} s; wanted 2 s")
                p.communicate()
                assert m.mnt not in open("/proc/mounts").read()
            m.start()


main()
