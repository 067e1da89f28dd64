/* SPDX-License-Identifier: MIT */
/*
 * tar.h - a pax archive written to a run's output, one entry after another.
 *
 *   tar_new -> { tar_begin -> add what the entry has besides -> tar_header -> tar_data/tar_hole ->
 *   tar_end } -> tar_finish -> tar_free
 *
 * Between tar_begin and tar_header more may be added: a link's target, the data ranges of a sparse
 * file, and attributes, on tar_entry(). Everything else of the entry is described by tar_begin.
 *
 * Errors: the output's own error comes back unchanged. After a failure only tar_free is allowed,
 * and the archive has no end then. Threads: one at a time per tar.
 */
#ifndef KEEPFS_SOURCE_TAR_H
#define KEEPFS_SOURCE_TAR_H

#include "keepfs/source.h"

#include <sys/stat.h>

struct archive_entry;
struct tar;

struct tar *tar_new(struct source_run *run, struct error *err);
void tar_free(struct tar *t); /* NULL is fine */

/* Begins the entry `path` (a directory's ends with '/') with type, mode, owner, mtime, size and
 * device of `st`. */
void tar_begin(struct tar *t, const char *path, const struct stat *st);
/* It is another name of the entry that was stored as `target`, and has no data of its own. */
void tar_hardlink(struct tar *t, const char *target);
void tar_symlink(struct tar *t, const char *target);
/* Only its ranges, in order, hold data; the last is (size, 0) if the file ends with a hole. */
void tar_range(struct tar *t, off_t offset, off_t len);
struct archive_entry *tar_entry(struct tar *t);
int tar_header(struct tar *t, struct error *err);

/* The entry's bytes in order: data, or bytes between two data ranges, which take no room. What is
 * not given by tar_end becomes zeros. */
int tar_data(struct tar *t, const void *data, size_t len, struct error *err);
int tar_hole(struct tar *t, uint64_t len, struct error *err);
int tar_end(struct tar *t, struct error *err);

/* Writes the end of the archive; all bytes are in the output then. */
int tar_finish(struct tar *t, struct error *err);

/* A name for an id, as the archive has it; NULL if there is none, or if it cannot be looked up,
 * which is logged. For want of memory or descriptors tar_header fails. Valid until the next call.
 */
const char *tar_user(struct tar *t, uid_t uid);
const char *tar_group(struct tar *t, gid_t gid);

#endif
