# SPDX-License-Identifier: MIT
# A repo whose disk or server does not answer holds its reader, and nothing else.

load lib

@test "SIGTERM ends the daemon while a reader hangs in the repo, and the mount goes" {
    # Stands for a dead NFS server: a read of a payload never returns.
    cat >"$T/hang.c" <<'EOF'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static void hang(int fd)
{
    char link[64], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "payload.bin"))
        for (;;)
            pause();
}
ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
    hang(fd);
    return ((ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64"))(fd, buf, n, at);
}
ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t size)
{
    (void)size;
    return pread64(fd, buf, n, at);
}
EOF
    gcc -shared -fPIC -O1 -o "$T/hang.so" "$T/hang.c"
    config_app
    LD_PRELOAD=$T/hang.so start
    backup app
    cat "$M/records/$RECORD/payload" >/dev/null 2>&1 3>&- &
    CHILDREN+=($!)
    in_repo() { ls -l "/proc/$DAEMON/fd" | grep -q payload.bin; }
    await in_repo
    [ "$(cat "$M/stores/app/state")" = idle ]
    begin=$SECONDS
    stop
    [ $((SECONDS - begin)) -lt 20 ] # two seconds are meant; only a hang breaks this
    assert_no_match " $M fuse.keepfs " /proc/mounts
    start
    cmp "$T/src/app.db" "$M/records/$RECORD/payload"
}
