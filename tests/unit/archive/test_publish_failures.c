/* SPDX-License-Identifier: MIT */
/*
 * test_publish_failures.c - a destination fails while archives are listed, deleted and swept, or
 * changes one while it is read.
 *
 * The destination is `local` but for the calls that `broken` names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fixture.h"

/* ---- the destination ---- */

static struct {
    const struct destination_kind *real;
    bool list;           /* fails */
    const char *deleted; /* the object whose deletion fails; NULL = none */
    bool group;          /* its deletion fails */
    int size_off;        /* an object seems to have so many bytes more */
    struct buf calls;    /* "name ", the objects that were asked to go */
} broken;

static int broken_list(struct destination *d, destination_list_fn fn, void *ctx, struct error *err)
{
    if (broken.list)
        return error_sys(err, SIDE_DESTINATION, EIO, "injected");
    return broken.real->list(d, fn, ctx, err);
}

static int broken_delete_object(struct destination *d, const char *group, const char *name,
                                struct error *err)
{
    buf_addf(&broken.calls, "%s ", name);
    if (broken.deleted && strcmp(name, broken.deleted) == 0)
        return error_sys(err, SIDE_DESTINATION, EIO, "injected");
    return broken.real->delete_object(d, group, name, err);
}

static int broken_delete_group(struct destination *d, const char *group, struct error *err)
{
    buf_adds(&broken.calls, "group ");
    if (broken.group)
        return error_sys(err, SIDE_DESTINATION, EIO, "injected");
    return broken.real->delete_group(d, group, err);
}

static int broken_open_object(struct destination *d, const char *group, const char *name,
                              struct object **out, struct error *err)
{
    if (broken.real->open_object(d, group, name, out, err) != 0)
        return -1;
    (*out)->size += (uint64_t)broken.size_off;
    return 0;
}

static struct destination *open_broken(const struct place *place)
{
    static struct destination_kind kind;
    struct destination *d = place_open(place, DESTINATION_CREATE);

    buf_release(&broken.calls);
    memset(&broken, 0, sizeof broken);
    broken.real = d->kind;
    kind = *d->kind;
    kind.list = broken_list;
    kind.delete_object = broken_delete_object;
    kind.delete_group = broken_delete_group;
    kind.open_object = broken_open_object;
    d->kind = &kind;
    return d;
}

static void close_broken(struct destination *d)
{
    d->kind = broken.real;
    d->kind->close(d);
    buf_release(&broken.calls);
}

/* ---- reading ---- */

static void a_manifest_that_changes_while_it_is_read_is_not_taken(void **state)
{
    struct destination *d = open_broken(*state);
    struct buf text = BUF_INIT;
    struct error err = {0};
    struct manifest m;

    publish_ok(d, ULID_1);
    for (int off = -1; off <= 1; off += 2) {
        broken.size_off = off;
        expect_error(archive_manifest(d, ULID_1, &m, &text, &err), &err, ERR_MANIFEST_INVALID,
                     ULID_1 "/manifest.yaml: its size changed while it was read");
        assert_int_equal(text.len, 0);
    }
    broken.size_off = 0;
    assert_int_equal(archive_manifest(d, ULID_1, &m, &text, &err), 0);
    manifest_release(&m);
    buf_release(&text);
    close_broken(d);
}

/* ---- listing ---- */

static void a_failed_listing_is_no_empty_one(void **state)
{
    struct destination *d = open_broken(*state);
    struct archive_list list;
    struct buf swept = BUF_INIT;
    struct error err = {0};

    publish_ok(d, ULID_1);
    place_mkdir(*state, ULID_2 ".tmp");
    broken.list = true;
    expect_error(archive_list(d, &list, &err), &err, ERR_DESTINATION_UNREACHABLE,
                 "cannot list the archives: injected");
    expect_error(sweep(d, &swept, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
    assert_int_equal(swept.len, 0);
    broken.list = false;
    assert_true(place_has(*state, ULID_2 ".tmp"));
    expect_archives(d, ULID_1 " ");
    buf_release(&swept);
    close_broken(d);
}

/* ---- deleting ---- */

static void expect_deletion_fails(struct destination *d, const char *calls)
{
    struct error err = {0};

    buf_truncate(&broken.calls, 0);
    expect_error(archive_delete(d, ULID_1, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
    assert_string_equal(buf_text(&broken.calls), calls);
}

/* The manifest goes first: before it is gone the archive is whole, after it nobody lists it. And
 * what comes after a failure stays, so that the next try finds it. */
static void a_deletion_ends_at_the_first_failure_and_is_taken_up_again(void **state)
{
    struct destination *d = open_broken(*state);
    struct error err = {0};

    publish_ok(d, ULID_1);
    broken.deleted = ARCHIVE_MANIFEST;
    expect_deletion_fails(d, "manifest.yaml ");
    expect_whole(d, ULID_1);

    broken.deleted = ARCHIVE_PAYLOAD_IDS;
    expect_deletion_fails(d, "manifest.yaml payload_ids ");
    expect_archives(d, "");
    assert_true(place_has(*state, ULID_1 "/payload_ids"));
    assert_true(place_has(*state, ULID_1 "/payload.bin"));

    broken.deleted = ARCHIVE_PAYLOAD;
    expect_deletion_fails(d, "manifest.yaml payload_ids payload.bin ");
    assert_false(place_has(*state, ULID_1 "/payload_ids"));
    assert_true(place_has(*state, ULID_1 "/payload.bin"));

    broken.deleted = NULL;
    broken.group = true;
    expect_deletion_fails(d, "manifest.yaml payload_ids payload.bin group ");
    assert_true(place_has(*state, ULID_1));

    broken.group = false;
    assert_int_equal(archive_delete(d, ULID_1, &err), 0);
    expect_listing(d, "");
    close_broken(d);
}

/* ---- sweeping ---- */

/* The look before the removal is the third: two groups are in the inventory. */
static void a_doubt_right_before_the_removal_ends_the_sweep(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    publish_ok(d, ULID_1);
    publish_ok(d, ULID_2);
    assert_int_equal(d->kind->delete_object(d, ULID_1, ARCHIVE_MANIFEST, &err), 0);
    faulty_install(d);
    faulty.fail_open = 3;
    expect_error(sweep(d, &swept, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
    assert_int_equal(swept.len, 0);
    assert_true(place_has(place, ULID_1 "/payload.bin"));
    assert_true(place_has(place, ULID_1 "/payload_ids"));

    faulty.fail_open = 0;
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), ULID_1 " ");
    expect_listing(d, ULID_2 " ");
    buf_release(&swept);
    d->kind = faulty.real;
    d->kind->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        place_test(a_manifest_that_changes_while_it_is_read_is_not_taken),
        place_test(a_failed_listing_is_no_empty_one),
        place_test(a_deletion_ends_at_the_first_failure_and_is_taken_up_again),
        place_test(a_doubt_right_before_the_removal_ends_the_sweep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
