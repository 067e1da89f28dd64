/* SPDX-License-Identifier: MIT */
/*
 * envelope_internal.h - what writing and reading an envelope share; private to envelope*.c.
 *
 * The format is described in envelope.h. Here are its header and the key, nonce and additional
 * data of its frames, each made in one place for both directions and both versions.
 */
#ifndef KEEPFS_ARCHIVE_ENVELOPE_INTERNAL_H
#define KEEPFS_ARCHIVE_ENVELOPE_INTERNAL_H

#include "archive/envelope.h"
#include "archive/gcm.h"
#include "keepfs/limits.h"

enum {
    ENVELOPE_HEADER_V1 = 9,
    ENVELOPE_HEADER_V2 = 80,
    ENVELOPE_BOUND = 48, /* bytes of a v2 header before its commit */
    ENVELOPE_SALT_AT = 16,
    ENVELOPE_SALT = 32,
    ENVELOPE_COMMIT = 32,
    ENVELOPE_LENGTH = 4, /* the length field of a v1 frame */
    ENVELOPE_FRAME_MIN_V2 = 64 << 10,
    ENVELOPE_FRAME_MAX_V2 = 16 << 20
};

struct envelope_header {
    int version;
    uint32_t frame_size;
    size_t len;
    unsigned char bytes[ENVELOPE_HEADER_V2];
};

/* May a header of that version have that frame size? */
bool envelope_frame_size_valid(int version, uint64_t frame_size);

/* The bytes of a header of that version, without those after it. */
size_t envelope_header_size(int version);

/* A new header; salt and commit of a v2 one are still zeros. */
void envelope_header_init(struct envelope_header *h, int version, uint32_t frame_size);

/* Fills the other fields of `h` from h->bytes, which have to be of that version. */
int envelope_header_parse(struct envelope_header *h, int version, struct error *err);

/* The cipher of the frames. v2: also the commit that belongs into the header, of which only the
 * bytes before it are looked at; v1 leaves `commit` as it is. */
int envelope_cipher_new(const struct envelope_header *h, const struct key *key,
                        const struct envelope *e, unsigned char commit[ENVELOPE_COMMIT],
                        struct gcm **out, struct error *err);

/* How many bytes a frame is larger than its content. */
size_t envelope_overhead(int version);

/* The additional data of a frame and, in v2, its nonce; v1 leaves that as it is. */
void envelope_frame_input(const struct envelope_header *h, uint64_t index, bool last,
                          struct gcm_input *in);

#endif
