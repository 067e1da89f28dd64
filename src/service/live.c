/* SPDX-License-Identifier: MIT */
/*
 * live.c - a singly linked list: there are never more entries than repos, and a walk over them is
 * cheap beside the fsync that every command pays for.
 *
 * One condition serves everybody who waits (workers, claimers behind an ending job, sleepers), so
 * every change broadcasts.
 */
#include "service/live.h"

#include "util/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long a claim waits for a job whose end is being written before it says busy. */
enum { ENDING_WAIT_MS = 1000 };

void live_init(struct live *l, size_t max_queue)
{
    pthread_condattr_t attr;

    *l = (struct live){.max_queue = max_queue};
    l->last = &l->first;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void live_release(struct live *l)
{
    assert(!l->first);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

static struct timespec deadline_in(int ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static struct live_job *find_repo(const struct live *l, const struct repo *repo)
{
    for (struct live_job *j = l->first; j; j = j->next)
        if (strcmp(j->repo->store->id, repo->store->id) == 0 && strcmp(j->repo->id, repo->id) == 0)
            return j;
    return NULL;
}

static struct live_job *find_busy(const struct live *l, struct repo *const *repos, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct live_job *j = find_repo(l, repos[i]);
        if (j)
            return j;
    }
    return NULL;
}

int live_stopping_error(struct error *err)
{
    error_set(err, ERR_STOPPING, "keepfs is stopping");
    err->errnum = ESHUTDOWN;
    return -1;
}

/* With the lock held: may these be claimed? */
static int check_claim(struct live *l, struct repo *const *repos, size_t count, struct error *err)
{
    static const char *const words[] = {[LIVE_CLAIMED] = "pending",
                                        [LIVE_QUEUED] = "pending",
                                        [LIVE_RUNNING] = "running",
                                        [LIVE_ENDING] = "about to end"};
    struct timespec until = deadline_in(ENDING_WAIT_MS);
    struct live_job *busy;

    while (!l->stopping && (busy = find_busy(l, repos, count)) && busy->phase >= LIVE_ENDING)
        if (pthread_cond_timedwait(&l->changed, &l->lock, &until) != 0)
            break;
    if (l->stopping)
        return live_stopping_error(err);
    busy = find_busy(l, repos, count);
    if (busy && busy->phase == LIVE_EXAMINED) {
        error_set(err, ERR_QUEUE_FULL, "%s/%s is new, and is being looked through: try again",
                  busy->repo->store->id, busy->repo->id);
        err->errnum = EAGAIN;
        return -1;
    }
    if (busy) {
        error_set(err, ERR_BACKUP_ALREADY_RUNNING, "%s/%s has job %s, which is %s",
                  busy->repo->store->id, busy->repo->id, busy->ulid, words[busy->phase]);
        err->errnum = EBUSY;
        return -1;
    }
    if (l->count + count > l->max_queue) {
        error_set(err, ERR_QUEUE_FULL, "%zu jobs are pending or running, max_queue is %zu",
                  l->count, l->max_queue);
        err->errnum = EAGAIN;
        return -1;
    }
    return 0;
}

int live_claim(struct live *l, struct config *config, struct repo *const *repos,
               char (*ulids)[ULID_LEN + 1], size_t count, struct live_job **out, struct error *err)
{
    pthread_mutex_lock(&l->lock);
    int result = check_claim(l, repos, count, err);
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct live_job *j = xcalloc(1, sizeof *j);
        memcpy(j->ulid, ulids[i], sizeof j->ulid);
        j->config = config_ref(config);
        j->repo = repos[i];
        j->phase = LIVE_CLAIMED;
        j->attempt = 1;
        cancel_init(&j->cancel);
        *l->last = j;
        l->last = &j->next;
        l->count++;
        out[i] = j;
    }
    pthread_mutex_unlock(&l->lock);
    return result;
}

void live_set_max_queue(struct live *l, size_t max_queue)
{
    pthread_mutex_lock(&l->lock);
    l->max_queue = max_queue;
    pthread_mutex_unlock(&l->lock);
}

void live_queue(struct live *l, struct live_job **jobs, size_t count)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < count; i++)
        jobs[i]->phase = LIVE_QUEUED;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static bool is_free(const struct live *l, const struct live_job *job)
{
    for (size_t i = 0; i < l->taken_count; i++)
        if (stores_conflict(l->taken[i]->config, l->taken[i]->repo->store, job->config,
                            job->repo->store))
            return false;
    return true;
}

static struct live_job *find_runnable(const struct live *l)
{
    for (struct live_job *j = l->first; j; j = j->next)
        if (j->phase == LIVE_QUEUED && is_free(l, j))
            return j;
    return NULL;
}

struct live_job *live_take(struct live *l)
{
    struct live_job *j = NULL;

    pthread_mutex_lock(&l->lock);
    while (!l->stopping && (l->taken_count == LIMIT_JOBS_RUNNING || !(j = find_runnable(l))))
        pthread_cond_wait(&l->changed, &l->lock);
    if (l->stopping)
        j = NULL;
    if (j) {
        j->phase = LIVE_RUNNING;
        l->taken[l->taken_count++] = j;
    }
    pthread_mutex_unlock(&l->lock);
    return j;
}

void live_requeue(struct live *l, struct live_job *job)
{
    live_queue(l, &job, 1);
}

static void set_phase(struct live *l, struct live_job *job, enum live_phase phase)
{
    pthread_mutex_lock(&l->lock);
    job->phase = phase;
    pthread_mutex_unlock(&l->lock);
}

void live_ending(struct live *l, struct live_job *job)
{
    set_phase(l, job, LIVE_ENDING);
}

void live_examining(struct live *l, struct live_job *job)
{
    set_phase(l, job, LIVE_EXAMINED);
}

/* With the lock held. */
static void give_back(struct live *l, const struct live_job *job)
{
    for (size_t i = 0; i < l->taken_count; i++)
        if (l->taken[i] == job) {
            l->taken[i] = l->taken[--l->taken_count];
            return;
        }
}

/* With the lock held. */
static void unlink_job(struct live *l, struct live_job *job)
{
    struct live_job **at = &l->first;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    if (l->last == &job->next)
        l->last = at;
    l->count--;
    give_back(l, job);
}

static void free_job(struct live_job *job)
{
    cancel_release(&job->cancel);
    config_free(job->config);
    free(job);
}

void live_remove(struct live *l, struct live_job *job)
{
    pthread_mutex_lock(&l->lock);
    unlink_job(l, job);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    free_job(job);
}

bool live_cancel(struct live *l, const char *ulid, const char *reason, struct live_job **pending)
{
    struct live_job *j;

    *pending = NULL;
    pthread_mutex_lock(&l->lock);
    for (j = l->first; j && strcmp(j->ulid, ulid) != 0; j = j->next)
        ;
    if (j) {
        cancel_request(&j->cancel, ERR_CANCELLED, reason);
        if (j->phase == LIVE_QUEUED) {
            j->phase = LIVE_ENDING;
            *pending = j;
        }
    }
    pthread_mutex_unlock(&l->lock);
    return j != NULL;
}

void live_stop(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    for (struct live_job *j = l->first; j; j = j->next)
        cancel_request(&j->cancel, ERR_INTERRUPTED, "keepfs was stopped while the job ran");
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

void live_clear(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->first) {
        struct live_job *j = l->first;
        unlink_job(l, j);
        free_job(j);
    }
    pthread_mutex_unlock(&l->lock);
}

bool live_has(struct live *l, const struct repo *repo)
{
    pthread_mutex_lock(&l->lock);
    bool found = find_repo(l, repo) != NULL;
    pthread_mutex_unlock(&l->lock);
    return found;
}

/* With the lock held: what `job` waits for. */
static void find_way(const struct live *l, const struct live_job *job, struct live_view *out)
{
    for (const struct live_job *j = l->first; j != job; j = j->next)
        out->ahead += j->phase == LIVE_QUEUED;
    for (size_t i = 0; i < l->taken_count && !out->behind[0]; i++) {
        const struct live_job *taken = l->taken[i];
        if (!stores_conflict(taken->config, taken->repo->store, job->config, job->repo->store))
            continue;
        memcpy(out->behind, taken->ulid, sizeof out->behind);
        memcpy(out->behind_store, taken->repo->store->id, sizeof out->behind_store);
        memcpy(out->behind_repo, taken->repo->id, sizeof out->behind_repo);
    }
}

bool live_view(struct live *l, const char *store, const char *repo, struct live_view *out)
{
    *out = (struct live_view){0};
    pthread_mutex_lock(&l->lock);
    const struct live_job *j = l->first;
    while (j && (strcmp(j->repo->store->id, store) != 0 || strcmp(j->repo->id, repo) != 0))
        j = j->next;
    if (j) {
        memcpy(out->ulid, j->ulid, sizeof out->ulid);
        out->phase = j->phase;
        if (j->phase == LIVE_QUEUED)
            find_way(l, j, out);
    }
    pthread_mutex_unlock(&l->lock);
    return j != NULL;
}

/* With the lock held: has a worker got it? */
static bool is_taken(const struct live *l, const struct live_job *job)
{
    for (size_t i = 0; i < l->taken_count; i++)
        if (l->taken[i] == job)
            return true;
    return false;
}

/* One that is about to end is still being run, if a worker has it. */
size_t live_running(struct live *l, char (*ulids)[ULID_LEN + 1], size_t *pending)
{
    size_t running = 0;

    *pending = 0;
    pthread_mutex_lock(&l->lock);
    for (const struct live_job *j = l->first; j; j = j->next)
        if (j->phase == LIVE_QUEUED)
            ++*pending;
        else if (j->phase == LIVE_RUNNING || (j->phase == LIVE_ENDING && is_taken(l, j)))
            memcpy(ulids[running++], j->ulid, sizeof *ulids);
    pthread_mutex_unlock(&l->lock);
    return running;
}

bool live_is_stopping(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    bool stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    return stopping;
}

bool live_wait_stop(struct live *l, int ms)
{
    struct timespec until = deadline_in(ms);

    pthread_mutex_lock(&l->lock);
    while (!l->stopping && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0)
        ;
    bool stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    return stopping;
}

void live_leave(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    l->left++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

bool live_wait_left(struct live *l, size_t count, int ms)
{
    struct timespec until = deadline_in(ms);

    pthread_mutex_lock(&l->lock);
    while (l->left < count && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0)
        ;
    bool all = l->left >= count;
    pthread_mutex_unlock(&l->lock);
    return all;
}
