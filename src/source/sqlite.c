/* SPDX-License-Identifier: MIT */
/*
 * sqlite.c - a consistent, byte-exact copy of a live SQLite database, in any journal mode.
 *
 *   1. a read transaction on the database: from here on everything is one moment of it
 *   2. payload_ids, if wanted, in that transaction
 *   3. SQLite's backup API copies all pages into a staging file, a step at a time; the file is
 *      unlinked as soon as it is open, so that a crash leaves nothing
 *   4. the transaction and the database are closed
 *   5. the rest of the staging file is streamed
 *
 * The staging file is streamed by a thread of its own while it grows (stream/follow.h): a
 * destination as fast as the disk loses no time, and a slow one never holds the database up. After
 * each step the pages copied so far are flushed into the file; the backup API writes each of them
 * once, but for page 1. That one is streamed as it was read: the API changes a few bytes of it in
 * every copy (change counter, size, schema cookie, version-valid-for). So the stream is, byte for
 * byte, what the database file would be after a full checkpoint.
 *
 * The read
 * transaction does not disturb writers of a database in WAL mode, but their checkpoints cannot
 * reuse the WAL until 4; in the rollback modes they wait with their commits until 4, about a
 * second per GB. If a writer holds the database, step 1 is tried again until busy_timeout.
 *
 * Nothing is ever written to the database: the connection goes through sqlite_vfs.c, which has no
 * write, and does not checkpoint when it closes; sqlite_vfs.h says what becomes of the side files.
 * So an application that ends during a backup leaves its WAL behind, to be read by whoever is
 * next. A WAL left by one that died is read like any other. A hot journal, left by one that died,
 * would have to be rolled back to read the database, so such a database is refused.
 *
 * POSIX locks belong to the process: closing any descriptor of the database would drop those of
 * SQLite, so that nothing here opens it but SQLite, and stores that share files share a group.
 */
#include "source/kinds.h"
#include "source/sqlite_vfs.h"
#include "stream/follow.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Steps are bounded in pages and bytes, so that a cancel is seen within tens of ms. */
enum { STEP_PAGES = 4096, STEP_BYTES = 16 << 20, BUSY_WAIT_MS = 20, VM_STEPS = 10000 };

/* Bytes of page 1 that a copy by the backup API has of its own. The size at 28 differs only if the
 * last writer was so old a SQLite (before 3.7) that it did not keep it. */
static const struct {
    size_t from, to;
} own_bytes[] = {{24, 28}, {28, 32}, {40, 44}, {92, 100}};

struct sqlite_source {
    struct source source; /* first: the kind's calls give this pointer back */
    char *path;
    const char *payload_ids; /* the store's, may be NULL */
    int busy_ms;
    char *staging;
};

/* One attempt. */
struct copying {
    const struct sqlite_source *s;
    struct source_run *run;
    sqlite3 *from, *to;
    int staging_fd;
    time_ms busy_until;
    int64_t page_size, pages;
    struct sqlite_view view;
    struct follower *follower;
    unsigned char page1[SQLITE_PAGE_MAX]; /* as it is streamed */
};

/* ---- errors ---- */

static bool is_busy(int rc)
{
    int primary = rc & 0xff;

    return primary == SQLITE_BUSY || primary == SQLITE_LOCKED || primary == SQLITE_PROTOCOL;
}

static const char *advice(const struct copying *c, int rc)
{
    if (c->view.orphaned_wal)
        return "; the database is empty and its -wal is not: restore the database, or remove the "
               "-wal if it belongs to another one";
    if (rc == SQLITE_READONLY_ROLLBACK)
        return "; an application that died has left a journal: open the database once with its "
               "application, or with sqlite3, so that it is rolled back";
    switch (rc & 0xff) {
    case SQLITE_NOTADB:
        return "; is it the right file, and unencrypted?";
    case SQLITE_CORRUPT:
        return "; it is damaged or cut short: PRAGMA integrity_check says more";
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        return "; to read a database in WAL mode its -shm file is needed: run keepfs as root or as "
               "the database's owner, with a directory it can write to, or while the application "
               "has the database open";
    default:
        return "";
    }
}

/* What the source's connection says. The errno goes along where SQLite knows one. */
static int source_error(struct copying *c, int rc, const char *what, struct error *err)
{
    int errnum = sqlite3_system_errno(c->from);
    /* A failed step of the backup leaves no message on this side. */
    bool said = sqlite3_errcode(c->from) != SQLITE_OK;

    if (cancel_check(c->run->cancel, err) != 0)
        return -1;
    if (c->view.read_errno)
        return error_sys(err, SIDE_SOURCE, c->view.read_errno, "database %s: reading", c->s->path);
    error_set(err, ERR_SOURCE_UNAVAILABLE, "database %s: %s: %s%s", c->s->path, what,
              said ? sqlite3_errmsg(c->from) : sqlite3_errstr(rc), advice(c, rc));
    if ((rc & 0xff) == SQLITE_NOMEM)
        err->code = ERR_INTERNAL;
    err->errnum = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN ? errnum : 0;
    return -1;
}

/* The file's own errno: the connection learns of it only after the backup. */
static int staging_error(struct copying *c, int rc, struct error *err)
{
    int errnum = 0;

    if ((rc & 0xff) == SQLITE_NOMEM)
        return error_set(err, ERR_INTERNAL, "out of memory while staging %s", c->s->path);
    sqlite3_file_control(c->to, "main", SQLITE_FCNTL_LAST_ERRNO, &errnum);
    if ((rc & 0xff) == SQLITE_FULL)
        errnum = ENOSPC;
    return error_sys(err, SIDE_STATE, errnum ? errnum : EIO, "staging %s in %s", c->s->path,
                     c->s->staging);
}

/* ---- the database ---- */

/* SQLite calls it now and then while a statement runs: non-zero interrupts. */
static int poll_cancel(void *ctx)
{
    const struct copying *c = ctx;

    return cancel_requested(c->run->cancel);
}

static int open_database(struct copying *c, struct error *err)
{
    const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    const char *vfs = sqlite_vfs_name();

    if (!vfs)
        return error_set(err, ERR_INTERNAL, "SQLite does not take the VFS for sources");
    int rc = sqlite3_open_v2(c->s->path, &c->from, flags, vfs);
    if (rc == SQLITE_CANTOPEN && sqlite3_system_errno(c->from) != 0)
        return error_sys(err, SIDE_SOURCE, sqlite3_system_errno(c->from), "database %s",
                         c->s->path);
    if (rc != SQLITE_OK)
        return source_error(c, rc, "cannot be opened", err);
    sqlite3_db_config(c->from, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(c->from, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->from, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_progress_handler(c->from, VM_STEPS, poll_cancel, c);
    return 0;
}

/* Waits a little for whoever holds the database; fails when that has been too long. */
static int wait_busy(struct copying *c, struct error *err)
{
    c->run->ops->stat(c->run, "busy_waits", 1);
    if (cancel_wait(c->run->cancel, BUSY_WAIT_MS))
        return cancel_check(c->run->cancel, err);
    if (clock_monotonic() < c->busy_until)
        return 0;
    return error_set(err, ERR_SOURCE_UNAVAILABLE,
                     "database %s: another process has kept it locked for %d s (busy_timeout)",
                     c->s->path, c->s->busy_ms / 1000);
}

/* The first column of the first row of a statement, retried while the database is busy. */
static int query_int(struct copying *c, const char *sql, int64_t *out, struct error *err)
{
    sqlite3_stmt *s = NULL;
    int rc;

    for (;;) {
        rc = sqlite3_prepare_v2(c->from, sql, -1, &s, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(s);
        if (rc == SQLITE_ROW)
            *out = sqlite3_column_int64(s, 0);
        sqlite3_finalize(s);
        s = NULL;
        if (!is_busy(rc))
            break;
        if (wait_busy(c, err) != 0)
            return -1;
    }
    if (rc != SQLITE_ROW)
        return source_error(c, rc, "cannot be read", err);
    return 0;
}

/* BEGIN alone takes no lock: the first read does, and decides which moment it is. */
static int begin_snapshot(struct copying *c, struct error *err)
{
    int64_t objects;
    int rc = sqlite3_exec(c->from, "BEGIN", NULL, NULL, NULL);

    if (rc != SQLITE_OK)
        return source_error(c, rc, "cannot be read", err);
    if (query_int(c, "SELECT count(*) FROM sqlite_schema", &objects, err) != 0 ||
        query_int(c, "PRAGMA page_size", &c->page_size, err) != 0 ||
        query_int(c, "PRAGMA page_count", &c->pages, err) != 0)
        return -1;
    c->run->ops->stat(c->run, "busy_waits", 0);
    c->run->ops->stat(c->run, "pages", (uint64_t)c->pages);
    c->run->ops->stat(c->run, "page_size", (uint64_t)c->page_size);
    return 0;
}

/* ---- payload_ids ---- */

static int take_id(struct copying *c, sqlite3_stmt *s, int64_t row, struct error *err)
{
    int type = sqlite3_column_type(s, 0);

    if (type != SQLITE_TEXT && type != SQLITE_INTEGER)
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "payload_ids: row %" PRId64 " is neither text nor an integer", row);
    const char *id = (const char *)sqlite3_column_text(s, 0);
    size_t len = (size_t)sqlite3_column_bytes(s, 0);
    if (c->run->ops->payload_id(c->run, id, len, err) != 0)
        return error_context(err, "payload_ids: row %" PRId64, row);
    return 0;
}

static int take_ids(struct copying *c, sqlite3_stmt *s, struct error *err)
{
    int64_t row = 0;
    int rc;

    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        if (take_id(c, s, ++row, err) != 0)
            return -1;
    return rc == SQLITE_DONE ? 0 : source_error(c, rc, "payload_ids", err);
}

/* SQLite asks before each thing that a statement does; the first tells what it is. */
static int note_first_action(void *ctx, int action, const char *a, const char *b, const char *c,
                             const char *d)
{
    int *first = ctx;

    (void)a, (void)b, (void)c, (void)d;
    if (*first == 0)
        *first = action;
    return SQLITE_OK;
}

static int prepare_ids(struct copying *c, sqlite3_stmt **out, struct error *err)
{
    const char *tail;
    int action = 0;

    sqlite3_set_authorizer(c->from, note_first_action, &action);
    int rc = sqlite3_prepare_v2(c->from, c->s->payload_ids, -1, out, &tail);
    sqlite3_set_authorizer(c->from, NULL, NULL);
    if (rc != SQLITE_OK)
        return source_error(c, rc, "payload_ids", err);
    if (!*out || action != SQLITE_SELECT || !sqlite3_stmt_readonly(*out) ||
        sqlite3_stmt_isexplain(*out) || tail[strspn(tail, "; \t\n")] != '\0')
        return error_set(err, ERR_CONFIG_INVALID,
                         "payload_ids must be one SELECT and nothing more: %s", c->s->payload_ids);
    return 0;
}

static int collect_ids(struct copying *c, struct error *err)
{
    sqlite3_stmt *s = NULL;

    if (!c->s->payload_ids)
        return 0;
    int result = prepare_ids(c, &s, err);
    if (result == 0)
        result = take_ids(c, s, err);
    sqlite3_finalize(s);
    return result;
}

/* ---- staging ---- */

static int set_up_copy(struct copying *c, struct error *err)
{
    static const char pragmas[] = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                                  "PRAGMA locking_mode = EXCLUSIVE;";
    int rc = sqlite3_exec(c->to, pragmas, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : staging_error(c, rc, err);
}

/* An open, unlinked file, and a connection to it. */
static int open_staging(struct copying *c, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/sqlite.XXXXXX", c->s->staging);

    c->staging_fd = mkostemp(path, O_CLOEXEC);
    if (c->staging_fd < 0)
        return error_sys(err, SIDE_STATE, errno, "staging file %s", path);
    int rc = sqlite3_open_v2(
        path, &c->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    unlink(path);
    return rc == SQLITE_OK ? set_up_copy(c, err) : staging_error(c, rc, err);
}

/* A step reads one database and writes the other; the VFS knows whether it was the reading. */
static int step_error(struct copying *c, int rc, struct error *err)
{
    if (c->view.read_errno || (rc & 0xff) == SQLITE_CORRUPT)
        return source_error(c, rc, "cannot be copied", err);
    return staging_error(c, rc, err);
}

/* The stream begins with page 1 as it was read for the first time in this transaction. */
static int start_stream(struct copying *c, struct error *err)
{
    size_t size = (size_t)c->page_size;

    if (c->view.page1_size != size)
        return error_set(err, ERR_INTERNAL, "page 1 of %s was not seen", c->s->path);
    memcpy(c->page1, c->view.page1, size);
    c->follower = follower_new(c->staging_fd, c->page1, size, c->run->out);
    return 0;
}

/* The first `pages` are copied. Page 1 is in use until the end, so that SQLite says "busy". */
static int let_follow(struct copying *c, int64_t pages, struct error *err)
{
    uint64_t size = (uint64_t)(pages * c->page_size);
    int rc = sqlite3_db_cacheflush(c->to);

    if (rc != SQLITE_OK && !is_busy(rc))
        return staging_error(c, rc, err);
    if (follower_failed(c->follower))
        return follower_finish(c->follower, size, err);
    follower_ready(c->follower, size);
    return 0;
}

static int copy_pages(struct copying *c, sqlite3_backup *backup, struct error *err)
{
    int64_t pages = STEP_BYTES / c->page_size;
    int64_t left = c->pages;
    int rc;

    if (pages > STEP_PAGES)
        pages = STEP_PAGES;
    do {
        if (cancel_check(c->run->cancel, err) != 0)
            return -1;
        rc = sqlite3_backup_step(backup, (int)pages);
        if (is_busy(rc) && wait_busy(c, err) != 0)
            return -1;
        if (rc == SQLITE_OK || rc == SQLITE_DONE) {
            int64_t now_left = sqlite3_backup_remaining(backup);
            if (let_follow(c, c->pages - now_left, err) != 0)
                return -1;
            c->run->ops->advance(c->run, (uint64_t)((left - now_left) * c->page_size));
            left = now_left;
        }
    } while (rc == SQLITE_OK || is_busy(rc));
    return rc == SQLITE_DONE ? 0 : step_error(c, rc, err);
}

/* What SQLite does not see. */
static int check_view(struct copying *c, struct error *err)
{
    if (c->view.truncated)
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "database %s is cut short: it ends within its last pages; PRAGMA "
                         "integrity_check says what is left",
                         c->s->path);
    if (c->view.frozen && !sqlite_vfs_frozen(c->s->path))
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "database %s: its file system became writable while it was read without "
                         "locks; try again",
                         c->s->path);
    return 0;
}

static int copy_database(struct copying *c, struct error *err)
{
    sqlite3_backup *backup = sqlite3_backup_init(c->to, "main", c->from, "main");

    if (!backup)
        return staging_error(c, sqlite3_extended_errcode(c->to), err);
    int result = copy_pages(c, backup, err);
    sqlite3_backup_finish(backup);
    return result == 0 ? check_view(c, err) : result;
}

/* A file that was put in the database's place meanwhile is another database: what was read then is
 * of one that nobody uses any more, and may have met the other's WAL. */
static int check_not_moved(struct copying *c, struct error *err)
{
    int moved = 0;

    sqlite3_file_control(c->from, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (moved)
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "database %s was replaced by another file while it was read; start the "
                         "backup again",
                         c->s->path);
    return 0;
}

/* Everything that needs the database. */
static int stage(struct copying *c, struct error *err)
{
    if (open_database(c, err) != 0 || begin_snapshot(c, err) != 0 || collect_ids(c, err) != 0)
        return -1;
    c->run->ops->expect(c->run, 2 * (uint64_t)(c->pages * c->page_size));
    if (c->pages > 0 &&
        (open_staging(c, err) != 0 || start_stream(c, err) != 0 || copy_database(c, err) != 0))
        return -1;
    return check_not_moved(c, err);
}

/* ---- the copy ---- */

static bool is_own_byte(size_t at)
{
    for (size_t i = 0; i < sizeof own_bytes / sizeof own_bytes[0]; i++)
        if (at >= own_bytes[i].from && at < own_bytes[i].to)
            return true;
    return false;
}

/* That nothing but the known bytes of page 1 differs in the copy is checked: a newer SQLite that
 * changed more would have to be looked at. And the page must have been one all the time. */
static int check_page1(struct copying *c, struct error *err)
{
    unsigned char copy[SQLITE_PAGE_MAX];
    size_t size = (size_t)c->page_size;

    if (memcmp(c->page1, c->view.page1, size) != 0)
        return error_set(err, ERR_INTERNAL, "page 1 of %s changed within a transaction",
                         c->s->path);
    ssize_t n = fd_pread_all(c->staging_fd, copy, size, 0);
    if (n < 0)
        return error_sys(err, SIDE_STATE, errno, "reading what was staged of %s", c->s->path);
    if (n != (ssize_t)size)
        return error_set(err, ERR_INTERNAL, "page 1 of %s was not staged", c->s->path);
    for (size_t i = 0; i < size; i++)
        if (copy[i] != c->page1[i] && !is_own_byte(i))
            return error_set(err, ERR_INTERNAL, "byte %zu of the copy of %s is not the database's",
                             i, c->s->path);
    return 0;
}

static int check_size(struct copying *c, struct error *err)
{
    struct stat st;

    if (fstat(c->staging_fd, &st) != 0)
        return error_sys(err, SIDE_STATE, errno, "staging %s", c->s->path);
    if (st.st_size != c->pages * c->page_size)
        return error_set(err, ERR_INTERNAL,
                         "the copy of %s has %jd bytes instead of %" PRId64 " pages of %" PRId64,
                         c->s->path, (intmax_t)st.st_size, c->pages, c->page_size);
    return 0;
}

/* ---- the kind ---- */

/* Closing the connections; a transaction that is open ends with its connection. */
static void close_databases(struct copying *c)
{
    sqlite3_close(c->to);
    sqlite3_close(c->from);
    c->to = c->from = NULL;
    sqlite_vfs_watch(NULL);
}

static int sqlite_backup(struct source *source, struct source_run *run, struct error *err)
{
    struct sqlite_source *s = (struct sqlite_source *)source;
    struct copying *c = xcalloc(1, sizeof *c);

    c->s = s;
    c->run = run;
    c->staging_fd = -1;
    c->busy_until = clock_monotonic() + s->busy_ms;
    sqlite_vfs_watch(&c->view);
    int result = stage(c, err);
    close_databases(c);
    if (result == 0 && c->pages > 0) {
        result = check_page1(c, err);
        if (result == 0)
            result = check_size(c, err);
        if (result == 0)
            result = follower_finish(c->follower, (uint64_t)(c->pages * c->page_size), err);
    }
    follower_free(c->follower);
    fd_close(&c->staging_fd);
    free(c);
    return result;
}

static void sqlite_close(struct source *source)
{
    struct sqlite_source *s = (struct sqlite_source *)source;

    if (!s)
        return;
    free(s->path);
    free(s->staging);
    free(s);
}

/* By stat and access: to open and close the file would drop the locks of a copy under way. */
static int check_file(const char *path, struct error *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return error_sys(err, SIDE_SOURCE, errno, "database %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_SOURCE_UNAVAILABLE, "database %s is not a regular file", path);
    if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0)
        return error_sys(err, SIDE_SOURCE, errno, "database %s cannot be read", path);
    return 0;
}

static int sqlite_open(const struct store *store, const char *staging, struct source **out,
                       struct error *err)
{
    const char *path = settings_text(&store->settings, "path");

    if (check_file(path, err) != 0)
        return -1;
    struct sqlite_source *s = xcalloc(1, sizeof *s);
    s->source.kind = &sqlite_source;
    s->path = xstrdup(path);
    s->payload_ids = settings_text(&store->settings, "payload_ids");
    s->busy_ms = (int)settings_int(&store->settings, "busy_timeout") * 1000;
    s->staging = xstrdup(staging ? staging : "");
    *out = &s->source;
    return 0;
}

static const struct setting sqlite_settings[] = {
    {.key = "path", .type = SETTING_PATH, .flags = SETTING_REQUIRED, .help = "the database file"},
    {.key = "payload_ids",
     .type = SETTING_TEXT,
     .help = "one SELECT; the first column of each row is an id that the payload refers to"},
    {.key = "busy_timeout",
     .type = SETTING_INT,
     .def = "60",
     .min = 1,
     .max = 3600,
     .help = "seconds to wait for a database that others hold locked"},
    {.key = NULL},
};

const struct source_kind sqlite_source = {
    .name = "sqlite",
    .help = "a SQLite database in use, byte for byte",
    .settings = sqlite_settings,
    .open = sqlite_open,
    .backup = sqlite_backup,
    .close = sqlite_close,
};
