# SPDX-License-Identifier: MIT
# Tools that go through the whole tree while jobs come, run, are cancelled and end: they end, and what
# they say of things that are final - finished jobs, records - is what cat and stat say.
#
# `events` is a stream without an end, so whoever reads it waits: cat, cp, md5sum, wc. They leave it
# out here. tar and grep -r open files with O_NONBLOCK and are told EAGAIN, rsync takes a file of size
# 0 for empty, and the others do not read at all: these go through everything. `wait` of a running job
# ends with the job, and jobs end by themselves here.

load lib

HANG=300 # seconds, for a walk: only what hangs takes as long

case_setup() {
    make_db "$T/src/app.db" 200
    make_key "$T/key"
    mkdir -p "$T/src/tree/sub"
    head -c 300000 /dev/urandom >"$T/src/tree/sub/random"
    echo text >"$T/src/tree/text"
    config <<CONF
[store app]
kind = sqlite
path = $T/src/app.db
payload_ids = SELECT id FROM t
[repo app/main]
kind = local
path = $T/repo/app
encryption_key = file:$T/key
[store docs]
kind = directory
path = $T/src/tree
[repo docs/near]
kind = local
path = $T/repo/near
[repo docs/far]
kind = local
path = $T/repo/far
compression = none
CONF
    start
    for i in 1 2; do
        for target in app docs/near docs/far; do backup $target; done
    done
    interrupt_one
    (cd "$M" && list_finals) >"$T/finals"
    [ "$(wc -l <"$T/finals")" -gt 150 ]
    begin_jobs
}

case_teardown() {
    end_jobs || true
}

# A job with an error and a hint.
interrupt_one() {
    hold_db "$T/src/app.db"
    JOB=$(trigger 'app label=cancelled')
    echo 1 >"$M/jobs/$JOB/cancel"
    [ "$(finished "$JOB")" = interrupted ]
    release_db
}

# The files whose bytes will never change, by path. Those of size 0 that are written, or that wait,
# are not what stat says.
list_finals() {
    find jobs/0* records/0* README -type f -readable \
        ! -name cancel ! -name review ! -name verify ! -name restore ! -name wait | sort
}

# Jobs all the time: started, watched, cancelled, each other one held for a moment so that it runs.
begin_jobs() {
    python3 - "$M" "$T/src/app.db" "$T/enough" >"$T/count" 2>"$T/client" 3>&- <<'PY' &
import os, random, sqlite3, sys, time
mount, database, enough = sys.argv[1:]
db = sqlite3.connect(database, isolation_level=None, timeout=60)
started = 0

def trigger(line):
    fd = os.open(f"{mount}/ctl", os.O_RDWR)
    try:
        os.write(fd, line)
        return [text.split()[0] for text in os.read(fd, 4096).decode().splitlines()]
    finally:
        os.close(fd)

def status(job):
    with open(f"{mount}/jobs/{job}/status") as f:
        return f.read().strip()

while not os.path.exists(enough):
    db.execute("BEGIN EXCLUSIVE")
    jobs = trigger(b"app label=live\n") + trigger(b"docs label=live\n")
    started += len(jobs)
    time.sleep(random.uniform(0.2, 1))  # how long it runs: any time will do
    if random.random() < 0.5:
        with open(f"{mount}/jobs/{random.choice(jobs)}/cancel", "w") as f:
            f.write("1\n")
    db.execute("ROLLBACK")
    while any(status(job) in ("pending", "running") for job in jobs):
        time.sleep(0.005)
print(started)
PY
    CLIENT=$!
    CHILDREN+=("$CLIENT")
    await has_live_job
}

has_live_job() { [ "$(ls "$M/jobs" | grep -c '^0')" -gt 8 ]; }

end_jobs() {
    [ -n "${CLIENT:-}" ] || return 0
    touch "$T/enough"
    wait "$CLIENT" || { cat "$T/client" >&2; return 1; }
    CLIENT=
}

# In the mount, bounded; leaves $T/out, $T/err and $STATUS.
walk() { # COMMAND...
    STATUS=0
    (cd "$M" && timeout -k 5 $HANG "$@") >"$T/out" 2>"$T/err" 3>&- || STATUS=$?
    [ "$STATUS" != 124 ]
    [ "$STATUS" != 137 ]
}

# Nothing that was said is about a final thing.
no_complaint() {
    local ids
    ids=$(grep -oE '(jobs|records)/0[0-9A-Z]{25}' "$T/finals" | sort -u)
    refute grep -F "$ids" "$T/err"
    refute grep -E 'Resource temporarily|Input/output|Invalid|Bad|Stale|loop|Assert' "$T/err"
}

# The copy has every final file, with its bytes.
copy_agrees() { # DIRECTORY
    local file n=0
    while read -r file; do
        if [ ! -f "$1/$file" ]; then
            echo "$file is not in the copy" >&2
            return 1
        fi
        cat "$M/$file" | cmp - "$1/$file" || return 1
        n=$((n + 1))
    done <"$T/finals"
    [ $n -gt 150 ]
    [ -e "$1/jobs/latest" ] || [ -L "$1/jobs/latest" ]
}

# Lines `SIZE PATH`, among them every final file's.
sizes_agree() { # FILE
    (cd "$M" && xargs -d '\n' stat -c '%s %n' <"$T/finals") | sort >"$T/stat"
    while read -r file; do echo "$(cat "$M/$file" | wc -c) $file"; done <"$T/finals" | sort >"$T/cat"
    diff "$T/stat" "$T/cat"
    sed 's| \./| |' "$1" | sort >"$T/said"
    [ -z "$(comm -23 "$T/stat" "$T/said")" ] || {
        comm -23 "$T/stat" "$T/said" >&2
        return 1
    }
}

# Not one walk over a tree that stood still.
jobs_came() {
    end_jobs
    [ "$(cat "$T/count")" -gt 3 ]
    [ "$(cd "$M" && list_finals | wc -l)" -gt "$(wc -l <"$T/finals")" ]
}

@test "tar" {
    walk tar -cf "$T/all.tar" .
    # 1: something changed meanwhile; that was nothing final.
    ((STATUS <= 1))
    no_complaint
    mkdir "$T/copy"
    tar -xf "$T/all.tar" -C "$T/copy"
    copy_agrees "$T/copy"
    tar --numeric-owner -tvf "$T/all.tar" | awk '/^-/ {print $3, $6}' >"$T/sizes"
    sizes_agree "$T/sizes"
    walk bsdtar -cf "$T/bsd.tar" .
    no_complaint
    rm -r "$T/copy"
    mkdir "$T/copy"
    tar -xf "$T/bsd.tar" -C "$T/copy"
    copy_agrees "$T/copy"
    jobs_came
}

@test "rsync -a, and again" {
    mkdir "$T/copy"
    walk rsync -a --out-format='%n' ./ "$T/copy/"
    [[ $STATUS = 0 || $STATUS = 23 || $STATUS = 24 ]] # 23, 24: a job's link had gone
    no_complaint
    copy_agrees "$T/copy"
    # The second time no final file is copied, since size and time say that it is there.
    walk rsync -a --out-format='%n' ./ "$T/copy/"
    no_complaint
    [ -s "$T/out" ]
    [ -z "$(sort "$T/out" | comm -12 - "$T/finals")" ]
    # And by their bytes it would copy none either.
    walk rsync -an --checksum --out-format='%n' --exclude=/events --exclude=wait ./ "$T/copy/"
    [ -z "$(sort "$T/out" | comm -12 - "$T/finals")" ]
    jobs_came
}

@test "cp -r, cp -a" {
    mkdir "$T/copy"
    walk bash -c "ls -A | grep -vx events | xargs -d '\n' cp -rt '$T/copy'"
    no_complaint
    copy_agrees "$T/copy"
    rm -r "$T/copy"
    mkdir "$T/copy"
    walk bash -c "ls -A | grep -vx events | xargs -d '\n' cp -at '$T/copy'"
    no_complaint
    copy_agrees "$T/copy"
    [ "$(stat -c %Y "$T/copy/records/$RECORD/payload")" = "$(stat -c %Y "$M/records/$RECORD/payload")" ]
    jobs_came
}

@test "find -ls, find -printf, du -a, ls -lR" {
    walk find . -type f -printf '%s %p\n'
    no_complaint
    cp "$T/out" "$T/sizes"
    sizes_agree "$T/sizes"
    walk find . -ls
    no_complaint
    awk '$3 ~ /^-/ {print $7, $11}' "$T/out" >"$T/sizes"
    sizes_agree "$T/sizes"
    walk du -a --apparent-size --block-size=1 .
    no_complaint
    tr '\t' ' ' <"$T/out" >"$T/sizes"
    sizes_agree "$T/sizes"
    walk ls -lR .
    no_complaint
    grep -qx "./records/$RECORD:" "$T/out"
    grep -q "$(stat -c %s "$M/records/$RECORD/payload") .* payload$" "$T/out"
    jobs_came
}

@test "grep -rs" {
    # 2 is what it says for a file that it could not read: one that had gone, or would have blocked.
    walk grep -rsl -- "$RECORD" .
    [[ $STATUS = 0 || $STATUS = 2 ]]
    no_complaint
    grep -qx "./records/$RECORD/manifest.yaml" "$T/out"
    grep -qx "./jobs/$(basename "$(readlink "$M/records/$RECORD/job")")/job.json" "$T/out"
    # What it finds in final files is what cat finds.
    walk grep -rsc '' .
    (cd "$M" && while read -r file; do
        case $file in */payload | */payload.bin) continue ;; esac
        echo "./$file:$(cat "$file" | wc -l)"
    done <"$T/finals") | sort >"$T/want"
    [ -z "$(sort "$T/out" | comm -13 - "$T/want")" ]
    jobs_came
}

@test "md5sum, wc -c" {
    walk bash -c 'find . -type f ! -path ./events -exec md5sum {} +'
    no_complaint
    (cd "$M" && while read -r file; do echo "$(cat "$file" | md5sum | cut -c1-32)  ./$file"; done <"$T/finals") | sort >"$T/want"
    [ -z "$(sort "$T/out" | comm -13 - "$T/want")" ]
    walk bash -c 'find . -type f ! -path ./events -print0 | wc -c --files0-from=-'
    no_complaint
    sed 's/^ *//' "$T/out" >"$T/sizes"
    sizes_agree "$T/sizes"
    jobs_came
}

@test "Python: os.walk, lstat, scandir, reading" {
    walk python3 - <<'PY'
import os, stat
seen = {}
for at, names, files in os.walk("."):
    assert len(set(names + files)) == len(names + files), at
    for name in files + names:
        path = os.path.join(at, name)
        try:
            st = os.lstat(path)
        except FileNotFoundError:
            assert "/active" in path or path.endswith("/record"), path
            continue
        if stat.S_ISREG(st.st_mode):
            seen[path] = st.st_size
            assert st.st_nlink == 1 and st.st_blocks == -(-st.st_size // 512), path
for path, size in seen.items():
    print(size, path)
PY
    [ "$STATUS" = 0 ]
    sizes_agree "$T/out"
    jobs_came
}
