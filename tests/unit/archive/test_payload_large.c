/* SPDX-License-Identifier: MIT */
/*
 * Proves of archive/payload.h: offsets and sizes above 4 GiB are right in every layer, when they
 * are written, read at any place and read as a whole. The stream is zeros but for a few marks, so
 * that it is stored in a few hundred KiB of memory. With sanitizers it is only 64 MiB long.
 */
#include "archive_lab.h"

#ifdef LAB_SANITIZED
#define SIZE ((uint64_t)64 << 20)
#else
#define SIZE ((uint64_t)5 << 30)
#endif

/* Where offsets of 31 and 32 bits end, at the ends, in the middle and at an edge of frames. */
static const uint64_t marks[] = {
    0, 3 * MIB - 3, SIZE / 2 - 1, ((uint64_t)2 << 30) - 4, ((uint64_t)4 << 30) - 4, SIZE - 8};

enum { MARKS = sizeof marks / sizeof marks[0], MARK = 8 };

static void fill_marks(uint64_t offset, unsigned char *out, size_t len)
{
    memset(out, 0, len);
    for (size_t i = 0; i < MARKS; i++)
        for (uint64_t k = 0; k < MARK; k++)
            if (marks[i] + k >= offset && marks[i] + k < offset + len)
                out[marks[i] + k - offset] = (unsigned char)(0xA0 + MARK * i + k);
}

static void expect_marks(const struct archive *archive, struct frame_cache *cache)
{
    unsigned char buf[64];
    struct payload *p;
    struct error err = {0};

    lab_ok(payload_open(archive, cache, true, &p, &err), &err);
    assert_int_equal(payload_size(p), SIZE);
    for (size_t i = 0; i < MARKS; i++) {
        uint64_t at = marks[i] < 20 ? 0 : marks[i] - 20, left = at < SIZE ? SIZE - at : 0;
        ssize_t n = payload_pread(p, buf, sizeof buf, at, &err);
        assert_int_equal(n, left < sizeof buf ? left : sizeof buf);
        lab_expect(fill_marks, at, buf, (size_t)n);
    }
    payload_close(p);
}

static void expect_whole(const struct archive *archive, struct frame_cache *cache)
{
    unsigned char *buf = xmalloc(MIB), *expected = xmalloc(MIB);
    struct reader *r;
    struct error err = {0};
    uint64_t at = 0;
    ssize_t n;

    lab_ok(payload_reader(archive, cache, &r, &err), &err);
    while ((n = reader_read(r, buf, MIB, &err)) > 0) {
        fill_marks(at, expected, (size_t)n);
        assert_memory_equal(buf, expected, (size_t)n);
        at += (uint64_t)n;
    }
    lab_ok((int)n, &err);
    assert_int_equal(at, SIZE);
    lab_ok(reader_finish(r, &err), &err);
    reader_free(r);
    free(expected);
    free(buf);
}

static void test_a_stream_above_4_gib_is_right_at_every_offset(void **state)
{
    static const struct lab_recipe recipe = {.encrypt = true, .compress = true};
    struct archive_policy policy = lab_policy(&recipe);
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive archive;

    (void)state;
    lab_make(&a, &recipe, fill_marks, SIZE, NULL);
    lab_examine_ok(&lab, &policy, &archive);
    assert_int_equal(archive.manifest.content_bytes, SIZE);
    struct frame_cache *cache = frame_cache_new(LIMIT_PREFETCHERS);
    expect_marks(&archive, cache);
    expect_whole(&archive, cache);
    frame_cache_free(cache);
    archive_release(&archive);
    assert_int_equal(lab.opened, 0);
    lab_archive_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_above_4_gib_is_right_at_every_offset),
    };

    return cmocka_run_group_tests(tests, lab_keys_setup, NULL);
}
