/* SPDX-License-Identifier: MIT */
/*
 * fake_frames.h - a frame_source that a test commands: its loads can be held, made to fail, and are
 * counted; and calls in threads of their own, of which a test can tell that they wait.
 *
 * Include it after cmocka.
 */
#ifndef TESTS_STREAM_FAKE_FRAMES_H
#define TESTS_STREAM_FAKE_FRAMES_H

#include "keepfs/limits.h"
#include "stream/frames.h"
#include "util/buf.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES = 256, NONE = -1 };

/* Frames of a known pattern. Loads can be held, made to fail and are counted. */
struct fake {
    struct frame_source source;
    struct view *below; /* if set, a load reads its bytes there */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned loads[FRAMES], ahead[FRAMES]; /* by anyone, by a prefetcher */
    unsigned inside;                       /* loads under way */
    bool hold, hold_ahead;                 /* all of them, those of prefetchers */
    int fail;                              /* the frame that cannot be decoded */
    bool wrong;                            /* a load was asked for what is not there */
    bool freed;
    void *scratch; /* what the last load was given */
};

static inline char byte_at(uint64_t offset)
{
    return (char)((offset * 2654435761U >> 11) ^ offset);
}

static inline int fill(struct fake *f, uint64_t offset, char *out, size_t len, struct error *err)
{
    if (f->below)
        return view_pread(f->below, out, len, offset, err) == (ssize_t)len ? 0 : -1;
    for (size_t i = 0; i < len; i++)
        out[i] = byte_at(offset + i);
    return 0;
}

static inline int fake_load(struct frame_source *source, uint64_t index, void *out, size_t len,
                            struct frame_scratch *scratch, struct error *err)
{
    struct fake *f = (struct fake *)source;
    uint64_t at = index * source->frame_size;
    char *work = frame_scratch(scratch, len);
    char name[16];

    pthread_getname_np(pthread_self(), name, sizeof name);
    bool ahead = strcmp(name, "keepfs-prefetch") == 0;
    pthread_mutex_lock(&f->lock);
    uint64_t rest = at < source->size ? source->size - at : 0;
    if (f->freed || len == 0 || len != (rest < source->frame_size ? rest : source->frame_size))
        f->wrong = true;
    unsigned nth = ++f->loads[index % FRAMES];
    f->ahead[index % FRAMES] += ahead;
    f->scratch = work;
    f->inside++;
    pthread_cond_broadcast(&f->changed);
    while (f->hold || (ahead && f->hold_ahead))
        pthread_cond_wait(&f->changed, &f->lock);
    bool fails = f->fail == (int)index;
    pthread_mutex_unlock(&f->lock);

    int result = fails ? error_set(err, ERR_INTEGRITY_FAILED, "frame %d, load %u", (int)index, nth)
                       : fill(f, at, work, len, err);
    if (result == 0)
        memcpy(out, work, len);
    pthread_mutex_lock(&f->lock);
    f->inside--;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return result;
}

static inline void fake_free(struct frame_source *source)
{
    struct fake *f = (struct fake *)source;

    pthread_mutex_lock(&f->lock);
    f->freed = true;
    if (f->inside > 0)
        f->wrong = true;
    pthread_mutex_unlock(&f->lock);
    view_free(f->below);
}

static inline void fake_init(struct fake *f, uint64_t size, size_t frame_size)
{
    static const struct frame_source_ops ops = {.load = fake_load, .free = fake_free};

    memset(f, 0, sizeof *f);
    f->source = (struct frame_source){.ops = &ops, .size = size, .frame_size = frame_size};
    f->fail = NONE;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
}

/* After its view was freed. */
static inline void fake_judge(struct fake *f)
{
    assert_true(f->freed);
    assert_false(f->wrong);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
}

static inline void fake_hold(struct fake *f, bool all, bool ahead)
{
    pthread_mutex_lock(&f->lock);
    f->hold = all;
    f->hold_ahead = ahead;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_fail(struct fake *f, int index)
{
    pthread_mutex_lock(&f->lock);
    f->fail = index;
    pthread_mutex_unlock(&f->lock);
}

static inline unsigned loads(struct fake *f, unsigned index)
{
    pthread_mutex_lock(&f->lock);
    unsigned n = f->loads[index];
    pthread_mutex_unlock(&f->lock);
    return n;
}

static inline unsigned all_loads(struct fake *f)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FRAMES; i++)
        n += loads(f, i);
    return n;
}

/* Until a prefetcher has begun with the frame. */
static inline void wait_for_ahead(struct fake *f, unsigned index)
{
    pthread_mutex_lock(&f->lock);
    while (f->ahead[index] == 0)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static inline void wait_for_inside(struct fake *f, unsigned n)
{
    pthread_mutex_lock(&f->lock);
    while (f->inside != n)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* The bytes of a read that must succeed with `expected` of them. */
static inline void assert_read(struct view *v, uint64_t offset, size_t len, size_t expected)
{
    struct error err = {0};
    char *buf = xmalloc(len);
    ssize_t n = view_pread(v, buf, len, offset, &err);

    if (n != (ssize_t)expected)
        fail_msg("%zd bytes of %zu at %llu: %s", n, expected, (unsigned long long)offset,
                 err.message);
    assert_int_equal(err.code, ERR_NONE);
    for (size_t i = 0; i < expected; i++)
        if (buf[i] != byte_at(offset + i))
            fail_msg("byte %zu of %zu at %llu", i, expected, (unsigned long long)offset);
    free(buf);
}

static inline void read_frame(struct view *v, const struct fake *f, uint64_t index)
{
    assert_read(v, index * f->source.frame_size, 1, 1);
}

/* One call in a thread of its own, of which one can tell that it waits. */
struct call {
    struct view *view;
    uint64_t offset;
    pthread_t thread;
    atomic_int tid;
    char byte;
    ssize_t result;
    struct error err;
};

static inline void *call_pread(void *ctx)
{
    struct call *c = ctx;

    atomic_store(&c->tid, gettid());
    c->result = view_pread(c->view, &c->byte, 1, c->offset, &c->err);
    return NULL;
}

static inline void *call_free(void *ctx)
{
    struct call *c = ctx;

    atomic_store(&c->tid, gettid());
    view_free(c->view);
    return NULL;
}

static inline bool runs(int tid)
{
    char path[64], stat[256] = "";

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(stat, 1, sizeof stat - 1, f);
    fclose(f);
    stat[n] = '\0';
    const char *state = strrchr(stat, ')');
    return state && state[1] != '\0' && state[2] != 'S';
}

/* Starts it and returns when it sleeps or has ended. */
static inline void call_start(struct call *c, void *(*run)(void *), struct view *v, uint64_t offset)
{
    *c = (struct call){.view = v, .offset = offset};
    assert_int_equal(pthread_create(&c->thread, NULL, run, c), 0);
    while (atomic_load(&c->tid) == 0 || runs(atomic_load(&c->tid)))
        sched_yield();
}

static inline void call_join(struct call *c)
{
    assert_int_equal(pthread_join(c->thread, NULL), 0);
}

#endif
