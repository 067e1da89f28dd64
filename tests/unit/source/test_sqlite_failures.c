/* SPDX-License-Identifier: MIT */
/* What cannot be backed up: each failure is told with its side and what to do, and leaves nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../destination/namespace.h"
#include "database.h"

#include <grp.h>

/* ---- files that are no database ---- */

static void a_missing_database_is_named(void **state)
{
    struct base *b = *state;

    base_fails(b, ERR_SOURCE_UNAVAILABLE, b->path);
    assert_int_equal(dir_count(b->src), 0);
}

static void a_directory_is_refused(void **state)
{
    struct base *b = *state;

    base_point_at(b, b->src);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "not a regular file");
}

static void a_database_that_vanishes_is_named(void **state)
{
    struct base *b = *state;
    struct source *source;
    struct error err = {0};

    base_sql(b, ROWS_SQL);
    assert_int_equal(sqlite_source.open(&b->store, b->staging, &source, &err), 0);
    assert_int_equal(unlink(b->path), 0);
    assert_int_equal(sqlite_source.backup(source, &b->run, &err), -1);
    sqlite_source.close(source);
    assert_int_equal(err.code, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(err.errnum, ENOENT);
    assert_non_null(strstr(err.message, b->path));
    assert_int_equal(dir_count(b->src), 0);
}

static void garbage_is_not_a_database(void **state)
{
    static const size_t sizes[] = {2, 100, 5000, 100000};
    struct base *b = *state;
    char *bytes = xmalloc(100000);

    memset(bytes, 'x', 100000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        file_put(b->path, bytes, sizes[i]);
        base_remember(b);
        base_fails(b, ERR_SOURCE_UNAVAILABLE, "not a database");
        base_is_untouched(b);
    }
    free(bytes);
}

static void a_database_that_was_cut_short_is_refused(void **state)
{
    static const off_t cuts[] = {1, 100, 4095, 4096, 4097, 10000};
    struct base *b = *state;
    struct stat st;

    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        base_sql(b, ROWS_SQL);
        assert_int_equal(stat(b->path, &st), 0);
        assert_int_equal(truncate(b->path, st.st_size - cuts[i]), 0);
        base_fails(b, ERR_SOURCE_UNAVAILABLE, "cut short");
        assert_int_equal(unlink(b->path), 0);
    }
}

/* SQLite itself takes the missing pages for zeros: the WAL says how many there should be. */
static void a_wal_database_that_was_cut_short_is_refused(void **state)
{
    struct base *b = *state;
    struct app app = app_start(b->path,
                               "PRAGMA journal_mode = WAL; " ROWS_SQL
                               "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0;"
                               "PRAGMA user_version = 1",
                               APP_DIES);

    app_end(&app);
    assert_int_equal(truncate(b->path, 8192), 0);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "cut short");
}

static void a_damaged_schema_is_refused(void **state)
{
    struct base *b = *state;
    int fd;

    base_sql(b, ROWS_SQL);
    fd = open(b->path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 100), 8);
    fd_close(&fd);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "malformed");
}

/* ---- journals ---- */

static void copy_file(const char *from, const char *to)
{
    struct buf bytes = BUF_INIT;

    assert_true(file_bytes(from, &bytes));
    file_put(to, bytes.data, bytes.len);
    buf_release(&bytes);
}

/* As a crash leaves it: the database half written, its journal beside it. */
static void a_hot_journal_is_refused_until_the_application_has_opened_it(void **state)
{
    struct base *b = *state;
    char *crashed = xasprintf("%s/src/crashed.db", b->dir);
    char *journal = xasprintf("%s-journal", b->path);
    char *crashed_journal = xasprintf("%s-journal", crashed);

    base_sql(b, ROWS_SQL);
    struct app app = app_start(
        b->path, "PRAGMA cache_size = 2; PRAGMA cache_spill = 1; BEGIN; UPDATE t SET v = id",
        APP_CLOSES);
    copy_file(b->path, crashed);
    copy_file(journal, crashed_journal);
    app_end(&app);

    free(b->path);
    b->path = crashed;
    base_point_at(b, crashed);
    base_remember(b);
    struct buf before = BUF_INIT, after = BUF_INIT;
    assert_true(file_bytes(crashed_journal, &before));
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "open the database once");
    base_is_untouched(b);
    assert_true(file_bytes(crashed_journal, &after));
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);

    base_sql(b, "SELECT count(*) FROM t");
    base_backup(b);
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t WHERE length(v) = 120"), 500);
    buf_release(&before);
    buf_release(&after);
    free(journal);
    free(crashed_journal);
}

/* SQLite would delete the WAL here. */
static void a_wal_beside_an_empty_database_is_kept(void **state)
{
    struct base *b = *state;
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);

    app_end(&app);
    assert_int_equal(truncate(b->path, 0), 0);
    base_remember(b);
    assert_true(b->before[1].len > 0);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "the database is empty and its -wal is not");
    base_is_untouched(b);
}

static void put_another_in_its_place(struct base *b)
{
    char *other = xasprintf("%s/other.db", b->dir);

    assert_int_equal(try_sql(other, ROWS_SQL), SQLITE_OK);
    assert_int_equal(rename(other, b->path), 0);
    free(other);
}

static void a_database_that_is_replaced_during_the_copy_is_refused(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    b->on_advance = put_another_in_its_place;
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "was replaced by another file");
    assert_null(b->on_advance);
    base_backup(b);
    base_payload_is(b, b->path);
}

/* ---- users ---- */

enum { NOBODY = 65534 };

static void become(uid_t uid)
{
    child_check(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
}

/* Runs fn in a child as another user; false if this user may not. */
static bool as_nobody(void (*fn)(struct base *), struct base *b)
{
    int status;

    if (geteuid() != 0)
        return false;
    pid_t pid = fork();
    assert_return_code(pid, errno);
    if (pid == 0) {
        become(NOBODY);
        fn(b);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return true;
}

static void must_fail_naming(struct base *b, int errnum, const char *what)
{
    struct error err;

    child_check(base_try(b, &err) == -1);
    if (!strstr(err.message, what))
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", err.message, what);
    child_check(strstr(err.message, what) != NULL);
    child_check(err.code == ERR_SOURCE_UNAVAILABLE);
    child_check(errnum == 0 || err.errnum == errnum);
}

static void must_succeed(struct base *b)
{
    struct error err;
    int result = base_try(b, &err);

    if (result != 0)
        fprintf(stderr, "%s\n", err.message);
    child_check(result == 0);
}

static void must_be_denied(struct base *b)
{
    must_fail_naming(b, EACCES, b->path);
}

static void a_database_that_may_not_be_read_is_named(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    assert_int_equal(chmod(b->path, 0600), 0);
    if (!as_nobody(must_be_denied, b))
        skip();
}

static void must_want_the_shm(struct base *b)
{
    must_fail_naming(b, 0, "-shm");
}

/* Even where he could: a -shm of his would lock the application out. */
static void a_stranger_makes_no_shm(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    assert_int_equal(chmod(b->src, 0777), 0);
    if (!as_nobody(must_want_the_shm, b))
        skip();
    assert_false(file_exists(b->path, "-shm"));
    assert_false(file_exists(b->path, "-wal"));
}

static void a_stranger_reads_what_the_application_has_open(void **state)
{
    struct base *b = *state;
    struct app app = app_start(b->path,
                               "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL
                               "SELECT * FROM t",
                               APP_CLOSES);

    base_remember(b);
    bool done = as_nobody(must_succeed, b);
    base_is_untouched(b);
    app_end(&app);
    if (!done)
        skip();
}

static void a_stranger_reads_a_database_in_delete_mode(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    if (!as_nobody(must_succeed, b))
        skip();
}

static void an_owner_who_cannot_make_the_shm_is_told(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(b->path, NOBODY, NOBODY), 0);
    as_nobody(must_want_the_shm, b);
}

/* ---- file systems ---- */

static void on_a_read_only_bind_mount(void *ctx)
{
    struct base *b = ctx;

    child_check(mount(b->src, b->src, NULL, MS_BIND, NULL) == 0);
    child_check(mount(NULL, b->src, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
    must_want_the_shm(b);
}

/* Others can write to it behind such a mount: it may not be taken for unchanging. */
static void a_read_only_bind_mount_is_not_taken_for_unchanging(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    if (!in_namespace(on_a_read_only_bind_mount, b))
        skip();
}

static void on_a_read_only_file_system(void *ctx)
{
    struct base *b = ctx;
    char *command = xasprintf("cd '%s' && truncate -s 8M image && mkfs.ext4 -q -d src image"
                              " && mount -o loop,ro image src 2>image.log",
                              b->dir);

    if (system(command) != 0) {
        fprintf(stderr, "skipped: no loop device\n");
        _exit(NAMESPACE_REFUSED);
    }
    free(command);
    must_succeed(b);
    child_check(umount(b->src) == 0);
}

static void a_wal_database_on_a_read_only_file_system_is_read(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    if (!in_namespace(on_a_read_only_file_system, b))
        skip();
}

static void with_a_wal_too(void *ctx)
{
    struct base *b = ctx;
    char *shm = xasprintf("%s-shm", b->path);

    unlink(shm);
    free(shm);
    on_a_read_only_file_system(b);
    struct buf checkpointed = BUF_INIT;
    child_check(try_sql(b->path, "PRAGMA wal_checkpoint(TRUNCATE)") == SQLITE_OK);
    child_check(file_bytes(b->path, &checkpointed));
    child_check(checkpointed.len == b->payload.len &&
                memcmp(checkpointed.data, b->payload.data, b->payload.len) == 0);
}

static void a_wal_on_a_read_only_file_system_is_read(void **state)
{
    struct base *b = *state;
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);

    app_end(&app);
    if (!in_namespace(with_a_wal_too, b))
        skip();
}

static void with_staging_full(void *ctx)
{
    struct base *b = ctx;
    struct error err;

    child_tmpfs(b->staging, 256, 0);
    child_check(base_try(b, &err) == -1);
    child_check(err.code == ERR_STATE_NO_SPACE && err.errnum == ENOSPC);
    child_check(strstr(err.message, b->staging) != NULL);
    child_check(dir_count(b->staging) == 0 && b->writes == 0);
}

static void a_full_staging_file_system_is_the_states_fault(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL "INSERT INTO t(v) VALUES(zeroblob(1000000))");
    if (!in_namespace(with_staging_full, b))
        skip();
    base_sql(b, "INSERT INTO t(v) VALUES('the database is free')");
}

static void a_missing_staging_directory_is_the_states_fault(void **state)
{
    struct base *b = *state;
    struct error err;

    base_sql(b, ROWS_SQL);
    assert_int_equal(rmdir(b->staging), 0);
    assert_int_equal(base_try(b, &err), -1);
    assert_int_equal(err.code, ERR_STATE_UNAVAILABLE);
    assert_int_equal(err.errnum, ENOENT);
}

/* ---- system calls ---- */

/* SQLite's own VFS lets its system calls be replaced. */
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int call, fail_at, fail_with;

/* SQLite reads the copy, too. */
static bool is_of_staging(int fd)
{
    char link[64], target[512];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    return strstr(target, "/staging/") != NULL;
}

static ssize_t failing_pread(int fd, void *buf, size_t len, off_t at)
{
    if (is_of_staging(fd) || ++call != fail_at)
        return real_pread(fd, buf, len, at);
    errno = fail_with;
    return -1;
}

static ssize_t failing_pwrite(int fd, const void *buf, size_t len, off_t at)
{
    if (++call != fail_at)
        return real_pwrite(fd, buf, len, at);
    errno = fail_with;
    return -1;
}

static void replace(const char *name, sqlite3_syscall_ptr fn)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

    assert_int_equal(vfs->xSetSystemCall(vfs, name, fn), SQLITE_OK);
}

static sqlite3_syscall_ptr current(const char *name)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
    sqlite3_syscall_ptr fn = vfs->xGetSystemCall(vfs, name);

    assert_non_null(fn);
    return fn;
}

static int calls_teardown(void **state)
{
    replace("pread64", NULL);
    replace("pwrite64", NULL);
    return base_teardown(state);
}

/* Fails the first call, the second, and so on, until a backup needs fewer; how many failed. */
static int fail_each(struct base *b, int errnum, enum error_code code)
{
    struct error err;

    fail_with = errnum;
    for (fail_at = 1;; fail_at++) {
        call = 0;
        if (base_try(b, &err) == 0) {
            if (call >= fail_at)
                fail_msg("call %d failed and the backup did not", fail_at);
            return fail_at - 1;
        }
        if (err.code != code || err.errnum != errnum)
            fail_msg("call %d: %s", fail_at, err.message);
        assert_int_equal(dir_count(b->staging), 0);
        assert_int_equal(b->writes, 0);
    }
}

static void each_failed_read_is_the_sources_fault(void **state)
{
    struct base *b = *state;
    struct app app = app_start(b->path,
                               "PRAGMA journal_mode = WAL; " ROWS_SQL
                               "PRAGMA wal_checkpoint(PASSIVE); UPDATE t SET v = 1 WHERE id < 9",
                               APP_CLOSES);

    real_pread = (ssize_t(*)(int, void *, size_t, off_t))current("pread64");
    replace("pread64", (sqlite3_syscall_ptr)failing_pread);
    int failed = fail_each(b, EIO, ERR_SOURCE_UNAVAILABLE);
    replace("pread64", NULL);
    assert_true(failed > 10);
    app_end(&app);
    base_payload_is(b, b->path);
}

static void each_failed_write_is_the_stagings_fault(void **state)
{
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))current("pwrite64");
    replace("pwrite64", (sqlite3_syscall_ptr)failing_pwrite);
    int failed = fail_each(b, ENOSPC, ERR_STATE_NO_SPACE);
    assert_int_equal(fail_each(b, EDQUOT, ERR_STATE_NO_SPACE), failed);
    assert_int_equal(fail_each(b, EIO, ERR_STATE_UNAVAILABLE), failed);
    replace("pwrite64", NULL);
    assert_true(failed > 10);
    base_payload_is(b, b->path);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_missing_database_is_named),
        CASE(a_directory_is_refused),
        CASE(a_database_that_vanishes_is_named),
        CASE(garbage_is_not_a_database),
        CASE(a_database_that_was_cut_short_is_refused),
        CASE(a_wal_database_that_was_cut_short_is_refused),
        CASE(a_damaged_schema_is_refused),
        CASE(a_hot_journal_is_refused_until_the_application_has_opened_it),
        CASE(a_wal_beside_an_empty_database_is_kept),
        CASE(a_database_that_is_replaced_during_the_copy_is_refused),
        CASE(a_database_that_may_not_be_read_is_named),
        CASE(a_stranger_makes_no_shm),
        CASE(a_stranger_reads_what_the_application_has_open),
        CASE(a_stranger_reads_a_database_in_delete_mode),
        CASE(an_owner_who_cannot_make_the_shm_is_told),
        CASE(a_read_only_bind_mount_is_not_taken_for_unchanging),
        CASE(a_wal_database_on_a_read_only_file_system_is_read),
        CASE(a_wal_on_a_read_only_file_system_is_read),
        CASE(a_full_staging_file_system_is_the_states_fault),
        CASE(a_missing_staging_directory_is_the_states_fault),
        cmocka_unit_test_setup_teardown(each_failed_read_is_the_sources_fault, base_setup,
                                        calls_teardown),
        cmocka_unit_test_setup_teardown(each_failed_write_is_the_stagings_fault, base_setup,
                                        calls_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
