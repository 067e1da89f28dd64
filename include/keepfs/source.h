/* SPDX-License-Identifier: MIT */
/*
 * source.h - what a driver author owes to back a kind of store up.
 *
 * A kind is one const struct source_kind in a file of src/source and one row in kinds.c. Life of
 * one backup, on one thread:
 *
 *   1. open: check that the store is there and readable, without side effects on it. No bytes yet.
 *   2. backup: write the whole stream to run->out, in order, once. Do not finish or free it: the
 *      engine does. Poll run->cancel at least every 50 ms of work, and sleep only in cancel_wait().
 *   3. close: free everything; called also after a failure. Nothing of the attempt may be left.
 *
 * Errors: a failure of the store is classified with SIDE_SOURCE, one of staging with SIDE_STATE.
 * A failed write to run->out is returned as it came: it is the destination's error, and whoever
 * fails first decides.
 *
 * A source never writes to what it backs up.
 */
#ifndef KEEPFS_SOURCE_H
#define KEEPFS_SOURCE_H

#include "keepfs/cancel.h"
#include "keepfs/model.h"
#include "keepfs/stream.h"

struct source_run;

/* What the engine offers to a source. None of these can fail the backup, but for payload_id. They
 * are called by the thread that runs the backup; a thread of the source's own may write to out
 * meanwhile, if it has ended when backup returns. */
struct source_run_ops {
    /* The work is about `units` bytes in all; what is written to out counts by itself. May be
     * called again with a better estimate. */
    void (*expect)(struct source_run *run, uint64_t units);
    /* `units` bytes of work were done that out does not see (staging). */
    void (*advance)(struct source_run *run, uint64_t units);
    /* A line for the job's log, without newline. */
    void (*log)(struct source_run *run, const char *line);
    /* Adds to a figure of the job's stats. */
    void (*stat)(struct source_run *run, const char *key, uint64_t value);
    /* One id that the payload refers to: 1..LIMIT_PAYLOAD_ID bytes, no newline, no NUL. Any order,
     * duplicates are dropped. Fails above LIMIT_PAYLOAD_IDS in all. */
    int (*payload_id)(struct source_run *run, const char *id, size_t len, struct error *err);
};

struct source_run {
    const struct source_run_ops *ops;
    struct writer *out;
    struct cancel *cancel;
};

/* printf into run->ops->log. */
void source_log(struct source_run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct source {
    const struct source_kind *kind;
};

struct source_kind {
    const char *name; /* the word after `kind =` */
    const char *help;
    const struct setting *settings; /* its keys in [store ID]; `path` is the local place, if any */
    /* `staging` is a directory on the state's file system for unlinked temporary files. */
    int (*open)(const struct store *store, const char *staging, struct source **out,
                struct error *err);
    int (*backup)(struct source *source, struct source_run *run, struct error *err);
    void (*close)(struct source *source); /* NULL is fine */
};

/* All kinds, NULL-terminated, and the kind of a name (NULL if there is none). */
extern const struct source_kind *const source_kinds[];
const struct source_kind *source_kind_find(const char *name);

#endif
