/* SPDX-License-Identifier: MIT */
/*
 * clock.c - CLOCK_REALTIME in ms, and RFC 3339 both ways.
 */
#include "util/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static time_ms read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (time_ms)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static time_ms system_now(void *ctx)
{
    (void)ctx;
    return read_clock(CLOCK_REALTIME);
}

const struct clock clock_system = {.now = system_now};

time_ms clock_monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

const char *time_format(time_ms t, char text[TIME_TEXT_MAX])
{
    time_ms ms = t % 1000;
    if (ms < 0)
        ms += 1000;
    time_t seconds = (time_t)((t - ms) / 1000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    snprintf(text, TIME_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100, (unsigned)ms % 1000);
    return text;
}

/* Fraction digits and the Z; ms is cut, not rounded, so that a time never moves up. */
static int parse_fraction(const char *s, int *ms)
{
    int scale = 100, digits = 0;

    *ms = 0;
    if (*s == '.') {
        for (s++; isdigit((unsigned char)*s); s++, scale /= 10)
            if (++digits > 9)
                return -1;
            else
                *ms += (*s - '0') * scale;
        if (digits == 0)
            return -1;
    }
    return strcmp(s, "Z") == 0 ? 0 : -1;
}

int time_parse(const char *text, time_ms *out)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    struct tm tm = {0}, back;
    int ms;

    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] == 'd' ? !isdigit((unsigned char)text[i]) : text[i] != form[i])
            return -1;
    if (parse_fraction(text + sizeof form - 1, &ms) != 0)
        return -1;
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
           &tm.tm_min, &tm.tm_sec);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    time_t seconds = timegm(&back);
    /* timegm turns February 30 into March 2; a field that moved was out of range. */
    if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour ||
        back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
        return -1;
    *out = (time_ms)seconds * 1000 + ms;
    return 0;
}
