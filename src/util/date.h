/* SPDX-License-Identifier: MIT */
/*
 * date.h - days of the Gregorian calendar, counted from 1970-01-01. No time of day, no zone.
 *
 * Years 0 to 9999. Threads: any; there is no state.
 */
#ifndef KEEPFS_UTIL_DATE_H
#define KEEPFS_UTIL_DATE_H

#include <stdbool.h>
#include <stdint.h>

enum { DAY_SECONDS = 86400 };

struct date {
    int year, month, day; /* month and day from 1 */
};

/* Days since 1970-01-01; negative before. */
int64_t date_to_days(struct date d);
struct date date_from_days(int64_t days);
/* 0 is Sunday. */
int date_weekday(int64_t days);
/* 28 to 31. */
int date_month_length(int year, int month);
bool date_is_leap(int year);

/* a / b for positive b, rounded down, so that times before 1970 fall on their own day. */
static inline int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

#endif
