/* SPDX-License-Identifier: MIT */
/*
 * backup.c - one attempt, from the pending row to a final state.
 *
 * struct run is the attempt. It is also what the source sees: its first member is the source_run,
 * whose calls lead back here and can fail nothing but the collecting of payload ids.
 *
 * Errors: whichever side fails first returns -1 up one chain of calls, with its own error already
 * classified; nothing here replaces it. What is torn down after a failure cannot fail the attempt
 * again. The final state is written outside anything that a cancel reaches.
 *
 * A crash leaves: before succeed() a running row and at most a partial or a whole archive of that
 * row's record ULID; start-up interrupts the row, sweeps the partial and adopts the whole one.
 */
#include "engine/backup.h"

#include "archive/publish.h"
#include "stream/gate.h"
#include "stream/relay.h"
#include "util/buf.h"
#include "util/log.h"
#include "util/ulid.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_READY = 10, PROGRESS_UNKNOWN = 50, PROGRESS_PUBLISHED = 95, REPORT_MS = 200 };

struct run {
    struct source_run source_run; /* first: ops get this pointer back */
    const struct backup *b;
    struct record record;
    struct manifest manifest;
    size_t ids_cap, ids_bytes;
    struct stats stats;
    struct job_progress progress;
    time_ms reported_at;
};

/* ---- progress ---- */

static void report(struct run *r)
{
    struct error err;

    r->reported_at = clock_monotonic();
    if (r->b->jobs->ops->progress(r->b->jobs, r->b->job, &r->progress, &err) != 0)
        log_warn("job %s: progress not stored: %s", r->b->job, err.message);
}

static void advance_to(struct run *r, int percent)
{
    if (percent > r->progress.percent) {
        r->progress.percent = percent;
        report(r);
    } else if (clock_monotonic() - r->reported_at >= REPORT_MS) {
        report(r);
    }
}

static void advance_by(struct run *r, uint64_t bytes)
{
    int percent = PROGRESS_UNKNOWN;

    r->progress.done += bytes;
    if (r->progress.expected > 0) {
        double share = (double)r->progress.done / (double)r->progress.expected;
        double span = PROGRESS_PUBLISHED - PROGRESS_READY;
        /* The estimate may be low; 95 is said only once it is true. */
        percent = PROGRESS_READY + (int)(span * (share < 1 ? share : 1));
        if (percent >= PROGRESS_PUBLISHED)
            percent = PROGRESS_PUBLISHED - 1;
    }
    advance_to(r, percent);
}

static void stream_passed(void *ctx, uint64_t bytes)
{
    struct run *r = ctx;

    r->manifest.content_bytes += bytes;
    advance_by(r, bytes);
}

/* ---- what the source calls ---- */

static void run_expect(struct source_run *s, uint64_t units)
{
    ((struct run *)s)->progress.expected = units;
}

static void run_advance(struct source_run *s, uint64_t units)
{
    advance_by((struct run *)s, units);
}

static void run_log(struct source_run *s, const char *line)
{
    const struct backup *b = ((struct run *)s)->b;

    b->log(b->log_ctx, line);
}

static void run_stat(struct source_run *s, const char *key, uint64_t value)
{
    stats_add(&((struct run *)s)->stats, key, value);
}

static int run_payload_id(struct source_run *s, const char *id, size_t len, struct error *err)
{
    struct run *r = (struct run *)s;
    struct manifest *m = &r->manifest;

    if (len == 0 || len > LIMIT_PAYLOAD_ID || memchr(id, '\n', len) || memchr(id, '\0', len))
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "payload id %" PRIu64 " is empty, longer than %d bytes or has a newline "
                         "or NUL in it",
                         m->payload_id_count + 1, LIMIT_PAYLOAD_ID);
    r->ids_bytes += len + 1;
    if (r->ids_bytes > LIMIT_PAYLOAD_IDS)
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "the payload ids are more than %zu bytes in all", LIMIT_PAYLOAD_IDS);
    if (m->payload_id_count == r->ids_cap) {
        r->ids_cap = r->ids_cap ? 2 * r->ids_cap : 64;
        m->payload_ids = xrealloc(m->payload_ids, r->ids_cap * sizeof *m->payload_ids);
    }
    m->payload_ids[m->payload_id_count++] = xasprintf("%.*s", (int)len, id);
    return 0;
}

static const struct source_run_ops run_ops = {
    .expect = run_expect,
    .advance = run_advance,
    .log = run_log,
    .stat = run_stat,
    .payload_id = run_payload_id,
};

/* ---- the attempt ---- */

/* The whole stream into the payload, which is durable when this returns 0. */
static int stream(struct run *r, struct source *source, struct publish *publish, struct error *err)
{
    struct writer *out = relay_new(publish_payload(publish));
    struct writer *chain = gate_new(out, r->b->cancel, stream_passed, r);

    r->source_run.out = chain;
    int result = source->kind->backup(source, &r->source_run, err);
    r->source_run.out = NULL;
    if (result != 0 && gate_failure(chain))
        *err = *gate_failure(chain);
    if (result == 0)
        result = writer_finish(chain, err);
    writer_free(chain);
    return result;
}

static int publish_stream(struct run *r, struct source *source, struct destination *destination,
                          struct error *err)
{
    struct record *rec = &r->record;
    struct publish *publish;

    if (publish_begin(destination, rec->ulid, &publish, err) != 0)
        return -1;
    advance_to(r, PROGRESS_READY);
    int result = stream(r, source, publish, err);
    if (result == 0)
        result = cancel_check(r->b->cancel, err);
    if (result == 0)
        result = publish_commit(publish, &r->manifest, &rec->manifest_bytes,
                                &rec->payload_ids_bytes, err);
    publish_free(publish);
    return result;
}

static int with_destination(struct run *r, struct source *source, struct error *err)
{
    const struct repo *repo = r->b->repo;
    struct destination *destination;

    if (repo->kind->open(&repo->settings, r->b->create ? DESTINATION_CREATE : 0, &destination,
                         err) != 0)
        return -1;
    int result = publish_stream(r, source, destination, err);
    repo->kind->close(destination);
    return result;
}

static int attempt(struct run *r, struct error *err)
{
    const struct store *store = r->b->repo->store;
    struct source *source;

    if (cancel_check(r->b->cancel, err) != 0)
        return -1;
    if (store->kind->open(store, r->b->staging, &source, err) != 0)
        return -1;
    int result = with_destination(r, source, err);
    store->kind->close(source);
    return result;
}

static void describe(struct run *r)
{
    const struct repo *repo = r->b->repo;
    struct record *rec = &r->record;
    struct manifest *m = &r->manifest;

    snprintf(rec->store, sizeof rec->store, "%s", repo->store->id);
    snprintf(rec->repo, sizeof rec->repo, "%s", repo->id);
    snprintf(rec->store_kind, sizeof rec->store_kind, "%s", repo->store->kind->name);
    snprintf(rec->job, sizeof rec->job, "%s", r->b->job);
    rec->created_at = clock_now(r->b->clock);
    ulid_new(rec->created_at, rec->ulid);

    m->version = MANIFEST_V2;
    m->created_at = rec->created_at;
    snprintf(m->backup_id, sizeof m->backup_id, "%s", rec->ulid);
    snprintf(m->store_id, sizeof m->store_id, "%s", rec->store);
    snprintf(m->store_kind, sizeof m->store_kind, "%s", rec->store_kind);
    snprintf(m->compression, sizeof m->compression, "none");
}

/* The archive stands. From here on the attempt has succeeded unless the record cannot be stored. */
static int record_it(struct run *r, struct error *err)
{
    struct record *rec = &r->record;

    rec->size_bytes = r->manifest.stored.size;
    rec->content_bytes = r->manifest.content_bytes;
    rec->payload_id_count = r->manifest.payload_id_count;
    snprintf(rec->sha256, sizeof rec->sha256, "%s", r->manifest.stored.sha256);
    stats_add(&r->stats, "content_bytes", rec->content_bytes);
    stats_add(&r->stats, "stored_bytes", rec->size_bytes);
    advance_to(r, PROGRESS_PUBLISHED);
    if (r->b->jobs->ops->succeed(r->b->jobs, r->b->job, rec, &r->stats, clock_now(r->b->clock),
                                 err) == 0)
        return 0;
    return error_context(err,
                         "the archive %s is complete in the repo, but its record cannot be "
                         "stored; the next start of keepfs adopts it",
                         rec->ulid);
}

static enum job_state give_up(struct run *r, const struct error *why)
{
    enum job_state state =
        why->code == ERR_CANCELLED || why->code == ERR_INTERRUPTED ? JOB_INTERRUPTED : JOB_FAILED;
    struct error err;

    if (r->b->jobs->ops->fail(r->b->jobs, r->b->job, state, why, &r->stats, clock_now(r->b->clock),
                              &err) != 0)
        log_error("job %s: its end (%s) is not stored: %s", r->b->job, job_state_name(state),
                  err.message);
    return state;
}

enum job_state backup_run(const struct backup *b, struct error *err)
{
    struct run r = {
        .source_run = {.ops = &run_ops, .cancel = b->cancel},
        .b = b,
        .progress.expected = b->expected_bytes,
    };
    enum job_state state = JOB_SUCCEEDED;

    describe(&r);
    if (b->jobs->ops->start(b->jobs, b->job, r.record.ulid, r.record.created_at, err) != 0)
        return JOB_PENDING;
    if (attempt(&r, err) != 0 || record_it(&r, err) != 0)
        state = give_up(&r, err);
    manifest_release(&r.manifest);
    return state;
}
