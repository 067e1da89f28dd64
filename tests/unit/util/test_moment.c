/* SPDX-License-Identifier: MIT */
/* moment.c: what is a time, and which. */

/* cmocka.h needs these four, in this order. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "util/clock.h"
#include "util/moment.h"

#include <stdio.h>

static void times_and_their_beginnings_are_read(void **state)
{
    static const struct {
        const char *text, *same;
    } cases[] = {
        {"2026-09-01", "2026-09-01T00:00:00.000Z"},
        {"2026-09-01T12", "2026-09-01T12:00:00.000Z"},
        {"2026-09-01T12:34", "2026-09-01T12:34:00.000Z"},
        {"2026-09-01 12:34", "2026-09-01T12:34:00.000Z"},
        {"2026-09-01T12:34:56", "2026-09-01T12:34:56.000Z"},
        {"2026-09-01T12:34:56Z", "2026-09-01T12:34:56.000Z"},
        {"2026-09-01T12:34:56.7", "2026-09-01T12:34:56.700Z"},
        {"2026-09-01T12:34:56.789Z", "2026-09-01T12:34:56.789Z"},
        {"2026-09-01T12:34:56.789999999Z", "2026-09-01T12:34:56.789Z"},
        {"2026-09-01T12:34:56.000000001+00:00", "2026-09-01T12:34:56.000Z"},
        {"2026-09-01T12Z", "2026-09-01T12:00:00.000Z"},
        {"2026-09-01T12:00+02:00", "2026-09-01T10:00:00.000Z"},
        {"2026-09-01T00:30+02:00", "2026-08-31T22:30:00.000Z"},
        {"2026-09-01T12:00-03:30", "2026-09-01T15:30:00.000Z"},
        {"2026-12-31T23:00-02:00", "2027-01-01T01:00:00.000Z"},
        {"2026-09-01T12:00-00:00", "2026-09-01T12:00:00.000Z"},
        {"2024-02-29", "2024-02-29T00:00:00.000Z"},
        {"1969-12-31T23:59:59.999", "1969-12-31T23:59:59.999Z"},
        {"0000-01-01", "0000-01-01T00:00:00.000Z"},
        {"9999-12-31T23:59:59", "9999-12-31T23:59:59.000Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        time_ms got, wanted;
        assert_int_equal(time_parse(cases[i].same, &wanted), 0);
        if (moment_parse(cases[i].text, &got) != 0 || got != wanted)
            fail_msg("%s", cases[i].text);
    }
}

static void anything_else_is_no_time(void **state)
{
    static const char *const cases[] = {
        "",
        "now",
        "2026",
        "2026-09",
        "2026-9-1",
        "2026-09-01T",
        "2026-09-01 ",
        "2026-09-01Z",
        "2026-09-01+02:00",
        "2026-09-01t12:00",
        "2026-09-01T12:00z",
        "2026-09-01T1",
        "2026-09-01T12:",
        "2026-09-01T12:0",
        "2026-09-01T12:00:",
        "2026-09-01T12:00:00.",
        "2026-09-01T12:00:00.Z",
        "2026-09-01T12:00:00.1234567890",
        "2026-09-01T12:00.5",
        "2026-09-01T12:00:00 Z",
        "2026-09-01T12:00+02",
        "2026-09-01T12:00+0200",
        "2026-09-01T12:00+2:00",
        "2026-09-01T12:00+24:00",
        "2026-09-01T12:00+02:60",
        "2026-09-01T12:00ZZ",
        "2026-09-01T24:00",
        "2026-09-01T12:60",
        "2026-09-01T12:00:60",
        "2026-00-01",
        "2026-13-01",
        "2026-09-00",
        "2026-09-31",
        "2025-02-29",
        "-026-09-01",
        "+2026-09-01",
        " 2026-09-01",
        "02026-09-01",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        time_ms got = 77;
        if (moment_parse(cases[i], &got) != -1 || got != 77)
            fail_msg("%s", cases[i]);
    }
}

/* What a record's created_at says is a time, and that one. */
static void what_time_format_writes_is_read_back(void **state)
{
    char text[TIME_TEXT_MAX];

    (void)state;
    for (time_ms t = -62167219200000; t < 253402300800000; t += 999999999937) {
        time_ms got;
        assert_int_equal(moment_parse(time_format(t, text), &got), 0);
        assert_int_equal(got, t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_and_their_beginnings_are_read),
        cmocka_unit_test(anything_else_is_no_time),
        cmocka_unit_test(what_time_format_writes_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
