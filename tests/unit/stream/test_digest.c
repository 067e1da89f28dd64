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
    struct reader reader;
    const char *data;
    size_t len, at, step; /* step bytes at a time */
    size_t fail_at;       /* a read that begins there fails */
    bool fail_finish;
    int finishes, frees;
};

static ssize_t tap_read(struct reader *r, void *buf, size_t len, struct error *err)
{
    struct tap *t = (struct tap *)r;
    size_t n = t->len - t->at;

    if (t->at >= t->fail_at)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "disk gone");
    n = n < t->step ? n : t->step;
    n = n < len ? n : len;
    memcpy(buf, t->data + t->at, n);
    t->at += n;
    return (ssize_t)n;
}

static int tap_finish(struct reader *r, struct error *err)
{
    struct tap *t = (struct tap *)r;

    t->finishes++;
    return t->fail_finish ? error_set(err, ERR_DECRYPT_FAILED, "tag") : 0;
}

static void tap_free(struct reader *r)
{
    ((struct tap *)r)->frees++;
}

static const struct reader_ops tap_ops = {tap_read, tap_finish, tap_free};

static struct tap tap_of(const char *text)
{
    return (struct tap){
        .reader.ops = &tap_ops, .data = text, .len = strlen(text), .step = 2, .fail_at = SIZE_MAX};
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

/* ---- reader ---- */

static int read_and_finish(struct tap *t, const struct digest *expected, size_t bytes,
                           struct error *err)
{
    struct reader *r = digest_reader_new(&t->reader, expected);
    char buf[64];
    int result = 0;

    for (size_t got = 0; got < bytes && result == 0;) {
        ssize_t n = reader_read(r, buf, bytes - got, err);
        if (n < 0)
            result = -1;
        if (n <= 0)
            break;
        assert_memory_equal(buf, t->data + got, (size_t)n);
        got += (size_t)n;
    }
    if (result == 0)
        result = reader_finish(r, err);
    reader_free(r);
    assert_int_equal(t->frees, 1);
    return result;
}

static void whole_streams_are_judged_good(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA), empty = digest_of(0, EMPTY_SHA);
    struct error err = {0};

    (void)state;
    struct tap t = tap_of("abc");
    assert_int_equal(read_and_finish(&t, &abc, 60, &err), 0);
    assert_int_equal(t.finishes, 1);
    t = tap_of("");
    assert_int_equal(read_and_finish(&t, &empty, 60, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
}

/* A reader that stops early must not turn a good archive into a damaged one. */
static void finishing_early_reads_the_rest_before_it_judges(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct error err;

    (void)state;
    for (size_t bytes = 0; bytes <= 3; bytes++) {
        struct tap t = tap_of("abc");
        assert_int_equal(read_and_finish(&t, &abc, bytes, &err), 0);
        assert_int_equal(t.at, 3);
    }
}

static void expect_damage(const char *stored, const struct digest *expected, const char *word)
{
    struct tap t = tap_of(stored);
    struct error err = {0};

    assert_int_equal(read_and_finish(&t, expected, 60, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
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
    struct error err;

    (void)state;
    struct tap t = tap_of("abc");
    t.fail_at = 2;
    assert_int_equal(read_and_finish(&t, &abc, 60, &err), -1); /* while it is read */
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    t = tap_of("abc");
    t.fail_at = 2;
    assert_int_equal(read_and_finish(&t, &abc, 0, &err), -1); /* while finish reads the rest */
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
    assert_string_equal(err.message, "disk gone");
    t = tap_of("abc");
    t.fail_finish = true;
    assert_int_equal(read_and_finish(&t, &abc, 60, &err), -1); /* the link behind judges first */
    assert_int_equal(err.code, ERR_DECRYPT_FAILED);
}

static void freeing_unfinished_reads_nothing_more(void **state)
{
    struct digest abc = digest_of(3, ABC_SHA);
    struct error err;
    char c;

    (void)state;
    struct tap t = tap_of("abc");
    struct reader *r = digest_reader_new(&t.reader, &abc);
    assert_int_equal(reader_read(r, &c, 1, &err), 1);
    reader_free(r);
    assert_int_equal(t.at, 1);
    assert_int_equal(t.finishes, 0);
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
        cmocka_unit_test(whole_streams_are_judged_good),
        cmocka_unit_test(finishing_early_reads_the_rest_before_it_judges),
        cmocka_unit_test(kinds_of_damage_are_told_apart),
        cmocka_unit_test(an_empty_expected_digest_never_matches),
        cmocka_unit_test(a_failed_read_is_no_damage),
        cmocka_unit_test(freeing_unfinished_reads_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
