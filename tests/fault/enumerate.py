#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""enumerate.py - every call fails once, every step is killed once; and each time all must hold.

For each workload of workloads.py the calls of clean runs are counted; each call is a point. Then the
workload is run once for each point and each thing that can go wrong with such a call (faults.py),
and after every run check.py asks whether anything was lost, left or lied about.

  enumerate.py [--seed N] [--faults N] [--kills N]    a sample, spread over workloads and points
  enumerate.py --long                                 every point, every fault, every kill
  enumerate.py --only W [--only W...]                 some workloads (may end in *)
  enumerate.py --only W --point 'CALL PLACE#N=FAULT'  one run, with what the daemon logged
  enumerate.py --trace W                              the calls of a clean run, in order

KEEPFS is the binary; the shim is built beside it. Ends with `N points, N executions, N kills, N
violations`; each violation with the command that repeats it. Exit status 1 if there are any.

A point is what a class of calls does for the Nth time. A few of them depend on timing: a point that
a run does not reach is tried again, and what was never reached is said.
"""
import argparse
import fnmatch
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict

import check
from faults import KILLS, MEMORY, STATE_CHANGING, actions_of, is_left_out
from run import Run
from sandbox import Sandbox, Violation, adopt_orphans
from workloads import WORKLOADS

CLEAN_RUNS = 3  # whose points are put together
TRIES = 3  # of a point that is not reached
MEMORY_SHARE = 10  # at most one fault in so many is an allocation that fails
MEMORY_POINTS = 300  # of each workload, with --long: there are thousands, all much alike

box = None  # of this worker
yardsticks = {}


# ---- in a worker ----


def leave(*_):
    box.clear()
    os._exit(1)


def begin_worker(base, keepfs, shim, numbers):
    global box
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    box = Sandbox(os.path.join(base, str(numbers.get())), keepfs, shim)
    signal.signal(signal.SIGTERM, leave)


def yardstick_of(workload):
    if workload.name not in yardsticks:
        yardsticks[workload.name] = check.prepare(box, workload)
        box.clear()
    return yardsticks[workload.name]


def trace(name):
    """The points of a workload: {class: calls}, and the order of one run; what was wrong."""
    workload = WORKLOADS[name]
    counts, run, begin = Counter(), None, time.monotonic()
    try:
        for _ in range(CLEAN_RUNS):
            run = Run(box, workload, yardstick_of(workload)).go()
            for klass, n in run.counts.items():
                counts[klass] = max(counts[klass], n)
            if run.violations:
                break
    except (Violation, OSError) as what:
        box.clear()
        return name, counts, [], [f"cannot be prepared: {what}"], 0
    return name, counts, run.order, run.violations, time.monotonic() - begin


def execute(task):
    """One point: (workload, point, hits, executions, violations, seconds)."""
    name, point = task
    begin, executions, hits, violations = time.monotonic(), 0, 0, []
    while executions < TRIES and not hits and not violations:
        run = Run(box, WORKLOADS[name], yardstick_of(WORKLOADS[name]), point).go()
        executions, hits, violations = executions + 1, run.hits, run.violations
    return name, point, hits, executions, violations, time.monotonic() - begin


# ---- the plan ----


class Plan:
    """Which points are spoilt how, of one workload."""

    def __init__(self, name, counts):
        self.name = name
        self.points, self.faults, self.kills, self.memory = [], [], [], []
        self.left_out = sum(n for klass, n in counts.items() if is_left_out(klass))
        for klass, n in sorted(counts.items()):
            if is_left_out(klass):
                continue
            call = klass.split(" ")[0]
            for i in range(1, n + 1):
                self.add_point(f"{klass}#{i}", call)

    def add_point(self, where, call):
        if call in MEMORY:
            self.memory.append((where, f"{where}=ENOMEM"))
            return
        self.points.append(where)
        self.faults.append([f"{where}={action}" for action in actions_of(call)])
        if call in STATE_CHANGING:
            self.kills += [f"{where}={kill}" for kill in KILLS]

    def everything(self, rng):
        memory = rng.sample(self.memory, min(MEMORY_POINTS, len(self.memory)))
        return [f for faults in self.faults for f in faults] + self.kills + [f for _, f in memory]

    def all_faults(self):
        return sum(map(len, self.faults))

    def sample(self, rng, faults, kills):
        """Each point once before any point twice."""
        memory = rng.sample(self.memory, min(faults // MEMORY_SHARE, len(self.memory)))
        rounds, rest = [], [rng.sample(f, len(f)) for f in self.faults]
        while any(rest):
            rng.shuffle(rest)
            rounds += [f.pop() for f in rest if f]
        chosen = rounds[:faults - len(memory)] + [f for _, f in memory]
        return chosen + rng.sample(self.kills, min(kills, len(self.kills)))


def share(total, sizes):
    """Spreads a total over workloads: as even as it goes, and no more than each has."""
    shares, left = dict.fromkeys(sizes, 0), total
    open_ = [n for n in sizes if sizes[n]]
    while left > 0 and open_:
        each = max(1, left // len(open_))
        for name in list(open_):
            take = min(each, sizes[name] - shares[name], left)
            shares[name] += take
            left -= take
            if shares[name] == sizes[name]:
                open_.remove(name)
            if left == 0:
                break
    return shares


def make_tasks(plans, options, rng):
    if options.point:
        return [(name, options.point) for name in plans]
    if options.long:
        return [(n, point) for n, plan in plans.items() for point in plan.everything(rng)]
    faults = share(options.faults, {n: p.all_faults() + len(p.memory) for n, p in plans.items()})
    kills = share(options.kills, {n: len(p.kills) for n, p in plans.items()})
    return [(n, point) for n, plan in plans.items()
            for point in plan.sample(rng, faults[n], kills[n])]


# ---- what came of it ----


class Tally:
    def __init__(self):
        self.executions = self.faults = self.kills = self.violations = 0
        self.seconds = 0.0
        self.covered, self.missed = set(), []

    def add(self, point, hits, executions, violations, seconds):
        where, action = point.rsplit("=", 1)
        self.executions += executions
        self.seconds += seconds
        self.violations += bool(violations)
        if not hits:
            self.missed.append(point)
            return
        self.covered.add(where)
        if action in KILLS:
            self.kills += 1
        else:
            self.faults += 1


def report_violation(name, point, violations):
    print(f"\nVIOLATION in {name}" + (f", {point}" if point else ""))
    for text in violations:
        print("    " + text.rstrip().replace("\n", "\n    "))
    if point:
        print(f"  repeat: tests/fault/enumerate.py --only {name} --point '{point}'", flush=True)


def print_table(plans, tallies):
    print(f"\n{'workload':24}{'points':>8}{'covered':>9}{'faults':>8}{'kills':>7}{'runs':>7}"
          f"{'missed':>8}{'violations':>12}{'seconds':>9}")
    for name, plan in plans.items():
        t = tallies[name]
        covered = len(t.covered & set(plan.points))
        print(f"{name:24}{len(plan.points):8}{covered:9}{t.faults:8}{t.kills:7}{t.executions:7}"
              f"{len(t.missed):8}{t.violations:12}{t.seconds:9.1f}")


def print_missed(tallies):
    missed = [(name, point) for name, t in tallies.items() for point in t.missed]
    for name, point in missed[:20]:
        print(f"not reached: {name}: {point}")
    if len(missed) > 20:
        print(f"not reached: {len(missed) - 20} more")


def summarise(plans, tallies):
    print_table(plans, tallies)
    print_missed(tallies)
    total = {k: sum(getattr(t, k) for t in tallies.values())
             for k in ("faults", "executions", "kills", "violations")}
    covered = sum(len(t.covered & set(plans[n].points)) for n, t in tallies.items() if n in plans)
    print(f"\n{covered} of {sum(len(p.points) for p in plans.values())} points covered, "
          f"{sum(p.left_out for p in plans.values())} left out, {total['faults']} faults injected")
    print(f"{covered} points, {total['executions']} executions, {total['kills']} kills, "
          f"{total['violations']} violations")
    return total["violations"]


# ---- the command ----


def parse(argv):
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--seed", type=int, default=int(os.environ.get("KEEPFS_SEED", os.getpid())))
    p.add_argument("--faults", type=int, default=1050)
    p.add_argument("--kills", type=int, default=320)
    p.add_argument("--long", action="store_true")
    p.add_argument("--only", action="append", default=[])
    p.add_argument("--point")
    p.add_argument("--trace")
    p.add_argument("--verbose", action="store_true", help="name each execution")
    p.add_argument("--jobs", type=int, default=min(2, os.cpu_count()))
    options = p.parse_args(argv)
    if options.trace:
        options.only = [options.trace]
    names = [n for n in WORKLOADS
             if not options.only or any(fnmatch.fnmatch(n, o) for o in options.only)]
    if not names:
        p.error(f"workloads are {' '.join(WORKLOADS)}")
    return options, names


def trace_all(pool, names, tallies):
    plans = {}
    for name, counts, order, wrong, seconds in pool.imap(trace, names):
        tallies[name].seconds += seconds
        tallies[name].executions += CLEAN_RUNS
        if wrong:
            tallies[name].violations += 1
            report_violation(name, "", wrong)
        else:
            plans[name] = Plan(name, counts), order
    return plans


def print_trace(plan, order):
    for i, klass in enumerate(order, 1):
        print(f"{i:6} {klass}")
    print(f"{len(plan.points)} points, {plan.all_faults()} faults, {len(plan.kills)} kills, "
          f"{len(plan.memory)} allocations")


def enumerate_points(pool, options, names):
    tallies = defaultdict(Tally)
    traced = trace_all(pool, names, tallies)
    if options.trace:
        for plan, order in traced.values():
            print_trace(plan, order)
        return len(names) - len(traced)
    plans = {name: plan for name, (plan, _) in traced.items()}
    tasks = make_tasks(plans, options, random.Random(options.seed))
    for name, point, hits, executions, violations, seconds in pool.imap_unordered(
            execute, tasks, chunksize=1 + len(tasks) // 200):
        tallies[name].add(point, hits, executions, violations, seconds)
        if options.verbose:
            print(f"{seconds * 1000:7.0f} ms, {hits} hits: {name}: {point}", flush=True)
        if violations:
            report_violation(name, point, violations)
    return summarise(plans, tallies)


def clean_up(base):
    """What a worker that was killed may have left."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            if line.split()[4].startswith(base + "/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
    shutil.rmtree(base)


def main(argv):
    options, names = parse(argv)
    keepfs = os.path.abspath(os.environ["KEEPFS"])
    shim = os.path.join(os.path.dirname(keepfs), "tests", "fault_shim.so")
    if "KEEPFS_SHIM_LIBRARY" in os.environ:
        shim = os.path.abspath(os.environ["KEEPFS_SHIM_LIBRARY"])
    if not os.path.exists(shim):
        sys.exit(f"{shim} is not there: build it, or name it in KEEPFS_SHIM_LIBRARY")
    print(f"seed {options.seed}", flush=True)
    base = tempfile.mkdtemp(prefix="keepfs-fault.", dir="/dev/shm")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    numbers = multiprocessing.Queue()
    for i in range(options.jobs):
        numbers.put(i)
    try:
        with multiprocessing.Pool(options.jobs, begin_worker, (base, keepfs, shim, numbers)) as pool:
            violations = enumerate_points(pool, options, names)
            pool.close()
            pool.join()
    finally:
        clean_up(base)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
