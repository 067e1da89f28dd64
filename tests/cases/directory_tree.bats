# SPDX-License-Identifier: MIT
# Directories come back as they were: tar xpf, then rsync finds nothing to do.

load lib

case_setup() {
    mkdir "$T/src/tree" "$T/out"
}

docs() { # EXTRA_LINE... : a store of src/tree
    config <<EOF
[store docs]
kind = directory
path = $T/src/tree
$(printf '%s\n' "$@")
[repo docs/main]
kind = local
path = $T/repo
EOF
    start
}

unpack() { # EXTRA_OPTION...
    tar --acls --xattrs --xattrs-include='*' -xpf "$M/records/$RECORD/payload" -C "$T/out" "$@"
}

differences() { rsync -aHAXn --delete --itemize-changes "$T/src/tree/" "$T/out/"; }

@test "every kind of file" {
    cd "$T/src/tree"
    mkdir -p plain empty deep/er/est
    echo text >plain/file
    : >plain/empty
    ln plain/file plain/hard
    ln plain/file deep/hard
    ln -s plain/file relative
    ln -s /nowhere dangling
    ln -s "$(printf 'x%.0s' {1..3000})" long-target || true
    mkfifo fifo
    touch -- '-dash' $'new\nline' $'tab\there' $'invalid\xff\xfeutf8' 'ünïcode' ' blank '
    touch "$(printf 'n%.0s' {1..255})"
    chmod 4755 plain/file
    chmod 1777 empty
    chmod 000 plain/empty
    touch -d '1999-12-31 23:59:59.123456789' deep/er/est plain/hard
    touch -hd '2001-02-03 04:05:06' relative
    truncate -s 9G sparse
    printf end | dd of=sparse bs=1 seek=8589934592 conv=notrunc status=none
    head -c 3000000 /dev/urandom >big
    if [ "$(id -u)" = 0 ]; then
        mknod block b 7 200
        mknod char c 1 3
        chown 12345:54321 plain/file
        chown -h 12345:54321 dangling
        setfattr -n trusted.keepfs -v secret plain/file
    fi
    setfattr -n user.colour -v blue plain/file 2>/dev/null
    setfattr -n user.dir -v yes deep
    setfacl -m u:nobody:r plain/file
    setfacl -d -m u:nobody:rx deep/er
    # names longer than PATH_MAX together
    python3 - <<'EOF'
import os
for _ in range(30):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("bottom", "w").write("deep down")
EOF
    cd /
    docs
    backup docs
    # rsync and tar take no path above PATH_MAX: that branch is compared by its own listing.
    listing() { python3 - "$1" <<'EOF'
import os, sys
fd, depth = os.open(sys.argv[1], os.O_RDONLY), 0
while True:
    names = os.listdir(fd)
    if "bottom" in names:
        print(depth, open(os.open("bottom", os.O_RDONLY, dir_fd=fd)).read())
        break
    fd, depth = os.open("d" * 200, os.O_RDONLY, dir_fd=fd), depth + 1
EOF
    }
    python3 - "$M/records/$RECORD/payload" <<'EOF'
import sys, tarfile
names = [m.name for m in tarfile.open(sys.argv[1], errors="surrogateescape")]
assert any(n.endswith("/bottom") and n.count("/") == 30 for n in names), len(names)
EOF
    listing "$T/src/tree" >/dev/null
    rm -rf "$T/src/tree/$(printf 'd%.0s' {1..200})"
    unpack --exclude='dddddddd*'
    touch -r "$T/src/tree" "$T/out" # removing the branch changed the root's time
    [ -z "$(differences)" ]
    # Sparse stays sparse, in the payload and when it comes back.
    [ "$(stat -c %s "$M/records/$RECORD/payload")" -lt 20000000 ]
    cmp -n 4096 -i 8589934592 "$T/src/tree/sparse" "$T/out/sparse"
    [ "$(stat -c %s "$T/out/sparse")" = 9663676416 ]
    grep -qx 'unreadable 0' "$M/jobs/$JOB/stats"
}

@test "a copy of /usr/share" {
    cp -a "${KEEPFS_TREE:-/usr/share}/." "$T/src/tree/"
    docs
    backup docs
    tar -xpf "$M/records/$RECORD/payload" -C "$T/out"
    [ -z "$(differences)" ]
}

@test "exclude leaves out what it names" {
    mkdir -p "$T/src/tree/cache/deep" "$T/src/tree/src/cache"
    touch "$T/src/tree/a.o" "$T/src/tree/a.c" "$T/src/tree/cache/deep/x" "$T/src/tree/src/cache/y" "$T/src/tree/src/b.o"
    docs 'exclude = *.o' 'exclude = /cache'
    backup docs
    [ "$(tar -tf "$M/records/$RECORD/payload" | LC_ALL=C sort | xargs)" = "./ a.c src/ src/cache/ src/cache/y" ]
}

@test "it stays on one file system unless told" {
    if [ "$(id -u)" != 0 ]; then skip "needs root to mount"; fi
    mkdir "$T/src/tree/other"
    small_fs "$T/src/tree/other" 1m
    touch "$T/src/tree/other/inside" "$T/src/tree/here"
    docs
    backup docs
    [ "$(tar -tf "$M/records/$RECORD/payload" | xargs)" = "./ here other/" ]
    stop
    sed -i 's/^kind = directory/&\none_file_system = no/' "$CONFIG"
    start
    backup docs
    [ "$(tar -tf "$M/records/$RECORD/payload" | xargs)" = "./ here other/ other/inside" ]
}

@test "files that vanish or change meanwhile are warnings, counted, and the rest is whole" {
    for i in $(seq -w 400); do head -c 30000 /dev/zero >"$T/src/tree/f$i"; done
    docs
    mkfifo "$T/go"
    python3 - "$T/src/tree" <"$T/go" 3>&- <<'EOF' &
import os, random, sys
names = sorted(os.listdir(sys.argv[1]))
root = os.getppid()
while os.getppid() == root:
    p = os.path.join(sys.argv[1], random.choice(names))
    try:
        if random.random() < 0.5:
            os.unlink(p)
        else:
            open(p, "ab").write(b"more")
    except FileNotFoundError:
        pass
EOF
    CHILDREN+=($!)
    for _ in 1 2 3 4 5; do
        backup docs
        tar -tf "$M/records/$RECORD/payload" >/dev/null
        python3 - "$M/records/$RECORD/payload" <<'EOF'
import sys, tarfile
t = tarfile.open(sys.argv[1])
for m in t:
    if m.isfile():
        assert len(t.extractfile(m).read()) == m.size
EOF
    done
}

@test "an empty directory" {
    docs
    backup docs
    unpack
    [ -z "$(differences)" ]
    [ "$(tar -tf "$M/records/$RECORD/payload")" = ./ ]
}
