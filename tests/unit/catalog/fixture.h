/* SPDX-License-Identifier: MIT */
/*
 * fixture.h - what the catalog's tests share: a catalog in a directory of its own, sample rows,
 * and children that may be killed.
 */
#ifndef KEEPFS_TESTS_CATALOG_FIXTURE_H
#define KEEPFS_TESTS_CATALOG_FIXTURE_H

/* cmocka.h needs these four, in this order. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "catalog/db.h"
#include "util/fsutil.h"
#include "util/ulid.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW ((time_ms)1795242628123) /* 2026-11-21T06:30:28.123Z */

struct fixture {
    char dir[256], path[300];
    struct catalog *c;
    struct error err;
};

__attribute__((unused)) static int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");

    snprintf(f->dir, sizeof f->dir, "%s/keepfs-catalog-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(f->dir)) {
        free(f);
        return -1;
    }
    snprintf(f->path, sizeof f->path, "%s/keepfs.db", f->dir);
    f->c = catalog_open(f->path, &f->err);
    *state = f;
    if (f->c)
        return 0;
    fprintf(stderr, "cannot open the catalog: %s\n", f->err.message);
    dir_clear(f->dir);
    rmdir(f->dir);
    free(f);
    return -1;
}

__attribute__((unused)) static int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    catalog_close(f->c);
    int result = dir_clear(f->dir) | rmdir(f->dir);
    free(f);
    return result;
}

__attribute__((unused)) static void reopen(struct fixture *f)
{
    catalog_close(f->c);
    f->c = catalog_open(f->path, &f->err);
    if (!f->c)
        fail_msg("reopen: %s", f->err.message);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* A call that has to work, with its message if it does not. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, f->err.message);                                             \
    } while (0)

/* A call that has to fail in this way. */
#define FAILS(call, wanted_code, wanted_errnum)                                                    \
    do {                                                                                           \
        memset(&f->err, 0, sizeof f->err);                                                         \
        assert_int_equal((call), -1);                                                              \
        if (f->err.code != (wanted_code) || f->err.errnum != (wanted_errnum))                      \
            fail_msg("%s: %s (code %s, errno %d)", #call, f->err.message,                          \
                     error_code_name(f->err.code), f->err.errnum);                                 \
    } while (0)

#define MESSAGE_HAS(text) assert_non_null(strstr(f->err.message, (text)))

/* Runs SQL of the test's own on the catalog's connection. */
__attribute__((unused)) static void sql(struct fixture *f, const char *text)
{
    if (sqlite3_exec(f->c->sqlite, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(f->c->sqlite));
}

__attribute__((unused)) static int64_t sql_int(struct fixture *f, const char *text)
{
    sqlite3_stmt *s = NULL;

    assert_int_equal(sqlite3_prepare_v2(f->c->sqlite, text, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return value;
}

__attribute__((unused)) static struct job new_job(const char *store, const char *repo)
{
    struct job job = {.created_at = NOW, .kind = "backup", .requested_by = "uid:1000"};

    ulid_new(NOW, job.ulid);
    snprintf(job.store, sizeof job.store, "%s", store);
    snprintf(job.repo, sizeof job.repo, "%s", repo);
    return job;
}

__attribute__((unused)) static struct record new_record(const char *store, const char *repo)
{
    struct record r = {
        .store_kind = "directory",
        .created_at = NOW,
        .size_bytes = 12345678901,
        .content_bytes = 12345678900,
        .manifest_bytes = 640,
        .payload_id_count = 3,
        .payload_ids_bytes = 42,
    };

    ulid_new(NOW, r.ulid);
    snprintf(r.store, sizeof r.store, "%s", store);
    snprintf(r.repo, sizeof r.repo, "%s", repo);
    memset(r.sha256, 'a', 64);
    return r;
}

__attribute__((unused)) static struct error why(enum error_code code, int errnum)
{
    struct error e;

    error_set(&e, code, "the reason of %s", error_code_name(code));
    e.errnum = errnum;
    return e;
}

/* Stores a job and brings it into `state`; its record is new too. */
__attribute__((unused)) static struct job job_in(struct fixture *f, enum job_state state)
{
    struct job job = new_job("app", "nightly");
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};
    struct error e = why(ERR_SOURCE_UNAVAILABLE, EIO);

    stats_add(&stats, "content_bytes", 7);
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    if (state != JOB_PENDING)
        OK(catalog_job_start(f->c, job.ulid, r.ulid, NOW + 1, &f->err));
    if (state == JOB_SUCCEEDED)
        OK(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW + 2, &f->err));
    if (state == JOB_FAILED || state == JOB_INTERRUPTED)
        OK(catalog_job_fail(f->c, job.ulid, state, &e, &stats, NOW + 2, &f->err));
    OK(catalog_job_get(f->c, job.ulid, &job, &f->err));
    assert_int_equal(job.state, state);
    return job;
}

__attribute__((unused)) static struct job get_job(struct fixture *f, const char *ulid)
{
    struct job job;

    OK(catalog_job_get(f->c, ulid, &job, &f->err));
    return job;
}

__attribute__((unused)) static void assert_same_job(const struct job *a, const struct job *b)
{
    /* Both were cleared before they were filled. */
    assert_memory_equal(a, b, sizeof *a);
}

/* ---- records ---- */

__attribute__((unused)) static struct record stored_record(struct fixture *f, const char *repo)
{
    struct record r = new_record("app", repo);
    bool adopted;

    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    OK(catalog_record_get(f->c, r.ulid, &r, &f->err));
    return r;
}

__attribute__((unused)) static enum record_state state_of(struct fixture *f, const char *ulid)
{
    struct record r;
    enum record_state word;

    OK(catalog_record_find(f->c, ulid, &r, &word, &f->err));
    return word;
}

/* All rows of all tables of the file, as text; the caller frees it. */
__attribute__((unused)) static char *dump(struct fixture *f)
{
    static const char *const tables[] = {"jobs",  "records", "stores",         "repos",
                                         "ticks", "places",  "sqlite_sequence"};
    struct buf out = BUF_INIT;

    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        __attribute__((cleanup(free_charp))) char *query = xasprintf("SELECT * FROM %s", tables[t]);
        sqlite3_stmt *s = NULL;
        assert_int_equal(sqlite3_prepare_v2(f->c->sqlite, query, -1, &s, NULL), SQLITE_OK);
        buf_addf(&out, "%s\n", tables[t]);
        while (sqlite3_step(s) == SQLITE_ROW) {
            for (int i = 0; i < sqlite3_column_count(s); i++) {
                const char *text = (const char *)sqlite3_column_text(s, i);
                buf_addf(&out, "%s|", text ? text : "null");
            }
            buf_adds(&out, "\n");
        }
        sqlite3_finalize(s);
    }
    return buf_steal(&out);
}

/* ---- events ---- */

/* A listener: a line for each event, "1 job ULID pending>running\n", and whether they were in
 * order. Its lines are read when nothing is under way. */
struct heard {
    struct buf lines;
    size_t count;
    struct catalog_event last;
};

__attribute__((unused)) static void hear(void *ctx, const struct catalog_event *e)
{
    struct heard *h = ctx;

    assert_true(h->count == 0 || e->seq == h->last.seq + 1);
    h->count++;
    h->last = *e;
    buf_addf(&h->lines, "%s %s %s>%s\n", e->object == OBJECT_JOB ? "job" : "record", e->ulid,
             e->from, e->to);
}

/* A callback that counts and keeps the last entry. */
struct listing {
    size_t count, stop_after; /* 0 = never */
    int64_t last;
    char name[80];
};

__attribute__((unused)) static bool count_entry(void *ctx, const struct catalog_entry *e)
{
    struct listing *l = ctx;

    assert_true(e->row > l->last);
    l->last = e->row;
    l->count++;
    snprintf(l->name, sizeof l->name, "%s", e->name);
    return l->count != l->stop_after;
}

__attribute__((unused)) static size_t list_count(struct fixture *f, enum catalog_list what)
{
    struct listing l = {.count = 0};

    OK(catalog_list(f->c, what, 0, count_entry, &l, &f->err));
    return l.count;
}

/* Counts in an int, without expectations: for threads and children. */
__attribute__((unused)) static bool count_any(void *ctx, const struct catalog_entry *e)
{
    (void)e;
    ++*(int *)ctx;
    return true;
}

/* 'S' while it waits for something. */
__attribute__((unused)) static char thread_state(pid_t tid)
{
    char path[64], text[512] = "";

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd_pread_all(fd, text, sizeof text - 1, 0);
    close(fd);
    const char *end = n > 0 ? strrchr(text, ')') : NULL;
    return end ? end[2] : '?';
}

/* In a child nothing of cmocka works: a failed expectation is a message and an exit status. */
#define CHILD_EXPECT(what)                                                                         \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: child: %s (%s)\n", __FILE__, __LINE__, #what, f->err.message); \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Runs `fn` in a child and gives its wait status. The catalog is closed meanwhile: a connection
 * must not be carried across a fork. */
__attribute__((unused)) static int in_child(struct fixture *f, void (*fn)(struct fixture *))
{
    int status;

    catalog_close(f->c);
    f->c = NULL;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fn(f);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    f->c = catalog_open(f->path, &f->err);
    if (!f->c)
        fail_msg("reopen: %s", f->err.message);
    return status;
}

/* For sqlite3_commit_hook: everything is written but the commit. */
__attribute__((unused)) static int die_before_commit(void *ctx)
{
    (void)ctx;
    raise(SIGKILL);
    return 1;
}

#endif
