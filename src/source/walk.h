/* SPDX-License-Identifier: MIT */
/*
 * walk.h - the names of a directory tree in a fixed order: sorted by bytes within each directory,
 * a directory before what is in it.
 *
 *   walk_new -> walk_enter(root) -> { walk_next -> look at it -> walk_enter if it is a directory }
 *   until walk_next returns false -> walk_free
 *
 * The walk knows names only. The caller opens each one relative to its directory's descriptor,
 * decides what it is and whether to go into it; no path is ever resolved, so paths may be longer
 * than PATH_MAX and nobody can redirect the walk by replacing a directory with a symlink.
 *
 * Threads: one at a time per walk.
 */
#ifndef KEEPFS_SOURCE_WALK_H
#define KEEPFS_SOURCE_WALK_H

#include "keepfs/cancel.h"

#include <stddef.h>

/* Names of one directory and of those it is in, held at the same time. */
#define WALK_NAMES_MAX ((size_t)1 << 30)

struct walk;

/* Valid until the next call of any walk function. */
struct walk_entry {
    int dirfd;        /* the directory it is in; belongs to the walk */
    const char *name; /* its last component */
    const char *path; /* relative to the root: "etc/fstab" */
};

/* A request of `cancel` cuts the reading of a directory short; the caller then sees it too. */
struct walk *walk_new(const struct cancel *cancel);
void walk_free(struct walk *w); /* NULL is fine; closes what is still open */

/* The next name; false when there are none left. */
bool walk_next(struct walk *w, struct walk_entry *out);

/*
 * Goes into the entry that was returned last (at first: into the root), whose open directory `fd`
 * is; the walk closes it in any case. Returns 0 or an errno: the names read until then still
 * follow. A directory that was removed meanwhile has no names, which is no error.
 */
int walk_enter(struct walk *w, int fd);

/* True if walk_enter must not be called: LIMIT_TREE_DEPTH directories are open. */
bool walk_is_full(const struct walk *w);

#endif
