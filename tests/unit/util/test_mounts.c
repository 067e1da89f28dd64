/* SPDX-License-Identifier: MIT */
/*
 * test_mounts.c - what is mounted where, in a mount namespace of its own, so that nothing outlives
 * the test. Skipped where no namespace can be made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"
#include "util/mounts.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static bool have_namespace;
static char *dir; /* resolved; a blank, a backslash and a newline are in its name */

static int group_setup(void **state)
{
    (void)state;
    have_namespace = unshare(CLONE_NEWNS) == 0;
    if (have_namespace && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        have_namespace = false;
    return 0;
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *made = xasprintf("%s/keepfs mounts \\ \n XXXXXX", tmp ? tmp : "/tmp");

    (void)state;
    dir = mkdtemp(made) ? realpath(made, NULL) : NULL;
    free(made);
    return dir ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    while (umount2(dir, MNT_DETACH) == 0)
        ;
    int result = rmdir(dir);

    free(dir);
    return result;
}

static void expect_source(const char *type, const char *expected)
{
    char *source = mounts_source_at(dir, type);

    if (expected) {
        assert_non_null(source);
        assert_string_equal(source, expected);
    } else {
        assert_null(source);
    }
    free(source);
}

static void a_directory_without_mount_has_no_source(void **state)
{
    (void)state;
    expect_source("tmpfs", NULL);
    assert_null(mounts_source_at("/keepfs-test-has-no-such-path", "tmpfs"));
}

static void a_mount_of_the_type_gives_its_source(void **state)
{
    (void)state;
    if (!have_namespace)
        skip();
    assert_int_equal(mount("/etc/a b\\c.conf", dir, "tmpfs", 0, NULL), 0);
    expect_source("tmpfs", "/etc/a b\\c.conf");
    expect_source("fuse.keepfs", NULL);
    expect_source("tmp", NULL);
}

static void the_topmost_mount_counts(void **state)
{
    (void)state;
    if (!have_namespace)
        skip();
    assert_int_equal(mount("below", dir, "tmpfs", 0, NULL), 0);
    assert_int_equal(mount("above", dir, "tmpfs", 0, NULL), 0);
    expect_source("tmpfs", "above");
    assert_int_equal(mount("proc", dir, "proc", 0, NULL), 0);
    expect_source("tmpfs", NULL);
    expect_source("proc", "proc");
}

static void a_detached_mount_is_gone(void **state)
{
    (void)state;
    if (!have_namespace)
        skip();
    assert_int_equal(mount("busy", dir, "tmpfs", 0, NULL), 0);
    char *file = xasprintf("%s/open", dir);
    FILE *f = fopen(file, "w");
    free(file);
    assert_non_null(f);
    assert_int_equal(mounts_detach(dir), 0); /* although it is busy */
    expect_source("tmpfs", NULL);
    fclose(f);
    assert_int_equal(mounts_detach(dir), -1);
    assert_int_equal(errno, EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_directory_without_mount_has_no_source),
        TEST(a_mount_of_the_type_gives_its_source),
        TEST(the_topmost_mount_counts),
        TEST(a_detached_mount_is_gone),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
