/* SPDX-License-Identifier: MIT */
/*
 * config.h - the configuration: INI by inih, checked whole before anything starts.
 *
 *   [keepfs]            state, max_jobs, max_queue
 *   [defaults]          any key of a store or repo but `kind` and places; a section's own wins
 *   [store ID]          kind, and the keys of that source kind
 *   [repo STORE/NAME]   kind, the archive's policy, and the keys of that destination kind
 *
 * Keys are rows (settings.h): config_keepfs_settings here, archive_settings in archive/policy.h,
 * the rest with their kinds. Lines may be indented; there are no continuation lines. `#` and `;` at
 * the start of a line, and ` ;` behind a value, begin a comment.
 *
 * Every fault gives one line "FILE:LINE: what is wrong; what is allowed", all of them, in order of
 * line: unknown sections and keys, bad values, duplicate ids and keys, missing keys, a store
 * without a repo, a repo of an unknown store, two repos on one place (symlinks resolved), and any
 * overlap of mount point, state, sources and repos. Above ten thousand they are only counted.
 *
 * Threads: immutable once loaded.
 */
#ifndef KEEPFS_CONFIG_H
#define KEEPFS_CONFIG_H

#include "keepfs/model.h"
#include "util/buf.h"

struct config {
    char *path;               /* of the file, resolved */
    struct settings settings; /* [keepfs] */
    char *state;              /* the state directory, resolved as far as it exists */
    struct store **stores;    /* in the order of the file */
    size_t store_count;
};

extern const struct setting config_keepfs_settings[];

/*
 * Loads `path`. `mountpoint` (resolved, absolute; NULL for `check`) takes part in the overlap
 * rules. NULL on any fault: `faults` then has all lines, each with its newline.
 */
struct config *config_load(const char *path, const char *mountpoint, struct buf *faults);
void config_free(struct config *c);

struct store *config_store(const struct config *c, const char *id);
/* NULL if the store has no such repo. */
struct repo *store_repo(const struct store *s, const char *id);

/* [a-z0-9][a-z0-9._-]{0,63} */
bool id_valid(const char *id);

#endif
