/* SPDX-License-Identifier: MIT */
/*
 * test_cron.c - what schedules mean and when they come, by the hour where clocks change.
 * tests/oracle/cron.py tries thousands more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/clock.h"
#include "util/cron.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cron *must_parse(const char *schedule)
{
    struct cron *c = NULL;
    char why[512];

    if (cron_parse(schedule, &c, why, sizeof why) != 0)
        fail_msg("'%s': %s", schedule, why);
    return c;
}

/* Minutes are enough: "2026-11-21T06:30", UTC. */
static time_ms at(const char *text)
{
    char whole[TIME_TEXT_MAX];
    time_ms t;

    snprintf(whole, sizeof whole, "%s:00Z", text);
    if (time_parse(whole, &t) != 0)
        fail_msg("'%s' is no time", text);
    return t;
}

/* The ticks after `after` are those listed, blank-separated. */
static void expect(const char *schedule, const char *after, const char *ticks)
{
    struct cron *c = must_parse(schedule);
    time_ms t = at(after), next;
    char copy[512], text[TIME_TEXT_MAX], *save;

    snprintf(copy, sizeof copy, "%s", ticks);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        assert_true(cron_next(c, t, &next));
        if (next != at(word))
            fail_msg("'%s': %s and not %s", schedule, time_format(next, text), word);
        t = next;
    }
    cron_free(c);
}

/* In UTC. */
static void expect_utc(const char *schedule, const char *after, const char *ticks)
{
    char whole[256];

    snprintf(whole, sizeof whole, "CRON_TZ=UTC %s", schedule);
    expect(whole, after, ticks);
}

static void expect_refused(const char *schedule, size_t column, const char *word)
{
    struct cron *c;
    char why[512], where[32];

    if (cron_parse(schedule, &c, why, sizeof why) != -1)
        fail_msg("'%s' was taken", schedule);
    snprintf(where, sizeof where, "column %zu: ", column);
    if (strncmp(why, where, strlen(where)) != 0 || !strstr(why, word) ||
        !strstr(why, "; allowed: "))
        fail_msg("'%s': %s; not %s%s", schedule, why, where, word);
}

/* ---- fields ---- */

static void the_usual_schedules_come_when_expected(void **state)
{
    (void)state;
    expect_utc("* * * * *", "2026-11-21T06:30", "2026-11-21T06:31 2026-11-21T06:32");
    expect_utc("0 * * * *", "2026-11-21T06:30", "2026-11-21T07:00 2026-11-21T08:00");
    expect_utc("30 2 * * *", "2026-11-21T06:30", "2026-11-22T02:30 2026-11-23T02:30");
    expect_utc("*/5 * * * *", "2026-11-21T06:53", "2026-11-21T06:55 2026-11-21T07:00");
    expect_utc("0 3 * * 1", "2026-11-21T06:30", "2026-11-23T03:00 2026-11-30T03:00");
    expect_utc("15 4 1 * *", "2026-11-21T06:30", "2026-12-01T04:15 2027-01-01T04:15");
    expect_utc("0 0 25 12 *", "2026-12-25T00:00", "2027-12-25T00:00");
}

static void the_next_tick_is_after_and_never_at(void **state)
{
    struct cron *c = must_parse("CRON_TZ=UTC 30 6 * * *");
    const time_ms tick = at("2026-11-21T06:30"), day = 86400000;
    time_ms next;

    (void)state;
    assert_true(cron_next(c, tick - 1, &next) && next == tick);
    assert_true(cron_next(c, tick, &next) && next == tick + day);
    assert_true(cron_next(c, tick + 1, &next) && next == tick + day);
    assert_true(cron_next(c, tick - 999, &next) && next == tick);
    assert_true(cron_next(c, tick - 1001, &next) && next == tick);
    cron_free(c);
}

static void fields_are_lists_of_values_ranges_and_steps(void **state)
{
    (void)state;
    expect_utc("1,3,50-52 0 * * *", "2026-11-21T06:30",
               "2026-11-22T00:01 2026-11-22T00:03 2026-11-22T00:50 2026-11-22T00:51 "
               "2026-11-22T00:52 2026-11-23T00:01");
    expect_utc("10-30/15 0 * * *", "2026-11-21T06:30",
               "2026-11-22T00:10 2026-11-22T00:25 2026-11-23T00:10");
    expect_utc("40/10 0 * * *", "2026-11-21T06:30",
               "2026-11-22T00:40 2026-11-22T00:50 2026-11-23T00:40");
    expect_utc("0 */11 * * *", "2026-11-21T06:30",
               "2026-11-21T11:00 2026-11-21T22:00 2026-11-22T00:00");
    expect_utc("?/30 ? ? ? ?", "2026-11-21T06:31", "2026-11-21T07:00 2026-11-21T07:30");
    expect_utc("059 0,00 * * *", "2026-11-21T06:30", "2026-11-22T00:59");
    expect_utc("0 0 1 */5 *", "2026-11-21T06:30",
               "2027-01-01T00:00 2027-06-01T00:00 2027-11-01T00:00");
}

static void months_and_days_have_names(void **state)
{
    (void)state;
    expect_utc("0 0 1 feb,Apr-JUN *", "2026-11-21T06:30",
               "2027-02-01T00:00 2027-04-01T00:00 2027-05-01T00:00 2027-06-01T00:00 "
               "2028-02-01T00:00");
    expect_utc("0 0 * * mon-wed", "2026-11-21T06:30",
               "2026-11-23T00:00 2026-11-24T00:00 2026-11-25T00:00 2026-11-30T00:00");
    expect_utc("0 0 * * FRI/1", "2026-11-21T06:30", "2026-11-27T00:00 2026-11-28T00:00");
}

static void sunday_is_0_and_7(void **state)
{
    static const char *const sundays[] = {"0", "7", "sun", "7-7", "sun-sun", "0-0", "7/2", "*/7"};
    static const char *const weekends[] = {"6-7", "sat-sun", "6,0", "sat,7", "0,6", "6-7/1"};
    char schedule[64];

    (void)state;
    for (size_t i = 0; i < sizeof sundays / sizeof sundays[0]; i++) {
        snprintf(schedule, sizeof schedule, "0 0 * * %s", sundays[i]);
        expect_utc(schedule, "2026-11-21T06:30", "2026-11-22T00:00 2026-11-29T00:00");
    }
    for (size_t i = 0; i < sizeof weekends / sizeof weekends[0]; i++) {
        snprintf(schedule, sizeof schedule, "0 0 * * %s", weekends[i]);
        expect_utc(schedule, "2026-11-21T06:30",
                   "2026-11-22T00:00 2026-11-28T00:00 2026-11-29T00:00 2026-12-05T00:00");
    }
    expect_utc("0 0 * * 5-7", "2026-11-21T06:30", "2026-11-22T00:00 2026-11-27T00:00");
    expect_utc("0 0 * * 0-7", "2026-11-21T06:30", "2026-11-22T00:00 2026-11-23T00:00");
    /* A step from a day of the week ends on Saturday. */
    expect_utc("0 0 * * 1/2", "2026-11-21T06:30",
               "2026-11-23T00:00 2026-11-25T00:00 2026-11-27T00:00 2026-11-30T00:00");
    expect_utc("0 0 * * 1-7/2", "2026-11-21T06:30", "2026-11-22T00:00 2026-11-23T00:00");
}

static void either_day_is_enough_if_both_are_restricted(void **state)
{
    (void)state;
    expect_utc("0 0 13 * 5", "2026-11-01T00:00",
               "2026-11-06T00:00 2026-11-13T00:00 2026-11-20T00:00 2026-11-27T00:00 "
               "2026-12-04T00:00 2026-12-11T00:00 2026-12-13T00:00");
    expect_utc("0 0 1-31 * 5", "2026-11-01T00:00", "2026-11-02T00:00");
}

static void both_days_must_fit_if_one_begins_with_a_star(void **state)
{
    (void)state;
    expect_utc("0 0 * * 5", "2026-11-01T00:00", "2026-11-06T00:00 2026-11-13T00:00");
    expect_utc("0 0 13 * *", "2026-11-01T00:00", "2026-11-13T00:00 2026-12-13T00:00");
    expect_utc("0 0 */2 * 5", "2026-11-01T00:00", "2026-11-13T00:00 2026-11-27T00:00");
    expect_utc("0 0 13 * */5", "2026-11-01T00:00", "2026-11-13T00:00 2026-12-13T00:00");
    expect_utc("0 0 13 * ?/2", "2026-11-01T00:00", "2026-12-13T00:00");
    expect_utc("0 0 *,13 * 5", "2026-11-06T00:00", "2026-11-13T00:00 2026-11-20T00:00");
    expect_utc("0 0 13,* * 5", "2026-11-06T00:00", "2026-11-07T00:00");
}

static void rare_dates_come_and_months_keep_their_lengths(void **state)
{
    (void)state;
    expect_utc("0 0 29 2 *", "2026-11-21T06:30", "2028-02-29T00:00 2032-02-29T00:00");
    expect_utc("0 0 29 2 *", "2096-02-29T00:00", "2104-02-29T00:00");
    /* A Sunday, and 40 years to the next across 2100. */
    expect_utc("0 0 29 2 */7", "2026-11-21T06:30",
               "2032-02-29T00:00 2060-02-29T00:00 2088-02-29T00:00 2128-02-29T00:00");
    expect_utc("0 0 31 * *", "2026-11-21T06:30",
               "2026-12-31T00:00 2027-01-31T00:00 2027-03-31T00:00");
    expect_utc("59 23 31 12 *", "2026-12-31T23:58", "2026-12-31T23:59 2027-12-31T23:59");
}

/* ---- words ---- */

static void words_stand_for_their_fields(void **state)
{
    (void)state;
    expect("CRON_TZ=UTC @hourly", "2026-11-21T06:30", "2026-11-21T07:00 2026-11-21T08:00");
    expect("CRON_TZ=UTC @daily", "2026-11-21T06:30", "2026-11-22T00:00 2026-11-23T00:00");
    expect("CRON_TZ=UTC @midnight", "2026-11-21T06:30", "2026-11-22T00:00");
    expect("CRON_TZ=UTC @weekly", "2026-11-21T06:30", "2026-11-22T00:00 2026-11-29T00:00");
    expect("CRON_TZ=UTC @monthly", "2026-11-21T06:30", "2026-12-01T00:00 2027-01-01T00:00");
    expect("CRON_TZ=UTC @yearly", "2026-11-21T06:30", "2027-01-01T00:00 2028-01-01T00:00");
    expect("CRON_TZ=UTC @annually", "2026-11-21T06:30", "2027-01-01T00:00");
}

static void every_comes_at_multiples_since_the_epoch(void **state)
{
    (void)state;
    expect("@every 1m", "2026-11-21T06:30", "2026-11-21T06:31");
    expect("@every 1h30m", "2026-11-21T06:30", "2026-11-21T07:30 2026-11-21T09:00");
    expect("@every 90m", "2026-11-21T06:29", "2026-11-21T07:30");
    expect("CRON_TZ=Australia/Lord_Howe @every 1d", "2026-11-21T06:30", "2026-11-22T00:00");
    expect("  @every   7d  ", "1970-01-01T00:00", "1970-01-08T00:00 1970-01-15T00:00");
    expect("@every 366d", "1970-01-01T00:00", "1971-01-02T00:00");
    expect("@every 365d24h", "1970-01-01T00:00", "1971-01-02T00:00");

    struct cron *c = must_parse("@every 1d2h3m4s");
    const time_ms period = ((26 * 60 + 3) * 60 + 4) * 1000;
    time_ms next;
    assert_true(cron_next(c, 20000 * period, &next) && next == 20001 * period);
    assert_true(cron_next(c, 20000 * period - 1, &next) && next == 20000 * period);
    cron_free(c);
}

/* ---- gaps and overlaps ---- */

/* Rome, 2026-03-29: 02:00 is 03:00, at 01:00 UTC. */
static void in_a_gap_a_tick_runs_once_right_after_it(void **state)
{
    (void)state;
    expect("TZ=Europe/Rome 30 2 * * *", "2026-03-27T12:00",
           "2026-03-28T01:30 2026-03-29T01:00 2026-03-30T00:30");
    expect("TZ=Europe/Rome 0 2 * * *", "2026-03-28T12:00", "2026-03-29T01:00 2026-03-30T00:00");
    expect("TZ=Europe/Rome 59 2 29 3 *", "2026-03-28T12:00", "2026-03-29T01:00 2027-03-29T00:59");
    expect("TZ=Europe/Rome 30 1,3 * * *", "2026-03-29T00:00",
           "2026-03-29T00:30 2026-03-29T01:30 2026-03-29T23:30");
}

static void all_ticks_of_a_gap_are_one(void **state)
{
    (void)state;
    expect("TZ=Europe/Rome */10 2 * * *", "2026-03-28T12:00",
           "2026-03-29T01:00 2026-03-30T00:00 2026-03-30T00:10");
    /* with the one that is due at the first instant anyway */
    expect("TZ=Europe/Rome 0,30 2,3 * * *", "2026-03-28T12:00",
           "2026-03-29T01:00 2026-03-29T01:30 2026-03-30T00:00");
}

static void a_gap_is_not_searched_twice(void **state)
{
    struct cron *c = must_parse("TZ=Europe/Rome 30 2 * * *");
    time_ms next;

    (void)state;
    assert_true(cron_next(c, at("2026-03-29T01:00") - 1, &next));
    assert_true(next == at("2026-03-29T01:00"));
    assert_true(cron_next(c, at("2026-03-29T01:00"), &next));
    assert_true(next == at("2026-03-30T00:30"));
    assert_true(cron_next(c, at("2026-03-29T01:00") + 1, &next));
    assert_true(next == at("2026-03-30T00:30"));
    cron_free(c);
}

/* Rome, 2026-10-25: 03:00 is 02:00, at 01:00 UTC. */
static void in_an_overlap_a_tick_runs_in_the_first_pass_only(void **state)
{
    (void)state;
    expect("TZ=Europe/Rome 30 2 * * *", "2026-10-24T12:00", "2026-10-25T00:30 2026-10-26T01:30");
    expect("TZ=Europe/Rome */20 2 * * *", "2026-10-24T12:00",
           "2026-10-25T00:00 2026-10-25T00:20 2026-10-25T00:40 2026-10-26T01:00");
    expect("TZ=Europe/Rome 0 2,3 * * *", "2026-10-24T12:00",
           "2026-10-25T00:00 2026-10-25T02:00 2026-10-26T01:00");
    /* asked in the middle of the second pass */
    expect("TZ=Europe/Rome 45 2 * * *", "2026-10-25T01:30", "2026-10-26T01:45");
}

static void a_schedule_of_all_hours_follows_real_time(void **state)
{
    (void)state;
    expect("TZ=Europe/Rome 0 * * * *", "2026-10-24T23:30",
           "2026-10-25T00:00 2026-10-25T01:00 2026-10-25T02:00 2026-10-25T03:00");
    expect("TZ=Europe/Rome */30 * * * *", "2026-10-25T00:15",
           "2026-10-25T00:30 2026-10-25T01:00 2026-10-25T01:30 2026-10-25T02:00");
    expect("TZ=Europe/Rome 30 * * * *", "2026-03-29T00:00",
           "2026-03-29T00:30 2026-03-29T01:30 2026-03-29T02:30");
    /* however it is written */
    expect("TZ=Europe/Rome 5 0-23 * * *", "2026-10-25T00:30", "2026-10-25T01:05");
    expect("TZ=Europe/Rome 5 0-11,12/1 * * *", "2026-10-25T00:30", "2026-10-25T01:05");
    expect("TZ=Europe/Rome @hourly", "2026-10-25T00:30", "2026-10-25T01:00 2026-10-25T02:00");
    /* all but one hour: the same local time is not taken twice */
    expect("TZ=Europe/Rome 5 0-22 * * *", "2026-10-25T00:30", "2026-10-25T02:05");
}

static void half_an_hour_of_daylight_saving_is_one_too(void **state)
{
    (void)state;
    /* Lord Howe, 2026-10-04: 02:00 is 02:30, at 15:30 UTC the day before. */
    expect("TZ=Australia/Lord_Howe 15 2 * * *", "2026-10-03T12:00",
           "2026-10-03T15:30 2026-10-04T15:15");
    /* 2026-04-05: 02:00 is 01:30, at 15:00 UTC the day before. */
    expect("TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T12:00",
           "2026-04-04T14:45 2026-04-05T15:15");
    expect("TZ=Australia/Lord_Howe 45 * * * *", "2026-04-04T14:30",
           "2026-04-04T14:45 2026-04-04T15:15 2026-04-04T16:15");
}

static void a_day_that_never_was_is_a_gap(void **state)
{
    (void)state;
    /* Apia left 2011-12-30 out: 2011-12-29 24:00 was 2011-12-31 00:00, at 10:00 UTC. */
    expect("TZ=Pacific/Apia 0 12 30 12 *", "2011-12-29T00:00", "2011-12-30T10:00 2012-12-29T22:00");
    expect("TZ=Pacific/Apia 0 12 30,31 12 *", "2011-12-29T00:00",
           "2011-12-30T10:00 2011-12-30T22:00");
}

static void years_after_the_zones_table_are_like_others(void **state)
{
    (void)state;
    expect("TZ=Europe/Rome 30 2 * * *", "2050-03-26T12:00", "2050-03-27T01:00 2050-03-28T00:30");
    expect("TZ=Europe/Rome 30 2 * * *", "2050-10-29T12:00", "2050-10-30T00:30 2050-10-31T01:30");
    expect("TZ=America/New_York 0 12 * * *", "2399-07-01T17:00", "2399-07-02T16:00");
}

static void without_a_zone_it_is_the_machines(void **state)
{
    (void)state;
    setenv("TZ", "XYZ-5:30", 1);
    expect("0 12 * * *", "2026-11-21T06:30", "2026-11-22T06:30");
    setenv("TZ", "America/New_York", 1);
    expect("0 12 * * *", "2026-11-21T06:30", "2026-11-21T17:00");
    setenv("TZ", "Mars/Olympus", 1);
    expect_refused(" 0 12 * * *", 2, "TZ=Mars/Olympus");
    unsetenv("TZ");
}

/* ---- bounds ---- */

static void time_ends_with_9999_and_begins_with_1970(void **state)
{
    struct cron *c = must_parse("CRON_TZ=UTC 59 23 31 12 *"), *e = must_parse("@every 1m");
    time_ms next;

    (void)state;
    assert_true(cron_next(c, at("9999-12-31T23:58"), &next) && next == at("9999-12-31T23:59"));
    assert_false(cron_next(c, at("9999-12-31T23:59"), &next));
    assert_false(cron_next(c, INT64_MAX, &next));
    assert_true(cron_next(c, INT64_MIN, &next) && next == at("1970-12-31T23:59"));
    assert_true(cron_next(e, at("9999-12-31T23:58"), &next) && next == at("9999-12-31T23:59"));
    assert_false(cron_next(e, at("9999-12-31T23:59"), &next));
    assert_false(cron_next(e, INT64_MAX, &next));
    assert_true(cron_next(e, INT64_MIN, &next) && next == 0);
    assert_true(cron_next(e, -1, &next) && next == 0);
    assert_true(cron_next(e, 0, &next) && next == 60000);
    cron_free(c);
    cron_free(e);
}

/* A walk minute by minute would take minutes here, and only a hang breaks meson's bound. */
static void rare_ticks_are_found_fast(void **state)
{
    struct cron *c = must_parse("CRON_TZ=America/New_York 0 0 29 2 */7");
    time_ms next;

    (void)state;
    for (int i = 0; i < 3000; i++)
        assert_true(cron_next(c, at("2088-03-01T00:00") + i, &next) &&
                    next == at("2128-02-29T05:00"));
    cron_free(c);
}

/* ---- refusals ---- */

static void what_is_no_schedule_is_refused_where_it_is_wrong(void **state)
{
    (void)state;
    expect_refused("", 1, "empty");
    expect_refused(" \t ", 4, "empty");
    expect_refused("gibberish", 1, "no value");
    expect_refused("* *", 4, "day of the month is missing");
    expect_refused("* * * *", 8, "day of the week is missing");
    expect_refused("* * * * * *", 11, "follows");
    expect_refused("99 * * * *", 1, "out of range");
    expect_refused("60 * * * *", 1, "minutes 0-59");
    expect_refused("0 24 * * *", 3, "hours 0-23");
    expect_refused("0 0 0 * *", 5, "days of the month 1-31");
    expect_refused("0 0 32 * *", 5, "days of the month 1-31");
    expect_refused("* * * 13 *", 7, "months 1-12");
    expect_refused("* * * 0 *", 7, "months 1-12");
    expect_refused("* * * * 8", 9, "days of the week 0-7");
    expect_refused("99999999999999999999 * * * *", 1, "out of range");
    expect_refused("-1 * * * *", 1, "no value");
    expect_refused("1- * * * *", 3, "no value");
    expect_refused("1, * * * *", 3, "no value");
    expect_refused(",1 * * * *", 1, "no value");
    expect_refused("1,,2 * * * *", 3, "no value");
    expect_refused("5-3 * * * *", 1, "backwards");
    expect_refused("1,5-3 * * * *", 3, "backwards");
    expect_refused("0 0 * * 5-0", 9, "backwards");
    expect_refused("0 0 * * fri-mon", 9, "backwards");
    expect_refused("1-2-3 * * * *", 4, "unexpected");
    expect_refused("1.5 * * * *", 2, "unexpected");
    expect_refused("** * * * *", 2, "unexpected");
    expect_refused("*-5 * * * *", 2, "unexpected");
    expect_refused("*/0 * * * *", 3, "1 to 59");
    expect_refused("*/60 * * * *", 3, "1 to 59");
    expect_refused("* */24 * * *", 5, "1 to 23");
    expect_refused("*/ * * * *", 3, "no number");
    expect_refused("*/x * * * *", 3, "no number");
    expect_refused("1/2/3 * * * *", 4, "unexpected");
    expect_refused("jan * * * *", 1, "no value");
    expect_refused("0 0 1 january *", 7, "no value");
    expect_refused("0 0 1 ja *", 7, "no value");
    expect_refused("0 0 * * mond", 9, "no value");
    expect_refused("0 0 * * jan", 9, "no value");
    expect_refused("0 0 * * 1\n", 10, "unexpected");
    expect_refused("0 0 L * *", 5, "no value");
}

static void a_date_that_never_comes_is_refused(void **state)
{
    (void)state;
    expect_refused("0 0 30 2 *", 5, "none of the months");
    expect_refused(" 0  0 30,31 feb ?", 7, "none of the months");
    expect_refused("0 0 31 4,6,9,11 *", 5, "none of the months");
    expect_refused("0 0 31 4-6/2 */2", 5, "none of the months"); /* April, June */
}

static void a_date_that_comes_sometimes_is_taken(void **state)
{
    (void)state;
    expect_utc("0 0 30 2 1", "2026-11-21T06:30", "2027-02-01T00:00"); /* or a Monday */
    expect_utc("0 0 31 2-3 *", "2026-11-21T06:30", "2027-03-31T00:00");
    expect_utc("0 0 */31 2 *", "2026-11-21T06:30", "2027-02-01T00:00");
}

static void a_zone_must_be_there_and_be_followed(void **state)
{
    (void)state;
    expect_refused("CRON_TZ=UTC", 12, "schedule is missing");
    expect_refused("TZ=UTC", 7, "schedule is missing");
    expect_refused("CRON_TZ=UTC  ", 14, "schedule is missing");
    expect_refused("CRON_TZ=", 9, "name of a time zone");
    expect_refused("CRON_TZ= * * * * *", 9, "name of a time zone");
    expect_refused("CRON_TZ=Mars/Olympus * * * * *", 9, "no time zone Mars/Olympus");
    expect_refused("TZ=../../../etc/localtime * * * * *", 4, "name of a time zone");
    expect_refused("TZ=/etc/localtime * * * * *", 4, "name of a time zone");
    expect_refused("CRON_TZ=UTC* * * * *", 9, "name of a time zone");
    expect_refused("CRON_TZ=UTC TZ=UTC * * * * *", 13, "no value");
    expect_refused("cron_tz=UTC * * * * *", 1, "no value");
    expect_refused("CRON_TZ=UTC * * * *", 20, "day of the week is missing");
    expect_refused("CRON_TZ=UTC 0 0 30 2 *", 17, "none of the months");
}

static void words_that_are_not_known_are_refused(void **state)
{
    (void)state;
    expect_refused("@reboot", 1, "@hourly");
    expect_refused("@Daily", 1, "unknown");
    expect_refused("@", 1, "unknown");
    expect_refused("@daily x", 8, "follows");
    expect_refused("@dailyx", 1, "unknown");
    expect_refused("@every", 7, "a number is missing");
    expect_refused("@every ", 8, "a number is missing");
    expect_refused("@every1h", 1, "unknown");
    expect_refused("@every 1", 9, "no unit");
    expect_refused("@every h", 8, "a number is missing");
    expect_refused("@every 1h 30m", 11, "follows");
    expect_refused("@every 30m1h", 12, "not in order");
    expect_refused("@every 1h1h", 11, "not in order");
    expect_refused("@every 1.5h", 9, "no unit");
    expect_refused("@every -1h", 8, "a number is missing");
    expect_refused("@every 500ms", 12, "a number is missing");
    expect_refused("@every 59s", 8, "1m to 366d");
    expect_refused("@every 0h", 8, "1m to 366d");
    expect_refused("@every 366d1s", 8, "1m to 366d");
    expect_refused("@every 99999999999999999999d", 8, "1m to 366d");
    expect_refused("@every 1w", 9, "no unit");
}

static void a_short_place_for_the_reason_is_enough(void **state)
{
    struct cron *c;
    char why[8];

    (void)state;
    assert_int_equal(cron_parse("99 * * * *", &c, why, sizeof why), -1);
    assert_string_equal(why, "column ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_schedules_come_when_expected),
        cmocka_unit_test(the_next_tick_is_after_and_never_at),
        cmocka_unit_test(fields_are_lists_of_values_ranges_and_steps),
        cmocka_unit_test(months_and_days_have_names),
        cmocka_unit_test(sunday_is_0_and_7),
        cmocka_unit_test(either_day_is_enough_if_both_are_restricted),
        cmocka_unit_test(both_days_must_fit_if_one_begins_with_a_star),
        cmocka_unit_test(rare_dates_come_and_months_keep_their_lengths),
        cmocka_unit_test(words_stand_for_their_fields),
        cmocka_unit_test(every_comes_at_multiples_since_the_epoch),
        cmocka_unit_test(in_a_gap_a_tick_runs_once_right_after_it),
        cmocka_unit_test(all_ticks_of_a_gap_are_one),
        cmocka_unit_test(a_gap_is_not_searched_twice),
        cmocka_unit_test(in_an_overlap_a_tick_runs_in_the_first_pass_only),
        cmocka_unit_test(a_schedule_of_all_hours_follows_real_time),
        cmocka_unit_test(half_an_hour_of_daylight_saving_is_one_too),
        cmocka_unit_test(a_day_that_never_was_is_a_gap),
        cmocka_unit_test(years_after_the_zones_table_are_like_others),
        cmocka_unit_test(without_a_zone_it_is_the_machines),
        cmocka_unit_test(time_ends_with_9999_and_begins_with_1970),
        cmocka_unit_test(rare_ticks_are_found_fast),
        cmocka_unit_test(what_is_no_schedule_is_refused_where_it_is_wrong),
        cmocka_unit_test(a_date_that_never_comes_is_refused),
        cmocka_unit_test(a_date_that_comes_sometimes_is_taken),
        cmocka_unit_test(a_zone_must_be_there_and_be_followed),
        cmocka_unit_test(words_that_are_not_known_are_refused),
        cmocka_unit_test(a_short_place_for_the_reason_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
