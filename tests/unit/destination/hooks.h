/* SPDX-License-Identifier: MIT */
/*
 * hooks.h - the system calls that change a repo, replaced by ones that count, fail or die.
 *
 * A program's own definition takes precedence over libc's, so including this in a test's one .c
 * file puts a step in front of every such call of the code under test. hook_start() chooses what
 * happens at the Nth; hook_stop() lets everything pass again. Enumerate N from 1 until nothing is
 * hit any more: then every step has had its turn.
 */
#ifndef TESTS_DESTINATION_HOOKS_H
#define TESTS_DESTINATION_HOOKS_H

#include "util/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum hook_mode {
    HOOK_OFF,
    HOOK_RECORD, /* note the calls in hook.calls */
    HOOK_FAIL,   /* the Nth call fails with hook.errnum, and so does nothing */
    HOOK_DIE,    /* the process ends right before the Nth call */
};

enum { HOOK_DIED = 77 };

static struct {
    enum hook_mode mode;
    int at, count, errnum;
    const char *only; /* a call's name: the others pass uncounted; NULL = all */
    bool hit;
    bool short_writes; /* write takes only a half */
    struct buf calls;  /* "call name\n", in order */
} hook;

static inline void hook_start(enum hook_mode mode, int at, int errnum, const char *only)
{
    hook.mode = mode;
    hook.at = at;
    hook.count = 0;
    hook.errnum = errnum;
    hook.only = only;
    hook.hit = false;
    buf_truncate(&hook.calls, 0);
}

static inline void hook_stop(void)
{
    hook.mode = HOOK_OFF;
}

/* True if the call is to fail; errno is set. */
static bool hook_step(const char *call, const char *name)
{
    if (hook.mode == HOOK_OFF || (hook.only && strcmp(hook.only, call) != 0))
        return false;
    hook.count++;
    if (hook.mode == HOOK_RECORD)
        buf_addf(&hook.calls, "%s %s\n", call, name);
    if (hook.mode == HOOK_RECORD || hook.count != hook.at)
        return false;
    if (hook.mode == HOOK_DIE)
        _exit(HOOK_DIED);
    hook.hit = true;
    errno = hook.errnum;
    return true;
}

/* The last part of the path that a descriptor stands for. */
static const char *hook_name(int fd)
{
    static char target[4096];
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(target, '/');
    return slash ? slash + 1 : target;
}

int fsync(int fd)
{
    return hook_step("fsync", hook_name(fd)) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fchmod(int fd, mode_t mode)
{
    return hook_step("fchmod", hook_name(fd)) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    return hook_step("mkdirat", path) ? -1 : (int)syscall(SYS_mkdirat, fd, path, mode);
}

int unlinkat(int fd, const char *path, int flags)
{
    return hook_step("unlinkat", path) ? -1 : (int)syscall(SYS_unlinkat, fd, path, flags);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return hook_step("renameat2", to)
               ? -1
               : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (hook.short_writes && len > 1)
        len /= 2;
    return hook_step("write", hook_name(fd)) ? -1 : syscall(SYS_write, fd, data, len);
}

int sync_file_range(int fd, off_t offset, off_t len, unsigned flags)
{
    char what[64];

    snprintf(what, sizeof what, "%lld+%lld:%u", (long long)offset >> 20, (long long)len >> 20,
             flags);
    return hook_step("sync_file_range", what)
               ? -1
               : (int)syscall(SYS_sync_file_range, fd, offset, len, flags);
}

/* Gives the errno itself. */
int posix_fadvise(int fd, off_t offset, off_t len, int advice)
{
    char what[64];

    snprintf(what, sizeof what, "%lld+%lld:%d", (long long)offset, (long long)len, advice);
    return hook_step("posix_fadvise", what) ? hook.errnum
                                            : (int)syscall(SYS_fadvise64, fd, offset, len, advice);
}

/* Runs fn in a child that dies at its Nth step. True if it died there; false if fn came to its end,
 * returning 0. Anything else fails the test. */
static inline bool hook_dies(int at, int (*fn)(void *ctx), void *ctx)
{
    pid_t pid = fork();

    assert_return_code(pid, errno);
    if (pid == 0) {
        hook_start(HOOK_DIE, at, 0, NULL);
        _exit(fn(ctx) == 0 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != HOOK_DIED)
        assert_int_equal(WEXITSTATUS(status), 0);
    return WEXITSTATUS(status) == HOOK_DIED;
}

#endif
