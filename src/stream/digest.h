/* SPDX-License-Identifier: MIT */
/*
 * digest.h - SHA-256 and size of what passes. Source: FIPS 180-4, by OpenSSL's EVP.
 */
#ifndef KEEPFS_STREAM_DIGEST_H
#define KEEPFS_STREAM_DIGEST_H

#include "keepfs/stream.h"

#include <stdint.h>

#define SHA256_HEX 64

/* What a stream came to; filled when its digest link is finished. */
struct digest {
    uint64_t size;
    char sha256[SHA256_HEX + 1]; /* lower-case hex */
};

/* A writer that hashes and hands on; `out` must outlive it and is set by finish. Owns `next`, which
 * may be NULL: then it only hashes. */
struct writer *digest_writer_new(struct writer *next, struct digest *out);

/*
 * A view of `next`, which it owns, that hashes what is read through it in order: each byte once,
 * when all before it were; other reads pass by. One thread only.
 */
struct view *digest_view_new(struct view *next, const struct digest *expected);

/* Reads what was not hashed yet, then fails with ERR_INTEGRITY_FAILED unless size and digest of the
 * whole are those expected: a truncated stream, one that is too long and altered bytes are told
 * apart. An empty expected digest never matches. A failed read is reported as itself, never as a
 * mismatch. Once. */
int digest_view_judge(struct view *v, struct error *err);

#endif
