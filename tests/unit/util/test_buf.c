/* SPDX-License-Identifier: MIT */
/*
 * test_buf.c - a buffer is a text at every moment of its life.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"

#include <stdlib.h>
#include <string.h>

static void an_untouched_buffer_is_the_empty_text(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    assert_string_equal(buf_text(&b), "");
    buf_truncate(&b, 0);
    buf_add(&b, NULL, 0);
    assert_string_equal(b.data, "");
    assert_int_equal(b.len, 0);
    buf_release(&b);
    assert_null(b.data);
}

static void every_add_is_followed_by_a_nul(void **state)
{
    struct buf b = BUF_INIT;
    char expected[2000] = "";

    (void)state;
    for (size_t i = 0; i < sizeof expected - 1; i++) {
        char c = (char)('a' + i % 26);
        expected[i] = c;
        buf_add(&b, &c, 1);
        assert_int_equal(b.len, i + 1);
        assert_true(b.cap > b.len);
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_string_equal(b.data, expected);
    buf_release(&b);
}

static void bytes_of_any_value_are_kept(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_add(&b, "a\0b", 3);
    buf_adds(&b, "c");
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "a\0bc", 5);
    buf_release(&b);
}

static void formatted_text_of_every_length_is_whole(void **state)
{
    (void)state;
    for (int width = 1; width < 300; width++) {
        struct buf b = BUF_INIT;
        buf_adds(&b, "<");
        buf_addf(&b, "%*d", width, 7);
        buf_adds(&b, ">");
        assert_int_equal(b.len, (size_t)width + 2);
        assert_int_equal(b.data[width], '7');
        assert_int_equal(b.data[width + 1], '>');
        buf_release(&b);
    }
}

static void a_truncated_buffer_goes_on_from_there(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_adds(&b, "one two");
    buf_truncate(&b, 3);
    assert_string_equal(b.data, "one");
    buf_adds(&b, "!");
    assert_string_equal(b.data, "one!");
    buf_release(&b);
}

static void a_stolen_text_is_the_callers(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    char *empty = buf_steal(&b);
    assert_string_equal(empty, "");
    buf_adds(&b, "text");
    char *text = buf_steal(&b);
    assert_string_equal(buf_text(&b), "");
    buf_adds(&b, "other");
    assert_string_equal(text, "text");
    free(empty);
    free(text);
    buf_release(&b);
}

static void allocating_nothing_gives_something_to_free(void **state)
{
    (void)state;
    void *a = xmalloc(0), *b = xcalloc(0, 8), *c = xrealloc(NULL, 0);

    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    free(a);
    free(b);
    free(c);
}

static void texts_are_copied_and_formatted(void **state)
{
    (void)state;
    char *copy = xstrdup("copy"), *text = xasprintf("%s-%d", copy, 3), *none = xasprintf("%s", "");

    assert_string_equal(text, "copy-3");
    assert_string_equal(none, "");
    free(copy);
    free(text);
    free(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_untouched_buffer_is_the_empty_text),
        cmocka_unit_test(every_add_is_followed_by_a_nul),
        cmocka_unit_test(bytes_of_any_value_are_kept),
        cmocka_unit_test(formatted_text_of_every_length_is_whole),
        cmocka_unit_test(a_truncated_buffer_goes_on_from_there),
        cmocka_unit_test(a_stolen_text_is_the_callers),
        cmocka_unit_test(allocating_nothing_gives_something_to_free),
        cmocka_unit_test(texts_are_copied_and_formatted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
