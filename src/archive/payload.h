/* SPDX-License-Identifier: MIT */
/*
 * payload.h - the way back: from an archive in a destination to the bytes that the source wrote.
 *
 *   payload.bin -> [digest] -> [envelope] -> [zstd] -> content
 *
 * Encrypted, compressed or raw, what is read is the same. There is one implementation of it, for
 * the mount's `payload`, for extract and verify, for reading back after a write, and for restores.
 *
 *   1. archive_examine   manifest, policy, key, MAC, sizes: is this archive what it says, and may
 *                        it be read? Reads no payload.
 *   2. payload_open      random access; each frame is checked before a byte of it is given
 *      or payload_reader the whole in order; at its finish every stored byte has been read and
 *                        compared with the manifest's digest
 *
 * Random access to a payload that is neither compressed nor encrypted has nothing to check bytes
 * by: only payload_reader does.
 *
 * Threads: an archive belongs to one thread; payload_pread may be called from any number at once.
 */
#ifndef KEEPFS_ARCHIVE_PAYLOAD_H
#define KEEPFS_ARCHIVE_PAYLOAD_H

#include "archive/policy.h"
#include "archive/publish.h"

/* An archive that may be read. */
struct archive {
    struct destination *destination;     /* belongs to the caller */
    const struct archive_policy *policy; /* likewise */
    struct manifest manifest;            /* content_bytes is known, whatever its version */
    struct key *key;                     /* it is encrypted with; NULL if it is not */
    uint64_t manifest_bytes;
    uint64_t ids_bytes; /* size of payload_ids; 0 if there is none */
};

/*
 * Reads the manifest and judges, in this order: its form, that it is of `ulid`, the policy, the
 * key, the MAC, that all objects are there with their sizes. What is in them is not read, but for
 * the header and one frame of an envelope v1, which has no other way to tell its key. The archive
 * is released by the caller after success only.
 */
int archive_examine(struct destination *d, const char *ulid, const struct archive_policy *policy,
                    struct archive *out, struct error *err);
void archive_release(struct archive *a);

/* payload_ids: as many ids as the manifest says, sorted, each once, with its digest. */
int archive_check_ids(const struct archive *a, struct error *err);

struct payload;

/* `a` is not needed after this returns. */
int payload_open(const struct archive *a, struct frame_cache *cache, bool prefetch,
                 struct payload **out, struct error *err);
uint64_t payload_size(const struct payload *p);
/* Does each frame have a tag or checksum, so that no wrong byte is given? */
bool payload_checked(const struct payload *p);
/* `len` bytes of content at `offset`, or as many as there are: how many, or -1. */
ssize_t payload_pread(struct payload *p, void *buf, size_t len, uint64_t offset, struct error *err);
void payload_close(struct payload *p); /* NULL is fine */

/* The whole content in order. finish reads what is left and then judges all stored bytes. The cache
 * and `a` must outlive it; `a` is not needed but for opening. */
int payload_reader(const struct archive *a, struct frame_cache *cache, struct reader **out,
                   struct error *err);

/* The same of a payload that is not published yet: of the object, which it owns in any case, the
 * manifest as it will be written, and the key it was encrypted with (NULL for none). */
int payload_reader_new(struct object *object, const struct manifest *m, const struct key *key,
                       struct frame_cache *cache, struct reader **out, struct error *err);

#endif
