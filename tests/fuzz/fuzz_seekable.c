/* SPDX-License-Identifier: MIT */
/*
 * fuzz_seekable.c - a seekable zstd stream from a repo that anybody wrote to: refused with a
 * sentence, at opening or at reading, or read to exactly the size that it said, the same bytes at
 * any offset, and those that zstd itself makes of it.
 */
#include "keepfs/limits.h"
#include "stream/seekable.h"
#include "util/buf.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECE = 100000, COMPARED_MAX = 4 << 20 };

struct memory {
    struct view view;
    const uint8_t *data;
};

static ssize_t memory_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    (void)err;
    if (offset >= v->size)
        return 0;
    if (len > v->size - offset)
        len = (size_t)(v->size - offset);
    memcpy(buf, ((struct memory *)v)->data + offset, len);
    return (ssize_t)len;
}

static void memory_free(struct view *v)
{
    (void)v;
}

static void judge(const struct error *err)
{
    if (err->code != ERR_INTEGRITY_FAILED || strncmp(err->message, "damaged ", 8) != 0)
        abort();
}

/* All of it, in order; false if some of it is damaged. */
static bool read_whole(struct view *v, struct buf *out)
{
    struct error err = {0};
    char *piece = xmalloc(PIECE);
    uint64_t at = 0;
    ssize_t n;

    while ((n = view_pread(v, piece, PIECE, at, &err)) > 0) {
        at += (uint64_t)n;
        if (at <= COMPARED_MAX)
            buf_add(out, piece, (size_t)n);
    }
    free(piece);
    if (n < 0)
        judge(&err);
    else if (at != v->size)
        abort();
    return n == 0;
}

static void compare(struct view *v, const struct buf *whole, const uint8_t *data, size_t size)
{
    struct error err = {0};
    char *again = xmalloc(whole->len);
    unsigned seed = (unsigned)size;

    if (ZSTD_decompress(again, whole->len, data, size) != whole->len ||
        (whole->len > 0 && memcmp(again, whole->data, whole->len) != 0))
        abort();
    for (int i = 0; whole->len > 0 && i < 20; i++) {
        size_t at = (size_t)rand_r(&seed) % whole->len;
        size_t len = (size_t)rand_r(&seed) % (whole->len - at) + 1;
        if (view_pread(v, again, len, at, &err) != (ssize_t)len ||
            memcmp(again, whole->data + at, len) != 0)
            abort();
    }
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory m = {.data = data};
    static const struct view_ops ops = {.pread = memory_pread, .free = memory_free};
    struct frame_cache *cache = frame_cache_new(0);
    struct buf whole = BUF_INIT;
    struct error err = {0};
    struct view *v;

    m.view = (struct view){.ops = &ops, .size = size};
    if (seekable_view_new(&m.view, cache, false, &v, &err) == 0) {
        if (read_whole(v, &whole) && v->size <= COMPARED_MAX)
            compare(v, &whole, data, size);
        view_free(v);
    } else {
        judge(&err);
    }
    frame_cache_free(cache);
    buf_release(&whole);
    return 0;
}
