# SPDX-License-Identifier: MIT
# The transcript in README, typed anew: KEEPFS_TRANSCRIPT is another page to take it from.

load lib

@test "a person's first ten minutes go as README tells them" {
    mkdir "$T/bin" "$T/src/docs"
    ln -s "$KEEPFS" "$T/bin/keepfs"
    echo text >"$T/src/docs/text"
    # An ordinary user unmounts by fusermount3.
    if [ "$(id -u)" != 0 ]; then
        printf '#!/bin/sh\nexec fusermount3 -u "$1"\n' >"$T/bin/umount"
        chmod +x "$T/bin/umount"
    fi
    PATH=$T/bin:$PATH run python3 -B "$BATS_TEST_DIRNAME/../transcript/replay.py" \
        "${KEEPFS_TRANSCRIPT:-$BATS_TEST_DIRNAME/../../README.md}" /etc/keepfs.conf="$CONFIG" \
        /var/lib/keepfs="$STATE" /srv/app="$T/src" /srv/docs="$T/src/docs" /backup="$T/repo" /mnt/keepfs="$M"
    DAEMON=$(daemon_pid 2>/dev/null) || DAEMON= # it ends with its mount
    if [ "$status" != 0 ]; then
        echo "$output" >&2
        false
    fi
    assert_no_match " $M fuse.keepfs " /proc/mounts
    stop
}

@test "the replay sees an answer that differs, and tells ULIDs apart" {
    cd "$T"
    page() { printf '<!-- transcript -->\n```console\n%s\n```\n<!-- end of transcript -->\n' "$1" >page; }
    replay() { run python3 -B "$BATS_TEST_DIRNAME/../transcript/replay.py" page /usual="$T"; }
    a=01KAJ7Q0D3W5X8Y2Z4A6B8C0D2 b=01KAJ7Q0D3W5X8Y2Z4A6B8C0D3 c=01KAJ7Q0D3W5X8Y2Z4A6B8C0D4
    mkdir dir
    touch dir/{one,two}

    page $'$ echo yes\nyes\n$ cat <<E\n> a\n> b\n> E\na\nb\n$ false\n$ ls /usual/dir\none  two\n$ echo /usual\n/usual'
    replay
    [ "$status" = 0 ]
    [ "$output" = '5 commands, 0 different' ]
    page $'$ echo yes\nno'
    replay
    [ "$status" = 1 ]
    [[ $output == *'no'*'yes'*'1 commands, 1 different' ]]
    page $'$ echo one; echo two\none'
    replay
    [ "$status" = 1 ]
    page $'$ ls dir\none'
    replay
    [ "$status" = 1 ]

    # Another ULID than the page's, but the same in both lines; and typed as it was answered.
    echo $a >id
    page $'$ cat id\n'$b$'\n$ cat id\n'$b$'\n$ grep -c '$b$' id\n1'
    replay
    [ "$status" = 0 ]
    page $'$ cat id\n'$b$'\n$ cat id\n'$c
    replay
    [ "$status" = 1 ]
    printf '%s\n' $a $c >id
    page $'$ cat id\n'$b$'\n'$b
    replay
    [ "$status" = 1 ]

    page $'$ echo 2026-09-01T12:00:00.000Z 5.3 MiB in 4 s at 3%\n2001-01-01T00:00:00.000Z 1 KiB in 12 min at 100%'
    replay
    [ "$status" = 0 ]
    page $'$ echo 3 records\n4 records'
    replay
    [ "$status" = 1 ]
    echo nothing >page
    replay
    [ "$status" = 1 ]
    cd /
}
