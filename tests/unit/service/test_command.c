/* SPDX-License-Identifier: MIT */
/*
 * test_command.c - run and cancel over a real catalog. Workers are started by those tests alone
 * that need them, so that jobs stay pending.
 */
#include "fixture.h"

#include <sqlite3.h>

/* app has the repos main and nas, web has main, and both are groups of their own. */
static int setup(void **state)
{
    struct fixture *f = fixture_make();
    struct store *app = add_store(f, "app", 0), *web = add_store(f, "web", 1);

    add_repo(f, app, "main");
    add_repo(f, app, "nas");
    add_repo(f, web, "main");
    fixture_open(f);
    fixture_recover(f);
    *state = f;
    return 0;
}

/* The line is refused, and no job comes of it. */
static void expect_refused(struct fixture *f, const char *line, enum error_code code, int errnum,
                           const char *word)
{
    size_t jobs = count_of(f, LIST_JOBS);
    struct run_reply reply;
    struct error err = {0};

    assert_int_equal(run_line(f, line, &reply, &err), -1);
    assert_string_equal(error_code_name(err.code), error_code_name(code));
    assert_string_equal(error_errno_name(err.errnum), error_errno_name(errnum));
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
    assert_int_equal(count_of(f, LIST_JOBS), jobs);
}

/* ---- run ---- */

static void a_run_is_a_pending_row_for_each_repo(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "app label=before the upgrade");

    assert_int_equal(reply.count, 2);
    assert_string_equal(reply.jobs[0].repo, "main");
    assert_string_equal(reply.jobs[1].repo, "nas");
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    for (size_t i = 0; i < 2; i++) {
        struct job job = job_of(f, reply.jobs[i].job);
        assert_true(ulid_valid(job.ulid));
        assert_int_equal(job.state, JOB_PENDING);
        assert_string_equal(job.kind, "backup");
        assert_string_equal(job.store, "app");
        assert_string_equal(job.repo, reply.jobs[i].repo);
        assert_string_equal(job.requested_by, "uid:7");
        assert_string_equal(job.label, "before the upgrade");
        assert_string_equal(job.key, "");
        assert_string_equal(job.record, "");
        assert_true(job.created_at >= 1795242628123);
        assert_true(job.started_at == 0 && job.finished_at == 0);
        assert_int_equal(job.progress, 0);
    }
    assert_true(strcmp(reply.jobs[0].job, reply.jobs[1].job) < 0);
}

static void a_single_repo_is_run_alone(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "app/nas");

    assert_int_equal(reply.count, 1);
    assert_string_equal(reply.jobs[0].repo, "nas");
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    run_ok(f, "app/main"); /* is free still */
}

static void what_is_not_configured_is_not_there(void **state)
{
    expect_refused(*state, "db", ERR_NOT_FOUND, ENOENT, "store db");
    expect_refused(*state, "db/main", ERR_NOT_FOUND, ENOENT, "store db");
    expect_refused(*state, "web/nas", ERR_NOT_FOUND, ENOENT, "web/nas");
}

static void a_busy_repo_is_refused_with_its_job(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "web");

    expect_refused(f, "web", ERR_BACKUP_ALREADY_RUNNING, EBUSY, reply.jobs[0].job);
    expect_refused(f, "web/main", ERR_BACKUP_ALREADY_RUNNING, EBUSY, reply.jobs[0].job);
}

static void a_line_is_all_or_nothing(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "app/nas");

    expect_refused(f, "app", ERR_BACKUP_ALREADY_RUNNING, EBUSY, reply.jobs[0].job);
    run_ok(f, "app/main"); /* was not taken by the refused line */
}

static void a_full_queue_is_refused(void **state)
{
    struct fixture *f = *state;

    fixture_close(f);
    set_key(f, "max_queue", "2");
    fixture_open(f);
    run_ok(f, "web");
    expect_refused(f, "app", ERR_QUEUE_FULL, EAGAIN, "max_queue");
    run_ok(f, "app/main");
    expect_refused(f, "app/nas", ERR_QUEUE_FULL, EAGAIN, "max_queue");
}

static void after_a_stop_nothing_is_accepted(void **state)
{
    struct fixture *f = *state;

    assert_true(service_stop(f->service, STOP_MS));
    expect_refused(f, "app", ERR_STOPPING, ESHUTDOWN, "stopping");
}

/* ---- keys ---- */

static void a_used_key_is_refused_although_its_job_is_pending(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "app/main key=nightly-1");

    assert_string_equal(job_of(f, reply.jobs[0].job).key, "nightly-1");
    /* Not EBUSY: whoever repeats a request has to learn that it was heard. */
    expect_refused(f, "app/main key=nightly-1", ERR_INVALID, EEXIST, reply.jobs[0].job);
    expect_refused(f, "web key=nightly-1", ERR_INVALID, EEXIST, reply.jobs[0].job);
    run_ok(f, "web key=nightly-2");
}

static void a_key_stays_used_when_its_job_has_ended(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "web key=k");
    struct error err;

    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    expect_refused(f, "web key=k", ERR_INVALID, EEXIST, reply.jobs[0].job);
    fixture_close(f);
    fixture_open(f);
    expect_refused(f, "web key=k", ERR_INVALID, EEXIST, reply.jobs[0].job);
}

static void a_key_stands_for_one_job(void **state)
{
    struct fixture *f = *state;

    expect_refused(f, "app key=k", ERR_INVALID, EINVAL, "2 repos");
    run_ok(f, "app/main key=k"); /* is not used up by that */
}

static void a_run_with_a_key_leaves_the_error_untouched(void **state)
{
    struct run_reply reply;
    struct error err = {.code = ERR_NONE, .message = "mine"};

    assert_int_equal(run_line(*state, "web key=k", &reply, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
    assert_string_equal(err.message, "mine");
}

/* ---- a catalog that cannot be written ---- */

/* A lock of somebody else's would do as well, but takes SQLite's time-out to notice. */
static void forbid_jobs(struct fixture *f, bool forbid)
{
    sqlite3 *other;

    assert_int_equal(sqlite3_open(f->database, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other,
                                  forbid ? "CREATE TRIGGER forbid BEFORE INSERT ON jobs"
                                           " WHEN new.repo = 'nas' BEGIN"
                                           " SELECT RAISE(ABORT, 'no room'); END"
                                         : "DROP TRIGGER forbid",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(other);
}

static void a_run_whose_rows_cannot_be_stored_leaves_nothing(void **state)
{
    struct fixture *f = *state;

    forbid_jobs(f, true);
    expect_refused(f, "app", ERR_INTERNAL, 0, "no room"); /* after the row of main was inserted */
    assert_null(f->service->live.first);
    forbid_jobs(f, false);
    run_ok(f, "app"); /* nothing is busy */
}

/* ---- cancel ---- */

static void a_pending_job_is_interrupted_when_cancel_returns(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "app");
    struct error err = {0};

    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:1000", &err), 0);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_int_equal(job.error.code, ERR_CANCELLED);
    assert_non_null(strstr(job.error.message, "cancelled by uid:1000"));
    assert_true(job.finished_at >= job.created_at);
    assert_int_equal(job.started_at, 0);
    expect_state(f, reply.jobs[1].job, JOB_PENDING);
    run_ok(f, "app/main"); /* free again */
}

static void a_finished_job_stays_as_it_is(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "web");
    struct error err = {0};

    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:1", &err), 0);
    struct job before = job_of(f, reply.jobs[0].job);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:2", &err), 0);
    struct job after = job_of(f, reply.jobs[0].job);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(err.code, ERR_NONE);
}

static void a_succeeded_job_stays_succeeded(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "web");
    struct error err;

    assert_int_equal(service_start(f->service, &err), 0);
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:1", &err), 0);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
}

static void an_unknown_job_cannot_be_cancelled(void **state)
{
    struct fixture *f = *state;
    struct error err;

    assert_int_equal(service_cancel(f->service, "01HXYZ0123456789ABCDEFGHJK", "uid:1", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(err.errnum, ENOENT);
}

static void forbid_ends(struct fixture *f, bool forbid)
{
    sqlite3 *other;

    assert_int_equal(sqlite3_open(f->database, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other,
                                  forbid ? "CREATE TRIGGER forbid BEFORE UPDATE OF state ON jobs"
                                           " BEGIN SELECT RAISE(ABORT, 'no room'); END"
                                         : "DROP TRIGGER forbid",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(other);
}

/* The cancel is not lost: whoever takes the job next finds it. */
static void a_cancel_that_cannot_be_stored_is_carried_out_later(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply = run_ok(f, "web");
    struct error err;

    forbid_ends(f, true);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:3", &err), 0);
    forbid_ends(f, false);
    expect_state(f, reply.jobs[0].job, JOB_PENDING);
    assert_int_equal(service_start(f->service, &err), 0);
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_int_equal(job.error.code, ERR_CANCELLED);
    assert_string_equal(job.error.message, "cancelled by uid:3");
}

/* ---- several threads ---- */

enum { THREADS = 16 };

struct caller {
    struct fixture *f;
    const char *line;
    pthread_barrier_t *barrier;
    int result;
    struct error err;
};

static void *run_at_once(void *ctx)
{
    struct caller *c = ctx;
    struct run_reply reply;

    pthread_barrier_wait(c->barrier);
    c->result = run_line(c->f, c->line, &reply, &c->err);
    return NULL;
}

/* How many of THREADS equal lines won; the others were refused with one of two errnos. */
static int run_from_all(struct fixture *f, const char *line, int errnum, int or_errnum)
{
    pthread_barrier_t barrier;
    pthread_t threads[THREADS];
    struct caller callers[THREADS];
    int winners = 0;

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.f = f, .line = line, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, run_at_once, &callers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        winners += callers[i].result == 0;
        if (callers[i].result != 0)
            assert_true(callers[i].err.errnum == errnum || callers[i].err.errnum == or_errnum);
    }
    pthread_barrier_destroy(&barrier);
    return winners;
}

static void of_many_callers_one_starts_the_repos(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run_from_all(f, "app", EBUSY, EBUSY), 1);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
}

static void of_many_callers_one_gets_the_key(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run_from_all(f, "web key=once", EEXIST, EBUSY), 1);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_is_a_pending_row_for_each_repo),
        TEST(a_single_repo_is_run_alone),
        TEST(what_is_not_configured_is_not_there),
        TEST(a_busy_repo_is_refused_with_its_job),
        TEST(a_line_is_all_or_nothing),
        TEST(a_full_queue_is_refused),
        TEST(after_a_stop_nothing_is_accepted),
        TEST(a_used_key_is_refused_although_its_job_is_pending),
        TEST(a_key_stays_used_when_its_job_has_ended),
        TEST(a_key_stands_for_one_job),
        TEST(a_run_with_a_key_leaves_the_error_untouched),
        TEST(a_run_whose_rows_cannot_be_stored_leaves_nothing),
        TEST(a_pending_job_is_interrupted_when_cancel_returns),
        TEST(a_finished_job_stays_as_it_is),
        TEST(a_succeeded_job_stays_succeeded),
        TEST(an_unknown_job_cannot_be_cancelled),
        TEST(a_cancel_that_cannot_be_stored_is_carried_out_later),
        TEST(of_many_callers_one_starts_the_repos),
        TEST(of_many_callers_one_gets_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
