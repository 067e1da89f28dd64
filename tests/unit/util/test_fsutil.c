/* SPDX-License-Identifier: MIT */
/*
 * test_fsutil.c - complete reads and writes, directories made and emptied, paths resolved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char *root; /* this test's directory, resolved */

static int stat_errnum; /* the next stat fails so, once */

int stat(const char *path, struct stat *st)
{
    if (stat_errnum) {
        errno = stat_errnum;
        stat_errnum = 0;
        return -1;
    }
    return fstatat(AT_FDCWD, path, st, 0);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *made = xasprintf("%s/keepfs-fsutil-XXXXXX", tmp ? tmp : "/tmp");

    (void)state;
    root = mkdtemp(made) ? realpath(made, NULL) : NULL;
    free(made);
    return root ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    int result = nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);

    free(root);
    return result;
}

/* A path below the test's directory; of the eight last calls. */
static const char *at(const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, PATH_MAX, "%s/%s", root, name);
    return path;
}

static void make_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* ---- bytes ---- */

static void interrupted(int signal)
{
    (void)signal;
}

struct drain {
    int fd;
    pthread_t writer;
    size_t got;
    bool equal;
};

/* Interrupts the writer before every read, so that its write is cut short or not begun. */
static void *drain_pipe(void *ctx)
{
    struct drain *d = ctx;
    unsigned char part[7919];
    ssize_t n;

    d->equal = true;
    do {
        pthread_kill(d->writer, SIGUSR1);
        n = read(d->fd, part, sizeof part);
        for (ssize_t i = 0; i < n; i++, d->got++)
            if (part[i] != (unsigned char)(d->got * 31 >> 3))
                d->equal = false;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return NULL;
}

static void a_write_is_whole_although_signals_cut_it(void **state)
{
    enum { SIZE = 1 << 20 };
    struct sigaction action = {.sa_handler = interrupted}; /* no SA_RESTART */
    unsigned char *data = xmalloc(SIZE);
    struct drain d = {.writer = pthread_self()};
    pthread_t reader;
    int ends[2];

    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 31 >> 3);
    assert_int_equal(pipe(ends), 0);
    d.fd = ends[0];
    sigaction(SIGUSR1, &action, NULL);
    assert_int_equal(pthread_create(&reader, NULL, drain_pipe, &d), 0);
    assert_int_equal(fd_write_all(ends[1], data, SIZE), 0);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    free(data);
    assert_int_equal(d.got, SIZE);
    assert_true(d.equal);
}

static void a_failed_write_gives_its_errno(void **state)
{
    int full = open("/dev/full", O_WRONLY);

    (void)state;
    errno = 0;
    assert_int_equal(fd_write_all(full, "x", 1), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(fd_write_all(full, "", 0), 0);
    close(full);
}

static void a_read_gives_all_there_is_and_no_more(void **state)
{
    char buf[16] = "";
    int fd;

    (void)state;
    make_file(at("file"), "0123456789");
    fd = open(at("file"), O_RDONLY);
    assert_int_equal(fd_pread_all(fd, buf, 4, 2), 4);
    assert_memory_equal(buf, "2345", 4);
    assert_int_equal(fd_pread_all(fd, buf, sizeof buf, 7), 3);
    assert_memory_equal(buf, "789", 3);
    assert_int_equal(fd_pread_all(fd, buf, sizeof buf, 10), 0);
    assert_int_equal(fd_pread_all(fd, buf, sizeof buf, 1000), 0);
    close(fd);
    errno = 0;
    assert_int_equal(fd_pread_all(fd, buf, 1, 0), -1);
    assert_int_equal(errno, EBADF);
}

static void closing_forgets_the_descriptor_and_keeps_errno(void **state)
{
    int fd = open("/dev/null", O_RDONLY), copy = fd;

    (void)state;
    errno = ENOSPC;
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
    errno = EDQUOT;
    fd_close(&fd);
    assert_int_equal(errno, EDQUOT);
}

/* ---- directories ---- */

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void missing_directories_are_made_0700_under_any_umask(void **state)
{
    static const mode_t masks[] = {0, 022, 077, 0277, 0777};

    (void)state;
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu", i);
        const char *top = at(name);
        snprintf(name, sizeof name, "%zu/b/c", i);
        const char *deep = at(name);
        mode_t old = umask(masks[i]);
        int result = dir_create(deep);
        umask(old);
        assert_int_equal(result, 0);
        assert_int_equal(mode_of(top), 0700);
        assert_int_equal(mode_of(deep), 0700);
    }
}

static void what_exists_is_left_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("there"), 0755), 0);
    assert_int_equal(chmod(at("there"), 0755), 0);
    assert_int_equal(dir_create(at("there")), 0);
    assert_int_equal(dir_create(at("there/new")), 0);
    assert_int_equal(dir_create(at("there/new/")), 0);
    assert_int_equal(mode_of(at("there")), 0755);
    assert_int_equal(dir_create("/"), 0);
}

static void a_symlink_to_a_directory_is_as_good_as_one(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("real"), 0700), 0);
    assert_int_equal(symlink("real", at("link")), 0);
    assert_int_equal(dir_create(at("link/below")), 0);
    assert_true(exists(at("real/below")));
    assert_int_equal(dir_create(at("link")), 0);
}

static void no_directory_is_made_through_a_file(void **state)
{
    (void)state;
    make_file(at("file"), "");
    errno = 0;
    assert_int_equal(dir_create(at("file")), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(dir_create(at("file/below")), -1);
    assert_int_equal(errno, ENOTDIR);
}

/* Success would say that there is a directory now. */
static void a_symlink_to_nowhere_is_no_directory(void **state)
{
    (void)state;
    assert_int_equal(symlink("nowhere", at("link")), 0);
    assert_int_equal(dir_create(at("link/below")), -1);
    errno = 0;
    assert_int_equal(dir_create(at("link")), -1);
    assert_int_not_equal(errno, 0);
    assert_false(exists(at("nowhere")));
}

/* And its own reason is told, not what a second look would find. */
static void what_cannot_be_looked_at_is_not_made(void **state)
{
    (void)state;
    stat_errnum = EACCES;
    assert_int_equal(dir_create(at("made")), -1);
    assert_int_equal(errno, EACCES);
    assert_false(exists(at("made")));
}

static void only_directories_are_fsynced_as_such(void **state)
{
    (void)state;
    make_file(at("file"), "");
    assert_int_equal(dir_fsync(root), 0);
    assert_int_equal(dir_fsync(at("file")), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(dir_fsync(at("none")), -1);
    assert_int_equal(errno, ENOENT);
}

static void emptying_removes_everything_below_and_keeps_the_top(void **state)
{
    (void)state;
    assert_int_equal(dir_create(at("top/a/b/c")), 0);
    make_file(at("top/file"), "x");
    make_file(at("top/.hidden"), "x");
    make_file(at("top/a/b/file"), "x");
    assert_int_equal(mkfifo(at("top/a/fifo"), 0600), 0);
    assert_int_equal(dir_clear(at("top")), 0);
    assert_int_equal(rmdir(at("top")), 0);
}

static void emptying_follows_no_symlink(void **state)
{
    (void)state;
    assert_int_equal(dir_create(at("kept")), 0);
    make_file(at("kept/file"), "x");
    assert_int_equal(mkdir(at("top"), 0700), 0);
    assert_int_equal(symlink(at("kept"), at("top/link")), 0);
    assert_int_equal(symlink("../kept/file", at("top/file")), 0);
    assert_int_equal(dir_clear(at("top")), 0);
    assert_false(exists(at("top/link")));
    assert_true(exists(at("kept/file")));
    assert_int_equal(symlink("kept", at("indirect")), 0);
    assert_int_equal(dir_clear(at("indirect")), -1);
    assert_true(exists(at("kept/file")));
}

static void emptying_what_is_absent_says_so(void **state)
{
    (void)state;
    errno = 0;
    assert_int_equal(dir_clear(at("none")), -1);
    assert_int_equal(errno, ENOENT);
}

/* A mount below stays with all that is in it, and the rest goes all the same. In a namespace of
 * its own, so that the mount cannot outlive the test. */
static void emptying_stays_on_its_file_system(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        skip();
    assert_int_equal(dir_create(at("top/mount")), 0);
    assert_int_equal(dir_create(at("top/other/deep")), 0);
    assert_int_equal(mount("kept", at("top/mount"), "tmpfs", 0, NULL), 0);
    make_file(at("top/mount/file"), "x");
    dir_clear(at("top"));
    bool kept = exists(at("top/mount/file"));
    bool cleared = !exists(at("top/other"));
    assert_int_equal(umount(at("top/mount")), 0);
    assert_true(kept);
    assert_true(cleared);
}

/* The reason is of the entry that could not be removed, not of a call that went well after it. */
static void emptying_goes_on_after_a_failure_and_keeps_its_errno(void **state)
{
    int flags = 0x10; /* FS_IMMUTABLE_FL of <linux/fs.h>, which clashes with <sys/mount.h> */

    (void)state;
    assert_int_equal(mkdir(at("top"), 0700), 0);
    make_file(at("top/stays"), "x");
    make_file(at("top/goes"), "x");
    int fd = open(at("top/stays"), O_RDONLY);
    if (ioctl(fd, _IOW('f', 2, long), &flags) != 0) {
        close(fd);
        skip();
    }
    errno = 0;
    int result = dir_clear(at("top")), reason = errno;
    flags = 0;
    assert_int_equal(ioctl(fd, _IOW('f', 2, long), &flags), 0);
    close(fd);
    assert_int_equal(result, -1);
    assert_false(exists(at("top/goes")));
    assert_int_equal(reason, EPERM);
}

/* ---- paths ---- */

static void expect_resolved(const char *path, const char *expected)
{
    char *got = path_resolve(path);

    assert_non_null(got);
    assert_string_equal(got, expected);
    free(got);
}

static void symlinks_are_resolved_as_far_as_the_path_exists(void **state)
{
    (void)state;
    assert_int_equal(dir_create(at("real/dir")), 0);
    assert_int_equal(symlink("real", at("link")), 0);
    assert_int_equal(symlink("nowhere", at("dangling")), 0);
    expect_resolved(at("link"), at("real"));
    expect_resolved(at("link/dir"), at("real/dir"));
    expect_resolved(at("link/none"), at("real/none"));
    expect_resolved(at("link/none/deeper"), at("real/none/deeper"));
    expect_resolved(at("none"), at("none"));
    expect_resolved(at("dangling/x"), at("dangling/x"));
    expect_resolved("/", "/");
    expect_resolved("/keepfs-test-has-no-such-path/x", "/keepfs-test-has-no-such-path/x");
}

static void what_cannot_be_resolved_gives_its_errno(void **state)
{
    (void)state;
    assert_int_equal(symlink("loop", at("loop")), 0);
    make_file(at("file"), "");
    assert_null(path_resolve(at("loop/x")));
    assert_int_equal(errno, ELOOP);
    assert_null(path_resolve(at("file/x")));
    assert_int_equal(errno, ENOTDIR);
}

static void containment_goes_by_whole_names(void **state)
{
    (void)state;
    assert_true(path_contains("/a", "/a"));
    assert_true(path_contains("/a", "/a/b"));
    assert_true(path_contains("/a/b", "/a/b/c/d"));
    assert_true(path_contains("/", "/"));
    assert_true(path_contains("/", "/a"));
    assert_false(path_contains("/a", "/ab"));
    assert_false(path_contains("/a", "/"));
    assert_false(path_contains("/a/b", "/a"));
    assert_false(path_contains("/a", "/b/a"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_write_is_whole_although_signals_cut_it),
        TEST(a_failed_write_gives_its_errno),
        TEST(a_read_gives_all_there_is_and_no_more),
        TEST(closing_forgets_the_descriptor_and_keeps_errno),
        TEST(missing_directories_are_made_0700_under_any_umask),
        TEST(what_exists_is_left_as_it_is),
        TEST(a_symlink_to_a_directory_is_as_good_as_one),
        TEST(no_directory_is_made_through_a_file),
        TEST(a_symlink_to_nowhere_is_no_directory),
        TEST(what_cannot_be_looked_at_is_not_made),
        TEST(only_directories_are_fsynced_as_such),
        TEST(emptying_removes_everything_below_and_keeps_the_top),
        TEST(emptying_follows_no_symlink),
        TEST(emptying_what_is_absent_says_so),
        TEST(emptying_goes_on_after_a_failure_and_keeps_its_errno),
        TEST(symlinks_are_resolved_as_far_as_the_path_exists),
        TEST(what_cannot_be_resolved_gives_its_errno),
        TEST(containment_goes_by_whole_names),
        TEST(emptying_stays_on_its_file_system), /* last: it changes the namespace */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
