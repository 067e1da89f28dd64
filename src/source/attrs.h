/* SPDX-License-Identifier: MIT */
/*
 * attrs.h - extended attributes and POSIX ACLs of an open file, copied into a tar entry.
 *
 * All attributes that the kernel lists to this process are taken, of every namespace; an ACL is
 * stored as one, with the names of its users and groups, not as an attribute.
 *
 * Threads: one at a time per struct attrs.
 */
#ifndef KEEPFS_SOURCE_ATTRS_H
#define KEEPFS_SOURCE_ATTRS_H

#include "source/tar.h"

struct attrs;

struct attrs *attrs_new(void);
void attrs_free(struct attrs *a); /* NULL is fine */

/*
 * Adds what `fd` has to the entry that was begun in `t`. `by_path` is for descriptors opened with
 * O_PATH (links, devices, pipes, and what cannot be opened): the kernel gives their attributes only
 * under /proc/self/fd. Costs one system call if there are none. Returns 0 or an errno; what was
 * read until then is in the entry.
 */
int attrs_add(struct attrs *a, int fd, bool by_path, struct tar *t);

#endif
