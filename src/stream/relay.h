/* SPDX-License-Identifier: MIT */
/*
 * relay.h - lets both ends of a chain work at once: what is written to it is handed on by a thread.
 */
#ifndef KEEPFS_STREAM_RELAY_H
#define KEEPFS_STREAM_RELAY_H

#include "keepfs/stream.h"

/*
 * A writer that copies what it gets into a few buffers of LIMIT_STREAM_CHUNK bytes, from which one
 * thread of its own writes to `next`, in order. Memory is bounded by the buffers. A failure of
 * `next` is the result of a later write or of finish, unchanged. finish joins the thread, then
 * finishes `next` on the caller's; free joins it too, after at most one write that is under way.
 *
 * Owns `next`. Gives `next` itself back if no thread can be had: the chain works all the same.
 */
struct writer *relay_new(struct writer *next);

#endif
