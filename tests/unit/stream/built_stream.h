/* SPDX-License-Identifier: MIT */
/*
 * built_stream.h - seekable zstd streams built by hand from the zstd library's frames, right or
 * wrong, and a view of bytes in memory that may fail. Include it after cmocka.
 */
#ifndef TESTS_STREAM_BUILT_STREAM_H
#define TESTS_STREAM_BUILT_STREAM_H

#include "stream/seekable.h"
#include "util/buf.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { FRAMES_MAX = 32, TABLE_HEADER = 8, TABLE_FOOTER = 9, CHECKSUMS = 0x80 };

/* Bytes as a view, which may end before its size, or fail. */
struct memory {
    struct view view;
    const char *data;
    size_t len;
    int fail_at;      /* the pread that fails, from 1; 0 = none */
    atomic_int reads; /* any thread */
    bool freed;
};

static inline ssize_t memory_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                                   struct error *err)
{
    struct memory *m = (struct memory *)v;

    if (atomic_fetch_add(&m->reads, 1) + 1 == m->fail_at)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "the disk is gone");
    if (offset >= m->len)
        return 0;
    if (len > m->len - offset)
        len = (size_t)(m->len - offset);
    memcpy(buf, m->data + offset, len);
    return (ssize_t)len;
}

static inline void memory_free(struct view *v)
{
    ((struct memory *)v)->freed = true;
}

static inline struct memory memory_of(const struct buf *b)
{
    static const struct view_ops ops = {.pread = memory_pread, .free = memory_free};

    return (struct memory){
        .view = {.ops = &ops, .size = b->len}, .data = buf_text(b), .len = b->len};
}

/* A stream in the making. */
struct built {
    struct buf bytes;
    uint32_t stored[FRAMES_MAX], content[FRAMES_MAX]; /* what the table says */
    unsigned frames;
};

struct options {
    int level;
    bool no_checksum, no_size;
};

static inline void put_u32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_add(b, &v, sizeof v);
}

static inline void build_frame(struct built *s, const char *data, size_t len, struct options o)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    size_t bound = ZSTD_compressBound(len);
    char *out = xmalloc(bound);

    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, o.level);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, !o.no_checksum);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, !o.no_size);
    size_t n = ZSTD_compress2(zstd, out, bound, data, len);
    assert_false(ZSTD_isError(n));
    assert_true(s->frames < FRAMES_MAX);
    buf_add(&s->bytes, out, n);
    s->stored[s->frames] = (uint32_t)n;
    s->content[s->frames++] = (uint32_t)len;
    free(out);
    ZSTD_freeCCtx(zstd);
}

/* The table is a header, its entries, a footer. */
static inline void put_header(struct buf *b, uint32_t entries_len)
{
    put_u32(b, 0x184D2A5E);
    put_u32(b, entries_len + TABLE_FOOTER);
}

static inline void put_footer(struct buf *b, uint32_t frames, unsigned char descriptor)
{
    put_u32(b, frames);
    buf_add(b, &descriptor, 1);
    put_u32(b, 0x8F92EAB1);
}

static inline void build_table(struct built *s, unsigned char descriptor)
{
    put_header(&s->bytes, s->frames * (descriptor & CHECKSUMS ? 12 : 8));
    for (unsigned i = 0; i < s->frames; i++) {
        put_u32(&s->bytes, s->stored[i]);
        put_u32(&s->bytes, s->content[i]);
        if (descriptor & CHECKSUMS)
            put_u32(&s->bytes, 0xdeadbeef);
    }
    put_footer(&s->bytes, s->frames, descriptor);
}

static inline void build(struct built *s, const char *data, size_t len, size_t frame, int level)
{
    memset(s, 0, sizeof *s);
    for (size_t at = 0; at < len; at += frame)
        build_frame(s, data + at, len - at < frame ? len - at : frame,
                    (struct options){.level = level});
}

/* Words that compress, but not to nothing. */
static inline char *text_of(size_t len)
{
    static const char *const words[] = {"keep ", "files ", "daily ", "of ", "archives "};
    char *text = xmalloc(len + 16);
    unsigned seed = 7;

    for (size_t at = 0; at < len;) {
        const char *word = words[(size_t)rand_r(&seed) % 5];
        memcpy(text + at, word, strlen(word));
        at += strlen(word);
    }
    return text;
}

static inline char *noise_of(size_t len)
{
    char *noise = xmalloc(len);
    unsigned seed = 11;

    for (size_t i = 0; i < len; i++)
        noise[i] = (char)(rand_r(&seed) >> 8);
    return noise;
}

#endif
