/* SPDX-License-Identifier: MIT */
/*
 * service.c - the service's life.
 */
#include "service/internal.h"

#include "util/buf.h"
#include "util/log.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct service *service_new(struct config *config, struct catalog *catalog,
                            const struct clock *clock)
{
    struct service *s = xcalloc(1, sizeof *s);

    pthread_mutex_init(&s->config_lock, NULL);
    pthread_mutex_init(&s->reload_lock, NULL);
    pthread_mutex_init(&s->gone_lock, NULL);
    s->config = config_ref(config);
    s->catalog = catalog;
    s->clock = clock;
    s->staging = xasprintf("%s/staging", config->state);
    s->logs = xasprintf("%s/logs", config->state);
    s->frames = frame_cache_new(LIMIT_PREFETCHERS);
    s->scheduler = scheduler_new();
    s->keeper = keeper_new();
    s->figures = figures_new();
    live_init(&s->live, (size_t)settings_int(&config->settings, "max_queue"));
    return s;
}

int service_recover(struct service *s, struct error *err)
{
    figures_load(s->figures, s->catalog, s->config, clock_now(s->clock));
    return recovery_run(s, err);
}

static int start_workers(struct service *s, struct error *err)
{
    size_t wanted = (size_t)settings_int(&s->config->settings, "max_jobs");
    int result = 0;

    s->workers = xcalloc(wanted, sizeof *s->workers);
    while (result == 0 && s->worker_count < wanted) {
        result = pthread_create(&s->workers[s->worker_count], NULL, worker_main, s);
        if (result == 0)
            s->worker_count++;
    }
    if (result != 0)
        return error_sys(err, SIDE_STATE, result, "cannot start worker %zu of %zu",
                         s->worker_count + 1, wanted);
    return 0;
}

/* Signals belong to the daemon's signal thread: ours are started with all of them blocked. */
int service_start(struct service *s, struct error *err)
{
    sigset_t all, before;

    scheduler_load(s, s->config, true);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = start_workers(s, err);
    if (result == 0)
        result = keeper_start(s, err);
    if (result == 0)
        result = scheduler_start(s, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

static bool join_threads(struct service *s, int deadline_ms)
{
    size_t count = s->worker_count + (size_t)scheduler_started(s->scheduler) +
                   (size_t)keeper_started(s->keeper);

    if (!live_wait_left(&s->live, count, deadline_ms))
        return false;
    for (size_t i = 0; i < s->worker_count; i++)
        pthread_join(s->workers[i], NULL);
    s->worker_count = 0;
    scheduler_join(s->scheduler);
    keeper_join(s->keeper);
    return true;
}

void service_interrupt(struct service *s)
{
    struct error err;
    size_t interrupted;

    if (catalog_jobs_interrupt(s->catalog, clock_now(s->clock), &interrupted, &err) != 0)
        log_error("jobs that did not end are not marked as interrupted; the next start does it: %s",
                  err.message);
    else if (interrupted > 0)
        log_info("%zu jobs interrupted", interrupted);
}

bool service_stop(struct service *s, int deadline_ms)
{
    live_stop(&s->live);
    scheduler_stop(s->scheduler);
    keeper_stop(s->keeper);
    bool joined = join_threads(s, deadline_ms);
    /* What is still pending, or hangs in a system call, in one transaction. */
    service_interrupt(s);
    return joined;
}

void service_free(struct service *s)
{
    if (!s)
        return;
    live_clear(&s->live);
    live_release(&s->live);
    frame_cache_free(s->frames);
    scheduler_free(s->scheduler);
    keeper_free(s->keeper);
    figures_free(s->figures);
    for (size_t i = 0; i < s->past_count; i++)
        config_free(s->past[i]);
    free(s->past);
    config_free(s->config);
    pthread_mutex_destroy(&s->config_lock);
    pthread_mutex_destroy(&s->reload_lock);
    pthread_mutex_destroy(&s->gone_lock);
    free(s->workers);
    free(s->staging);
    free(s->logs);
    free(s);
}

struct catalog *service_catalog(const struct service *s)
{
    return s->catalog;
}

char *service_log_path(const struct service *s, const char *job)
{
    return xasprintf("%s/%s.log", s->logs, job);
}

void service_on_gone(struct service *s, service_gone_fn fn, void *ctx)
{
    pthread_mutex_lock(&s->gone_lock);
    s->gone = fn;
    s->gone_ctx = ctx;
    pthread_mutex_unlock(&s->gone_lock);
}

void service_gone(struct service *s, bool is_job, const char *ulid)
{
    pthread_mutex_lock(&s->gone_lock);
    if (s->gone)
        s->gone(s->gone_ctx, is_job, ulid);
    pthread_mutex_unlock(&s->gone_lock);
}

/* ---- schedules, as files show them ---- */

time_ms service_next_run(struct service *s, const char *store, const char *repo)
{
    return scheduler_next(s->scheduler, store, repo);
}
