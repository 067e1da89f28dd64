/* SPDX-License-Identifier: MIT */
/*
 * wait.h - blocking reads and polls as FUSE has them; private to session.c and ops.c.
 *
 * What is parked and who is woken is decided in waiters.h, where requests are only pointers. Here
 * they are answered.
 *
 * Threads: any FUSE worker.
 */
#ifndef KEEPFS_FS_WAIT_H
#define KEEPFS_FS_WAIT_H

#define FUSE_USE_VERSION 312

#include "fs/handle.h"
#include "fs/waiters.h"

#include <fuse_lowlevel.h>

/* How waiters answers requests (fuse_req_t) and wakes poll handles (struct fuse_pollhandle). */
extern const struct waiters_calls wait_calls;

/*
 * Within INIT. If the kernel ends the mount when a request is unanswered for some time
 * (fs.fuse.max_request_timeout and default_request_timeout; since Linux 6.15), no read is held for
 * more than half of it. The kernel takes the limit at INIT: later changes do not touch this mount.
 */
void wait_init(struct waiters *w);

/* A read of a handle that blocks: answered now, or parked. `flags` are those of the open file. */
void wait_read(fuse_req_t req, struct handle *h, size_t size, int flags);
/* Of any handle. Owns `ph`, which may be NULL. */
void wait_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *ph);

#endif
