/* SPDX-License-Identifier: MIT */
/*
 * moment.c - from left to right: each part takes what is its own and leaves the rest.
 */
#include "util/moment.h"

#include "util/date.h"

#include <ctype.h>

static bool take_char(const char **text, char c)
{
    if (**text != c)
        return false;
    ++*text;
    return true;
}

/* Exactly `digits` digits, of a value in min..max. */
static bool take_number(const char **text, int digits, int min, int max, int *out)
{
    *out = 0;
    for (; digits > 0; digits--, ++*text) {
        if (!isdigit((unsigned char)**text))
            return false;
        *out = 10 * *out + (**text - '0');
    }
    return *out >= min && *out <= max;
}

static bool take_date(const char **text, struct date *d)
{
    return take_number(text, 4, 0, 9999, &d->year) && take_char(text, '-') &&
           take_number(text, 2, 1, 12, &d->month) && take_char(text, '-') &&
           take_number(text, 2, 1, date_month_length(d->year, d->month), &d->day);
}

static bool take_fraction(const char **text, time_ms *ms)
{
    int digits = 0;

    for (int scale = 100; isdigit((unsigned char)**text); ++*text, scale /= 10, digits++)
        *ms += (**text - '0') * scale;
    return digits >= 1 && digits <= 9;
}

/* hh[:mm[:ss[.f...]]] */
static bool take_time(const char **text, time_ms *ms)
{
    int hour, minute = 0, second = 0;

    *ms = 0;
    if (!take_number(text, 2, 0, 23, &hour))
        return false;
    if (take_char(text, ':')) {
        if (!take_number(text, 2, 0, 59, &minute))
            return false;
        if (take_char(text, ':')) {
            if (!take_number(text, 2, 0, 59, &second))
                return false;
            if (take_char(text, '.') && !take_fraction(text, ms))
                return false;
        }
    }
    *ms += (time_ms)((hour * 60 + minute) * 60 + second) * 1000;
    return true;
}

/* How far its clocks are ahead of UTC. */
static bool take_zone(const char **text, time_ms *ahead)
{
    int hours, minutes, sign = **text == '-' ? -1 : 1;

    *ahead = 0;
    if (**text == '\0' || take_char(text, 'Z'))
        return true;
    if (!take_char(text, '+') && !take_char(text, '-'))
        return false;
    if (!take_number(text, 2, 0, 23, &hours) || !take_char(text, ':') ||
        !take_number(text, 2, 0, 59, &minutes))
        return false;
    *ahead = (time_ms)(sign * (hours * 60 + minutes)) * 60000;
    return true;
}

int moment_parse(const char *text, time_ms *out)
{
    time_ms of_day = 0, ahead = 0;
    struct date date;

    if (!take_date(&text, &date))
        return -1;
    if ((take_char(&text, 'T') || take_char(&text, ' ')) &&
        !(take_time(&text, &of_day) && take_zone(&text, &ahead)))
        return -1;
    if (*text != '\0')
        return -1;
    *out = date_to_days(date) * DAY_SECONDS * 1000 + of_day - ahead;
    return 0;
}
