/* SPDX-License-Identifier: MIT */
/*
 * internal.h - the service's own parts; nobody outside src/service includes this.
 */
#ifndef KEEPFS_SERVICE_INTERNAL_H
#define KEEPFS_SERVICE_INTERNAL_H

#include "archive/payload.h"
#include "service/figures.h"
#include "service/live.h"
#include "service/schedule.h"
#include "service/service.h"

#include <string.h>

struct scheduler;
struct keeper;

struct service {
    pthread_mutex_t config_lock; /* guards config, past, past_count */
    struct config *config;       /* in force */
    struct config **past;        /* see reload.c */
    size_t past_count;
    pthread_mutex_t reload_lock; /* one reload at a time */
    struct catalog *catalog;
    const struct clock *clock;
    char *staging;              /* STATE/staging: unlinked temporary files, cleared at start */
    char *logs;                 /* STATE/logs: one file per job */
    struct frame_cache *frames; /* of all payloads that are open on the mount */
    struct live live;
    struct scheduler *scheduler;
    struct keeper *keeper;
    struct figures *figures;
    pthread_mutex_t gone_lock; /* held during the call, so that nobody is called who has gone */
    service_gone_fn gone;
    void *gone_ctx;
    pthread_t *workers;
    size_t worker_count;
};

/* Is it somebody at the mount, whose commands are told by the mount's audit? */
static inline bool is_caller(const char *by)
{
    return strncmp(by, "uid:", strlen("uid:")) == 0;
}

/* The newest configuration that names the repo, held whether it is found or not. */
struct repo *service_find_repo(struct service *s, const char *store, const char *repo,
                               struct config **config);
/* Tells whoever listens that an object is not listed any more. */
void service_gone(struct service *s, bool is_job, const char *ulid);

/* A worker's thread: takes jobs until the service stops. */
void *worker_main(void *service);

/* ---- hooks.c ---- */

struct hook_call {
    const struct repo *repo;
    const char *job, *record;
    const char *state;       /* how the attempt ended; NULL for `before` */
    const struct error *why; /* NULL if it succeeded */
    void (*log)(void *ctx, const char *line);
    void *log_ctx;
};
/* 0 if the store has no such command ("before", ...), or it exited with 0. Else ERR_HOOK_FAILED, or
 * the code of the cancel (which may be NULL). */
int hook_run(const struct hook_call *c, const char *hook, struct cancel *cancel, struct error *err);

/* ---- scheduler.c ---- */

struct scheduler *scheduler_new(void);
void scheduler_free(struct scheduler *k);
/* The plan of a configuration. `first`: after a start, by the stored ticks; else a schedule that is
 * as it was keeps its place. */
void scheduler_load(struct service *s, const struct config *config, bool first);
int scheduler_start(struct service *s, struct error *err);
void scheduler_stop(struct scheduler *k);
bool scheduler_started(const struct scheduler *k);
void scheduler_join(struct scheduler *k);
/* What the thread does whenever it wakes: starts all that is due. When to wake next; 0 = never. */
time_ms scheduler_step(struct service *s);
/* When the soonest start is; `repo` NULL: of any repo of the store. 0 = none. */
time_ms scheduler_next(struct scheduler *k, const char *store, const char *repo);
/* "; SENTENCE" for each repo of the store whose last tick started nothing. */
void scheduler_notes(struct scheduler *k, const char *store, bool several, struct buf *out);
/* When the next retry of the repo starts; 0 = none is planned. */
time_ms scheduler_retry_at(struct scheduler *k, const char *store, const char *repo);
/* Another attempt of a job that failed; until then, or until any other job of its repo is begun. */
void scheduler_forget_retry(struct scheduler *k, const char *store, const char *repo);
void scheduler_retry(struct service *s, const struct run_request *request, time_ms at);

/* ---- retention.c, keeper.c ---- */

/* Marks as deleting what the repo's policy does not keep. */
void retention_run(struct service *s, const struct repo *repo);

struct keeper *keeper_new(void);
void keeper_free(struct keeper *k);
int keeper_start(struct service *s, struct error *err);
void keeper_stop(struct keeper *k);
bool keeper_started(const struct keeper *k);
void keeper_join(struct keeper *k);
/* Retention of a repo, soon. */
void keeper_pass(struct keeper *k, struct config *config, struct repo *repo);
/* Adoption and sweep of a repo that is new, soon. */
void keeper_reconcile(struct keeper *k, struct config *config, struct repo *repo);
/* There are rows to be deleted. */
void keeper_delete(struct keeper *k);

/* ---- recovery.c ---- */

/* What an adopted record is made of: a valid archive that the catalog does not have. */
int recovery_describe(struct destination *d, const struct repo *repo, const char *ulid,
                      struct record *out, struct error *err);
/* Sweeps a repo, adopts what has no row, marks what has no archive. While no job of it runs. */
void recovery_reconcile(struct service *s, struct repo *repo);
int recovery_run(struct service *s, struct error *err);

#endif
