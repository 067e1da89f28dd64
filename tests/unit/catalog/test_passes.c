/* SPDX-License-Identifier: MIT */
/*
 * test_passes.c - reading all records of a repo beside everybody else, and the sizes before one.
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MANY = 1000 };

/* Records `first` to `last` of app/many, three of them in each millisecond. */
static void make_range(struct fixture *f, const char *state, int first, int last)
{
    __attribute__((cleanup(free_charp))) char *text = xasprintf(
        "WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        " INSERT INTO records (ulid, store, store_kind, repo, created_at, size_bytes,"
        " content_bytes, sha256, manifest_bytes, payload_id_count, payload_ids_bytes, state)"
        " SELECT printf('%%026d', i), 'app', 'sqlite', 'many', i / 3, i, i, '', 1, 0, 0, '%s'"
        " FROM n",
        first, last, state);

    sql(f, text);
}

static void make_many(struct fixture *f, const char *state)
{
    make_range(f, state, 1, MANY);
}

static struct record many(int number)
{
    struct record r = {.row = 0};

    snprintf(r.ulid, sizeof r.ulid, "%026d", number);
    return r;
}

/* ---- order ---- */

static void expect_next(void *ctx, const struct record *r)
{
    int *left = ctx;
    struct record expected = many((*left)--);

    assert_string_equal(r->ulid, expected.ulid);
}

static void pass_gives_each_record_once_newest_first(void **state)
{
    struct fixture *f = *state;
    int left = MANY;

    stored_record(f, "other");
    make_many(f, "good");
    OK(catalog_records_newest(f->c, "app", "many", expect_next, &left, &f->err));
    assert_int_equal(left, 0);
}

static void take_row(void *ctx, const struct record *r)
{
    buf_addf(ctx, "%d ", (int)r->row);
}

static void newest_is_by_time_then_ulid_not_by_row(void **state)
{
    struct fixture *f = *state;
    struct buf order = BUF_INIT;

    make_many(f, "good");
    sql(f, "UPDATE records SET created_at = 0; UPDATE records SET created_at = 1 WHERE id = 7;"
           "UPDATE records SET ulid = replace(ulid, '0', 'Z') WHERE id = 3");
    OK(catalog_records_newest(f->c, "app", "many", take_row, &order, &f->err));
    assert_memory_equal(buf_text(&order), "7 3 1000 999 ", 13);
    buf_release(&order);
}

static void pass_has_good_records_of_that_repo_alone(void **state)
{
    struct fixture *f = *state;
    int left = 0;

    make_many(f, "missing");
    OK(catalog_records_newest(f->c, "app", "many", expect_next, &left, &f->err));
    sql(f, "UPDATE records SET state = 'deleting'");
    OK(catalog_records_newest(f->c, "app", "many", expect_next, &left, &f->err));
    sql(f, "UPDATE records SET state = 'good'");
    OK(catalog_records_newest(f->c, "app", "none", expect_next, &left, &f->err));
    OK(catalog_records_newest(f->c, "web", "many", expect_next, &left, &f->err));
    assert_int_equal(left, 0);
}

/* ---- beside others ---- */

struct meanwhile {
    struct fixture *f;
    struct job job;
    int result;
    int left;
};

static void *insert_one(void *ctx)
{
    struct meanwhile *m = ctx;
    struct error err;

    m->result = catalog_jobs_create(m->f->c, &m->job, 1, &err);
    return NULL;
}

static void insert_meanwhile(void *ctx, const struct record *r)
{
    struct meanwhile *m = ctx;
    pthread_t thread;

    if (m->left == MANY) {
        assert_int_equal(pthread_create(&thread, NULL, insert_one, m), 0);
        pthread_join(thread, NULL);
    }
    expect_next(&m->left, r);
}

static void another_thread_can_work_while_a_pass_calls_back(void **state)
{
    struct fixture *f = *state;
    struct meanwhile m = {.f = f, .job = new_job("app", "many"), .result = -1, .left = MANY};

    make_many(f, "good");
    OK(catalog_records_newest(f->c, "app", "many", insert_meanwhile, &m, &f->err));
    assert_int_equal(m.left, 0);
    assert_int_equal(m.result, 0);
    get_job(f, m.job.ulid);
}

static void delete_it(void *ctx, const struct record *r)
{
    struct meanwhile *m = ctx;
    struct fixture *f = m->f;

    OK(catalog_record_delete_begin(f->c, r->ulid, &f->err));
    expect_next(&m->left, r);
}

static void count_record(void *ctx, const struct record *r)
{
    (void)r;
    ++*(int *)ctx;
}

static void pass_may_delete_what_it_is_given(void **state)
{
    struct fixture *f = *state;
    struct meanwhile m = {.f = f, .left = MANY};
    int deleting = 0;

    make_many(f, "good");
    sql(f, "PRAGMA synchronous = OFF");
    OK(catalog_records_newest(f->c, "app", "many", delete_it, &m, &f->err));
    assert_int_equal(m.left, 0);
    OK(catalog_records_deleting(f->c, count_record, &deleting, &f->err));
    assert_int_equal(deleting, MANY);
}

struct waiter {
    struct catalog *c;
    atomic_int tid;
    atomic_bool had_it;
};

static void *wait_for_mutex(void *ctx)
{
    struct waiter *w = ctx;

    atomic_store(&w->tid, gettid());
    DB_HOLD(w->c);
    atomic_store(&w->had_it, true);
    return NULL;
}

static void one_who_waits_is_not_overtaken_by_who_lets_go(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        struct waiter w = {.c = f->c};
        pthread_t thread;
        struct catalog *held = db_hold(f->c);
        assert_int_equal(pthread_create(&thread, NULL, wait_for_mutex, &w), 0);
        while (atomic_load(&w.tid) == 0 || thread_state(atomic_load(&w.tid)) != 'S')
            sched_yield();
        db_release(&held);
        held = db_hold(f->c);
        bool had_it = atomic_load(&w.had_it);
        db_release(&held);
        pthread_join(thread, NULL);
        assert_true(had_it);
    }
}

/* ---- sizes ---- */

static void assert_sizes(struct fixture *f, int before, size_t wanted, const uint64_t *expected)
{
    uint64_t sizes[CATALOG_SIZES];
    struct record r = many(before);
    size_t count = 99;

    OK(catalog_record_sizes(f->c, "app", "many", r.ulid, sizes, &count, &f->err));
    assert_int_equal(count, wanted);
    for (size_t i = 0; i < count; i++)
        assert_true(sizes[i] == expected[i]);
}

static void sizes_are_those_of_the_five_records_before(void **state)
{
    struct fixture *f = *state;
    struct record other = stored_record(f, "other");

    make_many(f, "good");
    sql(f, "UPDATE records SET content_bytes = 9223372036854775807 WHERE ulid LIKE '%999'");
    assert_sizes(f, 1000, 5, (uint64_t[]){INT64_MAX, 998, 997, 996, 995});
    assert_sizes(f, 500, 5, (uint64_t[]){499, 498, 497, 496, 495});
    assert_sizes(f, 3, 2, (uint64_t[]){2, 1});
    assert_sizes(f, 1, 0, NULL);
    sql(f, "UPDATE records SET state = 'missing' WHERE ulid LIKE '%499';"
           "UPDATE records SET state = 'deleting' WHERE ulid LIKE '%500'");
    assert_sizes(f, 500, 5, (uint64_t[]){498, 497, 496, 495, 494});

    uint64_t sizes[CATALOG_SIZES];
    size_t count = 99;
    OK(catalog_record_sizes(f->c, "app", "other", other.ulid, sizes, &count, &f->err));
    assert_int_equal(count, 0);
    FAILS(catalog_record_sizes(f->c, "app", "many", "01ARZ3NDEKTSV4RRFFQ69G5FAV", sizes, &count,
                               &f->err),
          ERR_NOT_FOUND, ENOENT);
}

/* ---- steps ---- */

static void each_step_costs_the_same_however_many_records_there_are(void **state)
{
    struct fixture *f = *state;
    static const enum db_sql statements[] = {SQL_RECORDS_NEWEST, SQL_RECORDS_DELETING,
                                             SQL_RECORD_SIZES, SQL_RECORD_STATE};
    uint64_t sizes[CATALOG_SIZES];
    int count = 0;
    size_t n;

    make_range(f, "good", 1, 20 * MANY);
    struct record last;
    OK(catalog_record_latest(f->c, "app", "many", &last, &f->err));
    OK(catalog_record_delete_begin(f->c, last.ulid, &f->err));
    OK(catalog_record_sizes(f->c, "app", "many", last.ulid, sizes, &n, &f->err));
    OK(catalog_records_deleting(f->c, count_record, &count, &f->err));
    assert_int_equal(count, 1);
    OK(catalog_records_newest(f->c, "app", "none", count_record, &count, &f->err));
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (sqlite3_stmt_status(f->c->statements[statements[i]], SQLITE_STMTSTATUS_VM_STEP, 0) >
            500)
            fail_msg("%s", sqlite3_sql(f->c->statements[statements[i]]));
    /* A pass costs what its records cost. */
    OK(catalog_records_newest(f->c, "app", "many", count_record, &count, &f->err));
    assert_int_equal(count, 20 * MANY);
    assert_true(sqlite3_stmt_status(f->c->statements[SQL_RECORDS_NEWEST], SQLITE_STMTSTATUS_VM_STEP,
                                    0) < 100 * 20 * MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pass_gives_each_record_once_newest_first),
        TEST(newest_is_by_time_then_ulid_not_by_row),
        TEST(pass_has_good_records_of_that_repo_alone),
        TEST(another_thread_can_work_while_a_pass_calls_back),
        TEST(pass_may_delete_what_it_is_given),
        TEST(one_who_waits_is_not_overtaken_by_who_lets_go),
        TEST(sizes_are_those_of_the_five_records_before),
        TEST(each_step_costs_the_same_however_many_records_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
