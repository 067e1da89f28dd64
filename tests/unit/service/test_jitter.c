/* SPDX-License-Identifier: MIT */
/*
 * test_jitter.c - a repo's offset from its tick.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/jitter.h"

#include <stdio.h>

/* Published test vectors of FNV-1a, 64 bits: "" cbf29ce484222325, "a" af63dc4c8601ec8c, "foobar"
 * 85944171f73967e8; here modulo the maximum. */
static void offsets_have_their_golden_values(void **state)
{
    (void)state;
    assert_int_equal(schedule_jitter("", 300), 137);
    assert_int_equal(schedule_jitter("", 3600), 437);
    assert_int_equal(schedule_jitter("a", 300), 196);
    assert_int_equal(schedule_jitter("foobar", 300), 168);
    assert_true(schedule_jitter("foobar", 4294967295u) == 2093853018u);
    assert_int_equal(schedule_jitter("app/main", JITTER_DEFAULT_SECONDS), 12);
    assert_int_equal(schedule_jitter("etc/main", JITTER_DEFAULT_SECONDS), 191);
    assert_int_equal(schedule_jitter("\xc3\xa4", 300), 62);
}

static void an_offset_is_below_the_maximum_and_always_the_same(void **state)
{
    char id[32];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "store%d/main", i);
        unsigned max = (unsigned)i + 1, first = schedule_jitter(id, max);
        assert_true(first < max);
        assert_int_equal(schedule_jitter(id, max), first);
    }
}

static void no_maximum_is_no_offset(void **state)
{
    (void)state;
    assert_int_equal(schedule_jitter("app/main", 0), 0);
    assert_int_equal(schedule_jitter("app/main", 1), 0);
}

static void twenty_repos_are_spread(void **state)
{
    unsigned seen[20];
    int clashes = 0;
    char id[32];

    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "repo-%02d", i);
        seen[i] = schedule_jitter(id, JITTER_DEFAULT_SECONDS);
        for (int k = 0; k < i; k++)
            clashes += seen[k] == seen[i];
    }
    assert_in_range(clashes, 0, 2);
}

static void by_default_it_is_up_to_five_minutes(void **state)
{
    (void)state;
    assert_int_equal(JITTER_DEFAULT_SECONDS, 5 * 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_have_their_golden_values),
        cmocka_unit_test(an_offset_is_below_the_maximum_and_always_the_same),
        cmocka_unit_test(no_maximum_is_no_offset),
        cmocka_unit_test(twenty_repos_are_spread),
        cmocka_unit_test(by_default_it_is_up_to_five_minutes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
