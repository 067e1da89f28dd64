# SPDX-License-Identifier: MIT
"""permissions.py - every file of a mount x every kind of user x {read, write, remove}.

    permissions.py MOUNT TABLE NAME=UID:GID[,GID...]...

Walks the mount as root, then becomes each user in turn, with these groups and no name in any
database, and tries to open each file for reading and for writing, and to remove each file and
directory. TABLE is a file of lines

    PATTERN MODE GROUP NAME=ALLOWED...

PATTERN is a shell pattern for the path below the mount, of which * is one id or name; the first
line that matches a path counts, and there must be one. MODE and GROUP are what stat shall say.
ALLOWED is of r, w, and x for removing; `-` for nothing. Whoever is not named there is as `*`.
What is not allowed is EACCES, with these exceptions, which only concern users whom the kernel lets
pass: root opening a file for writing that is none for it gets EACCES from keepfs; removing is EPERM
where the kernel would allow it, but keepfs does not: p. Removing that succeeds (x) is not tried
here, since it leaves nothing for the next.

Nothing is read or written: opening a stream has no effect. Prints the number of attempts.
"""
import errno
import fnmatch
import json
import os
import stat
import sys


def walk(mount):
    paths = []
    for directory, names, files in os.walk(mount):
        for name in names + files:
            paths.append(os.path.relpath(os.path.join(directory, name), mount))
    return sorted(paths)


def matches(path, pattern):
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def read_table(name):
    rows = []
    for line in open(name):
        words = line.split()
        if words:
            rows.append((words[0], words[1], words[2], dict(w.split("=") for w in words[3:])))
    return rows


def row_of(path, rows):
    for row in rows:
        if matches(path, row[0]):
            return row
    sys.exit(f"no row of the table is for {path}")


def attempt(call, *args):
    try:
        fd = call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    if fd is not None:
        os.close(fd)
    return "ok"


def try_all(mount, user, todo):
    """What each attempt gives, by a child that has become the user."""
    uid, gids = user
    receiver, sender = os.pipe()
    if os.fork() == 0:
        os.close(receiver)
        os.setgroups(gids[1:])
        os.setresgid(gids[0], gids[0], gids[0])
        os.setresuid(uid, uid, uid)
        got = []
        for path, what in todo:
            full = os.path.join(mount, path)
            if what == "read":
                got.append(attempt(os.open, full, os.O_RDONLY | os.O_NONBLOCK))
            elif what == "write":
                got.append(attempt(os.open, full, os.O_WRONLY | os.O_NONBLOCK))
            elif what == "list":
                got.append(attempt(os.open, full, os.O_RDONLY | os.O_DIRECTORY))
            else:
                got.append(attempt(os.rmdir if what == "rmdir" else os.unlink, full))
        with os.fdopen(sender, "w") as out:
            json.dump(got, out)
        os._exit(0)
    os.close(sender)
    got = json.load(os.fdopen(receiver))
    os.wait()
    return got


def expectations(path, mode, allowed):
    """(what, errno or ok) for one path; mode says its type."""
    removed = "EPERM" if "p" in allowed else "EACCES"
    if stat.S_ISDIR(mode):
        yield "list", "ok" if "r" in allowed else "EACCES"
        if "x" not in allowed:
            yield "rmdir", removed
        return
    if not stat.S_ISLNK(mode):
        yield "read", "ok" if "r" in allowed else "EACCES"
        yield "write", "ok" if "w" in allowed else "EACCES"
    if "x" not in allowed:
        yield "unlink", removed


def main():
    mount, rows = sys.argv[1], read_table(sys.argv[2])
    users = {}
    for argument in sys.argv[3:]:
        name, ids = argument.split("=")
        uid, gids = ids.split(":")
        users[name] = (int(uid), [int(g) for g in gids.split(",")])
    paths = walk(mount)
    bad, tried, used = [], 0, set()
    for path in paths:
        st = os.lstat(os.path.join(mount, path))
        pattern, wanted_mode, wanted_group, _ = row_of(path, rows)
        used.add(pattern)
        shown = f"{stat.S_IMODE(st.st_mode):04o} {st.st_gid}"
        if shown != f"{wanted_mode} {wanted_group}":
            bad.append(f"{path}: mode {shown}, not {wanted_mode} {wanted_group}")
    for name, user in users.items():
        todo, wanted = [], []
        for path in paths:
            mode = os.lstat(os.path.join(mount, path)).st_mode
            allowed = row_of(path, rows)[3]
            for what, answer in expectations(path, mode, allowed.get(name, allowed["*"])):
                todo.append((path, what))
                wanted.append(answer)
        got = try_all(mount, user, todo)
        tried += len(todo)
        for (path, what), answer, given in zip(todo, wanted, got):
            if answer != given:
                bad.append(f"{name} {what} {path}: {given}, not {answer}")
    for pattern in {row[0] for row in rows} - used:
        bad.append(f"nothing matches {pattern}")
    if walk(mount) != paths:
        bad.append("the tree is not what it was before")
    print("\n".join(bad[:50]) if bad else tried)
    sys.exit(1 if bad else 0)


main()
