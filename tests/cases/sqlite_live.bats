# SPDX-License-Identifier: MIT
# A database in use: every payload is one consistent moment of it, and the database is never touched.

load lib

BANK=$BATS_TEST_DIRNAME/bank.py

bank() { # MODE ROUNDS
    python3 "$BANK" "$T/src/bank.db" make "$1"
    config <<EOF
[store bank]
kind = sqlite
path = $T/src/bank.db
[repo bank/main]
kind = local
path = $T/repo
EOF
    start
    mkfifo "$T/go"
    python3 "$BANK" "$T/src/bank.db" run 4 <"$T/go" >"$T/counts" 3>&- &
    WRITERS=$!
    CHILDREN+=("$WRITERS")
    exec {go}>"$T/go"
    for _ in $(seq "$2"); do
        backup bank
        [ "$(python3 "$BANK" "$M/records/$RECORD/payload" sum)" = 0 ]
    done
    exec {go}>&-
    wait "$WRITERS"
    [ "$(wc -l <"$T/counts")" = 4 ]
    python3 "$BANK" "$T/src/bank.db" sum
    [ "$(awk '{n += $1} END {print (n > 0)}' "$T/counts")" = 1 ]
}

@test "50 backups of a WAL database while 4 processes move money" {
    bank WAL 50
}

@test "50 backups of a DELETE-mode database while 4 processes move money" {
    bank DELETE 50
}

@test "the database, its WAL and its directory are as before" {
    make_db "$T/src/app.db" 500 WAL
    # A WAL with content and no process: as a crashed application leaves it.
    python3 - "$T/src/app.db" <<'EOF'
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("INSERT INTO t(v) VALUES('in the WAL')")
db.commit()
os._exit(0)
EOF
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo
EOF
    start
    tell() { sha256sum "$T/src/app.db" "$T/src/app.db-wal"; stat -c '%n %s %y' "$T/src/app.db" "$T/src/app.db-wal"; }
    before=$(tell)
    backup app
    [ "$before" = "$(tell)" ]
    [ "$(sqlite3 "file:$M/records/$RECORD/payload?immutable=1" "SELECT count(*) FROM t WHERE v='in the WAL'")" = 1 ]
    # Byte for byte what the file is after the application's own checkpoint.
    sqlite3 "$T/src/app.db" 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "a directory store that holds the database does not break its locks" {
    python3 "$BANK" "$T/src/bank.db" make DELETE
    config <<EOF
[store bank]
kind = sqlite
path = $T/src/bank.db
[repo bank/main]
kind = local
path = $T/repo/bank
[store dir]
kind = directory
path = $T/src
[repo dir/main]
kind = local
path = $T/repo/dir
EOF
    start
    hold_db "$T/src/bank.db"
    one=$(trigger bank)
    await is_state "$one" running
    two=$(trigger dir)
    # Both workers are free for it, and yet it waits: they share files.
    is_state "$two" pending
    release_db
    [ "$(finished "$one")" = succeeded ]
    [ "$(finished "$two")" = succeeded ]
}

@test "a database that is replaced while the backup waits for it fails the job" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    await_busy() { [ "$(ls -l "/proc/$DAEMON/fd" | grep -c "$T/src/app.db")" -gt 0 ]; }
    await await_busy
    make_db "$T/src/new.db" 7
    mv "$T/src/new.db" "$T/src/app.db"
    release_db
    [ "$(finished "$job")" = failed ]
    [ "$(cat "$M/jobs/$job/error_code")" = source_unavailable ]
    grep -q replaced "$M/jobs/$job/error"
    backup app
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "a database on a read-only mount that others write through another is read with its locks" {
    if [ "$(id -u)" != 0 ]; then skip "needs root to mount"; fi
    python3 "$BANK" "$T/src/bank.db" make DELETE
    mkdir "$T/ro"
    mount --bind "$T/src" "$T/ro"
    MOUNTS+=("$T/ro")
    mount -o remount,ro,bind "$T/ro"
    config <<EOF
[store bank]
kind = sqlite
path = $T/ro/bank.db
[repo bank/main]
kind = local
path = $T/repo
EOF
    start
    mkfifo "$T/go"
    python3 "$BANK" "$T/src/bank.db" run 2 <"$T/go" >"$T/counts" 3>&- &
    WRITERS=$!
    CHILDREN+=("$WRITERS")
    exec {go}>"$T/go"
    for _ in $(seq 10); do
        backup bank
        [ "$(python3 "$BANK" "$M/records/$RECORD/payload" sum)" = 0 ]
    done
    exec {go}>&-
    wait "$WRITERS"
}
