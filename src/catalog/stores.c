/* SPDX-License-Identifier: MIT */
/*
 * stores.c - a row for each store and repo of the configuration, and where repos were used.
 *
 * The configuration is the truth about stores and repos; these rows only give each name a number
 * that is never reused, so that it has an inode, also after it was taken out of the configuration
 * and put back. Rows are looked up first: after the first start nothing here writes.
 *
 * A repo may have been used at several places, since its path can be changed; each is kept.
 */
#include "catalog/db.h"

const struct db_text store_sql[] = {
    {SQL_STORE_FIND, "SELECT id FROM stores WHERE name = ?1"},
    {SQL_STORE_INSERT, "INSERT INTO stores (name) VALUES (?1)"},
    {SQL_REPO_FIND, "SELECT repos.id FROM stores JOIN repos ON repos.store = stores.id"
                    " WHERE stores.name = ?1 AND repos.name = ?2"},
    {SQL_REPO_INSERT, "INSERT INTO repos (store, name) VALUES (?1, ?2)"},
    {SQL_PLACE_FIND, "SELECT 1 FROM stores JOIN repos ON repos.store = stores.id"
                     " JOIN places ON places.repo = repos.id"
                     " WHERE stores.name = ?1 AND repos.name = ?2 AND places.place = ?3"},
    {SQL_PLACE_INSERT, "INSERT OR IGNORE INTO places (repo, place) VALUES (?1, ?2)"},
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
