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
    SQL_JOBS_OLDEST,
    SQL_JOB_DELETE,

    SQL_LIST_RECORDS,
    SQL_RECORD_STATE,
    SQL_RECORD_PUT,
    SQL_RECORD_GET,
    SQL_RECORD_AT,
    SQL_RECORD_LATEST_OF_STORE,
    SQL_RECORD_LATEST_OF_REPO,
    SQL_RECORD_LOST,
    SQL_RECORDS_MISSING,
    SQL_RECORD_FIND,
    SQL_RECORDS_OF_REPO,
    SQL_RECORDS_COUNT,
    SQL_RECORDS_NEWEST,
    SQL_RECORDS_DELETING,
    SQL_RECORD_SIZES,
    SQL_RECORD_PIN,
    SQL_RECORD_SUSPECT,
    SQL_RECORD_DELETE_BEGIN,
    SQL_RECORD_EXPIRE,
    SQL_RECORD_DELETE_END,

    SQL_STORE_FIND,
    SQL_STORE_AT,
    SQL_STORE_LIST,
    SQL_STORE_INSERT,
    SQL_REPO_FIND,
    SQL_REPO_AT,
    SQL_REPO_INSERT,
    SQL_PLACE_FIND,
    SQL_PLACE_INSERT,
    SQL_TICK_GET,
    SQL_TICK_SET,

    SQL_LIST_PINNED,
    SQL_LIST_STORE_JOBS,
    SQL_LIST_STORE_RECORDS,
    SQL_LIST_DAY_RECORDS,
    SQL_LIST_RECORD_STORES,
    SQL_RECORD_STORE_AT,
    SQL_RECORD_STORE_FIND,
    SQL_RECORD_NEXT_DAY,
    SQL_RECORD_NOT_LATER,
    SQL_RECORD_JSON,
    SQL_NEWEST,
    SQL_HOLDINGS,
    SQL_SUSPECT,
    SQL_OUTCOMES,
    SQL_EXPECTED_GET,
    SQL_EXPECTED_SET,
    SQL_EXPECTED_DELETE,

    SQL_COUNT
};

/* The texts are tables beside the functions that run them; a row with text NULL ends each. */
struct db_text {
    enum db_sql id;
    const char *text;
};
extern const struct db_text job_sql[], job_json_sql[], prune_sql[], record_sql[],
    record_change_sql[], store_sql[], view_sql[], record_json_sql[], standing_sql[];

/* Those of the transaction under way. */
struct events {
    catalog_event_fn fn; /* NULL: nobody listens, nothing is kept */
    void *ctx;
    uint64_t seq; /* of the last one that was sent */
    struct catalog_event *waiting;
    size_t count, room;
};

/* See recent.c. */
struct recent_jobs {
    struct job *jobs; /* LIMIT_RECENT_JOBS, or NULL */
    size_t count, next;
    int64_t changes; /* of this connection, when they were read */
    time_ms since;   /* not before this were they read */
};

struct catalog {
    char *path;
    bool looks;           /* beside a daemon: see catalog_open_look */
    pthread_mutex_t turn; /* held while one waits for `lock`: see db_hold */
    pthread_mutex_t lock; /* guards all below, and SQLite, which is opened without its own */
    sqlite3 *sqlite;
    struct recent_jobs recent;
    sqlite3_stmt *statements[SQL_COUNT];
    struct events events;
    struct {
        catalog_progress_fn fn; /* NULL: nobody listens */
        void *ctx;
    } progress;
};

/* ---- the mutex ---- */

/* Whoever lets it go and wants it again gets it behind one who waits already. */
struct catalog *db_hold(struct catalog *c);
void db_release(struct catalog **c);
#define DB_HOLD(c) __attribute__((cleanup(db_release), unused)) struct catalog *db_held = db_hold(c)

/* ---- transactions ---- */

int db_begin(struct catalog *c, struct error *err);
/* Commits if `result` is 0, else rolls back; 0 only if it was committed. Then the events are sent.
 */
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

/* ---- events.c ---- */

/* Within a transaction: keeps an event, sent when it is committed and forgotten when it is not. The
 * first columns of the statement's row are id, ulid, store, repo; the words are static. */
void event_add(struct catalog *c, enum catalog_object object, sqlite3_stmt *s, const char *from,
               const char *to);
/* For db_end alone. */
void events_send(struct catalog *c);
void events_forget(struct catalog *c);
void events_release(struct catalog *c);

/* ---- recent.c, for jobs.c ---- */

/* By ULID, or by row if that is NULL. False if it is not known to be what the catalog has now. */
bool recent_find(struct catalog *c, int64_t row, const char *ulid, struct job *out);
/* What was just read. */
void recent_keep(struct catalog *c, const struct job *job);
void recent_release(struct catalog *c);

/* ---- jobs.c, for job_json.c ---- */

/* {"key":value,...} */
void job_add_stats(struct buf *out, const struct stats *stats);
int job_read_at(struct catalog *c, int64_t row, struct job *out, struct error *err);

/* ---- jobs.c, for views.c ---- */

/* The parameter ?3 of a listing; NULL instead of a pointer to one: it has none. */
struct list_of {
    const char *text; /* NULL: number */
    int64_t number;
};
/* As catalog_list: ?1 is the row behind which it goes on, ?2 how many rows a step reads; the first
 * two columns are row and name. */
int db_list(struct catalog *c, enum db_sql id, const struct list_of *of, int64_t after,
            catalog_list_fn fn, void *ctx, struct error *err);

/* ---- job_json.c, for record_json.c ---- */

/* Appends what is UTF-8 in a text, and U+FFFD for each byte that is not. */
void json_add_utf8(struct buf *out, const char *text);

/* ---- records.c, for jobs.c and record_changes.c ---- */

/* Within a transaction: stores the record or brings it back, with an event of `word`. *changed is
 * false, and nothing happened, if it was there or is being deleted. */
int record_put(struct catalog *c, const struct record *record, const char *word, bool *changed,
               struct error *err);

/* How a row stands, whatever its state. */
struct record_standing {
    char state[16];
    bool pinned;
    int suspect; /* the column: 1 suspect, 2 reviewed */
};
/* 1, 0 if there is no such row, -1. */
int record_standing(struct catalog *c, const char *ulid, struct record_standing *out,
                    struct error *err);

/* ---- stores.c, for standing.c ---- */

/* The row of a repo, made if needed, within a transaction. */
int repo_make(struct catalog *c, const char *store, const char *repo, int64_t *row,
              struct error *err);

/* The tick of a repo's schedule, within a transaction. */
int db_set_tick(struct catalog *c, const char *store, const char *repo, time_ms handled,
                struct error *err);

#endif
