#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# quickstart.sh [--once] - builds keepfs, mounts it, backs a real SQLite database and a directory
# up, one of them encrypted, shows job and record, restores both and compares; then does it again
# without keepfs. Leaves the mount there to play with; with --once cleans everything up. With KEEPFS
# in the environment it takes that binary instead of building one.
set -eu

once=no
case "${1:-}" in
'') ;;
--once) once=yes ;;
*)
    echo "usage: quickstart.sh [--once]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
[ -n "${KEEPFS:-}" ] || examples/install-packages.sh build

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() {
    printf '$ %s\n' "$*"
    eval "$*"
}

demo=$(mktemp -d "${TMPDIR:-/tmp}/keepfs-demo.XXXXXX")
mnt=$demo/mnt
clean() {
    fusermount3 -uq "$mnt" 2>/dev/null || umount "$mnt" 2>/dev/null || true
    # The daemon ends with its mount; its lock says who it is.
    pid=$(sed -n 's/^pid \([0-9]*\) on .*/\1/p' "$demo/state/lock" 2>/dev/null || true)
    if [ -n "$pid" ]; then timeout 10 tail -s 0.05 --pid="$pid" -f /dev/null || true; fi
    rm -rf --one-file-system "$demo"
}
trap 'status=$?; if [ $once = yes ] || [ $status != 0 ]; then clean; fi' EXIT

if [ -n "${KEEPFS:-}" ]; then
    keepfs=$KEEPFS
else
    say "Building"
    if [ $once = yes ]; then build=$demo/build; else build=build; fi
    [ -d "$build" ] || meson setup "$build" >"$demo/build.log" 2>&1 || { cat "$demo/build.log"; exit 1; }
    ninja -C "$build" keepfs >"$demo/build.log" 2>&1 || { cat "$demo/build.log"; exit 1; }
    keepfs=$PWD/$build/keepfs
    if [ $once = yes ]; then keepfs=$build/keepfs; fi
fi
"$keepfs" --version

say "Something to lose: a SQLite database in use, and a directory"
mkdir "$mnt" "$demo/docs" "$demo/restored"
sqlite3 "$demo/app.db" >/dev/null <<'EOF'
PRAGMA journal_mode=WAL;
CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT, cents INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<10000)
INSERT INTO account SELECT i, 'owner ' || i, 100 * i FROM n;
EOF
cp -a src include README.md "$demo/docs/"
ln -s README.md "$demo/docs/link"
show "(umask 077; head -c32 /dev/urandom > $demo/app.key)"

cat >"$demo/keepfs.conf" <<EOF
[keepfs]
state = $demo/state

[store app]
kind = sqlite
path = $demo/app.db

[repo app/main]
kind = local
path = $demo/backups/app
encryption_key = file:$demo/app.key

[store docs]
kind = directory
path = $demo/docs
exclude = *.o

[repo docs/main]
kind = local
path = $demo/backups/docs
EOF
show "cat $demo/keepfs.conf"
show "$keepfs check $demo/keepfs.conf"

say "Mount, and back up by echo"
show "$keepfs mount $demo/keepfs.conf $mnt"
show "ls $mnt"
for store in app docs; do
    show "echo $store > $mnt/ctl"
    until grep -qxE 'succeeded|failed|interrupted' "$mnt/jobs/latest/status"; do :; done
    show "cat $mnt/jobs/latest/status"
    grep -qx succeeded "$mnt/jobs/latest/status" || { cat "$mnt/jobs/latest/log"; exit 1; }
done

say "A job, and the record it made"
job=$(readlink "$mnt/jobs/latest")
show "ls $mnt/jobs/$job"
show "cat $mnt/jobs/$job/stats $mnt/jobs/$job/log"
show "ls -l $mnt/jobs/$job/record/"
show "cat $mnt/jobs/$job/record/manifest.yaml"

say "Restore both, and compare"
app=$(cat "$mnt/stores/app/last_success")
docs=$(cat "$mnt/stores/docs/last_success")
show "cp $mnt/records/$app/payload $demo/restored/app.db"
show "sqlite3 $demo/restored/app.db 'PRAGMA integrity_check; SELECT count(*), sum(cents) FROM account'"
a=$(sqlite3 "$demo/app.db" 'SELECT * FROM account' | sha256sum)
b=$(sqlite3 "$demo/restored/app.db" 'SELECT * FROM account' | sha256sum)
[ "$a" = "$b" ] || { echo "the restored database differs"; exit 1; }
mkdir "$demo/restored/docs"
show "tar -xpf $mnt/records/$docs/payload -C $demo/restored/docs"
show "diff -r --no-dereference $demo/docs $demo/restored/docs && echo equal"

say "The same without keepfs: an archive is zstd, and if it is encrypted a page of Python opens it"
show "(cd $demo/backups/app/$app && sha256sum payload.bin && grep sha256 manifest.yaml)"
show "zstd -dc $demo/backups/docs/$docs/payload.bin | cmp - $mnt/records/$docs/payload && echo equal"
show "python3 examples/decrypt.py $demo/backups/app/$app file:$demo/app.key | zstd -dc | cmp - $mnt/records/$app/payload && echo equal"

if [ $once = yes ]; then
    say "Done; cleaning up"
else
    say "Done. The mount stays: start with  cat $mnt/README"
    echo "To end it:  umount $mnt   (or: fusermount3 -u $mnt), then  rm -r $demo"
fi
