# SPDX-License-Identifier: MIT
# Everything in examples/ that an admin copies, run on a real mount, with only its paths changed.

load lib

EXAMPLES=$BATS_TEST_DIRNAME/../../examples

# An example with the paths of this case in the place of the usual ones.
adapted() { # FILE
    sed -e "s|/etc/keepfs\.key|$T/etc/keepfs.key|g" -e "s|/etc/keepfs\.conf|$CONFIG|g" \
        -e "s|^path = /etc$|path = $T/etc|" -e "s|/var/lib/keepfs|$STATE|g" \
        -e "s|/var/lib/prometheus|$T/prometheus|g" -e "s|/srv/app|$T/src|g" \
        -e "s|/backup/|$T/repo/|g" -e "s|/mnt/disk2|$T/disk2|g" -e "s|/mnt/keepfs|$M|g" \
        -e "s|/usr/local/bin|$EXAMPLES|g" -e "s|^ExecStart=keepfs|ExecStart=$KEEPFS|" "$EXAMPLES/$1"
}

# The state's memory is lost, and the archives are from another day.
age_archives() { # REPO DATE
    stop
    rm -r "$STATE"
    sed -i "s/^created_at: .*/created_at: $2/" "$1"/*/manifest.yaml
    start
}

# A promise for app, and none for new.
config_promise() { # EXPECT_EVERY
    config_app "expect_every = $1"
    mkdir "$T/src/tree"
    cat >>"$CONFIG" <<EOF2
[store new]
kind = directory
path = $T/src/tree
[repo new/main]
kind = local
path = $T/new
EOF2
}

@test "every example is run by a test, and every script parses in every shell" {
    cd "$EXAMPLES"
    for file in *; do
        grep -rqF "$file" "$BATS_TEST_DIRNAME" "$BATS_TEST_DIRNAME/../run.sh" || {
            echo "no test runs $file" >&2
            false
        }
    done
    for script in mail-failure.sh backup-then.sh check_keepfs; do
        [ -x "$script" ]
        for shell in dash bash "zsh --emulate sh"; do $shell -n "$script"; done
    done
    cd /
}

@test "keepfs.conf: keepfs accepts it, also with all that is commented out, and backs up by it" {
    make_db "$T/src/app.db" 10
    mkdir "$T/etc"
    echo setting >"$T/etc/daemon.conf"
    make_key "$T/etc/keepfs.key"
    adapted keepfs.conf >"$CONFIG"
    assert_no_match -E ' /(etc|srv|var|backup|mnt)' <(grep -v '^#' "$CONFIG")
    run --separate-stderr "$KEEPFS" check "$CONFIG"
    [ "$status" = 0 ]
    [ -z "$stderr" ]
    sed -E 's/^#([a-z_]+ = )/\1/' "$CONFIG" >"$T/all.conf"
    [ "$(diff "$CONFIG" "$T/all.conf" | grep -c '^>')" -ge 9 ]
    run "$KEEPFS" check "$T/all.conf"
    [ "$status" = 0 ] || {
        echo "$output" >&2
        false
    }
    start
    for line in app/main app/weekly etc; do backup "$line"; done
    tar -tf "$M/records/$RECORD/payload" >"$T/list"
    grep -q daemon.conf "$T/list"
    assert_no_match keepfs.key "$T/list"
    grep -qx yes "$M/stores/app/repos/main/encrypted"
}

@test "quickstart.sh: backs up, restores and compares, and leaves nothing behind" {
    TMPDIR=$T run "$EXAMPLES/quickstart.sh" --once
    [ "$status" = 0 ] || {
        echo "$output" >&2
        false
    }
    [ "$(grep -cx equal <<<"$output")" = 3 ]
    assert_no_match "$T/keepfs-demo" /proc/mounts
    [ -z "$(find "$T" -maxdepth 1 -name 'keepfs-demo.*')" ]
}

# The lines of a crontab of the system: five fields, a user, a command in which % is special.
cron_commands() {
    adapted keepfs.cron | sed -nE 's/^([-0-9*,\/]+ +){5}root +//p' >"$T/cron"
    assert_no_match % "$T/cron"
}

cron_run() { # NUMBER
    sh -c "$(sed -n "$1p" "$T/cron")" </dev/null
}

@test "keepfs.cron: starts backups, and prints what there is to mail, else nothing" {
    config_promise 25h
    start
    cron_commands
    [ "$(wc -l <"$T/cron")" = 3 ]
    hold_db "$T/src/app.db"
    [ -z "$(cron_run 1)" ]
    [ "$(cat "$M/jobs/latest/label")" = nightly ]
    run cron_run 1
    [[ $output == *EBUSY* ]]
    release_db
    [ "$(finished "$(readlink "$M/jobs/latest")")" = succeeded ]
    [ -z "$(cron_run 2)" ]
    [ -z "$(cron_run 3)" ]
    age_archives "$T/repo" 2020-02-02T02:02:02Z
    [ "$(cron_run 2)" = 'backup overdue: app' ]
    cron_run 3 >"$T/mail" # of the store, and of its repo
    grep -qx "too old: $M/stores/app/last_success" "$T/mail"
    assert_no_match -v "^too old: $M/stores/app/" "$T/mail"
    stop
    for n in 1 2 3; do
        run cron_run $n
        [ -n "$output" ] # nothing is mounted: cron would mail that
    done
    [ -z "$(ls -A "$M")" ]
}

@test "mail-failure.sh: a mail with error, code and log for a job that fails, none for others" {
    mkdir "$T/bin"
    cat >"$T/bin/sendmail" <<EOF2
#!/bin/sh
echo "\$*" >$T/arguments
cat >$T/mail
EOF2
    chmod +x "$T/bin/sendmail"
    make_db "$T/src/app.db" 10
    adapted mail-failure.sh | sed -n 's/^# *on_failure = //p' >"$T/line"
    config <<EOF2
[store app]
kind = sqlite
path = $T/src/app.db
on_failure = /usr/bin/env PATH=$T/bin:/usr/bin:/bin $(cat "$T/line")
[repo app/main]
kind = local
path = $T/repo
EOF2
    start
    backup app
    [ ! -e "$T/mail" ]
    echo 'no database' >"$T/src/app.db"
    backup_fails app source_unavailable
    [ "$(cat "$T/arguments")" = '-t -i' ]
    python3 - "$T/mail" "$M/jobs/$JOB" <<'EOF2'
import email, email.policy, sys
mail = email.message_from_file(open(sys.argv[1]), policy=email.policy.default)
job = lambda name: open(f"{sys.argv[2]}/{name}").read()
assert mail["To"] == "root", mail["To"]
assert mail["Subject"].startswith("backup of app/main failed: source_unavailable on "), mail["Subject"]
body = mail.get_content()
assert job("error").strip() in body, body
assert sys.argv[2].rsplit("/", 1)[1] in body
assert "log:\n\n" in body and body.split("log:\n\n")[1].strip(), body
assert job("log").startswith(body.split("log:\n\n")[1].rstrip()), (job("log"), body)
EOF2
    # A mail that cannot be sent is told in the log, and changes nothing.
    printf '#!/bin/sh\necho no route >&2\nexit 75\n' >"$T/bin/sendmail"
    backup_fails app source_unavailable
    grep -q 'on_failure.*no route' "$M/jobs/$JOB/log"
}

# What node_exporter's parser takes (Prometheus text format, by a client library without OpenMetrics).
parse_metrics() { # FILE
    python3 - "$1" <<'EOF2'
import re, sys
types = {"counter", "gauge", "histogram", "summary", "untyped"}
number = r"[-+]?([0-9.]+([eE][-+]?[0-9]+)?|Inf|NaN)"
samples = 0
for line in open(sys.argv[1], newline="\n"):
    assert line.endswith("\n"), line
    if line.startswith("# TYPE "):
        assert line.split()[3] in types, line
    elif not line.startswith("#"):
        # No time behind the value: node_exporter refuses the whole file for one.
        assert re.fullmatch(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? ' + number + "\n", line), line
        samples += 1
assert samples > 5
EOF2
}

@test "node-exporter.conf: its link leads to metrics that node_exporter's parser takes" {
    config_app
    start
    backup app
    adapted node-exporter.conf | grep -v '^#' >"$T/link.conf"
    read -r type link _ _ _ _ target <"$T/link.conf"
    [ "$type $target" = "L+ $M/metrics" ]
    [[ $link == $T/prometheus/*.prom ]]
    if command -v systemd-tmpfiles >/dev/null; then
        systemd-tmpfiles --create "$T/link.conf"
    else
        mkdir -p "$(dirname "$link")"
        ln -s "$target" "$link"
    fi
    parse_metrics "$link"
    if command -v promtool >/dev/null; then promtool check metrics <"$link"; fi
    grep -q 'store="app"' "$link"
    # Read as a collector does: by its size, which is that of what is read.
    [ "$(stat -Lc %s "$link")" = "$(wc -c <"$link")" ]
}

check() { # STATUS TEXT ARGUMENT...
    run "$EXAMPLES/check_keepfs" -m "$M" "${@:3}"
    if [ "$status" != "$1" ] || [[ $output != "KEEPFS $2"* ]] || [ "${#lines[@]}" != 1 ]; then
        echo "$status: $output" >&2
        return 1
    fi
}

@test "check_keepfs: one line, performance data, and the status that monitoring acts on" {
    check 2 "CRITICAL - no keepfs is mounted on $M"
    config_promise 25h
    start
    check 0 'OK - 2 stores'
    check 1 'WARNING - new has no good backup' -w 60 new
    backup app
    check 0 'OK - 2 stores |'
    check 2 'CRITICAL - new has no good backup |' -c 60
    check 0 'OK - 1 stores' -w 60 -c 120 app
    [[ $output =~ \|\ \'app\'=[0-9]+s\;3600\;7200\;0$ ]]
    check 3 'UNKNOWN - there is no store nosuch' nosuch
    check 3 'UNKNOWN - usage' -x
    check 3 'UNKNOWN - usage' -w soon
    age_archives "$T/repo" "$(date -u -d '2 hours ago' +%FT%TZ)"
    check 0 'OK - 1 stores' app
    check 1 'WARNING - app is 2 h 0 min old' -w 90 -c 300 app
    check 2 'CRITICAL - app is 2 h 0 min old, new has no good backup' -w 10 -c 90 app new
    age_archives "$T/repo" "$(date -u -d '2 days ago' +%FT%TZ)"
    check 2 'CRITICAL - app is overdue and is 48 h 0 min old'
    stop
    rm -r "$STATE" "$T/repo"
    sed -i 's/^expect_every = .*/expect_every = 1s/' "$CONFIG"
    start
    await test -L "$M/overdue/app"
    check 2 'CRITICAL - app is overdue and has no good backup'
    check 0 'OK - 1 stores' new
    kill_daemon
    check 2 "CRITICAL - no keepfs is mounted on $M"
}

has_active() { [ -n "$(ls "$M/jobs/active")" ]; }

@test "backup-then.sh: the command runs after a success only, and its status is kept" {
    config_near_far
    start
    run "$EXAMPLES/backup-then.sh" -m "$M" 'app label=before the upgrade' sh -c 'ls "$1" >"$2"; exit 7' - "$M/records" "$T/then"
    [ "$status" = 7 ]
    [ "$(wc -l <"$T/then")" -ge 2 ] # both repos were done by then
    [ "$(cat "$M/jobs/latest/label")" = 'before the upgrade' ]
    rm "$T/then"

    # Refused, and why.
    run "$EXAMPLES/backup-then.sh" -m "$M" nosuch touch "$T/then"
    [ "$status" = 1 ]
    [[ $output == *ENOENT*nosuch* ]]

    # One of two fails: error and hint.
    chmod 500 "$T/repo/far"
    mv "$T/repo/far" "$T/repo/gone"
    run "$EXAMPLES/backup-then.sh" -m "$M" app touch "$T/then"
    [ "$status" = 1 ]
    [[ $output == *"backup of app: job "*" failed"* ]]
    [[ $output == *"check that the repo's path exists"* ]]

    # Interrupted, while it waits.
    hold_db "$T/src/app.db"
    "$EXAMPLES/backup-then.sh" -m "$M" app/near touch "$T/then" >"$T/out" 2>&1 3>&- {HOLD_FD}>&- &
    waiting=$!
    CHILDREN+=("$waiting")
    await has_active
    echo 1 >"$M/jobs/latest/cancel"
    status=0
    wait "$waiting" || status=$?
    release_db
    [ "$status" = 1 ]
    grep -q ' interrupted$' "$T/out"

    run "$EXAMPLES/backup-then.sh" -m "$M" app
    [ "$status" = 2 ]
    stop
    run "$EXAMPLES/backup-then.sh" -m "$M" app touch "$T/then"
    [ "$status" = 1 ]
    [[ $output == *"$M/README"* ]]
    [ -z "$(ls -A "$M")" ]
    [ ! -e "$T/then" ]
}

@test "deploy-group.conf: its group starts that backup, waits for it, and can do nothing else" {
    if [ "$(id -u)" != 0 ]; then skip "other users' processes take root"; fi
    chmod 755 "$T"
    make_db "$T/src/app.db" 10
    # A group that every Debian has, in the place of deploy.
    { printf '[keepfs]\nstate = %s\n' "$STATE"; adapted deploy-group.conf | sed 's/= deploy$/= games/'; } >"$CONFIG"
    grep -qx 'run_group = games' "$CONFIG"
    start
    cp "$EXAMPLES/backup-then.sh" "$T/backup-then.sh"
    member() { setpriv --reuid=nobody --regid=nogroup --groups=games "$@"; }
    # What the example says, line by line.
    adapted deploy-group.conf | sed -n 's/^#   //p' >"$T/lines"
    [ "$(wc -l <"$T/lines")" = 2 ]
    member sh -c "$(sed -n 1p "$T/lines")"
    await is_state "$(readlink "$M/jobs/latest")" succeeded
    member sh -c "cd $T; PATH=$T:/usr/bin:/bin; $(sed -n '2s/backup-then.sh/& -m $M/; s|\./deploy.sh|echo deployed|p' "$T/lines" |
        sed "s|\$M|$M|")" >"$T/out"
    grep -qx deployed "$T/out"
    [ "$(cat "$M/jobs/latest/label")" = 'release 42' ]
    [ "$(cat "$M/jobs/latest/requested_by")" = "uid:$(id -u nobody)" ]
    refute member sh -c "echo app >$M/ctl"
    refute member sh -c "echo 1 >$M/jobs/latest/cancel"
    refute member cat "$M/stores/app/latest/payload"
    refute member rmdir "$M/records/$(cat "$M/stores/app/last_success")"
    refute setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c "echo 1 >$M/stores/app/run"
}
