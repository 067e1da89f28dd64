/* SPDX-License-Identifier: MIT */
/*
 * overview.h - everything at one moment, as facts: what /status and /metrics are written from.
 *
 *   overview_load -> screen_render or metrics_render, any number of times -> overview_release
 *
 * Threads: one at a time per overview.
 */
#ifndef KEEPFS_FS_OVERVIEW_H
#define KEEPFS_FS_OVERVIEW_H

#include "service/health.h"

struct overview_repo {
    const struct repo *repo;
    struct repo_health health;
};

struct overview {
    time_ms now, started;
    const char *config;  /* path of the configuration */
    struct job *running; /* in the order of arrival */
    size_t running_count, pending;
    struct overview_repo *repos; /* in the order of the configuration */
    size_t repo_count;
};

/* `config`, which is in force, must outlive it. On failure nothing is left to release. */
int overview_load(struct service *s, const struct config *config, time_ms now, time_ms started,
                  struct overview *out, struct error *err);
void overview_release(struct overview *o);

#endif
