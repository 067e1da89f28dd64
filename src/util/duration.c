/* SPDX-License-Identifier: MIT */
/*
 * duration.c - see duration.h. Months and years for a person are of 30 and 365 days.
 */
#include "util/duration.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Digits from *at on. Numbers stay far below an overflow. */
static bool take_number(const char **at, int64_t *out)
{
    const char *p = *at;

    for (*out = 0; isdigit((unsigned char)*p); p++)
        if (*out <= DURATION_MAX)
            *out = *out * 10 + (*p - '0');
    bool any = p > *at;
    *at = p;
    return any;
}

static bool parse_units(const char *at, int64_t *seconds)
{
    static const char names[] = "dhms";
    static const int64_t units[] = {86400, 3600, 60, 1};
    const char *left = names; /* the units that may still come */

    for (*seconds = 0; *at; at++) {
        int64_t number;
        if (!take_number(&at, &number) || *at == '\0')
            return false;
        const char *unit = strchr(left, *at);
        if (!unit)
            return false;
        *seconds += number * units[unit - names];
        left = unit + 1;
    }
    return true;
}

bool duration_parse(const char *text, int64_t *seconds)
{
    const char *at = text;

    if (strcmp(text, "never") == 0) {
        *seconds = 0;
        return true;
    }
    if (!take_number(&at, seconds))
        return false;
    return (*at == '\0' || parse_units(text, seconds)) && *seconds <= DURATION_MAX;
}

const char *duration_words(int64_t seconds, char text[DURATION_TEXT_MAX])
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{365 * 86400, "y"}, {30 * 86400, "mo"}, {86400, "d"},
                 {3600, "h"},        {60, "min"},        {1, "s"}};
    size_t i = 0;

    if (seconds < 0)
        seconds = 0;
    while (units[i].seconds > 1 && seconds < 2 * units[i].seconds)
        i++;
    snprintf(text, DURATION_TEXT_MAX, "%lld %s", (long long)(seconds / units[i].seconds),
             units[i].name);
    return text;
}
