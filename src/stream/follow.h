/* SPDX-License-Identifier: MIT */
/*
 * follow.h - streams a file into a writer while it is still being written.
 *
 * For a source that must not be held up: it stages as fast as it can, and what is staged flows on
 * at the pace of whatever is behind the writer, at the same time. The file is the buffer between.
 *
 *   follower_new -> follower_ready, again and again -> follower_finish -> follower_free
 *
 * The writer is used by the follower's thread alone until finish or free has returned. Threads: one
 * calls these functions.
 */
#ifndef KEEPFS_STREAM_FOLLOW_H
#define KEEPFS_STREAM_FOLLOW_H

#include "keepfs/stream.h"

#include <stdbool.h>

struct follower;

/* Will write the bytes of `fd` to `out`, from the file's beginning, but for the first `head_len`
 * (at most LIMIT_STREAM_CHUNK): those are taken from `head`, which is copied, whatever the file has
 * there. `fd` and `out` stay the caller's. If no thread can be had, finish does all the work. */
struct follower *follower_new(int fd, const void *head, size_t head_len, struct writer *out);

/* All bytes before `size` are in the file as they will stay. `size` never goes back. */
void follower_ready(struct follower *f, uint64_t size);

/* Has a write failed? Then there is no point in going on; finish has the error. */
bool follower_failed(struct follower *f);

/* The file is complete, with `size` bytes: returns when all were written, or with the first error:
 * the writer's, unchanged, or one of reading the file, classified with SIDE_STATE. */
int follower_finish(struct follower *f, uint64_t size, struct error *err);

/* Ends the thread, after at most one write that is under way. NULL is fine. */
void follower_free(struct follower *f);

#endif
