/* SPDX-License-Identifier: MIT */
/*
 * follow.c - one thread that reads up to where it may, writes that, and waits for more.
 *
 * It reads whole chunks, so that many small steps of the other side do not become many small
 * writes; only the last chunk, known once the file is complete, may be short. `ready`, `whole` and
 * `stopping` are the caller's word to the thread, `failed` and `error` the thread's to the caller;
 * the lock guards them. All else belongs to whoever runs follow().
 */
#include "stream/follow.h"

#include "keepfs/limits.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct follower {
    int fd;
    char *head;
    size_t head_len;
    struct writer *out;
    pthread_t thread;
    bool running; /* the thread is to be joined */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t ready;
    bool whole, stopping;
    bool failed;
    struct error error;
};

/* Waits until a chunk at `at` may be read: its size, 0 at the end or when it is over. */
static size_t wait_for_chunk(struct follower *f, uint64_t at)
{
    pthread_mutex_lock(&f->lock);
    while (!f->stopping && !f->whole && f->ready - at < LIMIT_STREAM_CHUNK)
        pthread_cond_wait(&f->changed, &f->lock);
    uint64_t left = f->stopping ? 0 : f->ready - at;
    pthread_mutex_unlock(&f->lock);
    return left < LIMIT_STREAM_CHUNK ? (size_t)left : LIMIT_STREAM_CHUNK;
}

static int copy_chunk(struct follower *f, char *chunk, size_t len, uint64_t at, struct error *err)
{
    ssize_t n = fd_pread_all(f->fd, chunk, len, (off_t)at);

    if (n != (ssize_t)len)
        return error_sys(err, SIDE_STATE, n < 0 ? errno : EIO, "reading what was staged");
    if (at == 0)
        memcpy(chunk, f->head, f->head_len < len ? f->head_len : len);
    return writer_write(f->out, chunk, len, err);
}

static void *follow(void *ctx)
{
    struct follower *f = ctx;
    __attribute__((cleanup(free_charp))) char *chunk = xmalloc(LIMIT_STREAM_CHUNK);
    struct error err;
    size_t len;

    for (uint64_t at = 0; (len = wait_for_chunk(f, at)) > 0; at += len) {
        if (copy_chunk(f, chunk, len, at, &err) == 0)
            continue;
        pthread_mutex_lock(&f->lock);
        f->failed = true;
        f->error = err;
        pthread_mutex_unlock(&f->lock);
        break;
    }
    return NULL;
}

struct follower *follower_new(int fd, const void *head, size_t head_len, struct writer *out)
{
    struct follower *f = xcalloc(1, sizeof *f);

    assert(head_len <= LIMIT_STREAM_CHUNK);
    f->fd = fd;
    f->out = out;
    f->head = xmalloc(head_len ? head_len : 1);
    f->head_len = head_len;
    memcpy(f->head, head, head_len);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->running = pthread_create(&f->thread, NULL, follow, f) == 0;
    return f;
}

void follower_ready(struct follower *f, uint64_t size)
{
    pthread_mutex_lock(&f->lock);
    assert(size >= f->ready);
    f->ready = size;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

bool follower_failed(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    bool failed = f->failed;
    pthread_mutex_unlock(&f->lock);
    return failed;
}

/* Tells the thread that there is nothing to wait for any more, and waits for it. */
static void end(struct follower *f, bool whole)
{
    pthread_mutex_lock(&f->lock);
    f->whole = whole;
    f->stopping = !whole;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (f->running)
        pthread_join(f->thread, NULL);
    else if (whole)
        follow(f);
    f->running = false;
}

int follower_finish(struct follower *f, uint64_t size, struct error *err)
{
    follower_ready(f, size);
    end(f, true);
    if (!f->failed)
        return 0;
    *err = f->error;
    return -1;
}

void follower_free(struct follower *f)
{
    if (!f)
        return;
    if (f->running)
        end(f, false);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f->head);
    free(f);
}
