# SPDX-License-Identifier: MIT
# ctl from every shell and tool: one line is one command, answered at once.

load lib

two_stores() {
    make_db "$T/src/a.db" 5
    make_db "$T/src/b.db" 5
    config <<EOF
[store a]
kind = sqlite
path = $T/src/a.db
[repo a/main]
kind = local
path = $T/repo/a
[store b]
kind = sqlite
path = $T/src/b.db
[repo b/main]
kind = local
path = $T/repo/b
EOF
    start
}

all_idle() { [ -z "$(ls "$M/jobs/active")" ]; }
count_jobs() { ls "$M/jobs" | grep -c '^0'; }

@test "bash, dash, zsh echo; tee; dd; cp; Python: each starts one job" {
    config_app
    start
    n=0
    for how in "bash -c 'echo app > ctl'" "dash -c 'echo app > ctl'" "zsh -c 'echo app > ctl'" \
        "echo app | tee ctl" "echo app | dd of=ctl status=none conv=notrunc" \
        "echo app >> ctl" "printf app > ctl" \
        "python3 -c 'open(\"ctl\", \"w\").write(\"app\\n\")'" "echo app > $T/in; cp $T/in ctl"; do
        (cd "$M" && eval "$how" >/dev/null)
        n=$((n + 1))
        [ "$(count_jobs)" = $n ]
        await all_idle
    done
}

@test "several lines in one write, or in several, are several commands" {
    two_stores
    bash -c "printf 'a\nb\n' > $M/ctl"
    [ "$(count_jobs)" = 2 ]
    await all_idle
    dash -c "printf 'a\nb\n' > $M/ctl"
    [ "$(count_jobs)" = 4 ]
    await all_idle
    printf 'a\nb' | tee "$M/ctl" >/dev/null
    [ "$(count_jobs)" = 6 ]
    await all_idle
    { echo a; echo b; } >"$M/ctl"
    [ "$(count_jobs)" = 8 ]
}

@test "a bad second line: the good part is done, the rest gets the errno" {
    two_stores
    run python3 - "$M/ctl" <<'EOF'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
text = b"a\nnosuch\nb\n"
n = os.write(fd, text)
print(n)
try:
    os.write(fd, text[n:])
except OSError as e:
    print(errno.errorcode[e.errno])
print(os.read(fd, 4096).decode().split()[1])
EOF
    [ "$output" = $'2\nENOENT\na/main' ]
    [ "$(count_jobs)" = 1 ]
    run bash -c "printf 'b\n\n' | tee $M/ctl"
    [ "$status" != 0 ]
    [ "$(count_jobs)" = 2 ]
}

@test "errno says what was wrong, last_error says it in words" {
    config_app
    start
    [ "$(cat "$M/last_error")" = ok ]
    [ "$(write_errno "$M/ctl" $'nosuch\n')" = ENOENT ]
    grep -qx 'errno ENOENT' "$M/last_error"
    grep -qx 'path ctl' "$M/last_error" || grep -qx 'path /ctl' "$M/last_error"
    grep -qx 'input nosuch' "$M/last_error"
    grep -q '^message .*nosuch' "$M/last_error"
    [ "$(write_errno "$M/ctl" $'app/nosuch\n')" = ENOENT ]
    [ "$(write_errno "$M/ctl" $'\n')" = EINVAL ]
    [ "$(write_errno "$M/ctl" $'APP\n')" = EINVAL ]
    [ "$(write_errno "$M/ctl" $'../etc\n')" = EINVAL ]
    [ "$(write_errno "$M/ctl" $'app colour=red\n')" = EINVAL ]
    [ "$(write_errno "$M/ctl" $'app key=\n')" = EINVAL ]
    [ "$(write_errno "$M/ctl" "app label=$(printf 'x%.0s' {1..2000})"$'\n')" = E2BIG ]
    [ -z "$(ls "$M/jobs/active")" ]
    [ "$(count_jobs)" = 0 ]
    [ "$(write_errno "$M/ctl" $'app\n')" = ok ]
    [ "$(cat "$M/last_error")" = ok ]
}

@test "echo of an unset variable is EINVAL; open and close without data is nothing" {
    config_app
    start
    unset NOTHING
    run bash -c "echo $NOTHING > $M/ctl"
    [ "$status" != 0 ]
    : >"$M/ctl"
    true >>"$M/ctl"
    [ "$(count_jobs)" = 0 ]
}

@test "noclobber shells can write ctl" {
    config_app
    start
    bash -c "set -C; echo app >| $M/ctl"
    [ "$(count_jobs)" = 1 ]
}

@test "a repo with a job pending or running is EBUSY, and last_error names the job" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    [ "$(write_errno "$M/ctl" $'app\n')" = EBUSY ]
    grep -q "^message .*$job" "$M/last_error"
    [ "$(write_errno "$M/ctl" $'app/main\n')" = EBUSY ]
    release_db
    [ "$(finished "$job")" = succeeded ]
    # Whoever has seen the end is not told that it is busy.
    [ "$(write_errno "$M/ctl" $'app\n')" = ok ]
}

@test "a line is all or nothing: one busy repo, no job" {
    config_near_far
    start
    hold_db "$T/src/app.db"
    job=$(trigger app/far)
    [ "$(write_errno "$M/ctl" $'app\n')" = EBUSY ]
    [ "$(count_jobs)" = 1 ]
    release_db
    finished "$job"
}

@test "a full queue is EAGAIN" {
    for s in a b c; do make_db "$T/src/$s.db" 5; done
    { echo "[keepfs]"; echo "state = $STATE"; echo "max_queue = 2"
      for s in a b c; do
          printf '[store %s]\nkind = sqlite\npath = %s\n[repo %s/main]\nkind = local\npath = %s\n' \
              $s "$T/src/$s.db" $s "$T/repo/$s"
      done; } >"$CONFIG"
    start
    hold_db "$T/src/a.db"
    one=$(trigger a)
    sqlite3 "$T/src/b.db" "PRAGMA journal_mode=DELETE" >/dev/null
    await is_state "$one" running
    # b would finish at once: keep it waiting behind a by its own lock.
    exec {b_lock}<>"$T/src/b.db"
    python3 - "$T/src/b.db" "$M/ctl" <<'EOF'
import errno, os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
def write(line):
    fd = os.open(sys.argv[2], os.O_WRONLY)
    try:
        os.write(fd, line)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
    finally:
        os.close(fd)
assert write(b"b\n") == "ok"
assert write(b"c\n") == "EAGAIN"
EOF
    exec {b_lock}>&-
    release_db
    await all_idle
}

@test "a fresh open reads the grammar and the ids; the same open reads its jobs" {
    two_stores
    grep -q '^a/main$' "$M/ctl" || grep -q 'a/main' "$M/ctl"
    grep -q 'b/main' "$M/ctl"
    grep -q 'STORE' "$M/ctl"
    exec {fd}<>"$M/ctl"
    echo a >&$fd
    echo b >&$fd
    reply=$(cat <&$fd)
    exec {fd}>&-
    [ "$(cut -d' ' -f2 <<<"$reply" | xargs)" = "a/main b/main" ]
    for j in $(cut -d' ' -f1 <<<"$reply"); do [ -d "$M/jobs/$j" ]; done
}

@test "the tree refuses what it has no meaning for" {
    config_app
    start
    backup app
    for try in "touch $M/new" "mkdir $M/new" "ln -s x $M/new" "mv $M/README $M/x" "rm -f $M/README" \
        "rm $M/records/$RECORD/sha256" "mkdir $M/records/new" "rm -rf $M/jobs/$JOB" "mkfifo $M/new" "ln $M/README $M/new"; do
        run $try
        [ "$status" != 0 ]
    done
    [ -d "$M/records/$RECORD" ]
    [ -d "$M/jobs/$JOB" ]
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "1,000 parallel echos: one job, EBUSY for the others, nothing left" {
    config_app
    start
    backup app
    rss() { awk '/^VmRSS/ {print $2}' "/proc/$DAEMON/status"; }
    hold_db "$T/src/app.db"
    fds=$(ls "/proc/$DAEMON/fd" | wc -l) kb=$(rss)
    for i in $(seq 1000); do
        { bash -c "echo app > $M/ctl" 2>&1 || true; } >>"$T/out.$((i % 8))" &
        if ((i % 100 == 0)); then wait $(jobs -p | grep -vx "$HOLDER"); fi
    done
    [ "$(cat "$T"/out.* | grep -c 'Device or resource busy')" = 999 ]
    [ "$(count_jobs)" = 2 ]
    release_db
    [ "$(finished "$(readlink "$M/jobs/latest")")" = succeeded ]
    await all_idle
    [ "$(ulids "$M/records" | wc -l)" = 2 ]
    # One job ran, with one log; a thread or descriptor a client would show here.
    [ "$(ls "/proc/$DAEMON/fd" | wc -l)" -le "$fds" ]
    [ "$(ls "/proc/$DAEMON/task" | wc -l)" -le 16 ]
    [ $(($(rss) - kb)) -lt 32768 ]
    backup app
}
