/* SPDX-License-Identifier: MIT */
/*
 * manifest.h - the description of one archive, as YAML in `manifest.yaml`.
 *
 * The manifest is plain text and written last: an archive exists exactly when its manifest does.
 * Keys in order, equal input gives equal bytes:
 *
 *   version 1: manifest_version backup_id created_at store_id store_kind sha256 size_bytes
 *              encryption{enabled algorithm? key_ref?} payload_id_set engine_metadata?
 *   version 2: manifest_version backup_id created_at store_id store_kind sha256 size_bytes
 *              content_bytes compression{algorithm level?}
 *              encryption{enabled envelope? key_id?} payload_id_count payload_ids_sha256?
 *              engine_metadata? manifest_mac?
 *
 * Version 1 carries the payload ids themselves, sorted, `[]` if there are none; version 2 carries
 * their number, and the ids are in the object `payload_ids`, one per line, if there are any; its
 * digest is payload_ids_sha256. sha256 and size_bytes are of the stored bytes (`sha256sum
 * payload.bin`), content_bytes of the source's stream. created_at is when the attempt began.
 *
 * An encrypted archive of version 2 says its envelope (2), the id of its key, and ends with a line
 *
 *   manifest_mac: v1:<64 hex digits>
 *
 * HMAC-SHA256 over all bytes before that line, under HKDF-SHA256(master key, empty salt, "keepfs
 * manifest mac v1" || store_id, 32 bytes). Nothing that such a manifest says may be believed before
 * manifest_authenticate. Version 1 has no MAC: its envelope is 1, and its key_ref is for people
 * only.
 *
 * The reader is strict: it refuses input above LIMIT_MANIFEST, more than one document, unknown or
 * repeated keys, anchors and tags, a backup_id that is no ULID, a store_id that is no id, a digest
 * that is not 64 lower-case hex digits. An unknown version is ERR_MANIFEST_UNSUPPORTED, everything
 * else ERR_MANIFEST_INVALID; the message names the key. Both are permanent.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_ARCHIVE_MANIFEST_H
#define KEEPFS_ARCHIVE_MANIFEST_H

#include "archive/envelope.h"
#include "keepfs/model.h"
#include "stream/digest.h"
#include "util/buf.h"

enum { MANIFEST_V1 = 1, MANIFEST_V2 = 2 };

struct manifest {
    int version;
    char backup_id[ULID_LEN + 1];
    time_ms created_at;
    char store_id[LIMIT_ID + 1];
    char store_kind[32];
    struct digest stored; /* sha256, size_bytes */
    uint64_t content_bytes;
    char compression[16];  /* "none" or "zstd" */
    int compression_level; /* of zstd: -7..19, not 0; 0 for none */
    bool encrypted;
    int envelope;                  /* ENVELOPE_NONE, _V1, _V2; version 1 does not write it */
    char key_id[KEY_ID_HEX + 1];   /* version 2 */
    char encryption_algorithm[32]; /* version 1 */
    char key_ref[KEY_REF_MAX + 1]; /* version 1; never opened */
    char payload_ids_sha256[SHA256_HEX + 1];
    char mac[80];       /* manifest_mac as it was read; the writer makes its own */
    char **payload_ids; /* sorted; version 1 only has them here after reading */
    uint64_t payload_id_count;
    struct {
        char key[64], value[256];
    } engine_metadata[16]; /* sorted by key */
    size_t engine_metadata_count;
};

/* Appends the text of `m`, with its MAC under `key` if it is encrypted and of version 2 (else `key`
 * is not used and may be NULL). Fails with ERR_MANIFEST_INVALID if a required field is empty or the
 * text would be above LIMIT_MANIFEST, which is why it is made before publish. */
int manifest_write(const struct manifest *m, const struct key *key, struct buf *out,
                   struct error *err);

/* Reads `text` into *out, which the caller releases on success. */
int manifest_read(const char *text, size_t len, struct manifest *out, struct error *err);

/* Is `text`, from which `m` was read, what was written under `key`? ERR_MANIFEST_INVALID "manifest
 * altered" if not. Only for encrypted manifests of version 2. Compares in constant time. */
int manifest_authenticate(const struct manifest *m, const char *text, size_t len,
                          const struct key *key, struct error *err);

/* Frees payload_ids. */
void manifest_release(struct manifest *m);

#endif
