/* SPDX-License-Identifier: MIT */
/*
 * ops.c - FUSE requests, translated to tree.c and handle.c and answered.
 *
 * Every request is answered before its function returns, but for reads that wait for something:
 * wait.c parks them. No worker ever waits for a job. What is missing in
 * the table is missing on purpose:
 *   flush, fsync     a shell flushes before it writes; the kernel remembers that there is none
 *   forget           replied to, but nodes are numbers and hold nothing
 *   opendir          a listing keeps no state but its cookie
 *   readdirplus      a listing would render what nobody may want to see: a size is a text's length
 *   access           the mount has default_permissions: the kernel checks modes by itself
 *   getxattr, ...    the kernel remembers that there are none
 */
#include "fs/ops.h"

#include "fs/handle.h"
#include "fs/removal.h"
#include "fs/wait.h"
#include "keepfs/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FINAL_TIMEOUT 3600.0

static struct ops_context *context(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct tree *tree(fuse_req_t req)
{
    return context(req)->tree;
}

static uid_t caller(fuse_req_t req)
{
    return fuse_req_ctx(req)->uid;
}

static struct handle *handle(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* The page cache of the writer is not wanted, nor is an O_TRUNC within open: it comes as a
 * SETATTR of its own, like any other. */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct ops_context *c = userdata;

    conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ATOMIC_O_TRUNC);
    wait_init(c->tree->waiters);
    if (c->ready)
        c->ready(c->ready_ctx);
}

/* ---- names and attributes ---- */

static double timeout_of(const struct node_attr *a)
{
    return a->final ? FINAL_TIMEOUT : 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {0};
    struct node_attr a;
    int result = tree_lookup(tree(req), parent, name, caller(req), &a);

    if (result != 0) {
        fuse_reply_err(req, result);
        return;
    }
    e.ino = a.node;
    e.generation = 0;
    e.attr = a.st;
    e.attr_timeout = e.entry_timeout = timeout_of(&a);
    fuse_reply_entry(req, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    (void)ino;
    (void)count;
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    (void)count;
    (void)forgets;
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node_attr a;
    int result = tree_attr(tree(req), ino, caller(req), &a);

    (void)fi; /* fstat does not give it */
    /* What is open is still what it is when its name is gone. */
    if (result == ENOENT)
        result = handle_attr(tree(req), ino, &a);
    if (result != 0)
        fuse_reply_err(req, result);
    else
        fuse_reply_attr(req, &a.st, timeout_of(&a));
}

/* `echo x > ctl` truncates and `touch ctl` sets times: accepted, to no effect. Nothing else may be
 * changed. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
                      FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    bool size_kept = !(to_set & FUSE_SET_ATTR_SIZE) || attr->st_size == 0;

    if (!handle_accepts_truncate(ino) || !size_kept || (to_set & ~(FUSE_SET_ATTR_SIZE | times)))
        fuse_reply_err(req, EPERM);
    else
        op_getattr(req, ino, fi);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct buf target = BUF_INIT;
    int result = tree_readlink(tree(req), ino, &target);

    if (result != 0)
        fuse_reply_err(req, result);
    else
        fuse_reply_readlink(req, buf_text(&target));
    buf_release(&target);
}

/* ---- directories ---- */

struct page {
    fuse_req_t req;
    char *data;
    size_t used, size;
};

static bool add_to_page(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    struct page *p = ctx;
    struct stat st = {.st_ino = node, .st_mode = mode};
    size_t left = p->size - p->used;
    size_t need = fuse_add_direntry(p->req, p->data + p->used, left, name, &st, (off_t)cookie);

    if (need > left)
        return false;
    p->used += need;
    return true;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    struct page p = {.req = req, .data = xmalloc(size), .size = size};
    int result = tree_list(tree(req), ino, (uint64_t)off, add_to_page, &p);

    (void)fi;
    /* An error after the first entries would lose them; it comes back with the next page. */
    if (result != 0 && p.used == 0)
        fuse_reply_err(req, result);
    else
        fuse_reply_buf(req, p.data, p.used);
    free(p.data);
}

/* ---- files ---- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct handle *h;
    int result = handle_open(tree(req), ino, fi->flags, caller(req), &h);

    if (result != 0) {
        fuse_reply_err(req, result);
        return;
    }
    handle_opened_by(h, fuse_req_ctx(req)->pid);
    fi->fh = (uintptr_t)h;
    fi->keep_cache = handle_mode(h) == HANDLE_CACHED;
    fi->direct_io = handle_mode(h) == HANDLE_DIRECT || handle_mode(h) == HANDLE_STREAM;
    fi->nonseekable = handle_mode(h) == HANDLE_STREAM;
    /* The caller was interrupted and there will be no release. */
    if (fuse_reply_open(req, fi) == -ENOENT)
        handle_close(h);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_close(handle(fi));
    fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    if (handle_blocks(handle(fi))) {
        wait_read(req, handle(fi), size, fi->flags);
        return;
    }
    char *data = xmalloc(size);
    size_t got;
    int result = handle_read(handle(fi), data, size, (uint64_t)off, &got);

    (void)ino;
    if (result != 0)
        fuse_reply_err(req, result);
    else
        fuse_reply_buf(req, data, got);
    free(data);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    size_t taken;
    int result = handle_write(handle(fi), data, size, &taken);

    (void)ino;
    (void)off;
    if (result != 0)
        fuse_reply_err(req, result);
    else
        fuse_reply_write(req, taken);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                    struct fuse_pollhandle *ph)
{
    (void)ino;
    wait_poll(req, handle(fi), ph);
}

/* No blocks: df leaves it out, and nobody waits for space. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};

    (void)ino;
    fuse_reply_statfs(req, &st);
}

/* ---- removing: nothing but records ---- */

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    char shell[ULID_LEN + 1];
    int result = tree_unlink(tree(req), parent, name, caller(req), fuse_req_ctx(req)->pid, shell);

    if (shell[0])
        notifier_gone(context(req)->notifier, NODE_RECORDS, shell, LEAVING_MS);
    fuse_reply_err(req, result);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    int result = tree_rmdir(tree(req), parent, name, caller(req), fuse_req_ctx(req)->pid);

    if (result == 0)
        notifier_cancel(context(req)->notifier, NODE_RECORDS, name);
    fuse_reply_err(req, result);
}

/* ---- what nobody may do: names here are made by jobs alone ---- */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)rdev;
    fuse_reply_err(req, EPERM);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    (void)fi;
    op_mknod(req, parent, name, mode, 0);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    op_mknod(req, parent, name, mode, 0);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target;
    op_mknod(req, parent, name, 0, 0);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned int flags)
{
    (void)newparent;
    (void)newname;
    (void)flags;
    op_mknod(req, parent, name, 0, 0);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
    (void)ino;
    op_mknod(req, newparent, newname, 0, 0);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .readdir = op_readdir,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
    .poll = op_poll,
    .statfs = op_statfs,
    .mknod = op_mknod,
    .create = op_create,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
};
