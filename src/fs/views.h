/* SPDX-License-Identifier: MIT */
/*
 * views.h - directories of symlinks to jobs and records, each by something that they have.
 *
 *   /records/by-store/STORE/ULID      NODE_BY_STORE / NODE_RECORD_STORE / NODE_BY_STORE_LINK
 *   /records/by-date/YYYY/MM/DD/ULID  NODE_BY_DATE / NODE_YEAR / _MONTH / _DAY / NODE_BY_DATE_LINK
 *   /records/pinned/ULID              NODE_PINNED / NODE_PINNED_LINK
 *   /stores/ID/jobs/ULID              NODE_STORE_JOBS / NODE_STORE_JOB_LINK
 *   /stores/ID/records/ULID           NODE_STORE_RECORDS / NODE_STORE_RECORD_LINK
 *   /stores/ID/at/TIME                NODE_STORE_AT / NODE_AT_LINK
 *
 * Targets are relative, so that they hold inside any mount point. Dates are those of created_at,
 * UTC. by-store has the stores that have a record, also one that is in no configuration any more;
 * a date's directory is there while a record of it is. Links are in the order of rows, which is
 * the one in which jobs and records came.
 *
 * at/TIME is the newest good record of the store that was made at that time or before. TIME is as
 * in util/moment.h: 2026-09-01T12:00, 2026-09-01T12:00:30Z, 2026-09-01T12:00+02:00, 2026-09-01, and
 * what any created_at says. What is left out is zero: 2026-09-01 is the moment at which that day
 * begins, so that whoever goes back to before a mishap of that day never gets a backup of after it;
 * for the last one of a day write the day after. at/ is empty to a listing; what is no time, or
 * older than the first record, is ENOENT. Two times that give one record give one inode.
 *
 * Nothing here but the fixed directories is final: a link goes with what it leads to and a date or
 * store with its last link, and nobody tells the kernel. To remove anything here is EPERM.
 *
 * These functions are for tree.c and node.c, and return 0 or an errno. A kind that is no view is
 * taken for a fixed directory without ids: loaded, final, empty, in the root. Threads: any.
 */
#ifndef KEEPFS_FS_VIEWS_H
#define KEEPFS_FS_VIEWS_H

#include "fs/tree.h"

bool view_is_link(enum node_kind kind);
bool view_final(enum node_kind kind);

/* Fills in what a node with `tree`, `node` and `kind` is about. ENOENT if it is gone. */
int view_load(struct subject *s);
/* Where a link leads. */
void view_target(const struct subject *s, struct buf *out);
/* The directory that a directory is in. */
node_id view_parent(const struct subject *s);

/* The node of a name in a directory that was loaded; a date need not be there. */
int view_find(const struct subject *dir, const char *name, node_id *out);
/* As tree_list, without "." and "..". */
int view_list(const struct subject *dir, uint64_t cookie, tree_entry_fn fn, void *ctx);

#endif
