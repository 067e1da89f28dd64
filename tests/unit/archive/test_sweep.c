/* SPDX-License-Identifier: MIT */
/*
 * test_sweep.c - listing, deleting and sweeping archives, with a crash or a failure at each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../destination/hooks.h"
#include "fixture.h"

/* ---- list ---- */

static void archives_are_listed_in_the_order_of_their_time(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct archive_list list = {0};

    expect_archives(d, "");
    publish_ok(d, ULID_3);
    publish_ok(d, ULID_1);
    publish_ok(d, ULID_2);
    expect_archives(d, ULID_1 " " ULID_2 " " ULID_3 " ");
    archive_list_free(&list);
    d->kind->close(d);
}

/* Something of everything that is no archive. */
static void litter(struct place *place, struct destination *d)
{
    char *from = place_path(place, ULID_4), *to = place_path(place, ULID_4 ".tmp");

    publish_ok(d, ULID_4);
    assert_return_code(rename(from, to), errno); /* complete, but never renamed */
    place_mkdir(place, ULID_2);
    place_file(place, ULID_2 "/payload.bin", "abc", 3);
    place_mkdir(place, "01hxyz0123456789abcdefghj1");
    place_file(place, "01hxyz0123456789abcdefghj1/manifest.yaml", "x", 1);
    place_mkdir(place, "photos");
    place_mkdir(place, "photos.tmp");
    place_file(place, "photos/payload.bin", "abc", 3);
    place_file(place, ULID_3, "a file", 6);
    free(from);
    free(to);
}

static void only_whole_archives_are_listed(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);

    publish_ok(d, ULID_1);
    litter(*state, d);
    expect_archives(d, ULID_1 " ");
    d->kind->close(d);
}

static void a_list_is_complete_or_fails(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct archive_list list;

    publish_ok(d, ULID_1);
    publish_ok(d, ULID_2);
    publish_ok(d, ULID_3);
    for (int at = 1; at <= 3; at++) {
        struct error err = {0};
        faulty_install(d);
        faulty.fail_open = at;
        expect_error(archive_list(d, &list, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
        assert_int_equal(err.errnum, EIO);
        d->kind = faulty.real;
    }
    d->kind->close(d);
}

/* ---- delete ---- */

static void the_manifest_is_deleted_first(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct error err = {0};

    publish_ok(d, ULID_1);
    publish_ok(d, ULID_2);
    hook_start(HOOK_RECORD, 0, 0, NULL);
    assert_int_equal(archive_delete(d, ULID_1, &err), 0);
    hook_stop();
    assert_string_equal(buf_text(&hook.calls), "unlinkat manifest.yaml\nfsync " ULID_1 "\n"
                                               "unlinkat payload_ids\nfsync " ULID_1 "\n"
                                               "unlinkat payload.bin\nfsync " ULID_1 "\n"
                                               "unlinkat " ULID_1 "\nfsync repo\n");
    expect_listing(d, ULID_2 " ");
    d->kind->close(d);
}

static void deleting_again_is_fine(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    publish_ok(d, ULID_1);
    assert_int_equal(archive_delete(d, ULID_1, &err), 0);
    assert_int_equal(archive_delete(d, ULID_1, &err), 0);
    assert_int_equal(archive_delete(d, ULID_2, &err), 0);
    d->kind->close(d);
}

static void files_of_others_are_not_deleted_with_an_archive(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct error err = {0};

    publish_ok(d, ULID_1);
    place_file(place, ULID_1 "/notes.txt", "mine", 4);
    expect_error(archive_delete(d, ULID_1, &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "keepfs did not write");
    assert_true(place_has(place, ULID_1 "/notes.txt"));
    expect_archives(d, "");
    d->kind->close(d);
}

static int delete_in_child(void *ctx)
{
    struct place *place = ctx;
    struct destination *d;
    struct error err;

    if (place->kind->open(&place->settings, 0, &d, &err) != 0)
        return -1;
    return archive_delete(d, ULID_1, &err);
}

static void a_crash_at_each_step_of_delete_lists_no_half_archive(void **state)
{
    struct place *place = *state;
    struct buf swept = BUF_INIT;
    bool died = true;
    int whole = 0, half = 0;

    for (int at = 1; died; at++) {
        struct destination *d = place_open(place, DESTINATION_CREATE);
        struct error err = {0};
        publish_ok(d, ULID_1);
        publish_ok(d, ULID_2);
        died = hook_dies(at, delete_in_child, place);
        if (place_has(place, ULID_1 "/manifest.yaml")) {
            whole++;
            expect_archives(d, ULID_1 " " ULID_2 " ");
            expect_whole(d, ULID_1);
            assert_int_equal(archive_delete(d, ULID_1, &err), 0);
        } else {
            half += place_has(place, ULID_1);
            expect_archives(d, ULID_2 " ");
            assert_int_equal(sweep(d, &swept, &err), 0);
        }
        expect_listing(d, ULID_2 " ");
        d->kind->close(d);
        dir_clear(place->dir);
    }
    assert_int_equal(whole, 1);
    assert_int_equal(half, 6); /* from the manifest's fsync to the rmdir */
    buf_release(&swept);
}

/* ---- sweep ---- */

static void a_sweep_removes_leftovers_of_archives_and_nothing_else(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    publish_ok(d, ULID_1);
    litter(place, d);
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), ULID_2 " " ULID_4 "? ");
    expect_listing(d, ULID_1 " 01hxyz0123456789abcdefghj1 photos photos? ");
    assert_true(place_has(place, "photos/payload.bin"));
    assert_true(place_has(place, "01hxyz0123456789abcdefghj1/manifest.yaml"));
    assert_true(place_has(place, ULID_3));
    expect_whole(d, ULID_1);
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), "");
    buf_release(&swept);
    d->kind->close(d);
}

static void what_is_known_to_be_good_is_kept_without_its_manifest(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    publish_ok(d, ULID_1);
    litter(place, d);
    fixture_kept = ULID_2;
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), ULID_4 "? ");
    assert_true(place_has(place, ULID_2));
    fixture_kept = "";
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), ULID_2 " ");
    buf_release(&swept);
    d->kind->close(d);
}

static void a_put_under_way_is_never_swept(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct destination *other = place_open(*state, 0);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3);
    struct buf swept = BUF_INIT;
    struct error err = {0};
    uint64_t size;

    struct publish *p = publish_begin_ok(d, ULID_1);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    expect_error(sweep(other, &swept, &err), &err, ERR_DESTINATION_PATH_CONFLICT, "");
    assert_string_equal(buf_text(&swept), "");
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_int_equal(publish_commit(p, &m, NULL, &size, &size, &err), 0);
    publish_free(p);
    assert_int_equal(sweep(other, &swept, &err), 0);
    expect_archives(other, ULID_1 " ");
    buf_release(&swept);
    other->kind->close(other);
    d->kind->close(d);
}

/* Two partial groups, two half-deleted ones. */
static void make_leftovers(struct place *place)
{
    static const char *const names[] = {ULID_1 ".tmp", ULID_2 ".tmp", ULID_3, ULID_4};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *file = xasprintf("%s/payload.bin", names[i]);
        place_mkdir(place, names[i]);
        place_file(place, file, "abc", 3);
        free(file);
    }
}

static void after_a_doubt_nothing_is_swept(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;

    make_leftovers(place);
    for (int at = 1; at <= 2; at++) {
        struct error err = {0};
        faulty_install(d);
        faulty.fail_open = at;
        expect_error(sweep(d, &swept, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
        assert_string_equal(buf_text(&swept), "");
        d->kind = faulty.real;
    }
    expect_listing(d, ULID_1 "? " ULID_2 "? " ULID_3 " " ULID_4 " ");
    buf_release(&swept);
    d->kind->close(d);
}

static void the_first_failure_ends_a_sweep(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    make_leftovers(place);
    hook_start(HOOK_FAIL, 1, EIO, "unlinkat");
    int result = sweep(d, &swept, &err);
    hook_stop();
    expect_error(result, &err, ERR_DESTINATION_UNREACHABLE, "");
    assert_string_equal(buf_text(&swept), "");
    expect_listing(d, ULID_1 "? " ULID_2 "? " ULID_3 " " ULID_4 " ");
    assert_int_equal(sweep(d, &swept, &err), 0);
    expect_listing(d, "");
    buf_release(&swept);
    d->kind->close(d);
}

static void a_group_with_files_of_others_does_not_block_a_sweep(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    make_leftovers(place);
    place_file(place, ULID_3 "/notes.txt", "mine", 4);
    place_mkdir(place, ULID_1 ".tmp/sub");
    expect_error(sweep(d, &swept, &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "keepfs did not write");
    expect_listing(d, ULID_1 "? " ULID_3 " ");
    assert_true(place_has(place, ULID_3 "/notes.txt"));
    buf_release(&swept);
    d->kind->close(d);
}

/* Says once that the marker is absent, as a store that is slow to agree with itself would. */
static void absence_must_be_seen_twice(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct buf swept = BUF_INIT;
    struct error err = {0};

    publish_ok(d, ULID_1);
    faulty_install(d);
    faulty.fail_open = 1;
    faulty.errnum = ENOENT;
    assert_int_equal(sweep(d, &swept, &err), 0);
    assert_string_equal(buf_text(&swept), "");
    d->kind = faulty.real;
    expect_whole(d, ULID_1);
    buf_release(&swept);
    d->kind->close(d);
}

static int teardown(void **state)
{
    hook_stop();
    return place_teardown(state);
}

#define publish_test(f) cmocka_unit_test_setup_teardown(f, place_setup, teardown)

static int release_hook(void **state)
{
    (void)state;
    buf_release(&hook.calls);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        publish_test(archives_are_listed_in_the_order_of_their_time),
        publish_test(only_whole_archives_are_listed),
        publish_test(a_list_is_complete_or_fails),
        publish_test(the_manifest_is_deleted_first),
        publish_test(deleting_again_is_fine),
        publish_test(files_of_others_are_not_deleted_with_an_archive),
        publish_test(a_crash_at_each_step_of_delete_lists_no_half_archive),
        publish_test(a_sweep_removes_leftovers_of_archives_and_nothing_else),
        publish_test(what_is_known_to_be_good_is_kept_without_its_manifest),
        publish_test(a_put_under_way_is_never_swept),
        publish_test(after_a_doubt_nothing_is_swept),
        publish_test(the_first_failure_ends_a_sweep),
        publish_test(a_group_with_files_of_others_does_not_block_a_sweep),
        publish_test(absence_must_be_seen_twice),
    };

    return cmocka_run_group_tests(tests, NULL, release_hook);
}
