# SPDX-License-Identifier: MIT
# What a service manager (systemd, Type=notify) is told, and when. The manager is a Python process
# with a datagram socket; it writes a line into $T/told for each message: the first of its lines, then
# what the mount answered at that moment.

load lib

case_setup() {
    config_app
    cat >"$T/manager.py" <<'PY'
import os, socket, subprocess, sys
name, mount, told = sys.argv[1:4]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind("\0" + name[1:] if name[0] == "@" else name)
print("ready", flush=True)
out = open(told, "a", buffering=1)
while True:
    data, ancillary, _, _ = s.recvmsg(4096, socket.CMSG_SPACE(12))
    pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
    # In a process of its own: an answer that never comes is none.
    probe = subprocess.run(["timeout", "20", "cat", mount + "/README"], capture_output=True)
    answers = "answers" if probe.returncode == 0 and probe.stdout.startswith(b"keepfs") else "silent"
    print(pid, answers, "|".join(data.decode().split("\n")), file=out)
PY
}

manager() { # NAME
    mkfifo "$T/manager.out"
    python3 "$T/manager.py" "$1" "$M" "$T/told" >"$T/manager.out" 3>&- &
    CHILDREN+=("$!")
    read -r _ <"$T/manager.out"
}

start_foreground() { # VARIABLE=VALUE...
    env "$@" "$KEEPFS" mount "$CONFIG" "$M" -f 2>"$T/log" 3>&- &
    DAEMON=$!
    CHILDREN+=("$DAEMON")
}

has_told() { # COUNT
    [ "$(wc -l 2>/dev/null <"$T/told" || echo 0)" -ge "$1" ]
}

is_told() { # NUMBER PATTERN
    await has_told "$1"
    sed -n "$1p" "$T/told" | grep -qxE "$DAEMON $2" || {
        cat "$T/told" >&2
        return 1
    }
}

@test "ready when the mount answers, not before; stopping at SIGTERM" {
    manager "$T/notify"
    start_foreground NOTIFY_SOCKET="$T/notify"
    is_told 1 "answers READY=1\|STATUS=$CONFIG on $M"
    backup app
    kill -TERM "$DAEMON"
    wait "$DAEMON"
    is_told 2 '(answers|silent) STOPPING=1\|STATUS=.+'
    [ "$(wc -l <"$T/told")" = 2 ]
}

@test "a start that fails is never ready" {
    manager "$T/notify"
    touch "$STATE"
    status=0
    NOTIFY_SOCKET=$T/notify "$KEEPFS" mount "$CONFIG" "$M" -f 2>"$T/log" || status=$?
    [ "$status" != 0 ]
    # One that is: what it says comes behind whatever the first one said.
    rm "$STATE"
    start_foreground NOTIFY_SOCKET="$T/notify"
    is_told 1 'answers READY=1.*'
}

@test "a socket with an abstract name; an unmount is a stop, too" {
    manager "@keepfs-case-$$"
    start_foreground NOTIFY_SOCKET="@keepfs-case-$$"
    is_told 1 'answers READY=1.*'
    umount "$M" 2>/dev/null || fusermount3 -u "$M"
    wait "$DAEMON"
    is_told 2 'silent STOPPING=1.*'
}

@test "SIGHUP: reloading since when, then ready, whatever came of it" {
    manager "$T/notify"
    start_foreground NOTIFY_SOCKET="$T/notify"
    is_told 1 'answers READY=1.*'
    before=$(python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)')
    kill -HUP "$DAEMON"
    is_told 2 'answers RELOADING=1\|MONOTONIC_USEC=[0-9]+\|STATUS=.+'
    [ "$(sed -n '2s/.*USEC=\([0-9]*\).*/\1/p' "$T/told")" -ge "$before" ]
    is_told 3 "answers READY=1\|STATUS=$CONFIG on $M"
    echo 'nonsense = yes' >>"$CONFIG" # a key of the last section
    kill -HUP "$DAEMON"
    is_told 4 'answers RELOADING=1.*'
    is_told 5 "answers READY=1\|STATUS=$CONFIG on $M, as it was before a reload: .*nonsense.*"
}

@test "in the background the parent's exit says it, and nobody else is told" {
    manager "$T/notify"
    NOTIFY_SOCKET=$T/notify start
    [ -s "$M/README" ]
    stop
    start_foreground NOTIFY_SOCKET="$T/notify"
    is_told 1 'answers READY=1.*' # the first that was told anything
}

@test "a manager that is gone, or none at all, keeps nothing from working" {
    start_foreground NOTIFY_SOCKET="$T/nobody"
    await grep -q " $M fuse.keepfs " /proc/mounts
    backup app
    grep -q "warning: the service manager was not told READY=1: No such file or directory" "$T/log"
    kill -TERM "$DAEMON"
    wait "$DAEMON"
}
