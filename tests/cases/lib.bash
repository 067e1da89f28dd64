# SPDX-License-Identifier: MIT
#
# lib.bash - one daemon, one mount, one directory for each case.
#
#   T        the case's own directory, removed at the end
#   M        its mount point
#   KEEPFS   the binary under test, from tests/run.sh
#
# A case writes its configuration with `config <<EOF`, starts with `start`, and need not stop.
# Waiting is on states, not on time: the bounds here only end a case that hangs.

bats_require_minimum_version 1.5.0

PATIENCE=60 # seconds

setup() {
    : "${KEEPFS:?is the keepfs binary; tests/run.sh sets it}"
    T=$(mktemp -d "${TMPDIR:-/tmp}/keepfs-case${KEEPFS_RUN:+.$KEEPFS_RUN}.XXXXXX")
    M=$T/mnt
    mkdir "$M" "$T/src" "$T/repo"
    CONFIG=$T/keepfs.conf
    STATE=$T/state
    CHILDREN=()
    MOUNTS=()
    export ASAN_OPTIONS=log_path=$T/sanitizer:detect_leaks=1
    export UBSAN_OPTIONS=print_stacktrace=1:log_path=$T/sanitizer
    export TSAN_OPTIONS=log_path=$T/sanitizer:exitcode=0
    if declare -F case_setup >/dev/null; then case_setup; fi
}

teardown() {
    local pid m
    if declare -F case_teardown >/dev/null; then case_teardown; fi
    for pid in "${CHILDREN[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    stop || kill_daemon || true
    umount -l "$M" 2>/dev/null || fusermount3 -uzq "$M" 2>/dev/null || true
    for m in "${MOUNTS[@]}"; do umount -l "$m" 2>/dev/null || true; done
    # What a sanitizer has to say fails the case.
    local reports
    reports=$(cat "$T"/sanitizer.* 2>/dev/null || true)
    rm -rf --one-file-system "$T"
    if [ -n "$reports" ]; then
        printf '%s\n' "$reports" >&2
        return 1
    fi
}

config() {
    { printf '[keepfs]\nstate = %s\n' "$STATE"; cat; } >"$CONFIG"
}

# The configuration most cases need: one SQLite store with one repo.
config_app() { # [LINE OF THE REPO...]
    make_db "$T/src/app.db" 100
    config_repo "$@"
}

# The same, of a database that is the caller's.
config_repo() { # [LINE OF THE REPO...]
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo
$(printf '%s\n' "$@")
EOF
}

# One directory store, src/tree, with one repo.
config_docs() { # [LINE OF THE REPO...]
    mkdir -p "$T/src/tree"
    config <<EOF
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo
$(printf '%s\n' "$@")
EOF
}

# A new start with other lines of the repo app/main; the state stays.
reconfigure() { # [LINE OF THE REPO...]
    stop
    config_repo "$@"
    start
}

# One SQLite store with two repos: `echo app` makes two jobs.
config_near_far() {
    make_db "$T/src/app.db" 10
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/near]
kind = local
path = $T/repo/near
[repo app/far]
kind = local
path = $T/repo/far
EOF
}

make_db() { # FILE ROWS [JOURNAL_MODE]
    sqlite3 "$1" >/dev/null <<EOF
PRAGMA journal_mode=${3:-DELETE};
CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<$2)
INSERT INTO t SELECT i, hex(randomblob(40)) FROM n;
EOF
}

# A file with the 32 bytes of a new key.
make_key() { # FILE
    (umask 077 && head -c 32 /dev/urandom >"$1")
}

# The 64 hex digits of a key, as an environment variable has them.
key_hex() { # FILE
    od -An -v -tx1 "$1" | tr -d ' \n'
}

start() { # [OPTION...]
    timeout "$PATIENCE" "$KEEPFS" mount "$CONFIG" "$M" "$@"
    DAEMON=$(daemon_pid)
}

daemon_pid() {
    sed -n 's/^pid \([0-9]*\) on .*/\1/p' "$STATE/lock"
}

# Waits for a process that need not be a child.
wait_gone() { # PID
    await is_gone "$1"
}

# A zombie has gone: its parent, init, reaps it when it likes. But its files are closed only when its
# last thread has ended.
is_gone() {
    ! grep -q '^State:[[:space:]]*[A-WYt]' "/proc/$1"/task/*/status 2>/dev/null
}

stop() { # [SIGNAL]
    [ -n "${DAEMON:-}" ] || return 0
    kill "-${1:-TERM}" "$DAEMON" 2>/dev/null || true
    wait_gone "$DAEMON" || return 1
    DAEMON=
}

kill_daemon() {
    [ -n "${DAEMON:-}" ] || return 0
    kill -KILL "$DAEMON" 2>/dev/null || true
    wait_gone "$DAEMON"
    DAEMON=
}

# Runs a check until it holds.
await() { # COMMAND...
    local end=$((SECONDS + PATIENCE))
    until "$@"; do
        if ((SECONDS > end)); then
            echo "gave up waiting for: $*" >&2
            return 1
        fi
        pause
    done
}

# A breath between two looks at something that cannot be waited for.
pause() { read -rt 0.01 <> <(:) || true; }

state_of() { cat "$M/jobs/$1/status"; }

is_state() { # JOB PATTERN
    [[ $(state_of "$1") =~ ^($2)$ ]]
}

# Writes a line to ctl and prints the jobs it made, by the read-back of the same open.
trigger() { # LINE
    python3 - "$M/ctl" "$1" <<'EOF'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.write(fd, sys.argv[2].encode() + b"\n")
print("\n".join(l.split()[0] for l in os.read(fd, 1 << 20).decode().splitlines()))
EOF
}

finished() { # JOB: waits for its end, prints the state
    await is_state "$1" 'succeeded|failed|interrupted'
    state_of "$1"
}

# Starts a backup and expects it to succeed; sets JOB and RECORD.
backup() { # LINE
    JOB=$(trigger "$1")
    [ "$(finished "$JOB")" = succeeded ] || {
        cat "$M/jobs/$JOB/error" "$M/jobs/$JOB/log" >&2
        return 1
    }
    RECORD=$(basename "$(readlink "$M/jobs/$JOB/record")")
}

# Starts a backup and expects it to fail with a code; sets JOB.
backup_fails() { # LINE CODE
    JOB=$(trigger "$1")
    [ "$(finished "$JOB")" = failed ]
    [ "$(cat "$M/jobs/$JOB/error_code")" = "$2" ] || {
        cat "$M/jobs/$JOB/error_code" "$M/jobs/$JOB/error" >&2
        return 1
    }
    [ -s "$M/jobs/$JOB/error" ]
    [ -s "$M/jobs/$JOB/hint" ]
    [ ! -e "$M/jobs/$JOB/record" ]
}

# What a directory has besides names that are always there.
ulids() { # DIRECTORY
    ls "$1" >/dev/null
    ls "$1" | grep -xE '[0-9A-HJKMNP-TV-Z]{26}' || true
}

# Holds a SQLite database in an exclusive transaction, so that its backup waits; sets HOLDER.
# The holder says when it has the lock, and lets go when its input is closed (release).
hold_db() { # FILE
    mkfifo "$T/hold.in" "$T/hold.out"
    sqlite3 "$1" <"$T/hold.in" >"$T/hold.out" 3>&- &
    HOLDER=$!
    CHILDREN+=("$HOLDER")
    exec {HOLD_FD}>"$T/hold.in"
    echo "BEGIN EXCLUSIVE; SELECT 'held';" >&$HOLD_FD
    read -r _ <"$T/hold.out"
}

release_db() {
    exec {HOLD_FD}>&-
    wait "$HOLDER"
    rm "$T/hold.in" "$T/hold.out"
}

# A file system of its own size; needs root.
small_fs() { # DIRECTORY SIZE [INODES]
    mkdir -p "$1"
    mount -t tmpfs -o "size=$2,nr_inodes=${3:-0},mode=0700" tmpfs "$1"
    MOUNTS+=("$1")
}

# The shell lets a failed `! command` pass anywhere but at the end of a case; likewise the first
# part of `this && that`, which are two lines here.
refute() { # COMMAND...
    if "$@"; then
        echo "did not fail: $*" >&2
        return 1
    fi
}

# grep finds nothing, and not for want of something to look into.
assert_no_match() { # GREP_ARGUMENT...
    local status=0
    grep "$@" >&2 || status=$?
    [ "$status" = 1 ]
}

# errno name of a write to a file of the mount, or "ok".
write_errno() { # FILE TEXT
    python3 - "$1" "$2" <<'EOF'
import errno, os, sys
try:
    fd = os.open(sys.argv[1], os.O_WRONLY)
    os.write(fd, sys.argv[2].encode())
    print("ok")
except OSError as e:
    print(errno.errorcode[e.errno])
EOF
}

# errno name of reading a file, all of it or one block at an offset, or "ok".
read_errno() { # FILE [OFFSET]
    python3 - "$@" <<'EOF'
import errno, os, sys
try:
    fd = os.open(sys.argv[1], os.O_RDONLY)
    if len(sys.argv) > 2:
        os.pread(fd, 4096, int(sys.argv[2]))
    else:
        while os.read(fd, 1 << 20):
            pass
    print("ok")
except OSError as e:
    print(errno.errorcode[e.errno])
EOF
}

# Reading fails with EIO, and last_error says why.
assert_eio() { # TEXT FILE [OFFSET]
    [ "$(read_errno "${@:2}")" = EIO ]
    grep -qx 'errno EIO' "$M/last_error"
    grep -q "^message .*$1" "$M/last_error" || {
        cat "$M/last_error" >&2
        return 1
    }
}

# Puts another byte in the place of one.
flip() { # FILE OFFSET
    python3 - "$1" "$2" <<'EOF'
import os, sys
fd, at = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2])
os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 1]), at)
EOF
}

# Nothing half-made is left in repos and staging, and records and archives agree.
assert_clean() { # REPO...
    local repo listed stored
    for repo in "$@"; do
        [ -z "$(find "$repo" -maxdepth 1 -name '*.tmp' -print)" ]
    done
    [ -z "$(ls -A "$STATE/staging")" ]
    listed=$(ulids "$M/records" | sort)
    stored=$(find "$@" -mindepth 2 -maxdepth 2 -name manifest.yaml -printf '%h\n' | xargs -rn1 basename | sort)
    [ "$listed" = "$stored" ] || {
        diff <(echo "$listed") <(echo "$stored") >&2
        return 1
    }
}
