/* SPDX-License-Identifier: MIT */
/*
 * test_prune.c - which old jobs go, in which order, and which never do.
 */
#include "fixture.h"

/* A finished job: `n` is the last part of its ULID and its time of end. */
static void add(struct fixture *f, int n, const char *kind, const char *repo, const char *state)
{
    bool succeeded = strcmp(state, "succeeded") == 0;
    __attribute__((cleanup(free_charp))) char *text =
        xasprintf("INSERT INTO jobs (ulid, kind, store, repo, state, requested_by, label,"
                  " created_at, started_at, finished_at, error_code, key)"
                  " VALUES (printf('%%026d', %d), '%s', 'app', '%s', '%s', 'uid:0', '', 1, 1, %d,"
                  " %s, 'key-%d')",
                  n, kind, repo, state, n, succeeded ? "NULL" : "'internal'", n);

    sql(f, text);
}

struct pruned {
    struct fixture *f;
    struct buf numbers;
};

/* What it is told of is gone already, and the catalog can be called. */
static void take_pruned(void *ctx, const char *ulid)
{
    struct pruned *p = ctx;
    struct fixture *f = p->f;
    struct job job;

    FAILS(catalog_job_get(f->c, ulid, &job, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_true(sqlite3_get_autocommit(f->c->sqlite));
    buf_addf(&p->numbers, "%d ", atoi(ulid));
}

/* The numbers of what went. */
static void assert_pruned(struct fixture *f, time_ms before, size_t limit, const char *expected)
{
    struct pruned p = {.f = f, .numbers = BUF_INIT};
    size_t count = 99, words = 0;

    OK(catalog_jobs_prune(f->c, before, limit, take_pruned, &p, &count, &f->err));
    assert_string_equal(buf_text(&p.numbers), expected);
    for (const char *c = expected; *c; c++)
        words += *c == ' ';
    assert_int_equal(count, words);
    buf_release(&p.numbers);
}

static void oldest_go_first_and_no_more_than_the_limit(void **state)
{
    struct fixture *f = *state;
    static const int order[] = {5, 3, 9, 1, 7};

    for (size_t i = 0; i < 5; i++)
        add(f, order[i], "backup", "a", i % 2 ? "failed" : "interrupted");
    assert_pruned(f, 100, 2, "1 3 ");
    assert_int_equal(list_count(f, LIST_JOBS), 3);
    assert_pruned(f, 100, 2, "5 7 ");
    assert_pruned(f, 100, 2, "9 ");
    assert_pruned(f, 100, 2, "");
}

static void what_finished_at_the_bound_or_later_stays(void **state)
{
    struct fixture *f = *state;

    for (int i = 1; i <= 5; i++)
        add(f, i, "backup", "a", "failed");
    assert_pruned(f, 1, 10, "");
    assert_pruned(f, 3, 10, "1 2 ");
    reopen(f);
    assert_int_equal(list_count(f, LIST_JOBS), 3);
}

static void equal_times_go_in_the_order_of_rows(void **state)
{
    struct fixture *f = *state;

    for (int i = 9; i >= 1; i -= 2)
        add(f, i, "backup", "a", "failed");
    sql(f, "UPDATE jobs SET finished_at = 4");
    assert_pruned(f, 5, 3, "9 7 5 ");
}

static void pending_and_running_are_never_pruned(void **state)
{
    struct fixture *f = *state;
    struct job pending = job_in(f, JOB_PENDING), running = job_in(f, JOB_RUNNING);

    assert_pruned(f, INT64_MAX, 100, "");
    assert_int_equal(get_job(f, pending.ulid).state, JOB_PENDING);
    assert_int_equal(get_job(f, running.ulid).state, JOB_RUNNING);
}

static void newest_success_of_each_repo_and_kind_stays(void **state)
{
    struct fixture *f = *state;

    add(f, 1, "backup", "a", "succeeded");
    add(f, 2, "backup", "a", "succeeded");
    add(f, 3, "backup", "b", "succeeded");
    add(f, 4, "verify", "a", "succeeded");
    add(f, 5, "backup", "a", "failed");
    assert_pruned(f, 100, 100, "1 5 ");
    add(f, 6, "backup", "a", "succeeded");
    assert_pruned(f, 100, 100, "2 ");
    sql(f, "UPDATE jobs SET store = 'web' WHERE repo = 'b'; UPDATE jobs SET repo = 'a'");
    assert_pruned(f, 100, 100, "");
}

/* Made while the clock was a year ahead: it is not the newest success for a year. */
static void newest_is_the_one_that_was_made_last_whatever_the_clock_said(void **state)
{
    struct fixture *f = *state;

    add(f, 50, "backup", "a", "succeeded");
    add(f, 2, "backup", "a", "succeeded");
    assert_pruned(f, 10, 100, "");
    assert_pruned(f, 100, 100, "50 ");
}

static void spared_jobs_do_not_use_up_the_limit(void **state)
{
    struct fixture *f = *state;

    for (int i = 1; i <= 20; i++) {
        char repo[16];
        snprintf(repo, sizeof repo, "r%d", i);
        add(f, i, "backup", repo, "succeeded");
    }
    add(f, 30, "backup", "a", "failed");
    add(f, 31, "backup", "a", "failed");
    assert_pruned(f, 100, 2, "30 31 ");
}

static void record_outlives_its_job(void **state)
{
    struct fixture *f = *state;
    struct job first = job_in(f, JOB_SUCCEEDED), second = job_in(f, JOB_SUCCEEDED);
    struct record r;
    size_t count;
    struct pruned p = {.f = f, .numbers = BUF_INIT};

    OK(catalog_jobs_prune(f->c, NOW + 100, 100, take_pruned, &p, &count, &f->err));
    assert_int_equal(count, 1);
    buf_release(&p.numbers);
    OK(catalog_record_get(f->c, first.record, &r, &f->err));
    assert_string_equal(r.job, "");
    assert_int_equal(r.job_row, 0);
    OK(catalog_record_get(f->c, second.record, &r, &f->err));
    assert_string_equal(r.job, second.ulid);
}

static void key_of_a_pruned_job_can_be_used_again(void **state)
{
    struct fixture *f = *state;
    struct job again = new_job("app", "a");

    add(f, 1, "backup", "a", "failed");
    snprintf(again.key, sizeof again.key, "key-1");
    FAILS(catalog_jobs_create(f->c, &again, 1, &f->err), ERR_INVALID, EEXIST);
    assert_pruned(f, 100, 100, "1 ");
    OK(catalog_jobs_create(f->c, &again, 1, &f->err));
}

static void no_event_tells_of_pruning(void **state)
{
    struct fixture *f = *state;
    struct heard heard = {.lines = BUF_INIT};

    add(f, 1, "backup", "a", "failed");
    catalog_on_event(f->c, hear, &heard);
    assert_pruned(f, 100, 100, "1 ");
    assert_int_equal(heard.count, 0);
}

static void nobody_is_told_of_what_was_not_committed(void **state)
{
    struct fixture *f = *state;
    struct pruned p = {.f = f, .numbers = BUF_INIT};
    size_t count = 99;

    add(f, 1, "backup", "a", "failed");
    sql(f, "PRAGMA query_only = ON");
    FAILS(catalog_jobs_prune(f->c, 100, 100, take_pruned, &p, &count, &f->err),
          ERR_STATE_UNAVAILABLE, EIO);
    assert_int_equal(p.numbers.len, 0);
    assert_int_equal(count, 99);
    sql(f, "PRAGMA query_only = OFF");
    assert_pruned(f, 100, 100, "1 ");
}

static void batch_costs_what_it_deletes_not_what_there_is(void **state)
{
    struct fixture *f = *state;
    struct pruned p = {.f = f, .numbers = BUF_INIT};
    size_t count;

    /* Spared, and to know that takes a search among all that came after it. */
    add(f, 0, "backup", "quiet", "succeeded");
    sql(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
           " INSERT INTO jobs (ulid, kind, store, repo, state, requested_by, label, created_at,"
           " started_at, finished_at) SELECT printf('%026d', i), 'backup', 'app', 'a',"
           " 'succeeded', '', '', 1, 1, i FROM n");
    OK(catalog_jobs_prune(f->c, 100000, 100, take_pruned, &p, &count, &f->err));
    assert_int_equal(count, 100);
    buf_release(&p.numbers);
    for (int id = SQL_JOBS_OLDEST; id <= SQL_JOB_DELETE; id++)
        if (sqlite3_stmt_status(f->c->statements[id], SQLITE_STMTSTATUS_VM_STEP, 0) > 100 * 100)
            fail_msg("%s", sqlite3_sql(f->c->statements[id]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(oldest_go_first_and_no_more_than_the_limit),
        TEST(what_finished_at_the_bound_or_later_stays),
        TEST(equal_times_go_in_the_order_of_rows),
        TEST(pending_and_running_are_never_pruned),
        TEST(newest_success_of_each_repo_and_kind_stays),
        TEST(newest_is_the_one_that_was_made_last_whatever_the_clock_said),
        TEST(spared_jobs_do_not_use_up_the_limit),
        TEST(record_outlives_its_job),
        TEST(key_of_a_pruned_job_can_be_used_again),
        TEST(no_event_tells_of_pruning),
        TEST(nobody_is_told_of_what_was_not_committed),
        TEST(batch_costs_what_it_deletes_not_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
