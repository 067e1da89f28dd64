# SPDX-License-Identifier: MIT
# An archive is compressed unless told otherwise, with nothing that zstd itself cannot undo.

load lib

stat_of() { # KEY
    sed -n "s/^$1 //p" "$M/jobs/$JOB/stats"
}

@test "zstd:3 unless told otherwise; payload is the database, payload.bin is smaller" {
    make_db "$T/src/app.db" 20000
    config_repo
    start
    [ "$(cat "$M/stores/app/repos/main/compression")" = zstd:3 ]
    backup app
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    content=$(stat -c %s "$T/src/app.db") stored=$(stat -c %s "$T/repo/$RECORD/payload.bin")
    [ "$stored" -lt $((content * 3 / 4)) ]
    cd "$M/records/$RECORD"
    [ "$(cat content_bytes) $(cat size_bytes)" = "$content $stored" ]
    [ "$(stat -c %s payload) $(stat -c %s payload.bin)" = "$content $stored" ]
    [ "$(cat sha256)" = "$(sha256sum <"$T/repo/$RECORD/payload.bin" | cut -d' ' -f1)" ]
    [ "$(stat_of content_bytes) $(stat_of stored_bytes)" = "$content $stored" ]
    grep -qx "content_bytes: $content" manifest.yaml
    grep -qx "size_bytes: $stored" manifest.yaml
    [ "$(grep -A2 '^compression:' manifest.yaml | xargs)" = 'compression: algorithm: zstd level: 3' ]
    cd /
}

@test "zstd -t, -dc and --list read payload.bin of a database" {
    make_db "$T/src/app.db" 20000
    config_repo
    start
    backup app
    zstd -qt "$T/repo/$RECORD/payload.bin"
    zstd -qdc "$T/repo/$RECORD/payload.bin" | cmp - "$T/src/app.db"
    # A frame for each MiB of content, and the seek table, which zstd skips.
    frames=$((($(stat -c %s "$T/src/app.db") + 1048575) / 1048576))
    [ "$frames" -gt 1 ]
    zstd --list -v "$T/repo/$RECORD/payload.bin" >"$T/list" 2>&1
    grep -qx "# Zstandard Frames: $frames" "$T/list"
    grep -qx '# Skippable Frames: 1' "$T/list"
    grep -qx 'Check: XXH64' "$T/list"
}

@test "zstd -dc | tar -x restores a directory, also an empty one" {
    mkdir -p "$T/src/tree" "$T/out"
    config_docs
    start
    backup docs
    zstd -qt "$T/repo/$RECORD/payload.bin"
    zstd --list "$T/repo/$RECORD/payload.bin" >/dev/null
    [ "$(zstd -qdc "$T/repo/$RECORD/payload.bin" | tar -tf -)" = ./ ]
    cp -a "$BATS_TEST_DIRNAME/." "$T/src/tree/"
    backup docs
    zstd -qdc "$T/repo/$RECORD/payload.bin" | cmp - "$M/records/$RECORD/payload"
    zstd -qdc "$T/repo/$RECORD/payload.bin" | tar -xpf - -C "$T/out"
    [ -z "$(rsync -aHAXn --delete --itemize-changes "$T/src/tree/" "$T/out/")" ]
}

@test "none, zstd:-7, zstd:19: all read alike; mount, manifest and size tell them apart" {
    make_db "$T/src/app.db" 8000
    for level in none zstd:-7 zstd:19; do
        reconfigure "compression = $level"
        [ "$(cat "$M/stores/app/repos/main/compression")" = "$level" ]
        backup app
        cp -r "$T/repo/$RECORD" "$T/$level"
    done
    for record in "$M"/records/0*; do cmp "$T/src/app.db" "$record/payload"; done
    cmp "$T/src/app.db" "$T/none/payload.bin"
    [ "$(grep -A1 '^compression:' "$T/none/manifest.yaml" | xargs)" = 'compression: algorithm: none' ]
    for level in -7 19; do
        grep -qx "  level: $level" "$T/zstd:$level/manifest.yaml"
        zstd -qdc "$T/zstd:$level/payload.bin" | cmp - "$T/src/app.db"
    done
    # The level is not only written down.
    [ "$(stat -c %s "$T/zstd:19/payload.bin")" -lt "$(stat -c %s "$T/zstd:-7/payload.bin")" ]
}

@test "what is no compression is refused, with what is allowed" {
    make_db "$T/src/app.db" 1
    for wrong in zstd zstd:0 zstd:20 zstd:-8 gzip; do
        config_repo "compression = $wrong"
        run "$KEEPFS" check "$CONFIG"
        [ "$status" = 3 ]
        [[ $output == *"compression = $wrong"*allowed*zstd:LEVEL* ]]
    done
    config_repo 'format = v1' 'compression = zstd:3'
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 3 ]
    [[ $output == *"v1 knows no compression"* ]]
}
