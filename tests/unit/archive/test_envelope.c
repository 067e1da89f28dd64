/* SPDX-License-Identifier: MIT */
/*
 * test_envelope.c - both versions of the envelope, undamaged: what is written is read back at any
 * size and offset, byte for byte what an independent implementation makes, one write per frame;
 * failures on either side of the writer are passed on. Damage is in test_envelope_damage.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "envelope_fixture.h"
#include "keepfs/limits.h"
#include "stream/digest.h"

#include <pthread.h>

/* ---- sizes ---- */

static void round_trip_sizes_come_back_whole_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size;
        const size_t sizes[] = {0, 1, 1024, f - 1, f, f + 1, 2 * f, 3 * f + 5};
        const size_t pieces[] = {777, f - 1, f, f + 1, 4 * f};
        for (size_t i = 0; i < COUNT(sizes); i++)
            for (size_t p = 0; p < COUNT(pieces); p++) {
                struct buf stored = seal_with(small[v], 0, sizes[i], pieces[p], true);
                assert_opens(stored.data, stored.len, small[v], sizes[i]);
                buf_release(&stored);
            }
    }
}

static void one_byte_at_a_time_is_the_same(void **state)
{
    struct buf stored = seal_with(&small_v1, 0, 3 * 1024 + 5, 1, true);

    (void)state;
    assert_opens(stored.data, stored.len, &small_v1, 3 * 1024 + 5);
    buf_release(&stored);
}

static void frames_stand_where_the_arithmetic_says_and_content_size_needs_no_key(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size, over = overhead_of(small[v]);
        const size_t sizes[] = {0, 1, f - 1, f, f + 1, 2 * f, 3 * f + 5};
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t len = sizes[i];
            size_t frames = small[v]->version == ENVELOPE_V1 ? len / f + 1
                            : len == 0                       ? 1
                                                             : (len + f - 1) / f;
            struct buf stored = seal(small[v], len);
            struct memory_view m = memory_view_of(stored.data, stored.len);
            struct error err;
            uint64_t content;
            assert_int_equal(stored.len, header_of(small[v]) + frames * over + len);
            assert_int_equal(envelope_content_size(&m.view, small[v]->version, &content, &err), 0);
            assert_int_equal(content, len);
            assert_false(m.freed);
            buf_release(&stored);
        }
    }
}

static void default_frame_size_is_4_mib_in_v1_and_1_mib_in_v2(void **state)
{
    const size_t len = 5 << 20;

    (void)state;
    for (int version = ENVELOPE_V1; version <= ENVELOPE_V2; version++) {
        struct envelope e = {.version = version, .store_id = "app", .record = RECORD_A};
        struct buf stored = seal_with(&e, 0, len, LIMIT_STREAM_CHUNK, true);
        assert_memory_equal(stored.data, version == ENVELOPE_V1 ? "DFS1\x01" : "DFS1\x02", 5);
        assert_memory_equal(stored.data + 5, version == ENVELOPE_V1 ? "\0\x40\0\0" : "\0\x10\0\0",
                            4);
        assert_opens(stored.data, stored.len, &e, len);
        buf_release(&stored);
    }
}

static void empty_writes_change_nothing(void **state)
{
    struct error err;

    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        struct sink s = {.writer.ops = &sink_ops};
        struct key *key = test_key(0);
        struct writer *w;
        assert_int_equal(envelope_writer_new(&s.writer, key, small[v], &w, &err), 0);
        key_free(key);
        assert_int_equal(writer_write(w, "", 0, &err), 0);
        assert_int_equal(s.writes, 0);
        assert_int_equal(write_pieces(w, small[v]->frame_size, 1000, false, &err), 0);
        assert_int_equal(writer_write(w, "", 0, &err), 0);
        assert_int_equal(writer_finish(w, &err), 0);
        writer_free(w);
        assert_opens(s.got.data, s.got.len, small[v], small[v]->frame_size);
        buf_release(&s.got);
    }
}

/* ---- known answers, made with python-cryptography from envelope.h ---- */

static unsigned char next_random;

/* 1, 2, 3 ... */
static int counting_random(void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)buf)[i] = ++next_random;
    return 0;
}

static const char v1_hex[] =
    "4446533101"                                       /* magic, version */
    "00000008"                                         /* frame size */
    "0102030405060708090a0b0c"                         /* frame 0: nonce, */
    "00000018"                                         /* length, */
    "6d8f36b983b8d0e32d4d6c003c8531904da83f773c4ece60" /* ciphertext and tag */
    "0d0e0f101112131415161718"                         /* frame 1: nonce, */
    "00000018"                                         /* length, */
    "a4040ec02a6118f580962af08f75587127dcdaa44a0ea8e2" /* ciphertext and tag */
    "191a1b1c1d1e1f2021222324"                         /* frame 2: nonce, */
    "00000013"                                         /* length, */
    "53102fce7ee131d508a889205eb8088e185c51" /* ciphertext and tag */;
static const char v2_hex[] =
    "444653310200010000" /* magic, version, frame size */
    "01000000000000"     /* suite, zeros */
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20" /* salt */
    "b67e732f83138163c1dbbe3ada4673c03875f6956f094a7eadc40bef0dfeb2c4" /* commit */
    "6d02f549261a95793f2a83d83f0407067009e4b665749563d02326b39da42a6c72a697" /* frame 0 */;

static void assert_hex(const struct buf *got, const char *hex)
{
    assert_int_equal(got->len, strlen(hex) / 2);
    for (size_t i = 0; i < got->len; i++) {
        char two[3];
        snprintf(two, sizeof two, "%02x", (unsigned char)got->data[i]);
        if (memcmp(two, hex + 2 * i, 2) != 0)
            fail_msg("byte %zu is %s, not %.2s", i, two, hex + 2 * i);
    }
}

static void known_bytes_are_written(const struct envelope *e, const char *hex)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct envelope fixed = *e;
    struct key *key = test_key(0);
    struct error err;
    struct writer *w;

    fixed.random = counting_random;
    next_random = 0;
    assert_int_equal(envelope_writer_new(&s.writer, key, &fixed, &w, &err), 0);
    key_free(key);
    assert_int_equal(writer_write(w, "hello, envelope\nxyz", 19, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_hex(&s.got, hex);
    buf_release(&s.got);
}

static void the_bytes_are_those_of_an_independent_implementation(void **state)
{
    struct envelope v1 = small_v1;

    (void)state;
    v1.frame_size = 8;
    known_bytes_are_written(&v1, v1_hex);
    known_bytes_are_written(&small_v2, v2_hex);
}

static void two_full_frames_are_those_of_an_independent_implementation(void **state)
{
    struct envelope fixed = small_v2;
    struct sink none = {.writer.ops = &sink_ops};
    struct digest digest;
    struct error err;

    (void)state;
    fixed.random = counting_random;
    next_random = 0;
    struct buf stored = seal(&fixed, 2 * 65536);
    struct writer *w = digest_writer_new(&none.writer, &digest);
    assert_int_equal(writer_write(w, stored.data, stored.len, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(digest.sha256,
                        "75f70f697889a3b4aeeac4b13abf281b6f2cb3624d8f90c3f8cff553f3c02973");
    buf_release(&none.got);
    buf_release(&stored);
}

static void
deterministic_only_nonce_the_same_input_gives_other_bytes_that_both_decrypt(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t len = 2 * small[v]->frame_size + 9, head = header_of(small[v]);
        struct buf a = seal(small[v], len), b = seal(small[v], len);
        assert_int_equal(a.len, b.len);
        assert_memory_not_equal(a.data + head, b.data + head, 64);
        if (small[v]->version == ENVELOPE_V2)
            assert_memory_not_equal(a.data + 16, b.data + 16, 32);
        assert_opens(a.data, a.len, small[v], len);
        assert_opens(b.data, b.len, small[v], len);
        buf_release(&a);
        buf_release(&b);
    }
}

static void every_v1_frame_has_a_nonce_of_its_own(void **state)
{
    struct buf stored = seal(&small_v1, 5 * 1024);

    (void)state;
    for (size_t i = 0; i <= 5; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(stored.data + frame_at(&small_v1, i),
                                    stored.data + frame_at(&small_v1, j), 12);
    buf_release(&stored);
}

/* ---- failures while writing ---- */

static void each_frame_is_one_write_and_a_failing_one_is_passed_on(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++)
        for (int fail_at = 1;; fail_at++) {
            struct sink s = {.writer.ops = &sink_ops, .fail_at = fail_at};
            struct key *key = test_key(0);
            struct error err = {.code = ERR_NONE};
            char words[64];
            struct writer *w;
            assert_int_equal(envelope_writer_new(&s.writer, key, small[v], &w, &err), 0);
            key_free(key);
            int result = write_pieces(w, 3 * small[v]->frame_size + 5, 5000, true, &err);
            writer_free(w);
            assert_true(s.freed);
            buf_release(&s.got);
            if (result == 0) {
                assert_int_equal(s.writes, 5);
                assert_int_equal(fail_at, 6);
                break;
            }
            snprintf(words, sizeof words, "full at write %d", fail_at);
            assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
            assert_string_equal(err.message, words);
            assert_int_equal(s.writes, fail_at);
            assert_false(s.finished);
        }
}

static void a_failing_finish_is_passed_on(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        struct sink s = {.writer.ops = &sink_ops, .fail_finish = true};
        struct key *key = test_key(0);
        struct error err;
        struct writer *w;
        assert_int_equal(envelope_writer_new(&s.writer, key, small[v], &w, &err), 0);
        key_free(key);
        assert_int_equal(write_pieces(w, 9, 9, true, &err), -1);
        assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
        writer_free(w);
        buf_release(&s.got);
    }
}

static int random_left; /* calls that succeed */

static int failing_random(void *buf, size_t len)
{
    if (random_left-- <= 0)
        return -1;
    return counting_random(buf, len);
}

static void without_random_bytes_v2_is_not_begun_and_next_is_freed(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct envelope e = small_v2;
    struct key *key = test_key(0);
    struct error err;
    struct writer *w;

    (void)state;
    e.random = failing_random;
    random_left = 0;
    assert_int_equal(envelope_writer_new(&s.writer, key, &e, &w, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_true(s.freed);
    assert_int_equal(s.writes, 0);
    key_free(key);
}

static void without_random_bytes_no_v1_frame_is_written(void **state)
{
    struct envelope e = small_v1;
    struct error err;

    (void)state;
    e.random = failing_random;
    for (int good = 0; good < 3; good++) {
        struct sink s = {.writer.ops = &sink_ops};
        struct key *key = test_key(0);
        struct writer *w;
        random_left = good;
        assert_int_equal(envelope_writer_new(&s.writer, key, &e, &w, &err), 0);
        key_free(key);
        assert_int_equal(write_pieces(w, 2 * 1024 + 5, 500, true, &err), -1);
        assert_int_equal(err.code, ERR_INTERNAL);
        assert_false(s.finished);
        assert_int_equal(s.got.len, frame_at(&e, (size_t)good));
        writer_free(w);
        buf_release(&s.got);
    }
}

/* ---- the view ---- */

/* A view of `len` bytes sealed as `e`, over a cache of its own. */
struct opened {
    struct buf stored;
    struct memory_view memory;
    struct frame_cache *cache;
    struct view *view;
};

static void open_sealed(struct opened *o, const struct envelope *e, size_t len)
{
    struct key *key = test_key(0);
    struct error err;

    o->stored = seal(e, len);
    o->memory = memory_view_of(o->stored.data, o->stored.len);
    o->cache = frame_cache_new(1);
    assert_int_equal(envelope_view_new(&o->memory.view, key, e, o->cache, true, &o->view, &err), 0);
    assert_int_equal(o->view->size, len);
    key_free(key);
}

static void close_opened(struct opened *o)
{
    view_free(o->view);
    assert_true(o->memory.freed);
    frame_cache_free(o->cache);
    buf_release(&o->stored);
}

static void bytes_at_any_offset_are_the_right_ones(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size, len = 3 * f + 5;
        const size_t offsets[] = {len - 1, 0, 2 * f - 1, f, 3 * f, 1, len - 6, len, len + 9};
        const size_t counts[] = {1, 7, f, f + 2};
        unsigned char *got = xmalloc(f + 2);
        struct error err;
        struct opened o;
        open_sealed(&o, small[v], len);
        for (size_t i = 0; i < COUNT(offsets) * COUNT(counts); i++) {
            size_t at = offsets[i / COUNT(counts)], n = counts[i % COUNT(counts)];
            size_t there = at >= len ? 0 : len - at < n ? len - at : n;
            assert_int_equal(view_pread(o.view, got, n, at, &err), there);
            for (size_t b = 0; b < there; b++)
                assert_int_equal(got[b], pattern_at(at + b));
        }
        close_opened(&o);
        free(got);
    }
}

struct reading {
    pthread_t thread;
    struct view *view;
    size_t from;
    bool right;
};

/* Every 1000th byte, beginning somewhere and around the end. */
static void *read_bytes(void *ctx)
{
    struct reading *r = ctx;
    struct error err;
    unsigned char got;

    r->right = true;
    for (size_t i = 0; i < r->view->size; i += 1000) {
        size_t at = (r->from + i) % (size_t)r->view->size;
        if (view_pread(r->view, &got, 1, at, &err) != 1 || got != pattern_at(at))
            r->right = false;
    }
    return NULL;
}

static void threads_that_read_at_once_all_get_the_right_bytes(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size;
        struct reading readings[6];
        struct opened o;
        open_sealed(&o, small[v], 5 * f + 9);
        for (size_t i = 0; i < COUNT(readings); i++) {
            readings[i] = (struct reading){.view = o.view, .from = i * f};
            assert_int_equal(pthread_create(&readings[i].thread, NULL, read_bytes, &readings[i]),
                             0);
        }
        for (size_t i = 0; i < COUNT(readings); i++) {
            pthread_join(readings[i].thread, NULL);
            assert_true(readings[i].right);
        }
        close_opened(&o);
    }
}

/* ---- whose key is it? ---- */

static int fits_as(const struct buf *stored, unsigned char first, const struct envelope *e,
                   bool *fits, struct error *err)
{
    struct memory_view m = memory_view_of(stored->data, stored->len);
    struct key *key = test_key(first);
    int result = envelope_fits(&m.view, key, e, fits, err);

    assert_false(m.freed);
    key_free(key);
    return result;
}

static void assert_fits(const struct buf *stored, unsigned char first, const struct envelope *e,
                        bool expected)
{
    bool fits = !expected;
    struct error err;

    assert_int_equal(fits_as(stored, first, e, &fits, &err), 0);
    assert_int_equal(fits, expected);
}

static void only_the_key_that_wrote_it_fits(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        size_t f = small[v]->frame_size;
        const size_t sizes[] = {0, 1, f, 3 * f + 5};
        for (size_t i = 0; i < COUNT(sizes); i++) {
            struct buf stored = seal(small[v], sizes[i]);
            assert_fits(&stored, 0, small[v], true);
            assert_fits(&stored, 1, small[v], false);
            buf_release(&stored);
        }
    }
}

static void v2_fits_no_other_store_and_no_other_record(void **state)
{
    struct buf stored = seal(&small_v2, 100);
    struct envelope store = small_v2, record = small_v2, shifted = small_v2;

    (void)state;
    store.store_id = "apq";
    record.record = RECORD_B;
    shifted.store_id = "app0"; /* the same letters in a row, parted elsewhere */
    shifted.record = &RECORD_A[1];
    assert_fits(&stored, 0, &store, false);
    assert_fits(&stored, 0, &record, false);
    assert_fits(&stored, 0, &shifted, false);
    assert_fits(&stored, 0, &small_v2, true);
    buf_release(&stored);
}

static void a_key_of_v1_still_fits_when_later_frames_are_gone(void **state)
{
    struct buf stored = seal(&small_v1, 2 * 1024 + 5);

    (void)state;
    buf_truncate(&stored, frame_at(&small_v1, 1) + 100);
    assert_fits(&stored, 0, &small_v1, true);
    buf_truncate(&stored, frame_at(&small_v1, 0) + 32 + 1023);
    bool fits;
    struct error err;
    assert_int_equal(fits_as(&stored, 0, &small_v1, &fits, &err), -1);
    assert_non_null(strstr(err.message, "truncated"));
    buf_release(&stored);
}

static void what_is_no_envelope_cannot_be_judged(void **state)
{
    struct error err;
    bool fits;

    (void)state;
    for (size_t v = 0; v < COUNT(small); v++) {
        struct buf stored = seal(small[v], 100);
        stored.data[0] = 'X';
        assert_int_equal(fits_as(&stored, 0, small[v], &fits, &err), -1);
        assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
        assert_non_null(strstr(err.message, "damaged header"));
        buf_release(&stored);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_sizes_come_back_whole_in_pieces_of_any_size),
        cmocka_unit_test(one_byte_at_a_time_is_the_same),
        cmocka_unit_test(frames_stand_where_the_arithmetic_says_and_content_size_needs_no_key),
        cmocka_unit_test(default_frame_size_is_4_mib_in_v1_and_1_mib_in_v2),
        cmocka_unit_test(empty_writes_change_nothing),
        cmocka_unit_test(the_bytes_are_those_of_an_independent_implementation),
        cmocka_unit_test(two_full_frames_are_those_of_an_independent_implementation),
        cmocka_unit_test(
            deterministic_only_nonce_the_same_input_gives_other_bytes_that_both_decrypt),
        cmocka_unit_test(every_v1_frame_has_a_nonce_of_its_own),
        cmocka_unit_test(each_frame_is_one_write_and_a_failing_one_is_passed_on),
        cmocka_unit_test(a_failing_finish_is_passed_on),
        cmocka_unit_test(without_random_bytes_v2_is_not_begun_and_next_is_freed),
        cmocka_unit_test(without_random_bytes_no_v1_frame_is_written),
        cmocka_unit_test(bytes_at_any_offset_are_the_right_ones),
        cmocka_unit_test(threads_that_read_at_once_all_get_the_right_bytes),
        cmocka_unit_test(only_the_key_that_wrote_it_fits),
        cmocka_unit_test(v2_fits_no_other_store_and_no_other_record),
        cmocka_unit_test(a_key_of_v1_still_fits_when_later_frames_are_gone),
        cmocka_unit_test(what_is_no_envelope_cannot_be_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
