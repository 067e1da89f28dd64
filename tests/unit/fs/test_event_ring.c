/* SPDX-License-Identifier: MIT */
/* event_ring.c: lines, cursors, and what a reader that is too slow is told. */
#include "fs/event_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ULID "01J6Q0ZV7M8C3T5N9B2K4D6F8H"
#define LINE "1970-01-01T00:00:00.000Z job " ULID " a/b - pending\n"

static int make_ring(void **state)
{
    *state = calloc(1, sizeof(struct event_ring));
    return *state ? 0 : -1;
}

static int free_ring(void **state)
{
    free(*state);
    return 0;
}

/* The n-th one's time says n. */
static void add(struct event_ring *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct catalog_event e = {.time = (time_ms)r->count,
                                  .object = OBJECT_JOB,
                                  .ulid = ULID,
                                  .store = "a",
                                  .repo = "b",
                                  .from = "",
                                  .to = "pending"};
        event_ring_add(r, &e);
    }
}

/* One read; NUL-terminated. */
static const char *get(struct event_ring *r, struct event_cursor *c, size_t size)
{
    static char text[1 << 20];

    text[event_ring_read(r, c, text, size)] = '\0';
    return text;
}

static size_t lines(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

static void a_line_has_its_words_in_their_order(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);
    struct catalog_event e = {.time = 1800000000123,
                              .object = OBJECT_RECORD,
                              .ulid = ULID,
                              .store = "app",
                              .repo = "nas",
                              .from = "good",
                              .to = "pinned"};

    event_ring_add(r, &e);
    e.object = OBJECT_JOB;
    e.from = "";
    e.to = "pending";
    event_ring_add(r, &e);
    assert_string_equal(get(r, &c, 4096),
                        "2027-01-15T08:00:00.123Z record " ULID " app/nas good pinned\n"
                        "2027-01-15T08:00:00.123Z job " ULID " app/nas - pending\n");
    assert_string_equal(get(r, &c, 4096), "");
}

static void the_longest_names_fit(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);
    struct catalog_event e = {
        .object = OBJECT_RECORD, .ulid = ULID, .from = "interrupted", .to = "interrupted"};

    memset(e.store, 's', LIMIT_ID);
    memset(e.repo, 'r', LIMIT_ID);
    event_ring_add(r, &e);
    assert_non_null(strstr(get(r, &c, 4096), "rr interrupted interrupted\n"));
}

static void a_cursor_begins_at_the_end_and_each_has_its_own_place(void **state)
{
    struct event_ring *r = *state;

    add(r, 3);
    struct event_cursor one = event_ring_end(r);
    assert_false(event_ring_has(r, &one));
    assert_int_equal(event_ring_left(r, &one), 0);
    add(r, 1);
    struct event_cursor two = event_ring_end(r);
    add(r, 1);
    assert_true(event_ring_has(r, &one));
    assert_int_equal(lines(get(r, &one, 4096)), 2);
    assert_int_equal(lines(get(r, &two, 4096)), 1);
    assert_false(event_ring_has(r, &one));
}

static void a_read_gives_whole_lines_only(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);
    const size_t len = strlen(LINE);

    add(r, 5);
    assert_string_equal(get(r, &c, len), LINE);
    assert_int_equal(strlen(get(r, &c, 3 * len - 1)), 2 * len);
    assert_int_equal(strlen(get(r, &c, 3 * len)), 2 * len);
    assert_string_equal(get(r, &c, 3 * len), "");
}

static void a_line_longer_than_the_buffer_comes_in_parts(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);
    char text[3 * sizeof LINE] = "";

    add(r, 2);
    while (strlen(text) < 2 * strlen(LINE) && event_ring_has(r, &c)) {
        const char *part = get(r, &c, 7);
        assert_in_range(strlen(part), 1, 7);
        strcat(text, part);
    }
    assert_int_equal(strlen(text), 2 * strlen(LINE));
    assert_memory_equal(text, LINE, strlen(LINE));
    assert_false(event_ring_has(r, &c));
}

static void who_is_too_slow_is_told_how_many_are_lost(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r), exact = c;
    const char dropped[] = "dropped 5\n1970-01-01T00:00:00.005Z job ";

    add(r, LIMIT_EVENTS);
    assert_int_equal(lines(get(r, &exact, 1 << 19)), LIMIT_EVENTS);
    add(r, 5);
    const char *text = get(r, &c, event_ring_left(r, &c));
    assert_memory_equal(text, dropped, strlen(dropped));
    assert_int_equal(lines(text), 1 + LIMIT_EVENTS);
    assert_string_equal(get(r, &c, 4096), "");
    /* Told once; and again when it happens again. */
    add(r, LIMIT_EVENTS + 1);
    assert_memory_equal(get(r, &c, 4096), "dropped 1\n", 10);
    assert_memory_equal(get(r, &c, 4096), "1970", 4);
}

static void the_rest_of_a_line_outlives_its_place(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);
    const char rest[] = " a/b - pending\n";

    add(r, 1);
    assert_int_equal(strlen(get(r, &c, strlen(LINE) - strlen(rest))), strlen(LINE) - strlen(rest));
    add(r, LIMIT_EVENTS + 2);
    const char *text = get(r, &c, 1 << 19);
    assert_memory_equal(text, rest, strlen(rest));
    assert_memory_equal(text + strlen(rest), "dropped 2\n", 10);
}

static void the_number_of_the_lost_comes_in_parts_too(void **state)
{
    struct event_ring *r = *state;
    struct event_cursor c = event_ring_end(r);

    add(r, LIMIT_EVENTS + 9);
    assert_string_equal(get(r, &c, 4), "drop");
    assert_string_equal(get(r, &c, 4), "ped ");
    assert_string_equal(get(r, &c, 2), "9\n");
    assert_memory_equal(get(r, &c, 4096), "1970-01-01T00:00:00.009Z", 24);
}

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, make_ring, free_ring)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(a_line_has_its_words_in_their_order),
        RING_TEST(the_longest_names_fit),
        RING_TEST(a_cursor_begins_at_the_end_and_each_has_its_own_place),
        RING_TEST(a_read_gives_whole_lines_only),
        RING_TEST(a_line_longer_than_the_buffer_comes_in_parts),
        RING_TEST(who_is_too_slow_is_told_how_many_are_lost),
        RING_TEST(the_rest_of_a_line_outlives_its_place),
        RING_TEST(the_number_of_the_lost_comes_in_parts_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
