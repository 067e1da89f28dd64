/* SPDX-License-Identifier: MIT */
/*
 * tree.h - names, nodes and attributes of the mount; no FUSE, no memory per node.
 *
 * A node is a number: kind in the high bits, then the catalog's row << 8, then the index of the
 * file within files.c, 0 for the directory (or link) itself. From the number alone tree_attr can
 * say everything, from SQLite and never from a repo. Root is 1, as FUSE wants it.
 *
 *   /                      NODE_ROOT       rows of files.c with that directory
 *   /jobs/ULID/            NODE_JOB        row
 *   /jobs/active/ULID      NODE_ACTIVE     row, a symlink
 *   /jobs/by-key/KEY       NODE_KEYED      row, a symlink
 *   /records/ULID/         NODE_RECORD     row
 *   /overdue/STORE         NODE_LATE       row of the store, a symlink
 *   /stores/ID/            NODE_STORE      row
 *   /stores/ID/repos/R/    NODE_REPO       row
 *   views of jobs and records: views.h
 *
 * Caching: what is `final` will never change while it lives (an hour's timeout): jobs that are
 * terminal, records, and the fixed names. All else may be stale at once (timeout 0), so also stores
 * and repos: the configuration can change. Things only move from volatile to final; that they are
 * gone is told to the kernel by notify.c.
 *
 * A store or repo is there if the configuration in force has it. Its row stays in the catalog, so
 * that it has its old number again when it comes back.
 *
 * Functions return 0 or an errno, never negative: the room sits at the edge where errno is chosen.
 * Threads: any, after tree_init and before tree_release.
 */
#ifndef KEEPFS_FS_TREE_H
#define KEEPFS_FS_TREE_H

#include "fs/access.h"
#include "fs/audit.h"
#include "fs/last_error.h"
#include "service/service.h"

#include <pthread.h>
#include <sys/stat.h>

typedef uint64_t node_id;

enum node_kind {
    NODE_ROOT,
    NODE_JOBS,
    NODE_JOBS_ACTIVE,
    NODE_JOBS_KEYED,
    NODE_RECORDS,
    NODE_STORES,
    NODE_OVERDUE,
    NODE_BY_STORE, /* these and whatever else is a view: views.h */
    NODE_BY_DATE,
    NODE_PINNED,
    NODE_STORE_REPOS, /* row: the store's; of the next three, too */
    NODE_STORE_JOBS,
    NODE_STORE_RECORDS,
    NODE_STORE_AT,
    NODE_JOB,
    NODE_ACTIVE,
    NODE_KEYED,
    NODE_RECORD,
    NODE_STORE,
    NODE_REPO,
    NODE_LATE,
    NODE_RECORD_STORE, /* row: the store's */
    NODE_YEAR,         /* row: a date; of the next two, too */
    NODE_MONTH,
    NODE_DAY,
    NODE_STORE_JOB_LINK, /* row: the job's */
    NODE_BY_STORE_LINK,  /* row: the record's; of the next four, too */
    NODE_BY_DATE_LINK,
    NODE_PINNED_LINK,
    NODE_STORE_RECORD_LINK,
    NODE_AT_LINK,
    NODE_KINDS
};

#define NODE_ROOT_ID   ((node_id)1)
#define NODE_FILE_NONE 0 /* the directory or symlink itself */

node_id node_make(enum node_kind kind, int64_t row, unsigned file);
/* NODE_KINDS for a number that node_make never made. */
enum node_kind node_kind_of(node_id n);
int64_t node_row(node_id n);
unsigned node_file(node_id n);

/* What the tree reads from, and the facts of the mount. */
struct tree {
    struct service *service;
    const struct clock *clock;
    uid_t uid;
    gid_t gid;
    struct access access;
    time_ms mounted_at;
    struct last_errors *last_errors;
    struct audit *audit;
    pthread_mutex_t lock;    /* guards handles */
    struct handle *handles;  /* all that are open: see handle_close_all */
    struct leaving *leaving; /* records that are being removed: removal.c */
    struct waiters *waiters; /* the session's, who outlive the handles */
};

/* Makes the rows of all stores and repos, as a reload does for new ones: what could fail for want
 * of space fails there, not in a listing. On failure nothing is left to release. */
int tree_init(struct tree *t, struct service *service, const struct clock *clock,
              struct error *err);
/* Closes also what is still open: a mount that is detached sends no release. */
void tree_release(struct tree *t);

/* ---- what a node is about; files.c renders from it ---- */

struct subject {
    struct tree *tree;
    node_id node;
    enum node_kind kind;
    uid_t uid;                 /* the caller's: last_error differs by it */
    struct config *config;     /* in force when it was loaded; held, since store and repo are its */
    struct job job;            /* NODE_JOB, NODE_ACTIVE, NODE_KEYED, NODE_STORE_JOB_LINK */
    struct record record;      /* NODE_RECORD and links to one */
    bool leaving;              /* NODE_RECORD: deleted, while a client removes what it had listed */
    const struct store *store; /* NODE_STORE, NODE_STORE_REPOS and its like, NODE_REPO, NODE_LATE */
    const struct repo *repo;   /* NODE_REPO */
    time_ms since;             /* NODE_LATE: since when it is overdue */
    char store_id[LIMIT_ID + 1]; /* NODE_RECORD_STORE, which need not be configured */
};

/* A subject that gives up what it holds at the end of the scope, whether it was loaded or not. */
#define SUBJECT(name) __attribute__((cleanup(subject_release))) struct subject name = {0}

/* ENOENT if it is gone, or is no node. */
int subject_load(struct tree *t, node_id node, uid_t uid, struct subject *out);
void subject_release(struct subject *s);
/* Will it never change again? */
bool subject_final(const struct subject *s);
/* When it changed last, or was made. */
time_ms subject_time(const struct subject *s);

/* The nodes of stores and repos of a configuration. ENOENT for a name that is none. */
int tree_store_node(const struct config *c, const char *id, node_id *out);
int tree_repo_node(const struct store *store, const char *id, node_id *out);

/* ---- the calls of ops.c ---- */

struct node_attr {
    node_id node;
    struct stat st;
    bool final;
};

int tree_lookup(struct tree *t, node_id parent, const char *name, uid_t uid, struct node_attr *out);
int tree_attr(struct tree *t, node_id node, uid_t uid, struct node_attr *out);
int tree_readlink(struct tree *t, node_id node, struct buf *out);

/* Entries of a directory behind `cookie` (0 = from the start), "." and ".." first. The callback
 * gets the cookie of the entry itself and returns false when it is full; it must not call the
 * tree. `mode` has the type. */
typedef bool (*tree_entry_fn)(void *ctx, const char *name, node_id node, mode_t mode,
                              uint64_t cookie);
int tree_list(struct tree *t, node_id dir, uint64_t cookie, tree_entry_fn fn, void *ctx);
/* The cookie of what has a row is the row times this; those of other names are below it. */
#define COOKIE_ROWS 256

/* The attributes of a file in the directory of `s`. */
struct file;
int tree_file_attr(const struct file *f, struct subject *s, struct node_attr *out);

/* The errno that the mount answers for an error. */
int tree_errno(const struct error *err);
/* The same, and keeps the sentence for the caller as what `path` answered to `input`. */
int tree_refuse(struct tree *t, uid_t uid, const char *path, const char *input, size_t len,
                const struct error *err);

#endif
