/* SPDX-License-Identifier: MIT */
/*
 * test_keep.c - which records stay: each rule by itself, and what other programs document. Random
 * histories are in test_keep_random.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/keep.h"
#include "util/clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND ((time_ms)1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

enum { MANY = 100000 };

/* Records of one repo, newest first once they are decided on. */
static struct keep_item items[MANY];
static size_t count;

static int setup(void **state)
{
    (void)state;
    count = 0;
    return 0;
}

static time_ms at(const char *text)
{
    time_ms t;

    if (time_parse(text, &t) != 0)
        fail_msg("%s is no time", text);
    return t;
}

/* Its ULID is the number of the call. */
static struct keep_item *add(time_ms created_at)
{
    struct keep_item *item = &items[count];

    *item = (struct keep_item){.created_at = created_at, .rules = 0xdead, .kept = true};
    snprintf(item->ulid, sizeof item->ulid, "%026zu", count++);
    return item;
}

static int newest_first(const void *a, const void *b)
{
    const struct keep_item *x = a, *y = b;

    if (x->created_at != y->created_at)
        return x->created_at < y->created_at ? 1 : -1;
    return strcmp(y->ulid, x->ulid);
}

static void decide(struct keep_policy p, time_ms now)
{
    qsort(items, count, sizeof items[0], newest_first);
    keep_decide(&p, items, count, now);
}

/* What stays, newest first: the first `len` characters of its time and the rules,
 * "2019-11-17:daily". */
static const char *kept(size_t len)
{
    static struct buf text;
    struct buf line = BUF_INIT;
    char time[TIME_TEXT_MAX];

    buf_release(&text);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(items[i].kept, items[i].rules != 0);
        if (!items[i].kept)
            continue;
        buf_truncate(&line, 0);
        keep_line(&items[i], &line);
        time_format(items[i].created_at, time);
        buf_addf(&text, "%s%.*s:%s", text.len ? " " : "", (int)len, time,
                 strstr(buf_text(&line), " keep ") + strlen(" keep "));
    }
    buf_release(&line);
    return buf_text(&text);
}

static size_t count_kept(unsigned rules)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += (items[i].rules & rules) != 0;
    return n;
}

/* ---- count, age, pins and the floor: the cases that were handed down ---- */

#define NOW at("2026-09-30T12:00:00Z")

/* Ten records, three days apart; the newest was made just now. */
static void ten_records(void)
{
    for (int i = 9; i >= 0; i--)
        add(NOW - i * 3 * DAY);
}

static void a_policy_without_rules_keeps_everything(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){0}, NOW);
    assert_int_equal(count_kept(KEEP_ALL), 10);
}

static void count_keeps_the_newest(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){.count = 5}, NOW);
    assert_string_equal(kept(10), "2026-09-30:count 2026-09-27:count 2026-09-24:count "
                                  "2026-09-21:count 2026-09-18:count");
}

static void age_keeps_what_is_younger(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){.age_days = 7}, NOW);
    assert_string_equal(kept(10), "2026-09-30:age 2026-09-27:age 2026-09-24:age");
}

static void age_keeps_beyond_the_count(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){.count = 3, .age_days = 30}, NOW);
    assert_int_equal(count_kept(KEEP_AGE), 10);
    assert_int_equal(count_kept(KEEP_COUNT), 3);
}

static void count_and_age_keep_the_union(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){.count = 3, .age_days = 7}, NOW);
    assert_string_equal(kept(10), "2026-09-30:count,age 2026-09-27:count,age 2026-09-24:count,age");
    decide((struct keep_policy){.count = 1, .age_days = 4}, NOW);
    assert_string_equal(kept(10), "2026-09-30:count,age 2026-09-27:age");
}

static void pinned_records_stay_and_use_up_no_count(void **state)
{
    (void)state;
    ten_records();
    items[9].pinned = items[5].pinned = items[0].pinned = true;
    decide((struct keep_policy){.count = 5}, NOW);
    assert_int_equal(count_kept(KEEP_PINNED), 3);
    assert_int_equal(count_kept(KEEP_COUNT), 5);
    assert_int_equal(count_kept(~0u), 8);
}

static void a_pinned_record_uses_up_no_period(void **state)
{
    (void)state;
    add(at("2026-09-01T08:00:00Z"));
    add(at("2026-09-01T09:00:00Z"))->pinned = true;
    add(at("2026-09-02T09:00:00Z"))->pinned = true;
    decide((struct keep_policy){.daily = 1, .age_days = 30}, NOW);
    assert_string_equal(kept(13), "2026-09-02T09:pinned 2026-09-01T09:pinned "
                                  "2026-09-01T08:age,daily");
}

static void the_only_record_stays_however_old(void **state)
{
    (void)state;
    add(at("2020-01-01T00:00:00Z"));
    decide((struct keep_policy){.age_days = 7}, NOW);
    assert_string_equal(kept(10), "2020-01-01:last");
}

static void of_many_old_records_the_newest_stays(void **state)
{
    (void)state;
    ten_records();
    decide((struct keep_policy){.age_days = 7}, NOW + 365 * DAY);
    assert_string_equal(kept(10), "2026-09-30:last");
}

static void a_pinned_record_is_floor_enough(void **state)
{
    (void)state;
    add(at("2020-01-01T00:00:00Z"))->pinned = true;
    add(at("2020-01-02T00:00:00Z"));
    add(at("2020-01-03T00:00:00Z"));
    decide((struct keep_policy){.age_days = 7}, NOW);
    assert_string_equal(kept(10), "2020-01-01:pinned");
}

static void no_records_are_no_trouble(void **state)
{
    (void)state;
    decide((struct keep_policy){.count = 1}, NOW);
    keep_decide(&(struct keep_policy){.count = 1}, NULL, 0, NOW);
}

static void age_is_inclusive_and_counts_hours_not_dates(void **state)
{
    (void)state;
    add(NOW - 7 * DAY - 1);
    add(NOW - 7 * DAY);
    decide((struct keep_policy){.age_days = 7}, NOW);
    assert_true(items[0].kept && items[0].rules == KEEP_AGE);
    assert_false(items[1].kept);
}

static void an_age_beyond_all_time_keeps_everything(void **state)
{
    (void)state;
    add(INT64_MIN);
    add(-2 * DAY);
    decide((struct keep_policy){.age_days = INT64_MAX}, NOW);
    assert_int_equal(count_kept(KEEP_AGE), 2);
    decide((struct keep_policy){.age_days = INT64_MAX / DAY + 1}, NOW);
    assert_int_equal(count_kept(KEEP_AGE), 2);
    decide((struct keep_policy){.age_days = INT64_MAX / DAY}, -DAY);
    assert_int_equal(count_kept(KEEP_AGE), 2);
}

static void a_record_of_the_future_stays_and_counts(void **state)
{
    (void)state;
    add(NOW - DAY);
    add(NOW);
    add(NOW + 1);
    add(NOW + 400 * DAY);
    decide((struct keep_policy){.count = 1}, NOW);
    assert_string_equal(kept(10), "2027-11-04:count,age 2026-09-30:age");
    assert_true(items[1].created_at == NOW + 1);
    decide((struct keep_policy){.daily = 2, .age_days = 1}, NOW);
    assert_string_equal(kept(10), "2027-11-04:age,daily 2026-09-30:age,daily 2026-09-30:age "
                                  "2026-09-29:age");
}

/* ---- what other programs document ---- */

/*
 * https://borgbackup.readthedocs.io/en/stable/usage/prune.html, docs/misc/prune-example.txt: a
 * backup on each day of 2015 but December 19; prune --keep-daily 14 --keep-monthly 6. borg skips
 * December for its months, since the daily rule has kept its last day, and reaches June; here
 * December is one of them, and seven months give the days and months of borg's calendar. (borg's
 * --keep-yearly 1 keeps the oldest record there, for want of an earlier year; that is not done
 * here.)
 */
static void borgs_calendar(void **state)
{
    static const char daily[] =
        "2015-12-31:daily,monthly 2015-12-30:daily 2015-12-29:daily 2015-12-28:daily "
        "2015-12-27:daily 2015-12-26:daily 2015-12-25:daily 2015-12-24:daily 2015-12-23:daily "
        "2015-12-22:daily 2015-12-21:daily 2015-12-20:daily 2015-12-18:daily 2015-12-17:daily "
        "2015-11-30:monthly 2015-10-31:monthly 2015-09-30:monthly 2015-08-31:monthly "
        "2015-07-31:monthly";
    char with_june[sizeof daily + 32];

    (void)state;
    for (time_ms t = at("2015-01-01T03:00:00Z"); t < at("2016-01-01T00:00:00Z"); t += DAY)
        if (t != at("2015-12-19T03:00:00Z"))
            add(t);
    assert_int_equal(count, 364);
    decide((struct keep_policy){.daily = 14, .monthly = 6}, at("2016-01-01T00:00:00Z"));
    assert_string_equal(kept(10), daily);
    decide((struct keep_policy){.daily = 14, .monthly = 7}, at("2016-01-01T00:00:00Z"));
    snprintf(with_june, sizeof with_june, "%s 2015-06-30:monthly", daily);
    assert_string_equal(kept(10), with_june);
}

/* https://restic.readthedocs.io/en/stable/060_forget.html: a backup every Sunday for 12 weeks. */
static void restics_sundays(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++)
        add(at("2019-09-01T11:00:00Z") + i * 7 * DAY);
    decide((struct keep_policy){.daily = 4}, at("2019-11-18T00:00:00Z"));
    assert_string_equal(kept(10),
                        "2019-11-17:daily 2019-11-10:daily 2019-11-03:daily 2019-10-27:daily");
}

/* The same page: of a backup every day for 100 years, daily 7, weekly 5, monthly 12, yearly 75
 * keeps 7 days, 4 more weeks, 12 or 11 more months and 75 or 74 more years. */
static void restics_hundred_years(void **state)
{
    size_t weeks = 0, months = 0, years = 0;

    (void)state;
    for (time_ms t = at("1924-01-01T12:00:00Z"); t < at("2024-01-01T00:00:00Z"); t += DAY)
        add(t);
    decide((struct keep_policy){.daily = 7, .weekly = 5, .monthly = 12, .yearly = 75}, NOW);
    for (size_t i = 0; i < count; i++) {
        unsigned rules = items[i].rules;
        weeks += rules == KEEP_WEEKLY;
        months += rules == KEEP_MONTHLY;
        years += rules == (KEEP_MONTHLY | KEEP_YEARLY) || rules == KEEP_YEARLY;
    }
    assert_int_equal(count_kept(KEEP_DAILY), 7);
    assert_int_equal(weeks, 4); /* 2023-12-31 is a Sunday, and the end of all four */
    assert_int_equal(months, 11);
    assert_int_equal(years, 74);
    assert_int_equal(count_kept(~0u), 7 + 4 + 11 + 74);
}

/* https://forum.restic.net/t/keep-vs-keep-within/6243 */
static void restics_five_snapshots(void **state)
{
    (void)state;
    add(at("2023-05-01T08:00:00Z"));
    add(at("2023-05-02T08:00:00Z"));
    add(at("2023-05-02T11:00:00Z"));
    add(at("2023-05-04T09:00:00Z"));
    add(at("2023-05-05T10:00:00Z"));
    decide((struct keep_policy){.daily = 4}, at("2023-05-05T12:00:00Z"));
    assert_string_equal(kept(13), "2023-05-05T10:daily 2023-05-04T09:daily 2023-05-02T11:daily "
                                  "2023-05-01T08:daily");
}

/* kopia's retention_policy_test.go: three weeks. */
static void kopias_weeks(void **state)
{
    (void)state;
    add(at("2020-01-01T12:00:00Z"));
    add(at("2020-01-01T15:00:00Z"));
    add(at("2020-01-08T12:00:00Z"));
    add(at("2020-01-09T12:00:00Z"));
    add(at("2020-01-15T12:00:00Z"));
    decide((struct keep_policy){.weekly = 3}, at("2020-01-16T00:00:00Z"));
    assert_string_equal(kept(13), "2020-01-15T12:weekly 2020-01-09T12:weekly 2020-01-01T15:weekly");
}

/* ---- periods ---- */

/* The ms before `begin` is of another period, and the ms before `end` is of the same one. */
static void expect_period(struct keep_policy two, time_ms begin, time_ms end)
{
    char text[TIME_TEXT_MAX];

    count = 0;
    add(begin - 1);
    add(begin);
    add(end - 1);
    decide(two, end);
    if (!items[0].kept || items[1].kept || !items[2].kept)
        fail_msg("the period that begins %s", time_format(begin, text));
}

static time_ms date(int year, int month, int day)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};

    return timegm(&tm) * SECOND;
}

static void months_and_years_begin_where_the_calendar_says(void **state)
{
    (void)state;
    for (int year = 1890; year <= 2410; year++) {
        expect_period((struct keep_policy){.yearly = 2}, date(year, 1, 1), date(year + 1, 1, 1));
        for (int month = 1; month <= 12; month++)
            expect_period((struct keep_policy){.monthly = 2}, date(year, month, 1),
                          date(year, month + 1, 1));
    }
}

static void hours_days_and_weeks_begin_on_the_hour_at_midnight_and_on_monday(void **state)
{
    time_ms monday = at("1967-01-02T00:00:00Z");

    (void)state;
    for (int week = 0; week < 52 * 80; week++, monday += 7 * DAY) {
        time_ms day = monday + week % 7 * DAY, hour = day + week % 24 * HOUR;
        expect_period((struct keep_policy){.weekly = 2}, monday, monday + 7 * DAY);
        expect_period((struct keep_policy){.daily = 2}, day, day + DAY);
        expect_period((struct keep_policy){.hourly = 2}, hour, hour + HOUR);
    }
}

/* Week 53 of 2020 ends on January 3. */
static void a_week_goes_on_over_new_year(void **state)
{
    (void)state;
    add(at("2020-12-27T12:00:00Z"));
    add(at("2020-12-28T12:00:00Z"));
    add(at("2021-01-03T12:00:00Z"));
    add(at("2021-01-04T12:00:00Z"));
    decide((struct keep_policy){.weekly = 4}, NOW);
    assert_string_equal(kept(10), "2021-01-04:weekly 2021-01-03:weekly 2020-12-27:weekly");
}

static void hours_without_records_do_not_count(void **state)
{
    (void)state;
    add(at("2025-01-01T10:10:00Z"));
    add(at("2025-01-01T10:50:00Z"));
    add(at("2026-03-01T10:05:00Z"));
    add(at("2026-03-01T10:55:00Z"));
    decide((struct keep_policy){.hourly = 2}, NOW);
    assert_string_equal(kept(16), "2026-03-01T10:55:hourly 2025-01-01T10:50:hourly");
}

static void of_equal_times_the_greater_ulid_is_the_newer(void **state)
{
    (void)state;
    add(NOW);
    add(NOW);
    decide((struct keep_policy){.daily = 1}, NOW);
    assert_int_equal(count_kept(KEEP_DAILY), 1);
    assert_true(items[0].kept);
    assert_string_equal(items[0].ulid, "00000000000000000000000001");
}

static void the_time_zone_does_not_matter(void **state)
{
    static const char *const zones[] = {"UTC0", "XXX-14", "XXX12", "CET-1CEST,M3.5.0,M10.5.0/3"};

    (void)state;
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        setenv("TZ", zones[i], 1);
        tzset();
        count = 0;
        add(at("2026-03-31T22:30:00Z"));
        add(at("2026-03-31T23:30:00Z"));
        add(at("2026-04-01T00:30:00Z"));
        decide((struct keep_policy){.daily = 9, .monthly = 9, .yearly = 9}, NOW);
        assert_string_equal(kept(13), "2026-04-01T00:daily,monthly,yearly "
                                      "2026-03-31T23:daily,monthly");
    }
    unsetenv("TZ");
    tzset();
}

static void a_hundred_thousand_records_are_no_trouble(void **state)
{
    (void)state;
    for (int i = 0; i < MANY; i++)
        add(NOW - i * HOUR);
    struct keep_policy p = {.count = 10,
                            .age_days = 30,
                            .hourly = 48,
                            .daily = 14,
                            .weekly = 8,
                            .monthly = 12,
                            .yearly = 1000};
    decide(p, NOW);
    assert_int_equal(count_kept(KEEP_COUNT), 10);
    assert_int_equal(count_kept(KEEP_AGE), 30 * 24 + 1);
    assert_int_equal(count_kept(KEEP_HOURLY), 48);
    assert_int_equal(count_kept(KEEP_DAILY), 14);
    assert_int_equal(count_kept(KEEP_WEEKLY), 8);
    assert_int_equal(count_kept(KEEP_MONTHLY), 12);
    assert_int_equal(count_kept(KEEP_YEARLY), 12); /* 2015 to 2026 */
}

/* ---- order ---- */

/* Decides on two records in a child; true if it aborts. */
static bool aborts(time_ms first, const char *first_ulid, time_ms second, const char *second_ulid)
{
    struct keep_item two[2] = {{.created_at = first}, {.created_at = second}};
    int status;
    pid_t pid;

    strcpy(two[0].ulid, first_ulid);
    strcpy(two[1].ulid, second_ulid);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        keep_decide(&(struct keep_policy){.count = 1}, two, 2, NOW);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void another_order_is_a_bug_of_the_caller(void **state)
{
    (void)state;
    assert_false(aborts(2, "A", 1, "B"));
    assert_false(aborts(1, "B", 1, "A"));
    assert_true(aborts(1, "B", 2, "A"));
    assert_true(aborts(1, "A", 1, "B"));
    assert_true(aborts(1, "A", 1, "A"));
}

/* ---- as text ---- */

static void expect_line(unsigned rules, const char *text)
{
    struct keep_item item = {.ulid = "01ARYZ6S41TSV4RRFFQ69G5FAV",
                             .created_at = at("2026-09-01T12:00:00Z"),
                             .rules = rules,
                             .kept = rules != 0};
    struct buf line = BUF_INIT;

    keep_line(&item, &line);
    assert_string_equal(buf_text(&line), text);
    buf_release(&line);
}

static void a_line_says_what_happens_and_why(void **state)
{
    (void)state;
    expect_line(0, "01ARYZ6S41TSV4RRFFQ69G5FAV 2026-09-01T12:00:00.000Z delete");
    expect_line(KEEP_LAST, "01ARYZ6S41TSV4RRFFQ69G5FAV 2026-09-01T12:00:00.000Z keep last");
    expect_line(KEEP_DAILY | KEEP_COUNT,
                "01ARYZ6S41TSV4RRFFQ69G5FAV 2026-09-01T12:00:00.000Z keep count,daily");
}

static void every_rule_has_its_name(void **state)
{
    static const char *const names[] = {"pinned", "count",   "age",    "hourly", "daily",
                                        "weekly", "monthly", "yearly", "last",   "all"};

    (void)state;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(keep_rule_name((enum keep_rule)(1u << i)), names[i]);
    assert_int_equal(KEEP_ALL, 1 << 9);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_policy_without_rules_keeps_everything),
        TEST(count_keeps_the_newest),
        TEST(age_keeps_what_is_younger),
        TEST(age_keeps_beyond_the_count),
        TEST(count_and_age_keep_the_union),
        TEST(pinned_records_stay_and_use_up_no_count),
        TEST(a_pinned_record_uses_up_no_period),
        TEST(the_only_record_stays_however_old),
        TEST(of_many_old_records_the_newest_stays),
        TEST(a_pinned_record_is_floor_enough),
        TEST(no_records_are_no_trouble),
        TEST(age_is_inclusive_and_counts_hours_not_dates),
        TEST(an_age_beyond_all_time_keeps_everything),
        TEST(a_record_of_the_future_stays_and_counts),
        TEST(borgs_calendar),
        TEST(restics_sundays),
        TEST(restics_hundred_years),
        TEST(restics_five_snapshots),
        TEST(kopias_weeks),
        TEST(months_and_years_begin_where_the_calendar_says),
        TEST(hours_days_and_weeks_begin_on_the_hour_at_midnight_and_on_monday),
        TEST(a_week_goes_on_over_new_year),
        TEST(hours_without_records_do_not_count),
        TEST(of_equal_times_the_greater_ulid_is_the_newer),
        TEST(the_time_zone_does_not_matter),
        TEST(another_order_is_a_bug_of_the_caller),
        TEST(a_line_says_what_happens_and_why),
        TEST(every_rule_has_its_name),
        TEST(a_hundred_thousand_records_are_no_trouble),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
