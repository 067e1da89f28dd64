/* SPDX-License-Identifier: MIT */
/*
 * test_attrs.c - attributes of a file as the kernel lists them: all are taken, one that goes away
 * meanwhile has never been there, and an ACL is never taken for what it is not.
 *
 * The calls are defined here: a file has the attributes that a test gives it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/attrs.h"
#include "tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/xattr.h>

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static struct {
    struct {
        const char *name;
        const void *value;
        size_t size;
        int errnum; /* it cannot be read */
    } attrs[4];
    int list_errno;
    int by_path; /* calls by a path instead of a descriptor */
} world;

static ssize_t list_them(char *names, size_t size)
{
    size_t len = 0;

    if (world.list_errno) {
        errno = world.list_errno;
        return -1;
    }
    for (size_t i = 0; i < 4 && world.attrs[i].name; i++) {
        size_t n = strlen(world.attrs[i].name) + 1;
        assert_true(len + n <= size);
        memcpy(names + len, world.attrs[i].name, n);
        len += n;
    }
    return (ssize_t)len;
}

static ssize_t get_one(const char *name, void *value, size_t size)
{
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(world.attrs[i].name, name) != 0)
            continue;
        assert_true(world.attrs[i].size <= size);
        memcpy(value, world.attrs[i].value, world.attrs[i].size);
        errno = world.attrs[i].errnum;
        return errno ? -1 : (ssize_t)world.attrs[i].size;
    }
    fail_msg("there is no %s", name);
    return -1;
}

ssize_t flistxattr(int fd, char *names, size_t size)
{
    (void)fd;
    return list_them(names, size);
}

ssize_t listxattr(const char *path, char *names, size_t size)
{
    assert_string_equal(path, "/proc/self/fd/0");
    world.by_path++;
    return list_them(names, size);
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    (void)fd;
    return get_one(name, value, size);
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
    assert_string_equal(path, "/proc/self/fd/0");
    world.by_path++;
    return get_one(name, value, size);
}

/* ---- what they are added to ---- */

static struct tar *tar;
static struct attrs *attrs;

static int setup(void **state)
{
    struct stat st = {.st_mode = S_IFREG | 0644};
    struct error err;

    memset(&world, 0, sizeof world);
    if (tree_setup(state) != 0)
        return -1;
    struct tree *t = *state;
    t->fd = open(t->tar, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    tar = tar_new(&t->run, &err);
    attrs = attrs_new();
    assert_true(t->fd >= 0 && tar);
    tar_begin(tar, "file", &st);
    return 0;
}

static int teardown(void **state)
{
    attrs_free(attrs);
    tar_free(tar);
    return tree_teardown(state);
}

static void give(size_t i, const char *name, const void *value, size_t size)
{
    world.attrs[i].name = name;
    world.attrs[i].value = value;
    world.attrs[i].size = size;
}

/* The entry has this attribute, and no other. */
static void expect_only(const char *name, const char *value)
{
    const char *has;
    const void *bytes;
    size_t size;

    assert_int_equal(archive_entry_xattr_reset(tar_entry(tar)), 1);
    assert_int_equal(archive_entry_xattr_next(tar_entry(tar), &has, &bytes, &size), ARCHIVE_OK);
    assert_string_equal(has, name);
    assert_int_equal(size, strlen(value));
    assert_memory_equal(bytes, value, size);
}

static int acl_count(void)
{
    return archive_entry_acl_count(tar_entry(tar),
                                   ARCHIVE_ENTRY_ACL_TYPE_ACCESS | ARCHIVE_ENTRY_ACL_TYPE_DEFAULT);
}

/* ---- attributes ---- */

static void one_that_is_removed_between_the_two_looks_has_never_been_there(void **state)
{
    (void)state;
    give(0, "user.gone", "x", 1);
    world.attrs[0].errnum = ENODATA;
    give(1, "user.here", "value", 5);
    assert_int_equal(attrs_add(attrs, 0, false, tar), 0);
    expect_only("user.here", "value");
}

static void one_that_cannot_be_read_is_told_and_what_was_before_it_kept(void **state)
{
    (void)state;
    give(0, "user.here", "value", 5);
    give(1, "user.broken", "x", 1);
    world.attrs[1].errnum = EIO;
    give(2, "user.behind", "x", 1);
    assert_int_equal(attrs_add(attrs, 0, false, tar), EIO);
    expect_only("user.here", "value");
}

static void a_file_system_without_any_is_fine_and_one_that_fails_is_told(void **state)
{
    (void)state;
    world.list_errno = ENOTSUP;
    assert_int_equal(attrs_add(attrs, 0, false, tar), 0);
    world.list_errno = EIO;
    assert_int_equal(attrs_add(attrs, 0, false, tar), EIO);
    assert_int_equal(archive_entry_xattr_reset(tar_entry(tar)), 0);
    assert_int_equal(world.by_path, 0);
}

static void what_cannot_be_opened_is_asked_by_its_path(void **state)
{
    (void)state;
    give(0, "trusted.link", "value", 5);
    assert_int_equal(attrs_add(attrs, 0, true, tar), 0);
    assert_int_equal(world.by_path, 2);
    expect_only("trusted.link", "value");
}

/* ---- ACLs ---- */

/* clang-format off */
#define ACL                                                                                        \
    "\2\0\0\0"                             /* the version */                                        \
    "\1\0\6\0\377\377\377\377"             /* user::rw- */                                          \
    "\2\0\4\0\4\0\0\0"                     /* user:4:r-- */                                         \
    "\4\0\4\0\377\377\377\377"             /* group::r-- */                                         \
    "\10\0\4\0\5\0\0\0"                    /* group:5:r-- */                                        \
    "\20\0\4\0\377\377\377\377"            /* mask::r-- */                                          \
    "\40\0\0\0\377\377\377\377"            /* other::--- */
/* clang-format on */
enum { ACL_SIZE = sizeof ACL - 1 };

static void an_acl_is_stored_as_one_and_not_as_an_attribute(void **state)
{
    (void)state;
    give(0, ACCESS, ACL, ACL_SIZE);
    give(1, DEFAULT, ACL, ACL_SIZE);
    assert_int_equal(attrs_add(attrs, 0, false, tar), 0);
    assert_int_equal(archive_entry_xattr_reset(tar_entry(tar)), 0);
    /* Of the access ACL, user, group and other are in the mode; the default one has all. */
    assert_int_equal(archive_entry_acl_count(tar_entry(tar), ARCHIVE_ENTRY_ACL_TYPE_DEFAULT), 6);
    assert_int_equal(archive_entry_acl_count(tar_entry(tar), ARCHIVE_ENTRY_ACL_TYPE_ACCESS), 6);
    assert_int_equal(archive_entry_perm(tar_entry(tar)), 0640);
}

/* The byte at `at` of the ACL is another one, or it ends there. */
static void expect_no_acl(const char *name, size_t at, int byte)
{
    unsigned char spoilt[ACL_SIZE];

    memcpy(spoilt, ACL, ACL_SIZE);
    if (byte >= 0)
        spoilt[at] = (unsigned char)byte;
    give(0, name, spoilt, byte >= 0 ? ACL_SIZE : at);
    assert_int_equal(attrs_add(attrs, 0, false, tar), EINVAL);
    assert_int_equal(archive_entry_xattr_reset(tar_entry(tar)), 0);
}

static void what_is_no_acl_is_refused(void **state)
{
    static const char *const names[] = {ACCESS, DEFAULT};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        expect_no_acl(names[i], 0, -1); /* no version */
        expect_no_acl(names[i], 3, -1);
        expect_no_acl(names[i], ACL_SIZE - 1, -1); /* half an entry */
        expect_no_acl(names[i], 0, 3);             /* a version to come */
        expect_no_acl(names[i], 4, 0x40);          /* a tag that there is not */
        assert_int_equal(acl_count(), 0);
    }
}

static void permissions_that_there_are_not_are_refused(void **state)
{
    (void)state;
    expect_no_acl(DEFAULT, 7, 0x80);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_that_is_removed_between_the_two_looks_has_never_been_there),
        CASE(one_that_cannot_be_read_is_told_and_what_was_before_it_kept),
        CASE(a_file_system_without_any_is_fine_and_one_that_fails_is_told),
        CASE(what_cannot_be_opened_is_asked_by_its_path),
        CASE(an_acl_is_stored_as_one_and_not_as_an_attribute),
        CASE(what_is_no_acl_is_refused),
        CASE(permissions_that_there_are_not_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
