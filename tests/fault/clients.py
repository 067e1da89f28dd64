#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""clients.py [SECONDS] - shell clients by the thousand: 5,000 in ten minutes, 500 in one.

Each is a real shell with a script of eight operations, chosen at random: it triggers backups (one
line or several, with keys of its own or shared ones, with and without reading the answer), reads,
lists, follows a log or waits and is killed over it, cancels, deletes. Some 50 are at it at once. One
source is locked every now and then, so that jobs of its store wait and run for a while.

Each client notes what it was answered. At the end, with all jobs ended:

  - one job for each accepted line and repo, the one that the answer named; none for a refused line,
    none of anybody else; one at most for a key, however many wrote it
  - every job has a final state, and its files can be read; what was deleted is gone; records and
    archives are the same set
  - no client hung, or was told what nobody should be told (EIO, EINVAL, ESTALE, ...)
  - the kernel has no request waiting for an answer (fusectl), and the daemon has the descriptors,
    the threads and, within TOLERANCE, the memory that it had after the first tenth of the clients

KEEPFS is the binary; KEEPFS_SEED repeats a run's choices, though not how they meet. Without SECONDS
it takes a minute. Needs root.
"""
import collections
import concurrent.futures
import contextlib
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time

import rig
from rig import FINAL

RATE = 5000 / 600        # clients a second
AT_ONCE = 50
OPERATIONS = 8           # of one client
TOLERANCE = 12 << 10     # KiB of resident memory: heaps of a dozen threads, SQLite's cache
HANGS = 10 * rig.PATIENCE
SHELLS = ["sh"] * 16 + ["bash"] * 3 + ["zsh"]
STORES = ["slow", "two"] + [f"s{i}" for i in range(8)]
REPOS = {name: ["near", "far"] if name == "two" else ["main"] for name in STORES}
# What a client may never see. dash calls every error of echo "I/O error".
NEVER = re.compile(r"Input/output|Invalid arg|Stale|not connected|No space|Bad file|out of memory|"
                   r"syntax error|not found$", re.I)

PRELUDE = r"""
cd "$MOUNT" || exit 9
say() { printf '%s\n' "$*" >>"$NOTES"; }
pick() { ls "$1" | grep '^0' | shuf -n 1; }
answers() { # of descriptor 3
    while read -r job target <&3; do say "job $1 $job $target"; done
}
"""

# name: (weight, script). @T is a token that nobody else has, @L a line's target, @K a shared key.
SCRIPTS = {
    "trigger": (20, 'if echo "@L label=@T" > ctl; then say "yes @T @L"; else say "no @T"; fi'),
    "trigger and read": (15, r"""
        exec 3<>ctl
        if echo "@L label=@T" >&3; then say "yes @T @L"; answers @T; else say "no @T"; fi
        exec 3>&-"""),
    "several lines": (6, r"""
        exec 3<>ctl
        printf '@L label=@T\n@M label=@T\n@N label=@T\n' >&3 || say "failed @T"
        answers @T
        say "lines @T"
        exec 3>&-"""),
    "own key": (6, 'if echo "@R key=@T label=@T" | tee ctl > $NULL; then say "yes @T @R"; '
                   'else say "no @T"; fi'),
    "shared key": (6, 'if echo "@R key=@K label=@T" > ctl; then say "yes @T @R"; say "key @K @T"; '
                      'else say "no @T"; fi'),
    "malformed": (3, 'if echo "nosuch label=@T" > ctl; then say "yes @T nosuch"; else say "no @T"; '
                     'fi; cat last_error'),
    "read": (15, r"""
        j=$(pick jobs)
        [ -z "$j" ] || cat "jobs/$j/status" "jobs/$j/progress" "jobs/$j/log" "jobs/$j/job.json" \
            "jobs/$j/label" || say "unread $j" """),
    "read a record": (8, r"""
        r=$(pick records)
        [ -z "$r" ] || { cat "records/$r/manifest.yaml" "records/$r/payload" | wc -c; }"""),
    "list": (10, r"""
        ls -l jobs/active stores; ls jobs | wc -l; find stores -name last_success
        ls -lR records | tail -n 1; cat README ctl"""),
    "follow": (5, r"""
        j=$(pick jobs)
        [ -z "$j" ] || timeout -s @S 0.2 tail -n 5 -f "jobs/$j/log" """),
    "wait": (5, r"""
        j=$(pick jobs)
        if [ -e "jobs/$j/wait" ]; then timeout -s @S 0.3 cat "jobs/$j/wait"; fi
        if [ -e events ]; then timeout -s @S 0.2 cat events; fi"""),
    "cancel": (10, r"""
        j=$(pick jobs/active)
        [ -z "$j" ] || { echo 1 > "jobs/$j/cancel" && say "cancelled $j"; }"""),
    "delete": (6, 'r=$(pick records); [ -z "$r" ] || { rmdir "records/$r" && say "deleted $r"; }'),
    "rm -r": (2, 'r=$(pick records); [ -z "$r" ] || { rm -r "records/$r" && say "deleted $r"; }'),
}


class Client:
    """A script, and what it noted."""

    def __init__(self, number, place, rng):
        self.shell = rng.choice(SHELLS)
        self.notes, self.said = place / f"notes.{number}", place / f"said.{number}"
        names = rng.choices(list(SCRIPTS), [w for w, _ in SCRIPTS.values()], k=OPERATIONS)
        self.operations = collections.Counter(names)
        parts = [self._fill(SCRIPTS[name][1], f"t{number}-{i}", rng) + f"\nsleep {pause:.2f}"
                 for i, name in enumerate(names) for pause in [rng.uniform(0, 0.8)]]
        self.script = PRELUDE + "\n".join(parts) + "\nexit 0\n"

    @staticmethod
    def _fill(script, token, rng):
        def target():
            store = rng.choice(STORES)
            return store if rng.random() < 0.5 else f"{store}/{rng.choice(REPOS[store])}"

        store = rng.choice(STORES)
        for mark, value in (("@T", token), ("@L", target()), ("@M", target()), ("@N", target()),
                            ("@R", f"{store}/{rng.choice(REPOS[store])}"),
                            ("@K", f"shared-{rng.randrange(200)}"),
                            ("@S", rng.choice(["INT", "KILL", "TERM"]))):
            script = script.replace(mark, value)
        return script

    def run(self, mount):
        """A fault, or None."""
        environ = {**os.environ, "MOUNT": str(mount), "NOTES": str(self.notes),
                   "NULL": str(self.notes) + ".null", "LC_ALL": "C"}
        with open(self.said, "wb") as said:
            try:
                done = subprocess.run([self.shell, "-c", self.script], env=environ, stderr=said,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      timeout=HANGS)
            except subprocess.TimeoutExpired:
                return f"a client hung: {self.script[len(PRELUDE):]}"
        return f"a client ended with {done.returncode}" if done.returncode else None


class Notes:
    """What all clients were answered."""

    def __init__(self):
        self.accepted, self.refused = {}, set()   # token -> target
        self.answered = collections.defaultdict(dict)  # token -> {job: target}
        self.lines, self.failed = set(), set()    # of several lines
        self.keys = collections.defaultdict(list)
        self.deleted, self.cancelled, self.unread = set(), set(), set()

    def read(self, path):
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text().splitlines():
                word, *rest = line.split()
                getattr(self, f"_{word}")(*rest)

    def _yes(self, token, target):
        self.accepted[token] = target

    def _no(self, token):
        self.refused.add(token)

    def _job(self, token, job, target):
        self.answered[token][job] = target

    def _lines(self, token):
        self.lines.add(token)

    def _failed(self, token):
        self.failed.add(token)

    def _key(self, key, token):
        self.keys[key].append(token)

    def _deleted(self, record):
        self.deleted.add(record)

    def _cancelled(self, job):
        self.cancelled.add(job)

    def _unread(self, job):
        self.unread.add(job)


class Crowd:
    def __init__(self, place, seconds, seed):
        self.place, self.seconds = place, seconds
        self.rng, self.tally = random.Random(seed), rig.Tally()
        self.faults, self.clients, self.over = [], [], threading.Event()
        for name in ("mnt", "src", "notes", "ctl"):
            (place / name).mkdir()
        self.mount, self.state = place / "mnt", place / "state"
        self.repos = [place / "repo" / s / r for s in STORES for r in REPOS[s]]
        rig.run("mount", "-t", "fusectl", "fusectl", place / "ctl")
        self.daemon = rig.Daemon(self._configure(), self.mount, place / "log")

    def _configure(self):
        text = f"[keepfs]\nstate = {self.state}\n"
        for store in STORES:
            path = self.place / "src" / store
            if store == "slow":
                rig.make_database(path, 200)
            else:
                path.mkdir()
                (path / "file").write_bytes(os.urandom(20000))
            kind = "sqlite" if store == "slow" else "directory"
            text += f"[store {store}]\nkind = {kind}\npath = {path}\n"
            for repo in REPOS[store]:
                text += f"[repo {store}/{repo}]\nkind = local\npath = {self.place}/repo/{store}/{repo}\n"
        config = self.place / "keepfs.conf"
        config.write_text(text)
        return config

    # ---- the crowd ----

    def hold_now_and_then(self):
        with contextlib.closing(sqlite3.connect(self.place / "src/slow", isolation_level=None,
                                                timeout=rig.PATIENCE)) as db:
            while not self.over.wait(0.3):
                db.execute("BEGIN EXCLUSIVE")
                self.over.wait(0.7)
                db.execute("ROLLBACK")

    def send(self, count, seconds):
        """That many clients, evenly over that time, AT_ONCE at most at the same time."""
        begin = time.monotonic()
        new = [Client(len(self.clients) + i, self.place / "notes", self.rng) for i in range(count)]
        self.clients += new
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = []
            for i, client in enumerate(new):
                time.sleep(max(0, begin + i * seconds / count - time.monotonic()))
                running.append(pool.submit(client.run, self.mount))
            self.faults += [fault for r in running if (fault := r.result())]

    def quiet(self):
        """Waits until nothing runs any more; what the daemon holds then."""
        rig.await_state(lambda: not os.listdir(self.mount / "jobs/active"), "all jobs to end", HANGS)
        with contextlib.suppress(TimeoutError):
            rig.await_state(lambda: self.waiting() == 0, "no request to wait")
        return self.daemon.figures()

    def waiting(self):
        """Requests that the daemon has not answered, as the kernel counts them."""
        connection = os.minor(os.stat(self.mount).st_dev)
        return int((self.place / "ctl" / str(connection) / "waiting").read_text())

    # ---- verdicts ----

    def judge(self, before):
        notes, check = Notes(), self.tally.check
        for client in self.clients:
            notes.read(client.notes)
        jobs = self.jobs()
        check("clients", self.faults + self.strange_words())
        check("accepted lines", self.judge_accepted(notes, jobs))
        check("refused lines", self.judge_refused(notes, jobs))
        check("several lines", self.judge_lines(notes, jobs))
        check("keys", self.judge_keys(notes, jobs))
        check("states", [f"job {u} is {j.state}" for u, j in jobs.items() if j.state not in FINAL])
        check("cancelled", [f"job {u} is {jobs[u].state if u in jobs else 'lost'}"
                            for u in notes.cancelled if u not in jobs or jobs[u].state not in FINAL])
        check("read", [f"a file of job {u} could not be read" for u in notes.unread])
        check("deleted", [f"{r} is listed again" for r in notes.deleted & set(self.daemon.records())])
        check("archives", self.settle())
        self.judge_process(before)
        return notes, jobs

    def jobs(self):
        job = collections.namedtuple("Job", "state label target")
        return {u: job(state, *(self.daemon.of_job(u, n) for n in ("label",)),
                       "/".join(self.daemon.of_job(u, n) for n in ("store", "repo")))
                for u, state in self.daemon.jobs().items()}

    def strange_words(self):
        return [f"a client was told: {line}" for c in self.clients
                for line in c.said.read_text(errors="replace").splitlines() if NEVER.search(line)]

    @staticmethod
    def repos_of(target):
        store, _, repo = target.partition("/")
        return sorted(f"{store}/{r}" for r in ([repo] if repo else REPOS.get(store, [])))

    @staticmethod
    def by_token(jobs):
        found = collections.defaultdict(dict)
        for ulid, job in jobs.items():
            found[job.label][ulid] = job.target
        return found

    def judge_accepted(self, notes, jobs):
        made, faults = self.by_token(jobs), []
        for token, target in notes.accepted.items():
            if sorted(made[token].values()) != self.repos_of(target):
                faults.append(f"'{target}' of {token} was accepted and has jobs {made[token]}")
            if token in notes.answered and notes.answered[token] != made[token]:
                faults.append(f"the answer to {token} is {notes.answered[token]}, and its jobs are "
                              f"{made[token]}")
        known = {*notes.accepted, *notes.lines, *notes.refused}
        faults += [f"job {u} of nobody: {j.label}" for u, j in jobs.items() if j.label not in known]
        return faults

    def judge_refused(self, notes, jobs):
        made = self.by_token(jobs)
        return [f"{token} was refused and has jobs {made[token]}"
                for token in notes.refused if made[token]]

    def judge_lines(self, notes, jobs):
        """The answers tell which ones were accepted, and nothing else was."""
        made = self.by_token(jobs)
        return [f"the lines of {t} were answered {notes.answered[t]}, and there are {made[t]}"
                for t in notes.lines if notes.answered[t] != made[t]]

    def judge_keys(self, notes, jobs):
        faults = [f"key {k} was taken for each of {t}" for k, t in notes.keys.items() if len(t) != 1]
        for key, tokens in notes.keys.items():
            named = "missing"
            with contextlib.suppress(FileNotFoundError):
                named = os.path.basename(os.readlink(self.mount / "jobs/by-key" / key))
            if named not in jobs or jobs[named].label not in tokens:
                faults.append(f"by-key/{key} is {named}, not that of {tokens}")
        there = {name for name in os.listdir(self.mount / "jobs/by-key") if name.startswith("shared")}
        return faults + [f"key {key} is there and was refused" for key in there - set(notes.keys)]

    def settle(self):
        """What is being deleted goes a little later than its record."""
        def faults():
            return rig.disagreements(self.daemon, self.state, *self.repos)
        with contextlib.suppress(TimeoutError):
            rig.await_state(lambda: not faults(), "records and archives to agree")
        return faults()

    def judge_process(self, before):
        """Idle threads of libfuse and caches may take a moment to go."""
        def faults():
            now = self.daemon.figures()
            return [f"{now[what]} {what}, {before[what]} after the first clients"
                    for what, more in (("KiB", TOLERANCE), ("threads", 0), ("descriptors", 0))
                    if now[what] > before[what] + more]
        with contextlib.suppress(TimeoutError):
            rig.await_state(lambda: not faults(), "the daemon to hold no more than before")
        self.tally.check("process", faults())
        self.tally.check("waiting", [] if self.waiting() == 0 else
                         [f"{self.waiting()} requests wait for an answer"])
        self.tally.check("children", [f"child {pid}" for pid in self.daemon.children()])

    # ---- all of it ----

    def run(self):
        count = max(2 * AT_ONCE, round(RATE * self.seconds))
        first = max(AT_ONCE, count // 10)
        self.daemon.start()
        holder = threading.Thread(target=self.hold_now_and_then)
        holder.start()
        try:
            self.send(first, 0)
            before = self.quiet()
            self.send(count - first, self.seconds)
        finally:
            self.over.set()
            holder.join()
        after = self.quiet()
        notes, jobs = self.judge(before)
        self.report(notes, jobs, before, after)
        self.daemon.stop()

    def report(self, notes, jobs, before, after):
        done = sum((c.operations for c in self.clients), collections.Counter())
        states = collections.Counter(j.state for j in jobs.values())
        print(f"{len(self.clients)} clients, {sum(done.values())} operations: "
              + ", ".join(f"{name} {n}" for name, n in sorted(done.items())))
        print(f"{len(notes.accepted)} lines accepted, {len(notes.refused)} refused, "
              f"{len(notes.lines)} writes of three lines, {len(notes.failed)} of them cut short; "
              f"{len(notes.keys)} shared keys; {len(notes.cancelled)} cancels, "
              f"{len(notes.deleted)} deletions")
        print(f"{len(jobs)} jobs: " + ", ".join(f"{n} {s}" for s, n in sorted(states.items())))
        print("; ".join(f"{what}: {before[what]} before, {after[what]} after" for what in before))


def main():
    place = rig.isolate()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = os.environ.get("KEEPFS_SEED") or str(random.randrange(1 << 32))
    print(f"seed {seed}", flush=True)
    crowd = Crowd(place, seconds, seed)
    try:
        crowd.run()
    except (OSError, RuntimeError, TimeoutError) as e:
        crowd.tally.check("the run", [repr(e)])
    finally:
        if crowd.daemon.process and crowd.daemon.process.poll() is None:
            crowd.daemon.kill()
    return crowd.tally.end()


if __name__ == "__main__":
    sys.exit(main())
