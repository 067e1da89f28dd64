/* SPDX-License-Identifier: MIT */
/*
 * buf.h - a growing byte string, always NUL-terminated after init.
 *
 * Memory: buf_add and friends abort the process when memory is gone; what a stranger can make
 * grow is bounded by its caller (limits.h). Threads: one at a time per buf.
 */
#ifndef KEEPFS_UTIL_BUF_H
#define KEEPFS_UTIL_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data; /* never NULL after the first add; len bytes and a NUL */
    size_t len, cap;
};

#define BUF_INIT                                                                                   \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Cuts to `len` bytes, which must not be more than there are. */
void buf_truncate(struct buf *b, size_t len);
/* Frees and makes it empty again. */
void buf_release(struct buf *b);
/* The text, "" if nothing was ever added; owned by b. */
const char *buf_text(const struct buf *b);
/* Hands the heap text over (never NULL) and makes b empty. */
char *buf_steal(struct buf *b);

/* malloc family that aborts instead of giving NULL. */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* For scope cleanup: `__attribute__((cleanup(free_charp))) char *p = ...`. */
static inline void free_charp(char **p)
{
    extern void free(void *);
    free(*p);
}

#endif
