/* SPDX-License-Identifier: MIT */
/*
 * db.h - the plumbing of the catalog: private to src/catalog and its tests.
 *
 * A public function of the catalog reads:
 *
 *   DB_HOLD(c);                                  the mutex, until the end of the scope
 *   if (db_begin(c, err) != 0) return -1;        only if it runs more than one statement
 *   return db_end(c, work(c, ..., err), err);    commits if work gave 0, rolls back otherwise
 *
 * and a piece of work:
 *
 *   DB_STATEMENT(s, c, SQL_JOB_START);           reset and unbound at the end of the scope
 *   db_bind_text(s, 1, job);                     the text must live as long as that scope
 *   return db_run(c, s, err);
 *
 * Errors: what SQLite reports is turned into a struct error in db_fail() alone.
 * Threads: everything but db_hold needs the mutex.
 */
#ifndef KEEPFS_CATALOG_DB_H
#define KEEPFS_CATALOG_DB_H

#include "catalog/catalog.h"

#include <pthread.h>
#include <sqlite3.h>

/* Every statement that is ever run after open; each is prepared once. */
enum db_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,

    SQL_JOB_INSERT,
    SQL_JOB_START,
    SQL_JOB_PROGRESS,
    SQL_JOB_SUCCEED,
    SQL_JOB_FAIL,
    SQL_JOBS_INTERRUPT,
    SQL_PROGRESS_DELETE,
    SQL_PROGRESS_CLEAR,
    SQL_JOB_GET,
    SQL_JOB_AT,
    SQL_JOB_LATEST,
    SQL_JOB_BY_KEY,
    SQL_JOB_STATS,
    SQL_JOB_JSON,
    SQL_STORE_ACTIVITY,
    SQL_LIST_JOBS,
    SQL_LIST_JOBS_ACTIVE,
    SQL_LIST_JOBS_KEYED,

    SQL_LIST_RECORDS,
    SQL_RECORD_STATE,
    SQL_RECORD_PUT,
    SQL_RECORD_GET,
    SQL_RECORD_AT,
    SQL_RECORD_LATEST_OF_STORE,
    SQL_RECORD_LATEST_OF_REPO,
    SQL_RECORDS_MISSING,
    SQL_RECORD_FIND,
    SQL_RECORDS_OF_REPO,
    SQL_RECORDS_COUNT,

    SQL_STORE_FIND,
    SQL_STORE_INSERT,
    SQL_REPO_FIND,
    SQL_REPO_INSERT,
    SQL_PLACE_FIND,
    SQL_PLACE_INSERT,

    SQL_COUNT
};

/* The texts are tables beside the functions that run them; a row with text NULL ends each. */
struct db_text {
    enum db_sql id;
    const char *text;
};
extern const struct db_text job_sql[], record_sql[], store_sql[];

struct catalog {
    char *path;
    pthread_mutex_t lock; /* guards all below, and SQLite, which is opened without its own */
    sqlite3 *sqlite;
    sqlite3_stmt *statements[SQL_COUNT];
};

/* ---- the mutex ---- */

struct catalog *db_hold(struct catalog *c);
void db_release(struct catalog **c);
#define DB_HOLD(c) __attribute__((cleanup(db_release), unused)) struct catalog *db_held = db_hold(c)

/* ---- transactions ---- */

int db_begin(struct catalog *c, struct error *err);
/* Commits if `result` is 0, else rolls back; 0 only if it was committed. */
int db_end(struct catalog *c, int result, struct error *err);

/* ---- statements ---- */

sqlite3_stmt *db_statement(struct catalog *c, enum db_sql id);
void db_done(sqlite3_stmt **s);
#define DB_STATEMENT(name, c, id)                                                                  \
    __attribute__((cleanup(db_done))) sqlite3_stmt *name = db_statement((c), (id))

/* Texts are not copied. db_bind_word binds NULL for "" and for NULL. */
void db_bind_text(sqlite3_stmt *s, int i, const char *text);
void db_bind_word(sqlite3_stmt *s, int i, const char *text);
void db_bind_int(sqlite3_stmt *s, int i, int64_t value);

/* The next row: 1, 0 at the end, -1 on failure. */
int db_row(struct catalog *c, sqlite3_stmt *s, struct error *err);
/* Runs a statement to its end: 0 or -1. */
int db_run(struct catalog *c, sqlite3_stmt *s, struct error *err);
/* Texts that are run once, at open. */
int db_execute(struct catalog *c, const char *sql, struct error *err);

/* NULL is read as "". What does not fit is cut. */
void db_column_text(sqlite3_stmt *s, int i, char *out, size_t size);

/* ---- errors: all return -1 ---- */

/* What SQLite's result `rc` means for keepfs; errno was cleared before the call that gave it. */
int db_fail(struct catalog *c, int rc, struct error *err);
/* The file is no database of this keepfs and cannot be used, because of `reason`. */
int db_unusable(const struct catalog *c, const char *reason, struct error *err);
/* ERR_NOT_FOUND with ENOENT. */
int db_not_found(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- schema.c ---- */

/* Is this file new or one of ours, of a version that we know? Changes nothing. */
int schema_check(struct catalog *c, struct error *err);
/* Brings it to the newest version and makes the TEMP tables. */
int schema_apply(struct catalog *c, struct error *err);
/* The TEMP tables for a connection that changes nothing: the file must have the newest version.
 * ERR_NOT_FOUND if nothing is in it yet. */
int schema_look(struct catalog *c, struct error *err);

/* ---- records.c, for jobs.c ---- */

/* Within a transaction: stores the record or brings it back. *changed is false, and nothing
 * happened, if it was there or is being deleted. */
int record_put(struct catalog *c, const struct record *record, bool *changed, struct error *err);

#endif
