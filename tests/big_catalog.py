#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""big_catalog.py FILE [--jobs N] [--records N] [--stores N] [--version N] - makes a catalog with a
long history, for tests and measurements.

The file must not be there. Its schema is the one in src/catalog/schema.c, at its newest version or
an older one. Jobs are backups of stores app0, app1, ... in turn, each to its repo main, one a minute
up to now: of a hundred 90 succeeded, 8 failed and 2 were interrupted. Records are those of the
newest successes. The same arguments make the same rows but for the times.
"""
import argparse
import os
import pathlib
import re
import sqlite3
import time

SCHEMA = pathlib.Path(__file__).resolve().parents[1] / "src" / "catalog" / "schema.c"
APPLICATION_ID = 0x6b656570
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MINUTE = 60_000


def schema_scripts():
    """The string literals of the table `versions`, one text for each of its rows."""
    text = SCHEMA.read_text()
    table = re.search(r"versions\[\] = \{(.*?)\n\};", text, re.S).group(1)
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"(,?)', table)
    scripts = [""]
    for part, end in parts:
        scripts[-1] += part
        if end:
            scripts.append("")
    return [s for s in scripts if s]


def base32(value, length):
    text = ""
    for _ in range(length):
        value, digit = divmod(value, 32)
        text = DIGITS[digit] + text
    return text


def ulid(ms, number):
    return base32(ms, 10) + base32(number, 16)


def state_of(number):
    return "interrupted" if number % 50 == 7 else "failed" if number % 25 in (3, 9) else "succeeded"


def job_rows(args, first):
    for i in range(args.jobs):
        ms = first + i * MINUTE
        state = state_of(i)
        good = state == "succeeded"
        yield (ulid(ms, 2 * i), "backup", f"app{i % args.stores}", "main", state,
               ulid(ms, 2 * i + 1), "schedule", None, "nightly", ms, ms + 5, ms + 30_000,
               100 if good else 40, '{"content_bytes":104857600,"stored_bytes":40108321}',
               None if good else "source_unavailable", 0 if good else 5,
               None if good else "source: cannot read /srv/app/app.db: Input/output error")


def record_rows(args, first):
    newest = [i for i in range(args.jobs - 1, -1, -1) if state_of(i) == "succeeded"]
    for i in reversed(newest[:args.records]):
        ms = first + i * MINUTE
        yield (ulid(ms, 2 * i + 1), f"app{i % args.stores}", "sqlite", "main", ms + 5, 40108321,
               104857600, "0" * 64, 640, 0, 0)


def fill(db, args):
    first = int(time.time() * 1000) - args.jobs * MINUTE
    db.executemany(
        "INSERT INTO jobs (ulid, kind, store, repo, state, record, requested_by, key, label,"
        " created_at, started_at, finished_at, progress, stats, error_code, error_errno,"
        " error_message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        job_rows(args, first))
    db.executemany(
        "INSERT INTO records (ulid, store, store_kind, repo, created_at, size_bytes,"
        " content_bytes, sha256, manifest_bytes, payload_id_count, payload_ids_bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", record_rows(args, first))
    for i in range(args.stores):
        db.execute("INSERT INTO stores (id, name) VALUES (?, ?)", (i + 1, f"app{i}"))
        db.execute("INSERT INTO repos (id, store, name) VALUES (?, ?, 'main')", (i + 1, i + 1))


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--jobs", type=int, default=1_000_000)
    p.add_argument("--records", type=int, default=100_000)
    p.add_argument("--stores", type=int, default=10)
    p.add_argument("--version", type=int, default=0, help="of the schema; default: the newest")
    args = p.parse_args()
    scripts = schema_scripts()
    version = args.version or len(scripts)
    os.close(os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    db = sqlite3.connect(args.file)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    for script in scripts[:version]:
        db.executescript(script)
    fill(db, args)
    db.commit()
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


if __name__ == "__main__":
    main()
