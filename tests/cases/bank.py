#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bank.py FILE make MODE | run PROCESSES | sum

Accounts whose sum never changes, and processes that move money between them until their standard
input is closed; then each prints how many transfers it made and for how many seconds.
"""
import os
import random
import select
import sqlite3
import sys
import time

ACCOUNTS, EACH = 2000, 1000


def connect(path):
    db = sqlite3.connect(path, isolation_level=None, timeout=120)
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def make(path, mode):
    db = connect(path)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, cents INTEGER, note TEXT)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO account VALUES(?, ?, ?)",
                   ((i, EACH, "n" * 200) for i in range(ACCOUNTS)))
    db.execute("COMMIT")


def move(db):
    a, b = random.sample(range(ACCOUNTS), 2)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET cents = cents - 7, note = ? WHERE id = ?",
               ("x" * random.randrange(300), a))
    db.execute("UPDATE account SET cents = cents + 7 WHERE id = ?", (b,))
    db.execute("COMMIT")


def run(path):
    db = connect(path)
    count, begin = 0, time.monotonic()
    while not select.select([0], [], [], 0)[0]:
        move(db)
        count += 1
    print(count, f"{time.monotonic() - begin:.3f}", flush=True)


def main():
    path, verb = sys.argv[1:3]
    if verb == "make":
        make(path, sys.argv[3])
    elif verb == "run":
        for _ in range(int(sys.argv[3]) - 1):
            if os.fork() == 0:
                random.seed()
                return run(path)
        run(path)
        while True:
            try:
                os.wait()
            except ChildProcessError:
                return
    elif verb == "sum":
        db = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        print(db.execute("SELECT sum(cents) FROM account").fetchone()[0] - ACCOUNTS * EACH)


main()
