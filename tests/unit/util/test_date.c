/* SPDX-License-Identifier: MIT */
/*
 * test_date.c - the calendar against libc's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/date.h"

#include <time.h>

static void every_day_of_400_years_and_more_agrees_with_libc(void **state)
{
    const int64_t first = -719162 /* 0001-01-01 */, last = 2932896 /* 9999-12-31 */;

    (void)state;
    for (int64_t days = first; days <= last; days += days > -60000 && days < 120000 ? 1 : 17) {
        struct date d = date_from_days(days);
        struct tm tm;
        time_t t = days * DAY_SECONDS;
        gmtime_r(&t, &tm);
        assert_int_equal(d.year, tm.tm_year + 1900);
        assert_int_equal(d.month, tm.tm_mon + 1);
        assert_int_equal(d.day, tm.tm_mday);
        assert_int_equal(date_weekday(days), tm.tm_wday);
        assert_true(date_to_days(d) == days);
    }
    assert_int_equal(date_from_days(first).year, 1);
    assert_int_equal(date_from_days(last).day, 31);
}

static void months_have_their_lengths(void **state)
{
    (void)state;
    for (int year = 1896; year <= 2404; year++)
        for (int month = 1; month <= 12; month++) {
            struct date next = {year + month / 12, month % 12 + 1, 1};
            int64_t length = date_to_days(next) - date_to_days((struct date){year, month, 1});
            assert_int_equal(date_month_length(year, month), length);
        }
    assert_true(date_is_leap(2000));
    assert_false(date_is_leap(2100));
}

static void division_rounds_down(void **state)
{
    (void)state;
    assert_int_equal(floor_divide(7, 7), 1);
    assert_int_equal(floor_divide(6, 7), 0);
    assert_int_equal(floor_divide(0, 7), 0);
    assert_int_equal(floor_divide(-1, 7), -1);
    assert_int_equal(floor_divide(-7, 7), -1);
    assert_int_equal(floor_divide(-8, 7), -2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_day_of_400_years_and_more_agrees_with_libc),
        cmocka_unit_test(months_have_their_lengths),
        cmocka_unit_test(division_rounds_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
