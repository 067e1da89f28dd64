# SPDX-License-Identifier: MIT
# A start in which one system call fails: what the mount does not need is a warning, what it needs is
# an error, and the parent tells of a daemon that went without a word.

load lib

# KEEPFS_CASE_CALL names the call that fails, KEEPFS_CASE_ENDS how the daemon ends instead of changing
# its directory.
case_setup() {
    if ldd "$KEEPFS" | grep -q 'lib[at]san'; then skip "nothing can stand before a sanitizer"; fi
    cat >"$T/fail.c" <<'EOF'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int fails(const char *call, int errnum)
{
    const char *wanted = getenv("KEEPFS_CASE_CALL");
    errno = errnum;
    return wanted && strstr(wanted, call);
}
int chdir(const char *path)
{
    const char *how = getenv("KEEPFS_CASE_ENDS");
    if (how && strcmp(how, "killed") == 0)
        kill(getpid(), SIGKILL);
    if (how)
        _exit(atoi(how));
    return fails("chdir", EACCES) ? -1 : (int)syscall(SYS_chdir, path);
}
int ftruncate64(int fd, off64_t len)
{
    char link[64], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/state/lock") &&
        fails("ftruncate", EIO))
        return -1;
    return (int)syscall(SYS_ftruncate, fd, len);
}
int flock(int fd, int operation)
{
    char link[64], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 &&
        fails(strstr(path, "/state/lock") ? "flock-state" : "flock-mount", ENOLCK))
        return -1;
    return (int)syscall(SYS_flock, fd, operation);
}
int umount2(const char *path, int flags)
{
    return fails("umount", EINVAL) ? -1 : (int)syscall(SYS_umount2, path, flags);
}
ssize_t read(int fd, void *buf, size_t len)
{
    static int before;
    if (len == 1 && fails("read", EINTR) && before++ < 2)
        return -1;
    return syscall(SYS_read, fd, buf, len);
}
pid_t waitpid(pid_t pid, int *status, int options)
{
    static int before;
    if (fails("waitpid", EINTR) && before++ < 2)
        return -1;
    return (pid_t)syscall(SYS_wait4, pid, status, options, NULL);
}
EOF
    gcc -shared -fPIC -O1 -o "$T/fail.so" "$T/fail.c"
    config_app
}

failing() { # VARIABLE=VALUE...
    STATUS=0
    timeout "$PATIENCE" env "$@" LD_PRELOAD="$T/fail.so" "$KEEPFS" mount "$CONFIG" "$M" 2>"$T/err" || STATUS=$?
}

mounted() {
    [ "$STATUS" = 0 ]
    DAEMON=$(daemon_pid)
    backup app
    stop
}

@test "a directory that cannot be left, or a lock without its owner's name, is a warning" {
    failing KEEPFS_CASE_CALL=chdir
    grep -q 'cannot change to /: Permission denied' "$T/err"
    mounted
    rm "$STATE/lock"
    failing KEEPFS_CASE_CALL=ftruncate
    [ "$STATUS" = 0 ]
    grep -q "$STATE/lock cannot be written: Input/output error" "$T/err"
    [ ! -s "$STATE/lock" ]
    refute flock -n "$STATE/lock" true # it is held all the same
    umount "$M"
    await flock -n "$STATE/lock" true
}

@test "a lock that cannot be taken is told as that, and not as another keepfs" {
    failing KEEPFS_CASE_CALL=flock-state
    [ "$STATUS" != 0 ]
    grep -q "$STATE/lock cannot be locked: No locks available" "$T/err"
    failing KEEPFS_CASE_CALL=flock-mount
    [ "$STATUS" = 2 ]
    grep -q "mount point $M cannot be locked: No locks available" "$T/err"
    assert_no_match " $M fuse.keepfs " /proc/mounts
    start
    backup app
}

@test "a dead mount that cannot be cleared is an error, with what to do" {
    start
    kill_daemon
    failing KEEPFS_CASE_CALL=umount
    [ "$STATUS" = 2 ]
    grep -q "$M is the mount of a keepfs that died, and it cannot be cleared: Invalid argument; try: umount -l $M" "$T/err"
    start
    backup app
}

@test "a daemon that ends without a word before the mount answers is told by its parent" {
    for how in killed 0; do
        failing KEEPFS_CASE_ENDS=$how KEEPFS_CASE_CALL=read,waitpid
        [ "$STATUS" = 1 ]
        grep -q 'the daemon ended before the mount answered' "$T/err"
        assert_no_match " $M fuse.keepfs " /proc/mounts
    done
    failing KEEPFS_CASE_ENDS=77 KEEPFS_CASE_CALL=waitpid
    [ "$STATUS" = 77 ] # it had its say
    assert_no_match 'before the mount answered' "$T/err"
}

@test "signals that the parent gets while it waits do not end its waiting" {
    failing KEEPFS_CASE_CALL=read
    mounted
}
