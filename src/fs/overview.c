/* SPDX-License-Identifier: MIT */
/*
 * overview.c - one statement a repo, and one for each job that runs: whoever writes to the catalog
 * meanwhile waits for one of them, not for all.
 */
#include "fs/overview.h"

#include <stdlib.h>

/* A job that has ended since the list was made is left out. */
static int load_running(struct service *s, struct overview *o, struct error *err)
{
    struct activity activity;

    service_activity(s, &activity);
    o->pending = activity.pending;
    o->running = xcalloc(activity.running + 1, sizeof *o->running);
    for (size_t i = 0; i < activity.running; i++) {
        struct job *job = &o->running[o->running_count];
        if (catalog_job_get(service_catalog(s), activity.jobs[i], job, err) != 0) {
            if (err->code != ERR_NOT_FOUND)
                return -1;
            continue;
        }
        o->running_count += job->state == JOB_RUNNING;
    }
    return 0;
}

static int load_repos(struct service *s, const struct config *config, struct overview *o,
                      struct error *err)
{
    size_t count = 0;

    for (size_t i = 0; i < config->store_count; i++)
        count += config->stores[i]->repo_count;
    o->repos = xcalloc(count + 1, sizeof *o->repos);
    for (size_t i = 0; i < config->store_count; i++)
        for (size_t j = 0; j < config->stores[i]->repo_count; j++) {
            struct overview_repo *r = &o->repos[o->repo_count++];
            r->repo = config->stores[i]->repos[j];
            if (service_repo_health(s, r->repo, &r->health, err) != 0)
                return -1;
        }
    return 0;
}

int overview_load(struct service *s, const struct config *config, time_ms now, time_ms started,
                  struct overview *out, struct error *err)
{
    *out = (struct overview){.now = now, .started = started, .config = config->path};
    if (load_running(s, out, err) == 0 && load_repos(s, config, out, err) == 0)
        return 0;
    overview_release(out);
    return -1;
}

void overview_release(struct overview *o)
{
    free(o->running);
    free(o->repos);
    o->running = NULL;
    o->repos = NULL;
}
