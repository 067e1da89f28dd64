# SPDX-License-Identifier: MIT
# keepfs extract of a part: what is wrong in that part is an error, and so is where it cannot go.

load lib

# keepfs fails with a status, and says a text on stderr.
fails() { # STATUS TEXT ARGUMENT...
    local got=0
    "$KEEPFS" extract "${@:3}" >"$T/out" 2>"$T/err" || got=$?
    if [ "$got" != "$1" ] || ! grep -qF -e "$2" "$T/err"; then
        echo "exit status $got, and:" >&2
        cat "$T/err" >&2
        return 1
    fi
}

case_setup() {
    make_key "$T/key"
    make_db "$T/src/app.db" 30000
    config_repo "encryption_key = file:$T/key"
    start
    backup app
    ARCHIVE=$T/repo/$RECORD
    stop
    PART=("$ARCHIVE" --key "file:$T/key" --offset 1000 --length 2000)
}

@test "a part in a damaged frame is an error, and nothing of it is written" {
    "$KEEPFS" extract "${PART[@]}" | cmp - <(tail -c +1001 "$T/src/app.db" | head -c 2000)
    flip "$ARCHIVE/payload.bin" 500
    fails 60 'damaged frame 0' "${PART[@]}"
    [ ! -s "$T/out" ]
}

@test "a part that cannot be written is an error" {
    local got=0
    "$KEEPFS" extract "${PART[@]}" >/dev/full 2>"$T/err" || got=$?
    [ "$got" = 46 ]
    grep -q 'No space' "$T/err"
}

@test "a part of nothing, and a part behind the end" {
    size=$(stat -c %s "$T/src/app.db")
    "$KEEPFS" extract "$ARCHIVE" --key "file:$T/key" --offset "$size" >"$T/out"
    [ ! -s "$T/out" ]
    "$KEEPFS" extract "$ARCHIVE" --key "file:$T/key" --offset 18446744073709551615 2>"$T/err" && got=0 || got=$?
    [ "$got" = 44 ]
    "$KEEPFS" extract "$ARCHIVE" --key "file:$T/key" --offset 7 --length 18446744073709551615 |
        cmp - <(tail -c +8 "$T/src/app.db")
}
