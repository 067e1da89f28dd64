/* SPDX-License-Identifier: MIT */
/*
 * database.h - a database to back up for each test, and a run that keeps what it is given.
 *
 * base_setup makes a temporary directory with src/ (for app.db) and staging/; base_teardown
 * removes it, also after a failed test. base_backup keeps the payload in memory.
 *
 * The test's own process never holds the database open while its bytes are read: to close any
 * descriptor of it drops the locks. An application is therefore a process of its own, an `app`.
 * Include it after cmocka.
 */
#ifndef TESTS_SOURCE_DATABASE_H
#define TESTS_SOURCE_DATABASE_H

#include "source/kinds.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct base {
    char dir[64];
    char *src, *path, *staging;
    struct store store;
    struct source_run run;
    struct writer writer;
    struct cancel cancel;
    struct stats stats;
    struct buf payload, ids, log;
    uint64_t expected, advanced;
    size_t fail_at; /* the write that fails, counted from 1; 0 = none */
    size_t writes;
    _Atomic size_t streamed; /* bytes of payload, for whoever looks from another thread */
    struct buf before[2];    /* of the database and its WAL, by base_remember */
    struct stat before_stat[2];
    /* Called the first time, then forgotten. */
    void (*on_id)(struct base *), (*on_advance)(struct base *), (*on_busy)(struct base *),
        (*on_write)(struct base *);
};

static inline void base_call_once(struct base *b, void (**hook)(struct base *))
{
    void (*fn)(struct base *) = *hook;

    *hook = NULL;
    if (fn)
        fn(b);
}

static inline struct base *base_of_run(struct source_run *run)
{
    return (struct base *)(void *)((char *)run - offsetof(struct base, run));
}

static inline int base_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct base *b = (struct base *)(void *)((char *)w - offsetof(struct base, writer));

    base_call_once(b, &b->on_write);
    if (++b->writes == b->fail_at)
        return error_sys(err, SIDE_DESTINATION, ENOSPC, "the sink is full at write %zu", b->writes);
    buf_add(&b->payload, data, len);
    b->streamed += len;
    return 0;
}

static inline int base_finish(struct writer *w, struct error *err)
{
    (void)w, (void)err;
    fail_msg("a source must not finish its output");
    return -1;
}

static inline void base_free(struct writer *w)
{
    (void)w;
    fail_msg("a source must not free its output");
}

static inline void base_expect(struct source_run *run, uint64_t units)
{
    base_of_run(run)->expected = units;
}

static inline void base_advance(struct source_run *run, uint64_t units)
{
    base_of_run(run)->advanced += units;
    base_call_once(base_of_run(run), &base_of_run(run)->on_advance);
}

static inline void base_log(struct source_run *run, const char *line)
{
    buf_addf(&base_of_run(run)->log, "%s\n", line);
}

static inline void base_stat(struct source_run *run, const char *key, uint64_t value)
{
    stats_add(&base_of_run(run)->stats, key, value);
    if (strcmp(key, "busy_waits") == 0 && value > 0)
        base_call_once(base_of_run(run), &base_of_run(run)->on_busy);
}

/* Refuses what the engine refuses. */
static inline int base_payload_id(struct source_run *run, const char *id, size_t len,
                                  struct error *err)
{
    struct base *b = base_of_run(run);

    if (len == 0 || len > LIMIT_PAYLOAD_ID || memchr(id, '\n', len) || memchr(id, '\0', len))
        return error_set(err, ERR_SOURCE_UNAVAILABLE, "the id is not allowed");
    buf_add(&b->ids, id, len);
    buf_adds(&b->ids, "\n");
    base_call_once(b, &b->on_id);
    return 0;
}

static const struct writer_ops base_writer_ops = {base_write, base_finish, base_free};
static const struct source_run_ops base_run_ops = {base_expect, base_advance, base_log, base_stat,
                                                   base_payload_id};

/* ---- the test's directory ---- */

/* One more line of the store's section. */
static inline void base_set(struct base *b, const char *key, const char *value)
{
    const struct setting *row = settings_row(&b->store.settings, key);
    char *text, why[256];

    assert_non_null(row);
    assert_int_equal(setting_parse(row, value, &text, why, sizeof why), 0);
    settings_add(&b->store.settings, row, text, 1);
}

/* Begins the store's section anew, with this path. */
static inline void base_point_at(struct base *b, const char *path)
{
    settings_release(&b->store.settings);
    b->store.settings = (struct settings){.rows = {sqlite_source.settings}};
    base_set(b, "path", path);
}

static inline int base_setup(void **state)
{
    struct base *b = xcalloc(1, sizeof *b);
    const char *tmp = getenv("TMPDIR");

    snprintf(b->dir, sizeof b->dir, "%s/keepfs-test-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(chmod(b->dir, 0755), 0);
    b->src = xasprintf("%s/src", b->dir);
    b->path = xasprintf("%s/src/app.db", b->dir);
    b->staging = xasprintf("%s/staging", b->dir);
    assert_int_equal(mkdir(b->src, 0755), 0);
    assert_int_equal(mkdir(b->staging, 0777), 0);
    assert_int_equal(chmod(b->staging, 0777), 0);
    b->store = (struct store){.id = "app", .kind = &sqlite_source};
    base_point_at(b, b->path);
    cancel_init(&b->cancel);
    b->writer.ops = &base_writer_ops;
    b->run = (struct source_run){.ops = &base_run_ops, .out = &b->writer, .cancel = &b->cancel};
    *state = b;
    return 0;
}

static inline int base_teardown(void **state)
{
    struct base *b = *state;
    char *command = xasprintf("chmod -R u+rwX '%s'; rm -rf --one-file-system '%s'", b->dir, b->dir);
    int result = system(command);

    free(command);
    settings_release(&b->store.settings);
    cancel_release(&b->cancel);
    buf_release(&b->payload);
    buf_release(&b->ids);
    buf_release(&b->log);
    buf_release(&b->before[0]);
    buf_release(&b->before[1]);
    free(b->src);
    free(b->path);
    free(b->staging);
    free(b);
    return result;
}

/* ---- files ---- */

/* The file's bytes; false if it is not there. */
static inline bool file_bytes(const char *path, struct buf *out)
{
    char *piece = xmalloc(LIMIT_STREAM_CHUNK);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = 0;

    buf_truncate(out, 0);
    for (ssize_t n; fd >= 0 && (n = fd_pread_all(fd, piece, LIMIT_STREAM_CHUNK, at)) > 0; at += n)
        buf_add(out, piece, (size_t)n);
    free(piece);
    if (fd < 0)
        return false;
    fd_close(&fd);
    return true;
}

static inline void file_put(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, data, len), 0);
    fd_close(&fd);
}

static inline bool file_exists(const char *path, const char *suffix)
{
    char *name = xasprintf("%s%s", path, suffix);
    bool found = access(name, F_OK) == 0;

    free(name);
    return found;
}

static inline size_t dir_count(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* What the backup must not change: database and WAL, with bytes, size, inode and mtime. */
static inline void base_remember(struct base *b)
{
    char *paths[] = {xstrdup(b->path), xasprintf("%s-wal", b->path)};

    for (int i = 0; i < 2; i++) {
        b->before_stat[i] = (struct stat){0};
        file_bytes(paths[i], &b->before[i]);
        stat(paths[i], &b->before_stat[i]);
        free(paths[i]);
    }
}

static inline void base_is_untouched(struct base *b)
{
    struct base now = {.path = b->path};

    base_remember(&now);
    for (int i = 0; i < 2; i++) {
        const struct stat *was = &b->before_stat[i], *is = &now.before_stat[i];
        assert_int_equal(was->st_ino, is->st_ino);
        assert_int_equal(was->st_size, is->st_size);
        assert_int_equal(was->st_mtim.tv_sec, is->st_mtim.tv_sec);
        assert_int_equal(was->st_mtim.tv_nsec, is->st_mtim.tv_nsec);
        assert_int_equal(was->st_mode, is->st_mode);
        assert_int_equal(b->before[i].len, now.before[i].len);
        assert_true(b->before[i].len == 0 ||
                    memcmp(b->before[i].data, now.before[i].data, now.before[i].len) == 0);
        buf_release(&now.before[i]);
    }
}

/* The payload is this file, byte for byte. */
static inline void base_payload_is(struct base *b, const char *path)
{
    struct buf file = BUF_INIT;

    assert_true(file_bytes(path, &file));
    assert_int_equal(b->payload.len, file.len);
    for (size_t i = 0; i < file.len; i++)
        if (b->payload.data[i] != file.data[i])
            fail_msg("byte %zu of the payload is not the database's", i);
    buf_release(&file);
}

/* ---- databases ---- */

/* Runs SQL on a connection that is closed again. SQLite's result. */
static inline int try_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open(path, &db);

    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return rc;
}

static inline void base_sql(struct base *b, const char *sql)
{
    int rc = try_sql(b->path, sql);

    if (rc != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errstr(rc));
}

#define ROWS_SQL                                                                                   \
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX t_v ON t(v);"                    \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"                \
    " INSERT INTO t SELECT i, hex(randomblob(60)) FROM n;"

/* The one number that a query of the payload gives. */
static inline int64_t payload_int(struct base *b, const char *sql)
{
    char *path = xasprintf("%s/payload.db", b->dir), *uri = xasprintf("file:%s?immutable=1", path);
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;

    file_put(path, b->payload.data, b->payload.len);
    assert_int_equal(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL), 0);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    free(path);
    free(uri);
    return value;
}

#define INTEGRITY "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"

/* ---- another process that has the database open ---- */

struct app {
    pid_t pid;
    int go; /* closed to let it end */
};

enum app_end { APP_CLOSES, APP_DIES };

/* Returns when the SQL has been run. It ends with app_end, or with the test. */
static inline struct app app_start(const char *path, const char *sql, enum app_end how)
{
    int ready[2], go[2];
    char byte = 0;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_return_code(pid, errno);
    if (pid == 0) {
        sqlite3 *db;
        close(go[1]);
        close(ready[0]);
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            _exit(1);
        if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 0)
            _exit(1);
        if (how == APP_CLOSES)
            sqlite3_close(db);
        _exit(0);
    }
    close(ready[1]);
    close(go[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return (struct app){pid, go[1]};
}

static inline void app_end(struct app *a)
{
    int status;

    fd_close(&a->go);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- backups ---- */

/* Opens the store, backs it up and closes it. Asserts nothing, so that a child may call it. */
static inline int base_try(struct base *b, struct error *err)
{
    struct source *source = NULL;
    int result = -1;

    *err = (struct error){0};
    b->stats = (struct stats){0};
    b->writes = 0;
    b->expected = b->advanced = 0;
    buf_truncate(&b->payload, 0);
    buf_truncate(&b->ids, 0);
    buf_truncate(&b->log, 0);
    if (sqlite_source.open(&b->store, b->staging, &source, err) == 0)
        result = sqlite_source.backup(source, &b->run, err);
    sqlite_source.close(source);
    return result;
}

/* It must succeed, and leave neither a file nor a descriptor. */
static inline void base_backup(struct base *b)
{
    size_t fds = dir_count("/proc/self/fd");
    struct error err;

    if (base_try(b, &err) != 0)
        fail_msg("the backup failed: %s: %s", error_code_name(err.code), err.message);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(dir_count(b->staging), 0);
    assert_true(dir_count("/proc/self/fd") <= fds);
}

/* It must fail with this code, name `what`, and leave neither a file nor a descriptor. */
static inline void base_fails(struct base *b, enum error_code code, const char *what)
{
    size_t fds = dir_count("/proc/self/fd");
    struct error err;

    assert_int_equal(base_try(b, &err), -1);
    if (!strstr(err.message, what))
        fail_msg("\"%s\" does not say \"%s\"", err.message, what);
    assert_string_equal(error_code_name(err.code), error_code_name(code));
    assert_int_equal(dir_count(b->staging), 0);
    assert_true(dir_count("/proc/self/fd") <= fds);
}

#endif
