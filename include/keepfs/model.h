/* SPDX-License-Identifier: MIT */
/*
 * model.h - the nouns: store, repo, job, record. Plain data, no behaviour but names of states.
 *
 * store   a thing to back up: an id, a kind, options
 * repo    where one store's backups go and by which policy; written STORE/REPO
 * job     one attempt; survives restarts; failed ones too
 * record  one restorable archive; a failed attempt never makes one
 *
 * Times are milliseconds since the epoch, UTC; 0 means "not yet". Ids are NUL-terminated.
 */
#ifndef KEEPFS_MODEL_H
#define KEEPFS_MODEL_H

#include "keepfs/error.h"
#include "keepfs/limits.h"
#include "keepfs/settings.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ULID_LEN 26 /* https://github.com/ulid/spec, upper case */

typedef int64_t time_ms;

/* A group of the system that the configuration names, or does not. */
struct group_id {
    bool set;
    gid_t gid;
};

struct source_kind;
struct destination_kind;
struct store;

struct repo {
    char id[LIMIT_ID + 1];
    const struct store *store;
    const struct destination_kind *kind;
    struct settings settings;
    char *place; /* the driver's canonical text of where it is, symlinks resolved */
    int line;    /* of its section */
    int64_t row; /* the catalog's; 0 until the configuration comes into force */
};

struct store {
    char id[LIMIT_ID + 1];
    const struct source_kind *kind;
    struct settings settings;
    char *place; /* its local path, symlinks resolved as far as it exists */
    struct repo **repos;
    size_t repo_count;
    /* Stores of one group never run at the same time: the places of two of them overlap, and a
     * process that closes any descriptor of a file drops its POSIX locks on it, SQLite's too. */
    size_t group;
    struct group_id run_group; /* may start its backups */
    int line;
    int64_t row; /* as a repo's */
};

enum job_state { JOB_PENDING, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED, JOB_INTERRUPTED };

/* "pending", ...; static. */
const char *job_state_name(enum job_state state);
/* -1 for a word that is none. */
int job_state_parse(const char *word, enum job_state *out);

static inline bool job_state_terminal(enum job_state state)
{
    return state >= JOB_SUCCEEDED;
}

/* One figure of a job: key [a-z][a-z0-9_]*, value with the unit in the key (content_bytes). */
struct stat_item {
    char key[40];
    uint64_t value;
};
struct stats {
    struct stat_item items[LIMIT_STATS];
    size_t count;
};

/* Adds to the figure of that key, making it if needed; asserts that there is room. */
void stats_add(struct stats *s, const char *key, uint64_t value);
/* The figure's value, 0 if there is none. */
uint64_t stats_get(const struct stats *s, const char *key);

struct job {
    int64_t row; /* the catalog's; never reused */
    char ulid[ULID_LEN + 1];
    char kind[16]; /* "backup" */
    char store[LIMIT_ID + 1];
    char repo[LIMIT_ID + 1];
    enum job_state state;
    char record[ULID_LEN + 1]; /* the record it makes or made; "" while pending */
    int64_t record_row;        /* 0 until there is one */
    char requested_by[40];     /* "uid:1000", "schedule", "retry:" and the ULID of the job before */
    char key[LIMIT_KEY + 1];
    char label[LIMIT_LABEL + 1];
    time_ms created_at, started_at, finished_at;
    int attempt;  /* 1 for the first, one more for each retry */
    time_ms tick; /* of the schedule that asked; only for catalog_jobs_create, not kept with it */
    int progress; /* 0..100 */
    struct stats stats;
    struct error error; /* ERR_NONE unless failed or interrupted */
};

struct record {
    int64_t row;
    char ulid[ULID_LEN + 1];
    char store[LIMIT_ID + 1];
    char store_kind[32];
    char repo[LIMIT_ID + 1];
    time_ms created_at;     /* the manifest's: when the attempt began */
    uint64_t size_bytes;    /* stored: payload.bin */
    uint64_t content_bytes; /* the source's stream: payload */
    char sha256[65];        /* of the stored bytes */
    uint64_t manifest_bytes;
    uint64_t payload_id_count;
    uint64_t payload_ids_bytes; /* size of the list, one id per line */
    bool pinned;                /* kept: neither retention nor a person's rmdir deletes it */
    bool suspect;               /* much smaller than those before it, and nobody has reviewed it */
    bool reviewed;              /* was suspect, and a person says that it is as it should be */
    char job[ULID_LEN + 1];     /* "" if it is not known any more */
    int64_t job_row;
};

#endif
