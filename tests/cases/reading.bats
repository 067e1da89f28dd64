# SPDX-License-Identifier: MIT
# Every tool that reads files reads the same bytes, of a payload that is compressed and encrypted
# where it is stored, and of one that is neither.

load lib

case_setup() {
    make_db "$T/src/app.db" 20000
    make_key "$T/key"
    config_repo "encryption_key = file:$T/key"
    start
    backup app
    P=$M/records/$RECORD/payload
}

tools_agree() {
    local want size
    want=$(sha256sum <"$T/src/app.db")
    size=$(stat -c %s "$T/src/app.db")
    sum() { [ "$(sha256sum)" = "$want" ]; }
    cat "$P" | sum
    sum <"$P"
    cp "$P" "$T/copy"
    sum <"$T/copy"
    cp --sparse=always "$P" "$T/copy"
    sum <"$T/copy"
    dd if="$P" bs=4k status=none | sum
    { dd if="$P" bs=4k count=10 status=none; dd if="$P" bs=4k skip=10 status=none; } | sum
    dd if="$P" bs=777 status=none | sum
    dd if="$P" bs=1M iflag=fullblock status=none | sum
    tar -cf - -C "$M/records/$RECORD" payload | tar -xOf - | sum
    rsync -a "$P" "$T/rsynced"
    sum <"$T/rsynced"
    [ "$(wc -c <"$P")" = "$size" ]
    [ "$(stat -c %s "$P")" = "$size" ]
    [ "$(tail -c 5000 "$P" | sha256sum)" = "$(tail -c 5000 "$T/src/app.db" | sha256sum)" ]
    [ "$(head -c 5000 "$P" | sha256sum)" = "$(head -c 5000 "$T/src/app.db" | sha256sum)" ]
    [ "$(tail -c +12345 "$P" | sha256sum)" = "$(tail -c +12345 "$T/src/app.db" | sha256sum)" ]
    less -f "$P" | sum
    python3 -c 'import mmap, sys; f = open(sys.argv[1], "rb"); sys.stdout.buffer.write(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))' "$P" | sum
    cmp "$T/repo/$RECORD/payload.bin" "$M/records/$RECORD/payload.bin"
}

@test "cat, cp, dd, tar, rsync, wc, tail, head, sha256sum, less and Python agree on a payload" {
    tools_agree
}

@test "they agree on a payload that is stored as it is" {
    reconfigure 'compression = none'
    backup app
    P=$M/records/$RECORD/payload
    tools_agree
    cmp "$P" "$M/records/$RECORD/payload.bin"
}

@test "sqlite3 queries a payload in place" {
    [ "$(sqlite3 "file:$P?immutable=1" 'SELECT count(*) FROM t')" = 20000 ]
    [ "$(sqlite3 "file:$P?immutable=1" 'PRAGMA integrity_check')" = ok ]
}

@test "a dozen readers of one payload at once" {
    want=$(sha256sum <"$T/src/app.db")
    for i in $(seq 12); do sha256sum <"$P" >"$T/sum.$i" & done
    wait $(jobs -p)
    for i in $(seq 12); do [ "$(cat "$T/sum.$i")" = "$want" ]; done
}

@test "small files: cat, wc, dd by single bytes, tail and tar agree, and sizes are exact" {
    hold_db "$T/src/app.db"
    live=$(trigger app)
    await is_state "$live" running
    for d in "jobs/$live" "jobs/$JOB" "records/$RECORD" stores/app stores/app/repos/main .; do
        for f in "$M/$d"/*; do
            [ -f "$f" ] && [ ! -L "$f" ] || continue
            case $f in */cancel | */ctl | */run | */events | */payload* | */"$live"/wait) continue ;; esac
            # What says for how long something runs is another text a second later.
            case $f in "$M/./status" | */why) continue ;; esac
            text=$(cat "$f"; echo .)
            [ "$(stat -c %s "$f")" = "$(cat "$f" | wc -c)" ]
            [ "$(wc -c <"$f")" = "$(cat "$f" | wc -c)" ]
            [ "$(dd if="$f" bs=1 status=none; echo .)" = "$text" ]
            [ "$(tail -n +1 "$f"; echo .)" = "$text" ]
            [ "$(less "$f"; echo .)" = "$text" ]
            [ "$(tar -cf - -C "${f%/*}" "${f##*/}" | tar -xOf -; echo .)" = "$text" ]
        done
    done
    release_db
    finished "$live"
}

@test "find, ls -lR, du, grep -r, cp -r, rsync, tar and md5sum over the whole tree end, with a job running" {
    hold_db "$T/src/app.db"
    live=$(trigger app)
    await is_state "$live" running
    cd "$M"
    timeout 60 ls -lR . >/dev/null
    timeout 60 find . -type f >"$T/found"
    grep -qx "./records/$RECORD/payload" "$T/found"
    timeout 60 du -sh . >/dev/null
    timeout 60 grep -rsq "$RECORD" jobs records
    timeout 60 find records jobs stores -type f ! -name cancel ! -path "jobs/$live/wait" -exec md5sum {} + >/dev/null
    mkdir "$T/copy" "$T/rsync"
    # With all of jobs, cp would wait for the one that runs.
    timeout 60 cp -r records "jobs/$JOB" stores "$T/copy/" 2>"$T/err" || ! grep -v 'cancel' "$T/err"
    timeout 60 rsync -a --exclude=cancel records stores "$T/rsync/"
    timeout 60 tar -cf "$T/all.tar" --exclude=cancel records jobs stores README last_error
    cmp "records/$RECORD/payload" "$T/rsync/records/$RECORD/payload"
    cd /
    release_db
    finished "$live"
}

@test "inode numbers and types in a listing are those of stat" {
    python3 - "$M" <<'EOF'
import os, sys
def walk(d):
    for e in os.scandir(d):
        st = e.stat(follow_symlinks=False)
        assert e.inode() == st.st_ino, e.path
        assert e.is_dir(follow_symlinks=False) == os.path.isdir(e.path) or e.is_symlink(), e.path
        if e.is_dir(follow_symlinks=False):
            walk(e.path)
walk(sys.argv[1])
EOF
}

@test "the log of a running job grows and can be read meanwhile" {
    hold_db "$T/src/app.db"
    live=$(trigger app)
    await is_state "$live" running
    await grep -q 'backup of app/main' "$M/jobs/$live/log"
    release_db
    [ "$(finished "$live")" = succeeded ]
    grep -q succeeded "$M/jobs/$live/log"
}
