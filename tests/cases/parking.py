# SPDX-License-Identifier: MIT
"""parking.py COMMAND ... - readers of the mount's blocking files, for the cases and the bench.

signal FILE...         each is read by cat, and once that is parked, it is ended by a signal: by SIGINT,
                       SIGTERM and SIGKILL in turn, at once
parked PID COUNT       returns once COUNT threads of the process are parked
poll JOB MOUNT         checks poll, select and epoll on wait, events, status and progress of a running
                       job; prints "polling" before each wait for a change, and waits for the change
"""
import glob
import os
import select
import signal
import subprocess
import sys
import threading
import time

PATIENCE = 300


def parked(pid):
    """How many threads of a process wait for an answer of a FUSE daemon."""
    count = 0
    for path in glob.glob(f"/proc/{pid}/task/*/wchan"):
        try:
            with open(path) as f:
                count += f.read().strip() == "request_wait_answer"
        except OSError:
            pass
    return count


def await_parked(pid, count):
    end = time.monotonic() + PATIENCE
    while (now := parked(pid)) < count:
        if time.monotonic() > end:
            sys.exit(f"only {now} of {count} are parked")
        time.sleep(0.01 + count / 10000)  # a look at all of them takes its time


def signal_readers(*paths):
    for name in ("SIGINT", "SIGTERM", "SIGKILL"):
        for path in paths:
            # A shell has what it starts in the background ignore SIGINT.
            reader = subprocess.Popen(
                ["cat", path], stdout=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
            await_parked(reader.pid, 1)
            begin = time.monotonic()
            reader.send_signal(getattr(signal, name))
            status = reader.wait(PATIENCE)
            took = time.monotonic() - begin
            assert status == -getattr(signal, name), status
            assert took < 1, took  # ten times what is wanted


def wait_poll(fd, events, timeout=PATIENCE * 1000):
    p = select.poll()
    p.register(fd, events)
    got = p.poll(timeout)
    return got[0][1] if got else 0


def wait_select(fd, readable=True):
    r, _, x = select.select([fd] if readable else [], [], [] if readable else [fd], PATIENCE)
    return bool(r or x)


def wait_epoll(fd, events):
    with select.epoll() as e:
        e.register(fd, events)
        got = e.poll(PATIENCE)
    return got[0][1] if got else 0


def say(text):
    print(text, flush=True)


def poll(job, mount):
    """The caller makes the job run when it reads "pending", and end when it reads "running"."""
    def fd(name):
        return os.open(f"{mount}/{name}", os.O_RDONLY)

    status, progress = fd(f"jobs/{job}/status"), fd(f"jobs/{job}/progress")
    wait, events = fd(f"jobs/{job}/wait"), fd("events")
    assert os.pread(status, 100, 0) == b"pending\n"
    assert os.pread(progress, 100, 0) == b"0\n"
    # At rest: a text is readable and has no news, the others are neither.
    for f in status, progress:
        assert wait_poll(f, select.POLLIN, 0) == select.POLLIN
        assert wait_poll(f, select.POLLPRI, 0) == 0
    assert wait_poll(wait, select.POLLIN, 0) == 0
    assert wait_poll(events, select.POLLIN, 0) == 0
    assert select.select([wait, events], [], [], 0)[0] == []

    # pending -> running, to one who sleeps in poll, in select and in epoll
    results = {}

    def sleeper(name, fn, *args):
        results[name] = None
        def run():
            results[name] = fn(*args)
        t = threading.Thread(target=run)
        t.start()
        return t

    sleepers = [sleeper("poll", wait_poll, status, select.POLLPRI),
                sleeper("select", wait_select, status, False),
                sleeper("epoll", wait_epoll, status, select.EPOLLPRI),
                sleeper("events", wait_epoll, events, select.EPOLLIN)]
    say("pending")
    for t in sleepers:
        t.join()
    assert results["poll"] == select.POLLPRI | select.POLLERR, results
    assert results["select"], results
    assert results["epoll"] == select.EPOLLPRI | select.EPOLLERR, results
    assert results["events"] == select.EPOLLIN, results
    assert os.pread(status, 100, 0) == b"running\n"
    assert wait_poll(status, select.POLLPRI, 0) == 0
    assert os.read(events, 4096).endswith(b" pending running\n")
    assert wait_poll(events, select.POLLIN, 0) == 0
    assert wait_poll(wait, select.POLLIN, 0) == 0

    # running -> succeeded; progress moves before that
    sleepers = [sleeper("wait", wait_poll, wait, select.POLLIN),
                sleeper("wait select", wait_select, wait),
                sleeper("wait epoll", wait_epoll, wait, select.EPOLLIN),
                sleeper("events", wait_select, events)]
    say("running")
    percents = []
    while not percents or percents[-1] != b"100\n":
        assert wait_poll(progress, select.POLLPRI) & select.POLLPRI
        percents.append(os.pread(progress, 100, 0))
    assert len(percents) > 1, percents
    for t in sleepers:
        t.join()
    assert results["wait"] == select.POLLIN, results
    assert results["wait select"] and results["events"], results
    assert results["wait epoll"] == select.EPOLLIN, results
    assert os.read(wait, 100) == b"succeeded\n"
    assert os.read(wait, 100) == b""
    assert os.pread(status, 100, 0) == b"succeeded\n"
    say("good")


if __name__ == "__main__":
    commands = {"signal": signal_readers, "parked": lambda pid, count: await_parked(int(pid), int(count)), "poll": poll}
    commands[sys.argv[1]](*sys.argv[2:])
