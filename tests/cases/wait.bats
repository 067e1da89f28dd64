# SPDX-License-Identifier: MIT
# wait, events, and a log that grows: what blocks, whom it lets go, and poll.

load lib

PARKING=$BATS_TEST_DIRNAME/parking.py

# Jobs that run until release_jobs: the command before them reads a pipe.
config_held() { # REPO...
    local repo
    make_db "$T/src/app.db" 50000
    mkfifo "$T/gate"
    {
        printf '%s\n' '[store app]' 'kind = sqlite' "path = $T/src/app.db" \
            "before = /usr/bin/cat $T/gate" 'hook_timeout = 3600'
        for repo; do printf '%s\n' "[repo app/$repo]" 'kind = local' "path = $T/repo/$repo"; done
    } | config
}

# Lets go the one that runs, and holds none that comes.
release_jobs() {
    : >"$T/gate"
    hold_no_more
}

hold_no_more() {
    rm "$T/gate"
    touch "$T/gate"
}

held_job() {
    config_held main
    start
    JOB=$(trigger app)
    await is_state "$JOB" running
    WAIT=$M/jobs/$JOB/wait
}

# Starts a reader; sets PID.
background() { # COMMAND...
    "$@" &
    PID=$!
    CHILDREN+=("$PID")
}

# Waits until a process of ours is parked in the mount.
parked() { # PID
    await grep -qx request_wait_answer "/proc/$1/wchan"
}

@test "wait blocks until the job has ended, gives its state and ends" {
    held_job
    [ "$(stat -c %s "$WAIT")" = 0 ]
    background cat "$WAIT" >"$T/out"
    cat=$PID
    background grep -qx succeeded "$WAIT"
    grep=$PID
    background grep -qx failed "$WAIT"
    other=$PID
    background dd if="$WAIT" bs=1 status=none >"$T/bytes"
    dd=$PID
    for pid in $cat $grep $other $dd; do parked $pid; done
    [ ! -s "$T/out" ]
    release_jobs
    wait $cat
    wait $grep
    wait $dd
    status=0
    wait $other || status=$?
    [ $status = 1 ]
    [ "$(cat "$T/out")" = succeeded ]
    cmp "$T/out" "$T/bytes"
    # A finished one is a file like any other.
    [ "$(cat "$WAIT")" = succeeded ]
    [ "$(stat -c %s "$WAIT")" = 10 ]
    tar -cf - -C "${WAIT%/*}" wait | tar -xOf - | cmp - "$T/out"
}

@test "wait of a job that is cancelled, and of one that fails" {
    held_job
    background cat "$WAIT" >"$T/out"
    reader=$PID
    parked $reader
    echo 1 >"$M/jobs/$JOB/cancel"
    wait $reader
    [ "$(cat "$T/out")" = interrupted ]
    hold_no_more
    echo 'not a database, at all' >"$T/src/app.db"
    job=$(trigger app)
    [ "$(cat "$M/jobs/$job/wait")" = failed ]
}

@test "SIGINT, SIGTERM and SIGKILL end a parked reader at once" {
    held_job
    python3 "$PARKING" signal "$WAIT" "$M/events"
    # The daemon is none the worse.
    background cat "$WAIT" >"$T/out"
    reader=$PID
    parked $reader
    release_jobs
    wait $reader
    [ "$(cat "$T/out")" = succeeded ]
}

@test "O_NONBLOCK gets EAGAIN, from open or later; so grep -r ends" {
    held_job
    python3 - "$WAIT" "$M/events" <<'EOF'
import fcntl, os, sys
for path in sys.argv[1:]:
    for later in False, True:
        fd = os.open(path, os.O_RDONLY | (0 if later else os.O_NONBLOCK))
        if later:
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
        try:
            sys.exit(f"{path}: {os.read(fd, 100)}")
        except BlockingIOError:
            pass
EOF
    grep -qx ok "$M/last_error"
    status=0
    timeout 20 grep -rs 'nothing has this' "$M" || status=$?
    [ $status != 124 ]
    release_jobs
}

@test "events: a line for each change since the open, for each reader, until keepfs ends" {
    config_app
    start
    background cat "$M/events" >"$T/one"
    one=$PID
    background cat "$M/events" >"$T/two"
    two=$PID
    parked $one
    parked $two
    backup app
    await grep -q "record $RECORD" "$T/one"
    await cmp -s "$T/one" "$T/two"
    sed -E 's/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z /TIME /' "$T/one" >"$T/lines"
    diff "$T/lines" - <<EOF
TIME job $JOB app/main - pending
TIME job $JOB app/main pending running
TIME job $JOB app/main running succeeded
TIME record $RECORD app/main - created
EOF
    status=0
    timeout 1 cat "$M/events" >"$T/late" || status=$?
    [ $status = 124 ]
    [ ! -s "$T/late" ]
    parked $one
    parked $two
    stop
    wait $one
    wait $two
    [ "$(wc -l <"$T/one")" = 4 ]
}

@test "a slow reader of events is told how many it missed" {
    config_app
    start
    exec {events}<"$M/events"
    backup app
    python3 - "$M/records/$RECORD/pinned" <<'EOF'
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for i in range(1200):
    os.write(fd, b"01"[i % 2 ^ 1:][:1])
EOF
    python3 - $events >"$T/lines" <<'EOF'
import os, sys
fd = int(sys.argv[1])
os.set_blocking(fd, False)
try:
    while True:
        sys.stdout.write(os.read(fd, 5000).decode())
except BlockingIOError:
    pass
EOF
    exec {events}<&-
    # 3 of the job, 1 of the record, 1200 of the pin; 1024 are kept.
    [ "$(head -n 1 "$T/lines")" = "dropped 180" ]
    [ "$(wc -l <"$T/lines")" = 1025 ]
    [ "$(grep -cE "^[^ ]+ record $RECORD app/main good (un)?pinned$" "$T/lines")" = 1024 ]
}

@test "tail -f and tail -F follow the log of a running job" {
    held_job
    await grep -q 'backup of app/main' "$M/jobs/$JOB/log"
    background tail -s 0.1 -n +1 -f "$M/jobs/$JOB/log" >"$T/follow" 2>"$T/follow.err"
    background tail -s 0.1 -n +1 -F "$M/jobs/$JOB/log" >"$T/retry" 2>"$T/retry.err"
    for f in follow retry; do await grep -q 'backup of app/main' "$T/$f"; done
    refute grep -q succeeded "$T/follow" "$T/retry"
    release_jobs
    [ "$(finished "$JOB")" = succeeded ]
    for f in follow retry; do
        await grep -q succeeded "$T/$f"
        cmp "$M/jobs/$JOB/log" "$T/$f"
        [ ! -s "$T/$f.err" ]
    done
}

# The second job of the store is pending while the first is held.
@test "poll, select and epoll on status, progress, wait and events" {
    config_held near far
    start
    jobs=($(trigger app))
    await is_state "${jobs[0]}" running
    coproc POLL { exec python3 "$PARKING" poll "${jobs[1]}" "$M" 2>"$T/poll.err"; }
    CHILDREN+=("$POLL_PID")
    exec {from}<&"${POLL[0]}"
    read -r word <&$from || { cat "$T/poll.err"; false; }
    [ "$word" = pending ]
    echo 1 >"$M/jobs/${jobs[0]}/cancel"
    read -r word <&$from || { cat "$T/poll.err"; false; }
    [ "$word" = running ]
    release_jobs
    read -r word <&$from || { cat "$T/poll.err"; false; }
    [ "$word" = good ]
}

# Starts 2,000 parked readers, half of wait, half of events; sets CROWD.
crowd() {
    local helper=${KEEPFS%/*}/tests/parked
    [ -x "$helper" ] || skip "$helper is not built"
    held_job
    background "$helper" 2000 "$WAIT" "$M/events" >"$T/got"
    CROWD=$PID
    python3 "$PARKING" parked "$CROWD" 2000
}

@test "2,000 parked readers hold up nobody, and all wake when the job ends" {
    crowd
    for i in $(seq 20); do
        timeout 20 ls "$M/jobs/$JOB" >/dev/null
        [ "$(timeout 20 cat "$M/jobs/$JOB/status")" = running ]
    done
    [ "$(ls "/proc/$DAEMON/task" | wc -l)" -lt 40 ]
    release_jobs
    wait "$CROWD"
    grep -qx '1000 succeeded' "$T/got"
    grep -qx '1000 line' "$T/got"
}

@test "2,000 parked readers are killed at once" {
    crowd
    kill -KILL "$CROWD"
    begin=$SECONDS
    wait_gone "$CROWD"
    [ $((SECONDS - begin)) -lt 20 ]
    [ "$(timeout 20 cat "$M/jobs/$JOB/status")" = running ]
    release_jobs
    [ "$(cat "$WAIT")" = succeeded ]
}

@test "SIGTERM with 2,000 parked readers ends keepfs, answers them, and leaves no mount" {
    crowd
    begin=$SECONDS
    stop
    [ $((SECONDS - begin)) -lt 20 ] # ten times what is wanted
    assert_no_match -F " $M " /proc/mounts
    wait "$CROWD"
    grep -qx '1000 interrupted' "$T/got"
    grep -qx '1000 line' "$T/got"
}

@test "a lazy unmount leaves parked readers their answer" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    held_job
    background cat "$WAIT" >"$T/out"
    reader=$PID
    background cat "$M/events" >"$T/events"
    follower=$PID
    parked $reader
    parked $follower
    umount -l "$M"
    release_jobs
    wait $reader
    [ "$(cat "$T/out")" = succeeded ]
    await grep -q 'running succeeded' "$T/events"
    await grep -q ' record ' "$T/events"
    parked $follower
    stop
    wait $follower
}

@test "a forced unmount ends parked readers and keepfs" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    held_job
    background cat "$WAIT" >"$T/out" 2>"$T/err"
    reader=$PID
    parked $reader
    umount -f "$M" 2>/dev/null || true
    refute wait $reader
    wait_gone "$DAEMON"
    DAEMON=
    assert_no_match " $M fuse.keepfs " /proc/mounts
    hold_no_more
}

# Also when the start fails.
case_teardown() {
    if [ -n "${TIMEOUT_BEFORE:-}" ]; then echo "$TIMEOUT_BEFORE" >/proc/sys/fs/fuse/max_request_timeout; fi
}

# The kernel looks every 15 seconds, and ends the mount if a request is too old.
@test "the mount outlives waiting for longer than the kernel's request timeout" {
    sysctl=/proc/sys/fs/fuse/max_request_timeout
    [ -e $sysctl ] || skip "this kernel has no fs.fuse.max_request_timeout (it came with 6.15)"
    [ -w $sysctl ] || skip "needs root"
    config_app
    TIMEOUT_BEFORE=$(cat $sysctl)
    # It counts when the mount is made.
    echo 15 >$sysctl
    start
    case_teardown
    background cat "$M/events" >"$T/events" 2>"$T/events.err"
    follower=$PID
    parked $follower
    begin=$SECONDS
    while ((SECONDS - begin < 35)); do
        parked $follower
        read -rt 1 <> <(:) || true
    done
    backup app
    await grep -q 'running succeeded' "$T/events"
    [ ! -s "$T/events.err" ]
}
