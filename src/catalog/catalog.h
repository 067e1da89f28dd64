/* SPDX-License-Identifier: MIT */
/*
 * catalog.h - jobs, records and stores in SQLite: what readdir, getattr and the files read.
 *
 * One database, one connection, one mutex: WAL, synchronous=FULL, so that what a function that
 * changes something reports is on disk when it returns. Progress of running jobs lives in a TEMP
 * table of the same connection (in memory): it is read like any column, costs no fsync, and its
 * last value goes into the job's row with the final state.
 *
 * The database is a cache of the repos as far as records go: delete it and the same records are
 * adopted again. Jobs, pins, what is suspect and which ticks were handled are only here.
 *
 * Final states are guarded: an UPDATE names the states it may leave, and one that finds no row is
 * an error, never an upsert.
 *
 * Errors: ERR_STATE_NO_SPACE (errnum ENOSPC) for a full disk, ERR_STATE_UNAVAILABLE (EIO or as it
 * was) for one that fails, ERR_NOT_FOUND (ENOENT) for a row that is not there.
 *
 * Jobs that were read a moment ago are not read from SQLite again; every change by this process is
 * seen at once all the same, one by another process, which nothing but a person's shell is, within
 * 100 ms.
 *
 * Times in rows are ms; row ids are AUTOINCREMENT and never reused, so that inodes are not either.
 * Threads: any function from any thread; who waits for the mutex is not overtaken again and again.
 * Callbacks are called with it held and must not call the catalog, but for those of which it is
 * said that they may.
 */
#ifndef KEEPFS_CATALOG_H
#define KEEPFS_CATALOG_H

#include "engine/backup.h"
#include "keepfs/model.h"
#include "util/buf.h"

struct catalog;

/* Opens or makes the database file (mode 0600). A file of a newer schema is refused by name; one
 * that is no database is ERR_STATE_UNAVAILABLE with a sentence that says to move it away. */
struct catalog *catalog_open(const char *path, struct error *err);
void catalog_close(struct catalog *c); /* NULL is fine */

/*
 * Opens it to look, also beside a daemon that uses it: nothing is made, migrated, recovered or
 * written back, and nobody waits for it. ERR_NOT_FOUND if there is no catalog yet; one of an older
 * schema is ERR_STATE_UNAVAILABLE. Functions that change something fail.
 *
 * It is for a moment: a daemon that starts while a look is under way may change the file below it,
 * and while it recovers what a dead one left, nobody else can read. What then is read or fails says
 * nothing. So open, read, close; and what fails or looks wrong is looked at again by another open.
 */
struct catalog *catalog_open_look(const char *path, struct error *err);
/* SQLite's own check of every page, index and reference: `fault` is called with a sentence for each
 * thing that is wrong, up to some twenty; it must not call the catalog. */
int catalog_integrity(struct catalog *c, void (*fault)(void *ctx, const char *text), void *ctx,
                      struct error *err);

/* ---- events ---- */

enum catalog_object { OBJECT_JOB, OBJECT_RECORD };

/*
 * One change of state that was committed.
 *
 *   job      pending running succeeded failed interrupted
 *   record   created (by its job) adopted missing deleting deleted
 *            pinned unpinned suspect reviewed
 *
 * `from` is the state before: "" for what was not there; of a record good, missing or deleting, and
 * it is good for the four that leave the state as it is.
 */
struct catalog_event {
    uint64_t seq; /* 1, 2, 3, ... since the catalog was opened, without a gap */
    time_ms time; /* of the commit, by the system's clock; one for all of a transaction */
    enum catalog_object object;
    int64_t row;
    char ulid[ULID_LEN + 1];
    char store[LIMIT_ID + 1];
    char repo[LIMIT_ID + 1];
    const char *from, *to; /* static */
};
typedef void (*catalog_event_fn)(void *ctx, const struct catalog_event *e);

/*
 * From now on `fn` is called for each change exactly once, in the order of the commits, by the
 * thread that made it and before the function that made it returns. What was rolled back, or left
 * as it was, gives no event; nor do progress and pruning.
 *
 * It is called after the commit with the catalog's mutex held, which is what keeps the order: it
 * must not call the catalog, nor wait for anybody who does; it puts the event into a queue of its
 * own and returns. Set it once, before there are threads. NULL: nobody listens.
 */
void catalog_on_event(struct catalog *c, catalog_event_fn fn, void *ctx);
/* The same for the progress of a running job, which is no change of state: `fn` is called with the
 * job's row each time that catalog_job_progress has stored something, under the same rules. */
typedef void (*catalog_progress_fn)(void *ctx, int64_t job);
void catalog_on_progress(struct catalog *c, catalog_progress_fn fn, void *ctx);

/* ---- jobs ---- */

/*
 * Inserts `count` pending jobs in one transaction and sets their `row`. All or none. Uses ulid,
 * kind, store, repo, requested_by, key, label, created_at, attempt (0 is taken as 1);
 * a tick that is not 0 is stored as catalog_tick_set does. A key that
 * was used before: ERR_INVALID with errnum EEXIST, the earlier job's ULID in the message.
 */
int catalog_jobs_create(struct catalog *c, struct job *jobs, size_t count, struct error *err);

/* pending -> running. ERR_NOT_FOUND if no such job is pending. */
int catalog_job_start(struct catalog *c, const char *job, const char *record, time_ms now,
                      struct error *err);
/* Of a running job. A percent outside 0..100 is ERR_INTERNAL and changes nothing; a lower one than
 * before is kept out. */
int catalog_job_progress(struct catalog *c, const char *job, const struct job_progress *p,
                         struct error *err);
/* running -> succeeded, with the record's row, in one transaction; progress 100. */
int catalog_job_succeed(struct catalog *c, const char *job, const struct record *record,
                        const struct stats *stats, time_ms now, struct error *err);
/* pending or running -> failed or interrupted; progress stays where it was. */
int catalog_job_fail(struct catalog *c, const char *job, enum job_state state,
                     const struct error *why, const struct stats *stats, time_ms now,
                     struct error *err);
/* Start-up: every pending or running job becomes interrupted, in one transaction. A running one
 * whose record is in the catalog by now says in its text that the archive was adopted. */
int catalog_jobs_interrupt(struct catalog *c, time_ms now, size_t *count, struct error *err);

int catalog_job_get(struct catalog *c, const char *ulid, struct job *out, struct error *err);
int catalog_job_at(struct catalog *c, int64_t row, struct job *out, struct error *err);
/* The newest job of all; of one with a key. ERR_NOT_FOUND if there is none. */
int catalog_job_latest(struct catalog *c, struct job *out, struct error *err);
int catalog_job_by_key(struct catalog *c, const char *key, struct job *out, struct error *err);
/* "idle", "pending" or "running": running if any job of the store is. */
int catalog_store_activity(struct catalog *c, const char *store, enum job_state *state,
                           bool *active, struct error *err);
/*
 * The job as one JSON object with a newline at the end: all that is known of it. What is empty is
 * null. Keys, in this order; new ones are added at the end:
 *
 *   id kind store repo state requested_by label key
 *   created_at started_at finished_at   RFC 3339, UTC, ms
 *   progress                            0..100
 *   stats                               an object of integers, the unit in the key
 *   error error_code hint               why it failed or was interrupted
 *   record                              its ULID, null until it can be found and when it is gone
 *   attempt                             from 1
 *   error_errno                         what the system said, such as "ENOSPC"
 *   duration_ms                         from its start to its end
 */
int catalog_job_json(struct catalog *c, int64_t row, struct buf *out, struct error *err);

/*
 * Deletes finished jobs with finished_at < finished_before, oldest first, at most `limit` of them
 * (1..CATALOG_PRUNE_MAX) in one short transaction; *count is below `limit` when no more are left.
 * Then, without the mutex, `fn` gets their ULIDs in that order, to remove what belongs to them; it
 * may call the catalog. A crash in between leaves logs without a job, which the next start removes.
 *
 * Never pruned: what is pending or running, and of each repo the newest success of each kind of
 * job. A record may outlive the job that made it: its `job` is "" then. The key of a pruned job can
 * be used again.
 */
enum { CATALOG_PRUNE_MAX = 1000 };
typedef void (*catalog_pruned_fn)(void *ctx, const char *ulid);
int catalog_jobs_prune(struct catalog *c, time_ms finished_before, size_t limit,
                       catalog_pruned_fn fn, void *ctx, size_t *count, struct error *err);

/* A directory entry of a listing, ascending by row and starting behind `after`. The callback
 * returns true to go on. */
struct catalog_entry {
    int64_t row;
    const char *name; /* a ULID, key or id; valid during the call */
};
typedef bool (*catalog_list_fn)(void *ctx, const struct catalog_entry *e);
enum catalog_list {
    LIST_JOBS,
    LIST_JOBS_ACTIVE,
    LIST_JOBS_KEYED,
    LIST_RECORDS,
    LIST_PINNED,        /* records */
    LIST_RECORD_STORES, /* stores that have a good record, configured or not; rows of stores */
};
int catalog_list(struct catalog *c, enum catalog_list what, int64_t after, catalog_list_fn fn,
                 void *ctx, struct error *err);

/* ---- records ---- */

enum record_state { RECORD_GOOD, RECORD_MISSING, RECORD_DELETING };

/* Inserts an adopted record, or brings one back that was missing. Nothing happens if it is there. A
 * new one is pinned if the record says so and no job here made it: what an archive of another
 * catalog's was pinned for is not known. One that comes back has its own pin. */
int catalog_record_adopt(struct catalog *c, const struct record *record, bool *adopted,
                         struct error *err);
int catalog_record_get(struct catalog *c, const char *ulid, struct record *out, struct error *err);
int catalog_record_at(struct catalog *c, int64_t row, struct record *out, struct error *err);
/* The newest record of a store, or of one of its repos if `repo` is not NULL. */
int catalog_record_latest(struct catalog *c, const char *store, const char *repo,
                          struct record *out, struct error *err);
/* The newest record of a store that was made at `time` or before, of all, by (created_at, ulid).
 * ERR_NOT_FOUND if there is none. */
int catalog_record_not_later(struct catalog *c, const char *store, time_ms time, struct record *out,
                             struct error *err);
/*
 * A good record as one JSON object with a newline at the end: what the catalog knows of it, from
 * `r`, which may have left the catalog since. Keys, in this order; new ones are added at the end:
 *
 *   id store store_kind repo   texts
 *   created_at                 RFC 3339, UTC, ms
 *   size_bytes content_bytes   of payload.bin and of payload
 *   sha256                     of payload.bin, hex
 *   manifest_bytes payload_id_count payload_ids_bytes
 *   pinned suspect reviewed    true or false
 *   job                        its ULID, null if it is not known any more
 *   state                      "good"; "deleting" once it is on its way out
 *
 * How it is encrypted and compressed is in its manifest alone.
 */
int catalog_record_json(struct catalog *c, const struct record *r, enum record_state state,
                        struct buf *out, struct error *err);

/* ---- listings of some: views.c ---- */

/* As catalog_list: jobs of a store, its good records, the good records of a day (date.h, UTC). */
int catalog_list_store_jobs(struct catalog *c, const char *store, int64_t after, catalog_list_fn fn,
                            void *ctx, struct error *err);
int catalog_list_store_records(struct catalog *c, const char *store, int64_t after,
                               catalog_list_fn fn, void *ctx, struct error *err);
int catalog_list_day_records(struct catalog *c, int64_t day, int64_t after, catalog_list_fn fn,
                             void *ctx, struct error *err);
/* A store that has a good record, by its row or its name; configured or not. ERR_NOT_FOUND for one
 * that has none. `store` has room for LIMIT_ID and a NUL. */
int catalog_record_store_at(struct catalog *c, int64_t row, char *store, struct error *err);
int catalog_record_store_find(struct catalog *c, const char *store, int64_t *row,
                              struct error *err);
/* The first day not before `from` of which there is a good record; ERR_NOT_FOUND if there is none.
 */
int catalog_record_next_day(struct catalog *c, int64_t from, int64_t *day, struct error *err);

/*
 * After a complete listing of a repo: records of it that are not among `ids` (ascending) are
 * marked missing. They keep their rows and are not listed or found until they are adopted again.
 */
int catalog_records_missing(struct catalog *c, const char *store, const char *repo,
                            char (*ids)[ULID_LEN + 1], size_t count, size_t *missing,
                            struct error *err);

/* A record of the repo that is missing and newer than `after`: into `ulid`, of ULID_LEN + 1 bytes.
 * ERR_NOT_FOUND if none is. */
int catalog_record_lost(struct catalog *c, const char *store, const char *repo, time_ms after,
                        char *ulid, struct error *err);

/* A record's row whatever its state, for whoever compares rows with archives. */
int catalog_record_find(struct catalog *c, const char *ulid, struct record *out,
                        enum record_state *state, struct error *err);
/* The good records of a repo, by one statement. */
typedef void (*catalog_record_fn)(void *ctx, const struct record *r);
int catalog_records_of_repo(struct catalog *c, const char *store, const char *repo,
                            catalog_record_fn fn, void *ctx, struct error *err);
/*
 * The same, newest first by (created_at, ulid), for whoever has time: it is read page by page, and
 * `fn` is called without the mutex and may call the catalog. None is given twice; what comes or
 * goes meanwhile may be given or not.
 */
int catalog_records_newest(struct catalog *c, const char *store, const char *repo,
                           catalog_record_fn fn, void *ctx, struct error *err);
/* How many records there are of each repo that has any, configured or not. */
typedef void (*catalog_count_fn)(void *ctx, const char *store, const char *repo, size_t records);
int catalog_records_count(struct catalog *c, catalog_count_fn fn, void *ctx, struct error *err);

/* content_bytes of the newest good records of a repo that are older than `before_ulid`, newest
 * first. ERR_NOT_FOUND if that record has no row, whatever its state. */
enum { CATALOG_SIZES = 5 };
int catalog_record_sizes(struct catalog *c, const char *store, const char *repo,
                         const char *before_ulid, uint64_t sizes[CATALOG_SIZES], size_t *count,
                         struct error *err);

/* Not suspect means reviewed by a person, and stays so: it cannot be marked again. Of a good
 * record; ERR_NOT_FOUND if there is none, also while it is being deleted. What stands so already is
 * success. Both survive its being missing for a while. */
int catalog_record_pin(struct catalog *c, const char *ulid, bool pinned, struct error *err);
int catalog_record_mark_suspect(struct catalog *c, const char *ulid, bool suspect,
                                struct error *err);

/*
 * Deleting a record: begin, then remove its archive, then end. From begin on it is neither listed
 * nor found and cannot be pinned, adopted or brought back; jobs go on naming it, with record_row 0.
 *
 * begin: ERR_INVALID with errnum EPERM for a pinned one, ERR_NOT_FOUND for a missing or unknown
 * one; success, and nothing more, for one that is deleting already. end: ERR_NOT_FOUND unless it is
 * deleting.
 */
int catalog_record_delete_begin(struct catalog *c, const char *ulid, struct error *err);
/* begin, for a rule: only while the record `kept`, for which this one may go, is good itself.
 * ERR_NOT_FOUND if either is not, or if this one is pinned by now. */
int catalog_record_expire(struct catalog *c, const char *ulid, const char *kept, struct error *err);
int catalog_record_delete_end(struct catalog *c, const char *ulid, struct error *err);
/* The deletions that were begun and not ended, of all repos, oldest row first. `fn` is called
 * without the mutex and may call the catalog, also to end them. */
int catalog_records_deleting(struct catalog *c, catalog_record_fn fn, void *ctx, struct error *err);

/* ---- stores and repos: rows of the configuration, so that each has an inode ---- */

/* The row of a store's or repo's id, made if needed. */
int catalog_store_row(struct catalog *c, const char *store, int64_t *row, struct error *err);
int catalog_repo_row(struct catalog *c, const char *store, const char *repo, int64_t *row,
                     struct error *err);
/* The way back; `store` and `repo` have room for LIMIT_ID and a NUL. ERR_NOT_FOUND for a row that
 * is none. A name stays, also when it is in no configuration any more. */
int catalog_store_at(struct catalog *c, int64_t row, char *store, struct error *err);
int catalog_repo_at(struct catalog *c, int64_t row, char *store, char *repo, struct error *err);
/* All stores that ever had a row; as catalog_list. */
int catalog_list_stores(struct catalog *c, int64_t after, catalog_list_fn fn, void *ctx,
                        struct error *err);
/* Has an archive ever been published at this place for this repo? Then the place is not made
 * again when it is absent. catalog_repo_used is called by whoever had a success or adopted. */
int catalog_repo_used(struct catalog *c, const char *store, const char *repo, const char *place,
                      struct error *err);
int catalog_repo_is_used(struct catalog *c, const char *store, const char *repo, const char *place,
                         bool *used, struct error *err);

/* The last tick of a repo's schedule that was handled, 0 if there is none: what a start has to
 * catch up with. It may be set back, as after a clock was put right. */
int catalog_tick_get(struct catalog *c, const char *store, const char *repo, time_ms *handled,
                     struct error *err);
int catalog_tick_set(struct catalog *c, const char *store, const char *repo, time_ms handled,
                     struct error *err);

/* ---- how repos stand: for those who watch ---- */

/* How many jobs of a repo ended so since the catalog was made, those that were pruned since, too.
 */
struct outcome_sum {
    char kind[16];
    enum job_state state;
    uint64_t jobs;
    time_ms run_ms; /* of all of them, from start to end */
};

/* How a repo stands, in sum. A few searches by key, however long the history is. */
struct repo_standing {
    /* The newest good record, or "". As of `now`: one that is dated later counts only if there is
     * no other. */
    char newest[ULID_LEN + 1];
    time_ms newest_at;
    uint64_t newest_size_bytes, newest_content_bytes;
    time_ms latest_at; /* the latest date of all good records, also one behind `now` */
    /* Of all good records. */
    size_t records, suspect;
    double size_bytes, content_bytes;
    /* The backup that ended last, or "". */
    char job[ULID_LEN + 1];
    enum job_state job_state;
    enum error_code job_error;
    time_ms job_finished_at;
    time_ms job_run_ms;
    struct outcome_sum outcomes[LIMIT_OUTCOMES];
    size_t outcome_count;
};
int catalog_repo_standing(struct catalog *c, const char *store, const char *repo, time_ms now,
                          struct repo_standing *out, struct error *err);
/* The newest record of the repo that is suspect; ERR_NOT_FOUND if none is. `ulid` has room for
 * ULID_LEN + 1. */
int catalog_record_suspect(struct catalog *c, const char *store, const char *repo, char *ulid,
                           struct error *err);

/*
 * Since when backups of repos are expected: `since` becomes what is stored, or `now`, which is
 * stored then; also if what is stored is later than that by more than a minute, as by a clock that
 * was wrong. Of one that is not `expected` it becomes 0, and begins anew when it is again. All in
 * one transaction; on failure what is not stored is not known either.
 */
struct expectation {
    const char *store, *repo;
    bool expected;
    bool changed; /* what is stored was */
    time_ms since;
};
int catalog_expect(struct catalog *c, struct expectation *items, size_t count, time_ms now,
                   struct error *err);

#endif
