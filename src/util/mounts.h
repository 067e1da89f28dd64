/* SPDX-License-Identifier: MIT */
/*
 * mounts.h - what /proc/self/mountinfo says of a mount point. Format: proc(5).
 */
#ifndef KEEPFS_UTIL_MOUNTS_H
#define KEEPFS_UTIL_MOUNTS_H

/* The source of the topmost mount on `path` (absolute, resolved) if it is of `type`,
 * heap allocated; NULL otherwise. Does not touch the mount itself, which may hang or be dead. */
char *mounts_source_at(const char *path, const char *type);

/* Takes the mount on `path` away, lazily: by umount2(2), or by fusermount3 for an ordinary user.
 * 0, or -1 with errno. */
int mounts_detach(const char *path);

#endif
