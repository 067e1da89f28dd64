/* SPDX-License-Identifier: MIT */
/*
 * digest.c - a hashing writer and a hashing, judging reader around one EVP context each.
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
    return writer_write(d->next, data, len, err);
}

static int digest_finish(struct writer *w, struct error *err)
{
    struct digest_writer *d = (struct digest_writer *)w;

    if (hash_final(&d->hash, d->out, err) != 0)
        return -1;
    return writer_finish(d->next, err);
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

struct digest_reader {
    struct reader reader;
    struct reader *next;
    struct hash hash;
    struct digest expected;
};

static ssize_t digest_read(struct reader *r, void *buf, size_t len, struct error *err)
{
    struct digest_reader *d = (struct digest_reader *)r;
    ssize_t n = reader_read(d->next, buf, len, err);

    if (n > 0 && hash_add(&d->hash, buf, (size_t)n, err) != 0)
        return -1;
    return n;
}

static int judge(struct digest_reader *d, struct error *err)
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

static int digest_reader_finish(struct reader *r, struct error *err)
{
    struct digest_reader *d = (struct digest_reader *)r;
    __attribute__((cleanup(free_charp))) char *rest = xmalloc(LIMIT_STREAM_CHUNK);
    ssize_t n;

    while ((n = digest_read(r, rest, LIMIT_STREAM_CHUNK, err)) > 0)
        ;
    if (n < 0 || reader_finish(d->next, err) != 0)
        return -1;
    return judge(d, err);
}

static void digest_reader_free(struct reader *r)
{
    struct digest_reader *d = (struct digest_reader *)r;

    reader_free(d->next);
    EVP_MD_CTX_free(d->hash.ctx);
    free(d);
}

struct reader *digest_reader_new(struct reader *next, const struct digest *expected)
{
    static const struct reader_ops ops = {
        .read = digest_read, .finish = digest_reader_finish, .free = digest_reader_free};
    struct digest_reader *d = xcalloc(1, sizeof *d);

    d->reader.ops = &ops;
    d->next = next;
    d->expected = *expected;
    hash_init(&d->hash);
    return &d->reader;
}
