/* SPDX-License-Identifier: MIT */
/*
 * test_frames.c - random access over fake frames: the bytes are right whoever reads where, a frame
 * is decoded once, kept while it is used, given back; failures reach all who asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_frames.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>

/* Reads at random; ends at the first wrong answer. */
struct random_reader {
    pthread_t thread;
    struct view *view;
    unsigned seed, reads;
    size_t longest;
    bool wrong;
};

static void *read_at_random(void *ctx)
{
    struct random_reader *r = ctx;
    struct error err;
    char *buf = xmalloc(r->longest + 1);

    for (unsigned i = 0; i < r->reads && !r->wrong; i++) {
        uint64_t offset = (uint64_t)rand_r(&r->seed) % (r->view->size + 5);
        size_t len = (size_t)rand_r(&r->seed) % (r->longest + 1);
        uint64_t rest = offset < r->view->size ? r->view->size - offset : 0;
        ssize_t n = view_pread(r->view, buf, len, offset, &err);
        r->wrong = n != (ssize_t)(len < rest ? len : rest);
        for (ssize_t k = 0; !r->wrong && k < n; k++)
            r->wrong = buf[k] != byte_at(offset + (uint64_t)k);
    }
    free(buf);
    return NULL;
}

static void read_with_threads(struct view *v, unsigned threads, unsigned reads, size_t longest)
{
    struct random_reader r[16];

    for (unsigned i = 0; i < threads; i++) {
        r[i] = (struct random_reader){.view = v, .seed = i + 1, .reads = reads, .longest = longest};
        assert_int_equal(pthread_create(&r[i].thread, NULL, read_at_random, &r[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        assert_int_equal(pthread_join(r[i].thread, NULL), 0);
    for (unsigned i = 0; i < threads; i++)
        assert_false(r[i].wrong);
}

static void bytes_are_exact_at_any_offset_with_eight_threads(void **state)
{
    static const struct {
        uint64_t size;
        size_t frame_size, longest;
    } shapes[] = {{100, 1, 20},       {700, 7, 40},       {703, 7, 40},       {999, 1000, 1000},
                  {1000, 1000, 1000}, {1001, 1000, 1100}, {50000, 512, 3000}, {200001, 1024, 5000}};
    (void)state;

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct frame_cache *c = frame_cache_new(LIMIT_PREFETCHERS);
        struct fake f;
        fake_init(&f, shapes[i].size, shapes[i].frame_size);
        struct view *v = framed_view_new(c, &f.source, true);
        assert_int_equal(v->size, shapes[i].size);
        read_with_threads(v, 8, 150, shapes[i].longest);
        assert_read(v, 0, shapes[i].size + 1, shapes[i].size);
        view_free(v);
        frame_cache_free(c);
        fake_judge(&f);
    }
}

static void a_read_ends_with_the_stream(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f, empty;
    (void)state;

    fake_init(&f, 25, 10);
    fake_init(&empty, 0, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    struct view *nothing = framed_view_new(c, &empty.source, false);
    assert_read(v, 24, 100, 1);
    assert_read(v, 25, 100, 0);
    assert_read(v, UINT64_MAX, 100, 0);
    assert_read(v, 3, 0, 0);
    assert_read(nothing, 0, 100, 0);
    view_free(v);
    view_free(nothing);
    frame_cache_free(c);
    frame_cache_free(NULL);
    fake_judge(&f);
    fake_judge(&empty);
}

static void a_frame_that_two_want_is_decoded_once(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    struct call a, b;
    (void)state;

    fake_init(&f, 100, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    fake_hold(&f, true, false);
    call_start(&a, call_pread, v, 33);
    wait_for_inside(&f, 1);
    call_start(&b, call_pread, v, 34);
    fake_hold(&f, false, false);
    call_join(&a);
    call_join(&b);
    assert_int_equal(a.result, 1);
    assert_int_equal(b.result, 1);
    assert_int_equal(a.byte, byte_at(33));
    assert_int_equal(b.byte, byte_at(34));
    assert_int_equal(all_loads(&f), 1);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

static void the_least_recently_used_frame_goes_first(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    (void)state;

    fake_init(&f, 1000, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES; i++)
        read_frame(v, &f, i);
    read_frame(v, &f, 0);
    read_frame(v, &f, 50); /* in the place of 1 */
    read_frame(v, &f, 51); /* of 2 */
    for (unsigned i = 3; i < LIMIT_OPEN_FRAMES; i++)
        read_frame(v, &f, i);
    read_frame(v, &f, 0);
    assert_int_equal(all_loads(&f), LIMIT_OPEN_FRAMES + 2);
    read_frame(v, &f, 1);
    assert_int_equal(loads(&f, 1), 2);
    read_frame(v, &f, 2);
    assert_int_equal(loads(&f, 2), 2);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

/* How many of the frames in 0 .. n-1, read last in this order, are still there. */
static unsigned count_kept(struct view *v, struct fake *f, unsigned n)
{
    unsigned kept = 0;

    for (unsigned i = n; i-- > 0; kept++) {
        unsigned before = all_loads(f);
        read_frame(v, f, i);
        if (all_loads(f) != before)
            break;
    }
    return kept;
}

static void all_views_together_keep_no_more_than_the_ceiling(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f, g;
    (void)state;

    fake_init(&f, 1000, 10);
    fake_init(&g, 1000, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    struct view *w = framed_view_new(c, &g.source, false);
    for (unsigned i = 0; i < 100; i++)
        read_frame(v, &f, i);
    assert_int_equal(count_kept(v, &f, 100), LIMIT_OPEN_FRAMES);
    for (unsigned i = 0; i < 100; i++)
        read_frame(v, &f, i);
    for (unsigned i = 0; i < 5; i++)
        read_frame(w, &g, i);
    assert_int_equal(count_kept(v, &f, 100), LIMIT_OPEN_FRAMES - 5);
    view_free(v);
    view_free(w);
    frame_cache_free(c);
    fake_judge(&f);
    fake_judge(&g);
}

static void who_finds_all_slots_in_use_waits(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    struct call calls[LIMIT_OPEN_FRAMES + 4];
    (void)state;

    fake_init(&f, 1000, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    fake_hold(&f, true, false);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES; i++)
        call_start(&calls[i], call_pread, v, i * 10);
    wait_for_inside(&f, LIMIT_OPEN_FRAMES);
    for (unsigned i = LIMIT_OPEN_FRAMES; i < LIMIT_OPEN_FRAMES + 4; i++)
        call_start(&calls[i], call_pread, v, i * 10);
    assert_int_equal(all_loads(&f), LIMIT_OPEN_FRAMES);
    fake_hold(&f, false, false);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES + 4; i++) {
        call_join(&calls[i]);
        assert_int_equal(calls[i].result, 1);
        assert_int_equal(calls[i].byte, byte_at(i * 10));
    }
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

/*
 * Readers whose copying stops half-way: they read into memory that cannot be written to, until the
 * other end of the pipe is closed.
 */
static struct {
    char *memory;
    size_t size;
    int gate;
} stop;

static void wait_at_gate(int signal, siginfo_t *info, void *context)
{
    char byte;
    (void)context;

    if ((char *)info->si_addr < stop.memory || (char *)info->si_addr >= stop.memory + stop.size)
        abort();
    while (read(stop.gate, &byte, 1) < 0)
        ;
    if (signal != SIGSEGV || mprotect(stop.memory, stop.size, PROT_READ | PROT_WRITE) != 0)
        abort();
}

static void *pread_to_gate(void *ctx)
{
    struct call *c = ctx;

    atomic_store(&c->tid, gettid());
    c->result = view_pread(c->view, stop.memory + c->offset, 1, c->offset, &c->err);
    return NULL;
}

static void what_is_copied_from_stays_and_who_needs_its_slot_is_woken(void **state)
{
    struct sigaction old, action = {.sa_sigaction = wait_at_gate, .sa_flags = SA_SIGINFO};
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    struct call calls[LIMIT_OPEN_FRAMES], last;
    int ends[2];
    (void)state;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    stop.gate = ends[0];
    stop.size = 10 * LIMIT_OPEN_FRAMES;
    stop.memory = mmap(NULL, stop.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(stop.memory != MAP_FAILED);
    assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
    fake_init(&f, 1000, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES; i++)
        call_start(&calls[i], pread_to_gate, v, i * 10);
    assert_int_equal(all_loads(&f), LIMIT_OPEN_FRAMES);
    call_start(&last, call_pread, v, 990);
    assert_int_equal(loads(&f, 99), 0);
    close(ends[1]);
    call_join(&last);
    assert_int_equal(last.byte, byte_at(990));
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES; i++) {
        call_join(&calls[i]);
        assert_int_equal(calls[i].result, 1);
        assert_int_equal(stop.memory[i * 10], byte_at(i * 10));
    }
    assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
    close(ends[0]);
    munmap(stop.memory, stop.size);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

static void assert_fails(struct view *v, uint64_t offset, size_t len, const char *message)
{
    struct error err = {0};
    char buf[64];

    assert_int_equal(view_pread(v, buf, len, offset, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    assert_string_equal(err.message, message);
}

static void a_failed_load_fails_all_that_waited_for_it_and_is_not_kept(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    struct call calls[3];
    (void)state;

    fake_init(&f, 100, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    fake_fail(&f, 3);
    fake_hold(&f, true, false);
    for (int i = 0; i < 3; i++)
        call_start(&calls[i], call_pread, v, 33);
    fake_hold(&f, false, false);
    for (int i = 0; i < 3; i++) {
        call_join(&calls[i]);
        assert_int_equal(calls[i].result, -1);
        assert_int_equal(calls[i].err.code, ERR_INTEGRITY_FAILED);
        assert_string_equal(calls[i].err.message, "frame 3, load 1");
    }
    assert_fails(v, 25, 10, "frame 3, load 2"); /* good bytes before it do not help */
    for (unsigned i = 3; i < 100; i++)
        assert_int_equal(view_pread(v, &calls[0].byte, 1, 39, &calls[0].err), -1);
    fake_fail(&f, NONE);
    assert_read(v, 25, 20, 20);
    assert_read(v, 30, 10, 10);
    assert_int_equal(loads(&f, 3), 100);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

static void failed_loads_take_no_room(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    struct error err;
    char byte;
    (void)state;

    fake_init(&f, 1000, 10);
    struct view *v = framed_view_new(c, &f.source, false);
    fake_fail(&f, 99);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES - 1; i++)
        read_frame(v, &f, i);
    for (unsigned i = 0; i < 2 * LIMIT_OPEN_FRAMES; i++)
        assert_int_equal(view_pread(v, &byte, 1, 990, &err), -1);
    unsigned before = all_loads(&f);
    for (unsigned i = 0; i < LIMIT_OPEN_FRAMES - 1; i++)
        read_frame(v, &f, i);
    assert_int_equal(all_loads(&f), before);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

static void layers_in_one_cache_do_not_wait_for_each_other_in_a_ring(void **state)
{
    struct frame_cache *c = frame_cache_new(LIMIT_PREFETCHERS);
    struct fake low, high;
    (void)state;

    fake_init(&low, 100000, 600);
    fake_init(&high, 100000, 1000);
    high.below = framed_view_new(c, &low.source, true);
    struct view *v = framed_view_new(c, &high.source, true);
    read_with_threads(v, LIMIT_FUSE_WORKERS + LIMIT_PREFETCHERS, 200, 5000);
    view_free(v);
    frame_cache_free(c);
    fake_judge(&high);
    fake_judge(&low);
}

static size_t heap(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* The heap is counted by glibc's malloc only; with a sanitizer's, leaks at the end are found. */
static void need_counted_heap(void)
{
    size_t before = heap();
    char *volatile probe = xmalloc(1 << 20);
    bool counted = heap() >= before + (1 << 20);

    free(probe);
    if (!counted) {
        print_message("skipped: this build's malloc does not count for mallinfo2\n");
        skip();
    }
}

static void memory_is_of_the_frames_size_and_goes_with_the_view(void **state)
{
    enum { MIB = 1 << 20 };
    struct frame_cache *c;
    struct fake f, small, tiny;
    (void)state;

    need_counted_heap();
    size_t before = heap();
    c = frame_cache_new(1); /* a cache of few bytes is the next case */
    fake_init(&tiny, 10, LIMIT_FRAME);
    fake_init(&small, 40000, 1000);
    struct view *u = framed_view_new(c, &tiny.source, false);
    struct view *w = framed_view_new(c, &small.source, false);
    assert_read(u, 0, 10, 10);
    assert_true(heap() < before + MIB);
    fake_init(&f, 100 * MIB, MIB);
    struct view *v = framed_view_new(c, &f.source, false);
    for (uint64_t i = 0; i < 40; i++)
        read_frame(v, &f, i);
    assert_true(heap() >= before + (LIMIT_OPEN_FRAMES - 2) * (size_t)MIB);
    assert_true(heap() <= before + (LIMIT_OPEN_FRAMES + 3) * (size_t)MIB);
    assert_read(w, 0, 40000, 40000); /* takes the slots, not their memory */
    assert_true(heap() < before + 2 * (size_t)MIB);
    read_frame(v, &f, 0);
    view_free(v);
    assert_true(heap() < before + 2 * (size_t)MIB); /* at most the scratch of one load */
    view_free(u);
    view_free(w);
    assert_true(heap() < before + MIB);
    frame_cache_free(c);
    fake_judge(&f);
    fake_judge(&small);
    fake_judge(&tiny);
}

/* Frames of 4 MiB: what is kept is bounded in bytes, not only in frames. */
static void memory_is_bounded_in_bytes(void **state)
{
    enum { MIB = 1 << 20, FRAME = 4 * MIB };
    static const unsigned prefetchers[] = {0, 1};
    struct fake f;
    (void)state;

    need_counted_heap();
    for (size_t i = 0; i < 2; i++) {
        size_t before = heap(), budget = prefetchers[i] ? LIMIT_FRAME_BYTES : LIMIT_FRAME_BYTES / 8;
        struct frame_cache *c = frame_cache_new(prefetchers[i]);
        fake_init(&f, 30 * (uint64_t)FRAME, FRAME);
        struct view *v = framed_view_new(c, &f.source, false);
        for (uint64_t k = 0; k < 30; k++)
            read_frame(v, &f, k);
        assert_true(heap() >= before + budget - FRAME);
        assert_true(heap() <= before + budget + 2 * (size_t)FRAME);
        view_free(v);
        frame_cache_free(c);
        fake_judge(&f);
    }
}

static void scratch_memory_is_kept_between_loads(void **state)
{
    struct frame_cache *c = frame_cache_new(0);
    struct fake f;
    (void)state;

    fake_init(&f, 100000, 10000);
    struct view *v = framed_view_new(c, &f.source, false);
    read_frame(v, &f, 0);
    void *first = f.scratch;
    for (uint64_t i = 1; i < 10; i++) {
        read_frame(v, &f, i);
        assert_ptr_equal(f.scratch, first);
    }
    view_free(v);
    frame_cache_free(c);
    fake_judge(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_exact_at_any_offset_with_eight_threads),
        cmocka_unit_test(a_read_ends_with_the_stream),
        cmocka_unit_test(a_frame_that_two_want_is_decoded_once),
        cmocka_unit_test(the_least_recently_used_frame_goes_first),
        cmocka_unit_test(all_views_together_keep_no_more_than_the_ceiling),
        cmocka_unit_test(who_finds_all_slots_in_use_waits),
        cmocka_unit_test(what_is_copied_from_stays_and_who_needs_its_slot_is_woken),
        cmocka_unit_test(a_failed_load_fails_all_that_waited_for_it_and_is_not_kept),
        cmocka_unit_test(failed_loads_take_no_room),
        cmocka_unit_test(layers_in_one_cache_do_not_wait_for_each_other_in_a_ring),
        cmocka_unit_test(memory_is_of_the_frames_size_and_goes_with_the_view),
        cmocka_unit_test(memory_is_bounded_in_bytes),
        cmocka_unit_test(scratch_memory_is_kept_between_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
