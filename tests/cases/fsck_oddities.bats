# SPDX-License-Identifier: MIT
# keepfs fsck where a state or a repo holds what nobody put there on purpose: names that a terminal
# would obey, a lock that says nothing, a catalog that lacks a part, more jobs than usual.

load lib

REPAIRABLE=70
DAMAGED=71

NO_ULID=01ARZ3NDEKTSV4RRFFQ69G5FAV

fsck() { # [OPTION]
    STATUS=0
    "$KEEPFS" fsck "$CONFIG" "$@" >"$T/out" 2>"$T/err" || STATUS=$?
}

# The findings are exactly these, a name each, and the exit status is that.
finds() { # STATUS NAME...
    fsck
    if [ "$STATUS" != "$1" ] ||
        [ "$(sed '$d' "$T/out" | cut -d' ' -f1 | xargs)" != "${*:2}" ]; then
        echo "exit status $STATUS, and:" >&2
        cat "$T/out" "$T/err" >&2
        return 1
    fi
}

catalog() { sqlite3 "$STATE/catalog.sqlite" "$1"; }

one_record() { # [LINE OF THE REPO...]
    config_app "$@"
    start
    backup app
    stop
}

@test "names are shown without what a terminal would obey, and a name of two lines not at all" {
    one_record
    touch "$STATE/staging/"$'a\tb\x7f\x1b[2J' "$STATE/staging/"$'two\nlines'
    finds $REPAIRABLE staging_leftover
    grep -qF 'a\x09b\x7f\x1b[2J' "$T/out"
    assert_no_match -P '[\x00-\x09\x0b-\x1f\x7f]' "$T/out"
}

@test "what is in the staging directory is a leftover only if no daemon runs, or could" {
    one_record
    touch "$STATE/staging/half"
    finds $REPAIRABLE staging_leftover
    rm "$STATE/lock"
    finds $REPAIRABLE staging_leftover
    ln -s lock "$STATE/lock" # nothing can be said by that
    finds 0
    rm "$STATE/lock"
    start
    touch "$STATE/staging/half"
    finds 0
}

@test "only a file that is called like a log is taken for one" {
    one_record
    touch "$STATE/logs/$NO_ULID.txt" "$STATE/logs/$NO_ULID" "$STATE/logs/notes.log" \
        "$STATE/logs/abcdefghijklmnopqrstuvwxyz.log" "$STATE/logs/${NO_ULID,,}.log"
    finds 0
    touch "$STATE/logs/$NO_ULID.log"
    finds $REPAIRABLE log_without_job
}

@test "of two repos that cannot be read both are told, and records of a store that is gone" {
    config_near_far
    start
    backup app/near
    backup app/far
    stop
    mv "$T/repo" "$T/away"
    finds 11 repo_unreadable repo_unreadable
    mkdir "$T/repo"
    touch "$T/repo/near" # no directory
    fsck
    [ "$STATUS" != 0 ]
    [ "$(grep -c '^repo_unreadable app/' "$T/out")" = 2 ]
    rm -r "$T/repo"
    mv "$T/away" "$T/repo"
    mkdir "$T/src/tree"
    config <<END
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo/docs
END
    finds 16 repo_not_configured repo_not_configured
    [ "$(cut -d' ' -f2 "$T/out" | head -2 | xargs)" = 'app/far app/near' ]
}

@test "a repo that is gone and a catalog that cannot be read: nobody can say that it was never there" {
    one_record
    head -c 8192 /dev/urandom >"$STATE/catalog.sqlite"
    mkdir "$T/repo/$NO_ULID.tmp" # whose that is cannot be said either
    finds 31 catalog_unreadable
    mv "$T/repo" "$T/away"
    fsck
    [ "$(sed '$d' "$T/out" | cut -d' ' -f1 | xargs)" = 'catalog_unreadable repo_unreadable' ]
}

@test "a catalog that lacks a table is never taken for one that agrees" {
    one_record
    cp "$STATE/catalog.sqlite" "$T/kept"
    for table in jobs records places; do
        cp "$T/kept" "$STATE/catalog.sqlite"
        catalog "PRAGMA foreign_keys = OFF; DROP TABLE $table"
        fsck
        [ "$STATUS" = 31 ] || [ "$STATUS" = $DAMAGED ]
        grep -q '^catalog_\(unreadable\|damaged\) - - ' "$T/out"
        assert_no_match 'archive_without_record' "$T/out"
    done
    cp "$T/kept" "$STATE/catalog.sqlite"
    finds 0
}

@test "a repo that the configuration has somewhere else, where nothing is, is not taken for a new one" {
    one_record
    sed -i "s|^path = $T/repo$|path = $T/elsewhere|" "$CONFIG"
    finds 11 repo_unreadable
    [ ! -e "$T/elsewhere" ]
}

@test "damage counts in an archive that the catalog had given up, too" {
    one_record
    catalog "UPDATE records SET state = 'missing'"
    cp -a "$T/repo/$RECORD" "$T/kept"
    truncate -s -1 "$T/repo/$RECORD/payload.bin"
    finds $DAMAGED archive_damaged
    cp "$T/kept"/* "$T/repo/$RECORD"
    rm "$T/repo/$RECORD/manifest.yaml"
    finds $REPAIRABLE half_deleted_archive
}

@test "every job that a dead daemon has left is told, however many" {
    make_db "$T/src/app.db" 10
    {
        printf '[store app]\nkind = sqlite\npath = %s\n' "$T/src/app.db"
        for i in $(seq 20); do
            printf '[repo app/r%d]\nkind = local\npath = %s\n' "$i" "$T/repo/r$i"
        done
    } | config
    start
    hold_db "$T/src/app.db"
    trigger app | sort >"$T/jobs"
    [ "$(wc -l <"$T/jobs")" = 20 ]
    kill_daemon
    release_db
    fsck
    [ "$STATUS" = $REPAIRABLE ]
    diff "$T/jobs" <(sed -n 's/^job_left_running [^ ]* \([^ ]*\) .*/\1/p' "$T/out" | sort)
    start
    stop
    finds 0
}

@test "a payload that is no file is no payload" {
    one_record
    mv "$T/repo/$RECORD/payload.bin" "$T/payload"
    mkdir "$T/repo/$RECORD/payload.bin"
    fsck --deep
    [ "$STATUS" != 0 ]
    grep -q "^archive_[a-z]* app/main $RECORD " "$T/out"
    rmdir "$T/repo/$RECORD/payload.bin"
    ln -s payload.bin "$T/repo/$RECORD/payload.bin"
    fsck --deep
    [ "$STATUS" != 0 ]
    grep -q "^archive_[a-z]* app/main $RECORD " "$T/out"
}
