/* SPDX-License-Identifier: MIT */
/*
 * fsck_internal.h - what the files of fsck share: the table of findings, and looking at the
 * catalog.
 */
#ifndef KEEPFS_FSCK_INTERNAL_H
#define KEEPFS_FSCK_INTERNAL_H

#include "catalog/catalog.h"
#include "config.h"
#include "fsck.h"
#include "stream/frames.h"

/* X(enumerator, name on stdout, class: its code, or ERR_NONE for "unable": the error's own) */
#define FINDINGS(X)                                                                                \
    X(PARTIAL_ARCHIVE, "partial_archive", ERR_REPAIRABLE)                                          \
    X(HALF_DELETED_ARCHIVE, "half_deleted_archive", ERR_REPAIRABLE)                                \
    X(ARCHIVE_WITHOUT_RECORD, "archive_without_record", ERR_REPAIRABLE)                            \
    X(RECORD_WITHOUT_ARCHIVE, "record_without_archive", ERR_REPAIRABLE)                            \
    X(DELETION_UNFINISHED, "deletion_unfinished", ERR_REPAIRABLE)                                  \
    X(JOB_LEFT_RUNNING, "job_left_running", ERR_REPAIRABLE)                                        \
    X(STAGING_LEFTOVER, "staging_leftover", ERR_REPAIRABLE)                                        \
    X(LOG_WITHOUT_JOB, "log_without_job", ERR_REPAIRABLE)                                          \
    X(CATALOG_UNREADABLE, "catalog_unreadable", ERR_NONE)                                          \
    X(REPO_UNREADABLE, "repo_unreadable", ERR_NONE)                                                \
    X(REPO_NOT_CONFIGURED, "repo_not_configured", ERR_NONE)                                        \
    X(ARCHIVE_UNREADABLE, "archive_unreadable", ERR_NONE)                                          \
    X(ARCHIVE_UNSUPPORTED, "archive_unsupported", ERR_NONE)                                        \
    X(KEY_MISSING, "key_missing", ERR_NONE)                                                        \
    X(CATALOG_DAMAGED, "catalog_damaged", ERR_DAMAGED)                                             \
    X(ARCHIVE_DAMAGED, "archive_damaged", ERR_DAMAGED)                                             \
    X(PAYLOAD_DAMAGED, "payload_damaged", ERR_DAMAGED)                                             \
    X(RECORD_DIFFERS, "record_differs", ERR_DAMAGED)                                               \
    X(ARCHIVE_REFUSED, "archive_refused", ERR_DAMAGED)                                             \
    X(ARCHIVE_MISPLACED, "archive_misplaced", ERR_DAMAGED)

enum finding {
#define X(id, name, class) id,
    FINDINGS(X)
#undef X
};

struct fsck {
    const struct config *config;
    bool deep;
    char *catalog;             /* path of the database */
    bool blind;                /* the catalog cannot be read: archives are judged by themselves */
    struct frame_cache *cache; /* for reading payloads */
    size_t findings, archives;
    enum error_code unable; /* the first error of that class */
    bool repairable, damaged;
};

/* What a finding is about; NULL for what does not apply. */
struct subject {
    const char *store, *repo, *id;
};

/* A line on stdout. `why` has the sentence and, of what cannot be looked at, the code. */
void fsck_find(struct fsck *f, enum finding what, const struct subject *about,
               const struct error *why);

/*
 * Opens the catalog, calls `look`, closes it. If that fails it is done from the beginning again,
 * for about a second: a daemon that is just starting has the file in its hands for a moment, and
 * changes it under a look that took it for nobody's. 1 without a call if there is no catalog yet,
 * -1 if it cannot be read, which is then a finding, once.
 */
typedef int (*fsck_look_fn)(struct catalog *c, void *ctx, struct error *err);
int fsck_look(struct fsck *f, fsck_look_fn look, void *ctx);

/* Does a daemon have the state? So too if that cannot be said. */
bool fsck_daemon_runs(const struct fsck *f);

/* The jobs that are pending or running; freed by the caller. */
struct active_jobs {
    struct active_job {
        char ulid[ULID_LEN + 1], record[ULID_LEN + 1];
        char store[LIMIT_ID + 1], repo[LIMIT_ID + 1];
        enum job_state state;
    } * jobs;
    size_t count, room;
};
int fsck_active_jobs(struct catalog *c, struct active_jobs *out, struct error *err);

/* fsck_repo.c */
void fsck_repo(struct fsck *f, const struct repo *repo);

#endif
