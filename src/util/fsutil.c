/* SPDX-License-Identifier: MIT */
/*
 * fsutil.c - complete system calls and paths.
 */
#include "util/fsutil.h"

#include "util/buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

ssize_t fd_pread_all(int fd, void *buf, size_t len, off_t offset)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(fd, (char *)buf + got, len - got, offset + (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

int dir_fsync(const char *path)
{
    __attribute__((cleanup(fd_close))) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : fsync(fd);
}

/* Makes the last component and fsyncs its parent. */
static int create_one(const char *path)
{
    __attribute__((cleanup(free_charp))) char *parent = xstrdup(path);
    char *slash = strrchr(parent, '/');

    if (mkdir(path, 0700) != 0)
        return -1;
    /* The umask may have taken bits of the owner's. */
    if (chmod(path, 0700) != 0)
        return -1;
    slash[slash == parent ? 1 : 0] = '\0';
    return dir_fsync(parent);
}

int dir_create(const char *path)
{
    __attribute__((cleanup(free_charp))) char *part = xstrdup(path);
    struct stat st;

    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (stat(part, &st) != 0 && (errno != ENOENT || (create_one(part) != 0 && errno != EEXIST)))
            return -1;
        /* Looked at again: somebody else may have made it, and as something else. */
        if (stat(part, &st) != 0)
            return -1;
        if (!S_ISDIR(st.st_mode)) {
            errno = ENOTDIR;
            return -1;
        }
        if (end == '\0')
            return 0;
        *p = end;
    }
}

static int clear_fd(int fd, dev_t device);

/* Removes one entry, and if it is a directory of this file system, what is in it. */
static int remove_entry(int dir, const char *name, dev_t device)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(dir, name, 0);
    if (st.st_dev != device)
        return 0;
    int sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub < 0 || clear_fd(sub, device) != 0)
        return -1;
    return unlinkat(dir, name, AT_REMOVEDIR);
}

/* Empties the directory behind fd, which it takes over. Goes on after a failure, whose errno it
 * keeps. */
static int clear_fd(int fd, dev_t device)
{
    DIR *dir = fdopendir(fd);
    int failed = 0;

    if (!dir) {
        fd_close(&fd);
        return -1;
    }
    for (struct dirent *e; (errno = 0, e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            remove_entry(fd, e->d_name, device) != 0)
            failed = errno;
    if (errno != 0)
        failed = errno;
    closedir(dir);
    errno = failed;
    return failed ? -1 : 0;
}

int dir_clear(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0) {
        fd_close(&fd);
        return -1;
    }
    return clear_fd(fd, st.st_dev);
}

char *path_resolve(const char *path)
{
    for (size_t cut = strlen(path);;) {
        __attribute__((cleanup(free_charp))) char *head = xasprintf("%.*s", (int)cut, path);
        __attribute__((cleanup(free_charp))) char *real = realpath(cut ? head : "/", NULL);
        if (real) {
            const char *rest = path + cut;
            return xasprintf("%s%s", *rest && strcmp(real, "/") == 0 ? "" : real, rest);
        }
        if (errno != ENOENT || cut == 0)
            return NULL;
        do
            cut--;
        while (cut > 0 && path[cut] != '/');
    }
}

bool path_contains(const char *outer, const char *inner)
{
    size_t n = strlen(outer);

    if (strcmp(outer, "/") == 0)
        return inner[0] == '/';
    return strncmp(outer, inner, n) == 0 && (inner[n] == '\0' || inner[n] == '/');
}
