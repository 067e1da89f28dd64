/* SPDX-License-Identifier: MIT */
/*
 * envelope_fixture.h - envelopes in memory: sealed, altered, read back. Include it after cmocka.
 */
#ifndef TESTS_ARCHIVE_ENVELOPE_FIXTURE_H
#define TESTS_ARCHIVE_ENVELOPE_FIXTURE_H

#include "archive/envelope.h"
#include "util/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define RECORD_A "01HXYZ0123456789ABCDEFGHJ1"
#define RECORD_B "01HXYZ0123456789ABCDEFGHJ2"

/* Small frames, so that an archive of several is a quick one. */
static const struct envelope small_v1 = {
    .version = ENVELOPE_V1, .store_id = "app", .record = RECORD_A, .frame_size = 1024};
static const struct envelope small_v2 = {
    .version = ENVELOPE_V2, .store_id = "app", .record = RECORD_A, .frame_size = 64 << 10};
static const struct envelope *const small[] = {&small_v1, &small_v2};

static inline size_t header_of(const struct envelope *e)
{
    return e->version == ENVELOPE_V1 ? 9 : 80;
}

/* What a frame takes besides its content. */
static inline size_t overhead_of(const struct envelope *e)
{
    return e->version == ENVELOPE_V1 ? 12 + 4 + 16 : 16;
}

/* Where frame i stands. */
static inline size_t frame_at(const struct envelope *e, size_t i)
{
    return header_of(e) + i * (e->frame_size + overhead_of(e));
}

/* The key first, first + 1, first + 2 ... */
static inline struct key *test_key(unsigned char first)
{
    unsigned char bytes[KEY_BYTES];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(first + i);
    return key_new(bytes);
}

static inline unsigned char pattern_at(size_t i)
{
    return (unsigned char)(i * 31 >> 3);
}

/* The caller frees. */
static inline unsigned char *pattern(size_t len)
{
    unsigned char *data = xmalloc(len);

    for (size_t i = 0; i < len; i++)
        data[i] = pattern_at(i);
    return data;
}

/* ---- the writer behind ---- */

struct sink {
    struct writer writer;
    struct buf got;
    int writes, fail_at; /* the write that fails, from 1; 0 = none */
    bool fail_finish, finished, freed;
};

static inline int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct sink *s = (struct sink *)w;

    if (++s->writes == s->fail_at)
        return error_set(err, ERR_DESTINATION_NO_SPACE, "full at write %d", s->writes);
    buf_add(&s->got, data, len);
    return 0;
}

static inline int sink_finish(struct writer *w, struct error *err)
{
    struct sink *s = (struct sink *)w;

    if (s->fail_finish)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "fsync failed");
    s->finished = true;
    return 0;
}

static inline void sink_free(struct writer *w)
{
    ((struct sink *)w)->freed = true;
}

static const struct writer_ops sink_ops = {
    .write = sink_write, .finish = sink_finish, .free = sink_free};

/* Writes the pattern in pieces and, if `finish`, finishes. */
static inline int write_pieces(struct writer *w, size_t len, size_t piece, bool finish,
                               struct error *err)
{
    unsigned char *data = pattern(len);
    int result = 0;

    for (size_t at = 0; result == 0 && at < len; at += piece)
        result = writer_write(w, data + at, len - at < piece ? len - at : piece, err);
    if (result == 0 && finish)
        result = writer_finish(w, err);
    free(data);
    return result;
}

/* The envelope of `len` bytes of the pattern under test_key(first); the caller releases. */
static inline struct buf seal_with(const struct envelope *e, unsigned char first, size_t len,
                                   size_t piece, bool finish)
{
    struct sink s = {.writer.ops = &sink_ops};
    struct key *key = test_key(first);
    struct error err;
    struct writer *w;

    assert_int_equal(envelope_writer_new(&s.writer, key, e, &w, &err), 0);
    key_free(key);
    assert_int_equal(write_pieces(w, len, piece, finish, &err), 0);
    assert_int_equal(s.finished, finish);
    writer_free(w);
    assert_true(s.freed);
    return s.got;
}

static inline struct buf seal(const struct envelope *e, size_t len)
{
    return seal_with(e, 0, len, 10000, true);
}

/* ---- the view below ---- */

struct memory_view {
    struct view view;
    const unsigned char *data;
    size_t there;     /* bytes that can be read; view.size if the file did not shrink */
    uint64_t fail_at; /* a read that touches this byte fails; UINT64_MAX = none */
    bool freed;
};

static inline ssize_t memory_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                                   struct error *err)
{
    struct memory_view *m = (struct memory_view *)v;

    if (offset <= m->fail_at && m->fail_at - offset < len)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "the disk is gone");
    if (offset >= m->there)
        return 0;
    if (len > m->there - offset)
        len = m->there - (size_t)offset;
    memcpy(buf, m->data + offset, len);
    return (ssize_t)len;
}

static inline void memory_free(struct view *v)
{
    ((struct memory_view *)v)->freed = true;
}

static const struct view_ops memory_ops = {.pread = memory_pread, .free = memory_free};

static inline struct memory_view memory_view_of(const void *data, size_t len)
{
    return (struct memory_view){.view = {.ops = &memory_ops, .size = len},
                                .data = data,
                                .there = len,
                                .fail_at = UINT64_MAX};
}

/* ---- reading back ---- */

/* All of it, in preads that cross frames; -1 at the first failure. */
static inline int view_read_all(struct view *v, struct buf *out, struct error *err)
{
    static char piece[100000];

    for (uint64_t at = 0; at < v->size;) {
        ssize_t n = view_pread(v, piece, sizeof piece, at, err);
        if (n < 0)
            return -1;
        assert_true(n > 0);
        buf_add(out, piece, (size_t)n);
        at += (uint64_t)n;
    }
    return 0;
}

static inline int open_with(struct memory_view *stored, unsigned char first,
                            const struct envelope *e, struct buf *out, struct error *err)
{
    struct frame_cache *cache = frame_cache_new(0);
    struct key *key = test_key(first);
    struct view *v;

    int result = envelope_view_new(&stored->view, key, e, cache, false, &v, err);
    key_free(key);
    if (result == 0) {
        result = view_read_all(v, out, err);
        view_free(v);
    }
    assert_true(stored->freed);
    frame_cache_free(cache);
    return result;
}

/* The whole stream comes back as `len` bytes of the pattern. */
static inline void assert_opens(const void *data, size_t size, const struct envelope *e, size_t len)
{
    struct memory_view stored = memory_view_of(data, size);
    struct buf got = BUF_INIT;
    struct error err = {.message = ""};

    if (open_with(&stored, 0, e, &got, &err) != 0)
        fail_msg("%zu bytes of v%d: %s", len, e->version, err.message);
    assert_int_equal(got.len, len);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)got.data[i] != pattern_at(i))
            fail_msg("byte %zu of %zu differs", i, len);
    buf_release(&got);
}

/* Some read of the stream fails, with that code and those words in its message. */
static inline void assert_refused_with(const void *data, size_t size, unsigned char first,
                                       const struct envelope *e, enum error_code code,
                                       const char *words)
{
    struct memory_view stored = memory_view_of(data, size);
    struct buf got = BUF_INIT;
    struct error err = {.message = ""};

    if (open_with(&stored, first, e, &got, &err) == 0)
        fail_msg("v%d was read, where \"%s\" was due", e->version, words);
    if (err.code != code || !strstr(err.message, words))
        fail_msg("v%d, %zu bytes: %s: %s; expected \"%s\"", e->version, size,
                 error_code_name(err.code), err.message, words);
    buf_release(&got);
}

static inline void assert_refused(const struct buf *stored, const struct envelope *e,
                                  enum error_code code, const char *words)
{
    assert_refused_with(stored->data, stored->len, 0, e, code, words);
}

#endif
