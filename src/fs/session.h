/* SPDX-License-Identifier: MIT */
/*
 * session.h - the mount: one FUSE session over the service.
 *
 * Life: session_mount -> session_run (blocks) -> session_free. session_stop ends session_run.
 *
 * Rooms inside src/fs: session.c, ops.c and wait.c are the only files that know FUSE. tree.c and
 * node.c give names, nodes and attributes; files.c the text of each file, a row and a function
 * each; access.c says whose each is, audit.c tells the operator who commanded what; views.c
 * directories of links; handle.c what is behind an open file; waiters.c reads that are parked and
 * polls, event_ring.c the lines of events, wait.c how these two meet FUSE; removal.c what can be
 * removed; notify.c tells the kernel what keepfs removed. These can be tested without a mount.
 */
#ifndef KEEPFS_FS_SESSION_H
#define KEEPFS_FS_SESSION_H

#include "service/service.h"

struct session;

struct session_options {
    const char *mountpoint;   /* absolute */
    const char *fuse_options; /* comma separated, as after -o; may be NULL */
    const char *fsname;       /* what /proc/mounts shows as the source: the configuration's path */
    bool shared;              /* others than the owner may reach it, as far as modes let them */
    void (*ready)(void *ctx); /* called once the mount answers, from another thread */
    void *ready_ctx;
};

/* Makes the mount. NULL with a sentence in err: ERR_USAGE for options, else what the kernel or
 * fusermount3 said. While it works, descriptor 2 of the process leads to a temporary file, whose
 * text is passed on at the end: no other thread should be starting to log. */
struct session *session_mount(struct service *service, const struct session_options *options,
                              struct error *err);
/* Answers requests until session_stop or until somebody unmounts. 0, or -1 with err. Uses SIGUSR2
 * for its own wake-up: its handler does nothing and stays. */
int session_run(struct session *s, struct error *err);
/* From any thread but a FUSE worker: session_run returns soon, every request that was read is
 * answered. Waits for it if it runs; if it does not yet, it will return at once. Idempotent. False
 * if a request still hangs in a repo after `deadline_ms`: then only leaving the process helps. */
bool session_stop(struct session *s, int deadline_ms);
/* Unmounts (lazily, if it is still in use) and frees. NULL is fine. */
void session_free(struct session *s);

/* `options` without what mount(8) and fstab mean for themselves (noauto, nofail, x-..., ...). Heap
 * allocated; NULL if nothing is left. */
char *session_filter_options(const char *options);

#endif
