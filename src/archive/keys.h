/* SPDX-License-Identifier: MIT */
/*
 * keys.h - master keys: where they come from, how long they stay, and what is derived from them.
 *
 * A key is named by a reference, never by its bytes:
 *
 *   env:NAME         64 hex digits in an environment variable, [A-Z_][A-Z0-9_]*; white space around
 *                    them is fine
 *   file:/abs/path   exactly 32 bytes; a regular file, not a symlink (one among its parents is
 *                    fine), owned by root or by the user that runs keepfs, without any permission
 *                    for group or others
 *
 * A key lives in a page of its own, locked, kept out of core dumps, wiped when it is freed. Where
 * the system refuses to lock (RLIMIT_MEMLOCK) that is logged once and the key is used all the same.
 * A child does not get it: the page is zeros there and its use is an abort, so a process that forks
 * to go on in the child does so before it loads keys.
 *
 * It is loaded when it is needed and freed right after; only what comes from the environment must
 * be kept, since it is wiped there (in place, so that /proc/PID/environ does not have it either)
 * when it is first loaded: later loads of the same reference copy it from a locked page that lasts
 * as long as the process, whatever the variable is by then. A value that is no key stays.
 *
 * No function writes a key's bytes into an error, a log or a file, nor a reference that has not the
 * shape of one: that may be the key itself, pasted in the wrong place. Errors: a reference of the
 * wrong shape, or to something else than a regular file, is ERR_DESTINATION_CONFIG_INVALID; a key
 * that is not there, cannot be read, may be used by others or has the wrong size is
 * ERR_DESTINATION_CREDENTIALS_INVALID; messages name the reference and what to do.
 *
 * Derivation: HKDF-SHA256 (RFC 5869) by OpenSSL's EVP.
 * Threads: any; the environment is not changed by others meanwhile.
 */
#ifndef KEEPFS_ARCHIVE_KEYS_H
#define KEEPFS_ARCHIVE_KEYS_H

#include "keepfs/error.h"

#include <stddef.h>

#define KEY_BYTES   32
#define KEY_ID_HEX  16
#define KEY_REF_MAX 255 /* longest reference, without NUL */

struct key;

/* Is `ref` a reference, by its shape alone? 0, or -1 with what is wrong and what is allowed. */
int key_ref_check(const char *ref, char *why, size_t why_size);

/* The path of a file: reference, within `ref`; NULL for others. */
const char *key_ref_path(const char *ref);

/* Could the key of `ref` be loaded, as far as can be said without reading it? For warnings. An
 * environment variable is not looked at. */
int key_ref_probe(const char *ref, struct error *err);

/* Loads the key; the caller frees it. */
int key_load(const char *ref, struct key **out, struct error *err);
void key_free(struct key *k); /* wipes it; NULL is fine */

/* Wipes the variable of an env: reference from the environment without loading it; nothing for
 * other references. For a process that does not need the key, such as the parent of the daemon. */
void key_ref_forget(const char *ref);

/* A key of these KEY_BYTES bytes: what was derived from another. The caller wipes its copy. */
struct key *key_new(const unsigned char *bytes);

/* HKDF-SHA256: `len` bytes (at most 8160) from the key, salt (may be empty) and info, which the
 * caller wipes if they are secret. */
int key_derive(const struct key *k, const void *salt, size_t salt_len, const void *info,
               size_t info_len, void *out, size_t len, struct error *err);

/* The bytes themselves, for envelope v1, which uses the master key as it is. */
const unsigned char *key_bytes(const struct key *k);

/* The public name of a key: hex of HKDF(key, empty salt, "keepfs key id", 8 bytes). */
int key_id(const struct key *k, char out[KEY_ID_HEX + 1], struct error *err);

/* References among which a key may be looked for. They belong to somebody else. */
struct keyring {
    const char *const *refs;
    size_t count;
};

/*
 * Loads the key with that id. ERR_DECRYPT_FAILED "wrong key: ..." with the ids that were found if
 * all could be loaded and none has it; ERR_DESTINATION_CREDENTIALS_INVALID if one could not be
 * loaded that might be it, or if there are none at all.
 */
int keyring_find(const struct keyring *ring, const char *id, struct key **out, struct error *err);

#endif
