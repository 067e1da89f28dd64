/* SPDX-License-Identifier: MIT */
/*
 * live.h - the jobs that have not ended: queue, overlap and cancel are one table.
 *
 *   claimed -> queued -> running -> ending -> (gone)
 *
 *   claimed   the repo is taken, the row is not visible yet
 *   queued    the row is there as pending; a worker may take it
 *   running   a worker has it; no other job of its group runs
 *   ending    its final state is being written; still found by cancel, still busy for new claims,
 *             which wait for it to go rather than be told of a job that everybody sees finished
 *
 *   examined  no job, but the repo is looked through: whoever wants it waits a moment, and is then
 *             told to try again (ERR_QUEUE_FULL)
 *
 * A repo has at most one entry, by its name. Entries are ordered by arrival; live_take gives the
 * first that no running one stands in the way of. This is the only lock that a job takes on its
 * store, whoever asked for it. An entry holds the configuration that it began with.
 *
 * Locks: one mutex inside, never held during a call out. Threads: any. A struct live_job is freed
 * by live_remove alone, called by the thread that holds it (claimer, worker or canceller).
 */
#ifndef KEEPFS_SERVICE_LIVE_H
#define KEEPFS_SERVICE_LIVE_H

#include "config.h"
#include "keepfs/cancel.h"

#include <pthread.h>

enum live_phase { LIVE_CLAIMED, LIVE_QUEUED, LIVE_RUNNING, LIVE_ENDING, LIVE_EXAMINED };

struct live_job {
    char ulid[ULID_LEN + 1];
    struct config *config; /* held: the repo's */
    const struct repo *repo;
    struct cancel cancel;
    enum live_phase phase;
    int attempt; /* from 1; the claimer's to set before it is queued */
    struct live_job *next;
};

struct live {
    pthread_mutex_t lock; /* guards all below and every entry's phase and next */
    pthread_cond_t changed;
    struct live_job *first, **last;
    /* What workers have: nothing that conflicts with a store of these is begun. */
    struct live_job *taken[LIMIT_JOBS_RUNNING];
    size_t taken_count;
    size_t count, max_queue;
    size_t left; /* workers that have gone for good */
    bool stopping;
};

void live_init(struct live *l, size_t max_queue);
void live_release(struct live *l); /* no entry is left */

/* Claims all of `repos`, which are of `config`, or none: ERR_BACKUP_ALREADY_RUNNING (EBUSY),
 * ERR_QUEUE_FULL (EAGAIN), ERR_STOPPING (ESHUTDOWN). `ulids` are the new jobs' ids; `out` gets the
 * entries. */
int live_claim(struct live *l, struct config *config, struct repo *const *repos,
               char (*ulids)[ULID_LEN + 1], size_t count, struct live_job **out, struct error *err);
/* From now on so many may be pending and running. */
void live_set_max_queue(struct live *l, size_t max_queue);
/* Their rows are visible now. */
void live_queue(struct live *l, struct live_job **jobs, size_t count);

/* The next job to run, now running; blocks. NULL once stopping. */
struct live_job *live_take(struct live *l);
/* Back to the queue, at its place: a canceller could not write its end. */
void live_requeue(struct live *l, struct live_job *job);

void live_ending(struct live *l, struct live_job *job);
/* Of one that was claimed for it. */
void live_examining(struct live *l, struct live_job *job);
/* Takes an entry out and frees it. */
void live_remove(struct live *l, struct live_job *job);

/*
 * Asks the job to end. True if it is live. *pending is then set if it was queued: it is the
 * caller's now, ending, to be removed or requeued.
 */
bool live_cancel(struct live *l, const char *ulid, const char *reason, struct live_job **pending);

/* No claim or take succeeds from now on; every running job is asked to end. */
void live_stop(struct live *l);
/* Frees what is left; after workers and commands have gone. */
void live_clear(struct live *l);
/* A worker's last call: it holds no job and takes none any more. */
void live_leave(struct live *l);
/* Waits until `count` workers have left; false if that takes longer than `ms`. */
bool live_wait_left(struct live *l, size_t count, int ms);
/* Has the repo, by its name, a job pending or running? */
bool live_has(struct live *l, const struct repo *repo);
bool live_is_stopping(struct live *l);

/* How a repo's entry stands. */
struct live_view {
    char ulid[ULID_LEN + 1];
    enum live_phase phase;
    size_t ahead; /* queued: how many were queued before it */
    /* queued: the running job that stands in its way, or "" if only the workers are busy. */
    char behind[ULID_LEN + 1];
    char behind_store[LIMIT_ID + 1], behind_repo[LIMIT_ID + 1];
};
/* False if the repo has no entry. */
bool live_view(struct live *l, const char *store, const char *repo, struct live_view *out);
/* How many run, with their ULIDs in the order of arrival, and how many wait to. */
size_t live_running(struct live *l, char (*ulids)[ULID_LEN + 1], size_t *pending);
/* What whoever asks for something is told from then on. Always -1. */
int live_stopping_error(struct error *err);
/* Waits `ms` or until live_stop; true once stopping. */
bool live_wait_stop(struct live *l, int ms);

#endif
