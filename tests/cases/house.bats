# SPDX-License-Identifier: MIT
# The house's own rules, read off the source: who may include whom, and what the README promises.

ROOT=$BATS_TEST_DIRNAME/../..

# room : the directories it may include from, besides keepfs/, util/ and itself
declare -gA MAY=(
    [util]=""
    [stream]=""
    [archive]="stream"
    [source]="stream"
    [destination]="stream"
    [engine]="stream archive"
    [catalog]="engine"
    [service]="stream archive engine catalog config.h"
    [fs]="service archive catalog config.h"
    [config]="config archive"
    [main]="config.h mount.h extract.h fsck.h archive"
    [extract]="extract.h archive stream"
    [fsck]="fsck.h fsck_internal.h catalog archive stream config.h"
    [mount]="mount.h fs service archive catalog config.h"
)

# header of a library : the files that may include it
declare -gA HOME_OF=(
    [fuse]='src/fs/(session|ops|wait)\.[ch]'
    [sqlite3.h]='src/catalog/[a-z_]+\.[ch]|src/source/sqlite[a-z_]*\.[ch]'
    [openssl/]='src/(stream|archive)/[a-z_]+\.c'
    [zstd]='src/(stream|archive)/[a-z_]+\.c'
    [yaml.h]='src/archive/[a-z_]+\.[ch]'
    [archive.h]='src/source/[a-z_]+\.[ch]'
    [archive_entry.h]='src/source/[a-z_]+\.[ch]'
    [ini.h]='src/config\.c'
    [curl/]='src/destination/[a-z_]+\.c'
)

room_of() { # FILE
    case $1 in
    src/*/*) cut -d/ -f2 <<<"$1" ;;
    src/config*) echo config ;;
    src/main.c) echo main ;;
    src/extract.*) echo extract ;;
    src/fsck*) echo fsck ;;
    src/mount.*) echo mount ;;
    esac
}

edges() { # prints FILE INCLUDED for every include of our own
    (cd "$ROOT" && grep -rnoE '^#include "[^"]+"' src --include='*.[ch]' |
        sed -E 's/^([^:]+):[0-9]+:#include "(.*)"/\1 \2/')
}

@test "arrows go down only" {
    bad=0
    while read -r file included; do
        room=$(room_of "$file")
        to=${included%%/*}
        case $to in
        keepfs | "$room") continue ;;
        util) continue ;;
        esac
        [[ $room == config && $to == config* ]] && continue
        for allowed in ${MAY[$room]}; do [[ $to == "$allowed" ]] && continue 2; done
        echo "$file includes $included"
        bad=1
    done < <(edges)
    [ $bad = 0 ]
    [ "$(edges | wc -l)" -gt 100 ]
}

@test "each library's header is included in one room" {
    bad=0
    for header in "${!HOME_OF[@]}"; do
        while IFS=: read -r file _; do
            [[ $file =~ ^(${HOME_OF[$header]})$ ]] || {
                echo "$file includes <$header>"
                bad=1
            }
        done < <(cd "$ROOT" && grep -rE "^#include <$header" src include)
    done
    [ $bad = 0 ]
}

@test "drivers know no service, catalog or mount; public headers include only each other" {
    [ -z "$(grep -rE '#include "(service|catalog|fs|engine)/' "$ROOT"/src/{source,destination,stream,util,archive})" ]
    [ -z "$(grep -rE '#include "' "$ROOT/include" | grep -v '"keepfs/')" ]
}

@test "every path and file that the README names exists" {
    cd "$ROOT"
    n=0
    for p in $(grep -oE '`(src|include|tests|examples)/[A-Za-z0-9_./-]+`' README.md | tr -d '`' | sort -u); do
        [ -e "$p" ] || { echo "README names $p"; false; }
        n=$((n + 1))
    done
    [ $n -gt 20 ]
}

@test "the README has every error code, with its exit status, and every configuration key" {
    cd "$ROOT"
    while IFS='|' read -r name status; do
        grep -qE "^\| \`$name\` \| $status \|" README.md || { echo "README lacks $name ($status)"; false; }
    done < <(tr '\n' ' ' <include/keepfs/error.h | grep -oE 'X\(ERR_[A-Z_]+, *\\? *"[a-z_]+", [0-9]+' | sed -E 's/.*"([a-z_]+)", ([0-9]+)/\1|\2/')
    for key in $(grep -hoE '\.key = "[a-z_]+"' src/config*.c src/archive/policy.c src/source/*.c src/destination/*.c | cut -d'"' -f2 | sort -u); do
        grep -qE "^\| \`$key\` \|" README.md || { echo "README lacks the key $key"; false; }
    done
}

@test "the source is formatted, and no file is over 600 lines" {
    cd "$ROOT"
    command -v clang-format >/dev/null || skip "clang-format is not installed"
    clang-format --dry-run -Werror $(git ls-files '*.c' '*.h')
    [ -z "$(wc -l $(git ls-files 'src/*.c' 'src/*.h' 'include/*.h') | awk '$2 != "total" && $1 > 600')" ]
}
