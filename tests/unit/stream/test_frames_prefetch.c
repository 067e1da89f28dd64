/* SPDX-License-Identifier: MIT */
/*
 * test_frames_prefetch.c - decoding ahead: for readers in order only, bounded, by named threads;
 * its failures stay unseen, and it ends before its view is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_frames.h"

static void a_reader_in_order_has_the_next_frames_decoded_by_named_threads(void **state)
{
    struct frame_cache *c = frame_cache_new(LIMIT_PREFETCHERS);
    struct fake f;
    (void)state;

    fake_init(&f, 95, 10);
    struct view *v = framed_view_new(c, &f.source, true);
    read_frame(v, &f, 2);
    read_frame(v, &f, 3);
    wait_for_ahead(&f, 4);
    wait_for_ahead(&f, 5);
    assert_int_equal(loads(&f, 6), 0);
    assert_read(v, 75, 2, 2);
    assert_read(v, 77, 2, 2); /* goes on in the same frame; what is behind the last is not asked */
    wait_for_ahead(&f, 8);
    wait_for_ahead(&f, 9);
    for (uint64_t i = 0; i < 10; i++)
        read_frame(v, &f, i);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(loads(&f, i), 1);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

/* With one prefetcher: when it has come to what is asked for last, it is past all before. */
static void pass_through_queue(struct frame_cache *c)
{
    struct fake f;

    fake_init(&f, 20, 5);
    struct view *v = framed_view_new(c, &f.source, true);
    assert_read(v, 5, 10, 10);
    wait_for_ahead(&f, 3);
    view_free(v);
    fake_judge(&f);
}

static void reads_that_jump_and_views_without_prefetch_decode_nothing_else(void **state)
{
    static const uint64_t jumps[] = {0, 5, 3, 5, 5, 9, 7, 2, 0, 9};
    (void)state;

    for (int prefetch = 0; prefetch < 2; prefetch++) {
        struct frame_cache *c = frame_cache_new(1);
        struct fake f;
        fake_init(&f, 500, 10);
        struct view *v = framed_view_new(c, &f.source, prefetch == 1);
        for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++)
            read_frame(v, &f, jumps[i]);
        if (!prefetch)
            assert_read(v, 200, 45, 45);
        unsigned before = all_loads(&f);
        pass_through_queue(c);
        assert_int_equal(all_loads(&f), before);
        assert_int_equal(before, prefetch ? 6 : 6 + 5);
        view_free(v);
        frame_cache_free(c);
        fake_judge(&f);
    }
}

static void what_waits_to_be_decoded_ahead_is_bounded_and_the_newest_wins(void **state)
{
    enum { VIEWS = 12 };
    struct frame_cache *c = frame_cache_new(1);
    struct fake f[VIEWS];
    struct view *v[VIEWS];
    unsigned ahead = 0;
    (void)state;

    for (int i = 0; i < VIEWS; i++) {
        fake_init(&f[i], 200, 50);
        v[i] = framed_view_new(c, &f[i].source, true);
    }
    fake_hold(&f[0], false, true);
    for (int i = 0; i < VIEWS; i++) {
        read_frame(v[i], &f[i], 0);
        read_frame(v[i], &f[i], 1);
        if (i == 0)
            wait_for_ahead(&f[0], 2);
    }
    fake_hold(&f[0], false, false);
    wait_for_ahead(&f[VIEWS - 1], 2);
    wait_for_ahead(&f[VIEWS - 1], 3);
    for (int i = 0; i < VIEWS; i++)
        ahead += loads(&f[i], 2) + loads(&f[i], 3);
    assert_true(ahead <= VIEWS);
    assert_int_equal(loads(&f[1], 2), 0);
    for (int i = 0; i < VIEWS; i++) {
        view_free(v[i]);
        fake_judge(&f[i]);
    }
    frame_cache_free(c);
}

static void what_is_there_already_is_neither_queued_nor_decoded_again(void **state)
{
    struct frame_cache *c = frame_cache_new(1);
    struct fake f, g, h;
    (void)state;

    fake_init(&f, 40, 10);
    fake_init(&g, 40, 10);
    fake_init(&h, 160, 10);
    struct view *u = framed_view_new(c, &f.source, true);
    struct view *v = framed_view_new(c, &g.source, true);
    struct view *w = framed_view_new(c, &h.source, true);
    for (uint64_t i = 16; i-- > 0;)
        read_frame(w, &h, i);
    fake_hold(&f, false, true);
    assert_read(u, 0, 20, 20);
    wait_for_ahead(&f, 2);     /* and there it stays, with 3 behind it, */
    assert_read(v, 0, 20, 20); /* and these 2 and 3, */
    read_frame(v, &g, 3);      /* of which one is wanted now; */
    for (uint64_t i = 0; i < 16; i++)
        read_frame(w, &h, i); /* what is asked for here could push them all out */
    fake_hold(&f, false, false);
    pass_through_queue(c);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(loads(&f, i), 1);
        assert_int_equal(loads(&g, i), 1);
    }
    view_free(u);
    view_free(v);
    view_free(w);
    frame_cache_free(c);
    fake_judge(&f);
    fake_judge(&g);
    fake_judge(&h);
}

static void a_failed_prefetch_shows_only_to_who_reads_the_frame(void **state)
{
    struct frame_cache *c = frame_cache_new(1);
    struct fake f;
    struct error err = {0};
    char byte;
    (void)state;

    fake_init(&f, 100, 10);
    struct view *v = framed_view_new(c, &f.source, true);
    fake_fail(&f, 2);
    read_frame(v, &f, 0);
    read_frame(v, &f, 1);
    wait_for_ahead(&f, 2);
    wait_for_ahead(&f, 3);
    read_frame(v, &f, 1);
    read_frame(v, &f, 3);
    assert_int_equal(view_pread(v, &byte, 1, 20, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    fake_fail(&f, NONE);
    read_frame(v, &f, 2);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

static void freeing_a_view_waits_for_its_prefetch_and_drops_what_is_queued(void **state)
{
    struct frame_cache *c = frame_cache_new(1);
    struct fake f, g;
    struct call call;
    (void)state;

    fake_init(&f, 100, 10);
    fake_init(&g, 100, 10);
    struct view *v = framed_view_new(c, &f.source, true);
    struct view *w = framed_view_new(c, &g.source, true);
    fake_hold(&f, false, true);
    read_frame(v, &f, 0);
    read_frame(v, &f, 1);
    wait_for_ahead(&f, 2);
    read_frame(w, &g, 0);
    read_frame(w, &g, 1);
    view_free(w); /* its prefetches wait behind that of the other, and it for nothing */
    assert_true(g.freed);
    call_start(&call, call_free, v, 0);
    pthread_mutex_lock(&f.lock);
    bool freed = f.freed;
    pthread_mutex_unlock(&f.lock);
    assert_false(freed);
    fake_hold(&f, false, false);
    call_join(&call);
    pass_through_queue(c);
    assert_int_equal(loads(&g, 2) + loads(&g, 3) + loads(&f, 3), 0);
    frame_cache_free(c);
    fake_judge(&f);
    fake_judge(&g);
}

static void without_threads_there_is_no_prefetch_and_all_else_works(void **state)
{
    struct frame_cache *c = frame_cache_new(LIMIT_PREFETCHERS);
    pthread_attr_t normal, huge;
    struct fake f;
    (void)state;

    fake_init(&f, 100, 10);
    struct view *v = framed_view_new(c, &f.source, true);
    assert_int_equal(pthread_getattr_default_np(&normal), 0);
    assert_int_equal(pthread_getattr_default_np(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 46), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    for (uint64_t i = 0; i < 6; i++)
        read_frame(v, &f, i);
    assert_int_equal(pthread_setattr_default_np(&normal), 0);
    for (uint64_t i = 6; i < 10; i++)
        read_frame(v, &f, i);
    assert_int_equal(all_loads(&f), 10);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&normal);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_in_order_has_the_next_frames_decoded_by_named_threads),
        cmocka_unit_test(reads_that_jump_and_views_without_prefetch_decode_nothing_else),
        cmocka_unit_test(what_waits_to_be_decoded_ahead_is_bounded_and_the_newest_wins),
        cmocka_unit_test(what_is_there_already_is_neither_queued_nor_decoded_again),
        cmocka_unit_test(a_failed_prefetch_shows_only_to_who_reads_the_frame),
        cmocka_unit_test(freeing_a_view_waits_for_its_prefetch_and_drops_what_is_queued),
        cmocka_unit_test(without_threads_there_is_no_prefetch_and_all_else_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
