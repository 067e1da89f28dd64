/* SPDX-License-Identifier: MIT */
/*
 * test_sqlite_checks.c - SQLite or the staging file fail during a backup, or give what is not the
 * database's: each is told with its side, and none passes for a backup.
 *
 * SQLite's calls and those on the staging file are defined here; their real selves do the work,
 * except where a test says otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"

#include <dlfcn.h>
#include <sys/syscall.h>

enum { ALWAYS = 1 << 30 };

static struct {
    const char *call; /* that fails, or the beginning of the SQL that does; NULL = none */
    int rc;           /* so */
    int from, times;  /* from the nth on, that often */
    int seen;
    int depth; /* of calls inside sqlite3_exec */
    int system_errno;
    int64_t page_size; /* that SQLite tells; 0: the real one */
    bool writes;       /* no statement is read-only */
    sqlite3 *source;   /* the database that is copied */
    int flip;          /* the byte of a page that is read as another one; -1 = none */
    int pread_errno;   /* of the staging file */
    bool pread_nothing;
    int fstat_errno;
    off_t grown; /* bytes that the staging file has more than it has */
} world;

static bool must_fail(const char *call)
{
    if (!world.call || strcmp(call, world.call) != 0)
        return false;
    int n = ++world.seen;
    return n >= world.from && n < world.from + world.times;
}

#define STAND_IN(name, parameters, arguments)                                                      \
    int name parameters                                                                            \
    {                                                                                              \
        static int(*real) parameters;                                                              \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return must_fail(#name) ? world.rc : real arguments;                                       \
    }

STAND_IN(sqlite3_open_v2, (const char *path, sqlite3 **db, int flags, const char *vfs),
         (path, db, flags, vfs))
STAND_IN(sqlite3_backup_step, (sqlite3_backup * backup, int pages), (backup, pages))
STAND_IN(sqlite3_db_cacheflush, (sqlite3 * db), (db))

/* SQLite's own statements go through both of these as well. */
int sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *ctx,
                 char **message)
{
    int (*real)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_exec");
    if (world.call && strncmp(sql, world.call, strlen(world.call)) == 0)
        return world.rc;
    world.depth++;
    int rc = real(db, sql, row, ctx, message);
    world.depth--;
    return rc;
}

int sqlite3_step(sqlite3_stmt *s)
{
    int (*real)(sqlite3_stmt *);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_step");
    return world.depth == 0 && must_fail("sqlite3_step") ? world.rc : real(s);
}

sqlite3_backup *sqlite3_backup_init(sqlite3 *to, const char *to_name, sqlite3 *from,
                                    const char *from_name)
{
    sqlite3_backup *(*real)(sqlite3 *, const char *, sqlite3 *, const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_backup_init");
    world.source = from;
    return must_fail("sqlite3_backup_init") ? NULL : real(to, to_name, from, from_name);
}

int sqlite3_extended_errcode(sqlite3 *db)
{
    int (*real)(sqlite3 *);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_extended_errcode");
    return world.call && strcmp(world.call, "sqlite3_backup_init") == 0 ? world.rc : real(db);
}

int sqlite3_system_errno(sqlite3 *db)
{
    (void)db;
    return world.system_errno;
}

sqlite3_int64 sqlite3_column_int64(sqlite3_stmt *s, int column)
{
    sqlite3_int64 (*real)(sqlite3_stmt *, int);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_column_int64");
    return world.page_size && strstr(sqlite3_sql(s), "page_size") ? world.page_size
                                                                  : real(s, column);
}

int sqlite3_stmt_readonly(sqlite3_stmt *s)
{
    (void)s;
    return !world.writes;
}

/* The staging file has no name any more, but the kernel knows where it was. */
static bool is_staging(int fd)
{
    char link[32], target[256] = "";

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof target - 1) > 0 && strstr(target, "/staging/");
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    if (!is_staging(fd))
        return syscall(SYS_pread64, fd, buf, len, offset);
    if (world.pread_errno) {
        errno = world.pread_errno;
        return -1;
    }
    ssize_t n = world.pread_nothing ? 0 : syscall(SYS_pread64, fd, buf, len, offset);
    if (world.flip >= 0 && n > world.flip)
        ((unsigned char *)buf)[world.flip] ^= 0xff;
    return n;
}

int fstat(int fd, struct stat *st)
{
    bool staging = is_staging(fd);

    if (staging && world.fstat_errno) {
        errno = world.fstat_errno;
        return -1;
    }
    long result = syscall(SYS_fstat, fd, st);

    st->st_size += staging ? world.grown : 0;
    return (int)result;
}

static ssize_t real_pread(int fd, void *buf, size_t len, off_t offset)
{
    return syscall(SYS_pread64, fd, buf, len, offset);
}

static int real_fstat(int fd, struct stat *st)
{
    return (int)syscall(SYS_fstat, fd, st);
}

/* SQLite's own looks at the staging file are not disturbed, only those at what it has made. */
static int group_setup(void **state)
{
    sqlite3_vfs *vfs;

    (void)state;
    sqlite3_initialize();
    vfs = sqlite3_vfs_find("unix");
    vfs->xSetSystemCall(vfs, "pread", (sqlite3_syscall_ptr)real_pread);
    vfs->xSetSystemCall(vfs, "pread64", (sqlite3_syscall_ptr)real_pread);
    return vfs->xSetSystemCall(vfs, "fstat", (sqlite3_syscall_ptr)real_fstat);
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    world.flip = -1;
    if (base_setup(state) != 0)
        return -1;
    base_sql(*state, ROWS_SQL);
    return 0;
}

static int teardown(void **state)
{
    memset(&world, 0, sizeof world);
    world.flip = -1;
    return base_teardown(state);
}

static void let_fail(const char *call, int from, int times, int rc)
{
    world.call = call;
    world.from = from;
    world.times = times;
    world.rc = rc;
    world.seen = 0;
}

static struct error fails(struct base *b, enum error_code code, const char *what)
{
    struct error err;

    base_fails(b, code, what);
    world.seen = 0;
    assert_int_equal(base_try(b, &err), -1);
    return err;
}

/* ---- the database ---- */

static void a_database_that_is_busy_for_a_while_is_waited_for(void **state)
{
    static const int busy[] = {SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL, SQLITE_BUSY_RECOVERY};
    struct base *b = *state;

    for (size_t i = 0; i < sizeof busy / sizeof busy[0]; i++) {
        let_fail("sqlite3_step", 1, 2, busy[i]);
        base_backup(b);
        base_payload_is(b, b->path);
        assert_int_equal(stats_get(&b->stats, "busy_waits"), 2);
        let_fail("sqlite3_backup_step", 1, 2, busy[i]);
        base_backup(b);
        base_payload_is(b, b->path);
        assert_int_equal(stats_get(&b->stats, "busy_waits"), 2);
    }
}

static void cancel_it(struct base *b)
{
    cancel_request(&b->cancel, ERR_CANCELLED, "enough");
}

static void a_cancel_ends_the_waiting_in_the_middle_of_the_copy(void **state)
{
    struct base *b = *state;

    let_fail("sqlite3_backup_step", 1, ALWAYS, SQLITE_BUSY);
    b->on_busy = cancel_it;
    base_fails(b, ERR_CANCELLED, "enough");
}

static void an_open_that_fails_without_errno_is_told_in_sqlites_words(void **state)
{
    struct base *b = *state;

    let_fail("sqlite3_open_v2", 1, ALWAYS, SQLITE_CANTOPEN);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "cannot be opened");
    world.system_errno = EACCES;
    struct error err = fails(b, ERR_SOURCE_UNAVAILABLE, "Permission denied");
    assert_int_equal(err.errnum, EACCES);
}

static void a_transaction_that_cannot_be_begun_is_told(void **state)
{
    struct base *b = *state;

    let_fail("BEGIN", 1, 1, SQLITE_ERROR);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "cannot be read");
}

static void each_question_that_is_not_answered_is_told(void **state)
{
    struct base *b = *state;

    for (int nth = 1; nth <= 3; nth++) {
        let_fail("sqlite3_step", nth, ALWAYS, SQLITE_IOERR_READ);
        world.system_errno = EIO;
        struct error err = fails(b, ERR_SOURCE_UNAVAILABLE, "cannot be read");
        assert_int_equal(err.errnum, EIO);
        let_fail("sqlite3_step", nth, ALWAYS, SQLITE_ERROR);
        err = fails(b, ERR_SOURCE_UNAVAILABLE, "cannot be read");
        assert_int_equal(err.errnum, 0); /* it is of an older failure */
        let_fail("sqlite3_step", nth, ALWAYS, SQLITE_NOMEM);
        base_fails(b, ERR_INTERNAL, "cannot be read");
    }
}

static void a_select_that_would_write_is_refused(void **state)
{
    struct base *b = *state;

    base_set(b, "payload_ids", "SELECT id FROM t");
    base_backup(b);
    world.writes = true;
    base_fails(b, ERR_CONFIG_INVALID, "one SELECT and nothing more");
}

/* ---- the copy ---- */

static void a_copy_that_cannot_be_begun_is_the_states_failure(void **state)
{
    struct base *b = *state;

    let_fail("sqlite3_backup_init", 1, ALWAYS, SQLITE_NOMEM);
    base_fails(b, ERR_INTERNAL, "out of memory");
    let_fail("sqlite3_backup_init", 1, ALWAYS, SQLITE_FULL);
    base_fails(b, ERR_STATE_NO_SPACE, "No space left");
    let_fail("PRAGMA journal_mode", 1, 1, SQLITE_FULL);
    struct error err = fails(b, ERR_STATE_NO_SPACE, b->staging);
    assert_int_equal(err.errnum, ENOSPC);
}

static void damage_is_the_databases_and_a_full_disk_the_states(void **state)
{
    struct base *b = *state;

    let_fail("sqlite3_backup_step", 1, ALWAYS, SQLITE_CORRUPT);
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "cannot be copied: database disk image is malformed");
    let_fail("sqlite3_backup_step", 1, ALWAYS, SQLITE_FULL);
    struct error err = fails(b, ERR_STATE_NO_SPACE, b->staging);
    assert_int_equal(err.errnum, ENOSPC);
    let_fail("sqlite3_backup_step", 1, ALWAYS, SQLITE_IOERR_WRITE);
    err = fails(b, ERR_STATE_UNAVAILABLE, b->staging);
    assert_int_equal(err.errnum, EIO);
}

static void pages_that_cannot_be_flushed_are_not_streamed(void **state)
{
    struct base *b = *state;

    let_fail("sqlite3_db_cacheflush", 1, ALWAYS, SQLITE_FULL);
    struct error err = fails(b, ERR_STATE_NO_SPACE, b->staging);
    assert_int_equal(err.errnum, ENOSPC);
    assert_int_equal(b->advanced, 0);
}

/* ---- what the copy must be ---- */

static void page_1_must_have_been_seen(void **state)
{
    struct base *b = *state;

    world.page_size = 512;
    base_fails(b, ERR_INTERNAL, "was not seen");
    assert_int_equal(b->payload.len, 0);
}

static ssize_t other_bytes(int fd, void *buf, size_t len, off_t offset)
{
    ssize_t n = syscall(SYS_pread64, fd, buf, len, offset);

    if (n > 100)
        ((unsigned char *)buf)[100] ^= 0xff;
    return n;
}

static ssize_t other_bytes_here(int fd, void *buf, size_t len)
{
    ssize_t n = read(fd, buf, len);

    if (n > 100)
        ((unsigned char *)buf)[100] ^= 0xff;
    return n;
}

static void set_reads(bool ours)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

    vfs->xSetSystemCall(vfs, "read", ours ? (sqlite3_syscall_ptr)other_bytes_here : NULL);
    vfs->xSetSystemCall(vfs, "pread", (sqlite3_syscall_ptr)(ours ? other_bytes : real_pread));
    vfs->xSetSystemCall(vfs, "pread64", (sqlite3_syscall_ptr)(ours ? other_bytes : real_pread));
}

/* As if SQLite read it once more, and somebody had written past all locks. */
static void read_page_1_otherwise(struct base *b)
{
    unsigned char page[4096];
    sqlite3_file *f;

    (void)b;
    sqlite3_file_control(world.source, "main", SQLITE_FCNTL_FILE_POINTER, &f);
    set_reads(true);
    assert_int_equal(f->pMethods->xRead(f, page, sizeof page, 0), SQLITE_OK);
    set_reads(false);
}

static void page_1_must_stay_what_it_was(void **state)
{
    struct base *b = *state;

    b->on_advance = read_page_1_otherwise;
    base_fails(b, ERR_INTERNAL, "changed within a transaction");
}

/* The bytes at 24-31, 40-43 and 92-99 are a copy's own. */
static void a_byte_of_the_copy_that_is_not_the_databases_is_found(void **state)
{
    static const int own[] = {24, 31, 40, 43, 92, 99}, others[] = {0, 23, 32, 44, 91, 100, 4095};
    struct base *b = *state;

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        world.flip = own[i];
        base_backup(b);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char what[64];
        snprintf(what, sizeof what, "byte %d of the copy", others[i]);
        world.flip = others[i];
        base_fails(b, ERR_INTERNAL, what);
    }
}

static void what_was_staged_must_be_there_and_no_more(void **state)
{
    struct base *b = *state;

    world.grown = 1;
    base_fails(b, ERR_INTERNAL, "bytes instead of");
    world.fstat_errno = EIO;
    base_fails(b, ERR_STATE_UNAVAILABLE, "Input/output error");
}

/* Of a database of one page the stream needs no other byte of the file. */
static void a_staging_file_that_cannot_be_read_is_the_states_failure(void **state)
{
    struct base *b = *state;

    assert_int_equal(unlink(b->path), 0);
    base_sql(b, "PRAGMA page_size = 4096; PRAGMA user_version = 5");
    base_backup(b);
    assert_int_equal(b->payload.len, 4096);
    world.pread_errno = EIO;
    base_fails(b, ERR_STATE_UNAVAILABLE, "reading what was staged");
    world.pread_errno = 0;
    world.pread_nothing = true;
    base_fails(b, ERR_INTERNAL, "page 1 of ");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_database_that_is_busy_for_a_while_is_waited_for),
        CASE(a_cancel_ends_the_waiting_in_the_middle_of_the_copy),
        CASE(an_open_that_fails_without_errno_is_told_in_sqlites_words),
        CASE(a_transaction_that_cannot_be_begun_is_told),
        CASE(each_question_that_is_not_answered_is_told),
        CASE(a_select_that_would_write_is_refused),
        CASE(a_copy_that_cannot_be_begun_is_the_states_failure),
        CASE(damage_is_the_databases_and_a_full_disk_the_states),
        CASE(pages_that_cannot_be_flushed_are_not_streamed),
        CASE(page_1_must_have_been_seen),
        CASE(page_1_must_stay_what_it_was),
        CASE(a_byte_of_the_copy_that_is_not_the_databases_is_found),
        CASE(what_was_staged_must_be_there_and_no_more),
        CASE(a_staging_file_that_cannot_be_read_is_the_states_failure),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
