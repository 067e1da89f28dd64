/* SPDX-License-Identifier: MIT */
/*
 * test_ulid.c - ids are valid, ordered, unique among threads, and nothing else passes for one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"
#include "util/ulid.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1795242628123

static void a_new_id_is_valid_and_has_its_time(void **state)
{
    char id[ULID_LEN + 1];

    (void)state;
    ulid_new(NOW, id);
    assert_true(ulid_valid(id));
    assert_true(ulid_time(id) == NOW);
}

static void the_time_of_a_known_id_is_read(void **state)
{
    (void)state;
    assert_true(ulid_time("00000000000000000000000000") == 0);
    /* The specification's example. */
    assert_true(ulid_time("01ARYZ6S41TSV4RRFFQ69G5FAV") == 1469918176385);
    assert_true(ulid_time("7ZZZZZZZZZZZZZZZZZZZZZZZZZ") == ((time_ms)1 << 48) - 1);
}

static void ids_of_one_ms_ascend(void **state)
{
    char before[ULID_LEN + 1], id[ULID_LEN + 1];

    (void)state;
    ulid_new(NOW + 1, before);
    for (int i = 0; i < 10000; i++) {
        ulid_new(NOW + 1, id);
        assert_true(strcmp(id, before) > 0);
        assert_true(ulid_time(id) == NOW + 1);
        memcpy(before, id, sizeof id);
    }
}

static void ids_ascend_when_the_clock_steps_back(void **state)
{
    char before[ULID_LEN + 1], id[ULID_LEN + 1];

    (void)state;
    ulid_new(NOW + 1000, before);
    ulid_new(NOW, id);
    assert_true(strcmp(id, before) > 0);
    ulid_new(NOW + 1001, before);
    assert_true(strcmp(before, id) > 0);
    assert_true(ulid_time(before) == NOW + 1001);
}

static void ids_of_two_ms_share_no_randomness(void **state)
{
    char a[ULID_LEN + 1], b[ULID_LEN + 1];

    (void)state;
    ulid_new(NOW + 2000, a);
    ulid_new(NOW + 2001, b);
    assert_string_not_equal(a + 10, b + 10);
}

static void only_26_characters_of_the_alphabet_are_valid(void **state)
{
    static const char *const bad[] = {
        "",
        "01ARYZ6S41TSV4RRFFQ69G5FA",
        "01ARYZ6S41TSV4RRFFQ69G5FAVX",
        "81ARYZ6S41TSV4RRFFQ69G5FAV",
        "Z1ARYZ6S41TSV4RRFFQ69G5FAV",
        "01aryz6s41tsv4rrffq69g5fav",
        "01ARYZ6S41TSV4RRFFQ69G5FAI",
        "01ARYZ6S41TSV4RRFFQ69G5FAL",
        "01ARYZ6S41TSV4RRFFQ69G5FAO",
        "01ARYZ6S41TSV4RRFFQ69G5FAU",
        "01ARYZ6S41TSV4RRFFQ69G5FA/",
        "../ARYZ6S41TSV4RRFFQ69G5FA",
        "01ARYZ6S41TSV4RRFFQ69G5FA.",
        "01ARYZ6S41TSV4RRFFQ69G5FA\n",
        "01ARYZ6S41TSV4RRFFQ69G5FA ",
    };

    (void)state;
    assert_true(ulid_valid("01ARYZ6S41TSV4RRFFQ69G5FAV"));
    assert_true(ulid_valid("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ulid_valid(bad[i]));
}

enum { THREADS = 8, IDS = 2000 };

static void *make_ids(void *ctx)
{
    char(*ids)[ULID_LEN + 1] = ctx;

    for (int i = 0; i < IDS; i++)
        ulid_new(NOW + 3000, ids[i]);
    return NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void threads_never_get_the_same_id(void **state)
{
    char(*ids)[ULID_LEN + 1] = xcalloc((size_t)THREADS * IDS, ULID_LEN + 1);
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + (ptrdiff_t)i * IDS), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    qsort(ids, (size_t)THREADS * IDS, sizeof *ids, by_text);
    for (int i = 1; i < THREADS * IDS; i++)
        assert_string_not_equal(ids[i], ids[i - 1]);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_id_is_valid_and_has_its_time),
        cmocka_unit_test(the_time_of_a_known_id_is_read),
        cmocka_unit_test(ids_of_one_ms_ascend),
        cmocka_unit_test(ids_ascend_when_the_clock_steps_back),
        cmocka_unit_test(ids_of_two_ms_share_no_randomness),
        cmocka_unit_test(only_26_characters_of_the_alphabet_are_valid),
        cmocka_unit_test(threads_never_get_the_same_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
