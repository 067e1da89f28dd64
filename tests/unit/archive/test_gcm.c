/* SPDX-License-Identifier: MIT */
/*
 * test_gcm.c - AES-256-GCM against the test cases of McGrew and Viega (13 to 16, those with 256
 * bits), and that a wrong tag, nonce, key or additional data opens nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/gcm.h"
#include "archive/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define PLAIN                                                                                      \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                             \
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define SEALED                                                                                     \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"                             \
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
#define ZEROS "00000000000000000000000000000000"

static const struct {
    const char *key, *nonce, *plain, *aad, *sealed; /* hex; sealed with the tag */
} cases[] = {
    {ZEROS ZEROS, "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {ZEROS ZEROS, "000000000000000000000000", ZEROS, "",
     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
    {KEY, "cafebabefacedbaddecaf888", PLAIN "1aafd255", "",
     SEALED "898015adb094dac5d93471bdec1a502270e3cc6c"},
    {KEY, "cafebabefacedbaddecaf888", PLAIN, "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     SEALED "76fc6ece0f4e1768cddf8853bb2d551b"},
};

struct vector {
    unsigned char key[KEY_BYTES], plain[64], sealed[64 + GCM_TAG];
    size_t len; /* of plain */
    struct gcm_input in;
};

static size_t unhex(const char *hex, unsigned char *out)
{
    size_t len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    return len;
}

static struct vector vector_of(size_t i)
{
    struct vector v = {.len = 0};

    unhex(cases[i].key, v.key);
    unhex(cases[i].nonce, v.in.nonce);
    v.in.aad_len = unhex(cases[i].aad, v.in.aad);
    v.len = unhex(cases[i].plain, v.plain);
    assert_int_equal(unhex(cases[i].sealed, v.sealed), v.len + GCM_TAG);
    return v;
}

static struct gcm *gcm_of(const struct vector *v)
{
    struct gcm *g;
    struct error err;

    assert_int_equal(gcm_new(v->key, &g, &err), 0);
    return g;
}

static void the_published_vectors_seal_and_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vector v = vector_of(i);
        struct gcm *g = gcm_of(&v);
        unsigned char sealed[sizeof v.sealed], plain[sizeof v.plain];
        struct error err;
        bool right = false;
        assert_int_equal(gcm_seal(g, &v.in, v.plain, v.len, sealed, &err), 0);
        assert_memory_equal(sealed, v.sealed, v.len + GCM_TAG);
        assert_int_equal(gcm_open(g, &v.in, v.sealed, v.len, plain, &right, &err), 0);
        assert_true(right);
        if (v.len > 0)
            assert_memory_equal(plain, v.plain, v.len);
        gcm_free(g);
    }
}

/* Does not open, and leaves zeros. */
static void assert_closed(const struct vector *v)
{
    static const unsigned char zeros[64];
    struct gcm *g = gcm_of(v);
    unsigned char plain[64];
    struct error err;
    bool right = true;

    memset(plain, 0xaa, sizeof plain);
    assert_int_equal(gcm_open(g, &v->in, v->sealed, v->len, plain, &right, &err), 0);
    assert_false(right);
    assert_memory_equal(plain, zeros, v->len);
    gcm_free(g);
}

static void anything_altered_opens_nothing_and_leaves_zeros(void **state)
{
    struct vector v = vector_of(3);

    (void)state;
    for (size_t i = 0; i < v.len + GCM_TAG; i++) {
        v.sealed[i] ^= 1;
        assert_closed(&v);
        v.sealed[i] ^= 1;
    }
    for (size_t i = 0; i < GCM_NONCE; i++) {
        v.in.nonce[i] ^= 1;
        assert_closed(&v);
        v.in.nonce[i] ^= 1;
    }
    for (size_t i = 0; i < v.in.aad_len; i++) {
        v.in.aad[i] ^= 1;
        assert_closed(&v);
        v.in.aad[i] ^= 1;
    }
    v.in.aad_len--;
    assert_closed(&v);
    v.in.aad_len++;
    v.key[31] ^= 1;
    assert_closed(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_seal_and_open),
        cmocka_unit_test(anything_altered_opens_nothing_and_leaves_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
