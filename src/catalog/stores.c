/* SPDX-License-Identifier: MIT */
/*
 * stores.c - a row for each store and repo of the configuration, and where repos were used.
 *
 * The configuration is the truth about stores and repos; these rows only give each name a number
 * that is never reused, so that it has an inode, also after it was taken out of the configuration
 * and put back. Rows are looked up first: after the first start nothing here writes.
 *
 * A repo may have been used at several places, since its path can be changed; each is kept.
 *
 * A tick is set by one statement, which writes nothing if it stands already; only the first one of
 * a repo that has no row yet takes more.
 */
#include "catalog/db.h"

const struct db_text store_sql[] = {
    {SQL_STORE_FIND, "SELECT id FROM stores WHERE name = ?1"},
    {SQL_STORE_AT, "SELECT name FROM stores WHERE id = ?1"},
    {SQL_STORE_LIST, "SELECT id, name FROM stores WHERE id > ?1 ORDER BY id"},
    {SQL_STORE_INSERT, "INSERT INTO stores (name) VALUES (?1)"},
    {SQL_REPO_FIND, "SELECT repos.id FROM stores JOIN repos ON repos.store = stores.id"
                    " WHERE stores.name = ?1 AND repos.name = ?2"},
    {SQL_REPO_AT, "SELECT stores.name, repos.name FROM repos JOIN stores"
                  " ON stores.id = repos.store WHERE repos.id = ?1"},
    {SQL_REPO_INSERT, "INSERT INTO repos (store, name) VALUES (?1, ?2)"},
    {SQL_PLACE_FIND, "SELECT 1 FROM stores JOIN repos ON repos.store = stores.id"
                     " JOIN places ON places.repo = repos.id"
                     " WHERE stores.name = ?1 AND repos.name = ?2 AND places.place = ?3"},
    {SQL_PLACE_INSERT, "INSERT OR IGNORE INTO places (repo, place) VALUES (?1, ?2)"},
    {SQL_TICK_GET, "SELECT ticks.handled FROM stores JOIN repos ON repos.store = stores.id"
                   " JOIN ticks ON ticks.repo = repos.id"
                   " WHERE stores.name = ?1 AND repos.name = ?2"},
    {SQL_TICK_SET, "INSERT INTO ticks (repo, handled) VALUES (?1, ?2)"
                   " ON CONFLICT (repo) DO UPDATE SET handled = excluded.handled"},
    {0, NULL},
};

/* 1 and the row, 0 if there is none, -1. */
static int find_store(struct catalog *c, const char *store, int64_t *row, struct error *err)
{
    DB_STATEMENT(s, c, SQL_STORE_FIND);

    db_bind_text(s, 1, store);
    int found = db_row(c, s, err);
    if (found == 1)
        *row = sqlite3_column_int64(s, 0);
    return found;
}

static int find_repo(struct catalog *c, const char *store, const char *repo, int64_t *row,
                     struct error *err)
{
    DB_STATEMENT(s, c, SQL_REPO_FIND);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    int found = db_row(c, s, err);
    if (found == 1)
        *row = sqlite3_column_int64(s, 0);
    return found;
}

static int find_place(struct catalog *c, const char *store, const char *repo, const char *place,
                      struct error *err)
{
    DB_STATEMENT(s, c, SQL_PLACE_FIND);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    db_bind_text(s, 3, place);
    return db_row(c, s, err);
}

static int make_store(struct catalog *c, const char *store, int64_t *row, struct error *err)
{
    int found = find_store(c, store, row, err);
    if (found != 0)
        return found < 0 ? -1 : 0;

    DB_STATEMENT(s, c, SQL_STORE_INSERT);
    db_bind_text(s, 1, store);
    if (db_run(c, s, err) != 0)
        return -1;
    *row = sqlite3_last_insert_rowid(c->sqlite);
    return 0;
}

static int make_repo(struct catalog *c, const char *store, const char *repo, int64_t *row,
                     struct error *err)
{
    int64_t store_row;
    int found = find_repo(c, store, repo, row, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    if (make_store(c, store, &store_row, err) != 0)
        return -1;

    DB_STATEMENT(s, c, SQL_REPO_INSERT);
    db_bind_int(s, 1, store_row);
    db_bind_text(s, 2, repo);
    if (db_run(c, s, err) != 0)
        return -1;
    *row = sqlite3_last_insert_rowid(c->sqlite);
    return 0;
}

static int make_place(struct catalog *c, const char *store, const char *repo, const char *place,
                      struct error *err)
{
    int64_t row;

    if (make_repo(c, store, repo, &row, err) != 0)
        return -1;

    DB_STATEMENT(s, c, SQL_PLACE_INSERT);
    db_bind_int(s, 1, row);
    db_bind_text(s, 2, place);
    return db_run(c, s, err);
}

int repo_make(struct catalog *c, const char *store, const char *repo, int64_t *row,
              struct error *err)
{
    return make_repo(c, store, repo, row, err);
}

int catalog_store_row(struct catalog *c, const char *store, int64_t *row, struct error *err)
{
    DB_HOLD(c);
    int found = find_store(c, store, row, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, make_store(c, store, row, err), err);
}

int catalog_repo_row(struct catalog *c, const char *store, const char *repo, int64_t *row,
                     struct error *err)
{
    DB_HOLD(c);
    int found = find_repo(c, store, repo, row, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, make_repo(c, store, repo, row, err), err);
}

int catalog_store_at(struct catalog *c, int64_t row, char *store, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_STORE_AT);

    db_bind_int(s, 1, row);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "no store has row %lld", (long long)row);
    if (found == 1)
        db_column_text(s, 0, store, LIMIT_ID + 1);
    return found < 0 ? -1 : 0;
}

int catalog_repo_at(struct catalog *c, int64_t row, char *store, char *repo, struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_REPO_AT);

    db_bind_int(s, 1, row);
    int found = db_row(c, s, err);
    if (found == 0)
        return db_not_found(err, "no repo has row %lld", (long long)row);
    if (found == 1) {
        db_column_text(s, 0, store, LIMIT_ID + 1);
        db_column_text(s, 1, repo, LIMIT_ID + 1);
    }
    return found < 0 ? -1 : 0;
}

int catalog_list_stores(struct catalog *c, int64_t after, catalog_list_fn fn, void *ctx,
                        struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_STORE_LIST);
    int more;

    db_bind_int(s, 1, after);
    while ((more = db_row(c, s, err)) == 1) {
        struct catalog_entry e = {
            .row = sqlite3_column_int64(s, 0),
            .name = (const char *)sqlite3_column_text(s, 1),
        };
        if (!fn(ctx, &e))
            return 0;
    }
    return more;
}

int catalog_repo_used(struct catalog *c, const char *store, const char *repo, const char *place,
                      struct error *err)
{
    DB_HOLD(c);
    int found = find_place(c, store, repo, place, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, make_place(c, store, repo, place, err), err);
}

int catalog_repo_is_used(struct catalog *c, const char *store, const char *repo, const char *place,
                         bool *used, struct error *err)
{
    DB_HOLD(c);
    int found = find_place(c, store, repo, place, err);

    if (found < 0)
        return -1;
    *used = found == 1;
    return 0;
}

int catalog_tick_get(struct catalog *c, const char *store, const char *repo, time_ms *handled,
                     struct error *err)
{
    DB_HOLD(c);
    DB_STATEMENT(s, c, SQL_TICK_GET);

    db_bind_text(s, 1, store);
    db_bind_text(s, 2, repo);
    int found = db_row(c, s, err);
    if (found < 0)
        return -1;
    *handled = found == 1 ? sqlite3_column_int64(s, 0) : 0;
    return 0;
}

static int set_tick(struct catalog *c, int64_t repo, time_ms handled, struct error *err)
{
    DB_STATEMENT(s, c, SQL_TICK_SET);

    db_bind_int(s, 1, repo);
    db_bind_int(s, 2, handled);
    return db_run(c, s, err);
}

int db_set_tick(struct catalog *c, const char *store, const char *repo, time_ms handled,
                struct error *err)
{
    int64_t row;

    if (make_repo(c, store, repo, &row, err) != 0)
        return -1;
    return set_tick(c, row, handled, err);
}

int catalog_tick_set(struct catalog *c, const char *store, const char *repo, time_ms handled,
                     struct error *err)
{
    DB_HOLD(c);
    int64_t row;
    int found = find_repo(c, store, repo, &row, err);

    if (found < 0)
        return -1;
    if (found == 1)
        return set_tick(c, row, handled, err);
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, db_set_tick(c, store, repo, handled, err), err);
}
