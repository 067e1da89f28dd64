/* SPDX-License-Identifier: MIT */
/*
 * node.c - node numbers, and from the number to the thing.
 *
 *   bits 63..56  kind + 1, so that no node is 0; root alone is the number 1
 *   bits 55..8   the catalog's row
 *   bits 7..0    index of the file in files.c, plus 1
 *
 * Nothing is kept here: jobs and records are read from the catalog each time, and a store or a
 * repo is the one of that row in the configuration that is in force.
 */
#include "fs/files.h"
#include "fs/handle.h"
#include "fs/late.h"
#include "fs/removal.h"
#include "fs/views.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#define KIND_SHIFT 56
#define ROW_SHIFT  8
#define ROW_MAX    (((int64_t)1 << (KIND_SHIFT - ROW_SHIFT)) - 1)
#define FILE_MASK  0xffu

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

/* ---- the tree ---- */

static int make_rows(struct catalog *c, const struct config *config, struct error *err)
{
    for (size_t i = 0; i < config->store_count; i++) {
        struct store *store = config->stores[i];
        if (catalog_store_row(c, store->id, &store->row, err) != 0)
            return -1;
        for (size_t k = 0; k < store->repo_count; k++)
            if (catalog_repo_row(c, store->id, store->repos[k]->id, &store->repos[k]->row, err) !=
                0)
                return -1;
    }
    return 0;
}

int tree_init(struct tree *t, struct service *service, const struct clock *clock, struct error *err)
{
    struct config *config = service_config(service);

    *t = (struct tree){.service = service,
                       .clock = clock,
                       .uid = geteuid(),
                       .gid = getegid(),
                       .access = {config->control_group, config->read_group},
                       .mounted_at = clock_now(clock)};
    pthread_mutex_init(&t->lock, NULL);
    t->last_errors = last_errors_new();
    t->audit = audit_new();
    t->leaving = leaving_new();
    int result = make_rows(service_catalog(service), config, err);
    config_free(config);
    if (result != 0)
        tree_release(t);
    return result;
}

void tree_release(struct tree *t)
{
    handle_close_all(t);
    leaving_free(t->leaving);
    audit_free(t->audit);
    last_errors_free(t->last_errors);
    pthread_mutex_destroy(&t->lock);
}

/* ---- stores and repos ---- */

int tree_store_node(const struct config *c, const char *id, node_id *out)
{
    const struct store *store = config_store(c, id);

    if (!store)
        return ENOENT;
    *out = node_make(NODE_STORE, store->row, NODE_FILE_NONE);
    return 0;
}

int tree_repo_node(const struct store *store, const char *id, node_id *out)
{
    const struct repo *repo = store_repo(store, id);

    if (!repo)
        return ENOENT;
    *out = node_make(NODE_REPO, repo->row, NODE_FILE_NONE);
    return 0;
}

/* Rows, from 1, are mostly in the order in which a configuration has its stores: then the store is
 * where its row says. Else the catalog knows the row's name. */
static int load_store(const struct tree *t, int64_t row, struct subject *out)
{
    const struct config *c = out->config;
    char name[LIMIT_ID + 1];
    struct error err;

    if (row <= (int64_t)c->store_count && c->stores[row - 1]->row == row) {
        out->store = c->stores[row - 1];
        return 0;
    }
    if (catalog_store_at(service_catalog(t->service), row, name, &err) != 0)
        return tree_errno(&err);
    out->store = config_store(c, name);
    return out->store ? 0 : ENOENT;
}

/* The link in overdue is gone once there is a backup. */
static int load_late(const struct tree *t, int64_t row, struct subject *out)
{
    int result = load_store(t, row, out);

    return result != 0 ? result : late_since(t, out->store, &out->since);
}

static int load_repo(const struct tree *t, int64_t row, struct subject *out)
{
    char store[LIMIT_ID + 1], repo[LIMIT_ID + 1];
    struct error err;

    if (catalog_repo_at(service_catalog(t->service), row, store, repo, &err) != 0)
        return tree_errno(&err);
    out->store = config_store(out->config, store);
    out->repo = out->store ? store_repo(out->store, repo) : NULL;
    return out->repo ? 0 : ENOENT;
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

    if (catalog_record_at(service_catalog(t->service), row, &out->record, &err) == 0)
        return 0;
    if (err.code != ERR_NOT_FOUND)
        return tree_errno(&err);
    out->leaving = leaving_at(t, row, &out->record);
    return out->leaving ? 0 : ENOENT;
}

void subject_release(struct subject *s)
{
    config_free(s->config);
    s->config = NULL;
}

int subject_load(struct tree *t, node_id node, uid_t uid, struct subject *out)
{
    const struct file *file = file_at(node_file(node));

    *out = (struct subject){.tree = t, .node = node, .kind = node_kind_of(node), .uid = uid};
    out->config = service_config(t->service);
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
    case NODE_STORE_JOBS:
    case NODE_STORE_RECORDS:
    case NODE_STORE_AT:
        return load_store(t, node_row(node), out);
    case NODE_REPO:
        return load_repo(t, node_row(node), out);
    case NODE_LATE:
        return load_late(t, node_row(node), out);
    case NODE_KINDS:
        return ENOENT;
    default:
        return view_load(out);
    }
}

bool subject_final(const struct subject *s)
{
    switch (s->kind) {
    case NODE_JOB:
    case NODE_ACTIVE:
        return job_state_terminal(s->job.state);
    case NODE_RECORD:
        return !s->leaving;
    case NODE_KEYED: /* goes with its job, and nobody tells the kernel */
    case NODE_STORE:
    case NODE_STORE_REPOS:
    case NODE_STORE_JOBS:
    case NODE_STORE_RECORDS:
    case NODE_STORE_AT:
    case NODE_REPO:
    case NODE_LATE:
        return false;
    default:
        return view_final(s->kind);
    }
}

time_ms subject_time(const struct subject *s)
{
    switch (s->kind) {
    case NODE_JOB:
    case NODE_ACTIVE:
    case NODE_KEYED:
    case NODE_STORE_JOB_LINK:
        if (s->job.finished_at)
            return s->job.finished_at;
        return s->job.started_at ? s->job.started_at : s->job.created_at;
    case NODE_RECORD:
        return s->record.created_at;
    case NODE_LATE:
        return s->since;
    default:
        return view_is_link(s->kind) ? s->record.created_at : s->tree->mounted_at;
    }
}
