/* SPDX-License-Identifier: MIT */
/*
 * fuzz_envelope.h - the body of fuzz_envelope_v1.c and fuzz_envelope_v2.c.
 *
 * A stored stream of the input's making is read under a fixed key. It is refused with a sentence,
 * or it is, byte for byte, what the writer makes of the content that was read, with the same salt
 * or nonces: an envelope has one form only.
 *
 * Random bytes pass no tag. So the first byte of the input says whether the rest is the stream
 * itself or a header and a script, of whose steps each appends a frame, sealed as the key would,
 * in the right or in a wrong role, or something that is no frame, or cuts. In v2 the header gets
 * the commit that it needs.
 */
#ifndef TESTS_FUZZ_ENVELOPE_H
#define TESTS_FUZZ_ENVELOPE_H

#include "archive/envelope_internal.h"
#include "util/buf.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { SCRIPTED = 1, STREAM_MAX = 1 << 20 };

static const unsigned char master[KEY_BYTES] = "a key for fuzzing, nothing else";

/* ---- the stream ---- */

struct script {
    struct envelope_header header;
    struct gcm *gcm;
    uint64_t index;
    struct buf stored;
};

/* Appends a frame of `len` bytes. */
static void add_frame(struct script *s, size_t len, bool last, bool wrong_length)
{
    unsigned char *frame = xcalloc(1, len + envelope_overhead(s->header.version));
    uint32_t field = htobe32((uint32_t)(len + GCM_TAG + wrong_length));
    struct gcm_input in = {.nonce = {(unsigned char)s->index, 1}};
    struct error err;
    size_t before = 0;

    envelope_frame_input(&s->header, s->index++, last, &in);
    if (s->header.version == ENVELOPE_V1) {
        memcpy(frame, in.nonce, GCM_NONCE);
        memcpy(frame + GCM_NONCE, &field, sizeof field);
        before = GCM_NONCE + sizeof field;
    }
    if (gcm_seal(s->gcm, &in, frame + before, len, frame + before, &err) != 0)
        abort();
    buf_add(&s->stored, frame, before + len + GCM_TAG);
    free(frame);
}

/* One byte: what to do in its lowest two bits, how in the others. */
static void run_step(struct script *s, unsigned char step)
{
    unsigned how = step >> 2;
    size_t len = how == 63 ? 0 : (how & 15) * (s->header.frame_size / 16) + (how >> 4);

    switch (step & 3) {
    case 0:
        add_frame(s, s->header.frame_size, how & 1, how & 2);
        s->index += (how & 12) == 12;
        break;
    case 1:
        add_frame(s, len, true, false);
        break;
    case 2:
        add_frame(s, len % 600, false, false);
        break;
    default:
        if (how & 1)
            buf_add(&s->stored, master, how >> 1);
        else if (s->stored.len > s->header.len + how)
            buf_truncate(&s->stored, s->stored.len - how);
    }
}

/* The stream of an input; the caller releases. */
static struct buf stream_of(const uint8_t *data, size_t size, const struct key *key,
                            const struct envelope *e)
{
    size_t head = envelope_header_size(e->version);
    struct script s = {.stored = BUF_INIT};
    struct error err;

    if (size > 0)
        memcpy(s.header.bytes, data + 1, size - 1 < head ? size - 1 : head);
    if (size < 1 + head || !(data[0] & SCRIPTED) ||
        envelope_header_parse(&s.header, e->version, &err) != 0 ||
        s.header.frame_size > STREAM_MAX / 4) {
        buf_add(&s.stored, size ? data + 1 : data, size ? size - 1 : 0);
        return s.stored;
    }
    if (envelope_cipher_new(&s.header, key, e, s.header.bytes + ENVELOPE_BOUND, &s.gcm, &err) != 0)
        abort();
    buf_add(&s.stored, s.header.bytes, head);
    for (size_t i = 1 + head; i < size && s.stored.len < STREAM_MAX; i++)
        run_step(&s, data[i]);
    gcm_free(s.gcm);
    return s.stored;
}

/* ---- both ends ---- */

struct memory {
    struct view view;
    const struct buf *stored;
};

static ssize_t memory_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    const struct buf *stored = ((struct memory *)v)->stored;

    (void)err;
    if (offset >= stored->len)
        return 0;
    if (len > stored->len - offset)
        len = stored->len - (size_t)offset;
    memcpy(buf, stored->data + offset, len);
    return (ssize_t)len;
}

static void memory_free(struct view *v)
{
    (void)v;
}

static struct memory memory_of(const struct buf *stored)
{
    static const struct view_ops ops = {.pread = memory_pread, .free = memory_free};

    return (struct memory){.view = {.ops = &ops, .size = stored->len}, .stored = stored};
}

struct sink {
    struct writer writer;
    struct buf got;
};

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    (void)err;
    buf_add(&((struct sink *)w)->got, data, len);
    return 0;
}

static int sink_finish(struct writer *w, struct error *err)
{
    (void)w;
    (void)err;
    return 0;
}

static void sink_free(struct writer *w)
{
    (void)w;
}

/* ---- what must hold ---- */

static struct {
    const char *at; /* the salt, or the nonce of the next frame */
    size_t step;
} replay;

/* The salt and nonces that the stream has. */
static int replayed_random(void *buf, size_t len)
{
    memcpy(buf, replay.at, len);
    replay.at += replay.step;
    return 0;
}

static void must_be_a_sentence(const struct error *err)
{
    if ((err->code != ERR_INTEGRITY_FAILED && err->code != ERR_DECRYPT_FAILED) ||
        err->message[0] == '\0')
        abort();
}

static void must_be_sealed_again(const struct buf *stored, const struct buf *content,
                                 const struct key *key, struct envelope e)
{
    static const struct writer_ops ops = {
        .write = sink_write, .finish = sink_finish, .free = sink_free};
    struct sink sink = {.writer.ops = &ops};
    bool v1 = e.version == ENVELOPE_V1;
    struct writer *w;
    struct error err;
    uint32_t big;

    memcpy(&big, stored->data + 5, sizeof big);
    e.frame_size = be32toh(big);
    e.random = replayed_random;
    if (e.frame_size > STREAM_MAX)
        return;
    replay.at = stored->data + (v1 ? ENVELOPE_HEADER_V1 : ENVELOPE_SALT_AT);
    replay.step = e.frame_size + envelope_overhead(e.version);
    if (envelope_writer_new(&sink.writer, key, &e, &w, &err) != 0 ||
        writer_write(w, content->data, content->len, &err) != 0 || writer_finish(w, &err) != 0)
        abort();
    writer_free(w);
    if (sink.got.len != stored->len || memcmp(sink.got.data, stored->data, stored->len) != 0)
        abort();
    buf_release(&sink.got);
}

/* 0 if all of it was read. */
static int read_all(struct view *v, struct buf *out, struct error *err)
{
    static char piece[10007];
    uint64_t at = 0;
    ssize_t n;

    while ((n = view_pread(v, piece, sizeof piece, at, err)) > 0) {
        buf_add(out, piece, (size_t)n);
        at += (uint64_t)n;
    }
    if (n == 0 && at != v->size)
        abort();
    return (int)n;
}

static void read_envelope(const struct buf *stored, const struct key *key, const struct envelope *e)
{
    struct frame_cache *cache = frame_cache_new(0);
    struct memory m = memory_of(stored);
    struct buf content = BUF_INIT;
    struct error err = {.code = ERR_NONE};
    struct view *v;
    uint64_t size;
    bool fits;

    if (envelope_view_new(&m.view, key, e, cache, false, &v, &err) != 0) {
        must_be_a_sentence(&err);
    } else {
        if (envelope_content_size(&m.view, e->version, &size, &err) != 0 || size != v->size)
            abort();
        if (read_all(v, &content, &err) != 0)
            must_be_a_sentence(&err);
        else if (envelope_fits(&m.view, key, e, &fits, &err) != 0 || !fits)
            abort();
        else
            must_be_sealed_again(stored, &content, key, *e);
        view_free(v);
    }
    buf_release(&content);
    frame_cache_free(cache);
}

static void fuzz_envelope(const uint8_t *data, size_t size, int version)
{
    static struct key *key;
    const struct envelope e = {
        .version = version, .store_id = "app", .record = "01HXYZ0123456789ABCDEFGHJ1"};

    if (!key)
        key = key_new(master);
    struct buf stored = stream_of(data, size, key, &e);
    if (stored.data)
        read_envelope(&stored, key, &e);
    buf_release(&stored);
}

#endif
