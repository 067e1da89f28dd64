# SPDX-License-Identifier: MIT
# A repo with encryption_key: its archives are for whoever has the key, with keepfs or without.

load lib

case_setup() {
    make_key "$T/key"
    KEY=file:$T/key
}

# Reads an archive without keepfs, by the program of examples/ and zstd.
decrypt() { # ARCHIVE KEY
    (
        set -o pipefail
        if grep -qx '  algorithm: zstd' "$1/manifest.yaml"; then
            python3 "$BATS_TEST_DIRNAME/../../examples/decrypt.py" "$1" "$2" | zstd -qdc
        else
            python3 "$BATS_TEST_DIRNAME/../../examples/decrypt.py" "$1" "$2"
        fi
    )
}

encrypted_by() { # ARCHIVE: the id of its key
    sed -n 's/^  key_id: //p' "$1/manifest.yaml"
}

# Text that is found in the database's file as it stands.
make_marked_db() {
    make_db "$T/src/app.db" "${1:-100}"
    sqlite3 "$T/src/app.db" "INSERT INTO t(v) VALUES('somebody''s secret')"
    grep -qF "somebody's secret" "$T/src/app.db"
}

@test "payload is the database; payload.bin shows nothing of it; the repo says that it is encrypted" {
    make_marked_db
    config_repo "encryption_key = $KEY" 'compression = none'
    start
    [ "$(cat "$M/stores/app/repos/main/encrypted")" = yes ]
    backup app
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    assert_no_match -qF "somebody's secret" "$T/repo/$RECORD/payload.bin"
    assert_no_match -qF 'SQLite format' "$T/repo/$RECORD/payload.bin"
    [ "$(head -c 5 "$T/repo/$RECORD/payload.bin" | od -An -tx1 | xargs)" = '44 46 53 31 02' ]
    grep -A2 '^encryption:' "$T/repo/$RECORD/manifest.yaml" | grep -qx '  enabled: true'
    [ "$(cat "$M/records/$RECORD/content_bytes")" = "$(stat -c %s "$T/src/app.db")" ]
    [ "$(cat "$M/records/$RECORD/size_bytes")" = "$(stat -c %s "$T/repo/$RECORD/payload.bin")" ]
    [ "$(cat "$M/records/$RECORD/sha256")" = "$(sha256sum <"$T/repo/$RECORD/payload.bin" | cut -d' ' -f1)" ]
    grep -q "encrypting with the key $(encrypted_by "$T/repo/$RECORD")" "$M/jobs/$JOB/log"
}

@test "decrypt.py gives the database back, compressed or not, of several frames or one" {
    for rows in 10 30000; do
        make_marked_db $rows
        for compression in none zstd:3; do
            reconfigure "encryption_key = $KEY" "compression = $compression"
            backup app
            cmp "$T/src/app.db" "$M/records/$RECORD/payload"
            decrypt "$T/repo/$RECORD" "$KEY" | cmp - "$T/src/app.db"
            decrypt "$T/repo/$RECORD" "$KEY" >/dev/null
            make_key "$T/other"
            run decrypt "$T/repo/$RECORD" "file:$T/other"
            [ "$status" != 0 ]
            [[ $output == *"wrong key"* ]]
        done
        rm "$T/src/app.db"
    done
}

@test "a directory comes back by decrypt.py | zstd -dc | tar -x" {
    mkdir -p "$T/src/tree" "$T/out"
    cp -a "$BATS_TEST_DIRNAME/." "$T/src/tree/"
    config_docs "encryption_key = $KEY"
    start
    backup docs
    assert_no_match -qF 'lib.bash' "$T/repo/$RECORD/payload.bin"
    decrypt "$T/repo/$RECORD" "$KEY" | tar -xpf - -C "$T/out"
    [ -z "$(rsync -aHAXn --delete --itemize-changes "$T/src/tree/" "$T/out/")" ]
}

@test "format = v1: DFS1 version 1 and manifest 1, read by the mount and by decrypt.py" {
    make_marked_db 60000 # more than one frame of 4 MiB
    config_repo "encryption_key = $KEY" 'format = v1'
    start
    [ "$(cat "$M/stores/app/repos/main/compression")" = none ]
    backup app
    grep -qx 'manifest_version: 1' "$T/repo/$RECORD/manifest.yaml"
    [ "$(head -c 5 "$T/repo/$RECORD/payload.bin" | od -An -tx1 | xargs)" = '44 46 53 31 01' ]
    assert_no_match -qF "somebody's secret" "$T/repo/$RECORD/payload.bin"
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    decrypt "$T/repo/$RECORD" "$KEY" | cmp - "$T/src/app.db"
    # Its manifest has no size of the content: the next start finds it in the archive.
    stop
    rm -r "$STATE"
    start
    [ "$(cat "$M/records/$RECORD/content_bytes")" = "$(stat -c %s "$T/src/app.db")" ]
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "a key from the environment, and the same one from a file, read each other's archives" {
    make_marked_db
    config_repo 'encryption_key = env:KEEPFS_CASE_KEY'
    KEEPFS_CASE_KEY=$(key_hex "$T/key") start
    backup app
    by_env=$RECORD
    cmp "$T/src/app.db" "$M/records/$by_env/payload"
    backup app # also the second one has the key, which has left the environment
    reconfigure "encryption_key = $KEY"
    cmp "$T/src/app.db" "$M/records/$by_env/payload"
    backup app
    [ "$(encrypted_by "$T/repo/$RECORD")" = "$(encrypted_by "$T/repo/$by_env")" ]
    # Either case of the digits, and white space around them.
    stop
    config_repo 'encryption_key = env:KEEPFS_CASE_KEY'
    KEEPFS_CASE_KEY=" $(key_hex "$T/key" | tr a-f A-F) " start
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    decrypt "$T/repo/$by_env" "$KEY" | cmp - "$T/src/app.db"
}

@test "the same database twice under one key gives other bytes, under a salt or nonces of their own" {
    make_marked_db
    for format in v2 v1; do
        reconfigure "encryption_key = $KEY" 'compression = none' "format = $format"
        backup app
        one=$T/repo/$RECORD/payload.bin
        backup app
        two=$T/repo/$RECORD/payload.bin
        [ "$(stat -c %s "$one")" = "$(stat -c %s "$two")" ]
        # v2: salt, commit, frames; v1: nonce, length, frame
        for range in '17 32' '49 32' '81 100000' '10 12' '26 100000'; do
            read -r from count <<<"$range"
            refute cmp -s <(tail -c "+$from" "$one" | head -c "$count") <(tail -c "+$from" "$two" | head -c "$count")
        done
    done
}

@test "a new key: old records are read by old_keys, without it EIO says wrong key, and backups go on" {
    make_marked_db
    config_repo "encryption_key = $KEY"
    start
    backup app
    old=$RECORD
    make_key "$T/new"
    reconfigure "encryption_key = file:$T/new" "old_keys = $KEY"
    backup app
    new=$RECORD
    [ "$(encrypted_by "$T/repo/$old")" != "$(encrypted_by "$T/repo/$new")" ]
    cmp "$T/src/app.db" "$M/records/$old/payload"
    cmp "$T/src/app.db" "$M/records/$new/payload"
    reconfigure "encryption_key = file:$T/new"
    assert_eio 'wrong key' "$M/records/$old/payload"
    cmp "$T/src/app.db" "$M/records/$new/payload"
    backup app
    # Without state and without the old key its records cannot be told from a stranger's; they
    # stay where they are, and are there again with the key.
    stop
    rm -r "$STATE"
    start 2>"$T/start.log"
    grep -q "archive $old is not adopted: .*wrong key" "$T/start.log"
    [ ! -e "$M/records/$old" ]
    [ -e "$M/records/$new" ]
    [ -e "$T/repo/$old/payload.bin" ]
    reconfigure "encryption_key = file:$T/new" "old_keys = $KEY"
    cmp "$T/src/app.db" "$M/records/$old/payload"
}

@test "state deleted: the same encrypted records are there, of both formats and keys" {
    make_marked_db
    make_key "$T/new"
    reconfigure "encryption_key = $KEY"
    backup app
    reconfigure "encryption_key = $KEY" 'format = v1'
    backup app
    reconfigure "encryption_key = file:$T/new" "old_keys = $KEY" 'compression = none'
    backup app
    reconfigure "encryption_key = file:$T/new" "old_keys = $KEY" 'min_envelope = v1'
    tell() {
        for r in "$M"/records/0*; do
            echo "$(basename "$r") $(cat "$r"/{size_bytes,content_bytes,sha256,created_at,store,repo,store_kind} | xargs)"
        done
    }
    before=$(tell)
    [ "$(wc -l <<<"$before")" = 3 ]
    stop
    rm -r "$STATE"
    start
    [ "$before" = "$(tell)" ]
    for r in "$M"/records/0*; do cmp "$T/src/app.db" "$r/payload"; done
}

@test "a key that is not there: destination_credentials_invalid, a hint, nothing written; back again it works" {
    make_marked_db
    config_repo "encryption_key = $KEY"
    mv "$T/key" "$T/away"
    start 2>"$T/start.log"
    grep -q "$T/key: the key file cannot be found" "$T/start.log"
    backup_fails app destination_credentials_invalid
    grep -q "$T/key" "$M/jobs/$JOB/error"
    grep -q key "$M/jobs/$JOB/hint"
    [ -z "$(ls -A "$T/repo")" ]
    mv "$T/away" "$T/key"
    backup app
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    reconfigure 'encryption_key = env:KEEPFS_CASE_NO_SUCH_KEY'
    backup_fails app destination_credentials_invalid
    grep -q 'KEEPFS_CASE_NO_SUCH_KEY.*not set' "$M/jobs/$JOB/error"
    assert_eio 'KEEPFS_CASE_NO_SUCH_KEY' "$M/records/$RECORD/payload"
}

@test "what is no key file is refused, each for its own reason, by check, backup and extract" {
    make_marked_db
    config_repo "encryption_key = $KEY"
    start
    backup app
    cd "$T"
    install -m 644 key readable
    install -m 620 key group
    ln -s key link
    install -m 600 <(head -c 31 key) short
    install -m 600 <(cat key <(echo)) long
    install -m 600 <(key_hex key) digits
    mkdir -m 700 directory
    mkfifo -m 600 fifo
    cd /
    invalid=destination_credentials_invalid config=destination_config_invalid
    while IFS='|' read -r name code sentence; do
        reconfigure "encryption_key = file:$T/$name"
        run "$KEEPFS" check "$CONFIG"
        [ "$status" = 0 ]
        [[ $output == *"warning: [repo app/main]: file:$T/$name $sentence"* ]]
        backup_fails app "$code"
        grep -qF "file:$T/$name $sentence" "$M/jobs/$JOB/error"
        run timeout "$PATIENCE" "$KEEPFS" verify "$T/repo/$RECORD" --key "file:$T/$name"
        [ "$status" = 14 ]
        [[ $output == *"file:$T/$name $sentence"* ]]
    done <<EOF
readable|$invalid|can be used by group or others (mode 644): chmod it 600
group|$invalid|can be used by group or others (mode 620): chmod it 600
link|$config|is a symlink: name the key file itself
short|$invalid|has 31 bytes: a key file has exactly 32
long|$invalid|has 33 bytes: a key file has exactly 32
digits|$invalid|has 64 bytes: a key file has exactly 32
directory|$config|is a directory: name a file of 32 bytes
fifo|$config|is a FIFO: name a file of 32 bytes
EOF
    [ "$(ls "$T/repo")" = "$RECORD" ]
}

@test "a key pasted where its reference belongs is refused and never printed" {
    make_marked_db
    digits=$(key_hex "$T/key")
    for wrong in "$digits" "env:$digits" "file:$digits"; do
        for key in encryption_key old_keys; do
            config_repo "$key = $wrong"
            for command in "check $CONFIG" "mount $CONFIG $M"; do
                run "$KEEPFS" $command
                [ "$status" = 3 ]
                [[ $output == *"$CONFIG:"*"$key"*"env:NAME, file:/absolute/path"* ]]
                [[ $output != *"$digits"* ]]
            done
        done
    done
    for line in "min_envelope = $digits" "format = $digits" "$digits = x" "env:${digits^^} = x" "compression = $digits"; do
        config_repo "$line"
        run "$KEEPFS" check "$CONFIG"
        [ "$status" = 3 ]
        [[ ${output,,} != *"$digits"* ]]
    done
}

@test "kill -9 while an archive is being compressed and encrypted: nothing of it stays, the next one works" {
    mkdir "$T/src/tree"
    # Slow to compress as hard as this: the backup takes seconds, the kill comes with the first bytes.
    head -c 16M /dev/urandom | od -An -v -tx1 >"$T/src/tree/file"
    config_docs "encryption_key = $KEY" 'compression = zstd:19'
    start
    job=$(trigger docs)
    begun() { [ -n "$(find "$T/repo" -path '*.tmp/payload.bin' -size +0)" ]; }
    await begun
    kill_daemon
    [ -n "$(find "$T/repo" -maxdepth 1 -name '*.tmp')" ]
    config_docs "encryption_key = $KEY" 'compression = zstd:1'
    start
    [ "$(state_of "$job")" = interrupted ]
    assert_clean "$T/repo"
    backup docs
    assert_clean "$T/repo"
    tar -xOf "$M/records/$RECORD/payload" file | cmp - "$T/src/tree/file"
}

@test "a key file in a repo or in the mount is refused with its line; anywhere else it may be" {
    make_marked_db
    mkdir -p "$T/repo"
    make_key "$T/repo/in-it"
    for key in "$T/repo/in-it" "$M/in-it"; do
        config_repo "encryption_key = file:$key"
        run "$KEEPFS" mount "$CONFIG" "$M"
        [ "$status" = 3 ]
        [[ $output == *"keepfs.conf:"*"a key of repo app/main ($key)"*"allowed: a key outside of the mount point and of all repos"* ]]
    done
    mv "$T/repo/in-it" "$T/src/key"
    config_repo "encryption_key = file:$T/src/key"
    start
    backup app
}

@test "a key file full of zeros, as a crash leaves one, is no key" {
    make_marked_db
    (umask 077 && head -c 32 /dev/zero >"$T/zeros")
    config_repo "encryption_key = file:$T/zeros"
    start
    backup_fails app destination_credentials_invalid
    grep -q 'no random key' "$M/jobs/$JOB/error"
}
