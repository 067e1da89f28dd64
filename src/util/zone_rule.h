/* SPDX-License-Identifier: MIT */
/*
 * zone_rule.h - a zone's yearly rule, as POSIX writes it in TZ and TZif in its footer. Private to
 * zone.c.
 *
 *   CET-1CEST,M3.5.0,M10.5.0/3     standard 1 h east; daylight saving from the last Sunday in
 *                                  March, 2:00, to the last Sunday in October, 3:00
 *   <+1030>-10:30<+11>-11,M10.1.0,M4.1.0
 *   MMM-6:30                       the whole year alike
 *
 * With RFC 8536's extension: an hour of change is -167 to 167. Where there is daylight saving, its
 * dates must be given. Threads: plain data.
 */
#ifndef KEEPFS_UTIL_ZONE_RULE_H
#define KEEPFS_UTIL_ZONE_RULE_H

#include "util/zone.h"

#include <stdbool.h>

struct zone_rule_day {
    enum { RULE_JULIAN, RULE_ORDINAL, RULE_WEEKDAY } form; /* Jn, n, Mm.w.d */
    int n;                                                 /* of the first two */
    int month, week, weekday;                              /* of the third; week 5 is the last */
    int32_t time;                                          /* seconds from local midnight */
};

struct zone_rule {
    int32_t standard, daylight; /* seconds east */
    bool has_daylight;
    struct zone_rule_day begin, end; /* of daylight saving */
};

/* -1 if the text is no rule. */
int zone_rule_parse(const char *text, struct zone_rule *out);

/* The span that has `utc` in it, as if the rule had always been. Years 1 to 9999. */
struct zone_span zone_rule_span(const struct zone_rule *r, int64_t utc);

#endif
