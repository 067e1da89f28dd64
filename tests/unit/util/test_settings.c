/* SPDX-License-Identifier: MIT */
/*
 * test_settings.c - values against their rows: what is kept, what is refused and with which words.
 */
#include "keepfs/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const colours[] = {"red", "green", NULL};

static const struct setting first_table[] = {
    {.key = "name", .type = SETTING_TEXT, .help = "a name"},
    {.key = "dir", .type = SETTING_PATH, .help = "a directory"},
    {.key = "level", .type = SETTING_INT, .def = "3", .min = -5, .max = 19},
    {.key = "wide", .type = SETTING_INT, .min = INT64_MIN, .max = INT64_MAX},
    {.key = NULL},
};
static const struct setting second_table[] = {
    {.key = "on", .type = SETTING_BOOL, .def = "yes"},
    {.key = "off", .type = SETTING_BOOL},
    {.key = "colour", .type = SETTING_WORD, .words = colours, .def = "red"},
    {.key = "skip", .type = SETTING_TEXT, .flags = SETTING_REPEATABLE, .def = "none"},
    {.key = NULL},
};
/* Takes what begins with "on ". */
static const char *seat_fault(const char *text)
{
    return strncmp(text, "on ", 3) == 0 ? NULL : "is no seat";
}

static const struct setting third_table[] = {
    {.key = "seat", .type = SETTING_TEXT, .fault = seat_fault, .allowed = "on something"},
    {.key = "secret",
     .type = SETTING_TEXT,
     .flags = SETTING_SECRET,
     .fault = seat_fault,
     .allowed = "on something"},
    {.key = "hidden", .type = SETTING_PATH, .flags = SETTING_SECRET},
    {.key = NULL},
};
static const struct settings tables = {.rows = {first_table, second_table, third_table}};

static void assert_kept(const char *key, const char *text, const char *kept)
{
    char *out = NULL, why[256] = "";

    assert_int_equal(setting_parse(settings_row(&tables, key), text, &out, why, sizeof why), 0);
    assert_string_equal(out, kept);
    free(out);
}

static void assert_refused(const char *key, const char *text, const char *why_wanted)
{
    char *out = NULL, why[256] = "";

    assert_int_equal(setting_parse(settings_row(&tables, key), text, &out, why, sizeof why), -1);
    assert_string_equal(why, why_wanted);
    assert_null(out);
}

static void rows_are_found_in_all_tables(void **state)
{
    (void)state;
    assert_ptr_equal(settings_row(&tables, "level"), &first_table[2]);
    assert_ptr_equal(settings_row(&tables, "skip"), &second_table[3]);
    assert_null(settings_row(&tables, "leve"));
    const struct settings none = {0};
    assert_null(settings_row(&none, "level"));
}

static void text_keeps_inner_blanks(void **state)
{
    (void)state;
    assert_kept("name", "a  b\tc", "a  b\tc");
}

static void an_empty_value_is_refused_for_every_type(void **state)
{
    (void)state;
    assert_refused("name", "", "name has no value; allowed: any text");
    assert_refused("dir", "", "dir has no value; allowed: an absolute path without \"..\"");
    assert_refused("level", "", "level has no value; allowed: a number from -5 to 19");
    assert_refused("on", "", "on has no value; allowed: yes, no");
    assert_refused("colour", "", "colour has no value; allowed: red, green");
}

static void paths_are_cleaned(void **state)
{
    (void)state;
    assert_kept("dir", "/", "/");
    assert_kept("dir", "///", "/");
    assert_kept("dir", "/.", "/");
    assert_kept("dir", "/a//b/./c/", "/a/b/c");
    assert_kept("dir", "/a/.", "/a");
    assert_kept("dir", "/./a", "/a");
    assert_kept("dir", "/a b/.c/..d/e..", "/a b/.c/..d/e..");
}

static void relative_paths_and_dot_dot_are_refused(void **state)
{
    (void)state;
    assert_refused("dir", "a/b",
                   "dir = a/b is not absolute; allowed: an absolute path without \"..\"");
    assert_refused("dir", "~/b",
                   "dir = ~/b is not absolute; allowed: an absolute path without \"..\"");
    assert_refused("dir", "/a/../b",
                   "dir = /a/../b has a \"..\" in it; allowed: an absolute path without \"..\"");
    assert_refused("dir", "/..",
                   "dir = /.. has a \"..\" in it; allowed: an absolute path without \"..\"");
}

static void numbers_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"+1", " 1", "1 ", "1k", "0x1", "1.0", "-", "one", "--1"};

    assert_kept("level", "-5", "-5");
    assert_kept("level", "19", "19");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char want[128];
        snprintf(want, sizeof want,
                 "level = %s is no decimal number; allowed: a number from -5 to 19", bad[i]);
        assert_refused("level", bad[i], want);
    }
}

static void numbers_out_of_range_name_the_bounds(void **state)
{
    (void)state;
    assert_refused("level", "20", "level = 20 is out of range; allowed: a number from -5 to 19");
    assert_refused("level", "-6", "level = -6 is out of range; allowed: a number from -5 to 19");
}

static void numbers_do_not_overflow(void **state)
{
    (void)state;
    assert_kept("wide", "9223372036854775807", "9223372036854775807");
    assert_refused("wide", "9223372036854775808",
                   "wide = 9223372036854775808 is out of range; allowed: a number from "
                   "-9223372036854775808 to 9223372036854775807");
    assert_refused("level", "18446744073709551617",
                   "level = 18446744073709551617 is out of range; allowed: a number from -5 to 19");
}

static void booleans_are_yes_or_no(void **state)
{
    (void)state;
    assert_kept("on", "yes", "yes");
    assert_kept("on", "no", "no");
    assert_refused("on", "true", "on = true is neither yes nor no; allowed: yes, no");
    assert_refused("on", "Yes", "on = Yes is neither yes nor no; allowed: yes, no");
}

static void words_are_listed_when_one_is_refused(void **state)
{
    (void)state;
    assert_kept("colour", "green", "green");
    assert_refused("colour", "blue", "colour = blue is not a word it takes; allowed: red, green");
}

static void a_text_may_have_a_judge_of_its_own(void **state)
{
    (void)state;
    assert_kept("seat", "on a chair", "on a chair");
    assert_refused("seat", "under it", "seat = under it is no seat; allowed: on something");
    assert_refused("seat", "", "seat has no value; allowed: on something");
}

static void a_secret_is_never_repeated(void **state)
{
    (void)state;
    assert_kept("secret", "on a chair", "on a chair");
    assert_refused("secret", "0123456789abcdef",
                   "secret = (its value is not repeated here) is no seat; allowed: on something");
    assert_refused("secret", "", "secret has no value; allowed: on something");
    assert_refused("hidden", "0123",
                   "hidden = (its value is not repeated here) is not absolute; allowed: an "
                   "absolute path without \"..\"");
    assert_refused("hidden", "/0123/..",
                   "hidden = (its value is not repeated here) has a \"..\" in it; allowed: an "
                   "absolute path without \"..\"");
}

static void a_long_bad_value_does_not_hide_what_is_allowed(void **state)
{
    (void)state;
    char text[4000], why[256], *out = NULL;

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(setting_parse(settings_row(&tables, "colour"), text, &out, why, sizeof why),
                     -1);
    assert_non_null(strstr(why, "allowed: red, green"));
}

static void getters_fall_back_to_the_default(void **state)
{
    (void)state;
    assert_int_equal(settings_int(&tables, "level"), 3);
    assert_int_equal(settings_int(&tables, "wide"), 0);
    assert_true(settings_bool(&tables, "on"));
    assert_false(settings_bool(&tables, "off"));
    assert_string_equal(settings_text(&tables, "colour"), "red");
    assert_null(settings_text(&tables, "name"));
    assert_null(settings_text(&tables, "dir"));
}

static void getters_give_what_was_added(void **state)
{
    (void)state;
    struct settings s = tables;

    settings_add(&s, settings_row(&s, "level"), strdup("-4"), 1);
    settings_add(&s, settings_row(&s, "on"), strdup("no"), 2);
    settings_add(&s, settings_row(&s, "colour"), strdup("green"), 3);
    settings_add(&s, settings_row(&s, "dir"), strdup("/x"), 4);
    assert_int_equal(settings_int(&s, "level"), -4);
    assert_false(settings_bool(&s, "on"));
    assert_string_equal(settings_text(&s, "colour"), "green");
    assert_string_equal(settings_text(&s, "dir"), "/x");
    settings_release(&s);
    assert_null(s.first);
    assert_int_equal(settings_int(&s, "level"), 3);
}

static void repeated_values_come_in_order_without_the_default(void **state)
{
    (void)state;
    struct settings s = tables;

    assert_null(settings_next(&s, "skip", NULL));
    settings_add(&s, settings_row(&s, "skip"), strdup("a"), 7);
    settings_add(&s, settings_row(&s, "name"), strdup("between"), 8);
    settings_add(&s, settings_row(&s, "skip"), strdup("b"), 9);
    const struct setting_value *v = settings_next(&s, "skip", NULL);
    assert_string_equal(v->text, "a");
    assert_int_equal(v->line, 7);
    v = settings_next(&s, "skip", v);
    assert_string_equal(v->text, "b");
    assert_int_equal(v->line, 9);
    assert_null(settings_next(&s, "skip", v));
    settings_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_found_in_all_tables),
        cmocka_unit_test(text_keeps_inner_blanks),
        cmocka_unit_test(an_empty_value_is_refused_for_every_type),
        cmocka_unit_test(paths_are_cleaned),
        cmocka_unit_test(relative_paths_and_dot_dot_are_refused),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(numbers_out_of_range_name_the_bounds),
        cmocka_unit_test(numbers_do_not_overflow),
        cmocka_unit_test(booleans_are_yes_or_no),
        cmocka_unit_test(words_are_listed_when_one_is_refused),
        cmocka_unit_test(a_text_may_have_a_judge_of_its_own),
        cmocka_unit_test(a_secret_is_never_repeated),
        cmocka_unit_test(a_long_bad_value_does_not_hide_what_is_allowed),
        cmocka_unit_test(getters_fall_back_to_the_default),
        cmocka_unit_test(getters_give_what_was_added),
        cmocka_unit_test(repeated_values_come_in_order_without_the_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
