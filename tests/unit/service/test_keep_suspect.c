/* SPDX-License-Identifier: MIT */
/*
 * test_keep_suspect.c - when a new backup is suspiciously small, and when the clock is behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/keep.h"

#include <limits.h>

#define NOW ((time_ms)1790000000000)

#define SUSPECT(size, ratio, ...)                                                                  \
    keep_suspect(size, (const uint64_t[]){__VA_ARGS__},                                            \
                 sizeof(uint64_t[]){__VA_ARGS__} / sizeof(uint64_t), ratio)

static void a_backup_under_the_ratio_of_the_median_is_suspect(void **state)
{
    (void)state;
    assert_true(SUSPECT(49, 500, 100));
    assert_false(SUSPECT(50, 500, 100));
    assert_true(SUSPECT(0, 1, 1));
    /* The median: neither the newest, nor the mean, nor an extreme. */
    assert_true(SUSPECT(99, 1000, 1, 100, 100000));
    assert_false(SUSPECT(100, 1000, 1, 100, 100000));
    assert_true(SUSPECT(29, 1000, 50, 10, 40, 20, 30));
    assert_false(SUSPECT(30, 1000, 50, 10, 40, 20, 30));
}

static void the_median_of_an_even_number_is_the_mean_of_the_middle_two(void **state)
{
    (void)state;
    assert_true(SUSPECT(14, 1000, 10, 20));
    assert_false(SUSPECT(15, 1000, 10, 20));
    assert_true(SUSPECT(14, 1000, 1, 20, 10, 100));
    assert_false(SUSPECT(15, 1000, 1, 20, 10, 100));
    assert_true(SUSPECT(15, 1000, 10, 21)); /* 15.5, not cut */
}

static void only_the_five_before_it_are_looked_at(void **state)
{
    (void)state;
    assert_false(SUSPECT(10, 1000, 10, 10, 10, 90, 90, 90, 90, 90));
    assert_true(SUSPECT(89, 1000, 10, 90, 10, 90, 90, 10)); /* 50 for the first four, or all six */
}

static void without_earlier_ones_or_a_ratio_nothing_is_suspect(void **state)
{
    (void)state;
    assert_false(keep_suspect(0, NULL, 0, 1000));
    assert_false(SUSPECT(0, 0, 100));
    assert_false(SUSPECT(0, 1000, 0, 0));
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    assert_false(SUSPECT(UINT64_MAX, 1000, UINT64_MAX, UINT64_MAX));
    assert_true(SUSPECT(UINT64_MAX - 1, 1000, UINT64_MAX, UINT64_MAX));
    assert_true(SUSPECT(UINT64_MAX, 1001, UINT64_MAX));
    assert_true(SUSPECT(UINT64_MAX / 2, 501, UINT64_MAX));
    assert_false(SUSPECT(UINT64_MAX / 2, 499, UINT64_MAX));
    assert_true(SUSPECT(UINT64_MAX, UINT_MAX, UINT64_MAX, UINT64_MAX));
}

static void the_earlier_sizes_are_left_as_they_are(void **state)
{
    uint64_t sizes[] = {3, 1, 2};

    (void)state;
    keep_suspect(1, sizes, 3, 500);
    assert_true(sizes[0] == 3 && sizes[1] == 1 && sizes[2] == 2);
}

static void a_clock_behind_the_newest_record_is_wrong(void **state)
{
    (void)state;
    assert_true(keep_clock_behind(NOW, NOW + 1));
    assert_false(keep_clock_behind(NOW, NOW));
    assert_false(keep_clock_behind(NOW, NOW - 1));
    assert_false(keep_clock_behind(NOW, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_under_the_ratio_of_the_median_is_suspect),
        cmocka_unit_test(the_median_of_an_even_number_is_the_mean_of_the_middle_two),
        cmocka_unit_test(only_the_five_before_it_are_looked_at),
        cmocka_unit_test(without_earlier_ones_or_a_ratio_nothing_is_suspect),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(the_earlier_sizes_are_left_as_they_are),
        cmocka_unit_test(a_clock_behind_the_newest_record_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
