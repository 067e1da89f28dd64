/* SPDX-License-Identifier: MIT */
/*
 * tree.c - lookup, attributes, listings.
 *
 * Sizes are never guessed: the size of a text is the length of the text, rendered for the purpose.
 * What is written to has none. A file of a job has the time of the job's last change of state: the
 * present would be the time of a file that changes while tar reads it. So whoever compares nothing
 * but size and time, as rsync does, may take a running job's progress for the one that it has.
 *
 * Cookies of a listing:  1 "."  2 ".."  2 + index for names of files.c  row << 8 for ids. They name
 * an entry, not a position: what is added or goes while somebody lists moves nothing. Ids come in
 * the order of their rows.
 */
#include "fs/tree.h"

#include "fs/files.h"
#include "fs/late.h"
#include "fs/removal.h"
#include "fs/views.h"
#include "util/ulid.h"

#include <errno.h>
#include <string.h>

#define COOKIE_DOT    1
#define COOKIE_DOTDOT 2
#define PAYLOAD_BLOCK (128 * 1024)
#define OTHER_BLOCK   4096

/* ---- errno ---- */

static int default_errno(enum error_code code)
{
    switch (code) {
    case ERR_NOT_FOUND:
        return ENOENT;
    case ERR_INVALID:
    case ERR_CONFIG_INVALID:
        return EINVAL;
    case ERR_BACKUP_ALREADY_RUNNING:
        return EBUSY;
    case ERR_QUEUE_FULL:
        return EAGAIN;
    case ERR_STOPPING:
        return ESHUTDOWN;
    case ERR_STATE_NO_SPACE:
        return ENOSPC;
    default:
        return EIO;
    }
}

int tree_errno(const struct error *err)
{
    int own = default_errno(err->code);

    /* What a disk or a repo answered is no answer to the caller's request: an ENOENT of a repo
     * does not mean that the file of the mount is not there. */
    if (own == EIO || own == ENOSPC)
        return own;
    switch (err->errnum) {
    case ENOENT:
    case EINVAL:
    case EBUSY:
    case EEXIST:
    case EAGAIN:
    case E2BIG:
    case ESHUTDOWN:
    case ENOSPC:
    case EROFS:
    case EPERM:
        return err->errnum;
    default:
        return own;
    }
}

int tree_refuse(struct tree *t, uid_t uid, const char *path, const char *input, size_t len,
                const struct error *err)
{
    int errnum = tree_errno(err);

    last_errors_set(t->last_errors, uid,
                    &(struct last_error){.time = clock_now(t->clock),
                                         .errnum = errnum,
                                         .path = path,
                                         .input = input,
                                         .input_len = len,
                                         .message = err->message});
    return errnum;
}

/* ---- attributes ---- */

static void fill_attr(const struct tree *t, node_id node, mode_t mode, uint64_t size, time_ms time,
                      struct node_attr *out)
{
    struct timespec ts = {.tv_sec = time / 1000, .tv_nsec = (long)(time % 1000) * 1000000};

    out->node = node;
    out->st = (struct stat){
        .st_ino = node,
        .st_mode = mode,
        .st_nlink = S_ISDIR(mode) ? 2 : 1,
        .st_uid = t->uid,
        .st_gid = t->gid,
        .st_size = (off_t)size,
        .st_blocks = (blkcnt_t)((size + 511) / 512),
        .st_blksize = OTHER_BLOCK,
        .st_atim = ts,
        .st_mtim = ts,
        .st_ctim = ts,
    };
    access_grant(&t->access, NULL, mode, &out->st);
}

/* The log is of a size of its own; before its first line it may not exist. */
static int log_size(const struct subject *s, uint64_t *size)
{
    __attribute__((cleanup(free_charp))) char *path =
        service_log_path(s->tree->service, s->job.ulid);
    struct stat st;

    *size = 0;
    if (stat(path, &st) == 0)
        *size = (uint64_t)st.st_size;
    else if (errno != ENOENT)
        return EIO;
    return 0;
}

static int file_size(const struct file *f, struct subject *s, uint64_t *size)
{
    struct buf text = BUF_INIT;
    int result;

    *size = 0;
    switch (f->type) {
    case FILE_TEXT:
    case FILE_LINK:
    case FILE_SWITCH:
        if (!f->render)
            return 0;
        result = f->render(s, &text);
        *size = text.len;
        buf_release(&text);
        return result;
    case FILE_OBJECT:
    case FILE_PAYLOAD:
        *size = f->size(s);
        return 0;
    case FILE_STREAM:
        if (!file_final(f, s))
            return 0;
        result = f->render(s, &text);
        *size = text.len;
        buf_release(&text);
        return result;
    case FILE_LOG:
        return log_size(s, size);
    default:
        return 0;
    }
}

static mode_t file_mode(const struct file *f)
{
    switch (f->type) {
    case FILE_LINK:
        return S_IFLNK | f->mode;
    case FILE_DIR:
        return S_IFDIR | f->mode;
    default:
        return S_IFREG | f->mode;
    }
}

/* The node behind a row in the directory of `s`. */
static node_id file_node(const struct file *f, node_id dir)
{
    if (f->type == FILE_DIR)
        return node_make(f->opens, node_row(dir), NODE_FILE_NONE);
    return node_make(node_kind_of(dir), node_row(dir), file_index(f));
}

int tree_file_attr(const struct file *f, struct subject *s, struct node_attr *out)
{
    uint64_t size;
    int result = file_present(f, s);

    if (result == 0)
        result = file_size(f, s, &size);
    if (result != 0)
        return result;
    out->final = file_final(f, s);
    fill_attr(s->tree, s->node, file_mode(f), size, f->time ? f->time(s) : subject_time(s), out);
    if (f->type == FILE_OBJECT || f->type == FILE_PAYLOAD)
        out->st.st_blksize = PAYLOAD_BLOCK;
    if (f->type == FILE_CTL && s->store)
        access_grant(&s->tree->access, &s->store->run_group, file_mode(f), &out->st);
    return 0;
}

static bool is_link(enum node_kind kind)
{
    return kind == NODE_ACTIVE || kind == NODE_KEYED || kind == NODE_LATE || view_is_link(kind);
}

static void link_target(const struct subject *s, struct buf *out)
{
    if (s->kind == NODE_LATE)
        buf_addf(out, "../stores/%s", s->store->id);
    else if (view_is_link(s->kind))
        view_target(s, out);
    else
        buf_addf(out, "../%s", s->job.ulid);
}

static mode_t subject_mode(const struct subject *s)
{
    if (is_link(s->kind))
        return S_IFLNK | 0777;
    /* Where the owner and the control group can remove something. */
    return S_IFDIR | (s->kind == NODE_RECORDS || s->kind == NODE_RECORD ? 0775 : 0555);
}

static void subject_attr(const struct subject *s, struct node_attr *out)
{
    struct buf target = BUF_INIT;

    if (is_link(s->kind))
        link_target(s, &target);
    out->final = subject_final(s);
    fill_attr(s->tree, s->node, subject_mode(s), target.len, subject_time(s), out);
    buf_release(&target);
}

int tree_attr(struct tree *t, node_id node, uid_t uid, struct node_attr *out)
{
    SUBJECT(s);
    int result = subject_load(t, node, uid, &s);

    if (result != 0)
        return result;
    if (node_file(node) != NODE_FILE_NONE)
        return tree_file_attr(file_at(node_file(node)), &s, out);
    subject_attr(&s, out);
    return 0;
}

int tree_readlink(struct tree *t, node_id node, struct buf *out)
{
    const struct file *file = file_at(node_file(node));
    SUBJECT(s);
    int result = subject_load(t, node, t->uid, &s);

    if (result != 0)
        return result;
    if (!file) {
        if (!is_link(s.kind))
            return EINVAL;
        link_target(&s, out);
        return 0;
    }
    if (file->type != FILE_LINK)
        return EINVAL;
    result = file_present(file, &s);
    return result != 0 ? result : file->render(&s, out);
}

/* ---- lookup ---- */

static int find_job(struct tree *t, enum node_kind dir, const char *name, node_id *out)
{
    struct catalog *c = service_catalog(t->service);
    enum node_kind kind = dir == NODE_JOBS          ? NODE_JOB
                          : dir == NODE_JOBS_ACTIVE ? NODE_ACTIVE
                                                    : NODE_KEYED;
    struct job job;
    struct error err;
    int result;

    if (kind == NODE_KEYED)
        result = strlen(name) <= LIMIT_KEY ? catalog_job_by_key(c, name, &job, &err)
                                           : error_set(&err, ERR_NOT_FOUND, "no such key");
    else
        result = ulid_valid(name) ? catalog_job_get(c, name, &job, &err)
                                  : error_set(&err, ERR_NOT_FOUND, "no such job");
    if (result != 0)
        return tree_errno(&err);
    *out = node_make(kind, job.row, NODE_FILE_NONE);
    return 0;
}

static int find_record(struct tree *t, const char *name, node_id *out)
{
    struct record record;
    struct error err;

    if (!ulid_valid(name))
        return ENOENT;
    if (catalog_record_get(service_catalog(t->service), name, &record, &err) != 0 &&
        !leaving_find(t, name, &record))
        return tree_errno(&err);
    *out = node_make(NODE_RECORD, record.row, NODE_FILE_NONE);
    return 0;
}

/* Whether it is overdue is seen when its attributes are asked for. */
static int find_late(const struct subject *dir, const char *name, node_id *out)
{
    int result = tree_store_node(dir->config, name, out);

    if (result == 0)
        *out = node_make(NODE_LATE, node_row(*out), NODE_FILE_NONE);
    return result;
}

/* An id, in the directories that have them. */
static int find_id(const struct subject *dir, const char *name, node_id *out)
{
    switch (dir->kind) {
    case NODE_JOBS:
    case NODE_JOBS_ACTIVE:
    case NODE_JOBS_KEYED:
        return find_job(dir->tree, dir->kind, name, out);
    case NODE_RECORDS:
        return find_record(dir->tree, name, out);
    case NODE_STORES:
        return tree_store_node(dir->config, name, out);
    case NODE_STORE_REPOS:
        return tree_repo_node(dir->store, name, out);
    case NODE_OVERDUE:
        return find_late(dir, name, out);
    default:
        return view_find(dir, name, out);
    }
}

int tree_lookup(struct tree *t, node_id parent, const char *name, uid_t uid, struct node_attr *out)
{
    SUBJECT(dir);
    int result;

    if (node_file(parent) != NODE_FILE_NONE || is_link(node_kind_of(parent)))
        return ENOTDIR;
    const struct file *file = file_find(node_kind_of(parent), name);
    if (file)
        return tree_attr(t, file_node(file, parent), uid, out);
    result = subject_load(t, parent, uid, &dir);
    if (result != 0)
        return result;
    node_id node;
    result = find_id(&dir, name, &node);
    return result != 0 ? result : tree_attr(t, node, uid, out);
}

/* ---- listings ---- */

struct listing {
    struct tree *tree;
    struct subject *dir;
    tree_entry_fn fn;
    void *ctx;
    bool full;
    enum node_kind child; /* of the ids */
};

static bool add_entry(struct listing *l, const char *name, node_id node, mode_t mode,
                      uint64_t cookie)
{
    l->full = l->full || !l->fn(l->ctx, name, node, mode & S_IFMT, cookie);
    return !l->full;
}

static node_id parent_node(const struct subject *s)
{
    node_id node;

    switch (s->kind) {
    case NODE_JOBS_ACTIVE:
    case NODE_JOBS_KEYED:
    case NODE_JOB:
        return node_make(NODE_JOBS, 0, NODE_FILE_NONE);
    case NODE_RECORD:
        return node_make(NODE_RECORDS, 0, NODE_FILE_NONE);
    case NODE_STORE:
        return node_make(NODE_STORES, 0, NODE_FILE_NONE);
    case NODE_STORE_REPOS:
        return node_make(NODE_STORE, node_row(s->node), NODE_FILE_NONE);
    case NODE_REPO:
        if (tree_store_node(s->config, s->store->id, &node) == 0)
            return node_make(NODE_STORE_REPOS, node_row(node), NODE_FILE_NONE);
        return NODE_ROOT_ID;
    default:
        return view_parent(s);
    }
}

static int list_files(struct listing *l, uint64_t cookie)
{
    const struct file *f;

    if (l->dir->leaving) /* payload is gone, and who removes the rest has listed it before */
        return 0;
    for (unsigned i = 1; !l->full && (f = file_at(i)) != NULL; i++) {
        if (f->dir != l->dir->kind || COOKIE_DOTDOT + i <= cookie)
            continue;
        int result = file_present(f, l->dir);
        if (result == 0)
            add_entry(l, f->name, file_node(f, l->dir->node), file_mode(f), COOKIE_DOTDOT + i);
        else if (result != ENOENT)
            return result;
    }
    return 0;
}

static bool add_row(void *ctx, const struct catalog_entry *e)
{
    struct listing *l = ctx;

    return add_entry(l, e->name, node_make(l->child, e->row, NODE_FILE_NONE),
                     is_link(l->child) ? S_IFLNK : S_IFDIR, (uint64_t)e->row * COOKIE_ROWS);
}

static int list_rows(struct listing *l, enum catalog_list what, enum node_kind child,
                     uint64_t cookie)
{
    struct error err;

    l->child = child;
    if (catalog_list(service_catalog(l->tree->service), what, (int64_t)(cookie / COOKIE_ROWS),
                     add_row, l, &err) != 0)
        return tree_errno(&err);
    return 0;
}

static bool add_store(void *ctx, const struct catalog_entry *e)
{
    struct listing *l = ctx;

    return !config_store(l->dir->config, e->name) || add_row(l, e);
}

/* Of all that ever were, those of the configuration. A reload makes the rows of new ones. */
static int list_stores(struct listing *l, uint64_t cookie)
{
    struct error err;

    l->child = NODE_STORE;
    if (catalog_list_stores(service_catalog(l->tree->service), (int64_t)(cookie / COOKIE_ROWS),
                            add_store, l, &err) != 0)
        return tree_errno(&err);
    return 0;
}

/* The repo with the lowest row behind `after`; the few of a store are looked through for each. */
static int next_repo(struct listing *l, int64_t after, struct catalog_entry *out)
{
    const struct store *store = l->dir->store;
    node_id node;

    *out = (struct catalog_entry){0};
    for (size_t i = 0; i < store->repo_count; i++) {
        int result = tree_repo_node(store, store->repos[i]->id, &node);
        if (result != 0)
            return result;
        if (node_row(node) > after && (!out->name || node_row(node) < out->row))
            *out = (struct catalog_entry){node_row(node), store->repos[i]->id};
    }
    return 0;
}

static int list_repos(struct listing *l, uint64_t cookie)
{
    struct catalog_entry e = {.row = (int64_t)(cookie / COOKIE_ROWS)};
    int result;

    l->child = NODE_REPO;
    do
        result = next_repo(l, e.row, &e);
    while (result == 0 && e.name && add_row(l, &e));
    return result;
}

static int list_ids(struct listing *l, uint64_t cookie)
{
    switch (l->dir->kind) {
    case NODE_JOBS:
        return list_rows(l, LIST_JOBS, NODE_JOB, cookie);
    case NODE_JOBS_ACTIVE:
        return list_rows(l, LIST_JOBS_ACTIVE, NODE_ACTIVE, cookie);
    case NODE_JOBS_KEYED:
        return list_rows(l, LIST_JOBS_KEYED, NODE_KEYED, cookie);
    case NODE_RECORDS:
        return list_rows(l, LIST_RECORDS, NODE_RECORD, cookie);
    case NODE_STORES:
        return list_stores(l, cookie);
    case NODE_STORE_REPOS:
        return list_repos(l, cookie);
    case NODE_OVERDUE:
        l->child = NODE_LATE;
        return late_list(l->tree, l->dir->config, (int64_t)(cookie / COOKIE_ROWS), add_row, l);
    default:
        return view_list(l->dir, cookie, l->fn, l->ctx);
    }
}

/* A client reads on until it gets nothing, which takes no look into the catalog where a directory
 * has files alone: there are hundreds of thousands of these. */
static bool behind_all(enum node_kind dir, uint64_t cookie)
{
    const struct file *f;

    if (dir != NODE_JOB && dir != NODE_RECORD && dir != NODE_STORE && dir != NODE_REPO)
        return false;
    for (unsigned i = 1; (f = file_at(i)) != NULL; i++)
        if (f->dir == dir && COOKIE_DOTDOT + i > cookie)
            return false;
    return true;
}

int tree_list(struct tree *t, node_id dir, uint64_t cookie, tree_entry_fn fn, void *ctx)
{
    SUBJECT(s);
    struct listing l = {.tree = t, .dir = &s, .fn = fn, .ctx = ctx};
    int result;

    if (node_file(dir) != NODE_FILE_NONE || is_link(node_kind_of(dir)))
        return ENOTDIR;
    if (behind_all(node_kind_of(dir), cookie))
        return 0;
    result = subject_load(t, dir, t->uid, &s);
    if (result != 0)
        return result;
    if (cookie < COOKIE_DOT)
        add_entry(&l, ".", dir, S_IFDIR, COOKIE_DOT);
    if (!l.full && cookie < COOKIE_DOTDOT)
        add_entry(&l, "..", parent_node(&s), S_IFDIR, COOKIE_DOTDOT);
    result = list_files(&l, cookie);
    return result != 0 || l.full ? result : list_ids(&l, cookie);
}
