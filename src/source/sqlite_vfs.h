/* SPDX-License-Identifier: MIT */
/*
 * sqlite_vfs.h - a VFS for reading somebody else's database: it has no write.
 *
 * It wraps SQLite's own VFS. Reads, locks and shared memory pass through. Database, journal and WAL
 * are opened for reading only, whatever SQLite asks for, and a write, truncation or deletion of
 * them is refused, so that "keepfs never writes to what it backs up" does not rest on flags and
 * pragmas alone.
 *
 * Side files of a database in WAL mode:
 *   -wal   never made, changed or removed. If there is none, an empty one is played; if another
 *          process makes it meanwhile, that one is read from then on.
 *   -shm   holds the locks that all readers and writers share, so that nobody can read without it.
 *          If no process has the database open SQLite makes it, with the database's owner and
 *          mode. It stays behind, as after any reader that does not checkpoint: to delete it here
 *          could take it from under a process that opened the database meanwhile. The next process
 *          to open the database begins by emptying it, and the last to close it removes it.
 *          It is not made by a user who is neither root nor the database's owner, since it would
 *          belong to him and lock the application out.
 *          If it cannot be made because the whole file system is read-only, and so that nobody can
 *          write to the database, it is played in memory.
 *
 * It also keeps page 1 as the pager read it: SQLite's backup API changes a few bytes of that page
 * in the copy, and they are put back from here.
 */
#ifndef KEEPFS_SOURCE_SQLITE_VFS_H
#define KEEPFS_SOURCE_SQLITE_VFS_H

#include <stdbool.h>
#include <stddef.h>

enum { SQLITE_PAGE_MAX = 65536 };

/* What was seen while reading one database. */
struct sqlite_view {
    int read_errno;    /* of the last read that failed; 0 if none did */
    bool truncated;    /* a page was read that the database file does not hold to its end */
    bool orphaned_wal; /* the database is empty and its WAL is not: SQLite wanted to delete that */
    bool frozen;       /* the -shm is played in memory */
    size_t page1_size; /* 0 until page 1 was read */
    unsigned char page1[SQLITE_PAGE_MAX]; /* as it was last read from the file or its WAL */
};

/* Registers it, once; the name for sqlite3_open_v2, or NULL if SQLite refuses. Any thread. */
const char *sqlite_vfs_name(void);

/* What the calling thread reads through this VFS is noted in *view until called with NULL. A
 * connection is used by one thread here, so that a thread stands for a connection. */
void sqlite_vfs_watch(struct sqlite_view *view);

/* True if nothing on this machine can write to the file: the file system on its block device is
 * read-only as a whole, not only where it is mounted here. */
bool sqlite_vfs_frozen(const char *path);

#endif
