/* SPDX-License-Identifier: MIT */
/*
 * ops.h - the low-level operations table; private to session.c and ops.c.
 *
 * The session's user data is a struct ops_context.
 */
#ifndef KEEPFS_FS_OPS_H
#define KEEPFS_FS_OPS_H

#define FUSE_USE_VERSION 312

#include "fs/notify.h"
#include "fs/tree.h"

#include <fuse_lowlevel.h>

struct ops_context {
    struct tree *tree;
    struct notifier *notifier;
    void (*ready)(void *ctx); /* called once, from a worker; may be NULL */
    void *ready_ctx;
};

extern const struct fuse_lowlevel_ops fs_ops;

#endif
