/* SPDX-License-Identifier: MIT */
/*
 * report.h - the files for those who watch, as functions of files.c's rows.
 *
 * Threads: any.
 */
#ifndef KEEPFS_FS_REPORT_H
#define KEEPFS_FS_REPORT_H

#include "fs/tree.h"

/* /status and /metrics. 0 or an errno. */
int report_status(struct subject *s, struct buf *out);
int report_metrics(struct subject *s, struct buf *out);

/* stores/ID/repos/R/expect_every: seconds, or "never". */
int report_expect_every(struct subject *s, struct buf *out);
/* The newest record of the subject's repo, into the subject; ENOENT if it has none. */
int report_load_newest(struct subject *s);

#endif
