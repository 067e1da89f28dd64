/* SPDX-License-Identifier: MIT */
/* last_error.c: one sentence per user, bounded. */
#include "fs/last_error.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = last_errors_new();
    return 0;
}

static int teardown(void **state)
{
    last_errors_free(*state);
    return 0;
}

static void set(struct last_errors *l, uid_t uid, const char *input, size_t len)
{
    last_errors_set(l, uid,
                    &(struct last_error){.time = 1800000000123,
                                         .errnum = EBUSY,
                                         .path = "ctl",
                                         .input = input,
                                         .input_len = len,
                                         .message = "it is busy"});
}

static char *get(struct last_errors *l, uid_t uid)
{
    struct buf text = BUF_INIT;

    last_errors_render(l, uid, &text);
    return buf_steal(&text);
}

#define assert_shown(l, uid, expected)                                                             \
    do {                                                                                           \
        char *text_ = get(l, uid);                                                                 \
        assert_string_equal(text_, expected);                                                      \
        free(text_);                                                                               \
    } while (0)

static void nobody_has_an_error_at_first(void **state)
{
    assert_shown(*state, 0, "ok\n");
}

static void an_error_is_five_lines_for_its_user_only(void **state)
{
    set(*state, 1000, "app", 3);
    assert_shown(*state, 1000,
                 "time 2027-01-15T08:00:00.123Z\nerrno EBUSY\npath ctl\ninput app\n"
                 "message it is busy\n");
    assert_shown(*state, 1001, "ok\n");
    assert_shown(*state, 0, "ok\n");
}

static void a_success_resets_its_user_only(void **state)
{
    set(*state, 1, "x", 1);
    set(*state, 2, "x", 1);
    last_errors_clear(*state, 1);
    last_errors_clear(*state, 3);
    assert_shown(*state, 1, "ok\n");
    char *text = get(*state, 2);
    assert_non_null(strstr(text, "EBUSY"));
    free(text);
}

static void input_cannot_forge_a_line_and_is_cut(void **state)
{
    char longer[LAST_ERROR_INPUT + 50];
    char *text;

    set(*state, 1, "a\nerrno OK\\\0b", 13);
    text = get(*state, 1);
    assert_non_null(strstr(text, "\ninput a\\x0aerrno OK\\x5c\\x00b\nmessage"));
    free(text);
    memset(longer, 'z', sizeof longer);
    set(*state, 1, longer, sizeof longer);
    text = get(*state, 1);
    const char *input = strstr(text, "\ninput ") + strlen("\ninput ");
    assert_int_equal(strspn(input, "z"), LAST_ERROR_INPUT);
    assert_memory_equal(input + LAST_ERROR_INPUT, "...\n", 4);
    free(text);
}

static void the_oldest_goes_when_the_table_is_full(void **state)
{
    for (uid_t uid = 1; uid <= LIMIT_LAST_ERROR_UIDS; uid++)
        set(*state, uid, "x", 1);
    set(*state, 1, "y", 1); /* newer than that of 2 now */
    set(*state, 5000, "x", 1);
    assert_shown(*state, 2, "ok\n");
    for (uid_t uid = 3; uid <= LIMIT_LAST_ERROR_UIDS; uid++) {
        char *text = get(*state, uid);
        assert_string_not_equal(text, "ok\n");
        free(text);
    }
    char *text = get(*state, 1);
    assert_non_null(strstr(text, "input y\n"));
    free(text);
}

static void *hammer(void *ctx)
{
    for (uid_t i = 0; i < 2000; i++) {
        set(ctx, i % 300, "x", 1);
        free(get(ctx, (i + 1) % 300));
        last_errors_clear(ctx, (i + 2) % 300);
    }
    return NULL;
}

static void users_may_fail_at_once(void **state)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, *state), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_has_an_error_at_first, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_is_five_lines_for_its_user_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_success_resets_its_user_only, setup, teardown),
        cmocka_unit_test_setup_teardown(input_cannot_forge_a_line_and_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_goes_when_the_table_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(users_may_fail_at_once, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
