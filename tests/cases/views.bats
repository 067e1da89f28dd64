# SPDX-License-Identifier: MIT
# Links to jobs and records by store, date, pin and time; record.json and job.json.

load lib

setup_file() {
    FAKETIME_LIBRARY=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1)
    export FAKETIME_LIBRARY TZ=UTC
}

case_setup() {
    make_db "$T/src/app.db" 100
    make_db "$T/src/web.db" 10
    two_stores
}

one_store() {
    config_repo
}

two_stores() {
    config <<EOC
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo
[store web]
kind = sqlite
path = $T/src/web.db
[repo web/main]
kind = local
path = $T/web
EOC
}

# One backup of app within the hour that begins then, UTC; sets RECORD and keeps what it has in $T/RECORD.
backup_at() { # TIME
    sqlite3 "$T/src/app.db" "INSERT INTO t(v) VALUES ('$1')"
    FAKETIME="@$1" LD_PRELOAD=$FAKETIME_LIBRARY FAKETIME_DONT_FAKE_MONOTONIC=1 \
        "$KEEPFS" mount "$CONFIG" "$M"
    DAEMON=$(daemon_pid)
    backup app
    cp "$T/src/app.db" "$T/$RECORD"
    [ "$(cut -c1-13 "$M/records/$RECORD/created_at")" = "$(echo "${1:0:13}" | tr ' ' T)" ]
    stop
}

names() { # DIRECTORY: sorted, in one line
    ls "$1" | sort | tr '\n' ' '
}

sorted() { # WORD...
    printf '%s\n' "$@" | sort | tr '\n' ' '
}

# The link leads to the directory, and by a path that holds wherever the tree is.
assert_leads() { # LINK DIRECTORY
    [ -L "$1" ]
    [[ $(readlink "$1") == ../* ]]
    [ "$(readlink -f "$1")" = "$2" ]
    [ -d "$1/" ]
}

day_of() { # RECORD
    cut -c1-10 "$M/records/$1/created_at" | tr - /
}

links_to() { # RECORD: every link in the tree that leads to it, but those of jobs and stores' latest
    find "$M/records" "$M/stores" -type l -name "$1" | sort
}

@test "every view leads to the record, and the tree has no link that leads nowhere" {
    start
    backup app
    first=$RECORD
    backup web
    web=$RECORD
    backup app
    echo 1 >"$M/records/$first/pinned"
    assert_leads "$M/records/by-store/app/$first" "$M/records/$first"
    assert_leads "$M/records/by-date/$(day_of "$first")/$first" "$M/records/$first"
    assert_leads "$M/records/pinned/$first" "$M/records/$first"
    assert_leads "$M/stores/app/records/$first" "$M/records/$first"
    assert_leads "$M/stores/app/jobs/$JOB" "$M/jobs/$JOB"
    cmp "$T/src/web.db" "$M/records/by-store/web/$web/payload"
    [ "$(names "$M/records/by-store")" = 'app web ' ]
    [ "$(names "$M/records/by-store/app")" = "$(sorted "$first" "$RECORD")" ]
    [ "$(names "$M/stores/web/records")" = "$web " ]
    [ "$(ls "$M/stores/app/jobs" | wc -l)" = 2 ]
    [ "$(names "$M/records/pinned")" = "$first " ]
    find "$M" -type l >"$T/links"
    [ "$(wc -l <"$T/links")" -ge 20 ]
    [ -z "$(find "$M" -xtype l)" ]
    [ "$(links_to "$first" | wc -l)" = 4 ]
    [ "$(links_to "$web" | wc -l)" = 3 ]
}

@test "at/TIME is the newest backup not later" {
    backup_at '2026-08-31 12:00:00'
    one=$RECORD
    backup_at '2026-09-01 12:00:00'
    two=$RECORD
    backup_at '2026-09-03 00:00:00'
    three=$RECORD
    start
    A=$M/stores/app/at
    [ -z "$(ls -A "$A")" ]
    for t in 2026-09-01 2026-09-01T11:59 '2026-09-01 11:59:59Z' 2026-09-01T12:59+01:00 2026-09-01T12:00:00; do
        assert_leads "$A/$t" "$M/records/$one"
        cmp "$A/$t/payload" "$T/$one"
    done
    for t in 2026-09-02 2026-09-01T13 2026-09-01T12:05:00-01:00 2026-09-02T23:59:59.999Z "$(cat "$M/records/$two/created_at")"; do
        assert_leads "$A/$t" "$M/records/$two"
    done
    assert_leads "$A/2026-09-04" "$M/records/$three"
    for t in 2026-08-31 1970-01-01T00:00 2026-09-31 2026-09 yesterday "$one"; do
        refute stat "$A/$t" 2>"$T/err"
        grep -q 'No such file or directory' "$T/err"
        refute stat "$M/stores/web/at/$t" 2>/dev/null
    done
    cp "$A/2026-09-01T13:30/payload" "$T/back.db"
    [ "$(sqlite3 "$T/back.db" 'SELECT v FROM t ORDER BY id DESC LIMIT 1')" = '2026-09-01 12:00:00' ]
    [ "$(names "$M/records/by-date")" = '2026 ' ]
    [ "$(names "$M/records/by-date/2026")" = '08 09 ' ]
    [ "$(names "$M/records/by-date/2026/09")" = '01 03 ' ]
    [ "$(names "$M/records/by-date/2026/09/03")" = "$three " ]

    rmdir "$M/records/$two"
    assert_leads "$A/2026-09-02" "$M/records/$one"
    [ "$(names "$M/records/by-date/2026/09")" = '03 ' ]
    refute stat "$M/records/by-date/2026/09/01" 2>/dev/null
    rmdir "$M/records/$one"
    refute stat "$A/2026-09-02" 2>/dev/null
    [ "$(names "$M/records/by-date/2026")" = '09 ' ]
    rm -r "$M/records/$three"
    [ -z "$(ls -A "$M/records/by-date")" ]
    [ -z "$(ls -A "$M/records/by-store")" ]
    refute stat "$M/records/by-date/2026" 2>/dev/null
}

@test "pinned has what is pinned, at once" {
    start
    backup app
    P=$M/records/pinned
    for _ in 1 2 3; do
        [ -z "$(ls "$P")" ]
        refute stat "$P/$RECORD" 2>/dev/null
        echo 1 >"$M/records/$RECORD/pinned"
        [ "$(ls "$P")" = "$RECORD" ]
        [ "$(cat "$P/$RECORD/pinned")" = 1 ]
        echo 0 >"$P/$RECORD/pinned"
    done
    echo 1 >"$M/records/$RECORD/pinned"
    stop
    start
    [ "$(ls "$P")" = "$RECORD" ]
}

@test "what is deleted vanishes from every view, whoever deleted it" {
    start
    backup app
    first=$RECORD
    backup app
    second=$RECORD
    backup app
    third=$RECORD
    for r in "$first" "$second" "$third"; do
        [ "$(links_to "$r" | wc -l)" = 3 ]
        find "$M" -name "$r" -exec stat -L {} + >"$T/stat"
    done
    D=$M/records/by-date/$(day_of "$third")
    rm -r "$M/records/$first"
    [ -z "$(links_to "$first")" ]
    refute stat "$M/records/by-store/app/$first" 2>/dev/null
    refute stat "$M/stores/app/records/$first" 2>/dev/null
    config_repo 'keep_count = 1'
    echo 1 >"$M/reload"
    backup app
    vanished() { [ -z "$(links_to "$second")" ] && [ -z "$(links_to "$third")" ]; }
    await vanished
    refute stat "$D/$third" 2>/dev/null
    [ "$(names "$M/records/by-store/app")" = "$RECORD " ]
    [ "$(names "$M/stores/app/records")" = "$RECORD " ]
    [ "$(ls "$M/stores/app/jobs" | wc -l)" = 4 ]
}

@test "records of a store that left the configuration are found by it" {
    start
    backup web
    one_store
    echo 1 >"$M/reload"
    refute stat "$M/stores/web" 2>/dev/null
    [ "$(names "$M/records/by-store")" = 'web ' ]
    assert_leads "$M/records/by-store/web/$RECORD" "$M/records/$RECORD"
    cmp "$T/src/web.db" "$M/records/by-store/web/$RECORD/payload"
    stop
    start
    [ "$(names "$M/records/by-store")" = 'web ' ]
    [ "$(ls "$M/records/by-store/web")" = "$RECORD" ]
}

@test "rm -r of a view deletes nothing" {
    start
    backup app
    echo 1 >"$M/records/$RECORD/pinned"
    echo 0 >"$M/records/$RECORD/pinned"
    for what in by-store by-store/app by-date "by-store/app/$RECORD" "by-date/$(day_of "$RECORD")" pinned; do
        refute rm -rf "$M/records/$what" 2>"$T/err"
        grep -q 'Operation not permitted' "$T/err"
    done
    for what in records jobs "jobs/$JOB" at; do
        refute rm -rf "$M/stores/app/$what" 2>"$T/err"
        grep -q 'Operation not permitted' "$T/err"
    done
    refute mkdir "$M/records/by-date/1999" 2>/dev/null
    refute ln -s x "$M/records/pinned/x" 2>/dev/null
    cmp "$T/src/app.db" "$M/records/by-store/app/$RECORD/payload"
    [ "$(ls "$M/records/by-store/app")" = "$RECORD" ]
}

@test "inode numbers are unique in all of the tree, and those of listings are those of stat" {
    start
    backup app
    echo 1 >"$M/records/$RECORD/pinned"
    backup web
    trigger 'app key=a' >/dev/null
    backup_done() { [ -z "$(ls "$M/jobs/active")" ]; }
    await backup_done
    python3 - "$M" <<'EOP'
import os, stat, sys
seen = {}
def walk(path):
    with os.scandir(path) as entries:
        for e in entries:
            st = e.stat(follow_symlinks=False)
            assert e.inode() == st.st_ino, e.path
            assert e.is_dir(follow_symlinks=False) == stat.S_ISDIR(st.st_mode), e.path
            assert e.is_symlink() == stat.S_ISLNK(st.st_mode), e.path
            assert st.st_ino not in seen, (e.path, seen.get(st.st_ino))
            seen[st.st_ino] = e.path
            assert st.st_nlink == (2 if stat.S_ISDIR(st.st_mode) else 1), e.path
            if e.is_symlink():
                assert st.st_size == len(os.readlink(e.path)), e.path
            if e.is_dir(follow_symlinks=False):
                up = os.stat(e.path + "/..")
                assert up.st_ino == os.stat(path).st_ino, e.path
                walk(e.path)
walk(sys.argv[1])
assert len(seen) > 100
EOP
    [ -z "$(find "$M" -mindepth 1 -printf '%i\n' | sort | uniq -d)" ]
}

@test "record.json and job.json tell all, as numbers and truths" {
    start
    backup 'app label=say "hi"'
    R=$M/records/$RECORD J=$M/jobs/$JOB
    [ "$(jq -r .id "$R/record.json")" = "$RECORD" ]
    for key in store store_kind repo created_at size_bytes content_bytes sha256; do
        [ "$(jq -r ".$key" "$R/record.json")" = "$(cat "$R/$key")" ]
    done
    [ "$(jq -r .job "$R/record.json")" = "$JOB" ]
    [ "$(jq -r .state "$R/record.json")" = good ]
    [ "$(jq .manifest_bytes "$R/record.json")" = "$(stat -c %s "$R/manifest.yaml")" ]
    [ "$(jq -c '[.pinned, .suspect, .reviewed]' "$R/record.json")" = '[false,false,false]' ]
    jq -e '.size_bytes > 0 and .payload_id_count >= 0 and .payload_ids_bytes >= 0' "$R/record.json" >/dev/null
    [ "$(wc -l <"$R/record.json")" = 1 ]
    [ "$(stat -c %s "$R/record.json")" = "$(wc -c <"$R/record.json")" ]
    echo 1 >"$R/pinned"
    echo 1 >"$R/review"
    [ "$(jq -c '[.pinned, .suspect, .reviewed]' "$R/record.json")" = '[true,false,true]' ]

    for key in kind store repo requested_by created_at started_at finished_at progress; do
        [ "$(jq -r ".$key" "$J/job.json")" = "$(cat "$J/$key")" ]
    done
    [ "$(jq -r .state "$J/job.json")" = succeeded ]
    [ "$(jq -r .label "$J/job.json")" = 'say "hi"' ]
    [ "$(jq -r .record "$J/job.json")" = "$RECORD" ]
    jq -e '.attempt == 1 and .error_errno == null and .error == null and .duration_ms >= 0' "$J/job.json" >/dev/null
    [ "$(jq -r '.stats | to_entries[] | "\(.key) \(.value)"' "$J/job.json")" = "$(cat "$J/stats")" ]

    # One that was adopted, whose job nobody knows.
    stop
    rm "$STATE"/catalog.sqlite*
    start
    [ "$(jq .job "$R/record.json")" = null ]
    [ "$(jq -s length "$M"/records/by-store/app/*/record.json)" = 1 ]

    rm "$T/src/app.db"
    backup_fails app source_unavailable
    jq -e '.state == "failed" and .record == null and .duration_ms >= 0 and .error_errno == "ENOENT" and (.error | length) > 0 and (.hint | length) > 0' \
        "$M/jobs/$JOB/job.json" >/dev/null
}
