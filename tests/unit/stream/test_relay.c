/* SPDX-License-Identifier: MIT */
/*
 * test_relay.c - bytes in order through a thread, failures from behind it, no thread left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/limits.h"
#include "stream/relay.h"
#include "util/buf.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Keeps what it gets; fails at a write or at finish if told to; can be held. */
struct sink {
    struct writer writer;
    struct buf got;
    int writes, fail_at; /* the write that fails, from 1; 0 = none */
    bool fail_finish, finished, freed;
    pthread_t finisher;
    pthread_mutex_t gate; /* whoever holds it holds the writes */
};

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct sink *s = (struct sink *)w;

    pthread_mutex_lock(&s->gate);
    pthread_mutex_unlock(&s->gate);
    if (++s->writes == s->fail_at)
        return error_set(err, ERR_DESTINATION_NO_SPACE, "full at write %d", s->writes);
    buf_add(&s->got, data, len);
    return 0;
}

static int sink_finish(struct writer *w, struct error *err)
{
    struct sink *s = (struct sink *)w;

    s->finisher = pthread_self();
    if (s->fail_finish)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "fsync failed");
    s->finished = true;
    return 0;
}

static void sink_free(struct writer *w)
{
    ((struct sink *)w)->freed = true;
}

static const struct writer_ops sink_ops = {
    .write = sink_write, .finish = sink_finish, .free = sink_free};

static int setup(void **state)
{
    struct sink *s = xcalloc(1, sizeof *s);

    s->writer.ops = &sink_ops;
    pthread_mutex_init(&s->gate, NULL);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct sink *s = *state;

    buf_release(&s->got);
    pthread_mutex_destroy(&s->gate);
    free(s);
    return 0;
}

/* `total` bytes of a pattern in writes of `piece`. -1 at the first failure. */
static int write_pattern(struct writer *w, size_t total, size_t piece, struct error *err)
{
    char *data = xmalloc(piece);
    int result = 0;

    for (size_t at = 0; result == 0 && at < total; at += piece) {
        size_t n = total - at < piece ? total - at : piece;
        for (size_t i = 0; i < n; i++)
            data[i] = (char)((at + i) * 31 >> 3);
        result = writer_write(w, data, n, err);
    }
    free(data);
    return result;
}

static void bytes_arrive_in_order_whatever_the_pieces(void **state)
{
    static const size_t totals[] = {0, 1, 4096, LIMIT_STREAM_CHUNK, 5 * LIMIT_STREAM_CHUNK + 3};
    static const size_t pieces[] = {777, 65536, LIMIT_STREAM_CHUNK, 3 * LIMIT_STREAM_CHUNK + 1};
    struct sink *s = *state;
    struct error err;

    for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++)
        for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
            buf_truncate(&s->got, 0);
            s->finished = s->freed = false;
            struct writer *w = relay_new(&s->writer);
            assert_int_equal(write_pattern(w, totals[t], pieces[p], &err), 0);
            assert_int_equal(writer_finish(w, &err), 0);
            assert_true(s->finished);
            writer_free(w);
            assert_true(s->freed);
            assert_int_equal(s->got.len, totals[t]);
            for (size_t i = 0; i < s->got.len; i++)
                if (s->got.data[i] != (char)(i * 31 >> 3))
                    fail_msg("byte %zu of %zu, pieces of %zu", i, totals[t], pieces[p]);
        }
}

static void a_failure_behind_comes_back_unchanged_at_every_write(void **state)
{
    struct sink *s = *state;

    for (s->fail_at = 1; s->fail_at <= 8; s->fail_at++) {
        struct error err = {0};
        s->writes = 0;
        s->finished = false;
        struct writer *w = relay_new(&s->writer);
        int result = write_pattern(w, 8 * LIMIT_STREAM_CHUNK, LIMIT_STREAM_CHUNK, &err);
        if (result == 0)
            result = writer_finish(w, &err);
        assert_int_equal(result, -1);
        assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
        assert_non_null(strstr(err.message, "full at write"));
        assert_int_equal(s->writes, s->fail_at);
        assert_false(s->finished);
        writer_free(w);
    }
}

static void finish_is_on_the_callers_thread_and_its_failure_comes_back(void **state)
{
    struct sink *s = *state;
    struct error err = {0};
    struct writer *w = relay_new(&s->writer);

    s->fail_finish = true;
    assert_int_equal(write_pattern(w, 10, 10, &err), 0);
    assert_int_equal(writer_finish(w, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    assert_true(pthread_equal(s->finisher, pthread_self()));
    writer_free(w);
}

static void freeing_an_unfinished_one_aborts_and_frees_the_next(void **state)
{
    struct sink *s = *state;
    struct error err;
    struct writer *w = relay_new(&s->writer);

    assert_int_equal(write_pattern(w, 3 * LIMIT_STREAM_CHUNK, LIMIT_STREAM_CHUNK, &err), 0);
    writer_free(w);
    assert_false(s->finished);
    assert_true(s->freed);
}

/* With the sink held, only so much is taken; the rest waits for it. */
static void *write_much(void *w)
{
    struct error err;

    return (void *)(intptr_t)write_pattern(w, 32 * LIMIT_STREAM_CHUNK, LIMIT_STREAM_CHUNK, &err);
}

static void a_slow_sink_holds_the_source_and_loses_nothing(void **state)
{
    struct sink *s = *state;
    struct error err;
    pthread_t source;
    void *result;
    struct writer *w = relay_new(&s->writer);

    pthread_mutex_lock(&s->gate);
    assert_int_equal(pthread_create(&source, NULL, write_much, w), 0);
    pthread_mutex_unlock(&s->gate);
    assert_int_equal(pthread_join(source, &result), 0);
    assert_null(result);
    assert_int_equal(writer_finish(w, &err), 0);
    assert_int_equal(s->got.len, 32 * (size_t)LIMIT_STREAM_CHUNK);
    writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_arrive_in_order_whatever_the_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_behind_comes_back_unchanged_at_every_write, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(finish_is_on_the_callers_thread_and_its_failure_comes_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(freeing_an_unfinished_one_aborts_and_frees_the_next, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_slow_sink_holds_the_source_and_loses_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
