/* SPDX-License-Identifier: MIT */
/*
 * test_local_failures.c - the kind `local` where a look fails: at the mark, at a directory, at the
 * file system. What cannot be seen must neither count as absent nor as there. Calls that change a
 * repo fail in test_local_durability.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hooks.h"
#include "local_place.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

/* ---- the calls that look ---- */

static bool types_unknown; /* directory entries come without a type, as some disks give them */
static bool read_only;     /* every file system says so */
static char looked_at[PATH_MAX]; /* by the last faccessat */

int mkdir(const char *path, mode_t mode)
{
    return hook_step("mkdir", path) ? -1 : (int)syscall(SYS_mkdir, path, mode);
}

int fstat(int fd, struct stat *st)
{
    return hook_step("fstat", hook_name(fd)) ? -1 : (int)syscall(SYS_fstat, fd, st);
}

int fstatat(int fd, const char *path, struct stat *st, int flags)
{
    return hook_step("fstatat", path) ? -1 : (int)syscall(SYS_newfstatat, fd, path, st, flags);
}

int flock(int fd, int how)
{
    return hook_step("flock", hook_name(fd)) ? -1 : (int)syscall(SYS_flock, fd, how);
}

int fstatvfs(int fd, struct statvfs *fs)
{
    int (*real)(int, struct statvfs *);

    *(void **)&real = dlsym(RTLD_NEXT, "fstatvfs64");
    return hook_step("fstatvfs", hook_name(fd)) ? -1 : real(fd, fs);
}

DIR *fdopendir(int fd)
{
    DIR *(*real)(int);

    *(void **)&real = dlsym(RTLD_NEXT, "fdopendir");
    return hook_step("fdopendir", hook_name(fd)) ? NULL : real(fd);
}

struct dirent *readdir(DIR *dir)
{
    struct dirent *(*real)(DIR *);

    *(void **)&real = dlsym(RTLD_NEXT, "readdir64");
    if (hook_step("readdir", hook_name(dirfd(dir))))
        return NULL;
    struct dirent *e = real(dir);
    if (e && types_unknown)
        e->d_type = DT_UNKNOWN;
    return e;
}

int faccessat(int fd, const char *path, int mode, int flags)
{
    int (*real)(int, const char *, int, int);

    *(void **)&real = dlsym(RTLD_NEXT, "faccessat");
    snprintf(looked_at, sizeof looked_at, "%s", path);
    return hook_step("faccessat", path) ? -1 : real(fd, path, mode, flags);
}

int statvfs(const char *path, struct statvfs *out)
{
    int (*real)(const char *, struct statvfs *);

    *(void **)&real = dlsym(RTLD_NEXT, "statvfs64");
    if (hook_step("statvfs", path) || real(path, out) != 0)
        return -1;
    out->f_flag |= read_only ? ST_RDONLY : 0;
    return 0;
}

int statfs(const char *path, struct statfs *out)
{
    return hook_step("statfs", path) ? -1 : (int)syscall(SYS_statfs, path, out);
}

/* From now on the Nth call of that name fails. */
static void hook_fail(const char *call, int at, int errnum)
{
    hook_start(HOOK_FAIL, at, errnum, call);
}

/* The call that was to fail came. */
static void expect_hit(void)
{
    hook_stop();
    assert_true(hook.hit);
}

/* ---- the mark and its lock ---- */

static void a_mark_that_cannot_be_examined_or_locked_stops_the_put(void **state)
{
    static const struct {
        const char *call;
        int errnum;
        enum error_code code;
        const char *why;
    } cases[] = {
        {"fstat", EIO, ERR_DESTINATION_UNREACHABLE, "cannot examine "},
        {"flock", ENOLCK, ERR_DESTINATION_UNREACHABLE, "cannot lock "},
        {"flock", EWOULDBLOCK, ERR_DESTINATION_PATH_CONFLICT, "another backup"},
    };
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    put_ok(d, "group");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hook_fail(cases[i].call, 1, cases[i].errnum);
        int result = d->kind->put_begin(d, "next", &put, &err);
        expect_hit();
        expect_error(result, &err, cases[i].code, cases[i].why);
        assert_non_null(strstr(err.message, ((struct place *)*state)->root));
        expect_listing(d, "group ");
    }
    put_ok(d, "next");
    expect_listing(d, "group next ");
    d->kind->close(d);
}

static void a_root_that_was_removed_takes_no_mark(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    assert_return_code(rmdir(p->root), errno);
    expect_error(d->kind->put_begin(d, "group", &put, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 "cannot open ");
    assert_false(place_has(p, "."));
    d->kind->close(d);
}

static void a_mark_that_cannot_be_seen_allows_no_deletion(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "group");
    d->kind->close(d);
    d = place_open(p, 0);
    hook_fail("fstatat", 1, EIO);
    expect_error(d->kind->delete_object(d, "group", "object", &err), &err,
                 ERR_DESTINATION_UNREACHABLE, "cannot examine ");
    expect_hit();
    hook_fail("fstatat", 1, EIO);
    expect_error(d->kind->delete_group(d, "group", &err), &err, ERR_DESTINATION_UNREACHABLE,
                 "cannot examine ");
    expect_hit();
    hook_fail("fstatat", 1, EIO);
    expect_error(d->kind->recognise(d, &err), &err, ERR_DESTINATION_UNREACHABLE, "cannot examine ");
    expect_hit();
    assert_true(place_has(p, "group/object"));
    assert_int_equal(d->kind->recognise(d, &err), 0);
    d->kind->close(d);
}

/* ---- discarding ---- */

/* Whatever fails, what is left is still partial, and the next try ends it. */
static void a_discard_that_fails_can_be_done_again(void **state)
{
    static const char *const calls[] = {"fdopendir", "readdir", "fstatat", "unlinkat", "fsync"};
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "group");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool hit = true;
        for (int at = 1; hit; at++) {
            place_mkdir(p, "begun.tmp");
            place_file(p, "begun.tmp/object", "1", 1);
            hook_fail(calls[i], at, EIO);
            int result = d->kind->discard(d, "begun", &err);
            hook_stop();
            hit = hook.hit;
            assert_true(hit || at > 1);
            if (hit) {
                expect_error(result, &err, ERR_DESTINATION_UNREACHABLE, "begun.tmp");
                result = d->kind->discard(d, "begun", &err);
            }
            assert_int_equal(result, 0);
            assert_false(place_has(p, "begun.tmp"));
            expect_listing(d, "group ");
        }
    }
    d->kind->close(d);
}

/* Some file systems say EEXIST where others say ENOTEMPTY. And who was faster is right. */
static void the_words_of_rmdir_are_understood(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "group");
    assert_int_equal(d->kind->delete_object(d, "group", "object", &err), 0);
    hook_fail("unlinkat", 1, EEXIST);
    expect_error(d->kind->delete_group(d, "group", &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "group holds something that keepfs did not write");
    expect_hit();
    assert_int_equal(err.errnum, ENOTEMPTY);
    place_mkdir(p, "begun.tmp");
    hook_fail("unlinkat", 1, ENOENT);
    assert_int_equal(d->kind->discard(d, "begun", &err), 0);
    expect_hit();
    d->kind->close(d);
}

/* ---- listing and reading ---- */

static void a_listing_that_fails_is_no_short_one(void **state)
{
    static const char *const calls[] = {"fdopendir", "readdir", "fstatat"};
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "a");
    put_ok(d, "b");
    types_unknown = true;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool hit = true;
        for (int at = 1; hit; at++) {
            struct listing l = {.count = 0};
            hook_fail(calls[i], at, EIO);
            int result = d->kind->list(d, listing_add, &l, &err);
            hook_stop();
            hit = hook.hit;
            assert_true(hit || at > 1);
            if (hit)
                expect_error(result, &err, ERR_DESTINATION_UNREACHABLE, "cannot list ");
            else
                assert_int_equal(result, 0);
        }
    }
    types_unknown = false;
    d->kind->close(d);
}

static void entries_without_a_type_are_looked_at(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct listing l = {.count = 0};
    struct error err = {0};

    put_ok(d, "group");
    place_mkdir(p, "begun.tmp");
    place_file(p, "file", "no group", 8);
    types_unknown = true;
    expect_listing(d, "begun? group ");
    /* Each of the entries, ".", ".." and the mark too, is gone when it is looked at. */
    for (int at = 1; at <= 6; at++) {
        hook_fail("fstatat", at, ENOENT);
        int before = (int)l.count;
        assert_int_equal(d->kind->list(d, listing_add, &l, &err), 0);
        expect_hit();
        assert_in_range(l.count - (size_t)before, 1, 2);
    }
    types_unknown = false;
    assert_int_equal(l.count, 6 * 2 - 2); /* each group was the one that had gone, once */
    d->kind->close(d);
}

static void an_object_that_cannot_be_examined_is_not_opened(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct object *o;
    struct error err = {0};
    char byte;

    put_ok(d, "group");
    hook_fail("fstat", 1, EIO);
    expect_error(d->kind->open_object(d, "group", "object", &o, &err), &err,
                 ERR_DESTINATION_UNREACHABLE, "group/object");
    expect_hit();
    assert_int_equal(d->kind->open_object(d, "group", "object", &o, &err), 0);
    assert_int_equal(d->kind->pread(o, &byte, 1, INT64_MAX, &err), 0); /* beyond any file's end */
    assert_int_equal(d->kind->pread(o, &byte, 1, UINT64_MAX, &err), 0);
    d->kind->close_object(o);
    d->kind->close(d);
}

/* ---- opening and checking ---- */

static void a_root_that_cannot_be_made_is_not_opened(void **state)
{
    struct place *p = *state;
    struct destination *d;
    struct error err = {0};

    hook_fail("mkdir", 1, ENOSPC);
    int result = p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err);
    expect_hit();
    expect_error(result, &err, ERR_DESTINATION_NO_SPACE, "cannot open the repo's directory");
    assert_false(place_has(p, "."));
}

static void what_check_cannot_find_out_is_told(void **state)
{
    static const struct {
        const char *call;
        int errnum;
        enum error_code code;
        const char *why;
    } cases[] = {
        {"faccessat", EACCES, ERR_DESTINATION_PERMISSION_DENIED, "cannot write to "},
        {"statvfs", EIO, ERR_DESTINATION_UNREACHABLE, "cannot examine the file system of "},
    };
    struct place *p = *state;
    struct error err = {0};
    char warn[512] = "";

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hook_fail(cases[i].call, 1, cases[i].errnum);
        int result = p->kind->check(&p->settings, warn, sizeof warn, &err);
        expect_hit();
        expect_error(result, &err, cases[i].code, cases[i].why);
        assert_non_null(strstr(err.message, p->dir)); /* the root is not there yet */
        assert_string_equal(warn, "");
    }
    read_only = true;
    int result = p->kind->check(&p->settings, warn, sizeof warn, &err);
    read_only = false;
    assert_int_equal(result, -1);
    assert_int_equal(err.errnum, EROFS);
}

/* It would only have been a warning. */
static void a_file_system_of_unknown_kind_is_taken(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    char warn[512] = "text";

    hook_fail("statfs", 1, EIO);
    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), 0);
    expect_hit();
    assert_string_equal(warn, "");
}

static void the_root_of_the_system_is_the_last_part_that_is_asked(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    char warn[512];

    free(p->root);
    p->root = xstrdup("/no-such-directory-of-keepfs");
    settings_release(&p->settings);
    place_settings(p, p->kind);
    hook_fail("faccessat", 1, EROFS);
    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), -1);
    expect_hit();
    assert_string_equal(looked_at, "/");
    assert_string_equal(err.message, "cannot write to /: Read-only file system");
}

static void room_that_cannot_be_asked_for_is_told(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    uint64_t free_bytes = 1, total_bytes = 2;
    struct error err = {0};

    hook_fail("fstatvfs", 1, EIO);
    assert_int_equal(d->kind->room(d, &free_bytes, &total_bytes, &err), -1);
    expect_hit();
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    d->kind->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        place_test(a_mark_that_cannot_be_examined_or_locked_stops_the_put),
        place_test(a_root_that_was_removed_takes_no_mark),
        place_test(a_mark_that_cannot_be_seen_allows_no_deletion),
        place_test(a_discard_that_fails_can_be_done_again),
        place_test(the_words_of_rmdir_are_understood),
        place_test(a_listing_that_fails_is_no_short_one),
        place_test(entries_without_a_type_are_looked_at),
        place_test(an_object_that_cannot_be_examined_is_not_opened),
        place_test(a_root_that_cannot_be_made_is_not_opened),
        place_test(what_check_cannot_find_out_is_told),
        place_test(a_file_system_of_unknown_kind_is_taken),
        place_test(the_root_of_the_system_is_the_last_part_that_is_asked),
        place_test(room_that_cannot_be_asked_for_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
