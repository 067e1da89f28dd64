/* SPDX-License-Identifier: MIT */
/*
 * test_mounts_failures.c - a mountinfo that is not as expected, and unmounting for an ordinary
 * user: fusermount3 is called, and what it says is believed.
 *
 * The calls are defined here: mountinfo is what a test says, and no process is started.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/mounts.h"

#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

static struct {
    const char *mountinfo; /* NULL: it cannot be opened */
    int umount_errno;      /* 0: it works */
    int spawn_errno;
    int spawned;
    char *command[8]; /* of the last one spawned */
    int interrupted;  /* that many waits are, by a signal */
    int wait_errno;
    int status; /* of the child */
} world;

FILE *fopen(const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    if (strcmp(path, "/proc/self/mountinfo") != 0)
        return real(path, mode);
    if (world.mountinfo)
        return fmemopen((char *)(size_t)world.mountinfo, strlen(world.mountinfo), "r");
    errno = EMFILE;
    return NULL;
}

int umount2(const char *path, int flags)
{
    assert_string_equal(path, "/mnt/a b");
    assert_int_equal(flags, MNT_DETACH | UMOUNT_NOFOLLOW);
    errno = world.umount_errno;
    return world.umount_errno ? -1 : 0;
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    (void)actions, (void)attr, (void)envp;
    world.spawned++;
    assert_string_equal(file, argv[0]);
    for (int i = 0; argv[i]; i++)
        world.command[i] = argv[i];
    *pid = 4711;
    return world.spawn_errno;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    (void)options;
    assert_int_equal(pid, 4711);
    if (world.interrupted-- > 0) {
        errno = EINTR;
        return -1;
    }
    if (world.wait_errno) {
        errno = world.wait_errno;
        return -1;
    }
    *status = world.status;
    return pid;
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    return 0;
}

/* ---- mountinfo ---- */

static void expect_source(const char *mountinfo, const char *path, const char *expected)
{
    world.mountinfo = mountinfo;
    char *source = mounts_source_at(path, "fuse.keepfs");

    if (expected) {
        assert_non_null(source);
        assert_string_equal(source, expected);
    } else {
        assert_null(source);
    }
    free(source);
}

#define GOOD "36 35 0:40 / /mnt rw,nosuid shared:1 master:2 - fuse.keepfs /etc/k.conf rw\n"

static void a_mountinfo_that_cannot_be_opened_has_no_mounts(void **state)
{
    (void)state;
    expect_source(NULL, "/mnt", NULL);
}

static void a_line_without_its_dash_or_its_mount_point_is_passed_over(void **state)
{
    (void)state;
    expect_source("36 35 0:40 / /mnt rw fuse.keepfs /etc/k.conf rw\n", "/mnt", NULL);
    expect_source("36 35 0:40 / - fuse.keepfs /etc/k.conf rw\n", "/mnt", NULL);
    expect_source("\n - \n36 35\n" GOOD "\n", "/mnt", "/etc/k.conf");
    expect_source(GOOD "36 35 0:40 / - fuse.keepfs /etc/other.conf rw\n", "/mnt", "/etc/k.conf");
}

/* It hides what is below it, whatever it is. */
static void a_mount_without_source_or_type_is_none_of_ours_and_lies_on_top(void **state)
{
    (void)state;
    expect_source(GOOD "37 35 0:41 / /mnt rw - fuse.keepfs\n", "/mnt", NULL);
    expect_source(GOOD "37 35 0:41 / /mnt rw - \n", "/mnt", NULL);
    expect_source("37 35 0:41 / /mnt rw - \n" GOOD, "/mnt", "/etc/k.conf");
}

static void an_escape_that_is_cut_off_stands_for_itself(void **state)
{
    (void)state;
    expect_source("36 35 0:40 / /mnt\\040x rw - fuse.keepfs s rw\n", "/mnt x", "s");
    expect_source("36 35 0:40 / /mnt\\ rw - fuse.keepfs s rw\n", "/mnt\\", "s");
    expect_source("36 35 0:40 / /mnt\\0 rw - fuse.keepfs s rw\n", "/mnt\\0", "s");
    expect_source("36 35 0:40 / /mnt\\04 rw - fuse.keepfs s rw\n", "/mnt\\04", "s");
}

/* ---- unmounting ---- */

static void who_may_unmount_needs_nobody(void **state)
{
    (void)state;
    assert_int_equal(mounts_detach("/mnt/a b"), 0);
    assert_int_equal(world.spawned, 0);
}

static void another_failure_is_told_and_nobody_is_asked(void **state)
{
    (void)state;
    world.umount_errno = EINVAL;
    assert_int_equal(mounts_detach("/mnt/a b"), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(world.spawned, 0);
}

static void an_ordinary_user_unmounts_by_fusermount3(void **state)
{
    static const char *const command[] = {"fusermount3", "-u", "-z", "--", "/mnt/a b"};

    (void)state;
    world.umount_errno = EPERM;
    world.interrupted = 2;
    assert_int_equal(mounts_detach("/mnt/a b"), 0);
    assert_int_equal(world.spawned, 1);
    for (size_t i = 0; i < sizeof command / sizeof command[0]; i++)
        assert_string_equal(world.command[i], command[i]);
    assert_null(world.command[sizeof command / sizeof command[0]]);
}

static void without_fusermount3_its_errno_is_told(void **state)
{
    (void)state;
    world.umount_errno = EPERM;
    world.spawn_errno = ENOENT;
    assert_int_equal(mounts_detach("/mnt/a b"), -1);
    assert_int_equal(errno, ENOENT);
}

static void a_fusermount3_that_fails_or_dies_or_is_lost_is_eperm(void **state)
{
    (void)state;
    world.umount_errno = EPERM;
    world.status = 1 << 8; /* exit(1) */
    assert_int_equal(mounts_detach("/mnt/a b"), -1);
    assert_int_equal(errno, EPERM);
    world.status = 9; /* SIGKILL */
    assert_int_equal(mounts_detach("/mnt/a b"), -1);
    assert_int_equal(errno, EPERM);
    world.wait_errno = ECHILD;
    assert_int_equal(mounts_detach("/mnt/a b"), -1);
    assert_int_equal(errno, EPERM);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mountinfo_that_cannot_be_opened_has_no_mounts),
        TEST(a_line_without_its_dash_or_its_mount_point_is_passed_over),
        TEST(a_mount_without_source_or_type_is_none_of_ours_and_lies_on_top),
        TEST(an_escape_that_is_cut_off_stands_for_itself),
        TEST(who_may_unmount_needs_nobody),
        TEST(another_failure_is_told_and_nobody_is_asked),
        TEST(an_ordinary_user_unmounts_by_fusermount3),
        TEST(without_fusermount3_its_errno_is_told),
        TEST(a_fusermount3_that_fails_or_dies_or_is_lost_is_eperm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
