/* SPDX-License-Identifier: MIT */
/* A database in use: each payload is one moment of it, locks are waited for, and a cancel ends it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"

#include "util/clock.h"

#include <poll.h>

/* ---- money ---- */

enum { ACCOUNTS = 500, EACH = 1000, WRITERS = 3, ROUNDS = 10 };

/* Moves money until `go` is closed; a byte on `moved` after the first transfer. */
static void move_money(const char *path, int seed, int go, int moved)
{
    struct pollfd end = {.fd = go, .events = POLLIN};
    bool told = false;
    sqlite3 *db;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        _exit(1);
    sqlite3_busy_timeout(db, 60000);
    srandom((unsigned)seed);
    /* The pause lets the others in: SQLite's locks know no queue. */
    while (poll(&end, 1, 1) == 0) {
        char sql[400];
        snprintf(sql, sizeof sql,
                 "BEGIN IMMEDIATE;"
                 "UPDATE a SET cents = cents - 7, note = hex(randomblob(%ld)) WHERE id = %ld;"
                 "UPDATE a SET cents = cents + 7 WHERE id = %ld;"
                 "DELETE FROM log WHERE id %% 5 = %ld; INSERT INTO log(x) VALUES(zeroblob(%ld));"
                 "COMMIT",
                 random() % 200, random() % ACCOUNTS, random() % ACCOUNTS, random() % 5,
                 random() % 9000);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            _exit(2);
        if (!told && write(moved, "m", 1) != 1)
            _exit(3);
        told = true;
    }
    sqlite3_close(db);
    _exit(0);
}

static void make_bank(struct base *b, const char *mode)
{
    char *sql =
        xasprintf("PRAGMA journal_mode = %s; CREATE TABLE a(id INTEGER PRIMARY KEY, cents, note);"
                  "CREATE TABLE log(id INTEGER PRIMARY KEY, x);"
                  "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
                  " INSERT INTO a SELECT i, %d, '' FROM n",
                  mode, ACCOUNTS - 1, EACH);

    base_sql(b, sql);
    free(sql);
}

static void money_is_conserved(struct base *b, const char *mode)
{
    int go[2], moved[2];
    pid_t writers[WRITERS];
    char byte;

    make_bank(b, mode);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    assert_int_equal(pipe2(moved, O_CLOEXEC), 0);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        assert_return_code(writers[i], errno);
        if (writers[i] == 0) {
            close(go[1]);
            move_money(b->path, i, go[0], moved[1]);
        }
    }
    close(moved[1]);
    assert_int_equal(read(moved[0], &byte, 1), 1);
    for (int i = 0; i < ROUNDS; i++) {
        base_backup(b);
        assert_int_equal(payload_int(b, INTEGRITY), 1);
        assert_int_equal(payload_int(b, "SELECT sum(cents) FROM a"), ACCOUNTS * EACH);
    }
    close(go[1]);
    for (int i = 0; i < WRITERS; i++) {
        int status;
        assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
        assert_int_equal(status, 0);
    }
    close(go[0]);
    close(moved[0]);
}

static void money_is_conserved_while_it_moves_in_wal_mode(void **state)
{
    money_is_conserved(*state, "WAL");
}

static void money_is_conserved_while_it_moves_in_delete_mode(void **state)
{
    money_is_conserved(*state, "DELETE");
}

/* ---- what a backup holds up ---- */

/* More than one step of the copy. */
#define BIG_SQL "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, zeroblob(4e7));"

static int insert_result;

static void insert_at_once(struct base *b)
{
    insert_result = try_sql(b->path, "INSERT INTO t VALUES(2, 'meanwhile')");
}

static void a_writer_in_wal_mode_commits_during_the_copy(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " BIG_SQL);
    b->on_advance = insert_at_once;
    base_backup(b);
    assert_null(b->on_advance);
    assert_int_equal(insert_result, SQLITE_OK);
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 1);
    assert_int_equal(payload_int(b, INTEGRITY), 1);
}

/* The shared lock is held: without it the copy could be torn. */
static void a_writer_in_delete_mode_waits_during_the_copy(void **state)
{
    struct base *b = *state;

    base_sql(b, BIG_SQL);
    b->on_advance = insert_at_once;
    base_backup(b);
    assert_int_equal(insert_result, SQLITE_BUSY);
    base_payload_is(b, b->path);
}

/* The first write goes on only when the database is free again. */
static void insert_when_it_is_free(struct base *b)
{
    const time_ms patience = clock_monotonic() + 60000;

    do
        insert_at_once(b);
    while (insert_result == SQLITE_BUSY && clock_monotonic() < patience);
}

static void a_slow_destination_does_not_keep_writers_waiting(void **state)
{
    struct base *b = *state;

    base_sql(b, BIG_SQL);
    b->on_write = insert_when_it_is_free;
    base_backup(b);
    assert_int_equal(insert_result, SQLITE_OK);
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 1);
}

/* One step of the copy has been made, and the next one waits until all of that is streamed. */
static void await_first_step(struct base *b)
{
    const time_ms patience = clock_monotonic() + 60000;

    while (b->streamed < 16 << 20 && clock_monotonic() < patience)
        ;
    assert_true(b->streamed >= 16 << 20);
}

static void what_is_streamed_while_the_copy_goes_on_is_the_database(void **state)
{
    struct base *b = *state;

    base_sql(
        b, "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, randomblob(4e7));");
    b->on_advance = await_first_step;
    base_backup(b);
    base_payload_is(b, b->path);
}

/* ---- locks ---- */

static struct app holder;

static void let_go(struct base *b)
{
    (void)b;
    app_end(&holder);
}

static void ask_to_cancel(struct base *b)
{
    cancel_request(&b->cancel, ERR_CANCELLED, "cancelled by a test");
}

static void a_lock_is_waited_for(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    holder = app_start(b->path, "BEGIN EXCLUSIVE; INSERT INTO t(v) VALUES('held')", APP_CLOSES);
    b->on_busy = let_go;
    base_backup(b);
    assert_null(b->on_busy);
    assert_true(stats_get(&b->stats, "busy_waits") >= 1);
    base_payload_is(b, b->path);
}

static void a_lock_in_wal_mode_is_waited_for(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    holder = app_start(b->path, "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t(v) VALUES('held')",
                       APP_CLOSES);
    b->on_busy = let_go;
    base_backup(b);
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 501);
}

static void a_lock_held_past_busy_timeout_fails_and_says_so(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    holder = app_start(b->path, "BEGIN EXCLUSIVE", APP_CLOSES);
    base_set(b, "busy_timeout", "1");
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "locked for 1 s (busy_timeout)");
    assert_true(stats_get(&b->stats, "busy_waits") >= 1);
    app_end(&holder);
}

/* With an hour to wait the test would not end otherwise. */
static void a_cancel_ends_the_wait_for_a_lock(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    holder = app_start(b->path, "BEGIN EXCLUSIVE", APP_CLOSES);
    base_set(b, "busy_timeout", "3600");
    b->on_busy = ask_to_cancel;
    base_fails(b, ERR_CANCELLED, "cancelled by a test");
    app_end(&holder);
}

/* ---- cancel ---- */

static void a_cancel_ends_the_copy(void **state)
{
    struct base *b = *state;

    base_sql(b, BIG_SQL);
    b->on_advance = ask_to_cancel;
    base_fails(b, ERR_CANCELLED, "cancelled by a test");
    assert_true(b->advanced < b->expected / 2);
    /* Nothing of it holds the database. */
    base_sql(b, "INSERT INTO t VALUES(2, 'after')");
}

/* The query never ends by itself. */
static void a_cancel_ends_a_query_for_payload_ids(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    base_set(b, "payload_ids",
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
             " SELECT i FROM n WHERE i = 1");
    b->on_id = ask_to_cancel;
    base_fails(b, ERR_CANCELLED, "cancelled by a test");
}

/* ---- the sink ---- */

static void an_error_of_the_sink_comes_back_as_it_was(void **state)
{
    struct base *b = *state;
    struct error err;

    base_sql(b, BIG_SQL);
    b->fail_at = 3;
    assert_int_equal(base_try(b, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
    assert_int_equal(err.errnum, ENOSPC);
    assert_string_equal(err.message, "the sink is full at write 3: No space left on device");
    assert_int_equal(b->writes, 3);
    assert_int_equal(b->payload.len, 2 * LIMIT_STREAM_CHUNK);
    assert_int_equal(dir_count(b->staging), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(money_is_conserved_while_it_moves_in_wal_mode),
        CASE(money_is_conserved_while_it_moves_in_delete_mode),
        CASE(a_writer_in_wal_mode_commits_during_the_copy),
        CASE(a_writer_in_delete_mode_waits_during_the_copy),
        CASE(a_slow_destination_does_not_keep_writers_waiting),
        CASE(what_is_streamed_while_the_copy_goes_on_is_the_database),
        CASE(a_lock_is_waited_for),
        CASE(a_lock_in_wal_mode_is_waited_for),
        CASE(a_lock_held_past_busy_timeout_fails_and_says_so),
        CASE(a_cancel_ends_the_wait_for_a_lock),
        CASE(a_cancel_ends_the_copy),
        CASE(a_cancel_ends_a_query_for_payload_ids),
        CASE(an_error_of_the_sink_comes_back_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
