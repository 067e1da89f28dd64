/* SPDX-License-Identifier: MIT */
/*
 * namespace.h - runs a part of a test in a child with mounts of its own, which end with it.
 */
#ifndef TESTS_DESTINATION_NAMESPACE_H
#define TESTS_DESTINATION_NAMESPACE_H

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMESPACE_REFUSED = 76 };

/* In the child cmocka's assertions cannot be used: this ends it with a message instead. */
#define child_check(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s (errno %s)\n", __FILE__, __LINE__, #condition,    \
                    strerror(errno));                                                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Mounts a tmpfs of so many KiB on `dir`, in the child. */
static inline void child_tmpfs(const char *dir, int kib, unsigned long flags)
{
    char options[32];

    snprintf(options, sizeof options, "size=%dk,mode=0700", kib);
    child_check(mount("tmpfs", dir, "tmpfs", flags, options) == 0);
}

/* False, with the reason printed, if this user may not have mounts of its own. */
static inline bool in_namespace(void (*fn)(void *ctx), void *ctx)
{
    pid_t pid = fork();

    assert_return_code(pid, errno);
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
            fprintf(stderr, "skipped: no mount namespace: %s\n", strerror(errno));
            _exit(NAMESPACE_REFUSED);
        }
        fn(ctx);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NAMESPACE_REFUSED)
        return false;
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

#endif
