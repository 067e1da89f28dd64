/* SPDX-License-Identifier: MIT */
/*
 * standing.c - how repos stand: the sums that schema.c's triggers keep, and the newest of each.
 *
 * Whoever watches asks often, of every repo and whatever else goes on. So each statement reads a
 * few rows by their keys; with a million jobs it takes as long as with one.
 */
#include "catalog/db.h"

#include <string.h>

/* What a clock may be ahead. */
#define TOLERANCE_MS ((time_ms)60 * 1000)

const struct db_text standing_sql[] = {
    {SQL_NEWEST, "SELECT ulid, created_at, size_bytes, content_bytes FROM records"
                 " WHERE state = 'good' AND store = ?1 AND repo = ?2 AND created_at <= ?3"
                 " ORDER BY created_at DESC, ulid DESC LIMIT 1"},
    {SQL_HOLDINGS, "SELECT records, suspect, size_bytes, content_bytes FROM holdings"
                   " WHERE store = ?1 AND repo = ?2"},
    {SQL_OUTCOMES, "SELECT kind, state, jobs, run_ms, job, ulid, finished_at, last_ms, error_code"
                   " FROM outcomes WHERE store = ?1 AND repo = ?2"},
    {SQL_SUSPECT, "SELECT ulid FROM records INDEXED BY records_suspect WHERE store = ?1"
                  " AND repo = ?2 AND suspect = 1 AND state = 'good'"
                  " ORDER BY created_at DESC, ulid DESC LIMIT 1"},
    {SQL_EXPECTED_GET, "SELECT expected.since FROM stores JOIN repos ON repos.store = stores.id"
                       " JOIN expected ON expected.repo = repos.id"
                       " WHERE stores.name = ?1 AND repos.name = ?2"},
    {SQL_EXPECTED_SET, "INSERT INTO expected (repo, since) VALUES (?1, ?2)"
                       " ON CONFLICT (repo) DO UPDATE SET since = excluded.since"},
    {SQL_EXPECTED_DELETE, "DELETE FROM expected WHERE repo = ?1"},
    {0, NULL},
};

static uint64_t column_size(sqlite3_stmt *s, int i)
{
    return (uint64_t)sqlite3_column_int64(s, i);
}

/* The newest that is not dated after `until`, into the parts that tell of it; 1, 0 or -1. */
static int read_newest(struct catalog *c, const char *store, const char *repo, time_ms until,
                       struct repo_standing *out, struct error *err)
{
    DB_STATEMENT(s, c, SQL_NEWEST);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    db_bind_int(s, 3, until);
    int found = db_row(c, s, err);
    if (found != 1)
        return found;
    db_column_text(s, 0, out->newest, sizeof out->newest);
    out->newest_at = sqlite3_column_int64(s, 1);
    out->newest_size_bytes = column_size(s, 2);
    out->newest_content_bytes = column_size(s, 3);
    return 1;
}

static int read_records(struct catalog *c, const char *store, const char *repo, time_ms now,
                        struct repo_standing *out, struct error *err)
{
    int found = read_newest(c, store, repo, INT64_MAX, out, err);

    if (found != 1)
        return found;
    out->latest_at = out->newest_at;
    if (out->latest_at > now + TOLERANCE_MS)
        found = read_newest(c, store, repo, now + TOLERANCE_MS, out, err);
    return found < 0 ? -1 : 0;
}

static int read_holdings(struct catalog *c, const char *store, const char *repo,
                         struct repo_standing *out, struct error *err)
{
    DB_STATEMENT(s, c, SQL_HOLDINGS);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    int found = db_row(c, s, err);
    if (found != 1)
        return found;
    out->records = (size_t)sqlite3_column_int64(s, 0);
    out->suspect = (size_t)sqlite3_column_int64(s, 1);
    out->size_bytes = sqlite3_column_double(s, 2);
    out->content_bytes = sqlite3_column_double(s, 3);
    return 0;
}

/* Of a row of outcomes: its last job is the repo's. */
static void take_last_job(sqlite3_stmt *s, enum job_state state, struct repo_standing *out)
{
    char code[64];

    out->job_state = state;
    db_column_text(s, 5, out->job, sizeof out->job);
    out->job_finished_at = sqlite3_column_int64(s, 6);
    out->job_run_ms = sqlite3_column_int64(s, 7);
    db_column_text(s, 8, code, sizeof code);
    out->job_error = error_code_parse(code);
}

static int read_outcomes(struct catalog *c, const char *store, const char *repo,
                         struct repo_standing *out, struct error *err)
{
    DB_STATEMENT(s, c, SQL_OUTCOMES);
    int64_t last = 0;
    char word[16];
    int more;

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    while ((more = db_row(c, s, err)) == 1 && out->outcome_count < LIMIT_OUTCOMES) {
        struct outcome_sum *o = &out->outcomes[out->outcome_count++];
        db_column_text(s, 0, o->kind, sizeof o->kind);
        db_column_text(s, 1, word, sizeof word);
        if (job_state_parse(word, &o->state) != 0)
            return db_unusable(c, "an outcome has an unknown state", err);
        o->jobs = column_size(s, 2);
        o->run_ms = sqlite3_column_int64(s, 3);
        if (strcmp(o->kind, "backup") == 0 && sqlite3_column_int64(s, 4) > last) {
            last = sqlite3_column_int64(s, 4);
            take_last_job(s, o->state, out);
        }
    }
    return more < 0 ? -1 : 0;
}

int catalog_repo_standing(struct catalog *c, const char *store, const char *repo, time_ms now,
                          struct repo_standing *out, struct error *err)
{
    DB_HOLD(c);

    *out = (struct repo_standing){0};
    if (read_records(c, store, repo, now, out, err) != 0 ||
        read_holdings(c, store, repo, out, err) != 0 ||
        read_outcomes(c, store, repo, out, err) != 0)
        return -1;
    return 0;
}

int catalog_record_suspect(struct catalog *c, const char *store, const char *repo, char *ulid,
                           struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_SUSPECT);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "no record of %s/%s is suspect", store, repo);
    if (found == 1)
        db_column_text(s, 0, ulid, ULID_LEN + 1);
    return found == 1 ? 0 : -1;
}

/* ---- expectations ---- */

/* 1 and the time, 0 if there is none, -1. */
static int find_expected(struct catalog *c, const char *store, const char *repo, time_ms *since,
                         struct error *err)
{
    DB_STATEMENT(s, c, SQL_EXPECTED_GET);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    int found = db_row(c, s, err);
    if (found == 1)
        *since = sqlite3_column_int64(s, 0);
    return found;
}

static int set_expected(struct catalog *c, const char *store, const char *repo, bool expected,
                        time_ms now, struct error *err)
{
    int64_t row;

    if (repo_make(c, store, repo, &row, err) != 0)
        return -1;

    DB_STATEMENT(s, c, expected ? SQL_EXPECTED_SET : SQL_EXPECTED_DELETE);
    db_bind_int(s, 1, row);
    if (expected)
        db_bind_int(s, 2, now);
    return db_run(c, s, err);
}

/* All of them in one transaction; with 10,000 repos that are new it is still a moment. */
static int set_all(struct catalog *c, struct expectation *items, size_t count, time_ms now,
                   struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (items[i].changed &&
            set_expected(c, items[i].store, items[i].repo, items[i].expected, now, err) != 0)
            return -1;
    return 0;
}

int catalog_expect(struct catalog *c, struct expectation *items, size_t count, time_ms now,
                   struct error *err)
{
    DB_HOLD(c);
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        struct expectation *e = &items[i];
        int found = find_expected(c, e->store, e->repo, &e->since, err);
        if (found < 0)
            return -1;
        bool stands = found == 1 && e->since <= now + TOLERANCE_MS;
        e->changed = e->expected ? !stands : found == 1;
        if (!e->expected || e->changed)
            e->since = e->expected ? now : 0;
        any |= e->changed;
    }
    if (!any)
        return 0;
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, set_all(c, items, count, now, err), err);
}
