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

#include "archive/payload.h"
#include "stream/gate.h"
#include "stream/relay.h"
#include "stream/seekable.h"
#include "util/buf.h"
#include "util/log.h"
#include "util/ulid.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_READY = 10, PROGRESS_UNKNOWN = 50, PROGRESS_PUBLISHED = 95, REPORT_MS = 200 };

struct run {
    struct source_run source_run; /* first: ops get this pointer back */
    const struct backup *b;
    struct archive_policy policy;
    struct key *key; /* NULL unless the policy encrypts */
    struct record record;
    struct manifest manifest;
    struct digest content; /* of the stream; only if it is read back */
    size_t ids_cap, ids_bytes;
    struct stats stats;
    pthread_mutex_t lock; /* of progress and reported_at: the stream may have a thread of its own */
    struct job_progress progress;
    time_ms reported_at;
};

/* ---- progress ---- */

static void report(struct run *r, const struct job_progress *progress)
{
    struct error err;

    if (r->b->jobs->ops->progress(r->b->jobs, r->b->job, progress, &err) != 0)
        log_warn("job %s: progress not stored: %s", r->b->job, err.message);
}

/* The estimate may be low; 95 is said only once it is true. */
static int percent_of(const struct job_progress *p)
{
    if (p->expected == 0)
        return PROGRESS_UNKNOWN;
    double share = (double)p->done / (double)p->expected;
    double span = PROGRESS_PUBLISHED - PROGRESS_READY;
    int percent = PROGRESS_READY + (int)(span * (share < 1 ? share : 1));
    return percent < PROGRESS_PUBLISHED ? percent : PROGRESS_PUBLISHED - 1;
}

/* Adds `bytes`, and goes to `percent` (0: what the bytes come to) unless it is there already. */
static void advance(struct run *r, int percent, uint64_t bytes)
{
    pthread_mutex_lock(&r->lock);
    r->progress.done += bytes;
    if (percent == 0)
        percent = percent_of(&r->progress);
    bool higher = percent > r->progress.percent;
    bool due = higher || clock_monotonic() - r->reported_at >= REPORT_MS;
    if (higher)
        r->progress.percent = percent;
    if (due)
        r->reported_at = clock_monotonic();
    struct job_progress now = r->progress;
    pthread_mutex_unlock(&r->lock);
    if (due)
        report(r, &now);
}

static void advance_to(struct run *r, int percent)
{
    advance(r, percent, 0);
}

static void advance_by(struct run *r, uint64_t bytes)
{
    advance(r, 0, bytes);
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
    struct run *r = (struct run *)s;

    pthread_mutex_lock(&r->lock);
    r->progress.expected = units;
    pthread_mutex_unlock(&r->lock);
}

static void run_advance(struct source_run *s, uint64_t units)
{
    advance_by((struct run *)s, units);
}

static void run_log(struct source_run *s, const char *line)
{
    const struct backup *b = ((struct run *)s)->b;

    b->log(b->ctx, line);
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

/* The chain before the object, last link first. */
static int build_chain(struct run *r, struct publish *publish, struct writer **out,
                       struct error *err)
{
    const struct archive_policy *policy = &r->policy;
    struct writer *w = publish_payload(publish);
    struct envelope envelope = {.version = r->manifest.envelope,
                                .store_id = r->manifest.store_id,
                                .record = r->manifest.backup_id};

    if (policy->encrypt && envelope_writer_new(w, r->key, &envelope, &w, err) != 0)
        return -1;
    if (!policy->compress)
        w = relay_new(w); /* zstd has threads of its own */
    else if (seekable_writer_new(w, policy->level, 0, &w, err) != 0)
        return -1;
    if (policy->verify_after_write)
        w = digest_writer_new(w, &r->content);
    *out = gate_new(w, r->b->cancel, stream_passed, r);
    return 0;
}

/* The whole stream into the payload, which is durable when this returns 0. */
static int stream(struct run *r, struct source *source, struct publish *publish, struct error *err)
{
    struct writer *chain;

    if (build_chain(r, publish, &chain, err) != 0)
        return -1;
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

/* ---- reading back ---- */

static int read_all(struct run *r, struct reader *in, struct writer *out, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(LIMIT_STREAM_CHUNK);
    ssize_t n;

    while ((n = reader_read(in, data, LIMIT_STREAM_CHUNK, err)) > 0)
        if (cancel_check(r->b->cancel, err) != 0 || writer_write(out, data, (size_t)n, err) != 0)
            return -1;
    if (n < 0 || reader_finish(in, err) != 0)
        return -1;
    return writer_finish(out, err);
}

/* What was written is read, decoded and compared with what the source gave. */
static int read_back(struct run *r, struct publish *publish, struct error *err)
{
    struct frame_cache *cache = frame_cache_new(0);
    struct object *object;
    struct reader *in = NULL;
    struct digest got;
    struct writer *out = digest_writer_new(NULL, &got);

    r->manifest.stored = *publish_stored(publish);
    int result = publish_reopen(publish, &object, err);
    if (result == 0)
        result = payload_reader_new(object, &r->manifest, r->key, cache, &in, err);
    if (result == 0)
        result = read_all(r, in, out, err);
    if (result == 0 && strcmp(got.sha256, r->content.sha256) != 0)
        result =
            error_set(err, ERR_INTEGRITY_FAILED, "it decodes to other bytes than were written");
    reader_free(in);
    writer_free(out);
    frame_cache_free(cache);
    if (result == 0)
        r->b->log(r->b->ctx, "read back: what is stored decodes to what the store gave");
    else if (err->code != ERR_CANCELLED && err->code != ERR_INTERRUPTED)
        error_context(err, "reading the archive back");
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
    if (result == 0 && r->policy.verify_after_write)
        result = read_back(r, publish, err);
    if (result == 0)
        result = cancel_check(r->b->cancel, err);
    if (result == 0)
        result = publish_commit(publish, &r->manifest, r->key, &rec->manifest_bytes,
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

/* The key is taken once, for the payload and for the manifest, and stays until the attempt ends. */
static int load_key(struct run *r, struct error *err)
{
    char line[128];

    if (!r->policy.encrypt)
        return 0;
    if (key_load(r->policy.keys[0], &r->key, err) != 0 ||
        key_id(r->key, r->manifest.key_id, err) != 0)
        return -1;
    snprintf(line, sizeof line, "encrypting with the key %s, envelope v%d", r->manifest.key_id,
             r->manifest.envelope);
    r->b->log(r->b->ctx, line);
    return 0;
}

static int attempt(struct run *r, struct error *err)
{
    const struct store *store = r->b->repo->store;
    struct source *source;

    if (cancel_check(r->b->cancel, err) != 0)
        return -1;
    if (r->b->before && r->b->before(r->b->ctx, err) != 0)
        return -1;
    if (load_key(r, err) != 0)
        return -1;
    if (store->kind->open(store, r->b->staging, &source, err) != 0)
        return -1;
    int result = with_destination(r, source, err);
    store->kind->close(source);
    return result;
}

static void describe_policy(struct run *r)
{
    const struct archive_policy *p = &r->policy;
    struct manifest *m = &r->manifest;

    m->version = p->manifest_version;
    m->compression_level = p->level;
    snprintf(m->compression, sizeof m->compression, "%s", p->compress ? "zstd" : "none");
    m->encrypted = p->encrypt;
    m->envelope = archive_policy_envelope(p);
    if (m->envelope == ENVELOPE_V1) {
        snprintf(m->encryption_algorithm, sizeof m->encryption_algorithm, "aes-256-gcm");
        snprintf(m->key_ref, sizeof m->key_ref, "%s", p->keys[0]);
    }
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

    describe_policy(r);
    m->created_at = rec->created_at;
    snprintf(m->backup_id, sizeof m->backup_id, "%s", rec->ulid);
    snprintf(m->store_id, sizeof m->store_id, "%s", rec->store);
    snprintf(m->store_kind, sizeof m->store_kind, "%s", rec->store_kind);
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
        .policy = archive_policy_of(b->repo),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .progress.expected = b->expected_bytes,
    };
    enum job_state state = JOB_SUCCEEDED;

    describe(&r);
    if (b->jobs->ops->start(b->jobs, b->job, r.record.ulid, r.record.created_at, err) != 0)
        return JOB_PENDING;
    if (attempt(&r, err) != 0 || record_it(&r, err) != 0)
        state = give_up(&r, err);
    manifest_release(&r.manifest);
    key_free(r.key);
    return state;
}
