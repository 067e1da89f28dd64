/* SPDX-License-Identifier: MIT */
/*
 * overdue.c, and the longest gap of a schedule (cron.c), which its default is made of. That gap is
 * also compared with what a walk from tick to tick finds.
 */
#include "service/overdue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE ((time_ms)60 * 1000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
/* 2026-11-21 12:00 UTC, a Saturday */
#define NOON ((time_ms)1795262400000)

static struct cron *parse(const char *text)
{
    struct cron *c;
    char why[256];

    if (cron_parse(text, &c, why, sizeof why) != 0)
        fail_msg("%s: %s", text, why);
    return c;
}

static time_ms gap_of(const char *text)
{
    struct cron *c = parse(text);
    time_ms gap = cron_longest_gap(c, NOON);

    cron_free(c);
    return gap;
}

/* ---- gaps ---- */

static void gaps_are_those_between_two_starts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        time_ms gap;
    } rows[] = {

        {"@every 6h", 6 * HOUR},
        {"@every 90m", 90 * MINUTE},
        {"* * * * *", MINUTE},
        {"0 * * * *", HOUR},
        {"0,50 * * * *", 50 * MINUTE},
        {"@daily", DAY},
        {"0 3 * * *", DAY},
        {"0 3,5 * * *", 22 * HOUR},
        {"@weekly", 7 * DAY},
        {"0 3 * * 1-5", 3 * DAY},
        {"0 3,21 * * mon-fri", 2 * DAY + 6 * HOUR},
        {"*/5 9-17 * * 1-5", 2 * DAY + 15 * HOUR + 5 * MINUTE},
        {"* * * 1 *", 334 * DAY + MINUTE},
        {"@monthly", 31 * DAY},
        {"0 0 31 * *", 61 * DAY},
        {"@yearly", 365 * DAY},
        {"0 0 29 2 *", 1461 * DAY},
        {"0 0 13 * 5", 7 * DAY},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "CRON_TZ=UTC %s", rows[i].text);
        if (gap_of(text) != rows[i].gap)
            fail_msg("%s: %lld min", text, (long long)(gap_of(text) / MINUTE));
    }
}

static void an_hour_more_where_the_clock_changes(void **state)
{
    (void)state;

    assert_int_equal(gap_of("CRON_TZ=Europe/Rome 0 3 * * *"), DAY + HOUR);
    assert_int_equal(gap_of("CRON_TZ=Asia/Tokyo 0 3 * * *"), DAY);
    /* Those of all 24 hours follow real time. */
    assert_int_equal(gap_of("CRON_TZ=Europe/Rome 30 * * * *"), HOUR);
    assert_int_equal(gap_of("CRON_TZ=Europe/Rome @every 1d"), DAY);
}

/* No two ticks of a year are further apart, and some are so, but for what summer time makes of it.
 */
static void a_walk_finds_no_longer_gap(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "CRON_TZ=UTC 17 3 * * 1-5",         "CRON_TZ=Europe/Rome 30 2 * * *",
        "CRON_TZ=Europe/Rome 0 1,23 * * *", "CRON_TZ=America/New_York 15 */7 1,15 * *",
        "CRON_TZ=UTC 0 4 2-30/3 * *",       "CRON_TZ=Australia/Lord_Howe 5 2 * 1-6 0",
        "CRON_TZ=Europe/Rome 45 */2 * * *", "CRON_TZ=UTC 0 0 1 jan,jul *",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct cron *c = parse(texts[i]);
        time_ms tick, next, longest = 0, gap = cron_longest_gap(c, NOON);
        assert_true(cron_next(c, NOON, &tick));
        for (; tick < NOON + 400 * DAY; tick = next) {
            assert_true(cron_next(c, tick, &next));
            longest = next - tick > longest ? next - tick : longest;
        }
        if (longest > gap || longest < gap - 2 * HOUR)
            fail_msg("%s: %lld, and by a walk %lld min", texts[i], (long long)(gap / MINUTE),
                     (long long)(longest / MINUTE));
        cron_free(c);
    }
}

/* ---- what is expected ---- */

static void by_default_the_longest_gap_and_half_and_jitter(void **state)
{
    (void)state;
    struct cron *workdays = parse("CRON_TZ=UTC 0 3 * * 1-5");

    assert_int_equal(overdue_every(NULL, workdays, 5 * MINUTE, NOON),
                     4 * DAY + 12 * HOUR + 5 * MINUTE);
    assert_int_equal(overdue_every("2h", workdays, 5 * MINUTE, NOON), 2 * HOUR);
    assert_int_equal(overdue_every("never", workdays, 0, NOON), 0);
    assert_int_equal(overdue_every("0", workdays, 0, NOON), 0);
    assert_int_equal(overdue_every(NULL, NULL, 5 * MINUTE, NOON), 0);
    assert_int_equal(overdue_every("90m", NULL, 0, NOON), 90 * MINUTE);
    cron_free(workdays);
}

static time_ms since(time_ms every, time_ms first, time_ms newest, time_ms now)
{
    return overdue_since(&(struct promise){.every = every, .since = first, .newest = newest}, now);
}

static void a_record_is_late_when_it_is_older_than_promised(void **state)
{
    (void)state;

    assert_int_equal(since(DAY, 0, NOON, NOON + DAY), 0);
    assert_int_equal(since(DAY, 0, NOON, NOON + DAY + 1), NOON + DAY);
    assert_int_equal(since(0, 0, NOON, NOON + 1000 * DAY), 0);
    /* When it was first expected does not matter any more, nor does a restart since. */
    assert_int_equal(since(DAY, NOON + DAY, NOON, NOON + DAY + 1), NOON + DAY);
    assert_int_equal(since(DAY, 1, NOON, NOON + 1), 0);
}

static void without_a_record_it_counts_from_when_one_was_first_expected(void **state)
{
    (void)state;

    assert_int_equal(since(DAY, NOON, 0, NOON + DAY), 0);
    assert_int_equal(since(DAY, NOON, 0, NOON + 2 * DAY), NOON + DAY);
}

static void a_monday_to_friday_backup_is_not_late_on_sunday(void **state)
{
    (void)state;
    struct cron *c = parse("CRON_TZ=UTC 0 3 * * 1-5");
    time_ms friday = NOON - DAY - 9 * HOUR, every = overdue_every(NULL, c, 0, NOON);

    assert_int_equal(since(every, 1, friday, friday + 2 * DAY), 0);
    assert_int_equal(since(every, 1, friday, friday + 3 * DAY + HOUR), 0);
    assert_int_not_equal(since(every, 1, friday, friday + 5 * DAY), 0);
    cron_free(c);
}

static void a_wrong_clock_does_not_silence_it(void **state)
{
    (void)state;

    /* The newest record is dated years ahead: the time since one is expected stands in for it. */
    assert_int_equal(since(DAY, NOON, NOON + 1000 * DAY, NOON + 2 * DAY), NOON + DAY);
    assert_int_equal(since(DAY, NOON, NOON + 1000 * DAY, NOON + HOUR), 0);
    /* A minute ahead is nothing. */
    assert_int_equal(since(DAY, 1, NOON + MINUTE, NOON), 0);
    assert_int_not_equal(since(DAY, 1, NOON + MINUTE + 1, NOON), 0);
    /* The clock went back behind all that is known: nothing can be said. */
    assert_int_equal(since(DAY, NOON, NOON, NOON - 100 * DAY), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_those_between_two_starts),
        cmocka_unit_test(an_hour_more_where_the_clock_changes),
        cmocka_unit_test(a_walk_finds_no_longer_gap),
        cmocka_unit_test(by_default_the_longest_gap_and_half_and_jitter),
        cmocka_unit_test(a_record_is_late_when_it_is_older_than_promised),
        cmocka_unit_test(without_a_record_it_counts_from_when_one_was_first_expected),
        cmocka_unit_test(a_monday_to_friday_backup_is_not_late_on_sunday),
        cmocka_unit_test(a_wrong_clock_does_not_silence_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
