/* SPDX-License-Identifier: MIT */
/*
 * access.h - who may do what: the group and the mode of everything in the mount.
 *
 * The mode of a row in files.c, or of a directory, is what it is meant for; from it follows the
 * class, and from the class and the configuration what is shown:
 *
 *   base mode                  class     configured         not configured
 *   the group may write        control   control_group      as anybody else: 0660 becomes 0600
 *   ... stores/ID/run          run       the store's run_group, else as control
 *   others may not read        data      read_group, 0440   0400
 *   all else, and links        text      of the owner's group, and readable by whoever gets there
 *
 * The owner is always whoever runs keepfs. The mount has default_permissions: it is the kernel that
 * compares these with a caller, supplementary groups included, before it asks keepfs. So a refused
 * open or removal never gets here: it leaves nothing in last_error and no line of audit. Whoever
 * has a file open may go on using it, whatever they have become since, and any process that they
 * hand it to acts for them.
 *
 * Without any group in the configuration the mount is its owner's alone, and nobody else gets as
 * far as these modes; with one, the session adds allow_other, and all texts, names and logs are
 * open to every user of the machine. Who wants less mounts below a directory with a mode of its
 * own.
 *
 * Threads: immutable.
 */
#ifndef KEEPFS_FS_ACCESS_H
#define KEEPFS_FS_ACCESS_H

#include "keepfs/model.h"

#include <sys/stat.h>

/* Of the mount as a whole: cached attributes have them, so they stay until it ends. */
struct access {
    struct group_id control, read;
};

/* Sets the mode, and the group if one is configured; else st_gid stays. `run` is the store's of a
 * stores/ID/run, NULL for everything else. */
void access_grant(const struct access *a, const struct group_id *run, mode_t base, struct stat *st);

#endif
