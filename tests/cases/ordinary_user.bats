# SPDX-License-Identifier: MIT
# An ordinary user backs their own files up: fusermount3, state in XDG_STATE_HOME.

load lib

case_setup() {
    chmod 755 "$T"
    H=$T/home
    mkdir "$H"
    cp -r "$BATS_TEST_DIRNAME" "$T/cases"
    if [ "$(id -u)" = 0 ]; then
        install -m 755 "$KEEPFS" "$T/keepfs"
        chown -R nobody "$H"
        chown nobody "$M" "$T/src" "$T/repo"
    else
        cp "$KEEPFS" "$T/keepfs"
    fi
    cat >"$H/user.sh" <<'EOF'
set -eux
sqlite3 "$HOME/app.db" 'CREATE TABLE t(x); INSERT INTO t VALUES(1),(2)'
mkdir -p "$HOME/docs"
echo mine >"$HOME/docs/mine"
echo secret >"$HOME/docs/secret"
chmod 000 "$HOME/docs/secret"
cat >"$HOME/keepfs.conf" <<CONF
[store app]
kind = sqlite
path = $HOME/app.db
[repo app/main]
kind = local
path = $HOME/backups/app
[store docs]
kind = directory
path = $HOME/docs
[repo docs/main]
kind = local
path = $HOME/backups/docs
[store lenient]
kind = directory
path = $HOME/docs
unreadable = warn
[repo lenient/main]
kind = local
path = $HOME/backups/lenient
CONF
"$1" mount "$HOME/keepfs.conf" "$2"
state=${XDG_STATE_HOME:-$HOME/.local/state}/keepfs
pid=$(sed -n 's/^pid \([0-9]*\) .*/\1/p' "$state/lock")
trap 'kill $pid; timeout 30 tail -s 0.02 --pid=$pid -f /dev/null' EXIT
run() {
    echo "$1" >"$2/ctl"
    until grep -qxE 'succeeded|failed|interrupted' "$2/jobs/latest/status"; do :; done
}
run app "$2"
cmp "$HOME/app.db" "$2/jobs/latest/record/payload"
[ "$(cat "$2/jobs/latest/requested_by")" = "uid:$(id -u)" ]
run docs "$2"
grep -qx failed "$2/jobs/latest/status"
grep -qx source_unavailable "$2/jobs/latest/error_code"
grep -q secret "$2/jobs/latest/error"
run lenient "$2"
grep -qx succeeded "$2/jobs/latest/status"
grep -qx 'unreadable 1' "$2/jobs/latest/stats"
grep -q secret "$2/jobs/latest/log"
[ "$(tar -tf "$2/jobs/latest/record/payload" | xargs)" = "./ mine" ]
# After a crash the next start clears the mount without root's help.
kill -KILL $pid
timeout 30 tail -s 0.02 --pid=$pid -f /dev/null
"$1" mount "$HOME/keepfs.conf" "$2"
pid=$(sed -n 's/^pid \([0-9]*\) .*/\1/p' "$state/lock")
[ "$(ls -d "$2"/records/0* | wc -l)" = 2 ]
EOF
}

as_user() { # ENVIRONMENT...
    if [ "$(id -u)" != 0 ]; then
        env "$@" HOME="$H" bash "$H/user.sh" "$T/keepfs" "$M"
        return
    fi
    # A machine whose /dev/fuse is root's alone gets one for everybody, in this namespace only.
    unshare -m bash -euc '
        mknod -m 666 "$1/fuse" c 10 229
        mount --bind "$1/fuse" /dev/fuse
        shift
        exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
    ' - "$T" env "$@" HOME="$H" bash "$H/user.sh" "$T/keepfs" "$M"
}

@test "backup, failure, warning, crash and restart as an ordinary user; state below HOME" {
    as_user -u XDG_STATE_HOME
    [ -f "$H/.local/state/keepfs/catalog.sqlite" ]
}

@test "state in XDG_STATE_HOME if it is set" {
    as_user XDG_STATE_HOME="$H/xdg"
    [ -f "$H/xdg/keepfs/catalog.sqlite" ]
    [ ! -e "$H/.local" ]
}
