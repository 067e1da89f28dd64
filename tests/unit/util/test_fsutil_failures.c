/* SPDX-License-Identifier: MIT */
/*
 * test_fsutil_failures.c - directories made, emptied and resolved while system calls fail: the
 * errno is that of the call, no descriptor is left open, and emptying goes on.
 *
 * The calls are defined here; their real selves do the work, except for the one that is to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"
#include "util/fsutil.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    const char *call; /* that fails; NULL = none */
    const char *on;   /* only on this name; NULL: on any */
    int errnum;
    int nth, times; /* from the nth on, that often */
    int seen;
    bool rival;      /* somebody makes the directory a moment before us */
    bool rival_file; /* and as a file */
    bool pretend;    /* nothing is made, all succeeds */
    char made[64];   /* by mkdir */
    char synced[64]; /* by the last fsync */
} world;

static bool must_fail(const char *call, const char *name)
{
    if (!world.call || strcmp(call, world.call) != 0 || (world.on && strcmp(world.on, name) != 0))
        return false;
    int n = ++world.seen;
    errno = world.errnum;
    return n >= world.nth && n < world.nth + world.times;
}

int stat(const char *path, struct stat *st)
{
    if (must_fail("stat", path))
        return -1;
    if (world.pretend && strcmp(path, world.made) == 0) {
        *st = (struct stat){.st_mode = S_IFDIR | 0700};
        return 0;
    }
    return (int)syscall(SYS_newfstatat, AT_FDCWD, path, st, 0);
}

int mkdir(const char *path, mode_t mode)
{
    if (must_fail("mkdir", path))
        return -1;
    snprintf(world.made, sizeof world.made, "%.63s", path);
    if (world.rival)
        syscall(SYS_mkdir, path, 0755);
    if (world.rival_file)
        close(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    return world.pretend ? 0 : (int)syscall(SYS_mkdir, path, mode);
}

int chmod(const char *path, mode_t mode)
{
    if (must_fail("chmod", path))
        return -1;
    return world.pretend ? 0 : (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

int fsync(int fd)
{
    char link[32];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, world.synced, sizeof world.synced - 1);
    world.synced[n > 0 ? n : 0] = '\0';
    return must_fail("fsync", world.synced) ? -1 : 0;
}

int fstat(int fd, struct stat *st)
{
    return must_fail("fstat", "") ? -1 : (int)syscall(SYS_fstat, fd, st);
}

int fstatat(int dir, const char *name, struct stat *st, int flags)
{
    return must_fail("fstatat", name) ? -1 : (int)syscall(SYS_newfstatat, dir, name, st, flags);
}

int openat(int dir, const char *name, int flags, ...)
{
    return must_fail("openat", name) ? -1 : (int)syscall(SYS_openat, dir, name, flags, 0);
}

DIR *fdopendir(int fd)
{
    DIR *(*real)(int);

    *(void **)&real = dlsym(RTLD_NEXT, "fdopendir");
    return must_fail("fdopendir", "") ? NULL : real(fd);
}

struct dirent *readdir(DIR *dir)
{
    struct dirent *(*real)(DIR *);
    int saved = errno;

    *(void **)&real = dlsym(RTLD_NEXT, "readdir64");
    errno = saved;
    return must_fail("readdir", "") ? NULL : real(dir);
}

char *realpath(const char *path, char *out)
{
    char *(*real)(const char *, char *);

    *(void **)&real = dlsym(RTLD_NEXT, "realpath");
    return must_fail("realpath", path) ? NULL : real(path, out);
}

ssize_t write(int fd, const void *data, size_t len)
{
    return must_fail("write", "") ? -1 : syscall(SYS_write, fd, data, len > 3 ? 3 : len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    return must_fail("pread", "") ? -1 : syscall(SYS_pread64, fd, buf, len > 3 ? 3 : len, offset);
}

static void let_fail(const char *call, const char *on, int nth, int times, int errnum)
{
    world.call = call;
    world.on = on;
    world.nth = nth;
    world.times = times;
    world.errnum = errnum;
    world.seen = 0;
}

/* ---- the test's directory ---- */

static char root[64];

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    memset(&world, 0, sizeof world);
    snprintf(root, sizeof root, "%s/keepfs-fsutil-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    char *command = xasprintf("rm -rf --one-file-system '%s'", root);
    int result = system(command);

    free(command);
    return result;
}

static const char *at(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void shell(const char *command)
{
    char *line = xasprintf("cd '%s' && %s", root, command);

    assert_int_equal(system(line), 0);
    free(line);
}

/* ---- making ---- */

static void expect_not_made(const char *path, int errnum)
{
    int before = open_descriptors();

    assert_int_equal(dir_create(path), -1);
    assert_int_equal(errno, errnum);
    assert_int_equal(open_descriptors(), before);
}

static void each_call_that_fails_to_make_a_directory_is_told(void **state)
{
    (void)state;
    let_fail("mkdir", NULL, 1, 1, EROFS);
    expect_not_made(at("new"), EROFS);
    let_fail("chmod", NULL, 1, 1, EPERM);
    expect_not_made(at("new"), EPERM);
    let_fail("fsync", NULL, 1, 1, EIO);
    expect_not_made(at("new2"), EIO);
    let_fail("stat", at("new3"), 2, 1, ESTALE); /* when it was made */
    expect_not_made(at("new3"), ESTALE);
}

static void what_somebody_else_made_first_will_do_if_it_is_a_directory(void **state)
{
    (void)state;
    world.rival = true;
    assert_int_equal(dir_create(at("new")), 0);
    world.rival = false;
    world.rival_file = true;
    expect_not_made(at("file"), ENOTDIR);
}

static void the_parent_of_a_directory_below_the_root_is_the_root(void **state)
{
    (void)state;
    world.pretend = true;
    assert_int_equal(dir_create("/keepfs-is-not-made"), 0);
    assert_string_equal(world.made, "/keepfs-is-not-made");
    assert_string_equal(world.synced, "/");
    world.pretend = false;
    assert_int_equal(dir_create(at("new")), 0);
    assert_string_equal(world.synced, root);
}

/* ---- emptying ---- */

static void expect_not_emptied(int errnum)
{
    int before = open_descriptors();

    assert_int_equal(dir_clear(root), -1);
    assert_int_equal(errno, errnum);
    assert_int_equal(open_descriptors(), before);
}

static void a_directory_that_cannot_be_listed_is_not_emptied(void **state)
{
    static const char *const calls[] = {"fstat", "fdopendir", "readdir"};

    (void)state;
    shell("touch a");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        /* glibc's own fdopendir looks at it as well */
        let_fail(calls[i], NULL, 1, 1, EIO);
        expect_not_emptied(EIO);
        assert_int_equal(access(at("a"), F_OK), 0);
    }
}

static void the_rest_is_removed_beside_what_cannot_be(void **state)
{
    (void)state;
    shell("mkdir -p a/sub b/sub c/sub; touch a/x b/x c/x d e");
    let_fail("fstatat", "d", 1, 1, EIO);
    expect_not_emptied(EIO);
    shell("test \"$(ls)\" = d");
    shell("rm d; mkdir -p a/sub b/sub c/sub; touch a/x b/x c/x d e");
    let_fail("openat", "b", 1, 1, EMFILE);
    expect_not_emptied(EMFILE);
    shell("test \"$(ls) $(ls b | xargs)\" = 'b sub x'");
    /* Nor what is in it: the top is not removed then. */
    let_fail("openat", "sub", 1, 1, EMFILE);
    expect_not_emptied(EMFILE);
    shell("test \"$(ls) $(ls b)\" = 'b sub'");
    let_fail(NULL, NULL, 0, 0, 0);
    assert_int_equal(dir_clear(root), 0);
    shell("test -z \"$(ls)\"");
}

/* ---- resolving ---- */

static void only_what_is_absent_is_resolved_without_looking(void **state)
{
    char *resolved;

    (void)state;
    let_fail("realpath", NULL, 2, 1, EACCES);
    assert_null(path_resolve("/keepfs-has-no/such/path"));
    assert_int_equal(errno, EACCES);
    let_fail("realpath", NULL, 1, 100, ENOENT); /* not even the root */
    assert_null(path_resolve("/keepfs-has-no/such/path"));
    assert_int_equal(errno, ENOENT);
    let_fail(NULL, NULL, 0, 0, 0);
    resolved = path_resolve("/keepfs-has-no/such/path");
    assert_non_null(resolved);
    assert_string_equal(resolved, "/keepfs-has-no/such/path");
    free(resolved);
}

/* ---- bytes ---- */

static void a_call_that_a_signal_ends_is_done_again_and_another_failure_told(void **state)
{
    char got[8] = "";
    int fd = open(at("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_true(fd >= 0);
    let_fail("write", NULL, 2, 2, EINTR);
    assert_int_equal(fd_write_all(fd, "abcdefg", 7), 0);
    assert_int_equal(world.seen, 5);
    let_fail("pread", NULL, 2, 2, EINTR);
    assert_int_equal(fd_pread_all(fd, got, 7, 0), 7);
    assert_string_equal(got, "abcdefg");
    assert_int_equal(world.seen, 5);
    let_fail("write", NULL, 2, 1, ENOSPC);
    assert_int_equal(fd_write_all(fd, "abcdefg", 7), -1);
    assert_int_equal(errno, ENOSPC);
    let_fail("pread", NULL, 2, 1, EIO);
    assert_int_equal(fd_pread_all(fd, got, 7, 0), -1);
    assert_int_equal(errno, EIO);
    fd_close(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_call_that_fails_to_make_a_directory_is_told),
        TEST(what_somebody_else_made_first_will_do_if_it_is_a_directory),
        TEST(the_parent_of_a_directory_below_the_root_is_the_root),
        TEST(a_directory_that_cannot_be_listed_is_not_emptied),
        TEST(the_rest_is_removed_beside_what_cannot_be),
        TEST(only_what_is_absent_is_resolved_without_looking),
        TEST(a_call_that_a_signal_ends_is_done_again_and_another_failure_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
