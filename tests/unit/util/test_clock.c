/* SPDX-License-Identifier: MIT */
/*
 * test_clock.c - the one text form of a time, both ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    time_ms t;
    const char *text;
} golden[] = {
    {0, "1970-01-01T00:00:00.000Z"},
    {1, "1970-01-01T00:00:00.001Z"},
    {-1, "1969-12-31T23:59:59.999Z"},
    {-1000, "1969-12-31T23:59:59.000Z"},
    {951782400000, "2000-02-29T00:00:00.000Z"},
    {1795242628123, "2026-11-21T06:30:28.123Z"},
    {253402300799999, "9999-12-31T23:59:59.999Z"},
    {-30610224000000, "1000-01-01T00:00:00.000Z"},
    {-30610224000001, "0999-12-31T23:59:59.999Z"},
    {-62167219200000, "0000-01-01T00:00:00.000Z"},
};

static void times_have_their_golden_texts_both_ways(void **state)
{
    char text[TIME_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        time_ms back = 0;
        assert_string_equal(time_format(golden[i].t, text), golden[i].text);
        assert_int_equal(time_parse(golden[i].text, &back), 0);
        assert_true(back == golden[i].t);
    }
}

static void the_time_zone_of_the_process_does_not_matter(void **state)
{
    char text[TIME_TEXT_MAX];
    time_ms back;

    (void)state;
    setenv("TZ", "America/St_Johns", 1);
    tzset();
    assert_string_equal(time_format(1795242628123, text), "2026-11-21T06:30:28.123Z");
    assert_int_equal(time_parse(text, &back), 0);
    unsetenv("TZ");
    tzset();
    assert_true(back == 1795242628123);
}

static void random_times_come_back(void **state)
{
    const time_ms first = -62167219200000, last = 253402300799999;
    unsigned short seed[3] = {1, 2, 3};
    char text[TIME_TEXT_MAX];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        time_ms t = first + (time_ms)(erand48(seed) * (double)(last - first)), back;
        assert_int_equal(strlen(time_format(t, text)), 24);
        assert_int_equal(time_parse(text, &back), 0);
        assert_true(back == t);
    }
}

static void fractions_of_up_to_nine_digits_are_cut_to_ms(void **state)
{
    static const struct {
        const char *text;
        time_ms ms;
    } fractions[] = {
        {"2026-11-21T06:30:28Z", 0},
        {"2026-11-21T06:30:28.1Z", 100},
        {"2026-11-21T06:30:28.12Z", 120},
        {"2026-11-21T06:30:28.123Z", 123},
        {"2026-11-21T06:30:28.0009Z", 0},
        {"2026-11-21T06:30:28.99999999Z", 999},
        {"2026-11-21T06:30:28.999999999Z", 999},
    };

    (void)state;
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        time_ms t = 0;
        assert_int_equal(time_parse(fractions[i].text, &t), 0);
        assert_true(t == 1795242628000 + fractions[i].ms);
    }
}

static void any_other_form_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "2026",
        "2026-11-21",
        "2026-11-21T06:30:28",
        "2026-11-21T06:30:28z",
        "2026-11-21T06:30:28.Z",
        "2026-11-21T06:30:28.1234567890Z",
        "2026-11-21T06:30:28.12 Z",
        "2026-11-21T06:30:28,123Z",
        "2026-11-21T06:30:28+00:00",
        "2026-11-21T06:30:28Z ",
        "2026-11-21T06:30:28ZZ",
        " 2026-11-21T06:30:28Z",
        "2026-11-21 06:30:28Z",
        "2026-11-21t06:30:28Z",
        "26-11-21T06:30:28Z",
        "+026-11-21T06:30:28Z",
        "2026-1 -21T06:30:28Z",
        "2026-00-21T06:30:28Z",
        "2026-13-21T06:30:28Z",
        "2026-11-00T06:30:28Z",
        "2026-11-31T06:30:28Z",
        "2026-02-29T06:30:28Z",
        "2100-02-29T06:30:28Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T06:60:28Z",
        "2026-11-21T06:30:60Z",
        "2026-11-21T-6:30:28Z",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        time_ms t;
        if (time_parse(bad[i], &t) != -1)
            fail_msg("'%s' was taken", bad[i]);
    }
}

static void the_system_clock_gives_ms_since_the_epoch(void **state)
{
    (void)state;
    time_ms before = (time_ms)time(NULL) * 1000;
    time_ms now = clock_now(&clock_system);
    time_ms after = ((time_ms)time(NULL) + 1) * 1000;

    assert_true(before <= now && now <= after);
    time_ms first = clock_monotonic();
    assert_true(clock_monotonic() >= first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_have_their_golden_texts_both_ways),
        cmocka_unit_test(the_time_zone_of_the_process_does_not_matter),
        cmocka_unit_test(random_times_come_back),
        cmocka_unit_test(fractions_of_up_to_nine_digits_are_cut_to_ms),
        cmocka_unit_test(any_other_form_is_refused),
        cmocka_unit_test(the_system_clock_gives_ms_since_the_epoch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
