# SPDX-License-Identifier: MIT
# What an encrypted repo's archives hold, and its key, are found nowhere else: not in the repo, the
# state, the job files, the log, nor in what /proc tells of the daemon. By design not secret, and
# not looked for: payload_ids, the manifest, and the names of files that a job complains of.

load lib

# A key, and a mark that is in the stores' data and names.
case_setup() {
    mkdir "$T/src/tree" "$T/keys"
    make_key "$T/keys/key"
    MARK=canary-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
    make_db "$T/src/app.db" 1000
    sqlite3 "$T/src/app.db" <<<"INSERT INTO t(v) VALUES('row $MARK')"
    echo "content $MARK" >"$T/src/tree/name-$MARK"
}

# Stores with an encrypted repo each, uncompressed: only the encryption is in the way of a search.
config_canary() { # KEY
    config <<EOF
[defaults]
compression = none
verify_after_write = yes
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/safe]
kind = local
path = $T/repo/app
encryption_key = $1
[repo app/open]
kind = local
path = $T/open
[store docs]
kind = directory
path = $T/src/tree
[repo docs/safe]
kind = local
path = $T/repo/docs
encryption_key = $1
EOF
}

# Says which file, or its name, has the mark in it, or any eight bytes of the key as they are or as
# digits of either case. Symlinks are not followed, payloads of the mount are what they must be.
find_needles() { # PATH...
    python3 - "$T/keys/key" "$M" "$MARK" "$@" <<'EOF'
import os, stat, sys
key, mark = open(sys.argv[1], "rb").read(), sys.argv[3].encode()
digits = key.hex().encode()
needles = {"mark": [mark],
           "bytes": [key[i:i + 8] for i in range(25)],
           "digits": [d[i:i + 16] for d in (digits, digits.upper()) for i in range(49)]}
def look(path):
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    if path.startswith(sys.argv[2]) and os.path.basename(path) in ("payload", "cancel", "events", "wait"):
        return
    text = path.encode() + b"\n" + open(path, "rb").read()
    for name, spellings in needles.items():
        if any(s in text for s in spellings):
            print(name, "in", path)
for path in sys.argv[4:]:
    if os.path.isdir(path):
        for d, _, files in os.walk(path, onerror=lambda e: sys.exit(e)):
            for f in files:
                look(os.path.join(d, f))
    else:
        look(path)
EOF
}

assert_nowhere() { # PATH...
    local found
    found=$(find_needles "$@")
    [ -z "$found" ] || {
        echo "$found" >&2
        return 1
    }
}

# The environment of a daemon that cannot be dumped is root's to see, and nobody else's.
assert_not_in_proc() {
    grep -qa keepfs "/proc/$DAEMON/cmdline"
    assert_nowhere "/proc/$DAEMON/cmdline"
    if [ "$(id -u)" = 0 ]; then
        assert_nowhere "/proc/$DAEMON/environ"
    else
        refute cat "/proc/$DAEMON/environ"
    fi
    [ "$(awk '/^Max core file size/ {print $5, $6}' "/proc/$DAEMON/limits")" = '0 0' ]
}

# What is told of here can be found: in the stores, in an archive that is not encrypted, in the key.
assert_findable() {
    [ "$(find_needles "$T/src" | grep -c '^mark in')" = 2 ]
    [ "$(find_needles "$T/open" | cut -d' ' -f1)" = mark ]
    [ "$(find_needles "$T/keys" | cut -d' ' -f1)" = bytes ]
}

# The whole of it, with the daemon started: jobs that run, that succeed, that fail, and a kill.
search_everywhere() {
    hold_db "$T/src/app.db"
    job=$(trigger app/safe)
    await grep -q 'encrypting with the key' "$M/jobs/$job/log"
    is_state "$job" running
    assert_nowhere "$T/repo" "$STATE" "$M"
    assert_not_in_proc
    release_db
    [ "$(finished "$job")" = succeeded ]
    backup docs/safe
    [ "$(tar -tf "$M/records/$RECORD/payload" | grep -c "$MARK")" = 1 ]
    cmp "$T/src/app.db" "$M/jobs/$job/record/payload"
    # A failed job, and a payload that cannot be read: errors talk.
    mv "$T/src/tree" "$T/src/away"
    backup_fails docs/safe source_unavailable
    mv "$T/src/away" "$T/src/tree"
    flip "$T/repo/docs/$RECORD/payload.bin" 30
    assert_eio 'wrong archive' "$M/records/$RECORD/payload"
    assert_nowhere "$T/repo" "$STATE" "$M"
    assert_not_in_proc
    backup app/open
    assert_findable
    # As a crash leaves it.
    hold_db "$T/src/app.db"
    job=$(trigger app/safe)
    await grep -q 'encrypting with the key' "$M/jobs/$job/log"
    kill_daemon
    release_db
    assert_nowhere "$T/repo" "$STATE"
}

# Without this the limit might be 0 anyway.
allow_cores() {
    if [ "$(ulimit -Hc)" = 0 ]; then skip "core dumps are forbidden here already"; fi
    ulimit -Sc "$(ulimit -Hc)"
}

@test "a key from the environment, and the data, are found nowhere" {
    allow_cores
    config_canary env:KEEPFS_CASE_KEY
    KEEPFS_CASE_KEY=$(key_hex "$T/keys/key") start
    # It is kept, in memory that does not reach the swap; sanitizers leave mlock out.
    if ! grep -qa '__[at]san_init' "$KEEPFS"; then
        [ "$(awk '/^VmLck:/ {print $2}' "/proc/$DAEMON/status")" -gt 0 ]
    fi
    search_everywhere
}

@test "a key from a file, and the data, are found nowhere, nor in the log of the foreground" {
    allow_cores
    config_canary "file:$T/keys/key"
    "$KEEPFS" mount "$CONFIG" "$M" -f 2>"$T/daemon.log" 3>&- &
    DAEMON=$!
    CHILDREN+=("$DAEMON")
    await grep -q "is mounted on $M" "$T/daemon.log"
    search_everywhere
    grep -q 'backup of app/safe succeeded' "$T/daemon.log"
    assert_nowhere "$T/daemon.log"
}

@test "what is nearly a key is not repeated by any error" {
    config_canary env:KEEPFS_CASE_KEY
    KEEPFS_CASE_KEY=$(key_hex "$T/keys/key")0 start 2>"$T/start.log"
    grep -q 'KEEPFS_CASE_KEY.*64 hex digits' "$T/start.log"
    backup_fails app/safe destination_credentials_invalid
    grep -q 'KEEPFS_CASE_KEY.*64 hex digits' "$M/jobs/$JOB/error"
    assert_nowhere "$T/start.log" "$STATE" "$M"
    backup app/open
    KEEPFS_CASE_KEY=$(key_hex "$T/keys/key")0 "$KEEPFS" verify "$T/open/$RECORD" \
        --key env:KEEPFS_CASE_KEY 2>"$T/err" || true
    KEEPFS_CASE_KEY=$(key_hex "$T/keys/key")0 "$KEEPFS" check "$CONFIG" >>"$T/err" 2>&1
    [ -s "$T/err" ]
    assert_nowhere "$T/err"
}
