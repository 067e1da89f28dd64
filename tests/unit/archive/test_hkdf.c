/* SPDX-License-Identifier: MIT */
/*
 * test_hkdf.c - HKDF-SHA256 against the vectors of RFC 5869, and its bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/hkdf.h"

#include <stdio.h>
#include <string.h>

/* `len` bytes counting up from `first`. */
static const unsigned char *counting(unsigned char *bytes, unsigned first, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(first + i);
    return bytes;
}

static void assert_derives(const struct hkdf *in, const char *hex)
{
    unsigned char out[128];
    char got[2 * sizeof out + 1];
    size_t len = strlen(hex) / 2;
    struct error err;

    assert_int_equal(hkdf_sha256(in, out, len, &err), 0);
    for (size_t i = 0; i < len; i++)
        snprintf(got + 2 * i, 3, "%02x", out[i]);
    assert_string_equal(got, hex);
}

static void rfc5869_a1_basic(void **state)
{
    unsigned char key[22], salt[13], info[10];

    (void)state;
    memset(key, 0x0b, sizeof key);
    assert_derives(
        &(struct hkdf){.key = key,
                       .key_len = sizeof key,
                       .salt = counting(salt, 0, sizeof salt),
                       .salt_len = sizeof salt,
                       .info = counting(info, 0xf0, sizeof info),
                       .info_len = sizeof info},
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b88718"
        "5865");
}

static void rfc5869_a2_longer_inputs(void **state)
{
    unsigned char key[80], salt[80], info[80];

    (void)state;
    assert_derives(
        &(struct hkdf){.key = counting(key, 0, sizeof key),
                       .key_len = sizeof key,
                       .salt = counting(salt, 0x60, sizeof salt),
                       .salt_len = sizeof salt,
                       .info = counting(info, 0xb0, sizeof info),
                       .info_len = sizeof info},
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac78272"
        "71cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f"
        "1d87");
}

static void rfc5869_a3_empty_salt_and_info(void **state)
{
    unsigned char key[22];

    (void)state;
    memset(key, 0x0b, sizeof key);
    assert_derives(
        &(struct hkdf){.key = key, .key_len = sizeof key},
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a"
        "96c8");
}

static void more_than_hkdf_can_give_is_refused_and_leaves_nothing(void **state)
{
    static unsigned char out[HKDF_MAX + 1];
    unsigned char key[32] = {1};
    const struct hkdf in = {.key = key, .key_len = sizeof key};
    struct error err;

    (void)state;
    assert_int_equal(hkdf_sha256(&in, out, HKDF_MAX, &err), 0);
    assert_int_equal(hkdf_sha256(&in, out, HKDF_MAX + 1, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc5869_a1_basic),
        cmocka_unit_test(rfc5869_a2_longer_inputs),
        cmocka_unit_test(rfc5869_a3_empty_salt_and_info),
        cmocka_unit_test(more_than_hkdf_can_give_is_refused_and_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
