/* SPDX-License-Identifier: MIT */
/*
 * why.c - one line on a store: what it is doing, what keeps it from it, and what is wrong.
 *
 * Sentences are put together with "; ", the most urgent kind first: what it does, then for each
 * repo of the store what is late, what failed last and what is held up. Those of a store with
 * several repos begin with the repo's id, since each goes its own way.
 *
 * What runs is read from the table of live jobs, and its progress from the catalog; a job may end
 * in between, and is then said to be about to.
 */
#include "service/health.h"
#include "service/internal.h"
#include "service/keep.h"
#include "util/duration.h"

#include <string.h>

struct telling {
    struct service *s;
    const struct store *store;
    const struct repo *repo;
    struct repo_health health;
    time_ms now;
    struct buf *out;
};

/* Begins a sentence. */
static void begin(struct telling *t)
{
    if (t->out->len > 0)
        buf_adds(t->out, "; ");
    if (t->repo && t->store->repo_count > 1)
        buf_addf(t->out, "%s: ", t->repo->id);
}

/* ---- what it does ---- */

static void tell_running(struct telling *t, const struct live_view *v)
{
    char elapsed[DURATION_TEXT_MAX];
    struct job job;
    struct error err;

    begin(t);
    if (catalog_job_get(t->s->catalog, v->ulid, &job, &err) != 0 || job.state != JOB_RUNNING) {
        buf_addf(t->out, "job %s is about to %s", v->ulid,
                 v->phase == LIVE_ENDING ? "end" : "start");
        return;
    }
    buf_addf(t->out, "job %s is running: %d %%, for %s", v->ulid, job.progress,
             duration_words((t->now - job.started_at) / 1000, elapsed));
}

static void tell_pending(struct telling *t, const struct live_view *v)
{
    begin(t);
    buf_addf(t->out, "job %s is pending: ", v->ulid);
    if (v->behind[0])
        buf_addf(t->out, "it waits for job %s of %s/%s, which is running", v->behind,
                 v->behind_store, v->behind_repo);
    else if (v->ahead > 0)
        buf_addf(t->out, "all workers are busy, and %zu wait%s before it", v->ahead,
                 v->ahead == 1 ? "s" : "");
    else
        buf_adds(t->out, v->phase == LIVE_QUEUED ? "all workers are busy, and it is the next"
                                                 : "it is the next to be taken by a worker");
}

/* True if the repo has something under way. */
static bool tell_activity(struct telling *t)
{
    struct live_view v;

    if (!live_view(&t->s->live, t->store->id, t->repo->id, &v))
        return false;
    if (v.phase == LIVE_EXAMINED) {
        begin(t);
        buf_adds(t->out, "it is new, and is being looked through; a backup has to wait");
    } else if (v.phase == LIVE_CLAIMED || v.phase == LIVE_QUEUED) {
        tell_pending(t, &v);
    } else {
        tell_running(t, &v);
    }
    return true;
}

static void tell_idle(struct telling *t)
{
    time_ms next = scheduler_next(t->s->scheduler, t->store->id, NULL);
    char when[TIME_TEXT_MAX];

    if (next)
        buf_addf(t->out, "idle until %s", time_format(next, when));
    else
        buf_adds(t->out, "idle, and no schedule starts anything");
}

/* ---- what is wrong with one repo ---- */

static void tell_overdue(struct telling *t)
{
    const struct repo_standing *r = &t->health.standing;
    char when[TIME_TEXT_MAX], every[DURATION_TEXT_MAX];

    if (!t->health.overdue)
        return;
    begin(t);
    buf_addf(t->out, "overdue since %s: ", time_format(t->health.overdue, when));
    if (r->newest[0])
        buf_addf(t->out, "the last good backup is of %s, ", time_format(r->newest_at, when));
    else
        buf_adds(t->out, "there is no backup yet, ");
    buf_addf(t->out, "and one is expected every %s",
             duration_words(t->health.figure.every / 1000, every));
}

static void tell_failure(struct telling *t)
{
    const struct repo_standing *r = &t->health.standing;
    char when[TIME_TEXT_MAX];

    if (!r->job[0] || r->job_state == JOB_SUCCEEDED)
        return;
    begin(t);
    buf_addf(t->out, "job %s, the last one, %s at %s: %s, %s", r->job,
             r->job_state == JOB_FAILED ? "failed" : "was interrupted",
             time_format(r->job_finished_at, when), error_code_name(r->job_error),
             error_code_hint(r->job_error));
    time_ms retry = scheduler_retry_at(t->s->scheduler, t->store->id, t->repo->id);
    if (retry)
        buf_addf(t->out, "; it is tried again at %s", time_format(retry, when));
}

static void tell_holds(struct telling *t)
{
    char ulid[ULID_LEN + 1], when[TIME_TEXT_MAX];
    struct error err;

    if (keep_clock_behind(t->now, t->health.standing.latest_at)) {
        begin(t);
        buf_addf(t->out, "the clock is behind the newest record, of %s: nothing is deleted",
                 time_format(t->health.standing.latest_at, when));
    }
    if (t->health.standing.suspect > 0 &&
        catalog_record_suspect(t->s->catalog, t->store->id, t->repo->id, ulid, &err) == 0) {
        begin(t);
        buf_addf(t->out,
                 "record %s is suspect, far smaller than those before it: nothing is deleted until "
                 "it is gone or `echo 1 > records/%s/review`",
                 ulid, ulid);
    }
}

/* ---- the line ---- */

static void tell_health(struct telling *t)
{
    struct error err;

    if (service_repo_health(t->s, t->repo, &t->health, &err) != 0) {
        begin(t);
        buf_addf(t->out, "not known: %s", err.message);
        return;
    }
    tell_overdue(t);
    tell_failure(t);
    tell_holds(t);
}

void service_why(struct service *s, const char *store, struct buf *out)
{
    struct config *config = service_config(s);
    struct telling t = {
        .s = s, .store = config_store(config, store), .now = clock_now(s->clock), .out = out};
    bool active = false;

    for (size_t i = 0; t.store && i < t.store->repo_count; i++) {
        t.repo = t.store->repos[i];
        active |= tell_activity(&t);
    }
    t.repo = NULL;
    if (t.store && !active)
        tell_idle(&t);
    for (size_t i = 0; t.store && i < t.store->repo_count; i++) {
        t.repo = t.store->repos[i];
        tell_health(&t);
    }
    scheduler_notes(s->scheduler, store, t.store && t.store->repo_count > 1, out);
    config_free(config);
}
