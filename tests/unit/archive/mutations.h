/* SPDX-License-Identifier: MIT */
/*
 * mutations.h - everything that happens to stored archives: decay, mishaps, and people who can
 * write to the repo but have no key.
 *
 * A mutation changes one of the three objects of an archive; it may come to nothing, and any number
 * may follow each other. It knows the good archive, another one of the same store and key, and
 * where frames lie. All chance is from one struct dice, so that a seed gives the same again.
 */
#ifndef TESTS_ARCHIVE_MUTATIONS_H
#define TESTS_ARCHIVE_MUTATIONS_H

#include "archive_lab.h"

enum { FRAMES_MAX = 8, ENVELOPE_FRAME = 64 * KIB, ENVELOPE_HEADER = 80, ENVELOPE_TAG = 16 };

struct frames {
    size_t count;
    size_t at[FRAMES_MAX + 1]; /* the last is where they end */
};

struct sample {
    const char *name;
    struct lab_recipe recipe;
    size_t size;
    /* made from these: */
    unsigned char *content;
    struct lab_archive good, other; /* `other` has another id, other content and other ids */
    struct manifest manifest;       /* of the good one */
    struct frames frames, other_frames;
};

struct dice {
    uint64_t state;
};

/* 0 .. sides - 1 */
static inline size_t roll(struct dice *d, size_t sides)
{
    d->state += UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(lab_mix(d->state) % sides);
}

/* ---- bytes ---- */

static inline void set_bytes(struct buf *b, const void *data, size_t len)
{
    buf_truncate(b, 0);
    buf_add(b, data, len);
}

/* Replaces `len` bytes at `at`. */
static inline void splice(struct buf *b, size_t at, size_t len, const void *with, size_t with_len)
{
    struct buf out = BUF_INIT;

    buf_add(&out, b->data, at);
    buf_add(&out, with, with_len);
    buf_add(&out, b->data + at + len, b->len - at - len);
    buf_release(b);
    *b = out;
}

/* A copy of `len` bytes at `at`, NULs among them or not. */
static inline char *bytes_of(const struct buf *b, size_t at, size_t len)
{
    char *copy = xmalloc(len);

    memcpy(copy, b->data + at, len);
    return copy;
}

static inline void flip_bit(struct buf *b, struct dice *d)
{
    if (b->len > 0)
        b->data[roll(d, b->len)] ^= (char)(1 << roll(d, 8));
}

static inline void change_bytes(struct buf *b, struct dice *d)
{
    for (size_t n = 1 + roll(d, 16); b->len > 0 && n > 0; n--)
        b->data[roll(d, b->len)] = (char)roll(d, 256);
}

static inline void cut(struct buf *b, struct dice *d)
{
    if (b->len > 0)
        buf_truncate(b, roll(d, 2) ? roll(d, b->len) : b->len - 1 - roll(d, b->len < 40 ? 1 : 40));
}

static inline void append(struct buf *b, struct dice *d)
{
    static const size_t most[] = {1, 16, 40, 3 * ENVELOPE_FRAME};
    size_t len = 1 + roll(d, most[roll(d, 4)]), kind = roll(d, 3);
    char *tail = xcalloc(1, len);

    for (size_t i = 0; i < len && kind > 0; i++)
        tail[i] = kind == 1 ? (char)roll(d, 256) : b->len ? b->data[i % b->len] : 'x';
    buf_add(b, tail, len);
    free(tail);
}

/* Two blocks of equal length that do not overlap; false if there is no room. */
static inline bool two_blocks(const struct buf *b, struct dice *d, size_t *one, size_t *two,
                              size_t *len)
{
    *len = (size_t)1 << roll(d, 13);
    if (b->len < 2 * *len)
        return false;
    *one = roll(d, b->len / *len) * *len;
    *two = roll(d, b->len / *len) * *len;
    return *one != *two;
}

static inline void swap_blocks(struct buf *b, struct dice *d)
{
    size_t one, two, len;

    if (!two_blocks(b, d, &one, &two, &len))
        return;
    for (size_t i = 0; i < len; i++) {
        char c = b->data[one + i];
        b->data[one + i] = b->data[two + i];
        b->data[two + i] = c;
    }
}

static inline void copy_block(struct buf *b, struct dice *d)
{
    size_t one, two, len;

    if (two_blocks(b, d, &one, &two, &len))
        memcpy(b->data + one, b->data + two, len);
}

static inline void zero_block(struct buf *b, struct dice *d)
{
    size_t one, two, len;

    if (two_blocks(b, d, &one, &two, &len))
        memset(b->data + one, 0, len);
}

static inline void double_block(struct buf *b, struct dice *d)
{
    size_t one, two, len;

    if (!two_blocks(b, d, &one, &two, &len))
        return;
    char *copy = bytes_of(b, one, len);
    splice(b, two, 0, copy, len);
    free(copy);
}

static inline void drop_block(struct buf *b, struct dice *d)
{
    size_t one, two, len;

    if (two_blocks(b, d, &one, &two, &len))
        splice(b, one, len, NULL, 0);
}

/* ---- the payload ---- */

#define OF_PAYLOAD(name)                                                                           \
    static inline void payload_##name(struct lab_archive *a, const struct sample *s,               \
                                      struct dice *d)                                              \
    {                                                                                              \
        (void)s;                                                                                   \
        name(&a->payload, d);                                                                      \
    }
OF_PAYLOAD(flip_bit)
OF_PAYLOAD(change_bytes)
OF_PAYLOAD(cut)
OF_PAYLOAD(append)
OF_PAYLOAD(swap_blocks)
OF_PAYLOAD(copy_block)
OF_PAYLOAD(zero_block)
OF_PAYLOAD(double_block)
OF_PAYLOAD(drop_block)

/* Where formats say most per byte: the header, and the seek table if it is not encrypted. */
static inline void payload_flip_ends(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)s;
    if (a->payload.len < 100)
        return;
    size_t at = roll(d, 2) ? roll(d, ENVELOPE_HEADER) : a->payload.len - 1 - roll(d, 60);
    a->payload.data[at] ^= (char)(1 << roll(d, 8));
}

/* Does the payload still have the frames where they were? */
static inline bool has_frames(const struct lab_archive *a, const struct sample *s)
{
    return a->payload.len == s->good.payload.len;
}

static inline size_t frame_len(const struct frames *f, size_t i)
{
    return f->at[i + 1] - f->at[i];
}

/* Puts frame `i` of `from` in the place of frame `to`. */
static inline void put_frame(struct buf *payload, const struct frames *f, size_t to,
                             const struct buf *from, const struct frames *from_frames, size_t i)
{
    char *copy = bytes_of(from, from_frames->at[i], frame_len(from_frames, i));

    splice(payload, f->at[to], frame_len(f, to), copy, frame_len(from_frames, i));
    free(copy);
}

static inline void payload_swap_frames(struct lab_archive *a, const struct sample *s,
                                       struct dice *d)
{
    size_t i = roll(d, s->frames.count), j = roll(d, s->frames.count);

    if (!has_frames(a, s) || i == j)
        return;
    size_t first = i < j ? i : j, second = i < j ? j : i;
    put_frame(&a->payload, &s->frames, second, &s->good.payload, &s->frames, first);
    put_frame(&a->payload, &s->frames, first, &s->good.payload, &s->frames, second);
}

static inline void payload_double_frame(struct lab_archive *a, const struct sample *s,
                                        struct dice *d)
{
    size_t i = roll(d, s->frames.count);

    if (has_frames(a, s))
        splice(&a->payload, s->frames.at[i], 0, s->good.payload.data + s->frames.at[i],
               frame_len(&s->frames, i));
}

static inline void payload_drop_frame(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    size_t i = roll(d, s->frames.count);

    if (has_frames(a, s))
        splice(&a->payload, s->frames.at[i], frame_len(&s->frames, i), NULL, 0);
}

/* The file ends where a frame does. */
static inline void payload_end_early(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    if (has_frames(a, s))
        buf_truncate(&a->payload, s->frames.at[roll(d, s->frames.count)]);
}

static inline void payload_foreign_frame(struct lab_archive *a, const struct sample *s,
                                         struct dice *d)
{
    size_t i = roll(d, s->frames.count);

    if (has_frames(a, s) && i < s->other_frames.count)
        put_frame(&a->payload, &s->frames, i, &s->other.payload, &s->other_frames, i);
}

static inline void payload_other(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)d;
    set_bytes(&a->payload, s->other.payload.data, s->other.payload.len);
}

static inline void payload_missing(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)s;
    (void)d;
    a->has_payload = false;
}

/* ---- lines: the manifest and payload_ids ---- */

struct line {
    size_t at, len; /* with its newline */
};

/* Any line of the text; false if there is none. */
static inline bool any_line(const struct buf *b, struct dice *d, struct line *out)
{
    if (b->len == 0)
        return false;
    size_t within = roll(d, b->len), end = within;
    while (within > 0 && b->data[within - 1] != '\n')
        within--;
    while (end < b->len && b->data[end] != '\n')
        end++;
    *out = (struct line){.at = within, .len = end - within + (end < b->len)};
    return true;
}

static inline void drop_line(struct buf *b, struct dice *d)
{
    struct line l;

    if (any_line(b, d, &l))
        splice(b, l.at, l.len, NULL, 0);
}

static inline void double_line(struct buf *b, struct dice *d)
{
    struct line l;

    if (!any_line(b, d, &l))
        return;
    char *copy = bytes_of(b, l.at, l.len);
    splice(b, l.at, 0, copy, l.len);
    free(copy);
}

static inline void move_line(struct buf *b, struct dice *d)
{
    struct line l, to;

    if (!any_line(b, d, &l))
        return;
    char *copy = bytes_of(b, l.at, l.len);
    splice(b, l.at, l.len, NULL, 0);
    if (any_line(b, d, &to))
        splice(b, to.at, 0, copy, l.len);
    free(copy);
}

/* Another letter or digit for one that is there: what stays well-formed. */
static inline void edit_line(struct buf *b, struct dice *d)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    size_t at = b->len ? roll(d, b->len) : 0;

    if (b->len > 0 && strchr(letters, b->data[at]) && b->data[at])
        b->data[at] = letters[roll(d, b->data[at] <= '9' ? 10 : sizeof letters - 1)];
}

static inline void add_line(struct buf *b, struct dice *d)
{
    static const char *const lines[] = {"x: 1\n",       "# note\n", "\n",
                                        "---\n",        "...\n",    " \n",
                                        "manifest_mac", "zzz\n",    "enabled: false\n"};
    const char *line = lines[roll(d, sizeof lines / sizeof lines[0])];
    struct line l;

    if (roll(d, 2) || !any_line(b, d, &l))
        buf_adds(b, line);
    else
        splice(b, l.at, 0, line, strlen(line));
}

#define OF_LINES(part, name)                                                                       \
    static inline void part##_##name(struct lab_archive *a, const struct sample *s,                \
                                     struct dice *d)                                               \
    {                                                                                              \
        (void)s;                                                                                   \
        name(&a->part, d);                                                                         \
    }
#define OF_TEXT(part)                                                                              \
    OF_LINES(part, flip_bit)                                                                       \
    OF_LINES(part, change_bytes)                                                                   \
    OF_LINES(part, cut)                                                                            \
    OF_LINES(part, append)                                                                         \
    OF_LINES(part, drop_line)                                                                      \
    OF_LINES(part, double_line)                                                                    \
    OF_LINES(part, move_line)                                                                      \
    OF_LINES(part, edit_line)                                                                      \
    OF_LINES(part, add_line)
OF_TEXT(manifest)
OF_TEXT(ids)

static inline void ids_other(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)d;
    set_bytes(&a->ids, s->other.ids.data, s->other.ids.len);
}

static inline void ids_missing(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)s;
    (void)d;
    a->has_ids = false;
}

/* ---- the manifest, by somebody who knows what it is ---- */

static inline void manifest_other(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)d;
    set_bytes(&a->manifest, s->other.manifest.data, s->other.manifest.len);
}

static inline void manifest_missing(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    (void)s;
    (void)d;
    a->has_manifest = false;
}

/* Replaces from the first `from` up to and with the first `end` behind it. */
static inline void rewrite(struct buf *b, const char *from, const char *end, const char *with)
{
    char *at = memmem(buf_text(b), b->len, from, strlen(from)), *stop;

    if (!at)
        return;
    stop = memmem(at, b->len - (size_t)(at - b->data), end, strlen(end));
    if (stop)
        splice(b, (size_t)(at - b->data), (size_t)(stop - at) + strlen(end), with, strlen(with));
}

/* "It was never encrypted", or the opposite of an archive that is not. */
static inline void manifest_deny(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    struct buf *m = &a->manifest;

    if (!s->recipe.encrypt) {
        rewrite(m, "enabled: false", "\n",
                "enabled: true\n  envelope: 2\n  key_id: 0123456789abcdef\n");
        if (roll(d, 2))
            buf_addf(m, "manifest_mac: v1:%064d\n", 0);
        return;
    }
    rewrite(m, "enabled: true", "\n", "enabled: false\n");
    if (roll(d, 2)) {
        rewrite(m, "  envelope:", "\n", "");
        rewrite(m, "  key_id:", "\n", "");
    }
    if (roll(d, 2))
        rewrite(m, "manifest_mac:", "\n", "");
    if (roll(d, 2)) {
        rewrite(m, "compression:", "zstd", "compression:\n  algorithm: none");
        rewrite(m, "  level:", "\n", "");
        rewrite(m, "content_bytes:", "\n", "");
        char *line =
            xasprintf("size_bytes: %zu\ncontent_bytes: %zu\n", a->payload.len, a->payload.len);
        rewrite(m, "size_bytes:", "\n", line);
        free(line);
    }
}

/* All as the good one says it, but under a key of his own. */
static inline void manifest_own_key(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    struct manifest m = s->manifest;
    struct error err = {0};

    if (!s->recipe.encrypt)
        return;
    struct key *key = lab_load(LAB_OTHER);
    if (roll(d, 2))
        lab_ok(key_id(key, m.key_id, &err), &err);
    buf_truncate(&a->manifest, 0);
    lab_ok(manifest_write(&m, key, &a->manifest, &err), &err);
    key_free(key);
}

static inline void manifest_other_mac(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    const char *mac = strstr(s->other.manifest.data, "manifest_mac:");

    (void)d;
    if (mac)
        rewrite(&a->manifest, "manifest_mac:", "\n", mac);
}

/* The size of the payload as it is now, where only the digest knows better. */
static inline void manifest_fit_size(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    char *line = xasprintf("size_bytes: %zu\n", a->payload.len);

    (void)s;
    (void)d;
    rewrite(&a->manifest, "size_bytes:", "\n", line);
    free(line);
}

/* An authentic manifest for the payload as it is now, size and digest: what is wrong with it then
 * is for the envelope alone to find. Not for archives without one. */
static inline void manifest_fit_all(struct lab_archive *a, const struct sample *s, struct dice *d)
{
    struct manifest m = s->manifest;
    struct buf nowhere = BUF_INIT;
    struct error err = {0};

    (void)d;
    if (!s->recipe.encrypt || a->payload.len == 0)
        return;
    struct writer *w = digest_writer_new(lab_sink_new(&nowhere), &m.stored);
    struct key *key = lab_load(LAB_KEY);
    lab_ok(writer_write(w, a->payload.data, a->payload.len, &err), &err);
    lab_ok(writer_finish(w, &err), &err);
    writer_free(w);
    buf_truncate(&a->manifest, 0);
    lab_ok(manifest_write(&m, key, &a->manifest, &err), &err);
    key_free(key);
    buf_release(&nowhere);
}

/* ---- all of them ---- */

#define MUTATIONS(X)                                                                               \
    X(payload_flip_bit)                                                                            \
    X(payload_change_bytes)                                                                        \
    X(payload_cut)                                                                                 \
    X(payload_append)                                                                              \
    X(payload_swap_blocks)                                                                         \
    X(payload_copy_block)                                                                          \
    X(payload_zero_block)                                                                          \
    X(payload_double_block)                                                                        \
    X(payload_drop_block)                                                                          \
    X(payload_flip_ends)                                                                           \
    X(payload_swap_frames)                                                                         \
    X(payload_double_frame)                                                                        \
    X(payload_drop_frame)                                                                          \
    X(payload_end_early)                                                                           \
    X(payload_foreign_frame)                                                                       \
    X(payload_other)                                                                               \
    X(payload_missing)                                                                             \
    X(manifest_flip_bit)                                                                           \
    X(manifest_change_bytes)                                                                       \
    X(manifest_cut)                                                                                \
    X(manifest_append)                                                                             \
    X(manifest_drop_line)                                                                          \
    X(manifest_double_line)                                                                        \
    X(manifest_move_line)                                                                          \
    X(manifest_edit_line)                                                                          \
    X(manifest_add_line)                                                                           \
    X(manifest_other)                                                                              \
    X(manifest_missing)                                                                            \
    X(manifest_deny)                                                                               \
    X(manifest_own_key)                                                                            \
    X(manifest_other_mac)                                                                          \
    X(ids_flip_bit)                                                                                \
    X(ids_change_bytes)                                                                            \
    X(ids_cut)                                                                                     \
    X(ids_append)                                                                                  \
    X(ids_drop_line)                                                                               \
    X(ids_double_line)                                                                             \
    X(ids_move_line)                                                                               \
    X(ids_edit_line)                                                                               \
    X(ids_add_line)                                                                                \
    X(ids_other)                                                                                   \
    X(ids_missing)                                                                                 \
    X(manifest_fit_size)                                                                           \
    X(manifest_fit_all)

struct mutation {
    const char *name;
    void (*apply)(struct lab_archive *a, const struct sample *s, struct dice *d);
};

static const struct mutation mutations[] = {
#define X(name) {#name, name},
    MUTATIONS(X)
#undef X
};

/* The last two make a manifest fit what was done before: they come last, and on purpose. */
enum { MUTATION_COUNT = sizeof mutations / sizeof mutations[0], FITS = 2 };

#endif
