/* SPDX-License-Identifier: MIT */
/*
 * minimal_fs.c - the least that a libfuse low-level file system can be: what files.py measures
 * keepfs against.
 *
 *   /jobs/01LIVE00.../status    volatile (timeouts 0), direct_io: like a running job's
 *   /jobs/01FINAL0.../status    final (an hour), kept in the page cache: like a finished job's
 *
 * The loop, the options and the caching are those of keepfs; the text is a constant. It names the
 * inodes 1 to 6 and needs no lock.
 *
 * Usage: minimal_fs MOUNTPOINT, in the foreground until it is ended by a signal.
 */
#define FUSE_USE_VERSION 312

#include "keepfs/limits.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>

enum { ROOT = 1, JOBS, LIVE, FINAL, LIVE_STATUS, FINAL_STATUS };

static const struct {
    fuse_ino_t parent;
    const char *name;
    const char *text; /* NULL for a directory */
    double timeout;
} nodes[] = {
    [ROOT] = {ROOT, ".", NULL, 3600},
    [JOBS] = {ROOT, "jobs", NULL, 3600},
    [LIVE] = {JOBS, "01LIVE00000000000000000000", NULL, 0},
    [FINAL] = {JOBS, "01FINAL0000000000000000000", NULL, 3600},
    [LIVE_STATUS] = {LIVE, "status", "running\n", 0},
    [FINAL_STATUS] = {FINAL, "status", "succeeded\n", 3600},
};

static struct stat attr(fuse_ino_t ino)
{
    const char *text = nodes[ino].text;

    return (struct stat){
        .st_ino = ino,
        .st_mode = text ? S_IFREG | 0444 : S_IFDIR | 0555,
        .st_nlink = text ? 1 : 2,
        .st_size = text ? (off_t)strlen(text) : 0,
    };
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ATOMIC_O_TRUNC);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    for (fuse_ino_t i = JOBS; i <= FINAL_STATUS; i++)
        if (nodes[i].parent == parent && strcmp(nodes[i].name, name) == 0) {
            fuse_reply_entry(req, &(struct fuse_entry_param){.ino = i,
                                                             .attr = attr(i),
                                                             .attr_timeout = nodes[i].timeout,
                                                             .entry_timeout = nodes[i].timeout});
            return;
        }
    fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st = attr(ino);

    (void)fi;
    fuse_reply_attr(req, &st, nodes[ino].timeout);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fi->direct_io = ino == LIVE_STATUS;
    fi->keep_cache = ino == FINAL_STATUS;
    fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    const char *text = nodes[ino].text;
    size_t len = strlen(text), at = (size_t)off < len ? (size_t)off : len;

    (void)fi;
    fuse_reply_buf(req, text + at, len - at < size ? len - at : size);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .open = op_open,
    .read = op_read,
    .release = op_release,
};

int main(int argc, char **argv)
{
    static char *options[] = {"minimal_fs", "-o", "default_permissions,subtype=keepfs-minimal"};
    struct fuse_args args = FUSE_ARGS_INIT(3, options);

    if (argc != 2) {
        fprintf(stderr, "usage: minimal_fs MOUNTPOINT\n");
        return 2;
    }
    struct fuse_session *session = fuse_session_new(&args, &ops, sizeof ops, NULL);
    if (!session || fuse_set_signal_handlers(session) != 0 ||
        fuse_session_mount(session, argv[1]) != 0)
        return 1;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, LIMIT_FUSE_WORKERS);
    fuse_loop_cfg_set_clone_fd(config, 0);
    int result = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return result < 0 ? 1 : 0;
}
