# SPDX-License-Identifier: MIT
# keepfs extract and keepfs verify: an archive, or a copy of one, without daemon, configuration or
# state.

load lib

# A database of several MiB in three archives, and nothing but those: $PLAIN is compressed, $SAFE
# is encrypted as well, $RAW is neither.
case_setup() {
    make_key "$T/key"
    KEY="--key=file:$T/key"
    make_db "$T/src/app.db" 60000
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT 'id-' || id FROM t WHERE id < 4
[repo app/plain]
kind = local
path = $T/repo/plain
[repo app/raw]
kind = local
path = $T/repo/raw
compression = none
[repo app/safe]
kind = local
path = $T/repo/safe
encryption_key = file:$T/key
EOF
    start
    backup app/plain
    PLAIN=$T/repo/plain/$RECORD
    backup app/raw
    RAW=$T/repo/raw/$RECORD
    backup app/safe
    SAFE=$T/repo/safe/$RECORD
    stop
    rm -r "$STATE" "$CONFIG"
}

# keepfs fails with a status, and says a text on stderr.
fails() { # STATUS TEXT COMMAND ARGUMENT...
    local got=0
    "$KEEPFS" "${@:3}" >/dev/null 2>"$T/err" || got=$?
    if [ "$got" != "$1" ] || ! grep -qF -e "$2" "$T/err"; then
        echo "exit status $got, and:" >&2
        cat "$T/err" >&2
        return 1
    fi
}

# Both commands refuse it, in one line.
both_fail() { # STATUS TEXT ARGUMENT...
    local command
    for command in extract verify; do
        fails "$1" "$2" "$command" "${@:3}"
        [ "$(wc -l <"$T/err")" = 1 ]
    done
}

# A copy to be spoilt; it keeps its name, without which it is no archive.
spoil() { # ARCHIVE: prints the copy
    rm -rf "$T/spoilt"
    mkdir "$T/spoilt"
    cp -r "$1" "$T/spoilt/"
    echo "$T/spoilt/${1##*/}"
}

@test "extract writes what the store gave, of any archive, wherever it was copied" {
    "$KEEPFS" extract "$RAW" | cmp - "$T/src/app.db"
    "$KEEPFS" extract "$PLAIN" | cmp - "$T/src/app.db"
    "$KEEPFS" extract "$SAFE" "$KEY" | cmp - "$T/src/app.db"
    "$KEEPFS" extract "$KEY" "$SAFE/" >"$T/out"
    cmp "$T/out" "$T/src/app.db"
    copy=$(spoil "$SAFE")
    cd "$T/spoilt"
    "$KEEPFS" extract "${copy##*/}" "$KEY" | cmp - "$T/src/app.db"
    cd "$copy"
    "$KEEPFS" extract . "$KEY" | cmp - "$T/src/app.db"
    cd /
}

@test "the key may come from the environment, and be one of several" {
    KEEPFS_CASE_KEY=$(key_hex "$T/key") "$KEEPFS" extract "$SAFE" --key env:KEEPFS_CASE_KEY | cmp - "$T/src/app.db"
    make_key "$T/other"
    "$KEEPFS" extract "$SAFE" --key "file:$T/other" "$KEY" | cmp - "$T/src/app.db"
    "$KEEPFS" verify "$SAFE" --key "file:$T/other" "$KEY" | grep -qx 'result ok'
}

@test "--offset and --length: the first byte, across frames, up to the end and behind it" {
    size=$(stat -c %s "$T/src/app.db")
    [ "$size" -gt 3145728 ]
    while read -r offset length; do
        for archive in "$RAW" "$PLAIN" "$SAFE"; do
            key=()
            if [ "$archive" = "$SAFE" ]; then key=("$KEY"); fi
            "$KEEPFS" extract "$archive" "${key[@]}" --offset "$offset" --length "$length" >"$T/out"
            tail -c "+$((offset + 1))" "$T/src/app.db" | head -c "$length" | cmp - "$T/out"
        done
    done <<EOF
0 1
0 0
1048570 12
1048576 1048576
5 3000000
$((size - 1)) 1
$((size - 10)) 1000
$size 5
EOF
    "$KEEPFS" extract "$SAFE" "$KEY" --offset $((size - 100)) | cmp - <(tail -c 100 "$T/src/app.db")
    "$KEEPFS" extract "$SAFE" "$KEY" --length 100 | cmp - <(head -c 100 "$T/src/app.db")
    fails 44 'behind the end' extract "$SAFE" "$KEY" --offset $((size + 1))
}

@test "verify reads every byte, says what the archive is, and result ok" {
    "$KEEPFS" verify "$SAFE" "$KEY" >"$T/out"
    for line in "archive ${SAFE##*/}" 'store app' 'store_kind sqlite' 'compression zstd:3' 'envelope v2' \
        "size_bytes $(stat -c %s "$SAFE/payload.bin")" "content_bytes $(stat -c %s "$T/src/app.db")" \
        "sha256 $(sha256sum <"$SAFE/payload.bin" | cut -d' ' -f1)" 'payload_id_count 3' 'result ok'; do
        grep -qx "$line" "$T/out"
    done
    "$KEEPFS" verify "$RAW" | xargs | grep -q 'compression none envelope none .*result ok$'
    "$KEEPFS" verify "$PLAIN" | xargs | grep -q 'compression zstd:3 envelope none .*result ok$'
}

@test "a key that does not fit is 61, none at all 14, one for an archive that has none 67" {
    make_key "$T/other"
    both_fail 61 'wrong key' "$SAFE" --key "file:$T/other"
    both_fail 14 'no key is configured' "$SAFE"
    both_fail 14 'key file cannot be found' "$SAFE" --key "file:$T/nowhere"
    both_fail 67 'not encrypted' "$PLAIN" "$KEY"
    digits=$(key_hex "$T/key")
    both_fail 14 'no reference to a key' "$SAFE" --key "$digits"
    assert_no_match -F "$digits" "$T/err"
}

@test "a directory that is not named by a ULID, or by another one, is no archive" {
    copy=$(spoil "$SAFE")
    mv "$copy" "$T/spoilt/backup"
    both_fail 44 'called by its ULID' "$T/spoilt/backup" "$KEY"
    mv "$T/spoilt/backup" "$T/spoilt/01ARZ3NDEKTSV4RRFFQ69G5FAV"
    both_fail 62 "${SAFE##*/}" "$T/spoilt/01ARZ3NDEKTSV4RRFFQ69G5FAV" "$KEY"
    both_fail 11 'nowhere' "$T/nowhere"
}

@test "payload.bin cut, changed, longer or gone" {
    copy=$(spoil "$SAFE")
    last=$(tail -c 1 "$copy/payload.bin" | tr '\0' x)
    truncate -s -1 "$copy/payload.bin"
    both_fail 60 truncated "$copy" "$KEY"
    if [ "$last" = x ]; then echo -n y; else echo -n x; fi >>"$copy/payload.bin"
    both_fail 60 'damaged frame' "$copy" "$KEY" # its size is right again
    echo >>"$copy/payload.bin"
    both_fail 60 'trailing bytes' "$copy" "$KEY"
    rm "$copy/payload.bin"
    both_fail 65 payload.bin "$copy" "$KEY"
    copy=$(spoil "$SAFE")
    flip "$copy/payload.bin" 20 # in the salt
    both_fail 60 'wrong archive' "$copy" "$KEY"
    for archive in "$PLAIN" "$RAW"; do
        copy=$(spoil "$archive")
        truncate -s -1 "$copy/payload.bin"
        both_fail 60 truncated "$copy"
        rm "$copy/payload.bin"
        both_fail 65 payload.bin "$copy"
    done
}

@test "a flipped byte is 60 and its frame is named; a range that does not touch it is given" {
    copy=$(spoil "$SAFE")
    flip "$copy/payload.bin" $((80 + 1048592 + 500)) # of the envelope's second frame
    both_fail 60 'damaged frame 1' "$copy" "$KEY"
    "$KEEPFS" extract "$copy" "$KEY" --length 1048576 | cmp - <(head -c 1048576 "$T/src/app.db")
    copy=$(spoil "$PLAIN")
    flip "$copy/payload.bin" 500
    both_fail 60 'damaged frame 0' "$copy"
    "$KEEPFS" extract "$copy" --offset 1048576 | cmp - <(tail -c +1048577 "$T/src/app.db")
    # Where nothing but the digest of the whole can tell, the whole is written, and is not right.
    copy=$(spoil "$RAW")
    flip "$copy/payload.bin" 500
    both_fail 60 'SHA-256' "$copy"
}

@test "manifest.yaml altered, of a newer keepfs, or gone" {
    copy=$(spoil "$SAFE")
    sed -i 's/^created_at: 20/created_at: 21/' "$copy/manifest.yaml"
    both_fail 62 'manifest altered' "$copy" "$KEY"
    sed -i 's/^manifest_version: 2/manifest_version: 3/' "$copy/manifest.yaml"
    both_fail 63 version "$copy" "$KEY"
    echo '- no manifest' >"$copy/manifest.yaml"
    both_fail 62 manifest "$copy" "$KEY"
    rm "$copy/manifest.yaml"
    both_fail 64 "${SAFE##*/}" "$copy" "$KEY"
}

@test "payload_ids altered or gone: verify says so" {
    for archive in "$PLAIN" "$SAFE"; do
        key=()
        if [ "$archive" = "$SAFE" ]; then key=("$KEY"); fi
        for edit in 's/id-2/id-5/' 1d 's/id-1/&\n&/' '$aid-4'; do
            copy=$(spoil "$archive")
            sed -i "$edit" "$copy/payload_ids"
            fails 60 payload_ids verify "$copy" "${key[@]}"
        done
        rm "$copy/payload_ids"
        fails 65 payload_ids verify "$copy" "${key[@]}"
    done
}

@test "where it writes to is full or gone: 46, not a success" {
    for archive in "$RAW" "$PLAIN"; do
        status=0
        "$KEEPFS" extract "$archive" >/dev/full 2>"$T/err" || status=$?
        [ "$status" = 46 ]
        grep -q 'No space' "$T/err"
    done
    status=0
    "$KEEPFS" verify "$RAW" >/dev/full 2>"$T/err" || status=$?
    [ "$status" = 46 ]
    # No stdout at all.
    status=0
    "$KEEPFS" extract "$RAW" >&- 2>"$T/err" || status=$?
    [ "$status" = 46 ]
    # A reader that goes early.
    { "$KEEPFS" extract "$RAW" 2>"$T/err" || echo $? >"$T/status"; } | head -c 10 >/dev/null
    [ "$(cat "$T/status")" = 46 ]
    grep -q 'Broken pipe' "$T/err"
}

@test "an archive of envelope v1 is taken with --allow-v1 only: it is bound to nothing" {
    config_repo 'format = v1' "encryption_key = file:$T/key"
    start
    backup app
    stop
    both_fail 67 'envelope is v1' "$T/repo/$RECORD" "$KEY"
    "$KEEPFS" verify --allow-v1 "$T/repo/$RECORD" "$KEY" | grep -qx 'envelope v1'
    "$KEEPFS" extract "$T/repo/$RECORD" "$KEY" --allow-v1 | cmp - "$T/src/app.db"
    # A damaged first frame is not taken for a wrong key, and the others can be had.
    flip "$T/repo/$RECORD/payload.bin" 100
    both_fail 60 'damaged frame 0' "$T/repo/$RECORD" "$KEY" --allow-v1
    cmp <(tail -c +4194305 "$T/src/app.db") \
        <("$KEEPFS" extract "$T/repo/$RECORD" "$KEY" --allow-v1 --offset 4194304)
}

@test "a part of an archive that nothing checks comes with a warning" {
    "$KEEPFS" extract "$RAW" --offset 1 --length 9 2>"$T/err" >"$T/out"
    cmp "$T/out" <(head -c 10 "$T/src/app.db" | tail -c 9)
    grep -q 'nothing checks' "$T/err"
    "$KEEPFS" extract "$PLAIN" --offset 1 --length 9 2>"$T/err" | cmp - "$T/out"
    [ ! -s "$T/err" ]
}

@test "usage errors are 2, with what is allowed" {
    fails 2 ARCHIVE_DIR extract
    fails 2 ARCHIVE_DIR verify
    fails 2 ARCHIVE_DIR extract "$RAW" "$PLAIN"
    fails 2 --offset extract "$RAW" --offset -1
    fails 2 --offset extract "$RAW" --length 1k
    fails 2 --offset extract "$RAW" --offset 99999999999999999999
    fails 2 --key extract "$RAW" --frame 1
    fails 2 --key verify "$RAW" --offset 1
    fails 2 --key extract "$RAW" --key
    status=0
    script -qec "'$KEEPFS' extract '$RAW'" /dev/null </dev/null >"$T/out" || status=$?
    [ "$status" = 2 ]
    grep -q terminal "$T/out"
}

@test "nothing is written where the archive is" {
    cp -a "$T/repo" "$T/before"
    "$KEEPFS" extract "$SAFE" "$KEY" >/dev/null
    "$KEEPFS" verify "$SAFE" "$KEY" >/dev/null
    [ -z "$(rsync -an --delete --itemize-changes "$T/repo/" "$T/before/")" ]
}
