/* SPDX-License-Identifier: MIT */
/*
 * test_sqlite_vfs_files.c - the VFS for other people's databases, file by file: a WAL that is not
 * there is played, a -shm is made by none whom it would belong to, and where nobody can write it is
 * played in memory; what cannot be read is told with its errno.
 *
 * Who we are, what is mounted and SQLite's system calls are what a test says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "database.h"
#include "source/sqlite_vfs.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

enum { PAGE = 4096, REGION = 32768, STRANGER = 54321 };

#define READ_ONLY  "36 35 259:7 / / ro - ext4 /dev/x ro,relatime\n"
#define READ_WRITE "36 35 259:7 / / ro - ext4 /dev/x rw,relatime\n"

static struct {
    uid_t uid, owner;      /* ours, and of every file; 0 = the real one */
    const char *mountinfo; /* NULL: the real one */
    bool no_mountinfo;
    bool on_disk;        /* files are on the block device 259:7 */
    const char *no_stat; /* files with this ending cannot be looked at */
    const char *no_open; /* files with this ending cannot be opened */
    bool no_filename;    /* there is no memory for one */
    int read_errno;      /* reads fail with it, -1: with none */
} world;

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);

    return end && n >= strlen(end) && strcmp(name + n - strlen(end), end) == 0;
}

uid_t geteuid(void)
{
    return world.uid ? world.uid : (uid_t)syscall(SYS_geteuid);
}

int stat(const char *path, struct stat *st)
{
    if (ends_with(path, world.no_stat)) {
        errno = EACCES;
        return -1;
    }
    if (fstatat(AT_FDCWD, path, st, 0) != 0)
        return -1;
    if (world.on_disk)
        st->st_dev = makedev(259, 7);
    if (world.owner)
        st->st_uid = world.owner;
    return 0;
}

FILE *fopen(const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    if (strcmp(path, "/proc/self/mountinfo") != 0)
        return real(path, mode);
    if (world.no_mountinfo) {
        errno = EMFILE;
        return NULL;
    }
    return world.mountinfo ? fmemopen((char *)(size_t)world.mountinfo, strlen(world.mountinfo), "r")
                           : real(path, mode);
}

const char *sqlite3_create_filename(const char *db, const char *journal, const char *wal, int n,
                                    const char **parameters)
{
    const char *(*real)(const char *, const char *, const char *, int, const char **);

    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_create_filename");
    return world.no_filename ? NULL : real(db, journal, wal, n, parameters);
}

/* ---- SQLite's own calls ---- */

static int sqlite_open_call(const char *path, int flags, int mode)
{
    if (ends_with(path, world.no_open)) {
        errno = EROFS;
        return -1;
    }
    return open(path, flags, mode);
}

static ssize_t read_call(int fd, void *buf, size_t len)
{
    if (!world.read_errno)
        return read(fd, buf, len);
    errno = world.read_errno > 0 ? world.read_errno : 0;
    return -1;
}

static ssize_t pread_call(int fd, void *buf, size_t len, off_t offset)
{
    if (!world.read_errno)
        return pread(fd, buf, len, offset);
    errno = world.read_errno > 0 ? world.read_errno : 0;
    return -1;
}

static void set_calls(bool ours)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

    vfs->xSetSystemCall(vfs, "open", ours ? (sqlite3_syscall_ptr)sqlite_open_call : NULL);
    vfs->xSetSystemCall(vfs, "read", ours ? (sqlite3_syscall_ptr)read_call : NULL);
    vfs->xSetSystemCall(vfs, "pread", ours ? (sqlite3_syscall_ptr)pread_call : NULL);
    vfs->xSetSystemCall(vfs, "pread64", ours ? (sqlite3_syscall_ptr)pread_call : NULL);
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    set_calls(true);
    return base_setup(state);
}

static int teardown(void **state)
{
    memset(&world, 0, sizeof world);
    sqlite_vfs_watch(NULL);
    set_calls(false);
    return base_teardown(state);
}

/* ---- connections ---- */

static int try_open(struct base *b, sqlite3 **db)
{
    return sqlite3_open_v2(b->path, db, SQLITE_OPEN_READONLY, sqlite_vfs_name());
}

static sqlite3 *must_open(struct base *b)
{
    sqlite3 *db;

    assert_int_equal(try_open(b, &db), SQLITE_OK);
    return db;
}

/* SQLite's result of reading a table. */
static int read_rows(sqlite3 *db)
{
    return sqlite3_exec(db, "SELECT count(*) FROM t", NULL, NULL, NULL);
}

static sqlite3_file *file_of(sqlite3 *db, int which)
{
    sqlite3_file *f;

    assert_int_equal(sqlite3_file_control(db, "main", which, &f), SQLITE_OK);
    return f;
}

/* A database with a WAL that an application has left when it died, and without a -shm. */
static void leave_wal(struct base *b)
{
    struct app app = app_start(
        b->path, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; " ROWS_SQL, APP_DIES);
    char *shm = xasprintf("%s-shm", b->path);

    app_end(&app);
    assert_int_equal(unlink(shm), 0);
    free(shm);
}

/* ---- the WAL ---- */

static void a_wal_that_is_not_there_is_empty_and_cannot_be_asked_anything(void **state)
{
    struct base *b = *state;
    unsigned char bytes[64];
    sqlite3_int64 size = 7;
    int reserved = 7;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    sqlite3 *db = must_open(b);
    assert_int_equal(read_rows(db), SQLITE_OK);
    sqlite3_file *wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
    const sqlite3_io_methods *m = wal->pMethods;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(m->xRead(wal, bytes, sizeof bytes, 0), SQLITE_IOERR_SHORT_READ);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(m->xFileSize(wal, &size), SQLITE_OK);
    assert_int_equal(size, 0);
    assert_int_equal(m->xLock(wal, SQLITE_LOCK_SHARED), SQLITE_OK);
    assert_int_equal(m->xUnlock(wal, SQLITE_LOCK_NONE), SQLITE_OK);
    assert_int_equal(m->xCheckReservedLock(wal, &reserved), SQLITE_OK);
    assert_int_equal(reserved, 0);
    assert_int_equal(m->xFileControl(wal, SQLITE_FCNTL_HAS_MOVED, &reserved), SQLITE_NOTFOUND);
    assert_true(m->xSectorSize(wal) >= 512);
    assert_int_equal(m->xDeviceCharacteristics(wal), 0);
    assert_false(file_exists(b->path, "-wal"));
    sqlite3_close(db);
}

static void a_wal_that_is_there_and_cannot_be_opened_is_an_error(void **state)
{
    struct base *b = *state;
    unsigned char bytes[64];
    sqlite3_int64 size;
    sqlite3 *db;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    db = must_open(b);
    assert_int_equal(read_rows(db), SQLITE_OK);
    sqlite3_file *wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
    world.no_open = "-wal";
    world.no_stat = "-wal"; /* it may be there, for all we know */
    assert_int_equal(wal->pMethods->xRead(wal, bytes, sizeof bytes, 0) & 0xff, SQLITE_CANTOPEN);
    assert_int_equal(wal->pMethods->xFileSize(wal, &size) & 0xff, SQLITE_CANTOPEN);
    world.no_stat = world.no_open = NULL;
    sqlite3_close(db);
}

static void a_backup_whose_wal_cannot_be_opened_fails(void **state)
{
    struct base *b = *state;

    leave_wal(b);
    world.no_open = "-wal";
    base_fails(b, ERR_SOURCE_UNAVAILABLE, b->path);
    world.no_open = NULL;
    base_backup(b);
}

/* An offset that no frame's page has, behind bytes that look as if the page were the first. */
static off_t misleading_offset(struct base *b)
{
    static const char first[4] = {0, 0, 0, 1};
    char *path = xasprintf("%s-wal", b->path);
    struct buf wal = BUF_INIT;
    off_t found = 0;

    assert_true(file_bytes(path, &wal));
    for (size_t at = 32; !found && at + 24 + PAGE <= wal.len; at++)
        if ((at - 32) % (24 + PAGE) != 0 && memcmp(wal.data + at, first, 4) == 0)
            found = (off_t)at + 24;
    assert_true(found > 0);
    buf_release(&wal);
    free(path);
    return found;
}

/* Reads of a frame's page, of other bytes, and of what is not there. */
static void page_1_in_a_wal_is_noted_and_nothing_else(void **state)
{
    struct base *b = *state;
    struct sqlite_view *view = xcalloc(1, sizeof *view);
    unsigned char page[PAGE];

    leave_wal(b);
    sqlite3 *db = must_open(b);
    assert_int_equal(read_rows(db), SQLITE_OK);
    sqlite3_file *wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
    sqlite_vfs_watch(view);
    assert_int_equal(wal->pMethods->xRead(wal, page, PAGE, 32), SQLITE_OK); /* a frame's header */
    assert_int_equal(wal->pMethods->xRead(wal, page, PAGE, misleading_offset(b)), SQLITE_OK);
    assert_int_equal(wal->pMethods->xRead(wal, page, 1000, 32 + 24), SQLITE_OK);
    assert_int_equal(view->page1_size, 0);
    assert_int_equal(wal->pMethods->xRead(wal, page, PAGE, 32 + 24), SQLITE_OK);
    assert_int_equal(view->page1_size, PAGE);
    assert_memory_equal(view->page1, page, PAGE);
    assert_memory_equal(page, "SQLite format 3", 16);
    assert_int_equal(view->read_errno, 0);
    world.read_errno = EIO;
    assert_int_equal(wal->pMethods->xRead(wal, page, PAGE, 32) & 0xff, SQLITE_IOERR);
    assert_int_equal(view->read_errno, EIO);
    sqlite_vfs_watch(NULL);
    assert_int_equal(wal->pMethods->xRead(wal, page, PAGE, 32) & 0xff, SQLITE_IOERR);
    world.read_errno = 0;
    sqlite3_close(db);
    free(view);
}

static void deleting_a_wal_is_noted_by_whoever_watches(void **state)
{
    struct sqlite_view *view = xcalloc(1, sizeof *view);
    sqlite3_vfs *vfs = sqlite3_vfs_find(sqlite_vfs_name());

    (void)state;
    assert_int_equal(vfs->xDelete(vfs, "/nowhere/a-wal", 0), SQLITE_READONLY);
    sqlite_vfs_watch(view);
    assert_int_equal(vfs->xDelete(vfs, "wal", 0), SQLITE_READONLY);
    assert_int_equal(vfs->xDelete(vfs, "/nowhere/a-journal", 0), SQLITE_READONLY);
    assert_false(view->orphaned_wal);
    assert_int_equal(vfs->xDelete(vfs, "/nowhere/a-wal", 0), SQLITE_READONLY);
    assert_true(view->orphaned_wal);
    free(view);
}

/* ---- the database ---- */

static void only_whole_pages_are_taken_for_page_1(void **state)
{
    static const int no_pages[] = {100, 256, 1000, PAGE + 512, 2 * SQLITE_PAGE_MAX};
    struct base *b = *state;
    struct sqlite_view *view = xcalloc(1, sizeof *view);
    unsigned char *bytes = xmalloc(2 * SQLITE_PAGE_MAX);

    base_sql(b, "CREATE TABLE t(v); INSERT INTO t VALUES(zeroblob(300000))");
    sqlite3 *db = must_open(b);
    assert_int_equal(read_rows(db), SQLITE_OK);
    sqlite3_file *f = file_of(db, SQLITE_FCNTL_FILE_POINTER);
    sqlite_vfs_watch(view);
    for (size_t i = 0; i < sizeof no_pages / sizeof no_pages[0]; i++)
        assert_int_equal(f->pMethods->xRead(f, bytes, no_pages[i], 0), SQLITE_OK);
    assert_int_equal(f->pMethods->xRead(f, bytes, PAGE, PAGE), SQLITE_OK);
    assert_int_equal(view->page1_size, 0);
    assert_int_equal(f->pMethods->xRead(f, bytes, PAGE, 0), SQLITE_OK);
    assert_int_equal(view->page1_size, PAGE);
    assert_true(f->pMethods->xSectorSize(f) >= 512);
    sqlite3_close(db);
    free(bytes);
    free(view);
}

static void a_read_that_fails_is_noted_with_its_errno(void **state)
{
    struct base *b = *state;
    struct sqlite_view *view = xcalloc(1, sizeof *view);
    unsigned char page[PAGE];

    base_sql(b, ROWS_SQL);
    sqlite3 *db = must_open(b);
    assert_int_equal(read_rows(db), SQLITE_OK);
    sqlite3_file *f = file_of(db, SQLITE_FCNTL_FILE_POINTER);
    world.read_errno = ESTALE;
    assert_int_equal(f->pMethods->xRead(f, page, PAGE, 0) & 0xff, SQLITE_IOERR);
    sqlite_vfs_watch(view);
    assert_int_equal(f->pMethods->xRead(f, page, PAGE, 0) & 0xff, SQLITE_IOERR);
    assert_int_equal(view->read_errno, ESTALE);
    world.read_errno = -1;
    assert_int_equal(f->pMethods->xRead(f, page, PAGE, 0) & 0xff, SQLITE_IOERR);
    assert_int_equal(view->read_errno, EIO);
    assert_int_equal(view->page1_size, 0);
    world.read_errno = 0;
    sqlite3_close(db);
    free(view);
}

static void a_backup_whose_reads_fail_names_the_errno(void **state)
{
    struct base *b = *state;
    struct error err;

    base_sql(b, ROWS_SQL);
    world.read_errno = ESTALE;
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "reading: Stale file handle");
    assert_int_equal(base_try(b, &err), -1);
    assert_int_equal(err.errnum, ESTALE);
}

/* ---- whose -shm it would be ---- */

static void a_stranger_makes_no_shm_and_is_told_what_is_missing(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    world.uid = STRANGER;
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "its -shm file is needed: run keepfs as root or as the");
    assert_int_equal(dir_count(b->src), 1);
    world.no_stat = "app.db"; /* whose it is cannot be seen */
    sqlite3 *db = must_open(b);
    assert_int_not_equal(read_rows(db), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(dir_count(b->src), 1);
}

static void the_owner_makes_the_shm(void **state)
{
    struct base *b = *state;

    base_sql(b, "PRAGMA journal_mode = WAL; " ROWS_SQL);
    world.uid = world.owner = STRANGER;
    base_backup(b);
    base_payload_is(b, b->path);
    assert_true(file_exists(b->path, "-shm"));
}

static void a_stranger_finds_no_database_or_no_memory(void **state)
{
    struct base *b = *state;
    sqlite3 *db;

    world.uid = STRANGER;
    assert_int_equal(try_open(b, &db), SQLITE_CANTOPEN);
    sqlite3_close(db);
    base_sql(b, ROWS_SQL);
    world.no_filename = true;
    assert_int_equal(try_open(b, &db), SQLITE_NOMEM);
    sqlite3_close(db);
    base_fails(b, ERR_INTERNAL, b->path);
}

/* ---- where nobody can write ---- */

static void a_file_system_is_frozen_if_it_is_read_only_as_a_whole(void **state)
{
    static const char *const others[] = {
        READ_WRITE, /* read-only only where it is mounted here */
        "36 35 259:8 / / ro - ext4 /dev/x ro,relatime\n",
        "36 35 259:7 / / ro - ext4 /dev/x rox\n",
        "36 35 259:7 / / ro - ext4 /dev/x relatime\n",
        "36 35 259:7\n",
        "259:7\n",
        "36 259:7ro\n",
        "\n",
    };
    struct base *b = *state;

    base_sql(b, ROWS_SQL);
    world.on_disk = true;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        world.mountinfo = others[i];
        assert_false(sqlite_vfs_frozen(b->path));
    }
    world.mountinfo = READ_ONLY;
    assert_true(sqlite_vfs_frozen(b->path));
    world.mountinfo = "\n36 35 259:8 / / rw - ext4 /dev/y rw\n36 35 259:7 / / rw - ext4 /dev/x ro";
    assert_true(sqlite_vfs_frozen(b->path));
    world.no_mountinfo = true;
    assert_false(sqlite_vfs_frozen(b->path));
    world.no_mountinfo = false;
    world.no_stat = "app.db";
    assert_false(sqlite_vfs_frozen(b->path));
}

/* As if the application had checkpointed. */
static void payload_is_the_checkpointed(struct base *b)
{
    struct buf file = BUF_INIT;

    world.no_open = NULL;
    world.on_disk = false;
    base_sql(b, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_true(file_bytes(b->path, &file));
    assert_int_equal(b->payload.len, file.len);
    assert_memory_equal(b->payload.data, file.data, file.len);
    buf_release(&file);
}

static void a_wal_where_nobody_can_write_is_read_without_a_shm(void **state)
{
    struct base *b = *state;

    leave_wal(b);
    base_remember(b);
    world.no_open = "-shm";
    world.on_disk = true;
    world.mountinfo = READ_ONLY;
    base_backup(b);
    base_is_untouched(b);
    assert_false(file_exists(b->path, "-shm"));
    assert_int_equal(payload_int(b, "SELECT count(*) FROM t"), 500);
    payload_is_the_checkpointed(b);
}

static void a_shm_that_cannot_be_made_where_others_write_is_an_error(void **state)
{
    struct base *b = *state;

    leave_wal(b);
    world.no_open = "-shm";
    world.on_disk = true;
    world.mountinfo = READ_WRITE;
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "its -shm file is needed");
}

static void thaw(struct base *b)
{
    (void)b;
    world.mountinfo = READ_WRITE;
}

static void a_file_system_that_becomes_writable_meanwhile_fails_the_backup(void **state)
{
    struct base *b = *state;

    leave_wal(b);
    world.no_open = "-shm";
    world.on_disk = true;
    world.mountinfo = READ_ONLY;
    b->on_advance = thaw;
    base_fails(b, ERR_SOURCE_UNAVAILABLE, "became writable while it was read without locks");
}

static void a_shm_in_memory_is_as_long_as_it_was_made_and_needs_no_lock(void **state)
{
    struct base *b = *state;
    void volatile *region = NULL, *again = NULL;

    leave_wal(b);
    world.no_open = "-shm";
    world.on_disk = true;
    world.mountinfo = READ_ONLY;
    sqlite3 *db = must_open(b);
    sqlite3_file *f = file_of(db, SQLITE_FCNTL_FILE_POINTER);
    const sqlite3_io_methods *m = f->pMethods;
    /* It begins with the first region. */
    assert_int_equal(m->xShmMap(f, 1, REGION, 1, &region) & 0xff, SQLITE_CANTOPEN);
    assert_int_equal(m->xShmMap(f, 0, REGION, 0, &region), SQLITE_OK);
    assert_non_null(region);
    assert_int_equal(m->xShmMap(f, 0, REGION, 1, &again), SQLITE_OK);
    assert_ptr_equal((const void *)(uintptr_t)region, (const void *)(uintptr_t)again);
    assert_int_equal(m->xShmMap(f, 2, REGION, 0, &again), SQLITE_OK);
    assert_null((const void *)(uintptr_t)again);
    assert_int_equal(m->xShmMap(f, 2, REGION, 1, &again), SQLITE_OK);
    assert_non_null((const void *)(uintptr_t)again);
    assert_int_equal(m->xShmLock(f, 0, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE), SQLITE_OK);
    m->xShmBarrier(f);
    assert_int_equal(m->xShmUnmap(f, 1), SQLITE_OK);
    sqlite3_close(db);
    assert_false(file_exists(b->path, "-shm"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_wal_that_is_not_there_is_empty_and_cannot_be_asked_anything),
        CASE(a_wal_that_is_there_and_cannot_be_opened_is_an_error),
        CASE(a_backup_whose_wal_cannot_be_opened_fails),
        CASE(page_1_in_a_wal_is_noted_and_nothing_else),
        CASE(deleting_a_wal_is_noted_by_whoever_watches),
        CASE(only_whole_pages_are_taken_for_page_1),
        CASE(a_read_that_fails_is_noted_with_its_errno),
        CASE(a_backup_whose_reads_fail_names_the_errno),
        CASE(a_stranger_makes_no_shm_and_is_told_what_is_missing),
        CASE(the_owner_makes_the_shm),
        CASE(a_stranger_finds_no_database_or_no_memory),
        CASE(a_file_system_is_frozen_if_it_is_read_only_as_a_whole),
        CASE(a_wal_where_nobody_can_write_is_read_without_a_shm),
        CASE(a_shm_that_cannot_be_made_where_others_write_is_an_error),
        CASE(a_file_system_that_becomes_writable_meanwhile_fails_the_backup),
        CASE(a_shm_in_memory_is_as_long_as_it_was_made_and_needs_no_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
