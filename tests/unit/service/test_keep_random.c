/* SPDX-License-Identifier: MIT */
/*
 * test_keep_random.c - random histories and policies: the decision is the one of a slow model of
 * the rules, and what must hold for all of them does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/keep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND ((time_ms)1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

enum { HISTORIES = 100000, MOST = 1000 };

static struct keep_item items[MOST]; /* newest first */
static size_t count;

static uint64_t random_state; /* splitmix64, https://prng.di.unimi.it/splitmix64.c */

static uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* 0..n-1 */
static int64_t below(int64_t n)
{
    return (int64_t)(random_bits() % (uint64_t)n);
}

static bool one_in(int64_t n)
{
    return below(n) == 0;
}

/* At random distances, with equal times and with times on either side of a period's begin. */
static void random_history(size_t n)
{
    static const time_ms steps[] = {MINUTE, 20 * MINUTE, HOUR,     6 * HOUR,
                                    DAY,    7 * DAY,     30 * DAY, 200 * DAY};
    static const time_ms edges[] = {HOUR, DAY};
    time_ms step = steps[below(sizeof steps / sizeof steps[0])];
    time_ms t = below(150 * 365 * DAY) - 10 * 365 * DAY; /* 1960 to 2110 */
    bool pins = one_in(4);

    for (count = 0; count < n; count++) {
        items[count] = (struct keep_item){.created_at = t, .pinned = pins && one_in(4)};
        /* As "%026zu" of n - count would give. */
        memset(items[count].ulid, '0', ULID_LEN);
        for (size_t d = n - count, i = ULID_LEN; d > 0; d /= 10)
            items[count].ulid[--i] = (char)('0' + d % 10);
        if (!one_in(8))
            t -= below(2 * step);
        if (one_in(8)) {
            time_ms edge = edges[below(2)];
            t -= (t % edge + edge) % edge + below(2);
        }
    }
}

static int64_t random_limit(void)
{
    return one_in(2) ? 0 : one_in(50) ? INT64_MAX : 1 + below(8);
}

static struct keep_policy random_policy(void)
{
    struct keep_policy p = {.count = random_limit(),
                            .age_days = random_limit(),
                            .hourly = random_limit(),
                            .daily = random_limit(),
                            .weekly = random_limit(),
                            .monthly = random_limit(),
                            .yearly = random_limit()};

    if (one_in(3))
        p = (struct keep_policy){.age_days = 1 + below(1000), .daily = one_in(2)};
    return p;
}

/* On the edge of an age, before the newest, or after it. */
static time_ms random_now(const struct keep_policy *p)
{
    if (count == 0)
        return 0;
    if (one_in(3) && p->age_days < 1000)
        return items[below((int64_t)count)].created_at + p->age_days * DAY;
    return items[0].created_at + (one_in(4) ? -below(30 * DAY) : below(30 * DAY));
}

static int64_t widen(int64_t limit)
{
    return one_in(2) || limit == INT64_MAX ? limit : limit + 1 + below(5);
}

/* A policy that keeps at least what `p` keeps; one without rules keeps most of all. */
static struct keep_policy wider(struct keep_policy p)
{
    static const struct keep_policy all;

    if (one_in(20) || memcmp(&p, &all, sizeof p) == 0)
        return all;
    return (struct keep_policy){widen(p.count),  widen(p.age_days), widen(p.hourly), widen(p.daily),
                                widen(p.weekly), widen(p.monthly),  widen(p.yearly)};
}

/* ---- the model: each rule as its sentence in the header, over all pairs of records ---- */

enum { PERIODS = 6 };
static int64_t period[PERIODS][MOST]; /* as a person writes them: 2026093012, ..., 2026 */
static unsigned expected[MOST];

/* By the C library's calendar. For the rule count, each record is a period. */
static void model_periods(void)
{
    for (size_t i = 0; i < count; i++) {
        /* 400,000 days on and back, since / rounds up before 1970. */
        time_t seconds = (time_t)((items[i].created_at + 400000 * DAY) / SECOND - 400000 * 86400L);
        struct tm tm;
        char week[16];
        gmtime_r(&seconds, &tm);
        strftime(week, sizeof week, "%G%V", &tm);
        period[5][i] = (int64_t)i;
        period[4][i] = tm.tm_year + 1900;
        period[3][i] = period[4][i] * 100 + tm.tm_mon + 1;
        period[2][i] = atoi(week);
        period[1][i] = period[3][i] * 100 + tm.tm_mday;
        period[0][i] = period[1][i] * 100 + tm.tm_hour;
    }
}

/* A record that is not pinned stays if no newer one is of its period, and fewer than `limit`
 * periods were found before it. */
static void model_rule(unsigned rule, int64_t limit, const int64_t *of)
{
    int64_t found = 0;

    for (size_t i = 0; limit > 0 && i < count; i++) {
        bool first = !items[i].pinned;
        for (size_t j = i; first && j-- > 0;)
            first = items[j].pinned || of[j] != of[i];
        if (first && found++ < limit)
            expected[i] |= rule;
    }
}

static void model(const struct keep_policy *p, time_ms now)
{
    bool rules =
        p->count || p->age_days || p->hourly || p->daily || p->weekly || p->monthly || p->yearly;
    unsigned any = 0;

    memset(expected, 0, sizeof expected);
    model_rule(KEEP_COUNT, p->count, period[5]);
    model_rule(KEEP_HOURLY, p->hourly, period[0]);
    model_rule(KEEP_DAILY, p->daily, period[1]);
    model_rule(KEEP_WEEKLY, p->weekly, period[2]);
    model_rule(KEEP_MONTHLY, p->monthly, period[3]);
    model_rule(KEEP_YEARLY, p->yearly, period[4]);
    for (size_t i = 0; i < count; i++) {
        __int128 age = (__int128)now - items[i].created_at;
        if (age < 0 || (p->age_days && age <= (__int128)p->age_days * DAY))
            expected[i] |= KEEP_AGE;
        if (items[i].pinned || !rules)
            expected[i] = items[i].pinned ? KEEP_PINNED : KEEP_ALL;
        any |= expected[i];
    }
    if (!any)
        expected[0] = KEEP_LAST;
}

/* ---- what must hold for each history ---- */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("history %" PRIu64 ", record %zu of %zu: not %s", history, i, count,          \
                     #condition);                                                                  \
    } while (0)

static void check_decision(uint64_t history, const struct keep_policy *p, time_ms now)
{
    bool any = false;
    size_t i;

    keep_decide(p, items, count, now);
    model_periods();
    model(p, now);
    for (i = 0; i < count; i++) {
        CHECK(items[i].rules == expected[i]);
        CHECK(items[i].kept == (items[i].rules != 0));
        CHECK(items[i].kept || !items[i].pinned);
        any |= items[i].kept;
    }
    CHECK(any || count == 0);
}

static void check_wider(uint64_t history, const struct keep_policy *p, time_ms now)
{
    static struct keep_item more[MOST];
    struct keep_policy w = wider(*p);

    memcpy(more, items, count * sizeof items[0]);
    keep_decide(&w, more, count, now);
    for (size_t i = 0; i < count; i++)
        CHECK(more[i].kept || !items[i].kept);
}

/* The records of `list` that are kept; their number. */
static size_t delete_others(struct keep_item *list, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++)
        if (list[i].kept)
            list[left++] = list[i];
    return left;
}

static void check_second_pass(uint64_t history, const struct keep_policy *p, time_ms now)
{
    static struct keep_item again[MOST];
    size_t left;

    memcpy(again, items, count * sizeof items[0]);
    left = delete_others(again, count);
    keep_decide(p, again, left, now);
    for (size_t i = 0; i < left; i++)
        CHECK(again[i].kept);
}

/* A pass after each backup leaves what one pass at the end would. */
static void check_pass_after_each(uint64_t history, const struct keep_policy *p, time_ms now)
{
    static struct keep_item left[MOST];
    size_t n = 0, i = 0, j = 0;

    for (size_t made = count; made-- > 0;) {
        memmove(left + 1, left, n * sizeof left[0]);
        left[0] = items[made];
        keep_decide(p, left, n + 1, left[0].created_at < now ? left[0].created_at : now);
        n = delete_others(left, n + 1);
    }
    keep_decide(p, left, n, now);
    n = delete_others(left, n);
    for (; i < count; i++)
        if (items[i].kept)
            CHECK(j < n && strcmp(left[j++].ulid, items[i].ulid) == 0);
    CHECK(j == n);
}

static void random_histories_are_decided_as_the_rules_say(void **state)
{
    (void)state;
    for (uint64_t history = 0; history < HISTORIES; history++) {
        random_state = history;
        random_history((size_t)(history % 10000 == 9999 ? MOST : below(61)));
        struct keep_policy p = random_policy();
        time_ms now = random_now(&p);
        check_decision(history, &p, now);
        check_wider(history, &p, now);
        check_second_pass(history, &p, now);
        if (history % 10 == 0)
            check_pass_after_each(history, &p, now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories_are_decided_as_the_rules_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
