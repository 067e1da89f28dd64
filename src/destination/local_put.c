/* SPDX-License-Identifier: MIT */
/*
 * local_put.c - writing a group: aside, durable, then in its place in one step.
 *
 * States of a put, and what a crash leaves in each:
 *
 *   begun      the lock is held; <group>.tmp with objects that may be incomplete. It is never
 *              listed as a group; the next discard or put of the same group removes it.
 *   committed  its objects and the directory were fsynced, then it was renamed without replacing,
 *              then the root was fsynced. If that last fsync fails, the group is taken back.
 *
 * put_free ends both: what is not committed is removed, then the lock is given back.
 */
#include "destination/file_writer.h"
#include "destination/local.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct local_put {
    struct put put;
    struct local *local;
    char group[LOCAL_NAME + 1];
    char partial[LOCAL_NAME + sizeof LOCAL_PARTIAL];
    char *path; /* of <group>.tmp, for messages */
    int lock_fd, dir_fd;
    bool made; /* <group>.tmp is there, and ours to remove */
};

static struct local_put *put_of(struct put *p)
{
    return (struct local_put *)p;
}

void local_put_free(struct put *put)
{
    struct local_put *p = put_of(put);

    if (!p)
        return;
    fd_close(&p->dir_fd);
    /* The next discard finds what cannot be removed now. */
    if (p->made && local_remove(p->local, p->partial) != 0)
        log_warn("cannot remove %s: %s", p->path, strerror(errno));
    fd_close(&p->lock_fd);
    free(p->path);
    free(p);
}

/* Makes <group>.tmp; one that a dead process left is removed first, once. -1 with errno. */
static int make_partial(const struct local_put *p)
{
    const struct local *l = p->local;

    if (mkdirat(l->root_fd, p->partial, 0700) == 0)
        return 0;
    if (errno != EEXIST || local_remove(l, p->partial) != 0)
        return -1;
    return mkdirat(l->root_fd, p->partial, 0700);
}

static int refuse_duplicate(const struct local_put *p, struct error *err)
{
    return error_set(err, ERR_DUPLICATE_ID, "%s/%s is there already", p->local->root, p->group);
}

/* Is <group> free? Sets err if not. */
static int check_free(const struct local_put *p, struct error *err)
{
    struct stat st;

    if (fstatat(p->local->root_fd, p->group, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return refuse_duplicate(p, err);
    if (errno == ENOENT)
        return 0;
    return error_sys(err, SIDE_DESTINATION, errno, "cannot examine %s/%s", p->local->root,
                     p->group);
}

static int put_prepare(struct local_put *p, struct error *err)
{
    if (local_lock(p->local, &p->lock_fd, err) != 0 || check_free(p, err) != 0)
        return -1;
    if (make_partial(p) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make %s", p->path);
    p->made = true;
    p->dir_fd = local_open_below(p->local, p->partial);
    if (p->dir_fd < 0 || fchmod(p->dir_fd, 0700) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot use %s", p->path);
    return 0;
}

int local_put_begin(struct destination *d, const char *group, struct put **out, struct error *err)
{
    struct local_put *p = xcalloc(1, sizeof *p);

    assert(local_name_valid(group) && !local_is_partial(group, (char[LOCAL_NAME + 1]){0}));
    p->put.destination = d;
    p->local = local_of(d);
    p->lock_fd = p->dir_fd = -1;
    snprintf(p->group, sizeof p->group, "%s", group);
    snprintf(p->partial, sizeof p->partial, "%s" LOCAL_PARTIAL, group);
    p->path = xasprintf("%s/%s", p->local->root, p->partial);
    if (put_prepare(p, err) != 0) {
        local_put_free(&p->put);
        return -1;
    }
    *out = &p->put;
    return 0;
}

int local_put_object(struct put *put, const char *name, struct writer **out, struct error *err)
{
    struct local_put *p = put_of(put);

    assert(local_name_valid(name));
    return file_writer_new(p->dir_fd, p->path, name, out, err);
}

/* What was fsynced may be dropped from the page cache, so that the bytes come from the disk. That
 * is a wish: a file system that does not hear it is read all the same. */
int local_put_reopen(struct put *put, const char *name, struct object **out, struct error *err)
{
    struct local_put *p = put_of(put);
    AUTO_FD fd = openat(p->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return local_object_new(p->dir_fd, p->path, name, out, err);
}

/* Renames <group>.tmp to <group>, which must not exist. Where the file system cannot promise that,
 * the lock keeps every other keepfs away between the check and the rename. */
static int rename_group(const struct local_put *p, struct error *err)
{
    int fd = p->local->root_fd;

    if (renameat2(fd, p->partial, fd, p->group, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS) {
        if (check_free(p, err) != 0)
            return -1;
        if (renameat(fd, p->partial, fd, p->group) == 0)
            return 0;
    }
    if (errno == EEXIST || errno == ENOTEMPTY)
        return refuse_duplicate(p, err);
    return error_sys(err, SIDE_DESTINATION, errno, "cannot rename %s to %s", p->path, p->group);
}

int local_put_commit(struct put *put, struct error *err)
{
    struct local_put *p = put_of(put);
    int fd = p->local->root_fd;

    if (fsync(p->dir_fd) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make %s durable", p->path);
    if (rename_group(p, err) != 0)
        return -1;
    if (fsync(fd) != 0) {
        error_sys(err, SIDE_DESTINATION, errno, "cannot make the entry of %s in %s durable",
                  p->group, p->local->root);
        /* All or nothing: it goes back, for put_free to remove. */
        if (renameat2(fd, p->group, fd, p->partial, 0) != 0) {
            p->made = false;
            log_warn("cannot take %s/%s back: %s", p->local->root, p->group, strerror(errno));
        }
        return -1;
    }
    p->made = false;
    return 0;
}
