/* SPDX-License-Identifier: MIT */
/* duration.c: what the configuration may say, and what a person reads. */
#include "util/duration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void durations_are_read_as_cron_s_every(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {{"90m", 5400},
                {"6h", 21600},
                {"1d12h", 129600},
                {"1d1h1m1s", 90061},
                {"5400", 5400},
                {"1", 1},
                {"0", 0},
                {"never", 0},
                {"0d", 0},
                {"36h", 129600},
                {"3660d", DURATION_MAX},
                {"007", 7}};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t seconds = -1;
        if (!duration_parse(good[i].text, &seconds))
            fail_msg("%s", good[i].text);
        assert_int_equal(seconds, good[i].seconds);
    }
}

static void what_is_no_duration_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "m",     "1x",
                                      "12h1d", "1h1h",  "-1",
                                      "1 h",   "1.5h",  "1h30",
                                      "Never", "3661d", "99999999999999999999",
                                      "1d ",   "h1",    "99999999999999999999d",
                                      "+5"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t seconds;
        if (duration_parse(bad[i], &seconds))
            fail_msg("%s", bad[i]);
    }
}

static void words_are_of_the_largest_unit_that_is_there_twice(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        const char *words;
    } rows[] = {{-5, "0 s"},          {0, "0 s"},           {1, "1 s"},
                {119, "119 s"},       {120, "2 min"},       {7199, "119 min"},
                {7200, "2 h"},        {172799, "47 h"},     {172800, "2 d"},
                {59 * 86400, "59 d"}, {60 * 86400, "2 mo"}, {729 * 86400, "24 mo"},
                {730 * 86400, "2 y"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[DURATION_TEXT_MAX];
        assert_string_equal(duration_words(rows[i].seconds, text), rows[i].words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read_as_cron_s_every),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(words_are_of_the_largest_unit_that_is_there_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
