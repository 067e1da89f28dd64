# SPDX-License-Identifier: MIT
# What stands in the way of a mount: each is said, with an exit status, and nothing is mounted over
# it or left behind.

load lib

# A start fails with a status and says a text.
refused() { # STATUS TEXT MOUNTPOINT
    run timeout "$PATIENCE" "$KEEPFS" mount "$CONFIG" "$3"
    if [ "$status" != "$1" ] || [[ $output != *"$2"* ]]; then
        echo "exit status $status, and: $output" >&2
        return 1
    fi
}

not_mounted() { assert_no_match " $M fuse.keepfs " /proc/mounts; }

@test "a dead mount is cleared by its name with a slash at the end too" {
    config_app
    start
    backup app
    kill_daemon
    timeout "$PATIENCE" "$KEEPFS" mount "$CONFIG" "$M/"
    DAEMON=$(daemon_pid)
    [ "$(grep -c " $M fuse.keepfs " /proc/mounts)" = 1 ]
    [ "$(cat "$STATE/lock")" = "pid $DAEMON on $M" ]
    [ "$(ulids "$M/records")" = "$RECORD" ]
}

@test "what lies inside a dead mount is no mount point" {
    config_app
    start
    kill_daemon
    refused 2 "mount point $M/sub" "$M/sub"
    refused 2 "mount point $M/sub/deeper" "$M/sub/deeper"
    start
    backup app
}

@test "a mount point that another one is about to take is left to it" {
    config_app
    flock "$M" timeout "$PATIENCE" "$KEEPFS" mount "$CONFIG" "$M" >"$T/out" 2>&1 && status=0 || status=$?
    [ "$status" = 2 ]
    grep -q "$M is being mounted by another keepfs" "$T/out"
    not_mounted
    start
}

@test "a state whose lock is no file, or a symlink, is refused" {
    config_app
    start
    stop
    rm "$STATE/lock"
    mkdir "$STATE/lock"
    refused 31 "$STATE/lock" "$M"
    rmdir "$STATE/lock"
    ln -s "$T/elsewhere" "$STATE/lock"
    refused 31 "$STATE/lock" "$M"
    [ ! -e "$T/elsewhere" ]
    not_mounted
    rm "$STATE/lock"
    start
    backup app
}

@test "a state that belongs to another user, or that others can write, is refused" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    config_app
    start
    stop
    chown nobody "$STATE"
    refused 31 "can be written by others" "$M"
    chown root "$STATE"
    chmod 770 "$STATE"
    refused 31 "can be written by others" "$M"
    chmod 702 "$STATE"
    refused 31 "can be written by others" "$M"
    not_mounted
    chmod 755 "$STATE"
    start
}

# Whoever ended the start does not want a mount that comes late. The catalog is held meanwhile, for
# which a start has a patience of its own: it is done again if that ended first.
@test "a start whose parent was killed ends by itself, and leaves no mount" {
    config_app
    start
    backup app
    stop
    local tries=0
    until start_loses_its_parent; do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || skip "the machine is too slow for it"
    done
    start
    [ "$(ulids "$M/records")" = "$RECORD" ]
}

# Did it get so far that the mount answered?
start_loses_its_parent() {
    local parent
    hold_db "$STATE/catalog.sqlite"
    "$KEEPFS" mount "$CONFIG" "$M" 2>"$T/err" 3>&- &
    parent=$!
    CHILDREN+=("$parent")
    await has_new_owner "$parent" || exit 1
    DAEMON=$(daemon_pid)
    kill -KILL "$parent"
    wait "$parent" || true
    not_mounted || exit 1
    release_db
    wait_gone "$DAEMON" || exit 1
    not_mounted || exit 1
    grep -q 'is mounted on' "$T/err"
}

# The start holds the lock, and has written its name there; or it has ended.
has_new_owner() { # PARENT
    if ! flock -n "$STATE/lock" true && kill -0 "$(daemon_pid)" 2>/dev/null; then return 0; fi
    ! kill -0 "$1" 2>/dev/null
}

@test "it may open as many files as it needs, or as it is allowed" {
    config_app
    starts_with_files 100 300 300
    backup app
    stop
    if (ulimit -Hn 70000) 2>/dev/null; then
        starts_with_files 100 70000 65536
        stop
        starts_with_files 66000 70000 66000 # it takes nothing away
    fi
}

# Starts under these limits, and the daemon gives itself that many.
starts_with_files() { # SOFT HARD EXPECTED
    (
        ulimit -Sn 50 # never above the hard one
        ulimit -Hn "$2"
        ulimit -Sn "$1"
        timeout "$PATIENCE" "$KEEPFS" mount "$CONFIG" "$M"
    )
    DAEMON=$(daemon_pid)
    [ "$(sed -n 's/^Max open files *\([0-9]*\) .*/\1/p' "/proc/$DAEMON/limits")" = "$3" ]
}
