/* SPDX-License-Identifier: MIT */
/*
 * sqlite_vfs.c - one struct around each of SQLite's files, methods that pass or refuse.
 *
 * Where page 1 comes from: the pager reads it from offset 0 of the database, or, if the WAL has a
 * newer one, from behind the 24-byte header of a frame, whose first word is the page's number.
 * Format: https://www.sqlite.org/fileformat2.html, sections 1.3 and 4.1.
 */
#include "source/sqlite_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { WAL_HEADER = 32, FRAME_HEADER = 24, PAGE_MIN = 512 };

struct guarded_file {
    sqlite3_file file; /* first: SQLite gives this pointer back */
    bool is_wal;
    sqlite3_file *real; /* behind this struct, in the same allocation */
};

static _Thread_local struct sqlite_page1 *capture;

static sqlite3_file *real(sqlite3_file *f)
{
    return ((struct guarded_file *)f)->real;
}

static sqlite3_vfs *real_vfs(sqlite3_vfs *vfs)
{
    return vfs->pAppData;
}

/* ---- reads ---- */

static bool is_page_size(int n)
{
    return n >= PAGE_MIN && n <= SQLITE_PAGE_MAX && (n & (n - 1)) == 0;
}

/* Is what stands at `offset` of the WAL a frame's page, and that page the first? */
static bool is_first_frame(sqlite3_file *wal, int amount, sqlite3_int64 offset)
{
    unsigned char number[4];

    if ((offset - WAL_HEADER) % (amount + FRAME_HEADER) != FRAME_HEADER)
        return false;
    if (wal->pMethods->xRead(wal, number, sizeof number, offset - FRAME_HEADER) != SQLITE_OK)
        return false;
    return number[0] == 0 && number[1] == 0 && number[2] == 0 && number[3] == 1;
}

static int guarded_read(sqlite3_file *f, void *buf, int amount, sqlite3_int64 offset)
{
    sqlite3_file *r = real(f);
    int rc = r->pMethods->xRead(r, buf, amount, offset);

    if (rc != SQLITE_OK || !capture || !is_page_size(amount))
        return rc;
    bool is_wal = ((struct guarded_file *)f)->is_wal;
    if (is_wal ? is_first_frame(r, amount, offset) : offset == 0) {
        capture->size = (size_t)amount;
        memcpy(capture->data, buf, (size_t)amount);
    }
    return rc;
}

void sqlite_vfs_capture(struct sqlite_page1 *page1)
{
    capture = page1;
}

/* ---- refused ---- */

static int refuse_write(sqlite3_file *f, const void *buf, int amount, sqlite3_int64 offset)
{
    (void)f;
    (void)buf;
    (void)amount;
    (void)offset;
    return SQLITE_READONLY;
}

static int refuse_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    (void)f;
    (void)size;
    return SQLITE_READONLY;
}

static int refuse_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    (void)name;
    (void)sync_dir;
    return SQLITE_READONLY;
}

/* Nothing was written, so nothing is to be synced. */
static int ignore_sync(sqlite3_file *f, int flags)
{
    (void)f;
    (void)flags;
    return SQLITE_OK;
}

/* ---- passed through ---- */

static int pass_close(sqlite3_file *f)
{
    return real(f)->pMethods->xClose(real(f));
}

static int pass_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real(f)->pMethods->xFileSize(real(f), size);
}

static int pass_lock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xLock(real(f), level);
}

static int pass_unlock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xUnlock(real(f), level);
}

static int pass_check_reserved(sqlite3_file *f, int *out)
{
    return real(f)->pMethods->xCheckReservedLock(real(f), out);
}

static int pass_file_control(sqlite3_file *f, int op, void *arg)
{
    return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int pass_sector_size(sqlite3_file *f)
{
    return real(f)->pMethods->xSectorSize(real(f));
}

static int pass_characteristics(sqlite3_file *f)
{
    return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

static int pass_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return real(f)->pMethods->xShmMap(real(f), page, size, extend, out);
}

static int pass_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
}

static void pass_shm_barrier(sqlite3_file *f)
{
    real(f)->pMethods->xShmBarrier(real(f));
}

/* Never deletes the -shm: another process may just have opened it. */
static int keep_shm_unmap(sqlite3_file *f, int delete_it)
{
    (void)delete_it;
    return real(f)->pMethods->xShmUnmap(real(f), 0);
}

/* Version 2: shared memory, but no mmap of the database, whose reads would not come here. */
static const sqlite3_io_methods guarded_methods = {
    .iVersion = 2,
    .xClose = pass_close,
    .xRead = guarded_read,
    .xWrite = refuse_write,
    .xTruncate = refuse_truncate,
    .xSync = ignore_sync,
    .xFileSize = pass_file_size,
    .xLock = pass_lock,
    .xUnlock = pass_unlock,
    .xCheckReservedLock = pass_check_reserved,
    .xFileControl = pass_file_control,
    .xSectorSize = pass_sector_size,
    .xDeviceCharacteristics = pass_characteristics,
    .xShmMap = pass_shm_map,
    .xShmLock = pass_shm_lock,
    .xShmBarrier = pass_shm_barrier,
    .xShmUnmap = keep_shm_unmap,
};

static int guarded_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                        int *out_flags)
{
    const int ours = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
    struct guarded_file *g = (struct guarded_file *)file;

    /* Temporary files of a sort are SQLite's own. */
    if (!(flags & ours))
        return real_vfs(vfs)->xOpen(real_vfs(vfs), name, file, flags, out_flags);
    g->is_wal = flags & SQLITE_OPEN_WAL;
    g->real = (sqlite3_file *)(g + 1);
    int rc = real_vfs(vfs)->xOpen(real_vfs(vfs), name, g->real, flags, out_flags);
    g->file.pMethods = g->real->pMethods ? &guarded_methods : NULL;
    return rc;
}

static sqlite3_vfs guarded_vfs;
static const char *registered; /* written once, under once */

static void register_vfs(void)
{
    sqlite3_vfs *base = sqlite3_vfs_find(NULL);

    if (!base)
        return;
    guarded_vfs = *base;
    guarded_vfs.zName = "keepfs-source";
    guarded_vfs.pNext = NULL;
    guarded_vfs.pAppData = base;
    guarded_vfs.szOsFile = (int)sizeof(struct guarded_file) + base->szOsFile;
    guarded_vfs.xOpen = guarded_open;
    guarded_vfs.xDelete = refuse_delete;
    if (sqlite3_vfs_register(&guarded_vfs, 0) == SQLITE_OK)
        registered = guarded_vfs.zName;
}

const char *sqlite_vfs_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, register_vfs);
    return registered;
}
