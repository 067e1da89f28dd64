/* SPDX-License-Identifier: MIT */
/*
 * sqlite_vfs.h - a VFS for reading somebody else's database: it has no write.
 *
 * It wraps SQLite's own VFS. Reads, locks and shared memory pass through; a write, truncation or
 * deletion of the database, its journal or its WAL is refused whatever SQLite may want, so that
 * "keepfs never writes to what it backs up" does not rest on flags and pragmas alone.
 *
 * What a reader cannot do without stays: for a database in WAL mode that no process has open,
 * SQLite makes an empty -wal and a -shm, with the database's owner and mode, to have something to
 * lock. They stay behind as after any reader, and the application's next close removes them; to
 * delete them here could take them from under a process that opened the database meanwhile.
 *
 * It also keeps page 1 as the pager read it: SQLite's backup API changes a few bytes of that page
 * in the copy, and they are put back from here.
 */
#ifndef KEEPFS_SOURCE_SQLITE_VFS_H
#define KEEPFS_SOURCE_SQLITE_VFS_H

#include "keepfs/error.h"

#include <stddef.h>

enum { SQLITE_PAGE_MAX = 65536 };

/* Page 1 as it was last read from the database file or its WAL. */
struct sqlite_page1 {
    size_t size; /* 0 until it was read */
    unsigned char data[SQLITE_PAGE_MAX];
};

/* Registers it, once; the name for sqlite3_open_v2, or NULL if SQLite refuses. Any thread. */
const char *sqlite_vfs_name(void);

/* Reads of page 1 by the calling thread, through this VFS, go to *page1 until called with NULL.
 * A connection is used by one thread here, so that a thread stands for a connection. */
void sqlite_vfs_capture(struct sqlite_page1 *page1);

#endif
