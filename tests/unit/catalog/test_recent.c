/* SPDX-License-Identifier: MIT */
/*
 * test_recent.c - a job that was read a moment ago is not read again, unless anything has changed.
 */
#include "fixture.h"

static int reads(struct fixture *f)
{
    return sqlite3_stmt_status(f->c->statements[SQL_JOB_AT], SQLITE_STMTSTATUS_RUN, 0) +
           sqlite3_stmt_status(f->c->statements[SQL_JOB_GET], SQLITE_STMTSTATUS_RUN, 0);
}

static struct job at(struct fixture *f, int64_t row)
{
    struct job job;

    OK(catalog_job_at(f->c, row, &job, &f->err));
    return job;
}

static void what_was_read_is_given_again_by_row_and_by_ulid(void **state)
{
    struct fixture *f = *state;
    struct job first = job_in(f, JOB_RUNNING), second = job_in(f, JOB_SUCCEEDED);
    bool spared = false;

    /* A copy lasts for a moment only, and the test may be slower; but not each time. */
    for (int i = 0; i < 1000 && !spared; i++) {
        struct job a = at(f, first.row), b = get_job(f, second.ulid);
        int before = reads(f);
        struct job c = get_job(f, first.ulid), d = at(f, second.row);
        spared = reads(f) == before;
        assert_same_job(&a, &c);
        assert_same_job(&b, &d);
        assert_string_equal(c.ulid, first.ulid);
        assert_string_equal(d.ulid, second.ulid);
    }
    assert_true(spared);
}

static void ignore_pruned(void *ctx, const char *ulid)
{
    (void)ctx;
    (void)ulid;
}

static void every_change_is_seen_at_once(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("app", "nightly");
    struct record r = new_record("app", "nightly");
    struct job_progress p = {.percent = 42, .done = 10, .expected = 20};
    struct stats stats = {.count = 0};
    size_t count;

    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    assert_int_equal(at(f, job.row).state, JOB_PENDING);
    OK(catalog_job_start(f->c, job.ulid, r.ulid, NOW + 1, &f->err));
    assert_int_equal(at(f, job.row).state, JOB_RUNNING);
    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    assert_int_equal(at(f, job.row).progress, 42);
    p.done++; /* no percent more */
    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    assert_int_equal(at(f, job.row).stats.items[0].value, 11);
    OK(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW + 2, &f->err));
    assert_int_equal(at(f, job.row).state, JOB_SUCCEEDED);
    assert_int_not_equal(get_job(f, job.ulid).record_row, 0);
    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    assert_int_equal(at(f, job.row).record_row, 0);
    OK(catalog_record_delete_end(f->c, r.ulid, &f->err));
    job = job_in(f, JOB_FAILED);
    at(f, job.row);
    OK(catalog_jobs_prune(f->c, NOW + 100, 100, ignore_pruned, NULL, &count, &f->err));
    FAILS(catalog_job_at(f->c, job.row, &job, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_get(f->c, job.ulid, &job, &f->err), ERR_NOT_FOUND, ENOENT);
}

/* What a transaction reads may be rolled back. */
static void what_was_rolled_back_is_not_seen(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_PENDING);

    sql(f, "BEGIN; UPDATE jobs SET label = 'never'");
    assert_string_equal(at(f, job.row).label, "never");
    sql(f, "ROLLBACK");
    assert_string_equal(at(f, job.row).label, "");
}

static void what_another_process_changed_is_seen_soon(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_PENDING);
    sqlite3 *other;

    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    at(f, job.row);
    assert_int_equal(sqlite3_exec(other, "UPDATE jobs SET label = 'x'", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(other);
    /* It is time alone that makes it seen, and nothing tells of that. */
    while (strcmp(at(f, job.row).label, "x") != 0)
        usleep(1000);
}

static void who_looks_beside_a_daemon_sees_all_at_once(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_PENDING), seen;
    struct catalog *look = catalog_open_look(f->path, &f->err);

    assert_non_null(look);
    for (int i = 0; i < 20; i++) {
        char label[32];
        snprintf(label, sizeof label, "%d", i);
        __attribute__((cleanup(free_charp))) char *text =
            xasprintf("UPDATE jobs SET label = '%s'", label);
        sql(f, text);
        OK(catalog_job_get(look, job.ulid, &seen, &f->err));
        assert_string_equal(seen.label, label);
    }
    catalog_close(look);
}

/* The oldest copies give way. */
static void more_jobs_than_are_kept_are_told_apart(void **state)
{
    enum { COUNT = 3 * LIMIT_RECENT_JOBS + 1 };
    struct fixture *f = *state;
    struct job jobs[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        jobs[i] = new_job("app", "nightly");
        OK(catalog_jobs_create(f->c, &jobs[i], 1, &f->err));
    }
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < COUNT; i++) {
            assert_string_equal(at(f, jobs[i].row).ulid, jobs[i].ulid);
            assert_int_equal(get_job(f, jobs[COUNT - 1 - i].ulid).row, jobs[COUNT - 1 - i].row);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_read_is_given_again_by_row_and_by_ulid),
        TEST(every_change_is_seen_at_once),
        TEST(what_was_rolled_back_is_not_seen),
        TEST(what_another_process_changed_is_seen_soon),
        TEST(who_looks_beside_a_daemon_sees_all_at_once),
        TEST(more_jobs_than_are_kept_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
