/* SPDX-License-Identifier: MIT */
/*
 * zone_rule.c - reading a rule, and the changes it makes around a given time.
 *
 * A change's time of day may be a week away from its date, so that those of one year can fall into
 * the next but one before or behind: five years' changes are looked at. Where an end and a
 * beginning coincide, the end comes first: "EST5EDT,0/0,J365/25" is how a rule says that daylight
 * saving lasts the whole year.
 */
#include "util/zone_rule.h"

#include "util/date.h"

#include <ctype.h>
#include <string.h>

/* ---- reading; each takes what it reads from *p and gives false if it is not there ---- */

static bool take(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool take_number(const char **p, int min, int max, int *out)
{
    const char *s = *p;
    int value = 0;

    while (isdigit((unsigned char)*s) && s - *p < 4)
        value = value * 10 + (*s++ - '0');
    if (s == *p || value < min || value > max)
        return false;
    *p = s;
    *out = value;
    return true;
}

/* Three letters or more, or between < and > also digits and signs. */
static bool take_name(const char **p)
{
    bool quoted = take(p, '<');
    const char *start = *p;

    while (isalpha((unsigned char)**p) ||
           (quoted && (isdigit((unsigned char)**p) || **p == '+' || **p == '-')))
        (*p)++;
    return *p - start >= 3 && (!quoted || take(p, '>'));
}

/* [+-]h[:m[:s]] in seconds. */
static bool take_time(const char **p, int max_hour, int32_t *out)
{
    int sign = take(p, '-') ? -1 : 1, hour, minute = 0, second = 0;

    if (sign == 1)
        take(p, '+');
    if (!take_number(p, 0, max_hour, &hour))
        return false;
    if (take(p, ':')) {
        if (!take_number(p, 0, 59, &minute))
            return false;
        if (take(p, ':') && !take_number(p, 0, 59, &second))
            return false;
    }
    *out = sign * (hour * 3600 + minute * 60 + second);
    return true;
}

/* POSIX counts offsets to the west. */
static bool take_offset(const char **p, int32_t *out)
{
    if (!take_time(p, 24, out))
        return false;
    *out = -*out;
    return true;
}

static bool take_day(const char **p, struct zone_rule_day *out)
{
    bool ok;

    *out = (struct zone_rule_day){.time = 2 * 3600};
    if (take(p, 'J')) {
        out->form = RULE_JULIAN;
        ok = take_number(p, 1, 365, &out->n);
    } else if (take(p, 'M')) {
        out->form = RULE_WEEKDAY;
        ok = take_number(p, 1, 12, &out->month) && take(p, '.') &&
             take_number(p, 1, 5, &out->week) && take(p, '.') &&
             take_number(p, 0, 6, &out->weekday);
    } else {
        out->form = RULE_ORDINAL;
        ok = take_number(p, 0, 365, &out->n);
    }
    return ok && (!take(p, '/') || take_time(p, 167, &out->time));
}

int zone_rule_parse(const char *text, struct zone_rule *out)
{
    const char *p = text;

    *out = (struct zone_rule){0};
    if (!take_name(&p) || !take_offset(&p, &out->standard))
        return -1;
    if (*p == '\0')
        return 0;
    out->has_daylight = true;
    out->daylight = out->standard + 3600;
    if (!take_name(&p) || (*p != ',' && !take_offset(&p, &out->daylight)))
        return -1;
    if (!take(&p, ',') || !take_day(&p, &out->begin) || !take(&p, ',') || !take_day(&p, &out->end))
        return -1;
    return *p == '\0' ? 0 : -1;
}

/* ---- using ---- */

static int64_t day_in_year(const struct zone_rule_day *d, int year)
{
    int64_t new_year = date_to_days((struct date){year, 1, 1});

    switch (d->form) {
    case RULE_JULIAN: /* February 29 is never counted */
        return new_year + d->n - 1 + (date_is_leap(year) && d->n >= 60);
    case RULE_ORDINAL:
        return new_year + d->n;
    case RULE_WEEKDAY:
        break;
    }
    int64_t first = date_to_days((struct date){year, d->month, 1});
    int day = (d->weekday - date_weekday(first) + 7) % 7 + 7 * (d->week - 1);
    while (day >= date_month_length(year, d->month))
        day -= 7;
    return first + day;
}

struct change {
    int64_t at;
    int32_t offset; /* from then on */
};

enum { YEARS_AROUND = 2, CHANGES = 2 * (2 * YEARS_AROUND + 1) };

/* Behind those that are not later, so that an earlier year's end stays before a beginning. */
static void insert(struct change *changes, int count, struct change c)
{
    int i = count;

    for (; i > 0 && changes[i - 1].at > c.at; i--)
        changes[i] = changes[i - 1];
    changes[i] = c;
}

static void changes_around(const struct zone_rule *r, int year, struct change out[CHANGES])
{
    int count = 0;

    for (int y = year - YEARS_AROUND; y <= year + YEARS_AROUND; y++) {
        int64_t begin = day_in_year(&r->begin, y) * DAY_SECONDS + r->begin.time - r->standard;
        int64_t end = day_in_year(&r->end, y) * DAY_SECONDS + r->end.time - r->daylight;
        insert(out, count++, (struct change){begin, r->daylight});
        insert(out, count++, (struct change){end, r->standard});
    }
}

struct zone_span zone_rule_span(const struct zone_rule *r, int64_t utc)
{
    struct zone_span span = {INT64_MIN, INT64_MAX, r->standard};
    struct change changes[CHANGES];

    if (!r->has_daylight)
        return span;
    changes_around(r, date_from_days(floor_divide(utc, DAY_SECONDS)).year, changes);
    for (int i = 0; i < CHANGES; i++) {
        if (changes[i].at > utc) {
            span.end = changes[i].at;
            break;
        }
        span.start = changes[i].at;
        span.offset = changes[i].offset;
    }
    return span;
}
