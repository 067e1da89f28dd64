# SPDX-License-Identifier: MIT
# What goes wrong on either side: the right code, a sentence that helps, nothing half published, and
# the next run works.

load lib

root_only() {
    if [ "$(id -u)" != 0 ]; then skip "needs root to make a small file system"; fi
}

# What is stored has the database's size, so that disks of a known size do or do not hold it.
app_into() { # REPO_PATH
    make_db "$T/src/app.db" 6000
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $1
compression = none
EOF
}

@test "destination full: destination_no_space; after freeing space the next run works" {
    root_only
    small_fs "$T/small" 1m
    app_into "$T/small/repo"
    start
    head -c 700k /dev/zero >"$T/small/ballast"
    backup_fails app destination_no_space
    grep -q 'No space' "$M/jobs/$JOB/error"
    assert_clean "$T/small/repo"
    rm "$T/small/ballast"
    backup app
    assert_clean "$T/small/repo"
}

@test "destination out of inodes: destination_no_space" {
    root_only
    small_fs "$T/small" 4m 4
    app_into "$T/small/repo"
    start
    backup_fails app destination_no_space
    assert_clean "$T/small/repo"
}

@test "destination read-only: destination_permission_denied; old records stay readable" {
    root_only
    small_fs "$T/small" 8m
    app_into "$T/small/repo"
    start
    backup app
    good=$RECORD
    mount -o remount,ro "$T/small"
    backup_fails app destination_permission_denied
    cmp "$T/src/app.db" "$M/records/$good/payload"
    mount -o remount,rw "$T/small"
    backup app
    assert_clean "$T/small/repo"
}

@test "destination gone: destination_not_found, not a new empty repo; back again it works" {
    app_into "$T/repo/main"
    start
    backup app
    mv "$T/repo/main" "$T/repo/away"
    backup_fails app destination_not_found
    [ ! -e "$T/repo/main" ]
    run cat "$M/records/$RECORD/payload"
    [ "$status" != 0 ]
    mv "$T/repo/away" "$T/repo/main"
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    backup app
    assert_clean "$T/repo/main"
}

@test "destination's file system not mounted: destination_not_found, the mount point stays empty" {
    root_only
    small_fs "$T/small" 8m
    app_into "$T/small"
    start
    backup app
    umount "$T/small"
    backup_fails app destination_not_found
    grep -q 'mounted' "$M/jobs/$JOB/error"
    [ -z "$(ls -A "$T/small")" ]
}

@test "destination is a file: destination_config_invalid" {
    app_into "$T/repo/file"
    start
    touch "$T/repo/file"
    backup_fails app destination_config_invalid
}

@test "source missing: source_unavailable, and a job is there to say so" {
    config_app
    start
    mv "$T/src/app.db" "$T/src/away"
    backup_fails app source_unavailable
    grep -q "$T/src/app.db" "$M/jobs/$JOB/error"
    mv "$T/src/away" "$T/src/app.db"
    backup app
}

@test "source is no database, truncated, or a directory: source_unavailable" {
    config_app
    start
    cp "$T/src/app.db" "$T/good"
    head -c 50000 /dev/urandom >"$T/src/app.db"
    backup_fails app source_unavailable
    truncate -s 5000 "$T/src/app.db"
    backup_fails app source_unavailable
    rm "$T/src/app.db"
    mkdir "$T/src/app.db"
    backup_fails app source_unavailable
    rmdir "$T/src/app.db"
    cp "$T/good" "$T/src/app.db"
    backup app
    assert_clean "$T/repo"
}

@test "state disk full: a write to ctl is ENOSPC and starts nothing; cancel still works" {
    root_only
    small_fs "$T/state" 2m
    config_app
    start
    backup app
    jobs=$(ls "$M/jobs" | wc -l)
    head -c 4m /dev/zero >"$T/state/ballast" 2>/dev/null || true
    # Space already allocated to the write-ahead log takes some more commits.
    e=ok
    for _ in $(seq 2000); do
        e=$(write_errno "$M/ctl" $'app\n')
        case $e in ok | EBUSY) ;; *) break ;; esac
    done
    [ "$e" = ENOSPC ]
    grep -qx 'errno ENOSPC' "$M/last_error"
    none_active() { [ -z "$(ls "$M/jobs/active")" ]; }
    rm "$T/state/ballast"
    await none_active
    backup app
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    assert_clean "$T/repo"
}

@test "staging disk full: state_no_space, and it says where" {
    root_only
    small_fs "$T/state" 3m
    make_db "$T/src/app.db" 60000
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo
EOF
    start
    backup_fails app state_no_space
    assert_clean "$T/repo"
}

@test "a damaged archive is not offered: truncated payload is EIO with a reason" {
    config_app
    start
    backup app
    truncate -s -1 "$T/repo/$RECORD/payload.bin"
    run cat "$M/records/$RECORD/payload"
    [ "$status" != 0 ]
    grep -qx 'errno EIO' "$M/last_error"
    grep -q '^message .*' "$M/last_error"
}

@test "two daemons with other states do not write into one repo at once" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    # The second one has the same repo; its sweep at start must not touch the first one's attempt.
    mkdir "$T/mnt2"
    sed "s,$STATE,$T/state2," "$CONFIG" >"$T/second.conf"
    "$KEEPFS" mount "$T/second.conf" "$T/mnt2"
    second=$(sed -n 's/^pid \([0-9]*\) .*/\1/p' "$T/state2/lock")
    release_db
    [ "$(finished "$job")" = succeeded ]
    kill "$second"
    wait_gone "$second"
    cmp "$T/src/app.db" "$M/jobs/$job/record/payload"
}
