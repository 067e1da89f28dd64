/* SPDX-License-Identifier: MIT */
/* The VFS for other people's databases: it reads what is there now, and has no write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"
#include "source/sqlite_vfs.h"

/* Asks for more than the VFS gives. */
static sqlite3 *open_for_writing(struct base *b)
{
    sqlite3 *db;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;

    assert_non_null(sqlite_vfs_name());
    assert_int_equal(sqlite3_open_v2(b->path, &db, flags, sqlite_vfs_name()), SQLITE_OK);
    return db;
}

static int number_of_rows(sqlite3 *db)
{
    sqlite3_stmt *s;

    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM t", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return n;
}

static void nothing_can_be_written_in_delete_mode(void **state)
{
    static const char *const attempts[] = {"INSERT INTO t(v) VALUES('x')", "DROP TABLE t", "VACUUM",
                                           "PRAGMA user_version = 3"};
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    base_remember(b);
    sqlite3 *db = open_for_writing(b);
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        assert_int_not_equal(sqlite3_exec(db, attempts[i], NULL, NULL, NULL), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    sqlite3_close(db);
    base_is_untouched(b);
    assert_int_equal(dir_count(b->src), 1);
}

/* Closing the last connection would checkpoint and delete the WAL. */
static void a_wal_is_neither_written_nor_checkpointed_nor_deleted(void **state)
{
    static const char *const attempts[] = {
        "INSERT INTO t(v) VALUES('x')", "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA journal_mode = DELETE"};
    struct base *b = *state;
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);

    app_end(&app);
    base_remember(b);
    sqlite3 *db = open_for_writing(b);
    assert_int_equal(number_of_rows(db), 500);
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        sqlite3_exec(db, attempts[i], NULL, NULL, NULL);
    sqlite3_close(db);
    base_is_untouched(b);
    assert_true(b->before[1].len > 0);
}

static void refuses_all_writes(sqlite3_file *f)
{
    const sqlite3_io_methods *m = f->pMethods;

    assert_int_equal(m->xWrite(f, "x", 1, 0), SQLITE_READONLY);
    assert_int_equal(m->xTruncate(f, 0), SQLITE_READONLY);
    assert_int_equal(m->xSync(f, SQLITE_SYNC_FULL), SQLITE_OK);
}

/* How many descriptors of the database and its side files could write, the -shm aside. */
static int writable_descriptors(struct base *b)
{
    int found = 0;

    for (int fd = 0; fd < 1024; fd++) {
        char link[64], target[512];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (strncmp(target, b->path, strlen(b->path)) == 0 && !strstr(target, "-shm"))
            found += (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    }
    return found;
}

/* Whatever a SQLite to come may do with them. */
static void the_files_themselves_refuse_writes(void **state)
{
    struct base *b = *state;
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);
    sqlite3_file *db_file, *wal;
    char *wal_name = xasprintf("%s-wal", b->path);

    app_end(&app);
    base_remember(b);
    sqlite3 *db = open_for_writing(b);
    assert_int_equal(number_of_rows(db), 500);
    assert_int_equal(writable_descriptors(b), 0);
    assert_int_equal(sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &db_file), 0);
    assert_int_equal(sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal), 0);
    refuses_all_writes(db_file);
    refuses_all_writes(wal);
    sqlite3_vfs *vfs = sqlite3_vfs_find(sqlite_vfs_name());
    assert_int_equal(vfs->xDelete(vfs, wal_name, 0), SQLITE_READONLY);
    assert_int_equal(vfs->xDelete(vfs, b->path, 0), SQLITE_READONLY);
    sqlite3_close(db);
    base_is_untouched(b);
    free(wal_name);
}

static void no_database_is_made(void **state)
{
    struct base *b = *state;
    sqlite3 *db;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;

    assert_int_equal(sqlite3_open_v2(b->path, &db, flags, sqlite_vfs_name()), SQLITE_CANTOPEN);
    sqlite3_close(db);
    assert_int_equal(dir_count(b->src), 0);
}

/* The connection has found no -wal; then another process makes one. */
static void a_wal_that_appears_is_read_from_then_on(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    sqlite3 *db = open_for_writing(b);
    assert_int_equal(number_of_rows(db), 500);
    assert_false(file_exists(b->path, "-wal"));
    struct app app = app_start(b->path, "INSERT INTO t(v) VALUES('new')", APP_CLOSES);
    assert_true(file_exists(b->path, "-wal"));
    assert_int_equal(number_of_rows(db), 501);
    app_end(&app);
    assert_int_equal(number_of_rows(db), 501);
    sqlite3_close(db);
}

/* As its snapshot, which has no frame, began before that. */
static void a_snapshot_does_not_see_a_wal_that_appears(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    sqlite3 *db = open_for_writing(b);
    assert_int_equal(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(number_of_rows(db), 500);
    struct app app = app_start(b->path,
                               "DELETE FROM t WHERE id > 3; PRAGMA wal_checkpoint(PASSIVE);"
                               "VACUUM; PRAGMA wal_checkpoint(PASSIVE)",
                               APP_CLOSES);
    app_end(&app);
    assert_int_equal(number_of_rows(db), 500);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(number_of_rows(db), 3);
    sqlite3_close(db);
}

static void page_1_is_kept_as_it_was_read(void **state)
{
    struct base *b = *state;
    struct sqlite_view *view = xcalloc(1, sizeof *view);
    struct buf file = BUF_INIT;

    base_sql(b, "PRAGMA page_size = 1024; " ROWS_SQL);
    sqlite_vfs_watch(view);
    sqlite3 *db = open_for_writing(b);
    assert_int_equal(number_of_rows(db), 500);
    sqlite3_close(db);
    sqlite_vfs_watch(NULL);
    assert_true(file_bytes(b->path, &file));
    assert_int_equal(view->page1_size, 1024);
    assert_memory_equal(view->page1, file.data, 1024);
    assert_false(view->truncated || view->frozen || view->orphaned_wal);
    assert_int_equal(view->read_errno, 0);
    buf_release(&file);
    free(view);
}

static void a_file_system_in_use_is_not_frozen(void **state)
{
    struct base *b = *state;

    assert_false(sqlite_vfs_frozen(b->dir));
    assert_false(sqlite_vfs_frozen(b->path));
    assert_false(sqlite_vfs_frozen("/proc/self/status"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_can_be_written_in_delete_mode),
        CASE(a_wal_is_neither_written_nor_checkpointed_nor_deleted),
        CASE(the_files_themselves_refuse_writes),
        CASE(no_database_is_made),
        CASE(a_wal_that_appears_is_read_from_then_on),
        CASE(a_snapshot_does_not_see_a_wal_that_appears),
        CASE(page_1_is_kept_as_it_was_read),
        CASE(a_file_system_in_use_is_not_frozen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
