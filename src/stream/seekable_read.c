/* SPDX-License-Identifier: MIT */
/*
 * seekable_read.c - the seek table into an array of offsets, then one frame at a time.
 *
 * The stored bytes may be anybody's, so nothing is believed before it was held against something
 * else. Opening reads the footer, holds the size it implies against the stream's and the header of
 * the table, and then walks the entries in pieces, so that the work and the memory are in
 * proportion to bytes that are really there. It also holds each entry against what zstd's format
 * can do at all:
 *
 *   - a block takes at least 4 bytes and gives at most 128 KiB, so a frame of c bytes has at most
 *     c / 4 * 128 KiB of content: a few bytes cannot ask for much memory by claiming much
 *   - no frame is larger than ZSTD_compressBound of its content: empty blocks cannot ask for it
 *     either
 *
 * A load checks the frame's header by hand (magic number, so no skippable or legacy frame; content
 * checksum; no dictionary; zeros where nothing is defined) and lets zstd do the rest: exactly one
 * frame, exactly the content size, the checksum. What can be altered without notice changes no byte
 * of the content: a window size that is larger than needed, bits in blocks that the decoder does
 * not use.
 *
 * A decoding context is made for each load: it costs little beside a frame, and an idle view
 * holds nothing but its table.
 */
#include "stream/seekable.h"

#include "keepfs/limits.h"
#include "util/buf.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum {
    SKIPPABLE_MAGIC = 0x184D2A5E,
    TABLE_HEADER = 8,
    TABLE_FOOTER = 9,
    CHECKSUM_FLAG = 0x80, /* of the footer's descriptor: an entry has 4 more bytes */
    ENTRY = 8,
    ENTRY_CHECKSUM = 4,
    ENTRIES_AT_ONCE = 4096,
    BLOCK_MIN = 4, /* bytes of a block that has content */
    BLOCK_CONTENT_MAX = 128 << 10,
    /* bits of a frame header's descriptor, RFC 8878, 3.1.1.1.1 */
    FRAME_UNUSED = 0x18,
    FRAME_CHECKSUM = 0x04,
    FRAME_DICTIONARY = 0x03
};

#define SEEKABLE_MAGIC 0x8F92EAB1U

struct seekable {
    struct frame_source source;
    struct view *stored;
    uint64_t count;
    uint64_t *offsets; /* of count frames, and of the table behind them */
};

/* What the footer says, and what follows from it. */
struct table {
    uint64_t count;
    size_t entry;   /* bytes of one */
    uint64_t start; /* in the stored stream */
};

static uint32_t get_u32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static int read_table(struct view *stored, void *buf, size_t len, uint64_t offset,
                      struct error *err)
{
    ssize_t n = view_pread(stored, buf, len, offset, err);

    if (n >= 0 && (size_t)n < len)
        return error_set(err, ERR_INTEGRITY_FAILED, "damaged seek table: truncated");
    return n < 0 ? -1 : 0;
}

static int read_footer(struct view *stored, struct table *t, struct error *err)
{
    unsigned char footer[TABLE_FOOTER];

    if (stored->size < TABLE_HEADER + TABLE_FOOTER)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: the stream's %" PRIu64 " bytes are too few for one",
                         stored->size);
    if (read_table(stored, footer, sizeof footer, stored->size - sizeof footer, err) != 0)
        return -1;
    if (get_u32(footer + 5) != SEEKABLE_MAGIC)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: the stream does not end with one");
    if (footer[4] & ~CHECKSUM_FLAG)
        return error_set(err, ERR_INTEGRITY_FAILED, "damaged seek table: its descriptor is 0x%02x",
                         footer[4]);
    t->count = get_u32(footer);
    t->entry = footer[4] & CHECKSUM_FLAG ? ENTRY + ENTRY_CHECKSUM : ENTRY;
    if (t->count > LIMIT_FRAMES)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: %" PRIu64 " frames are more than %zu", t->count,
                         LIMIT_FRAMES);
    return 0;
}

static int read_header(struct view *stored, struct table *t, struct error *err)
{
    uint64_t size = TABLE_HEADER + t->count * t->entry + TABLE_FOOTER;
    unsigned char header[TABLE_HEADER];

    if (size > stored->size)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: %" PRIu64 " frames do not fit the stream's %" PRIu64
                         " bytes",
                         t->count, stored->size);
    t->start = stored->size - size;
    if (read_table(stored, header, sizeof header, t->start, err) != 0)
        return -1;
    if (get_u32(header) != SKIPPABLE_MAGIC || get_u32(header + 4) != size - TABLE_HEADER)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: it does not begin where %" PRIu64
                         " frames would have it begin",
                         t->count);
    return 0;
}

static bool sizes_possible(uint64_t stored, uint64_t content)
{
    return content > 0 && content <= SEEKABLE_FRAME_MAX &&
           content <= stored / BLOCK_MIN * BLOCK_CONTENT_MAX &&
           stored <= ZSTD_compressBound((size_t)content);
}

/* Takes the entry of frame `i`, all before it being taken. */
static int add_frame(struct seekable *s, const struct table *t, uint64_t i,
                     const unsigned char *entry, struct error *err)
{
    uint32_t stored = get_u32(entry), content = get_u32(entry + 4);

    if (!sizes_possible(stored, content) || stored > t->start - s->offsets[i])
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: frame %" PRIu64 " cannot have %" PRIu32
                         " bytes for %" PRIu32 " of content",
                         i, stored, content);
    if (i == 0)
        s->source.frame_size = content;
    else if (i + 1 < t->count ? content != s->source.frame_size : content > s->source.frame_size)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: frame %" PRIu64 " has %" PRIu32
                         " bytes of content, the first one %zu",
                         i, content, s->source.frame_size);
    s->offsets[i + 1] = s->offsets[i] + stored;
    s->source.size += content;
    return 0;
}

static int read_entries(struct seekable *s, const struct table *t, struct error *err)
{
    size_t most = t->count < ENTRIES_AT_ONCE ? (size_t)t->count : ENTRIES_AT_ONCE;
    __attribute__((cleanup(free_charp))) char *entries = xmalloc(most * t->entry);

    for (uint64_t i = 0; i < t->count; i += most) {
        size_t n = t->count - i < most ? (size_t)(t->count - i) : most;
        uint64_t at = t->start + TABLE_HEADER + i * t->entry;
        if (read_table(s->stored, entries, n * t->entry, at, err) != 0)
            return -1;
        for (size_t k = 0; k < n; k++)
            if (add_frame(s, t, i + k, (unsigned char *)entries + k * t->entry, err) != 0)
                return -1;
    }
    if (s->offsets[t->count] != t->start)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged seek table: its frames have %" PRIu64 " bytes, there are %" PRIu64
                         " before it",
                         s->offsets[t->count], t->start);
    return 0;
}

/* The `n` bytes of frame `index` as they are stored. */
static unsigned char *read_frame(struct seekable *s, uint64_t index, size_t n,
                                 struct frame_scratch *scratch, struct error *err)
{
    unsigned char *frame = frame_scratch(scratch, n);
    ssize_t got = view_pread(s->stored, frame, n, s->offsets[index], err);

    if (got >= 0 && (size_t)got < n)
        error_set(err, ERR_INTEGRITY_FAILED,
                  "damaged frame %" PRIu64 ": truncated after %zd of its %zu bytes", index, got, n);
    return got >= 0 && (size_t)got == n ? frame : NULL;
}

/* What is wrong with the frame's header, or NULL. */
static const char *header_fault(const unsigned char *frame, size_t n, size_t len)
{
    unsigned descriptor;

    if (n < 5 || get_u32(frame) != ZSTD_MAGICNUMBER)
        return "it is not a zstd frame";
    descriptor = frame[4];
    if (descriptor & FRAME_UNUSED)
        return "reserved bits are set";
    if (!(descriptor & FRAME_CHECKSUM))
        return "it has no content checksum";
    if (descriptor & FRAME_DICTIONARY)
        return "it asks for a dictionary";
    if (ZSTD_getFrameContentSize(frame, n) != len)
        return "its content size is not that of the seek table";
    if (ZSTD_findFrameCompressedSize(frame, n) != n)
        return "its size is not that of the seek table";
    return NULL;
}

static int seekable_load(struct frame_source *source, uint64_t index, void *out, size_t len,
                         struct frame_scratch *scratch, struct error *err)
{
    struct seekable *s = (struct seekable *)source;
    size_t n = (size_t)(s->offsets[index + 1] - s->offsets[index]);
    unsigned char *frame = read_frame(s, index, n, scratch, err);
    ZSTD_DCtx *zstd;
    const char *fault;

    if (!frame)
        return -1;
    if ((fault = header_fault(frame, n, len)))
        return error_set(err, ERR_INTEGRITY_FAILED, "damaged frame %" PRIu64 ": %s", index, fault);
    if (!(zstd = ZSTD_createDCtx()))
        return error_set(err, ERR_INTERNAL, "zstd has no memory to decode frame %" PRIu64, index);
    size_t got = ZSTD_decompressDCtx(zstd, out, len, frame, n);
    ZSTD_freeDCtx(zstd);
    if (got != len)
        return error_set(err, ERR_INTEGRITY_FAILED, "damaged frame %" PRIu64 ": %s", index,
                         ZSTD_isError(got) ? ZSTD_getErrorName(got) : "its content is short");
    return 0;
}

static void seekable_free(struct frame_source *source)
{
    struct seekable *s = (struct seekable *)source;

    view_free(s->stored);
    free(s->offsets);
    free(s);
}

static int read_seek_table(struct seekable *s, struct error *err)
{
    struct table t = {0};

    if (read_footer(s->stored, &t, err) != 0 || read_header(s->stored, &t, err) != 0)
        return -1;
    s->offsets = malloc((size_t)(t.count + 1) * sizeof *s->offsets);
    if (!s->offsets)
        return error_set(err, ERR_INTERNAL, "no memory for a seek table of %" PRIu64 " frames",
                         t.count);
    s->offsets[0] = 0;
    return read_entries(s, &t, err);
}

int seekable_view_new(struct view *stored, struct frame_cache *cache, bool prefetch,
                      struct view **out, struct error *err)
{
    static const struct frame_source_ops ops = {.load = seekable_load, .free = seekable_free};
    struct seekable *s = xcalloc(1, sizeof *s);

    s->source = (struct frame_source){.ops = &ops, .size = 0, .frame_size = SEEKABLE_FRAME};
    s->stored = stored;
    if (read_seek_table(s, err) != 0) {
        seekable_free(&s->source);
        return -1;
    }
    *out = framed_view_new(cache, &s->source, prefetch);
    return 0;
}
