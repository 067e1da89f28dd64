# SPDX-License-Identifier: MIT
# Schedules through the real daemon, in a time of their own (faketime), and what comes after a job.

load lib

# keepfs in another time: "@2026-03-29 00:59:57", or "x60" behind it for one that runs faster.
start_at() { # TIME
    FAKETIME=$1 LD_PRELOAD=$FAKETIME_LIBRARY FAKETIME_DONT_FAKE_MONOTONIC=1 \
        "$KEEPFS" mount "$CONFIG" "$M"
    DAEMON=$(daemon_pid)
}

setup_file() {
    FAKETIME_LIBRARY=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1)
    export FAKETIME_LIBRARY TZ=UTC
}

schedule() { # LINE OF THE REPO...
    config_docs "$@"
    echo a >"$T/src/tree/a"
}

the_jobs() {
    ls "$M/jobs" | grep '^0'
}

has_jobs() { # COUNT
    [ "$(the_jobs | wc -l)" = "$1" ]
}

@test "a tick starts a real backup" {
    schedule 'schedule = 0 2 * * *' 'jitter = 0'
    start_at '@2026-06-01 01:59:57'
    [ "$(cat "$M/stores/docs/next_run")" = 2026-06-01T02:00:00.000Z ]
    await has_jobs 1
    job=$(the_jobs)
    [ "$(finished "$job")" = succeeded ]
    [ "$(cat "$M/jobs/$job/requested_by")" = schedule ]
    [ -d "$M/jobs/$job/record/" ]
    [ "$(cat "$M/stores/docs/next_run")" = 2026-06-02T02:00:00.000Z ]
    stop
}

@test "a tick in the hour that summer time leaves out comes right after it" {
    schedule 'schedule = CRON_TZ=Europe/Rome 30 2 * * *' 'jitter = 0'
    start_at '@2026-03-29 00:59:57'
    [ "$(cat "$M/stores/docs/next_run")" = 2026-03-29T01:00:00.000Z ]
    await has_jobs 1
    [ "$(cat "$M/stores/docs/next_run")" = 2026-03-30T00:30:00.000Z ]
    stop
}

@test "a tick in the hour that comes twice comes once" {
    schedule 'schedule = CRON_TZ=Europe/Rome 30 2 * * *' 'jitter = 0'
    start_at '@2026-10-25 00:29:57'
    await has_jobs 1
    [ "$(cat "$M/stores/docs/next_run")" = 2026-10-26T01:30:00.000Z ]
    stop
}

@test "three missed ticks are one job with catch_up, and none without" {
    for catch_up in yes no; do
        rm -rf "$STATE" "$T/repo"
        schedule 'schedule = 0 2 * * *' 'jitter = 0' "catch_up = $catch_up"
        start_at '@2026-06-01 01:59:57'
        await has_jobs 1
        [ "$(finished "$(the_jobs)")" = succeeded ]
        stop
        start_at '@2026-06-04 12:00:00'
        # The scheduler has looked when the next start is planned.
        await grep -qx 2026-06-05T02:00:00.000Z "$M/stores/docs/next_run"
        if [ $catch_up = yes ]; then
            has_jobs 2
        else
            has_jobs 1
            grep -q 'was dropped' "$M/stores/docs/why"
        fi
        stop
    done
}

@test "a daemon that was stopped over three ticks runs once" {
    # An hour of its time is a second.
    schedule 'schedule = 0 * * * *' 'jitter = 0' 'catch_up = yes'
    start_at '@2026-06-01 00:30:00 x3600'
    await has_jobs 1
    kill -STOP "$DAEMON"
    sleep 4 # what passes meanwhile is four of its hours
    kill -CONT "$DAEMON"
    # One for what was missed, then on as before: never two for one hour.
    await has_jobs 3
    hours=$(for job in $(the_jobs); do cut -c1-13 "$M/jobs/$job/created_at"; done)
    [ "$(sort <<<"$hours" | uniq -d)" = "" ]
    stop
}

# The clock of a running daemon is set: $T/clock says how far it is from the machine's.
set_clock() { # TIME
    local seconds=$(($(date -ud "$1" +%s) - $(date +%s)))
    printf '%+d\n' $seconds >"$T/clock.new"
    mv "$T/clock.new" "$T/clock"
}

@test "a clock that is set a day or ten years off, and back, starts nothing twice and no storm" {
    schedule 'schedule = 0 * * * *' 'jitter = 0'
    local before=('2026-06-01 11:59:56' '2026-06-02 17:59:56' '2026-06-01 12:59:56'
        '2036-06-01 23:59:56' '2026-06-01 13:59:56')
    local expected=(2026-06-01T12:00 2026-06-02T18:00 2026-06-01T13:00 2036-06-02T00:00
        2026-06-01T14:00)
    set_clock "${before[0]}"
    FAKETIME_TIMESTAMP_FILE=$T/clock FAKETIME_NO_CACHE=1 LD_PRELOAD=$FAKETIME_LIBRARY \
        FAKETIME_DONT_FAKE_MONOTONIC=1 "$KEEPFS" mount "$CONFIG" "$M"
    DAEMON=$(daemon_pid)
    for i in "${!before[@]}"; do
        set_clock "${before[i]}"
        # The kernel cancels the timer of who sleeps when the clock is set; faketime does not.
        echo 1 >"$M/reload"
        await has_jobs $((i + 1))
        [ "$(finished "$(ls -U "$M/jobs" | grep '^0' | tail -n 1)")" = succeeded ]
    done
    # In the order in which they were made, which is not that of their ids.
    made=$(for job in $(ls -U "$M/jobs" | grep '^0'); do cut -c1-16 "$M/jobs/$job/created_at"; done)
    echo "$made"
    [ "$made" = "$(printf '%s\n' "${expected[@]}")" ]
    stop
}

@test "what is not kept goes, archive and all" {
    schedule 'keep_count = 2'
    start
    for i in 1 2 3 4; do
        finished "$(trigger docs)" >/dev/null
    done
    two_left() { [ "$(ls "$M/records" | grep -c '^0')" = 2 ] && [ "$(ls "$T/repo" | grep -c '^0')" = 2 ]; }
    await two_left
    [ "$(grep -c ' keep count$' "$M/stores/docs/repos/main/retention")" = 2 ]
    stop
}

@test "a failing before fails the job, and after runs all the same" {
    cat >"$T/hook" <<'EOF2'
#!/bin/sh
echo "I am $KEEPFS_HOOK of $KEEPFS_STORE/$KEEPFS_REPO $KEEPFS_STATE"
[ "$KEEPFS_HOOK" != before ]
EOF2
    chmod +x "$T/hook"
    schedule
    sed -i "s|^kind = directory|&\nbefore = $T/hook\nafter = $T/hook\non_failure = $T/hook|" "$CONFIG"
    start
    JOB=$(trigger docs)
    [ "$(finished "$JOB")" = failed ]
    [ "$(cat "$M/jobs/$JOB/error_code")" = hook_failed ]
    grep -q "before: I am before of docs/main $" "$M/jobs/$JOB/log"
    grep -q "after: I am after of docs/main failed$" "$M/jobs/$JOB/log"
    grep -q "on_failure: I am on_failure of docs/main failed$" "$M/jobs/$JOB/log"
    [ -z "$(ls "$M/records" | grep '^0')" ]
    stop
}
