# SPDX-License-Identifier: MIT
# What people and monitoring look at: overdue/, status, metrics, last_success, why.

load lib

why() { cat "$M/stores/${1:-app}/why"; }

is_overdue() { [ -L "$M/overdue/${1:-app}" ]; }

is_not_overdue() { [ ! -L "$M/overdue/${1:-app}" ]; }

metric() { # NAME{LABELS}: prints the value
    python3 - "$M/metrics" "$1" <<'EOF'
import sys
for line in open(sys.argv[1]):
    name, _, value = line.rstrip("\n").rpartition(" ")
    if name == sys.argv[2]:
        print(value)
EOF
}

# As if the first backup had been expected two hours earlier. The daemon is not running.
age_expectation() {
    sqlite3 "$STATE/catalog.sqlite" "UPDATE expected SET since = since - 7200000"
}

@test "a repo that never had a backup is overdue, over restarts, until it has one" {
    config_app 'expect_every = 1h'
    start
    is_not_overdue
    [ -z "$(ls "$M/overdue")" ]
    [ "$(metric 'keepfs_overdue{store="app",repo="main"}')" = 0 ]
    stop
    age_expectation
    start
    is_overdue
    kill_daemon
    start
    is_overdue
    [ "$(ls "$M/overdue")" = app ]
    [ "$(readlink "$M/overdue/app")" = ../stores/app ]
    [ "$(find -L "$M/overdue" -mindepth 1 -maxdepth 1 -type d)" = "$M/overdue/app" ]
    [ "$(stat -c %s "$M/overdue/app")" = 13 ]
    [ "$(cat "$M/overdue/app/kind")" = sqlite ]
    grep -q '^overdue since\|; overdue since' "$M/stores/app/why"
    grep -q 'there is no backup yet' "$M/stores/app/why"
    grep -q 'no backup yet, expected every 60 min' "$M/status"
    [ "$(metric 'keepfs_overdue{store="app",repo="main"}')" = 1 ]
    backup app
    is_not_overdue
    [ -z "$(ls "$M/overdue")" ]
    refute ls "$M/overdue/app/"
    assert_no_match overdue "$M/stores/app/why"
    [ "$(metric 'keepfs_overdue{store="app",repo="main"}')" = 0 ]
}

@test "it becomes overdue by itself when time passes" {
    config_app 'expect_every = 1'
    start
    await is_overdue
    # A backup that is a second old is overdue again.
    backup app
    await is_overdue
    grep -q 'the last good backup is of' "$M/stores/app/why"
}

@test "one dead repo is overdue whatever its store's other repo does" {
    config_near_far
    sed -i 's/^\(kind = local\)$/\1\nexpect_every = 1h/' "$CONFIG"
    start
    stop
    age_expectation
    start
    backup app/near
    [ "$(cat "$M/stores/app/last_success")" = "$RECORD" ]
    [ "$(cat "$M/stores/app/repos/near/last_success")" = "$RECORD" ]
    [ "$(date -u -r "$M/stores/app/repos/near/last_success" +%FT%T.%3NZ)" = "$(cat "$M/records/$RECORD/created_at")" ]
    [ ! -e "$M/stores/app/repos/far/last_success" ]
    is_overdue
    grep -q 'far: overdue since' "$M/stores/app/why"
    assert_no_match 'near: overdue' "$M/stores/app/why"
    [ "$(metric 'keepfs_overdue{store="app",repo="near"}')" = 0 ]
    [ "$(metric 'keepfs_overdue{store="app",repo="far"}')" = 1 ]
    backup app/far
    is_not_overdue
}

@test "expect_every follows the schedule, the key and a reload" {
    config_app 'schedule = CRON_TZ=UTC 0 3 * * 1-5' 'jitter = 60'
    start
    # Three days from Friday to Monday, half of it, and the jitter.
    [ "$(cat "$M/stores/app/repos/main/expect_every")" = 388860 ]
    echo 'expect_every = 1d12h' >>"$CONFIG"
    echo 1 >"$M/reload"
    [ "$(cat "$M/stores/app/repos/main/expect_every")" = 129600 ]
    sed -i 's/1d12h/never/' "$CONFIG"
    echo 1 >"$M/reload"
    [ "$(cat "$M/stores/app/repos/main/expect_every")" = never ]
    sed -i 's/never/12x/' "$CONFIG"
    [ "$(write_errno "$M/reload" 1)" = EINVAL ]
    grep -q 'expect_every' "$M/last_error"
}

@test "status and why show what runs and what waits for it" {
    config_near_far
    start
    hold_db "$T/src/app.db"
    jobs=($(trigger app))
    await is_state "${jobs[0]}" running
    cat "$M/status" >"$T/status"
    grep -qx '1 running, 1 pending, 0 overdue' "$T/status"
    grep -qE '^app/near +\[#*\.*\] +[0-9]+ %  +[0-9.]+ [KMGi]*B/s for [0-9]+ (s|min)' "$T/status"
    [ "$(awk 'length > 80' "$T/status")" = "" ]
    [ "$(metric keepfs_jobs_running)" = 1 ]
    [ "$(metric keepfs_jobs_pending)" = 1 ]
    [[ $(why) =~ "near: job ${jobs[0]} is running: "[0-9]+" %, for " ]]
    [[ $(why) == *"far: job ${jobs[1]} is pending: it waits for job ${jobs[0]} of app/near, which is running"* ]]
    [ "$(why | wc -l)" = 1 ]
    release_db
    [ "$(finished "${jobs[1]}")" = succeeded ]
    await grep -q '^0 running, 0 pending' "$M/status"
    grep -qE '^app/near +[0-9]+ s ago +[0-9.]+ [KM]?i?B +- +succeeded$' "$M/status"
    await grep -qx 'idle, and no schedule starts anything' "$M/stores/app/why"
    # The size that stat gives is the text's, where nothing moves.
    [ "$(stat -c %s "$M/metrics")" = "$(wc -c <"$M/metrics")" ]
}

@test "a job that waits for a worker says so" {
    config_near_far
    make_db "$T/src/web.db" 10
    cat >>"$CONFIG" <<EOF
[store web]
kind = sqlite
path = $T/src/web.db
[repo web/main]
kind = local
path = $T/repo/web
EOF
    sed -i 's/^state = .*/&\nmax_jobs = 1/' "$CONFIG"
    start
    hold_db "$T/src/app.db"
    job=$(trigger app/near)
    await is_state "$job" running
    web=$(trigger web)
    [[ $(why web) == "job $web is pending: all workers are busy, and it is the next"* ]]
    release_db
    [ "$(finished "$web")" = succeeded ]
}

@test "why says what failed, and what to do" {
    config_app
    start
    mv "$T/src/app.db" "$T/src/away.db"
    JOB=$(trigger app)
    [ "$(finished "$JOB")" = failed ]
    await grep -q "^idle, and no schedule starts anything; job $JOB, the last one, failed at " "$M/stores/app/why"
    [[ $(why) == *": $(cat "$M/jobs/$JOB/error_code"), $(cat "$M/jobs/$JOB/hint")"* ]]
    grep -qE "^app .* $(cat "$M/jobs/$JOB/error_code")\$" "$M/status"
    [ "$(metric 'keepfs_last_job_failed{store="app",repo="main"}')" = 1 ]
    mv "$T/src/away.db" "$T/src/app.db"
    backup app
    assert_no_match 'the last one' "$M/stores/app/why"
    [ "$(metric 'keepfs_last_job_failed{store="app",repo="main"}')" = 0 ]
}

@test "why says when a job that failed is tried again" {
    config_app 'retries = 1' 'retry_delay = 3600'
    rm "$T/src/app.db"
    mkdir "$T/src/app.db" # is no database, and so not there for now
    start
    JOB=$(trigger app)
    [ "$(finished "$JOB")" = failed ]
    await grep -q '; it is tried again at 2' "$M/stores/app/why"
}

@test "a suspect record and a wrong clock hold retention up, and why says so" {
    config_docs 'suspect_ratio = 0.5' 'keep_count = 5'
    head -c 500000 /dev/urandom >"$T/src/tree/big"
    start
    backup docs
    rm "$T/src/tree/big"
    backup docs
    await grep -q yes "$M/records/$RECORD/suspect"
    [[ $(why docs) == *"record $RECORD is suspect, far smaller than those before it: nothing is deleted"* ]]
    grep -q '1 suspect record$' "$M/status"
    grep -qE '^docs .* succeeded, suspect$' "$M/status"
    [ "$(metric 'keepfs_suspect_records{store="docs",repo="main"}')" = 1 ]
    echo 1 >"$M/records/$RECORD/review"
    assert_no_match suspect "$M/stores/docs/why"
    [ "$(metric 'keepfs_suspect_records{store="docs",repo="main"}')" = 0 ]
    stop
    sqlite3 "$STATE/catalog.sqlite" "UPDATE records SET created_at = created_at + 86400000"
    start
    [[ $(why docs) == *"the clock is behind the newest record, of "*": nothing is deleted"* ]]
}

@test "metrics are valid, right after known jobs, and go on over a restart" {
    config_app
    start
    backup app
    backup app
    mv "$T/src/app.db" "$T/src/away.db"
    [ "$(finished "$(trigger app)")" = failed ]
    count() { metric "keepfs_job_duration_seconds_count{store=\"app\",repo=\"main\",kind=\"backup\",outcome=\"$1\"}"; }
    [ "$(count succeeded)" = 2 ]
    [ "$(count failed)" = 1 ]
    [ "$(metric 'keepfs_records{store="app",repo="main"}')" = 2 ]
    [ "$(metric 'keepfs_stored_bytes{store="app",repo="main"}')" = $(($(cat "$M"/records/0*/size_bytes | paste -sd+))) ]
    [ "$(metric 'keepfs_last_record_size_bytes{store="app",repo="main"}')" = "$(cat "$M/records/$RECORD/size_bytes")" ]
    created=$(date -d "$(cat "$M/records/$RECORD/created_at")" +%s.%3N)
    [ "$(metric 'keepfs_last_success_timestamp_seconds{store="app",repo="main"}')" = "$created" ]
    # The worker asks for the room when the job has ended.
    has_room() { grep -q '^keepfs_repo_free_bytes{store="app",repo="main"} [1-9]' "$M/metrics"; }
    await has_room
    cat "$M/metrics" >"$T/metrics"
    [ "$(tail -n 1 "$T/metrics")" = '# EOF' ]
    check_openmetrics "$T/metrics"
    check_promtool "$T/metrics"
    rmdir "$M/records/$RECORD"
    [ "$(metric 'keepfs_records{store="app",repo="main"}')" = 1 ]
    stop
    start
    [ "$(count succeeded)" = 2 ]
    # The start looks each repo through, and asks it for its room.
    has_room
}

# By the strict parser of OpenMetrics, where it is installed.
check_openmetrics() { # FILE
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import prometheus_client' 2>/dev/null || continue
        "$python" - "$1" <<'EOF'
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1]).read())}
assert len(families) > 15, families
assert families["keepfs_job_duration_seconds"].type == "summary"
assert all(f.documentation for f in families.values())
EOF
        return
    done
    echo "# prometheus_client is not installed: OpenMetrics is not checked" >&3
}

check_promtool() { # FILE
    local promtool=${PROMTOOL:-promtool}
    command -v "$promtool" >/dev/null || {
        echo "# promtool is not installed: metrics are not checked by it" >&3
        return 0
    }
    [ "$("$promtool" check metrics <"$1" 2>&1)" = "" ]
}
