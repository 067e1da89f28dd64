/* SPDX-License-Identifier: MIT */
/*
 * test_seekable_write_failures.c - the seekable writer's threads: when there are any, that they
 * work side by side and in bounds, and that each failure and each abort ends them all.
 *
 * pthread_create, ZSTD_createCCtx and ZSTD_compress2 are defined here, so that a test can count
 * their calls, let the Nth one fail and hold one back. Their real selves do the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/limits.h"
#include "seekable_sink.h"
#include "task_watch.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { FRAMES = 9 }; /* more than the slots that two workers have */
#define CONTENT   (FRAMES * F)
#define NO_MEMORY ((size_t)-ZSTD_error_memory_allocation)

struct calls {
    atomic_int count, fail_at; /* from 1; 0 = none fails */
};
static struct calls creates, contexts, compressions;

/* Called on the worker's thread with what it is about to compress, if there is one. */
static void (*before_compressing)(const char *content);
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hook_changed = PTHREAD_COND_INITIALIZER;
static int hook_begun, hook_done, hook_wanted;

static bool must_fail(struct calls *c)
{
    return atomic_fetch_add(&c->count, 1) + 1 == atomic_load(&c->fail_at);
}

static void reset(struct calls *c, int fail_at)
{
    atomic_store(&c->count, 0);
    atomic_store(&c->fail_at, fail_at);
}

/* A sanitizer's, where there is one: it must see all threads. */
int __interceptor_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
    __attribute__((weak));

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *ctx)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        __interceptor_pthread_create;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return must_fail(&creates) ? EAGAIN : real(thread, attr, run, ctx);
}

ZSTD_CCtx *ZSTD_createCCtx(void)
{
    ZSTD_CCtx *(*real)(void);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_createCCtx");
    return must_fail(&contexts) ? NULL : real();
}

size_t ZSTD_compress2(ZSTD_CCtx *zstd, void *out, size_t max, const void *in, size_t len)
{
    size_t (*real)(ZSTD_CCtx *, void *, size_t, const void *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_compress2");
    if (must_fail(&compressions))
        return NO_MEMORY;
    if (before_compressing)
        before_compressing(in);
    size_t result = real(zstd, out, max, in, len);
    pthread_mutex_lock(&hook_lock);
    hook_done++;
    pthread_cond_broadcast(&hook_changed);
    pthread_mutex_unlock(&hook_lock);
    return result;
}

static char *text;

static int make_content(void **state)
{
    (void)state;
    text = make_text(CONTENT + 1, 1);
    return 0;
}

static int free_content(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static int setup(void **state)
{
    struct sink *s = xmalloc(sizeof *s);

    sink_init(s);
    reset(&creates, 0);
    reset(&contexts, 0);
    reset(&compressions, 0);
    before_compressing = NULL;
    hook_begun = hook_done = 0;
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    sink_release(*state);
    free(*state);
    return 0;
}

static void reuse(struct sink *s)
{
    sink_release(s);
    sink_init(s);
}

static void await_no_threads(void)
{
    await_threads("keepfs-zstd", 0);
    await_threads("keepfs-zstd-out", 0);
}

static int write_frames(struct writer *w, int frames, struct error *err)
{
    for (int i = 0; i < frames; i++)
        if (writer_write(w, text + (size_t)(i % FRAMES) * F, F, err) != 0)
            return -1;
    return 0;
}

static void expect_same_error(const struct error *a, const struct error *b)
{
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->errnum, b->errnum);
    assert_string_equal(a->message, b->message);
}

/* Writes all and finishes; what failed is `code` and `why`, then and at each later call. */
static void expect_failure(struct sink *s, struct writer *w, enum error_code code, const char *why)
{
    struct error first = {0}, later = {0};

    if (write_frames(w, FRAMES, &first) == 0)
        assert_int_equal(writer_finish(w, &first), -1);
    assert_int_equal(first.code, code);
    assert_string_equal(first.message, why);
    assert_int_equal(write_frames(w, 2, &later), -1);
    expect_same_error(&first, &later);
    assert_int_equal(writer_finish(w, &later), -1);
    expect_same_error(&first, &later);
    writer_free(w);
    assert_false(s->finished);
    assert_true(s->freed);
    assert_false(s->overlapped);
    await_no_threads();
}

static void one_frame_needs_no_thread(void **state)
{
    static const size_t sizes[] = {0, 1, F - 1, F};
    struct sink *s = *state;
    struct error err;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        reuse(s);
        struct writer *w = seekable_ok(s, 1, 4);
        assert_int_equal(writer_write(w, text, sizes[i], &err), 0);
        assert_int_equal(writer_finish(w, &err), 0);
        writer_free(w);
        assert_true(s->finished);
        assert_int_equal(atomic_load(&creates.count), 0);
    }
}

static void a_second_frame_starts_named_threads_and_free_ends_them(void **state)
{
    struct sink *s = *state;
    struct error err;

    for (int workers = 1; workers <= LIMIT_ZSTD_WORKERS; workers++) {
        reuse(s);
        struct writer *w = seekable_ok(s, 1, (unsigned)workers);
        assert_int_equal(writer_write(w, text, F + 1, &err), 0);
        await_threads("keepfs-zstd", workers);
        await_threads("keepfs-zstd-out", 1);
        writer_free(w);
        await_no_threads();
    }
}

/* Threads started for F + 1 bytes. */
static int threads_for(struct sink *s, unsigned workers)
{
    struct error err;

    reuse(s);
    reset(&creates, 0);
    struct writer *w = seekable_ok(s, 1, workers);
    assert_int_equal(writer_write(w, text, F + 1, &err), 0);
    writer_free(w);
    return atomic_load(&creates.count);
}

static void workers_are_as_many_as_asked_or_as_cpus_up_to_the_limit(void **state)
{
    cpu_set_t before, one;

    assert_int_equal(threads_for(*state, 1), 1 + 1);
    assert_int_equal(threads_for(*state, LIMIT_ZSTD_WORKERS + 1), LIMIT_ZSTD_WORKERS + 1);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int cpus = CPU_COUNT(&before);
    assert_int_equal(threads_for(*state, 0),
                     1 + (cpus < LIMIT_ZSTD_WORKERS ? cpus : LIMIT_ZSTD_WORKERS));
    CPU_ZERO(&one);
    for (size_t i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(threads_for(*state, 0), 1 + 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void wait_for_all_workers(const char *content)
{
    (void)content;
    pthread_mutex_lock(&hook_lock);
    hook_begun++;
    pthread_cond_broadcast(&hook_changed);
    while (hook_begun < hook_wanted)
        pthread_cond_wait(&hook_changed, &hook_lock);
    pthread_mutex_unlock(&hook_lock);
}

/* Each of the first frames is compressed only when all workers are about to: or nothing is. */
static void workers_compress_side_by_side(void **state)
{
    struct sink *s = *state;
    struct error err;
    struct writer *w = seekable_ok(s, 1, 4);

    hook_wanted = 4;
    before_compressing = wait_for_all_workers;
    assert_int_equal(write_frames(w, FRAMES, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
}

/* `text` begins with the first frame. */
static void hold_the_first_frame(const char *content)
{
    if (memcmp(content, text, F) != 0)
        return;
    pthread_mutex_lock(&hook_lock);
    while (hook_done < hook_wanted)
        pthread_cond_wait(&hook_changed, &hook_lock);
    pthread_mutex_unlock(&hook_lock);
}

static void frames_are_written_in_order_by_one_thread_whichever_is_ready_first(void **state)
{
    struct sink *s = *state;
    struct error err;
    struct buf expected = compress(text, CONTENT, 1, 1);
    struct writer *w = seekable_ok(s, 1, 2);

    hook_done = 0;
    hook_wanted = 3;
    before_compressing = hold_the_first_frame;
    assert_int_equal(write_frames(w, FRAMES, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    await_no_threads();
    assert_int_equal(s->got.len, expected.len);
    assert_memory_equal(s->got.data, expected.data, expected.len);
    assert_int_equal(s->threads, 2); /* the output's, then this one for the seek table */
    assert_true(pthread_equal(s->last_thread, pthread_self()));
    assert_true(pthread_equal(s->finish_thread, pthread_self()));
    assert_false(s->overlapped);
    writer_free(w);
    buf_release(&expected);
}

static void a_failure_of_next_at_any_frame_or_in_the_table_comes_back(void **state)
{
    static const unsigned workers[] = {1, 2, 4};
    struct sink *s = *state;

    for (size_t k = 0; k < sizeof workers / sizeof workers[0]; k++)
        for (int at = 1; at <= FRAMES + 1; at++) {
            char *why = xasprintf("full at write %d", at);
            reuse(s);
            s->fail_at = at;
            struct writer *w = seekable_ok(s, 1, workers[k]);
            expect_failure(s, w, ERR_DESTINATION_NO_SPACE, why);
            assert_int_equal(s->writes, at);
            free(why);
        }
}

static void a_failure_of_nexts_finish_comes_back(void **state)
{
    struct sink *s = *state;

    s->fail_finish = true;
    struct writer *w = seekable_ok(s, 1, 2);
    expect_failure(s, w, ERR_DESTINATION_UNREACHABLE, "fsync failed");
    assert_true(pthread_equal(s->finish_thread, pthread_self()));
}

static void a_failure_without_threads_comes_back(void **state)
{
    struct sink *s = *state;

    for (int at = 1; at <= 3; at++) { /* the frame, the table, next's finish */
        struct error err = {0}, later = {0};
        reuse(s);
        s->fail_at = at;
        s->fail_finish = at == 3;
        struct writer *w = seekable_ok(s, 1, 2);
        assert_int_equal(writer_write(w, text, F, &err), 0);
        assert_int_equal(writer_finish(w, &err), -1);
        assert_int_equal(err.code,
                         at == 3 ? ERR_DESTINATION_UNREACHABLE : ERR_DESTINATION_NO_SPACE);
        assert_int_equal(writer_finish(w, &later), -1);
        expect_same_error(&err, &later);
        assert_int_equal(s->writes, at < 3 ? at : 2);
        writer_free(w);
        assert_true(s->freed);
    }
}

static void a_failure_of_zstd_at_any_frame_comes_back(void **state)
{
    struct sink *s = *state;
    char *why = xasprintf("zstd cannot compress: %s", ZSTD_getErrorName(NO_MEMORY));

    for (int workers = 1; workers <= 2; workers++)
        for (int at = 1; at <= FRAMES; at++) {
            reuse(s);
            reset(&compressions, at);
            struct writer *w = seekable_ok(s, 1, (unsigned)workers);
            expect_failure(s, w, ERR_INTERNAL, why);
            /* The Nth call may be of a frame that was claimed just after the Nth. */
            assert_true(s->writes < at + workers - 1);
        }
    free(why);
}

/* zstd fails while next is inside the write that will fail after it. */
static void of_two_failures_the_first_comes_back(void **state)
{
    struct sink *s = *state;
    struct error err = {0}, early = {0};
    struct writer *w = seekable_ok(s, 1, 1);

    s->held = true;
    s->fail_at = 1;
    reset(&compressions, 3);
    assert_int_equal(writer_write(w, text, F + 1, &err), 0);
    sink_await_write(s, 1);
    /* The last byte seals the third frame; the write fails if that one has failed by then. */
    if (writer_write(w, text, 2 * F, &early) != 0)
        assert_int_equal(early.code, ERR_INTERNAL);
    await_threads("keepfs-zstd", 0);
    sink_hold(s, false);
    await_threads("keepfs-zstd-out", 0);
    assert_int_equal(writer_finish(w, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    writer_free(w);
}

static void a_context_that_cannot_be_had_frees_next(void **state)
{
    struct sink *s = *state;

    for (int at = 1; at <= 3; at++) {
        struct writer *w = NULL;
        struct error err = {0};
        reuse(s);
        reset(&contexts, at);
        assert_int_equal(seekable_writer_new(&s->writer, 3, 3, &w, &err), -1);
        assert_int_equal(err.code, ERR_INTERNAL);
        assert_null(w);
        assert_true(s->freed);
    }
}

static void a_thread_that_cannot_be_had_fails_the_write_of_the_second_frame(void **state)
{
    struct sink *s = *state;

    for (int at = 1; at <= 1 + 3; at++) {
        char *why = xasprintf("cannot start a thread to compress in: %s", strerror(EAGAIN));
        struct error err = {0};
        reuse(s);
        reset(&creates, at);
        struct writer *w = seekable_ok(s, 1, 3);
        assert_int_equal(writer_write(w, text, F, &err), 0);
        assert_int_equal(writer_write(w, text, 1, &err), -1);
        assert_int_equal(err.errnum, EAGAIN);
        expect_failure(s, w, ERR_INTERNAL, why);
        assert_int_equal(s->writes, 0);
        free(why);
    }
}

static void freeing_an_unfinished_one_aborts_whatever_is_under_way(void **state)
{
    struct sink *s = *state;
    struct error err;

    for (int frames = 0; frames <= FRAMES; frames++) {
        reuse(s);
        struct writer *w = seekable_ok(s, 1, 2);
        assert_int_equal(write_frames(w, frames, &err), 0);
        writer_free(w);
        assert_true(s->writes <= frames);
        assert_false(s->finished);
        assert_true(s->freed);
        assert_false(s->overlapped);
    }
}

static void *free_writer(void *w)
{
    writer_free(w);
    return NULL;
}

/* With next inside its first write, all else ends; when it comes out, it is not called again. */
static void an_abort_waits_for_the_write_under_way_and_for_nothing_more(void **state)
{
    struct sink *s = *state;
    struct error err;
    pthread_t freer;
    struct writer *w = seekable_ok(s, 1, 2);

    s->held = true;
    assert_int_equal(write_frames(w, 5, &err), 0);
    sink_await_write(s, 1);
    assert_int_equal(pthread_create(&freer, NULL, free_writer, w), 0);
    await_threads("keepfs-zstd", 0);
    assert_int_equal(threads_named("keepfs-zstd-out"), 1);
    assert_false(s->freed);
    sink_hold(s, false);
    assert_int_equal(pthread_join(freer, NULL), 0);
    assert_int_equal(s->writes, 1);
    assert_true(s->freed);
    assert_false(s->overlapped);
}

/* With the only worker inside the first of its frames. */
static void an_abort_waits_for_the_frame_under_way_and_for_no_other(void **state)
{
    struct sink *s = *state;
    struct error err;
    pthread_t freer;
    struct writer *w = seekable_ok(s, 1, 1);

    hook_wanted = 2;
    before_compressing = wait_for_all_workers;
    assert_int_equal(write_frames(w, 4, &err), 0);
    pthread_mutex_lock(&hook_lock);
    while (hook_begun < 1)
        pthread_cond_wait(&hook_changed, &hook_lock);
    pthread_mutex_unlock(&hook_lock);
    await_threads("keepfs-zstd-out", 1);
    assert_int_equal(pthread_create(&freer, NULL, free_writer, w), 0);
    await_threads("keepfs-zstd-out", 0);
    wait_for_all_workers(NULL);
    assert_int_equal(pthread_join(freer, NULL), 0);
    assert_int_equal(hook_done, 1);
    assert_int_equal(s->writes, 0);
}

struct source {
    struct writer *writer;
    atomic_int accepted; /* frames */
    int result;
};

static void *write_much(void *ctx)
{
    struct source *source = ctx;
    struct error err;

    for (int i = 0; i < 64; i++) {
        if (write_frames(source->writer, 1, &err) != 0)
            return NULL;
        atomic_fetch_add(&source->accepted, 1);
    }
    source->result = writer_finish(source->writer, &err);
    return NULL;
}

static void a_slow_next_stops_the_source_after_a_few_frames_and_loses_none(void **state)
{
    struct sink *s = *state;

    for (int workers = 1; workers <= LIMIT_ZSTD_WORKERS; workers++) {
        struct source source = {.result = -1};
        pthread_t thread;
        reuse(s);
        s->held = true;
        source.writer = seekable_ok(s, 1, (unsigned)workers);
        assert_int_equal(pthread_create(&thread, NULL, write_much, &source), 0);
        sink_await_write(s, 1);
        await_standstill();
        int accepted = atomic_load(&source.accepted);
        assert_true(accepted <= 3 * workers + 3);
        sink_hold(s, false);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(source.result, 0);
        assert_int_equal(s->writes, 64 + 1);
        writer_free(source.writer);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_frame_needs_no_thread),
        TEST(a_second_frame_starts_named_threads_and_free_ends_them),
        TEST(workers_are_as_many_as_asked_or_as_cpus_up_to_the_limit),
        TEST(workers_compress_side_by_side),
        TEST(frames_are_written_in_order_by_one_thread_whichever_is_ready_first),
        TEST(a_failure_of_next_at_any_frame_or_in_the_table_comes_back),
        TEST(a_failure_of_nexts_finish_comes_back),
        TEST(a_failure_without_threads_comes_back),
        TEST(a_failure_of_zstd_at_any_frame_comes_back),
        TEST(of_two_failures_the_first_comes_back),
        TEST(a_context_that_cannot_be_had_frees_next),
        TEST(a_thread_that_cannot_be_had_fails_the_write_of_the_second_frame),
        TEST(freeing_an_unfinished_one_aborts_whatever_is_under_way),
        TEST(an_abort_waits_for_the_write_under_way_and_for_nothing_more),
        TEST(an_abort_waits_for_the_frame_under_way_and_for_no_other),
        TEST(a_slow_next_stops_the_source_after_a_few_frames_and_loses_none),
    };
    return cmocka_run_group_tests(tests, make_content, free_content);
}
