/* SPDX-License-Identifier: MIT */
/*
 * backup.h - the executor: one attempt to back one store up into one repo.
 *
 *   1. make the record's ULID
 *   2. jobs->start: the row is there as running, with that ULID, before any byte moves
 *   3. load the key, open source and destination, begin the archive        progress 10
 *   4. stream: source -> gate -> zstd or relay -> [envelope] -> digest -> object     10..95
 *      with verify_after_write: read it back, decode it, compare
 *   5. publish                                                             95
 *   6. jobs->succeed: record and final state in one transaction            100
 *   otherwise jobs->fail: failed, or interrupted if it was cancelled; no record
 *
 * While streaming, progress is 10 + 85 * done / expected; 50 where the source cannot know. It
 * never goes back. A cancel that comes after the archive was published is too late: the backup
 * has succeeded. If the archive is published but the record cannot be stored, the job fails with
 * exactly that message, and the next start adopts the archive.
 *
 * The executor knows no SQLite and no FUSE. Threads: backup_run blocks its thread until the end;
 * several may run at once.
 */
#ifndef KEEPFS_ENGINE_BACKUP_H
#define KEEPFS_ENGINE_BACKUP_H

#include "keepfs/destination.h"
#include "keepfs/source.h"
#include "util/clock.h"

struct job_progress {
    int percent;
    uint64_t done, expected; /* bytes; expected 0 = not known */
};

/* The narrow job store. Implemented by the service over the catalog, and by fakes in tests. */
struct job_store;
struct job_store_ops {
    /* pending -> running. Fails if the job is not pending any more (it was cancelled): then the
     * run ends and touches nothing. */
    int (*start)(struct job_store *s, const char *job, const char *record, time_ms now,
                 struct error *err);
    /* May fail; the run goes on. */
    int (*progress)(struct job_store *s, const char *job, const struct job_progress *p,
                    struct error *err);
    /* Record and `succeeded` in one transaction, retried by the implementation. */
    int (*succeed)(struct job_store *s, const char *job, const struct record *record,
                   const struct stats *stats, time_ms now, struct error *err);
    /* `state` is JOB_FAILED or JOB_INTERRUPTED. */
    int (*fail)(struct job_store *s, const char *job, enum job_state state, const struct error *why,
                const struct stats *stats, time_ms now, struct error *err);
};
struct job_store {
    const struct job_store_ops *ops;
};

struct backup {
    const struct repo *repo; /* and its store */
    const char *job;         /* ULID of the pending job */
    const char *staging;     /* directory for unlinked temporary files */
    uint64_t expected_bytes; /* size of the last good one, 0 if none: a guess for progress */
    bool create;             /* the repo's place may be made if it is absent */
    struct cancel *cancel;
    struct job_store *jobs;
    const struct clock *clock;
    /* Called once the job is running, before source or repo are opened; -1 fails it. NULL: nothing
     * to call. */
    int (*before)(void *ctx, struct error *err);
    /* Lines for the job's log. */
    void (*log)(void *ctx, const char *line);
    void *ctx; /* of both */
};

/*
 * Runs it. Returns the state that the job was given; `err` has the reason unless it succeeded.
 * Returns JOB_PENDING if the job was not started because start refused.
 */
enum job_state backup_run(const struct backup *b, struct error *err);

#endif
