/* SPDX-License-Identifier: MIT */
/*
 * content.h - the bytes of a regular file on their way into a tar entry.
 *
 *   tar_begin -> content_map -> tar_header -> content_copy -> tar_end
 *
 * The entry's size is decided by its header; a file that changes its size meanwhile is cut or
 * padded with zeros to it. Threads: one at a time per struct content.
 */
#ifndef KEEPFS_SOURCE_CONTENT_H
#define KEEPFS_SOURCE_CONTENT_H

#include "source/tar.h"

/* Ranges of data kept for one file; what comes behind them is read as data, holes and all. */
#define CONTENT_RANGES_MAX ((size_t)1 << 20)

struct content;

struct content *content_new(struct cancel *cancel);
void content_free(struct content *c); /* NULL is fine */

/* Finds out which ranges of the open file hold data, and tells the entry if there are holes. */
void content_map(struct content *c, int fd, const struct stat *st, struct tar *t);

/* What was wrong with the file while it was copied; all zero if nothing was. */
struct content_faults {
    int errnum;          /* of the first read that failed */
    off_t offset;        /* where it failed */
    uint64_t lost_bytes; /* in all; zeros stand for them */
    bool short_of;       /* the file ended early */
};

/* Copies what content_map found. Where a read fails it writes zeros for that piece and goes on if
 * `tolerate`, else it stops there and leaves the judgement to the caller. -1 is for a failed output
 * and for a cancel. */
int content_copy(struct content *c, int fd, bool tolerate, struct tar *t,
                 struct content_faults *faults, struct error *err);

#endif
