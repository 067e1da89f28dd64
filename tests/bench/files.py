#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""files.py [--seconds S] [--rounds N] - small files of keepfs beside those of a minimal libfuse
file system (minimal_fs.c), mounted side by side, turn by turn in one run.

  open+read+close   of a running job's status, against a constant that is read with direct_io
  the same          of a finished job's status, against a constant in the page cache
  stat              of a finished job's status, against the same and against a file of a tmpfs
  idle              processor time and wake-ups of a daemon that nobody asks anything

The path has as many volatile parts on both sides, so that the kernel asks as often. By one process,
and by several. Rates are medians of the rounds; the ratio is that of keepfs to the other one, of
each round, and its median. KEEPFS and MINIMAL_FS are the binaries.
"""
import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from lab import Mount

MINIMAL = os.environ["MINIMAL_FS"]
LIVE, FINAL = "01LIVE".ljust(26, "0"), "01FINAL".ljust(26, "0")  # as long as a job's name
PROCESSES = (1, 4)
IDLE = 10  # seconds
BATCH = 20  # between two looks at the clock


def cpu_of(pid):
    """Seconds of user and system time, in steps of 10 ms."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_read_close(path):
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)


def loop(call, path, seconds, start, counts):
    start.wait()
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(BATCH):
            call(path)
        count += BATCH
    counts.put(count / seconds)


def rate(call, path, processes, seconds):
    """Calls a second, by all of them."""
    start, counts = multiprocessing.Barrier(processes), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=loop, args=(call, path, seconds, start, counts))
               for _ in range(processes)]
    for w in workers:
        w.start()
    total = sum(counts.get() for _ in workers)
    for w in workers:
        w.join()
    return total


def measured(side, call, processes, seconds):
    """Calls a second, and microseconds of the daemon's processor time for each."""
    path, pid = side
    cpu = cpu_of(pid) if pid else 0
    calls = rate(call, path, processes, seconds)
    return calls, ((cpu_of(pid) if pid else 0) - cpu) / (calls * seconds) * 1e6


def compare(what, call, ours, theirs, args):
    """Two (path, pid of its daemon), turn by turn; which one begins changes."""
    for processes in PROCESSES:
        rounds = []
        for i in range(args.rounds):
            pair = {}
            for side in (ours, theirs) if i % 2 else (theirs, ours):
                pair[side] = measured(side, call, processes, args.seconds)
            rounds.append((pair[ours], pair[theirs]))
        (a, cpu_a), (b, cpu_b) = ([statistics.median(r[k][m] for r in rounds) for m in (0, 1)]
                                  for k in (0, 1))
        ratios = sorted(x[0] / y[0] for x, y in rounds)
        print(f"{what}, {processes} process{'es' if processes > 1 else ''}: "
              f"{a:,.0f}/s and {b:,.0f}/s, ratio {statistics.median(ratios):.2f} "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f}); "
              f"daemon's CPU {cpu_a:.1f} and {cpu_b:.1f} us each", flush=True)


@contextlib.contextmanager
def minimal(base):
    mnt = os.path.join(tempfile.mkdtemp(prefix="keepfs-bench.", dir=base), "mnt")
    os.mkdir(mnt)
    process = subprocess.Popen([MINIMAL, mnt])
    try:
        while not os.path.ismount(mnt):
            assert process.poll() is None, "minimal_fs ended"
            time.sleep(0.01)
        yield mnt, process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def running_job(mount, database):
    """A job that runs until the end: its source is held."""
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        job = mount.trigger("app")
        while mount.read(f"jobs/{job}/status") != "running":
            time.sleep(0.01)
        yield job
    finally:
        with contextlib.suppress(OSError):
            with open(f"{mount.mnt}/jobs/{job}/cancel", "w") as f:
                f.write("1\n")
        db.execute("ROLLBACK")


def idle(mount, seconds):
    cpu, wakeups = mount.cpu(), mount.wakeups()
    time.sleep(seconds)
    print(f"idle for {seconds} s: CPU {1000 * (mount.cpu() - cpu):.0f} ms, "
          f"{mount.wakeups() - wakeups} wake-ups", flush=True)


def measure(base, args):
    database = os.path.join(base, "app.db")
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE t(v)")
    plain = os.path.join(base, "status")
    with open(plain, "w") as f:
        f.write("succeeded\n")
    with Mount(base, [("app", "sqlite", database)]) as mount, minimal(base) as (other, pid):
        done = mount.run("app")
        final = (f"{mount.mnt}/jobs/{done}/status", mount.pid)
        theirs = (f"{other}/jobs/{FINAL}/status", pid)
        time.sleep(2)  # until what was begun has ended
        idle(mount, IDLE)
        with running_job(mount, database) as job:
            compare("running job's status, open+read+close", open_read_close,
                    (f"{mount.mnt}/jobs/{job}/status", mount.pid),
                    (f"{other}/jobs/{LIVE}/status", pid), args)
        compare("finished job's status, open+read+close", open_read_close, final, theirs, args)
        compare("finished job's status, stat", os.stat, final, theirs, args)
        compare("finished job's status, stat, beside a tmpfs", os.stat, final, (plain, 0), args)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    p.add_argument("--rounds", type=int, default=7)
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no daemon is left behind
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=shm)
    try:
        measure(base, args)
    finally:
        shutil.rmtree(base)


main()
