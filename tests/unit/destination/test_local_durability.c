/* SPDX-License-Identifier: MIT */
/*
 * test_local_durability.c - the kind `local` when calls fail, processes die and disks are full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hooks.h"
#include "local_place.h"
#include "namespace.h"

/* ---- order ---- */

static void a_root_is_made_with_its_parents_durably(void **state)
{
    struct place *p = *state;

    place_descend(p, "a/b");
    hook_start(HOOK_RECORD, 0, 0, "fsync");
    struct destination *d = place_open(p, DESTINATION_CREATE);
    hook_stop();
    struct buf expected = BUF_INIT;
    buf_addf(&expected, "fsync %s\nfsync repo\nfsync a\n", strrchr(p->dir, '/') + 1);
    assert_string_equal(buf_text(&hook.calls), buf_text(&expected));
    assert_int_equal(place_mode(p, ".."), 0700);
    assert_int_equal(place_mode(p, "."), 0700);
    buf_release(&expected);
    d->kind->close(d);
}

static void a_put_is_durable_in_this_order(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    hook_start(HOOK_RECORD, 0, 0, NULL);
    assert_int_equal(put_group(d, "group", "object", "text", 4, &err), 0);
    hook_stop();
    static const char put[] = "mkdirat group.tmp\n"
                              "fchmod group.tmp\n"
                              "fchmod object\n"
                              "write object\n"
                              "fsync object\n"
                              "fsync group.tmp\n"
                              "renameat2 group\n"
                              "fsync repo\n";
    struct buf first = BUF_INIT;
    buf_addf(&first, "fchmod .keepfs\nwrite .keepfs\nfsync .keepfs\nfsync repo\n%s", put);
    assert_string_equal(buf_text(&hook.calls), buf_text(&first));
    buf_release(&first);
    assert_int_equal(d->kind->delete_object(d, "group", "object", &err), 0);
    assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    hook_start(HOOK_RECORD, 0, 0, NULL);
    assert_int_equal(put_group(d, "group", "object", "text", 4, &err), 0);
    hook_stop();
    assert_string_equal(buf_text(&hook.calls), put);
    d->kind->close(d);
}

static void a_deletion_is_durable_step_by_step(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "group");
    hook_start(HOOK_RECORD, 0, 0, NULL);
    assert_int_equal(d->kind->delete_object(d, "group", "object", &err), 0);
    assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    hook_stop();
    assert_string_equal(buf_text(&hook.calls), "unlinkat object\n"
                                               "fsync group\n"
                                               "unlinkat group\n"
                                               "fsync repo\n");
    /* Again: a crash may have come between the rmdir and its fsync. */
    hook_start(HOOK_RECORD, 0, 0, "fsync");
    assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    hook_stop();
    assert_string_equal(buf_text(&hook.calls), "fsync repo\n");
    d->kind->close(d);
}

static void failing_deletions_are_failures(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    for (int at = 1; at <= 2; at++) {
        put_ok(d, "group");
        hook_start(HOOK_FAIL, at, EIO, NULL);
        expect_error(d->kind->delete_object(d, "group", "object", &err), &err,
                     ERR_DESTINATION_UNREACHABLE, "group/object");
        hook_stop();
        assert_int_equal(d->kind->delete_object(d, "group", "object", &err), 0);
        hook_start(HOOK_FAIL, at, EIO, NULL);
        expect_error(d->kind->delete_group(d, "group", &err), &err, ERR_DESTINATION_UNREACHABLE,
                     "group");
        hook_stop();
        assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    }
    d->kind->close(d);
}

/* A disk that took a byte and gives another is not found by asking the page cache. */
static void what_is_read_back_is_asked_of_the_disk_if_that_can_be_had(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    char drop[64], got[8] = "";
    struct object *o;
    struct error err = {0};

    snprintf(drop, sizeof drop, "posix_fadvise 0+0:%d\n", POSIX_FADV_DONTNEED);
    for (int refused = 0; refused < 2; refused++) {
        struct put *put = begin_ok(d, "group");
        assert_int_equal(put_bytes(put, "object", "text", 4, &err), 0);
        hook_start(refused ? HOOK_FAIL : HOOK_RECORD, 1, ESPIPE, "posix_fadvise");
        int result = d->kind->put_reopen(put, "object", &o, &err);
        hook_stop();
        assert_int_equal(result, 0);
        if (refused)
            assert_true(hook.hit);
        else
            assert_string_equal(buf_text(&hook.calls), drop);
        assert_int_equal(d->kind->pread(o, got, sizeof got, 0, &err), 4);
        assert_string_equal(got, "text");
        d->kind->close_object(o);
        d->kind->put_free(put);
    }
    d->kind->close(d);
}

/* Each call in turn fails; the put then fails with just that error and leaves nothing. */
static void check_failing_put(struct place *p, int errnum, enum error_code code)
{
    bool hit = true;

    for (int at = 1; hit; at++) {
        struct destination *d = place_open(p, DESTINATION_CREATE);
        struct error err = {0};
        hook_start(HOOK_FAIL, at, errnum, NULL);
        int result = put_group(d, "group", "object", "text", 4, &err);
        hook_stop();
        hit = hook.hit;
        if (hit) {
            assert_int_equal(result, -1);
            assert_int_equal(err.code, code);
            assert_int_equal(err.errnum, errnum);
            expect_listing(d, "");
        } else {
            assert_int_equal(result, 0);
            assert_int_equal(at, 13);
            expect_listing(d, "group ");
        }
        d->kind->close(d);
        dir_clear(p->dir);
    }
}

static void each_failing_call_fails_the_put_and_leaves_nothing(void **state)
{
    check_failing_put(*state, EIO, ERR_DESTINATION_UNREACHABLE);
    check_failing_put(*state, ENOSPC, ERR_DESTINATION_NO_SPACE);
    check_failing_put(*state, EDQUOT, ERR_DESTINATION_NO_SPACE);
    check_failing_put(*state, EROFS, ERR_DESTINATION_PERMISSION_DENIED);
    check_failing_put(*state, EACCES, ERR_DESTINATION_PERMISSION_DENIED);
}

static int put_in_child(void *ctx)
{
    struct place *p = ctx;
    struct destination *d;
    struct error err;

    if (p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err) != 0)
        return -1;
    return put_group(d, "group", "object", "text", 4, &err);
}

static void a_crash_at_each_step_leaves_a_whole_group_or_none(void **state)
{
    struct place *p = *state;
    bool died = true, committed = false;

    for (int at = 1; died; at++) {
        died = hook_dies(at, put_in_child, p);
        struct destination *d = place_open(p, DESTINATION_CREATE);
        struct error err = {0};
        if (place_has(p, "group")) {
            committed = true;
            assert_true(place_has(p, "group/object"));
            expect_listing(d, "group ");
        } else {
            assert_false(committed); /* once it appears, it stays */
            assert_int_equal(d->kind->discard(d, "group", &err), 0);
            expect_listing(d, "");
            put_ok(d, "group");
        }
        d->kind->close(d);
        dir_clear(p->dir);
    }
    assert_true(committed);
}

static void interrupted_and_short_writes_are_completed(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct object *o;
    struct error err = {0};
    char text[64] = "";

    put_ok(d, "first");
    hook_start(HOOK_FAIL, 2, EINTR, "write");
    hook.short_writes = true;
    int result = put_group(d, "group", "object", "0123456789abcdef", 16, &err);
    hook.short_writes = false;
    hook_stop();
    assert_true(hook.hit);
    assert_int_equal(result, 0);
    assert_int_equal(d->kind->open_object(d, "group", "object", &o, &err), 0);
    assert_int_equal(d->kind->pread(o, text, sizeof text, 0, &err), 16);
    assert_string_equal(text, "0123456789abcdef");
    d->kind->close_object(o);
    d->kind->close(d);
}

static void a_group_that_appears_meanwhile_is_not_replaced(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);

    for (int fallback = 0; fallback < 2; fallback++) {
        struct error err = {0};
        struct put *put = begin_ok(d, "group");
        place_mkdir(p, "group");
        if (fallback)
            hook_start(HOOK_FAIL, 1, EINVAL, "renameat2");
        int result = d->kind->put_commit(put, &err);
        hook_stop();
        expect_error(result, &err, ERR_DUPLICATE_ID, "group");
        d->kind->put_free(put);
        expect_listing(d, "group ");
        assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    }
    d->kind->close(d);
}

static void a_file_system_without_noreplace_will_do(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    hook_start(HOOK_FAIL, 1, EINVAL, "renameat2");
    int result = put_group(d, "group", "object", "text", 4, &err);
    hook_stop();
    assert_true(hook.hit);
    assert_int_equal(result, 0);
    expect_listing(d, "group ");
    d->kind->close(d);
}

/* ---- pace ---- */

static int put_mebibytes(struct destination *d, int count, struct error *err)
{
    static const char mebibyte[1 << 20];
    struct put *put = begin_ok(d, "large");
    struct writer *w;

    assert_int_equal(d->kind->put_object(put, "object", &w, err), 0);
    int result = 0;
    for (int i = 0; result == 0 && i < count; i++)
        result = writer_write(w, mebibyte, sizeof mebibyte, err);
    writer_free(w);
    d->kind->put_free(put);
    return result;
}

static void write_back_follows_two_windows_behind(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    hook_start(HOOK_RECORD, 0, 0, "sync_file_range");
    int result = put_mebibytes(d, 39, &err);
    hook_stop();
    assert_int_equal(result, 0);
    assert_string_equal(buf_text(&hook.calls), "sync_file_range 0+8:2\n"
                                               "sync_file_range 8+8:2\n"
                                               "sync_file_range 16+8:2\n"
                                               "sync_file_range 0+8:7\n"
                                               "sync_file_range 24+8:2\n"
                                               "sync_file_range 8+8:7\n");
    d->kind->close(d);
}

static void a_write_back_error_is_not_lost(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    for (int at = 1; at <= 4; at++) {
        hook_start(HOOK_FAIL, at, EIO, "sync_file_range");
        int result = put_mebibytes(d, 24, &err);
        hook_stop();
        expect_error(result, &err, ERR_DESTINATION_UNREACHABLE, "large.tmp/object");
    }
    hook_start(HOOK_FAIL, 1, ENOSYS, "sync_file_range");
    int result = put_mebibytes(d, 24, &err);
    hook_stop();
    assert_int_equal(result, 0);
    d->kind->close(d);
}

/* ---- full and read-only file systems ---- */

static void fill_up(void *ctx)
{
    struct place *p = ctx;
    struct destination *d;
    struct error err = {0};
    char *large = xcalloc(2 << 20, 1);

    child_tmpfs(p->root, 512, 0);
    child_check(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err) == 0);
    child_check(put_group(d, "large", "object", large, 2 << 20, &err) == -1);
    child_check(err.code == ERR_DESTINATION_NO_SPACE && err.errnum == ENOSPC);
    child_check(strstr(err.message, "large.tmp/object") != NULL);
    child_check(!place_has(p, "large.tmp") && !place_has(p, "large"));
    child_check(put_group(d, "small", "object", large, 1000, &err) == 0);
    free(large);
}

static void a_full_disk_is_told_as_such_and_leaves_nothing(void **state)
{
    struct place *p = *state;

    assert_return_code(mkdir(p->root, 0700), errno);
    if (!in_namespace(fill_up, p))
        skip();
}

static int count_groups(void *ctx, const char *group, bool partial, struct error *err)
{
    (void)group;
    (void)partial;
    (void)err;
    ++*(int *)ctx;
    return 0;
}

static void use_read_only(void *ctx)
{
    struct place *p = ctx;
    struct destination *d;
    struct object *o;
    struct put *put;
    struct error err = {0};
    char text[8], warn[64];
    int groups = 0;

    child_tmpfs(p->root, 512, 0);
    child_check(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err) == 0);
    child_check(put_group(d, "group", "object", "text", 4, &err) == 0);
    d->kind->close(d);
    child_check(mount(NULL, p->root, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    child_check(p->kind->open(&p->settings, 0, &d, &err) == 0);
    child_check(d->kind->list(d, count_groups, &groups, &err) == 0 && groups == 1);
    child_check(d->kind->open_object(d, "group", "object", &o, &err) == 0);
    child_check(d->kind->pread(o, text, sizeof text, 0, &err) == 4);
    d->kind->close_object(o);
    child_check(d->kind->put_begin(d, "other", &put, &err) == -1);
    child_check(err.code == ERR_DESTINATION_PERMISSION_DENIED && err.errnum == EROFS);
    child_check(d->kind->delete_object(d, "group", "object", &err) == -1 && err.errnum == EROFS);
    child_check(d->kind->discard(d, "other", &err) == -1 && err.errnum == EROFS);
    child_check(p->kind->check(&p->settings, warn, sizeof warn, &err) == -1);
    child_check(err.code == ERR_DESTINATION_PERMISSION_DENIED && err.errnum == EROFS);
}

static void a_read_only_repo_can_be_read(void **state)
{
    struct place *p = *state;

    assert_return_code(mkdir(p->root, 0700), errno);
    if (!in_namespace(use_read_only, p))
        skip();
}

/* A test that failed may have left its faults switched on. */
static int teardown(void **state)
{
    hook_stop();
    return place_teardown(state);
}

#define local_test(f) cmocka_unit_test_setup_teardown(f, place_setup, teardown)

static int release_hook(void **state)
{
    (void)state;
    buf_release(&hook.calls);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        local_test(a_root_is_made_with_its_parents_durably),
        local_test(a_put_is_durable_in_this_order),
        local_test(a_deletion_is_durable_step_by_step),
        local_test(failing_deletions_are_failures),
        local_test(what_is_read_back_is_asked_of_the_disk_if_that_can_be_had),
        local_test(each_failing_call_fails_the_put_and_leaves_nothing),
        local_test(a_crash_at_each_step_leaves_a_whole_group_or_none),
        local_test(interrupted_and_short_writes_are_completed),
        local_test(a_group_that_appears_meanwhile_is_not_replaced),
        local_test(a_file_system_without_noreplace_will_do),
        local_test(write_back_follows_two_windows_behind),
        local_test(a_write_back_error_is_not_lost),
        local_test(a_full_disk_is_told_as_such_and_leaves_nothing),
        local_test(a_read_only_repo_can_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, release_hook);
}
