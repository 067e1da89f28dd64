/* SPDX-License-Identifier: MIT */
/*
 * health.c - see health.h.
 */
#include "service/health.h"

#include "service/internal.h"
#include "service/overdue.h"

int service_repo_health(struct service *s, const struct repo *repo, struct repo_health *out,
                        struct error *err)
{
    const char *store = repo->store->id;
    time_ms now = clock_now(s->clock);

    *out = (struct repo_health){0};
    if (catalog_repo_standing(s->catalog, store, repo->id, now, &out->standing, err) != 0)
        return -1;
    figures_get(s->figures, store, repo->id, &out->figure);
    out->overdue = overdue_since(&(struct promise){.every = out->figure.every,
                                                   .since = out->figure.since,
                                                   .newest = out->standing.newest_at},
                                 now);
    out->next_run = scheduler_next(s->scheduler, store, repo->id);
    return 0;
}

time_ms service_expect_every(struct service *s, const struct repo *repo)
{
    struct figure figure;

    figures_get(s->figures, repo->store->id, repo->id, &figure);
    return figure.every;
}

int service_store_overdue(struct service *s, const struct store *store, time_ms *since,
                          struct error *err)
{
    struct repo_health health;

    *since = 0;
    for (size_t i = 0; i < store->repo_count; i++) {
        if (service_repo_health(s, store->repos[i], &health, err) != 0)
            return -1;
        if (health.overdue && (!*since || health.overdue < *since))
            *since = health.overdue;
    }
    return 0;
}

void service_activity(struct service *s, struct activity *out)
{
    out->running = live_running(&s->live, out->jobs, &out->pending);
}
