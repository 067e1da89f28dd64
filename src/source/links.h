/* SPDX-License-Identifier: MIT */
/*
 * links.h - files with several names: which of them were stored already, and as what.
 *
 * An inode number alone does not tell a file: it is reused when a file is deleted, also during a
 * backup, and the new file would be stored as a link to the old one's contents. The time of birth
 * is part of the identity where the file system knows it.
 */
#ifndef KEEPFS_SOURCE_LINKS_H
#define KEEPFS_SOURCE_LINKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Above this many files whose other names are still to come, the rest is stored once per name. */
#define LINKS_MAX ((size_t)1 << 24)

struct links;

struct link_id {
    dev_t dev;
    ino_t ino;
    int64_t birth_sec;
    uint32_t birth_nsec;
};

/* The identity of the open file `fd`, whose stat is `st`. */
struct link_id link_id_of(int fd, const struct stat *st);

struct links *links_new(void);
void links_free(struct links *l); /* NULL is fine */

/* The path under which the file was stored, or NULL. Valid until the next call. Each call counts
 * as one name of the file; it is forgotten when all have been seen. */
const char *links_find(struct links *l, const struct link_id *id);

/* The file was stored as `path`; it has `names` names in all. False if there is no room. */
bool links_add(struct links *l, const struct link_id *id, const char *path, nlink_t names);

#endif
