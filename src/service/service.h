/* SPDX-License-Identifier: MIT */
/*
 * service.h - what the daemon does: takes commands, runs jobs, recovers, and keeps itself.
 *
 * Life: service_new -> service_recover -> service_start -> commands -> service_stop ->
 * service_free.
 *
 *   recover  archives without a row are adopted; running and pending jobs become interrupted;
 *            leftovers of dead jobs are swept from repos and from staging. Each repo is on its
 *            own: one that cannot be read is logged and does not stop the start.
 *   start    max_jobs workers begin to run what is queued, the scheduler to start what is due, the
 *            keeper to delete what is not kept.
 *   stop     new commands are refused (ERR_STOPPING), pending and running jobs become
 *            interrupted, threads are joined until a deadline.
 *
 * A command only enqueues: when service_run returns 0 the jobs are rows on disk. Jobs of one store
 * (one group, see model.h) run one after another; a repo has at most one job pending or running.
 * Whoever starts a job - ctl, the schedule, a retry - does it by service_run, and the table of live
 * jobs (live.h) is the only lock on a store.
 *
 *   worker.c     one job at a time, with its log, its hooks (hooks.c), and retention after it
 *   scheduler.c  one thread on a timerfd: ticks (schedule.h) and retries
 *   retention.c  which records go: only marks them as deleting
 *   keeper.c     one thread that removes archives whose records are deleting, and their rows; and
 *                does daily what would otherwise wait for a backup: retention, old jobs
 *   reload.c     another configuration without a restart
 *
 * Locks: `config_lock` guards which configuration is in force, the table of live jobs and the
 * scheduler's plan have a mutex each; none is held during a call to another room. A job is in
 * the table before its row is visible and until after its final state is: whoever sees a live row
 * can cancel it, and whoever saw a final state is never told that the repo is busy.
 *
 * Threads: commands may come from any thread.
 */
#ifndef KEEPFS_SERVICE_H
#define KEEPFS_SERVICE_H

#include "catalog/catalog.h"
#include "config.h"
#include "util/clock.h"

struct service;

/* Holds `config`; `catalog` must outlive it. Nothing runs yet. */
struct service *service_new(struct config *config, struct catalog *catalog,
                            const struct clock *clock);
int service_recover(struct service *s, struct error *err);
int service_start(struct service *s, struct error *err);
/* Waits for the threads until `deadline_ms` from now. True if all jobs have ended and nothing of
 * the service runs any more; else the process should leave without freeing it. */
bool service_stop(struct service *s, int deadline_ms);
/* Marks what is pending or running as interrupted once more: after the last command could have been
 * answered, since one that had begun before service_stop may have inserted its row after it. */
void service_interrupt(struct service *s);
void service_free(struct service *s); /* after the last command has returned; NULL is fine */

/* The configuration in force, held: the caller gives it up by config_free. */
struct config *service_config(struct service *s);
struct catalog *service_catalog(const struct service *s);

/*
 * Reads the configuration's file again. All of it is taken, or on any fault nothing: then -1,
 * ERR_CONFIG_INVALID (errnum EINVAL) with the first fault in the message, and all faults in the
 * daemon's log. Jobs that were pending or running keep what they began with. Records of a store or
 * repo that went stay readable until keepfs ends. `state`, `max_jobs`, `control_group` and
 * `read_group` cannot change, nor can the first `run_group` come.
 */
int service_reload(struct service *s, const char *by, struct error *err);

/* One accepted line of ctl. */
struct run_request {
    char store[LIMIT_ID + 1];
    char repo[LIMIT_ID + 1]; /* "" = all repos of the store */
    char key[LIMIT_KEY + 1]; /* "" = none; needs exactly one repo to start */
    char label[LIMIT_LABEL + 1];
    char requested_by[40];
    int attempt;  /* from 1; more for a retry */
    time_ms tick; /* of the schedule that asks; 0 = somebody else does */
};

struct run_reply {
    size_t count;
    struct {
        char job[ULID_LEN + 1];
        char repo[LIMIT_ID + 1];
    } jobs[LIMIT_REPOS_PER_STORE];
};

/* Parses one line without its newline: STORE[/REPO] [key=TOKEN] [label=TEXT...]. The label takes
 * the rest of the line. ERR_INVALID with errnum EINVAL or E2BIG, naming the column. */
int run_request_parse(const char *line, size_t len, struct run_request *out, struct error *err);

/*
 * One job for each repo named, or none at all. Errors, with their errno: ERR_NOT_FOUND ENOENT,
 * ERR_BACKUP_ALREADY_RUNNING EBUSY (the job's ULID in the message), ERR_QUEUE_FULL EAGAIN,
 * ERR_INVALID EEXIST for a used key, ERR_STOPPING ESHUTDOWN, ERR_STATE_*.
 */
int service_run(struct service *s, const struct run_request *request, struct run_reply *reply,
                struct error *err);

/* Asks a job to end. A pending one is interrupted when this returns; a running one soon after. A
 * finished one stays as it is, and that is success. ERR_NOT_FOUND for an unknown job. */
int service_cancel(struct service *s, const char *job, const char *by, struct error *err);

/* ---- schedules ---- */

/* When the schedule starts its next backup, jitter included: of a repo, or of the store if `repo`
 * is NULL, its soonest. 0 if there is no schedule. */
time_ms service_next_run(struct service *s, const char *store, const char *repo);
/* One line without its newline: what the store is doing, or what keeps it from doing it. */
void service_why(struct service *s, const char *store, struct buf *out);

/* ---- records ---- */

/* Errors of these: ERR_NOT_FOUND ENOENT, ERR_STATE_*. `by` is for the log; of "uid:N", a
 * caller at the mount, the mount tells by itself. */
int service_pin(struct service *s, const char *record, bool pinned, const char *by,
                struct error *err);
/* The record is gone from every listing when this returns; its archive follows. ERR_INVALID with
 * errnum EPERM if it is pinned. */
int service_delete(struct service *s, const char *record, const char *by, struct error *err);
/* Confirms that a suspect record, and any earlier suspect one of its repo, is as it should be: what
 * waited for it may be deleted again. */
int service_review(struct service *s, const char *record, const char *by, struct error *err);
/* A line for each good record of a repo, newest first: what retention would do with it now, and by
 * which rule. Above them a line that begins with "#" if nothing is deleted at present, and why. */
int service_retention(struct service *s, const struct repo *repo, struct buf *out,
                      struct error *err);
/* Called when an object is gone from the listings without anybody at the mount having removed it;
 * from any thread of the service, with a lock of its own held: it must not call the service, nor
 * wait. Set before service_start; NULL once the listener goes, who is not called any more then. */
typedef void (*service_gone_fn)(void *ctx, bool is_job, const char *ulid);
void service_on_gone(struct service *s, service_gone_fn fn, void *ctx);

/* The job's log file; heap allocated. It may not exist yet. */
char *service_log_path(const struct service *s, const char *job);

/* Opens an object of a record's archive for reading, as it is stored; or its payload: what the
 * source gave, at any offset, after the archive was examined. The struct destination stays open
 * until service_close_object. */
struct service_object {
    struct config *config; /* held: the repo's */
    struct destination *destination;
    struct object *object; /* one of these */
    struct payload *payload;
    uint64_t size;
    bool checked; /* no wrong byte is given, whatever happens to the archive meanwhile */
};
int service_open_object(struct service *s, const struct record *record, const char *name,
                        struct service_object *out, struct error *err);
int service_open_payload(struct service *s, const struct record *record, struct service_object *out,
                         struct error *err);
/* As pread of destination.h. Any thread. */
ssize_t service_pread(struct service_object *o, void *buf, size_t len, uint64_t offset,
                      struct error *err);
void service_close_object(struct service_object *o);

#endif
