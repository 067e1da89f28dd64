/* SPDX-License-Identifier: MIT */
/*
 * test_final_states.c - a state disk that fails while a job's end is to be stored, and a stop that
 * meets a command half way.
 *
 * The catalog's commits are made to fail by SQLite's commit hook, and those alone that a test
 * means: with the live job in a given phase. The hook runs on the thread that commits and tells
 * the test of every failure, so that nothing has to be guessed.
 */
#include "catalog/db.h"
#include "fixture.h"

#include <sched.h>
#include <sqlite3.h>

static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool failing;
    enum live_phase phase; /* commits fail while the first live job is in it */
    int failures;
    int budget; /* how many may fail; then all is well by itself */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Non-zero makes the commit a rollback. */
static int on_commit(void *ctx)
{
    struct live *l = &((struct fixture *)ctx)->service->live;

    pthread_mutex_lock(&l->lock);
    bool has_job = l->first != NULL;
    enum live_phase phase = has_job ? l->first->phase : LIVE_CLAIMED;
    pthread_mutex_unlock(&l->lock);

    pthread_mutex_lock(&disk.lock);
    bool fails = disk.failing && has_job && phase == disk.phase && disk.failures < disk.budget;
    disk.failures += fails;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
    return fails;
}

static void disk_fails(enum live_phase phase, int budget)
{
    pthread_mutex_lock(&disk.lock);
    disk.failing = true;
    disk.phase = phase;
    disk.budget = budget;
    disk.failures = 0;
    pthread_mutex_unlock(&disk.lock);
}

static void disk_works(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.failing = false;
    pthread_mutex_unlock(&disk.lock);
}

static void wait_failures(int failures)
{
    pthread_mutex_lock(&disk.lock);
    while (disk.failures < failures)
        pthread_cond_wait(&disk.changed, &disk.lock);
    pthread_mutex_unlock(&disk.lock);
}

static int setup(void **state)
{
    struct fixture *f = fixture_make();

    disk_works();
    add_repo(f, add_store(f, "app", 0), "main");
    set_key(f, "max_jobs", "1");
    fixture_open(f);
    fixture_recover(f);
    sqlite3_commit_hook(f->catalog->sqlite, on_commit, f);
    *state = f;
    return 0;
}

static void start(struct fixture *f)
{
    struct error err;

    assert_int_equal(service_start(f->service, &err), 0);
}

/* As the next start, with a disk that works. */
static void restart(struct fixture *f)
{
    disk_works();
    fixture_close(f);
    fixture_open(f);
    fixture_recover(f);
}

static int breaks(const struct store *store, struct source_run *run, struct error *err)
{
    (void)store;
    (void)run;
    return error_sys(err, SIDE_SOURCE, EIO, "/srv/app");
}

/* The name of the one archive there is in the repo, or "". */
static void find_archive(struct fixture *f, char ulid[ULID_LEN + 1])
{
    struct repo *repo = repo_of(f, "app", "main");
    struct archive_list list;
    struct destination *d;
    struct error err;

    assert_int_equal(repo->kind->open(&repo->settings, 0, &d, &err), 0);
    assert_int_equal(archive_list(d, &list, &err), 0);
    assert_in_range(list.count, 0, 1);
    snprintf(ulid, ULID_LEN + 1, "%s", list.count ? list.ids[0] : "");
    archive_list_free(&list);
    repo->kind->close(d);
}

/* ---- the disk fails ---- */

static void a_success_is_stored_when_the_disk_is_well_again(void **state)
{
    struct fixture *f = *state;

    disk_fails(LIVE_ENDING, 3);
    struct run_reply reply = run_ok(f, "app");
    start(f);
    wait_idle(f);
    assert_int_equal(disk.failures, 3);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    assert_int_not_equal(job.record_row, 0);
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
}

static void a_failure_is_stored_when_the_disk_is_well_again(void **state)
{
    struct fixture *f = *state;

    script = breaks;
    disk_fails(LIVE_ENDING, 3);
    struct run_reply reply = run_ok(f, "app");
    start(f);
    wait_idle(f);
    assert_int_equal(disk.failures, 3);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_SOURCE_UNAVAILABLE);
}

/* Not for ever: the archive is safe, and the job must not look as if it still ran. */
static void a_success_that_cannot_be_stored_becomes_a_failure_that_names_the_archive(void **state)
{
    struct fixture *f = *state;
    char ulid[ULID_LEN + 1];
    struct record record;
    struct error err;

    disk_fails(LIVE_ENDING, 12); /* more than a success is tried, and some of the failure's */
    struct run_reply reply = run_ok(f, "app");
    start(f);
    wait_idle(f);
    assert_int_equal(disk.failures, 12);
    find_archive(f, ulid);
    assert_true(ulid_valid(ulid));
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_non_null(strstr(job.error.message, ulid));
    assert_non_null(strstr(job.error.message, "adopt"));
    assert_int_equal(catalog_record_get(f->catalog, ulid, &record, &err), -1);

    restart(f);
    assert_int_equal(catalog_record_get(f->catalog, ulid, &record, &err), 0);
    expect_state(f, reply.jobs[0].job, JOB_FAILED); /* a final state stays */
}

static void a_job_that_cannot_be_started_fails_instead_of_waiting_for_ever(void **state)
{
    struct fixture *f = *state;
    char ulid[ULID_LEN + 1];

    run_ok(f, "app"); /* makes the repo, so that it can be listed */
    start(f);
    wait_idle(f);
    find_archive(f, ulid);
    disk_fails(LIVE_RUNNING, 1); /* the first commit of a job that a worker has is its start */
    struct run_reply reply = run_ok(f, "app");
    wait_idle(f);
    assert_int_equal(disk.failures, 1);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_string_equal(job.record, "");
    find_archive(f, (char[ULID_LEN + 1]){0}); /* the one from before, no second */
}

static void a_stop_does_not_wait_for_the_disk(void **state)
{
    struct fixture *f = *state;
    char ulid[ULID_LEN + 1];

    disk_fails(LIVE_ENDING, 1000000);
    struct run_reply reply = run_ok(f, "app");
    start(f);
    wait_failures(2);
    assert_true(service_stop(f->service, STOP_MS));
    find_archive(f, ulid);

    /* Whatever could be stored by then, the next start puts it right. */
    restart(f);
    struct job job = job_of(f, reply.jobs[0].job);
    struct record record;
    struct error err;
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_int_equal(catalog_record_get(f->catalog, ulid, &record, &err), 0);
    assert_int_equal(job.record_row, record.row);
}

static void a_failing_end_keeps_the_repo_busy(void **state)
{
    struct fixture *f = *state;
    struct run_reply second;
    struct error err;

    script = breaks;
    disk_fails(LIVE_ENDING, 1000000);
    struct run_reply reply = run_ok(f, "app");
    start(f);
    wait_failures(1);
    assert_int_equal(run_line(f, "app", &second, &err), -1);
    assert_int_equal(err.errnum, EBUSY);
    assert_non_null(strstr(err.message, reply.jobs[0].job));
    disk_works();
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_FAILED);
    run_ok(f, "app");
}

/* ---- a stop meets a command ---- */

struct command {
    struct fixture *f;
    struct run_reply reply;
    struct error err;
    int result;
};

static _Thread_local bool halts; /* this thread is the command's */

static bool has_live_job(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    bool has = l->first != NULL;
    pthread_mutex_unlock(&l->lock);
    return has;
}

/* The command's thread stands between its claim and its rows until the service is stopping. */
static time_ms halting_now(void *ctx)
{
    struct live *l = &((struct fixture *)ctx)->service->live;

    if (halts && has_live_job(l))
        live_wait_stop(l, STOP_MS);
    return fixture_now(ctx);
}

static void *run_command(void *ctx)
{
    struct command *c = ctx;

    halts = true;
    c->result = run_line(c->f, "app", &c->reply, &c->err);
    return NULL;
}

/* The mount still answers while the service stops, so a command may be anywhere. */
static void a_stop_in_the_middle_of_a_command_leaves_no_pending_job(void **state)
{
    struct fixture *f = *state;

    f->clock.now = halting_now;
    for (int round = 0; round < 30; round++) {
        struct command c = {.f = f};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_command, &c), 0);
        while (!has_live_job(&f->service->live))
            sched_yield();
        bool stopped = service_stop(f->service, STOP_MS);
        pthread_join(thread, NULL);
        service_interrupt(f->service);
        assert_true(stopped);
        if (c.result == 0)
            expect_state(f, c.reply.jobs[0].job, JOB_INTERRUPTED);
        else
            assert_int_equal(c.err.errnum, ESHUTDOWN);
        assert_int_equal(count_of(f, LIST_JOBS_ACTIVE), 0);
        service_free(f->service);
        f->service = service_new(f->config, f->catalog, &f->clock);
    }
    f->clock.now = fixture_now;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_success_is_stored_when_the_disk_is_well_again),
        TEST(a_failure_is_stored_when_the_disk_is_well_again),
        TEST(a_success_that_cannot_be_stored_becomes_a_failure_that_names_the_archive),
        TEST(a_job_that_cannot_be_started_fails_instead_of_waiting_for_ever),
        TEST(a_stop_does_not_wait_for_the_disk),
        TEST(a_failing_end_keeps_the_repo_busy),
        TEST(a_stop_in_the_middle_of_a_command_leaves_no_pending_job),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
