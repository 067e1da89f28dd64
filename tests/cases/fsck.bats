# SPDX-License-Identifier: MIT
# keepfs fsck: each thing it can find is made for real, found by its name with the exit status of
# its class, and nothing is found where nothing is wrong. It never writes.

load lib

NO_ULID=01ARZ3NDEKTSV4RRFFQ69G5FAV

REPAIRABLE=70
DAMAGED=71

# Runs it, and the state and the repos are as they were, to the byte; sets STATUS and $T/out.
fsck() { # [OPTION]
    local before
    before=$(tree)
    STATUS=0
    "$KEEPFS" fsck "$CONFIG" "$@" >"$T/out" 2>"$T/err" || STATUS=$?
    [ "$before" = "$(tree)" ]
}

tree() { find "$STATE" "$T/repo" -printf '%p %s %m %T@ ' -type f -exec md5sum {} + 2>/dev/null | sort; }

finds_nothing() { # ARCHIVES [OPTION]
    fsck "${@:2}"
    [ "$(cat "$T/out")" = "0 findings, $1 archives checked" ] || show
    [ "$STATUS" = 0 ]
}

# Exactly one finding, whose line begins so.
finds() { # STATUS BEGINNING ARCHIVES [OPTION]
    fsck "${@:4}"
    [ "$STATUS" = "$1" ] || show
    [ "$(sed '$d' "$T/out" | wc -l)" = 1 ] || show
    [ "$(tail -n 1 "$T/out")" = "1 findings, $3 archives checked" ] || show
    [[ $(head -n 1 "$T/out") == "$2 "?* ]] || show
}

show() {
    echo "exit status $STATUS, and:" >&2
    cat "$T/out" "$T/err" >&2
    return 1
}

# The next start repairs what was found.
start_repairs() {
    start
    stop
    fsck
    [ "$STATUS" = 0 ] || show
}

catalog() { sqlite3 "$STATE/catalog.sqlite" "$1"; }

# One record, $RECORD, and no daemon.
one_record() { # [LINE OF THE REPO...]
    config_app "$@"
    start
    backup app
    stop
}

@test "agreement is no finding: stopped, running, killed, with --deep" {
    make_key "$T/key"
    config_app "encryption_key = file:$T/key"
    start
    backup app
    backup app
    finds_nothing 2
    finds_nothing 2 --deep
    kill_daemon
    finds_nothing 2 --deep
    rm "$STATE/catalog.sqlite-shm"
    finds_nothing 2 --deep
    start
    stop
    [ ! -e "$STATE/catalog.sqlite-wal" ]
    finds_nothing 2 --deep
}

@test "no state yet, no repo yet: nothing to find" {
    config_app
    sed -i "s|^path = $T/repo|&/new|" "$CONFIG"
    finds_nothing 0
    [ ! -e "$STATE" ]
}

@test "archive_without_record: the row is gone, or the whole state, or it was marked missing" {
    one_record
    catalog "DELETE FROM records"
    finds $REPAIRABLE "archive_without_record app/main $RECORD" 1
    start_repairs
    catalog "UPDATE records SET state = 'missing'"
    finds $REPAIRABLE "archive_without_record app/main $RECORD" 1
    start_repairs
    rm -r "$STATE"
    finds $REPAIRABLE "archive_without_record app/main $RECORD" 1
    [ ! -e "$STATE" ]
    start_repairs
}

@test "record_without_archive: the archive was removed" {
    one_record
    rm -r "$T/repo/$RECORD"
    finds $REPAIRABLE "record_without_archive app/main $RECORD" 0
    start_repairs
}

@test "partial_archive and half_deleted_archive" {
    one_record
    mkdir "$T/repo/$NO_ULID.tmp"
    finds $REPAIRABLE "partial_archive app/main $NO_ULID" 1
    start_repairs
    mkdir "$T/repo/$NO_ULID"
    touch "$T/repo/$NO_ULID/payload.bin"
    finds $REPAIRABLE "half_deleted_archive app/main $NO_ULID" 1
    start_repairs
    mkdir "$T/repo/lost+found" "$T/repo/notes.tmp"
    finds_nothing 1
}

@test "deletion_unfinished: its row says that it is being deleted" {
    one_record
    catalog "UPDATE records SET state = 'deleting'"
    finds $REPAIRABLE "deletion_unfinished app/main $RECORD" 0
    start
    has_no_row() { [ "$(catalog 'SELECT count(*) FROM records')" = 0 ]; }
    await has_no_row
    finds_nothing 0
}

@test "a daemon killed in the middle leaves a job and a partial archive; while it lives they are normal" {
    config_app
    start
    backup app
    hold_db "$T/src/app.db"
    JOB=$(trigger app)
    await is_state "$JOB" running
    await partial_is_there
    finds_nothing 1
    kill_daemon
    release_db
    fsck
    [ "$STATUS" = $REPAIRABLE ] || show
    grep -q "^job_left_running app/main $JOB " "$T/out" || show
    grep -q "^partial_archive app/main " "$T/out" || show
    [ "$(tail -n 1 "$T/out")" = "2 findings, 1 archives checked" ] || show
    start_repairs
}

partial_is_there() { compgen -G "$T/repo/*.tmp" >/dev/null; }

@test "staging_leftover and log_without_job" {
    one_record
    touch "$STATE/staging/half copied"
    finds $REPAIRABLE "staging_leftover - -" 1
    start_repairs
    touch "$STATE/logs/$NO_ULID.log" "$STATE/logs/other.txt"
    finds $REPAIRABLE "log_without_job - $NO_ULID" 1
    start_repairs
}

@test "archive_damaged: payload cut or gone, manifest gone or altered" {
    make_key "$T/key"
    one_record "encryption_key = file:$T/key"
    cp -a "$T/repo/$RECORD" "$T/kept"
    truncate -s -1 "$T/repo/$RECORD/payload.bin"
    finds $DAMAGED "archive_damaged app/main $RECORD" 1
    grep -q truncated "$T/out"
    rm "$T/repo/$RECORD/payload.bin"
    finds $DAMAGED "archive_damaged app/main $RECORD" 1
    rm "$T/repo/$RECORD/manifest.yaml"
    finds $DAMAGED "archive_damaged app/main $RECORD" 0
    cp "$T/kept"/* "$T/repo/$RECORD"
    sed -i 's/^created_at: .*/created_at: 2020-01-01T00:00:00.000Z/' "$T/repo/$RECORD/manifest.yaml"
    finds $DAMAGED "archive_damaged app/main $RECORD" 1
    cp "$T/kept"/* "$T/repo/$RECORD"
    finds_nothing 1 --deep
}

@test "payload_damaged: a byte of payload or ids that only --deep reads" {
    make_db "$T/src/app.db" 100
    config <<END
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT 'id-' || id FROM t WHERE id < 4
[repo app/main]
kind = local
path = $T/repo
END
    start
    backup app
    stop
    flip "$T/repo/$RECORD/payload.bin" 100
    finds_nothing 1
    finds $DAMAGED "payload_damaged app/main $RECORD" 1 --deep
    flip "$T/repo/$RECORD/payload.bin" 100
    flip "$T/repo/$RECORD/payload_ids" 3
    finds $DAMAGED "payload_damaged app/main $RECORD" 1 --deep
}

@test "record_differs: a manifest nobody authenticates, or the row, was altered" {
    one_record
    sed -i 's/^created_at: .*/created_at: 2020-01-01T00:00:00.000Z/' "$T/repo/$RECORD/manifest.yaml"
    finds $DAMAGED "record_differs app/main $RECORD" 1
    grep -q created_at "$T/out"
    cp "$T/repo/$RECORD/manifest.yaml" "$T/manifest"
    rm -r "$STATE"
    start
    stop
    finds_nothing 1
    local column
    for column in sha256 size_bytes content_bytes store_kind manifest_bytes payload_id_count payload_ids_bytes; do
        catalog "CREATE TABLE kept AS SELECT * FROM records; UPDATE records SET $column = '1' || $column"
        finds $DAMAGED "record_differs app/main $RECORD" 1
        catalog "UPDATE records SET $column = (SELECT $column FROM kept); DROP TABLE kept"
    done
    finds_nothing 1
}

@test "archive_misplaced: an archive of another store, or of another repo" {
    mkdir "$T/src/tree"
    config_near_far
    cat >>"$CONFIG" <<END
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo/docs
END
    start
    backup app/near
    backup app/far
    backup docs
    stop
    cp -a "$T/repo/docs/$RECORD" "$T/repo/far"
    finds $DAMAGED "archive_misplaced app/far $RECORD" 3
    grep -q 'one of docs/main' "$T/out"
    mv "$T/repo/far/$RECORD" "$T/copy"
    catalog "DELETE FROM records WHERE ulid = '$RECORD'"
    rm -r "$T/repo/docs/$RECORD"
    mv "$T/copy" "$T/repo/far/$RECORD"
    finds $DAMAGED "archive_misplaced app/far $RECORD" 3
    grep -q 'archive of store docs' "$T/out"
}

@test "key_missing is no damage; what its manifest contradicts is" {
    make_key "$T/key"
    make_key "$T/other"
    one_record "encryption_key = file:$T/key"
    mv "$T/key" "$T/away"
    finds 14 "key_missing app/main $RECORD" 1 --deep
    cp -p "$T/other" "$T/key"
    finds 61 "key_missing app/main $RECORD" 1
    sed -i 's/^sha256: "\?./&0/; s/^\(sha256: "\?.\{64\}\)./\1/' "$T/repo/$RECORD/manifest.yaml"
    finds $DAMAGED "record_differs app/main $RECORD" 1
}

@test "archive_refused, archive_unsupported" {
    one_record
    make_key "$T/key"
    echo "encryption_key = file:$T/key" >>"$CONFIG"
    finds $DAMAGED "archive_refused app/main $RECORD" 1
    config_repo
    sed -i 's/^manifest_version: 2/manifest_version: 3/' "$T/repo/$RECORD/manifest.yaml"
    finds 63 "archive_unsupported app/main $RECORD" 1
}

@test "archive_unreadable: its payload cannot be opened" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    one_record
    chown -R nobody "$T/repo" "$STATE"
    chmod 000 "$T/repo/$RECORD/payload.bin"
    chmod 755 "$T"
    cp "$KEEPFS" "$T/keepfs"
    STATUS=0
    setpriv --reuid=nobody --clear-groups "$T/keepfs" fsck "$CONFIG" >"$T/out" || STATUS=$?
    [ "$STATUS" = 10 ] || show
    grep -q "^archive_unreadable app/main $RECORD " "$T/out" || show
}

@test "repo_unreadable: its place is gone or not the one it was; the other repos are checked" {
    config_near_far
    start
    backup app/near
    backup app/far
    stop
    mv "$T/repo/far" "$T/away"
    finds 11 "repo_unreadable app/far -" 1
    mkdir "$T/repo/far"
    finds 11 "repo_unreadable app/far -" 1
    grep -q 'mounted' "$T/out"
    touch "$T/repo/near/.keepfs-was-here"
    truncate -s 1 "$T/repo/near"/0*/payload.bin
    fsck
    [ "$STATUS" = $DAMAGED ] || show
    [ "$(cut -d' ' -f1 "$T/out" | paste -sd,)" = archive_damaged,repo_unreadable,2 ] || show
}

@test "repo_not_configured: records that nobody can read" {
    config_near_far
    start
    backup app/near
    backup app/far
    stop
    sed -i '/^\[repo app\/far\]/,$d' "$CONFIG"
    finds 16 "repo_not_configured app/far -" 1
}

@test "catalog_damaged: an index that has lost a row" {
    one_record
    python3 - "$STATE/catalog.sqlite" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA writable_schema = ON")
sql = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'records_good'").fetchone()[0]
db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'records_good'",
           (sql.replace("'good'", "'missing'"),))
db.commit()
db.close()
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE records SET pinned = 0, state = 'missing'")
db.execute("PRAGMA writable_schema = ON")
db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'records_good'", (sql,))
db.commit()
END
    fsck
    [ "$STATUS" = $DAMAGED ] || show
    grep -q '^catalog_damaged - - .*records_good' "$T/out" || show
}

@test "catalog_damaged: a reference to a row that is not there" {
    one_record
    catalog "PRAGMA foreign_keys = OFF; DELETE FROM stores"
    fsck
    [ "$STATUS" = $DAMAGED ] || show
    grep -q '^catalog_damaged - - .*refers' "$T/out" || show
}

@test "catalog_unreadable: archives are judged by themselves, and damage counts more" {
    one_record
    head -c 8192 /dev/urandom >"$STATE/catalog.sqlite"
    finds 31 "catalog_unreadable - -" 1 --deep
    truncate -s 1 "$T/repo/$RECORD/payload.bin"
    fsck
    [ "$STATUS" = $DAMAGED ] || show
    [ "$(cut -d' ' -f1 "$T/out" | paste -sd,)" = catalog_unreadable,archive_damaged,2 ] || show
}

@test "a read-only state and a read-only repo are enough" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    small_fs "$STATE" 16m
    small_fs "$T/repo" 16m
    one_record
    mount -o remount,ro "$STATE"
    mount -o remount,ro "$T/repo"
    finds_nothing 1 --deep
    mount -o remount,rw "$STATE"
    mount -o remount,rw "$T/repo"
    start
    backup app
    kill_daemon
    mount -o remount,ro "$STATE"
    mount -o remount,ro "$T/repo"
    finds_nothing 2 --deep
}

@test "a wrong command line and a wrong configuration" {
    config_app
    echo "nonsense = 1" >>"$CONFIG"
    fsck
    [ "$STATUS" = 3 ]
    grep -q nonsense "$T/err"
    fsck --quick
    [ "$STATUS" = 2 ]
    STATUS=0
    "$KEEPFS" fsck >/dev/null 2>&1 || STATUS=$?
    [ "$STATUS" = 2 ]
}

@test "stdout that cannot be written is an error" {
    [ -c /dev/full ] || skip "there is no /dev/full"
    one_record
    STATUS=0
    "$KEEPFS" fsck "$CONFIG" >/dev/full 2>"$T/err" || STATUS=$?
    [ "$STATUS" = 46 ]
}

# Backups as fast as they go, into two repos; every third one is cancelled.
load_it() {
    exec python3 - "$M" <<'END'
import itertools, os, sys, time

def write(path, text):
    fd = os.open(path, os.O_RDWR if path.endswith("ctl") else os.O_WRONLY)
    try:
        os.write(fd, text)
        return os.read(fd, 4096).decode().split() if path.endswith("ctl") else []
    finally:
        os.close(fd)

for i in itertools.count():
    try:
        job = write(sys.argv[1] + "/ctl", (b"app/near\n", b"app/far\n")[i % 2])[0]
        if i % 3 == 0:
            write(f"{sys.argv[1]}/jobs/{job}/cancel", b"1")
    except OSError:
        time.sleep(0.001)  # busy, or not mounted at the moment
END
}

@test "beside a busy daemon there is never a finding" {
    config_near_far
    start
    backup app/near
    backup app/far
    load_it 3>&- &
    CHILDREN+=($!)
    local archives interrupted
    for _ in $(seq 60); do
        STATUS=0
        "$KEEPFS" fsck "$CONFIG" >"$T/out" 2>"$T/err" || STATUS=$?
        [ "$STATUS" = 0 ] || show
        [[ $(cat "$T/out") == "0 findings, "* ]] || show
    done
    archives=$(sed 's/.*, \([0-9]*\) .*/\1/' "$T/out")
    interrupted=$(cat "$M"/jobs/0*/status | grep -cx interrupted)
    echo "# 60 looks, $archives archives at the end, $interrupted jobs cancelled" >&3
    [ "$archives" -gt 10 ]
    [ "$interrupted" -gt 0 ]
}

@test "beside starts and stops under load there is never a finding, and no start is refused" {
    config_near_far
    start
    load_it 3>&- &
    CHILDREN+=($!)
    (
        looks=0
        until [ -e "$T/enough" ]; do
            "$KEEPFS" fsck "$CONFIG" >"$T/out" || exit
            looks=$((looks + 1))
        done
        echo $looks >"$T/looks"
    ) 3>&- &
    local looking=$!
    CHILDREN+=("$looking")
    for _ in $(seq 20); do
        stop
        start
    done
    touch "$T/enough"
    wait "$looking" || { cat "$T/out" >&2; false; }
    echo "# $(cat "$T/looks") looks beside 20 starts" >&3
    [ "$(cat "$T/looks")" -ge 10 ]
}

@test "the README has every finding" {
    cd "$BATS_TEST_DIRNAME/../.."
    n=0
    while read -r name; do
        grep -q "^| \`$name\` |" README.md || { echo "README lacks $name"; false; }
        n=$((n + 1))
    done < <(sed -n '/#define FINDINGS/,/^$/s/.*X([A-Z_]*, "\([a-z_]*\)".*/\1/p' src/fsck_internal.h)
    [ $n = 20 ]
}
