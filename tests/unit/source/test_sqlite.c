/* SPDX-License-Identifier: MIT */
/* The payload of a database at rest: the file, byte for byte, and nothing of it touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"

#include <pthread.h>

/* Backs up a database that no process has open; in every mode the file alone is the database. */
static void is_exact_at_rest(struct base *b)
{
    base_remember(b);
    base_backup(b);
    base_is_untouched(b);
    base_payload_is(b, b->path);
    assert_true(b->payload.len > 0);
}

/* The payload is what the application's own checkpoint makes of the file. */
static void is_exact_after_checkpoint(struct base *b)
{
    base_sql(b, "PRAGMA wal_checkpoint(TRUNCATE)");
    base_payload_is(b, b->path);
}

static void in_each_journal_mode_the_payload_is_the_file(void **state)
{
    static const char *const modes[] = {"DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF", "WAL"};
    struct base *b = *state;

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char *sql = xasprintf("PRAGMA journal_mode = %s; " ROWS_SQL "DELETE FROM t WHERE id %% 3;",
                              modes[i]);
        base_sql(b, sql);
        is_exact_at_rest(b);
        base_sql(b, "PRAGMA journal_mode = DELETE; DROP TABLE t; VACUUM");
        free(sql);
    }
}

static void with_each_page_size_the_payload_is_the_file(void **state)
{
    struct base *b = *state;

    for (int size = 512; size <= 65536; size *= 2) {
        char *sql = xasprintf("PRAGMA page_size = %d; " ROWS_SQL, size);
        base_sql(b, sql);
        is_exact_at_rest(b);
        assert_int_equal(stats_get(&b->stats, "page_size"), size);
        assert_int_equal(unlink(b->path), 0);
        free(sql);
    }
}

static void with_each_page_size_frames_of_the_wal_are_in_the_payload(void **state)
{
    struct base *b = *state;

    for (int size = 512; size <= 65536; size *= 2) {
        char *sql = xasprintf("PRAGMA page_size = %d; PRAGMA journal_mode = WAL;"
                              "PRAGMA wal_autocheckpoint = 0; " ROWS_SQL "PRAGMA user_version = %d",
                              size, size);
        struct app app = app_start(b->path, sql, APP_CLOSES);
        base_remember(b);
        assert_true(b->before[1].len > 0);
        base_backup(b);
        base_is_untouched(b);
        assert_int_equal(payload_int(b, "PRAGMA user_version"), size);
        app_end(&app);
        base_payload_is(b, b->path);
        assert_int_equal(unlink(b->path), 0);
        free(sql);
    }
}

static void a_wal_that_is_half_checkpointed_is_read(void **state)
{
    struct base *b = *state;

    struct app app = app_start(
        b->path,
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL
        "PRAGMA wal_checkpoint(PASSIVE); DELETE FROM t WHERE id > 400; UPDATE t SET v = 'x'",
        APP_CLOSES);
    base_remember(b);
    base_backup(b);
    base_is_untouched(b);
    app_end(&app);
    base_payload_is(b, b->path);
}

static void a_wal_left_by_a_dead_process_is_read(void **state)
{
    struct base *b = *state;
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);

    app_end(&app);
    base_remember(b);
    assert_true(b->before[1].len > 0);
    base_backup(b);
    base_is_untouched(b);
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 500);
    is_exact_after_checkpoint(b);
}

static void a_wal_without_its_shm_is_read(void **state)
{
    struct base *b = *state;
    char *shm = xasprintf("%s-shm", b->path);
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);

    app_end(&app);
    assert_int_equal(unlink(shm), 0);
    base_remember(b);
    base_backup(b);
    base_is_untouched(b);
    is_exact_after_checkpoint(b);
    free(shm);
}

static void a_wal_database_at_rest_gets_no_wal(void **state)
{
    struct base *b = *state;
    struct stat db, shm;
    char *name = xasprintf("%s-shm", b->path);

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    assert_int_equal(chmod(b->path, 0640), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(b->path, 12345, 23456), 0);
    assert_false(file_exists(b->path, "-wal"));
    is_exact_at_rest(b);
    assert_false(file_exists(b->path, "-wal"));
    /* What is left is as the application would have made it, and goes with its next close. */
    assert_int_equal(stat(b->path, &db), 0);
    assert_int_equal(stat(name, &shm), 0);
    assert_int_equal(shm.st_mode, db.st_mode);
    assert_int_equal(shm.st_uid, db.st_uid);
    assert_int_equal(shm.st_gid, db.st_gid);
    base_sql(b, "INSERT INTO t(v) VALUES('later')");
    assert_false(file_exists(b->path, "-shm"));
    free(name);
}

static void an_empty_wal_is_read_as_none(void **state)
{
    struct base *b = *state;
    char *wal = xasprintf("%s-wal", b->path);

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    file_put(wal, "", 0);
    is_exact_at_rest(b);
    assert_true(file_exists(b->path, "-wal"));
    free(wal);
}

static void a_database_that_was_changed_often_keeps_its_header(void **state)
{
    struct base *b = *state;
    struct buf file = BUF_INIT;

    base_sql(b, ROWS_SQL "PRAGMA user_version = 77; PRAGMA application_id = 4711");
    for (int i = 0; i < 20; i++) {
        char *sql = xasprintf("ALTER TABLE t ADD COLUMN c%d; UPDATE t SET c%d = %d", i, i, i);
        base_sql(b, sql);
        free(sql);
    }
    is_exact_at_rest(b);
    /* Change counter and schema cookie are large: those of a fresh copy could not be mistaken. */
    assert_true(file_bytes(b->path, &file));
    assert_true(file.data[27] > 20 && file.data[43] > 20);
    assert_memory_equal(b->payload.data, file.data, 100);
    buf_release(&file);
}

/* SQLite before 3.7 did not keep the size at byte 28, and did not say so at byte 92. */
static void a_header_without_a_valid_size_is_kept(void **state)
{
    struct base *b = *state;
    struct buf file = BUF_INIT;

    base_sql(b, ROWS_SQL);
    assert_true(file_bytes(b->path, &file));
    memset(file.data + 28, 0, 4);
    memset(file.data + 92, 0, 8);
    file_put(b->path, file.data, file.len);
    is_exact_at_rest(b);
    buf_release(&file);
}

static void auto_vacuum_free_pages_and_encodings_are_kept(void **state)
{
    static const char *const pragmas[] = {"auto_vacuum = FULL", "auto_vacuum = INCREMENTAL",
                                          "encoding = 'UTF-16be'", "secure_delete = ON"};
    struct base *b = *state;

    for (size_t i = 0; i < sizeof pragmas / sizeof pragmas[0]; i++) {
        char *sql = xasprintf("PRAGMA page_size = 1024; PRAGMA %s; " ROWS_SQL
                              "CREATE TABLE big(x); INSERT INTO big VALUES(zeroblob(300000));"
                              "DROP TABLE big; DELETE FROM t WHERE id < 100",
                              pragmas[i]);
        base_sql(b, sql);
        is_exact_at_rest(b);
        assert_int_equal(payload_int(b, INTEGRITY), 1);
        assert_int_equal(unlink(b->path), 0);
        free(sql);
    }
}

static void reserved_bytes_are_kept(void **state)
{
    struct base *b = *state;
    int reserved = 32;
    sqlite3 *db;

    assert_int_equal(sqlite3_open(b->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved), 0);
    assert_int_equal(sqlite3_exec(db, ROWS_SQL "VACUUM", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    is_exact_at_rest(b);
    assert_int_equal(b->payload.data[20], 32);
}

static void an_empty_file_gives_an_empty_payload(void **state)
{
    struct base *b = *state;

    file_put(b->path, "", 0);
    base_remember(b);
    base_backup(b);
    base_is_untouched(b);
    assert_int_equal(b->payload.len, 0);
    assert_int_equal(stats_get(&b->stats, "pages"), 0);
    assert_int_equal(dir_count(b->src), 1);
}

static void behind_a_symlink_the_real_files_wal_is_read(void **state)
{
    struct base *b = *state;
    char *alias = xasprintf("%s/alias.db", b->dir);
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_CLOSES);

    assert_int_equal(symlink("src/app.db", alias), 0);
    base_point_at(b, alias);
    base_remember(b);
    base_backup(b);
    base_is_untouched(b);
    assert_false(file_exists(alias, "-wal") || file_exists(alias, "-shm"));
    app_end(&app);
    base_payload_is(b, b->path);
    free(alias);
}

static void figures_and_progress_are_the_databases(void **state)
{
    struct base *b = *state;
    struct stat st;

    base_sql(b, ROWS_SQL);
    base_backup(b);
    assert_int_equal(stat(b->path, &st), 0);
    assert_int_equal(stats_get(&b->stats, "page_size"), 4096);
    assert_int_equal(stats_get(&b->stats, "pages") * 4096, st.st_size);
    assert_int_equal(stats_get(&b->stats, "busy_waits"), 0);
    assert_int_equal(b->expected, 2 * st.st_size);
    assert_int_equal(b->advanced, st.st_size);
}

/* ---- payload_ids ---- */

static void payload_ids_are_the_first_column(void **state)
{
    struct base *b = *state;

    base_sql(b, "CREATE TABLE f(name, size); INSERT INTO f VALUES('b.bin', 1), (7, 2), ('ä', 3)");
    base_set(b, "payload_ids", "SELECT name, size FROM f ORDER BY size;\n ");
    base_backup(b);
    assert_string_equal(buf_text(&b->ids), "b.bin\n7\nä\n");
    assert_int_equal(dir_count(b->src), 1);
}

static void payload_ids_may_begin_with_with(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    base_set(b, "payload_ids", "WITH few AS (SELECT id FROM t WHERE id < 3) SELECT id FROM few");
    base_backup(b);
    assert_string_equal(buf_text(&b->ids), "1\n2\n");
}

static void insert_a_row(struct base *b)
{
    base_sql(b, "INSERT INTO t VALUES(100000, 'after the snapshot')");
}

static void payload_ids_and_pages_are_of_one_moment(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    base_set(b, "payload_ids", "SELECT id FROM t");
    b->on_id = insert_a_row;
    base_backup(b);
    assert_null(b->on_id);
    assert_null(strstr(buf_text(&b->ids), "100000"));
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 500);
    base_backup(b);
    assert_non_null(strstr(buf_text(&b->ids), "100000"));
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 501);
}

static void payload_ids_must_be_one_select(void **state)
{
    static const char *const bad[] = {
        "DELETE FROM t",
        "SELECT 1; SELECT 2",
        "PRAGMA user_version",
        "EXPLAIN SELECT 1",
        "ATTACH 'x.db' AS x",
        "BEGIN",
        "-- nothing",
        "VACUUM",
        "SELECT 1; DROP TABLE t",
        "PRAGMA wal_checkpoint",
        "REINDEX",
    };
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    base_remember(b);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        base_point_at(b, b->path);
        base_set(b, "payload_ids", bad[i]);
        base_fails(b, ERR_CONFIG_INVALID, "payload_ids must be one SELECT");
        base_is_untouched(b);
    }
}

static void a_row_that_is_no_id_is_named(void **state)
{
    static const char *const bad[] = {"NULL",           "1.5", "x'00'", "'a' || char(10)",
                                      "'a' || char(0)", "''"};
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *sql = xasprintf("SELECT 'one' UNION ALL SELECT 'two' UNION ALL SELECT %s", bad[i]);
        base_point_at(b, b->path);
        base_set(b, "payload_ids", sql);
        base_fails(b, ERR_SOURCE_UNAVAILABLE, "payload_ids: row 3");
        free(sql);
    }
}

static void a_query_that_the_database_cannot_answer_fails(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    base_set(b, "payload_ids", "SELECT id FROM files");
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "no such table: files");
}

/* ---- threads ---- */

static void *one_of_many(void *arg)
{
    struct base *b = arg;
    struct error err;

    for (int i = 0; i < 5; i++)
        if (base_try(b, &err) != 0)
            return b;
    return NULL;
}

static void several_sources_run_at_once(void **state)
{
    enum { COUNT = 4 };
    void *bases[COUNT], *failed[COUNT];
    pthread_t threads[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        base_setup(&bases[i]);
        base_sql(bases[i], i % 2 ? "PRAGMA journal_mode = WAL; " ROWS_SQL
                                 : "PRAGMA page_size = 512; " ROWS_SQL);
    }
    for (int i = 0; i < COUNT; i++)
        pthread_create(&threads[i], NULL, one_of_many, bases[i]);
    for (int i = 0; i < COUNT; i++)
        pthread_join(threads[i], &failed[i]);
    for (int i = 0; i < COUNT; i++) {
        struct base *b = bases[i];
        assert_null(failed[i]);
        base_payload_is(b, b->path);
        base_teardown(&bases[i]);
    }
}

static void settings_have_rows_that_parse(void **state)
{
    struct base *b = *state;

    assert_string_equal(sqlite_source.name, "sqlite");
    assert_int_equal(settings_int(&b->store.settings, "busy_timeout"), 60);
    assert_null(settings_text(&b->store.settings, "payload_ids"));
    assert_true(settings_row(&b->store.settings, "path")->flags & SETTING_REQUIRED);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(in_each_journal_mode_the_payload_is_the_file),
        CASE(with_each_page_size_the_payload_is_the_file),
        CASE(with_each_page_size_frames_of_the_wal_are_in_the_payload),
        CASE(a_wal_that_is_half_checkpointed_is_read),
        CASE(a_wal_left_by_a_dead_process_is_read),
        CASE(a_wal_without_its_shm_is_read),
        CASE(a_wal_database_at_rest_gets_no_wal),
        CASE(an_empty_wal_is_read_as_none),
        CASE(a_database_that_was_changed_often_keeps_its_header),
        CASE(a_header_without_a_valid_size_is_kept),
        CASE(auto_vacuum_free_pages_and_encodings_are_kept),
        CASE(reserved_bytes_are_kept),
        CASE(an_empty_file_gives_an_empty_payload),
        CASE(behind_a_symlink_the_real_files_wal_is_read),
        CASE(figures_and_progress_are_the_databases),
        CASE(payload_ids_are_the_first_column),
        CASE(payload_ids_may_begin_with_with),
        CASE(payload_ids_and_pages_are_of_one_moment),
        CASE(payload_ids_must_be_one_select),
        CASE(a_row_that_is_no_id_is_named),
        CASE(a_query_that_the_database_cannot_answer_fails),
        cmocka_unit_test(several_sources_run_at_once),
        CASE(settings_have_rows_that_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
