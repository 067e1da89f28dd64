/* SPDX-License-Identifier: MIT */
/*
 * test_follow.c - a file that grows is written to the sink as it becomes ready, and no further.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/limits.h"
#include "stream/follow.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK = LIMIT_STREAM_CHUNK };

/* Keeps what it gets, says how much that is, fails at a write if told to. */
struct sink {
    struct writer writer;
    struct buf got;
    size_t writes, fail_at;
    pthread_mutex_t lock; /* of got and writes */
    pthread_cond_t changed;
};

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct sink *s = (struct sink *)w;

    pthread_mutex_lock(&s->lock);
    bool fails = ++s->writes == s->fail_at;
    if (!fails)
        buf_add(&s->got, data, len);
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return fails ? error_set(err, ERR_DESTINATION_NO_SPACE, "full at write %zu", s->writes) : 0;
}

static const struct writer_ops sink_ops = {.write = sink_write};

/* Returns when that many bytes have arrived. */
static void await_bytes(struct sink *s, size_t bytes)
{
    pthread_mutex_lock(&s->lock);
    while (s->got.len < bytes)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

struct lab {
    struct sink sink;
    int fd;
    struct follower *follower;
};

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 131 + i / CHUNK);
}

/* Puts the bytes from..to into the file. */
static void stage(struct lab *lab, size_t from, size_t to)
{
    unsigned char *data = xmalloc(to - from + 1);

    for (size_t i = from; i < to; i++)
        data[i - from] = byte_at(i);
    assert_int_equal(pwrite(lab->fd, data, to - from, (off_t)from), (ssize_t)(to - from));
    free(data);
}

static void expect_got(struct lab *lab, size_t from, size_t size)
{
    assert_int_equal(lab->sink.got.len, size);
    for (size_t i = from; i < size; i++)
        if ((unsigned char)lab->sink.got.data[i] != byte_at(i))
            fail_msg("byte %zu is another", i);
}

static int setup(void **state)
{
    struct lab *lab = xcalloc(1, sizeof *lab);

    lab->sink.writer.ops = &sink_ops;
    pthread_mutex_init(&lab->sink.lock, NULL);
    pthread_cond_init(&lab->sink.changed, NULL);
    lab->fd = memfd_create("follow", MFD_CLOEXEC);
    assert_true(lab->fd >= 0);
    lab->follower = follower_new(lab->fd, "", 0, &lab->sink.writer);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;

    follower_free(lab->follower);
    buf_release(&lab->sink.got);
    pthread_cond_destroy(&lab->sink.changed);
    pthread_mutex_destroy(&lab->sink.lock);
    close(lab->fd);
    free(lab);
    return 0;
}

static void the_whole_file_arrives_whatever_its_size(void **state)
{
    static const size_t sizes[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5};
    struct error err;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct lab *lab = *state;
        stage(lab, 0, sizes[i]);
        assert_int_equal(follower_finish(lab->follower, sizes[i], &err), 0);
        expect_got(lab, 0, sizes[i]);
        teardown(state);
        setup(state);
    }
}

static void what_is_ready_arrives_before_the_file_is_complete(void **state)
{
    struct lab *lab = *state;
    struct error err;

    stage(lab, 0, 2 * CHUNK);
    follower_ready(lab->follower, 2 * CHUNK);
    await_bytes(&lab->sink, 2 * CHUNK);
    stage(lab, 2 * CHUNK, 2 * CHUNK + 7);
    assert_int_equal(follower_finish(lab->follower, 2 * CHUNK + 7, &err), 0);
    expect_got(lab, 0, 2 * CHUNK + 7);
}

/* What is behind it may still change. */
static void what_is_not_ready_is_not_read(void **state)
{
    struct lab *lab = *state;
    struct error err;

    stage(lab, 0, CHUNK);
    assert_int_equal(ftruncate(lab->fd, 3 * CHUNK), 0);
    follower_ready(lab->follower, CHUNK + 1);
    await_bytes(&lab->sink, CHUNK);
    follower_ready(lab->follower, 2 * CHUNK - 1);
    stage(lab, CHUNK, 3 * CHUNK);
    assert_int_equal(follower_finish(lab->follower, 3 * CHUNK, &err), 0);
    expect_got(lab, 0, 3 * CHUNK);
}

static void the_head_is_given_in_the_place_of_the_file_s(void **state)
{
    static const size_t sizes[] = {4, 5, CHUNK + 1};
    struct error err;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct lab *lab = *state;
        follower_free(lab->follower);
        lab->follower = follower_new(lab->fd, "head", 4, &lab->sink.writer);
        stage(lab, 0, sizes[i]);
        assert_int_equal(follower_finish(lab->follower, sizes[i], &err), 0);
        assert_memory_equal(lab->sink.got.data, "head", 4);
        expect_got(lab, 4, sizes[i]);
        teardown(state);
        setup(state);
    }
}

static void the_writer_s_error_comes_back_as_it_is(void **state)
{
    struct lab *lab = *state;
    struct error err;

    lab->sink.fail_at = 2;
    stage(lab, 0, 4 * CHUNK);
    follower_ready(lab->follower, 4 * CHUNK);
    while (!follower_failed(lab->follower))
        ;
    assert_int_equal(follower_finish(lab->follower, 4 * CHUNK, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
    assert_string_equal(err.message, "full at write 2");
    assert_int_equal(lab->sink.writes, 2);
}

static void a_file_shorter_than_was_said_is_an_error_of_the_state(void **state)
{
    struct lab *lab = *state;
    struct error err;

    stage(lab, 0, CHUNK);
    assert_int_equal(follower_finish(lab->follower, CHUNK + 1, &err), -1);
    assert_int_equal(err.code, ERR_STATE_UNAVAILABLE);
}

static void freeing_writes_nothing_more(void **state)
{
    struct lab *lab = *state;

    stage(lab, 0, 2 * CHUNK);
    follower_ready(lab->follower, CHUNK);
    await_bytes(&lab->sink, CHUNK);
    follower_free(lab->follower);
    lab->follower = NULL;
    assert_int_equal(lab->sink.writes, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_whole_file_arrives_whatever_its_size),
        TEST(what_is_ready_arrives_before_the_file_is_complete),
        TEST(what_is_not_ready_is_not_read),
        TEST(the_head_is_given_in_the_place_of_the_file_s),
        TEST(the_writer_s_error_comes_back_as_it_is),
        TEST(a_file_shorter_than_was_said_is_an_error_of_the_state),
        TEST(freeing_writes_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
