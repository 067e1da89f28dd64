/* SPDX-License-Identifier: MIT */
/*
 * test_backup_failures.c - the executor when something goes wrong: each call of each side failing
 * in turn, cancel at each moment, and a job store that cannot store.
 *
 * A failure is enumerated, not sampled: the Nth call of the destination fails for N from 1 on until
 * a run needs no Nth call. A run that hung would be stopped by the test's time limit.
 */
#include "fakes.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

/* ---- the source fails ---- */

static int breaks_off(struct source_run *r, struct error *err)
{
    if (write_content(r->out, 100, 10, err) != 0)
        return -1;
    return error_sys(err, SIDE_SOURCE, EIO, "/srv/app.db");
}

static void a_source_that_breaks_off_fails_the_job(void **state)
{
    (void)state;
    expect_end(run(breaks_off), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(fx.why.errnum, EIO);
    assert_non_null(strstr(fx.why.message, "/srv/app.db"));
    assert_string_equal(buf_text(&fx.tape), "start 10 50 failed ");
    assert_true(fx.finished_at > fx.started_at);
}

/* The same errno of a destination has another code. */
static void a_source_that_is_not_there_is_the_sources_fault(void **state)
{
    static const int reasons[] = {ENOENT, EACCES, ENOTDIR, EIO};

    (void)state;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        again();
        fx.source_open_errno = reasons[i];
        expect_end(run(a_few_bytes), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
        assert_int_equal(fx.calls, 0); /* the destination was not touched */
    }
}

static int takes_space(struct source_run *r, struct error *err)
{
    (void)r;
    return error_sys(err, SIDE_STATE, ENOSPC, "staging");
}

static void a_source_without_space_to_stage_is_the_states_fault(void **state)
{
    (void)state;
    expect_end(run(takes_space), JOB_FAILED, ERR_STATE_NO_SPACE);
}

static size_t bad_id_len;
static const char *bad_id;

static int gives_a_bad_id(struct source_run *r, struct error *err)
{
    if (r->ops->payload_id(r, "good", 4, err) != 0)
        return -1;
    return r->ops->payload_id(r, bad_id, bad_id_len, err);
}

static void ids_that_no_list_can_hold_fail_the_job(void **state)
{
    static char longest[LIMIT_PAYLOAD_ID + 1];

    (void)state;
    memset(longest, 'i', sizeof longest);
    const struct {
        const char *id;
        size_t len;
    } bad[] = {{"", 0}, {"a\nb", 3}, {"a\0b", 3}, {longest, sizeof longest}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        again();
        bad_id = bad[i].id;
        bad_id_len = bad[i].len;
        expect_end(run(gives_a_bad_id), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
    }
    again();
    bad_id_len = LIMIT_PAYLOAD_ID;
    assert_int_equal(run(gives_a_bad_id), JOB_SUCCEEDED);
    assert_int_equal(fx.record.payload_id_count, 2);
}

static int gives_too_many_ids(struct source_run *r, struct error *err)
{
    static char id[LIMIT_PAYLOAD_ID];

    memset(id, 'i', sizeof id);
    for (size_t i = 0; i <= LIMIT_PAYLOAD_IDS / sizeof id; i++)
        if (r->ops->payload_id(r, id, sizeof id, err) != 0)
            return -1;
    return 0;
}

static void more_ids_than_the_limit_fail_the_job(void **state)
{
    (void)state;
    expect_end(run(gives_too_many_ids), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
}

/* ---- the destination fails ---- */

static int with_ids(struct source_run *r, struct error *err)
{
    if (r->ops->payload_id(r, "two", 3, err) != 0 || r->ops->payload_id(r, "one", 3, err) != 0)
        return -1;
    return write_content(r->out, 1000, 37, err);
}

/* The Nth call of the destination fails, for every N there is; gives how many there are. */
static int fail_each_call(int errnum, enum error_code code)
{
    for (int n = 1;; n++) {
        again();
        fx.fail_at = n;
        fx.failing_errno = errnum;
        enum job_state state = run(with_ids);
        if (fx.failures == 0) {
            assert_int_equal(state, JOB_SUCCEEDED);
            assert_true(fx.calls < n);
            return n - 1;
        }
        expect_end(state, JOB_FAILED, code);
        assert_int_equal(fx.failures, 1); /* nothing is tried again */
        assert_int_equal(fx.why.errnum, errnum);
        assert_non_null(strstr(fx.why.message, "memory: "));
    }
}

static void each_call_of_the_destination_may_fail(void **state)
{
    (void)state;
    /* open, put_begin, three objects with their finishes, 28 writes of content, commit, ... */
    assert_true(fail_each_call(EIO, ERR_DESTINATION_UNREACHABLE) >= 37);
}

static void the_destinations_errno_decides_the_code(void **state)
{
    (void)state;
    fail_each_call(ENOSPC, ERR_DESTINATION_NO_SPACE);
    fail_each_call(EDQUOT, ERR_DESTINATION_NO_SPACE);
    fail_each_call(EACCES, ERR_DESTINATION_PERMISSION_DENIED);
    fail_each_call(EROFS, ERR_DESTINATION_PERMISSION_DENIED);
    fail_each_call(ENOENT, ERR_DESTINATION_NOT_FOUND);
    fail_each_call(EEXIST, ERR_DUPLICATE_ID);
}

static void a_destination_that_cannot_be_opened_is_no_work_for_the_source(void **state)
{
    (void)state;
    fx.fail_at = 1;
    expect_end(run(a_few_bytes), JOB_FAILED, ERR_DESTINATION_UNREACHABLE);
    assert_int_equal(fx.scripts_run, 0);
    assert_string_equal(buf_text(&fx.tape), "start failed ");
}

/* ---- the destination fails first, and the source has its own words for that ---- */

static int adds_context(struct source_run *r, struct error *err)
{
    if (write_content(r->out, 1000, 37, err) != 0)
        return error_context(err, "while dumping table %d", 7);
    return 0;
}

static int replaces_the_error(struct source_run *r, struct error *err)
{
    if (write_content(r->out, 1000, 37, err) != 0)
        return error_set(err, ERR_SOURCE_UNAVAILABLE, "the dump was aborted");
    return 0;
}

static int calls_it_a_cancel(struct source_run *r, struct error *err)
{
    if (write_content(r->out, 1000, 37, err) != 0)
        return error_set(err, ERR_CANCELLED, "aborted");
    return 0;
}

/* Against its contract; a hole in the stream must not become a good archive. */
static int goes_on_after_a_failed_write(struct source_run *r, struct error *err)
{
    for (int i = 0; i < 28; i++)
        (void)write_content(r->out, 37, 37, err);
    return 0;
}

static void the_sinks_error_wins_over_what_the_source_makes_of_it(void **state)
{
    int (*const scripts[])(struct source_run *, struct error *) = {
        adds_context, replaces_the_error, calls_it_a_cancel, goes_on_after_a_failed_write};
    enum { FIRST_WRITE = 4 }; /* behind open, put_begin and put_object */

    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
        for (int n = 0; n < 28; n++) {
            again();
            fx.fail_at = FIRST_WRITE + n;
            fx.failing_errno = ENOSPC;
            expect_end(run(scripts[i]), JOB_FAILED, ERR_DESTINATION_NO_SPACE);
            assert_int_equal(fx.why.errnum, ENOSPC);
            assert_non_null(strstr(fx.why.message, "memory: write"));
        }
}

/* ---- cancel ---- */

static sem_t source_runs;

static void *cancel_when_it_runs(void *ctx)
{
    (void)ctx;
    while (sem_wait(&source_runs) != 0)
        ;
    cancel_request(&fx.cancel, ERR_CANCELLED, "cancelled by uid:1000");
    return NULL;
}

/* Ends by cancel alone. */
static int writes_for_ever(struct source_run *r, struct error *err)
{
    if (a_few_bytes(r, err) != 0)
        return -1;
    sem_post(&source_runs);
    while (writer_write(r->out, "x", 1, err) == 0)
        ;
    return -1;
}

static int waits_for_ever(struct source_run *r, struct error *err)
{
    if (a_few_bytes(r, err) != 0)
        return -1;
    sem_post(&source_runs);
    cancel_wait(r->cancel, INT_MAX);
    return cancel_check(r->cancel, err);
}

/* It was cancelled, but the source saw only that its work was cut short. */
static int ends_as_if_whole(struct source_run *r, struct error *err)
{
    if (a_few_bytes(r, err) != 0)
        return -1;
    sem_post(&source_runs);
    cancel_wait(r->cancel, INT_MAX);
    return 0;
}

static void a_cancel_from_another_thread_interrupts_the_stream(void **state)
{
    int (*const scripts[])(struct source_run *, struct error *) = {writes_for_ever, waits_for_ever,
                                                                   ends_as_if_whole};
    pthread_t other;

    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        again();
        sem_init(&source_runs, 0, 0);
        assert_int_equal(pthread_create(&other, NULL, cancel_when_it_runs, NULL), 0);
        enum job_state end = run(scripts[i]);
        pthread_join(other, NULL);
        sem_destroy(&source_runs);
        expect_end(end, JOB_INTERRUPTED, ERR_CANCELLED);
        assert_string_equal(fx.why.message, "cancelled by uid:1000");
        assert_string_equal(buf_text(&fx.tape), "start 10 50 interrupted ");
        assert_true(fx.finished_at > fx.started_at);
    }
}

static void a_job_cancelled_before_it_began_opens_nothing(void **state)
{
    (void)state;
    cancel_request(&fx.cancel, ERR_CANCELLED, "cancelled by uid:0");
    expect_end(run(a_few_bytes), JOB_INTERRUPTED, ERR_CANCELLED);
    assert_string_equal(buf_text(&fx.tape), "start interrupted ");
    assert_int_equal(fx.sources_opened, 0);
    assert_int_equal(fx.calls, 0);
}

static void a_stop_of_the_daemon_is_interrupted_and_not_cancelled(void **state)
{
    (void)state;
    cancel_request(&fx.cancel, ERR_INTERRUPTED, "keepfs was stopped");
    expect_end(run(a_few_bytes), JOB_INTERRUPTED, ERR_INTERRUPTED);
    assert_string_equal(fx.why.message, "keepfs was stopped");
}

static void cancel_now(void)
{
    cancel_request(&fx.cancel, ERR_CANCELLED, "too late");
}

static void a_cancel_after_publish_is_too_late(void **state)
{
    (void)state;
    fx.after_commit = cancel_now;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_int_equal(fx.job_state, JOB_SUCCEEDED);
    assert_string_equal(fx.record.ulid, the_archive()->name);
    assert_string_equal(buf_text(&fx.tape), "start 10 50 95 succeed ");
}

/* The last moment at which it counts. */
static int cancels_itself_at_the_end(struct source_run *r, struct error *err)
{
    int result = a_few_bytes(r, err);

    cancel_now();
    return result;
}

static void a_cancel_before_publish_is_in_time(void **state)
{
    (void)state;
    expect_end(run(cancels_itself_at_the_end), JOB_INTERRUPTED, ERR_CANCELLED);
}

static void a_cancel_while_the_payload_becomes_durable_is_in_time(void **state)
{
    (void)state;
    fx.in_payload_finish = cancel_now;
    expect_end(run(a_few_bytes), JOB_INTERRUPTED, ERR_CANCELLED);
}

/* What failed by itself is not called interrupted because somebody asked for that later. */
static int fails_and_is_cancelled(struct source_run *r, struct error *err)
{
    int result = breaks_off(r, err);

    cancel_now();
    return result;
}

static void a_failure_before_the_cancel_stays_a_failure(void **state)
{
    (void)state;
    expect_end(run(fails_and_is_cancelled), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
}

/* ---- the job store fails ---- */

static void a_refused_start_touches_nothing(void **state)
{
    (void)state;
    fx.refuse_start = true;
    assert_int_equal(run(a_few_bytes), JOB_PENDING);
    assert_int_equal(fx.err.code, ERR_NOT_FOUND);
    assert_string_equal(buf_text(&fx.tape), "start ");
    assert_int_equal(fx.sources_opened, 0);
    assert_int_equal(fx.calls, 0);
    assert_int_equal(fx.job_state, JOB_PENDING);
}

static void a_record_that_cannot_be_stored_fails_the_job_and_keeps_the_archive(void **state)
{
    (void)state;
    fx.fail_succeed = true;
    assert_int_equal(run(a_few_bytes), JOB_FAILED);
    assert_int_equal(fx.job_state, JOB_FAILED);
    assert_string_equal(buf_text(&fx.tape), "start 10 50 95 succeed failed ");
    assert_int_equal(fx.why.code, ERR_STATE_NO_SPACE);
    assert_non_null(strstr(fx.why.message, the_archive()->name));
    assert_non_null(strstr(fx.why.message, "adopt"));
    struct manifest m = the_manifest(); /* as good as any */
    manifest_release(&m);
}

static void an_end_that_cannot_be_stored_is_not_fatal(void **state)
{
    (void)state;
    fx.fail_fail = true;
    assert_int_equal(run(breaks_off), JOB_FAILED);
    assert_int_equal(fx.err.code,
                     ERR_SOURCE_UNAVAILABLE); /* why it failed, not why that got lost */
    assert_null(fx.groups);
    assert_int_equal(fx.job_state, JOB_RUNNING);
}

static void a_failure_leaves_progress_where_it_was(void **state)
{
    (void)state;
    fx.backup.expected_bytes = 200;
    expect_end(run(breaks_off), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(fx.last_progress.percent, 52);
    assert_int_equal(fx.last_progress.done, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_source_that_breaks_off_fails_the_job),
        TEST(a_source_that_is_not_there_is_the_sources_fault),
        TEST(a_source_without_space_to_stage_is_the_states_fault),
        TEST(ids_that_no_list_can_hold_fail_the_job),
        TEST(more_ids_than_the_limit_fail_the_job),
        TEST(each_call_of_the_destination_may_fail),
        TEST(the_destinations_errno_decides_the_code),
        TEST(a_destination_that_cannot_be_opened_is_no_work_for_the_source),
        TEST(the_sinks_error_wins_over_what_the_source_makes_of_it),
        TEST(a_cancel_from_another_thread_interrupts_the_stream),
        TEST(a_job_cancelled_before_it_began_opens_nothing),
        TEST(a_stop_of_the_daemon_is_interrupted_and_not_cancelled),
        TEST(a_cancel_after_publish_is_too_late),
        TEST(a_cancel_before_publish_is_in_time),
        TEST(a_cancel_while_the_payload_becomes_durable_is_in_time),
        TEST(a_failure_before_the_cancel_stays_a_failure),
        TEST(a_refused_start_touches_nothing),
        TEST(a_record_that_cannot_be_stored_fails_the_job_and_keeps_the_archive),
        TEST(an_end_that_cannot_be_stored_is_not_fatal),
        TEST(a_failure_leaves_progress_where_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
