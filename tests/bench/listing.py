#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""listing.py [--jobs N] [--records N] [--stores N] - how long listings of large directories take.

Of a catalog of tests/big_catalog.py: `ls -U jobs | wc -l`, the views of records and jobs, and `find
records -name manifest.yaml | wc -l` with and without the views; then `find stores` of many stores.
Each is run twice, the first time by a kernel that knows no name of the mount. Beside the time stand
the daemon's CPU time and how much its memory grew meanwhile. Archives are not there: no listing
looks at one.

KEEPFS is the binary. Figures of this machine; nothing is judged.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from lab import Mount

MAKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../big_catalog.py")
STORES = 10  # of the catalog with many jobs


def configured(base, count):
    """Directory stores app0, app1, ..., all of one directory that is empty."""
    source = os.path.join(base, "src")
    os.makedirs(source, exist_ok=True)
    return [(f"app{i}", "directory", source) for i in range(count)]


def filled(base, stores, jobs, records):
    """A mount, not started, over a catalog of its own."""
    mount = Mount(base, configured(base, stores), lines=["job_history = 36500"])
    os.mkdir(f"{mount.dir}/state", 0o700)
    subprocess.run([sys.executable, MAKER, f"{mount.dir}/state/catalog.sqlite", "--jobs",
                    str(jobs), "--records", str(records), "--stores", str(stores)], check=True)
    return mount


def measure(mount, command):
    """A pipe that ends in `wc -l`, twice."""
    figures = []
    for _ in range(2):
        cpu, rss, begin = mount.cpu(), mount.rss(), time.monotonic()
        count = subprocess.run(["sh", "-c", command], cwd=mount.mnt, check=True,
                               stdout=subprocess.PIPE, text=True).stdout.strip()
        figures.append(f"{time.monotonic() - begin:.2f} s (CPU {mount.cpu() - cpu:.2f} s, "
                       f"RSS {(mount.rss() - rss) / 1e6:+.1f} MB)")
    print(f"listing: {command}: {count}; {', then '.join(figures)}", flush=True)


def many_jobs(base, args):
    with filled(base, STORES, args.jobs, args.records) as mount:
        measure(mount, "ls -U jobs | wc -l")
        measure(mount, "ls -U stores/app0/jobs | wc -l")
        measure(mount, "ls -U records | wc -l")
        measure(mount, "ls -U records/by-store/app0 | wc -l")
        day = time.strftime("%Y/%m/%d", time.gmtime(time.time() - 86400))
        measure(mount, f"ls -U records/by-date/{day} | wc -l")
        measure(mount, "find records/by-store records/by-date records/pinned | wc -l")
        measure(mount, r"find records -name 'by-*' -prune -o -name manifest.yaml -print | wc -l")
        measure(mount, "find records -name manifest.yaml | wc -l")
        print(f"listing: RSS {mount.rss() / 1e6:.1f} MB, peak {mount.peak_rss() / 1e6:.1f} MB")


def many_stores(base, args):
    with filled(base, args.stores, 20 * args.stores, 10 * args.stores) as mount:
        measure(mount, "ls -U stores | wc -l")
        measure(mount, "find stores -maxdepth 2 | wc -l")
        measure(mount, "find stores -name last_success -mmin +1500 | wc -l")
        measure(mount, "find stores | wc -l")
        measure(mount, "ls -lR stores | wc -l")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--jobs", type=int, default=1_000_000)
    p.add_argument("--records", type=int, default=100_000)
    p.add_argument("--stores", type=int, default=1000)
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no daemon is left behind
    base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        many_jobs(base, args)
        many_stores(base, args)
    finally:
        shutil.rmtree(base)


main()
