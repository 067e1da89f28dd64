/* SPDX-License-Identifier: MIT */
/*
 * test_schedule.c - when a repo's backup starts, over a cron whose ticks are counted: the time is a
 * number here, and so is the work that a jump of the clock costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/schedule.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define DAY     ((time_ms)24 * HOUR)
#define YEAR    (365 * DAY)
#define BEGIN   ((time_ms)1999987200000) /* a midnight */
#define LATE_MS ((time_ms)SCHEDULE_LATE_MS)

/* ---- a cron that ticks at the multiples of its period, up to its end ---- */

struct cron {
    time_ms period, end;
    int calls;
};

bool cron_next(const struct cron *c, time_ms after, time_ms *next)
{
    ((struct cron *)c)->calls++;
    *next = (after / c->period + 1) * c->period;
    return *next <= c->end;
}

void cron_free(struct cron *c)
{
    c->period = 0;
}

static struct cron cron;

static struct schedule every(time_ms period, time_ms jitter, bool catch_up)
{
    struct schedule s;

    cron = (struct cron){.period = period, .end = INT64_MAX};
    schedule_begin(&s, &cron, jitter, catch_up, BEGIN, BEGIN);
    return s;
}

static void expect(struct schedule *s, time_ms now, enum schedule_due due, time_ms tick)
{
    time_ms got = 0;
    enum schedule_due what = schedule_look(s, now, &got);

    if (what != due)
        fail_msg("%lld ms in it is %d, not %d", (long long)(now - BEGIN), what, due);
    if (due != SCHEDULE_WAIT)
        assert_int_equal(got - BEGIN, tick - BEGIN);
}

/* ---- ticks that are on time ---- */

static void a_tick_is_due_at_its_time_and_once(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);

    assert_int_equal(s.fire, BEGIN + HOUR);
    expect(&s, BEGIN + HOUR - 1, SCHEDULE_WAIT, 0);
    expect(&s, BEGIN + HOUR, SCHEDULE_RUN, BEGIN + HOUR);
    schedule_handled(&s, BEGIN + HOUR);
    expect(&s, BEGIN + HOUR, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + 2 * HOUR);
}

static void looking_handles_nothing(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);

    expect(&s, BEGIN + HOUR, SCHEDULE_RUN, BEGIN + HOUR);
    expect(&s, BEGIN + HOUR + 1, SCHEDULE_RUN, BEGIN + HOUR);
}

static void a_tick_is_on_time_up_to_a_bound(void **state)
{
    (void)state;
    struct schedule s = every(DAY, 0, false);

    expect(&s, BEGIN + DAY + LATE_MS, SCHEDULE_RUN, BEGIN + DAY);
    expect(&s, BEGIN + DAY + LATE_MS + 1, SCHEDULE_MISSED, BEGIN + DAY + LATE_MS + 1);
}

static void of_ticks_that_are_due_together_one_run_stands_for_all(void **state)
{
    (void)state;
    struct schedule s = every(MINUTE, 0, false);
    time_ms now = BEGIN + 5 * MINUTE + 7 * SECOND;

    expect(&s, now, SCHEDULE_RUN, BEGIN + 5 * MINUTE);
    schedule_handled(&s, BEGIN + 5 * MINUTE);
    expect(&s, now, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + 6 * MINUTE);
}

static void a_tick_on_time_stands_for_the_missed_ones_before_it(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);

    expect(&s, BEGIN + 5 * HOUR + MINUTE, SCHEDULE_RUN, BEGIN + 5 * HOUR);
}

/* ---- ticks that were missed ---- */

static void missed_ticks_are_dropped_together(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);
    time_ms now = BEGIN + 5 * HOUR + 30 * MINUTE;

    expect(&s, now, SCHEDULE_MISSED, now);
    schedule_handled(&s, now);
    expect(&s, now, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + 6 * HOUR);
}

static void with_catch_up_one_run_is_owed_for_them(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, true);
    time_ms now = BEGIN + 5 * HOUR + 30 * MINUTE;

    expect(&s, now, SCHEDULE_CATCH, now);
    schedule_handled(&s, now);
    expect(&s, now, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + 6 * HOUR);
}

static void catch_up_changes_nothing_for_a_tick_on_time(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, true);

    expect(&s, BEGIN + HOUR, SCHEDULE_RUN, BEGIN + HOUR);
}

/* ---- jitter ---- */

static void jitter_moves_the_fire_and_not_the_tick(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 5 * MINUTE, false);

    assert_int_equal(s.fire, BEGIN + HOUR + 5 * MINUTE);
    expect(&s, BEGIN + HOUR + 5 * MINUTE - 1, SCHEDULE_WAIT, 0);
    expect(&s, BEGIN + HOUR + 5 * MINUTE, SCHEDULE_RUN, BEGIN + HOUR);
    schedule_handled(&s, BEGIN + HOUR);
    assert_int_equal(s.fire, BEGIN + 2 * HOUR + 5 * MINUTE);
}

static void lateness_counts_from_the_fire(void **state)
{
    (void)state;
    struct schedule s = every(DAY, 5 * MINUTE, false);
    time_ms fire = BEGIN + DAY + 5 * MINUTE;

    expect(&s, fire + LATE_MS, SCHEDULE_RUN, BEGIN + DAY);
    expect(&s, fire + LATE_MS + 1, SCHEDULE_MISSED, BEGIN + DAY + LATE_MS + 1);
}

static void a_jitter_beyond_the_period_loses_no_tick(void **state)
{
    (void)state;
    struct schedule s = every(MINUTE, 5 * MINUTE, false);

    for (time_ms tick = BEGIN + MINUTE; tick < BEGIN + 20 * MINUTE; tick += MINUTE) {
        expect(&s, tick + 5 * MINUTE - 1, SCHEDULE_WAIT, 0);
        expect(&s, tick + 5 * MINUTE, SCHEDULE_RUN, tick);
        schedule_handled(&s, tick);
    }
}

/* A tick whose fire is still to come has not been missed. */
static void what_is_dropped_ends_where_the_jitter_begins(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 50 * MINUTE, false);
    time_ms now = BEGIN + 5 * HOUR + 30 * MINUTE;

    expect(&s, now, SCHEDULE_MISSED, now - 50 * MINUTE);
    schedule_handled(&s, now - 50 * MINUTE);
    assert_int_equal(s.fire, BEGIN + 5 * HOUR + 50 * MINUTE);
}

/* ---- a clock that jumps ---- */

static void a_clock_a_little_back_repeats_nothing(void **state)
{
    (void)state;
    struct schedule s = every(MINUTE, 0, false);

    schedule_handled(&s, BEGIN + HOUR);
    for (time_ms now = BEGIN + HOUR - LATE_MS; now < BEGIN + HOUR + MINUTE; now += MINUTE)
        expect(&s, now, SCHEDULE_WAIT, 0);
    expect(&s, BEGIN + HOUR + MINUTE, SCHEDULE_RUN, BEGIN + HOUR + MINUTE);
}

static void a_clock_far_back_begins_anew_from_there(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, true);

    schedule_handled(&s, BEGIN + 10 * DAY);
    expect(&s, BEGIN + 9 * DAY + 1, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + 9 * DAY + HOUR);
    expect(&s, BEGIN + 9 * DAY + HOUR, SCHEDULE_RUN, BEGIN + 9 * DAY + HOUR);
}

static void a_day_forward_is_a_day_missed(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false), patient = every(HOUR, 0, true);
    time_ms now = BEGIN + DAY + 30 * MINUTE;

    expect(&s, now, SCHEDULE_MISSED, now);
    expect(&patient, now, SCHEDULE_CATCH, now);
}

/* And back to where it was: what was handled in between does not hold up what comes now. */
static void a_day_forward_and_back_goes_on_as_before(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);
    time_ms wrong = BEGIN + DAY + 30 * MINUTE;

    expect(&s, wrong, SCHEDULE_MISSED, wrong);
    schedule_handled(&s, wrong);
    expect(&s, BEGIN + 5 * MINUTE, SCHEDULE_WAIT, 0);
    expect(&s, BEGIN + HOUR, SCHEDULE_RUN, BEGIN + HOUR);
}

/* Ten years of minutes are five million ticks. */
static void a_jump_of_years_walks_over_a_handful_of_ticks(void **state)
{
    (void)state;
    time_ms now = BEGIN + 10 * YEAR + 7 * SECOND;

    for (int jitter = 0; jitter <= DAY; jitter += DAY / 2) {
        struct schedule s = every(MINUTE, jitter, true);
        expect(&s, now, SCHEDULE_RUN, now - jitter - 7 * SECOND);
        schedule_handled(&s, now - jitter - 7 * SECOND);
        expect(&s, now, SCHEDULE_WAIT, 0);
        assert_in_range(cron.calls, 2, 30);
    }
}

static void a_missed_decade_costs_no_more(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, true);
    time_ms now = BEGIN + 10 * YEAR + 30 * MINUTE;

    expect(&s, now, SCHEDULE_CATCH, now);
    schedule_handled(&s, now);
    expect(&s, now, SCHEDULE_WAIT, 0);
    assert_in_range(cron.calls, 2, 10);
}

/* ---- where it begins ---- */

static struct schedule begun(time_ms handled, time_ms now)
{
    struct schedule s;

    cron = (struct cron){.period = HOUR, .end = INT64_MAX};
    schedule_begin(&s, &cron, 0, true, handled, now);
    return s;
}

static void a_schedule_that_is_new_owes_nothing(void **state)
{
    (void)state;
    struct schedule s = begun(0, BEGIN + 30 * MINUTE);

    expect(&s, BEGIN + 30 * MINUTE, SCHEDULE_WAIT, 0);
    assert_int_equal(s.fire, BEGIN + HOUR);
}

static void a_start_goes_on_from_what_was_handled(void **state)
{
    (void)state;
    time_ms now = BEGIN + DAY + 30 * MINUTE;
    struct schedule s = begun(BEGIN, now);

    expect(&s, now, SCHEDULE_CATCH, now);
}

static void what_was_handled_just_ahead_of_the_clock_stays_handled(void **state)
{
    (void)state;
    struct schedule s = begun(BEGIN + HOUR, BEGIN + HOUR - LATE_MS);

    assert_int_equal(s.fire, BEGIN + 2 * HOUR);
}

static void what_was_handled_in_the_far_future_is_not_believed(void **state)
{
    (void)state;
    struct schedule s = begun(BEGIN + 10 * YEAR, BEGIN + 30 * MINUTE);

    assert_int_equal(s.fire, BEGIN + HOUR);
}

/* ---- what could not be started ---- */

static void what_is_put_off_is_due_again_after_a_while(void **state)
{
    (void)state;
    struct schedule s = every(DAY, 0, false);
    time_ms again = BEGIN + DAY + SCHEDULE_RETRY_MS;

    schedule_postpone(&s, BEGIN + DAY);
    assert_int_equal(s.fire, again);
    expect(&s, again - 1, SCHEDULE_WAIT, 0);
    expect(&s, again, SCHEDULE_RUN, BEGIN + DAY);
}

static void what_is_put_off_for_long_is_still_owed(void **state)
{
    (void)state;
    struct schedule s = every(DAY, 0, false);
    time_ms now = BEGIN + DAY, tick;

    for (int i = 0; i < 60; i++) {
        assert_int_equal(schedule_look(&s, now, &tick), SCHEDULE_RUN);
        schedule_postpone(&s, now);
        now += SCHEDULE_RETRY_MS;
    }
    expect(&s, now, SCHEDULE_RUN, now);
    schedule_handled(&s, now);
    assert_int_equal(s.fire, BEGIN + 2 * DAY);
    expect(&s, BEGIN + 2 * DAY + HOUR, SCHEDULE_MISSED, BEGIN + 2 * DAY + HOUR);
}

static void the_next_tick_stands_for_one_that_was_put_off(void **state)
{
    (void)state;
    struct schedule s = every(MINUTE, 0, false);

    schedule_postpone(&s, BEGIN + MINUTE + 5 * SECOND);
    expect(&s, BEGIN + 2 * MINUTE + 5 * SECOND, SCHEDULE_RUN, BEGIN + 2 * MINUTE);
    schedule_handled(&s, BEGIN + 2 * MINUTE);
    assert_int_equal(s.fire, BEGIN + 3 * MINUTE);
}

/* ---- where it ends ---- */

static void behind_the_last_tick_there_is_nothing(void **state)
{
    (void)state;
    struct schedule s;

    cron = (struct cron){.period = HOUR, .end = BEGIN + HOUR};
    schedule_begin(&s, &cron, 5 * MINUTE, true, BEGIN, BEGIN);
    schedule_handled(&s, BEGIN + HOUR);
    assert_int_equal(s.fire, 0);
    expect(&s, BEGIN + 10 * YEAR, SCHEDULE_WAIT, 0);
}

static void release_frees_the_cron(void **state)
{
    (void)state;
    struct schedule s = every(HOUR, 0, false);

    schedule_release(&s);
    assert_int_equal(cron.period, 0);
    assert_null(s.cron);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tick_is_due_at_its_time_and_once),
        cmocka_unit_test(looking_handles_nothing),
        cmocka_unit_test(a_tick_is_on_time_up_to_a_bound),
        cmocka_unit_test(of_ticks_that_are_due_together_one_run_stands_for_all),
        cmocka_unit_test(a_tick_on_time_stands_for_the_missed_ones_before_it),
        cmocka_unit_test(missed_ticks_are_dropped_together),
        cmocka_unit_test(with_catch_up_one_run_is_owed_for_them),
        cmocka_unit_test(catch_up_changes_nothing_for_a_tick_on_time),
        cmocka_unit_test(jitter_moves_the_fire_and_not_the_tick),
        cmocka_unit_test(lateness_counts_from_the_fire),
        cmocka_unit_test(a_jitter_beyond_the_period_loses_no_tick),
        cmocka_unit_test(what_is_dropped_ends_where_the_jitter_begins),
        cmocka_unit_test(a_clock_a_little_back_repeats_nothing),
        cmocka_unit_test(a_clock_far_back_begins_anew_from_there),
        cmocka_unit_test(a_day_forward_is_a_day_missed),
        cmocka_unit_test(a_day_forward_and_back_goes_on_as_before),
        cmocka_unit_test(a_jump_of_years_walks_over_a_handful_of_ticks),
        cmocka_unit_test(a_missed_decade_costs_no_more),
        cmocka_unit_test(a_schedule_that_is_new_owes_nothing),
        cmocka_unit_test(a_start_goes_on_from_what_was_handled),
        cmocka_unit_test(what_was_handled_just_ahead_of_the_clock_stays_handled),
        cmocka_unit_test(what_was_handled_in_the_far_future_is_not_believed),
        cmocka_unit_test(what_is_put_off_is_due_again_after_a_while),
        cmocka_unit_test(what_is_put_off_for_long_is_still_owed),
        cmocka_unit_test(the_next_tick_stands_for_one_that_was_put_off),
        cmocka_unit_test(behind_the_last_tick_there_is_nothing),
        cmocka_unit_test(release_frees_the_cron),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
