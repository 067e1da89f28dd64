/* SPDX-License-Identifier: MIT */
/*
 * late.h - the entries of /overdue: the stores of which a repo is overdue.
 *
 * Nothing is kept: each question is answered from the catalog. Functions return 0 or an errno.
 * Threads: any.
 */
#ifndef KEEPFS_FS_LATE_H
#define KEEPFS_FS_LATE_H

#include "fs/tree.h"

/* Since when the store is overdue; ENOENT if it is not. */
int late_since(const struct tree *t, const struct store *store, time_ms *since);
/* The stores of `config` with a row behind `after` that are overdue, in the order of their rows,
 * until `fn` returns false; it may call the tree. */
int late_list(const struct tree *t, const struct config *config, int64_t after, catalog_list_fn fn,
              void *ctx);

#endif
