/* SPDX-License-Identifier: MIT */
/*
 * content.c - a list of data ranges, then read and write.
 *
 * A file that has fewer blocks than bytes is asked for its holes; a file system that cannot tell
 * says that all is data, which is right and only larger. Holes cost neither reads nor room.
 *
 * A page that cannot be read is replaced by zeros and the next one is tried: one bad sector does
 * not take the rest of the file with it.
 */
#include "source/content.h"

#include "util/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 256 << 10, PAGE = 4096 };

struct range {
    off_t offset, len;
};

struct content {
    struct cancel *cancel;
    struct range *ranges;
    size_t count, cap;
    char chunk[CHUNK];
};

struct content *content_new(struct cancel *cancel)
{
    struct content *c = xcalloc(1, sizeof *c);

    c->cancel = cancel;
    return c;
}

void content_free(struct content *c)
{
    if (!c)
        return;
    free(c->ranges);
    free(c);
}

static void add_range(struct content *c, off_t from, off_t to)
{
    if (c->count == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        c->ranges = xrealloc(c->ranges, c->cap * sizeof *c->ranges);
    }
    c->ranges[c->count++] = (struct range){.offset = from, .len = to - from};
}

/* Finds the data ranges below `size`; one range of all if the file system cannot tell. */
static void find_ranges(struct content *c, int fd, off_t size)
{
    for (off_t at = 0; at < size && !cancel_requested(c->cancel);) {
        off_t from = lseek(fd, at, SEEK_DATA);
        if (from < 0 && errno == ENXIO)
            return; /* a hole up to the end */
        off_t to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
        if (to <= from || c->count + 1 == CONTENT_RANGES_MAX) {
            add_range(c, from < at ? at : from, size);
            return;
        }
        if (from >= size)
            return;
        add_range(c, from, to < size ? to : size);
        at = to;
    }
}

static bool has_holes(const struct content *c, off_t size)
{
    return c->count != 1 || c->ranges[0].offset != 0 || c->ranges[0].len != size;
}

void content_map(struct content *c, int fd, const struct stat *st, struct tar *t)
{
    off_t size = st->st_size, end = 0;

    c->count = 0;
    if (size == 0)
        return;
    if (st->st_blocks >= size / 512) {
        add_range(c, 0, size);
        return;
    }
    find_ranges(c, fd, size);
    if (!has_holes(c, size))
        return;
    for (size_t i = 0; i < c->count; i++) {
        tar_range(t, c->ranges[i].offset, c->ranges[i].len);
        end = c->ranges[i].offset + c->ranges[i].len;
    }
    if (end < size)
        tar_range(t, size, 0);
}

/* The number of bytes at `offset` that could not be read: up to the end of their page. */
static size_t bad_piece(off_t offset, size_t want)
{
    size_t rest = PAGE - (size_t)(offset % PAGE);

    return rest < want ? rest : want;
}

/* Reads up to `want` bytes into the chunk. 0 means the copy ends here. */
static size_t read_piece(struct content *c, int fd, off_t offset, size_t want, bool tolerate,
                         struct content_faults *faults)
{
    ssize_t n;

    do
        n = pread(fd, c->chunk, want, offset);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return (size_t)n;
    if (n == 0) {
        faults->short_of = true;
        return 0;
    }
    if (faults->errnum == 0) {
        faults->errnum = errno;
        faults->offset = offset;
    }
    if (!tolerate)
        return 0;
    want = bad_piece(offset, want);
    memset(c->chunk, 0, want);
    faults->lost_bytes += want;
    return want;
}

/* Returns the bytes copied, less than the range has if the copy ends here, or -1. */
static off_t copy_range(struct content *c, int fd, struct range range, bool tolerate, struct tar *t,
                        struct content_faults *faults, struct error *err)
{
    off_t done = 0;

    while (done < range.len) {
        off_t left = range.len - done;
        size_t want = left < CHUNK ? (size_t)left : CHUNK;
        size_t n = read_piece(c, fd, range.offset + done, want, tolerate, faults);
        if (n == 0)
            return done;
        if (tar_data(t, c->chunk, n, err) < 0 || cancel_check(c->cancel, err) < 0)
            return -1;
        done += (off_t)n;
    }
    return done;
}

int content_copy(struct content *c, int fd, bool tolerate, struct tar *t,
                 struct content_faults *faults, struct error *err)
{
    off_t at = 0;

    *faults = (struct content_faults){0};
    for (size_t i = 0; i < c->count; i++) {
        struct range r = c->ranges[i];
        if (tar_hole(t, (uint64_t)(r.offset - at), err) < 0)
            return -1;
        off_t n = copy_range(c, fd, r, tolerate, t, faults, err);
        if (n < 0)
            return -1;
        if (n < r.len)
            return 0; /* tar_end pads */
        at = r.offset + r.len;
    }
    return 0;
}
