/* SPDX-License-Identifier: MIT */
/*
 * health.h - how a repo stands, for whoever watches: the catalog's sums, what is expected of it,
 * and what runs.
 *
 * Nothing here waits for a repo, a job or a source. Threads: any.
 */
#ifndef KEEPFS_SERVICE_HEALTH_H
#define KEEPFS_SERVICE_HEALTH_H

#include "service/figures.h"
#include "service/service.h"

struct repo_health {
    struct repo_standing standing;
    struct figure figure;
    time_ms overdue;  /* since then; 0 = it is not */
    time_ms next_run; /* 0 = nothing is planned */
};

/* Of a repo of the configuration in force. */
int service_repo_health(struct service *s, const struct repo *repo, struct repo_health *out,
                        struct error *err);
/* How old its newest good record may get; 0 = nothing is expected. */
time_ms service_expect_every(struct service *s, const struct repo *repo);
/* Since when the first of a store's repos is overdue; 0 = none is. */
int service_store_overdue(struct service *s, const struct store *store, time_ms *since,
                          struct error *err);

/* The jobs that run: up to LIMIT_JOBS_RUNNING ULIDs, those that were asked for first first. And how
 * many wait. */
struct activity {
    size_t running, pending;
    char jobs[LIMIT_JOBS_RUNNING][ULID_LEN + 1];
};
void service_activity(struct service *s, struct activity *out);

#endif
