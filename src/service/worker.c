/* SPDX-License-Identifier: MIT */
/*
 * worker.c - one thread, one job at a time: the executor's job store over the catalog, and the log.
 *
 * A job's log is STATE/logs/ULID.log, a line per event with its time, complete before the final
 * state is visible, so that a finished job's log never changes. It is bounded: later lines are
 * counted and the count is its last line but one.
 *
 * Final states: the entry of the live table goes to `ending` first, then the row is written. That
 * write is tried again while the disk is full or failing: a success for a few seconds, after which
 * the executor turns to `failed`, and a failure until it is stored or keepfs stops (start-up then
 * finds the row running, and interrupts it).
 *
 * Hooks: `before` is the executor's first step; `after` and `on_failure` run when its outcome is
 * known, before it is written.
 *
 * Behind a job: the repo is asked for its room; retention after a success; after a failure that may
 * pass, another attempt, which is a job of its own.
 */
#include "service/internal.h"

#include "keepfs/destination.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RETRY_MS = 200, SUCCEED_TRIES = 10 };

struct worker_job {
    struct job_store store; /* first: ops get this pointer back */
    struct service *service;
    struct live_job *live;
    bool place_used;
    char record[ULID_LEN + 1];
    bool begun;      /* `before` was, if there is one */
    bool hooks_done; /* `after` is run once, though a success may turn into a failure */
    int log_fd;      /* -1 if it cannot be opened: then only the daemon's log has the lines */
    size_t log_bytes;
    uint64_t log_dropped;
};

/* ---- the job's log ---- */

static void write_line(struct worker_job *w, const char *text)
{
    char now[TIME_TEXT_MAX];
    struct buf line = BUF_INIT;

    buf_addf(&line, "%s %s\n", time_format(clock_now(w->service->clock), now), text);
    /* Best effort: a full state disk must not fail a backup that can still be published. */
    if (w->log_fd >= 0 && fd_write_all(w->log_fd, line.data, line.len) == 0)
        w->log_bytes += line.len;
    buf_release(&line);
}

static void job_log(void *ctx, const char *text)
{
    struct worker_job *w = ctx;

    if (w->log_bytes > LIMIT_JOB_LOG)
        w->log_dropped++;
    else
        write_line(w, text);
}

/* The last lines are written whatever came before. */
__attribute__((format(printf, 2, 3))) static void log_end(struct worker_job *w, const char *fmt,
                                                          ...)
{
    struct buf text = BUF_INIT;
    va_list ap;

    if (w->log_dropped > 0) {
        buf_addf(&text, "%" PRIu64 " more lines were dropped", w->log_dropped);
        write_line(w, buf_text(&text));
        w->log_dropped = 0;
        buf_truncate(&text, 0);
    }
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    write_line(w, buf_text(&text));
    buf_release(&text);
}

static int open_log(struct service *s, const char *job)
{
    __attribute__((cleanup(free_charp))) char *path = service_log_path(s, job);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        log_warn("job %s: %s cannot be opened (%m): its log lines are lost", job, path);
    return fd;
}

/* ---- hooks ---- */

static struct hook_call hook_call(struct worker_job *w, enum job_state state,
                                  const struct error *why)
{
    return (struct hook_call){
        .repo = w->live->repo,
        .job = w->live->ulid,
        .record = w->record,
        .state = job_state_terminal(state) ? job_state_name(state) : NULL,
        .why = why,
        .log = job_log,
        .log_ctx = w,
    };
}

static int run_before(void *ctx, struct error *err)
{
    struct worker_job *w = ctx;
    struct hook_call call = hook_call(w, JOB_RUNNING, NULL);

    w->begun = true;
    return hook_run(&call, "before", &w->live->cancel, err);
}

/* What goes wrong here is in the log, however full that is, and changes nothing else. */
static void run_behind(struct worker_job *w, const struct hook_call *call, const char *hook)
{
    struct error err;

    if (hook_run(call, hook, NULL, &err) != 0)
        log_end(w, "%s: %s", hook, err.message);
}

static void run_after(struct worker_job *w, enum job_state state, const struct error *why)
{
    struct hook_call call = hook_call(w, state, why);

    if (w->begun && !w->hooks_done)
        run_behind(w, &call, "after");
    w->hooks_done = true;
    if (state == JOB_FAILED)
        run_behind(w, &call, "on_failure");
}

/* ---- the executor's job store ---- */

static int store_start(struct job_store *js, const char *job, const char *record, time_ms now,
                       struct error *err)
{
    struct worker_job *w = (struct worker_job *)js;
    const struct repo *repo = w->live->repo;
    struct buf text = BUF_INIT;

    if (catalog_job_start(w->service->catalog, job, record, now, err) != 0)
        return -1;
    memcpy(w->record, record, sizeof w->record);
    buf_addf(&text, "backup of %s/%s to %s as record %s", repo->store->id, repo->id, repo->place,
             record);
    job_log(w, buf_text(&text));
    buf_release(&text);
    return 0;
}

static int store_progress(struct job_store *js, const char *job, const struct job_progress *p,
                          struct error *err)
{
    return catalog_job_progress(((struct worker_job *)js)->service->catalog, job, p, err);
}

static int store_succeed(struct job_store *js, const char *job, const struct record *record,
                         const struct stats *stats, time_ms now, struct error *err)
{
    struct worker_job *w = (struct worker_job *)js;
    struct service *s = w->service;
    const struct repo *repo = w->live->repo;
    struct error ignored;

    if (!w->place_used &&
        catalog_repo_used(s->catalog, repo->store->id, repo->id, repo->place, &ignored) != 0)
        log_warn("job %s: %s", job, ignored.message);
    run_after(w, JOB_SUCCEEDED, NULL);
    log_end(w, "succeeded: %" PRIu64 " bytes stored, sha256 %s", record->size_bytes,
            record->sha256);
    live_ending(&s->live, w->live);
    for (int i = 1;; i++) {
        if (catalog_job_succeed(s->catalog, job, record, stats, now, err) == 0)
            return 0;
        if (i == SUCCEED_TRIES || err->code == ERR_NOT_FOUND || live_wait_stop(&s->live, RETRY_MS))
            return -1;
    }
}

static int store_fail(struct job_store *js, const char *job, enum job_state state,
                      const struct error *why, const struct stats *stats, time_ms now,
                      struct error *err)
{
    struct worker_job *w = (struct worker_job *)js;
    struct service *s = w->service;

    run_after(w, state, why);
    log_end(w, "%s: %s: %s", job_state_name(state), error_code_name(why->code), why->message);
    live_ending(&s->live, w->live);
    for (int i = 0;; i++) {
        if (catalog_job_fail(s->catalog, job, state, why, stats, now, err) == 0)
            return 0;
        if (i == 0)
            log_error("job %s: its end is not stored yet: %s", job, err->message);
        if (err->code == ERR_NOT_FOUND || live_wait_stop(&s->live, RETRY_MS))
            return -1;
    }
}

static const struct job_store_ops store_ops = {
    .start = store_start,
    .progress = store_progress,
    .succeed = store_succeed,
    .fail = store_fail,
};

/* ---- one job ---- */

static void log_result(const struct live_job *live, enum job_state state, const struct error *err)
{
    const char *store = live->repo->store->id, *repo = live->repo->id;

    if (state == JOB_SUCCEEDED)
        log_info("job %s: backup of %s/%s succeeded", live->ulid, store, repo);
    else if (state == JOB_PENDING)
        log_warn("job %s: backup of %s/%s was not started: %s", live->ulid, store, repo,
                 err->message);
    else
        log_error("job %s: backup of %s/%s %s: %s: %s", live->ulid, store, repo,
                  job_state_name(state), error_code_name(err->code), err->message);
}

/* How much room the repo has left. Only of one that has just answered, and last of all: another job
 * may hang there, and this one, too. */
static void measure(struct service *s, const struct repo *repo)
{
    struct destination *d;
    struct error err;

    if (!repo->kind->room)
        return;
    if (repo->kind->open(&repo->settings, 0, &d, &err) != 0)
        return; /* the job has said why */
    figures_measure(s->figures, d, repo, clock_now(s->clock));
    repo->kind->close(d);
}

/* What comes after the job, by its end. */
static void follow_up(struct service *s, const struct live_job *live, enum job_state state,
                      const struct error *err)
{
    const struct repo *repo = live->repo;
    struct run_request retry = {.attempt = live->attempt + 1};

    if (state == JOB_SUCCEEDED) {
        keeper_pass(s->keeper, live->config, store_repo(repo->store, repo->id));
        measure(s, repo);
    }
    if (state != JOB_FAILED || !error_code_transient(err->code) ||
        live->attempt > settings_int(&repo->settings, "retries"))
        return;
    snprintf(retry.store, sizeof retry.store, "%s", repo->store->id);
    snprintf(retry.repo, sizeof retry.repo, "%s", repo->id);
    snprintf(retry.requested_by, sizeof retry.requested_by, "retry:%s", live->ulid);
    time_ms delay = settings_int(&repo->settings, "retry_delay") * 1000;
    log_info("%s/%s: attempt %d is made in %lld s", retry.store, retry.repo, retry.attempt,
             (long long)delay / 1000);
    scheduler_retry(s, &retry, clock_now(s->clock) + delay);
}

static void run_job(struct service *s, struct live_job *live)
{
    const struct repo *repo = live->repo;
    struct worker_job w = {.store.ops = &store_ops, .service = s, .live = live};
    struct record last;
    struct error err;

    /* Not knowing whether the place was used, do not make it: an unmounted disk looks the same. */
    if (catalog_repo_is_used(s->catalog, repo->store->id, repo->id, repo->place, &w.place_used,
                             &err) != 0)
        w.place_used = true;
    w.log_fd = open_log(s, live->ulid);
    bool known = catalog_record_latest(s->catalog, repo->store->id, repo->id, &last, &err) == 0;
    struct backup b = {
        .repo = repo,
        .job = live->ulid,
        .staging = s->staging,
        .expected_bytes = known ? last.content_bytes : 0,
        .create = !w.place_used,
        .cancel = &live->cancel,
        .jobs = &w.store,
        .clock = s->clock,
        .before = run_before,
        .log = job_log,
        .ctx = &w,
    };
    enum job_state state = backup_run(&b, &err);
    /* A row that could not become running must not stay pending for ever; if it is not pending any
     * more, it has ended already. */
    if (state == JOB_PENDING && err.code != ERR_NOT_FOUND) {
        struct error failed;
        state = JOB_FAILED;
        (void)store_fail(&w.store, live->ulid, state, &err, &(struct stats){0}, clock_now(s->clock),
                         &failed); /* it has logged why */
    }
    log_result(live, state, &err);
    follow_up(s, live, state, &err);
    fd_close(&w.log_fd);
}

void *worker_main(void *arg)
{
    struct service *s = arg;
    struct live_job *live;

    while ((live = live_take(&s->live))) {
        run_job(s, live);
        live_remove(&s->live, live);
    }
    live_leave(&s->live);
    return NULL;
}
