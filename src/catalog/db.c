/* SPDX-License-Identifier: MIT */
/*
 * db.c - one SQLite connection: opening, statements, transactions, and what its errors mean.
 *
 * The connection is opened without SQLite's mutexes; the catalog's own stands in for them, since
 * it has to be held over several calls anyway (step, read columns, reset).
 *
 * Opening goes from what changes nothing to what does: make the file if it is absent (0600 by
 * fchmod, so that no umask matters; SQLite gives -wal and -shm the same mode), connect, look
 * whether the file is ours, and only then set WAL mode and migrate. Until it is known to be ours
 * a close must not even write a foreign -wal back: SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE.
 *
 * Every transaction starts IMMEDIATE: whatever else has the file open (an operator's sqlite3
 * shell) is waited for at BEGIN, where the busy timeout works, and never met half way.
 *
 * A look from outside the daemon must leave nothing, and SQLite makes a -shm or a -wal for whoever
 * just reads. What stands beside the file says which way it does not:
 *
 *   no -wal          whoever had it open has closed it, and all is in the file: immutable
 *   -wal and -shm    it is open, or its last user died: locks of readers only; the -shm is not
 *                    written, and not even believed if nobody has it open
 *   -wal alone       its last user died and the -shm was lost: an index of the -wal in memory,
 * which SQLite keeps for a connection that shares the file with nobody
 *
 * A kill at any point leaves committed transactions and nothing of others: that is SQLite's part,
 * with synchronous=FULL. The new file's directory entry is ours.
 */
#include "catalog/db.h"

#include "util/fsutil.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long a write waits for another process's lock, with the mutex held: an operator's shell may
 * have the database open, and must not stop the mount. */
#define BUSY_TIMEOUT_MS 500

/* journal_size_limit: a -wal that a burst made big does not stay so. */
static const char pragmas[] = "PRAGMA synchronous = FULL;"
                              "PRAGMA foreign_keys = ON;"
                              "PRAGMA temp_store = MEMORY;"
                              "PRAGMA cell_size_check = ON;"
                              "PRAGMA trusted_schema = OFF;"
                              "PRAGMA journal_size_limit = 16777216;";

static const struct db_text db_sql[] = {
    {SQL_BEGIN, "BEGIN IMMEDIATE"},
    {SQL_COMMIT, "COMMIT"},
    {SQL_ROLLBACK, "ROLLBACK"},
    {0, NULL},
};

/* ---- errors ---- */

int db_unusable(const struct catalog *c, const char *reason, struct error *err)
{
    error_set(err, ERR_STATE_UNAVAILABLE,
              "%s cannot be used as the state database: %s; if it is beyond repair, move it and "
              "its -wal and -shm files away and start again: records are adopted again from the "
              "repos, only the history of jobs is lost",
              c->path, reason);
    err->errnum = EIO;
    return -1;
}

int db_not_found(struct error *err, const char *fmt, ...)
{
    char text[ERROR_MESSAGE_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    error_set(err, ERR_NOT_FOUND, "%s", text);
    err->errnum = ENOENT;
    return -1;
}

/* SQLite keeps the errno only of what fails before a commit, and keeps it for ever; ours was
 * cleared before the call that failed. */
static int fail_file(struct catalog *c, int rc, int errnum, const char *text, struct error *err)
{
    char reason[256];

    if (errnum == 0)
        errnum = sqlite3_system_errno(c->sqlite);
    if (errnum == ENOSPC || errnum == EDQUOT)
        return error_sys(err, SIDE_STATE, errnum, "state database %s", c->path);
    if (errnum == 0)
        errnum = EIO;
    snprintf(reason, sizeof reason, "%s (%s)", text, strerrordesc_np(errnum));
    if (rc == SQLITE_CANTOPEN) {
        db_unusable(c, reason, err);
    } else {
        error_set(err, ERR_STATE_UNAVAILABLE, "state database %s: %s", c->path, reason);
    }
    err->errnum = errnum;
    return -1;
}

int db_fail(struct catalog *c, int rc, struct error *err)
{
    int errnum = errno;
    const char *text = sqlite3_errmsg(c->sqlite);

    switch (rc & 0xff) {
    case SQLITE_FULL:
        return error_sys(err, SIDE_STATE, ENOSPC, "state database %s", c->path);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return fail_file(c, rc & 0xff, errnum, text, err);
    case SQLITE_READONLY:
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return db_unusable(c, text, err);
    case SQLITE_PROTOCOL:
        /* After ten seconds of tries, of SQLite's own. */
        error_set(err, ERR_STATE_UNAVAILABLE,
                  "state database %s: %s: its locks do not work, as happens on network file "
                  "systems; keep the state on a local one and start keepfs again",
                  c->path, text);
        err->errnum = EIO;
        return -1;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        error_set(err, ERR_STATE_UNAVAILABLE,
                  "state database %s: %s: another process has had it locked for %d ms; end the "
                  "transaction of whatever has it open",
                  c->path, text, BUSY_TIMEOUT_MS);
        err->errnum = EIO;
        return -1;
    default:
        return error_set(err, ERR_INTERNAL, "state database %s: %s", c->path, text);
    }
}

/* ---- the mutex ---- */

/* A mutex goes to whoever comes first after it was let go, and that is mostly the thread that did:
 * a pass over many pages would keep everybody out until its end. It cannot overtake one who holds
 * `turn` already. */
struct catalog *db_hold(struct catalog *c)
{
    pthread_mutex_lock(&c->turn);
    pthread_mutex_lock(&c->lock);
    pthread_mutex_unlock(&c->turn);
    return c;
}

void db_release(struct catalog **c)
{
    pthread_mutex_unlock(&(*c)->lock);
}

/* ---- statements ---- */

sqlite3_stmt *db_statement(struct catalog *c, enum db_sql id)
{
    assert(!sqlite3_stmt_busy(c->statements[id]));
    return c->statements[id];
}

void db_done(sqlite3_stmt **s)
{
    /* Gives the error of the last step once more, which was dealt with there. */
    (void)sqlite3_reset(*s);
    (void)sqlite3_clear_bindings(*s);
}

static void bound(int rc)
{
    /* Nothing is copied, so that only a wrong index or a statement under way can fail. */
    assert(rc == SQLITE_OK);
    (void)rc;
}

void db_bind_text(sqlite3_stmt *s, int i, const char *text)
{
    bound(sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC));
}

void db_bind_word(sqlite3_stmt *s, int i, const char *text)
{
    bound(sqlite3_bind_text(s, i, text && *text ? text : NULL, -1, SQLITE_STATIC));
}

void db_bind_int(sqlite3_stmt *s, int i, int64_t value)
{
    bound(sqlite3_bind_int64(s, i, value));
}

int db_row(struct catalog *c, sqlite3_stmt *s, struct error *err)
{
    errno = 0;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : db_fail(c, rc, err);
}

int db_run(struct catalog *c, sqlite3_stmt *s, struct error *err)
{
    int rc;

    errno = 0;
    do
        rc = sqlite3_step(s);
    while (rc == SQLITE_ROW);
    return rc == SQLITE_DONE ? 0 : db_fail(c, rc, err);
}

void db_column_text(sqlite3_stmt *s, int i, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);

    snprintf(out, size, "%s", text ? (const char *)text : "");
}

int db_execute(struct catalog *c, const char *sql, struct error *err)
{
    errno = 0;
    int rc = sqlite3_exec(c->sqlite, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : db_fail(c, rc, err);
}

/* ---- transactions ---- */

static int run_plain(struct catalog *c, enum db_sql id, struct error *err)
{
    DB_STATEMENT(s, c, id);
    return db_run(c, s, err);
}

int db_begin(struct catalog *c, struct error *err)
{
    return run_plain(c, SQL_BEGIN, err);
}

int db_end(struct catalog *c, int result, struct error *err)
{
    if (result == 0 && run_plain(c, SQL_COMMIT, err) == 0) {
        events_send(c);
        return 0;
    }
    events_forget(c);
    /* A full disk or a failing one has made SQLite roll back already. */
    if (!sqlite3_get_autocommit(c->sqlite)) {
        struct error ignored;
        (void)run_plain(c, SQL_ROLLBACK, &ignored);
    }
    return -1;
}

/* ---- open and close ---- */

/* Makes the file if it is absent, durably and for the owner only. */
static int make_file(const char *path, struct error *err)
{
    __attribute__((cleanup(fd_close))) int fd =
        open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    __attribute__((cleanup(free_charp))) char *parent = xstrdup(path);
    char *slash = strrchr(parent, '/');

    if (fd < 0 && errno == EEXIST)
        return 0;
    if (fd < 0)
        return error_sys(err, SIDE_STATE, errno, "cannot make the state database %s", path);
    if (slash)
        slash[slash == parent ? 1 : 0] = '\0';
    if (fchmod(fd, 0600) != 0 || dir_fsync(slash ? parent : ".") != 0)
        return error_sys(err, SIDE_STATE, errno, "cannot make the state database %s", path);
    return 0;
}

static int set_option(struct catalog *c, int option, int value, struct error *err)
{
    int rc = sqlite3_db_config(c->sqlite, option, value, (int *)NULL);
    return rc == SQLITE_OK ? 0 : db_fail(c, rc, err);
}

static int connect_file(struct catalog *c, const char *name, int flags, struct error *err)
{
    errno = 0;
    int rc = sqlite3_open_v2(name, &c->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return db_fail(c, rc, err);
    sqlite3_extended_result_codes(c->sqlite, 1);
    sqlite3_busy_timeout(c->sqlite, BUSY_TIMEOUT_MS);
    if (set_option(c, SQLITE_DBCONFIG_DEFENSIVE, 1, err) != 0)
        return -1;
    return set_option(c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, err);
}

/* SQLite answers the mode that it is in, and falls back to another one in silence where shared
 * memory does not work. */
static int use_wal(struct catalog *c, struct error *err)
{
    sqlite3_stmt *s = NULL;
    char mode[16] = "";

    errno = 0;
    int rc = sqlite3_prepare_v2(c->sqlite, "PRAGMA journal_mode = WAL", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        db_column_text(s, 0, mode, sizeof mode);
    int result = rc == SQLITE_ROW ? 0 : db_fail(c, rc, err);
    sqlite3_finalize(s);
    if (result == 0 && strcmp(mode, "wal") != 0)
        return db_unusable(c, "its file system does not allow SQLite's WAL mode", err);
    return result;
}

static int configure(struct catalog *c, struct error *err)
{
    if (set_option(c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, err) != 0 || use_wal(c, err) != 0)
        return -1;
    return db_execute(c, pragmas, err);
}

static int prepare_table(struct catalog *c, const struct db_text *table, struct error *err)
{
    for (const struct db_text *t = table; t->text; t++) {
        assert(!c->statements[t->id]);
        errno = 0;
        int rc = sqlite3_prepare_v3(c->sqlite, t->text, -1, SQLITE_PREPARE_PERSISTENT,
                                    &c->statements[t->id], NULL);
        /* The texts fit the schema: if SQLite says otherwise, the file's schema was changed. */
        if (rc == SQLITE_ERROR)
            return db_unusable(c, sqlite3_errmsg(c->sqlite), err);
        if (rc != SQLITE_OK)
            return db_fail(c, rc, err);
    }
    return 0;
}

static int prepare(struct catalog *c, struct error *err)
{
    const struct db_text *const tables[] = {
        db_sql,    job_sql,  job_json_sql,    prune_sql,   record_sql, record_change_sql,
        store_sql, view_sql, record_json_sql, standing_sql};

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (prepare_table(c, tables[i], err) != 0)
            return -1;
    for (size_t i = 0; i < SQL_COUNT; i++)
        assert(c->statements[i]);
    return 0;
}

static struct catalog *catalog_new(const char *path)
{
    struct catalog *c = xcalloc(1, sizeof *c);

    c->path = xstrdup(path);
    pthread_mutex_init(&c->turn, NULL);
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

struct catalog *catalog_open(const char *path, struct error *err)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    struct catalog *c = catalog_new(path);

    if (make_file(path, err) == 0 && connect_file(c, path, flags, err) == 0 &&
        schema_check(c, err) == 0 && configure(c, err) == 0 && schema_apply(c, err) == 0 &&
        prepare(c, err) == 0)
        return c;
    catalog_close(c);
    return NULL;
}

/* ---- looking ---- */

static bool stands_beside(const char *path, const char *suffix)
{
    __attribute__((cleanup(free_charp))) char *name = xasprintf("%s%s", path, suffix);

    return access(name, F_OK) == 0;
}

static void add_uri_path(struct buf *uri, const char *path)
{
    for (; *path; path++)
        if (isalnum((unsigned char)*path) || strchr("/._-", *path))
            buf_add(uri, path, 1);
        else
            buf_addf(uri, "%%%02X", (unsigned char)*path);
}

static int connect_to_look(struct catalog *c, struct error *err)
{
    bool wal = stands_beside(c->path, "-wal"), shm = stands_beside(c->path, "-shm");
    struct buf uri = BUF_INIT;
    struct stat st;

    if (stat(c->path, &st) != 0) {
        if (errno == ENOENT)
            return db_not_found(err, "there is no state database %s yet", c->path);
        return error_sys(err, SIDE_STATE, errno, "cannot open the state database %s", c->path);
    }
    buf_adds(&uri, "file:");
    add_uri_path(&uri, c->path);
    buf_adds(&uri, !wal ? "?immutable=1" : shm ? "?readonly_shm=1" : "?vfs=unix-none");
    int result = connect_file(c, uri.data, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
    buf_release(&uri);
    if (result == 0 && wal && !shm)
        result = db_execute(c, "PRAGMA locking_mode = EXCLUSIVE", err);
    return result;
}

struct catalog *catalog_open_look(const char *path, struct error *err)
{
    struct catalog *c = catalog_new(path);

    c->looks = true;
    if (connect_to_look(c, err) == 0 && schema_check(c, err) == 0 &&
        db_execute(c, pragmas, err) == 0 && schema_look(c, err) == 0 && prepare(c, err) == 0)
        return c;
    catalog_close(c);
    return NULL;
}

typedef void (*fault_fn)(void *ctx, const char *text);

/* Each row but "ok" is a fault. */
static int run_check(struct catalog *c, const char *pragma, fault_fn fault, void *ctx,
                     struct error *err)
{
    sqlite3_stmt *s = NULL;

    errno = 0;
    int rc = sqlite3_prepare_v2(c->sqlite, pragma, -1, &s, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(s);
        if (rc != SQLITE_ROW)
            break;
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if (text && strcmp(text, "ok") != 0)
            fault(ctx, text);
    }
    int result = rc == SQLITE_DONE ? 0 : db_fail(c, rc, err);
    sqlite3_finalize(s);
    return result;
}

int catalog_integrity(struct catalog *c, fault_fn fault, void *ctx, struct error *err)
{
    static const char references[] = "SELECT 'a row (' || coalesce(rowid, '') || ') of ' || "
                                     "\"table\" || ' refers to a row of ' || parent ||"
                                     " ' that is not there' FROM pragma_foreign_key_check LIMIT 20";

    DB_HOLD(c);
    if (run_check(c, "PRAGMA integrity_check(20)", fault, ctx, err) != 0)
        return -1;
    return run_check(c, references, fault, ctx, err);
}

void catalog_close(struct catalog *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(c->statements[i]);
    int rc = sqlite3_close(c->sqlite);
    assert(rc == SQLITE_OK);
    (void)rc;
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->turn);
    events_release(c);
    recent_release(c);
    free(c->path);
    free(c);
}
