/* SPDX-License-Identifier: MIT */
/*
 * fuzz_cron.c - any text as a schedule and any time: refused with a column and a reason, or the
 * next tick is later, fits the fields (as read here, by another reading), is the first (as far as a
 * look between can say) and is there at all. The machine's zone is Rome's, for its gaps.
 *
 * Input: 6 bytes of time in ms, then text.
 */
#include "util/cron.h"
#include "util/zone.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TIME_BYTES = 6, TEXT_MAX = 4096 };

/* The years in which a tick may be missing because the next would be after 9999. */
static const time_ms last_years = 251800000000000;

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* ---- another reading of fields ---- */

struct range {
    int first, last;
    const char *names; /* three letters each */
};

static long number(const char *s, const struct range *r)
{
    if (isdigit((unsigned char)*s))
        return strtol(s, NULL, 10);
    for (int i = 0; r->names && r->names[3 * i]; i++)
        if (strncasecmp(s, r->names + 3 * i, 3) == 0)
            return r->first + i;
    abort(); /* it was taken */
}

static bool item_has(const char *item, const struct range *r, int value)
{
    const char *slash = strchr(item, '/'), *minus = strchr(item, '-');
    long low = r->first, high = r->last, step = slash ? number(slash + 1, r) : 1;

    if (*item != '*' && *item != '?') {
        low = number(item, r);
        if (minus) {
            high = number(minus + 1, r);
            if (high < low)
                high = 7; /* sun */
        } else if (!slash || low > high) {
            high = low;
        }
    }
    must(step > 0 && low <= high);
    return value >= low && value <= high && (value - low) % step == 0;
}

static bool field_has(const char *field, const struct range *r, int value)
{
    char copy[TEXT_MAX + 1], *save;

    snprintf(copy, sizeof copy, "%s", field);
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save))
        if (item_has(item, r, value))
            return true;
    return false;
}

static bool fits(char *fields[5], const struct tm *tm)
{
    static const struct range ranges[] = {{0, 59, NULL},
                                          {0, 23, NULL},
                                          {1, 31, NULL},
                                          {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
                                          {0, 6, "sunmontuewedthufrisat"}};
    bool day = field_has(fields[2], &ranges[2], tm->tm_mday);
    bool weekday = field_has(fields[4], &ranges[4], tm->tm_wday) ||
                   (tm->tm_wday == 0 && field_has(fields[4], &ranges[4], 7));
    bool both = strchr("*?", fields[2][0]) || strchr("*?", fields[4][0]);

    return tm->tm_sec == 0 && field_has(fields[0], &ranges[0], tm->tm_min) &&
           field_has(fields[1], &ranges[1], tm->tm_hour) &&
           field_has(fields[3], &ranges[3], tm->tm_mon + 1) &&
           (both ? day && weekday : day || weekday);
}

/* ---- the tick ---- */

struct reading {
    char *fields[5];
    struct zone *zone;
};

/* False for an @word. */
static bool read_schedule(char *text, struct reading *out)
{
    char *save, *word = strtok_r(text, " \t", &save), *name = NULL;
    struct error err;

    if (strncmp(word, "TZ=", 3) == 0 || strncmp(word, "CRON_TZ=", 8) == 0) {
        name = strchr(word, '=') + 1;
        word = strtok_r(NULL, " \t", &save);
    }
    if (word[0] == '@')
        return false;
    for (int i = 0; i < 5; i++, word = strtok_r(NULL, " \t", &save))
        must((out->fields[i] = word) != NULL);
    must(zone_open(name, &out->zone, &err) == 0);
    return true;
}

/* How the clock jumped where the span begins. */
static int32_t jump_before(const struct zone *z, struct zone_span span)
{
    return span.start == INT64_MIN ? 0 : span.offset - zone_offset(z, span.start - 1);
}

static bool fits_at(struct reading *r, int64_t at)
{
    time_t local = at + zone_offset(r->zone, at);
    struct tm tm;

    gmtime_r(&local, &tm);
    return fits(r->fields, &tm);
}

static void check_tick(struct reading *r, int64_t next)
{
    struct zone_span span = zone_span_at(r->zone, next);

    /* Right after a gap it may stand for a time that was not. */
    if (next != span.start || jump_before(r->zone, span) <= 0)
        must(fits_at(r, next));
}

/* Nothing fits between, at 60 times that are `step` apart, but for second passes. */
static void check_skipped(struct reading *r, time_ms after, int64_t next, int64_t step)
{
    for (int64_t i = 1, at = next - step; i <= 60 && at * 1000 > after; i++, at -= step) {
        struct zone_span span = zone_span_at(r->zone, at);
        int32_t jump = jump_before(r->zone, span);
        if (jump >= 0 || at >= span.start - jump)
            must(!fits_at(r, at));
    }
}

static void check(const struct cron *c, char *text, time_ms after)
{
    static const int64_t steps[] = {60, 3600, 86400};
    struct reading r;
    time_ms next, again;

    if (!cron_next(c, after, &next)) {
        must(after > last_years);
        return;
    }
    must(next > after && next % 1000 == 0);
    must(cron_next(c, next - 1, &again) && again == next);
    must(cron_next(c, after + (next - after) / 2, &again) && again == next);
    must(!cron_next(c, next, &again) || again > next);
    if (!read_schedule(text, &r))
        return;
    check_tick(&r, next / 1000);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        check_skipped(&r, after, next / 1000, steps[i]);
    zone_free(r.zone);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return setenv("TZ", "Europe/Rome", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX + 1], why[1200];
    struct cron *c;
    time_ms after = 0;

    if (size < TIME_BYTES || size > TEXT_MAX)
        return -1;
    for (int i = 0; i < TIME_BYTES; i++)
        after = after << 8 | data[i];
    snprintf(text, sizeof text, "%.*s", (int)(size - TIME_BYTES), (const char *)data + TIME_BYTES);
    if (cron_parse(text, &c, why, sizeof why) != 0) {
        size_t column;
        must(sscanf(why, "column %zu: ", &column) == 1 && column >= 1 &&
             column <= strlen(text) + 1 && strstr(why, "; allowed: "));
        return 0;
    }
    check(c, text, after);
    cron_free(c);
    return 0;
}
