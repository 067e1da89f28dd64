/* SPDX-License-Identifier: MIT */
/*
 * test_corruption.c - archives that were damaged or altered at rest: each way has its own word, and
 * none goes unnoticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fixture.h"

#define PAYLOAD  ULID_1 "/payload.bin"
#define MANIFEST ULID_1 "/manifest.yaml"

static struct destination *open_with_fixture(struct place *place)
{
    struct destination *d = place_open(place, DESTINATION_CREATE);

    publish_ok(d, ULID_1);
    return d;
}

static void remove_file(struct place *place, const char *name)
{
    char *path = place_path(place, "%s", name);

    assert_return_code(unlink(path), errno);
    free(path);
}

/* So many bytes can be read before it is told that they are not the ones that were written. */
static void expect_mismatch(struct destination *d, size_t bytes, const char *why)
{
    struct error err = {0};
    size_t read;

    expect_error(read_archive(d, ULID_1, &read, &err), &err, ERR_INTEGRITY_FAILED, why);
    assert_int_equal(read, bytes);
}

static void expect_bad_manifest(struct destination *d, enum error_code code, const char *why)
{
    struct manifest m;
    struct buf text = BUF_INIT;
    struct error err = {0};

    expect_error(archive_manifest(d, ULID_1, &m, &text, &err), &err, code, why);
    assert_int_equal(text.len, 0);
    buf_release(&text);
}

static void an_untouched_archive_is_whole(void **state)
{
    struct destination *d = open_with_fixture(*state);
    struct error err = {0};
    size_t read;

    assert_int_equal(read_archive(d, ULID_1, &read, &err), 0);
    assert_int_equal(read, FIXTURE_BYTES);
    assert_int_equal(err.code, ERR_NONE);
    d->kind->close(d);
}

static void a_payload_of_another_size_is_refused_before_a_byte_of_it_is_given(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);

    for (size_t len = 0; len < FIXTURE_BYTES; len++) {
        place_file(place, PAYLOAD, fixture_payload, len);
        expect_mismatch(d, 0, "truncated");
    }
    place_file(place, PAYLOAD, fixture_payload, FIXTURE_BYTES + 1);
    expect_mismatch(d, 0, "trailing bytes");
    d->kind->close(d);
}

static void every_flipped_bit_of_a_payload_fails_at_its_end(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    char data[FIXTURE_BYTES];

    for (size_t bit = 0; bit < 8 * FIXTURE_BYTES; bit++) {
        memcpy(data, fixture_payload, FIXTURE_BYTES);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        place_file(place, PAYLOAD, data, FIXTURE_BYTES);
        expect_mismatch(d, FIXTURE_BYTES, "altered");
    }
    d->kind->close(d);
}

static void payloads_cannot_be_exchanged(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct manifest m = manifest_of(ULID_2, MANIFEST_V2, FIXTURE_BYTES);
    struct error err = {0};
    char other[FIXTURE_BYTES];

    memset(other, 'x', sizeof other);
    assert_int_equal(publish(d, &m, other, sizeof other, &err), 0);
    place_file(place, PAYLOAD, other, sizeof other);
    expect_mismatch(d, FIXTURE_BYTES, "altered");
    d->kind->close(d);
}

static void a_missing_payload_is_an_incomplete_archive(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct error err = {0};
    size_t read;

    remove_file(place, PAYLOAD);
    expect_error(read_archive(d, ULID_1, &read, &err), &err, ERR_ARCHIVE_INCOMPLETE, "payload.bin");
    d->kind->close(d);
}

static void a_missing_manifest_is_no_archive(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);

    remove_file(place, MANIFEST);
    expect_bad_manifest(d, ERR_MANIFEST_MISSING, ULID_1);
    d->kind->close(d);
}

static void another_stores_archive_is_returned_as_it_is(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct manifest m;
    struct error err = {0};

    place_replace(place, MANIFEST, "store_id: app", "store_id: other");
    assert_int_equal(archive_manifest(d, ULID_1, &m, NULL, &err), 0);
    assert_string_equal(m.store_id, "other");
    manifest_release(&m);
    d->kind->close(d);
}

static void a_newer_manifest_is_unsupported(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);

    place_replace(place, MANIFEST, "manifest_version: 2", "manifest_version: 3");
    expect_bad_manifest(d, ERR_MANIFEST_UNSUPPORTED,
                        ULID_1 "/manifest.yaml: line 1: manifest_vers");
    d->kind->close(d);
}

static void a_broken_manifest_is_named_with_its_line(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);

    place_replace(place, MANIFEST, "size_bytes: ", "size_bytes: '");
    expect_bad_manifest(d, ERR_MANIFEST_INVALID, ULID_1 "/manifest.yaml: line ");
    place_file(place, MANIFEST, "", 0);
    expect_bad_manifest(d, ERR_MANIFEST_INVALID, "empty");
    d->kind->close(d);
}

static void the_manifest_of_another_archive_is_refused(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);

    publish_ok(d, ULID_2);
    struct buf other = place_read(place, ULID_2 "/manifest.yaml");
    place_file(place, MANIFEST, other.data, other.len);
    expect_bad_manifest(d, ERR_MANIFEST_INVALID, "manifest of archive " ULID_2);
    buf_release(&other);
    d->kind->close(d);
}

static void an_oversized_manifest_is_not_even_read(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct buf text = place_read(place, MANIFEST);

    while (text.len <= LIMIT_MANIFEST)
        buf_adds(&text, "#");
    place_file(place, MANIFEST, text.data, LIMIT_MANIFEST + 1);
    faulty_install(d);
    expect_bad_manifest(d, ERR_MANIFEST_INVALID, "more than 1048576 bytes");
    assert_int_equal(faulty.opens, 1);
    assert_int_equal(faulty.preads, 0);
    struct manifest m;
    struct error err = {0};
    place_file(place, MANIFEST, text.data, LIMIT_MANIFEST);
    assert_int_equal(archive_manifest(d, ULID_1, &m, NULL, &err), 0);
    manifest_release(&m);
    d->kind = faulty.real;
    buf_release(&text);
    d->kind->close(d);
}

static void no_flipped_byte_of_a_manifest_makes_it_anothers(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct buf text = place_read(place, MANIFEST);

    for (size_t at = 0; at < text.len; at++)
        for (int bit = 0; bit < 8; bit++) {
            struct manifest m;
            struct error err = {0};
            text.data[at] = (char)(text.data[at] ^ 1 << bit);
            place_file(place, MANIFEST, text.data, text.len);
            text.data[at] = (char)(text.data[at] ^ 1 << bit);
            if (archive_manifest(d, ULID_1, &m, NULL, &err) == 0) {
                assert_string_equal(m.backup_id, ULID_1);
                manifest_release(&m);
            } else {
                assert_true(err.code == ERR_MANIFEST_INVALID ||
                            err.code == ERR_MANIFEST_UNSUPPORTED);
            }
        }
    buf_release(&text);
    d->kind->close(d);
}

/* A reader that has given one byte, and the cache that it reads through. */
static struct reader *start_reading(struct destination *d, struct frame_cache *cache)
{
    struct archive a;
    struct reader *r;
    struct error err = {0};
    char byte;

    assert_int_equal(archive_examine(d, ULID_1, &fixture_policy, &a, &err), 0);
    assert_int_equal(payload_reader(&a, cache, &r, &err), 0);
    archive_release(&a);
    assert_int_equal(reader_read(r, &byte, 1, &err), 1);
    assert_int_equal(byte, fixture_payload[0]);
    return r;
}

static void finishing_early_reads_the_rest_before_judging(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct frame_cache *cache = frame_cache_new(0);
    struct error err = {0};
    char altered[FIXTURE_BYTES];
    struct reader *r = start_reading(d, cache);

    assert_int_equal(reader_finish(r, &err), 0);
    reader_free(r);
    memcpy(altered, fixture_payload, FIXTURE_BYTES);
    altered[FIXTURE_BYTES - 1] ^= 1;
    place_file(place, PAYLOAD, altered, FIXTURE_BYTES);
    r = start_reading(d, cache);
    expect_error(reader_finish(r, &err), &err, ERR_INTEGRITY_FAILED, "altered");
    reader_free(r);
    frame_cache_free(cache);
    d->kind->close(d);
}

static void a_payload_that_shrinks_under_its_reader_is_truncated(void **state)
{
    struct place *place = *state;
    struct destination *d = open_with_fixture(place);
    struct frame_cache *cache = frame_cache_new(0);
    struct error err = {0};
    struct reader *r = start_reading(d, cache);

    place_file(place, PAYLOAD, fixture_payload, FIXTURE_BYTES - 1);
    expect_error(reader_finish(r, &err), &err, ERR_INTEGRITY_FAILED, "truncated");
    reader_free(r);
    frame_cache_free(cache);
    d->kind->close(d);
}

static void aborting_reads_nothing_more(void **state)
{
    struct destination *d = open_with_fixture(*state);
    struct frame_cache *cache = frame_cache_new(0);

    faulty_install(d);
    struct reader *r = start_reading(d, cache);
    int before = faulty.preads;
    reader_free(r);
    assert_int_equal(faulty.preads, before);
    frame_cache_free(cache);
    d->kind = faulty.real;
    d->kind->close(d);
}

static void a_failed_read_is_no_mismatch(void **state)
{
    struct destination *d = open_with_fixture(*state);
    struct frame_cache *cache = frame_cache_new(0);
    struct error err = {0};

    faulty_install(d);
    struct reader *r = start_reading(d, cache);
    faulty.fail_pread = faulty.preads + 1;
    expect_error(reader_finish(r, &err), &err, ERR_DESTINATION_UNREACHABLE, "injected");
    assert_int_equal(err.errnum, EIO);
    reader_free(r);
    frame_cache_free(cache);
    d->kind = faulty.real;
    d->kind->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        place_test(an_untouched_archive_is_whole),
        place_test(a_payload_of_another_size_is_refused_before_a_byte_of_it_is_given),
        place_test(every_flipped_bit_of_a_payload_fails_at_its_end),
        place_test(payloads_cannot_be_exchanged),
        place_test(a_missing_payload_is_an_incomplete_archive),
        place_test(a_missing_manifest_is_no_archive),
        place_test(another_stores_archive_is_returned_as_it_is),
        place_test(a_newer_manifest_is_unsupported),
        place_test(a_broken_manifest_is_named_with_its_line),
        place_test(the_manifest_of_another_archive_is_refused),
        place_test(an_oversized_manifest_is_not_even_read),
        place_test(no_flipped_byte_of_a_manifest_makes_it_anothers),
        place_test(finishing_early_reads_the_rest_before_judging),
        place_test(a_payload_that_shrinks_under_its_reader_is_truncated),
        place_test(aborting_reads_nothing_more),
        place_test(a_failed_read_is_no_mismatch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
