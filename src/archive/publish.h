/* SPDX-License-Identifier: MIT */
/*
 * publish.h - archives in a destination: their names, their order, their life.
 *
 *   <record-ulid>/payload.bin     the stream, as stored
 *   <record-ulid>/payload_ids     one id per line; absent if there are none
 *   <record-ulid>/manifest.yaml   written last
 *
 * Publish:  publish_begin -> write the payload -> publish_commit -> publish_free.
 *   Until commit returns 0 nothing is listed; publish_free without commit removes everything. The
 *   payload is durable before the manifest is written, all of it before the archive appears, and
 *   the appearance is durable when commit returns.
 * List:     an archive is a group with a manifest. Half-written and half-deleted ones are not
 * listed.
 *
 * Delete:   manifest, payload_ids, payload, group; each step may have happened before.
 *
 * Sweep:    removes what a dead process left: partial groups, and groups of a ULID's name without a
 *   manifest. Only names that are ULIDs, and nothing at all after an I/O error.
 *
 * Nothing here knows SQLite. An id from outside is checked with ulid_valid() before any use.
 * Threads: one struct publish belongs to one thread; the rest may be called from any.
 */
#ifndef KEEPFS_ARCHIVE_PUBLISH_H
#define KEEPFS_ARCHIVE_PUBLISH_H

#include "archive/manifest.h"
#include "keepfs/destination.h"

#define ARCHIVE_PAYLOAD     "payload.bin"
#define ARCHIVE_MANIFEST    "manifest.yaml"
#define ARCHIVE_PAYLOAD_IDS "payload_ids"

struct publish;

/* Begins the archive `ulid` in `d`, which must outlive it. ERR_DUPLICATE_ID if it is there. */
int publish_begin(struct destination *d, const char *ulid, struct publish **out, struct error *err);

/* The writer of the payload as stored; once. It belongs to the caller, who finishes it (size and
 * digest are then known to the publish) and frees it before publish_commit or publish_free. */
struct writer *publish_payload(struct publish *p);

/* What was stored of the payload; known once its writer has finished. */
const struct digest *publish_stored(const struct publish *p);
/* Opens the finished payload for reading back, before it is published. */
int publish_reopen(struct publish *p, struct object **out, struct error *err);

/* Fills m->stored, sorts and counts m->payload_ids, writes the ids and the manifest, with its MAC
 * under `key` if it is encrypted, and makes the archive appear. On success *manifest_bytes and
 * *ids_bytes have the sizes of what was written. */
int publish_commit(struct publish *p, struct manifest *m, const struct key *key,
                   uint64_t *manifest_bytes, uint64_t *ids_bytes, struct error *err);

void publish_free(struct publish *p); /* NULL is fine */

/* Reads and checks the manifest of an archive: also that its backup_id is `ulid`. Does not open
 * the payload. `text` (may be NULL) gets the bytes as they stand. ERR_MANIFEST_MISSING if there is
 * no such archive. */
int archive_manifest(struct destination *d, const char *ulid, struct manifest *out,
                     struct buf *text, struct error *err);

/* Opens an object of an archive. ERR_ARCHIVE_INCOMPLETE if it is gone. */
int archive_open(struct destination *d, const char *ulid, const char *name, struct object **out,
                 struct error *err);

/* The ULIDs of all archives, ascending; the caller frees with archive_list_free. */
struct archive_list {
    char (*ids)[ULID_LEN + 1];
    size_t count;
};
int archive_list(struct destination *d, struct archive_list *out, struct error *err);
void archive_list_free(struct archive_list *list);

int archive_delete(struct destination *d, const char *ulid, struct error *err);

struct archive_sweep_ops {
    /* Is this archive known to be a good one, that nobody has begun to delete? Then a group without
     * its manifest is damage, and stays for a person to look at. */
    bool (*keep)(void *ctx, const char *ulid);
    /* Called for each thing removed, for the log. */
    void (*swept)(void *ctx, const char *ulid, bool partial);
};
int archive_sweep(struct destination *d, const struct archive_sweep_ops *ops, void *ctx,
                  struct error *err);

#endif
