/* SPDX-License-Identifier: MIT */
/*
 * hkdf.h - HKDF-SHA256, RFC 5869: keys from a key.
 *
 * The caller wipes what it derives. Threads: no state.
 */
#ifndef KEEPFS_ARCHIVE_HKDF_H
#define KEEPFS_ARCHIVE_HKDF_H

#include "keepfs/error.h"

#include <stddef.h>

#define HKDF_MAX 8160 /* bytes that can be derived: 255 times the size of SHA-256 */

/* Empty parts may be NULL. */
struct hkdf {
    const void *key, *salt, *info;
    size_t key_len, salt_len, info_len;
};

/* `len` bytes, at most HKDF_MAX, to out. On failure nothing of the result is left there. */
int hkdf_sha256(const struct hkdf *in, void *out, size_t len, struct error *err);

#endif
