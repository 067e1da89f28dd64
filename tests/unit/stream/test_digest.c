/* SPDX-License-Identifier: MIT */
/*
 * test_digest.c - hashing on the way in, judging on the way out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/digest.h"
#include "util/buf.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY_SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC_SHA   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/* A million times the letter a: FIPS 180-4's third example. */
#define MILLION_SHA "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

/* ---- ends of chains ---- */

struct sink {
    struct writer writer;
    struct buf got;
    int writes, finishes, frees;
    bool fail_write, fail_finish;
};

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct sink *s = (struct sink *)w;

    s->writes++;
    if (s->fail_write)
        return error_set(err, ERR_DESTINATION_NO_SPACE, "sink full");
    buf_add(&s->got, data, len);
    return 0;
}

static int sink_finish(struct writer *w, struct error *err)
{
    struct sink *s = (struct sink *)w;

    s->finishes++;
    return s->fail_finish ? error_set(err, ERR_DESTINATION_UNREACHABLE, "sink lost") : 0;
}

static void sink_free(struct writer *w)
{
    ((struct sink *)w)->frees++;
}

static const struct writer_ops sink_ops = {sink_write, sink_finish, sink_free};

struct tap {
    struct view view;
    const char *data;
    size_t len;     /* of data; view.size is what the view says of itself */
    size_t step;    /* at most so many bytes at a time */
    size_t fail_at; /* a read that reaches it fails */
    int reads, frees;
};

static ssize_t tap_pread(struct view *v, void *buf, size_t len, uint64_t offset, struct error *err)
{
    struct tap *t = (struct tap *)v;
    size_t n = offset < t->len ? t->len - (size_t)offset : 0;

    t->reads++;
    n = n < t->step ? n : t->step;
    n = n < len ? n : len;
    if (offset + n > t->fail_at)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "disk gone");
    if (n > 0)
        memcpy(buf, t->data + offset, n);
    return (ssize_t)n;
}

static void tap_free(struct view *v)
{
    ((struct tap *)v)->frees++;
}

static const struct view_ops tap_ops = {tap_pread, tap_free};

static struct tap tap_of(const char *text)
{
    return (struct tap){.view = {.ops = &tap_ops, .size = strlen(text)},
                        .data = text,
                        .len = strlen(text),
                        .step = 2,
                        .fail_at = SIZE_MAX};
}

static struct digest digest_of(uint64_t size, const char *sha256)
{
    struct digest d = {.size = size};

    snprintf(d.sha256, sizeof d.sha256, "%s", sha256);
    return d;
}

/* ---- writer ---- */

static void known_vectors_pass_through_unchanged(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct digest d = {0};
    struct error err = {0};

    (void)state;
    struct writer *w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(d.sha256, ABC_SHA);
    assert_int_equal(d.size, 3);
    assert_string_equal(buf_text(&s.got), "abc");
    assert_int_equal(s.finishes, 1);
    assert_int_equal(s.frees, 1);
    assert_int_equal(err.code, ERR_NONE);
    buf_release(&s.got);
}

static void an_empty_stream_has_the_empty_digest(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct digest d = {.size = 9};
    struct error err;

    (void)state;
    struct writer *w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(d.sha256, EMPTY_SHA);
    assert_int_equal(d.size, 0);
}

static void empty_writes_change_nothing(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct digest d = {0};
    struct error err;

    (void)state;
    struct writer *w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_write(w, "", 0, &err), 0);
    assert_int_equal(writer_write(w, "ab", 2, &err), 0);
    assert_int_equal(writer_write(w, NULL, 0, &err), 0);
    assert_int_equal(writer_write(w, "c", 1, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(d.sha256, ABC_SHA);
    assert_int_equal(d.size, 3);
    buf_release(&s.got);
}

static void odd_pieces_give_the_digest_of_the_whole(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct digest d = {0};
    struct error err;
    char piece[37];

    (void)state;
    memset(piece, 'a', sizeof piece);
    struct writer *w = digest_writer_new(&s.writer, &d);
    for (size_t left = 1000000; left > 0;) {
        size_t n = left < sizeof piece ? left : sizeof piece;
        assert_int_equal(writer_write(w, piece, n, &err), 0);
        left -= n;
    }
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(d.sha256, MILLION_SHA);
    assert_int_equal(d.size, 1000000);
    buf_release(&s.got);
}

static void the_errors_of_the_next_link_come_back_as_they_are(void **state)
{
    struct sink s = {.writer.ops = &sink_ops, .fail_write = true};
    struct digest d;
    struct error err;

    (void)state;
    struct writer *w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_write(w, "abc", 3, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
    assert_string_equal(err.message, "sink full");
    writer_free(w);
    assert_int_equal(s.finishes, 0);
    assert_int_equal(s.frees, 1);

    s = (struct sink){.writer.ops = &sink_ops, .fail_finish = true};
    w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_finish(w, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    writer_free(w);
    assert_int_equal(s.frees, 1);
}

static void freeing_unfinished_aborts_what_is_behind(void **state)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct digest d;
    struct error err;

    (void)state;
    struct writer *w = digest_writer_new(&s.writer, &d);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    writer_free(w);
    assert_int_equal(s.finishes, 0);
    assert_int_equal(s.frees, 1);
    buf_release(&s.got);
}

static void a_writer_without_a_next_only_hashes(void **state)
{
    struct digest d = {0};
    struct error err = {0};

    (void)state;
    struct writer *w = digest_writer_new(NULL, &d);
    assert_int_equal(writer_write(w, "ab", 2, &err), 0);
    assert_int_equal(writer_write(w, "c", 1, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_string_equal(d.sha256, ABC_SHA);
    assert_int_equal(d.size, 3);
    assert_int_equal(err.code, ERR_NONE);
}

/* ---- view ---- */

/* One read of the view, which must give that. */
static void expect_read(struct view *v, size_t len, uint64_t offset, const char *expected)
{
    char buf[64];
    struct error err = {0};

    assert_int_equal(view_pread(v, buf, len, offset, &err), strlen(expected));
    assert_memory_equal(buf, expected, strlen(expected));
}

/* The first `bytes` bytes in order, then the verdict. */
static int read_and_judge(struct tap *t, const struct digest *expected, size_t bytes,
                          struct error *err)
{
    struct view *v = digest_view_new(&t->view, expected);
    char buf[64];
    int result = 0;

    for (size_t got = 0; got < bytes && result == 0;) {
        ssize_t n = view_pread(v, buf, bytes - got, got, err);
        if (n < 0)
            result = -1;
        if (n <= 0)
            break;
        assert_memory_equal(buf, t->data + got, (size_t)n);
        got += (size_t)n;
    }
    if (result == 0)
        result = digest_view_judge(v, err);
    view_free(v);
    assert_int_equal(t->frees, 1);
    return result;
}

static void whole_streams_are_judged_good(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA), empty = digest_of(0, EMPTY_SHA);
    struct error err = {0};

    (void)state;
    struct tap t = tap_of("abc");
    assert_int_equal(read_and_judge(&t, &abc, 60, &err), 0);
    t = tap_of("");
    assert_int_equal(read_and_judge(&t, &empty, 60, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
}

static void a_view_has_the_size_and_the_bytes_of_what_is_below(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct tap t = tap_of("abc");

    (void)state;
    struct view *v = digest_view_new(&t.view, &abc);
    assert_int_equal(v->size, 3);
    expect_read(v, 2, 1, "bc");
    expect_read(v, 60, 3, "");
    expect_read(v, 60, UINT64_MAX - 1, "");
    view_free(v);
    assert_int_equal(t.frees, 1);
}

/* Who stops early must not turn a good archive into a damaged one. */
static void judging_early_reads_the_rest_first(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct error err;

    (void)state;
    for (size_t bytes = 0; bytes <= 3; bytes++) {
        struct tap t = tap_of("abc");
        assert_int_equal(read_and_judge(&t, &abc, bytes, &err), 0);
        assert_true(t.reads > 0);
    }
}

/* As the layers above do: a header twice, the end first, some bytes again. */
static void each_byte_counts_once_in_whatever_order_it_is_read(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct tap t = tap_of("abc");
    struct error err = {0};

    (void)state;
    t.step = 60;
    struct view *v = digest_view_new(&t.view, &abc);
    expect_read(v, 1, 2, "c"); /* a hole before it: passes by */
    expect_read(v, 1, 0, "a");
    expect_read(v, 1, 0, "a");  /* known */
    expect_read(v, 2, 0, "ab"); /* half known */
    expect_read(v, 1, 1, "b");
    expect_read(v, 0, 2, "");
    expect_read(v, 2, 1, "bc");
    expect_read(v, 3, 0, "abc");
    assert_int_equal(digest_view_judge(v, &err), 0);
    view_free(v);
}

/* What was hashed in passing is not read again by the verdict. */
static void what_was_read_in_order_is_not_read_again(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct tap t = tap_of("abc");
    struct error err = {0};

    (void)state;
    t.step = 60;
    struct view *v = digest_view_new(&t.view, &abc);
    expect_read(v, 60, 0, "abc");
    t.data = "xyz";
    assert_int_equal(digest_view_judge(v, &err), 0);
    view_free(v);
}

static void expect_damage(const char *stored, const struct digest *expected, const char *word)
{
    for (size_t bytes = 0; bytes <= 60; bytes += 60) {
        struct tap t = tap_of(stored);
        struct error err = {0};
        assert_int_equal(read_and_judge(&t, expected, bytes, &err), -1);
        assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
        if (!strstr(err.message, word))
            fail_msg("'%s' does not say '%s'", err.message, word);
    }
}

static void kinds_of_damage_are_told_apart(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);

    (void)state;
    expect_damage("ab", &abc, "truncated");
    expect_damage("", &abc, "truncated");
    expect_damage("abcd", &abc, "trailing");
    expect_damage("abd", &abc, "altered");
}

/* It shrank or grew after its size was taken. */
static void a_stream_of_another_length_than_it_says_is_damaged(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct error err = {0};

    (void)state;
    struct tap t = tap_of("ab");
    t.view.size = 3;
    assert_int_equal(read_and_judge(&t, &abc, 60, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    assert_non_null(strstr(err.message, "truncated"));
    t = tap_of("abcd");
    t.view.size = 3;
    assert_int_equal(read_and_judge(&t, &abc, 3, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    assert_non_null(strstr(err.message, "trailing"));
}

static void an_empty_expected_digest_never_matches(void **state)
{
    struct digest none = digest_of(3, ""), none_of_nothing = digest_of(0, "");

    (void)state;
    expect_damage("abc", &none, "altered");
    expect_damage("", &none_of_nothing, "altered");
}

static void a_failed_read_is_no_damage(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct error err = {0};

    (void)state;
    struct tap t = tap_of("abc");
    t.fail_at = 2;
    assert_int_equal(read_and_judge(&t, &abc, 60, &err), -1); /* while it is read */
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    t = tap_of("abc");
    t.fail_at = 2;
    assert_int_equal(read_and_judge(&t, &abc, 0, &err), -1); /* while the verdict reads the rest */
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    assert_string_equal(err.message, "disk gone");
}

static void freeing_unjudged_reads_nothing_more(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);

    (void)state;
    struct tap t = tap_of("abc");
    struct view *v = digest_view_new(&t.view, &abc);
    expect_read(v, 1, 0, "a");
    view_free(v);
    assert_int_equal(t.reads, 1);
    assert_int_equal(t.frees, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors_pass_through_unchanged),
        cmocka_unit_test(an_empty_stream_has_the_empty_digest),
        cmocka_unit_test(empty_writes_change_nothing),
        cmocka_unit_test(odd_pieces_give_the_digest_of_the_whole),
        cmocka_unit_test(the_errors_of_the_next_link_come_back_as_they_are),
        cmocka_unit_test(freeing_unfinished_aborts_what_is_behind),
        cmocka_unit_test(a_writer_without_a_next_only_hashes),
        cmocka_unit_test(whole_streams_are_judged_good),
        cmocka_unit_test(a_view_has_the_size_and_the_bytes_of_what_is_below),
        cmocka_unit_test(judging_early_reads_the_rest_first),
        cmocka_unit_test(each_byte_counts_once_in_whatever_order_it_is_read),
        cmocka_unit_test(what_was_read_in_order_is_not_read_again),
        cmocka_unit_test(kinds_of_damage_are_told_apart),
        cmocka_unit_test(a_stream_of_another_length_than_it_says_is_damaged),
        cmocka_unit_test(an_empty_expected_digest_never_matches),
        cmocka_unit_test(a_failed_read_is_no_damage),
        cmocka_unit_test(freeing_unjudged_reads_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
