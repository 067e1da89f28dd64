/* SPDX-License-Identifier: MIT */
/*
 * date.c - the calendar in closed form. A year is counted from March, so that the leap day is its
 * last, and 400 years (146,097 days) are one period. libc's gmtime_r and timegm do the same but
 * take the lock of the process's time zone.
 */
#include "util/date.h"

enum { ERA_YEARS = 400, ERA_DAYS = 146097, EPOCH_DAYS = 719468 /* 0000-03-01 to 1970-01-01 */ };

int64_t date_to_days(struct date d)
{
    int64_t year = d.year - (d.month <= 2);
    int64_t era = floor_divide(year, ERA_YEARS), of_era = year - era * ERA_YEARS;
    int64_t month = (d.month + 9) % 12; /* from March */
    int64_t of_year = (153 * month + 2) / 5 + d.day - 1;

    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAYS;
}

struct date date_from_days(int64_t days)
{
    days += EPOCH_DAYS;
    int64_t era = floor_divide(days, ERA_DAYS), of_era = days - era * ERA_DAYS;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; /* from March */

    struct date d = {
        .year = (int)(year + era * ERA_YEARS + (month >= 10)),
        .month = (int)(month < 10 ? month + 3 : month - 9),
        .day = (int)(of_year - (153 * month + 2) / 5 + 1),
    };
    return d;
}

int date_weekday(int64_t days)
{
    return (int)(days + 4 - 7 * floor_divide(days + 4, 7)); /* 1970-01-01 was a Thursday */
}

bool date_is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int date_month_length(int year, int month)
{
    static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return length[month - 1] + (month == 2 && date_is_leap(year));
}
