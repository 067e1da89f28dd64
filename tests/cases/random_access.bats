# SPDX-License-Identifier: MIT
# A payload is a file to look into, at any place and by many at once, however it is stored.

load lib

# KEEPFS_SEED repeats the offsets of a run.

case_setup() {
    make_key "$T/key"
    ENCRYPTED="encryption_key = file:$T/key"
    make_db "$T/src/app.db" 50000
    mkdir "$T/want"
    RECORDS=()
}

# A record of the store as it is now, under a policy. What it must read as is kept in want/.
keep() { # LINE OF THE REPO...
    reconfigure 'min_envelope = none' "$@"
    sqlite3 "$T/src/app.db" "UPDATE t SET v = hex(randomblob(40)) WHERE id % 3 = $((${#RECORDS[@]} % 3))"
    backup app
    cp "$T/src/app.db" "$T/want/$RECORD"
    RECORDS+=("$RECORD")
}

keep_one_of_each() {
    keep "$ENCRYPTED"
    keep "$ENCRYPTED" 'compression = none'
    keep "$ENCRYPTED" 'format = v1'
    keep "old_keys = file:$T/key"
}

@test "sqlite3 counts, finds by index and checks an encrypted, compressed payload in place" {
    sqlite3 "$T/src/app.db" 'CREATE INDEX by_v ON t(v)'
    keep "$ENCRYPTED"
    query() { timeout "$PATIENCE" sqlite3 "file:$M/records/$RECORD/payload?mode=ro&immutable=1" "$1"; }
    [ "$(query 'SELECT count(*), count(DISTINCT v) FROM t')" = "$(sqlite3 "$T/src/app.db" 'SELECT count(*), count(DISTINCT v) FROM t')" ]
    for id in 1 31415 50000; do
        v=$(sqlite3 "$T/src/app.db" "SELECT v FROM t WHERE id = $id")
        [ "$(query "SELECT id FROM t WHERE v = '$v'")" = "$id" ]
    done
    [[ $(query "EXPLAIN QUERY PLAN SELECT id FROM t WHERE v = 'x'") == *by_v* ]]
    [ "$(query 'PRAGMA integrity_check')" = ok ]
}

@test "reads at 200 random places of each kind of archive, by pread and by mmap" {
    keep_one_of_each
    echo "seed ${KEEPFS_SEED:=$$}"
    for record in "${RECORDS[@]}"; do
        timeout "$PATIENCE" python3 - "$M/records/$record/payload" "$T/want/$record" "$KEEPFS_SEED" <<'EOF'
import mmap, os, random, sys
fd, want = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], "rb").read()
random.seed(int(sys.argv[3]))
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
assert os.fstat(fd).st_size == len(want)
for i in range(200):
    at = random.randrange(len(want))
    n = random.choice([1, 16, 4096, 70000, 1 << 20, 3 << 20])
    got = os.pread(fd, n, at) if i % 2 else mapped[at:at + n]
    assert got == want[at:at + n], (at, n)
assert os.pread(fd, 10, len(want)) == b""
EOF
    done
}

@test "20 readers of four records at once each get theirs" {
    keep_one_of_each
    stop # so that nothing of it is cached
    start
    pids=()
    for i in $(seq 20); do
        record=${RECORDS[i % 4]}
        timeout "$PATIENCE" cmp "$M/records/$record/payload" "$T/want/$record" 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
}
