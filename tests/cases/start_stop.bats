# SPDX-License-Identifier: MIT
# Mounting, stopping, dying and coming back.

load lib

@test "mount returns when the mount answers" {
    config_app
    start
    [ -s "$M/README" ]
    grep -q "^$CONFIG $M fuse.keepfs " /proc/mounts
}

@test "SIGTERM, SIGINT: the running job is interrupted, the pending one too, the mount goes" {
    config_near_far
    for signal in TERM INT; do
        start
        hold_db "$T/src/app.db"
        jobs=($(trigger app))
        await is_state "${jobs[0]}" running
        stop $signal
        release_db
        assert_no_match " $M fuse.keepfs " /proc/mounts
        start
        for j in "${jobs[@]}"; do
            is_state "$j" interrupted
            [ "$(cat "$M/jobs/$j/error_code")" = interrupted ]
            [ -n "$(cat "$M/jobs/$j/finished_at")" ]
        done
        assert_clean "$T/repo/near" "$T/repo/far"
        stop
    done
}

@test "umount from outside ends the daemon, jobs interrupted" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    umount "$M" 2>/dev/null || fusermount3 -u "$M"
    wait_gone "$DAEMON"
    release_db
    start
    is_state "$job" interrupted
}

@test "SIGTERM with the mount in use: the daemon goes all the same" {
    config_app
    start
    exec {fd}<"$M/README"
    stop
    exec {fd}>&-
    start
    backup app
}

@test "a second daemon on the same state, or the same mount point, is refused by name" {
    config_app
    start
    mkdir "$T/mnt2"
    run "$KEEPFS" mount "$CONFIG" "$T/mnt2"
    [ "$status" = 2 ]
    [[ $output == *"$STATE is in use by keepfs pid $DAEMON on $M"* ]]
    sed "s,$STATE,$T/state2," "$CONFIG" >"$T/other.conf"
    run "$KEEPFS" mount "$T/other.conf" "$M"
    [ "$status" = 2 ]
    [[ $output == *"$M is mounted already, by a keepfs with $CONFIG"* ]]
    backup app
}

@test "after kill -9 the next start clears the dead mount and recovers" {
    config_app
    start
    backup app
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    kill_daemon
    run ls "$M"
    [ "$status" != 0 ]
    release_db
    start
    [ "$(grep -c " $M fuse.keepfs " /proc/mounts)" = 1 ]
    is_state "$job" interrupted
    [ "$(cat "$M/jobs/$job/error_code")" = interrupted ]
    assert_clean "$T/repo"
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    backup app
}

@test "deleting the state and starting again gives the same records" {
    config_app
    start
    for _ in 1 2 3; do backup app; done
    tell() {
        for r in "$M"/records/0*; do
            echo "$(basename "$r") $(cat "$r"/{size_bytes,content_bytes,sha256,created_at,store,repo,store_kind} | xargs)"
        done
    }
    before=$(tell)
    stop
    rm -r "$STATE"
    start
    [ "$before" = "$(tell)" ]
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    [ "$(cat "$M/stores/app/last_success")" = "$RECORD" ]
}

@test "archives of strangers, half ones and other directories in a repo are left alone or swept" {
    config_app
    start
    backup app
    stop
    cd "$T/repo"
    mkdir -p notes 01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp not-a-ulid.tmp 01ARZ3NDEKTSV4RRFFQ69G5FAW
    echo x >01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp/payload.bin
    echo x >01ARZ3NDEKTSV4RRFFQ69G5FAW/payload.bin
    cp -r "$RECORD" 01ARZ3NDEKTSV4RRFFQ69G5FAX # a manifest of another id
    cd /
    start
    [ -d "$T/repo/notes" ]
    [ -d "$T/repo/not-a-ulid.tmp" ]
    [ ! -e "$T/repo/01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp" ]
    [ ! -e "$T/repo/01ARZ3NDEKTSV4RRFFQ69G5FAW" ]
    [ -d "$T/repo/01ARZ3NDEKTSV4RRFFQ69G5FAX" ]
    [ "$(ulids "$M/records")" = "$RECORD" ]
}

@test "in the foreground it logs to stderr" {
    config_app
    mkfifo "$T/log"
    "$KEEPFS" mount "$CONFIG" "$M" -f 2>"$T/log" 3>&- &
    pid=$!
    CHILDREN+=("$pid")
    exec {log}<"$T/log"
    while read -r line <&$log; do [[ $line != *"is mounted on $M"* ]] || break; done
    DAEMON=$pid
    backup app
    kill -TERM "$pid"
    wait "$pid"
    grep -q "backup of app/main succeeded" <&$log
}

@test "with standard input, output or error closed it mounts all the same, and holds its lock" {
    config_app
    for closed in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
        eval "timeout $PATIENCE \"$KEEPFS\" mount \"$CONFIG\" \"$M\" $closed"
        DAEMON=$(daemon_pid)
        mkdir -p "$T/mnt2"
        run "$KEEPFS" mount "$CONFIG" "$T/mnt2"
        [ "$status" = 2 ]
        [ "$(cat "$STATE/lock")" = "pid $DAEMON on $M" ]
        backup app
        stop
    done
}

@test "a configuration from a pipe; a state directory that anybody can write is refused" {
    config_app
    "$KEEPFS" mount <(cat "$CONFIG") "$M"
    DAEMON=$(daemon_pid)
    backup app
    stop
    chmod 777 "$STATE"
    run "$KEEPFS" mount "$CONFIG" "$M"
    [ "$status" != 0 ]
    [[ $output == *"$STATE"* ]]
}

@test "what cannot be mounted is said, with an exit status" {
    config_app
    run "$KEEPFS" mount "$CONFIG" "$T/nowhere"
    [ "$status" = 2 ]
    [[ $output == *"$T/nowhere"* ]]
    run "$KEEPFS" mount "$T/nowhere.conf" "$M"
    [ "$status" = 3 ]
    [[ $output == *"$T/nowhere.conf"* ]]
    run "$KEEPFS" mount "$CONFIG" "$M" -o no_such_option
    [ "$status" != 0 ]
    [[ $output == *no_such_option* ]]
    run "$KEEPFS" mount "$CONFIG"
    [ "$status" = 2 ]
    run "$KEEPFS" nonsense
    [ "$status" = 2 ]
    run "$KEEPFS" --version
    [ "$status" = 0 ]
    [[ $output == keepfs\ * ]]
    run "$KEEPFS" --help
    [ "$status" = 0 ]
    [[ $output == *mount* ]]
    rm -rf "$STATE"
    touch "$STATE"
    run "$KEEPFS" mount "$CONFIG" "$M"
    [ "$status" != 0 ]
    [[ $output == *"$STATE"* ]]
    assert_no_match " $M fuse.keepfs " /proc/mounts
}

@test "a catalog that is damaged is named, with what to do" {
    config_app
    start
    backup app
    stop
    head -c 100000 /dev/urandom >"$STATE/catalog.sqlite"
    rm -f "$STATE"/catalog.sqlite-*
    run "$KEEPFS" mount "$CONFIG" "$M"
    [ "$status" != 0 ]
    [[ $output == *"$STATE/catalog.sqlite"* ]]
    rm "$STATE/catalog.sqlite"
    start
    [ "$(ulids "$M/records")" = "$RECORD" ]
}

@test "mount -t keepfs CONFIG DIR, as from fstab" {
    if [ "$(id -u)" != 0 ]; then skip "mount(8) needs root"; fi
    config_app
    # mount(8) looks for its helpers in /sbin alone: give it one in a private mount namespace.
    mkdir "$T/sbin" "$T/work"
    cp "$KEEPFS" "$T/sbin/mount.keepfs"
    unshare -m bash -eu -c '
        mount -t overlay overlay -o lowerdir="$1/sbin:/sbin" /sbin
        mount -t keepfs "$2" "$3" -o rw,noauto,nofail,x-systemd.automount
        echo app >"$3/ctl"
        until grep -qx succeeded "$3/jobs/latest/status"; do :; done
        cmp "$1/src/app.db" "$3/jobs/latest/record/payload"
        umount "$3"
        timeout 30 tail -s 0.02 --pid="$(sed -n "s/^pid \([0-9]*\) .*/\1/p" "$4/lock")" -f /dev/null
    ' - "$T" "$CONFIG" "$M" "$STATE"
}
