/* SPDX-License-Identifier: MIT */
/*
 * test_command_grammar.c - one line of ctl: what it means, and where it is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/service.h"
#include "util/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A copy without NUL behind it, so that a sanitizer sees every look past the end. */
static int parse(const char *line, size_t len, struct run_request *out, struct error *err)
{
    char *copy = xmalloc(len);

    memcpy(copy, line, len);
    int result = run_request_parse(copy, len, out, err);
    free(copy);
    return result;
}

static void expect(const char *line, const char *store, const char *repo, const char *key,
                   const char *label)
{
    struct run_request q;
    struct error err = {0};

    if (parse(line, strlen(line), &q, &err) != 0)
        fail_msg("'%s': %s", line, err.message);
    assert_string_equal(q.store, store);
    assert_string_equal(q.repo, repo);
    assert_string_equal(q.key, key);
    assert_string_equal(q.label, label);
    assert_string_equal(q.requested_by, "");
    assert_int_equal(err.code, ERR_NONE); /* untouched on success */
}

/* Refused with that errno, at that column (from 1), with a sentence that has the word in it. */
static void expect_refused_bytes(const char *line, size_t len, int errnum, size_t column,
                                 const char *word)
{
    struct run_request q;
    struct error err = {0};
    char where[32];

    if (parse(line, len, &q, &err) != -1)
        fail_msg("'%s' was taken", line);
    assert_int_equal(err.code, ERR_INVALID);
    snprintf(where, sizeof where, "column %zu: ", column);
    if (err.errnum != errnum || strncmp(err.message, where, strlen(where)) != 0 ||
        !strstr(err.message, word))
        fail_msg("'%s': %s (%s), not %s with '%s' (%s)", line, err.message,
                 error_errno_name(err.errnum), where, word, error_errno_name(errnum));
}

static void expect_refused(const char *line, int errnum, size_t column, const char *word)
{
    expect_refused_bytes(line, strlen(line), errnum, column, word);
}

/* `n` times c, with text around. */
static char *repeated(const char *before, char c, size_t n, const char *after)
{
    struct buf b = BUF_INIT;

    buf_adds(&b, before);
    while (n-- > 0)
        buf_add(&b, &c, 1);
    buf_adds(&b, after);
    return buf_steal(&b);
}

/* ---- store and repo ---- */

static void a_store_or_a_repo_is_named(void **state)
{
    (void)state;
    expect("app", "app", "", "", "");
    expect("app/main", "app", "main", "", "");
    expect("0.a-b_c/9", "0.a-b_c", "9", "", "");
    expect("key/label", "key", "label", "", "");
    expect("key", "key", "", "", "");
}

static void blanks_around_words_do_not_matter(void **state)
{
    (void)state;
    expect("  app  ", "app", "", "", "");
    expect("\tapp/main\t", "app", "main", "", "");
    expect(" app \t key=k \t ", "app", "", "k", "");
    expect("app\tkey=k\tlabel=l", "app", "", "k", "l");
}

static void an_empty_line_is_refused(void **state)
{
    (void)state;
    expect_refused("", EINVAL, 1, "empty");
    expect_refused(" ", EINVAL, 2, "empty");
    expect_refused(" \t ", EINVAL, 4, "empty");
}

static void ids_have_their_alphabet(void **state)
{
    (void)state;
    expect_refused("App", EINVAL, 1, "store");
    expect_refused("  .app", EINVAL, 3, "store");
    expect_refused("-app", EINVAL, 1, "store");
    expect_refused("a*b", EINVAL, 1, "store");
    expect_refused("key=k", EINVAL, 1, "store");
    expect_refused("/main", EINVAL, 1, "store");
    expect_refused("/", EINVAL, 1, "store");
    expect_refused("app/", EINVAL, 5, "repo");
    expect_refused("app/../x", EINVAL, 5, "repo");
    expect_refused("app/main/x", EINVAL, 5, "repo");
    expect_refused(" app/Main", EINVAL, 6, "repo");
    expect_refused("\xc3\xa4pp", EINVAL, 1, "store");
    expect_refused("app\n", EINVAL, 1, "store");
}

static void ids_have_at_most_64_bytes(void **state)
{
    (void)state;
    char *id = repeated("", 'a', 64, ""), *both = repeated(id, '/', 1, id);
    char *long_store = repeated("", 'a', 65, ""), *long_repo = repeated("app/", 'b', 65, "");
    char *wrong_and_long = repeated("", 'A', 65, "/x");

    expect(id, id, "", "", "");
    expect(both, id, id, "", "");
    expect_refused(long_store, E2BIG, 1, "store");
    expect_refused(long_repo, E2BIG, 5, "repo");
    expect_refused(wrong_and_long, E2BIG, 1, "store");
    free(id);
    free(both);
    free(long_store);
    free(long_repo);
    free(wrong_and_long);
}

/* ---- key ---- */

static void a_key_is_one_word_of_its_alphabet(void **state)
{
    (void)state;
    expect("app key=k", "app", "", "k", "");
    expect("app/main key=A-z_0.9:x", "app", "main", "A-z_0.9:x", "");
}

static void keys_that_no_file_name_can_be_are_refused(void **state)
{
    (void)state;
    expect_refused("app key=", EINVAL, 9, "key");
    expect_refused("app key= x", EINVAL, 9, "key");
    expect_refused("app key=.", EINVAL, 9, "dot");
    expect_refused("app key=..", EINVAL, 9, "dot");
    expect_refused("app key=.hidden", EINVAL, 9, "dot");
    expect_refused("app key=a/b", EINVAL, 9, "key");
    expect_refused("app key=a=b", EINVAL, 9, "key");
    expect_refused("app key=a\x01", EINVAL, 9, "key");
    expect_refused("app key=\xc3\xa4", EINVAL, 9, "key");
    expect_refused("app key=a key=b", EINVAL, 15, "twice");
}

static void every_byte_of_a_key_is_judged(void **state)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._:-";

    (void)state;
    for (int c = 1; c < 256; c++) {
        char line[] = "app key=a?";
        struct run_request q;
        struct error err;
        line[sizeof line - 2] = (char)c;
        bool good = strchr(allowed, c) || c == ' ' || c == '\t';
        assert_int_equal(parse(line, sizeof line - 1, &q, &err), good ? 0 : -1);
    }
}

static void a_key_has_at_most_64_bytes(void **state)
{
    (void)state;
    char *key = repeated("", 'k', 64, ""), *line = repeated("app key=", 'k', 64, "");
    char *longer = repeated("app key=", 'k', 65, "");

    expect(line, "app", "", key, "");
    expect_refused(longer, E2BIG, 9, "64");
    free(key);
    free(line);
    free(longer);
}

/* ---- label ---- */

static void a_label_takes_the_rest_of_the_line(void **state)
{
    (void)state;
    expect("app label=before the upgrade", "app", "", "", "before the upgrade");
    expect("app label=key=k", "app", "", "", "key=k");
    expect("app key=k label=a label=b", "app", "", "k", "a label=b");
    expect("app label=a key=k", "app", "", "", "a key=k");
    expect("app label=end  \t ", "app", "", "", "end");
    expect("app label=\xc3\xa4\xff", "app", "", "", "\xc3\xa4\xff");
    expect("app label=two  blanks", "app", "", "", "two  blanks");
}

static void labels_are_text_of_one_line(void **state)
{
    (void)state;
    expect_refused("app label=", EINVAL, 11, "empty");
    expect_refused("app label=  \t", EINVAL, 11, "empty");
    expect_refused("app label=a\tb", EINVAL, 12, "control");
    expect_refused("app label=a b\nc", EINVAL, 14, "control");
    expect_refused("app label=\x1b[2J", EINVAL, 11, "control");
    expect_refused("app label=a\x7f", EINVAL, 12, "control");
}

static void a_label_has_at_most_256_bytes(void **state)
{
    (void)state;
    char *label = repeated("", 'l', 256, ""), *line = repeated("app label=", 'l', 256, "   ");
    char *longer = repeated("app label=", 'l', 257, "");

    expect(line, "app", "", "", label);
    expect_refused(longer, E2BIG, 11, "256");
    free(label);
    free(line);
    free(longer);
}

/* ---- the whole line ---- */

static void other_words_are_refused_where_they_stand(void **state)
{
    (void)state;
    expect_refused("app main", EINVAL, 5, "unknown");
    expect_refused("app key", EINVAL, 5, "unknown");
    expect_refused("app label", EINVAL, 5, "unknown");
    expect_refused("app Key=k", EINVAL, 5, "unknown");
    expect_refused("app key=k  now", EINVAL, 12, "unknown");
    expect_refused("app key =k", EINVAL, 5, "unknown");
}

static void line_ends_of_other_systems_are_named(void **state)
{
    (void)state;
    expect_refused("app\r", EINVAL, 4, "carriage return");
    expect_refused("app label=x\r", EINVAL, 12, "carriage return");
    expect_refused("\r", EINVAL, 1, "carriage return");
    expect_refused("a\rb", EINVAL, 1, "store");
}

static void a_nul_byte_is_refused_where_it_stands(void **state)
{
    (void)state;
    expect_refused_bytes("a\0b", 3, EINVAL, 2, "NUL");
    expect_refused_bytes("\0", 1, EINVAL, 1, "NUL");
    expect_refused_bytes("app key=k\0", 10, EINVAL, 10, "NUL");
    expect_refused_bytes("app label=a\0b", 13, EINVAL, 12, "");
    expect_refused_bytes("app label=a b\0", 14, EINVAL, 14, "");
}

static void a_line_has_at_most_1024_bytes(void **state)
{
    (void)state;
    char *longest = repeated("app", ' ', 1021, ""), *longer = repeated("app", ' ', 1022, "");
    char *much = repeated("", 'a', 1000000, "");

    expect(longest, "app", "", "", "");
    expect_refused(longer, E2BIG, 1025, "1024");
    expect_refused(much, E2BIG, 1025, "1024");
    free(longest);
    free(longer);
    free(much);
}

static void every_refusal_explains_the_grammar(void **state)
{
    struct run_request q;
    struct error err;

    (void)state;
    assert_int_equal(parse("App", 3, &q, &err), -1);
    assert_non_null(strstr(err.message, "STORE/REPO"));
    assert_non_null(strstr(err.message, "key="));
    assert_non_null(strstr(err.message, "label="));
}

/* Words of the grammar and single bytes, mixed. Whatever is taken obeys the rules. */
static void random_lines_are_taken_by_the_rules_or_refused(void **state)
{
    static const char *const parts[] = {"app", "app/main",   "key=",   "label=",   " ",
                                        "\t",  "/",          "=",      ".",        "a",
                                        "A",   "0123456789", "key=k ", "label=l ", "\n"};
    unsigned short seed[3] = {7, 7, 7};

    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct buf line = BUF_INIT;
        struct run_request q;
        struct error err;
        for (long n = nrand48(seed) % 40; n > 0; n--) {
            char byte = (char)nrand48(seed);
            if (nrand48(seed) % 4 == 0)
                buf_add(&line, &byte, 1);
            else
                buf_adds(&line, parts[(size_t)nrand48(seed) % (sizeof parts / sizeof parts[0])]);
        }
        if (parse(buf_text(&line), line.len, &q, &err) != 0) {
            assert_int_equal(err.code, ERR_INVALID);
            assert_true(err.errnum == EINVAL || err.errnum == E2BIG);
        } else {
            assert_true(id_valid(q.store));
            assert_true(!q.repo[0] || id_valid(q.repo));
            assert_null(strpbrk(q.key, "/ \t\n="));
            assert_int_not_equal(q.key[0], '.');
            assert_null(strpbrk(q.label, "\t\n"));
        }
        buf_release(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_or_a_repo_is_named),
        cmocka_unit_test(blanks_around_words_do_not_matter),
        cmocka_unit_test(an_empty_line_is_refused),
        cmocka_unit_test(ids_have_their_alphabet),
        cmocka_unit_test(ids_have_at_most_64_bytes),
        cmocka_unit_test(a_key_is_one_word_of_its_alphabet),
        cmocka_unit_test(keys_that_no_file_name_can_be_are_refused),
        cmocka_unit_test(every_byte_of_a_key_is_judged),
        cmocka_unit_test(a_key_has_at_most_64_bytes),
        cmocka_unit_test(a_label_takes_the_rest_of_the_line),
        cmocka_unit_test(labels_are_text_of_one_line),
        cmocka_unit_test(a_label_has_at_most_256_bytes),
        cmocka_unit_test(other_words_are_refused_where_they_stand),
        cmocka_unit_test(line_ends_of_other_systems_are_named),
        cmocka_unit_test(a_nul_byte_is_refused_where_it_stands),
        cmocka_unit_test(a_line_has_at_most_1024_bytes),
        cmocka_unit_test(every_refusal_explains_the_grammar),
        cmocka_unit_test(random_lines_are_taken_by_the_rules_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
