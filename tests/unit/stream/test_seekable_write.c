/* SPDX-License-Identifier: MIT */
/*
 * test_seekable_write.c - the bytes of a seekable stream: any zstd decoder gives the content back,
 * frames and seek table are as stream/seekable.h says, and nothing but content and level decides
 * them. Threads and failures are in test_seekable_write_failures.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "seekable_sink.h"

#include <unistd.h>
#include <zstd.h>

#define LONGEST (20 * F + 7)

static const size_t sizes[] = {0, 1, F - 1, F, F + 1, 2 * F, 3 * F + 5, LONGEST};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static char *text, *noise, *zeros; /* LONGEST bytes each */

static int make_contents(void **state)
{
    uint64_t seed = 7;

    (void)state;
    text = make_text(LONGEST, 1);
    noise = xmalloc(LONGEST);
    for (size_t i = 0; i < LONGEST; i++)
        noise[i] = (char)random_next(&seed);
    zeros = xcalloc(1, LONGEST);
    return 0;
}

static int free_contents(void **state)
{
    (void)state;
    free(text);
    free(noise);
    free(zeros);
    return 0;
}

static uint32_t le32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* One frame of RFC 8878 with content size and checksum, without dictionary, that is `content`. */
static void expect_frame(const char *frame, size_t frame_len, const char *content, size_t len)
{
    char *decoded = xmalloc(F);

    assert_int_equal(ZSTD_findFrameCompressedSize(frame, frame_len), frame_len);
    assert_int_equal(le32(frame), ZSTD_MAGICNUMBER);
    assert_int_equal(frame[4] & 0x07, 0x04);
    assert_int_equal(ZSTD_getFrameContentSize(frame, frame_len), len);
    assert_int_equal(ZSTD_decompress(decoded, F, frame, frame_len), len);
    assert_memory_equal(decoded, content, len);
    free(decoded);
}

/* Frames and table, byte for byte: nothing before, between or behind them. */
static void expect_layout(const struct buf *stream, const char *content, size_t len)
{
    size_t frames = (len + F - 1) / F, table_len = 8 + 8 * frames + 9, at = 0;

    assert_true(stream->len >= table_len);
    const char *table = stream->data + stream->len - table_len;
    assert_int_equal(le32(table), 0x184D2A5E);
    assert_int_equal(le32(table + 4), table_len - 8);
    for (size_t i = 0; i < frames; i++) {
        const char *entry = table + 8 + 8 * i;
        size_t part = i + 1 < frames ? F : len - i * F;
        assert_true(le32(entry) <= stream->len - table_len - at);
        assert_int_equal(le32(entry + 4), part);
        expect_frame(stream->data + at, le32(entry), content + i * F, part);
        at += le32(entry);
    }
    assert_int_equal(at, stream->len - table_len);
    assert_int_equal(le32(table + table_len - 9), frames);
    assert_int_equal(table[table_len - 5], 0);
    assert_int_equal(le32(table + table_len - 4), 0x8F92EAB1);
}

/* What a decoder that knows nothing of seek tables makes of it. */
static void expect_decodes(const struct buf *stream, const char *content, size_t len)
{
    ZSTD_DCtx *decoder = ZSTD_createDCtx();
    ZSTD_inBuffer in = {stream->data, stream->len, 0};
    char *decoded = xmalloc(len + 1);
    ZSTD_outBuffer out = {decoded, len + 1, 0};
    size_t hint = 1;

    while (in.pos < in.size && out.pos <= len) {
        hint = ZSTD_decompressStream(decoder, &out, &in);
        if (ZSTD_isError(hint))
            fail_msg("at %zu of %zu: %s", in.pos, in.size, ZSTD_getErrorName(hint));
    }
    assert_int_equal(hint, 0);
    assert_int_equal(out.pos, len);
    assert_memory_equal(decoded, content, len);
    free(decoded);
    ZSTD_freeDCtx(decoder);
}

static void expect_same(const struct buf *a, const struct buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

static void a_stream_of_any_size_is_frames_and_their_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct buf stream = compress(text, sizes[i], 3, 2);
        expect_layout(&stream, text, sizes[i]);
        expect_decodes(&stream, text, sizes[i]);
        buf_release(&stream);
    }
}

static void an_empty_stream_is_a_table_without_frames(void **state)
{
    static const unsigned char expected[] = {0x5E, 0x2A, 0x4D, 0x18, 9,    0,    0,    0,   0,
                                             0,    0,    0,    0,    0xB1, 0xEA, 0x92, 0x8F};
    struct buf stream = compress("", 0, 3, 2);

    (void)state;
    assert_int_equal(stream.len, sizeof expected);
    assert_memory_equal(stream.data, expected, sizeof expected);
    buf_release(&stream);
}

/* Also pieces of length 0, which change nothing. */
static size_t random_piece(uint64_t *seed, size_t left)
{
    static const size_t most[] = {1, 700, 5000, F / 3, F + 1, 3 * F};
    size_t piece = random_next(seed) % (most[random_next(seed) % COUNT(most)] + 1);

    return piece < left ? piece : left;
}

static void the_sizes_of_the_writes_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct buf whole = compress(text, sizes[i], 1, 2);
        for (uint64_t seed = 1; seed <= 3; seed++) {
            uint64_t next = seed * 99991;
            struct sink s;
            struct error err;
            sink_init(&s);
            struct writer *w = seekable_ok(&s, 1, 2);
            for (size_t at = 0, n; at < sizes[i]; at += n) {
                n = random_piece(&next, sizes[i] - at);
                assert_int_equal(writer_write(w, text + at, n, &err), 0);
            }
            assert_int_equal(writer_finish(w, &err), 0);
            expect_same(&whole, &s.got);
            writer_free(w);
            sink_release(&s);
        }
        buf_release(&whole);
    }
}

static void the_number_of_workers_does_not_matter(void **state)
{
    static const unsigned workers[] = {2, 3, 4, 0, 99};

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct buf one = compress(text, sizes[i], 3, 1);
        for (size_t k = 0; k < COUNT(workers); k++) {
            struct buf many = compress(text, sizes[i], 3, workers[k]);
            expect_same(&one, &many);
            buf_release(&many);
        }
        buf_release(&one);
    }
}

/* Which contexts a frame's worker has used before is chance, so it must leave no trace. */
static void each_frame_is_what_a_new_context_makes_of_it(void **state)
{
    static const int levels[] = {-7, -1, 1, 2, 3, 5, 9, 13, 19};
    const size_t len = 4 * F + 5;
    char *frame = xmalloc(ZSTD_compressBound(F));

    (void)state;
    for (size_t k = 0; k < COUNT(levels); k++) {
        struct buf stream = compress(text, len, levels[k], 1);
        for (size_t at = 0, done = 0; done < len; done += F) {
            ZSTD_CCtx *context = ZSTD_createCCtx();
            ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, levels[k]);
            ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
            size_t n = ZSTD_compress2(context, frame, ZSTD_compressBound(F), text + done,
                                      len - done < F ? len - done : F);
            ZSTD_freeCCtx(context);
            assert_true(n <= stream.len - at);
            assert_memory_equal(stream.data + at, frame, n);
            at += n;
        }
        expect_layout(&stream, text, len);
        buf_release(&stream);
    }
    free(frame);
}

static void a_higher_level_makes_fewer_bytes(void **state)
{
    static const int levels[] = {-7, 1, 9, 19};
    size_t before = SIZE_MAX;

    (void)state;
    for (size_t k = 0; k < COUNT(levels); k++) {
        struct buf stream = compress(text, F + 5, levels[k], 2);
        assert_true(stream.len < before);
        before = stream.len;
        buf_release(&stream);
    }
}

static void zeros_shrink_and_noise_grows_by_little(void **state)
{
    struct buf small = compress(zeros, 3 * F + 5, 3, 2);
    struct buf large = compress(noise, 3 * F + 5, 3, 2);

    (void)state;
    expect_layout(&small, zeros, 3 * F + 5);
    expect_decodes(&small, zeros, 3 * F + 5);
    assert_true(small.len < 4096);
    expect_layout(&large, noise, 3 * F + 5);
    expect_decodes(&large, noise, 3 * F + 5);
    assert_true(large.len < 3 * F + 4096);
    buf_release(&small);
    buf_release(&large);
}

static void put_file(const char *dir, const char *name, const char *data, size_t len)
{
    char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void the_zstd_command_tests_decodes_and_lists_it(void **state)
{
    static const size_t lengths[] = {0, 1, 3 * F + 5};
    char dir[] = "/tmp/keepfs-unit.XXXXXX";

    (void)state;
    if (system("command -v zstd >/dev/null") != 0) {
        print_message("zstd is not installed\n");
        skip();
    }
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct buf stream = compress(text, lengths[i], 3, 2);
        put_file(dir, "content", text, lengths[i]);
        put_file(dir, "s.zst", stream.data, stream.len);
        /* The list's second line begins with the numbers of all frames and of skippable ones. */
        char *command = xasprintf("cd %s && zstd -q -t s.zst && zstd -dc s.zst | cmp - content && "
                                  "zstd --list s.zst | awk 'NR == 2 {found = $1 == %zu && $2 == 1} "
                                  "END {exit !found}'",
                                  dir, (lengths[i] + F - 1) / F + 1);
        if (system(command) != 0)
            fail_msg("%s", command);
        free(command);
        buf_release(&stream);
    }
    char *command = xasprintf("rm -r %s", dir);
    assert_int_equal(system(command), 0);
    free(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_any_size_is_frames_and_their_table),
        cmocka_unit_test(an_empty_stream_is_a_table_without_frames),
        cmocka_unit_test(the_sizes_of_the_writes_do_not_matter),
        cmocka_unit_test(the_number_of_workers_does_not_matter),
        cmocka_unit_test(each_frame_is_what_a_new_context_makes_of_it),
        cmocka_unit_test(a_higher_level_makes_fewer_bytes),
        cmocka_unit_test(zeros_shrink_and_noise_grows_by_little),
        cmocka_unit_test(the_zstd_command_tests_decodes_and_lists_it),
    };
    return cmocka_run_group_tests(tests, make_contents, free_contents);
}
