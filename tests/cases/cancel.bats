# SPDX-License-Identifier: MIT
# echo 1 > jobs/ID/cancel

load lib

@test "a running job is interrupted, leaves nothing, and the next one works" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    echo 1 >"$M/jobs/$job/cancel"
    [ "$(finished "$job")" = interrupted ]
    [ "$(cat "$M/jobs/$job/error_code")" = cancelled ]
    grep -q "uid:$(id -u)" "$M/jobs/$job/error"
    [ "$(cat "$M/jobs/$job/progress")" -lt 95 ]
    assert_clean "$T/repo"
    release_db
    backup app
    assert_clean "$T/repo"
}

@test "a pending job is interrupted at once" {
    config_near_far
    start
    hold_db "$T/src/app.db"
    jobs=($(trigger app))
    await is_state "${jobs[0]}" running
    is_state "${jobs[1]}" pending
    echo 1 >"$M/jobs/${jobs[1]}/cancel"
    is_state "${jobs[1]}" interrupted
    [ -z "$(cat "$M/jobs/${jobs[1]}/started_at")" ]
    # Its repo is free again.
    again=$(trigger "app/$(cat "$M/jobs/${jobs[1]}/repo")")
    release_db
    [ "$(finished "${jobs[0]}")" = succeeded ]
    [ "$(finished "$again")" = succeeded ]
    is_state "${jobs[1]}" interrupted
}

@test "cancel of a finished job succeeds and changes nothing" {
    config_app
    start
    backup app
    before=$(cat "$M/jobs/$JOB/job.json")
    echo 1 >"$M/jobs/$JOB/cancel"
    [ "$before" = "$(cat "$M/jobs/$JOB/job.json")" ]
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}

@test "cancel takes 1 and nothing else; an unknown job is ENOENT" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    [ "$(write_errno "$M/jobs/$job/cancel" $'no\n')" = EINVAL ]
    [ "$(write_errno "$M/jobs/$job/cancel" $'\n')" = EINVAL ]
    await is_state "$job" running
    [ "$(write_errno "$M/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel" 1)" = ENOENT ]
    release_db
    [ "$(finished "$job")" = succeeded ]
}

@test "cancel at any moment of a directory backup: interrupted or succeeded, never in between" {
    mkdir "$T/src/tree"
    for i in $(seq 300); do head -c 20000 /dev/urandom >"$T/src/tree/$i"; done
    config <<EOF
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo
EOF
    start
    for i in $(seq 30); do
        job=$(trigger docs)
        for _ in $(seq "$i"); do state_of "$job" >/dev/null; done
        echo 1 >"$M/jobs/$job/cancel"
        case $(finished "$job") in
        succeeded) [ -e "$M/jobs/$job/record/payload" ] ;;
        interrupted) [ ! -e "$M/jobs/$job/record" ] ;;
        *) false ;;
        esac
        assert_clean "$T/repo"
    done
}
