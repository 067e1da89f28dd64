# SPDX-License-Identifier: MIT
# kill -9 at random moments under load, and what the next start makes of it.

load ../cases/lib

# KEEPFS_SEED repeats a run; KEEPFS_KILLS sets how many.
KILLS=${KEEPFS_KILLS:-300}

all_idle() { [ -z "$(ls "$M/jobs/active")" ]; }

# Triggers without end, from a process of its own, whatever happens to the mount.
load_it() {
    exec python3 - "$M/ctl" <<'EOF'
import os, sys, time
while True:
    for store in (b"app\n", b"docs\n"):
        try:
            fd = os.open(sys.argv[1], os.O_WRONLY)
            try:
                os.write(fd, store)
            finally:
                os.close(fd)
        except OSError:
            pass
        time.sleep(0.002)  # one core is the daemon's
EOF
}

@test "$KILLS kills: no record without archive, no whole archive without record, no job left running, nothing half-made" {
    make_db "$T/src/app.db" 2000 WAL
    mkdir "$T/src/docs"
    for i in $(seq 40); do head -c 20000 /dev/urandom >"$T/src/docs/$i"; done
    make_key "$T/key"
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
[repo app/main]
kind = local
path = $T/repo/app
encryption_key = file:$T/key
[store docs]
kind = directory
path = $T/src/docs
[repo docs/main]
kind = local
path = $T/repo/docs
verify_after_write = yes
EOF
    RANDOM=${KEEPFS_SEED:=$$}
    echo "# seed $KEEPFS_SEED" >&3
    start
    backup app
    backup docs
    load_it 3>&- &
    CHILDREN+=($!)
    for i in $(seq "$KILLS"); do
        # A random moment: this many looks at the mount, from none to some 60 ms.
        for _ in $(seq $((RANDOM % 40))); do ls "$M/jobs/active" >/dev/null; done
        kill_daemon
        begin=$(date +%s%N)
        start
        [ $((($(date +%s%N) - begin) / 1000000)) -lt 30000 ] # three seconds are meant; only a hang breaks this
        if ((i % 50 == 0)); then check_all; fi
    done
    kill -STOP "${CHILDREN[-1]}"
    await all_idle
    check_all
    echo "# $KILLS kills, $(ulids "$M/records" | wc -l) records, $(find "$M/jobs" -name status -path '*/jobs/0*' -exec cat {} + | grep -cx interrupted) jobs interrupted" >&3
}

# With the load held: whatever a kill left is put right.
check_all() {
    kill -STOP "${CHILDREN[-1]}"
    await all_idle
    assert_clean "$T/repo/app" "$T/repo/docs"
    [ -z "$(find "$M/jobs" -name status -exec cat {} + | grep -vx -e succeeded -e failed -e interrupted)" ]
    local r
    for r in $(ulids "$M/records" | tail -n 12); do
        [ "$(sha256sum <"$M/records/$r/payload.bin" | cut -d' ' -f1)" = "$(cat "$M/records/$r/sha256")" ]
        # Its source does not change: every record decodes to the same.
        [ "$(cat "$M/records/$r/store")" != app ] || cmp "$T/src/app.db" "$M/records/$r/payload"
        cat "$M/records/$r/payload" >/dev/null
    done
    kill -CONT "${CHILDREN[-1]}"
}
