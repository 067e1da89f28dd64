/* SPDX-License-Identifier: MIT */
/*
 * test_retries.c - attempts after a failure that may pass: jobs of their own, a while later.
 */
#include "plan.h"

/* ---- retries ---- */

static void begin_retries(struct fixture *f, const char *retries, script_fn what)
{
    script = what;
    repo_says(repo_of(f, "a", "one"), "retries", retries);
    repo_says(repo_of(f, "a", "one"), "retry_delay", "60");
    begin(f);
}

static void a_failure_that_may_pass_is_tried_so_many_times_again(void **state)
{
    struct fixture *f = *state;
    char before[ULID_LEN + 1];

    begin_retries(f, "2", out_of_reach);
    run_ok(f, "a/one");
    wait_idle(f);
    for (int attempt = 2; attempt <= 3; attempt++) {
        time_ms at = BEGIN + (attempt - 1) * MINUTE;
        memcpy(before, latest_job(f).ulid, sizeof before);
        assert_int_equal(step_at(f, at - 1), at);
        assert_int_equal(count_of(f, LIST_JOBS), attempt - 1);
        step_at(f, at);
        wait_idle(f);
        struct job job = latest_job(f);
        assert_int_equal(count_of(f, LIST_JOBS), attempt);
        assert_int_equal(job.attempt, attempt);
        assert_int_equal(strncmp(job.requested_by, "retry:", 6), 0);
        assert_string_equal(job.requested_by + 6, before);
        expect_state(f, job.ulid, JOB_FAILED);
    }
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 3);
}

static void a_retry_that_succeeds_is_the_last(void **state)
{
    struct fixture *f = *state;

    begin_retries(f, "5", out_of_reach);
    run_ok(f, "a/one");
    wait_idle(f);
    script = write_content;
    step_at(f, BEGIN + MINUTE);
    wait_idle(f);
    expect_state(f, latest_job(f).ulid, JOB_SUCCEEDED);
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
}

static void what_does_not_pass_is_not_tried_again(void **state)
{
    struct fixture *f = *state;

    begin_retries(f, "5", out_of_order);
    run_ok(f, "a/one");
    wait_idle(f);
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void without_retries_a_failure_is_the_end(void **state)
{
    struct fixture *f = *state;

    begin_retries(f, NULL, out_of_reach);
    run_ok(f, "a/one");
    wait_idle(f);
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void a_cancelled_job_is_not_tried_again(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin_retries(f, "5", endless);
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    wait_idle(f);
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
}

static void a_retry_of_a_repo_that_is_busy_by_then_is_not_made(void **state)
{
    struct fixture *f = *state;

    begin_retries(f, "5", out_of_reach);
    run_ok(f, "a/one");
    wait_idle(f);
    script = held;
    run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(step_at(f, BEGIN + MINUTE), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    let_go(1);
    wait_idle(f);
}

static void a_failed_scheduled_job_is_tried_again_too(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin_retries(f, "1", out_of_reach);
    step_at(f, BEGIN + HOUR);
    wait_idle(f);
    assert_int_equal(step_at(f, BEGIN + HOUR + MINUTE), BEGIN + 2 * HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    assert_int_equal(latest_job(f).attempt, 2);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_failure_that_may_pass_is_tried_so_many_times_again),
        TEST(a_retry_that_succeeds_is_the_last),
        TEST(what_does_not_pass_is_not_tried_again),
        TEST(without_retries_a_failure_is_the_end),
        TEST(a_cancelled_job_is_not_tried_again),
        TEST(a_retry_of_a_repo_that_is_busy_by_then_is_not_made),
        TEST(a_failed_scheduled_job_is_tried_again_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
