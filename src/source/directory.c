/* SPDX-License-Identifier: MIT */
/*
 * directory.c - a directory tree as a pax tar stream.
 *
 * The tree is live: names vanish, files change, and an enemy may own parts of it. So every name is
 * looked at (fstatat), opened relative to its directory without following symlinks, and looked at
 * again: what is open must be what was seen. If it is not, the name was replaced in between and is
 * tried once more. A stat is taken again after the contents; what differs then is reported.
 *
 * What happens to a name:
 *   excluded, a socket             left out, counted
 *   vanished                       left out, logged, counted; no failure
 *   changed while it was read      stored with the size of its header, logged, counted
 *   unreadable                     fails the job, or with `unreadable = warn` is left out, logged,
 *                                  counted; a page that cannot be read becomes zeros
 *   another file system            the mount point is stored, not what is below it
 *
 * Only regular files and directories are opened for reading. To open a pipe or a device has
 * effects, so those and symlinks are opened with O_PATH. What this process itself lacks
 * (descriptors, memory) fails the job under either policy: it says nothing about the file.
 *
 * The common file costs seven system calls: fstatat, openat, fstat, flistxattr, pread, fstat,
 * close.
 */
#include "source/attrs.h"
#include "source/content.h"
#include "source/exclude.h"
#include "source/kinds.h"
#include "source/links.h"
#include "source/tar.h"
#include "source/walk.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CLOSE_ON_RETURN __attribute__((cleanup(fd_close)))

/* Bytes of a path that go into a message; of a longer one, the end. */
enum { SHOWN_MAX = 400 };

/* What became of a name, beside 0 (it is dealt with) and -1 (the backup has failed). UNREADABLE
 * leaves the reason in the item. */
enum outcome { GONE = 1, REPLACED, UNREADABLE };

struct directory {
    struct source source;
    char *path;
    int fd;
    bool one_file_system;
    bool warn; /* about what cannot be read, instead of failing */
    struct exclude *exclude;
};

/* One backup. */
struct dump {
    const struct directory *d;
    struct source_run *run;
    struct walk *walk;
    struct tar *tar;
    struct attrs *attrs;
    struct content *content;
    struct links *links;
    dev_t device; /* of the root */
    uid_t self;
    bool tolerate;
    struct buf shown, slashed;
};

struct item {
    int dirfd;
    const char *name;
    const char *path; /* as the archive has it; a directory's own '/' comes later */
    struct stat st;
    struct link_id id; /* of a file with several names, once it is open */
    bool second_try;
    int errnum;
};

static const char *const policies[] = {"fail", "warn", NULL};

static const struct setting settings[] = {
    {.key = "path",
     .type = SETTING_PATH,
     .flags = SETTING_REQUIRED,
     .help = "the directory to back up"},
    {.key = "one_file_system",
     .type = SETTING_BOOL,
     .def = "yes",
     .help = "store mount points below path, but not what is mounted there"},
    {.key = "exclude",
     .type = SETTING_TEXT,
     .flags = SETTING_REPEATABLE,
     .help = "a shell pattern of what to leave out: of a name, or with a '/' in it of a path "
             "below path"},
    {.key = "unreadable",
     .type = SETTING_WORD,
     .def = "fail",
     .words = policies,
     .help = "what a file that cannot be read does to the backup"},
    {.key = NULL},
};

/* ---- words ---- */

/* The path for a person: control bytes as \xNN. Valid until the next call. */
static const char *show(struct dump *u, const char *path)
{
    size_t len = strlen(path);

    buf_truncate(&u->shown, 0);
    if (len > SHOWN_MAX) {
        buf_adds(&u->shown, "...");
        path += len - SHOWN_MAX;
    }
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        if (c < 0x20 || c == 0x7f)
            buf_addf(&u->shown, "\\x%02x", c);
        else
            buf_add(&u->shown, path, 1);
    }
    return buf_text(&u->shown);
}

static void count(struct dump *u, const char *key)
{
    u->run->ops->stat(u->run, key, 1);
}

static void note(struct dump *u, const char *key, const char *path, const char *what)
{
    source_log(u->run, "%s: %s", show(u, path), what);
    count(u, key);
}

static bool is_own_shortage(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM;
}

/* `doing` failed on a name: judges by the policy. `then` is what a warning says of the outcome. */
static int unreadable(struct dump *u, const char *path, const char *doing, int errnum,
                      const char *then, struct error *err)
{
    if (!u->tolerate || is_own_shortage(errnum))
        return error_sys(err, SIDE_SOURCE, errnum, "%s %s/%s", doing, u->d->path, show(u, path));
    source_log(u->run, "%s: %s it failed: %s; %s", show(u, path), doing, strerror(errnum), then);
    count(u, "unreadable");
    return 0;
}

/* ---- opening what was seen ---- */

/* O_NOATIME is for a file's owner and for root, who may lack the privilege nevertheless. */
static int open_seen(const struct dump *u, const struct item *item, int flags)
{
    int fd;

    flags |= O_NOFOLLOW | O_CLOEXEC;
    if (!(flags & O_PATH) && (u->self == 0 || u->self == item->st.st_uid)) {
        fd = openat(item->dirfd, item->name, flags | O_NOATIME);
        if (fd >= 0 || errno != EPERM)
            return fd;
    }
    return openat(item->dirfd, item->name, flags);
}

static int failed_open(struct item *item, int errnum)
{
    item->errnum = errnum;
    if (errnum == ENOENT)
        return GONE;
    /* These can mean that the name is another kind of file by now. */
    if (!item->second_try && (errnum == ELOOP || errnum == ENOTDIR || errnum == ENXIO))
        return REPLACED;
    return UNREADABLE;
}

/* Opens the item and makes sure that it is what was seen; its stat is renewed. */
static int open_item(const struct dump *u, struct item *item, int flags, int *fd)
{
    struct stat st;

    *fd = open_seen(u, item, flags);
    if (*fd < 0)
        return failed_open(item, errno);
    if (fstat(*fd, &st) < 0)
        return failed_open(item, errno);
    if (st.st_dev != item->st.st_dev || st.st_ino != item->st.st_ino ||
        (st.st_mode & S_IFMT) != (item->st.st_mode & S_IFMT))
        return REPLACED;
    item->st = st;
    return 0;
}

/* ---- storing ---- */

static int add_attrs(struct dump *u, const struct item *item, int fd, bool by_path,
                     struct error *err)
{
    int failed = attrs_add(u->attrs, fd, by_path, u->tar);

    if (!failed)
        return 0;
    return unreadable(u, item->path, "reading the attributes of", failed,
                      "it is stored without some of them", err);
}

/* The path that the open item was stored as before, under another name; NULL if it was not. */
static const char *stored_before(struct dump *u, struct item *item, int fd)
{
    if (item->st.st_nlink < 2 || S_ISDIR(item->st.st_mode))
        return NULL;
    item->id = link_id_of(fd, &item->st);
    return links_find(u->links, &item->id);
}

static int store_link(struct dump *u, const struct item *item, const char *target,
                      struct error *err)
{
    tar_begin(u->tar, item->path, &item->st);
    tar_hardlink(u->tar, target);
    if (tar_header(u->tar, err) < 0 || tar_end(u->tar, err) < 0)
        return -1;
    count(u, "hardlinks");
    return 0;
}

/* The item is stored: its other names can refer to it. */
static void remember(struct dump *u, const struct item *item)
{
    if (item->st.st_nlink < 2 || S_ISDIR(item->st.st_mode))
        return;
    if (!links_add(u->links, &item->id, item->path, item->st.st_nlink))
        source_log(u->run, "%s: too many files have several names; this one is stored for each",
                   show(u, item->path));
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Reports what happened to a file while its contents were copied. */
static int judge_contents(struct dump *u, const struct item *item, int fd,
                          const struct content_faults *faults, struct error *err)
{
    const struct stat *before = &item->st;
    struct stat after;

    if (faults->errnum) {
        char then[128];
        snprintf(then, sizeof then, "it is stored damaged: from byte %jd on, %ju bytes are zeros",
                 (intmax_t)faults->offset, (uintmax_t)faults->lost_bytes);
        if (unreadable(u, item->path, "reading", faults->errnum, then, err) < 0)
            return -1;
    }
    if (fstat(fd, &after) < 0)
        return unreadable(u, item->path, "looking at", errno, "it is stored as it was read", err);
    if (faults->short_of || after.st_size < before->st_size)
        note(u, "changed", item->path, "became shorter while it was read; padded with zeros");
    else if (after.st_size > before->st_size)
        note(u, "changed", item->path, "grew while it was read; cut to the size it had");
    else if (!same_time(after.st_mtim, before->st_mtim) ||
             !same_time(after.st_ctim, before->st_ctim))
        note(u, "changed", item->path, "changed while it was read; old and new may be mixed");
    return 0;
}

static int store_open_file(struct dump *u, const struct item *item, int fd, struct error *err)
{
    struct content_faults faults;

    tar_begin(u->tar, item->path, &item->st);
    if (add_attrs(u, item, fd, false, err) < 0)
        return -1;
    content_map(u->content, fd, &item->st, u->tar);
    if (tar_header(u->tar, err) < 0 ||
        content_copy(u->content, fd, u->tolerate, u->tar, &faults, err) < 0)
        return -1;
    if (judge_contents(u, item, fd, &faults, err) < 0)
        return -1;
    return tar_end(u->tar, err);
}

static int store_file(struct dump *u, struct item *item, struct error *err)
{
    CLOSE_ON_RETURN int fd = -1;
    int result = open_item(u, item, O_RDONLY | O_NONBLOCK, &fd);

    if (result == UNREADABLE)
        return unreadable(u, item->path, "opening", item->errnum, "it is not stored", err);
    if (result)
        return result;
    const char *target = stored_before(u, item, fd);
    if (target)
        return store_link(u, item, target, err);
    if (store_open_file(u, item, fd, err) < 0)
        return -1;
    remember(u, item);
    count(u, "files");
    return 0;
}

/* The path with the '/' that a directory has in the archive. Valid until the next call. */
static const char *archive_path(struct dump *u, const struct item *item)
{
    if (!S_ISDIR(item->st.st_mode))
        return item->path;
    buf_truncate(&u->slashed, 0);
    buf_adds(&u->slashed, item->path);
    buf_adds(&u->slashed, "/");
    return buf_text(&u->slashed);
}

/* Stores what is not read: a link, pipe or device, or a directory that is not entered. */
static int store_unread(struct dump *u, struct item *item, const char *key, struct error *err)
{
    char link_text[PATH_MAX + 1];
    CLOSE_ON_RETURN int fd = -1;
    int result = open_item(u, item, O_PATH, &fd);

    if (result == UNREADABLE)
        return unreadable(u, item->path, "opening", item->errnum, "it is not stored", err);
    if (result)
        return result;
    const char *target = stored_before(u, item, fd);
    if (target)
        return store_link(u, item, target, err);
    tar_begin(u->tar, archive_path(u, item), &item->st);
    if (S_ISLNK(item->st.st_mode)) {
        ssize_t len = readlinkat(fd, "", link_text, sizeof link_text - 1);
        if (len < 0)
            return unreadable(u, item->path, "reading the link", errno, "it is not stored", err);
        link_text[len] = '\0';
        tar_symlink(u->tar, link_text);
    }
    if (add_attrs(u, item, fd, true, err) < 0 || tar_header(u->tar, err) < 0 ||
        tar_end(u->tar, err) < 0)
        return -1;
    remember(u, item);
    count(u, key);
    return 0;
}

static int enter(struct dump *u, const struct item *item, int fd, struct error *err)
{
    if (walk_is_full(u->walk)) {
        close(fd);
        return error_set(err, ERR_SOURCE_UNAVAILABLE,
                         "%s/%s is nested deeper than %d directories: exclude it", u->d->path,
                         show(u, item->path), LIMIT_TREE_DEPTH);
    }
    int failed = walk_enter(u->walk, fd);
    if (!failed)
        return 0;
    /* The item's own path may have moved; the copy has a '/' at its end. */
    return unreadable(u, buf_text(&u->slashed), "listing", failed,
                      "what could not be listed is not stored", err);
}

static int store_directory(struct dump *u, struct item *item, struct error *err)
{
    CLOSE_ON_RETURN int fd = -1;

    if (u->d->one_file_system && item->st.st_dev != u->device)
        return store_unread(u, item, "directories", err);
    int result = open_item(u, item, O_RDONLY | O_DIRECTORY, &fd);
    if (result == UNREADABLE) {
        result = unreadable(u, item->path, "opening", item->errnum, "only its name is stored", err);
        return result < 0 ? -1 : store_unread(u, item, "directories", err);
    }
    if (result)
        return result;
    tar_begin(u->tar, archive_path(u, item), &item->st);
    if (add_attrs(u, item, fd, false, err) < 0 || tar_header(u->tar, err) < 0 ||
        tar_end(u->tar, err) < 0)
        return -1;
    count(u, "directories");
    int entered = fd;
    fd = -1;
    return enter(u, item, entered, err);
}

/* ---- one name ---- */

/* A mount that belongs to somebody else's FUSE tells even root no more than that it is one. */
static bool is_closed_mount(const struct dump *u, const struct item *item, int errnum)
{
    struct statx st;

    return errnum == EACCES && u->d->one_file_system &&
           statx(item->dirfd, item->name, AT_SYMLINK_NOFOLLOW, 0, &st) == 0 &&
           makedev(st.stx_dev_major, st.stx_dev_minor) != u->device;
}

static int failed_look(struct dump *u, const struct item *item, int errnum, struct error *err)
{
    if (errnum == ENOENT)
        return GONE;
    if (is_closed_mount(u, item, errnum)) {
        note(u, "excluded", item->path, "is another user's file system; it is not stored");
        return 0;
    }
    return unreadable(u, item->path, "looking at", errnum, "it is not stored", err);
}

/* Looks at the item and stores it: 0, GONE, REPLACED or -1. */
static int store(struct dump *u, struct item *item, struct error *err)
{
    if (fstatat(item->dirfd, item->name, &item->st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed_look(u, item, errno, err);
    switch (item->st.st_mode & S_IFMT) {
    case S_IFREG:
        return store_file(u, item, err);
    case S_IFDIR:
        return store_directory(u, item, err);
    case S_IFLNK:
        return store_unread(u, item, "symlinks", err);
    case S_IFSOCK:
        note(u, "sockets_skipped", item->path, "is a socket; it is not stored");
        return 0;
    default:
        return store_unread(u, item, "other", err);
    }
}

static int visit(struct dump *u, const struct walk_entry *entry, struct error *err)
{
    struct item item = {.dirfd = entry->dirfd, .name = entry->name, .path = entry->path};

    if (exclude_matches(u->d->exclude, entry->path, entry->name)) {
        count(u, "excluded");
        return 0;
    }
    int result = store(u, &item, err);
    if (result == REPLACED) {
        item.second_try = true;
        result = store(u, &item, err);
    }
    if (result == GONE)
        note(u, "vanished", entry->path, "vanished before it could be read");
    if (result == REPLACED)
        note(u, "changed", entry->path, "was replaced while it was read; it is not stored");
    return result < 0 ? -1 : 0;
}

/* ---- the backup ---- */

/* A removed directory can still be opened and is empty: that is no backup. */
static int check_root(const struct dump *u, struct error *err)
{
    struct stat st;

    if (fstat(u->d->fd, &st) < 0)
        return error_sys(err, SIDE_SOURCE, errno, "looking at %s", u->d->path);
    if (st.st_nlink == 0)
        return error_sys(err, SIDE_SOURCE, ENOENT, "%s was removed during the backup", u->d->path);
    return 0;
}

/* The root is never forgiven: without it there is no backup. */
static int store_root(struct dump *u, struct error *err)
{
    struct item root = {.dirfd = u->d->fd, .name = ".", .path = "."};

    if (check_root(u, err) < 0)
        return -1;
    u->tolerate = false;
    if (fstatat(root.dirfd, root.name, &root.st, 0) < 0)
        return error_sys(err, SIDE_SOURCE, errno, "looking at %s", u->d->path);
    u->device = root.st.st_dev;
    int result = store_directory(u, &root, err);
    u->tolerate = u->d->warn;
    if (result > 0)
        return error_sys(err, SIDE_SOURCE, ENOENT, "%s was removed during the backup", u->d->path);
    return result;
}

static int store_tree(struct dump *u, struct error *err)
{
    static const char *const always[] = {"files", "directories", "vanished", "changed",
                                         "unreadable"};
    struct walk_entry entry;

    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        u->run->ops->stat(u->run, always[i], 0);
    if (store_root(u, err) < 0)
        return -1;
    while (cancel_check(u->run->cancel, err) == 0) {
        if (!walk_next(u->walk, &entry))
            return check_root(u, err) < 0 ? -1 : tar_finish(u->tar, err);
        if (visit(u, &entry, err) < 0)
            return -1;
    }
    return -1;
}

static int directory_backup(struct source *source, struct source_run *run, struct error *err)
{
    struct dump u = {
        .d = (const struct directory *)source,
        .run = run,
        .walk = walk_new(run->cancel),
        .tar = tar_new(run, err),
        .attrs = attrs_new(),
        .content = content_new(run->cancel),
        .links = links_new(),
        .self = geteuid(),
    };
    int result = u.tar ? store_tree(&u, err) : -1;

    links_free(u.links);
    content_free(u.content);
    attrs_free(u.attrs);
    tar_free(u.tar);
    walk_free(u.walk);
    buf_release(&u.shown);
    buf_release(&u.slashed);
    return result;
}

static void directory_close(struct source *source)
{
    struct directory *d = (struct directory *)source;

    if (!d)
        return;
    fd_close(&d->fd);
    exclude_free(d->exclude);
    free(d->path);
    free(d);
}

static int directory_open(const struct store *store, const char *staging, struct source **out,
                          struct error *err)
{
    const char *path = settings_text(&store->settings, "path");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)staging;
    if (fd < 0)
        return error_sys(err, SIDE_SOURCE, errno, "opening the directory %s", path);
    struct directory *d = xcalloc(1, sizeof *d);
    d->source.kind = &directory_source;
    d->path = xstrdup(path);
    d->fd = fd;
    d->one_file_system = settings_bool(&store->settings, "one_file_system");
    d->warn = strcmp(settings_text(&store->settings, "unreadable"), "warn") == 0;
    d->exclude = exclude_new(&store->settings, "exclude");
    *out = &d->source;
    return 0;
}

const struct source_kind directory_source = {
    .name = "directory",
    .help = "a directory tree, as a pax tar stream",
    .settings = settings,
    .open = directory_open,
    .backup = directory_backup,
    .close = directory_close,
};
