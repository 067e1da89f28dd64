/* SPDX-License-Identifier: MIT */
/*
 * test_recovery_failures.c - a start at which the catalog, a repo or the state fails: only what
 * cannot be put right stops it, the log says the rest, and nothing is given up that could not be
 * looked at.
 *
 * The catalog fails by SQLite's own authorizer, which refuses one use of one column.
 */
#include "fixture.h"

#include "catalog/db.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/syscall.h>

/* ---- what fails ---- */

static struct {
    int action; /* SQLITE_READ, ...; 0 = nothing is refused */
    const char *table, *column;
} refused;
static const char *unlink_fails;    /* of a file with this name */
static const char *directory_fails; /* opendir of this path */

static int authorize(void *ctx, int action, const char *table, const char *column,
                     const char *database, const char *trigger)
{
    (void)ctx;
    (void)database;
    (void)trigger;
    if (action != refused.action || !table || strcmp(table, refused.table) != 0)
        return SQLITE_OK;
    return !refused.column || (column && strcmp(column, refused.column) == 0) ? SQLITE_DENY
                                                                              : SQLITE_OK;
}

/* Statements that are prepared already are asked again. */
static void refuse(struct fixture *f, int action, const char *table, const char *column)
{
    refused.action = action;
    refused.table = table;
    refused.column = column;
    assert_int_equal(sqlite3_set_authorizer(f->catalog->sqlite, authorize, NULL), SQLITE_OK);
}

int unlinkat(int fd, const char *path, int flags)
{
    if (unlink_fails && strcmp(path, unlink_fails) == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_unlinkat, fd, path, flags);
}

DIR *opendir(const char *path)
{
    DIR *(*real)(const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "opendir");
    if (directory_fails && strcmp(path, directory_fails) == 0) {
        errno = EMFILE;
        return NULL;
    }
    return real(path);
}

/* ---- a start ---- */

static int setup(void **state)
{
    struct fixture *f = fixture_make();

    add_repo(f, add_store(f, "web", 0), "main");
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    refused.action = 0;
    unlink_fails = directory_fails = NULL;
    return fixture_teardown(state);
}

static void reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

/* What service_recover gives; the log has what it wrote. The caller releases it. */
static int recover(struct fixture *f, struct buf *log, struct error *err)
{
    SCOPED_PATH(path, f, "log");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), stderr_fd = dup(STDERR_FILENO);

    assert_true(fd >= 0 && stderr_fd >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    int result = service_recover(f->service, err);
    assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
    close(stderr_fd);
    close(fd);
    __attribute__((cleanup(free_charp))) char *text = read_file(path);
    buf_truncate(log, 0);
    buf_adds(log, text);
    return result;
}

/* A start that goes on, and says this. */
static void expect_started(struct fixture *f, const char *said)
{
    struct buf log = BUF_INIT;
    struct error err = {.message = ""};

    if (recover(f, &log, &err) != 0)
        fail_msg("%s", err.message);
    if (!strstr(buf_text(&log), said))
        fail_msg("\"%s\" is not in the log:\n%s", said, buf_text(&log));
    buf_release(&log);
}

static bool is_listed(struct fixture *f, const char *ulid)
{
    struct record record;
    struct error err;

    return catalog_record_get(f->catalog, ulid, &record, &err) == 0;
}

/* A daemon that made one backup has ended; the next one has its catalog open. */
static struct record back_up_once(struct fixture *f)
{
    fixture_start(f);
    struct record record = back_up(f, "web");
    reopen(f);
    return record;
}

static void sql(struct fixture *f, const char *text)
{
    char *message = NULL;

    if (sqlite3_exec(f->catalog->sqlite, text, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", text, message);
}

static char *payload_of(struct fixture *f, const struct record *r)
{
    return path_in(f, "web-main/%s/payload.bin", r->ulid);
}

/* ---- the catalog ---- */

static void an_archive_that_cannot_be_adopted_waits_for_the_next_start(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_once(f);
    __attribute__((cleanup(free_charp))) char *payload = payload_of(f, &r);

    sql(f, "DELETE FROM records");
    refuse(f, SQLITE_INSERT, "records", NULL);
    expect_started(f, "cannot be adopted");
    assert_false(is_listed(f, r.ulid));
    assert_true(exists(payload));
    reopen(f);
    expect_started(f, "adopted");
    assert_true(is_listed(f, r.ulid));
}

/* The deletion took the record first and died. */
static void an_archive_that_is_being_deleted_is_not_adopted(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_once(f);
    struct buf log = BUF_INIT;
    enum record_state state_now;
    struct error err;

    sql(f, "UPDATE records SET state = 'deleting'");
    assert_int_equal(recover(f, &log, &err), 0);
    assert_null(strstr(buf_text(&log), "adopted"));
    assert_false(is_listed(f, r.ulid));
    assert_int_equal(catalog_record_find(f->catalog, r.ulid, &r, &state_now, &err), 0);
    assert_int_equal(state_now, RECORD_DELETING);
    buf_release(&log);
}

/* Each of these is asked or written while records are compared with archives. */
static void records_stay_where_the_comparison_cannot_be_made(void **state)
{
    static const struct {
        int action;
        const char *table, *column;
    } cases[] = {
        {SQLITE_READ, "places", "place"},
        {SQLITE_UPDATE, "records", "state"},
    };
    struct fixture *f = *state;
    struct record r = back_up_once(f);
    SCOPED_PATH(archive, f, "web-main/%s", r.ulid);
    SCOPED_PATH(aside, f, "aside");

    assert_int_equal(rename(archive, aside), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuse(f, cases[i].action, cases[i].table, cases[i].column);
        expect_started(f, "web/main: not reconciled: ");
        assert_true(is_listed(f, r.ulid));
        reopen(f);
    }
    expect_started(f, "1 records have no archive");
    assert_false(is_listed(f, r.ulid));
    assert_int_equal(rename(aside, archive), 0);
}

/* It was recognised, but that cannot be noted: nothing is concluded from it. */
static void records_stay_where_the_place_cannot_be_noted(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_once(f);

    sql(f, "DELETE FROM places");
    sql(f, "UPDATE records SET ulid = '01HXYZ0123456789ABCDEFGHJ1'");
    refuse(f, SQLITE_INSERT, "places", NULL);
    expect_started(f, "web/main: not reconciled: ");
    assert_true(is_listed(f, "01HXYZ0123456789ABCDEFGHJ1"));
    assert_true(is_listed(f, r.ulid)); /* adopted: that came before */
    reopen(f);
    expect_started(f, "1 records have no archive");
    assert_false(is_listed(f, "01HXYZ0123456789ABCDEFGHJ1"));
}

/* A first backup makes a repo that is absent, but only where it is sure that it is the first. */
static void an_absent_repo_is_told_where_the_catalog_cannot_say_that_it_is_new(void **state)
{
    struct fixture *f = *state;

    refuse(f, SQLITE_READ, "places", "place");
    expect_started(f, "web/main: not reconciled: ");
    SCOPED_PATH(repo, f, "web-main");
    assert_false(exists(repo));
}

static void jobs_that_cannot_be_ended_stop_the_start(void **state)
{
    struct fixture *f = *state;
    struct buf log = BUF_INIT;
    struct error err;

    fixture_recover(f);
    struct run_reply reply = run_ok(f, "web");
    live_stop(&f->service->live); /* as a kill: the row stays as it is */
    live_clear(&f->service->live);
    service_free(f->service);
    catalog_close(f->catalog);
    fixture_open(f);
    sql(f, "PRAGMA query_only = ON");
    assert_int_equal(recover(f, &log, &err), -1);
    assert_int_equal(err.code, ERR_STATE_UNAVAILABLE);
    assert_non_null(strstr(err.message, "cannot be marked as interrupted"));
    expect_state(f, reply.jobs[0].job, JOB_PENDING);
    sql(f, "PRAGMA query_only = OFF");
    assert_int_equal(recover(f, &log, &err), 0);
    expect_state(f, reply.jobs[0].job, JOB_INTERRUPTED);
    buf_release(&log);
}

static void logs_stay_where_the_catalog_cannot_say_whose_they_are(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    SCOPED_PATH(stray, f, "state/logs/01HXYZ0123456789ABCDEFGHJ1.log");
    write_file(stray, "x");
    reopen(f);
    refuse(f, SQLITE_READ, "jobs", "label");
    expect_started(f, "");
    assert_true(exists(stray));
    reopen(f);
    expect_started(f, "");
    assert_false(exists(stray));
}

/* ---- repos ---- */

static void foreign_files_in_a_leftover_do_not_stop_the_reconciling(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_once(f);
    SCOPED_PATH(partial, f, "web-main/01HXYZ0123456789ABCDEFGHJ1.tmp");
    SCOPED_PATH(foreign, f, "web-main/01HXYZ0123456789ABCDEFGHJ1.tmp/sub");

    sql(f, "DELETE FROM records");
    assert_int_equal(mkdir(partial, 0700), 0);
    assert_int_equal(mkdir(foreign, 0700), 0);
    expect_started(f, "web/main: leftovers are not removed: ");
    assert_true(exists(foreign));
    assert_true(is_listed(f, r.ulid));
}

static void a_repo_that_cannot_be_listed_keeps_its_records(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_once(f);
    SCOPED_PATH(manifest, f, "web-main/%s/manifest.yaml", r.ulid);
    SCOPED_PATH(aside, f, "aside");

    assert_int_equal(rename(manifest, aside), 0);
    assert_int_equal(mkdir(manifest, 0700), 0);
    expect_started(f, "web/main: not reconciled: cannot list the archives: ");
    assert_true(is_listed(f, r.ulid));
}

/* ---- the state ---- */

static void a_place_for_logs_that_cannot_be_made_stops_the_start(void **state)
{
    struct fixture *f = *state;
    struct buf log = BUF_INIT;
    struct error err;
    SCOPED_PATH(logs, f, "state/logs");

    write_file(logs, "a file in its place");
    assert_int_equal(recover(f, &log, &err), -1);
    assert_int_equal(err.code, ERR_STATE_UNAVAILABLE);
    assert_non_null(strstr(err.message, logs));
    buf_release(&log);
}

static void leftovers_in_the_state_do_not_stop_the_start(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    SCOPED_PATH(logs, f, "state/logs");
    SCOPED_PATH(stray, f, "state/logs/01HXYZ0123456789ABCDEFGHJ1.log");
    SCOPED_PATH(odd, f, "state/logs/no-ulid-but-as-long-as-one.log");
    SCOPED_PATH(leftover, f, "state/staging/leftover");
    write_file(stray, "x");
    write_file(odd, "x");
    write_file(leftover, "x");
    reopen(f);
    unlink_fails = "leftover";
    directory_fails = logs;
    expect_started(f, "not all leftovers can be removed");
    assert_true(exists(leftover));
    assert_true(exists(stray));
    unlink_fails = directory_fails = NULL;
    reopen(f);
    expect_started(f, "");
    assert_false(exists(leftover));
    assert_false(exists(stray));
    assert_true(exists(odd));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_archive_that_cannot_be_adopted_waits_for_the_next_start),
        TEST(an_archive_that_is_being_deleted_is_not_adopted),
        TEST(records_stay_where_the_comparison_cannot_be_made),
        TEST(records_stay_where_the_place_cannot_be_noted),
        TEST(an_absent_repo_is_told_where_the_catalog_cannot_say_that_it_is_new),
        TEST(jobs_that_cannot_be_ended_stop_the_start),
        TEST(logs_stay_where_the_catalog_cannot_say_whose_they_are),
        TEST(foreign_files_in_a_leftover_do_not_stop_the_reconciling),
        TEST(a_repo_that_cannot_be_listed_keeps_its_records),
        TEST(a_place_for_logs_that_cannot_be_made_stops_the_start),
        TEST(leftovers_in_the_state_do_not_stop_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
