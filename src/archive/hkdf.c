/* SPDX-License-Identifier: MIT */
/*
 * hkdf.c - OpenSSL's EVP_KDF with its parameters filled in.
 *
 * The context holds a copy of the key until it is freed, which wipes it. An empty salt is not
 * passed at all: RFC 5869 makes that the same as a salt of zeros, and so does OpenSSL.
 */
#include "archive/hkdf.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

/* OpenSSL takes what it only reads as void *. */
static OSSL_PARAM bytes_param(const char *name, const void *data, size_t len)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)data, len);
}

static int derive(EVP_KDF_CTX *ctx, const struct hkdf *in, unsigned char *out, size_t len)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[5], *p = params;

    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
    *p++ = bytes_param(OSSL_KDF_PARAM_KEY, in->key, in->key_len);
    if (in->salt_len > 0)
        *p++ = bytes_param(OSSL_KDF_PARAM_SALT, in->salt, in->salt_len);
    if (in->info_len > 0)
        *p++ = bytes_param(OSSL_KDF_PARAM_INFO, in->info, in->info_len);
    *p = OSSL_PARAM_construct_end();
    return EVP_KDF_derive(ctx, out, len, params) == 1 ? 0 : -1;
}

int hkdf_sha256(const struct hkdf *in, void *out, size_t len, struct error *err)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int result = ctx ? derive(ctx, in, out, len) : -1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    if (result != 0) {
        OPENSSL_cleanse(out, len);
        return error_set(err, ERR_INTERNAL, "OpenSSL cannot compute HKDF-SHA256 of %zu bytes", len);
    }
    return 0;
}
