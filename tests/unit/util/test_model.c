/* SPDX-License-Identifier: MIT */
/*
 * test_model.c - words for states, and figures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/model.h"

#include <stdio.h>

static const struct {
    enum job_state state;
    const char *word;
    bool terminal;
} states[] = {
    {JOB_PENDING, "pending", false},        {JOB_RUNNING, "running", false},
    {JOB_SUCCEEDED, "succeeded", true},     {JOB_FAILED, "failed", true},
    {JOB_INTERRUPTED, "interrupted", true},
};

static void the_five_states_have_their_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        enum job_state back;
        assert_string_equal(job_state_name(states[i].state), states[i].word);
        assert_int_equal(job_state_parse(states[i].word, &back), 0);
        assert_int_equal(back, states[i].state);
        assert_int_equal(job_state_terminal(states[i].state), states[i].terminal);
    }
}

static void other_words_are_no_states(void **state)
{
    static const char *const bad[] = {"", "cancelled", "Pending", "running ", "runnin", "success"};
    enum job_state out = JOB_FAILED;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(job_state_parse(bad[i], &out), -1);
    assert_int_equal(out, JOB_FAILED);
}

static void figures_add_up_by_key(void **state)
{
    struct stats s = {0};

    (void)state;
    assert_int_equal(stats_get(&s, "files"), 0);
    stats_add(&s, "files", 2);
    stats_add(&s, "content_bytes", UINT64_C(1) << 40);
    stats_add(&s, "files", 3);
    stats_add(&s, "skipped", 0);
    assert_int_equal(s.count, 3);
    assert_string_equal(s.items[0].key, "files");
    assert_int_equal(stats_get(&s, "files"), 5);
    assert_int_equal(stats_get(&s, "content_bytes"), UINT64_C(1) << 40);
    assert_int_equal(stats_get(&s, "skipped"), 0);
    assert_int_equal(stats_get(&s, "file"), 0);
}

static void there_is_room_for_all_figures_that_the_limit_allows(void **state)
{
    struct stats s = {0};
    char key[32];

    (void)state;
    for (int i = 0; i < LIMIT_STATS; i++) {
        snprintf(key, sizeof key, "figure_%d", i);
        stats_add(&s, key, (uint64_t)i);
    }
    stats_add(&s, "figure_0", 7);
    assert_int_equal(s.count, LIMIT_STATS);
    assert_int_equal(stats_get(&s, "figure_0"), 7);
    assert_int_equal(stats_get(&s, key), LIMIT_STATS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_five_states_have_their_words),
        cmocka_unit_test(other_words_are_no_states),
        cmocka_unit_test(figures_add_up_by_key),
        cmocka_unit_test(there_is_room_for_all_figures_that_the_limit_allows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
