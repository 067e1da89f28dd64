/* SPDX-License-Identifier: MIT */
/*
 * records.c - what can be restored: rows that mirror archives.
 *
 * A record's row follows its archive: it comes with the job that made it or by adoption, goes
 * `missing` when a complete listing of its repo does not have it, and comes back, in the same row,
 * when it is adopted again. Only good rows are read, but for catalog_record_find. A row that is
 * being deleted is never brought back: its archive is on its way out. Pins, suspicion and deletion
 * are in record_changes.c.
 *
 * The job of a record is the one whose `record` names it; see schema.c.
 *
 * "Newest" is by (created_at, ulid): two archives may begin in the same millisecond, and an
 * adopted one has a younger row than its time. One that the clock said was made in the future
 * counts only if there is no other: a clock that once was wrong must not hide all later backups.
 *
 * A pass over all records of a repo reads pages, each with the mutex held, and calls back between
 * them without it. A page begins behind the last row of the one before, by value and not by number,
 * so that rows may come and go meanwhile.
 */
#include "catalog/db.h"

#include "util/ulid.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Records that one step of a pass reads: a millisecond or so. */
#define PAGE 256

#define RECORD_COLUMNS                                                                             \
    "r.id, r.ulid, r.store, r.store_kind, r.repo, r.created_at, r.size_bytes,"                     \
    " r.content_bytes, r.sha256, r.manifest_bytes, r.payload_id_count, r.payload_ids_bytes,"       \
    " r.pinned, r.suspect, j.ulid, j.id"
#define RECORD_JOB  " LEFT JOIN jobs j ON j.record = r.ulid WHERE "
#define RECORD_FROM " FROM records r" RECORD_JOB

#define RECORD_SELECT "SELECT " RECORD_COLUMNS RECORD_FROM "r.state = 'good' AND "
/* Of any state, with the state's word behind the columns. */
#define RECORD_SELECT_ANY "SELECT " RECORD_COLUMNS ", r.state" RECORD_FROM

/* A minute's tolerance is for clocks that are being set. */
#define NOT_AHEAD "n.created_at <= (CAST(strftime('%s', 'now') AS INTEGER) + 60) * 1000"
#define NEWEST_OF(where)                                                                           \
    "(SELECT n.id FROM records n WHERE n.state = 'good' AND " where                                \
    " ORDER BY n.created_at DESC, n.ulid DESC LIMIT 1)"
#define NEWEST(where)                                                                              \
    "r.id = coalesce(" NEWEST_OF(where " AND " NOT_AHEAD) ", " NEWEST_OF(where) ")"

const struct db_text record_sql[] = {
    {SQL_LIST_RECORDS, "SELECT id, ulid FROM records INDEXED BY records_good"
                       " WHERE id > ?1 AND state = 'good' ORDER BY id LIMIT ?2"},
    {SQL_RECORD_STATE, "SELECT state, pinned, suspect FROM records WHERE ulid = ?1"},
    {SQL_RECORD_PUT,
     "INSERT INTO records (ulid, store, store_kind, repo, created_at, size_bytes, content_bytes,"
     " sha256, manifest_bytes, payload_id_count, payload_ids_bytes, pinned)"
     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
     " ?12 AND NOT EXISTS (SELECT 1 FROM jobs WHERE record = ?1))"
     " ON CONFLICT (ulid) DO UPDATE SET state = 'good', store = excluded.store,"
     " store_kind = excluded.store_kind, repo = excluded.repo, created_at = excluded.created_at,"
     " size_bytes = excluded.size_bytes, content_bytes = excluded.content_bytes,"
     " sha256 = excluded.sha256, manifest_bytes = excluded.manifest_bytes,"
     " payload_id_count = excluded.payload_id_count,"
     " payload_ids_bytes = excluded.payload_ids_bytes"
     " WHERE records.state = 'missing' RETURNING id, ulid, store, repo"},
    {SQL_RECORD_GET, RECORD_SELECT "r.ulid = ?1"},
    {SQL_RECORD_AT, RECORD_SELECT "r.id = ?1"},
    {SQL_RECORD_LATEST_OF_STORE, RECORD_SELECT NEWEST("n.store = ?1")},
    {SQL_RECORD_NOT_LATER,
     RECORD_SELECT "r.id = " NEWEST_OF("n.store = ?1 AND n.created_at <= ?2")},
    {SQL_RECORD_LOST, "SELECT ulid FROM records WHERE store = ?1 AND repo = ?2"
                      " AND state = 'missing' AND created_at > ?3 LIMIT 1"},
    {SQL_RECORD_LATEST_OF_REPO, RECORD_SELECT NEWEST("n.store = ?1 AND n.repo = ?2")},
    {SQL_RECORDS_MISSING, "UPDATE records INDEXED BY records_of_repo SET state = 'missing'"
                          " WHERE store = ?1 AND repo = ?2 AND state = 'good'"
                          " AND ulid NOT IN (SELECT value FROM json_each(?3))"
                          " RETURNING id, ulid, store, repo"},
    {SQL_RECORD_FIND, RECORD_SELECT_ANY "r.ulid = ?1"},
    {SQL_RECORDS_OF_REPO, RECORD_SELECT "r.store = ?1 AND r.repo = ?2"},
    {SQL_RECORDS_COUNT, "SELECT store, repo, count(*) FROM records INDEXED BY records_of_repo"
                        " WHERE state = 'good'"
                        " GROUP BY store, repo ORDER BY store, repo"},
    {SQL_RECORDS_NEWEST,
     RECORD_SELECT "r.store = ?1 AND r.repo = ?2 AND (r.created_at, r.ulid) < (?3, ?4)"
                   " ORDER BY r.created_at DESC, r.ulid DESC LIMIT ?5"},
    {SQL_RECORDS_DELETING,
     "SELECT " RECORD_COLUMNS " FROM records r INDEXED BY records_deleting" RECORD_JOB
     "r.id > ?1 AND r.state = 'deleting' ORDER BY r.id LIMIT ?2"},
    {SQL_RECORD_SIZES,
     "SELECT n.content_bytes FROM records b CROSS JOIN records n WHERE b.ulid = ?3"
     " AND n.state = 'good' AND n.store = ?1 AND n.repo = ?2"
     " AND (n.created_at, n.ulid) < (b.created_at, b.ulid)"
     " ORDER BY n.created_at DESC, n.ulid DESC LIMIT ?4"},
    {0, NULL},
};

static uint64_t column_size(sqlite3_stmt *s, int i)
{
    return (uint64_t)sqlite3_column_int64(s, i);
}

/* How many columns it has taken. */
static int read_record(sqlite3_stmt *s, struct record *out)
{
    int i = 0;

    memset(out, 0, sizeof *out);
    out->row = sqlite3_column_int64(s, i++);
    db_column_text(s, i++, out->ulid, sizeof out->ulid);
    db_column_text(s, i++, out->store, sizeof out->store);
    db_column_text(s, i++, out->store_kind, sizeof out->store_kind);
    db_column_text(s, i++, out->repo, sizeof out->repo);
    out->created_at = sqlite3_column_int64(s, i++);
    out->size_bytes = column_size(s, i++);
    out->content_bytes = column_size(s, i++);
    db_column_text(s, i++, out->sha256, sizeof out->sha256);
    out->manifest_bytes = column_size(s, i++);
    out->payload_id_count = column_size(s, i++);
    out->payload_ids_bytes = column_size(s, i++);
    out->pinned = sqlite3_column_int(s, i++) != 0;
    int suspect = sqlite3_column_int(s, i++);
    out->suspect = suspect == 1;
    out->reviewed = suspect == 2;
    db_column_text(s, i++, out->job, sizeof out->job);
    out->job_row = sqlite3_column_int64(s, i++);
    return i;
}

static int read_record_any(struct catalog *c, sqlite3_stmt *s, struct record *out,
                           enum record_state *state, struct error *err)
{
    static const char *const words[] = {"good", "missing", "deleting"};
    char word[16];

    db_column_text(s, read_record(s, out), word, sizeof word);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(word, words[i]) == 0) {
            *state = (enum record_state)i;
            return 0;
        }
    return db_unusable(c, "a record has an unknown state", err);
}

/* 1, 0 if there is no such row, -1. */
static int take_record(struct catalog *c, sqlite3_stmt *s, struct record *out, struct error *err)
{
    int found = db_row(c, s, err);

    if (found == 1)
        read_record(s, out);
    return found;
}

/* SQLite's integers end at 2^63-1, and so do files: a manifest that says more is wrong. */
static int check_sizes(const struct record *r, struct error *err)
{
    if (r->size_bytes <= INT64_MAX && r->content_bytes <= INT64_MAX &&
        r->manifest_bytes <= INT64_MAX && r->payload_id_count <= INT64_MAX &&
        r->payload_ids_bytes <= INT64_MAX)
        return 0;
    return error_set(err, ERR_MANIFEST_INVALID, "record %s: a size is above 2^63-1", r->ulid);
}

int record_standing(struct catalog *c, const char *ulid, struct record_standing *out,
                    struct error *err)
{
    DB_STATEMENT(s, c, SQL_RECORD_STATE);

    db_bind_text(s, 1, ulid);
    int found = db_row(c, s, err);
    if (found == 1) {
        db_column_text(s, 0, out->state, sizeof out->state);
        out->pinned = sqlite3_column_int(s, 1) != 0;
        out->suspect = sqlite3_column_int(s, 2);
    }
    return found;
}

static void bind_record(sqlite3_stmt *s, const struct record *r)
{
    db_bind_text(s, 1, r->ulid);
    db_bind_text(s, 2, r->store);
    db_bind_text(s, 3, r->store_kind);
    db_bind_text(s, 4, r->repo);
    db_bind_int(s, 5, r->created_at);
    db_bind_int(s, 6, (int64_t)r->size_bytes);
    db_bind_int(s, 7, (int64_t)r->content_bytes);
    db_bind_text(s, 8, r->sha256);
    db_bind_int(s, 9, (int64_t)r->manifest_bytes);
    db_bind_int(s, 10, (int64_t)r->payload_id_count);
    db_bind_int(s, 11, (int64_t)r->payload_ids_bytes);
    db_bind_int(s, 12, r->pinned);
}

int record_put(struct catalog *c, const struct record *r, const char *word, bool *changed,
               struct error *err)
{
    struct record_standing before;

    if (check_sizes(r, err) != 0)
        return -1;
    int known = record_standing(c, r->ulid, &before, err);
    if (known < 0)
        return -1;

    DB_STATEMENT(s, c, SQL_RECORD_PUT);
    bind_record(s, r);
    int found = db_row(c, s, err);
    if (found < 0)
        return -1;
    *changed = found == 1;
    if (found == 0)
        return 0;
    event_add(c, OBJECT_RECORD, s, known ? "missing" : "", word);
    return db_run(c, s, err);
}

int catalog_record_adopt(struct catalog *c, const struct record *record, bool *adopted,
                         struct error *err)
{
    DB_HOLD(c);
    struct record_standing before;
    int found = record_standing(c, record->ulid, &before, err);

    /* Most archives are known at a start, and an upsert that changes no row would still write
     * AUTOINCREMENT's counter, with an fsync for each. */
    if (found < 0)
        return -1;
    if (found == 1 && strcmp(before.state, "missing") != 0) {
        *adopted = false;
        return 0;
    }
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, record_put(c, record, "adopted", adopted, err), err);
}

int catalog_record_get(struct catalog *c, const char *ulid, struct record *out, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_GET);

    db_bind_text(s, 1, ulid);
    int found = take_record(c, s, out, err);
    if (found == 0)
        return db_not_found(err, "there is no record %s", ulid);
    return found == 1 ? 0 : -1;
}

int catalog_record_at(struct catalog *c, int64_t row, struct record *out, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_AT);

    db_bind_int(s, 1, row);
    int found = take_record(c, s, out, err);
    if (found == 0)
        return db_not_found(err, "that record is not there any more");
    return found == 1 ? 0 : -1;
}

int catalog_record_latest(struct catalog *c, const char *store, const char *repo,
                          struct record *out, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, repo ? SQL_RECORD_LATEST_OF_REPO : SQL_RECORD_LATEST_OF_STORE);

    db_bind_text(s, 1, store);
    if (repo)
        db_bind_text(s, 2, repo);
    int found = take_record(c, s, out, err);
    if (found == 0)
        return db_not_found(err, "there is no record of %s%s%s yet", store, repo ? "/" : "",
                            repo ? repo : "");
    return found == 1 ? 0 : -1;
}

int catalog_record_not_later(struct catalog *c, const char *store, time_ms time, struct record *out,
                             struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_NOT_LATER);

    db_bind_text(s, 1, store);
    db_bind_int(s, 2, time);
    int found = take_record(c, s, out, err);
    if (found == 0)
        return db_not_found(err, "there is no record of %s that old", store);
    return found == 1 ? 0 : -1;
}

int catalog_record_lost(struct catalog *c, const char *store, const char *repo, time_ms after,
                        char *ulid, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_LOST);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    db_bind_int(s, 3, after);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "no record of %s/%s is missing", store, repo);
    if (found == 1)
        db_column_text(s, 0, ulid, ULID_LEN + 1);
    return found == 1 ? 0 : -1;
}

/* Those whose ULID is not in the JSON array. */
static int mark_missing(struct catalog *c, const char *store, const char *repo, const char *array,
                        size_t *missing, struct error *err)
{
    DB_STATEMENT(s, c, SQL_RECORDS_MISSING);
    int more;

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    db_bind_text(s, 3, array);
    for (*missing = 0; (more = db_row(c, s, err)) == 1; ++*missing)
        event_add(c, OBJECT_RECORD, s, "good", "missing");
    return more;
}

int catalog_records_missing(struct catalog *c, const char *store, const char *repo,
                            char (*ids)[ULID_LEN + 1], size_t count, size_t *missing,
                            struct error *err)
{
    struct buf array = BUF_INIT;

    buf_adds(&array, "[");
    for (size_t i = 0; i < count; i++) {
        assert(ulid_valid(ids[i]));
        buf_addf(&array, "%s\"%s\"", i ? "," : "", ids[i]);
    }
    buf_adds(&array, "]");

    DB_HOLD(c);
    int result = db_begin(c, err);
    if (result == 0)
        result = db_end(c, mark_missing(c, store, repo, array.data, missing, err), err);
    buf_release(&array);
    return result;
}

/* ---- rows of any state ---- */

int catalog_record_find(struct catalog *c, const char *ulid, struct record *out,
                        enum record_state *state, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_FIND);

    db_bind_text(s, 1, ulid);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "there is no record %s", ulid);
    return found == 1 ? read_record_any(c, s, out, state, err) : -1;
}

int catalog_records_of_repo(struct catalog *c, const char *store, const char *repo,
                            catalog_record_fn fn, void *ctx, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORDS_OF_REPO);
    struct record record;
    int more;

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    while ((more = db_row(c, s, err)) == 1) {
        read_record(s, &record);
        fn(ctx, &record);
    }
    return more;
}

int catalog_records_count(struct catalog *c, catalog_count_fn fn, void *ctx, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORDS_COUNT);
    int more;

    while ((more = db_row(c, s, err)) == 1) {
        char store[LIMIT_ID + 1], repo[LIMIT_ID + 1];
        db_column_text(s, 0, store, sizeof store);
        db_column_text(s, 1, repo, sizeof repo);
        fn(ctx, store, repo, (size_t)sqlite3_column_int64(s, 2));
    }
    return more;
}

/* ---- passes ---- */

struct pass {
    enum db_sql id;
    const char *store, *repo; /* of SQL_RECORDS_NEWEST */
    struct record *page;
    size_t count;
};

/* `last` is where the page before ended, NULL for the first one. */
static void bind_pass(sqlite3_stmt *s, const struct pass *p, const struct record *last)
{
    if (p->id == SQL_RECORDS_DELETING) {
        db_bind_int(s, 1, last ? last->row : 0);
        db_bind_int(s, 2, PAGE);
        return;
    }
    db_bind_text(s, 1, p->store);
    db_bind_text(s, 2, p->repo);
    db_bind_int(s, 3, last ? last->created_at : INT64_MAX);
    db_bind_text(s, 4, last ? last->ulid : "~"); /* behind any ULID */
    db_bind_int(s, 5, PAGE);
}

static int next_page(struct catalog *c, struct pass *p, struct error *err)
{
    struct record last;
    int more = 1;

    if (p->count > 0)
        last = p->page[p->count - 1];
    DB_HOLD(c);
    DB_STATEMENT(s, c, p->id);
    bind_pass(s, p, p->count > 0 ? &last : NULL);
    for (p->count = 0; p->count < PAGE && (more = db_row(c, s, err)) == 1; p->count++)
        read_record(s, &p->page[p->count]);
    return more < 0 ? -1 : 0;
}

static int run_pass(struct catalog *c, struct pass *p, catalog_record_fn fn, void *ctx,
                    struct error *err)
{
    int result;

    p->page = xcalloc(PAGE, sizeof *p->page);
    do {
        result = next_page(c, p, err);
        for (size_t i = 0; result == 0 && i < p->count; i++)
            fn(ctx, &p->page[i]);
    } while (result == 0 && p->count == PAGE);
    free(p->page);
    return result;
}

int catalog_records_newest(struct catalog *c, const char *store, const char *repo,
                           catalog_record_fn fn, void *ctx, struct error *err)
{
    struct pass p = {.id = SQL_RECORDS_NEWEST, .store = store, .repo = repo};

    return run_pass(c, &p, fn, ctx, err);
}

int catalog_records_deleting(struct catalog *c, catalog_record_fn fn, void *ctx, struct error *err)
{
    struct pass p = {.id = SQL_RECORDS_DELETING};

    return run_pass(c, &p, fn, ctx, err);
}

/* ---- sizes ---- */

int catalog_record_sizes(struct catalog *c, const char *store, const char *repo,
                         const char *before_ulid, uint64_t sizes[CATALOG_SIZES], size_t *count,
                         struct error *err)
{
    DB_HOLD(c);
    struct record_standing before;
    int more = record_standing(c, before_ulid, &before, err);

    if (more == 0)
        return db_not_found(err, "there is no record %s", before_ulid);
    if (more < 0)
        return -1;

    DB_STATEMENT(s, c, SQL_RECORD_SIZES);
    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    db_bind_text(s, 3, before_ulid);
    db_bind_int(s, 4, CATALOG_SIZES);
    for (*count = 0; (more = db_row(c, s, err)) == 1; ++*count)
        sizes[*count] = column_size(s, 0);
    return more;
}
