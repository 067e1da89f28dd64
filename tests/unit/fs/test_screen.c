/* SPDX-License-Identifier: MIT */
/* screen.c: what a person sees of given facts. */
#include "overview_fixture.h"

#include "fs/screen.h"

#include <stdlib.h>

static char *render(const struct overview *o)
{
    struct buf out = BUF_INIT;

    screen_render(o, "1.2", &out);
    return buf_steal(&out);
}

#define RENDERED(f) __attribute__((cleanup(free_charp))) char *text = render(&(f)->o)

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

/* No line is wider than a screen, or has anything in it but what can be shown. */
static void assert_fits(const char *text)
{
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n"), columns = 0;
        for (size_t i = 0; i < len; i++) {
            columns += ((unsigned char)line[i] & 0xc0) != 0x80;
            assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
        }
        if (columns > SCREEN_WIDTH)
            fail_msg("%zu columns: %.*s", columns, (int)len, line);
        assert_true(len == 0 || line[len - 1] != ' ');
        assert_int_equal(line[len], '\n');
        line += len + 1;
    }
}

static void it_is_as_the_manual_shows_it(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    facts_backup(&f, 0, 3 * HOUR, JOB_SUCCEEDED);
    f.rows[0].health.next_run = NOON + 21 * HOUR;
    facts_backup(&f, 1, 3 * DAY, JOB_FAILED);
    facts_overdue(&f, 1, 36 * HOUR);
    facts_running(&f, "web", 45, 90 << 20, 200 << 20);
    f.o.pending = 3;
    f.rows[0].health.standing.suspect = 1;
    RENDERED(&f);
    assert_string_equal(
        text, "keepfs 1.2   2026-11-21 12:00:00 UTC   up 3 d   /etc/keepfs.conf\n"
              "1 running, 3 pending, 1 overdue, 1 suspect record\n"
              "\n"
              "OVERDUE\n"
              "app/nas              last backup 3 d ago, expected every 36 h\n"
              "\n"
              "RUNNING\n"
              "web/main           [######........]  45 %   9.0 MiB/s for 10 s, 12 s left\n"
              "\n"
              "STORE                LAST SUCCESS SIZE       NEXT RUN LAST RESULT\n"
              "app/nas              3 d ago      38.3 MiB   -        destination_no_space\n"
              "app/main             3 h ago      38.3 MiB   21 h     succeeded, suspect\n"
              "web                  never        -          -        -\n");
    assert_fits(text);
}

static void a_repo_that_never_had_a_backup_is_said_to_be_without_one(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    facts_overdue(&f, 2, DAY + 12 * HOUR);
    RENDERED(&f);
    assert_has(text, "\nweb                  no backup yet, expected every 36 h\n");
    assert_has(text, "0 running, 0 pending, 1 overdue\n");
}

static void nothing_is_wider_than_a_screen(void **state)
{
    (void)state;
    struct facts f;
    char long_id[LIMIT_ID + 1], path[300];

    facts_init(&f);
    memset(long_id, 'x', LIMIT_ID);
    long_id[LIMIT_ID] = '\0';
    memset(path, '/', sizeof path);
    memcpy(path + 290, "the end", 8);
    memcpy(f.stores[0].id, long_id, sizeof long_id);
    memcpy(f.repos[0].id, long_id, sizeof long_id);
    f.o.config = path;
    f.o.started = 0;
    f.o.pending = 100000;
    facts_backup(&f, 0, 4000 * DAY, JOB_INTERRUPTED);
    f.rows[0].health.standing.newest_size_bytes = UINT64_MAX;
    f.rows[0].health.standing.suspect = 1;
    f.rows[0].health.next_run = NOON + 10000 * DAY;
    facts_overdue(&f, 0, 3660 * DAY);
    facts_running(&f, long_id, 100, UINT64_MAX / 2, UINT64_MAX);
    facts_running(&f, "web", 0, 0, 0);
    RENDERED(&f);
    assert_fits(text);
    assert_has(text, "xxxxxxxxx~xxxxxxxxxx ");
    assert_has(text, "16.0 EiB");
}

static void what_is_strange_in_a_path_is_escaped(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    f.o.config = "/a\nOVERDUE\033[31m/\xc3\xa4\xc3\xb6\xc3\xbc";
    RENDERED(&f);
    assert_fits(text);
    assert_has(text, "/a\\x0aOVERDUE\\x1b[31m/\xc3\xa4\xc3\xb6\xc3\xbc\n");
    assert_null(strstr(text, "\nOVERDUE"));
}

/* A character of several bytes is one column, and is not cut in two. */
static void a_line_is_cut_between_characters(void **state)
{
    (void)state;
    struct facts f;
    char path[101];

    facts_init(&f);
    for (int i = 0; i < 50; i++)
        memcpy(path + 2 * i, "\xc3\xa4", 3);
    f.o.config = path;
    RENDERED(&f);
    assert_fits(text);
    assert_has(text, "\xc3\xa4~\n");
}

static void a_source_that_cannot_say_how_much_it_has_has_no_time_left(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    facts_running(&f, "web", 50, 10 << 20, 0);
    RENDERED(&f);
    assert_has(text, " 1.0 MiB/s for 10 s\n");
}

/* The clock may be set back while a job runs, or be wrong when a backup is made. */
static void a_clock_that_goes_back_breaks_nothing(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    facts_running(&f, "web", 50, 10 << 20, 20 << 20);
    f.running[0].started_at = NOON + DAY;
    f.o.started = NOON + DAY;
    facts_backup(&f, 0, -DAY, JOB_SUCCEEDED);
    f.rows[0].health.next_run = NOON - 1;
    RENDERED(&f);
    assert_fits(text);
    assert_has(text, " future ");
    assert_has(text, " 0 B/s for 0 s\n");
    assert_has(text, " now ");
}

static void of_thousands_the_most_urgent_are_seen(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    struct overview_repo *rows = xcalloc(MANY, sizeof *rows);
    struct repo *repos = xcalloc(MANY, sizeof *repos);
    struct facts f;

    facts_init(&f);
    for (int i = 0; i < MANY; i++) {
        repos[i] = (struct repo){.store = &f.stores[0]};
        snprintf(repos[i].id, sizeof repos[i].id, "r%d", i);
        rows[i].repo = &repos[i];
    }
    f.rows[0] = (struct overview_repo){.repo = &repos[9000]};
    facts_backup(&f, 0, DAY, JOB_FAILED);
    rows[9000] = f.rows[0];
    for (int i = 9100; i < 9200; i++) {
        rows[i].health.overdue = NOON - 1;
        rows[i].health.figure.every = HOUR;
    }
    f.o.repos = rows;
    f.o.repo_count = MANY;
    RENDERED(&f);
    assert_fits(text);
    assert_has(text, ", 100 overdue\n");
    assert_has(text, "\n... and 80 more\n\nSTORE"); /* of those that are overdue, in words */
    const char *table = strstr(text, "\nSTORE");
    const char *late = strstr(table, "app/r9199 "), *failed = strstr(table, "app/r9000 ");
    assert_true(late && failed && strstr(table, "app/r0 "));
    assert_true(late < failed && failed < strstr(table, "app/r0 "));
    assert_has(table, "\n... and 9700 more\n");
    assert_true(strlen(text) < (SCREEN_LINES + SCREEN_OVERDUE + 12) * (SCREEN_WIDTH + 1));
    free(rows);
    free(repos);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_as_the_manual_shows_it),
        cmocka_unit_test(a_repo_that_never_had_a_backup_is_said_to_be_without_one),
        cmocka_unit_test(nothing_is_wider_than_a_screen),
        cmocka_unit_test(what_is_strange_in_a_path_is_escaped),
        cmocka_unit_test(a_line_is_cut_between_characters),
        cmocka_unit_test(a_source_that_cannot_say_how_much_it_has_has_no_time_left),
        cmocka_unit_test(a_clock_that_goes_back_breaks_nothing),
        cmocka_unit_test(of_thousands_the_most_urgent_are_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
