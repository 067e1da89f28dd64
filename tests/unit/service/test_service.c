/* SPDX-License-Identifier: MIT */
/*
 * test_service.c - workers over sources that a test holds and lets go: bounds, order, cancel, stop,
 * and what a finished job leaves.
 *
 * Nothing sleeps: a source says that it is there and waits for a word, a test waits until the
 * number of sources that are there is what it wants.
 */
#include "fixture.h"

#include <limits.h>
#include <signal.h>

enum { GROUPS = 8 };

/* What sources do and tests see. */
static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    int inside;  /* sources that are held now */
    int entered; /* all that ever were */
    int permits; /* how many may go on */
    int most;    /* that were inside at the same time */
    int in_group[GROUPS];
    bool overlap;                 /* two of one group were inside */
    char order[64][2 * LIMIT_ID]; /* "STORE", as they came */
} control = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void control_reset(void)
{
    control.inside = control.entered = control.permits = control.most = 0;
    control.overlap = false;
    memset(control.in_group, 0, sizeof control.in_group);
}

static void enter(const struct store *store)
{
    pthread_mutex_lock(&control.lock);
    snprintf(control.order[control.entered % 64], sizeof control.order[0], "%s", store->id);
    control.entered++;
    if (++control.inside > control.most)
        control.most = control.inside;
    if (++control.in_group[store->group] > 1)
        control.overlap = true;
    pthread_cond_broadcast(&control.changed);
    pthread_mutex_unlock(&control.lock);
}

static void leave(const struct store *store)
{
    pthread_mutex_lock(&control.lock);
    control.inside--;
    control.in_group[store->group]--;
    pthread_cond_broadcast(&control.changed);
    pthread_mutex_unlock(&control.lock);
}

/* Deaf to cancel until it is let go, like a hanging system call. */
static int held(const struct store *store, struct source_run *run, struct error *err)
{
    enter(store);
    pthread_mutex_lock(&control.lock);
    while (control.permits == 0)
        pthread_cond_wait(&control.changed, &control.lock);
    control.permits--;
    pthread_mutex_unlock(&control.lock);
    leave(store);
    return write_content(store, run, err);
}

/* Ends by cancel alone, in the middle of its stream. */
static int until_cancelled(const struct store *store, struct source_run *run, struct error *err)
{
    int result = write_content(store, run, err);

    enter(store);
    cancel_wait(run->cancel, INT_MAX);
    leave(store);
    return result == 0 ? cancel_check(run->cancel, err) : result;
}

static void let_go(int permits)
{
    pthread_mutex_lock(&control.lock);
    control.permits += permits;
    pthread_cond_broadcast(&control.changed);
    pthread_mutex_unlock(&control.lock);
}

/* Until `entered` sources have ever been there. */
static void wait_entered(int entered)
{
    pthread_mutex_lock(&control.lock);
    while (control.entered < entered)
        pthread_cond_wait(&control.changed, &control.lock);
    pthread_mutex_unlock(&control.lock);
}

/* Stores a, b, c, d, each a group, with the repos one and two. */
static int setup(void **state)
{
    struct fixture *f = fixture_make();

    control_reset();
    for (size_t i = 0; i < 4; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        struct store *s = add_store(f, id, i);
        add_repo(f, s, "one");
        add_repo(f, s, "two");
    }
    *state = f;
    return 0;
}

/* Sources that a failed test left held would hold the teardown as well. */
static int teardown(void **state)
{
    let_go(1000);
    return fixture_teardown(state);
}

static void begin(struct fixture *f, const char *max_jobs, script_fn what)
{
    script = what;
    set_key(f, "max_jobs", max_jobs);
    fixture_open(f);
    fixture_start(f);
}

/* ---- a job from one end to the other ---- */

static void a_run_becomes_a_record_on_disk(void **state)
{
    struct fixture *f = *state;
    struct record record;
    struct error err;

    begin(f, "2", write_content);
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    assert_int_equal(job.progress, 100);
    assert_true(job.created_at <= job.started_at && job.started_at <= job.finished_at);
    assert_int_equal(stats_get(&job.stats, "content_bytes"), strlen(CONTENT));
    assert_int_equal(catalog_record_get(f->catalog, job.record, &record, &err), 0);
    assert_int_equal(record.row, job.record_row);
    assert_string_equal(record.job, job.ulid);
    SCOPED_PATH(payload, f, "a-one/%s/payload.bin", job.record);
    __attribute__((cleanup(free_charp))) char *stored = read_file(payload);
    assert_string_equal(stored, CONTENT);
}

static int says_something(const struct store *store, struct source_run *run, struct error *err)
{
    source_log(run, "dumping %s", store->id);
    return write_content(store, run, err);
}

static void a_jobs_log_tells_its_story(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", says_something);
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    __attribute__((cleanup(free_charp))) char *path = service_log_path(f->service, job.ulid);
    __attribute__((cleanup(free_charp))) char *log = read_file(path);
    struct stat st;
    assert_non_null(strstr(log, "a/one"));
    assert_non_null(strstr(log, job.record));
    assert_non_null(strstr(log, "Z dumping a\n"));
    assert_non_null(strstr(log, " succeeded: "));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static int breaks(const struct store *store, struct source_run *run, struct error *err)
{
    (void)run;
    return error_sys(err, SIDE_SOURCE, EIO, "/srv/%s", store->id);
}

static void a_failed_jobs_log_ends_with_the_reason(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", breaks);
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(job.record_row, 0);
    __attribute__((cleanup(free_charp))) char *path = service_log_path(f->service, job.ulid);
    __attribute__((cleanup(free_charp))) char *log = read_file(path);
    char *last = strstr(log, "failed: source_unavailable: /srv/a: ");
    assert_non_null(last);
    assert_string_equal(strchr(last, '\n'), "\n");
}

enum { LINES = 20000 };

static int says_too_much(const struct store *store, struct source_run *run, struct error *err)
{
    for (int i = 0; i < LINES; i++)
        source_log(run, "%0200d", i);
    return write_content(store, run, err);
}

static void a_log_is_bounded_and_counts_what_it_dropped(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", says_too_much);
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
    __attribute__((cleanup(free_charp))) char *path =
        service_log_path(f->service, reply.jobs[0].job);
    __attribute__((cleanup(free_charp))) char *log = read_file(path);
    assert_in_range(strlen(log), LIMIT_JOB_LOG, LIMIT_JOB_LOG + 1000);
    size_t lines = 0;
    for (const char *at = log; (at = strchr(at, '\n')); at++)
        lines++;
    const char *count = strstr(log, " more lines were dropped\n");
    assert_non_null(count);
    while (count[-1] != ' ')
        count--;
    /* All but the first line, the count and the last. */
    assert_int_equal(strtoul(count, NULL, 10), LINES - (lines - 3));
    const char *last = strstr(count, " succeeded: ");
    assert_non_null(last);
    assert_string_equal(strchr(last, '\n'), "\n");
}

static int checks_its_signals(const struct store *store, struct source_run *run, struct error *err)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD};
    sigset_t blocked;

    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (!sigismember(&blocked, signals[i]))
            return error_set(err, ERR_SOURCE_UNAVAILABLE, "signal %d is not blocked", signals[i]);
    return write_content(store, run, err);
}

static void workers_leave_signals_to_others(void **state)
{
    struct fixture *f = *state;
    sigset_t term, after;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &term, NULL);
    begin(f, "1", checks_its_signals);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_false(sigismember(&after, SIGTERM)); /* the caller's are as they were */
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
}

static void a_place_is_made_by_the_first_backup_only(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", write_content);
    run_ok(f, "a/one");
    wait_idle(f);
    SCOPED_PATH(repo, f, "a-one");
    SCOPED_PATH(away, f, "unmounted");
    assert_int_equal(rename(repo, away), 0);
    struct run_reply reply = run_ok(f, "a/one");
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_DESTINATION_NOT_FOUND);
    assert_false(exists(repo));
}

static void the_last_backups_size_is_what_the_next_expects(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", write_content);
    run_ok(f, "a/one");
    wait_idle(f);
    script = until_cancelled;
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_RUNNING);
    assert_int_equal(stats_get(&job.stats, "expected_bytes"), strlen(CONTENT));
}

/* ---- order and bounds ---- */

static void at_most_max_jobs_run_at_once(void **state)
{
    struct fixture *f = *state;

    begin(f, "2", held);
    run_ok(f, "a/one");
    run_ok(f, "b/one");
    run_ok(f, "c/one");
    run_ok(f, "d/one");
    for (int ended = 0; ended < 4; ended++) {
        wait_entered(ended + 2 < 4 ? ended + 2 : 4); /* as many as may, each time */
        let_go(1);
    }
    wait_idle(f);
    assert_int_equal(control.most, 2);
    assert_int_equal(control.entered, 4);
}

static void a_waiting_job_says_pending_while_others_run(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", held);
    struct run_reply first = run_ok(f, "a/one"), second = run_ok(f, "b/one");
    wait_entered(1);
    expect_state(f, first.jobs[0].job, JOB_RUNNING);
    expect_state(f, second.jobs[0].job, JOB_PENDING);
    let_go(2);
    wait_idle(f);
    expect_state(f, second.jobs[0].job, JOB_SUCCEEDED);
}

/* b comes last and starts nevertheless: there was a worker that a's second job did not get. */
static void jobs_of_one_store_run_one_after_another(void **state)
{
    struct fixture *f = *state;

    begin(f, "4", held);
    run_ok(f, "a");
    run_ok(f, "b/one");
    wait_entered(2);
    assert_int_equal(control.in_group[0], 1);
    assert_int_equal(control.in_group[1], 1);
    let_go(3);
    wait_idle(f);
    assert_int_equal(control.entered, 3);
    assert_false(control.overlap);
}

static void stores_of_one_group_run_one_after_another(void **state)
{
    struct fixture *f = *state;

    config_store(f->config, "b")->group = 0;
    begin(f, "4", held);
    run_ok(f, "a/one");
    run_ok(f, "b/one");
    run_ok(f, "c/one");
    wait_entered(2);
    assert_string_not_equal(control.order[0], "b");
    assert_string_not_equal(control.order[1], "b");
    let_go(3);
    wait_idle(f);
    assert_int_equal(control.entered, 3);
    assert_false(control.overlap);
}

static void many_jobs_on_many_workers_all_end(void **state)
{
    struct fixture *f = *state;
    size_t jobs = 0;

    begin(f, "4", write_content);
    for (int round = 0; round < 5; round++) {
        static const char *const lines[] = {"a", "b", "c", "d"};
        for (size_t i = 0; i < 4; i++)
            jobs += run_ok(f, lines[i]).count;
        wait_idle(f);
    }
    assert_int_equal(count_of(f, LIST_JOBS_ACTIVE), 0);
    assert_int_equal(count_of(f, LIST_JOBS), jobs);
    assert_int_equal(count_of(f, LIST_RECORDS), jobs);
}

/* ---- cancel ---- */

static void a_running_job_is_cancelled_in_its_stream(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, "1", until_cancelled);
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:5", &err), 0);
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_int_equal(job.error.code, ERR_CANCELLED);
    assert_string_equal(job.error.message, "cancelled by uid:5");
    assert_int_equal(job.record_row, 0);
    assert_in_range(job.progress, 10, 95); /* where it was, not back at 0 */
    SCOPED_PATH(partial, f, "a-one/%s.tmp", job.record);
    SCOPED_PATH(whole, f, "a-one/%s", job.record);
    assert_false(exists(partial));
    assert_false(exists(whole));
}

static void a_cancelled_job_gives_its_worker_and_repo_back(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, "1", until_cancelled);
    struct run_reply first = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, first.jobs[0].job, "uid:5", &err), 0);
    wait_idle(f);
    script = write_content;
    struct run_reply second = run_ok(f, "a/one");
    wait_idle(f);
    expect_state(f, second.jobs[0].job, JOB_SUCCEEDED);
}

static void cancelling_one_job_touches_no_other(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, "2", until_cancelled);
    struct run_reply a = run_ok(f, "a/one"), b = run_ok(f, "b/one"), c = run_ok(f, "c/one");
    wait_entered(2);
    assert_int_equal(service_cancel(f->service, a.jobs[0].job, "uid:5", &err), 0);
    wait_entered(3); /* c has a's worker now */
    expect_state(f, a.jobs[0].job, JOB_INTERRUPTED);
    expect_state(f, b.jobs[0].job, JOB_RUNNING);
    expect_state(f, c.jobs[0].job, JOB_RUNNING);
}

/* ---- stop ---- */

static void a_stop_interrupts_what_runs_and_what_waits(void **state)
{
    struct fixture *f = *state;

    begin(f, "2", until_cancelled);
    struct run_reply a = run_ok(f, "a"), b = run_ok(f, "b/one");
    wait_entered(2);
    assert_true(service_stop(f->service, STOP_MS));
    const char *ids[] = {a.jobs[0].job, a.jobs[1].job, b.jobs[0].job};
    for (size_t i = 0; i < 3; i++) {
        struct job job = job_of(f, ids[i]);
        assert_int_equal(job.state, JOB_INTERRUPTED);
        assert_int_equal(job.error.code, ERR_INTERRUPTED); /* nobody cancelled it */
    }
    assert_int_equal(control.entered, 2); /* the one that waited was never begun */
}

/* A hanging system call must not hold the daemon, nor end later as if nothing had been. */
static void a_job_that_hangs_is_interrupted_and_stays_so(void **state)
{
    struct fixture *f = *state;

    begin(f, "1", held);
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    assert_false(service_stop(f->service, 1));
    struct job before = job_of(f, reply.jobs[0].job);
    assert_int_equal(before.state, JOB_INTERRUPTED);
    let_go(1);
    assert_true(service_stop(f->service, STOP_MS));
    struct job after = job_of(f, reply.jobs[0].job);
    assert_memory_equal(&before, &after, sizeof before);
}

static void an_idle_service_stops(void **state)
{
    struct fixture *f = *state;

    begin(f, "4", write_content);
    assert_true(service_stop(f->service, STOP_MS));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_becomes_a_record_on_disk),
        TEST(a_jobs_log_tells_its_story),
        TEST(a_failed_jobs_log_ends_with_the_reason),
        TEST(a_log_is_bounded_and_counts_what_it_dropped),
        TEST(workers_leave_signals_to_others),
        TEST(a_place_is_made_by_the_first_backup_only),
        TEST(the_last_backups_size_is_what_the_next_expects),
        TEST(at_most_max_jobs_run_at_once),
        TEST(a_waiting_job_says_pending_while_others_run),
        TEST(jobs_of_one_store_run_one_after_another),
        TEST(stores_of_one_group_run_one_after_another),
        TEST(many_jobs_on_many_workers_all_end),
        TEST(a_running_job_is_cancelled_in_its_stream),
        TEST(a_cancelled_job_gives_its_worker_and_repo_back),
        TEST(cancelling_one_job_touches_no_other),
        TEST(a_stop_interrupts_what_runs_and_what_waits),
        TEST(a_job_that_hangs_is_interrupted_and_stays_so),
        TEST(an_idle_service_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
