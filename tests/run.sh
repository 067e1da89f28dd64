#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh [--long] - builds keepfs and runs all its tests, bounded; --long without bounds.
#
#   1. unit tests    as built for use (gcc), with ASan + UBSan (clang), with TSan (clang)
#   2. cases         what a user sees, on a mount: as built for use, then with ASan + UBSan and
#                    the part that has threads meet with TSan, in the daemon
#   3. fault         kill -9 at random moments under load; the shim by which chosen calls fail; power
#                    cuts; full disks; --long: deliberate faults in the source, each to be caught
#   4. fuzz          what strangers can write: ctl, configuration, manifests, envelopes, seek tables
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
logs=$dir/logs
rm -rf "$logs"
mkdir -p "$logs"

finish() {
    # A case cleans up after itself; what is still here would be a fault of the tests.
    local m
    while read -r m; do
        echo "left behind: a mount on $m" >&2
        umount -l "$m"
    done < <(awk '$3 == "fuse.keepfs" && index($2, "/keepfs-case.") {print $2}' /proc/mounts)
    if [ -z "${KEEPFS_TEST_DIR:-}" ]; then rm -rf --one-file-system "$dir"; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

kills=300 cuts=5 levels=20
if [ $long = yes ]; then
    kills=3000 cuts=200 levels=101
    export KEEPFS_ENUMERATE=--long
fi
fuzzers=(ctl config manifest seekable envelope_v1 envelope_v2)
targets=() # to build; all if there are none
passed=0 failed=0 skipped=0
say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

build() { # NAME COMPILER OPTION...
    local name=$1 compiler=$2
    shift 2
    if ! { [ -d "$dir/$name" ] || CC=$compiler meson setup "$dir/$name" -Dwerror=true "$@"; } \
        >"$logs/build-$name" 2>&1 || ! ninja -C "$dir/$name" "${targets[@]}" >>"$logs/build-$name" 2>&1; then
        cat "$logs/build-$name"
        echo "FAILED: build $name"
        failed=$((failed + 1))
        return 1
    fi
}

# Adds the counts of a file of cmocka's output.
count_cmocka() { # FILE
    passed=$((passed + $(grep -c '^\[       OK \]' "$1")))
    failed=$((failed + $(grep -c '^\[  FAILED  \] [A-Za-z_0-9]*: *[A-Za-z_0-9]*$' "$1")))
    skipped=$((skipped + $(grep -c '^\[  SKIPPED \] [A-Za-z_0-9]*$' "$1")))
}

units() { # NAME
    local log=$dir/$1/meson-logs/testlog.txt
    local before=$failed status=0
    meson test -C "$dir/$1" --num-processes 2 --print-errorlogs >"$logs/units-$1" 2>&1 || status=$?
    if [ $status != 0 ]; then cat "$logs/units-$1"; fi
    count_cmocka "$log"
    # A program that crashed or hung has no line for it.
    if [ $status != 0 ] && [ "$failed" = "$before" ]; then failed=$((failed + 1)); fi
    grep -E '^(Ok|Fail|Timeout):' "$logs/units-$1" | tr -s ' \n' ' '
    echo
}

run_cases() { # NAME FILE...
    local name=$1
    shift
    KEEPFS=$dir/$name/keepfs KEEPFS_KILLS=$kills \
        bats --formatter tap --print-output-on-failure "$@" >"$logs/cases-$name" 2>&1
}

# Adds the counts of what run_cases wrote.
count_cases() { # NAME
    local name=$1 ok bad skip
    grep -vE '^ok [0-9]+ .*[^ ]$|^1\.\.' "$logs/cases-$name" || true
    grep -E '^ok [0-9]+ .*# skip' "$logs/cases-$name" || true
    skip=$(grep -cE '^ok [0-9]+ .*# skip' "$logs/cases-$name")
    ok=$(($(grep -cE '^ok [0-9]+' "$logs/cases-$name") - skip))
    bad=$(grep -cE '^not ok [0-9]+' "$logs/cases-$name")
    if [ $((ok + bad + skip)) = 0 ]; then bad=1; fi
    echo "$ok passed, $bad failed, $skip skipped with $name"
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

cases() { # NAME FILE...
    run_cases "$@"
    count_cases "$1"
}

# Fuzzes one target for a bounded time; --long for ten minutes.
fuzz() { # NAME
    local seconds=15
    if [ $long = yes ]; then seconds=600; fi
    mkdir -p "$dir/found-$1"
    "$dir/fuzz/tests/fuzz-$1" -max_total_time=$seconds -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$dir/found-$1/" "$dir/found-$1" "tests/fuzz/corpus/$1" \
        >"$logs/fuzz-$1" 2>&1
}

# Two at a time.
fuzz_all() {
    local i name pid
    for ((i = 0; i < ${#fuzzers[@]}; i += 2)); do
        local running=()
        for name in "${fuzzers[@]:i:2}"; do
            fuzz "$name" &
            running+=("$name:$!")
        done
        for pid in "${running[@]}"; do
            name=${pid%:*}
            if wait "${pid#*:}"; then
                grep -E '^Done [0-9]+ runs' "$logs/fuzz-$name" | sed "s/^/$name: /"
                passed=$((passed + 1))
            else
                tail -n 60 "$logs/fuzz-$name"
                failed=$((failed + 1))
            fi
        done
    done
}

# A program whose last line is "N passed, N failed, N skipped".
harness() { # NAME COMMAND...
    local log=$logs/$1 ok bad skip
    shift
    KEEPFS=$dir/plain/keepfs "$@" >"$log" 2>&1
    grep -vE '^(ok|passed) ' "$log"
    read -r ok bad skip < <(tail -n 1 "$log" |
        sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-1})) skipped=$((skipped + ${skip:-0}))
}

say "build"
build plain gcc
build asan clang -Db_sanitize=address,undefined -Db_lundef=false
build tsan clang -Db_sanitize=thread -Db_lundef=false
targets=("${fuzzers[@]/#/tests/fuzz-}")
build fuzz clang -Db_sanitize=address,undefined -Db_lundef=false \
    -Dc_args=-fsanitize=fuzzer-no-link

for name in plain asan tsan; do
    say "unit tests, $name"
    units $name
done

# Most of a case is waiting, so that two builds take little more time than one.
say "cases, as built for use beside ASan and UBSan"
run_cases plain tests/cases/*.bats &
plain_cases=$!
export KEEPFS_TREE=/usr/share/doc # enough for the slower ones
# hung_repo stands a function in for libc's, which a sanitizer does itself.
run_cases asan $(ls tests/cases/*.bats | grep -v -e house -e hung_repo)
wait $plain_cases
count_cases plain
count_cases asan
say "cases, TSan"
cases tsan tests/cases/{backup_by_echo,cancel,ctl,reading,random_access,start_stop,directory_tree}.bats

say "fuzz"
fuzz_all

say "fault: kill -9 at random moments"
cases plain tests/fault/kill.bats
say "fault: one call fails, or is the last"
cases plain tests/fault/enumerate.bats
say "fault: power cuts"
harness powercut tests/fault/powercut.py $cuts
say "fault: full disks"
harness diskfull tests/fault/diskfull.py $levels
if [ $long = yes ]; then
    say "fault: mutants"
    harness mutants tests/fault/mutants/run.py
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
