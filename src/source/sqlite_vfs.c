/* SPDX-License-Identifier: MIT */
/*
 * sqlite_vfs.c - one struct around each of SQLite's files, methods that pass, refuse or play.
 *
 * Where page 1 comes from: the pager reads it from offset 0 of the database, or, if the WAL has a
 * newer one, from behind the 24-byte header of a frame, whose first word is the page's number.
 * Format: https://www.sqlite.org/fileformat2.html, sections 1.3 and 4.1.
 *
 * The WAL: SQLite opens it, and makes it, to read a database in WAL mode. Here `real` is opened
 * when the file is first found, and until then it is read as empty. That is safe because the
 * connection holds its SHARED lock on the database from before it opens the WAL until it closes:
 * a process that makes one is found before its first frame can be in the snapshot, and none
 * can delete one.
 *
 * The -shm in memory serves a file system that nobody can write to: no locks are needed, and WAL
 * recovery fills it as it would fill the file. Reading goes on if the file system becomes
 * writable meanwhile; the caller looks again at the end.
 */
#include "source/sqlite_vfs.h"

#include "util/buf.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { WAL_HEADER = 32, FRAME_HEADER = 24, PAGE_MIN = 512, SECTOR = 4096 };

struct guarded_file {
    sqlite3_file file;         /* first: SQLite gives this pointer back */
    sqlite3_vfs *vfs;          /* SQLite's own */
    const char *name;          /* the pager's, which outlives the file */
    sqlite3_filename own_name; /* what `vfs` got instead, or NULL */
    void **shm;                /* the regions of a -shm in memory */
    int shm_count;
    sqlite3_file *real; /* behind this struct, in the same allocation; no methods = not open */
};

static _Thread_local struct sqlite_view *watching;

static struct guarded_file *guarded(sqlite3_file *f)
{
    return (struct guarded_file *)f;
}

static sqlite3_file *real(sqlite3_file *f)
{
    return guarded(f)->real;
}

void sqlite_vfs_watch(struct sqlite_view *view)
{
    watching = view;
}

/* ---- reads ---- */

static bool is_page_size(int n)
{
    return n >= PAGE_MIN && n <= SQLITE_PAGE_MAX && (n & (n - 1)) == 0;
}

static void note_page1(const void *page, int size)
{
    watching->page1_size = (size_t)size;
    memcpy(watching->page1, page, (size_t)size);
}

static void note_failure(sqlite3_file *r)
{
    int errnum = 0;

    r->pMethods->xFileControl(r, SQLITE_FCNTL_LAST_ERRNO, &errnum);
    watching->read_errno = errnum ? errnum : EIO;
}

static int db_read(sqlite3_file *f, void *buf, int amount, sqlite3_int64 offset)
{
    int rc = real(f)->pMethods->xRead(real(f), buf, amount, offset);

    if (!watching)
        return rc;
    if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ)
        note_failure(real(f));
    if (!is_page_size(amount))
        return rc;
    /* The pager takes what is missing for zeros. The first read of page 1 may have guessed its
     * size too big, and is repeated then. */
    if (rc == SQLITE_IOERR_SHORT_READ)
        watching->truncated = true;
    if (rc == SQLITE_OK && offset == 0) {
        watching->truncated = false;
        note_page1(buf, amount);
    }
    return rc;
}

/* ---- the WAL ---- */

/* Opens it if it is there now. SQLITE_NOTFOUND if it is not. */
static int wal_find(struct guarded_file *g)
{
    struct stat st;

    if (g->real->pMethods)
        return SQLITE_OK;
    if (stat(g->name, &st) != 0 && errno == ENOENT)
        return SQLITE_NOTFOUND;
    return g->vfs->xOpen(g->vfs, g->name, g->real, SQLITE_OPEN_READONLY | SQLITE_OPEN_WAL, NULL);
}

/* Notes what was read at `offset` if it is a frame's page, and that page the first. */
static int note_frame(sqlite3_file *wal, const void *page, int amount, sqlite3_int64 offset)
{
    static const unsigned char first[4] = {0, 0, 0, 1};
    unsigned char number[4];

    if (!is_page_size(amount) || (offset - WAL_HEADER) % (amount + FRAME_HEADER) != FRAME_HEADER)
        return SQLITE_OK;
    int rc = wal->pMethods->xRead(wal, number, sizeof number, offset - FRAME_HEADER);
    if (rc == SQLITE_OK && memcmp(number, first, sizeof first) == 0)
        note_page1(page, amount);
    return rc;
}

static int wal_read(sqlite3_file *f, void *buf, int amount, sqlite3_int64 offset)
{
    int rc = wal_find(guarded(f));

    if (rc == SQLITE_NOTFOUND) {
        memset(buf, 0, (size_t)amount);
        return SQLITE_IOERR_SHORT_READ;
    }
    if (rc != SQLITE_OK)
        return rc;
    rc = real(f)->pMethods->xRead(real(f), buf, amount, offset);
    if (rc == SQLITE_OK && watching)
        rc = note_frame(real(f), buf, amount, offset);
    if (rc != SQLITE_OK && watching)
        note_failure(real(f));
    return rc;
}

static int wal_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    int rc = wal_find(guarded(f));

    *size = 0;
    if (rc == SQLITE_NOTFOUND)
        return SQLITE_OK;
    return rc == SQLITE_OK ? real(f)->pMethods->xFileSize(real(f), size) : rc;
}

/* A WAL has no locks of its own, and nothing can be told or asked of it. */
static int wal_lock(sqlite3_file *f, int level)
{
    (void)f, (void)level;
    return SQLITE_OK;
}

static int wal_check_reserved(sqlite3_file *f, int *out)
{
    (void)f;
    *out = 0;
    return SQLITE_OK;
}

static int wal_file_control(sqlite3_file *f, int op, void *arg)
{
    (void)f, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int wal_sector_size(sqlite3_file *f)
{
    (void)f;
    return SECTOR;
}

static int wal_characteristics(sqlite3_file *f)
{
    (void)f;
    return 0;
}

/* ---- refused ---- */

static int refuse_write(sqlite3_file *f, const void *buf, int amount, sqlite3_int64 offset)
{
    (void)f, (void)buf, (void)amount, (void)offset;
    return SQLITE_READONLY;
}

static int refuse_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    (void)f, (void)size;
    return SQLITE_READONLY;
}

/* SQLite takes a WAL beside an empty database for a leftover of another one. */
static int refuse_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    static const char wal[] = "-wal";
    size_t len = strlen(name), end = sizeof wal - 1;

    (void)vfs, (void)sync_dir;
    if (watching && len > end && strcmp(name + len - end, wal) == 0)
        watching->orphaned_wal = true;
    return SQLITE_READONLY;
}

/* Nothing was written, so nothing is to be synced. */
static int ignore_sync(sqlite3_file *f, int flags)
{
    (void)f, (void)flags;
    return SQLITE_OK;
}

/* ---- passed through ---- */

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

/* ---- shared memory ---- */

static int shm_in_memory(struct guarded_file *g, int region, int size, int extend,
                         void volatile **out)
{
    while (extend && region >= g->shm_count) {
        g->shm = xrealloc(g->shm, (size_t)(g->shm_count + 1) * sizeof *g->shm);
        g->shm[g->shm_count++] = xcalloc(1, (size_t)size);
    }
    *out = region < g->shm_count ? g->shm[region] : NULL;
    return SQLITE_OK;
}

static int guarded_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out)
{
    struct guarded_file *g = guarded(f);

    if (g->shm)
        return shm_in_memory(g, region, size, extend, out);
    int rc = real(f)->pMethods->xShmMap(real(f), region, size, extend, out);
    if ((rc & 0xff) != SQLITE_CANTOPEN || region != 0 || !sqlite_vfs_frozen(g->name))
        return rc;
    if (watching)
        watching->frozen = true;
    return shm_in_memory(g, region, size, 1, out);
}

static int guarded_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    if (guarded(f)->shm)
        return SQLITE_OK;
    return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
}

static void guarded_shm_barrier(sqlite3_file *f)
{
    if (!guarded(f)->shm)
        real(f)->pMethods->xShmBarrier(real(f));
}

/* Never deletes the -shm: another process may just have opened it. */
static int guarded_shm_unmap(sqlite3_file *f, int delete_it)
{
    struct guarded_file *g = guarded(f);

    (void)delete_it;
    for (int i = 0; i < g->shm_count; i++)
        free(g->shm[i]);
    free(g->shm);
    g->shm = NULL;
    g->shm_count = 0;
    return real(f)->pMethods->xShmUnmap(real(f), 0);
}

/* "36 35 98:0 /root /mount/point options... - type source superoptions": the options before the
 * dash are this mount's, those at the end are the file system's. Format: proc(5). */
static bool is_read_only_mount_of(char *line, dev_t dev)
{
    char wanted[32], has[32];
    char *last;

    snprintf(wanted, sizeof wanted, "%u:%u", major(dev), minor(dev));
    if (sscanf(line, "%*s %*s %31s", has) != 1 || strcmp(has, wanted) != 0)
        return false;
    line[strcspn(line, "\n")] = '\0';
    last = strrchr(line, ' ');
    return last && strncmp(last, " ro", 3) == 0 && (last[3] == ',' || last[3] == '\0');
}

bool sqlite_vfs_frozen(const char *path)
{
    struct stat st;
    char *line = NULL;
    size_t cap = 0;
    bool found = false;

    /* Major 0 is a file system without a block device of its own: a network, an overlay. */
    if (stat(path, &st) != 0 || major(st.st_dev) == 0)
        return false;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return false;
    while (!found && getline(&line, &cap, f) >= 0)
        found = is_read_only_mount_of(line, st.st_dev);
    free(line);
    fclose(f);
    return found;
}

/* ---- opening ---- */

static int guarded_close(sqlite3_file *f)
{
    int rc = SQLITE_OK;

    if (real(f)->pMethods)
        rc = real(f)->pMethods->xClose(real(f));
    if (guarded(f)->own_name)
        sqlite3_free_filename(guarded(f)->own_name);
    return rc;
}

/* Version 2: shared memory, but no mmap of the database, whose reads would not come here. */
static const sqlite3_io_methods db_methods = {
    .iVersion = 2,
    .xClose = guarded_close,
    .xRead = db_read,
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
    .xShmMap = guarded_shm_map,
    .xShmLock = guarded_shm_lock,
    .xShmBarrier = guarded_shm_barrier,
    .xShmUnmap = guarded_shm_unmap,
};

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = guarded_close,
    .xRead = wal_read,
    .xWrite = refuse_write,
    .xTruncate = refuse_truncate,
    .xSync = ignore_sync,
    .xFileSize = wal_file_size,
    .xLock = wal_lock,
    .xUnlock = wal_lock,
    .xCheckReservedLock = wal_check_reserved,
    .xFileControl = wal_file_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_characteristics,
};

/* A -shm that this user made would be his, and the application could not write any more. */
static bool may_make_shm(const char *name)
{
    struct stat st;

    return geteuid() == 0 || (stat(name, &st) == 0 && st.st_uid == geteuid());
}

static int open_db(struct guarded_file *g, int flags, int *out_flags)
{
    const char *parameters[] = {"readonly_shm", "1"};
    const char *name = g->name;

    if (!may_make_shm(name)) {
        g->own_name = sqlite3_create_filename(name, sqlite3_filename_journal(name),
                                              sqlite3_filename_wal(name), 1, parameters);
        if (!g->own_name)
            return SQLITE_NOMEM;
        name = g->own_name;
    }
    int rc = g->vfs->xOpen(g->vfs, name, g->real, flags, out_flags);
    if (rc == SQLITE_OK)
        g->file.pMethods = &db_methods;
    else if (g->own_name)
        sqlite3_free_filename(g->own_name);
    return rc;
}

static int open_wal(struct guarded_file *g, int *out_flags)
{
    int rc = wal_find(g);

    if (rc != SQLITE_OK && rc != SQLITE_NOTFOUND)
        return rc;
    g->file.pMethods = &wal_methods;
    if (out_flags)
        *out_flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_WAL;
    return SQLITE_OK;
}

static int guarded_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                        int *out_flags)
{
    const int writing = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_DELETEONCLOSE;
    const int for_reading = (flags & ~writing) | SQLITE_OPEN_READONLY;
    struct guarded_file *g = (struct guarded_file *)file;
    sqlite3_vfs *own = vfs->pAppData;

    /* Temporary files of a sort are SQLite's own; a journal is only looked at. */
    if (!(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)))
        return own->xOpen(own, name, file, flags & SQLITE_OPEN_MAIN_JOURNAL ? for_reading : flags,
                          out_flags);
    memset(g, 0, sizeof *g + (size_t)own->szOsFile);
    g->vfs = own;
    g->name = name;
    g->real = (sqlite3_file *)(g + 1);
    return flags & SQLITE_OPEN_WAL ? open_wal(g, out_flags) : open_db(g, for_reading, out_flags);
}

static sqlite3_vfs guarded_vfs;
static const char *registered; /* written once, under once */

static void register_vfs(void)
{
    sqlite3_vfs *own = sqlite3_vfs_find("unix");

    if (!own)
        return;
    /* The other functions use nothing of the VFS they are called with but mxPathname. */
    guarded_vfs = *own;
    guarded_vfs.zName = "keepfs-source";
    guarded_vfs.pNext = NULL;
    guarded_vfs.pAppData = own;
    guarded_vfs.szOsFile = (int)sizeof(struct guarded_file) + own->szOsFile;
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
