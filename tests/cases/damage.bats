# SPDX-License-Identifier: MIT
# A repo's disk that gives back other bytes: what is read is right or EIO, and last_error names the
# frame.

load lib

case_setup() {
    make_key "$T/key"
    make_db "$T/src/app.db" 60000
}

# The frames of the seekable zstd stream on stdin: where each begins in the stream, where its
# content begins, and the ends of both.
zstd_frames() {
    python3 -c '
import struct, sys
stream = sys.stdin.buffer.read()
count, descriptor, magic = struct.unpack("<IBI", stream[-9:])
assert magic == 0x8F92EAB1 and descriptor == 0
stored = content = 0
for i in range(count):
    c, d = struct.unpack_from("<II", stream, len(stream) - 9 - 8 * (count - i))
    print(stored, content)
    stored, content = stored + c, content + d
print(stored, content)'
}

# What is before the damage is right, what is in it is EIO, what is behind it is right.
assert_damaged() { # PAYLOAD FROM TO TEXT
    cmp <(head -c "$2" "$T/src/app.db") <(dd if="$1" bs=64k count="$2" iflag=count_bytes status=none)
    assert_eio "$4" "$1" "$2"
    assert_eio "$4" "$1" $(($3 - 1))
    cmp <(tail -c "+$(($3 + 1))" "$T/src/app.db") <(dd if="$1" bs=64k skip="$3" iflag=skip_bytes status=none)
    assert_eio "$4" "$1"
}

@test "one byte of an encrypted archive: its frame is EIO and named, the rest is right, mended it is whole" {
    config_repo "encryption_key = file:$T/key"
    start
    backup app
    archive=$T/repo/$RECORD
    python3 "$BATS_TEST_DIRNAME/../../examples/decrypt.py" "$archive" "$T/key" | zstd_frames >"$T/frames"
    at=$((80 + 1048592 + 777)) # in the second frame of the envelope
    flip "$archive/payload.bin" $at
    # Damaged is every frame of zstd that has a part in that one.
    read -r from to < <(awk '
        NR > 1 && $1 > 1048576 && from == "" {from = content}
        NR > 1 && stored < 2097152 {to = $2}
        {stored = $1; content = $2}
        END {print from, to}' "$T/frames")
    [ "$from" -gt 0 ]
    [ "$to" -lt "$(stat -c %s "$T/src/app.db")" ]
    assert_damaged "$M/records/$RECORD/payload" "$from" "$to" 'damaged frame 1'
    flip "$archive/payload.bin" $at
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "one byte of an archive that is only compressed: the same, by zstd's checksum" {
    config_repo
    start
    backup app
    archive=$T/repo/$RECORD
    zstd_frames <"$archive/payload.bin" >"$T/frames"
    read -r stored from < <(sed -n 3p "$T/frames")
    read -r end to < <(sed -n 4p "$T/frames")
    for at in $((stored + 2)) $(((stored + end) / 2)) $((end - 1)); do
        flip "$archive/payload.bin" $at
        assert_damaged "$M/records/$RECORD/payload" "$from" "$to" 'damaged frame 2'
        stop # and with it what the kernel has cached
        flip "$archive/payload.bin" $at
        start
    done
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "one byte of an archive of format v1, and of one that is encrypted only" {
    for lines in 'format = v1' 'compression = none'; do
        reconfigure "encryption_key = file:$T/key" "min_envelope = v1" "$lines"
        backup app
        if [ "$lines" = 'format = v1' ]; then frame=4194304; else frame=1048576; fi
        flip "$T/repo/$RECORD/payload.bin" $((frame + 5000))
        python3 - "$M/records/$RECORD/payload" "$T/src/app.db" $frame <<'EOF'
import errno, os, sys
fd, source, frame = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], "rb").read(), int(sys.argv[3])
first = os.pread(fd, frame - 65536, 0)
assert first == source[:frame - 65536]
try:
    os.pread(fd, 4096, frame + 8192)
    sys.exit("damage was read")
except OSError as e:
    assert e.errno == errno.EIO
EOF
        grep -q '^message .*damaged frame 1' "$M/last_error"
    done
}

@test "payload.bin with another header, cut, longer or gone: EIO, and last_error says which" {
    config_repo "encryption_key = file:$T/key"
    start
    backup app
    good=$RECORD
    backup app
    stored=$T/repo/$RECORD/payload.bin payload=$M/records/$RECORD/payload
    spoilt() { # TEXT
        assert_eio "$1" "$payload"
        cp "$T/good" "$stored"
    }
    cp "$stored" "$T/good"
    flip "$stored" 0
    spoilt 'damaged header'
    flip "$stored" 30
    spoilt 'wrong archive'
    flip "$stored" 60
    spoilt 'wrong archive'
    truncate -s -1 "$stored"
    spoilt truncated
    truncate -s 50 "$stored"
    spoilt truncated
    echo >>"$stored"
    spoilt 'trailing bytes'
    flip "$stored" $(($(stat -c %s "$stored") - 20)) # the seek table's end
    spoilt 'damaged frame'
    rm "$stored"
    spoilt payload.bin
    cmp "$T/src/app.db" "$payload"
    cmp "$T/src/app.db" "$M/records/$good/payload"
}

@test "one byte of the seek table of a compressed archive is EIO" {
    config_repo
    start
    backup app
    stored=$T/repo/$RECORD/payload.bin size=$(stat -c %s "$T/repo/$RECORD/payload.bin")
    # Its magic number, descriptor, number of frames; sizes of the last frame's content, and stored.
    for back in 1 5 9 13 17; do
        flip "$stored" $((size - back))
        assert_eio 'damaged seek table\|bytes of content, its manifest says' "$M/records/$RECORD/payload"
        flip "$stored" $((size - back))
    done
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "verify_after_write reads the archive back before it is published, and the log says so" {
    for lines in 'compression = none' 'compression = zstd:1' "encryption_key = file:$T/key"; do
        reconfigure 'verify_after_write = yes' "$lines"
        backup app
        grep -q 'read back: what is stored decodes to what the store gave' "$M/jobs/$JOB/log"
        cmp "$T/src/app.db" "$M/records/$RECORD/payload"
    done
    reconfigure
    backup app
    assert_no_match 'read back' "$M/jobs/$JOB/log"
}

@test "a payload that nothing checks is read anew by each open: mended, it is right again" {
    config_repo 'compression = none'
    start
    backup app
    flip "$T/repo/$RECORD/payload.bin" 5000
    refute cmp -s "$T/src/app.db" "$M/records/$RECORD/payload"
    flip "$T/repo/$RECORD/payload.bin" 5000
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "payload_ids that were altered are EIO before the first of them is given" {
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT 'id-' || id FROM t WHERE id < 4
[repo app/main]
kind = local
path = $T/repo
encryption_key = file:$T/key
EOF
    start
    backup app
    [ "$(cat "$M/records/$RECORD/payload_ids")" = $'id-1\nid-2\nid-3' ]
    flip "$T/repo/$RECORD/payload_ids" 10
    assert_eio payload_ids "$M/records/$RECORD/payload_ids"
    flip "$T/repo/$RECORD/payload_ids" 10
    [ "$(wc -l <"$M/records/$RECORD/payload_ids")" = 3 ]
}
