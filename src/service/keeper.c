/* SPDX-License-Identifier: MIT */
/*
 * keeper.c - one thread that takes away what is not wanted any more.
 *
 *   1. retention for the repos that had a success since; for all of them once a day
 *   2. every record that is `deleting`: first its archive, then its row. What cannot be removed now
 *      keeps its row and is tried again after KEEPER_RETRY_MS, and by the next start.
 *   3. once a day: finished jobs that are older than job_history, in batches, and their logs; and
 *      what is expected of repos is looked at again, since the clock may have been put right
 *   4. after a reload: repos that are new or stand elsewhere are reconciled with the catalog
 *
 * Deletions are decided elsewhere, by a row; so a crash at any point leaves nothing listed that is
 * half gone, and nothing to remember but the rows. Repos are opened one at a time: one that hangs
 * holds up the removal of others' archives, but no backup.
 *
 * `lock` guards what is asked for; no other room is called with it held.
 */
#include "service/internal.h"

#include "util/buf.h"
#include "util/log.h"
#include "util/ulid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KEEPER_DAY_S = 24 * 60 * 60, KEEPER_RETRY_S = 10 * 60, PRUNE_BATCH = 200 };

/* A repo of a configuration that is held. */
struct errand {
    struct config *config;
    struct repo *repo;
    struct errand *next;
};

struct keeper {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct errand *passes, *reconciles;
    bool wanted; /* something of it now; else when it is time to try again */
    bool daily, stopping;
    pthread_t thread;
    bool started;
};

struct keeper *keeper_new(void)
{
    struct keeper *k = xcalloc(1, sizeof *k);
    pthread_condattr_t attr;

    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->changed, &attr);
    pthread_condattr_destroy(&attr);
    return k;
}

static void free_errands(struct errand *e)
{
    while (e) {
        struct errand *next = e->next;
        config_free(e->config);
        free(e);
        e = next;
    }
}

void keeper_free(struct keeper *k)
{
    free_errands(k->passes);
    free_errands(k->reconciles);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* ---- what is asked for ---- */

static bool is_listed(const struct errand *e, const struct repo *repo)
{
    while (e &&
           (strcmp(e->repo->id, repo->id) != 0 || strcmp(e->repo->store->id, repo->store->id) != 0))
        e = e->next;
    return e != NULL;
}

/* With the lock held. */
static void add_errand(struct errand **list, struct config *config, struct repo *repo)
{
    struct errand *e = xcalloc(1, sizeof *e);

    *e = (struct errand){.config = config_ref(config), .repo = repo, .next = *list};
    *list = e;
}

/* With the lock held. */
static void want(struct keeper *k)
{
    k->wanted = true;
    pthread_cond_signal(&k->changed);
}

/* One a repo will do: it goes by what is in force when it is made. */
void keeper_pass(struct keeper *k, struct config *config, struct repo *repo)
{
    pthread_mutex_lock(&k->lock);
    if (!is_listed(k->passes, repo))
        add_errand(&k->passes, config, repo);
    want(k);
    pthread_mutex_unlock(&k->lock);
}

void keeper_reconcile(struct keeper *k, struct config *config, struct repo *repo)
{
    pthread_mutex_lock(&k->lock);
    add_errand(&k->reconciles, config, repo);
    want(k);
    pthread_mutex_unlock(&k->lock);
}

void keeper_delete(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    want(k);
    pthread_mutex_unlock(&k->lock);
}

static bool is_stopping(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    bool stopping = k->stopping;
    pthread_mutex_unlock(&k->lock);
    return stopping;
}

/* ---- deletion ---- */

struct doomed {
    char (*ulids)[ULID_LEN + 1];
    char (*stores)[LIMIT_ID + 1], (*repos)[LIMIT_ID + 1];
    size_t count;
};

static void add_doomed(void *ctx, const struct record *r)
{
    struct doomed *d = ctx;

    if ((d->count & (d->count - 1)) == 0) {
        size_t room = d->count ? 2 * d->count : 1;
        d->ulids = xrealloc(d->ulids, room * sizeof *d->ulids);
        d->stores = xrealloc(d->stores, room * sizeof *d->stores);
        d->repos = xrealloc(d->repos, room * sizeof *d->repos);
    }
    memcpy(d->ulids[d->count], r->ulid, sizeof r->ulid);
    memcpy(d->stores[d->count], r->store, sizeof r->store);
    memcpy(d->repos[d->count], r->repo, sizeof r->repo);
    d->count++;
}

/* Opens the place of a repo, if it is the one that was written to: what is not at any other place
 * says nothing. */
static int open_place(struct service *s, const char *store, const char *repo_id,
                      struct destination **out, struct error *err)
{
    struct config *config;
    const struct repo *repo = service_find_repo(s, store, repo_id, &config);

    int result =
        repo ? repo->kind->open(&repo->settings, 0, out, err)
             : error_set(err, ERR_DESTINATION_CONFIG_INVALID, "it is not in the configuration");
    if (result == 0 && (*out)->kind->recognise(*out, err) != 0) {
        (*out)->kind->close(*out);
        result = -1;
    }
    config_free(config);
    return result;
}

/* Is the repo's newest record there, whose being there is why others may go? Rows can outlive their
 * archives: then what is to be deleted may be all that is left. */
static int check_newest(struct service *s, struct destination *d, const char *store,
                        const char *repo, struct error *err)
{
    char lost[ULID_LEN + 1];
    struct object *manifest;
    struct record newest = {0};

    bool any = catalog_record_latest(s->catalog, store, repo, &newest, err) == 0;
    if (!any && err->code != ERR_NOT_FOUND)
        return -1;
    if (catalog_record_lost(s->catalog, store, repo, newest.created_at, lost, err) == 0)
        return error_set(err, ERR_MANIFEST_MISSING,
                         "record %s, newer than all that are there, has lost its archive", lost);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    if (!any)
        return 0;
    if (archive_open(d, newest.ulid, ARCHIVE_MANIFEST, &manifest, err) != 0)
        return error_context(err, "the newest record %s has no archive", newest.ulid);
    manifest->kind->close_object(manifest);
    return 0;
}

static bool delete_one(struct service *s, struct destination *d, const char *ulid)
{
    struct error err;
    bool done = archive_delete(d, ulid, &err) == 0 &&
                catalog_record_delete_end(s->catalog, ulid, &err) == 0;

    if (done)
        log_info("record %s: its archive is removed", ulid);
    else
        log_warn("record %s: its archive is not removed yet: %s", ulid, err.message);
    return done;
}

/* The archives of one repo: the entries of `d` from `i` on that are of the same repo as `i`. What
 * is done has its ulid emptied. */
static bool delete_of_repo(struct service *s, struct doomed *d, size_t first)
{
    const char *store = d->stores[first], *repo = d->repos[first];
    struct destination *destination;
    struct error err;
    bool whole = true;
    bool open = open_place(s, store, repo, &destination, &err) == 0;

    if (open && check_newest(s, destination, store, repo, &err) != 0) {
        destination->kind->close(destination);
        open = false;
    }
    if (!open)
        log_warn("%s/%s: archives are not removed yet: %s", store, repo, err.message);
    for (size_t i = first; i < d->count && !is_stopping(s->keeper); i++) {
        if (!d->ulids[i][0] || strcmp(d->stores[i], store) != 0 || strcmp(d->repos[i], repo) != 0)
            continue;
        whole &= open && delete_one(s, destination, d->ulids[i]);
        d->ulids[i][0] = '\0';
    }
    if (open)
        destination->kind->close(destination);
    return whole;
}

/* False if something is left to be tried again. */
static bool delete_all(struct service *s)
{
    struct doomed d = {0};
    struct error err;
    bool whole = true;

    if (catalog_records_deleting(s->catalog, add_doomed, &d, &err) != 0) {
        log_warn("what is to be deleted is not known: %s", err.message);
        whole = false;
    }
    for (size_t i = 0; i < d.count && !is_stopping(s->keeper); i++)
        if (d.ulids[i][0])
            whole &= delete_of_repo(s, &d, i);
    free(d.ulids);
    free(d.stores);
    free(d.repos);
    return whole;
}

/* ---- old jobs ---- */

static void forget_job(void *ctx, const char *ulid)
{
    struct service *s = ctx;
    __attribute__((cleanup(free_charp))) char *path = service_log_path(s, ulid);

    if (unlink(path) != 0 && errno != ENOENT)
        log_warn("the log of job %s is not removed: %m", ulid);
    service_gone(s, true, ulid);
}

static void prune_jobs(struct service *s)
{
    struct config *config = service_config(s);
    int64_t days = settings_int(&config->settings, "job_history");
    time_ms before = clock_now(s->clock) - days * KEEPER_DAY_S * 1000;
    struct error err;
    size_t count, all = 0;

    config_free(config);
    do {
        if (catalog_jobs_prune(s->catalog, before, PRUNE_BATCH, forget_job, s, &count, &err) != 0) {
            log_warn("old jobs are not removed: %s", err.message);
            break;
        }
        all += count;
    } while (count == PRUNE_BATCH && !is_stopping(s->keeper));
    if (all > 0)
        log_info("%zu finished jobs are older than %lld days and were removed", all,
                 (long long)days);
}

/* ---- the thread ---- */

/* A reload that is under way does it itself, by another configuration. */
static void refresh_figures(struct service *s)
{
    if (pthread_mutex_trylock(&s->reload_lock) != 0)
        return;
    struct config *config = service_config(s);
    figures_load(s->figures, s->catalog, config, clock_now(s->clock));
    config_free(config);
    pthread_mutex_unlock(&s->reload_lock);
}

static void run_daily(struct service *s)
{
    struct config *config = service_config(s);

    for (size_t i = 0; i < config->store_count; i++)
        for (size_t j = 0; j < config->stores[i]->repo_count && !is_stopping(s->keeper); j++)
            retention_run(s, config->stores[i]->repos[j]);
    config_free(config);
    refresh_figures(s);
    prune_jobs(s);
}

/* With the repo taken, so that no job of it runs: a listing of the place and the
 * catalog's rows must be of one moment. False if it is busy. */
static bool reconcile(struct service *s, struct errand *e)
{
    char ulid[1][ULID_LEN + 1];
    struct live_job *live;
    struct error err;

    ulid_new(clock_now(s->clock), ulid[0]);
    if (live_claim(&s->live, e->config, &e->repo, ulid, 1, &live, &err) != 0)
        return false;
    live_examining(&s->live, live);
    recovery_reconcile(s, e->repo);
    live_remove(&s->live, live);
    return true;
}

/* By the policy in force: a reload may have widened the one that the backup was begun with. */
static void pass(struct service *s, const struct repo *repo)
{
    struct config *config = service_config(s);
    const struct store *store = config_store(config, repo->store->id);
    const struct repo *now = store ? store_repo(store, repo->id) : NULL;

    if (now)
        retention_run(s, now);
    config_free(config);
}

/* It is not wanted before it is time to try again. */
static void put_back(struct keeper *k, const struct errand *e)
{
    pthread_mutex_lock(&k->lock);
    add_errand(&k->reconciles, e->config, e->repo);
    pthread_mutex_unlock(&k->lock);
}

/* Does what was asked for, first what needs no repo; false if something is to be tried again. */
static bool work(struct service *s, struct errand *passes, struct errand *reconciles, bool daily)
{
    bool whole = true;

    for (struct errand *e = passes; e && !is_stopping(s->keeper); e = e->next)
        pass(s, e->repo);
    if (daily)
        run_daily(s);
    for (struct errand *e = reconciles; e && !is_stopping(s->keeper); e = e->next)
        if (!reconcile(s, e)) {
            put_back(s->keeper, e);
            whole = false;
        }
    return delete_all(s) && whole;
}

static time_t monotonic_now(void)
{
    return (time_t)(clock_monotonic() / 1000);
}

/* With the lock held: sleeps until there is something to do. */
static void await_errand(struct keeper *k, time_t daily_at, time_t retry_at)
{
    while (!k->stopping && !k->wanted) {
        struct timespec until = {.tv_sec = retry_at && retry_at < daily_at ? retry_at : daily_at};
        if (pthread_cond_timedwait(&k->changed, &k->lock, &until) == 0)
            continue;
        k->daily = monotonic_now() >= daily_at;
        k->wanted = true;
    }
}

static void *keeper_main(void *arg)
{
    struct service *s = arg;
    struct keeper *k = s->keeper;
    time_t daily_at = monotonic_now(), retry_at = 0;

    pthread_setname_np(pthread_self(), "keepfs-keeper");
    pthread_mutex_lock(&k->lock);
    for (;;) {
        await_errand(k, daily_at, retry_at);
        if (k->stopping)
            break;
        struct errand *passes = k->passes, *reconciles = k->reconciles;
        bool daily = k->daily;
        k->passes = k->reconciles = NULL;
        k->wanted = k->daily = false;
        pthread_mutex_unlock(&k->lock);
        bool whole = work(s, passes, reconciles, daily);
        free_errands(passes);
        free_errands(reconciles);
        if (daily)
            daily_at = monotonic_now() + KEEPER_DAY_S;
        retry_at = whole ? 0 : monotonic_now() + KEEPER_RETRY_S;
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    live_leave(&s->live);
    return NULL;
}

int keeper_start(struct service *s, struct error *err)
{
    int failed = pthread_create(&s->keeper->thread, NULL, keeper_main, s);

    if (failed)
        return error_sys(err, SIDE_STATE, failed, "cannot start the keeper");
    s->keeper->started = true;
    return 0;
}

void keeper_stop(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

bool keeper_started(const struct keeper *k)
{
    return k->started;
}

void keeper_join(struct keeper *k)
{
    if (k->started)
        pthread_join(k->thread, NULL);
    k->started = false;
}
