/* SPDX-License-Identifier: MIT */
/*
 * mount.h - the daemon.
 */
#ifndef KEEPFS_MOUNT_H
#define KEEPFS_MOUNT_H

#include <stdbool.h>

struct mount_options {
    const char *config;
    const char *mountpoint;
    const char *fuse_options; /* as after -o; may be NULL */
    bool foreground;          /* stay in the foreground, log to stderr */
};

/*
 * Mounts and serves. In the background: returns in the caller once the mount answers (0) or could
 * not be made (an exit status of error.h, the reason on stderr). In the foreground: returns when
 * the daemon has ended.
 */
int mount_run(const struct mount_options *options);

#endif
