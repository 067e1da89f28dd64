/* SPDX-License-Identifier: MIT */
/*
 * stream.h - bytes on their way, one struct for each direction.
 *
 * A backup is a chain of writers. A filter owns its next, so the chain is built from its last
 * link to its first and taken down by freeing the first. Freeing an unfinished writer aborts what
 * it wrote; finish commits, once, and passes on. After a write or finish has failed only free is
 * allowed. The error of the link that failed first travels up unchanged, already classified.
 *
 * A reader gives a stream back. Its bytes may be trusted only after finish returned 0: that is
 * where a digest is compared. Freeing an unfinished reader is an abort and reads nothing more.
 *
 * A view gives the bytes of a stream that is stored whole at any offset, and knows its size. A
 * filter over a view owns it. What a view returns has passed every check that the view's layer has
 * (a tag, a checksum); that all of it is what was written is only known to who reads all of it.
 *
 * Threads: one thread at a time per chain of writers or readers; any number in a view's pread.
 */
#ifndef KEEPFS_STREAM_H
#define KEEPFS_STREAM_H

#include "keepfs/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct writer;
struct writer_ops {
    /* Takes all `len` bytes or fails. len 0 is allowed and changes nothing. */
    int (*write)(struct writer *w, const void *data, size_t len, struct error *err);
    /* Commits: everything is where it should be, as durable as the link promises. */
    int (*finish)(struct writer *w, struct error *err);
    /* Frees this link and all behind it; aborts unless finished. */
    void (*free)(struct writer *w);
};
struct writer {
    const struct writer_ops *ops;
};

struct reader;
struct reader_ops {
    /* Up to `len` bytes into buf: how many, 0 at the end, -1 on failure. */
    ssize_t (*read)(struct reader *r, void *buf, size_t len, struct error *err);
    /* Reads what is left, then judges the whole: size and digest. */
    int (*finish)(struct reader *r, struct error *err);
    void (*free)(struct reader *r);
};
struct reader {
    const struct reader_ops *ops;
};

struct view;
struct view_ops {
    /* The bytes at offset, `len` of them or as many as there are up to the end: how many, or -1. */
    ssize_t (*pread)(struct view *v, void *buf, size_t len, uint64_t offset, struct error *err);
    /* Frees this view and what it owns; no pread is under way. */
    void (*free)(struct view *v);
};
struct view {
    const struct view_ops *ops;
    uint64_t size; /* bytes */
};

static inline int writer_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    return w->ops->write(w, data, len, err);
}

static inline int writer_finish(struct writer *w, struct error *err)
{
    return w->ops->finish(w, err);
}

static inline void writer_free(struct writer *w)
{
    if (w)
        w->ops->free(w);
}

static inline ssize_t reader_read(struct reader *r, void *buf, size_t len, struct error *err)
{
    return r->ops->read(r, buf, len, err);
}

static inline int reader_finish(struct reader *r, struct error *err)
{
    return r->ops->finish(r, err);
}

static inline void reader_free(struct reader *r)
{
    if (r)
        r->ops->free(r);
}

static inline ssize_t view_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                                 struct error *err)
{
    return v->ops->pread(v, buf, len, offset, err);
}

static inline void view_free(struct view *v)
{
    if (v)
        v->ops->free(v);
}

#endif
