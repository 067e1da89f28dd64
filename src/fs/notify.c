/* SPDX-License-Identifier: MIT */
/*
 * notify.c - the queue of names and the thread that empties it.
 *
 * The order does not matter, so a name that is due is taken from wherever it is and the last one
 * takes its place. The thread sleeps until something is queued or due.
 */
#include "fs/notify.h"

#include "util/buf.h"
#include "util/clock.h"
#include "util/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct notice {
    enum node_kind dir;
    char name[ULID_LEN + 1];
    time_ms due; /* monotonic */
};

struct notifier {
    notify_fn send;
    void *ctx;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool stopping, left;
    size_t dropped; /* since the queue was empty */
    size_t count;
    struct notice queue[NOTIFY_QUEUE];
};

/* ---- the thread ---- */

/* With the lock held. The one that is due first; NULL if there is none. */
static struct notice *first_due(struct notifier *n)
{
    struct notice *first = NULL;

    for (size_t i = 0; i < n->count; i++)
        if (!first || n->queue[i].due < first->due)
            first = &n->queue[i];
    return first;
}

static void take_out(struct notifier *n, struct notice *notice)
{
    *notice = n->queue[--n->count];
}

static struct timespec timespec_of(time_ms monotonic)
{
    return (struct timespec){.tv_sec = monotonic / 1000,
                             .tv_nsec = (long)(monotonic % 1000) * 1000000};
}

/* With the lock held, which it lets go while it waits. */
static void wait_for(struct notifier *n, const struct notice *notice)
{
    if (!notice) {
        pthread_cond_wait(&n->changed, &n->lock);
        return;
    }
    struct timespec until = timespec_of(notice->due);
    pthread_cond_timedwait(&n->changed, &n->lock, &until);
}

static void report_dropped(struct notifier *n)
{
    if (n->dropped > 0 && n->count == 0) {
        log_warn("%zu names that are gone may be seen at the mount for up to an hour: too many "
                 "went at once",
                 n->dropped);
        n->dropped = 0;
    }
}

static void *notifier_main(void *arg)
{
    struct notifier *n = arg;

    pthread_mutex_lock(&n->lock);
    while (!n->stopping) {
        struct notice *first = first_due(n);
        if (!first || first->due > clock_monotonic()) {
            wait_for(n, first);
            continue;
        }
        struct notice notice = *first;
        take_out(n, first);
        report_dropped(n);
        pthread_mutex_unlock(&n->lock);
        n->send(n->ctx, node_make(notice.dir, 0, NODE_FILE_NONE), notice.name);
        pthread_mutex_lock(&n->lock);
    }
    n->left = true;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

/* ---- life ---- */

void notifier_free(struct notifier *n)
{
    if (!n)
        return;
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

struct notifier *notifier_start(notify_fn send, void *ctx, struct error *err)
{
    struct notifier *n = xcalloc(1, sizeof *n);
    pthread_condattr_t monotonic;
    sigset_t all, before;

    n->send = send;
    n->ctx = ctx;
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&n->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&n->thread, NULL, notifier_main, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return n;
    notifier_free(n);
    error_sys(err, SIDE_STATE, failed, "cannot start the notifier thread");
    return NULL;
}

bool notifier_stop(struct notifier *n, int deadline_ms)
{
    struct timespec until = timespec_of(clock_monotonic() + deadline_ms);
    int waited = 0;

    pthread_mutex_lock(&n->lock);
    n->stopping = true;
    pthread_cond_broadcast(&n->changed);
    while (!n->left && waited == 0)
        waited = pthread_cond_timedwait(&n->changed, &n->lock, &until);
    bool left = n->left;
    pthread_mutex_unlock(&n->lock);
    if (left && !n->joined)
        pthread_join(n->thread, NULL);
    n->joined = left;
    return left;
}

/* ---- the queue ---- */

/* With the lock held. */
static struct notice *find_notice(struct notifier *n, enum node_kind dir, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->queue[i].dir == dir && strcmp(n->queue[i].name, name) == 0)
            return &n->queue[i];
    return NULL;
}

void notifier_gone(struct notifier *n, enum node_kind dir, const char *name, int delay_ms)
{
    size_t room = delay_ms > 0 ? NOTIFY_QUEUE / 2 : NOTIFY_QUEUE;

    pthread_mutex_lock(&n->lock);
    if (n->count < room) {
        struct notice *notice = &n->queue[n->count++];
        notice->dir = dir;
        notice->due = clock_monotonic() + delay_ms;
        snprintf(notice->name, sizeof notice->name, "%s", name);
        pthread_cond_broadcast(&n->changed);
    } else {
        n->dropped++;
    }
    pthread_mutex_unlock(&n->lock);
}

void notifier_cancel(struct notifier *n, enum node_kind dir, const char *name)
{
    pthread_mutex_lock(&n->lock);
    struct notice *notice = find_notice(n, dir, name);
    if (notice)
        take_out(n, notice);
    pthread_mutex_unlock(&n->lock);
}
