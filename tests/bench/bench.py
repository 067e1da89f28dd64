#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench.py - times of keepfs beside those of its peers, in one run on one machine.

Run by `meson test --benchmark -v`, or with KEEPFS=BINARY by hand. Each figure stands beside the
same work done by something known: restic, borg, cp + fsync, tar | cat + fsync, zstd. A peer that
is not installed is left out, and said. Names of benchmarks to run may be given as arguments;
KEEPFS_BENCH_MB is the size of the large databases, 1000 unless given.
"""
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import peers
from lab import (MEGABYTES, Mount, children_cpu, make_db, make_db_text, percentile, sync, timed,
                 tree_size)


BANK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cases/bank.py")
AS_IT_IS = {"main": ["compression = none"]}  # for peers that only copy


def small(base):
    """A 4 KiB store, from the write to ctl to the terminal state, with all fsyncs."""
    path = os.path.join(base, "small.db")
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t(x)")
    db.commit()
    db.close()
    with Mount(base, [("app", "sqlite", path)]) as m:
        for _ in range(20):
            m.backup("app")
        times = [m.backup("app") for _ in range(300)]
    p50 = statistics.median(times)
    print(f"small: keepfs p50 {p50 * 1e3:.1f} ms, p99 {percentile(times, .99) * 1e3:.1f} ms", end="")
    if not shutil.which("restic"):
        print("; restic is not installed")
        return
    env = dict(os.environ, RESTIC_PASSWORD="x", RESTIC_REPOSITORY=os.path.join(base, "restic"),
               RESTIC_CACHE_DIR=os.path.join(base, "cache"))
    timed("restic", "init", env=env)
    peer = [timed("restic", "backup", "-q", path, env=env) for _ in range(10)]
    print(f"; restic backup p50 {statistics.median(peer) * 1e3:.0f} ms"
          f"; ratio {p50 / statistics.median(peer):.3f}")


def database(base):
    """A large database as it is, against cp + fsync."""
    path = os.path.join(base, "big.db")
    make_db(path, MEGABYTES * 10**6)
    copy = os.path.join(base, "copy.db")

    def cp():
        begin = time.monotonic()
        subprocess.run(["cp", path, copy], check=True)
        subprocess.run(["sync", copy], check=True)
        return time.monotonic() - begin

    ours, peer = [], []
    with Mount(base, [("app", "sqlite", path)], AS_IT_IS) as m:
        for _ in range(6):
            sync()
            ours.append(m.backup("app", 0.01))
            m.forget("app")
            sync()
            peer.append(cp())
            os.unlink(copy)
    report(f"database {MEGABYTES} MB", ours, "cp + fsync", peer)


def directory(base):
    """/usr/share as it is, against tar | cat + fsync."""
    copy = os.path.join(base, "copy.tar")

    def tar():
        begin = time.monotonic()
        subprocess.run(f"tar -C /usr/share -cf - . | cat > {copy}; sync {copy}", shell=True,
                       check=True)
        return time.monotonic() - begin

    ours, peer = [], []
    with Mount(base, [("share", "directory", "/usr/share")], AS_IT_IS) as m:
        for _ in range(8):
            sync()
            ours.append(m.backup("share", 0.01))
            m.forget("share")
            sync()
            peer.append(tar())
            os.unlink(copy)
    report("directory /usr/share", ours, "tar | cat + fsync", peer)


def report(what, ours, name, peer):
    ours, peer = ours[1:], peer[1:]  # the first ones warm the caches up
    a, b = statistics.median(ours), statistics.median(peer)
    print(f"{what}: keepfs {a:.2f} s, {name} {b:.2f} s, ratio {a / b:.2f} (medians of {len(ours)})")


class Cost:
    """What backups of one program cost: a row for each."""

    def __init__(self, name):
        self.name, self.rows, self.note = name, [], ""

    def median(self):
        """Seconds of time, seconds of CPU, bytes stored."""
        return [statistics.median(column) for column in zip(*self.rows)]

    def measure(self, run, cpu, stored):
        sync()
        used, begin = cpu(), time.monotonic()
        run()
        took = time.monotonic() - begin
        self.rows.append((took, cpu() - used, stored()))

    def __str__(self):
        took, cpu, size = self.median()
        return f"{self.name} {took:.2f} s, {cpu:.2f} s CPU, {size / 1e6:.0f} MB{self.note}"


def make_key(path):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(os.urandom(32))
    return f"encryption_key = file:{path}"


def encrypted_backups(base, what, kind, path):
    """Encrypted and compressed: keepfs and its peers in turn, three rounds, medians."""
    found = [p for p in peers.ALL if not p.missing()]
    for p in set(peers.ALL) - set(found):
        print(f"{what}: {p.name} is left out: {', '.join(p.missing())} not installed")
    ours, theirs = Cost("keepfs"), {p: Cost(p.name) for p in found}
    repos = {"main": ["compression = zstd:3", make_key(os.path.join(base, f"{kind}.key"))]}
    with Mount(base, [("app", kind, path)], repos) as m:
        for _ in range(3):
            ours.measure(lambda: m.backup("app", 0.01), m.cpu,
                         lambda: tree_size(m.repo_path("app")))
            m.forget("app")
            for p, cost in theirs.items():
                peer = p(base, path)
                cost.measure(peer.run, children_cpu, peer.stored)
                peer.remove()
        ours.note = f", peak RSS {m.peak_rss() / 1e6:.0f} MB"
    print(f"{what}: " + "; ".join(map(str, [ours, *theirs.values()])))
    for cost in theirs.values():
        time_ratio, cpu_ratio, size_ratio = (a / b for a, b in zip(ours.median(), cost.median()))
        print(f"{what}: keepfs/{cost.name} time {time_ratio:.2f}, CPU {cpu_ratio:.2f}, "
              f"stored {size_ratio:.2f}")


def archive(base):
    """A large database of text, and /usr/share."""
    path = os.path.join(base, "text.db")
    make_db_text(path, MEGABYTES * 10**6)
    encrypted_backups(base, f"archive of a database of {MEGABYTES} MB", "sqlite", path)
    os.unlink(path)
    encrypted_backups(base, "archive of /usr/share", "directory", "/usr/share")


def read_through(m, record):
    """Seconds and bytes of reading a payload in order, by a process into a pipe."""
    begin = time.monotonic()
    p = subprocess.run(f"cat '{m.mnt}/records/{record}/payload' | wc -c", shell=True, check=True,
                       stdout=subprocess.PIPE)
    return time.monotonic() - begin, int(p.stdout)


def random_reads(m, record):
    """Seconds of each of 1,000 reads of 4 KiB."""
    dice, times = random.Random(1), []
    fd = os.open(f"{m.mnt}/records/{record}/payload", os.O_RDONLY)
    pages = os.fstat(fd).st_size // 4096
    for _ in range(1000):
        at = dice.randrange(pages) * 4096
        begin = time.monotonic()
        data = os.pread(fd, 4096, at)
        times.append(time.monotonic() - begin)
        assert len(data) == 4096
    os.close(fd)
    return times


QUERIES = {"count(*)": "SELECT count(*) FROM doc",
           "an indexed query": "SELECT count(*), sum(at) FROM doc WHERE account = 4711"}


def query(path, sql):
    """Seconds from opening to the answer, and the answer."""
    begin = time.monotonic()
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    answer = db.execute(sql).fetchall()
    db.close()
    return time.monotonic() - begin, answer


def read_back(m, what, record, source, peer):
    """All readings of one archive, each on a new mount."""
    size = os.path.getsize(source)
    ours, theirs = [], []
    for _ in range(3):
        m.restart()
        took, count = read_through(m, record)
        assert count == size
        ours.append(took)
        theirs.append(timed("sh", "-c", f"zstd -dc '{peer}' | wc -c"))
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{what}: in order {a:.2f} s ({size / a / 1e6:.0f} MB/s), zstd -dc {b:.2f} s, "
          f"ratio {a / b:.2f}")
    m.restart()
    times = random_reads(m, record)
    print(f"{what}: 4 KiB at random places p50 {statistics.median(times) * 1e3:.2f} ms, "
          f"p99 {percentile(times, .99) * 1e3:.2f} ms")
    for name, sql in QUERIES.items():
        m.restart()
        took, answer = query(f"{m.mnt}/records/{record}/payload", sql)
        direct, expected = query(source, sql)
        assert answer == expected
        print(f"{what}: {name} {took * 1e3:.0f} ms, on the database itself {direct * 1e3:.0f} ms")


def mount(base):
    """What is in an archive, through the mount: a large database of text, zstd and encrypted."""
    if not shutil.which("zstd"):
        print("mount: left out: zstd not installed")
        return
    path = os.path.join(base, "text.db")
    make_db_text(path, MEGABYTES * 10**6)
    repos = {"zstd": ["compression = zstd:3"],
             "both": ["compression = zstd:3", make_key(os.path.join(base, "key"))]}
    with Mount(base, [("app", "sqlite", path)], repos) as m:
        records = {repo: m.record(m.run(f"app/{repo}", 0.01)) for repo in repos}
        peer = f"{m.repo_path('app', 'zstd')}/{records['zstd']}/payload.bin"
        read_back(m, f"mount of {MEGABYTES} MB, zstd", records["zstd"], path, peer)
        read_back(m, f"mount of {MEGABYTES} MB, encrypted zstd", records["both"], path, peer)


def cancel(base):
    """From the write to cancel to the terminal state, of running and of pending jobs."""
    path = os.path.join(base, "cancel.db")
    make_db(path, 2 * 10**8)
    times = []
    with Mount(base, [("app", "sqlite", path)]) as m:
        for i in range(100):
            job = m.trigger("app")
            end = time.monotonic() + (i % 20) * 0.01
            while time.monotonic() < end:
                pass
            begin = time.monotonic()
            with open(f"{m.mnt}/jobs/{job}/cancel", "w") as f:
                f.write("1\n")
            if m.wait(job) == "interrupted":
                times.append(time.monotonic() - begin)
    print(f"cancel of a 200 MB backup: {len(times)} interrupted, p50 "
          f"{statistics.median(times) * 1e3:.0f} ms, p99 {percentile(times, .99) * 1e3:.0f} ms")


def writers(base):
    """Transfers of four processes in a WAL database alone, and while backups follow each other."""

    def run(path, meanwhile):
        p = subprocess.Popen([sys.executable, BANK, path, "run", "4"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        meanwhile()
        out, _ = p.communicate("")
        return sum(int(n) / float(s) for n, s in (line.split() for line in out.splitlines()))

    path = os.path.join(base, "bank.db")
    subprocess.run([sys.executable, BANK, path, "make", "WAL"], check=True)
    alone, during, count = [], [], 0
    with Mount(base, [("bank", "sqlite", path)]) as m:
        def backups():
            nonlocal count
            end = time.monotonic() + 5
            while time.monotonic() < end:
                begin = time.monotonic()
                m.backup("bank")
                count += 1
                # Ten backups a second are far more than anybody makes.
                time.sleep(max(0, begin + 0.1 - time.monotonic()))
        for _ in range(3):
            alone.append(run(path, lambda: time.sleep(5)))
            during.append(run(path, backups))
    a, b = statistics.median(alone), statistics.median(during)
    print(f"writers: {a:.0f} transfers/s alone, {b:.0f} during {count} backups, ten a second at most, "
          f"ratio {b / a:.2f}")


def main():
    benchmarks = [small, cancel, writers, database, directory, archive, mount]
    wanted = sys.argv[1:] or [b.__name__ for b in benchmarks]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no daemon is left behind
    for b in benchmarks:
        if b.__name__ not in wanted:
            continue
        base = tempfile.mkdtemp(prefix="keepfs-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
        try:
            b(base)
            sys.stdout.flush()
        finally:
            shutil.rmtree(base)


main()
