/* SPDX-License-Identifier: MIT */
/*
 * metrics.h - /metrics: an overview in OpenMetrics 1.0, which Prometheus' older text format can be
 * read as, too: a node_exporter's textfile collector takes it as it is.
 *
 * Counters are of the catalog's life and not of the daemon's: they go on over restarts, and pruning
 * old jobs takes nothing from them. How many jobs ended in which state is the count of a summary,
 * keepfs_job_duration_seconds, since the two formats name a counter's samples differently and a
 * summary's alike.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_FS_METRICS_H
#define KEEPFS_FS_METRICS_H

#include "fs/overview.h"

/* `version` is keepfs's. */
void metrics_render(const struct overview *o, const char *version, struct buf *out);

/* Appends `text` as the value of a label, in quotes. */
void metrics_add_label_value(struct buf *out, const char *text);

#endif
