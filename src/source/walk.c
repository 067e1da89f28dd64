/* SPDX-License-Identifier: MIT */
/*
 * walk.c - a stack of directories, each read whole and sorted when it is entered.
 *
 * All levels share one string of names and one array of offsets into it; a level owns a range of
 * both, at their ends while it is the deepest, and cuts them off when it is left. So there is no
 * allocation per entry. A level keeps its descriptor open, since its names are relative to it.
 */
#include "source/walk.h"

#include "keepfs/limits.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { READ_SIZE = 64 << 10 };

struct level {
    int fd;
    size_t next, end;   /* in offsets: the names not given yet */
    size_t names_start; /* where its names begin in names */
    size_t first;       /* where its range of offsets begins */
    size_t path_len;    /* of the path before a name, with its '/' */
};

struct walk {
    const struct cancel *cancel;
    struct level *levels;
    size_t depth, levels_cap;
    struct buf names; /* each with its NUL */
    size_t *offsets;
    size_t offset_count, offsets_cap;
    struct buf path;
    _Alignas(struct dirent64) char entries[READ_SIZE];
};

struct walk *walk_new(const struct cancel *cancel)
{
    struct walk *w = xcalloc(1, sizeof *w);

    w->cancel = cancel;
    return w;
}

static void leave(struct walk *w)
{
    struct level *l = &w->levels[--w->depth];

    fd_close(&l->fd);
    buf_truncate(&w->names, l->names_start);
    w->offset_count = l->first;
}

void walk_free(struct walk *w)
{
    if (!w)
        return;
    while (w->depth > 0)
        leave(w);
    buf_release(&w->names);
    buf_release(&w->path);
    free(w->offsets);
    free(w->levels);
    free(w);
}

bool walk_is_full(const struct walk *w)
{
    return w->depth >= LIMIT_TREE_DEPTH;
}

static void add_name(struct walk *w, const char *name)
{
    if (w->offset_count == w->offsets_cap) {
        w->offsets_cap = w->offsets_cap ? 2 * w->offsets_cap : 1024;
        w->offsets = xrealloc(w->offsets, w->offsets_cap * sizeof *w->offsets);
    }
    w->offsets[w->offset_count++] = w->names.len;
    buf_add(&w->names, name, strlen(name) + 1);
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int read_names(struct walk *w, int fd)
{
    while (!cancel_requested(w->cancel)) {
        ssize_t n = getdents64(fd, w->entries, sizeof w->entries);
        if (n < 0)
            return errno == ENOENT ? 0 : errno;
        if (n == 0)
            return 0;
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(const void *)(w->entries + at);
            if (!is_dot(e->d_name))
                add_name(w, e->d_name);
            at += e->d_reclen;
        }
        if (w->names.len > WALK_NAMES_MAX)
            return ENOMEM;
    }
    return 0;
}

static int by_bytes(const void *a, const void *b, void *names)
{
    const char *text = names;

    return strcmp(text + *(const size_t *)a, text + *(const size_t *)b);
}

static struct level *push(struct walk *w, int fd)
{
    if (w->depth == w->levels_cap) {
        w->levels_cap = w->levels_cap ? 2 * w->levels_cap : 32;
        w->levels = xrealloc(w->levels, w->levels_cap * sizeof *w->levels);
    }
    if (w->depth > 0)
        buf_adds(&w->path, "/");
    struct level *l = &w->levels[w->depth++];
    *l = (struct level){.fd = fd,
                        .next = w->offset_count,
                        .names_start = w->names.len,
                        .first = w->offset_count,
                        .path_len = w->path.len};
    return l;
}

int walk_enter(struct walk *w, int fd)
{
    assert(!walk_is_full(w));
    struct level *l = push(w, fd);
    int failed = read_names(w, fd);

    l->end = w->offset_count;
    if (l->end > l->first)
        qsort_r(w->offsets + l->first, l->end - l->first, sizeof *w->offsets, by_bytes,
                w->names.data);
    return failed;
}

bool walk_next(struct walk *w, struct walk_entry *out)
{
    while (w->depth > 0) {
        struct level *l = &w->levels[w->depth - 1];
        if (l->next == l->end) {
            leave(w);
            continue;
        }
        const char *name = w->names.data + w->offsets[l->next++];
        buf_truncate(&w->path, l->path_len);
        buf_adds(&w->path, name);
        *out = (struct walk_entry){.dirfd = l->fd, .name = name, .path = w->path.data};
        return true;
    }
    return false;
}
