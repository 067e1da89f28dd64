/* SPDX-License-Identifier: MIT */
/*
 * waiters.c - watches, parked reads, and the thread that answers them.
 *
 * A parked read is in two lists: of its watch, and of all in the order of their coming, which is
 * also the order of their deadlines, since all are held equally long. It is `armed` from
 * waiters_commit on: until then nobody but waiters_commit answers it, and an interrupt only leaves
 * a mark. Whoever takes it out of the lists, under the lock, is who answers it, without the lock.
 *
 * What happened is noted at the watch by whoever tells it: a state, never lost however many come
 * at once, or a line in the ring. Watches of jobs lie in buckets by row; one for which something
 * happened is put into the list of those that are due, from which the thread takes it. Events are
 * due to all their watches whenever the ring's count differs from what the thread saw last.
 *
 * The thread answers BATCH requests at a time, so that what it has in its hands is bounded; a watch
 * stays due until nothing of it can be answered.
 */
#include "fs/waiters.h"

#include "util/buf.h"
#include "util/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { BUCKETS = 256, BATCH = 64 };

struct parked {
    TAILQ_ENTRY(parked) of_watch, of_all, of_request;
    struct watch *watch;
    void *request;
    size_t size;
    time_ms since; /* monotonic */
    bool armed, interrupted;
    struct buf text; /* the answer, once it is taken out: this or errnum */
    int errnum;
};
TAILQ_HEAD(parked_list, parked);

struct watch {
    struct waiters *waiters;
    TAILQ_ENTRY(watch) of_bucket, of_due;
    enum watch_kind kind;
    int64_t job;
    bool due;
    bool ended;                 /* wait: the state is known; it was put into cursor.rest */
    struct event_cursor cursor; /* wait: only its rest */
    struct parked_list parked;
    void *poll; /* NULL: nobody polls */
};
TAILQ_HEAD(watch_list, watch);

struct waiters {
    struct waiters_calls calls;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock; /* guards all below, all watches and all that is parked */
    pthread_cond_t changed;
    bool stopping;
    int hold_ms;
    size_t count; /* parked */
    uint64_t seen;
    struct parked_list all, requests[BUCKETS]; /* by age; by the pointer */
    struct watch_list due, events, jobs[BUCKETS];
    struct event_ring ring;
};

/* ---- what is there to read; with the lock held ---- */

static bool at_end(const struct watch *watch)
{
    return watch->kind == WATCH_WAIT ? watch->ended : watch->waiters->stopping;
}

static bool has_text(const struct watch *watch)
{
    if (watch->kind == WATCH_EVENTS)
        return event_ring_has(&watch->waiters->ring, &watch->cursor);
    return watch->cursor.rest.at < watch->cursor.rest.len;
}

static void give_text(struct watch *watch, size_t size, struct buf *out)
{
    const struct event_ring *ring = &watch->waiters->ring;
    bool events = watch->kind == WATCH_EVENTS;
    size_t room = events ? event_ring_left(ring, &watch->cursor) : EVENT_LINE;

    if (room > size)
        room = size;
    char *data = xmalloc(room);
    size_t got = events ? event_ring_read(ring, &watch->cursor, data, room)
                        : event_rest_read(&watch->cursor.rest, data, room);
    buf_add(out, data, got);
    free(data);
}

/* Prepares the answer, if there is one. */
static bool answer(struct parked *p)
{
    struct watch *watch = p->watch;
    struct waiters *w = watch->waiters;

    if (p->interrupted)
        p->errnum = EINTR;
    else if (has_text(watch))
        give_text(watch, p->size, &p->text);
    else if (at_end(watch))
        ;
    else if (w->stopping)
        p->errnum = ESHUTDOWN;
    else if (w->hold_ms > 0 && clock_monotonic() - p->since >= w->hold_ms)
        p->errnum = EINTR;
    else
        return false;
    return true;
}

/* ---- the lists; with the lock held ---- */

static void make_due(struct watch *watch)
{
    if (!watch->due)
        TAILQ_INSERT_TAIL(&watch->waiters->due, watch, of_due);
    watch->due = true;
    pthread_cond_signal(&watch->waiters->changed);
}

static struct parked_list *list_of_request(struct waiters *w, const void *request)
{
    return &w->requests[((uintptr_t)request / 64) % BUCKETS];
}

static void take_out(struct parked *p)
{
    TAILQ_REMOVE(&p->watch->parked, p, of_watch);
    TAILQ_REMOVE(&p->watch->waiters->all, p, of_all);
    TAILQ_REMOVE(list_of_request(p->watch->waiters, p->request), p, of_request);
    p->watch->waiters->count--;
}

static struct parked *find_request(struct waiters *w, const void *request)
{
    struct parked *p;

    TAILQ_FOREACH(p, list_of_request(w, request), of_request)
    if (p->request == request)
        break;
    return p;
}

/* What the thread has in its hands. */
struct batch {
    size_t answer_count, poll_count;
    struct parked *answers[BATCH];
    void *polls[BATCH];
};

static bool is_full(const struct batch *b)
{
    return b->answer_count == BATCH || b->poll_count == BATCH;
}

static void collect_watch(struct watch *watch, struct batch *b)
{
    struct parked *p, *next;

    for (p = TAILQ_FIRST(&watch->parked); p && !is_full(b); p = next) {
        next = TAILQ_NEXT(p, of_watch);
        if (!p->armed || !answer(p))
            continue;
        take_out(p);
        b->answers[b->answer_count++] = p;
    }
    if (is_full(b))
        return; /* it stays due */
    if (watch->poll)
        b->polls[b->poll_count++] = watch->poll;
    watch->poll = NULL;
    TAILQ_REMOVE(&watch->waiters->due, watch, of_due);
    watch->due = false;
}

/* Those whose time is over, or all of them at the end, are due. */
static void make_old_due(struct waiters *w, time_ms now)
{
    struct parked *p;

    TAILQ_FOREACH(p, &w->all, of_all)
    {
        if (!w->stopping && (w->hold_ms == 0 || now - p->since < w->hold_ms))
            break;
        if (p->armed)
            make_due(p->watch);
    }
}

static void make_readers_due(struct waiters *w)
{
    struct watch *watch;

    if (w->seen == w->ring.count)
        return;
    w->seen = w->ring.count;
    TAILQ_FOREACH(watch, &w->events, of_bucket)
    if (watch->poll || !TAILQ_EMPTY(&watch->parked))
        make_due(watch);
}

/* ---- answering; without the lock ---- */

static void deliver(const struct waiters *w, struct parked *p)
{
    if (p->errnum)
        w->calls.error(p->request, p->errnum);
    else
        w->calls.data(p->request, buf_text(&p->text), p->text.len);
    buf_release(&p->text);
    free(p);
}

static void drop_poll(const struct waiters *w, void *poll)
{
    if (poll)
        w->calls.drop(poll);
}

static void deliver_batch(const struct waiters *w, const struct batch *b)
{
    for (size_t i = 0; i < b->answer_count; i++)
        deliver(w, b->answers[i]);
    for (size_t i = 0; i < b->poll_count; i++) {
        w->calls.wake(b->polls[i]);
        w->calls.drop(b->polls[i]);
    }
}

/* ---- the thread ---- */

/* With the lock held, which it lets go while it waits. */
static void wait_for_change(struct waiters *w)
{
    const struct parked *oldest = TAILQ_FIRST(&w->all);

    if (w->hold_ms == 0 || !oldest) {
        pthread_cond_wait(&w->changed, &w->lock);
        return;
    }
    time_ms until = oldest->since + w->hold_ms;
    struct timespec ts = {.tv_sec = until / 1000, .tv_nsec = (long)(until % 1000) * 1000000};
    pthread_cond_timedwait(&w->changed, &w->lock, &ts);
}

static void *waiters_main(void *arg)
{
    struct waiters *w = arg;
    struct watch *watch;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct batch b = {0};
        make_readers_due(w);
        make_old_due(w, clock_monotonic());
        while (!is_full(&b) && (watch = TAILQ_FIRST(&w->due)) != NULL)
            collect_watch(watch, &b);
        if (b.answer_count > 0 || b.poll_count > 0) {
            pthread_mutex_unlock(&w->lock);
            deliver_batch(w, &b);
            pthread_mutex_lock(&w->lock);
        } else if (w->stopping) {
            break;
        } else {
            wait_for_change(w);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- life ---- */

static void free_shell(struct waiters *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct waiters *waiters_start(const struct waiters_calls *calls, struct error *err)
{
    struct waiters *w = xcalloc(1, sizeof *w);
    pthread_condattr_t monotonic;
    sigset_t all, before;

    w->calls = *calls;
    TAILQ_INIT(&w->all);
    TAILQ_INIT(&w->due);
    TAILQ_INIT(&w->events);
    for (size_t i = 0; i < BUCKETS; i++) {
        TAILQ_INIT(&w->jobs[i]);
        TAILQ_INIT(&w->requests[i]);
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, waiters_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return w;
    free_shell(w);
    error_sys(err, SIDE_STATE, failed, "cannot start the thread that answers parked reads");
    return NULL;
}

void waiters_hold(struct waiters *w, int hold_ms)
{
    pthread_mutex_lock(&w->lock);
    w->hold_ms = hold_ms;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void waiters_stop(struct waiters *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (!w->joined)
        pthread_join(w->thread, NULL);
    w->joined = true;
}

void waiters_free(struct waiters *w)
{
    if (!w)
        return;
    waiters_stop(w);
    assert(w->count == 0);
    free_shell(w);
}

/* ---- what happens ---- */

static struct watch_list *bucket(struct waiters *w, int64_t job)
{
    return &w->jobs[(uint64_t)job % BUCKETS];
}

/* With the lock held. The state is given once: after that, the end. */
static void end_wait(struct watch *watch, const char *state)
{
    struct event_rest *rest = &watch->cursor.rest;

    if (watch->ended)
        return;
    watch->ended = true;
    rest->len = (unsigned)snprintf(rest->text, sizeof rest->text, "%s\n", state);
}

static bool is_terminal(const char *state)
{
    return strcmp(state, job_state_name(JOB_PENDING)) != 0 &&
           strcmp(state, job_state_name(JOB_RUNNING)) != 0;
}

void waiters_event(void *waiters, const struct catalog_event *e)
{
    struct waiters *w = waiters;
    bool terminal = e->object == OBJECT_JOB && is_terminal(e->to);
    struct watch *watch;

    pthread_mutex_lock(&w->lock);
    event_ring_add(&w->ring, e);
    pthread_cond_signal(&w->changed);
    if (e->object == OBJECT_JOB)
        TAILQ_FOREACH(watch, bucket(w, e->row), of_bucket)
        {
            if (watch->job != e->row || (watch->kind == WATCH_WAIT && !terminal))
                continue;
            if (watch->kind == WATCH_WAIT)
                end_wait(watch, e->to);
            make_due(watch);
        }
    pthread_mutex_unlock(&w->lock);
}

void waiters_progress(void *waiters, int64_t job)
{
    struct waiters *w = waiters;
    struct watch *watch;

    pthread_mutex_lock(&w->lock);
    TAILQ_FOREACH(watch, bucket(w, job), of_bucket)
    if (watch->job == job && watch->kind == WATCH_PROGRESS)
        make_due(watch);
    pthread_mutex_unlock(&w->lock);
}

/* ---- watches ---- */

static struct watch_list *list_of(struct watch *watch)
{
    return watch->kind == WATCH_EVENTS ? &watch->waiters->events
                                       : bucket(watch->waiters, watch->job);
}

struct watch *watch_open(struct waiters *w, enum watch_kind kind, int64_t job)
{
    struct watch *watch = xcalloc(1, sizeof *watch);

    *watch = (struct watch){.waiters = w, .kind = kind, .job = job};
    TAILQ_INIT(&watch->parked);
    pthread_mutex_lock(&w->lock);
    watch->cursor = event_ring_end(&w->ring);
    TAILQ_INSERT_TAIL(list_of(watch), watch, of_bucket);
    pthread_mutex_unlock(&w->lock);
    return watch;
}

void watch_ended(struct watch *watch, const char *state)
{
    pthread_mutex_lock(&watch->waiters->lock);
    end_wait(watch, state);
    make_due(watch);
    pthread_mutex_unlock(&watch->waiters->lock);
}

void watch_close(struct watch *watch)
{
    if (!watch)
        return;
    struct waiters *w = watch->waiters;
    pthread_mutex_lock(&w->lock);
    assert(TAILQ_EMPTY(&watch->parked));
    if (watch->due)
        TAILQ_REMOVE(&w->due, watch, of_due);
    TAILQ_REMOVE(list_of(watch), watch, of_bucket);
    pthread_mutex_unlock(&w->lock);
    drop_poll(w, watch->poll);
    free(watch);
}

bool watch_ready(struct watch *watch)
{
    pthread_mutex_lock(&watch->waiters->lock);
    bool ready = has_text(watch) || at_end(watch) || watch->waiters->stopping;
    pthread_mutex_unlock(&watch->waiters->lock);
    return ready;
}

void watch_poll(struct watch *watch, void *poll)
{
    struct waiters *w = watch->waiters;

    pthread_mutex_lock(&w->lock);
    void *earlier = watch->poll;
    watch->poll = poll;
    pthread_mutex_unlock(&w->lock);
    drop_poll(w, earlier);
}

/* ---- reads ---- */

struct parked *waiters_begin(struct watch *watch, void *request, size_t size)
{
    struct waiters *w = watch->waiters;
    struct parked *p = xcalloc(1, sizeof *p);

    *p = (struct parked){.watch = watch, .request = request, .size = size};
    pthread_mutex_lock(&w->lock);
    p->since = clock_monotonic();
    bool full = w->count == LIMIT_WAITERS;
    if (!full) {
        TAILQ_INSERT_TAIL(&watch->parked, p, of_watch);
        TAILQ_INSERT_TAIL(&w->all, p, of_all);
        TAILQ_INSERT_TAIL(list_of_request(w, request), p, of_request);
        w->count++;
    }
    pthread_mutex_unlock(&w->lock);
    if (!full)
        return p;
    free(p);
    return NULL;
}

void waiters_commit(struct waiters *w, struct parked *p, bool block)
{
    pthread_mutex_lock(&w->lock);
    bool answered = answer(p);
    if (!answered && !block)
        p->errnum = EAGAIN;
    if (answered || !block) {
        take_out(p);
    } else {
        p->armed = true;
        /* The thread may sleep for ever, or beyond this one's time. */
        if (w->hold_ms > 0 && TAILQ_FIRST(&w->all) == p)
            pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    if (answered || !block)
        deliver(w, p);
}

bool waiters_interrupt(struct waiters *w, void *request)
{
    pthread_mutex_lock(&w->lock);
    struct parked *p = find_request(w, request);
    bool taken = p && p->armed;
    if (p && !taken)
        p->interrupted = true;
    if (taken)
        take_out(p);
    pthread_mutex_unlock(&w->lock);
    if (taken)
        free(p);
    return taken;
}
