# SPDX-License-Identifier: MIT
# Who may do what, as real users, whose ids stand in no database; and who did, in the log.

load lib

CONTROL=60001 READ=60002 RUN=60003

case_setup() {
    [ "$(id -u)" = 0 ] || skip "needs root"
    chmod 755 "$T"
    USERS=(root=0:0 control=61001:61001,$CONTROL read=61002:61002,$READ run=61003:61003,$RUN
        other=61004:61004 roots_group=61005:61005,0)
}

as() { # control|read|run|other COMMAND...
    local user gids
    for user in "${USERS[@]}"; do [[ $user != "$1="* ]] || break; done
    user=${user#*=} gids=${user#*:}
    shift
    setpriv --reuid "${user%%:*}" --regid "${gids%%,*}" --groups "$gids" "$@"
}

# Two stores; the lines are of [keepfs].
config_two() { # LINE...
    make_db "$T/src/app.db" 100
    make_db "$T/src/web.db" 100
    config <<EOF
$(printf '%s\n' "$@")
[store app]
kind = sqlite
path = $T/src/app.db
${RUN_GROUP:-}
[repo app/main]
kind = local
path = $T/repo/app
[store web]
kind = sqlite
path = $T/src/web.db
busy_timeout = 3600
[repo web/main]
kind = local
path = $T/repo/web
expect_every = 1
EOF
}

config_groups() {
    RUN_GROUP="run_group = $RUN" config_two "control_group = $CONTROL" "read_group = $READ"
}

# With its log in $T/log.
start_logged() { # [OPTION...]
    "$KEEPFS" mount "$CONFIG" "$M" -f "$@" 2>"$T/log" 3>&- &
    DAEMON=$!
    CHILDREN+=("$DAEMON")
    await grep -q "is mounted on $M" "$T/log"
}

# A finished job with a record, another one whose record is pinned, one that failed, and one that
# runs until release_db.
fill() {
    backup app
    GOOD=$RECORD
    backup app
    PINNED=$RECORD
    echo 1 >"$M/records/$PINNED/pinned"
    mv "$T/src/web.db" "$T/src/gone.db"
    backup_fails 'web key=failed' source_unavailable
    mv "$T/src/gone.db" "$T/src/web.db"
    hold_db "$T/src/web.db"
    RUNNING=$(trigger web)
    await is_state "$RUNNING" running
    await test -L "$M/overdue/web"
}

# One line for each class, as permissions.py reads it: the groups and modes of what has one. `owner` is
# one that is not root. All else has the group TEXT, 0 unless it is set.
table() { # CONTROL RUN DATA CTL_MODE SWITCH_MODE PINNED_MODE RECORDS_MODE RUN_MODE DATA_MODE
    local text=${TEXT:-0}
    cat <<EOF
ctl                     $4 $1 root=rwp owner=rw control=rw *=-
reload                  $5 $1 root=rwp owner=w control=w *=-
events                  $9 $3 root=rp owner=r read=r *=-
jobs/*/cancel           $5 $1 root=rwp owner=w control=w *=-
stores/app/run          $8 $2 root=rwp owner=rw run=rw *=-
stores/web/run          $4 $1 root=rwp owner=rw control=rw *=-
records/*/review        $5 $1 root=rwp owner=wp control=wp *=-
records/*/pinned        $6 $1 root=rwp owner=rwp control=rwp *=r
records/$PINNED/payload $9 $3 root=rp owner=rp control=p read=r *=-
records/*/payload       $9 $3 root=rx owner=rx control=x read=r *=-
records/*/payload.bin   $9 $3 root=rp owner=rp control=p read=r *=-
records                 $7 $1 root=rp *=r
$(printf 'records/%s 0555 '"$text"' root=rp owner=rp control=rp *=r\n' by-store by-date pinned)
$(printf 'records/%s 0555 '"$text"' root=rp *=r\n' 'by-store/*' 'by-date/*' 'by-date/*/*' 'by-date/*/*/*')
$(printf 'records/%s 0777 '"$text"' root=rp *=r\n' 'by-store/*/*' 'by-date/*/*/*/*' 'pinned/*')
records/$PINNED         $7 $1 root=rp owner=rp control=rp *=r
records/*               $7 $1 root=rx owner=rx control=rx *=r
records/*/job           0777 $text root=rp owner=rp control=rp *=r
records/*/*             0444 $text root=rp owner=rp control=rp *=r
$(printf '%s 0777 '"$text"' root=rp *=r\n' jobs/latest 'jobs/active/*' 'jobs/by-key/*' 'jobs/*/record' \
        'stores/*/latest' 'stores/*/jobs/*' 'stores/*/records/*' 'overdue/*')
$(printf '%s 0555 '"$text"' root=rp *=r\n' jobs jobs/active jobs/by-key 'jobs/*' stores 'stores/*' \
        'stores/*/repos' 'stores/*/repos/*' 'stores/*/jobs' 'stores/*/records' 'stores/*/at' overdue)
$(printf '%s 0444 '"$text"' root=rp *=r\n' README last_error status metrics 'jobs/*/*' 'stores/*/*' 'stores/*/repos/*/*')
EOF
}

# The same for nobody but the owner.
table_closed() { # RUN RUN_MODE
    table "${TEXT:-0}" "$1" "${TEXT:-0}" 0600 0200 0644 0755 "$2" 0400 |
        sed -E 's/ (control|read)=[rwpx]+//g'
}

try_matrix() { # COUNT_AT_LEAST USER...
    local tried
    tried=$(python3 "$BATS_TEST_DIRNAME/permissions.py" "$M" "$T/table" "${@:2}") || {
        echo "$tried" >&2
        return 1
    }
    [ "$tried" -gt "$1" ] || {
        echo "only $tried attempts" >&2
        return 1
    }
}

@test "with all groups: each file, each user, reading, writing, removing" {
    config_groups
    start
    fill
    table $CONTROL $RUN $READ 0660 0220 0664 0775 0660 0440 >"$T/table"
    try_matrix 2000 "${USERS[@]}"
    release_db
    [ "$(finished "$RUNNING")" = succeeded ]
}

@test "with no group: nobody but the owner gets in at all" {
    config_two
    start
    fill
    table_closed 0 0600 >"$T/table"
    try_matrix 150 root=0:0
    for user in control read run other roots_group; do
        refute as "$user" stat "$M/README" 2>"$T/err"
        grep -q 'Permission denied' "$T/err"
    done
    assert_no_match allow_other <(grep " $M " /proc/mounts)
    release_db
    [ "$(finished "$RUNNING")" = succeeded ]
}

@test "with no group and allow_other by hand: nobody but the owner commands or reads data" {
    config_two
    start -o allow_other
    fill
    table_closed 0 0600 | sed 's/ run=rw//' >"$T/table"
    try_matrix 2000 "${USERS[@]}"
    release_db
    [ "$(finished "$RUNNING")" = succeeded ]
}

@test "a run group alone opens the mount, and one file to be written" {
    RUN_GROUP="run_group = $RUN" config_two
    start
    fill
    table_closed $RUN 0660 >"$T/table"
    try_matrix 2000 "${USERS[@]}"
    grep " $M " /proc/mounts | grep -q allow_other
    release_db
    [ "$(finished "$RUNNING")" = succeeded ]
}

# ---- a daemon that is not root's ----

# A namespace whose /dev/fuse is everybody's and whose /etc/fuse.conf is $T/fuse.conf. A path of it is
# reached by root as $INSIDE/path.
make_namespace() {
    touch "$T/fuse.conf"
    unshare -m bash -euc '
        mknod -m 666 "$1/fuse" c 10 229
        mount --bind "$1/fuse" /dev/fuse
        mount --bind "$1/fuse.conf" /etc/fuse.conf
        touch "$1/made"
        exec sleep infinity' - "$T" 3>&- &
    CHILDREN+=($!)
    NAMESPACE=$!
    INSIDE=/proc/$NAMESPACE/root
    await [ -e "$T/made" ]
}

start_as_nobody() {
    nsenter -t "$NAMESPACE" -m setpriv --reuid=nobody --regid=nogroup --clear-groups \
        env HOME="$T" timeout "$PATIENCE" "$T/keepfs" mount "$CONFIG" "$M" || return 1
    DAEMON=$(daemon_pid)
}

@test "an ordinary owner: groups take user_allow_other, and then hold as for root" {
    local uid gid
    uid=$(id -u nobody) gid=$(getent group nogroup | cut -d: -f3)
    install -m 755 "$KEEPFS" "$T/keepfs"
    mkdir "$STATE"
    config_groups
    chmod 644 "$CONFIG"
    chown -R nobody:nogroup "$T/src" "$T/repo" "$STATE" "$M"
    make_namespace
    refute start_as_nobody 2>"$T/err"
    grep -q 'ask root for a line user_allow_other in /etc/fuse.conf, or take control_group, ' "$T/err"
    echo user_allow_other >"$T/fuse.conf"
    start_as_nobody
    local outside=$M M=$INSIDE$M
    fill
    TEXT=$gid table $CONTROL $RUN $READ 0660 0220 0664 0775 0660 0440 >"$T/table"
    tried=$(nsenter -t "$NAMESPACE" -m python3 "$BATS_TEST_DIRNAME/permissions.py" "$outside" \
        "$T/table" "owner=$uid:$gid" "roots_group=61005:61005,$gid" "${USERS[@]:0:5}") || {
        echo "$tried" >&2
        false
    }
    [ "$tried" -gt 2000 ]
    release_db
    [ "$(finished "$RUNNING")" = succeeded ]
    stop
}

# ---- what comes of it ----

denied() { # COMMAND...
    refute "$@" 2>"$T/err"
    grep -q 'Permission denied' "$T/err"
}

audited() { # EXTENDED_REGEX: how many lines are that, as a whole
    grep -cE "^keepfs: audit $1$" "$T/log" || true
}

@test "the run group starts its store and nothing else" {
    config_groups
    start_logged
    denied as other bash -c 'echo app >"$1"' - "$M/ctl"
    denied as run bash -c 'echo app >"$1"' - "$M/ctl"
    denied as run bash -c 'echo 1 >"$1"' - "$M/stores/web/run"
    denied as control bash -c 'echo 1 >"$1"' - "$M/stores/app/run"
    line=$(as run bash -c 'exec 3<>"$1"; echo "1 label=deploy 42" >&3; read -r line <&3; echo $$ $line' \
        - "$M/stores/app/run")
    read -r pid job target <<<"$line"
    [ "$target" = app/main ]
    [ "$(finished "$job")" = succeeded ]
    [ "$(cat "$M/jobs/$job/requested_by")" = uid:61003 ]
    [ "$(cat "$M/jobs/$job/label")" = 'deploy 42' ]
    as run grep -qx succeeded "$M/jobs/$job/status"
    denied as run cat "$M/jobs/$job/record/payload"
    denied as run bash -c 'echo 1 >"$1"' - "$M/jobs/$job/cancel"
    refute as run bash -c 'echo web >"$1"' - "$M/stores/app/run" 2>"$T/err"
    grep -q 'Operation not permitted' "$T/err"
    as run cat "$M/last_error" | grep -qx 'path stores/app/run'
    as run cat "$M/last_error" | grep -q '^message stores/app/run starts backups of app alone'
    [ "$(cat "$M/last_error")" = ok ]
    [ "$(audited "uid=61003 pid=$pid verb=run target=app/main job=$job accepted")" = 1 ]
    [ "$(audited 'uid=61003 pid=[0-9]+ verb=run target=web refused EPERM ".*"')" = 1 ]
    # What the kernel refused is not known here; what was accepted is told once.
    [ "$(audited '.*')" = 2 ]
    assert_no_match 'asked for by uid' "$T/log"
}

@test "the control group commands, the read group reads, and each command is a line of the log" {
    config_groups
    start_logged
    backup app
    install -d -m 777 "$T/restored"
    as read cp "$M/records/$RECORD/payload" "$T/restored/app.db"
    cmp "$T/restored/app.db" "$T/src/app.db"
    as read cmp "$M/records/$RECORD/payload.bin" "$M/stores/app/latest/payload.bin"
    denied as control cat "$M/records/$RECORD/payload"
    denied as other cat "$M/records/$RECORD/payload.bin"
    as other grep -qx "$RECORD" "$M/stores/app/last_success"
    denied as read bash -c 'echo 1 >"$1"' - "$M/records/$RECORD/pinned"

    hold_db "$T/src/web.db"
    as control bash -c 'echo web >"$1"' - "$M/ctl"
    web=$(basename "$(readlink "$M/jobs/latest")")
    as control bash -c 'echo 1 >"$1"' - "$M/jobs/$web/cancel"
    [ "$(finished "$web")" = interrupted ]
    release_db
    as control bash -c 'echo 1 >"$1"' - "$M/records/$RECORD/pinned"
    refute as control rmdir "$M/records/$RECORD" 2>/dev/null
    as control bash -c 'echo 0 >"$1"' - "$M/records/$RECORD/pinned"
    as control bash -c 'echo 1 >"$1"' - "$M/records/$RECORD/review"
    as control bash -c 'echo 1 >"$1"' - "$M/reload"
    refute as control bash -c 'echo yes >"$1"' - "$M/reload" 2>/dev/null
    refute as control bash -c 'printf %s "$2" >"$1"' - "$M/ctl" $'x" accepted\rkeepfs: audit uid=0' 2>/dev/null
    as control rmdir "$M/records/$RECORD"
    me="uid=61001 pid=[1-9][0-9]*"
    for line in "verb=run target=web/main job=$web accepted" "verb=cancel job=$web accepted" \
        "verb=pin record=$RECORD accepted" "verb=unpin record=$RECORD accepted" \
        "verb=delete record=$RECORD refused EPERM \"record $RECORD is pinned.*\"" \
        "verb=review record=$RECORD accepted" "verb=reload accepted" \
        'verb=reload refused EINVAL "write 1 .*"' \
        'verb=run target="x.x22 accepted.x0dkeepfs: audit uid=0" refused EINVAL ".*"' \
        "verb=delete record=$RECORD accepted"; do
        [ "$(audited "$me $line")" = 1 ] || { echo "not once: $line"; cat "$T/log"; false; }
    done
    [ "$(audited "uid=61001 .*")" = 10 ]
    assert_no_match -E '(pinned|deleted|reviewed|again) (by|for) uid:|: job [0-9A-Z]+: cancelled by' "$T/log"
}

@test "a record is removed by the control group and by root, in every way, and by nobody else" {
    config_groups
    start
    for user in other read run roots_group; do
        [ -n "$(ulids "$M/records")" ] || backup app
        denied as "$user" rmdir "$M/records/$RECORD"
        denied as "$user" rm -rf "$M/records/$RECORD"
        denied as "$user" unlink "$M/records/$RECORD/payload"
    done
    cmp "$M/records/$RECORD/payload" "$T/src/app.db"
    for user in 'as control' 'env'; do
        for how in rmdir 'rm -r' 'rm -rf'; do
            backup app
            $user $how "$M/records/$RECORD"
            [ ! -e "$M/records/$RECORD" ]
        done
    done
}

@test "who opened a file is who commands, whichever process writes" {
    config_groups
    start_logged
    python3 - "$M" <<'EOF'
import os, sys
mount = sys.argv[1]

# root opens, and another user's process writes
fd = os.open(mount + "/ctl", os.O_RDWR)
if os.fork() == 0:
    os.setgroups([])
    os.setresgid(61004, 61004, 61004)
    os.setresuid(61004, 61004, 61004)
    try:
        os.open(mount + "/ctl", os.O_RDWR)
        os._exit(1)
    except PermissionError:
        pass
    os.write(fd, b"app\n")
    os._exit(0)
assert os.wait()[1] == 0
job = os.read(fd, 4096).split()[0].decode()
assert open(f"{mount}/jobs/{job}/requested_by").read() == "uid:0\n"

# a member of the run group opens, and root writes
if os.fork() == 0:
    os.setgroups([60003])
    os.seteuid(61003)
    fd = os.open(mount + "/stores/app/run", os.O_RDWR)
    os.seteuid(0)
    try:
        os.write(fd, b"web\n")
        os._exit(1)
    except PermissionError:
        pass
    os._exit(0)
assert os.wait()[1] == 0
EOF
    [ "$(audited 'uid=0 pid=[0-9]+ verb=run target=app/main job=[0-9A-Z]+ accepted')" = 1 ]
    [ "$(audited 'uid=61003 pid=[0-9]+ verb=run target=web refused EPERM ".*"')" = 1 ]
    [ "$(audited '.*')" = 2 ]
}

@test "a reload gives and takes a run group at once; the groups of the mount take a restart" {
    config_groups
    start -o allow_other # as it may stand in fstab
    denied as other bash -c 'echo 1 >"$1"' - "$M/stores/app/run"
    sed -i "s/^run_group = .*/run_group = 61004/" "$CONFIG"
    echo 1 >"$M/reload"
    denied as run bash -c 'echo 1 >"$1"' - "$M/stores/app/run"
    as other bash -c 'echo 1 >"$1"' - "$M/stores/app/run"
    sed -i "/^run_group = .*/d" "$CONFIG"
    [ "$(finished "$(basename "$(readlink "$M/jobs/latest")")")" = succeeded ]
    echo 1 >"$M/reload"
    denied as other bash -c 'echo 1 >"$1"' - "$M/stores/app/run"
    sed -i "s/^control_group = .*/control_group = 61004/" "$CONFIG"
    [ "$(write_errno "$M/reload" 1)" = EINVAL ]
    grep -q '^message control_group cannot change without a restart' "$M/last_error"
    denied as other bash -c 'echo app >"$1"' - "$M/ctl"
}

@test "refused commands without end are counted, not told" {
    config_groups
    start_logged
    python3 - "$M/ctl" <<'EOF'
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for i in range(3000):
    try:
        os.write(fd, b"no-such-store\n")
        sys.exit("accepted")
    except FileNotFoundError:
        pass
EOF
    lines=$(audited 'uid=0 .* refused ENOENT ".*"')
    [ "$lines" -ge 20 ]
    [ "$lines" -le 500 ]
    kill -TERM "$DAEMON"
    wait "$DAEMON"
    DAEMON=
    more=$(sed -nE 's/^keepfs: audit uid=0 ([0-9]+) more refused$/\1/p' "$T/log" | paste -sd+ | bc)
    [ $((lines + more)) = 3000 ]
}

@test "keepfs check tells of a group that there is not, with its line" {
    RUN_GROUP='run_group = no-such-group' config_two 'read_group = 4294967295'
    run "$KEEPFS" check "$CONFIG"
    [ "$status" != 0 ]
    [[ $output == *"$CONFIG:3: read_group = 4294967295 is out of range; allowed: a group's name, or its number"* ]]
    [[ $output == *"$CONFIG:7: run_group = no-such-group: there is no such group; allowed: "* ]]
}
