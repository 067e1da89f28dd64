/* SPDX-License-Identifier: MIT */
/*
 * config.h - the configuration: INI by inih, checked whole before anything starts.
 *
 *   [keepfs]            state, max_jobs, control_group, ...
 *   [defaults]          any key of a store or repo but `kind` and places; a section's own wins
 *   [store ID]          kind, and the keys of that source kind
 *   [repo STORE/NAME]   kind, the archive's policy, and the keys of that destination kind
 *
 * Keys are rows (settings.h): those of [keepfs] and of every store and repo in config_keys.c,
 * archive_settings in archive/policy.h, the rest with their kinds. Lines may be indented; there are
 * no continuation lines. `#` and `;` at the start of a line, and ` ;` behind a value, begin a
 * comment.
 *
 * Every fault gives one line "FILE:LINE: what is wrong; what is allowed", all of them, in order of
 * line: unknown sections and keys, bad values, duplicate ids and keys, missing keys, a store
 * without a repo, a repo of an unknown store, a group that the system does not have, two repos on
 * one place (symlinks resolved), and any overlap of mount point, state, sources and repos. Above
 * ten thousand they are only counted.
 *
 * Threads: immutable once loaded.
 */
#ifndef KEEPFS_CONFIG_H
#define KEEPFS_CONFIG_H

#include "keepfs/model.h"
#include "util/buf.h"

#include <stdatomic.h>

struct config {
    char *path;               /* of the file, resolved */
    struct settings settings; /* [keepfs] */
    char *mountpoint;         /* that it was checked with; NULL for none */
    char *state;              /* the state directory, resolved as far as it exists */
    struct store **stores;    /* in the order of the file */
    struct store **by_id;     /* the same, sorted; NULL: made by hand, and short */
    size_t store_count;
    struct group_id control_group, read_group; /* as the system had them when it was loaded */
    atomic_uint others;                        /* that hold it besides the first */
};

/* The keys of [keepfs], of every store and of every repo. */
extern const struct setting config_keepfs_settings[], config_store_settings[],
    config_repo_settings[];

/*
 * Loads `path`. `mountpoint` (resolved, absolute; NULL for `check`) takes part in the overlap
 * rules. NULL on any fault: `faults` then has all lines, each with its newline.
 */
struct config *config_load(const char *path, const char *mountpoint, struct buf *faults);
/* One more holder; each gives it up by config_free, and the last of them frees it. Any thread. */
struct config *config_ref(struct config *c);
void config_free(struct config *c);

struct store *config_store(const struct config *c, const char *id);
/* Must jobs of these two stores not run at the same time? Each is of its own configuration, since a
 * job keeps the one that it began with. */
bool stores_conflict(const struct config *ca, const struct store *a, const struct config *cb,
                     const struct store *b);
/* NULL if the store has no such repo. */
struct repo *store_repo(const struct store *s, const char *id);

/* Is any group named, so that others than the owner may reach the mount? */
bool config_shared(const struct config *c);
bool group_same(struct group_id a, struct group_id b);

/* Thousandths of a ratio as suspect_ratio takes it: "0.2" is 200; -1 for a text that is none. */
int config_permille(const char *text);

/* [a-z0-9][a-z0-9._-]{0,63} */
bool id_valid(const char *id);

#endif
