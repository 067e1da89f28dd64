# SPDX-License-Identifier: MIT
# Every call fails once, every step is killed once: a sample of it, and proof that it can find something.

load ../cases/lib

FAULT=$BATS_TEST_DIRNAME
LEDGER_SIZE=786496 # of struct ledger in shim.c

# KEEPFS_SEED repeats a run; KEEPFS_ENUMERATE="--faults 1050" makes a sample, "--long" does all of it.
enumerate() { # OPTION...
    python3 -B "$FAULT/enumerate.py" "$@"
}

@test "whatever call fails and wherever it is killed, nothing is lost, left or lied about" {
    [ -n "${KEEPFS_ENUMERATE:-}" ] || skip "only where KEEPFS_ENUMERATE has enumerate.py's options"
    # shellcheck disable=SC2086
    enumerate $KEEPFS_ENUMERATE >"$T/out" || {
        cat "$T/out"
        false
    }
    sed 's/^/# /' "$T/out" >&3
    # A run that injects nothing proves nothing.
    read -r points _ executions _ kills _ violations _ < <(tail -n 1 "$T/out" | tr -d ,)
    [ "$violations" = 0 ]
    [ "$kills" -ge 300 ]
    [ "$points" -ge 500 ]
    [ "$executions" -ge 1300 ]
}

# ---- it can find something ----

# A keepfs that does something bad whenever it starts and an archive is there.
bad_keepfs() { # SHELL COMMAND, in the sandbox
    cat >"$T/bad" <<EOF
#!/bin/bash
if [ "\$1" = mount ]; then
    cd "\$(dirname "\${@: -1}")"
    archive=\$(ls -d repo/0* 2>/dev/null | head -n 1)
    if [ -n "\$archive" ]; then
        $1
    fi
fi
exec "$KEEPFS" "\$@"
EOF
    chmod +x "$T/bad"
}

finds() { # TEXT...
    local text
    KEEPFS_SHIM_LIBRARY=$(dirname "$KEEPFS")/tests/fault_shim.so
    export KEEPFS_SHIM_LIBRARY
    KEEPFS=$T/bad run -1 enumerate --only directory-raw --faults 2 --kills 1
    grep -q "^VIOLATION in directory-raw" <<<"$output"
    for text in "$@"; do grep -q "$text" <<<"$output"; done
}

@test "it finds an archive that is lost" {
    bad_keepfs 'rm -r "$archive"'
    finds 'which was there before, is gone'
}

@test "it finds an archive that is altered" {
    bad_keepfs 'printf x | dd of="$archive/payload.bin" conv=notrunc status=none'
    finds 'which was there before, is other'
}

@test "it finds what is left in the repo and in the source" {
    bad_keepfs 'touch repo/left; touch src/tree/left'
    finds "left in the repo: \['left'\]" 'the source was changed'
}

# ---- the shim itself ----

new_ledger() {
    rm -f "$T/ledger"
    truncate -s "$LEDGER_SIZE" "$T/ledger"
    printf '\1' | dd of="$T/ledger" conv=notrunc status=none # armed
}

# A command with the shim before libc.
shimmed() { # AREA POINT COMMAND...
    local area=$1 point=$2
    shift 2
    new_ledger
    LD_PRELOAD=$(dirname "$KEEPFS")/tests/fault_shim.so KEEPFS_SHIM_LEDGER=$T/ledger \
        KEEPFS_SHIM_AREAS=$area KEEPFS_SHIM_POINT=$point "$@"
}

# Writes "hello" by one write(2), syncs and reads it: what came of each, or the errno.
put() { # POINT
    mkdir -p "$T/area"
    shimmed "area=$T/area" "$1" python3 - "$T/area/f" <<'EOF'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
try:
    print(os.write(fd, b"hello"), end=" ")
    os.fsync(fd)
    print(os.pread(fd, 10, 0).decode())
except OSError as e:
    print(errno.errorcode[e.errno])
EOF
}

@test "the shim fails, cuts short, flips, lies and kills at the call it is told" {
    [ "$(put 'write area/f#9=EIO')" = "5 hello" ]
    [ "$(put 'write area/f#1=ENOSPC')" = ENOSPC ]
    [ ! -s "$T/area/f" ]
    [ "$(put 'fsync area/f#1=EIO')" = "5 EIO" ]
    [ "$(put 'fsync area/f#1=lie')" = "5 hello" ]
    [ "$(put 'write area/f#1=short')" = "2 he" ]
    [ "$(put 'write area/f#1=flip')" = "5 hemlo" ]
    [ "$(put 'pread area/f#1=flip')" = "5 hemlo" ]
    [ "$(cat "$T/area/f")" = hello ]
    run -137 put 'write area/f#1=kill-before'
    [ ! -s "$T/area/f" ]
    run -137 put 'write area/f#1=kill-after'
    [ "$(cat "$T/area/f")" = hello ]
}

code_of_backup() {
    JOB=$(trigger docs)
    finished "$JOB" >/dev/null
    cat "$M/jobs/$JOB/error_code"
    stop
}

# Which code a backup ends with when strace(1) does what the shim would be told.
code_by_strace() { # CALL ERRNO
    rm -rf "$STATE" "$T/repo" "$T/log" # the log of the run before says "is mounted on" too
    strace -f -qq -o /dev/null -e trace="$1" -e inject="$1:error=$2" \
        "$KEEPFS" mount -f "$CONFIG" "$M" >"$T/log" 2>&1 3>&- &
    local tracer=$!
    await grep -qs "is mounted on" "$T/log"
    DAEMON=$(daemon_pid)
    code_of_backup
    wait "$tracer"
}

code_by_shim() { # CALL ERRNO PLACE
    rm -rf "$STATE" "$T/repo"
    shimmed "repo=$T/repo" "$1 $3#1=$2" "$KEEPFS" mount "$CONFIG" "$M"
    DAEMON=$(daemon_pid)
    code_of_backup
}

@test "what the shim does to a backup is what strace's injection does to it" {
    command -v strace >/dev/null || skip "strace is not installed"
    config_docs
    echo a >"$T/src/tree/a"
    while read -r call errno place code; do
        [ "$(code_by_strace "$call" "$errno")" = "$code" ]
        [ "$(code_by_shim "$call" "$errno" "$place")" = "$code" ]
    done <<'EOF'
mkdirat EACCES repo/ULID.tmp destination_permission_denied
renameat2 ENOSPC repo/ULID destination_no_space
renameat2 EIO repo/ULID destination_unreachable
EOF
}
