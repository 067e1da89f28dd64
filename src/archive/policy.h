/* SPDX-License-Identifier: MIT */
/*
 * policy.h - how a repo's archives are to be written, and which of them may be read.
 *
 * The policy comes from the local configuration and never from what a manifest claims: a manifest
 * says what an archive is, the policy whether that is good enough.
 *
 *   format              v2 (default) or v1: manifest and envelope. v1 knows no compression.
 *   compression         zstd:LEVEL or none; zstd:3 unless the format is v1
 *   encryption_key      the reference of the key to write with; none = do not encrypt
 *   old_keys            references of keys that older archives may have been written with
 *   min_envelope        the least envelope that an archive must have to be read: none, v1 or v2; by
 *                       default what the repo writes, so that nobody can slip an unencrypted
 * archive, or one of the weaker v1, into an encrypted repo
 *
 *   verify_after_write  read each payload back and compare before the archive is published
 */
#ifndef KEEPFS_ARCHIVE_POLICY_H
#define KEEPFS_ARCHIVE_POLICY_H

#include "archive/manifest.h"

struct archive_policy {
    const char *store;    /* whose archives these are; NULL = any store's */
    int manifest_version; /* MANIFEST_V1 or MANIFEST_V2, to write */
    bool compress;
    int level;
    bool encrypt; /* with keys[0] */
    bool verify_after_write;
    int min_envelope;             /* ENVELOPE_NONE, _V1, _V2 */
    const char *keys[LIMIT_KEYS]; /* references; belong to the settings */
    size_t key_count;
};

/* The keys of every [repo], whatever its kind. */
extern const struct setting archive_settings[];

/* What does not fit together among the settings of a repo: NULL, or a static sentence "what is
 * wrong; what is allowed", and *key, the key it is about. */
const char *archive_settings_fault(const struct settings *s, const char **key);

/* The policy of a repo, which it points into. */
struct archive_policy archive_policy_of(const struct repo *repo);

/* The envelope that archives are written with. */
int archive_policy_envelope(const struct archive_policy *p);

static inline struct keyring archive_policy_keys(const struct archive_policy *p)
{
    return (struct keyring){.refs = p->keys, .count = p->key_count};
}

/* Is an archive of this manifest what the policy allows to read: of its store, protected well
 * enough? ERR_ENCRYPTION_REQUIRED or ERR_MANIFEST_INVALID if not. */
int archive_policy_admit(const struct archive_policy *p, const struct manifest *m,
                         struct error *err);

#endif
