/* SPDX-License-Identifier: MIT */
/*
 * exclude.h - patterns of what is left out of a tree.
 *
 * A pattern is fnmatch(3)'s. One with a '/' is matched against the whole path relative to the
 * store's root, where '*' stops at a '/'; a leading '/' only says so. One without is matched
 * against the last component, anywhere in the tree. A '/' at the end is ignored.
 *
 * Threads: immutable once made.
 */
#ifndef KEEPFS_SOURCE_EXCLUDE_H
#define KEEPFS_SOURCE_EXCLUDE_H

#include "keepfs/settings.h"

struct exclude;

/* The values of the repeatable setting `key`. */
struct exclude *exclude_new(const struct settings *settings, const char *key);
void exclude_free(struct exclude *x); /* NULL is fine */

bool exclude_matches(const struct exclude *x, const char *path, const char *name);

#endif
