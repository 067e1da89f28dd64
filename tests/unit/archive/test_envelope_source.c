/* SPDX-License-Identifier: MIT */
/*
 * test_envelope_source.c - what a frame leaves behind in the cache's memory: all of its content, or
 * no byte of plaintext if anything is wrong with it. The test stands in for the cache to see that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "envelope_fixture.h"

static struct frame_source *source;

void *frame_scratch(struct frame_scratch *s, size_t size)
{
    static unsigned char memory[1 << 20];

    (void)s;
    assert_true(size <= sizeof memory);
    return memory;
}

struct view *framed_view_new(struct frame_cache *c, struct frame_source *made, bool prefetch)
{
    static struct view none;

    (void)c;
    (void)prefetch;
    source = made;
    return &none;
}

/* Loads frame `index` of what is stored into `out`, which was full of 0xaa. */
static int load(const struct buf *stored, const struct envelope *e, uint64_t index, size_t len,
                unsigned char *out, struct error *err)
{
    struct memory_view m = memory_view_of(stored->data, stored->len);
    struct key *key = test_key(0);
    struct view *v;

    memset(out, 0xaa, len);
    assert_int_equal(envelope_view_new(&m.view, key, e, NULL, false, &v, err), 0);
    key_free(key);
    int result = source->ops->load(source, index, out, len, NULL, err);
    source->ops->free(source);
    assert_true(m.freed);
    return result;
}

static void a_right_frame_is_loaded_whole(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size;
        struct buf stored = seal(small[v], 2 * f + 5);
        unsigned char *out = xmalloc(f);
        struct error err;
        for (uint64_t i = 0; i < 3; i++) {
            size_t len = i < 2 ? f : 5;
            assert_int_equal(load(&stored, small[v], i, len, out, &err), 0);
            for (size_t b = 0; b < len; b++)
                assert_int_equal(out[b], pattern_at((size_t)i * f + b));
        }
        free(out);
        buf_release(&stored);
    }
}

/* Neither the plaintext nor a part of it; zeros or what was there before. */
static void assert_nothing_leaks(const struct buf *stored, const struct envelope *e, uint64_t index,
                                 size_t len)
{
    unsigned char *out = xmalloc(len);
    struct error err;

    assert_int_equal(load(stored, e, index, len, out, &err), -1);
    for (size_t b = 0; b < len; b++)
        if (out[b] != 0 && out[b] != 0xaa)
            fail_msg("v%d frame %d: byte %zu is %02x", e->version, (int)index, b, out[b]);
    free(out);
}

static void a_frame_with_a_wrong_tag_leaves_no_plaintext(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++)
        for (uint64_t i = 0; i < 3; i++) {
            size_t f = small[v]->frame_size;
            struct buf stored = seal(small[v], 2 * f + 5);
            size_t end = i < 2 ? frame_at(small[v], (size_t)i + 1) : stored.len;
            stored.data[end - 1] ^= 1;
            assert_nothing_leaks(&stored, small[v], i, i < 2 ? f : 5);
            buf_release(&stored);
        }
}

static void a_frame_in_the_wrong_role_leaves_no_plaintext(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size;
        /* v1: a data frame cut so that it could be the final one cannot be; v2: it can */
        struct buf cut = seal(small[v], 2 * f + 5), longer = seal(small[v], f + 5);
        buf_truncate(&cut, frame_at(small[v], 2) - (v == 0 ? 1 : 0));
        assert_nothing_leaks(&cut, small[v], 1, v == 0 ? f - 1 : f);
        char *tail = xcalloc(1, 2 * f);
        buf_add(&longer, tail, 2 * f);
        assert_nothing_leaks(&longer, small[v], 1, f);
        free(tail);
        buf_release(&cut);
        buf_release(&longer);
    }
    struct buf full = seal(&small_v2, small_v2.frame_size);
    buf_add(&full, full.data, 100);
    assert_nothing_leaks(&full, &small_v2, 0, small_v2.frame_size);
    buf_release(&full);
}

static void a_v1_frame_with_a_wrong_length_field_leaves_no_plaintext(void **state)
{
    struct buf stored = seal(&small_v1, 2 * 1024 + 5);

    (void)state;
    stored.data[frame_at(&small_v1, 1) + 14] ^= 1;
    assert_nothing_leaks(&stored, &small_v1, 1, 1024);
    buf_release(&stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_frame_is_loaded_whole),
        cmocka_unit_test(a_frame_with_a_wrong_tag_leaves_no_plaintext),
        cmocka_unit_test(a_frame_in_the_wrong_role_leaves_no_plaintext),
        cmocka_unit_test(a_v1_frame_with_a_wrong_length_field_leaves_no_plaintext),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
