/* SPDX-License-Identifier: MIT */
/*
 * seekable.h - zstd in independent frames, with a table to find them: written in parallel, read at
 * any offset, and decoded by `zstd -dc` as it is.
 *
 *   frame 0 | frame 1 | ... | frame n-1 | seek table
 *
 * Each frame is a complete zstd frame (RFC 8878) of SEEKABLE_FRAME bytes of content, the last one
 * of 1 to that many, with its content size and content checksum in it. The seek table is zstd's
 * seekable format, version 0.1.0 (contrib/seekable_format/zstd_seekable_compression_format.md in
 * zstd's source), all little endian:
 *
 *   u32 0x184D2A5E, u32 size of what follows
 *   for each frame: u32 compressed size, u32 decompressed size     (no checksums: frames have them)
 *   u32 number of frames, u8 descriptor 0, u32 0x8F92EAB1
 *
 * An empty stream is a seek table without frames.
 *
 * The reader is strict, as its input may be anybody's: the table ends the stream; its sizes add up
 * to exactly what is before it; every frame but the last has the same content size, at most
 * SEEKABLE_FRAME_MAX; at most LIMIT_FRAMES frames; reserved bits are 0. Tables with checksums are
 * read, their checksums ignored. Each frame must have exactly the sizes that the table says, a
 * content checksum and no dictionary, and sizes that zstd can give: at most 128 KiB of content for
 * each 4 bytes, at most ZSTD_compressBound of its content, so that a small stream cannot ask for
 * much memory. All else is ERR_INTEGRITY_FAILED, and the message begins with "damaged frame N"
 * (from 0) or "damaged seek table". Failures of `stored` are passed on unchanged.
 */
#ifndef KEEPFS_STREAM_SEEKABLE_H
#define KEEPFS_STREAM_SEEKABLE_H

#include "stream/frames.h"

#define SEEKABLE_FRAME ((size_t)1 << 20)
#define SEEKABLE_FRAME_MAX                                                                         \
    ((size_t)4 << 20) /* to read: nothing vouches for what the table asks for */
#define SEEKABLE_LEVEL_MIN (-7)
#define SEEKABLE_LEVEL_MAX 19

/*
 * A writer that compresses what it gets at `level`, SEEKABLE_LEVEL_MIN to SEEKABLE_LEVEL_MAX but
 * not 0, and writes it to `next`, which it owns.
 *
 * `workers` threads compress (0 = one for each CPU that the process may use; at most
 * LIMIT_ZSTD_WORKERS), one more writes their frames in order: `next` is used by that thread alone,
 * and by finish and free after it was joined. They start with the second frame: a stream of at most
 * SEEKABLE_FRAME bytes is compressed by finish. Memory is bounded: a few frames for each worker,
 * and eight bytes for each frame of the stream (the table); a write waits while that much is under
 * way. Equal input and level give equal bytes, whatever the number of workers and the sizes of the
 * writes.
 *
 * The failure of `next`, or of zstd, or to start the threads (ERR_INTERNAL) is the result of a
 * later write or of finish, unchanged, and of each one after that. A stream of more than
 * LIMIT_FRAMES frames fails with ERR_DESTINATION_CONFIG_INVALID. free ends and joins all threads at
 * once, after at most one write of `next` and one frame per worker that are under way.
 *
 * If zstd has no memory, *out is not set: -1 with ERR_INTERNAL, and `next` has been freed.
 */
int seekable_writer_new(struct writer *next, int level, unsigned workers, struct writer **out,
                        struct error *err);

/*
 * The content of the seekable zstd stream `stored` as a view over `cache`. Reads the seek table.
 * Owns `stored` in any case: it is freed when this fails. Eight bytes of memory for each frame.
 */
int seekable_view_new(struct view *stored, struct frame_cache *cache, bool prefetch,
                      struct view **out, struct error *err);

#endif
