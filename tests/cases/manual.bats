# SPDX-License-Identifier: MIT
# The man pages: well-formed, installed, and about this program. What its tables say (keys, modes,
# exit statuses) tests/manual/check.py compares, as one of meson's tests.

load lib

ROOT=$BATS_TEST_DIRNAME/../..
MAN=$ROOT/src/man

@test "mandoc has nothing to say about the pages" {
    for page in "$MAN"/*.[1-8]; do
        run mandoc -Tlint -W warning "$page"
        [ "$status" = 0 ]
        [ -z "$output" ]
        mandoc -Tutf8 "$page" | grep -q KEEPFS
    done
    [ "$(ls "$MAN" | xargs)" = "keepfs.1 keepfs.5 keepfs.conf.5" ]
}

@test "every command and option that --help has is in keepfs(1)" {
    "$KEEPFS" --help | sed -n 's/^  keepfs //p' >"$T/commands"
    mandoc -Tascii -Owidth=200 "$MAN/keepfs.1" | sed 's/.\x08//g' >"$T/page"
    python3 - "$T/commands" "$T/page" <<'PY'
import re, sys
commands, page = open(sys.argv[1]).read().splitlines(), open(sys.argv[2]).read()
synopsis = page[page.index("SYNOPSIS"):page.index("DESCRIPTION")]
assert len(commands) >= 6
for command in commands:
    name = command.split()[0]
    line = re.search(rf"keepfs( \S+ \|)? {name}\b.*", synopsis)
    for word in [name] + re.findall(r"(?<!\w)--?[a-z][a-z0-9-]*", command):
        assert line and word in line[0], f"the synopsis lacks {word} of {name}"
        assert re.search(rf"^ +(.*, )?{word}\b", page, re.M), f"nothing is said of {word}"
PY
}

@test "every name on a mount is in keepfs(5)" {
    make_db "$T/src/app.db" 10
    config <<EOF2
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT v FROM t
[repo app/main]
kind = local
path = $T/repo
EOF2
    start
    backup 'app key=once label=all there is'
    echo 1 >"$M/records/$RECORD/pinned"
    [ -s "$M/records/$RECORD/payload_ids" ]
    run python3 -B "$ROOT/tests/manual/walk.py" "$M" "$MAN"
    [ "$status" = 0 ] || {
        echo "$output" >&2
        false
    }
    [ "${lines[-1]}" -gt 50 ]
}

@test "pages, unit and examples are installed where they are looked for" {
    meson introspect --installed "$(dirname "$KEEPFS")" >"$T/installed"
    for to in man/man1/keepfs.1 man/man5/keepfs.5 man/man5/keepfs.conf.5 lib/systemd/system/keepfs.service \
        doc/keepfs/examples/{backup-then.sh,check_keepfs,decrypt.py,keepfs.conf}; do
        grep -q "/$to\"" "$T/installed"
    done
}
