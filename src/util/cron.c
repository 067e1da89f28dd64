/* SPDX-License-Identifier: MIT */
/*
 * cron.c - a field is a set of bits; the next tick is the next local time whose bits are set.
 *
 * Next: the zone's spans (util/zone.h) are walked from `after` on. Within a span local time is UTC
 * plus a constant, so that the search is one over a calendar without surprises: from month to
 * month, from day to day in a month that fits, from bit to bit within the day. It is cut off at
 * the span's end. What happens between spans is said by the mark: the end of all local time that
 * earlier spans have shown. A span that begins behind the mark follows a gap, and times from the
 * mark to its begin are due now; one that begins before the mark repeats what was, and is searched
 * from the mark on. A schedule of all 24 hours has no mark.
 *
 * Bounds: the dates that are furthest apart are February 29ths of one day of the week, 40 years
 * across a year like 2100. The search gives up after HORIZON, which is longer, so that it
 * ends also where a hole in a zone swallows the date.
 */
#include "util/cron.h"

#include "util/buf.h"
#include "util/date.h"
#include "util/zone.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

struct cron {
    int64_t every; /* seconds; 0: by the fields */
    uint64_t bits[FIELDS];
    bool any_day, any_weekday; /* the field begins with a star */
    bool real_time;            /* all 24 hours: no mark */
    struct zone *zone;
};

#define DAY_S           ((int64_t)DAY_SECONDS)
#define HORIZON         (48 * 366 * DAY_S)
#define GAP_DAYS        ((int64_t)366 + 31)
#define END_OF_TIME     ((int64_t)253402300800) /* 10000-01-01 */
#define EVERY_MIN       ((int64_t)60)
#define EVERY_MAX       (366 * DAY_S)
#define ALL_HOURS       (((uint64_t)1 << 24) - 1)
#define BITS_FROM(n)    (~(uint64_t)0 << (n))
#define HAS_BIT(set, n) (((set) >> (n)&1) != 0)

/* ---- parsing: `at` goes through `text`; on a fault fail() writes `why` ---- */

struct parser {
    const char *text;
    size_t at;
    char *why;
    size_t why_size;
};

static int fail(const struct parser *p, size_t at, const char *what, const char *allowed)
{
    snprintf(p->why, p->why_size, "column %zu: %s; allowed: %s", at + 1, what, allowed);
    return -1;
}

static char look(const struct parser *p)
{
    return p->text[p->at];
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool at_word_end(const struct parser *p)
{
    return look(p) == '\0' || is_blank(look(p));
}

static void skip_blanks(struct parser *p)
{
    while (is_blank(look(p)))
        p->at++;
}

/* Digits, as far as they go; what is larger than any bound stays so. -1 without a digit. */
static int64_t take_number(struct parser *p)
{
    int64_t value = 0;

    if (!isdigit((unsigned char)look(p)))
        return -1;
    for (; isdigit((unsigned char)look(p)); p->at++)
        if (value < EVERY_MAX)
            value = value * 10 + (look(p) - '0');
    return value;
}

/* ---- a field ---- */

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

#define FORMS                                                                                      \
    ", alone, as ranges N-M, *, with steps N-M/S, N/S, */S, or a list of these with commas"

static const struct field {
    int first, last;          /* values that may be written */
    int star_last;            /* end of * and of N/S */
    const char *const *names; /* of first and what follows */
    const char *missing, *allowed;
} fields[FIELDS] = {
    [MINUTE] = {0, 59, 59, NULL, "the minute is missing", "minutes 0-59" FORMS},
    [HOUR] = {0, 23, 23, NULL, "the hour is missing", "hours 0-23" FORMS},
    [DAY] = {1, 31, 31, NULL, "the day of the month is missing", "days of the month 1-31" FORMS},
    [MONTH] = {1, 12, 12, month_names, "the month is missing", "months 1-12 or jan-dec" FORMS},
    [WEEKDAY] = {0, 7, 6, weekday_names, "the day of the week is missing",
                 "days of the week 0-7 or sun-sat" FORMS},
};

static const char five[] = "five fields: minute hour day-of-month month day-of-week";

/* The value of a name, -1 if it is none of the field's. */
static int take_name(struct parser *p, const struct field *f)
{
    size_t len = 0;

    while (isalpha((unsigned char)p->text[p->at + len]))
        len++;
    for (int i = 0; len == 3 && f->names && f->names[i]; i++)
        if (strncasecmp(p->text + p->at, f->names[i], len) == 0) {
            p->at += len;
            return f->first + i;
        }
    return -1;
}

/* A number or a name. */
static int take_value(struct parser *p, const struct field *f, int *out)
{
    size_t start = p->at;
    int64_t value = take_number(p);

    if (value < 0)
        value = take_name(p, f);
    if (value < 0)
        return fail(p, start, "no value of the field", f->allowed);
    if (value < f->first || value > f->last)
        return fail(p, start, "the value is out of range", f->allowed);
    *out = (int)value;
    return 0;
}

/* The end of a range that begins with `low`; `sun` is 0, and 7 where a week ends. */
static int take_range_end(struct parser *p, const struct field *f, size_t start, int low, int *high)
{
    bool is_name = isalpha((unsigned char)look(p)) != 0;

    if (take_value(p, f, high) != 0)
        return -1;
    if (f == &fields[WEEKDAY] && is_name && *high == 0 && low > 0)
        *high = 7;
    if (*high < low)
        return fail(p, start, "the range goes backwards", f->allowed);
    return 0;
}

static int take_step(struct parser *p, const struct field *f, int *step)
{
    size_t start = p->at;
    int64_t value = take_number(p);

    if (value < 0)
        return fail(p, start, "the step is no number", f->allowed);
    if (value < 1 || value > f->last) {
        char allowed[64];
        snprintf(allowed, sizeof allowed, "a step of 1 to %d", f->last);
        return fail(p, start, "the step is out of range", allowed);
    }
    *step = (int)value;
    return 0;
}

/* One member of a field's list. */
static int take_item(struct parser *p, const struct field *f, uint64_t *bits)
{
    size_t start = p->at;
    int low = f->first, high = f->star_last, step = 1;
    bool one = false;

    if (look(p) == '*' || look(p) == '?') {
        p->at++;
    } else {
        if (take_value(p, f, &low) != 0)
            return -1;
        one = look(p) != '-';
        high = low;
        if (!one) {
            p->at++;
            if (take_range_end(p, f, start, low, &high) != 0)
                return -1;
        }
    }
    if (look(p) == '/') {
        p->at++;
        if (take_step(p, f, &step) != 0)
            return -1;
        if (one && high < f->star_last)
            high = f->star_last;
    }
    for (int i = low; i <= high; i += step)
        *bits |= (uint64_t)1 << i;
    return 0;
}

static int take_field(struct parser *p, int which, struct cron *c)
{
    const struct field *f = &fields[which];
    bool star = look(p) == '*' || look(p) == '?';

    for (;; p->at++) {
        if (take_item(p, f, &c->bits[which]) != 0)
            return -1;
        if (look(p) != ',')
            break;
    }
    if (!at_word_end(p))
        return fail(p, p->at, "an unexpected character", f->allowed);
    if (which == DAY)
        c->any_day = star;
    if (which == WEEKDAY) {
        c->any_weekday = star;
        c->bits[WEEKDAY] |= c->bits[WEEKDAY] >> 7 & 1;
    }
    return 0;
}

/* ---- the whole ---- */

static bool fits_both(const struct cron *c)
{
    return c->any_day || c->any_weekday;
}

/* Does the schedule ever come? Within 400 years every date is on every day of the week, so that the
 * weekday can be left out. */
static bool is_possible(const struct cron *c)
{
    const int leap_year = 2000;

    if (!fits_both(c))
        return true;
    for (int month = 1; month <= 12; month++)
        if (HAS_BIT(c->bits[MONTH], month) &&
            (c->bits[DAY] & ~BITS_FROM(date_month_length(leap_year, month) + 1)))
            return true;
    return false;
}

static int parse_fields(struct parser *p, struct cron *c)
{
    size_t day_at = 0;

    for (int i = 0; i < FIELDS; i++) {
        skip_blanks(p);
        if (look(p) == '\0')
            return fail(p, p->at, fields[i].missing, five);
        if (i == DAY)
            day_at = p->at;
        if (take_field(p, i, c) != 0)
            return -1;
    }
    c->real_time = c->bits[HOUR] == ALL_HOURS;
    if (!is_possible(c))
        return fail(p, day_at, "none of the months has such a day",
                    "a day that one of the months has");
    return 0;
}

static int parse_every(struct parser *p, struct cron *c)
{
    static const char allowed[] = "@every and 1m to 366d, in whole d, h, m, s, in that order, as "
                                  "in 1h30m";
    static const struct {
        char name;
        int64_t seconds;
    } units[] = {{'d', DAY_S}, {'h', 3600}, {'m', 60}, {'s', 1}};
    size_t start, unit = 0, units_end = sizeof units / sizeof units[0];

    skip_blanks(p);
    start = p->at;
    do {
        size_t number_at = p->at;
        int64_t number = take_number(p);
        if (number < 0)
            return fail(p, number_at, "a number is missing", allowed);
        while (unit < units_end && units[unit].name != look(p))
            unit++;
        if (unit == units_end)
            return fail(p, p->at, "no unit, or not in order", allowed);
        c->every += number * units[unit++].seconds;
        p->at++;
    } while (!at_word_end(p));
    if (c->every < EVERY_MIN || c->every > EVERY_MAX)
        return fail(p, start, "the duration is out of range", allowed);
    return 0;
}

static int parse_descriptor(struct parser *p, struct cron *c)
{
    static const struct {
        const char *name, *fields;
    } known[] = {
        {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
        {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
        {"@annually", "0 0 1 1 *"},
    };
    size_t start = p->at;
    const char *word = p->text + start;

    while (!at_word_end(p))
        p->at++;
    size_t len = p->at - start;
    if (len == 6 && memcmp(word, "@every", len) == 0)
        return parse_every(p, c);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == len && memcmp(word, known[i].name, len) == 0)
            return parse_fields(&(struct parser){.text = known[i].fields}, c);
    return fail(p, start, "an unknown word",
                "@hourly @daily @midnight @weekly @monthly @yearly @annually @every");
}

/* CRON_TZ=ZONE or TZ=ZONE, if it is there, and opens the zone. */
static int parse_zone(struct parser *p, struct cron *c)
{
    __attribute__((cleanup(free_charp))) char *name = NULL;
    const char *word = p->text + p->at;
    struct error err;

    if (strncmp(word, "CRON_TZ=", 8) == 0 || strncmp(word, "TZ=", 3) == 0) {
        p->at += strcspn(word, "=") + 1;
        size_t start = p->at, len = strcspn(p->text + start, " \t");
        name = xasprintf("%.*s", (int)len, p->text + start);
        p->at = start + len;
        if (zone_open(name, &c->zone, &err) != 0)
            return fail(p, start, err.message, "a time zone such as UTC or Europe/Rome");
        skip_blanks(p);
        if (look(p) == '\0')
            return fail(p, p->at, "the schedule is missing",
                        "a blank after the zone, then the "
                        "schedule");
        return 0;
    }
    if (zone_open(NULL, &c->zone, &err) != 0)
        return fail(p, p->at, err.message, "a time zone of its own, CRON_TZ=ZONE, before it");
    return 0;
}

static int parse_all(struct parser *p, struct cron *c)
{
    skip_blanks(p);
    if (look(p) == '\0')
        return fail(p, p->at, "the schedule is empty", five);
    if (parse_zone(p, c) != 0)
        return -1;
    if ((look(p) == '@' ? parse_descriptor(p, c) : parse_fields(p, c)) != 0)
        return -1;
    skip_blanks(p);
    if (look(p) != '\0')
        return fail(p, p->at, "something follows the schedule",
                    "five fields, or an @word, and nothing behind");
    return 0;
}

int cron_parse(const char *text, struct cron **out, char *why, size_t why_size)
{
    struct parser p = {.text = text, .why = why, .why_size = why_size};
    struct cron *c = xcalloc(1, sizeof *c);

    if (parse_all(&p, c) != 0) {
        cron_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void cron_free(struct cron *c)
{
    if (c)
        zone_free(c->zone);
    free(c);
}

/* ---- next; times are in seconds ---- */

static bool day_fits(const struct cron *c, int64_t days, int day)
{
    bool month_day = HAS_BIT(c->bits[DAY], day);
    bool weekday = HAS_BIT(c->bits[WEEKDAY], date_weekday(days));

    return fits_both(c) ? month_day && weekday : month_day || weekday;
}

/* The first day that fits, from `days` on; `end` or more if there is none before that. */
static int64_t next_day(const struct cron *c, int64_t days, int64_t end)
{
    while (days < end) {
        struct date d = date_from_days(days);
        int length = date_month_length(d.year, d.month);
        if (HAS_BIT(c->bits[MONTH], d.month))
            for (; d.day <= length; d.day++, days++)
                if (day_fits(c, days, d.day))
                    return days;
        days += length + 1 - d.day;
    }
    return end;
}

/* The first minute of a day that fits, from `minute` on; -1 if there is none. */
static int64_t next_minute(const struct cron *c, int64_t minute)
{
    uint64_t hours = c->bits[HOUR] & BITS_FROM(minute / 60);

    if (HAS_BIT(hours, minute / 60)) {
        uint64_t minutes = c->bits[MINUTE] & BITS_FROM(minute % 60);
        if (minutes)
            return minute / 60 * 60 + __builtin_ctzll(minutes);
        hours &= hours - 1;
    }
    return hours ? __builtin_ctzll(hours) * 60 + __builtin_ctzll(c->bits[MINUTE]) : -1;
}

/* The first local time that fits in [from, end); false if there is none. */
static bool next_local(const struct cron *c, int64_t from, int64_t end, int64_t *out)
{
    int64_t minute = floor_divide(from + 59, 60); /* a tick is at second 0 */
    int64_t days = floor_divide(minute, 24 * 60);
    int64_t last = floor_divide(end - 1, DAY_S);
    int64_t found = -1;

    minute -= days * 24 * 60;
    for (; days <= last; days++, minute = 0) {
        int64_t fit = next_day(c, days, last + 1);
        if (fit > last)
            return false;
        found = next_minute(c, fit == days ? minute : 0);
        days = fit;
        if (found >= 0)
            break;
    }
    *out = days * DAY_S + found * 60;
    return found >= 0 && *out < end;
}

/* The end of the local time that the spans before `span` have shown; INT64_MIN if there are none
 * since 1970. What ended two greatest offsets ago cannot be ahead any more; of a zone that changes
 * all the time only a few changes are looked at. */
static int64_t mark_before(const struct cron *c, struct zone_span span)
{
    int64_t mark = INT64_MIN, start = span.start;

    for (int i = 0; i < 8 && span.start > 0 && span.start > start - 2 * ZONE_OFFSET_MAX; i++) {
        span = zone_span_at(c->zone, span.start - 1);
        if (span.end + span.offset > mark)
            mark = span.end + span.offset;
    }
    return mark;
}

/* The first tick in the span from `from` on. */
static bool next_in_span(const struct cron *c, struct zone_span span, int64_t from, int64_t *out)
{
    int64_t low = from + span.offset, high = span.end + span.offset, local;

    if (!c->real_time) {
        int64_t mark = mark_before(c, span);
        if (mark != INT64_MIN && from == span.start && mark < low &&
            next_local(c, mark, low, &local)) {
            *out = from;
            return true;
        }
        if (low < mark)
            low = mark;
    }
    if (low >= high || !next_local(c, low, high, &local))
        return false;
    *out = local - span.offset;
    return true;
}

static bool next_by_fields(const struct cron *c, int64_t from, int64_t *out)
{
    int64_t end = from + HORIZON < END_OF_TIME ? from + HORIZON : END_OF_TIME;

    while (from < end) {
        struct zone_span span = zone_span_at(c->zone, from);
        assert(span.end > from); /* or this would never end */
        if (span.end > end)
            span.end = end;
        if (next_in_span(c, span, from, out))
            return true;
        from = span.end;
    }
    return false;
}

bool cron_next(const struct cron *c, time_ms after, time_ms *next)
{
    int64_t from = after < 0 ? 0 : after / 1000 + 1, tick;

    if (c->every)
        tick = floor_divide(from + c->every - 1, c->every) * c->every;
    else if (!next_by_fields(c, from, &tick))
        return false;
    if (tick >= END_OF_TIME)
        return false;
    *next = tick * 1000;
    return true;
}

/* ---- the longest gap ---- */

/* The longest between two ticks of one day, in minutes; *first and *last are the day's own. */
static int64_t gap_within_day(const struct cron *c, int64_t *first, int64_t *last)
{
    int64_t longest = 0, next;

    *first = *last = next_minute(c, 0);
    while (*last + 1 < 24 * 60 && (next = next_minute(c, *last + 1)) >= 0) {
        if (next - *last > longest)
            longest = next - *last;
        *last = next;
    }
    return longest;
}

/* The longest between a day with ticks and the next one, in days, from `from` on; 0 if there are
 * not two of them. */
static int64_t gap_between_days(const struct cron *c, int64_t from)
{
    const int64_t end = from + GAP_DAYS, horizon = from + HORIZON / DAY_S;
    int64_t longest = 0, day = next_day(c, from, horizon), next;

    while (day < horizon && (day < end || longest == 0)) {
        next = next_day(c, day + 1, horizon);
        if (next < horizon && next - day > longest)
            longest = next - day;
        day = next;
    }
    return longest;
}

/* Does the local clock jump? */
static bool clock_changes(const struct cron *c, int64_t from)
{
    int64_t end = from + GAP_DAYS * DAY_S;
    struct zone_span span = zone_span_at(c->zone, from);
    int32_t offset = span.offset;

    while (span.end < end && span.offset == offset)
        span = zone_span_at(c->zone, span.end);
    return span.offset != offset;
}

time_ms cron_longest_gap(const struct cron *c, time_ms from)
{
    int64_t seconds = from < 0 ? 0 : from / 1000, first, last;

    if (c->every)
        return c->every * 1000;
    int64_t days = gap_between_days(c, floor_divide(seconds, DAY_S));
    if (days == 0)
        return 0;
    int64_t longest = gap_within_day(c, &first, &last);
    int64_t over_night = days * 24 * 60 - last + first;
    if (over_night > longest)
        longest = over_night;
    if (!c->real_time && clock_changes(c, seconds))
        longest += 60;
    return longest * 60 * 1000;
}
