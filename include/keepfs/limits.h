/* SPDX-License-Identifier: MIT */
/*
 * limits.h - every ceiling of keepfs in one place.
 *
 * Sizes are in bytes unless the name says otherwise. A ceiling that a user can lower or raise is a
 * key of the configuration instead, with these as its bounds.
 */
#ifndef KEEPFS_LIMITS_H
#define KEEPFS_LIMITS_H

#include <stddef.h>

enum {
    LIMIT_ID = 64,               /* a store's or repo's id, without NUL */
    LIMIT_KEY = 64,              /* an idempotency token */
    LIMIT_LABEL = 256,           /* a job's label */
    LIMIT_CTL_LINE = 1024,       /* one command written to ctl */
    LIMIT_CTL_REPLY = 1 << 20,   /* what one open of ctl reads back */
    LIMIT_REPOS_PER_STORE = 64,  /* so also jobs per command */
    LIMIT_STORES = 10000,        /* in one configuration */
    LIMIT_CONFIG_LINE = 4096,    /* one line of the configuration */
    LIMIT_JOBS_RUNNING = 64,     /* bound of max_jobs */
    LIMIT_RECENT_JOBS = 32,      /* copies of rows that the catalog keeps for a moment */
    LIMIT_QUEUE = 100000,        /* bound of max_queue: jobs pending */
    LIMIT_FUSE_WORKERS = 10,     /* threads that answer the mount */
    LIMIT_LAST_ERROR_UIDS = 256, /* callers whose last error is kept; the oldest goes first */
    LIMIT_AUDIT_UIDS = 64,       /* callers whose refused commands are counted one by one */
    LIMIT_AUDIT_REFUSED = 20,    /* of each of them that are written, each minute */
    LIMIT_GROUP_ENTRY = 1 << 20, /* one group of the system, with its members' names */
    LIMIT_EVENTS = 1024,         /* kept for the readers of events; the oldest go first */
    LIMIT_WAITERS =
        4096, /* reads that are parked; libfuse looks through all for each that is killed */
    LIMIT_OUTCOMES = 16,          /* kinds of jobs, by the states they end in */
    LIMIT_STATS = 32,             /* figures of one job */
    LIMIT_PAYLOAD_ID = 1024,      /* one payload id */
    LIMIT_TREE_DEPTH = 4096,      /* nesting of a directory store: one descriptor per level */
    LIMIT_STREAM_CHUNK = 1 << 20, /* what is read or written at once */
    LIMIT_ZSTD_WORKERS = 4,       /* threads that compress one stream */
    LIMIT_OPEN_FRAMES = 32,       /* decoded frames that one cache keeps */
    LIMIT_PREFETCHERS = 2,        /* threads that decode ahead for one cache */
    LIMIT_KEYS = 16               /* of one repo: encryption_key and old_keys */
};

#define LIMIT_MANIFEST    ((size_t)1 << 20)  /* a manifest, on both sides */
#define LIMIT_PAYLOAD_IDS ((size_t)64 << 20) /* all payload ids of one archive */
#define LIMIT_FRAME       ((size_t)64 << 20) /* one frame of an envelope, decoded */
#define LIMIT_FRAME_BYTES ((size_t)64 << 20) /* decoded frames that a cache keeps */
#define LIMIT_FRAMES      ((size_t)1 << 27)  /* of one zstd stream: its seek table's own ceiling */
#define LIMIT_JOB_LOG     ((size_t)1 << 20)  /* one job's log; later lines are counted, not kept */

#endif
