/* SPDX-License-Identifier: MIT */
/*
 * removal.h - unlink and rmdir: how a backup is deleted at the mount.
 *
 *   rmdir records/ID           deletes the backup
 *   unlink records/ID/payload  deletes the backup; what remains is an empty shell of a directory
 *
 * and nothing else at the mount can be removed. `rm -r` does the second, removes every other name
 * that it listed before, and then the directory. By then the record is gone, so those requests are
 * answered from a copy: the record is `leaving`. Of a leaving record the names other than payload
 * are found and can be unlinked, to no effect, and its directory is empty; by its ULID it is still
 * found, so that its directory can be removed, but it is not listed. It has left when its
 * directory is removed, or after LEAVING_MS. At most LEAVING_MAX are remembered; then the oldest
 * has left.
 *
 * payload is listed first, since clients unlink in the order of the listing. Any other name of a
 * live record is EPERM, so that a client with another order harms nothing.
 *
 * Functions return 0 or an errno. Threads: any.
 */
#ifndef KEEPFS_FS_REMOVAL_H
#define KEEPFS_FS_REMOVAL_H

#include "fs/tree.h"

enum {
    LEAVING_MAX = 64,
    LEAVING_MS = 60000, /* far more than a client needs for twenty names */
};

/* `shell` is the record whose directory is left, to be gone after LEAVING_MS; "" if there is none.
 * Refusals leave a sentence in last_error; deletions, done or refused, a line in the audit. */
int tree_unlink(struct tree *t, node_id parent, const char *name, uid_t uid, pid_t pid,
                char shell[ULID_LEN + 1]);
int tree_rmdir(struct tree *t, node_id parent, const char *name, uid_t uid, pid_t pid);

/* ---- for tree.c and node.c ---- */

struct leaving;
struct leaving *leaving_new(void);
void leaving_free(struct leaving *l); /* NULL is fine */
/* False if no such record is leaving. */
bool leaving_at(struct tree *t, int64_t row, struct record *out);
bool leaving_find(struct tree *t, const char *ulid, struct record *out);

#endif
