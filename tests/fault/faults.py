# SPDX-License-Identifier: MIT
"""faults.py - what can go wrong with which call, and what a job may say of it.

FAULTS is the only list of what is injected: a row for each call that the shim counts. A call without
a row stops the enumeration, so that none is left out in silence.
"""

LOOKING = ["EIO", "EACCES", "EMFILE", "EIO+"]
CHANGING = ["EIO", "ENOSPC", "EACCES", "EIO+"]
NO_MEMORY = ["ENOMEM"]

FAULTS = {
    "open": LOOKING, "fopen": LOOKING, "opendir": LOOKING, "fdopendir": ["ENOMEM"],
    "stat": LOOKING[:2], "lstat": LOOKING[:2], "fstat": ["EIO"], "fstatat": LOOKING[:2],
    "statx": LOOKING[:2], "access": LOOKING[:2], "faccessat": LOOKING[:2], "statfs": ["EIO"],
    "statvfs": ["EIO"], "readlinkat": ["EIO", "EACCES"], "lseek": ["EIO"],
    "flistxattr": ["EIO"], "fgetxattr": ["EIO"], "readdir": ["EIO", "EIO+"],
    "getdents64": ["EIO", "EIO+"], "realpath": ["EIO", "EACCES"],
    "create": ["EIO", "ENOSPC", "EACCES", "EMFILE", "ENOSPC+"],
    "mkostemp": ["EIO", "ENOSPC", "EACCES", "EMFILE", "ENOSPC+"],
    "read": ["EIO", "EIO+", "EINTR", "short", "flip"],
    "pread": ["EIO", "EIO+", "EINTR", "short", "flip"],
    "write": ["EIO", "ENOSPC", "ENOSPC+", "EINTR", "short", "flip"],
    "pwrite": ["EIO", "ENOSPC", "ENOSPC+", "EINTR", "short", "flip"],
    "writev": ["EIO", "ENOSPC"],
    "fsync": ["EIO", "ENOSPC", "EIO+", "lie"], "fdatasync": ["EIO", "ENOSPC", "EIO+", "lie"],
    "sync_file_range": ["EIO", "ENOSYS"],
    "ftruncate": ["EIO", "ENOSPC", "EIO+"], "fallocate": ["ENOSPC", "EOPNOTSUPP"],
    "rename": CHANGING, "renameat": CHANGING, "renameat2": [*CHANGING, "EINVAL", "ENOSYS"],
    "link": CHANGING, "linkat": CHANGING, "symlinkat": CHANGING,
    "unlink": ["EIO", "EACCES", "EIO+"], "unlinkat": ["EIO", "EACCES", "EIO+"],
    "rmdir": ["EIO", "EACCES"], "mkdir": CHANGING, "mkdirat": CHANGING,
    "chmod": ["EIO", "EACCES"], "fchmod": ["EIO", "EACCES"], "fchown": ["EIO", "EACCES"],
    "utimensat": ["EIO"], "futimens": ["EIO"],
    "flock": ["EIO", "ENOLCK"], "fcntl-lock": ["EIO", "ENOLCK"],
    "flock-unlock": ["EIO"], "fcntl-unlock": ["EIO"],
    "close": ["EIO", "EINTR"], "posix_fadvise": ["EINVAL"],
    "mmap": ["ENOMEM"], "pthread_create": ["EAGAIN", "EAGAIN+"], "fork": ["EAGAIN", "ENOMEM"],
    "pipe2": ["EMFILE"], "mlock": ["ENOMEM"], "memfd_create": ["EMFILE"],
    "getrandom": ["EINTR", "ENOSYS"],
    "malloc": NO_MEMORY, "calloc": NO_MEMORY, "realloc": NO_MEMORY,
}

# Classes that are counted and not spoilt, by call and end of the place. Of a lock of the -shm that
# cannot be given back SQLite's connection knows nothing more, but its table of locks, which all
# connections of the process share, does: each read then waits for itself, for ten seconds, until the
# last connection to the file is closed. That is not to be mended from outside, and releases fail on
# network file systems alone, for which SQLite does not offer WAL.
LEFT_OUT = (("fcntl-unlock", "-shm"),)

# A kill before and after each of these.
STATE_CHANGING = frozenset((
    "create", "mkostemp", "write", "pwrite", "writev", "fsync", "fdatasync", "sync_file_range",
    "ftruncate", "fallocate", "rename", "renameat", "renameat2", "link", "linkat", "symlinkat",
    "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "chmod", "fchmod", "fchown", "utimensat",
    "futimens"))
KILLS = ("kill-before", "kill-after")
MEMORY = frozenset(("malloc", "calloc", "realloc"))

# After these the work goes on as if nothing had been.
HARMLESS = {"short", "lie"}
HARMLESS_CALLS = {("read", "EINTR"), ("pread", "EINTR"), ("write", "EINTR"), ("pwrite", "EINTR"),
                  ("sync_file_range", "ENOSYS"), ("posix_fadvise", "EINVAL"),
                  ("renameat2", "EINVAL"), ("renameat2", "ENOSYS")}

OWN_SHORTAGE = {"EMFILE", "ENOMEM", "EAGAIN", "EINVAL", "EINTR"}  # of the process, of neither side


class Point:
    """CALL PLACE#N=ACTION, as the shim reads it; without ACTION it is only a place in a run."""

    def __init__(self, text):
        self.text = text
        self.where, _, self.action = text.partition("=")
        self.klass, _, number = self.where.rpartition("#")
        self.number = int(number)
        self.call, _, self.place = self.klass.partition(" ")
        self.area = self.place.partition("/")[0]

    @property
    def kills(self):
        return self.action in KILLS

    @property
    def flips(self):
        return self.action == "flip"

    @property
    def flips_stored(self):
        return self.flips and self.call in ("write", "pwrite")

    @property
    def stays(self):
        return self.action.endswith("+")

    @property
    def may_abort(self):
        """keepfs ends itself by design where it has no memory or no randomness."""
        return self.call in MEMORY or self.call == "getrandom" or self.klass == "mmap program"

    @property
    def harmless(self):
        return self.action in HARMLESS or (self.call, self.action) in HARMLESS_CALLS

    @property
    def hits_state(self):
        """Can it keep the mount or ctl from answering, or jobs from being noted?"""
        return self.area not in ("repo", "source", "key")


def is_left_out(klass):
    call, _, place = klass.partition(" ")
    return any(call == c and place.endswith(end) for c, end in LEFT_OUT)


def actions_of(call):
    return FAULTS[call]


def codes_of(point):
    """Codes that a job may fail with: those of the side that the fault is on."""
    own = {"internal"} if point.action.rstrip("+") in OWN_SHORTAGE else set()
    if point.area == "repo":
        damage = {"integrity_failed"} if point.flips else set()
        full = {"destination_no_space"} if "ENOSPC" in point.action else set()
        denied = {"destination_permission_denied"} if "EACCES" in point.action else set()
        return own | damage | (full or denied or {"destination_unreachable"})
    if point.area == "state":
        full = {"state_no_space"} if "ENOSPC" in point.action else set()
        return own | (full or {"state_unavailable"})
    if point.area == "source":
        return own | {"source_unavailable"}
    if point.area == "key":
        return own | {"destination_credentials_invalid"}
    return {"internal"}
