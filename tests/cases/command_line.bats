# SPDX-License-Identifier: MIT
# What is typed: which commands and options there are, and what each says to one it does not take.

load lib

# keepfs fails as a usage error, says a text on stderr and nothing on stdout, and mounts nothing.
misused() { # TEXT COMMAND ARGUMENT...
    local got=0
    "$KEEPFS" "${@:2}" >"$T/out" 2>"$T/err" </dev/null || got=$?
    if [ "$got" != 2 ] || ! grep -qF -e "$1" "$T/err"; then
        echo "exit status $got, and:" >&2
        cat "$T/err" >&2
        return 1
    fi
    [ ! -s "$T/out" ]
    assert_no_match " $M fuse.keepfs " /proc/mounts
    [ ! -e "$STATE" ]
}

@test "without a command it helps, and that is no success; an unknown one is named" {
    status=0
    "$KEEPFS" >"$T/out" 2>"$T/err" || status=$?
    [ "$status" = 2 ]
    "$KEEPFS" --help >"$T/help"
    cmp "$T/out" "$T/help"
    misused 'keepfs nonsense: there is no such command' nonsense
    misused 'Try: keepfs --help' nonsense
}

@test "found in PATH it is the same" {
    mkdir "$T/bin"
    ln -s "$KEEPFS" "$T/bin/keepfs"
    cd "$T/bin"
    [ "$(PATH=. keepfs --version)" = "$("$KEEPFS" --version)" ]
    cd /
}

@test "mount takes CONFIG, MOUNTPOINT, -f and -o OPTIONS" {
    config_app
    misused 'it takes CONFIG and MOUNTPOINT' mount
    misused 'it takes CONFIG and MOUNTPOINT' mount "$CONFIG"
    misused 'it takes CONFIG and MOUNTPOINT' mount "$CONFIG" "$M" "$T"
    misused 'the options are -f and -o OPTIONS' mount "$CONFIG" "$M" -x
    misused 'the options are -f and -o OPTIONS' mount "$CONFIG" "$M" --foreground
    misused 'the options are -f and -o OPTIONS' mount "$CONFIG" "$M" -o
}

@test "check takes CONFIG and nothing else, fsck --deep" {
    config_app
    misused 'it takes CONFIG' check
    misused 'it takes CONFIG' check "$CONFIG" "$CONFIG"
    misused 'it takes CONFIG' fsck
    misused 'it takes CONFIG' fsck "$CONFIG" "$CONFIG"
    misused 'the option is --deep' fsck "$CONFIG" --repair
}

@test "check warns of a repo that could not be written today, and that is no fault" {
    config_app
    ln -s "$T/nowhere" "$T/link"
    sed -i "s|^path = $T/repo$|path = $T/link|" "$CONFIG"
    run --separate-stderr "$KEEPFS" check "$CONFIG"
    [ "$status" = 0 ]
    [[ $stderr == "$CONFIG:6: warning: [repo app/main]: $T/link is a symbolic link to nowhere" ]]
    [[ $output == "$CONFIG: ok: 1 stores, 1 repos"* ]]
    rm "$T/link"
    touch "$T/link"
    run --separate-stderr "$KEEPFS" check "$CONFIG"
    [ "$status" = 0 ]
    [[ $stderr == "$CONFIG:6: warning: [repo app/main]: "*"Not a directory" ]]
}

@test "extract and verify take as many keys as a repo has, and no more" {
    local keys=()
    for i in $(seq 16); do keys+=(--key "file:$T/key$i"); done
    misused 'it takes ARCHIVE_DIR' extract "${keys[@]}"
    misused 'too many keys' extract "${keys[@]}" --key "file:$T/key17" "$T/repo"
    misused 'too many keys' verify "${keys[@]}" "$T/repo" --key "file:$T/key17"
}

# mount(8) calls it so: a SPEC, a DIR, and options that are mostly its own.
@test "as mount.keepfs it takes what mount(8) gives" {
    config_app
    ln -s "$KEEPFS" "$T/mount.keepfs"
    KEEPFS=$T/mount.keepfs
    "$KEEPFS" "$CONFIG" "$M" -sv -n -t keepfs -N /proc/self/ns/mnt -f -o rw # -f: nothing but a rehearsal
    assert_no_match " $M fuse.keepfs " /proc/mounts
    [ ! -e "$STATE" ]
    misused 'mount -t keepfs CONFIG DIR' "$CONFIG"
    misused 'mount -t keepfs CONFIG DIR' "$CONFIG" "$M" "$T"
    misused 'mount -t keepfs CONFIG DIR' "$CONFIG" "$M" -q
    misused 'mount -t keepfs CONFIG DIR' "$CONFIG" "$M" -o
    timeout "$PATIENCE" "$KEEPFS" "$CONFIG" "$M" -s -n -v -o rw,noauto
    DAEMON=$(daemon_pid)
    backup app
}
