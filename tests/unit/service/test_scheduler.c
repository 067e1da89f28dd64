/* SPDX-License-Identifier: MIT */
/*
 * test_scheduler.c - ticks that start real backups of real repos: on time, beside others who start
 * them, and when they were missed.
 */
#include "plan.h"

#include "service/jitter.h"

/* ---- a tick ---- */

static void a_tick_becomes_a_record_on_disk(void **state)
{
    struct fixture *f = *state;
    struct record record;
    struct error err;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    assert_int_equal(step_at(f, BEGIN + HOUR - 1), BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
    assert_int_equal(step_at(f, BEGIN + HOUR), BEGIN + 2 * HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    struct job job = latest_job(f);
    expect_state(f, job.ulid, JOB_SUCCEEDED);
    assert_string_equal(job.store, "a");
    assert_string_equal(job.repo, "one");
    assert_string_equal(job.requested_by, "schedule");
    assert_int_equal(job.attempt, 1);
    assert_int_equal(catalog_record_get(f->catalog, job.record, &record, &err), 0);
    SCOPED_PATH(payload, f, "a-one/%s/payload.bin", job.record);
    __attribute__((cleanup(free_charp))) char *stored = read_file(payload);
    assert_string_equal(stored, CONTENT);
    assert_int_equal(step_at(f, BEGIN + HOUR), BEGIN + 2 * HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

/* It is woken as a reload wakes it; the timer of the machine is far from this clock. */
static void the_thread_starts_what_is_due(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    stage_open(f);
    stage_start(f);
    for (int i = 1; i <= 3; i++) {
        set_clock(f, BEGIN + i * HOUR);
        scheduler_load(f->service, f->config, false);
        wait_changes("succeeded", (size_t)i);
    }
    assert_string_equal(latest_job(f).requested_by, "schedule");
    assert_true(service_stop(f->service, STOP_MS));
}

static time_ms system_now(void *ctx)
{
    (void)ctx;
    return clock_now(&clock_system);
}

/* A second of real time: what comes of it is the same however late it is. */
static void the_timer_wakes_the_thread(void **state)
{
    struct fixture *f = *state;

    f->clock.now = system_now;
    script = out_of_reach;
    repo_says(repo_of(f, "a", "one"), "retries", "1");
    repo_says(repo_of(f, "a", "one"), "retry_delay", "1");
    stage_open(f);
    stage_start(f);
    run_ok(f, "a/one");
    wait_changes("failed", 2);
    assert_int_equal(latest_job(f).attempt, 2);
}

static void a_stop_does_not_wait_for_the_next_tick(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    stage_open(f);
    stage_start(f);
    assert_true(service_stop(f->service, STOP_MS));
    assert_int_equal(count_of(f, LIST_JOBS), 0);
}

static void every_repo_that_is_due_is_started(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    plan(f, "a", "two", EVERY_MINUTE);
    plan(f, "b", "two", EVERY_HOUR);
    begin(f);
    step_at(f, BEGIN + HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 3);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
    assert_int_equal(tick_of(f, "a", "two"), BEGIN + HOUR);
    assert_int_equal(tick_of(f, "b", "one"), 0);
    assert_int_equal(service_next_run(f->service, "a", NULL), BEGIN + HOUR + MINUTE);
    assert_int_equal(service_next_run(f->service, "a", "one"), BEGIN + 2 * HOUR);
    assert_int_equal(service_next_run(f->service, "b", "one"), 0);
}

static void a_repo_starts_later_than_its_tick_by_its_jitter(void **state)
{
    struct fixture *f = *state;
    time_ms jitter = (time_ms)schedule_jitter("a/one", 300) * SECOND;

    assert_true(jitter > 0);
    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "jitter", "300");
    begin(f);
    assert_int_equal(service_next_run(f->service, "a", "one"), BEGIN + HOUR + jitter);
    assert_int_equal(step_at(f, BEGIN + HOUR + jitter - 1), BEGIN + HOUR + jitter);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
    step_at(f, BEGIN + HOUR + jitter);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
}

static void a_scheduled_job_can_be_cancelled(void **state)
{
    struct fixture *f = *state;
    struct error err;

    script = endless;
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    step_at(f, BEGIN + HOUR);
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, latest_job(f).ulid, "uid:7", &err), 0);
    wait_idle(f);
    expect_state(f, latest_job(f).ulid, JOB_INTERRUPTED);
    assert_int_equal(latest_job(f).error.code, ERR_CANCELLED);
}

static void a_failing_job_keeps_its_schedule(void **state)
{
    struct fixture *f = *state;

    script = out_of_order;
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(step_at(f, BEGIN + i * HOUR), BEGIN + (i + 1) * HOUR);
        wait_idle(f);
        expect_state(f, latest_job(f).ulid, JOB_FAILED);
        assert_int_equal(count_of(f, LIST_JOBS), i);
    }
}

/* ---- one lock for whoever starts ---- */

static void a_busy_repo_drops_the_tick_and_says_so(void **state)
{
    struct fixture *f = *state;

    script = held;
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    struct run_reply running = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(step_at(f, BEGIN + HOUR), BEGIN + 2 * HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    assert_true(why_has(f, "a", " is running: "));
    assert_true(why_has(f, "a", "the start of 2033-05-18T01:00:00.000Z was dropped"));
    assert_true(why_has(f, "a", running.jobs[0].job));
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
    let_go(2);
    wait_idle(f);
    step_at(f, BEGIN + 2 * HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    assert_false(why_has(f, "a", "dropped"));
}

static void ctl_is_busy_while_a_scheduled_job_runs(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply;
    struct error err;

    script = held;
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    step_at(f, BEGIN + HOUR);
    wait_entered(1);
    assert_int_equal(run_line(f, "a", &reply, &err), -1);
    assert_int_equal(err.errnum, EBUSY);
    assert_non_null(strstr(err.message, latest_job(f).ulid));
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    let_go(1);
    wait_idle(f);
}

static void fifty_ticks_during_one_run_start_no_other(void **state)
{
    struct fixture *f = *state;

    script = held;
    set_key(f, "max_jobs", "4");
    plan(f, "a", "one", EVERY_MINUTE);
    begin(f);
    for (int i = 1; i <= 50; i++)
        step_at(f, BEGIN + i * MINUTE);
    wait_entered(1);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    let_go(1);
    wait_idle(f);
    step_at(f, BEGIN + 51 * MINUTE);
    let_go(1);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    assert_int_equal(stage.entered, 2);
    assert_int_equal(stage.most, 1);
}

static void scheduled_repos_of_one_store_take_turns(void **state)
{
    struct fixture *f = *state;

    script = held;
    set_key(f, "max_jobs", "4");
    plan(f, "a", "one", EVERY_HOUR);
    plan(f, "a", "two", EVERY_HOUR);
    begin(f);
    step_at(f, BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS_ACTIVE), 2);
    wait_entered(1);
    let_go(2);
    wait_idle(f);
    assert_int_equal(stage.entered, 2);
    assert_int_equal(stage.most, 1);
}

/* ---- what was missed ---- */

static void three_missed_ticks_are_one_job(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    begin(f);
    assert_int_equal(step_at(f, BEGIN + 3 * HOUR + 30 * MINUTE), BEGIN + 4 * HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    step_at(f, BEGIN + 3 * HOUR + 31 * MINUTE);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void without_catch_up_they_are_told_of(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    assert_int_equal(step_at(f, BEGIN + 3 * HOUR + 30 * MINUTE), BEGIN + 4 * HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
    assert_true(why_has(f, "a", "was dropped: keepfs did not run then"));
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + 3 * HOUR + 30 * MINUTE);
}

static void a_restart_catches_up_once(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    begin(f);
    step_at(f, BEGIN + HOUR);
    wait_idle(f);
    set_clock(f, BEGIN + 4 * HOUR + 30 * MINUTE);
    for (int i = 0; i < 3; i++) {
        restart(f);
        scheduler_step(f->service);
        wait_idle(f);
        assert_int_equal(count_of(f, LIST_JOBS), 2);
    }
}

/* Without a word from the scheduler: it may die as soon as the row is there. */
static void a_tick_is_stored_with_its_job(void **state)
{
    struct fixture *f = *state;
    struct run_request q = {.store = "a", .repo = "one", .attempt = 1, .tick = BEGIN + HOUR};
    struct run_reply reply;
    struct error err;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    assert_int_equal(service_run(f->service, &q, &reply, &err), 0);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
    wait_idle(f);
    set_clock(f, BEGIN + HOUR + MINUTE);
    restart(f);
    scheduler_step(f->service);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void a_job_that_was_interrupted_by_a_stop_had_its_tick(void **state)
{
    struct fixture *f = *state;

    script = endless;
    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    begin(f);
    step_at(f, BEGIN + HOUR);
    wait_entered(1);
    set_clock(f, BEGIN + HOUR + 30 * MINUTE);
    restart(f);
    expect_state(f, latest_job(f).ulid, JOB_INTERRUPTED);
    scheduler_step(f->service);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

/* A machine that is off whenever the tick comes has not handled a single one. */
static void a_machine_that_is_never_on_at_the_tick_catches_up(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", "CRON_TZ=UTC 0 3 * * *");
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    set_clock(f, BEGIN - 4 * HOUR);
    begin(f);
    scheduler_step(f->service);
    set_clock(f, BEGIN + 8 * HOUR);
    restart(f);
    scheduler_step(f->service);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void a_repo_that_is_new_owes_nothing(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    set_clock(f, BEGIN + 30 * MINUTE);
    begin(f);
    assert_int_equal(scheduler_step(f->service), BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
}

static void a_tick_from_a_wrong_future_does_not_hold_a_start_up(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    step_at(f, BEGIN + 3650 * DAY);
    wait_idle(f);
    set_clock(f, BEGIN);
    restart(f);
    assert_int_equal(scheduler_step(f->service), BEGIN + HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tick_becomes_a_record_on_disk),
        TEST(the_thread_starts_what_is_due),
        TEST(the_timer_wakes_the_thread),
        TEST(a_stop_does_not_wait_for_the_next_tick),
        TEST(every_repo_that_is_due_is_started),
        TEST(a_repo_starts_later_than_its_tick_by_its_jitter),
        TEST(a_scheduled_job_can_be_cancelled),
        TEST(a_failing_job_keeps_its_schedule),
        TEST(a_busy_repo_drops_the_tick_and_says_so),
        TEST(ctl_is_busy_while_a_scheduled_job_runs),
        TEST(fifty_ticks_during_one_run_start_no_other),
        TEST(scheduled_repos_of_one_store_take_turns),
        TEST(three_missed_ticks_are_one_job),
        TEST(without_catch_up_they_are_told_of),
        TEST(a_restart_catches_up_once),
        TEST(a_tick_is_stored_with_its_job),
        TEST(a_job_that_was_interrupted_by_a_stop_had_its_tick),
        TEST(a_machine_that_is_never_on_at_the_tick_catches_up),
        TEST(a_repo_that_is_new_owes_nothing),
        TEST(a_tick_from_a_wrong_future_does_not_hold_a_start_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
