# SPDX-License-Identifier: MIT
# What a repo asks for is its configuration's to say, never an archive's: whoever can write to the
# repo cannot have keepfs read what is less protected, or one archive for another.

load lib

case_setup() {
    make_key "$T/key"
    ENCRYPTED="encryption_key = file:$T/key"
    make_db "$T/src/app.db" 100
}

# The manifest of an archive, as one who has no key can alter it: not encrypted, without a MAC.
disown() { # ARCHIVE
    sed -i -e 's/^  enabled: true/  enabled: false/' -e '/^  envelope:/d' -e '/^  key_id:/d' \
        -e '/^manifest_mac:/d' "$1/manifest.yaml"
    grep -qx '  enabled: false' "$1/manifest.yaml"
}

# Puts a copy of an archive into the repo as another one, which its manifest says it is.
plant() { # ARCHIVE ULID
    cp -r "$1" "$T/repo/$2"
    sed -i "s/^backup_id: .*/backup_id: $2/" "$T/repo/$2/manifest.yaml"
}

@test "an unencrypted archive put into an encrypted repo is not adopted, with state or without" {
    config_repo
    start
    backup app
    mv "$T/repo/$RECORD" "$T/stranger"
    stop
    rm -r "$STATE"
    config_repo "$ENCRYPTED"
    start
    backup app
    stop
    plant "$T/stranger" 01ARZ3NDEKTSV4RRFFQ69G5FAV
    for _ in 1 2; do
        start 2>"$T/start.log"
        grep -q 'archive 01ARZ3NDEKTSV4RRFFQ69G5FAV is not adopted: .*not encrypted' "$T/start.log"
        [ "$(ulids "$M/records")" = "$RECORD" ]
        [ "$(cat "$M/stores/app/last_success")" = "$RECORD" ]
        [ -f "$T/repo/01ARZ3NDEKTSV4RRFFQ69G5FAV/payload.bin" ]
        stop
        rm -r "$STATE"
    done
    # It is one that can be read, where that is not asked for.
    config_repo "$ENCRYPTED" 'min_envelope = none'
    start
    cmp "$T/src/app.db" "$M/records/01ARZ3NDEKTSV4RRFFQ69G5FAV/payload"
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "a repo that was not encrypted before: its old records are EIO until min_envelope allows them" {
    config_repo
    start
    backup app
    reconfigure "$ENCRYPTED"
    [ -d "$M/records/$RECORD" ]
    assert_eio 'not encrypted' "$M/records/$RECORD/payload"
    reconfigure "$ENCRYPTED" 'min_envelope = none'
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "a manifest edited to say that nothing is encrypted is EIO, and last_error says so" {
    config_repo "$ENCRYPTED"
    start
    backup app
    disown "$T/repo/$RECORD"
    assert_eio 'not encrypted' "$M/records/$RECORD/payload"
    # Also to a daemon that has not seen it before.
    stop
    rm -r "$STATE"
    start
    [ ! -e "$M/records/$RECORD" ]
}

@test "any other edit of an encrypted archive's manifest is EIO: manifest altered" {
    config_repo "$ENCRYPTED"
    start
    backup app
    manifest=$T/repo/$RECORD/manifest.yaml
    cp "$manifest" "$T/good"
    for edit in 's/^created_at: 20/created_at: 21/' 's/^content_bytes: ./&1/' 's/^  level: 3/  level: 4/' \
        's/^store_kind: sqlite/store_kind: directory/' '/^manifest_mac/d' '$a# a comment' '1i# a comment'; do
        sed "$edit" "$T/good" >"$manifest"
        refute cmp -s "$T/good" "$manifest"
        echo "after: $edit"
        assert_eio 'manifest altered\|manifest_mac: ' "$M/records/$RECORD/payload"
    done
    cp "$T/good" "$manifest"
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "an archive of format v1 is refused where v2 is written, unless min_envelope = v1" {
    config_repo "$ENCRYPTED" 'format = v1'
    start
    backup app
    reconfigure "$ENCRYPTED"
    assert_eio 'its envelope is v1' "$M/records/$RECORD/payload"
    stop
    rm -r "$STATE"
    start 2>"$T/start.log"
    grep -q "archive $RECORD is not adopted: .*its envelope is v1" "$T/start.log"
    [ ! -e "$M/records/$RECORD" ]
    reconfigure "$ENCRYPTED" 'min_envelope = v1'
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "the payload of another record of the same size is EIO: wrong archive" {
    config_repo "$ENCRYPTED" 'compression = none'
    start
    backup app
    one=$RECORD
    backup app
    cd "$T/repo"
    [ "$(stat -c %s "$one/payload.bin")" = "$(stat -c %s "$RECORD/payload.bin")" ]
    cp "$one/payload.bin" "$RECORD/payload.bin"
    cd /
    assert_eio 'wrong archive' "$M/records/$RECORD/payload"
    cmp "$T/src/app.db" "$M/records/$one/payload"
}

@test "a whole archive in the place of another is EIO, whatever its manifest says it is" {
    config_repo "$ENCRYPTED"
    start
    backup app
    one=$RECORD
    backup app
    rm -r "${T:?}/repo/$RECORD"
    cp -r "$T/repo/$one" "$T/repo/$RECORD"
    assert_eio "$one" "$M/records/$RECORD/payload"
    rm -r "${T:?}/repo/$RECORD"
    plant "$T/repo/$one" "$RECORD"
    assert_eio 'manifest altered' "$M/records/$RECORD/payload"
}

@test "an archive of another store is not adopted, though it has the same key" {
    config_repo "$ENCRYPTED"
    start
    backup app
    stop
    rm -r "$STATE"
    sed -i -e 's/\[store app\]/[store other]/' -e 's,\[repo app/,[repo other/,' "$CONFIG"
    start 2>"$T/start.log"
    grep -q "archive $RECORD is not adopted: .*store app" "$T/start.log"
    [ -z "$(ulids "$M/records")" ]
}

@test "min_envelope above what the repo writes is refused with its line" {
    config_repo 'min_envelope = v1'
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 3 ]
    [[ $output == "$CONFIG:$(grep -n min_envelope "$CONFIG" | cut -d: -f1): "*min_envelope* ]]
}
