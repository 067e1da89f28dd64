/* SPDX-License-Identifier: MIT */
/*
 * test_conformance.c - what keepfs/destination.h promises, for every kind in the table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "place.h"

static char *random_bytes(size_t len)
{
    char *data = xmalloc(len);
    uint32_t x = 2463534242;

    for (size_t i = 0; i < len; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        data[i] = (char)x;
    }
    return data;
}

static struct object *open_ok(struct destination *d, const char *group, const char *name)
{
    struct object *o;
    struct error err = {0};

    if (d->kind->open_object(d, group, name, &o, &err) != 0)
        fail_msg("cannot open: %s", err.message);
    return o;
}

static void expect_object(struct destination *d, const char *group, const char *name,
                          const void *data, size_t len)
{
    struct object *o = open_ok(d, group, name);
    char *got = xmalloc(len + 1);
    struct error err = {0};

    assert_int_equal(o->size, len);
    assert_true(o->mtime > 1000000000000);
    assert_int_equal(d->kind->pread(o, got, len + 1, 0, &err), len);
    assert_memory_equal(got, data, len);
    free(got);
    d->kind->close_object(o);
}

static void put_ok(struct destination *d, const char *group, const char *name, const char *text)
{
    struct error err = {0};

    if (put_group(d, group, name, text, strlen(text), &err) != 0)
        fail_msg("cannot put: %s", err.message);
    assert_int_equal(err.code, ERR_NONE);
}

static void expect_absent(struct destination *d, const char *group, const char *name)
{
    struct object *o;
    struct error err = {0};

    assert_int_equal(d->kind->open_object(d, group, name, &o, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NOT_FOUND);
    assert_int_equal(err.errnum, ENOENT);
}

static void every_size_comes_back(void **state)
{
    static const size_t sizes[] = {
        0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 7 << 20, (25 << 20) + 3};
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    char *data = random_bytes((25 << 20) + 3);
    struct error err = {0};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char group[16];
        snprintf(group, sizeof group, "g%zu", i);
        assert_int_equal(put_group(d, group, "object", data, sizes[i], &err), 0);
        expect_object(d, group, "object", data, sizes[i]);
    }
    free(data);
    d->kind->close(d);
}

static void odd_pieces_come_back_in_order(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    enum { LEN = 3 << 20 };
    char *data = random_bytes(LEN);
    struct put *put;
    struct writer *w;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(d->kind->put_object(put, "object", &w, &err), 0);
    for (size_t at = 0, piece = 0; at < LEN; at += piece) {
        piece = (at * 7 + 1) % 300007;
        piece = piece < LEN - at ? piece : LEN - at;
        assert_int_equal(writer_write(w, data + at, piece, &err), 0);
        assert_int_equal(writer_write(w, NULL, 0, &err), 0);
    }
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    expect_object(d, "group", "object", data, LEN);
    free(data);
    d->kind->close(d);
}

static void one_group_holds_several_objects(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "one", "1", 1, &err), 0);
    assert_int_equal(put_bytes(put, "two", "22", 2, &err), 0);
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    expect_object(d, "group", "one", "1", 1);
    expect_object(d, "group", "two", "22", 2);
    expect_absent(d, "group", "three");
    d->kind->close(d);
}

static void reads_start_and_end_anywhere(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};
    char buf[16];

    put_ok(d, "group", "object", "0123456789");
    struct object *o = open_ok(d, "group", "object");
    assert_int_equal(d->kind->pread(o, buf, 4, 3, &err), 4);
    assert_memory_equal(buf, "3456", 4);
    assert_int_equal(d->kind->pread(o, buf, 16, 8, &err), 2);
    assert_memory_equal(buf, "89", 2);
    assert_int_equal(d->kind->pread(o, buf, 16, 10, &err), 0);
    assert_int_equal(d->kind->pread(o, buf, 16, UINT64_MAX - 3, &err), 0);
    assert_int_equal(d->kind->pread(o, buf, 16, (uint64_t)1 << 62, &err), 0);
    d->kind->close_object(o);
    d->kind->close(d);
}

static void nothing_appears_before_commit(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "object", "x", 1, &err), 0);
    expect_listing(d, "group? ");
    expect_absent(d, "group", "object");
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    expect_listing(d, "group ");
    d->kind->put_free(put);
    expect_listing(d, "group ");
    expect_object(d, "group", "object", "x", 1);
    d->kind->close(d);
}

static void free_without_commit_leaves_nothing(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct writer *w;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "one", "1", 1, &err), 0);
    assert_int_equal(d->kind->put_object(put, "two", &w, &err), 0);
    assert_int_equal(writer_write(w, "22", 2, &err), 0);
    writer_free(w);
    d->kind->put_free(put);
    expect_listing(d, "");
    put_ok(d, "group", "one", "again");
    expect_object(d, "group", "one", "again", 5);
    d->kind->close(d);
}

static void an_unfinished_object_is_not_committed(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct writer *w;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(d->kind->put_object(put, "object", &w, &err), 0);
    assert_int_equal(writer_write(w, "x", 1, &err), 0);
    writer_free(w);
    assert_int_equal(put_bytes(put, "marker", "m", 1, &err), 0);
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    expect_absent(d, "group", "object");
    expect_object(d, "group", "marker", "m", 1);
    d->kind->close(d);
}

/* All of an object that was finished but not committed. */
static void expect_reopened(struct put *put, const char *name, const void *data, size_t len)
{
    const struct destination_kind *kind = put->destination->kind;
    char *got = xmalloc(len + 1);
    struct object *o;
    struct error err = {0};

    if (kind->put_reopen(put, name, &o, &err) != 0)
        fail_msg("cannot reopen: %s", err.message);
    assert_int_equal(o->size, len);
    assert_int_equal(kind->pread(o, got, len + 1, 0, &err), len);
    assert_memory_equal(got, data, len);
    assert_int_equal(kind->pread(o, got, len + 1, len / 2, &err), len - len / 2);
    assert_memory_equal(got, (const char *)data + len / 2, len - len / 2);
    kind->close_object(o);
    free(got);
}

static void what_was_finished_reads_back_before_commit(void **state)
{
    static const size_t sizes[] = {0, 1, (1 << 20) + 1, (9 << 20) + 3};
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    char *data = random_bytes((9 << 20) + 3);
    struct put *put;
    struct error err = {0};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char group[16];
        snprintf(group, sizeof group, "g%zu", i);
        assert_int_equal(d->kind->put_begin(d, group, &put, &err), 0);
        assert_int_equal(put_bytes(put, "object", data, sizes[i], &err), 0);
        expect_reopened(put, "object", data, sizes[i]);
        expect_reopened(put, "object", data, sizes[i]);
        expect_absent(d, group, "object"); /* to all others it is not there yet */
        assert_int_equal(put_bytes(put, "marker", "m", 1, &err), 0);
        expect_reopened(put, "marker", "m", 1);
        assert_int_equal(d->kind->put_commit(put, &err), 0);
        d->kind->put_free(put);
        expect_object(d, group, "object", data, sizes[i]);
        expect_object(d, group, "marker", "m", 1);
    }
    free(data);
    d->kind->close(d);
}

static void what_was_not_written_cannot_be_reopened(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct object *o;
    struct error err = {0};

    put_ok(d, "other", "elsewhere", "x");
    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    expect_error(d->kind->put_reopen(put, "object", &o, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 "object");
    assert_int_equal(put_bytes(put, "object", "x", 1, &err), 0);
    expect_error(d->kind->put_reopen(put, "elsewhere", &o, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 "elsewhere");
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    expect_object(d, "group", "object", "x", 1);
    d->kind->close(d);
}

static void what_was_only_read_back_is_gone_without_commit(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "object", "text", 4, &err), 0);
    expect_reopened(put, "object", "text", 4);
    d->kind->put_free(put);
    expect_listing(d, "");
    expect_absent(d, "group", "object");
    d->kind->close(d);
}

static void a_duplicate_is_refused_and_changes_nothing(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    put_ok(d, "group", "object", "first");
    expect_error(d->kind->put_begin(d, "group", &put, &err), &err, ERR_DUPLICATE_ID, "group");
    expect_object(d, "group", "object", "first", 5);
    expect_listing(d, "group ");
    d->kind->close(d);
}

static void all_groups_are_listed(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    char longest[65];

    expect_listing(d, "");
    memset(longest, 'z', 64);
    longest[64] = '\0';
    put_ok(d, "b", "object", "x");
    put_ok(d, "A-1_2.3", "object", "x");
    put_ok(d, longest, longest, "x");
    struct buf expected = BUF_INIT;
    buf_addf(&expected, "A-1_2.3 b %s ", longest);
    expect_listing(d, buf_text(&expected));
    expect_object(d, longest, longest, "x", 1);
    buf_release(&expected);
    d->kind->close(d);
}

static int stop_at_once(void *ctx, const char *group, bool partial, struct error *err)
{
    (void)group;
    (void)partial;
    ++*(int *)ctx;
    return error_set(err, ERR_INTERNAL, "enough") - 6;
}

static void listing_ends_when_it_is_told_to(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};
    int calls = 0;

    put_ok(d, "one", "object", "x");
    put_ok(d, "two", "object", "x");
    assert_int_equal(d->kind->list(d, stop_at_once, &calls, &err), -7);
    assert_int_equal(calls, 1);
    assert_string_equal(err.message, "enough");
    d->kind->close(d);
}

static void what_is_not_there_is_definitely_not_there(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);

    expect_absent(d, "group", "object");
    put_ok(d, "group", "object", "x");
    expect_absent(d, "group", "other");
    expect_absent(d, "other", "object");
    d->kind->close(d);
}

static void deleting_goes_step_by_step_and_can_be_repeated(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "payload", "p", 1, &err), 0);
    assert_int_equal(put_bytes(put, "marker", "m", 1, &err), 0);
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(d->kind->delete_object(d, "group", "marker", &err), 0);
        expect_absent(d, "group", "marker");
        expect_object(d, "group", "payload", "p", 1);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(d->kind->delete_object(d, "group", "payload", &err), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(d->kind->delete_group(d, "group", &err), 0);
    assert_int_equal(d->kind->delete_object(d, "group", "payload", &err), 0);
    expect_listing(d, "");
    assert_int_equal(err.code, ERR_NONE);
    d->kind->close(d);
}

static void only_one_puts_at_a_time(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct destination *other = place_open(*state, DESTINATION_CREATE);
    struct put *put, *second;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "one", &put, &err), 0);
    expect_error(d->kind->put_begin(d, "two", &second, &err), &err, ERR_DESTINATION_PATH_CONFLICT,
                 ((struct place *)*state)->root);
    expect_error(other->kind->put_begin(other, "two", &second, &err), &err,
                 ERR_DESTINATION_PATH_CONFLICT, "");
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    expect_error(d->kind->put_begin(d, "two", &second, &err), &err, ERR_DESTINATION_PATH_CONFLICT,
                 "");
    d->kind->put_free(put);
    put_ok(other, "two", "object", "x");
    expect_listing(d, "one two ");
    other->kind->close(other);
    d->kind->close(d);
}

static void a_put_under_way_cannot_be_discarded(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct destination *other = place_open(*state, 0);
    struct put *put;
    struct error err = {0};

    assert_int_equal(d->kind->put_begin(d, "group", &put, &err), 0);
    assert_int_equal(put_bytes(put, "object", "x", 1, &err), 0);
    expect_error(other->kind->discard(other, "group", &err), &err, ERR_DESTINATION_PATH_CONFLICT,
                 "");
    expect_error(other->kind->discard(other, "another", &err), &err, ERR_DESTINATION_PATH_CONFLICT,
                 "");
    assert_int_equal(d->kind->put_commit(put, &err), 0);
    d->kind->put_free(put);
    assert_int_equal(other->kind->discard(other, "group", &err), 0);
    expect_object(d, "group", "object", "x", 1);
    other->kind->close(other);
    d->kind->close(d);
}

static void another_handle_reads_what_one_wrote(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);

    put_ok(d, "group", "object", "text");
    d->kind->close(d);
    d = place_open(*state, 0);
    expect_listing(d, "group ");
    expect_object(d, "group", "object", "text", 4);
    put_ok(d, "later", "object", "more");
    expect_listing(d, "group later ");
    d->kind->close(d);
}

static void an_absent_place_is_made_only_when_asked(void **state)
{
    struct place *p = *state;
    struct destination *d;
    struct error err = {0};

    expect_error(p->kind->open(&p->settings, 0, &d, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 p->root);
    d = place_open(p, DESTINATION_CREATE);
    d->kind->close(d);
    d = place_open(p, 0);
    expect_listing(d, "");
    d->kind->close(d);
}

static void checking_changes_nothing(void **state)
{
    struct place *p = *state;
    char warn[256] = "unset";
    struct destination *d;
    struct error err = {0};

    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), 0);
    assert_string_not_equal(warn, "unset");
    assert_int_equal(p->kind->open(&p->settings, 0, &d, &err), -1);
    d = place_open(p, DESTINATION_CREATE);
    err = (struct error){0};
    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
    expect_listing(d, "");
    d->kind->close(d);
}

static void equal_settings_are_one_place(void **state)
{
    struct place *p = *state;
    char *before = p->kind->place(&p->settings);
    struct destination *d = place_open(p, DESTINATION_CREATE);
    char *after = p->kind->place(&p->settings);

    assert_true(*before);
    assert_string_equal(before, after);
    free(before);
    free(after);
    d->kind->close(d);
}

static void freeing_nothing_is_fine(void **state)
{
    struct place *p = *state;

    p->kind->close(NULL);
    p->kind->close_object(NULL);
    p->kind->put_free(NULL);
}

static void the_table_finds_each_kind_by_its_name(void **state)
{
    (void)state;
    for (size_t i = 0; destination_kinds[i]; i++) {
        assert_ptr_equal(destination_kind_find(destination_kinds[i]->name), destination_kinds[i]);
        assert_true(*destination_kinds[i]->help);
        for (const struct setting *row = destination_kinds[i]->settings; row->key; row++)
            assert_true(row->help && *row->help);
    }
    assert_non_null(destination_kind_find("local"));
    assert_null(destination_kind_find("nowhere"));
}

static int kind_setup(void **state)
{
    *state = place_make(*state);
    return 0;
}

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f, kind_setup, place_teardown, NULL                                                    \
    }

static const struct CMUnitTest cases[] = {
    CASE(every_size_comes_back),
    CASE(odd_pieces_come_back_in_order),
    CASE(one_group_holds_several_objects),
    CASE(reads_start_and_end_anywhere),
    CASE(nothing_appears_before_commit),
    CASE(free_without_commit_leaves_nothing),
    CASE(an_unfinished_object_is_not_committed),
    CASE(what_was_finished_reads_back_before_commit),
    CASE(what_was_not_written_cannot_be_reopened),
    CASE(what_was_only_read_back_is_gone_without_commit),
    CASE(a_duplicate_is_refused_and_changes_nothing),
    CASE(all_groups_are_listed),
    CASE(listing_ends_when_it_is_told_to),
    CASE(what_is_not_there_is_definitely_not_there),
    CASE(deleting_goes_step_by_step_and_can_be_repeated),
    CASE(only_one_puts_at_a_time),
    CASE(a_put_under_way_cannot_be_discarded),
    CASE(another_handle_reads_what_one_wrote),
    CASE(an_absent_place_is_made_only_when_asked),
    CASE(checking_changes_nothing),
    CASE(equal_settings_are_one_place),
    CASE(freeing_nothing_is_fine),
};

enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

/* All cases over one kind; the number of those that failed. */
static int run_kind(const struct destination_kind *kind)
{
    struct CMUnitTest tests[CASE_COUNT];
    union {
        const void *in;
        void *out;
    } constness = {.in = kind};

    for (size_t i = 0; i < CASE_COUNT; i++) {
        tests[i] = cases[i];
        tests[i].initial_state = constness.out;
    }
    return _cmocka_run_group_tests(kind->name, tests, CASE_COUNT, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest table[] = {cmocka_unit_test(the_table_finds_each_kind_by_its_name)};
    int failed = cmocka_run_group_tests(table, NULL, NULL);

    for (size_t i = 0; destination_kinds[i]; i++)
        failed += run_kind(destination_kinds[i]);
    return failed;
}
