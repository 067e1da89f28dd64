/* SPDX-License-Identifier: MIT */
/*
 * frames.c - a table of slots, a short queue of frames to decode ahead, one lock for both.
 *
 * States of a slot:
 *
 *   EMPTY    no frame and no memory
 *   LOADING  the thread that claimed it decodes into it without the lock; others that want the
 *            frame pin the slot and wait
 *   READY    its bytes stay as they are while it is pinned; unpinned, it may be claimed for
 *            another frame, and its memory is used again if it fits
 *   FAILED   not found by anybody any more; keeps the error for those that waited for this load,
 *            and is emptied by the last of them. Who comes later loads anew, in another slot.
 *
 * Whoever loads, waits for a load or copies from a slot has it pinned; pins and states change
 * under the lock, data only in LOADING, by its loader. All waiting for slots is on `changed`: a
 * load ended, or a slot lost its last pin.
 *
 * No deadlock: a view's load may wait only for slots of the views below it. A thread has at most
 * one slot of each of two layers, so while it asks for one, the others hold less than all.
 * A prefetch never waits for a slot: if all are pinned it is dropped.
 *
 * Scratch memory is a free list that has as many elements as loads ever ran at once; it goes with
 * the last view. The queue belongs to nobody: an entry is dropped when it is the oldest of a full
 * queue or when its view is freed.
 */
#include "stream/frames.h"

#include "keepfs/limits.h"
#include "util/buf.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE_MAX = 4 * LIMIT_PREFETCHERS };

_Static_assert(LIMIT_OPEN_FRAMES >= 2 * (LIMIT_FUSE_WORKERS + LIMIT_PREFETCHERS),
               "each thread that reads may hold two slots");

struct frame_scratch {
    struct frame_scratch *next; /* in the free list */
    void *data;
    size_t size;
};

struct framed_view {
    struct view view;
    struct frame_cache *cache;
    struct frame_source *source;
    bool prefetch;
    uint64_t last; /* the frame that was read last, */
    uint64_t end;  /* and where that read ended; 0 before the first; both under the cache's lock */
};

enum slot_state { EMPTY, LOADING, READY, FAILED };

struct slot {
    enum slot_state state;
    struct framed_view *view;
    uint64_t index;
    unsigned pins;
    uint64_t used; /* the cache's clock when it was last asked for */
    char *data;
    size_t capacity;
    struct error error; /* of FAILED */
};

struct ahead {
    struct framed_view *view;
    uint64_t index;
};

struct frame_cache {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    pthread_cond_t work; /* the queue has an entry, or the cache is being freed */
    struct slot slots[LIMIT_OPEN_FRAMES];
    uint64_t clock;
    size_t bytes, budget; /* of all slots' data */
    size_t views;
    struct frame_scratch *scratch;
    struct ahead queue[QUEUE_MAX]; /* oldest first */
    size_t queued;
    pthread_t threads[LIMIT_PREFETCHERS];
    unsigned wanted, running; /* prefetchers */
    bool closing;
};

void *frame_scratch(struct frame_scratch *s, size_t size)
{
    if (s->size < size) {
        free(s->data);
        s->data = xmalloc(size);
        s->size = size;
    }
    return s->data;
}

/* With the lock held. */
static struct frame_scratch *scratch_take(struct frame_cache *c)
{
    struct frame_scratch *s = c->scratch;

    if (!s)
        return xcalloc(1, sizeof *s);
    c->scratch = s->next;
    return s;
}

/* With the lock held. */
static void scratch_give(struct frame_cache *c, struct frame_scratch *s)
{
    s->next = c->scratch;
    c->scratch = s;
}

/* With the lock held. */
static void scratch_release(struct frame_cache *c)
{
    while (c->scratch) {
        struct frame_scratch *s = c->scratch;
        c->scratch = s->next;
        free(s->data);
        free(s);
    }
}

static uint64_t frame_count(const struct frame_source *s)
{
    return s->size / s->frame_size + (s->size % s->frame_size != 0);
}

static size_t frame_len(const struct frame_source *s, uint64_t index)
{
    uint64_t rest = s->size - index * s->frame_size;

    return rest < s->frame_size ? (size_t)rest : s->frame_size;
}

/* With the lock held: the slot that has or will have the frame, or NULL. */
static struct slot *slot_find(struct frame_cache *c, const struct framed_view *v, uint64_t index)
{
    for (size_t i = 0; i < LIMIT_OPEN_FRAMES; i++) {
        struct slot *s = &c->slots[i];
        if ((s->state == LOADING || s->state == READY) && s->view == v && s->index == index)
            return s;
    }
    return NULL;
}

/* With the lock held. */
static void slot_empty(struct frame_cache *c, struct slot *s)
{
    free(s->data);
    c->bytes -= s->capacity;
    s->data = NULL;
    s->capacity = 0;
    s->view = NULL;
    s->state = EMPTY;
}

/* With the lock held: the least recently used slot with a frame that nobody has pinned, or NULL. */
static struct slot *slot_oldest(struct frame_cache *c)
{
    struct slot *oldest = NULL;

    for (size_t i = 0; i < LIMIT_OPEN_FRAMES; i++) {
        struct slot *s = &c->slots[i];
        if (s->state != EMPTY && s->pins == 0 && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    return oldest;
}

static struct slot *slot_empty_one(struct frame_cache *c)
{
    for (size_t i = 0; i < LIMIT_OPEN_FRAMES; i++)
        if (c->slots[i].state == EMPTY)
            return &c->slots[i];
    return NULL;
}

/* With the lock held: an empty slot, else the least recently used of those without pins, pinned
 * and LOADING for the frame. Where it would not fit into the budget, the least recently used makes
 * room first. NULL if all are pinned. */
static struct slot *slot_claim(struct frame_cache *c, struct framed_view *v, uint64_t index)
{
    size_t len = frame_len(v->source, index);
    struct slot *s = NULL;

    while (!s && c->bytes + len > c->budget && (s = slot_oldest(c)))
        if (c->bytes - s->capacity + len > c->budget) {
            slot_empty(c, s);
            s = NULL;
        }
    if (!s)
        s = slot_empty_one(c);
    if (!s)
        s = slot_oldest(c);
    if (!s)
        return NULL;
    if (s->capacity != len) {
        slot_empty(c, s);
        s->capacity = len;
        c->bytes += len;
    }
    s->state = LOADING;
    s->view = v;
    s->index = index;
    s->pins = 1;
    return s;
}

/* With the lock held. */
static void slot_unpin(struct frame_cache *c, struct slot *s)
{
    if (--s->pins > 0)
        return;
    if (s->state == FAILED)
        slot_empty(c, s);
    pthread_cond_broadcast(&c->changed);
}

/* With the lock held, which it drops while it decodes: makes a claimed slot READY or FAILED. */
static void slot_load(struct frame_cache *c, struct slot *s)
{
    struct frame_source *source = s->view->source;
    struct frame_scratch *scratch = scratch_take(c);
    size_t len = frame_len(source, s->index);
    struct error err;

    pthread_mutex_unlock(&c->lock);
    if (!s->data)
        s->data = xmalloc(len);
    int failed = source->ops->load(source, s->index, s->data, len, scratch, &err);
    pthread_mutex_lock(&c->lock);

    scratch_give(c, scratch);
    s->state = failed ? FAILED : READY;
    if (failed)
        s->error = err;
    s->used = ++c->clock;
    pthread_cond_broadcast(&c->changed);
}

/* With the lock held: the pinned, READY slot of the frame, or NULL with the load's error. */
static struct slot *slot_get(struct frame_cache *c, struct framed_view *v, uint64_t index,
                             struct error *err)
{
    struct slot *s;

    for (;;) {
        if ((s = slot_find(c, v, index))) {
            s->pins++;
            break;
        }
        if ((s = slot_claim(c, v, index))) {
            slot_load(c, s);
            break;
        }
        pthread_cond_wait(&c->changed, &c->lock);
    }
    while (s->state == LOADING)
        pthread_cond_wait(&c->changed, &c->lock);
    if (s->state == READY) {
        s->used = ++c->clock;
        return s;
    }
    *err = s->error;
    slot_unpin(c, s);
    return NULL;
}

static void *decode_ahead(void *ctx)
{
    struct frame_cache *c = ctx;

    pthread_setname_np(pthread_self(), "keepfs-prefetch");
    pthread_mutex_lock(&c->lock);
    while (!c->closing) {
        if (c->queued == 0) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        struct ahead a = c->queue[0];
        memmove(c->queue, c->queue + 1, --c->queued * sizeof a);
        if (slot_find(c, a.view, a.index))
            continue;
        struct slot *s = slot_claim(c, a.view, a.index);
        if (s) {
            slot_load(c, s);
            slot_unpin(c, s);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* With the lock held: is there a thread that decodes ahead? */
static bool prefetchers_run(struct frame_cache *c)
{
    while (c->running < c->wanted) {
        if (pthread_create(&c->threads[c->running], NULL, decode_ahead, c) != 0) {
            c->wanted = c->running;
            break;
        }
        c->running++;
    }
    return c->running > 0;
}

/* With the lock held. */
static void enqueue(struct frame_cache *c, struct framed_view *v, uint64_t index)
{
    for (size_t i = 0; i < c->queued; i++)
        if (c->queue[i].view == v && c->queue[i].index == index)
            return;
    if (slot_find(c, v, index) || !prefetchers_run(c))
        return;
    if (c->queued == QUEUE_MAX)
        memmove(c->queue, c->queue + 1, --c->queued * sizeof c->queue[0]);
    c->queue[c->queued++] = (struct ahead){.view = v, .index = index};
    pthread_cond_signal(&c->work);
}

/* With the lock held: a read of `len` bytes at `offset`, in frame `index`, is about to be served.
 * In order is what goes on where the last read ended, or in the frame after the last read's: the
 * reads of one reader may reach us over several threads, and so swapped. */
static void look_ahead(struct framed_view *v, uint64_t index, uint64_t offset, size_t len)
{
    bool in_order = v->end != 0 && (offset == v->end || index == v->last + 1);

    v->last = index;
    v->end = offset + len;
    if (!v->prefetch || !in_order)
        return;
    for (uint64_t i = index + 1; i <= index + LIMIT_PREFETCHERS; i++)
        if (i < frame_count(v->source))
            enqueue(v->cache, v, i);
}

static ssize_t framed_pread(struct view *view, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    struct framed_view *v = (struct framed_view *)view;
    struct frame_cache *c = v->cache;
    size_t done = 0;

    if (offset >= view->size)
        return 0;
    if (len > view->size - offset)
        len = (size_t)(view->size - offset);
    while (done < len) {
        uint64_t index = (offset + done) / v->source->frame_size;
        size_t at = (size_t)((offset + done) % v->source->frame_size);
        size_t n = frame_len(v->source, index) - at;
        if (n > len - done)
            n = len - done;

        pthread_mutex_lock(&c->lock);
        look_ahead(v, index, offset + done, n);
        struct slot *s = slot_get(c, v, index, err);
        pthread_mutex_unlock(&c->lock);
        if (!s)
            return -1;
        memcpy((char *)buf + done, s->data + at, n);
        done += n;
        pthread_mutex_lock(&c->lock);
        slot_unpin(c, s);
        pthread_mutex_unlock(&c->lock);
    }
    return (ssize_t)done;
}

/* With the lock held. */
static void forget_queued(struct frame_cache *c, const struct framed_view *v)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->queued; i++)
        if (c->queue[i].view != v)
            c->queue[kept++] = c->queue[i];
    c->queued = kept;
}

/* With the lock held: waits for the view's prefetches, then gives the memory of its frames back. */
static void forget_frames(struct frame_cache *c, const struct framed_view *v)
{
    for (size_t i = 0; i < LIMIT_OPEN_FRAMES; i++) {
        struct slot *s = &c->slots[i];
        while (s->view == v && s->pins > 0)
            pthread_cond_wait(&c->changed, &c->lock);
        if (s->view == v)
            slot_empty(c, s);
    }
}

static void framed_free(struct view *view)
{
    struct framed_view *v = (struct framed_view *)view;
    struct frame_cache *c = v->cache;

    pthread_mutex_lock(&c->lock);
    forget_queued(c, v);
    forget_frames(c, v);
    if (--c->views == 0)
        scratch_release(c);
    pthread_mutex_unlock(&c->lock);
    v->source->ops->free(v->source);
    free(v);
}

struct view *framed_view_new(struct frame_cache *c, struct frame_source *source, bool prefetch)
{
    static const struct view_ops ops = {.pread = framed_pread, .free = framed_free};
    struct framed_view *v = xcalloc(1, sizeof *v);

    assert(source->frame_size > 0);
    v->view = (struct view){.ops = &ops, .size = source->size};
    v->cache = c;
    v->source = source;
    v->prefetch = prefetch;
    pthread_mutex_lock(&c->lock);
    c->views++;
    pthread_mutex_unlock(&c->lock);
    return &v->view;
}

struct frame_cache *frame_cache_new(unsigned prefetchers)
{
    struct frame_cache *c = xcalloc(1, sizeof *c);

    assert(prefetchers <= LIMIT_PREFETCHERS);
    c->wanted = prefetchers;
    c->budget = prefetchers > 0 ? LIMIT_FRAME_BYTES : LIMIT_FRAME_BYTES / 8;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    pthread_cond_init(&c->work, NULL);
    return c;
}

void frame_cache_free(struct frame_cache *c)
{
    if (!c)
        return;
    assert(c->views == 0);
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->running; i++)
        pthread_join(c->threads[i], NULL);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
