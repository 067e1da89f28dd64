/* SPDX-License-Identifier: MIT */
/*
 * gcm.h - AES-256-GCM of one message at a time (NIST SP 800-38D, 96-bit nonce, 128-bit tag).
 *
 * A nonce must never be used twice with one key to seal. The key is kept in a locked page of its
 * own; its expanded form exists only while a message is sealed or opened.
 *
 * Threads: any in seal and open, also with the same struct gcm.
 */
#ifndef KEEPFS_ARCHIVE_GCM_H
#define KEEPFS_ARCHIVE_GCM_H

#include "keepfs/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { GCM_NONCE = 12, GCM_TAG = 16, GCM_AAD_MAX = 80 };

/* What a message is sealed with besides the key. */
struct gcm_input {
    unsigned char nonce[GCM_NONCE];
    unsigned char aad[GCM_AAD_MAX];
    size_t aad_len;
};

struct gcm;

/* Copies the KEY_BYTES bytes of `key`. */
int gcm_new(const unsigned char *key, struct gcm **out, struct error *err);
void gcm_free(struct gcm *g); /* NULL is fine */

/* Encrypts `len` bytes, at most LIMIT_FRAME, into len + GCM_TAG bytes at out. */
int gcm_seal(const struct gcm *g, const struct gcm_input *in, const void *plain, size_t len,
             unsigned char *out, struct error *err);

/* Decrypts `sealed`, len + GCM_TAG bytes, into len bytes at out, and says whether the tag is right.
 * If it is not, or this fails, the plaintext is wiped from out. */
int gcm_open(const struct gcm *g, const struct gcm_input *in, const unsigned char *sealed,
             size_t len, void *out, bool *right, struct error *err);

#endif
