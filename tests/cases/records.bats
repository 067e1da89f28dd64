# SPDX-License-Identifier: MIT
# What becomes of records: deleted by rmdir and rm, pinned, kept and deleted by retention; and a
# configuration that changes under them.

load lib

case_setup() {
    config_app
    start
}

records() { ulids "$M/records"; }
count_records() { records | wc -l; }
archives() { find "$T/repo" -mindepth 1 -maxdepth 1 -name '0*' -printf '%f\n'; }
archive_gone() { [ ! -e "$T/repo/$1" ]; }
entry_gone() { [ ! -e "$M/records/$1" ]; }
message() { sed -n 's/^message //p' "$M/last_error"; }

# Neither listed nor found by any name that the kernel could have kept.
assert_deleted() { # RECORD
    records >"$T/listed"
    assert_no_match -x "$1" "$T/listed"
    refute stat "$M/records/$1" 2>"$T/stat"
    grep -q 'No such file or directory' "$T/stat"
    refute stat "$M/records/$1/store" 2>/dev/null
}

# The kernel keeps whatever it can of it.
look_at() { # RECORD
    find "$M/records/$1" -ls >/dev/null
    cat "$M/records/$1"/{store,sha256,payload} >/dev/null
    stat "$M/records/$1" >/dev/null # a listing has made it forget the directory's atime
}

reload_with() { # LINE OF THE REPO...
    config_repo "$@"
    echo 1 >"$M/reload"
}

@test "rmdir, rm -r, rm -rf, find -delete and Python's rmtree delete a backup, each with status 0" {
    backup app
    stays=$RECORD
    for how in 'rmdir "$1"' 'rm -r "$1"' 'rm -rf "$1"' 'find "$1" -delete' \
        'find "$1" -depth -exec rm -d {} +' 'python3 -c "import shutil, sys; shutil.rmtree(sys.argv[1])" "$1"'; do
        backup app
        look_at "$RECORD"
        (cd "$M/records" && bash -c "$how" how "$RECORD" >"$T/out" 2>&1 </dev/null) || {
            echo "$how" >&2
            cat "$T/out" >&2
            return 1
        }
        [ ! -s "$T/out" ]
        assert_deleted "$RECORD"
        refute rmdir "$M/records/$RECORD" 2>"$T/err"
        grep -q 'No such file or directory' "$T/err"
        await archive_gone "$RECORD"
        [ ! -e "$M/jobs/$JOB/record" ]
        [ ! -L "$M/jobs/$JOB/record" ]
        grep -q '"record":null' "$M/jobs/$JOB/job.json"
    done
    [ "$(records)" = "$stays" ]
    [ "$(archives)" = "$stays" ]
    [ "$(cat "$M/stores/app/last_success")" = "$stays" ]
}

@test "rm -r records/0* deletes all of them, and a restart brings none back" {
    for _ in 1 2 3 4 5 6; do backup app; done
    look_at "$RECORD"
    rm -r "$M"/records/0*
    [ "$(count_records)" = 0 ]
    [ ! -e "$M/stores/app/last_success" ]
    stop
    start
    [ "$(count_records)" = 0 ]
    await eval '[ -z "$(archives)" ]'
}

@test "payload alone is the whole backup; any other name is EPERM and harms nothing" {
    backup app
    D=$M/records/$RECORD
    for f in "$D"/*; do
        [ "$f" != "$D/payload" ] || continue
        refute rm -f "$f" 2>"$T/err"
        grep -q 'Operation not permitted' "$T/err"
    done
    message | grep -q "rmdir records/$RECORD"
    refute mkdir "$D/new" 2>/dev/null
    refute mkdir "$M/records/01ARZ3NDEKTSV4RRFFQ69G5FAV" 2>/dev/null
    refute mv "$D" "$M/records/01ARZ3NDEKTSV4RRFFQ69G5FAV" 2>/dev/null
    refute mv "$D/payload" "$D/other" 2>/dev/null
    refute ln "$D/payload" "$D/other" 2>/dev/null
    refute touch "$D/new" 2>/dev/null
    cmp "$T/src/app.db" "$D/payload"
    rm -f "$D/payload"
    [ "$(count_records)" = 0 ]
    [ -z "$(ls -A "$D")" ]
    await archive_gone "$RECORD"
    rmdir "$D"
    assert_deleted "$RECORD"
}

@test "a pinned record cannot be deleted and says why, until it is unpinned" {
    backup app
    D=$M/records/$RECORD
    [ "$(cat "$D/pinned")" = 0 ]
    echo 1 >"$D/pinned"
    [ "$(cat "$D/pinned")" = 1 ]
    [ "$(stat -c '%a %s' "$D/pinned")" = '644 2' ]
    for how in 'rmdir "$1"' 'rm -r "$1"' 'rm -rf "$1"' 'rm -f "$1/payload"'; do
        refute bash -c "$how" how "$D" 2>"$T/err"
        grep -q 'Operation not permitted' "$T/err"
        grep -qx 'errno EPERM' "$M/last_error"
        message | grep -q "$RECORD is pinned"
    done
    cmp "$T/src/app.db" "$D/payload"
    stop
    start
    [ "$(cat "$D/pinned")" = 1 ]
    refute rmdir "$D" 2>/dev/null
    for wrong in 2 yes '' '1 '; do
        [ "$(write_errno "$D/pinned" "$wrong
")" = EINVAL ]
    done
    echo 0 >"$D/pinned"
    rm -r "$D"
    assert_deleted "$RECORD"
}

@test "who reads a payload that is deleted reads on or gets EIO" {
    make_db "$T/src/app.db.new" 60000
    mv "$T/src/app.db.new" "$T/src/app.db"
    backup app
    want=$(sha256sum <"$T/src/app.db" | cut -d' ' -f1)
    mkfifo "$T/go" "$T/opened"
    python3 - "$M/records/$RECORD/payload" "$T" "$want" <<'EOF' 3>&- &
import errno, hashlib, os, sys
path, t, want = sys.argv[1:]
f = open(path, "rb", buffering=0)
size = os.fstat(f.fileno()).st_size
digest, got = hashlib.sha256(f.read(4096)), 4096
open(t + "/opened", "w").write("x")
open(t + "/go").read()
assert os.fstat(f.fileno()).st_size == size
try:
    while part := f.read(1 << 17):
        digest.update(part)
        got += len(part)
    assert got == size and digest.hexdigest() == want
except OSError as e:
    assert e.errno == errno.EIO, e
assert os.fstat(f.fileno()).st_size == size
EOF
    reader=$!
    CHILDREN+=("$reader")
    cat "$T/opened" >/dev/null
    rm -r "$M/records/$RECORD"
    assert_deleted "$RECORD"
    await archive_gone "$RECORD"
    echo >"$T/go"
    wait "$reader"
}

@test "what retention deletes is gone for the kernel, too, but not what is open, pinned or kept" {
    backup app
    first=$RECORD first_job=$JOB
    echo 1 >"$M/records/$first/pinned"
    backup app
    second=$RECORD second_job=$JOB
    backup app
    third=$RECORD
    for r in "$first" "$second" "$third"; do look_at "$r"; done
    readlink "$M/jobs/$second_job/record" >/dev/null
    exec 7<"$M/records/$second/payload"
    reload_with 'keep_count = 1'
    backup app
    await entry_gone "$second"
    await entry_gone "$third"
    assert_deleted "$second"
    assert_deleted "$third"
    await archive_gone "$second"
    await archive_gone "$third"
    [ "$(records | sort | tr '\n' ' ')" = "$(printf '%s\n' "$first" "$RECORD" | sort | tr '\n' ' ')" ]
    [ ! -L "$M/jobs/$second_job/record" ]
    [ -L "$M/jobs/$first_job/record" ]
    [ "$(stat -Lc %s /proc/self/fd/7)" = "$(stat -c %s "$T/src/app.db")" ]
    exec 7<&-
    assert_clean "$T/repo"
}

@test "retention tells what it would do, by which rule" {
    R=$M/stores/app/repos/main/retention
    backup app
    first=$RECORD
    backup app
    second=$RECORD
    [ "$(stat -c %a "$R")" = 444 ]
    grep -q "^$second .*keep" "$R"
    grep -q "^$first .*keep" "$R"
    reload_with 'keep_count = 1'
    [ "$(cat "$M/stores/app/repos/main/keep_count")" = 1 ]
    grep -v '^#' "$R" >"$T/lines"
    [ "$(wc -l <"$T/lines")" = 2 ]
    [ "$(sed -n 1p "$T/lines" | cut -d' ' -f1)" = "$second" ]
    sed -n 1p "$T/lines" | grep -q 'keep'
    sed -n 2p "$T/lines" | grep -q "^$first .*delete"
    [ "$(stat -c %s "$R")" = "$(wc -c <"$R")" ]
    backup app
    await entry_gone "$first"
    await entry_gone "$second"
    [ "$(grep -c -v '^#' "$R")" = 1 ]
    grep -q "^$RECORD .*keep" "$R"
}

@test "only the owner and the control group delete, pin and reload" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    stop
    chmod 755 "$T"
    sed -i '1a control_group = 12346' "$CONFIG"
    start
    backup app
    D=$M/records/$RECORD
    [ "$(stat -c '%a %g' "$M/records")" = "775 12346" ]
    [ "$(stat -c '%a %g' "$D")" = "775 12346" ]
    stranger=(setpriv --reuid 12345 --regid 12345 --clear-groups)
    of_root=(setpriv --reuid 12345 --regid 12345 --groups "$(id -g)")
    member=(setpriv --reuid 12345 --regid 12345 --groups 12346)
    for how in 'rmdir "$1"' 'rm -rf "$1"' 'echo 1 >"$1/pinned"' 'echo 1 >"$1/../../reload"'; do
        refute "${stranger[@]}" bash -c "$how" how "$D" 2>"$T/err"
        grep -q 'Permission denied' "$T/err"
        refute "${of_root[@]}" bash -c "$how" how "$D" 2>"$T/err"
        grep -q 'Permission denied' "$T/err"
    done
    cmp "$T/src/app.db" "$D/payload"
    "${member[@]}" bash -c 'echo 1 >"$1/pinned"' how "$D"
    refute "${member[@]}" rmdir "$D" 2>/dev/null
    "${member[@]}" cat "$M/last_error" | grep -q "$RECORD is pinned"
    [ "$(cat "$M/last_error")" = ok ]
    "${member[@]}" bash -c 'echo 0 >"$1/pinned"; echo 1 >"$1/../../reload"; rm -rf "$1"' how "$D"
    assert_deleted "$RECORD"
}

# ---- another configuration ----

two_stores() { # [LINE OF THE SECOND REPO...]
    [ -e "$T/src/web.db" ] || make_db "$T/src/web.db" 10
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo
[store web]
kind = sqlite
path = $T/src/web.db
[repo web/near]
kind = local
path = $T/web
$(printf '%s\n' "$@")
EOF
}

@test "a reload brings a store and takes one away, whose records stay readable" {
    [ "$(ls "$M/stores")" = app ]
    exec 8<"$M/stores/app/repos/main/location"
    two_stores 'keep_daily = 9'
    echo 1 >"$M/reload"
    [ "$(cat "$M/last_error")" = ok ]
    [ "$(ls "$M/stores" | tr '\n' ' ')" = 'app web ' ]
    [ "$(cat "$M/stores/web/repos/near/keep_daily")" = 9 ]
    grep -qx web/near "$M/ctl"
    backup web
    web=$RECORD
    inode=$(stat -c %i "$M/stores/web")
    config_repo
    echo 1 >"$M/reload"
    [ "$(ls "$M/stores")" = app ]
    refute stat "$M/stores/web" 2>/dev/null
    refute stat "$M/stores/web/repos/near/keep_daily" 2>/dev/null
    [ "$(write_errno "$M/ctl" web)" = ENOENT ]
    [ "$(cat "$M/records/$web/store")" = web ]
    cmp "$T/src/web.db" "$M/records/$web/payload"
    [ "$(cat <&8)" = "$T/repo" ]
    exec 8<&-
    two_stores
    echo 1 >"$M/reload"
    [ "$(stat -c %i "$M/stores/web")" = "$inode" ]
    [ "$(cat "$M/stores/web/last_success")" = "$web" ]
    [ "$(cat "$M/stores/web/repos/near/keep_daily")" = 0 ]
    rm -r "$M/records/$web"
    assert_deleted "$web"
}

@test "a faulty configuration changes nothing, and last_error names the line" {
    two_stores 'keep_count = many'
    [ "$(write_errno "$M/reload" 1)" = EINVAL ]
    grep -qx 'path reload' "$M/last_error"
    line=$(grep -n 'keep_count = many' "$CONFIG" | cut -d: -f1)
    message | grep -q ":$line: .*keep_count"
    [ "$(ls "$M/stores")" = app ]
    backup app
    for wrong in 0 yes '' 11; do
        [ "$(write_errno "$M/reload" "$wrong
")" = EINVAL ]
    done
    message | grep -q 'write 1'
    [ "$(stat -c '%a %s' "$M/reload")" = '200 0' ]
    rm "$CONFIG"
    [ "$(write_errno "$M/reload" 1)" = EINVAL ]
    backup app
}

@test "next_run is empty without a schedule and in the future with one, as soon as it is reloaded" {
    for f in stores/app/next_run stores/app/repos/main/next_run stores/app/repos/main/schedule; do
        [ "$(cat "$M/$f"; echo .)" = "$(printf '\n.')" ]
    done
    [ -s "$M/stores/app/why" ]
    reload_with 'schedule = @daily' 'jitter = 60' 'catch_up = yes'
    [ "$(cat "$M/stores/app/repos/main/schedule")" = @daily ]
    [ "$(cat "$M/stores/app/repos/main/jitter")" = 60 ]
    [ "$(cat "$M/stores/app/repos/main/catch_up")" = yes ]
    await eval '[ -n "$(cat "$M/stores/app/next_run")" ]'
    [ "$(cat "$M/stores/app/next_run")" = "$(cat "$M/stores/app/repos/main/next_run")" ]
    next=$(date -d "$(cat "$M/stores/app/next_run")" +%s)
    [ "$next" -gt "$(date +%s)" ]
    [ "$next" -le "$(($(date +%s) + 86400 + 60))" ]
    reload_with
    await eval '[ -z "$(cat "$M/stores/app/next_run")" ]'
}

@test "a configuration that cannot be read to its end holds up no SIGTERM" {
    rm "$CONFIG"
    mkfifo "$CONFIG"
    kill -HUP "$DAEMON"
    stop
    assert_clean
}

@test "while the newest archive is gone, no other is removed" {
    backup app
    first=$RECORD
    backup app
    second=$RECORD
    mv "$T/repo/$second" "$T/kept"
    rmdir "$M/records/$first"
    stop
    "$KEEPFS" mount -f "$CONFIG" "$M" 2>"$T/log" 3>&- &
    await grep -q "archives are not removed yet: record $second, newer than all" "$T/log"
    [ -e "$T/repo/$first/payload.bin" ]
    DAEMON=$(daemon_pid)
    stop
    mv "$T/kept" "$T/repo/$second"
    start
    await archive_gone "$first"
    [ -e "$M/records/$second/payload" ]
}
