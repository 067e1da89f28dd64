/* SPDX-License-Identifier: MIT */
/*
 * test_crypto_failures.c - OpenSSL fails: every call of it in turn, while archives are written,
 * read and judged.
 *
 * It is then said to be OpenSSL: never damage, a wrong key or an altered manifest, of which a
 * person would throw an archive away. No plaintext and no key is left behind, and no archive is
 * finished.
 *
 * The calls are defined here; their real selves do the work, except for the one that is to fail.
 * EVP_DecryptFinal_ex is not among them: its failure is the verdict on a tag.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/gcm.h"
#include "archive/hkdf.h"
#include "archive/manifest_fields.h"
#include "envelope_fixture.h"

#include <dlfcn.h>
#include <endian.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

/* ---- the calls ---- */

static struct {
    bool counted;
    int count, fail_at; /* from 1 */
} calls;

static bool must_fail(void)
{
    return calls.counted && ++calls.count == calls.fail_at;
}

#define STAND_IN(type, name, failure, parameters, arguments)                                       \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return must_fail() ? (failure) : real arguments;                                           \
    }

STAND_IN(EVP_CIPHER *, EVP_CIPHER_fetch, NULL,
         (OSSL_LIB_CTX * lib, const char *algorithm, const char *properties),
         (lib, algorithm, properties))
STAND_IN(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, NULL, (void), ())
STAND_IN(int, EVP_CipherInit_ex2, 0,
         (EVP_CIPHER_CTX * ctx, const EVP_CIPHER *cipher, const unsigned char *key,
          const unsigned char *nonce, int seal, const OSSL_PARAM *params),
         (ctx, cipher, key, nonce, seal, params))
STAND_IN(int, EVP_CipherUpdate, 0,
         (EVP_CIPHER_CTX * ctx, unsigned char *out, int *out_len, const unsigned char *in, int len),
         (ctx, out, out_len, in, len))
STAND_IN(int, EVP_EncryptFinal_ex, 0, (EVP_CIPHER_CTX * ctx, unsigned char *out, int *len),
         (ctx, out, len))
STAND_IN(int, EVP_CIPHER_CTX_ctrl, 0, (EVP_CIPHER_CTX * ctx, int type, int arg, void *ptr),
         (ctx, type, arg, ptr))
STAND_IN(EVP_KDF *, EVP_KDF_fetch, NULL,
         (OSSL_LIB_CTX * lib, const char *algorithm, const char *properties),
         (lib, algorithm, properties))
STAND_IN(EVP_KDF_CTX *, EVP_KDF_CTX_new, NULL, (EVP_KDF * kdf), (kdf))
STAND_IN(int, EVP_KDF_derive, 0,
         (EVP_KDF_CTX * ctx, unsigned char *out, size_t len, const OSSL_PARAM params[]),
         (ctx, out, len, params))
STAND_IN(unsigned char *, EVP_Q_mac, NULL,
         (OSSL_LIB_CTX * lib, const char *name, const char *properties, const char *sub,
          const OSSL_PARAM *params, const void *key, size_t key_len, const unsigned char *data,
          size_t len, unsigned char *out, size_t room, size_t *out_len),
         (lib, name, properties, sub, params, key, key_len, data, len, out, room, out_len))
STAND_IN(int, RAND_bytes, 0, (unsigned char *buf, int len), (buf, len))

static void assert_openssl_failed(int result, const struct error *err)
{
    assert_int_equal(result, -1);
    if (err->code != ERR_INTERNAL || (!strstr(err->message, "OpenSSL cannot compute") &&
                                      !strstr(err->message, "there are no random bytes")))
        fail_msg("call %d: %s: \"%s\"", calls.fail_at, error_code_name(err->code), err->message);
}

/* Does `work` again and again, each time with another call failing, until none is left. How many
 * calls there were. `work` asserts what must be true after a failure by itself; what it needs to do
 * so is not counted. */
static int fail_each_call(int (*work)(const void *ctx, struct error *err), const void *ctx)
{
    for (int at = 1;; at++) {
        struct error err = {.message = ""};
        calls.count = 0;
        calls.fail_at = at;
        calls.counted = true;
        int result = work(ctx, &err);
        calls.counted = false;
        if (calls.count < at) {
            if (result != 0)
                fail_msg("without a failing call: %s", err.message);
            return at - 1;
        }
        assert_openssl_failed(result, &err);
    }
}

/* ---- writing ---- */

enum { CONTENT_FRAMES = 3 };

static size_t content_of(const struct envelope *e)
{
    return (CONTENT_FRAMES - 1) * e->frame_size + 100;
}

static int write_envelope(const void *ctx, struct error *err)
{
    const struct envelope *e = ctx;
    struct sink s = {.writer.ops = &sink_ops};
    struct key *key = test_key(0);
    struct writer *w;
    int result = envelope_writer_new(&s.writer, key, e, &w, err);

    if (result == 0) {
        result = write_pieces(w, content_of(e), 10000, true, err);
        writer_free(w);
    }
    calls.counted = false;
    assert_true(s.freed);
    assert_int_equal(s.finished, result == 0);
    if (result == 0)
        assert_opens(s.got.data, s.got.len, e, content_of(e));
    else if (s.got.len > 0)
        assert_refused_with(s.got.data, s.got.len, 0, e, ERR_INTEGRITY_FAILED, "truncated");
    buf_release(&s.got);
    key_free(key);
    return result;
}

static void an_envelope_is_not_finished(void **state)
{
    (void)state;
    /* A frame takes a context, its key, its aad, its text, its end and its tag, and in v1 a nonce;
     * v2 has a salt and a derivation of three calls. */
    assert_true(fail_each_call(write_envelope, &small_v1) >= 1 + CONTENT_FRAMES * 7);
    assert_true(fail_each_call(write_envelope, &small_v2) >= 1 + 4 + CONTENT_FRAMES * 6);
}

/* ---- reading ---- */

/* A stored envelope, and what is wrong with it. */
struct stored {
    const struct envelope *envelope;
    struct buf bytes;
    enum error_code code; /* ERR_NONE: nothing is */
    const char *words;
};

/* 0 if it is read, or refused, as it should be. What comes of it is right in any case. */
static int read_envelope(const void *ctx, struct error *err)
{
    const struct stored *s = ctx;
    struct memory_view view = memory_view_of(s->bytes.data, s->bytes.len);
    struct buf got = BUF_INIT;
    int result = open_with(&view, 0, s->envelope, &got, err);

    for (size_t i = 0; i < got.len; i++)
        assert_int_equal((unsigned char)got.data[i], pattern_at(i));
    buf_release(&got);
    if (result == 0)
        assert_int_equal(s->code, ERR_NONE);
    return result != 0 && err->code == s->code && strstr(err->message, s->words) ? 0 : result;
}

static void a_whole_envelope_is_not_called_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(small); i++) {
        struct stored s = {.envelope = small[i], .bytes = seal(small[i], content_of(small[i]))};
        assert_true(fail_each_call(read_envelope, &s) >= 1 + CONTENT_FRAMES * 5);
        buf_release(&s.bytes);
    }
}

static void an_empty_envelope_is_not_called_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(small); i++) {
        struct stored s = {.envelope = small[i], .bytes = seal(small[i], 0)};
        assert_true(fail_each_call(read_envelope, &s) >= 1 + 4);
        buf_release(&s.bytes);
    }
}

static void damage_is_not_given_another_name(const struct envelope *e, void (*damage)(struct buf *),
                                             enum error_code code, const char *words)
{
    struct stored s = {
        .envelope = e, .bytes = seal(e, content_of(e)), .code = code, .words = words};

    damage(&s.bytes);
    assert_true(fail_each_call(read_envelope, &s) > 1 + 5);
    buf_release(&s.bytes);
}

static void alter_frame_of_v2(struct buf *b)
{
    b->data[frame_at(&small_v2, 1)] ^= 1;
}

static void set_length_of_v1(struct buf *b, size_t frame, uint32_t length)
{
    uint32_t big = htobe32(length);

    memcpy(b->data + frame_at(&small_v1, frame) + GCM_NONCE, &big, sizeof big);
}

static void alter_length_of_v1(struct buf *b)
{
    set_length_of_v1(b, 1, 1000);
}

/* Less than a tag takes, and the frame would not open with the right length either. */
static void alter_frame_and_length_of_v1(struct buf *b)
{
    set_length_of_v1(b, 1, 0);
    b->data[frame_at(&small_v1, 1) + GCM_NONCE + sizeof(uint32_t)] ^= 1;
}

static void alter_frame_of_v1(struct buf *b)
{
    b->data[frame_at(&small_v1, 1) + GCM_NONCE + sizeof(uint32_t)] ^= 1;
}

static void append_to_v1(struct buf *b)
{
    buf_add(b, "twelve bytes", 12);
}

static void alter_first_and_last_of_v1(struct buf *b)
{
    b->data[frame_at(&small_v1, 0) + GCM_NONCE + sizeof(uint32_t)] ^= 1;
    b->data[b->len - 1] ^= 1;
}

static void each_damage_keeps_its_name(void **state)
{
    (void)state;
    damage_is_not_given_another_name(&small_v2, alter_frame_of_v2, ERR_INTEGRITY_FAILED,
                                     "damaged frame 1: its tag is wrong");
    damage_is_not_given_another_name(&small_v1, alter_frame_of_v1, ERR_INTEGRITY_FAILED,
                                     "damaged frame 1: its tag is wrong");
    damage_is_not_given_another_name(&small_v1, alter_length_of_v1, ERR_INTEGRITY_FAILED,
                                     "damaged frame 1: its length field is wrong");
    damage_is_not_given_another_name(&small_v1, alter_frame_and_length_of_v1, ERR_INTEGRITY_FAILED,
                                     "damaged frame 1: its tag is wrong");
    damage_is_not_given_another_name(&small_v1, append_to_v1, ERR_INTEGRITY_FAILED,
                                     "trailing bytes: frame 2 is the last one");
    damage_is_not_given_another_name(&small_v1, alter_first_and_last_of_v1, ERR_DECRYPT_FAILED,
                                     "neither the first nor the last frame opens");
}

static int ask_whether_the_key_fits(const void *ctx, struct error *err)
{
    const struct stored *s = ctx;
    struct memory_view view = memory_view_of(s->bytes.data, s->bytes.len);
    struct key *key = test_key(0);
    bool fits = false;
    int result = envelope_fits(&view.view, key, s->envelope, &fits, err);

    if (result == 0)
        assert_true(fits);
    key_free(key);
    return result;
}

static void a_right_key_is_not_called_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(small); i++) {
        struct stored s = {.envelope = small[i], .bytes = seal(small[i], content_of(small[i]))};
        assert_true(fail_each_call(ask_whether_the_key_fits, &s) >= 1 + 3);
        /* The last frame of v1 is asked if the first one does not open. */
        s.bytes.data[frame_at(small[i], 0) + overhead_of(small[i])] ^= 1;
        assert_true(fail_each_call(ask_whether_the_key_fits, &s) >= 1 + 3);
        buf_release(&s.bytes);
    }
}

/* ---- keys and manifests ---- */

static int open_message(const void *ctx, struct error *err)
{
    static const unsigned char zeros[32];
    const struct gcm *g = ctx;
    struct gcm_input in = {.aad = "aad", .aad_len = 3};
    unsigned char sealed[sizeof zeros + GCM_TAG], out[sizeof zeros];
    bool right = true;

    calls.counted = false;
    assert_int_equal(gcm_seal(g, &in, "thirty-two bytes to keep private", sizeof out, sealed, err),
                     0);
    calls.counted = true;
    memset(out, 0xaa, sizeof out);
    int result = gcm_open(g, &in, sealed, sizeof out, out, &right, err);
    assert_int_equal(right, result == 0);
    if (result == 0)
        assert_memory_equal(out, "thirty-two bytes to keep private", sizeof out);
    else
        assert_memory_equal(out, zeros, sizeof out);
    return result;
}

static void a_message_that_cannot_be_opened_leaves_zeros(void **state)
{
    static const unsigned char bytes[KEY_BYTES] = "a key that only a test may have";
    struct error err;
    struct gcm *g;

    (void)state;
    assert_int_equal(gcm_new(bytes, &g, &err), 0);
    assert_true(fail_each_call(open_message, g) >= 5);
    gcm_free(g);
}

static int derive_key(const void *ctx, struct error *err)
{
    static const unsigned char zeros[32];
    const struct hkdf in = {.key = ctx, .key_len = 3, .info = "info", .info_len = 4};
    unsigned char out[sizeof zeros];

    memset(out, 0xaa, sizeof out);
    int result = hkdf_sha256(&in, out, sizeof out, err);
    if (result != 0)
        assert_memory_equal(out, zeros, sizeof out);
    return result;
}

static void a_key_that_cannot_be_derived_leaves_zeros(void **state)
{
    (void)state;
    assert_true(fail_each_call(derive_key, "key") >= 3);
}

static int find_key(const void *ctx, struct error *err)
{
    static const char *const refs[] = {"env:CRYPTO_FAILURES_KEY"};
    const struct keyring ring = {.refs = refs, .count = 1};
    struct key *key = NULL;
    int result = keyring_find(&ring, ctx, &key, err);

    assert_int_equal(key != NULL, result == 0);
    key_free(key);
    /* Whether it is the right one is not known: it is a key that cannot be had. */
    if (result != 0) {
        assert_int_equal(err->code, ERR_DESTINATION_CREDENTIALS_INVALID);
        assert_non_null(strstr(err->message, "may be one that cannot be loaded"));
        err->code = ERR_INTERNAL;
    }
    return result;
}

static void a_key_whose_id_cannot_be_computed_is_not_called_wrong(void **state)
{
    char id[KEY_ID_HEX + 1], hex[2 * KEY_BYTES + 1];
    struct error err;
    struct key *key;

    (void)state;
    for (size_t i = 0; i < KEY_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02zx", i); /* all alike would be refused as no key */
    assert_int_equal(setenv("CRYPTO_FAILURES_KEY", hex, 1), 0);
    assert_int_equal(key_load("env:CRYPTO_FAILURES_KEY", &key, &err), 0);
    assert_int_equal(key_id(key, id, &err), 0);
    key_free(key);
    assert_true(fail_each_call(find_key, id) >= 3);
}

static struct manifest encrypted_manifest(const struct key *key)
{
    struct manifest m = {.version = MANIFEST_V2,
                         .created_at = 1795242628123,
                         .stored = {.size = 96},
                         .encrypted = true,
                         .envelope = ENVELOPE_V2};
    struct error err;

    snprintf(m.backup_id, sizeof m.backup_id, RECORD_A);
    snprintf(m.store_id, sizeof m.store_id, "app");
    snprintf(m.store_kind, sizeof m.store_kind, "sqlite");
    snprintf(m.compression, sizeof m.compression, "none");
    memset(m.stored.sha256, 'a', SHA256_HEX);
    assert_int_equal(key_id(key, m.key_id, &err), 0);
    return m;
}

static int write_manifest(const void *ctx, struct error *err)
{
    const struct key *key = ctx;
    struct buf out = BUF_INIT;

    calls.counted = false;
    struct manifest m = encrypted_manifest(key);
    calls.counted = true;
    buf_adds(&out, "before");
    int result = manifest_write(&m, key, &out, err);
    if (result != 0)
        assert_string_equal(buf_text(&out), "before");
    buf_release(&out);
    return result;
}

static void a_manifest_without_its_mac_is_not_written(void **state)
{
    struct key *key = test_key(0);

    (void)state;
    assert_true(fail_each_call(write_manifest, key) >= 3 + 1);
    key_free(key);
}

static int authenticate(const void *ctx, struct error *err)
{
    const struct buf *text = ctx;
    struct manifest m;
    struct key *key = test_key(0);

    assert_int_equal(manifest_read(text->data, text->len, &m, err), 0);
    int result = manifest_authenticate(&m, text->data, text->len, key, err);
    manifest_release(&m);
    key_free(key);
    return result;
}

static void a_right_manifest_is_not_called_altered(void **state)
{
    struct key *key = test_key(0);
    struct manifest m = encrypted_manifest(key);
    struct buf text = BUF_INIT;
    struct error err;

    (void)state;
    assert_int_equal(manifest_write(&m, key, &text, &err), 0);
    assert_true(fail_each_call(authenticate, &text) >= 3 + 1);
    buf_release(&text);
    key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_is_not_finished),
        cmocka_unit_test(a_whole_envelope_is_not_called_damaged),
        cmocka_unit_test(an_empty_envelope_is_not_called_damaged),
        cmocka_unit_test(each_damage_keeps_its_name),
        cmocka_unit_test(a_right_key_is_not_called_wrong),
        cmocka_unit_test(a_message_that_cannot_be_opened_leaves_zeros),
        cmocka_unit_test(a_key_that_cannot_be_derived_leaves_zeros),
        cmocka_unit_test(a_key_whose_id_cannot_be_computed_is_not_called_wrong),
        cmocka_unit_test(a_manifest_without_its_mac_is_not_written),
        cmocka_unit_test(a_right_manifest_is_not_called_altered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
