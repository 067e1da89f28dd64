/* SPDX-License-Identifier: MIT */
/*
 * digest.c - a hashing writer and a hashing, judging view around one EVP context each.
 *
 * EVP calls on an initialised SHA-256 context fail only when memory is gone or OpenSSL is broken;
 * both are reported as internal, and nothing is trusted after.
 */
#include "stream/digest.h"

#include "keepfs/limits.h"
#include "util/buf.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct hash {
    EVP_MD_CTX *ctx; /* NULL if it could not be made: reported by the first use */
    uint64_t size;
};

static void hash_init(struct hash *h)
{
    h->size = 0;
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx && EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(h->ctx);
        h->ctx = NULL;
    }
}

static int hash_add(struct hash *h, const void *data, size_t len, struct error *err)
{
    if (!h->ctx || EVP_DigestUpdate(h->ctx, data, len) != 1)
        return error_set(err, ERR_INTERNAL, "OpenSSL cannot compute SHA-256");
    h->size += len;
    return 0;
}

static int hash_final(struct hash *h, struct digest *out, struct error *err)
{
    unsigned char raw[SHA256_HEX / 2];

    if (!h->ctx || EVP_DigestFinal_ex(h->ctx, raw, NULL) != 1)
        return error_set(err, ERR_INTERNAL, "OpenSSL cannot compute SHA-256");
    for (size_t i = 0; i < sizeof raw; i++) {
        out->sha256[2 * i] = "0123456789abcdef"[raw[i] >> 4];
        out->sha256[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
    }
    out->sha256[SHA256_HEX] = '\0';
    out->size = h->size;
    return 0;
}

struct digest_writer {
    struct writer writer;
    struct writer *next;
    struct hash hash;
    struct digest *out;
};

static int digest_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct digest_writer *d = (struct digest_writer *)w;

    if (hash_add(&d->hash, data, len, err) != 0)
        return -1;
    return d->next ? writer_write(d->next, data, len, err) : 0;
}

static int digest_finish(struct writer *w, struct error *err)
{
    struct digest_writer *d = (struct digest_writer *)w;

    if (hash_final(&d->hash, d->out, err) != 0)
        return -1;
    return d->next ? writer_finish(d->next, err) : 0;
}

static void digest_free(struct writer *w)
{
    struct digest_writer *d = (struct digest_writer *)w;

    writer_free(d->next);
    EVP_MD_CTX_free(d->hash.ctx);
    free(d);
}

struct writer *digest_writer_new(struct writer *next, struct digest *out)
{
    static const struct writer_ops ops = {
        .write = digest_write, .finish = digest_finish, .free = digest_free};
    struct digest_writer *d = xcalloc(1, sizeof *d);

    d->writer.ops = &ops;
    d->next = next;
    d->out = out;
    hash_init(&d->hash);
    return &d->writer;
}

struct digest_view {
    struct view view;
    struct view *next;
    struct hash hash; /* of the bytes before hash.size */
    struct digest expected;
};

static ssize_t digest_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    struct digest_view *d = (struct digest_view *)v;
    ssize_t n = view_pread(d->next, buf, len, offset, err);

    if (n <= 0 || offset > d->hash.size || offset + (uint64_t)n <= d->hash.size)
        return n;
    size_t known = (size_t)(d->hash.size - offset);
    return hash_add(&d->hash, (const char *)buf + known, (size_t)n - known, err) == 0 ? n : -1;
}

static int compare(struct digest_view *d, struct error *err)
{
    struct digest got;

    if (hash_final(&d->hash, &got, err) != 0)
        return -1;
    if (got.size != d->expected.size)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "%s: %" PRIu64 " bytes are stored, %" PRIu64 " were written",
                         got.size < d->expected.size ? "truncated" : "trailing bytes", got.size,
                         d->expected.size);
    if (strcmp(got.sha256, d->expected.sha256) != 0)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "the stored bytes were altered: their SHA-256 is %s, not %s", got.sha256,
                         d->expected.sha256);
    return 0;
}

int digest_view_judge(struct view *v, struct error *err)
{
    struct digest_view *d = (struct digest_view *)v;
    __attribute__((cleanup(free_charp))) char *rest = xmalloc(LIMIT_STREAM_CHUNK);
    ssize_t n;

    while ((n = digest_pread(v, rest, LIMIT_STREAM_CHUNK, d->hash.size, err)) > 0)
        ;
    return n == 0 ? compare(d, err) : -1;
}

static void digest_view_free(struct view *v)
{
    struct digest_view *d = (struct digest_view *)v;

    view_free(d->next);
    EVP_MD_CTX_free(d->hash.ctx);
    free(d);
}

struct view *digest_view_new(struct view *next, const struct digest *expected)
{
    static const struct view_ops ops = {.pread = digest_pread, .free = digest_view_free};
    struct digest_view *d = xcalloc(1, sizeof *d);

    d->view = (struct view){.ops = &ops, .size = next->size};
    d->next = next;
    d->expected = *expected;
    hash_init(&d->hash);
    return &d->view;
}
