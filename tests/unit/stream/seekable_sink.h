/* SPDX-License-Identifier: MIT */
/*
 * seekable_sink.h - what the tests of the seekable writer share: content to compress, and the end
 * of the chain, which keeps all bytes, can be held inside a write, fails when told to and notes
 * which thread calls it.
 */
#ifndef KEEPFS_TESTS_SEEKABLE_SINK_H
#define KEEPFS_TESTS_SEEKABLE_SINK_H

#include "stream/seekable.h"
#include "util/buf.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define F SEEKABLE_FRAME

static inline uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Rows as an application would export them. Heap allocated. */
static inline char *make_text(size_t len, uint64_t seed)
{
    static const char *const words[] = {"ash",   "birch", "cedar",  "elm",    "fir",
                                        "larch", "maple", "spruce", "willow", "yew"};
    char *text = xmalloc(len), row[160];

    for (size_t at = 0; at < len;) {
        int n = snprintf(row, sizeof row, "{\"id\":%u,\"name\":\"%s %s\",\"at\":%u,\"ok\":%s}\n",
                         (unsigned)(random_next(&seed) % 100000), words[random_next(&seed) % 10],
                         words[random_next(&seed) % 10], (unsigned)random_next(&seed),
                         random_next(&seed) & 1 ? "true" : "false");
        size_t piece = (size_t)n < len - at ? (size_t)n : len - at;
        memcpy(text + at, row, piece);
        at += piece;
    }
    return text;
}

struct sink {
    struct writer writer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf got;
    int writes, fail_at; /* the write that fails, from 1; 0 = none */
    bool held;           /* a write waits until it is not */
    bool inside, overlapped;
    bool fail_finish, finished, freed;
    int threads; /* that wrote one after the other */
    pthread_t last_thread, finish_thread;
};

static inline int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct sink *s = (struct sink *)w;
    int result = 0;

    pthread_mutex_lock(&s->lock);
    s->overlapped |= s->inside;
    s->inside = true;
    if (s->writes++ == 0 || !pthread_equal(s->last_thread, pthread_self()))
        s->threads++;
    s->last_thread = pthread_self();
    pthread_cond_broadcast(&s->changed);
    while (s->held)
        pthread_cond_wait(&s->changed, &s->lock);
    if (s->writes == s->fail_at)
        result = error_set(err, ERR_DESTINATION_NO_SPACE, "full at write %d", s->writes);
    else
        buf_add(&s->got, data, len);
    s->inside = false;
    pthread_mutex_unlock(&s->lock);
    return result;
}

static inline int sink_finish(struct writer *w, struct error *err)
{
    struct sink *s = (struct sink *)w;

    s->overlapped |= s->inside;
    s->finish_thread = pthread_self();
    if (s->fail_finish)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "fsync failed");
    s->finished = true;
    return 0;
}

static inline void sink_free(struct writer *w)
{
    struct sink *s = (struct sink *)w;

    s->overlapped |= s->inside;
    s->freed = true;
}

static inline void sink_init(struct sink *s)
{
    static const struct writer_ops ops = {
        .write = sink_write, .finish = sink_finish, .free = sink_free};

    memset(s, 0, sizeof *s);
    s->writer.ops = &ops;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
}

static inline void sink_release(struct sink *s)
{
    buf_release(&s->got);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

static inline void sink_hold(struct sink *s, bool held)
{
    pthread_mutex_lock(&s->lock);
    s->held = held;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* Until the write numbered `count` has begun. */
static inline void sink_await_write(struct sink *s, int count)
{
    pthread_mutex_lock(&s->lock);
    while (s->writes < count)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static inline struct writer *seekable_ok(struct sink *s, int level, unsigned workers)
{
    struct writer *w = NULL;
    struct error err = {0};

    if (seekable_writer_new(&s->writer, level, workers, &w, &err) != 0)
        fail_msg("%s", err.message);
    return w;
}

/* The seekable stream of `content`, written in one piece; the caller releases it. */
static inline struct buf compress(const char *content, size_t len, int level, unsigned workers)
{
    struct sink s;
    struct error err = {0};

    sink_init(&s);
    struct writer *w = seekable_ok(&s, level, workers);
    if (writer_write(w, content, len, &err) != 0 || writer_finish(w, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(s.finished);
    writer_free(w);
    assert_true(s.freed);
    assert_false(s.overlapped);
    struct buf got = s.got;
    s.got = (struct buf)BUF_INIT;
    sink_release(&s);
    return got;
}

#endif
