/* SPDX-License-Identifier: MIT */
/*
 * stage.h - what a test of time needs besides a fixture: sources that it holds and lets go, changes
 * of state that it waits for, and workers without the service's other threads, so that nothing
 * moves but what the test moves.
 */
#ifndef KEEPFS_TESTS_SERVICE_STAGE_H
#define KEEPFS_TESTS_SERVICE_STAGE_H

#include "fixture.h"

#include <limits.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define DAY ((time_ms)24 * HOUR)
/* A midnight in 2033: no timer of the machine reaches it. */
#define BEGIN ((time_ms)1999987200000)

enum { CHANGES_MAX = 4096 };

static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    int inside, most; /* sources that are held now, and were at the same time */
    int entered;      /* all that ever were */
    int permits;      /* how many may go on */
    struct catalog_event changes[CHANGES_MAX];
    size_t count;
} stage = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void stage_clear(void)
{
    stage.inside = stage.most = stage.entered = stage.permits = 0;
    stage.count = 0;
}

/* ---- sources ---- */

static inline void stage_enter(void)
{
    pthread_mutex_lock(&stage.lock);
    stage.entered++;
    if (++stage.inside > stage.most)
        stage.most = stage.inside;
    pthread_cond_broadcast(&stage.changed);
    pthread_mutex_unlock(&stage.lock);
}

static inline void stage_leave(void)
{
    pthread_mutex_lock(&stage.lock);
    stage.inside--;
    pthread_mutex_unlock(&stage.lock);
}

/* Until it is let go, whatever is asked of it. */
static inline int held(const struct store *store, struct source_run *run, struct error *err)
{
    stage_enter();
    pthread_mutex_lock(&stage.lock);
    while (stage.permits == 0)
        pthread_cond_wait(&stage.changed, &stage.lock);
    stage.permits--;
    pthread_mutex_unlock(&stage.lock);
    stage_leave();
    return write_content(store, run, err);
}

/* Until it is cancelled. */
static inline int endless(const struct store *store, struct source_run *run, struct error *err)
{
    (void)store;
    stage_enter();
    cancel_wait(run->cancel, INT_MAX);
    stage_leave();
    return cancel_check(run->cancel, err);
}

/* Fails for a reason that may pass, and for one that does not. */
static inline int out_of_reach(const struct store *store, struct source_run *run, struct error *err)
{
    (void)store;
    (void)run;
    return error_sys(err, SIDE_SOURCE, EIO, "the store");
}

static inline int out_of_order(const struct store *store, struct source_run *run, struct error *err)
{
    (void)store;
    (void)run;
    return error_set(err, ERR_INTERNAL, "out of order");
}

static inline void let_go(int permits)
{
    pthread_mutex_lock(&stage.lock);
    stage.permits += permits;
    pthread_cond_broadcast(&stage.changed);
    pthread_mutex_unlock(&stage.lock);
}

/* Until `entered` sources have ever been there. */
static inline void wait_entered(int entered)
{
    pthread_mutex_lock(&stage.lock);
    while (stage.entered < entered)
        pthread_cond_wait(&stage.changed, &stage.lock);
    pthread_mutex_unlock(&stage.lock);
}

/* ---- changes ---- */

static inline void stage_note(void *ctx, const struct catalog_event *e)
{
    (void)ctx;
    pthread_mutex_lock(&stage.lock);
    assert_true(stage.count < CHANGES_MAX);
    stage.changes[stage.count++] = *e;
    pthread_cond_broadcast(&stage.changed);
    pthread_mutex_unlock(&stage.lock);
}

/* With the lock held. */
static inline size_t stage_count(const char *to)
{
    size_t found = 0;

    for (size_t i = 0; i < stage.count; i++)
        found += strcmp(stage.changes[i].to, to) == 0;
    return found;
}

static inline size_t changes_to(const char *to)
{
    pthread_mutex_lock(&stage.lock);
    size_t found = stage_count(to);
    pthread_mutex_unlock(&stage.lock);
    return found;
}

/* Until so many jobs or records have ever become that. */
static inline void wait_changes(const char *to, size_t count)
{
    pthread_mutex_lock(&stage.lock);
    while (stage_count(to) < count)
        pthread_cond_wait(&stage.changed, &stage.lock);
    pthread_mutex_unlock(&stage.lock);
}

/* ---- life ---- */

/* Opens and recovers; changes are noted from here on. */
static inline void stage_open(struct fixture *f)
{
    fixture_open(f);
    catalog_on_event(f->catalog, stage_note, NULL);
    fixture_recover(f);
}

/* As service_start, but that the scheduler moves when the test steps it, and the keeper not at all.
 */
static inline void stage_start_workers(struct fixture *f)
{
    start_workers(f);
    scheduler_load(f->service, f->config, true);
}

static inline void stage_start(struct fixture *f)
{
    struct error err;

    assert_int_equal(service_start(f->service, &err), 0);
}

/* Sources that a failed test left held would hold the teardown as well. */
static inline int stage_teardown(void **state)
{
    let_go(100000);
    return fixture_teardown(state);
}

static inline struct job latest_job(struct fixture *f)
{
    struct job job;
    struct error err;

    if (catalog_job_latest(f->catalog, &job, &err) != 0)
        fail_msg("%s", err.message);
    return job;
}

#endif
