/* SPDX-License-Identifier: MIT */
/*
 * test_scheduler_plan.c - what is to be started when: starts that are put off, plans that a reload
 * changes, schedules that cannot be read.
 */
#include "plan.h"

/* ---- what cannot be started now ---- */

static void a_full_queue_is_tried_again_until_there_is_room(void **state)
{
    struct fixture *f = *state;
    time_ms now = BEGIN + HOUR;

    script = held;
    set_key(f, "max_queue", "1");
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    run_ok(f, "b/one");
    wait_entered(1);
    for (; now < BEGIN + HOUR + 20 * MINUTE; now += SCHEDULE_RETRY_MS)
        assert_int_equal(step_at(f, now), now + SCHEDULE_RETRY_MS);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    assert_true(why_has(f, "a", "its start is tried again: "));
    assert_int_equal(tick_of(f, "a", "one"), BEGIN);
    let_go(2);
    wait_idle(f);
    step_at(f, now);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
    assert_string_equal(latest_job(f).store, "a");
    assert_false(why_has(f, "a", "tried again"));
}

static void a_tick_that_a_stop_forestalls_is_left_to_the_next_start(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    live_stop(&f->service->live);
    step_at(f, BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN);
    set_clock(f, BEGIN + HOUR + MINUTE);
    restart(f);
    scheduler_step(f->service);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    assert_int_equal(tick_of(f, "a", "one"), BEGIN + HOUR);
}

static void once_stopping_it_starts_nothing(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    scheduler_stop(f->service->scheduler);
    step_at(f, BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
}

/* ---- another plan ---- */

static void reload(struct fixture *f, time_ms now)
{
    set_clock(f, now);
    scheduler_load(f->service, f->config, false);
}

static void an_unchanged_schedule_keeps_its_place(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    plan(f, "b", "one", EVERY_HOUR);
    begin(f);
    plan(f, "b", "one", "CRON_TZ=UTC 0 */1 * * *");
    reload(f, BEGIN + HOUR + MINUTE);
    assert_int_equal(service_next_run(f->service, "a", "one"), BEGIN + HOUR);
    assert_int_equal(service_next_run(f->service, "b", "one"), BEGIN + 2 * HOUR);
    scheduler_step(f->service);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    assert_string_equal(latest_job(f).store, "a");
}

static void the_same_plan_twice_is_one_plan(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    reload(f, BEGIN + MINUTE);
    reload(f, BEGIN + MINUTE);
    step_at(f, BEGIN + HOUR);
    wait_idle(f);
    step_at(f, BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
}

static void a_schedule_that_was_taken_away_starts_nothing(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    plan(f, "a", "one", NULL);
    plan(f, "b", "two", NULL); /* there was none */
    reload(f, BEGIN + MINUTE);
    assert_int_equal(step_at(f, BEGIN + HOUR), 0);
    assert_int_equal(service_next_run(f->service, "a", NULL), 0);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
    assert_true(why_has(f, "a", "no schedule"));
}

/* Even if a schedule that it once had left a tick. */
static void a_schedule_that_is_added_begins_now(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f);
    assert_int_equal(catalog_tick_set(f->catalog, "a", "one", BEGIN - 10 * DAY, &err), 0);
    plan(f, "a", "one", EVERY_HOUR);
    repo_says(repo_of(f, "a", "one"), "catch_up", "yes");
    reload(f, BEGIN + MINUTE);
    assert_int_equal(scheduler_step(f->service), BEGIN + HOUR);
    restart(f);
    assert_int_equal(scheduler_step(f->service), BEGIN + HOUR);
    assert_int_equal(count_of(f, LIST_JOBS), 0);
}

static void a_start_that_was_put_off_survives_a_reload(void **state)
{
    struct fixture *f = *state;

    script = held;
    set_key(f, "max_queue", "1");
    plan(f, "a", "one", EVERY_HOUR);
    begin(f);
    run_ok(f, "b/one");
    wait_entered(1);
    step_at(f, BEGIN + HOUR);
    reload(f, BEGIN + HOUR + 20 * MINUTE);
    assert_true(why_has(f, "a", "its start is tried again: "));
    let_go(2);
    wait_idle(f);
    scheduler_step(f->service);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 2);
}

/* ---- schedules that cannot be read ---- */

/* Runs `what` and returns what it logged; the caller frees. */
static char *log_of(struct fixture *f, void (*what)(struct fixture *f))
{
    SCOPED_PATH(path, f, "stderr");
    int before = dup(STDERR_FILENO);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

    assert_true(before >= 0 && fd >= 0);
    dup2(fd, STDERR_FILENO);
    what(f);
    dup2(before, STDERR_FILENO);
    close(before);
    close(fd);
    return read_file(path);
}

/* The configuration was checked with zones that have been removed since. */
static void a_zone_that_is_gone_stops_nothing_else(void **state)
{
    struct fixture *f = *state;

    plan(f, "a", "one", "CRON_TZ=Atlantis/Capital 0 * * * *");
    plan(f, "a", "two", "CRON_TZ=UTC");
    plan(f, "b", "one", EVERY_HOUR);
    __attribute__((cleanup(free_charp))) char *log = log_of(f, begin);
    assert_non_null(strstr(log, "a/one: no schedule: "));
    assert_non_null(strstr(log, "a/two: no schedule: "));
    assert_null(strstr(log, "b/one"));
    assert_int_equal(service_next_run(f->service, "a", NULL), 0);
    step_at(f, BEGIN + HOUR);
    wait_idle(f);
    assert_int_equal(count_of(f, LIST_JOBS), 1);
    back_up(f, "a/one");
}

static void what_is_no_schedule_is_refused_with_a_place(void **state)
{
    static const char *const bad[] = {
        "",           "gibberish",   "* * * *",   "99 * * * *", "* * * 13 *",
        "0 0 30 2 *", "CRON_TZ=UTC", "@every 1s", "@never",     "TZ=No/Where @daily"};
    struct fixture *f = *state;
    const struct setting *row = settings_row(&repo_of(f, "a", "one")->settings, "schedule");
    char why[SETTING_WHY_MAX], *kept;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (setting_parse(row, bad[i], &kept, why, sizeof why) == 0)
            fail_msg("'%s' is taken", bad[i]);
    assert_int_equal(setting_parse(row, "* * * 13 *", &kept, why, sizeof why), -1);
    assert_non_null(strstr(why, "column 7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_queue_is_tried_again_until_there_is_room),
        TEST(a_tick_that_a_stop_forestalls_is_left_to_the_next_start),
        TEST(once_stopping_it_starts_nothing),
        TEST(an_unchanged_schedule_keeps_its_place),
        TEST(the_same_plan_twice_is_one_plan),
        TEST(a_schedule_that_was_taken_away_starts_nothing),
        TEST(a_schedule_that_is_added_begins_now),
        TEST(a_start_that_was_put_off_survives_a_reload),
        TEST(a_zone_that_is_gone_stops_nothing_else),
        TEST(what_is_no_schedule_is_refused_with_a_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
