/* SPDX-License-Identifier: MIT */
/*
 * jobs.c - attempts: their states, progress, figures and texts.
 *
 * pending -> running -> succeeded | failed | interrupted. Every UPDATE names in its WHERE the
 * states that it may leave, so that a late writer finds no row and fails with ERR_NOT_FOUND; a
 * terminal row is never written again. Each changes only its own columns.
 *
 * Progress of a running job is a row of the TEMP table job_progress, which reads prefer to the
 * job's own columns; no write of it touches the file. The statement that ends a job takes the
 * last percent over, and its row goes in the same transaction. percent and done never go back,
 * expected may: a source's estimate gets better.
 *
 * A job and its record become visible together: one transaction, so that a kill leaves a running
 * job and an archive without a row, which the next start adopts and links by jobs.record.
 *
 * Every statement that changes a job's state returns the columns CHANGED, from which event_add
 * makes the event that the commit sends.
 *
 * Figures are a JSON object in one column. They are read back as the digits that stand there, so
 * that also what SQLite's integers cannot hold comes back as it was.
 */
#include "catalog/db.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Rows that one step of a listing reads; the mutex is free between steps. */
#define LIST_STEP 512

#define ACTIVE "state IN ('pending', 'running')"

#define CHANGED "id, ulid, store, repo"
/* Behind CHANGED: was it pending? A running job has started. */
#define WAS_PENDING ", started_at IS NULL"

#define JOB_SELECT                                                                                 \
    "SELECT j.id, j.ulid, j.kind, j.store, j.repo, j.state, j.record, r.id, j.requested_by,"       \
    " j.key, j.label, j.attempt, j.created_at, j.started_at, j.finished_at,"                       \
    " coalesce(p.percent, j.progress),"                                                            \
    " CASE WHEN p.job IS NULL THEN j.stats"                                                        \
    "  WHEN p.expected = 0 THEN json_object('content_bytes', p.done)"                              \
    "  ELSE json_object('content_bytes', p.done, 'expected_bytes', p.expected) END,"               \
    " j.error_code, j.error_errno, j.error_message"                                                \
    " FROM jobs j LEFT JOIN job_progress p ON p.job = j.id"                                        \
    " LEFT JOIN records r ON r.ulid = j.record AND r.state = 'good' WHERE "

#define LAST_PERCENT "coalesce((SELECT percent FROM job_progress WHERE job = jobs.id), progress)"

const struct db_text job_sql[] = {
    {SQL_JOB_INSERT, "INSERT INTO jobs (ulid, kind, store, repo, state, requested_by, key, label, "
                     "created_at, attempt)"
                     " VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?7, ?8, ?9) RETURNING " CHANGED},
    {SQL_JOB_START, "UPDATE jobs SET state = 'running', record = ?2, started_at = ?3"
                    " WHERE ulid = ?1 AND state = 'pending' RETURNING " CHANGED},
    {SQL_JOB_PROGRESS,
     "INSERT INTO job_progress (job, percent, done, expected)"
     " SELECT id, max(?2, progress), ?3, ?4 FROM jobs WHERE ulid = ?1 AND state = 'running'"
     " ON CONFLICT (job) DO UPDATE SET percent = max(percent, excluded.percent),"
     " done = max(done, excluded.done), expected = excluded.expected RETURNING job"},
    {SQL_JOB_SUCCEED,
     "UPDATE jobs SET state = 'succeeded', record = ?2, stats = ?3, finished_at = ?4,"
     " progress = 100 WHERE ulid = ?1 AND state = 'running' RETURNING " CHANGED WAS_PENDING},
    {SQL_JOB_FAIL, "UPDATE jobs SET state = ?2, stats = ?3, finished_at = ?4, error_code = ?5,"
                   " error_errno = ?6, error_message = ?7, progress = " LAST_PERCENT
                   " WHERE ulid = ?1 AND " ACTIVE " RETURNING " CHANGED WAS_PENDING},
    {SQL_JOBS_INTERRUPT,
     "UPDATE jobs INDEXED BY jobs_active SET state = 'interrupted', finished_at = ?1,"
     " error_code = ?2, progress = " LAST_PERCENT ","
     " error_message = 'keepfs stopped while this job was ' || state || coalesce("
     "  (SELECT '; its archive was complete and has been adopted as record ' || r.ulid"
     "   FROM records r WHERE r.ulid = jobs.record AND r.state = 'good'), '')"
     " WHERE " ACTIVE " RETURNING " CHANGED WAS_PENDING},
    {SQL_PROGRESS_DELETE, "DELETE FROM job_progress WHERE job = ?1"},
    {SQL_PROGRESS_CLEAR, "DELETE FROM job_progress"},

    {SQL_JOB_GET, JOB_SELECT "j.ulid = ?1"},
    {SQL_JOB_AT, JOB_SELECT "j.id = ?1"},
    {SQL_JOB_LATEST, JOB_SELECT "j.id = (SELECT max(id) FROM jobs)"},
    {SQL_JOB_BY_KEY, JOB_SELECT "j.key = ?1"},
    /* `->` gives a number's own digits, where the column `value` has made it a REAL if large. */
    {SQL_JOB_STATS, "SELECT key, ?1 -> fullkey FROM json_each(?1)"},
    /* 'running' sorts behind 'pending'. */
    {SQL_STORE_ACTIVITY, "SELECT state FROM jobs INDEXED BY jobs_active_of_store"
                         " WHERE store = ?1 AND " ACTIVE " ORDER BY state DESC LIMIT 1"},
    {SQL_LIST_JOBS, "SELECT id, ulid FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2"},
    {SQL_LIST_JOBS_ACTIVE, "SELECT id, ulid FROM jobs INDEXED BY jobs_active"
                           " WHERE id > ?1 AND " ACTIVE " ORDER BY id LIMIT ?2"},
    {SQL_LIST_JOBS_KEYED, "SELECT id, key FROM jobs INDEXED BY jobs_keyed"
                          " WHERE id > ?1 AND key IS NOT NULL ORDER BY id LIMIT ?2"},
    {0, NULL},
};

/* ---- figures ---- */

/* Needs no escape in JSON. */
static bool is_stat_key(const char *key)
{
    while (islower((unsigned char)*key) || isdigit((unsigned char)*key) || *key == '_')
        key++;
    return *key == '\0';
}

void job_add_stats(struct buf *out, const struct stats *stats)
{
    buf_adds(out, "{");
    for (size_t i = 0; stats && i < stats->count; i++) {
        const struct stat_item *item = &stats->items[i];
        assert(is_stat_key(item->key));
        buf_addf(out, "%s\"%s\":%ju", i ? "," : "", item->key, (uintmax_t)item->value);
    }
    buf_adds(out, "}");
}

static int read_stats(struct catalog *c, const char *json, struct stats *out, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOB_STATS);
    int more;

    db_bind_text(s, 1, json);
    while ((more = db_row(c, s, err)) == 1 && out->count < LIMIT_STATS) {
        struct stat_item *item = &out->items[out->count];
        char digits[32];
        db_column_text(s, 0, item->key, sizeof item->key);
        db_column_text(s, 1, digits, sizeof digits);
        item->value = strtoull(digits, NULL, 10);
        out->count += is_stat_key(item->key);
    }
    return more < 0 ? -1 : 0;
}

/* ---- reading ---- */

static int unknown_state(const struct catalog *c, struct error *err)
{
    return db_unusable(c, "a job has an unknown state", err);
}

static int read_job(struct catalog *c, sqlite3_stmt *s, struct job *out, struct error *err)
{
    char word[32];
    int i = 0;

    memset(out, 0, sizeof *out);
    out->row = sqlite3_column_int64(s, i++);
    db_column_text(s, i++, out->ulid, sizeof out->ulid);
    db_column_text(s, i++, out->kind, sizeof out->kind);
    db_column_text(s, i++, out->store, sizeof out->store);
    db_column_text(s, i++, out->repo, sizeof out->repo);
    db_column_text(s, i++, word, sizeof word);
    if (job_state_parse(word, &out->state) != 0)
        return unknown_state(c, err);
    db_column_text(s, i++, out->record, sizeof out->record);
    out->record_row = sqlite3_column_int64(s, i++);
    db_column_text(s, i++, out->requested_by, sizeof out->requested_by);
    db_column_text(s, i++, out->key, sizeof out->key);
    db_column_text(s, i++, out->label, sizeof out->label);
    out->attempt = sqlite3_column_int(s, i++);
    out->created_at = sqlite3_column_int64(s, i++);
    out->started_at = sqlite3_column_int64(s, i++);
    out->finished_at = sqlite3_column_int64(s, i++);
    out->progress = sqlite3_column_int(s, i++);
    if (read_stats(c, (const char *)sqlite3_column_text(s, i++), &out->stats, err) != 0)
        return -1;
    char code[64];
    db_column_text(s, i++, code, sizeof code);
    out->error.code = error_code_parse(code);
    out->error.errnum = sqlite3_column_int(s, i++);
    db_column_text(s, i++, out->error.message, sizeof out->error.message);
    assert(i == sqlite3_column_count(s));
    return 0;
}

/* 1, 0 if there is no such row, -1. */
static int take_job(struct catalog *c, sqlite3_stmt *s, struct job *out, struct error *err)
{
    int found = db_row(c, s, err);

    if (found != 1)
        return found;
    return read_job(c, s, out, err) == 0 ? 1 : -1;
}

static int find_by_text(struct catalog *c, enum db_sql id, const char *text, struct job *out,
                        struct error *err)
{
    DB_STATEMENT(s, c, id);

    db_bind_text(s, 1, text);
    return take_job(c, s, out, err);
}

int job_read_at(struct catalog *c, int64_t row, struct job *out, struct error *err)
{
    if (recent_find(c, row, NULL, out))
        return 0;

    DB_STATEMENT(s, c, SQL_JOB_AT);
    db_bind_int(s, 1, row);
    int found = take_job(c, s, out, err);
    if (found == 0)
        return db_not_found(err, "that job is not there any more");
    if (found == 1)
        recent_keep(c, out);
    return found == 1 ? 0 : -1;
}

int catalog_job_get(struct catalog *c, const char *ulid, struct job *out, struct error *err)
{
    DB_HOLD(c);
    if (recent_find(c, 0, ulid, out))
        return 0;
    int found = find_by_text(c, SQL_JOB_GET, ulid, out, err);

    if (found == 0)
        return db_not_found(err, "there is no job %s", ulid);
    if (found == 1)
        recent_keep(c, out);
    return found == 1 ? 0 : -1;
}

int catalog_job_at(struct catalog *c, int64_t row, struct job *out, struct error *err)
{
    DB_HOLD(c);
    return job_read_at(c, row, out, err);
}

int catalog_job_latest(struct catalog *c, struct job *out, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_JOB_LATEST);
    int found = take_job(c, s, out, err);

    if (found == 0)
        return db_not_found(err, "there is no job yet");
    return found == 1 ? 0 : -1;
}

int catalog_job_by_key(struct catalog *c, const char *key, struct job *out, struct error *err)
{
    DB_HOLD(c);
    int found = find_by_text(c, SQL_JOB_BY_KEY, key, out, err);

    if (found == 0)
        return db_not_found(err, "there is no job with the key %s", key);
    return found == 1 ? 0 : -1;
}

int catalog_store_activity(struct catalog *c, const char *store, enum job_state *state,
                           bool *active, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_STORE_ACTIVITY);
    char word[32];

    db_bind_text(s, 1, store);
    int found = db_row(c, s, err);
    if (found < 0)
        return -1;
    *active = found == 1;
    if (found == 0)
        return 0;
    db_column_text(s, 0, word, sizeof word);
    return job_state_parse(word, state) == 0 ? 0 : unknown_state(c, err);
}

/* ---- states ---- */

static const char *active_word(bool pending)
{
    return job_state_name(pending ? JOB_PENDING : JOB_RUNNING);
}

/* Inserts one; jobs of the same batch are seen by the look-up of the key too. */
static int insert_job(struct catalog *c, struct job *job, struct error *err)
{
    struct job earlier;
    int used = job->key[0] ? find_by_text(c, SQL_JOB_BY_KEY, job->key, &earlier, err) : 0;

    if (used < 0)
        return -1;
    if (used) {
        error_set(err, ERR_INVALID, "the key %s was used before, by job %s", job->key,
                  earlier.ulid);
        err->errnum = EEXIST;
        return -1;
    }

    DB_STATEMENT(s, c, SQL_JOB_INSERT);
    db_bind_text(s, 1, job->ulid);
    db_bind_text(s, 2, job->kind);
    db_bind_text(s, 3, job->store);
    db_bind_text(s, 4, job->repo);
    db_bind_text(s, 5, job->requested_by);
    db_bind_word(s, 6, job->key);
    db_bind_text(s, 7, job->label);
    db_bind_int(s, 8, job->created_at);
    db_bind_int(s, 9, job->attempt ? job->attempt : 1);
    if (db_row(c, s, err) != 1)
        return -1;
    job->row = sqlite3_column_int64(s, 0);
    event_add(c, OBJECT_JOB, s, "", job_state_name(JOB_PENDING));
    return db_run(c, s, err);
}

static int insert_jobs(struct catalog *c, struct job *jobs, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (insert_job(c, &jobs[i], err) != 0 ||
            (jobs[i].tick && db_set_tick(c, jobs[i].store, jobs[i].repo, jobs[i].tick, err) != 0))
            return -1;
    return 0;
}

int catalog_jobs_create(struct catalog *c, struct job *jobs, size_t count, struct error *err)
{
    DB_HOLD(c);

    if (db_begin(c, err) != 0)
        return -1;
    if (db_end(c, insert_jobs(c, jobs, count, err), err) == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        jobs[i].row = 0;
    return -1;
}

static int start(struct catalog *c, const char *job, const char *record, time_ms now,
                 struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOB_START);

    db_bind_text(s, 1, job);
    db_bind_word(s, 2, record);
    db_bind_int(s, 3, now);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "job %s is not pending", job);
    if (found < 0)
        return -1;
    event_add(c, OBJECT_JOB, s, active_word(true), job_state_name(JOB_RUNNING));
    return db_run(c, s, err);
}

int catalog_job_start(struct catalog *c, const char *job, const char *record, time_ms now,
                      struct error *err)
{
    DB_HOLD(c);

    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, start(c, job, record, now, err), err);
}

static int64_t clamp(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

int catalog_job_progress(struct catalog *c, const char *job, const struct job_progress *p,
                         struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_JOB_PROGRESS);

    if (p->percent < 0 || p->percent > 100)
        return error_set(err, ERR_INTERNAL, "job %s: a progress of %d %% is not within 0 to 100",
                         job, p->percent);
    db_bind_text(s, 1, job);
    db_bind_int(s, 2, p->percent);
    db_bind_int(s, 3, clamp(p->done));
    db_bind_int(s, 4, clamp(p->expected));
    int stored = db_row(c, s, err);
    if (stored < 0)
        return -1;
    if (stored == 0)
        return db_not_found(err, "job %s is not running", job);
    int64_t row = sqlite3_column_int64(s, 0);
    if (db_run(c, s, err) != 0)
        return -1;
    if (c->progress.fn)
        c->progress.fn(c->progress.ctx, row);
    return 0;
}

/* Runs a bound UPDATE that ends one job as `state`, then forgets its progress. */
static int end_job(struct catalog *c, sqlite3_stmt *update, const char *job, enum job_state state,
                   struct error *err)
{
    int found = db_row(c, update, err);

    if (found < 0)
        return -1;
    if (found == 0)
        return db_not_found(err, "job %s is not there or has a final state already", job);
    int64_t row = sqlite3_column_int64(update, 0);
    event_add(c, OBJECT_JOB, update, active_word(sqlite3_column_int(update, 4)),
              job_state_name(state));
    if (db_run(c, update, err) != 0)
        return -1;

    DB_STATEMENT(s, c, SQL_PROGRESS_DELETE);
    db_bind_int(s, 1, row);
    return db_run(c, s, err);
}

static int succeed(struct catalog *c, const char *job, const struct record *record,
                   const char *stats, time_ms now, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOB_SUCCEED);
    bool changed;

    db_bind_text(s, 1, job);
    db_bind_text(s, 2, record->ulid);
    db_bind_text(s, 3, stats);
    db_bind_int(s, 4, now);
    if (end_job(c, s, job, JOB_SUCCEEDED, err) != 0)
        return -1;
    return record_put(c, record, "created", &changed, err);
}

int catalog_job_succeed(struct catalog *c, const char *job, const struct record *record,
                        const struct stats *stats, time_ms now, struct error *err)
{
    struct buf json = BUF_INIT;

    job_add_stats(&json, stats);
    DB_HOLD(c);
    int result = db_begin(c, err);
    if (result == 0)
        result = db_end(c, succeed(c, job, record, json.data, now, err), err);
    buf_release(&json);
    return result;
}

static int fail(struct catalog *c, const char *job, enum job_state state, const struct error *why,
                const char *stats, time_ms now, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOB_FAIL);

    db_bind_text(s, 1, job);
    db_bind_text(s, 2, job_state_name(state));
    db_bind_text(s, 3, stats);
    db_bind_int(s, 4, now);
    db_bind_text(s, 5, error_code_name(why->code));
    db_bind_int(s, 6, why->errnum);
    db_bind_text(s, 7, why->message);
    return end_job(c, s, job, state, err);
}

int catalog_job_fail(struct catalog *c, const char *job, enum job_state state,
                     const struct error *why, const struct stats *stats, time_ms now,
                     struct error *err)
{
    struct buf json = BUF_INIT;

    assert(state == JOB_FAILED || state == JOB_INTERRUPTED);
    assert(why->code != ERR_NONE);
    job_add_stats(&json, stats);
    DB_HOLD(c);
    int result = db_begin(c, err);
    if (result == 0)
        result = db_end(c, fail(c, job, state, why, json.data, now, err), err);
    buf_release(&json);
    return result;
}

static int interrupt(struct catalog *c, time_ms now, size_t *count, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOBS_INTERRUPT);
    int more;

    db_bind_int(s, 1, now);
    db_bind_text(s, 2, error_code_name(ERR_INTERRUPTED));
    for (*count = 0; (more = db_row(c, s, err)) == 1; ++*count)
        event_add(c, OBJECT_JOB, s, active_word(sqlite3_column_int(s, 4)),
                  job_state_name(JOB_INTERRUPTED));
    if (more < 0)
        return -1;

    DB_STATEMENT(clear, c, SQL_PROGRESS_CLEAR);
    return db_run(c, clear, err);
}

int catalog_jobs_interrupt(struct catalog *c, time_ms now, size_t *count, struct error *err)
{
    DB_HOLD(c);

    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, interrupt(c, now, count, err), err);
}

/* ---- listings ---- */

/* One step behind *after, which moves: 1 if there may be more, 0 at the end or when the callback
 * has enough, -1. */
static int list_step(struct catalog *c, enum db_sql id, const struct list_of *of, int64_t *after,
                     catalog_list_fn fn, void *ctx, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, id);
    int more, count = 0;

    db_bind_int(s, 1, *after);
    db_bind_int(s, 2, LIST_STEP);
    if (of && of->text)
        db_bind_text(s, 3, of->text);
    else if (of)
        db_bind_int(s, 3, of->number);
    while ((more = db_row(c, s, err)) == 1) {
        struct catalog_entry e = {
            .row = sqlite3_column_int64(s, 0),
            .name = (const char *)sqlite3_column_text(s, 1),
        };
        *after = e.row;
        if (!fn(ctx, &e))
            return 0;
        count++;
    }
    return more < 0 ? -1 : count == LIST_STEP;
}

int db_list(struct catalog *c, enum db_sql id, const struct list_of *of, int64_t after,
            catalog_list_fn fn, void *ctx, struct error *err)
{
    int more;

    do
        more = list_step(c, id, of, &after, fn, ctx, err);
    while (more == 1);
    return more;
}

int catalog_list(struct catalog *c, enum catalog_list what, int64_t after, catalog_list_fn fn,
                 void *ctx, struct error *err)
{
    static const enum db_sql statements[] = {
        [LIST_JOBS] = SQL_LIST_JOBS,
        [LIST_JOBS_ACTIVE] = SQL_LIST_JOBS_ACTIVE,
        [LIST_JOBS_KEYED] = SQL_LIST_JOBS_KEYED,
        [LIST_RECORDS] = SQL_LIST_RECORDS,
        [LIST_PINNED] = SQL_LIST_PINNED,
        [LIST_RECORD_STORES] = SQL_LIST_RECORD_STORES,
    };

    return db_list(c, statements[what], NULL, after, fn, ctx, err);
}
