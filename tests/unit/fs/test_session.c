/* SPDX-License-Identifier: MIT */
/* session.c as far as it goes without a mount: options and refusals. */
#include "fs/session.h"

#include "fixture.h"

static void assert_filtered(const char *options, const char *expected)
{
    __attribute__((cleanup(free_charp))) char *kept = session_filter_options(options);

    if (expected)
        assert_string_equal(kept, expected);
    else
        assert_null(kept);
}

static void options_of_fstab_are_taken_away(void **state)
{
    (void)state;
    assert_filtered(NULL, NULL);
    assert_filtered("", NULL);
    assert_filtered("defaults", NULL);
    assert_filtered("auto,noauto,user,users,nouser,owner,group,nofail,_netdev,defaults", NULL);
    assert_filtered("x-systemd.automount,X-mount.mkdir,comment=a b", NULL);
    assert_filtered("noauto,allow_other,nofail", "allow_other");
    assert_filtered("ro,,rw,", "ro,rw");
}

static void what_only_looks_like_fstab_is_kept(void **state)
{
    (void)state;
    assert_filtered("automatic,username=x,grouped", "automatic,username=x,grouped");
    assert_filtered("fsname=a\\,noauto,noauto", "fsname=a\\,noauto");
}

static void assert_refused(struct fixture *f, const char *mountpoint, const char *options,
                           const char *part)
{
    struct session_options o = {.mountpoint = mountpoint, .fuse_options = options, .fsname = "x"};
    struct error err;

    assert_null(session_mount(f->service, &o, &err));
    assert_int_equal(err.code, ERR_USAGE);
    if (!strstr(err.message, part))
        fail_msg("%s is not in: %s", part, err.message);
}

static void a_mount_that_cannot_be_is_refused_with_the_reason(void **state)
{
    struct fixture *f = *state;
    __attribute__((cleanup(free_charp))) char *file = xasprintf("%s/catalog", f->dir);
    __attribute__((cleanup(free_charp))) char *nothing = xasprintf("%s/nothing", f->dir);

    assert_refused(f, file, NULL, "not a directory");
    assert_refused(f, nothing, NULL, "No such file or directory");
    assert_refused(f, f->dir, "noauto,bogus", "bogus");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_fstab_are_taken_away),
        cmocka_unit_test(what_only_looks_like_fstab_is_kept),
        TREE_TEST(a_mount_that_cannot_be_is_refused_with_the_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
