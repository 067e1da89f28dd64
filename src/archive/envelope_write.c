/* SPDX-License-Identifier: MIT */
/*
 * envelope_write.c - a writer that gathers frames, seals them and hands them on, one write each.
 *
 * `plain` holds what does not fill a frame yet. A v1 frame goes as soon as it is full, since the
 * final frame is always shorter. A full v2 frame may be the last one, so it is held until another
 * byte comes. A frame that lies whole in the caller's buffer is sealed from there.
 *
 * `sealed` is laid out as the frame is stored, so that it leaves in one piece. After a failure the
 * fields are of no use any more; only free follows. What next got by then has no last frame, and
 * no reader takes it.
 */
#include "archive/envelope_internal.h"
#include "util/buf.h"

#include <assert.h>
#include <endian.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_V1 = 4 << 20, DEFAULT_V2 = 1 << 20 };

struct envelope_writer {
    struct writer writer;
    struct writer *next;
    struct gcm *gcm;
    struct envelope_header header;
    int (*random)(void *buf, size_t len);
    bool begun;                    /* the header is written */
    uint64_t index;                /* of the next frame */
    unsigned char *plain, *sealed; /* a frame's content; a frame */
    size_t held;                   /* bytes in plain */
};

static int openssl_random(void *buf, size_t len)
{
    return RAND_bytes(buf, (int)len) == 1 ? 0 : -1;
}

static int fill_random(struct envelope_writer *w, void *buf, size_t len, struct error *err)
{
    if (w->random(buf, len) != 0)
        return error_set(err, ERR_INTERNAL, "there are no random bytes to encrypt with");
    return 0;
}

static int begin(struct envelope_writer *w, struct error *err)
{
    if (w->begun)
        return 0;
    w->begun = true;
    return writer_write(w->next, w->header.bytes, w->header.len, err);
}

/* Fills in->nonce and what stands before the ciphertext; *len is how much that is. */
static int begin_frame(struct envelope_writer *w, struct gcm_input *in, size_t content, size_t *len,
                       struct error *err)
{
    uint32_t big = htobe32((uint32_t)(content + GCM_TAG));

    *len = 0;
    if (w->header.version == ENVELOPE_V2)
        return 0;
    if (fill_random(w, in->nonce, GCM_NONCE, err) != 0)
        return -1;
    memcpy(w->sealed, in->nonce, GCM_NONCE);
    memcpy(w->sealed + GCM_NONCE, &big, sizeof big);
    *len = GCM_NONCE + ENVELOPE_LENGTH;
    return 0;
}

static int emit(struct envelope_writer *w, const void *plain, size_t len, bool last,
                struct error *err)
{
    struct gcm_input in;
    size_t before;

    assert(w->index < UINT64_MAX);
    if (begin_frame(w, &in, len, &before, err) != 0)
        return -1;
    envelope_frame_input(&w->header, w->index++, last, &in);
    if (gcm_seal(w->gcm, &in, plain, len, w->sealed + before, err) != 0)
        return -1;
    return writer_write(w->next, w->sealed, before + len + GCM_TAG, err);
}

/* With so many bytes at hand: is there a frame among them that cannot be the last? */
static bool frame_is_due(const struct envelope_writer *w, size_t bytes)
{
    return w->header.version == ENVELOPE_V1 ? bytes >= w->header.frame_size
                                            : bytes > w->header.frame_size;
}

static void hold(struct envelope_writer *w, const unsigned char *data, size_t len)
{
    memcpy(w->plain + w->held, data, len);
    w->held += len;
}

static int envelope_write(struct writer *writer, const void *data, size_t len, struct error *err)
{
    struct envelope_writer *w = (struct envelope_writer *)writer;
    const unsigned char *p = data;

    if (len == 0)
        return 0;
    if (begin(w, err) != 0)
        return -1;
    while (frame_is_due(w, w->held + len)) {
        size_t missing = w->header.frame_size - w->held;
        bool direct = w->held == 0;
        if (!direct)
            hold(w, p, missing);
        if (emit(w, direct ? p : w->plain, w->header.frame_size, false, err) != 0)
            return -1;
        w->held = 0;
        p += missing;
        len -= missing;
    }
    hold(w, p, len);
    return 0;
}

static int envelope_finish(struct writer *writer, struct error *err)
{
    struct envelope_writer *w = (struct envelope_writer *)writer;

    if (begin(w, err) != 0 || emit(w, w->plain, w->held, true, err) != 0)
        return -1;
    return writer_finish(w->next, err);
}

static void envelope_free(struct writer *writer)
{
    struct envelope_writer *w = (struct envelope_writer *)writer;

    writer_free(w->next);
    gcm_free(w->gcm);
    free(w->plain);
    free(w->sealed);
    free(w);
}

static int prepare(struct envelope_writer *w, const struct key *key, const struct envelope *e,
                   struct error *err)
{
    unsigned char *bytes = w->header.bytes;

    if (e->version == ENVELOPE_V2 &&
        fill_random(w, bytes + ENVELOPE_SALT_AT, ENVELOPE_SALT, err) != 0)
        return -1;
    return envelope_cipher_new(&w->header, key, e, bytes + ENVELOPE_BOUND, &w->gcm, err);
}

int envelope_writer_new(struct writer *next, const struct key *key, const struct envelope *e,
                        struct writer **out, struct error *err)
{
    static const struct writer_ops ops = {
        .write = envelope_write, .finish = envelope_finish, .free = envelope_free};
    uint32_t usual = e->version == ENVELOPE_V1 ? DEFAULT_V1 : DEFAULT_V2;
    uint32_t frame_size = e->frame_size ? e->frame_size : usual;
    struct envelope_writer *w = xcalloc(1, sizeof *w);

    assert(envelope_frame_size_valid(e->version, frame_size));
    w->writer.ops = &ops;
    w->next = next;
    w->random = e->random ? e->random : openssl_random;
    envelope_header_init(&w->header, e->version, frame_size);
    if (prepare(w, key, e, err) != 0) {
        envelope_free(&w->writer);
        return -1;
    }
    w->plain = xmalloc(frame_size);
    w->sealed = xmalloc(frame_size + envelope_overhead(e->version));
    *out = &w->writer;
    return 0;
}
