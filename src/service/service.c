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

struct service *service_new(const struct config *config, struct catalog *catalog,
                            const struct clock *clock)
{
    struct service *s = xcalloc(1, sizeof *s);
    size_t groups = 1;

    for (size_t i = 0; i < config->store_count; i++)
        if (config->stores[i]->group >= groups)
            groups = config->stores[i]->group + 1;
    s->config = config;
    s->catalog = catalog;
    s->clock = clock;
    s->staging = xasprintf("%s/staging", config->state);
    s->logs = xasprintf("%s/logs", config->state);
    s->frames = frame_cache_new(LIMIT_PREFETCHERS);
    live_init(&s->live, groups, (size_t)settings_int(&config->settings, "max_queue"));
    return s;
}

int service_recover(struct service *s, struct error *err)
{
    return recovery_run(s, err);
}

/* Signals belong to the daemon's signal thread: workers are started with all of them blocked. */
int service_start(struct service *s, struct error *err)
{
    size_t wanted = (size_t)settings_int(&s->config->settings, "max_jobs");
    sigset_t all, before;
    int result = 0;

    s->workers = xcalloc(wanted, sizeof *s->workers);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (result == 0 && s->worker_count < wanted) {
        result = pthread_create(&s->workers[s->worker_count], NULL, worker_main, s);
        if (result == 0)
            s->worker_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0)
        return error_sys(err, SIDE_STATE, result, "cannot start worker %zu of %zu",
                         s->worker_count + 1, wanted);
    return 0;
}

static bool join_workers(struct service *s, int deadline_ms)
{
    if (!live_wait_left(&s->live, s->worker_count, deadline_ms))
        return false;
    for (size_t i = 0; i < s->worker_count; i++)
        pthread_join(s->workers[i], NULL);
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
    bool joined = join_workers(s, deadline_ms);
    /* What is still pending, or hangs in a system call, in one transaction. */
    service_interrupt(s);
    if (joined)
        s->worker_count = 0;
    return joined;
}

void service_free(struct service *s)
{
    if (!s)
        return;
    live_clear(&s->live);
    live_release(&s->live);
    frame_cache_free(s->frames);
    free(s->workers);
    free(s->staging);
    free(s->logs);
    free(s);
}

const struct config *service_config(const struct service *s)
{
    return s->config;
}

struct catalog *service_catalog(const struct service *s)
{
    return s->catalog;
}

char *service_log_path(const struct service *s, const char *job)
{
    return xasprintf("%s/%s.log", s->logs, job);
}
