#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh [--long] - builds keepfs and runs all its tests, bounded; --long without bounds.
#
# Builds: as for use (gcc), with gcov (gcc), ASan + UBSan, TSan and libFuzzer (clang). Then, in two
# lanes side by side, since the one mostly waits and the other mostly computes:
#
#   cases         what a user sees, on a mount: as built for use, with gcov, with ASan + UBSan, and
#                 where threads meet with TSan, in the daemon
#   fault         every call fails, or is the last, once: a sample; kill -9 at random moments under
#                 load; power cuts; full disks; a soak with a model beside it; shell clients by
#                 the hundred
#   unit tests    with gcov, with ASan + UBSan, with TSan; by valgrind, those that are quick there
#   fuzz          what strangers can write: ctl, configuration, cron, names, manifests, envelopes, ...
#
# At the end the coverage of all of it, with floors. --long: no samples but everything, and
# deliberate faults in the source besides, each to be caught by a test.
#
# Installs the Debian packages that it needs. Ends with "N passed, N failed, N skipped", and exit
# status 1 if anything failed. Everything it makes is in one temporary directory, removed at the
# end; KEEPFS_TEST_DIR=DIR keeps the builds in DIR for the next run instead.
set -u

long=no
case "${1:-}" in
'') ;;
--long) long=yes ;;
*)
    echo "usage: run.sh [--long]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.." || exit 1
export PATH=/usr/bin:/bin:$PATH # Debian's python3, which has the packages that are installed here
examples/install-packages.sh test || exit 1

if [ -n "${KEEPFS_TEST_DIR:-}" ]; then
    dir=$KEEPFS_TEST_DIR
    mkdir -p "$dir"
else
    dir=$(mktemp -d "${TMPDIR:-/tmp}/keepfs-test.XXXXXX")
fi
export KEEPFS_RUN=$$ # in the names of the cases' directories
logs=$dir/logs
rm -rf "$logs"
mkdir -p "$logs"

descendants() { # PID
    local child
    for child in $(pgrep -P "$1"); do
        echo "$child"
        descendants "$child"
    done
}

finish() {
    # Lanes of a run that was ended, and what they began.
    local left
    left=$(descendants $$)
    if [ -n "$left" ]; then kill $left 2>/dev/null; fi
    wait
    # A case cleans up after itself; what is still here would be a fault of the tests.
    local m
    while read -r m; do
        echo "left behind: a mount on $m" >&2
        umount -l "$m"
    done < <(awk -v ours="/keepfs-case.$KEEPFS_RUN." '$3 == "fuse.keepfs" && index($2, ours) {print $2}' \
        /proc/mounts)
    if [ -z "${KEEPFS_TEST_DIR:-}" ]; then rm -rf --one-file-system "$dir"; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

kills=300 cuts=5 levels=20 soak=120 clients=60 fuzz_seconds=15
export KEEPFS_ENUMERATE="--faults 1050 --kills 320"
if [ $long = yes ]; then
    kills=3000 cuts=200 levels=101 soak=3600 clients=600 fuzz_seconds=180
    KEEPFS_ENUMERATE=--long
fi
fuzzers=(config cron ctl envelope_v1 envelope_v2 manifest names seekable zone)

# A stage prints its part as a whole when it is done, and adds a line of three numbers to `counts`.
counts=$logs/counts
stage() { # TITLE COMMAND...
    local title=$1 begin=$SECONDS
    shift
    "$@" >"$logs/stage.$BASHPID" 2>&1
    {
        flock 9
        printf '\n== %s (%s s, at %s s)\n' "$title" $((SECONDS - begin)) "$SECONDS"
        cat "$logs/stage.$BASHPID"
    } 9>"$logs/lock"
}

count() { # PASSED FAILED SKIPPED
    echo "$1 $2 $3" >>"$counts"
}

build() { # NAME COMPILER OPTION...
    local name=$1 compiler=$2
    shift 2
    if ! { [ -d "$dir/$name" ] || CC=$compiler meson setup "$dir/$name" -Dwerror=true "$@"; } \
        >"$logs/build-$name" 2>&1 || ! ninja -C "$dir/$name" "${targets[@]}" >>"$logs/build-$name" 2>&1; then
        cat "$logs/build-$name"
        echo "FAILED: build $name"
        count 0 1 0
    fi
}

build_all() {
    local targets=() # to build; all if there are none
    build plain gcc
    build gcov gcc -Db_coverage=true --buildtype=debug -Dc_args=-fprofile-update=atomic
    build asan clang -Db_sanitize=address,undefined -Db_lundef=false
    build tsan clang -Db_sanitize=thread -Db_lundef=false
    targets=("${fuzzers[@]/#/tests/fuzz-}")
    build fuzz clang -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args=-fsanitize=fuzzer-no-link
}

units() { # NAME MESON-TEST-OPTION...
    local name=$1 status=0 log
    shift
    log=$dir/$name/meson-logs/testlog${suffix:-}.txt
    meson test -C "$dir/$name" --num-processes 2 --print-errorlogs "$@" >"$logs/units-$name" 2>&1 ||
        status=$?
    if [ $status != 0 ]; then cat "$logs/units-$name"; fi
    grep -E '^(Ok|Fail|Timeout):' "$logs/units-$name" | tr -s ' \n' ' '
    echo
    local bad
    bad=$(grep -c '^\[  FAILED  \] [A-Za-z_0-9]*: *[A-Za-z_0-9]*$' "$log")
    # A program that crashed or hung has no line for it.
    if [ $status != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    count "$(grep -c '^\[       OK \]' "$log")" "$bad" \
        "$(grep -c '^\[  SKIPPED \] [A-Za-z_0-9]*$' "$log")"
}

# valgrind sees what ASan does not: what is read before it was written (leaks are ASan's). Some fifty
# times slower, so without --long only those that took less than half a second with gcov.
quick() { # BUILD
    python3 - "$dir/$1/meson-logs/testlog.json" "$long" <<'EOF'
import json, sys
for line in open(sys.argv[1]):
    test = json.loads(line)
    name = test["name"].split(" / ")[-1]
    if sys.argv[2] == "yes" or test["duration"] < 0.5:
        print(name)
EOF
}

# Where threads meet; all with --long.
threaded_units() { # BUILD
    meson test -C "$dir/$1" --list 2>/dev/null | sed 's|.* / ||' |
        if [ $long = yes ]; then cat; else grep -E '^(util|stream|engine|catalog|service|fs)/'; fi
}

valgrind_units() {
    local suffix=-valgrind tests=() t
    for t in $(quick gcov); do
        case $t in
        golden/* | oracle/*) ;; # Python's
        util/test_spawn* | archive/test_keys)
            echo "$t is skipped: valgrind has no pidfd_open(2), and lets no program start itself anew"
            count 0 0 1
            ;;
        *) tests+=("$t") ;;
        esac
    done
    units plain --timeout-multiplier 10 --wrap \
        "valgrind -q --error-exitcode=99 --leak-check=no --suppressions=$PWD/tests/valgrind.supp" \
        "${tests[@]}"
}

cases() { # NAME FILE...
    local name=$1 log=$logs/cases-$1-$BASHPID ok bad skip
    shift
    KEEPFS=$dir/$name/keepfs KEEPFS_KILLS=$kills \
        timeout -k 60 14400 bats --formatter tap --print-output-on-failure "$@" >"$log" 2>&1
    grep -vE '^ok [0-9]+ .*[^ ]$|^1\.\.' "$log"
    grep -E '^ok [0-9]+ .*# skip' "$log"
    skip=$(grep -cE '^ok [0-9]+ .*# skip' "$log")
    ok=$(($(grep -cE '^ok [0-9]+' "$log") - skip))
    bad=$(grep -cE '^not ok [0-9]+' "$log")
    if [ $((ok + bad + skip)) = 0 ]; then bad=1; fi
    echo "$ok passed, $bad failed, $skip skipped with $name"
    count "$ok" "$bad" "$skip"
}

# Fuzzes one target for a bounded time.
fuzz() { # NAME
    mkdir -p "$dir/found-$1"
    if "$dir/fuzz/tests/fuzz-$1" -max_total_time=$fuzz_seconds -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$dir/found-$1/" "$dir/found-$1" "tests/fuzz/corpus/$1" \
        >"$logs/fuzz-$1" 2>&1; then
        grep -E '^Done [0-9]+ runs' "$logs/fuzz-$1" | sed "s/^/$1: /"
        count 1 0 0
    else
        tail -n 60 "$logs/fuzz-$1"
        count 0 1 0
    fi
}

fuzz_all() {
    local name
    for name in "${fuzzers[@]}"; do fuzz "$name"; done
}

# A program whose last line is "N passed, N failed, N skipped".
harness() { # BUILD COMMAND...
    local log=$logs/harness-$BASHPID ok bad skip
    KEEPFS=$dir/$1/keepfs "${@:2}" >"$log" 2>&1
    grep -vE '^(ok|passed) ' "$log"
    read -r ok bad skip < <(tail -n 1 "$log" |
        sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
    count "${ok:-0}" "${bad:-1}" "${skip:-0}"
}

threaded=(tests/cases/{backup_by_echo,cancel,ctl,reading,random_access,records,start_stop,directory_tree,wait,service_manager}.bats)
lane_that_waits() {
    # What hung_repo stands in for in libc is the sanitizer's own there, and faketime, before ASan's
    # runtime, hangs.
    local all=(tests/cases/*.bats) sanitized=() plain=() file
    for file in "${all[@]}"; do
        case $file in */house.bats | */hung_repo.bats | */schedule.bats) ;; *) sanitized+=("$file") ;; esac
    done
    # Without --long once without gcov what the user sees first, and what gcov's build is not for.
    plain=(tests/cases/{house,hung_repo,schedule,backup_by_echo,first_ten_minutes,start_stop,sqlite_live,directory_tree}.bats)
    if [ $long = yes ]; then plain=("${all[@]}"); fi
    export KEEPFS_TREE=/usr/share/doc # enough for the slower ones
    stage "cases, ASan and UBSan" cases asan "${sanitized[@]}" &
    stage "cases, gcov" cases gcov "${sanitized[@]}" tests/cases/schedule.bats &
    KEEPFS_TREE='' stage "cases, as built for use" cases plain "${plain[@]}" &
    wait
    if [ $long = yes ]; then threaded=("${sanitized[@]}"); fi
    stage "cases, TSan" cases tsan "${threaded[@]}"
    stage "fault: every call fails, or is the last, once" cases plain tests/fault/enumerate.bats
    stage "fault: power cuts" harness plain tests/fault/powercut.py $cuts
    stage "fault: full disks" harness plain tests/fault/diskfull.py $levels
    stage "fault: kill -9 at random moments" cases plain tests/fault/kill.bats
}

lane_that_computes() {
    if [ $long = yes ]; then stage "soak" harness plain tests/fault/soak.py $soak & fi
    stage "unit tests, gcov" units gcov
    stage "unit tests, ASan and UBSan" units asan --no-suite python
    stage "unit tests, TSan" units tsan --no-suite python $(threaded_units tsan)
    stage "unit tests, valgrind" valgrind_units
    if [ $long = no ]; then stage "soak" harness plain tests/fault/soak.py $soak & fi
    stage "fuzz" fuzz_all
    stage "fault: shell clients" harness plain tests/fault/clients.py $clients
    if [ $long = yes ]; then stage "fault: mutants" harness plain tests/fault/mutants/run.py; fi
    wait
}

stage "build" build_all
lane_that_waits &
lane_that_computes &
wait
stage "coverage" harness gcov tests/coverage.py "$dir/gcov"

read -r passed failed skipped < <(awk '{p += $1; f += $2; s += $3} END {print p, f, s}' "$counts")
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
