/* SPDX-License-Identifier: MIT */
/*
 * frames.h - random access to a stream that is stored in frames, through a small shared cache.
 *
 * A codec (zstd, the envelope) knows how to decode one frame by its number: that is a
 * frame_source. framed_view_new makes a view of it, which decodes a frame when a byte of it is
 * asked for and keeps it in the cache. All views of one mount share one cache, so that memory is
 * bounded by LIMIT_OPEN_FRAMES frames, and by LIMIT_FRAME_BYTES as long as no more are read at this
 * moment, however many files are open; the least recently used frame that nobody copies from goes
 * first. Views may lie on each other: each layer of a payload keeps
 * its own frames in the same cache.
 *
 *   - Two threads that need the same frame decode it once: the second waits for the first.
 *   - A frame that cannot be decoded is not kept: each read of it fails with the codec's error. A
 *     read that touches such a frame fails as a whole.
 *   - A view with `prefetch` that is read in order, frame after frame, has the next ones decoded by
 *     the cache's own threads (named "keepfs-prefetch") while the reader copies. Errors of these
 *     are dropped: whoever reads the frame meets them.
 *   - view_free drops the view's frames and their memory, after waiting for a prefetch of it that
 *     is under way; an idle cache holds no frame's memory.
 *
 * A load may read a framed view below it. While it does, its thread holds at most two slots, so
 * LIMIT_OPEN_FRAMES must be at least twice the threads that read: FUSE workers and prefetchers.
 *
 * Threads: any, in all functions but the new and free of the cache.
 */
#ifndef KEEPFS_STREAM_FRAMES_H
#define KEEPFS_STREAM_FRAMES_H

#include "keepfs/stream.h"

#include <stdbool.h>

/* Memory for a load to work in (stored bytes, before they are decoded); kept between loads. */
struct frame_scratch;
/* At least `size` bytes, valid until the load returns or asks again. */
void *frame_scratch(struct frame_scratch *s, size_t size);

struct frame_source;
struct frame_source_ops {
    /* Writes the `len` bytes of content of frame `index` to out, all of them, or fails. Called by
     * several threads at once, for different frames. */
    int (*load)(struct frame_source *s, uint64_t index, void *out, size_t len,
                struct frame_scratch *scratch, struct error *err);
    void (*free)(struct frame_source *s);
};
struct frame_source {
    const struct frame_source_ops *ops;
    uint64_t size;     /* of the content, in bytes */
    size_t frame_size; /* content bytes of every frame but the last, which has the rest; not 0 */
};

struct frame_cache;

/* `prefetchers` threads, at most LIMIT_PREFETCHERS; 0 for a cache of one sequential reader, which
 * keeps an eighth of the bytes. The
 * threads start with the first prefetch; if none can be had, there is no prefetch. */
struct frame_cache *frame_cache_new(unsigned prefetchers);
/* All its views are freed before. NULL is fine. */
void frame_cache_free(struct frame_cache *c);

/* Owns `source`. */
struct view *framed_view_new(struct frame_cache *c, struct frame_source *source, bool prefetch);

#endif
