/* SPDX-License-Identifier: MIT */
/*
 * views.c - listings of a part: of a store, of a day, of what is pinned.
 *
 * Each page is a search in an index that has its rows in order, however many others there are.
 * Those of records hold good ones alone.
 *
 * A record's store has a row in `stores`: it was configured when the record came, and rows stay.
 * So the stores that have records are looked for among those, which are few.
 */
#include "catalog/db.h"

#include <assert.h>
#include <inttypes.h>

#define HAS_RECORD                                                                                 \
    " AND EXISTS (SELECT 1 FROM records r INDEXED BY records_in_store"                             \
    " WHERE r.store = s.name AND r.state = 'good')"

const struct db_text view_sql[] = {
    {SQL_LIST_PINNED, "SELECT id, ulid FROM records INDEXED BY records_pinned"
                      " WHERE id > ?1 AND pinned = 1 AND state = 'good' ORDER BY id LIMIT ?2"},
    {SQL_LIST_STORE_JOBS, "SELECT id, ulid FROM jobs INDEXED BY jobs_of_store"
                          " WHERE store = ?3 AND id > ?1 ORDER BY id LIMIT ?2"},
    {SQL_LIST_STORE_RECORDS, "SELECT id, ulid FROM records INDEXED BY records_in_store"
                             " WHERE store = ?3 AND id > ?1 AND state = 'good'"
                             " ORDER BY id LIMIT ?2"},
    {SQL_LIST_DAY_RECORDS, "SELECT id, ulid FROM records INDEXED BY records_of_day"
                           " WHERE day = ?3 AND id > ?1 AND state = 'good'"
                           " ORDER BY id LIMIT ?2"},
    {SQL_LIST_RECORD_STORES,
     "SELECT s.id, s.name FROM stores s WHERE s.id > ?1" HAS_RECORD " ORDER BY s.id LIMIT ?2"},
    {SQL_RECORD_STORE_AT, "SELECT s.name FROM stores s WHERE s.id = ?1" HAS_RECORD},
    {SQL_RECORD_STORE_FIND, "SELECT s.id FROM stores s WHERE s.name = ?1" HAS_RECORD},
    {SQL_RECORD_NEXT_DAY, "SELECT day FROM records INDEXED BY records_of_day"
                          " WHERE day >= ?1 AND state = 'good' ORDER BY day LIMIT 1"},
    {0, NULL},
};

int catalog_list_store_jobs(struct catalog *c, const char *store, int64_t after, catalog_list_fn fn,
                            void *ctx, struct error *err)
{
    assert(store);
    return db_list(c, SQL_LIST_STORE_JOBS, &(struct list_of){.text = store}, after, fn, ctx, err);
}

int catalog_list_store_records(struct catalog *c, const char *store, int64_t after,
                               catalog_list_fn fn, void *ctx, struct error *err)
{
    assert(store);
    return db_list(c, SQL_LIST_STORE_RECORDS, &(struct list_of){.text = store}, after, fn, ctx,
                   err);
}

int catalog_list_day_records(struct catalog *c, int64_t day, int64_t after, catalog_list_fn fn,
                             void *ctx, struct error *err)
{
    return db_list(c, SQL_LIST_DAY_RECORDS, &(struct list_of){.number = day}, after, fn, ctx, err);
}

int catalog_record_store_at(struct catalog *c, int64_t row, char *store, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_STORE_AT);

    db_bind_int(s, 1, row);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "no store of row %" PRId64 " has a record", row);
    if (found == 1)
        db_column_text(s, 0, store, LIMIT_ID + 1);
    return found == 1 ? 0 : -1;
}

int catalog_record_store_find(struct catalog *c, const char *store, int64_t *row, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_STORE_FIND);

    db_bind_text(s, 1, store);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "there is no record of %s", store);
    if (found == 1)
        *row = sqlite3_column_int64(s, 0);
    return found == 1 ? 0 : -1;
}

int catalog_record_next_day(struct catalog *c, int64_t from, int64_t *day, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_RECORD_NEXT_DAY);

    db_bind_int(s, 1, from);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "there is no record of that day or a later one");
    if (found == 1)
        *day = sqlite3_column_int64(s, 0);
    return found == 1 ? 0 : -1;
}
