/* SPDX-License-Identifier: MIT */
/*
 * Proves of archive/payload.h: whatever an archive is stored as, its content comes back the same,
 * at any offset, in order, by several threads at once, and before it is published; nothing is
 * believed that the layers contradict; a whole read judges every stored byte, an aborted one reads
 * nothing more.
 */
#include "archive_lab.h"

#include <pthread.h>

static const struct lab_recipe plain = {.compress = false};
static const struct lab_recipe zstd = {.compress = true};
static const struct lab_recipe v2 = {.encrypt = true, .frame_size = 64 * KIB};
static const struct lab_recipe v2_zstd = {
    .encrypt = true, .compress = true, .frame_size = 64 * KIB};
static const struct lab_recipe v2_usual = {.encrypt = true, .compress = true};
static const struct lab_recipe v1 = {
    .version = MANIFEST_V1, .encrypt = true, .frame_size = 64 * KIB};
static const struct lab_recipe v1_plain = {.version = MANIFEST_V1};

static const struct lab_recipe *const kinds[] = {&plain,    &zstd, &v2,      &v2_zstd,
                                                 &v2_usual, &v1,   &v1_plain};
static const uint64_t sizes[] = {0, 1, 64 * KIB - 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 5};

enum { KINDS = sizeof kinds / sizeof kinds[0], SIZES = sizeof sizes / sizeof sizes[0] };

/* ---- an archive that is open ---- */

struct bench {
    struct lab_recipe recipe;
    struct lab_archive archive;
    struct lab lab;
    struct archive_policy policy;
    struct archive examined;
    struct manifest manifest;
    struct frame_cache *cache;
};

static void begin(struct bench *b, const struct lab_recipe *r, uint64_t size, unsigned prefetchers)
{
    b->recipe = *r;
    lab_make(&b->archive, r, lab_fill, size, &b->manifest);
    b->lab = lab_over(&b->archive);
    b->policy = lab_policy(r);
    lab_examine_ok(&b->lab, &b->policy, &b->examined);
    b->cache = frame_cache_new(prefetchers);
}

static void end(struct bench *b)
{
    assert_int_equal(b->lab.opened, 0);
    frame_cache_free(b->cache);
    archive_release(&b->examined);
    lab_archive_release(&b->archive);
}

static struct payload *open_ok(struct bench *b, bool prefetch)
{
    struct payload *p;
    struct error err = {0};

    lab_ok(payload_open(&b->examined, b->cache, prefetch, &p, &err), &err);
    return p;
}

static struct reader *reader_ok(struct bench *b)
{
    struct reader *r;
    struct error err = {0};

    lab_ok(payload_reader(&b->examined, b->cache, &r, &err), &err);
    return r;
}

/* Reads `size` bytes and finds the end behind them. */
static void expect_content(struct reader *r, lab_fill_fn fill, uint64_t size, size_t piece)
{
    unsigned char *buf = xmalloc(piece);
    struct error err = {0};
    uint64_t at = 0;
    ssize_t n;

    while ((n = reader_read(r, buf, piece, &err)) > 0) {
        lab_expect(fill, at, buf, (size_t)n);
        at += (uint64_t)n;
    }
    lab_ok((int)n, &err);
    assert_int_equal(at, size);
    free(buf);
}

static void expect_open_fails(struct bench *b, enum error_code code, const char *why)
{
    struct payload *p;
    struct reader *r;
    struct error err = {0};

    lab_failed(payload_open(&b->examined, b->cache, false, &p, &err), &err, code, why);
    err = (struct error){0};
    lab_failed(payload_reader(&b->examined, b->cache, &r, &err), &err, code, why);
    assert_int_equal(b->lab.opened, 0);
}

/* Opens it, reads `before` bytes and judges the whole. What is neither encrypted nor compressed has
 * nothing to be checked by until then. */
static int read_whole(struct bench *b, size_t before, struct error *err)
{
    unsigned char *buf = xmalloc(before + 1);
    struct reader *r;
    int result = payload_reader(&b->examined, b->cache, &r, err);

    if (result == 0) {
        ssize_t n = before ? reader_read(r, buf, before, err) : 0;
        if (n > 0 && (b->recipe.encrypt || b->recipe.compress))
            lab_expect(lab_fill, 0, buf, (size_t)n);
        result = n < 0 ? -1 : reader_finish(r, err);
        reader_free(r);
    }
    assert_int_equal(b->lab.opened, 0);
    free(buf);
    return result;
}

/* ---- whole and random ---- */

static void test_the_whole_content_comes_back_and_is_judged_right(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < SIZES; s++) {
            struct bench b;
            struct error err = {0};
            begin(&b, kinds[k], sizes[s], 0);
            struct reader *r = reader_ok(&b);
            expect_content(r, lab_fill, sizes[s], 77777);
            lab_ok(reader_finish(r, &err), &err);
            reader_free(r);
            end(&b);
        }
}

/* As many bytes as there are, up to `len`. */
static void expect_pread(struct payload *p, uint64_t offset, size_t len)
{
    uint64_t size = payload_size(p), left = offset < size ? size - offset : 0;
    unsigned char *buf = xmalloc(len + 1);
    struct error err = {0};
    ssize_t n = payload_pread(p, buf, len, offset, &err);

    if (n < 0)
        fail_msg("%s", err.message);
    assert_int_equal(n, left < len ? left : len);
    lab_expect(lab_fill, offset, buf, (size_t)n);
    free(buf);
}

static void test_any_bytes_at_any_offset_are_those_of_the_content(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < SIZES; s++) {
            struct bench b;
            begin(&b, kinds[k], sizes[s], LIMIT_PREFETCHERS);
            struct payload *p = open_ok(&b, true);
            assert_int_equal(payload_size(p), sizes[s]);
            for (uint64_t i = 0; i < 60; i++)
                expect_pread(p, lab_mix(i) % (sizes[s] + 10), lab_mix(~i) % 200000);
            expect_pread(p, 0, (size_t)sizes[s] + 1);
            expect_pread(p, sizes[s], 1);
            expect_pread(p, UINT64_MAX, 100);
            expect_pread(p, 0, 0);
            payload_close(p);
            end(&b);
        }
}

static void test_all_but_what_is_stored_as_it_is_says_that_it_is_checked(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        begin(&b, kinds[k], 1000, 0);
        struct payload *p = open_ok(&b, false);
        assert_int_equal(payload_checked(p), kinds[k] != &plain && kinds[k] != &v1_plain);
        payload_close(p);
        end(&b);
    }
}

static void test_closing_nothing_is_fine(void **state)
{
    (void)state;
    payload_close(NULL);
}

static void test_a_payload_outlives_the_archive_it_was_opened_from(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        begin(&b, kinds[k], MIB + 1, 0);
        struct payload *p = open_ok(&b, false);
        archive_release(&b.examined);
        expect_pread(p, 1000, MIB);
        payload_close(p);
        end(&b);
    }
}

static void fill_other(uint64_t offset, unsigned char *out, size_t len)
{
    lab_fill(offset + 5, out, len);
}

static void test_two_payloads_in_one_cache_do_not_mix(void **state)
{
    struct lab_archive other;
    struct lab lab = lab_over(&other);
    struct archive examined;
    struct bench b;
    struct payload *second;
    struct error err = {0};
    unsigned char buf[100];

    (void)state;
    begin(&b, &v2_zstd, 3 * MIB + 5, 0);
    lab_make(&other, &v2_zstd, fill_other, 3 * MIB + 5, NULL);
    lab_examine_ok(&lab, &b.policy, &examined);
    struct payload *first = open_ok(&b, false);
    lab_ok(payload_open(&examined, b.cache, false, &second, &err), &err);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t at = lab_mix(i) % (3 * MIB);
        expect_pread(first, at, sizeof buf);
        assert_int_equal(payload_pread(second, buf, sizeof buf, at, &err), sizeof buf);
        lab_expect(fill_other, at, buf, sizeof buf);
    }
    payload_close(second);
    payload_close(first);
    archive_release(&examined);
    lab_archive_release(&other);
    end(&b);
}

/* ---- threads ---- */

struct reading {
    struct payload *payload;
    uint64_t seed;
    int failed; /* reads that did not give the content */
};

static void *read_about(void *ctx)
{
    struct reading *r = ctx;
    size_t room = 100000;
    unsigned char *buf = xmalloc(room), *expected = xmalloc(room);

    for (uint64_t i = 0; i < 40; i++) {
        struct error err = {0};
        uint64_t at = lab_mix(r->seed + i) % payload_size(r->payload);
        size_t len = 1 + lab_mix(r->seed - i) % room;
        ssize_t n = payload_pread(r->payload, buf, len, at, &err);
        if (n > 0)
            lab_fill(at, expected, (size_t)n);
        r->failed += n <= 0 || memcmp(buf, expected, (size_t)n) != 0;
    }
    free(expected);
    free(buf);
    return NULL;
}

static void test_several_threads_read_one_payload_at_once(void **state)
{
    enum { THREADS = 4 };

    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct reading readings[THREADS];
        pthread_t threads[THREADS];
        struct bench b;
        begin(&b, kinds[k], 3 * MIB + 5, LIMIT_PREFETCHERS);
        struct payload *p = open_ok(&b, true);
        for (size_t i = 0; i < THREADS; i++) {
            readings[i] = (struct reading){.payload = p, .seed = 1000 * i};
            assert_int_equal(pthread_create(&threads[i], NULL, read_about, &readings[i]), 0);
        }
        for (size_t i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(readings[i].failed, 0);
        }
        payload_close(p);
        end(&b);
    }
}

/* ---- judging and aborting ---- */

/* The whole is judged, whether all, a part or nothing of it was read before. */
static void test_a_damaged_byte_anywhere_fails_a_whole_read(void **state)
{
    static const size_t before[] = {0, 1000, MIB + 1};

    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        begin(&b, kinds[k], MIB + 1, 0);
        for (uint64_t i = 0; i < 9; i++) {
            struct error err = {0};
            size_t at = 100 + lab_mix(i) % (b.archive.payload.len - 100);
            b.archive.payload.data[at] ^= 0x10;
            assert_int_equal(read_whole(&b, before[i % 3], &err), -1);
            b.archive.payload.data[at] ^= 0x10;
            assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
        }
        end(&b);
    }
}

/* The same record once more under the same key: each frame of it is authentic. */
static void test_what_only_the_digest_contradicts_fails_a_whole_read(void **state)
{
    static const struct lab_recipe *const all[] = {&plain, &v1_plain, &v2, &v2_zstd, &v1};

    (void)state;
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        struct lab_archive again;
        struct bench b;
        struct error err = {0};
        begin(&b, all[k], MIB + 1, 0);
        lab_make(&again, all[k], lab_fill, MIB + 1, NULL);
        if (!b.recipe.encrypt)
            again.payload.data[MIB / 2] ^= 1;
        memcpy(b.archive.payload.data, again.payload.data, again.payload.len);
        lab_failed(read_whole(&b, 1000, &err), &err, ERR_INTEGRITY_FAILED, "altered");
        lab_archive_release(&again);
        end(&b);
    }
}

static void test_frames_before_a_damaged_one_can_still_be_read(void **state)
{
    static const struct lab_recipe *const checked[] = {&zstd, &v2, &v1};
    enum { LENGTH = MIB / 2 };
    char *buf = xmalloc(LENGTH);

    (void)state;
    for (size_t k = 0; k < sizeof checked / sizeof checked[0]; k++) {
        struct bench b;
        struct error err = {0};
        begin(&b, checked[k], 3 * MIB + 5, 0);
        struct payload *p = open_ok(&b, false);
        b.archive.payload.data[b.archive.payload.len / 2] ^= 1;
        expect_pread(p, 0, MIB);
        expect_pread(p, 3 * MIB - 20, 25);
        lab_failed((int)payload_pread(p, buf, LENGTH, 5 * MIB / 4, &err), &err,
                   ERR_INTEGRITY_FAILED, ARCHIVE_PAYLOAD ": damaged frame");
        payload_close(p);
        end(&b);
    }
    free(buf);
}

static void test_an_abort_reads_nothing_more(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        struct error err = {0};
        char part[1000];
        begin(&b, kinds[k], 3 * MIB + 5, 0);
        struct reader *r = reader_ok(&b);
        assert_int_equal(reader_read(r, part, sizeof part, &err), sizeof part);
        lab_expect(lab_fill, 0, part, sizeof part);
        int preads = b.lab.preads;
        reader_free(r);
        assert_int_equal(b.lab.preads, preads);
        reader_free(reader_ok(&b));
        end(&b);
    }
}

static void test_a_failed_read_is_reported_as_itself_and_can_be_tried_again(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        struct error err = {0};
        char buf[10];
        if (kinds[k] == &v2_usual) /* its one frame was read with the seek table */
            continue;
        begin(&b, kinds[k], MIB + 1, 0);
        struct payload *p = open_ok(&b, false);
        struct reader *r = reader_ok(&b);
        b.lab.fail_pread = ARCHIVE_PAYLOAD;
        lab_failed((int)payload_pread(p, buf, sizeof buf, 5, &err), &err,
                   error_classify(SIDE_DESTINATION, EIO), "lab: ");
        assert_int_equal(err.errnum, EIO);
        lab_failed(reader_finish(r, &err), &err, error_classify(SIDE_DESTINATION, EIO), "lab: ");
        reader_free(r);
        b.lab.fail_pread = NULL;
        expect_pread(p, 5, 1000);
        payload_close(p);
        end(&b);
    }
}

/* Its only frame, so that the envelope alone could not say which of the two it is. */
static void test_damage_is_not_called_a_wrong_key_once_the_key_was_found_right(void **state)
{
    struct bench b;
    struct error err = {0};
    char buf[10];

    (void)state;
    begin(&b, &v1, 1000, 0);
    b.archive.payload.data[500] ^= 1;
    struct payload *p = open_ok(&b, false);
    lab_failed((int)payload_pread(p, buf, sizeof buf, 0, &err), &err, ERR_INTEGRITY_FAILED,
               ARCHIVE_PAYLOAD);
    payload_close(p);
    lab_failed(read_whole(&b, 0, &err), &err, ERR_INTEGRITY_FAILED, ARCHIVE_PAYLOAD);
    end(&b);
}

/* ---- what the layers contradict ---- */

static void more_content(struct manifest *m)
{
    m->content_bytes++;
}

static void test_a_manifest_that_claims_another_content_size_is_not_believed(void **state)
{
    static const struct lab_recipe *const with[] = {&zstd, &v2, &v2_zstd};

    (void)state;
    for (size_t k = 0; k < sizeof with / sizeof with[0]; k++) {
        struct lab_recipe r = *with[k];
        struct bench b;
        r.alter = more_content;
        begin(&b, &r, 3000, 0);
        expect_open_fails(&b, ERR_INTEGRITY_FAILED, "it holds 3000 bytes of content");
        end(&b);
    }
}

static void test_a_payload_that_changed_its_size_since_it_was_examined_is_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        begin(&b, kinds[k], MIB + 1, 0);
        buf_adds(&b.archive.payload, "x");
        expect_open_fails(&b, ERR_INTEGRITY_FAILED, "trailing bytes");
        buf_truncate(&b.archive.payload, b.archive.payload.len - 2);
        expect_open_fails(&b, ERR_INTEGRITY_FAILED, "truncated");
        b.archive.has_payload = false;
        expect_open_fails(&b, ERR_ARCHIVE_INCOMPLETE, ARCHIVE_PAYLOAD);
        end(&b);
    }
}

/* All of it is authentic, but of another record. Version 1 cannot tell. */
static void test_the_payload_of_another_archive_is_called_that(void **state)
{
    struct lab_recipe elsewhere = v2;
    struct lab_archive other;
    struct bench b;

    (void)state;
    begin(&b, &v2, 3000, 0);
    elsewhere.ulid = LAB_ULID_2;
    lab_make(&other, &elsewhere, lab_fill, 3000, NULL);
    buf_truncate(&b.archive.payload, 0);
    buf_add(&b.archive.payload, other.payload.data, other.payload.len);
    expect_open_fails(&b, ERR_INTEGRITY_FAILED, "wrong archive");
    lab_archive_release(&other);
    end(&b);
}

/* ---- before it is published ---- */

static struct object *open_object(struct bench *b)
{
    struct object *o;
    struct error err = {0};

    lab_ok(archive_open(&b->lab.destination, b->archive.ulid, ARCHIVE_PAYLOAD, &o, &err), &err);
    return o;
}

static void test_a_payload_that_is_not_published_yet_is_read_back(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < SIZES; s++) {
            struct bench b;
            struct reader *r;
            struct error err = {0};
            begin(&b, kinds[k], sizes[s], 0);
            struct key *key = b.recipe.encrypt ? lab_load(LAB_KEY) : NULL;
            lab_ok(payload_reader_new(open_object(&b), &b.manifest, key, b.cache, &r, &err), &err);
            key_free(key);
            expect_content(r, lab_fill, sizes[s], 500000);
            lab_ok(reader_finish(r, &err), &err);
            reader_free(r);
            end(&b);
        }
}

static void test_a_payload_that_was_stored_wrong_is_found_before_it_is_published(void **state)
{
    struct key *key = lab_load(LAB_KEY);

    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct bench b;
        struct reader *r;
        struct error err = {0};
        begin(&b, kinds[k], MIB + 1, 0);
        b.archive.payload.data[b.archive.payload.len - 100] ^= 1;
        int result = payload_reader_new(open_object(&b), &b.manifest, key, b.cache, &r, &err);
        if (result == 0) {
            result = reader_finish(r, &err);
            reader_free(r);
        }
        lab_failed(result, &err, ERR_INTEGRITY_FAILED, ARCHIVE_PAYLOAD);
        buf_truncate(&b.archive.payload, b.archive.payload.len - 1);
        lab_failed(payload_reader_new(open_object(&b), &b.manifest, key, b.cache, &r, &err), &err,
                   ERR_INTEGRITY_FAILED, "truncated");
        end(&b);
    }
    key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_whole_content_comes_back_and_is_judged_right),
        cmocka_unit_test(test_any_bytes_at_any_offset_are_those_of_the_content),
        cmocka_unit_test(test_all_but_what_is_stored_as_it_is_says_that_it_is_checked),
        cmocka_unit_test(test_closing_nothing_is_fine),
        cmocka_unit_test(test_a_payload_outlives_the_archive_it_was_opened_from),
        cmocka_unit_test(test_two_payloads_in_one_cache_do_not_mix),
        cmocka_unit_test(test_several_threads_read_one_payload_at_once),
        cmocka_unit_test(test_a_damaged_byte_anywhere_fails_a_whole_read),
        cmocka_unit_test(test_what_only_the_digest_contradicts_fails_a_whole_read),
        cmocka_unit_test(test_frames_before_a_damaged_one_can_still_be_read),
        cmocka_unit_test(test_an_abort_reads_nothing_more),
        cmocka_unit_test(test_a_failed_read_is_reported_as_itself_and_can_be_tried_again),
        cmocka_unit_test(test_damage_is_not_called_a_wrong_key_once_the_key_was_found_right),
        cmocka_unit_test(test_a_manifest_that_claims_another_content_size_is_not_believed),
        cmocka_unit_test(test_a_payload_that_changed_its_size_since_it_was_examined_is_refused),
        cmocka_unit_test(test_the_payload_of_another_archive_is_called_that),
        cmocka_unit_test(test_a_payload_that_is_not_published_yet_is_read_back),
        cmocka_unit_test(test_a_payload_that_was_stored_wrong_is_found_before_it_is_published),
    };

    return cmocka_run_group_tests(tests, lab_keys_setup, NULL);
}
