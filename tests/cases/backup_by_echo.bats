# SPDX-License-Identifier: MIT
# The main job: write a store's id, watch the job, get a record whose payload is the store.

load lib

@test "echo STORE > ctl makes a record whose payload is the database, byte for byte" {
    config_app
    start
    echo app >"$M/ctl"
    job=$(readlink "$M/jobs/latest")
    [ "$(finished "$job")" = succeeded ]
    cmp "$T/src/app.db" "$M/jobs/latest/record/payload"
}

@test "an id stands for the same backup in job, record, archive directory and manifest" {
    config_app
    start
    backup app
    [ "$JOB" != "$RECORD" ]
    [ "$(readlink "$M/jobs/$JOB/record")" = "../../records/$RECORD" ]
    [ "$(readlink "$M/records/$RECORD/job")" = "../../jobs/$JOB" ]
    [ -f "$T/repo/$RECORD/payload.bin" ]
    grep -qx "backup_id: $RECORD" "$T/repo/$RECORD/manifest.yaml"
    cmp "$T/repo/$RECORD/manifest.yaml" "$M/records/$RECORD/manifest.yaml"
    cmp "$T/repo/$RECORD/payload.bin" "$M/records/$RECORD/payload.bin"
}

@test "a job's files say what happened, one value each" {
    config_app
    start
    backup 'app label=before the upgrade'
    cd "$M/jobs/$JOB"
    [ "$(cat status)" = succeeded ]
    [ "$(cat kind)" = backup ]
    [ "$(cat store)/$(cat repo)" = app/main ]
    [ "$(cat requested_by)" = "uid:$(id -u)" ]
    [ "$(cat label)" = 'before the upgrade' ]
    [ "$(cat progress)" = 100 ]
    for f in created_at started_at finished_at; do
        [[ $(cat $f) =~ ^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}\.[0-9]{3}Z$ ]]
    done
    [ -z "$(cat error error_code)" ]
    grep -qx "content_bytes $(stat -c %s "$T/src/app.db")" stats
    grep -q "succeeded" log
    [ "$(python3 -c 'import json; j = json.load(open("job.json")); print(j["id"], j["state"], j["record"], j["stats"]["content_bytes"])')" = \
        "$JOB succeeded $RECORD $(stat -c %s "$T/src/app.db")" ]
    cd /
}

@test "a record's files say what is stored" {
    config_app
    start
    backup app
    cd "$M/records/$RECORD"
    [ "$(cat size_bytes)" = "$(stat -c %s "$T/repo/$RECORD/payload.bin")" ]
    [ "$(cat content_bytes)" = "$(stat -c %s "$T/src/app.db")" ]
    [ "$(cat sha256)" = "$(sha256sum <"$T/repo/$RECORD/payload.bin" | cut -d' ' -f1)" ]
    [ "$(cat store) $(cat repo) $(cat store_kind)" = "app main sqlite" ]
    grep -qx "created_at: \"*$(cat created_at)\"*" manifest.yaml
    cd /
}

@test "a store says when it was last backed up: last_success has the record's id and date" {
    config_app
    start
    [ "$(cat "$M/stores/app/kind")" = sqlite ]
    [ "$(cat "$M/stores/app/state")" = idle ]
    [ ! -e "$M/stores/app/last_success" ]
    backup app
    [ "$(cat "$M/stores/app/last_success")" = "$RECORD" ]
    [ "$(readlink "$M/stores/app/latest")" = "../../records/$RECORD" ]
    [ "$(date -u -d "@$(stat -c %Y "$M/stores/app/last_success")" +%FT%T)" = \
        "$(cut -c1-19 "$M/records/$RECORD/created_at")" ]
    # The whole monitoring plug-in: nothing is older than 25 hours.
    [ -z "$(find "$M/stores" -name last_success -mmin +1500)" ]
    [ "$(cat "$M/stores/app/repos/main/kind")" = local ]
    [ "$(cat "$M/stores/app/repos/main/location")" = "$T/repo" ]
    [ "$(cat "$M/stores/app/repos/main/encrypted")" = no ]
}

@test "a store with two repos gets a job for each, a named repo only its own" {
    config_near_far
    start
    jobs=$(trigger app)
    [ "$(wc -w <<<"$jobs")" = 2 ]
    for j in $jobs; do [ "$(finished "$j")" = succeeded ]; done
    [ "$(for j in $jobs; do cat "$M/jobs/$j/repo"; done | sort | xargs)" = "far near" ]
    backup app/far
    [ "$(ls "$T/repo/near" | wc -l) $(ls "$T/repo/far" | wc -l)" = "1 2" ]
}

@test "jobs/active has what is pending or running, and the store says so" {
    config_app
    start
    hold_db "$T/src/app.db"
    job=$(trigger app)
    await is_state "$job" running
    [ "$(ls "$M/jobs/active")" = "$job" ]
    [ "$(readlink "$M/jobs/active/$job")" = "../$job" ]
    [ "$(cat "$M/stores/app/state")" = running ]
    [ ! -e "$M/jobs/$job/record" ]
    release_db
    [ "$(finished "$job")" = succeeded ]
    [ -z "$(ls "$M/jobs/active")" ]
    [ "$(cat "$M/stores/app/state")" = idle ]
}

@test "jobs of one store run one after another, of two stores side by side" {
    make_db "$T/src/a.db" 10
    make_db "$T/src/b.db" 10
    config <<EOF
[store a]
kind = sqlite
path = $T/src/a.db
[repo a/one]
kind = local
path = $T/repo/one
[repo a/two]
kind = local
path = $T/repo/two
[store b]
kind = sqlite
path = $T/src/b.db
[repo b/main]
kind = local
path = $T/repo/b
EOF
    start
    hold_db "$T/src/a.db"
    jobs=($(trigger a))
    await is_state "${jobs[0]}" running
    backup b
    is_state "${jobs[1]}" pending
    release_db
    [ "$(finished "${jobs[0]}")" = succeeded ]
    [ "$(finished "${jobs[1]}")" = succeeded ]
    [[ ! $(cat "$M/jobs/${jobs[1]}/started_at") < $(cat "$M/jobs/${jobs[0]}/finished_at") ]]
}

@test "the job outlives its writer" {
    config_app
    start
    hold_db "$T/src/app.db"
    (echo app >"$M/ctl")
    job=$(readlink "$M/jobs/latest")
    await is_state "$job" running
    release_db
    [ "$(finished "$job")" = succeeded ]
}

@test "key= makes a repeated request harmless" {
    config_app
    start
    backup 'app key=deploy-17'
    [ "$(write_errno "$M/ctl" $'app key=deploy-17\n')" = EEXIST ]
    [ "$(readlink "$M/jobs/by-key/deploy-17")" = "../$JOB" ]
    grep -q "$JOB" "$M/last_error"
    [ "$(ulids "$M/records" | wc -l)" = 1 ]
}

@test "a directory store's payload is a tar of it" {
    mkdir -p "$T/src/tree/sub"
    echo hello >"$T/src/tree/sub/file"
    ln -s sub/file "$T/src/tree/link"
    config <<EOF
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo
EOF
    start
    backup docs
    mkdir "$T/out"
    tar -xpf "$M/records/$RECORD/payload" -C "$T/out"
    [ -z "$(rsync -aHAXn --delete --itemize-changes "$T/src/tree/" "$T/out/")" ]
    grep -qx 'files 1' "$M/jobs/$JOB/stats"
}

@test "payload_ids are listed with the record" {
    make_db "$T/src/app.db" 5
    config <<EOF
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT 'blob-' || (10 - id) FROM t
[repo app/main]
kind = local
path = $T/repo
EOF
    start
    backup app
    [ "$(cat "$M/records/$RECORD/payload_ids" | xargs)" = "blob-5 blob-6 blob-7 blob-8 blob-9" ]
    grep -qx 'payload_id_count: 5' "$M/records/$RECORD/manifest.yaml"
}
