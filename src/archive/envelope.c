/* SPDX-License-Identifier: MIT */
/*
 * envelope.c - the header of an envelope and what its frames are sealed with.
 *
 * Everything here is a pure function of its arguments. Derived bytes exist on the stack of
 * envelope_cipher_new only, which wipes them; what stays is in the cipher's locked page.
 */
#include "archive/envelope_internal.h"
#include "keepfs/model.h"

#include <assert.h>
#include <endian.h>
#include <openssl/crypto.h>
#include <string.h>

enum {
    VERSION_AT = 4,
    FRAME_SIZE_AT = 5,
    SUITE_AT = 9,
    ZEROS_AT = 10,
    SUITE_AES_256_GCM = 1,
};

static const char magic[4] = {'D', 'F', 'S', '1'};
static const unsigned char zeros[ENVELOPE_SALT_AT - ZEROS_AT];

bool envelope_frame_size_valid(int version, uint64_t frame_size)
{
    if (version == ENVELOPE_V1)
        return frame_size >= 1 && frame_size <= LIMIT_FRAME;
    return frame_size >= ENVELOPE_FRAME_MIN_V2 && frame_size <= ENVELOPE_FRAME_MAX_V2 &&
           (frame_size & (frame_size - 1)) == 0;
}

size_t envelope_header_size(int version)
{
    assert(version == ENVELOPE_V1 || version == ENVELOPE_V2);
    return version == ENVELOPE_V1 ? ENVELOPE_HEADER_V1 : ENVELOPE_HEADER_V2;
}

size_t envelope_overhead(int version)
{
    return version == ENVELOPE_V1 ? GCM_NONCE + ENVELOPE_LENGTH + GCM_TAG : GCM_TAG;
}

void envelope_header_init(struct envelope_header *h, int version, uint32_t frame_size)
{
    uint32_t big = htobe32(frame_size);

    *h = (struct envelope_header){
        .version = version, .frame_size = frame_size, .len = envelope_header_size(version)};
    memcpy(h->bytes, magic, sizeof magic);
    h->bytes[VERSION_AT] = (unsigned char)version;
    memcpy(h->bytes + FRAME_SIZE_AT, &big, sizeof big);
    if (version == ENVELOPE_V2)
        h->bytes[SUITE_AT] = SUITE_AES_256_GCM;
}

static int damaged(struct error *err, const char *what)
{
    return error_set(err, ERR_INTEGRITY_FAILED, "damaged header: %s", what);
}

int envelope_header_parse(struct envelope_header *h, int version, struct error *err)
{
    uint32_t big;

    if (memcmp(h->bytes, magic, sizeof magic) != 0)
        return damaged(err, "it does not begin with DFS1");
    if (h->bytes[VERSION_AT] != version)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged header: it is of version %d, where %d is expected",
                         h->bytes[VERSION_AT], version);
    if (version == ENVELOPE_V2 && h->bytes[SUITE_AT] != SUITE_AES_256_GCM)
        return damaged(err, "its cipher suite is unknown");
    if (version == ENVELOPE_V2 && memcmp(h->bytes + ZEROS_AT, zeros, sizeof zeros) != 0)
        return damaged(err, "its reserved bytes are not zero");
    memcpy(&big, h->bytes + FRAME_SIZE_AT, sizeof big);
    h->version = version;
    h->frame_size = be32toh(big);
    h->len = envelope_header_size(version);
    if (!envelope_frame_size_valid(version, h->frame_size))
        return damaged(err, "its frame size is impossible");
    return 0;
}

/* ---- what a v2 stream is bound to ---- */

/* The info of HKDF, grown part by part. */
struct info {
    unsigned char bytes[8 + ENVELOPE_BOUND + 2 + LIMIT_ID + 2 + ULID_LEN];
    size_t len;
};

static void info_add(struct info *info, const void *data, size_t len)
{
    assert(len <= sizeof info->bytes - info->len);
    memcpy(info->bytes + info->len, data, len);
    info->len += len;
}

static void info_add_text(struct info *info, const char *text)
{
    uint16_t big = htobe16((uint16_t)strlen(text));

    info_add(info, &big, sizeof big);
    info_add(info, text, strlen(text));
}

int envelope_cipher_new(const struct envelope_header *h, const struct key *key,
                        const struct envelope *e, unsigned char commit[ENVELOPE_COMMIT],
                        struct gcm **out, struct error *err)
{
    static const char label[8] = "dfs1-v2";
    unsigned char derived[KEY_BYTES + ENVELOPE_COMMIT];
    struct info info = {.len = 0};

    if (h->version == ENVELOPE_V1)
        return gcm_new(key_bytes(key), out, err);
    info_add(&info, label, sizeof label);
    info_add(&info, h->bytes, ENVELOPE_BOUND);
    info_add_text(&info, e->store_id);
    info_add_text(&info, e->record);
    int result = key_derive(key, h->bytes + ENVELOPE_SALT_AT, ENVELOPE_SALT, info.bytes, info.len,
                            derived, sizeof derived, err);
    if (result == 0)
        result = gcm_new(derived, out, err);
    if (result == 0)
        memcpy(commit, derived + KEY_BYTES, ENVELOPE_COMMIT);
    OPENSSL_cleanse(derived, sizeof derived);
    return result;
}

/* ---- frames ---- */

static void input_v1(uint64_t index, bool last, struct gcm_input *in)
{
    const char *kind = last ? "final" : "data";
    uint64_t big = htobe64(index);

    memcpy(in->aad, &big, sizeof big);
    memcpy(in->aad + sizeof big, kind, strlen(kind));
    in->aad_len = sizeof big + strlen(kind);
}

static void input_v2(const struct envelope_header *h, uint64_t index, bool last,
                     struct gcm_input *in)
{
    uint64_t big = htobe64(index);

    memset(in->nonce, 0, sizeof in->nonce);
    memcpy(in->nonce + 3, &big, sizeof big);
    in->nonce[GCM_NONCE - 1] = last;
    memcpy(in->aad, h->bytes, ENVELOPE_HEADER_V2);
    in->aad_len = ENVELOPE_HEADER_V2;
}

void envelope_frame_input(const struct envelope_header *h, uint64_t index, bool last,
                          struct gcm_input *in)
{
    if (h->version == ENVELOPE_V1)
        input_v1(index, last, in);
    else
        input_v2(h, index, last, in);
}
