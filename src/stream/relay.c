/* SPDX-License-Identifier: MIT */
/*
 * relay.c - a ring of buffers between the chain's thread and the relay's.
 *
 * Buffers first .. first + count - 1 are full, oldest first; the thread works on the oldest
 * without the lock and counts it off when it is written, so that nobody fills it meanwhile. The
 * thread ends when the ring is empty and `closing` was said, at the first failure, or, when
 * `aborting`, at once. All fields are guarded by the lock, but for the contents of buffers, which
 * belong to the side that the counts say.
 */
#include "stream/relay.h"

#include "keepfs/limits.h"
#include "util/buf.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 4 };

struct relay {
    struct writer writer;
    struct writer *next;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        char *data;
        size_t len;
    } ring[BUFFERS];
    size_t first, count;
    bool closing, aborting;
    struct error error; /* the thread's; ERR_NONE while next takes everything */
};

/* With the lock held: the oldest full buffer, or -1 when there will be none. */
static int wait_for_full(struct relay *r)
{
    while (r->count == 0 && !r->closing && !r->aborting)
        pthread_cond_wait(&r->changed, &r->lock);
    return r->count == 0 || r->aborting ? -1 : (int)r->first;
}

static void *hand_on(void *ctx)
{
    struct relay *r = ctx;
    struct error err;
    int i;

    pthread_mutex_lock(&r->lock);
    while (r->error.code == ERR_NONE && (i = wait_for_full(r)) >= 0) {
        pthread_mutex_unlock(&r->lock);
        int failed = writer_write(r->next, r->ring[i].data, r->ring[i].len, &err);
        pthread_mutex_lock(&r->lock);
        if (failed)
            r->error = err;
        r->first = (r->first + 1) % BUFFERS;
        r->count--;
        pthread_cond_signal(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Takes at most a buffer's size. */
static int put_chunk(struct relay *r, const char *data, size_t len, struct error *err)
{
    pthread_mutex_lock(&r->lock);
    while (r->count == BUFFERS && r->error.code == ERR_NONE)
        pthread_cond_wait(&r->changed, &r->lock);
    bool failed = r->error.code != ERR_NONE;
    if (failed)
        *err = r->error;
    size_t free_one = (r->first + r->count) % BUFFERS;
    pthread_mutex_unlock(&r->lock);
    if (failed)
        return -1;

    memcpy(r->ring[free_one].data, data, len);
    r->ring[free_one].len = len;
    pthread_mutex_lock(&r->lock);
    r->count++;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static int relay_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct relay *r = (struct relay *)w;

    for (const char *p = data; len > 0;) {
        size_t n = len < LIMIT_STREAM_CHUNK ? len : LIMIT_STREAM_CHUNK;
        if (put_chunk(r, p, n, err) != 0)
            return -1;
        p += n;
        len -= n;
    }
    return 0;
}

static void join(struct relay *r, bool abort_it)
{
    if (r->joined)
        return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    r->aborting = abort_it;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->joined = true;
}

static int relay_finish(struct writer *w, struct error *err)
{
    struct relay *r = (struct relay *)w;

    join(r, false);
    if (r->error.code != ERR_NONE) {
        *err = r->error;
        return -1;
    }
    return writer_finish(r->next, err);
}

static void relay_release(struct relay *r)
{
    for (int i = 0; i < BUFFERS; i++)
        free(r->ring[i].data);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void relay_free(struct writer *w)
{
    struct relay *r = (struct relay *)w;

    join(r, true);
    writer_free(r->next);
    relay_release(r);
}

struct writer *relay_new(struct writer *next)
{
    static const struct writer_ops ops = {
        .write = relay_write, .finish = relay_finish, .free = relay_free};
    struct relay *r = xcalloc(1, sizeof *r);

    r->writer.ops = &ops;
    r->next = next;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    for (int i = 0; i < BUFFERS; i++)
        r->ring[i].data = xmalloc(LIMIT_STREAM_CHUNK);
    if (pthread_create(&r->thread, NULL, hand_on, r) != 0) {
        relay_release(r);
        return next;
    }
    return &r->writer;
}
