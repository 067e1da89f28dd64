/* SPDX-License-Identifier: MIT */
/*
 * extract.h - reading one archive without the daemon: `keepfs extract` and `keepfs verify`.
 *
 * ARCHIVE_DIR is the archive's directory, named by its ULID as keepfs named it, in a repo or in a
 * copy of one. Nothing is written there, and neither configuration nor state is looked at. With
 * a key the archive must be encrypted, and its envelope v2: anything less may be somebody else's
 * work.
 *
 * Errors go to stderr as one line; the result is the exit status of the error's code.
 */
#ifndef KEEPFS_EXTRACT_H
#define KEEPFS_EXTRACT_H

#include "keepfs/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extract_options {
    const char *archive_dir;
    const char *keys[LIMIT_KEYS]; /* references, see archive/keys.h */
    size_t key_count;
    bool allow_v1; /* take an envelope v1 too, which binds an archive to no store and no record */
    bool ranged;   /* only `length` bytes at `offset`, or as many as there are */
    uint64_t offset, length;
};

/* Writes the content to descriptor 1. The whole of it is also compared with the manifest's digest,
 * which is known only at the end: what was written may be trusted if this returns 0. */
int extract_run(const struct extract_options *options);

/* Reads every byte (payload, ids, manifest), checks all that can be checked, and says on stdout
 * what the archive is, as KEY VALUE lines. */
int verify_run(const struct extract_options *options);

#endif
