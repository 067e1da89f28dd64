/* SPDX-License-Identifier: MIT */
/*
 * records.c - what can be restored: rows that mirror archives.
 *
 * A record's row follows its archive: it comes with the job that made it or by adoption, goes
 * `missing` when a complete listing of its repo does not have it, and comes back, in the same row,
 * when it is adopted again. Only good rows are read, but for catalog_record_find. A row that is
 * being deleted is never brought back: its archive is on its way out.
 *
 * The job of a record is the one whose `record` names it; see schema.c.
 *
 * "Newest" is by (created_at, ulid): two archives may begin in the same millisecond, and an
 * adopted one has a younger row than its time. One that the clock said was made in the future
 * counts only if there is no other: a clock that once was wrong must not hide all later backups.
 */
#include "catalog/db.h"

#include "util/ulid.h"

#include <assert.h>
#include <string.h>

#define RECORD_COLUMNS                                                                             \
    "r.id, r.ulid, r.store, r.store_kind, r.repo, r.created_at, r.size_bytes,"                     \
    " r.content_bytes, r.sha256, r.manifest_bytes, r.payload_id_count, r.payload_ids_bytes,"       \
    " j.ulid, j.id"
#define RECORD_FROM " FROM records r LEFT JOIN jobs j ON j.record = r.ulid WHERE "

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
    {SQL_RECORD_STATE, "SELECT state FROM records WHERE ulid = ?1"},
    {SQL_RECORD_PUT,
     "INSERT INTO records (ulid, store, store_kind, repo, created_at, size_bytes, content_bytes,"
     " sha256, manifest_bytes, payload_id_count, payload_ids_bytes)"
     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
     " ON CONFLICT (ulid) DO UPDATE SET state = 'good', store = excluded.store,"
     " store_kind = excluded.store_kind, repo = excluded.repo, created_at = excluded.created_at,"
     " size_bytes = excluded.size_bytes, content_bytes = excluded.content_bytes,"
     " sha256 = excluded.sha256, manifest_bytes = excluded.manifest_bytes,"
     " payload_id_count = excluded.payload_id_count,"
     " payload_ids_bytes = excluded.payload_ids_bytes"
     " WHERE records.state = 'missing'"},
    {SQL_RECORD_GET, RECORD_SELECT "r.ulid = ?1"},
    {SQL_RECORD_AT, RECORD_SELECT "r.id = ?1"},
    {SQL_RECORD_LATEST_OF_STORE, RECORD_SELECT NEWEST("n.store = ?1")},
    {SQL_RECORD_LATEST_OF_REPO, RECORD_SELECT NEWEST("n.store = ?1 AND n.repo = ?2")},
    {SQL_RECORDS_MISSING, "UPDATE records INDEXED BY records_of_repo SET state = 'missing'"
                          " WHERE store = ?1 AND repo = ?2 AND state = 'good'"
                          " AND ulid NOT IN (SELECT value FROM json_each(?3))"},
    {SQL_RECORD_FIND, RECORD_SELECT_ANY "r.ulid = ?1"},
    {SQL_RECORDS_OF_REPO, RECORD_SELECT "r.store = ?1 AND r.repo = ?2"},
    {SQL_RECORDS_COUNT, "SELECT store, repo, count(*) FROM records INDEXED BY records_of_repo"
                        " WHERE state = 'good'"
                        " GROUP BY store, repo ORDER BY store, repo"},
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

/* 1 and the word if the row is there. */
static int read_state(struct catalog *c, const char *ulid, char *word, size_t size,
                      struct error *err)
{
    DB_STATEMENT(s, c, SQL_RECORD_STATE);

    db_bind_text(s, 1, ulid);
    int found = db_row(c, s, err);
    if (found == 1)
        db_column_text(s, 0, word, size);
    return found;
}

int record_put(struct catalog *c, const struct record *r, bool *changed, struct error *err)
{
    DB_STATEMENT(s, c, SQL_RECORD_PUT);

    if (check_sizes(r, err) != 0)
        return -1;
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
    if (db_run(c, s, err) != 0)
        return -1;
    *changed = sqlite3_changes(c->sqlite) > 0;
    return 0;
}

int catalog_record_adopt(struct catalog *c, const struct record *record, bool *adopted,
                         struct error *err)
{
    DB_HOLD(c);
    char word[16];
    int found = read_state(c, record->ulid, word, sizeof word, err);

    /* Most archives are known at a start, and an upsert that changes no row would still write
     * AUTOINCREMENT's counter, with an fsync for each. */
    if (found < 0)
        return -1;
    if (found == 1 && strcmp(word, "missing") != 0) {
        *adopted = false;
        return 0;
    }
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, record_put(c, record, adopted, err), err);
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
    int result;
    {
        DB_STATEMENT(s, c, SQL_RECORDS_MISSING);
        db_bind_text(s, 1, store);
        db_bind_text(s, 2, repo);
        db_bind_text(s, 3, array.data);
        result = db_run(c, s, err);
    }
    buf_release(&array);
    if (result == 0)
        *missing = (size_t)sqlite3_changes(c->sqlite);
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
