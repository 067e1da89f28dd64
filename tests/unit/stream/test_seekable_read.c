/* SPDX-License-Identifier: MIT */
/*
 * test_seekable_read.c - what the zstd library wrote is read back at any offset; what is damaged or
 * made up is refused, and the message says what it is. Streams are built here by hand, so that
 * reader and writer cannot agree on a mistake.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "built_stream.h"

#include "keepfs/limits.h"

#include <stdio.h>

/* Opens what is stored and reads it from begin to end into `out`. */
static int read_stored(struct memory *m, struct buf *out, struct error *err)
{
    struct frame_cache *c = frame_cache_new(0);
    struct view *v = NULL;
    char piece[4096];
    ssize_t n = -1;

    buf_truncate(out, 0);
    if (seekable_view_new(&m->view, c, false, &v, err) == 0) {
        while ((n = view_pread(v, piece, sizeof piece, out->len, err)) > 0)
            buf_add(out, piece, (size_t)n);
        if (n == 0)
            assert_int_equal(out->len, v->size);
        view_free(v);
    }
    frame_cache_free(c);
    assert_true(m->freed);
    return n < 0 ? -1 : 0;
}

static void assert_reads(const struct buf *stored, const char *content, size_t len)
{
    struct memory m = memory_of(stored);
    struct buf out = BUF_INIT;
    struct error err = {0};

    if (read_stored(&m, &out, &err) != 0)
        fail_msg("%zu bytes: %s", len, err.message);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(out.len, len);
    assert_memory_equal(buf_text(&out), content, len);
    buf_release(&out);
}

static void assert_refused(const struct buf *stored, const char *why)
{
    struct memory m = memory_of(stored);
    struct buf out = BUF_INIT;
    struct error err = {0};

    if (read_stored(&m, &out, &err) == 0)
        fail_msg("read as if all were well, not: %s", why);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" is not: %s", err.message, why);
    buf_release(&out);
}

/* Ends what was built with a table, and releases it. */
static void assert_built_refused(struct built *s, const char *why)
{
    build_table(s, 0);
    assert_refused(&s->bytes, why);
    buf_release(&s->bytes);
}

static void what_zstd_wrote_reads_back_whole(void **state)
{
    static const size_t frames[] = {1000, SEEKABLE_FRAME};
    static const int levels[] = {-7, 1, 3, 19};
    char *text = text_of(3 * SEEKABLE_FRAME + 5);
    struct built s;
    (void)state;

    for (size_t f = 0; f < 2; f++) {
        const size_t sizes[] = {0, 1, frames[f] - 1, frames[f], frames[f] + 1, 3 * frames[f] + 5};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (size_t l = 0; l < (f == 0 ? 4 : 2); l++) {
                build(&s, text, sizes[i], frames[f], levels[l]);
                build_table(&s, 0);
                assert_reads(&s.bytes, text, sizes[i]);
                buf_release(&s.bytes);
            }
    }
    free(text);
}

static void any_offset_and_length_gives_its_bytes(void **state)
{
    char *text = text_of(20000);
    struct frame_cache *c = frame_cache_new(LIMIT_PREFETCHERS);
    struct built s;
    struct view *v;
    struct error err;
    unsigned seed = 3;
    char piece[3000];
    (void)state;

    build(&s, text, 20000, 700, 3);
    build_table(&s, 0);
    struct memory m = memory_of(&s.bytes);
    assert_int_equal(seekable_view_new(&m.view, c, true, &v, &err), 0);
    assert_int_equal(v->size, 20000);
    for (int i = 0; i < 500; i++) {
        size_t at = (size_t)rand_r(&seed) % 20100;
        size_t len = (size_t)rand_r(&seed) % sizeof piece;
        size_t rest = at < 20000 ? 20000 - at : 0;
        ssize_t n = view_pread(v, piece, len, at, &err);
        assert_int_equal(n, len < rest ? len : rest);
        assert_memory_equal(piece, text + at, (size_t)n);
    }
    view_free(v);
    assert_true(m.freed);
    frame_cache_free(c);
    buf_release(&s.bytes);
    free(text);
}

static void a_table_with_checksums_is_read(void **state)
{
    char *text = text_of(2500);
    struct built s;
    (void)state;

    for (size_t len = 0; len <= 2500; len += 2500) {
        build(&s, text, len, 1000, 3);
        build_table(&s, CHECKSUMS);
        assert_reads(&s.bytes, text, len);
        buf_release(&s.bytes);
    }
    free(text);
}

/* The table is read in pieces, here unlike each other. */
static void a_table_of_many_frames_is_read(void **state)
{
    enum { COUNT = 10000, FRAME = 100 };
    char *content = xcalloc(COUNT, FRAME), *text = text_of(FRAME);
    struct built s = {0}, kinds[2];
    struct buf entries = BUF_INIT;
    (void)state;

    build(&kinds[0], content, FRAME, FRAME, 1);
    build(&kinds[1], text, FRAME, FRAME, 1);
    assert_int_not_equal(kinds[0].stored[0], kinds[1].stored[0]);
    for (size_t i = 0; i < COUNT; i++) {
        const struct built *kind = &kinds[i * i / 1000 % 2];
        buf_add(&s.bytes, kind->bytes.data, kind->bytes.len);
        put_u32(&entries, kind->stored[0]);
        put_u32(&entries, FRAME);
        if (kind == &kinds[1])
            memcpy(content + i * FRAME, text, FRAME);
    }
    put_header(&s.bytes, (uint32_t)entries.len);
    buf_add(&s.bytes, entries.data, entries.len);
    put_footer(&s.bytes, COUNT, 0);
    assert_reads(&s.bytes, content, COUNT * FRAME);
    buf_release(&kinds[0].bytes);
    buf_release(&kinds[1].bytes);
    buf_release(&entries);
    buf_release(&s.bytes);
    free(content);
    free(text);
}

static void nothing_that_zstd_can_write_is_taken_for_impossible(void **state)
{
    char *noise = noise_of(300000), *zeros = xcalloc(1, SEEKABLE_FRAME_MAX);
    static const size_t sizes[] = {1000, 65535, 65536, 131071, 131072, 131073, 262145, 300000};
    struct built s;
    (void)state;

    for (size_t i = 1; i < 300; i++)
        for (int z = 0; z < 2; z++) {
            build(&s, z ? zeros : noise, i, i, z ? 19 : 1);
            build_table(&s, 0);
            assert_reads(&s.bytes, z ? zeros : noise, i);
            buf_release(&s.bytes);
        }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        build(&s, noise, sizes[i], sizes[i], 1);
        build_table(&s, 0);
        assert_reads(&s.bytes, noise, sizes[i]);
        buf_release(&s.bytes);
    }
    build(&s, zeros, SEEKABLE_FRAME_MAX, SEEKABLE_FRAME_MAX, 1);
    build_table(&s, 0);
    assert_reads(&s.bytes, zeros, SEEKABLE_FRAME_MAX);
    buf_release(&s.bytes);
    free(noise);
    free(zeros);
}

/*
 * Where a flipped bit may stay unnoticed, as long as the content is right: not in a frame's first
 * bytes (magic number, descriptor, size), nor in its checksum, nor in the table.
 */
static bool in_a_block(const struct built *s, size_t at, unsigned *frame)
{
    enum { HEADER = 7, CHECKSUM = 4 };

    for (*frame = 0; *frame < s->frames; ++*frame) {
        if (at < s->stored[*frame])
            return at >= HEADER && at < s->stored[*frame] - CHECKSUM;
        at -= s->stored[*frame];
    }
    return false;
}

static void a_flipped_bit_is_noticed_and_its_place_named_or_changes_no_byte(void **state)
{
    char *text = text_of(1600), where[64];
    struct buf out = BUF_INIT;
    struct built s;
    unsigned frame, unnoticed = 0;
    (void)state;

    build(&s, text, 1600, 600, 3);
    build_table(&s, 0);
    for (size_t bit = 0; bit < s.bytes.len * 8; bit++) {
        struct error err = {0};
        bool block = in_a_block(&s, bit / 8, &frame);
        s.bytes.data[bit / 8] = (char)(s.bytes.data[bit / 8] ^ 1 << bit % 8);
        struct memory m = memory_of(&s.bytes);
        if (read_stored(&m, &out, &err) == 0) {
            if (!block || out.len != 1600 || memcmp(out.data, text, 1600) != 0)
                fail_msg("bit %zu of byte %zu went unnoticed", bit % 8, bit / 8);
            unnoticed++;
        } else {
            snprintf(where, sizeof where, "damaged frame %u: ", frame);
            assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
            if (frame < s.frames ? strncmp(err.message, where, strlen(where)) != 0
                                 : strncmp(err.message, "damaged ", 8) != 0)
                fail_msg("bit %zu of byte %zu: %s", bit % 8, bit / 8, err.message);
        }
        s.bytes.data[bit / 8] = (char)(s.bytes.data[bit / 8] ^ 1 << bit % 8);
    }
    print_message("%u of %zu bits change nothing\n", unnoticed, s.bytes.len * 8);
    buf_release(&out);
    buf_release(&s.bytes);
    free(text);
}

static void a_stream_cut_at_any_length_is_refused(void **state)
{
    char *text = text_of(1600);
    struct built s;
    (void)state;

    build(&s, text, 1600, 600, 3);
    build_table(&s, 0);
    for (size_t len = s.bytes.len; len-- > 0;) {
        buf_truncate(&s.bytes, len);
        assert_refused(&s.bytes, len < TABLE_HEADER + TABLE_FOOTER
                                     ? "damaged seek table: the stream's"
                                     : "damaged seek table: the stream does not end with one");
    }
    buf_release(&s.bytes);
    free(text);
}

static void what_is_more_than_one_stream_is_refused(void **state)
{
    char *text = text_of(1600);
    struct built s, more;
    struct buf joined = BUF_INIT;
    (void)state;

    build(&s, text, 1600, 600, 3);
    build_table(&s, 0);
    build(&more, text, 700, 600, 3);
    build_table(&more, 0);
    buf_add(&joined, s.bytes.data, s.bytes.len);
    buf_add(&joined, more.bytes.data, more.bytes.len);
    assert_refused(&joined, "damaged seek table: its frames have");
    buf_add(&s.bytes, "x", 1);
    assert_refused(&s.bytes, "damaged seek table: the stream does not end with one");
    buf_release(&joined);
    buf_release(&s.bytes);
    buf_release(&more.bytes);
    free(text);
}

static void a_table_that_does_not_fit_its_frames_is_refused(void **state)
{
    char *text = text_of(3000);
    struct built s;
    (void)state;

    build(&s, text, 1000, 1000, 3); /* two entries swapped */
    build_frame(&s, text, 1000, (struct options){.level = 19});
    uint32_t first = s.stored[0];
    assert_int_not_equal(first, s.stored[1]);
    s.stored[0] = s.stored[1];
    s.stored[1] = first;
    assert_built_refused(&s, "damaged frame 0: its size is not that of the seek table");

    build(&s, text, 3000, 1000, 3);
    s.content[1] = 999;
    assert_built_refused(&s, "damaged seek table: frame 1 has 999 bytes of content");
    build(&s, text, 3000, 1000, 3);
    s.content[2] = 1001;
    assert_built_refused(&s, "damaged seek table: frame 2 has 1001 bytes of content");
    build(&s, text, 3000, 1000, 3);
    s.content[2] = 999;
    assert_built_refused(&s, "damaged frame 2: its content size is not that of the seek table");
    build(&s, text, 3000, 1000, 3);
    s.content[2] = 0;
    assert_built_refused(&s, "damaged seek table: frame 2 cannot have");
    build(&s, text, 1000, 1000, 3);
    build_frame(&s, text, 0, (struct options){.level = 3});
    assert_built_refused(&s, "damaged seek table: frame 1 cannot have");
    memset(&s, 0, sizeof s);
    build_frame(&s, text, 0, (struct options){.level = 3});
    assert_built_refused(&s, "damaged seek table: frame 0 cannot have");
    build(&s, text, 3000, 1000, 3);
    s.stored[2]--;
    assert_built_refused(&s, "damaged seek table: its frames have");
    build(&s, text, 3000, 1000, 3);
    s.stored[2]++;
    assert_built_refused(&s, "damaged seek table: frame 2 cannot have");
    build(&s, text, 3000, 1000, 3);
    s.frames--;
    assert_built_refused(&s, "damaged seek table: its frames have");
    free(text);
}

static void sizes_that_no_frame_has_are_refused_before_anything_is_decoded(void **state)
{
    char *zeros = xcalloc(1, SEEKABLE_FRAME_MAX + 1);
    struct built s;
    (void)state;

    build(&s, zeros, 10, 10, 3);
    s.content[0] = (uint32_t)SEEKABLE_FRAME_MAX;
    assert_built_refused(&s, "damaged seek table: frame 0 cannot have");
    build(&s, zeros, SEEKABLE_FRAME_MAX + 1, SEEKABLE_FRAME_MAX + 1, 1);
    assert_built_refused(&s, "damaged seek table: frame 0 cannot have");
    memset(&s, 0, sizeof s);
    buf_add(&s.bytes, zeros, 100000);
    s.stored[s.frames] = 100000;
    s.content[s.frames++] = 1;
    assert_built_refused(&s, "damaged seek table: frame 0 cannot have");
    free(zeros);
}

static void a_table_that_is_not_as_the_format_says_is_refused(void **state)
{
    static const uint32_t claims[] = {4, 1000, 0x7fffffff, LIMIT_FRAMES, LIMIT_FRAMES + 1};
    char *text = text_of(3000);
    struct built s;
    (void)state;

    for (unsigned bit = 0; bit < 7; bit++) {
        build(&s, text, 3000, 1000, 3);
        build_table(&s, (unsigned char)(1 << bit));
        assert_refused(&s.bytes, "damaged seek table: its descriptor is 0x");
        buf_release(&s.bytes);
    }
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        uint32_t claim = htole32(claims[i]);
        build(&s, text, 3000, 1000, 3);
        build_table(&s, 0);
        memcpy(s.bytes.data + s.bytes.len - TABLE_FOOTER, &claim, 4);
        assert_refused(&s.bytes, claims[i] > LIMIT_FRAMES ? "frames are more than"
                                 : claims[i] == 4         ? "does not begin where 4"
                                                          : "do not fit the stream's");
        buf_release(&s.bytes);
    }
    for (size_t at = 0; at < TABLE_HEADER; at++) {
        build(&s, text, 3000, 1000, 3);
        size_t table = s.bytes.len;
        build_table(&s, 0);
        s.bytes.data[table + at] ^= 1;
        assert_refused(&s.bytes, "damaged seek table: it does not begin where 3");
        buf_release(&s.bytes);
    }
    free(text);
}

static void a_frame_of_another_kind_is_refused(void **state)
{
    static const struct options o[] = {{.level = 3, .no_checksum = true},
                                       {.level = 3, .no_size = true}};
    static const char *const why[] = {"damaged frame 1: it has no content checksum",
                                      "damaged frame 1: its content size is not"};
    char *text = text_of(2000);
    struct built s;
    (void)state;

    for (size_t i = 0; i < 2; i++) {
        build(&s, text, 1000, 1000, 3);
        build_frame(&s, text + 1000, 1000, o[i]);
        assert_built_refused(&s, why[i]);
    }
    build(&s, text, 1000, 1000, 3); /* one entry for two frames */
    build_frame(&s, text, 500, (struct options){.level = 3});
    build_frame(&s, text, 500, (struct options){.level = 3});
    s.frames = 2;
    s.content[1] = 1000;
    s.stored[1] += s.stored[2];
    assert_built_refused(&s, "damaged frame 1: its content size is not");
    for (unsigned i = 0; i < 16; i++) { /* skippable frames */
        build(&s, text, 1000, 1000, 3);
        put_u32(&s.bytes, 0x184D2A50 + i);
        put_u32(&s.bytes, 100);
        buf_add(&s.bytes, text, 100);
        s.stored[s.frames] = 108;
        s.content[s.frames++] = 1000;
        assert_built_refused(&s, "damaged frame 1: it is not a zstd frame");
    }
    free(text);
}

static void a_frame_header_with_reserved_bits_or_a_dictionary_is_refused(void **state)
{
    static const struct {
        char bits;
        const char *why;
    } cases[] = {{0x08, "damaged frame 0: reserved bits are set"},
                 {0x10, "damaged frame 0: reserved bits are set"},
                 {0x01, "damaged frame 0: it asks for a dictionary"},
                 {0x02, "damaged frame 0: it asks for a dictionary"},
                 {0x03, "damaged frame 0: it asks for a dictionary"}};
    char *text = text_of(1000);
    struct built s;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        build(&s, text, 1000, 1000, 3);
        s.bytes.data[4] = (char)(s.bytes.data[4] | cases[i].bits);
        assert_built_refused(&s, cases[i].why);
    }
    free(text);
}

static void what_the_stored_view_fails_with_comes_back_unchanged(void **state)
{
    char *text = text_of(3000);
    struct buf out = BUF_INIT;
    struct built s;
    int preads = 0;
    (void)state;

    build(&s, text, 3000, 1000, 3);
    build_table(&s, 0);
    for (bool failed = true; failed; preads++) {
        struct error err = {0};
        struct memory m = memory_of(&s.bytes);
        m.fail_at = preads + 1;
        failed = read_stored(&m, &out, &err) != 0;
        if (failed) {
            assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
            assert_string_equal(err.message, "the disk is gone");
        }
    }
    assert_int_equal(preads - 1, 3 + 3); /* of the table, and a frame each */
    buf_release(&out);
    buf_release(&s.bytes);
    free(text);
}

/* A file that was cut after its size was taken. */
static void bytes_that_are_gone_are_truncation(void **state)
{
    char *text = text_of(3000), piece[1000];
    struct frame_cache *c = frame_cache_new(0);
    struct buf out = BUF_INIT;
    struct built s;
    struct view *v;
    (void)state;

    build(&s, text, 3000, 1000, 3);
    build_table(&s, 0);
    for (size_t lost = 1; lost < TABLE_HEADER + 3 * 8 + TABLE_FOOTER; lost++) {
        struct error err = {0};
        struct memory m = memory_of(&s.bytes);
        m.len -= lost;
        assert_int_equal(read_stored(&m, &out, &err), -1);
        assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
        assert_string_equal(err.message, "damaged seek table: truncated");
    }
    for (size_t left = 0; left < s.stored[0] + s.stored[1]; left++) {
        struct error err = {0};
        struct memory m = memory_of(&s.bytes);
        assert_int_equal(seekable_view_new(&m.view, c, false, &v, &err), 0);
        m.len = left;
        assert_int_equal(view_pread(v, piece, 1000, 1000, &err), -1);
        assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
        assert_non_null(strstr(err.message, "damaged frame 1: truncated"));
        view_free(v);
    }
    frame_cache_free(c);
    buf_release(&out);
    buf_release(&s.bytes);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_zstd_wrote_reads_back_whole),
        cmocka_unit_test(any_offset_and_length_gives_its_bytes),
        cmocka_unit_test(a_table_with_checksums_is_read),
        cmocka_unit_test(a_table_of_many_frames_is_read),
        cmocka_unit_test(nothing_that_zstd_can_write_is_taken_for_impossible),
        cmocka_unit_test(a_flipped_bit_is_noticed_and_its_place_named_or_changes_no_byte),
        cmocka_unit_test(a_stream_cut_at_any_length_is_refused),
        cmocka_unit_test(what_is_more_than_one_stream_is_refused),
        cmocka_unit_test(a_table_that_does_not_fit_its_frames_is_refused),
        cmocka_unit_test(sizes_that_no_frame_has_are_refused_before_anything_is_decoded),
        cmocka_unit_test(a_table_that_is_not_as_the_format_says_is_refused),
        cmocka_unit_test(a_frame_of_another_kind_is_refused),
        cmocka_unit_test(a_frame_header_with_reserved_bits_or_a_dictionary_is_refused),
        cmocka_unit_test(what_the_stored_view_fails_with_comes_back_unchanged),
        cmocka_unit_test(bytes_that_are_gone_are_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
