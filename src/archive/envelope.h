/* SPDX-License-Identifier: MIT */
/*
 * envelope.h - authenticated encryption of a stream in frames: AES-256-GCM, by OpenSSL's EVP.
 *
 * Version 2, all integers big endian:
 *
 *   header, 80 bytes:
 *     "DFS1" | u8 version 2 | u32 frame_size | u8 suite 1 | 6 zero bytes | salt[32] | commit[32]
 *     frame_size is a power of two, 64 KiB .. 16 MiB; 1 MiB unless asked otherwise
 *
 *   K[32] || commit[32] = HKDF-SHA256(master key, salt, info, 64 bytes)
 *     info = "dfs1-v2" and a NUL byte || header[0..47], all before commit ||
 *            u16 length || store id || u16 length || record ULID
 *
 *   frame i: ciphertext || tag[16] of AES-256-GCM(K, nonce, aad = header)
 *     nonce = 3 zero bytes || u64 i || u8 last, 1 for the last frame, else 0
 *     All frames but the last hold frame_size bytes, the last 1 .. frame_size (0 only when the
 *     stream is empty), then the file ends. So frame i stands at 80 + i * (frame_size + 16).
 *
 *   The commit says before anything is decrypted whether key, store and record are the right ones.
 *   A salt is made for every stream and never used again.
 *
 * Version 1 (DFS1 of DittoFS v0.13), for `format = v1`:
 *
 *   header, 9 bytes:
 *     "DFS1" | u8 version 1 | u32 frame_size, 1 .. LIMIT_FRAME, 4 MiB by default
 *
 *   frame i: nonce[12], random | u32 length of what follows | ciphertext || tag[16]
 *     key: the master key itself; aad = u64 i || "data", or "final" for the last frame
 *     Data frames hold frame_size bytes; the final one 0 .. frame_size - 1, always there, then the
 *     file ends. So frame i stands at 9 + i * (frame_size + 32).
 *
 *   Known weaknesses, the reason for version 2: a frame says its place in a stream but not which
 *   stream, so frame i of one archive passes for frame i of another under the same key, and whole
 *   archives pass for each other; the header is not covered, so the frame size of a stream of one
 *   frame can be altered, without effect on the content. The digest in the manifest finds all that
 *   only if nobody has altered the manifest. Nonces are random: 2^32 frames are the limit of a key.
 *
 * The readers are strict: everything above is checked, the sizes of all frames follow from the size
 * of the file, and plaintext leaves a frame only after its tag was checked. What they accept is
 * what the writer makes, byte for byte, of the same content, salt and nonces. Messages tell apart,
 * in these words:
 *
 *   wrong key        v1: neither the first nor the last frame opens with the key
 *   wrong archive    v2: the commit differs: another archive's payload, or its header was altered
 *   damaged frame N  the tag of frame N, counted from 0, is wrong, or its length field
 *   truncated        the file ends within a header or frame, or frames are missing at its end
 *   trailing bytes   a frame opens as the last one, and more follow
 *   damaged header   magic, version, suite, frame size or zero bytes
 *
 * In v2 nothing but the size of the file says where a short last frame ends. If the file was cut
 * or extended there by less than a frame, it is "damaged frame N" and the message says so too; what
 * is too short for a frame is "truncated".
 *
 * "wrong key" and "wrong archive" are ERR_DECRYPT_FAILED, the others ERR_INTEGRITY_FAILED. Failures
 * of `stored` are passed on unchanged.
 *
 * Threads: one per writer; any in a view.
 */
#ifndef KEEPFS_ARCHIVE_ENVELOPE_H
#define KEEPFS_ARCHIVE_ENVELOPE_H

#include "archive/keys.h"
#include "stream/frames.h"

enum { ENVELOPE_NONE = 0, ENVELOPE_V1 = 1, ENVELOPE_V2 = 2 };

/* What an envelope is, and what it is bound to. */
struct envelope {
    int version;          /* ENVELOPE_V1 or ENVELOPE_V2 */
    const char *store_id; /* v2 */
    const char *record;   /* v2: the ULID */
    uint32_t frame_size;  /* to write; 0 = the version's default; ignored when reading */
    /* Fills buf with random bytes, 0 or -1; NULL is OpenSSL's. Only tests set it: a salt or nonce
     * that is used twice gives the plaintext away. */
    int (*random)(void *buf, size_t len);
};

/* A writer that encrypts what it gets into `next`, which it owns in any case: it is freed when
 * this fails. The header is written with the first byte or by finish, then each frame with one
 * write. Only what was finished can be read. `key` is not needed after this returns. Memory: two
 * frames. */
int envelope_writer_new(struct writer *next, const struct key *key, const struct envelope *e,
                        struct writer **out, struct error *err);

/* The size in bytes of the plaintext of `stored`; needs no key, so nothing is proven by it. Fails
 * on a damaged header or an impossible size. */
int envelope_content_size(struct view *stored, int version, uint64_t *out, struct error *err);

/* Is `key` the one that `stored` was written with, for that store and record? v2: does the commit
 * agree; v1: does the first or the last frame open; it takes the memory of two. Fails only where
 * that cannot be judged. `stored` stays the caller's. */
int envelope_fits(struct view *stored, const struct key *key, const struct envelope *e, bool *fits,
                  struct error *err);

/* The plaintext of `stored` as a view over `cache`. Checks the header, the commit, the size, and
 * the last frame if it is empty; other frames are checked when they are read, so that a wrong key
 * for v1 shows then. Owns `stored` in any case: it is freed when this fails. `key` is not needed
 * after this returns. */
int envelope_view_new(struct view *stored, const struct key *key, const struct envelope *e,
                      struct frame_cache *cache, bool prefetch, struct view **out,
                      struct error *err);

#endif
