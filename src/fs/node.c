/* SPDX-License-Identifier: MIT */
/*
 * node.c - node numbers, and from the number to the thing.
 *
 *   bits 63..56  kind + 1, so that no node is 0; root alone is the number 1
 *   bits 55..8   the catalog's row
 *   bits 7..0    index of the file in files.c, plus 1
 *
 * Jobs and records are read from the catalog each time. Stores and repos are the configuration's
 * and do not change while the daemon runs, but their rows do not say which they are: the one table
 * here does. It is searched from end to end, which for thousands of stores is still less than one
 * SQL statement.
 */
#include "fs/files.h"
#include "fs/handle.h"
#include "fs/tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIND_SHIFT 56
#define ROW_SHIFT  8
#define ROW_MAX    (((int64_t)1 << (KIND_SHIFT - ROW_SHIFT)) - 1)
#define FILE_MASK  0xffu

struct store_rows {
    const struct store *store;
    int64_t row;
    int64_t *repos; /* as many as the store has, in its order */
};

node_id node_make(enum node_kind kind, int64_t row, unsigned file)
{
    assert(kind < NODE_KINDS && row >= 0 && row <= ROW_MAX && file <= FILE_MASK);
    if (kind == NODE_ROOT && file == NODE_FILE_NONE)
        return NODE_ROOT_ID;
    return (node_id)(kind + 1) << KIND_SHIFT | (node_id)row << ROW_SHIFT | file;
}

enum node_kind node_kind_of(node_id n)
{
    node_id kind = n >> KIND_SHIFT;

    if (n == NODE_ROOT_ID)
        return NODE_ROOT;
    return kind >= 1 && kind <= NODE_KINDS ? (enum node_kind)(kind - 1) : NODE_KINDS;
}

int64_t node_row(node_id n)
{
    return (int64_t)(n >> ROW_SHIFT) & ROW_MAX;
}

unsigned node_file(node_id n)
{
    return n == NODE_ROOT_ID ? NODE_FILE_NONE : (unsigned)(n & FILE_MASK);
}

/* ---- stores and repos ---- */

static int find_rows(struct tree *t, struct store_rows *rows, const struct store *store,
                     struct error *err)
{
    struct catalog *c = service_catalog(t->service);

    rows->store = store;
    rows->repos = xcalloc(store->repo_count + 1, sizeof *rows->repos);
    if (catalog_store_row(c, store->id, &rows->row, err) != 0)
        return -1;
    for (size_t i = 0; i < store->repo_count; i++)
        if (catalog_repo_row(c, store->id, store->repos[i]->id, &rows->repos[i], err) != 0)
            return -1;
    return 0;
}

static void free_rows(struct tree *t)
{
    for (size_t i = 0; i < service_config(t->service)->store_count; i++)
        free(t->stores[i].repos);
    free(t->stores);
}

int tree_init(struct tree *t, struct service *service, const struct clock *clock, struct error *err)
{
    const struct config *config = service_config(service);

    *t = (struct tree){.service = service,
                       .clock = clock,
                       .uid = geteuid(),
                       .gid = getegid(),
                       .mounted_at = clock_now(clock)};
    t->stores = xcalloc(config->store_count + 1, sizeof *t->stores);
    for (size_t i = 0; i < config->store_count; i++)
        if (find_rows(t, &t->stores[i], config->stores[i], err) != 0) {
            free_rows(t);
            return -1;
        }
    t->last_errors = last_errors_new();
    pthread_mutex_init(&t->lock, NULL);
    return 0;
}

void tree_release(struct tree *t)
{
    handle_close_all(t);
    free_rows(t);
    last_errors_free(t->last_errors);
    pthread_mutex_destroy(&t->lock);
}

static const struct store_rows *rows_end(const struct tree *t)
{
    return t->stores + service_config(t->service)->store_count;
}

int tree_store_node(const struct tree *t, const char *id, node_id *out)
{
    for (const struct store_rows *r = t->stores; r < rows_end(t); r++)
        if (strcmp(r->store->id, id) == 0) {
            *out = node_make(NODE_STORE, r->row, NODE_FILE_NONE);
            return 0;
        }
    return ENOENT;
}

int tree_repo_node(const struct tree *t, const struct store *store, const char *id, node_id *out)
{
    for (const struct store_rows *r = t->stores; r < rows_end(t); r++)
        for (size_t i = 0; r->store == store && i < store->repo_count; i++)
            if (strcmp(store->repos[i]->id, id) == 0) {
                *out = node_make(NODE_REPO, r->repos[i], NODE_FILE_NONE);
                return 0;
            }
    return ENOENT;
}

static int load_store(const struct tree *t, int64_t row, struct subject *out)
{
    for (const struct store_rows *r = t->stores; r < rows_end(t); r++)
        if (r->row == row) {
            out->store = r->store;
            return 0;
        }
    return ENOENT;
}

static int load_repo(const struct tree *t, int64_t row, struct subject *out)
{
    for (const struct store_rows *r = t->stores; r < rows_end(t); r++)
        for (size_t i = 0; i < r->store->repo_count; i++)
            if (r->repos[i] == row) {
                out->store = r->store;
                out->repo = r->store->repos[i];
                return 0;
            }
    return ENOENT;
}

/* ---- subjects ---- */

static int load_job(struct tree *t, int64_t row, struct subject *out)
{
    struct error err;

    if (catalog_job_at(service_catalog(t->service), row, &out->job, &err) != 0)
        return tree_errno(&err);
    /* The link in jobs/active is gone once the job has ended. */
    return out->kind == NODE_ACTIVE && job_state_terminal(out->job.state) ? ENOENT : 0;
}

static int load_record(struct tree *t, int64_t row, struct subject *out)
{
    struct error err;

    if (catalog_record_at(service_catalog(t->service), row, &out->record, &err) != 0)
        return tree_errno(&err);
    return 0;
}

int subject_load(struct tree *t, node_id node, uid_t uid, struct subject *out)
{
    const struct file *file = file_at(node_file(node));

    *out = (struct subject){.tree = t, .node = node, .kind = node_kind_of(node), .uid = uid};
    if (node_file(node) != NODE_FILE_NONE && (!file || file->dir != out->kind))
        return ENOENT;
    switch (out->kind) {
    case NODE_JOB:
    case NODE_ACTIVE:
    case NODE_KEYED:
        return load_job(t, node_row(node), out);
    case NODE_RECORD:
        return load_record(t, node_row(node), out);
    case NODE_STORE:
    case NODE_STORE_REPOS:
        return load_store(t, node_row(node), out);
    case NODE_REPO:
        return load_repo(t, node_row(node), out);
    case NODE_KINDS:
        return ENOENT;
    default:
        return 0;
    }
}

bool subject_final(const struct subject *s)
{
    switch (s->kind) {
    case NODE_JOB:
    case NODE_ACTIVE:
    case NODE_KEYED:
        return job_state_terminal(s->job.state);
    default:
        return true;
    }
}

time_ms subject_time(const struct subject *s)
{
    switch (s->kind) {
    case NODE_JOB:
    case NODE_ACTIVE:
    case NODE_KEYED:
        if (s->job.finished_at)
            return s->job.finished_at;
        return s->job.started_at ? s->job.started_at : s->job.created_at;
    case NODE_RECORD:
        return s->record.created_at;
    default:
        return s->tree->mounted_at;
    }
}
