/* SPDX-License-Identifier: MIT */
/*
 * local.c - groups as directories below one directory of this machine: everything but putting.
 *
 * The layout, the mark and the lock are described in local.h. All work is relative to a descriptor
 * of the root and never follows a symlink below it.
 *
 * A deletion unlinks one object at a time and fsyncs after each, so that after a power cut the
 * objects that are left are those that were to be deleted last. A group with foreign files in it
 * is reported and stays.
 */
#include "destination/local.h"
#include "destination/kinds.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MARK       ".keepfs"
#define MARK_TEXT  "keepfs keeps backups here and locks this file while it writes: leave it.\n"
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

struct local_object {
    struct object object;
    int fd;
    char *path; /* for messages */
};

bool local_name_valid(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= LOCAL_NAME && name[0] != '.' && strspn(name, NAME_CHARS) == len;
}

bool local_is_partial(const char *name, char *group)
{
    size_t len = strlen(name), end = sizeof LOCAL_PARTIAL - 1;

    if (len <= end || len - end > LOCAL_NAME || strcmp(name + len - end, LOCAL_PARTIAL) != 0)
        return false;
    snprintf(group, LOCAL_NAME + 1, "%.*s", (int)(len - end), name);
    return local_name_valid(group);
}

/* ---- the place ---- */

static char *local_place(const struct settings *settings)
{
    const char *path = settings_text(settings, "path");
    char *resolved = path_resolve(path);

    return resolved ? resolved : xstrdup(path);
}

/* Opens the root; a missing one is made if it may be. -1 with errno. */
static int open_root(const char *path, unsigned flags)
{
    int fd = open(path, LOCAL_OPEN_DIR);

    if (fd >= 0 || errno != ENOENT || !(flags & DESTINATION_CREATE))
        return fd;
    return dir_create(path) == 0 ? open(path, LOCAL_OPEN_DIR) : -1;
}

static int local_open(const struct settings *settings, unsigned flags, struct destination **out,
                      struct error *err)
{
    const char *path = settings_text(settings, "path");
    int fd = open_root(path, flags);

    if (fd < 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot open the repo's directory %s", path);
    struct local *l = xcalloc(1, sizeof *l);
    l->destination.kind = &destination_local;
    l->root = xstrdup(path);
    l->root_fd = fd;
    l->create = (flags & DESTINATION_CREATE) != 0;
    *out = &l->destination;
    return 0;
}

static void local_close(struct destination *d)
{
    struct local *l = local_of(d);

    if (!l)
        return;
    fd_close(&l->root_fd);
    free(l->root);
    free(l);
}

/* ---- the mark and its lock ---- */

static int mark_missing(const struct local *l, struct error *err)
{
    return error_set(err, ERR_DESTINATION_NOT_FOUND,
                     "%s is there but is not the repo keepfs wrote to before (no " MARK
                     " in it): is its file system mounted? If it is meant, make it with: touch "
                     "%s/" MARK,
                     l->root, l->root);
}

/* Opens the mark, and makes it if it may be made. -1 with errno. Writable, since NFS gives an
 * exclusive lock on nothing else; O_NONBLOCK in case somebody put a fifo there. */
static int open_mark(const struct local *l)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(l->root_fd, MARK, flags);

    if (fd >= 0 || errno != ENOENT || !l->create)
        return fd;
    fd = openat(l->root_fd, MARK, flags | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return errno == EEXIST ? openat(l->root_fd, MARK, flags) : -1;
    if (fchmod(fd, 0600) != 0)
        fd_close(&fd);
    return fd;
}

/* An empty mark is new, made by hand, or what a crash left. */
static int fill_mark(const struct local *l, int fd, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot examine %s/" MARK, l->root);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_DESTINATION_CONFIG_INVALID,
                         "%s/" MARK " must be a regular file: move it away", l->root);
    if (st.st_size > 0)
        return 0;
    if (fd_write_all(fd, MARK_TEXT, sizeof MARK_TEXT - 1) != 0 || fsync(fd) != 0 ||
        fsync(l->root_fd) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot write %s/" MARK, l->root);
    return 0;
}

int local_lock(const struct local *l, int *out, struct error *err)
{
    AUTO_FD fd = open_mark(l);

    if (fd < 0 && errno == ENOENT && !l->create)
        return mark_missing(l, err);
    if (fd < 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot open %s/" MARK, l->root);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return error_set(err, ERR_DESTINATION_PATH_CONFLICT,
                             "another backup or another keepfs is writing to %s", l->root);
        return error_sys(err, SIDE_DESTINATION, errno, "cannot lock %s/" MARK, l->root);
    }
    if (fill_mark(l, fd, err) != 0)
        return -1;
    *out = fd;
    fd = -1;
    return 0;
}

/* Deleting takes no lock, but happens only in a place that is ours. */
static int require_mark(const struct local *l, struct error *err)
{
    struct stat st;

    if (l->create || fstatat(l->root_fd, MARK, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (errno == ENOENT)
        return mark_missing(l, err);
    return error_sys(err, SIDE_DESTINATION, errno, "cannot examine %s/" MARK, l->root);
}

static int local_recognise(struct destination *d, struct error *err)
{
    return require_mark(local_of(d), err);
}

/* For an ordinary user the blocks that are reserved for root are no room. */
static int local_room(struct destination *d, uint64_t *free_bytes, uint64_t *total_bytes,
                      struct error *err)
{
    const struct local *l = local_of(d);
    struct statvfs fs;

    if (fstatvfs(l->root_fd, &fs) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "%s", l->root);
    *free_bytes = (uint64_t)(geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
    *total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

/* ---- removing ---- */

int local_open_below(const struct local *l, const char *name)
{
    return openat(l->root_fd, name, LOCAL_OPEN_DIR | O_NOFOLLOW);
}

/* Unlinks the regular files in a directory. -1 with errno. */
static int unlink_files(const struct local *l, const char *name)
{
    int fd = local_open_below(l, name);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int result = 0;

    if (!dir) {
        fd_close(&fd);
        return -1;
    }
    for (struct dirent *e; result == 0 && (errno = 0, e = readdir(dir));) {
        struct stat st;
        result = fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW);
        if (result == 0 && S_ISREG(st.st_mode))
            result = unlinkat(fd, e->d_name, 0);
    }
    int saved = errno; /* of readdir, if the loop came to its end */
    closedir(dir);
    errno = saved;
    return saved == 0 ? result : -1;
}

int local_remove(const struct local *l, const char *name)
{
    if (unlink_files(l, name) != 0)
        return errno == ENOENT ? 0 : -1;
    return unlinkat(l->root_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

static int removal_failed(const struct local *l, const char *name, struct error *err)
{
    if (errno == ENOTEMPTY || errno == EEXIST)
        return error_sys(err, SIDE_DESTINATION, ENOTEMPTY,
                         "%s/%s holds something that keepfs did not write: move it away", l->root,
                         name);
    return error_sys(err, SIDE_DESTINATION, errno, "cannot remove %s/%s", l->root, name);
}

/* ---- listing and reading ---- */

/* 1 or 0; -1 with errno if that cannot be said. */
static int is_directory(int dir_fd, const struct dirent *e)
{
    struct stat st;

    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -1;
    return S_ISDIR(st.st_mode);
}

static int list_entry(const struct dirent *e, destination_list_fn fn, void *ctx, struct error *err)
{
    char group[LOCAL_NAME + 1];

    if (local_is_partial(e->d_name, group))
        return fn(ctx, group, true, err);
    return local_name_valid(e->d_name) ? fn(ctx, e->d_name, false, err) : 0;
}

static int local_list(struct destination *d, destination_list_fn fn, void *ctx, struct error *err)
{
    struct local *l = local_of(d);
    int fd = openat(l->root_fd, ".", LOCAL_OPEN_DIR); /* a position of its own */
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int result = 0;

    if (!dir) {
        error_sys(err, SIDE_DESTINATION, errno, "cannot list %s", l->root);
        fd_close(&fd);
        return -1;
    }
    for (struct dirent *e; result == 0 && (errno = 0, e = readdir(dir));) {
        int found = is_directory(fd, e);
        if (found < 0)
            break;
        if (found)
            result = list_entry(e, fn, ctx, err);
    }
    if (result == 0 && errno != 0)
        result = error_sys(err, SIDE_DESTINATION, errno, "cannot list %s", l->root);
    closedir(dir);
    return result;
}

int local_object_new(int dir_fd, const char *place, const char *name, struct object **out,
                     struct error *err)
{
    struct stat st;
    AUTO_FD fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot open %s/%s", place, name);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_DESTINATION_CONFIG_INVALID,
                         "%s/%s is no regular file: keepfs did not write it", place, name);
    struct local_object *o = xcalloc(1, sizeof *o);
    o->object.kind = &destination_local;
    o->object.size = (uint64_t)st.st_size;
    o->object.mtime = (time_ms)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    o->path = xasprintf("%s/%s", place, name);
    o->fd = fd;
    fd = -1;
    *out = &o->object;
    return 0;
}

static int local_open_object(struct destination *d, const char *group, const char *name,
                             struct object **out, struct error *err)
{
    struct local *l = local_of(d);

    assert(local_name_valid(group) && local_name_valid(name));
    __attribute__((cleanup(free_charp))) char *place = xasprintf("%s/%s", l->root, group);
    AUTO_FD dir_fd = local_open_below(l, group);
    if (dir_fd < 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot open %s/%s", place, name);
    return local_object_new(dir_fd, place, name, out, err);
}

static ssize_t local_pread(struct object *object, void *buf, size_t len, uint64_t offset,
                           struct error *err)
{
    struct local_object *o = (struct local_object *)object;

    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return 0; /* no file reaches there */
    ssize_t n = fd_pread_all(o->fd, buf, len, (off_t)offset);
    return n >= 0 ? n : error_sys(err, SIDE_DESTINATION, errno, "cannot read %s", o->path);
}

static void local_close_object(struct object *object)
{
    struct local_object *o = (struct local_object *)object;

    if (!o)
        return;
    fd_close(&o->fd);
    free(o->path);
    free(o);
}

/* ---- deleting ---- */

/* Each step is fsynced, or a power cut could undo the marker's deletion and keep the payload's. */
static int local_delete_object(struct destination *d, const char *group, const char *name,
                               struct error *err)
{
    struct local *l = local_of(d);

    assert(local_name_valid(group) && local_name_valid(name));
    if (require_mark(l, err) != 0)
        return -1;
    AUTO_FD dir_fd = local_open_below(l, group);
    if (dir_fd >= 0 && unlinkat(dir_fd, name, 0) == 0 && fsync(dir_fd) == 0)
        return 0;
    if (errno == ENOENT)
        return 0;
    return error_sys(err, SIDE_DESTINATION, errno, "cannot delete %s/%s/%s", l->root, group, name);
}

/* Also when the directory is gone already: a crash may have come before the fsync. */
static int local_delete_group(struct destination *d, const char *group, struct error *err)
{
    struct local *l = local_of(d);

    assert(local_name_valid(group));
    if (require_mark(l, err) != 0)
        return -1;
    if (unlinkat(l->root_fd, group, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return removal_failed(l, group, err);
    if (fsync(l->root_fd) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make the deletion of %s/%s durable",
                         l->root, group);
    return 0;
}

static int local_discard(struct destination *d, const char *group, struct error *err)
{
    struct local *l = local_of(d);
    char partial[LOCAL_NAME + sizeof LOCAL_PARTIAL];
    AUTO_FD lock = -1;

    assert(local_name_valid(group));
    if (local_lock(l, &lock, err) != 0)
        return -1;
    snprintf(partial, sizeof partial, "%s" LOCAL_PARTIAL, group);
    if (local_remove(l, partial) != 0)
        return removal_failed(l, partial, err);
    if (fsync(l->root_fd) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make the removal of %s/%s durable",
                         l->root, partial);
    return 0;
}

/* ---- checking ---- */

/* Cuts `path` to its longest existing part. -1 with errno. */
static int cut_to_existing(char *path, struct stat *st)
{
    while (stat(path, st) != 0) {
        struct stat link;
        /* A symlink to nowhere exists itself, so nothing can be made in its place. */
        if (errno != ENOENT || lstat(path, &link) == 0)
            return -1;
        char *slash = strrchr(path, '/');
        slash[slash == path ? 1 : 0] = '\0';
    }
    return 0;
}

static int check_writable(const char *path, struct error *err)
{
    struct statvfs fs;

    if (faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot write to %s", path);
    if (statvfs(path, &fs) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot examine the file system of %s",
                         path);
    if (fs.f_flag & ST_RDONLY)
        return error_sys(err, SIDE_DESTINATION, EROFS, "cannot write to %s", path);
    return 0;
}

/* What keepfs is built on (rename, fsync, flock) is only as good as the server there. */
static const char *weak_file_system(const char *path)
{
    struct statfs fs;

    if (statfs(path, &fs) != 0)
        return NULL;
    switch ((unsigned)fs.f_type) {
    case NFS_SUPER_MAGIC:
        return "NFS";
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
        return "SMB";
    case FUSE_SUPER_MAGIC:
        return "FUSE";
    default:
        return NULL;
    }
}

static int local_check(const struct settings *settings, char *warn, size_t warn_size,
                       struct error *err)
{
    const char *path = settings_text(settings, "path");
    __attribute__((cleanup(free_charp))) char *existing = xstrdup(path);
    struct stat st;

    if (cut_to_existing(existing, &st) != 0) {
        if (errno == ENOENT)
            return error_set(err, ERR_DESTINATION_CONFIG_INVALID,
                             "%s is a symbolic link to nowhere", existing);
        return error_sys(err, SIDE_DESTINATION, errno, "cannot examine %s", existing);
    }
    if (!S_ISDIR(st.st_mode))
        return error_sys(err, SIDE_DESTINATION, ENOTDIR, "%s cannot be the repo's directory",
                         existing);
    if (check_writable(existing, err) != 0)
        return -1;
    const char *weak = weak_file_system(existing);
    snprintf(warn, warn_size, "%s", "");
    if (weak)
        snprintf(warn, warn_size,
                 "%s is on %s: whether locks hold and finished backups survive a power cut is up "
                 "to its server",
                 path, weak);
    return 0;
}

static const struct setting local_settings[] = {
    {.key = "path",
     .type = SETTING_PATH,
     .flags = SETTING_REQUIRED,
     .help = "directory for this repo's archives, its own; made by the first backup"},
    {.key = NULL},
};

const struct destination_kind destination_local = {
    .name = "local",
    .help = "a directory of this machine",
    .settings = local_settings,
    .place = local_place,
    .is_path = true,
    .check = local_check,
    .open = local_open,
    .close = local_close,
    .put_begin = local_put_begin,
    .put_object = local_put_object,
    .put_reopen = local_put_reopen,
    .put_commit = local_put_commit,
    .put_free = local_put_free,
    .list = local_list,
    .open_object = local_open_object,
    .pread = local_pread,
    .close_object = local_close_object,
    .delete_object = local_delete_object,
    .delete_group = local_delete_group,
    .discard = local_discard,
    .recognise = local_recognise,
    .room = local_room,
};
