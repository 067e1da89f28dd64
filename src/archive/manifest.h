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
 *              content_bytes compression{algorithm level?} encryption{enabled}
 *              payload_id_count engine_metadata?
 *
 * Version 1 carries the payload ids themselves, sorted, `[]` if there are none; version 2 carries
 * their number and the ids are in the object `payload_ids`, one per line, if there are any.
 * sha256 and size_bytes are of the stored bytes (`sha256sum payload.bin`), content_bytes of the
 * source's stream. created_at is when the attempt began.
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
    char compression[16]; /* "none" */
    int compression_level;
    bool encrypted;
    char encryption_algorithm[32]; /* version 1 */
    char key_ref[256];             /* version 1; never opened */
    char **payload_ids;            /* sorted; version 1 only has them here after reading */
    uint64_t payload_id_count;
    struct {
        char key[64], value[256];
    } engine_metadata[16]; /* sorted by key */
    size_t engine_metadata_count;
};

/* Appends the text of `m`. Fails with ERR_MANIFEST_INVALID if a required field is empty or the
 * text would be above LIMIT_MANIFEST, which is why it is made before publish. */
int manifest_write(const struct manifest *m, struct buf *out, struct error *err);

/* Reads `text` into *out, which the caller releases on success. */
int manifest_read(const char *text, size_t len, struct manifest *out, struct error *err);

/* Frees payload_ids. */
void manifest_release(struct manifest *m);

#endif
