# SPDX-License-Identifier: MIT
# keepfs check CONFIG says everything that is wrong, each with its line.

load lib

@test "a good configuration is ok; check changes nothing" {
    config_app
    rmdir "$T/repo"
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 0 ]
    [[ $output == *"1 stores, 1 repos"* ]]
    [ ! -e "$T/repo" ]
    [ ! -e "$STATE" ]
}

@test "all faults at once, in order, with file and line and what is allowed" {
    cat >"$CONFIG" <<EOF
[keepfs]
state = $STATE
max_jobs = many
[stor app]
kind = sqlite
[store app]
kind = sqlite
path = relative.db
colour = red
[store app]
kind = sqlite
path = $T/src/app.db
[store Bad]
kind = directory
path = $T/src
[store web]
kind = ftp
[repo app/main]
kind = local
path = $T/repo
[repo other/main]
kind = local
path = $T/repo2
EOF
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 3 ]
    for line in 3 4 8 9 10 13 17; do
        grep -q "^$CONFIG:$line: " <<<"$output"
    done
    grep -q "^$CONFIG:3: .*1.*64" <<<"$output"
    grep -q "^$CONFIG:9: .*colour.*path" <<<"$output"
    grep -q "^$CONFIG:17: .*ftp.*directory.*sqlite\|^$CONFIG:17: .*ftp.*sqlite.*directory" <<<"$output"
    grep -q "other" <<<"$output"
    [ "$(cut -d: -f2 <<<"$output" | sort -nc && echo sorted)" = sorted ]
    run "$KEEPFS" mount "$CONFIG" "$M"
    [ "$status" = 3 ]
}

@test "two repos on one place, also through a symlink, are refused" {
    make_db "$T/src/a.db" 1
    ln -s repo "$T/link"
    config <<EOF
[store a]
kind = sqlite
path = $T/src/a.db
[repo a/one]
kind = local
path = $T/repo/x
[repo a/two]
kind = local
path = $T/link/x
EOF
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 3 ]
    [[ $output == *"a/one"* ]]
}

@test "overlaps of mount, state, source and repo are refused" {
    overlap() { # SOURCE REPO STATE
        printf '[keepfs]\nstate = %s\n[store d]\nkind = directory\npath = %s\n[repo d/main]\nkind = local\npath = %s\n' \
            "$3" "$1" "$2" >"$CONFIG"
        run "$KEEPFS" mount "$CONFIG" "$M"
        [ "$status" = 3 ]
    }
    overlap "$T/src" "$T/src/repo" "$T/state"
    overlap "$T/repo/src" "$T/repo" "$T/state"
    overlap "$T/src" "$T/repo" "$T/src/state"
    overlap "$T/src" "$T/repo" "$T/repo/state"
    overlap "$T/src" "$T/state/repo" "$T/state"
    overlap "$M/src" "$T/repo" "$T/state"
    overlap "$T" "$T/../elsewhere" "/tmp/keepfs-elsewhere" || true
    overlap "$T/src" "$M/repo" "$T/state"
    overlap "$T/src" "$T/repo" "$M/state"
    assert_no_match " $M fuse.keepfs " /proc/mounts
}

@test "check warns of what a backup would trip over today" {
    config_app
    rm "$T/src/app.db"
    run "$KEEPFS" check "$CONFIG"
    [ "$status" = 0 ]
    [[ $output == *warning*"$T/src/app.db"* ]]
}
