/* SPDX-License-Identifier: MIT */
/*
 * keep.c - one walk from the newest record to the oldest.
 *
 * A period is a number that never grows on that walk, so "the newest of its period" is "the first
 * after the number changed", and a rule needs to remember only the last number it kept. Each rule
 * that can keep anything keeps the newest record that is not pinned, or no record at all; hence a
 * wider policy never loses what the floor kept under a narrower one.
 */
#include "service/keep.h"

#include "util/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_MS ((time_ms)60 * 60 * 1000)
#define DAY_MS  (24 * HOUR_MS)

enum { SUSPECT_LOOKS_BACK = 5 };

static const struct {
    enum keep_rule rule;
    const char *name;
} names[] = {
    {KEEP_PINNED, "pinned"},   {KEEP_COUNT, "count"},   {KEEP_AGE, "age"},
    {KEEP_HOURLY, "hourly"},   {KEEP_DAILY, "daily"},   {KEEP_WEEKLY, "weekly"},
    {KEEP_MONTHLY, "monthly"}, {KEEP_YEARLY, "yearly"}, {KEEP_LAST, "last"},
    {KEEP_ALL, "all"},
};

enum { RULES = sizeof names / sizeof names[0] };

const char *keep_rule_name(enum keep_rule rule)
{
    size_t i = 0;

    while (i < RULES && names[i].rule != rule)
        i++;
    assert(i < RULES);
    return names[i].name;
}

/* ---- periods: numbers that grow by one from each to the next ---- */

/* Rounds down, also before 1970. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t hour_of(time_ms t)
{
    return floor_div(t, HOUR_MS);
}

static int64_t day_of(time_ms t)
{
    return floor_div(t, DAY_MS);
}

/* Day 0, 1970-01-01, was a Thursday: its week began three days before. */
static int64_t week_of(time_ms t)
{
    return floor_div(day_of(t) + 3, 7);
}

/* gmtime_r fails only for years that do not fit an int, and those of a time_ms do. */
static struct tm date_of(time_ms t)
{
    time_t seconds = (time_t)floor_div(t, 1000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    return tm;
}

static int64_t month_of(time_ms t)
{
    struct tm tm = date_of(t);

    return (int64_t)tm.tm_year * 12 + tm.tm_mon;
}

static int64_t year_of(time_ms t)
{
    return date_of(t).tm_year;
}

/* ---- the decision ---- */

struct period_rule {
    enum keep_rule rule;
    int64_t (*period_of)(time_ms t);
    int64_t left; /* periods that it may still keep a record of */
    int64_t last; /* the period of the last record that it kept */
};

static void keep_periods(struct period_rule *rules, size_t count, struct keep_item *item)
{
    for (struct period_rule *r = rules; r < rules + count; r++) {
        if (r->left == 0)
            continue;
        int64_t period = r->period_of(item->created_at);
        if (period == r->last)
            continue;
        r->last = period;
        r->left--;
        item->rules |= (unsigned)r->rule;
    }
}

static bool is_in_order(const struct keep_item *newer, const struct keep_item *older)
{
    return newer->created_at > older->created_at ||
           (newer->created_at == older->created_at && strcmp(newer->ulid, older->ulid) > 0);
}

/* The oldest time that age_days keeps; the beginning of time for a number of days beyond it. */
static time_ms age_limit(int64_t age_days, time_ms now)
{
    time_ms span, limit;

    if (__builtin_mul_overflow(age_days, DAY_MS, &span) ||
        __builtin_sub_overflow(now, span, &limit))
        return INT64_MIN;
    return limit;
}

static bool is_young(const struct keep_policy *p, time_ms created_at, time_ms now)
{
    return created_at > now || (p->age_days > 0 && created_at >= age_limit(p->age_days, now));
}

static bool is_empty(const struct keep_policy *p)
{
    assert(p->count >= 0 && p->age_days >= 0 && p->hourly >= 0 && p->daily >= 0 && p->weekly >= 0 &&
           p->monthly >= 0 && p->yearly >= 0);
    return !(p->count || p->age_days || p->hourly || p->daily || p->weekly || p->monthly ||
             p->yearly);
}

void keep_decide(const struct keep_policy *p, struct keep_item *items, size_t count, time_ms now)
{
    const time_ms none = INT64_MIN; /* no period has this number */
    struct period_rule periods[] = {
        {KEEP_HOURLY, hour_of, p->hourly, none}, {KEEP_DAILY, day_of, p->daily, none},
        {KEEP_WEEKLY, week_of, p->weekly, none}, {KEEP_MONTHLY, month_of, p->monthly, none},
        {KEEP_YEARLY, year_of, p->yearly, none},
    };
    bool empty = is_empty(p), any = false;
    int64_t seen = 0; /* that are not pinned */

    for (size_t i = 0; i < count; i++) {
        struct keep_item *item = &items[i];
        assert(i == 0 || is_in_order(item - 1, item));
        item->rules = item->pinned ? KEEP_PINNED : empty ? KEEP_ALL : 0;
        if (item->rules == 0) {
            if (seen++ < p->count)
                item->rules |= KEEP_COUNT;
            if (is_young(p, item->created_at, now))
                item->rules |= KEEP_AGE;
            keep_periods(periods, sizeof periods / sizeof periods[0], item);
        }
        item->kept = item->rules != 0;
        any |= item->kept;
    }
    if (count > 0 && !any) {
        items[0].rules = KEEP_LAST;
        items[0].kept = true;
    }
}

void keep_line(const struct keep_item *item, struct buf *out)
{
    char time[TIME_TEXT_MAX];
    const char *before = " keep ";

    buf_addf(out, "%s %s", item->ulid, time_format(item->created_at, time));
    if (!item->kept)
        buf_adds(out, " delete");
    for (size_t i = 0; i < RULES; i++)
        if (item->rules & (unsigned)names[i].rule) {
            buf_addf(out, "%s%s", before, names[i].name);
            before = ",";
        }
}

/* ---- judgements of a record and of the clock ---- */

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

bool keep_suspect(uint64_t newest_size, const uint64_t *earlier, size_t n, unsigned ratio_permille)
{
    typedef unsigned __int128 wide; /* holds a sum of two sizes times a ratio */
    uint64_t sizes[SUSPECT_LOOKS_BACK];
    size_t count = n < SUSPECT_LOOKS_BACK ? n : SUSPECT_LOOKS_BACK;

    if (count == 0)
        return false;
    memcpy(sizes, earlier, count * sizeof sizes[0]);
    qsort(sizes, count, sizeof sizes[0], by_size);
    wide twice_median = (wide)sizes[(count - 1) / 2] + sizes[count / 2];
    return (wide)newest_size * 2 * 1000 < twice_median * ratio_permille;
}

bool keep_clock_behind(time_ms now, time_ms newest)
{
    return newest > now;
}
