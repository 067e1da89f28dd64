/* SPDX-License-Identifier: MIT */
/*
 * gcm.c - one EVP context per message.
 *
 * A context cannot be shared by threads, and OpenSSL 3.0 cannot copy one of GCM; making one costs
 * a microsecond, against hundreds for a frame. The cipher is fetched once, which spares each
 * message a lookup under OpenSSL's lock. Freeing a context wipes the expanded key.
 */
#include "archive/gcm.h"

#include "archive/keys.h"
#include "keepfs/limits.h"
#include "util/buf.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct gcm {
    EVP_CIPHER *cipher;
    struct key *key;
};

static int broken(struct error *err)
{
    return error_set(err, ERR_INTERNAL, "OpenSSL cannot compute AES-256-GCM");
}

int gcm_new(const unsigned char *key, struct gcm **out, struct error *err)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);

    if (!cipher)
        return broken(err);
    struct gcm *g = xcalloc(1, sizeof *g);
    g->cipher = cipher;
    g->key = key_new(key);
    *out = g;
    return 0;
}

void gcm_free(struct gcm *g)
{
    if (!g)
        return;
    EVP_CIPHER_free(g->cipher);
    key_free(g->key);
    free(g);
}

/* A context of the key, the nonce and the aad, or NULL. `seal` is 1 to encrypt, 0 to decrypt. */
static EVP_CIPHER_CTX *begin(const struct gcm *g, const struct gcm_input *in, int seal)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;

    if (ctx && EVP_CipherInit_ex2(ctx, g->cipher, key_bytes(g->key), in->nonce, seal, NULL) == 1 &&
        (in->aad_len == 0 || EVP_CipherUpdate(ctx, NULL, &n, in->aad, (int)in->aad_len) == 1))
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    return NULL;
}

static bool crypt_text(EVP_CIPHER_CTX *ctx, const unsigned char *from, size_t len,
                       unsigned char *to)
{
    int n;

    assert(len <= LIMIT_FRAME);
    return len == 0 || (EVP_CipherUpdate(ctx, to, &n, from, (int)len) == 1 && n == (int)len);
}

int gcm_seal(const struct gcm *g, const struct gcm_input *in, const void *plain, size_t len,
             unsigned char *out, struct error *err)
{
    EVP_CIPHER_CTX *ctx = begin(g, in, 1);
    int n;
    bool done = ctx && crypt_text(ctx, plain, len, out) &&
                EVP_EncryptFinal_ex(ctx, out + len, &n) == 1 &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, out + len) == 1;

    EVP_CIPHER_CTX_free(ctx);
    return done ? 0 : broken(err);
}

int gcm_open(const struct gcm *g, const struct gcm_input *in, const unsigned char *sealed,
             size_t len, void *out, bool *right, struct error *err)
{
    EVP_CIPHER_CTX *ctx = begin(g, in, 0);
    int n;
    bool done =
        ctx && crypt_text(ctx, sealed, len, out) &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, (void *)(sealed + len)) == 1;

    *right = done && EVP_DecryptFinal_ex(ctx, (unsigned char *)out + len, &n) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!*right)
        OPENSSL_cleanse(out, len);
    return done ? 0 : broken(err);
}
