# SPDX-License-Identifier: MIT
# What a person or a script does to the control files without thinking of them: each way of writing
# of bash, dash, zsh, the coreutils, Python, perl and editors. What it starts, what it is told, and
# that nothing is lost or done twice. The first steps are in ctl.bats.

load lib

SHELLS="bash dash zsh"

case_setup() {
    local s
    mkdir "$T/src/tree"
    echo text >"$T/src/tree/file"
    { printf '[keepfs]\nstate = %s\n' "$STATE"
      for s in a b c; do
          printf '[store %s]\nkind = directory\npath = %s\n[repo %s/main]\nkind = local\npath = %s\n' \
              $s "$T/src/tree" $s "$T/repo/$s"
      done; } >"$CONFIG"
    start
}

all_idle() { [ -z "$(ls "$M/jobs/active")" ]; }
jobs_there() { ls "$M/jobs" | grep '^0' || true; }

# Runs a command in the mount. It ends with that status, or with any but 0 (`fails`), and starts jobs
# of these stores, in this order and no others. Leaves its output in $T/out and $T/err.
expect() { # STATUS STORES COMMAND...
    local mark status=0 stores
    await all_idle
    mark=$(jobs_there | tail -n 1)
    (cd "$M" && "${@:3}") >"$T/out" 2>"$T/err" 3>&- || status=$?
    stores=$(for j in $(jobs_there); do [[ ! $j > $mark ]] || cat "$M/jobs/$j/store"; done | xargs)
    if ! { [ "$status" = "$1" ] || { [ "$1" = fails ] && [ "$status" != 0 ]; }; } || [ "$stores" != "$2" ]; then
        echo "'${*:3}' ended with $status, not $1, and started '$stores', not '$2'" >&2
        cat "$T/out" "$T/err" "$M/last_error" >&2
        return 1
    fi
}

# The same, with each shell.
expect_each() { # STATUS STORES SCRIPT
    local shell
    for shell in $SHELLS; do expect "$1" "$2" "$shell" -c "$3"; done
}

said() { grep -q -- "$1" "$T/err"; }
refused() { # ERRNO INPUT TEXT
    grep -qx "errno $1" "$M/last_error"
    grep -qx -- "input $2" "$M/last_error"
    grep -q -- "^message .*$3" "$M/last_error"
}

# ---- shells ----

@test "echo, >>, printf of one line or several, a group, a here-document: one job a line" {
    expect_each 0 a 'echo a > ctl'
    expect_each 0 a 'echo a >> ctl'
    expect_each 0 a 'printf a > ctl'
    expect_each 0 'a b c' 'printf "a\nb\nc\n" > ctl'
    expect_each 0 'a b c' 'printf "%s\n" a b c > ctl'
    expect_each 0 'a b' '{ echo a; echo b; } > ctl'
    expect_each 0 'a b' 'for s in a b; do echo $s; done > ctl'
    expect_each 0 'a c' "$(printf 'cat > ctl <<END\na\nc\nEND')"
    expect_each 0 'b' 'echo "b/main   label=  two words  " > ctl'
    [ "$(cat "$M/jobs/latest/label")" = '  two words' ]
    expect 0 'a b' bash -c 'cat > ctl <<< $'"'a\nb'"
}

@test "a refused line: the shell says so, and last_error says why" {
    expect_each fails '' 'echo nosuch > ctl'
    [ "$(wc -l <"$M/last_error")" = 5 ]
    refused ENOENT nosuch 'no store nosuch'
    expect_each 7 '' 'echo nosuch > ctl || exit 7'
    expect_each fails '' 'set -e; echo nosuch > ctl; echo a > ctl'
    expect_each 0 a 'if echo nosuch > ctl; then exit 1; fi; echo a > ctl'
    # What the errno is called; dash alone knows only "I/O error".
    expect fails '' bash -c 'echo nosuch > ctl'
    said 'No such file or directory'
    expect fails '' zsh -c 'echo nosuch > ctl'
    said 'no such file or directory'
    expect fails '' dash -c 'echo nosuch > ctl'
    said 'I/O error'
}

@test "a bad line among good ones: those before it are started once, and the write has failed" {
    # bash writes line by line and goes on; dash and zsh write all at once and stop.
    expect fails 'a b' bash -c 'printf "a\nnosuch\nb\n" > ctl'
    said 'No such file or directory'
    refused ENOENT nosuch nosuch
    for shell in dash zsh; do
        expect fails a $shell -c 'printf "a\nnosuch\nb\n" > ctl'
        refused ENOENT nosuch nosuch
        expect fails 'a b' $shell -c 'printf "a\nb\n\n" > ctl'
        refused EINVAL '' empty
    done
    expect fails '' zsh -c 'printf "nosuch\na\n" > ctl'
    expect fails '' dash -c 'printf "nosuch\na\n" > ctl'
    expect fails a bash -c 'printf "nosuch\na\n" > ctl'
}

@test "an empty variable starts nothing, quoted or not; \`: >\` and exec are no writes" {
    expect_each fails '' 'unset STORE; echo $STORE > ctl'
    expect_each fails '' 'unset STORE; echo "$STORE" > ctl'
    refused EINVAL '' 'the line is empty'
    expect_each 0 '' 'unset STORE; printf "$STORE" > ctl'
    expect_each 0 '' ': > ctl'
    expect_each 0 '' ': >> ctl'
    expect_each 0 '' ': <> ctl'
    expect_each 0 '' 'exec 3>ctl; exec 3>&-'
    expect 0 '' bash -c '> ctl'
    expect 0 '' dash -c '> ctl'
}

@test "noclobber: > is refused by the shell, >| and >> write" {
    expect_each fails '' 'set -C; echo a > ctl'
    said 'xist' # bash: cannot overwrite existing file; dash, zsh: file exists
    expect_each 0 a 'set -C; echo a >| ctl'
    expect_each 0 a 'set -C; echo a >> ctl'
    expect_each 0 a 'set -C; exec 3<>ctl; echo a >&3'
}

@test "the same open gives the jobs: read, read in a loop, cat, again and again" {
    expect_each 0 a 'exec 3<>ctl; echo a >&3; read -r job target <&3; echo "$job $target $(cat jobs/$job/store)"'
    grep -Eqx '[0-9A-Z]{26} a/main a' "$T/out"
    expect_each 0 'a b' 'exec 3<>ctl; echo a >&3; echo b >&3; while read -r job target <&3; do echo "$target"; done'
    [ "$(xargs <"$T/out")" = 'a/main b/main' ]
    expect_each 0 'a b' 'exec 3<>ctl; echo a >&3; cat <&3; echo -- >&2; echo b >&3; cat <&3; cat <&3'
    [ "$(cut -d' ' -f2 <"$T/out" | xargs)" = 'a/main b/main' ]
    expect_each 0 'a b c' 'exec 3<>ctl; printf "a\nb\nc\n" >&3; head -n 3 <&3'
    [ "$(cut -d' ' -f2 <"$T/out" | xargs)" = 'a/main b/main c/main' ]
    # Refused lines have no answer; those beside them have theirs.
    expect_each 0 'a b' 'exec 3<>ctl; echo a >&3; echo nosuch >&3; echo b >&3; cat <&3'
    [ "$(cut -d' ' -f2 <"$T/out" | xargs)" = 'a/main b/main' ]
    # A descriptor that a child inherits is the same open.
    expect_each 0 a 'exec 3<>ctl; sh -c "echo a >&3"; read -r job target <&3; echo $target'
    [ "$(cat "$T/out")" = a/main ]
    expect 0 a zsh -c 'exec {fd}<>ctl; echo a >&$fd; read -ru $fd job target; echo $target'
    [ "$(cat "$T/out")" = a/main ]
    expect 0 'a b' bash -c 'exec {fd}<>ctl; printf "%s\n" a b >&$fd; mapfile -t -u $fd lines; echo ${#lines[@]}'
    [ "$(cat "$T/out")" = 2 ]
}

@test "reading one value: \$(cat), \$(<), read, mapfile and a test" {
    backup a
    cd "$M"
    for shell in $SHELLS; do
        [ "$($shell -c 'read -r s < jobs/latest/status; echo "$s"')" = succeeded ]
        [ "$($shell -c 'echo "$(cat jobs/latest/status)"')" = succeeded ]
        $shell -c '[ "$(cat jobs/latest/status)" = succeeded ]'
        $shell -c 'read -r e < jobs/latest/error && [ -z "$e" ]'
        $shell -c 'case $(cat jobs/latest/progress) in 100) ;; *) exit 1 ;; esac'
    done
    [ "$(<jobs/latest/status)" = succeeded ]
    [ "$(zsh -c 'echo $(<jobs/latest/status)')" = succeeded ]
    cd /
}

@test "cancel takes 1 and nothing else, from each shell" {
    make_db "$T/src/app.db" 10
    config_repo
    stop
    start
    hold_db "$T/src/app.db"
    for how in 'echo 1 > jobs/latest/cancel' 'printf 1 > jobs/latest/cancel' 'echo 1 >> jobs/latest/cancel' \
        'echo 1 | tee jobs/latest/cancel' 'echo 1 | dd of=jobs/latest/cancel status=none'; do
        for shell in $SHELLS; do
            job=$(trigger app)
            await is_state "$job" running
            expect_here fails $shell "$(sed 's/1/2/' <<<"$how")"
            expect_here fails $shell 'echo $UNSET > jobs/latest/cancel'
            expect_here 0 $shell ': > jobs/latest/cancel'
            is_state "$job" running
            expect_here 0 $shell "$how"
            [ "$(finished "$job")" = interrupted ]
        done
    done
    release_db
}

expect_here() { # STATUS SHELL SCRIPT, without looking at jobs
    local status=0
    (cd "$M" && "$2" -c "$3") >"$T/out" 2>"$T/err" 3>&- || status=$?
    [ "$status" = "$1" ] || { [ "$1" = fails ] && [ "$status" != 0 ]; }
}

# ---- coreutils ----

lines() { printf '%s\n' "$@"; }

@test "tee, tee -a, cat, dd, cp, head, sort, xargs, install to ctl" {
    lines a b >"$T/in"
    expect 0 'a b' bash -c "tee ctl < $T/in"
    expect 0 'a b' bash -c "tee -a ctl < $T/in"
    expect 0 'a b' bash -c "cat $T/in > ctl"
    expect 0 'a b' bash -c "cat $T/in >> ctl"
    expect 0 'a b' cp "$T/in" ctl
    expect 0 'a b' cp --sparse=always --reflink=auto "$T/in" ctl
    expect 0 'a' bash -c "head -n 1 $T/in > ctl"
    expect 0 'a' bash -c "head -c 1 $T/in > ctl"
    expect 0 'a b' bash -c "sort -r $T/in | tac > ctl"
    expect 0 'a b' bash -c "xargs -n 1 < $T/in > ctl"
    expect 0 'a b c' bash -c 'ls stores > ctl'
    expect 0 'a b c' bash -c 'ls stores | tee ctl'
    expect 0 '' cp /dev/null ctl
    expect 0 'a' bash -c "echo a | tee ctl > /dev/full; true"
}

@test "tee, cat, cp and dd tell of a bad line, and nothing before it is lost or done twice" {
    lines a nosuch b >"$T/in"
    for how in "tee ctl < $T/in" "tee -a ctl < $T/in" "cat $T/in > ctl" "cp $T/in ctl" \
        "dd if=$T/in of=ctl conv=notrunc" "dd if=$T/in of=ctl bs=1M"; do
        expect fails a bash -c "$how"
        said 'No such file or directory'
        refused ENOENT nosuch nosuch
    done
}

@test "offsets mean nothing: dd with seek, append, blocks, direct I/O, fsync" {
    lines a b >"$T/in"
    expect 0 'a b' dd if="$T/in" of=ctl status=none conv=notrunc oflag=append
    expect 0 'a b' dd if="$T/in" of=ctl status=none conv=notrunc bs=512 seek=1
    expect 0 'a b' dd if="$T/in" of=ctl status=none bs=2
    expect 0 'a b' dd if="$T/in" of=ctl status=none oflag=direct
    expect 0 'a b' dd if="$T/in" of=ctl status=none conv=fsync
    expect 0 'a b' dd if="$T/in" of=ctl status=none conv=fdatasync oflag=sync
    # The end of a write ends a line: bytes one by one are lines of one byte, and empty ones.
    expect fails a dd if="$T/in" of=ctl status=none bs=1
    refused EINVAL '' empty
    python3 - "$M/ctl" <<'PY'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for call in (lambda: os.pwrite(fd, b"a\n", 4096), lambda: os.lseek(fd, 0, os.SEEK_END),
             lambda: os.pread(fd, 10, 0)):
    try:
        call()
        raise AssertionError("it can seek")
    except OSError as e:
        assert e.errno == errno.ESPIPE
os.close(fd)
PY
    [ -z "$(jobs_there | sed '1,13d')" ] # 6 times a and b, and the last a
}

@test "touch and truncate to nothing are accepted and do nothing; no other size is" {
    expect 0 '' touch ctl
    expect 0 '' touch -c ctl
    expect 0 '' touch -d 2020-01-01 ctl
    [ "$(stat -c %Y "$M/ctl")" -gt "$(date -d 2020-01-02 +%s)" ]
    expect 0 '' truncate -s 0 ctl
    [ "$(stat -c %s "$M/ctl")" = 0 ]
    expect fails '' truncate -s 1 ctl
    said 'Operation not permitted'
    expect fails '' truncate -s 0 README
    expect fails '' touch new
    said 'Operation not permitted'
    [ ! -e "$M/new" ]
}

@test "100 lines in one write; the names that ls writes, which a program's buffer cuts in the middle" {
    stop
    local long
    long=$(printf 'x%.0s' {1..50})
    for i in $(seq 101 260); do
        # The second one is what the first one is when it is cut.
        for s in "$long-store-$i" "$long-s"; do
            [ "$s" != "$long-s" ] || ((i == 101)) || continue
            printf '[store %s]\nkind = directory\npath = %s\n[repo %s/main]\nkind = local\npath = %s\n' \
                "$s" "$T/src/tree" "$s" "$T/repo/$s"
        done
    done >>"$CONFIG"
    start
    python3 - "$M/ctl" "$long" <<'PY'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
names = [f"{sys.argv[2]}-store-{i}" for i in range(101, 201)]
text = "".join(f"{name}\n" for name in names).encode()
assert os.write(fd, text) == len(text)
targets = [line.split()[1] for line in os.read(fd, 1 << 20).decode().splitlines()]
assert targets == [f"{name}/main" for name in names]
PY
    n=100
    # ls writes 4,096 bytes at a time here, a pipe passes on as many, Python writes 8,192.
    for how in 'ls stores > ctl' 'ls stores | tee ctl' 'ls stores | dd of=ctl bs=512 conv=notrunc iflag=fullblock' \
        'python3 -c "import os; open(\"ctl\", \"w\").writelines(s + \"\n\" for s in os.listdir(\"stores\"))"'; do
        await all_idle
        (cd "$M" && eval "$how") >/dev/null 2>"$T/err" || { cat "$T/err" >&2; false; }
        n=$((n + 164))
        [ "$(jobs_there | wc -l)" = $n ]
        [ "$(cat "$M/last_error")" = ok ]
    done
    await all_idle
    [ "$(cd "$M/jobs" && cat 0*/status | sort | uniq -c | xargs)" = "$n succeeded" ]
}

# ---- what is in a line ----

@test "line ends of other systems, NUL and control bytes are refused in words" {
    expect fails '' bash -c 'printf "a\r\n" > ctl'
    refused EINVAL 'a\\x0d' 'carriage return'
    expect fails '' bash -c 'printf "a label=x\r\nb\r\n" | tee ctl'
    refused EINVAL '.*' 'carriage return'
    expect fails '' bash -c 'printf "a\0\n" > ctl'
    refused EINVAL 'a\\x00' 'NUL'
    expect fails '' bash -c 'head -c 100 /dev/zero > ctl'
    refused EINVAL '.*' 'NUL'
    expect fails '' bash -c 'printf "a label=\033[2J\n" > ctl'
    refused EINVAL '.*' 'control character'
    # last_error itself is plain text of five lines, whatever was written.
    [ "$(LC_ALL=C tr -d '\n -~' <"$M/last_error" | wc -c)" = 0 ]
    expect fails '' bash -c 'echo "# a" > ctl'
}

@test "a line too long is E2BIG, one behind a good one too; a file of megabytes does no harm" {
    x3000=$(printf 'x%.0s' {1..3000})
    expect fails '' bash -c "echo $x3000 > ctl"
    said 'Argument list too long'
    refused E2BIG 'x*\.\.\.' 1024
    lines a "$x3000" b >"$T/in"
    expect fails a bash -c "tee ctl < $T/in"
    refused E2BIG 'x*\.\.\.' 1024
    head -c 4000000 /dev/zero | tr '\0' x >"$T/in"
    expect fails '' cp "$T/in" ctl
    expect fails '' dd if="$T/in" of=ctl bs=4M
    { echo a; cat "$T/in"; } >"$T/in2"
    expect fails a cp "$T/in2" ctl
    rm "$T/in" "$T/in2"
    expect 0 a bash -c 'echo a > ctl'
}

@test "a label is UTF-8 or any other bytes, and comes back as it was" {
    expect_each 0 a 'echo "a label=Grüße, 日本 – vor dem Upgrade" > ctl'
    [ "$(cat "$M/jobs/latest/label")" = 'Grüße, 日本 – vor dem Upgrade' ]
    [ "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["label"])' "$M/jobs/latest/job.json")" = 'Grüße, 日本 – vor dem Upgrade' ]
    expect 0 a bash -c 'printf "a label=\377\n" > ctl'
    [ "$(od -An -tx1 "$M/jobs/latest/label" | xargs)" = 'ff 0a' ]
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$M/jobs/latest/job.json"
    expect 0 a bash -c "echo 'a label=it'\''s \$HOME; rm -rf \"x\" \`y\` & < > | * \\ end' > ctl"
}

# ---- programs ----

@test "Python: open for writing, appending, by pathlib, unbuffered both ways" {
    py() { expect "$1" "$2" python3 -c "$3"; }
    py 0 a 'open("ctl", "w").write("a\n")'
    py 0 a 'open("ctl", "a").write("a\n")'
    py 0 'a b' 'print("a\nb", file=open("ctl", "w"))'
    py 0 a 'import pathlib; pathlib.Path("ctl").write_text("a\n")'
    py fails '' 'import pathlib; pathlib.Path("ctl").write_text("nosuch\n")'
    said 'FileNotFoundError: \[Errno 2\]'
    py fails '' 'open("ctl", "x")'
    said FileExistsError
    py 0 a 'f = open("ctl", "r+b", buffering=0); f.write(b"a\n"); assert f.readline().split()[1] == b"a/main"'
    py 0 'a b' 'import os; fd = os.open("ctl", os.O_WRONLY); assert os.writev(fd, [b"a", b"\n", b"b\n"]) == 4'
    py 0 'a b' 'import os; fd = os.open("ctl", os.O_WRONLY | os.O_APPEND | os.O_TRUNC); os.write(fd, b"a\n"); os.write(fd, b"b")'
    # The first part of a write that fails later is taken, and told.
    py 0 a 'import os
fd = os.open("ctl", os.O_WRONLY)
assert os.write(fd, b"a\nnosuch\n") == 2
try:
    os.write(fd, b"nosuch\n")
    raise SystemExit(1)
except FileNotFoundError:
    pass'
    py 0 a 'import shutil, io; shutil.copyfileobj(io.StringIO("a\n"), open("ctl", "w"))'
    py 0 a 'import subprocess; subprocess.run(["echo", "a"], stdout=open("ctl", "w"), check=True)'
}

@test "perl writes, sees the errno at close, and reads back" {
    expect 0 'a b' perl -e 'open(F, ">", "ctl") or die; print F "a\nb\n"; close(F) or die "$!"'
    expect fails '' perl -e 'open(F, ">", "ctl") or die; print F "nosuch\n"; close(F) or die "$!"'
    said 'No such file or directory'
    expect 0 a perl -e 'open(F, "+<", "ctl") or die; syswrite F, "a\n"; print scalar <F>'
    grep -q ' a/main$' "$T/out"
}

@test "editors: ed, vim and sed -i write a line or say that they cannot" {
    expect fails '' sed -i s/a/b/ ctl
    said 'Operation not permitted'
    expect 0 a bash -c "printf 'a\na\n.\nw ctl\nq\n' | ed -s"
    expect fails '' bash -c "printf 'a\nnosuch\n.\nw ctl\nQ\n' | ed -s"
    said 'No such file or directory'
    # What it has read is the help, of which no line is a command.
    expect fails '' bash -c "printf 'w\nQ\n' | ed -s ctl"
    refused EINVAL '# .*' 'a-z'
    vi=$(command -v vim.tiny || command -v vim)
    expect 0 a "$vi" -es -u NONE -i NONE -n -c 'e ctl' -c '%d' -c 's/^/a/' -c 'w!' -c 'q!'
    expect 0 b bash -c "printf 'b\n' | $vi -es -u NONE -i NONE -n -c 'w! ctl' -c 'q!' /dev/stdin"
    [ "$(ls -A "$M" | grep -c '^\.\|~$\|^sed')" = 0 ]
}

# ---- what is not a write ----

@test "names are made and moved by jobs alone: all that try are told so, and change nothing" {
    backup a
    cd "$M"
    before=$(ls -la . "records/$RECORD" | md5sum)
    echo text >"$T/file"
    for try in "mv ctl x" "mv README ctl" "mv jobs records" "mv records/$RECORD x" "mv $T/file ctl" \
        "mv $T/file records/" "ln ctl x" "ln -s ctl x" "ln -sf x ctl" "ln README jobs/x" "mkdir d" \
        "mkdir records/d" "rmdir jobs" "rmdir jobs/$JOB" "mknod n p" "mkfifo n" "touch records/$RECORD/x" \
        "cp $T/file new" "cp $T/file records/$RECORD/new" "cp --remove-destination $T/file ctl" \
        "install -m 644 $T/file ctl" "rm ctl" "rm -f README" "rm jobs/$JOB/status" "rm jobs/latest" \
        "chmod 666 ctl" "chmod 777 records/$RECORD/payload" "chown nobody ctl" "chgrp nogroup ctl" \
        "chmod 700 ." "rsync $T/file ctl" "truncate -s 5 records/$RECORD/payload"; do
        expect fails '' $try
        said 'not permitted\|Permission denied' || { cat "$T/err"; false; }
    done
    for try in "setfattr -n user.x -v y ctl" "getfattr -n user.x ctl" "fallocate -l 10 ctl"; do
        expect fails '' $try
        said 'not supported'
    done
    cat ctl >/dev/null
    [ -f "$T/file" ]
    [ "$(ls -la . "records/$RECORD" | md5sum)" = "$before" ]
    cd /
}

@test "who is told what: errors are kept for each user by himself, until he succeeds" {
    [ "$(cat "$M/last_error")" = ok ]
    expect fails '' bash -c 'echo nosuch > ctl'
    refused ENOENT nosuch 'ls stores'
    expect 0 '' cat last_error
    expect 0 '' bash -c ': > ctl'
    refused ENOENT nosuch 'ls stores'
    # One open that goes on tells of what it was refused; the next one starts anew.
    expect fails 'b' bash -c 'exec 3>ctl; echo other >&3; rc=$?; echo b >&3; exit $rc'
    refused ENOENT other 'ls stores'
    expect 0 a bash -c 'echo a > ctl'
    [ "$(cat "$M/last_error")" = ok ]
}
