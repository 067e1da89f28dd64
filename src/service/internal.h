/* SPDX-License-Identifier: MIT */
/*
 * internal.h - the service's own parts; nobody outside src/service includes this.
 */
#ifndef KEEPFS_SERVICE_INTERNAL_H
#define KEEPFS_SERVICE_INTERNAL_H

#include "archive/payload.h"
#include "service/live.h"
#include "service/service.h"

struct service {
    const struct config *config;
    struct catalog *catalog;
    const struct clock *clock;
    char *staging;              /* STATE/staging: unlinked temporary files, cleared at start */
    char *logs;                 /* STATE/logs: one file per job */
    struct frame_cache *frames; /* of all payloads that are open on the mount */
    struct live live;
    pthread_t *workers;
    size_t worker_count;
};

/* A worker's thread: takes jobs until the service stops. */
void *worker_main(void *service);

/* What an adopted record is made of: a valid archive that the catalog does not have. */
int recovery_describe(struct destination *d, const struct repo *repo, const char *ulid,
                      struct record *out, struct error *err);
int recovery_run(struct service *s, struct error *err);

#endif
