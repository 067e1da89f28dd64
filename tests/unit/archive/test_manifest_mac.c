/* SPDX-License-Identifier: MIT */
/*
 * test_manifest_mac.c - what is encrypted and authenticated cannot be altered, moved or forged:
 * the golden text's MAC was computed elsewhere, and no change to it of any kind is accepted.
 *
 * A manifest says of itself whether it is encrypted. Whoever rewrites it as an unencrypted one, MAC
 * and all removed, has a valid manifest of an unencrypted archive; that such a one is not good
 * enough is the policy's to say, here it must only not pass for an encrypted one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manifest_text.h"

static struct key *key_of(unsigned char byte)
{
    unsigned char bytes[KEY_BYTES];

    memset(bytes, byte, sizeof bytes);
    struct key *key = key_new(bytes);
    assert_non_null(key);
    return key;
}

/* Read, and authentic under `key`. */
static bool accepted(const char *text, size_t len, const struct key *key)
{
    struct manifest m;
    struct error err = {0};

    if (manifest_read(text, len, &m, &err) != 0) {
        assert_true(err.code == ERR_MANIFEST_INVALID || err.code == ERR_MANIFEST_UNSUPPORTED);
        return false;
    }
    bool authentic = manifest_authenticate(&m, text, len, key, &err) == 0;
    if (!authentic) {
        assert_int_equal(err.code, ERR_MANIFEST_INVALID);
        assert_non_null(strstr(err.message, "manifest altered"));
    }
    manifest_release(&m);
    return authentic;
}

static void expect_altered(const char *text, const struct key *key)
{
    struct manifest m = read_ok(text);
    struct error err = {0};

    assert_int_equal(manifest_authenticate(&m, text, strlen(text), key, &err), -1);
    assert_int_equal(err.code, ERR_MANIFEST_INVALID);
    assert_non_null(strstr(err.message, "manifest altered"));
    manifest_release(&m);
}

static void what_was_written_is_authentic(void **state)
{
    struct key *key = *state;
    struct manifest m = read_ok(encrypted_text);
    struct error err = {.code = ERR_NONE};

    assert_int_equal(manifest_authenticate(&m, encrypted_text, strlen(encrypted_text), key, &err),
                     0);
    assert_int_equal(err.code, ERR_NONE);
    manifest_release(&m);
}

/* What stands last before the MAC decides how the emitter ends; the MAC must be a line of its own
 * and YAML's whatever that is. */
static void any_last_value_leaves_room_for_the_mac(void **state)
{
    static const char *const values[] = {
        "",   "a", "a\n", "a\n\n", " ",    "\n", "|",    "...", "---",      "# a",
        "a:", "'", "\"",  "a\\",   "null", "\r", "\x01", "\t",  "\xc2\x85", "\xe2\x80\xa8"};

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct manifest m = sample_encrypted();
        add_metadata(&m, "zz", values[i]);
        char *text = text_of(&m);
        assert_true(accepted(text, strlen(text), *state));
        free(text);
    }
    struct manifest m = sample_encrypted();
    m.engine_metadata_count = 0;
    char *text = text_of(&m);
    assert_true(accepted(text, strlen(text), *state));
    free(text);
}

static void equal_input_gives_equal_macs(void **state)
{
    (void)state;
    struct manifest m = sample_encrypted();

    for (int i = 0; i < 20; i++)
        expect_text(&m, encrypted_text);
    SET(m.mac, "v1:left over from reading");
    expect_text(&m, encrypted_text);
}

static void no_flipped_bit_is_accepted(void **state)
{
    char *copy = xstrdup(encrypted_text);
    size_t len = strlen(copy);

    for (size_t at = 0; at < len; at++)
        for (int bit = 0; bit < 8; bit++) {
            copy[at] = (char)(encrypted_text[at] ^ 1 << bit);
            if (accepted(copy, len, *state))
                fail_msg("bit %d of byte %zu makes no difference", bit, at);
            copy[at] = encrypted_text[at];
        }
    assert_true(accepted(copy, len, *state));
    free(copy);
}

static void no_byte_can_be_removed(void **state)
{
    size_t len = strlen(encrypted_text);
    char *copy = xmalloc(len);

    for (size_t at = 0; at < len; at++) {
        memcpy(copy, encrypted_text, at);
        memcpy(copy + at, encrypted_text + at + 1, len - at - 1);
        if (accepted(copy, len - 1, *state))
            fail_msg("byte %zu makes no difference", at);
    }
    free(copy);
}

/* White space and comments mean nothing to YAML, and the bytes are not those any more. */
static void nothing_can_be_added_anywhere(void **state)
{
    static const char *const additions[] = {
        "\n", " ", "\r", "#", "\n# comment\n", "\n...\n", "\n---\n", "\xef\xbb\xbf", "0"};
    size_t len = strlen(encrypted_text);

    for (size_t at = 0; at <= len; at++)
        for (size_t i = 0; i < sizeof additions / sizeof additions[0]; i++) {
            char *text =
                xasprintf("%.*s%s%s", (int)at, encrypted_text, additions[i], encrypted_text + at);
            if (accepted(text, strlen(text), *state))
                fail_msg("accepted:\n%s", text);
            free(text);
        }
}

static void a_nul_behind_the_mac_is_not_overlooked(void **state)
{
    assert_false(accepted(encrypted_text, sizeof encrypted_text, *state));
}

static void the_mac_is_one_line_of_one_form_at_the_end(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"v1:" MAC, "'v1:" MAC "'", "manifest_mac: must be the last line"},
        {"v1:" MAC, "\"v1:" MAC "\"", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC, "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC " ", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC "\r", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC " \n", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC " # it\n", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC "\n# it\n", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC "\n\n", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC "\n...\n", "manifest_mac: must be the last line"},
        {"v1:" MAC "\n", "v1:" MAC "\r\n", "manifest_mac: must be the last line"},
        {"manifest_mac: ", "manifest_mac:  ", "manifest_mac: must be the last line"},
        {"manifest_mac: ", "manifest_mac : ", "manifest_mac: must be the last line"},
        {"manifest_mac: ", "'manifest_mac': ", "manifest_mac: must be the last line"},
        {"\nmanifest_mac: ", "\rmanifest_mac: ", "manifest_mac: must be the last line"},
        {"v1:e0", "v2:e0", "manifest_mac: must be the last line"},
        {"v1:e0", "e0", "manifest_mac: must be the last line"},
        {"v1:e0", "v1:E0", "manifest_mac: must be the last line"},
        {"v1:e0", "v1:g0", "manifest_mac: must be the last line"},
        {"v1:e0", "v1:0", "manifest_mac: must be the last line"},
        {"v1:e0", "v1:0e0", "manifest_mac: is too long"},
        {"v1:" MAC, "", "manifest_mac: must be text"},
        {"v1:" MAC, "''", "manifest_mac: must be left out"},
        {"v1:" MAC, "[v1:" MAC "]", "manifest_mac: must be text"},
        {"manifest_mac", "  manifest_mac", "manifest_mac: is missing"},
        {"manifest_mac", "# manifest_mac", "manifest_mac: is missing"},
        {"  schema: app\nmanifest_mac: v1:" MAC "\n",
         "manifest_mac: v1:" MAC "\nengine_metadata:\n  schema: app\n",
         "engine_metadata: is there"},
        {"engine_metadata:", "manifest_mac: v1:" MAC "\nengine_metadata:",
         "manifest_mac: is there twice"},
        {"engine_metadata:", "\"manifest_ma\\x63\": v1:" MAC "\nengine_metadata:",
         "manifest_mac: is there twice"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = replaced(encrypted_text, cases[i].from, cases[i].to);
        expect_refused(text, ERR_MANIFEST_INVALID, cases[i].why);
        free(text);
    }
}

/* Another key stands behind the MAC, so that it is not the last although there is one. */
static void nothing_follows_the_mac(void **state)
{
    (void)state;
    char *text = replaced(encrypted_text, "store_id: app\n", "");
    char *moved = xasprintf("%sstore_id: app\n", text);

    expect_refused(moved, ERR_MANIFEST_INVALID, "manifest_mac: must be the last line");
    free(moved);
    free(text);
}

static void the_mac_of_another_manifest_does_not_fit(void **state)
{
    struct manifest other = sample_encrypted();

    SET(other.backup_id, "01HXYZ0123456789ABCDEFGHJM");
    char *donor = text_of(&other);
    assert_true(accepted(donor, strlen(donor), *state));
    char *text = replaced(encrypted_text, MAC, strstr(donor, "v1:") + strlen("v1:"));
    text[strlen(text) - 1] = '\0';
    expect_altered(text, *state);
    free(text);
    free(donor);
}

static void without_its_mac_it_is_refused(void **state)
{
    (void)state;
    char *text = replaced(encrypted_text, "manifest_mac: v1:" MAC "\n", "");

    expect_refused(text, ERR_MANIFEST_INVALID, "manifest_mac: is missing");
    free(text);
}

/* This is what the policy is for: the text is whole, and says that it is not encrypted. */
static void stripped_of_encryption_it_does_not_pass_for_encrypted(void **state)
{
    char *plain = replaced(encrypted_text, "enabled: true\n  envelope: 2\n  key_id: " KEY_ID,
                           "enabled: false");
    expect_refused(plain, ERR_MANIFEST_INVALID, "manifest_mac: must not be");
    char *text = replaced(plain, "manifest_mac: v1:" MAC "\n", "");

    struct manifest m = read_ok(text);
    assert_false(m.encrypted);
    assert_int_equal(m.envelope, ENVELOPE_NONE);
    manifest_release(&m);
    expect_altered(text, *state);
    free(text);
    free(plain);
}

/* Neither may a version that knows no MAC be passed for one that was authenticated. */
static void version_1_is_never_authentic(void **state)
{
    expect_altered(v1_text, *state);
}

/* Even where the bytes are authentic for what they say, they are not for what was never read. */
static void only_an_encrypted_manifest_is_authentic(void **state)
{
    struct manifest m = read_ok(v2_text);
    struct error err = {0};

    assert_int_equal(
        manifest_authenticate(&m, encrypted_text, strlen(encrypted_text), *state, &err), -1);
    assert_int_equal(err.code, ERR_MANIFEST_INVALID);
    manifest_release(&m);
}

static void another_key_does_not_fit(void **state)
{
    (void)state;
    struct key *key = key_of(7);

    expect_altered(encrypted_text, key);
    key_free(key);
}

static void another_store_does_not_fit(void **state)
{
    char *text = replaced(encrypted_text, "store_id: app", "store_id: apq");
    expect_altered(text, *state);
    free(text);

    struct manifest m = read_ok(encrypted_text);
    struct error err = {0};
    SET(m.store_id, "apq");
    assert_int_equal(
        manifest_authenticate(&m, encrypted_text, strlen(encrypted_text), *state, &err), -1);
    assert_non_null(strstr(err.message, "manifest altered"));
    manifest_release(&m);
}

/* The MAC's key is bound to the store's whole id, of up to LIMIT_ID characters. */
static void the_last_letter_of_the_longest_store_id_counts(void **state)
{
    struct manifest m = sample_encrypted();
    struct error err = {0};

    memset(m.store_id, 'a', LIMIT_ID);
    m.store_id[LIMIT_ID] = '\0';
    char *text = text_of(&m);
    assert_int_equal(manifest_authenticate(&m, text, strlen(text), *state, &err), 0);
    m.store_id[LIMIT_ID - 1] = 'b';
    assert_int_equal(manifest_authenticate(&m, text, strlen(text), *state, &err), -1);
    free(text);
}

static void an_encrypted_version_1_needs_no_key(void **state)
{
    (void)state;
    struct manifest m = sample_v1();
    struct buf with = BUF_INIT, without = BUF_INIT;
    struct error err = {0};

    assert_int_equal(manifest_write(&m, NULL, &without, &err), 0);
    assert_int_equal(manifest_write(&m, *state, &with, &err), 0);
    assert_string_equal(buf_text(&with), buf_text(&without));
    buf_release(&with);
    buf_release(&without);
    manifest_release(&m);
}

/* A manifest of version 2 cannot grow by what it holds, so comments fill it up. */
static void the_mac_counts_for_the_limit_of_the_reader(void **state)
{
    (void)state;
    size_t len = strlen(encrypted_text), fill = LIMIT_MANIFEST - len;
    char *text = xmalloc(LIMIT_MANIFEST + 1);
    struct manifest m;
    struct error err = {0};

    memset(text, '#', fill - 1);
    text[fill - 1] = '\n';
    memcpy(text + fill, encrypted_text, len + 1);
    assert_int_equal(manifest_read(text, LIMIT_MANIFEST, &m, &err), 0);
    manifest_release(&m);
    assert_int_equal(manifest_read(text, LIMIT_MANIFEST + 1, &m, &err), -1);
    assert_non_null(strstr(err.message, "larger than 1048576 bytes"));
    free(text);
}

static int make_key(void **state)
{
    *state = test_key();
    return 0;
}

static int drop_key(void **state)
{
    key_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_authentic),
        cmocka_unit_test(any_last_value_leaves_room_for_the_mac),
        cmocka_unit_test(equal_input_gives_equal_macs),
        cmocka_unit_test(no_flipped_bit_is_accepted),
        cmocka_unit_test(no_byte_can_be_removed),
        cmocka_unit_test(nothing_can_be_added_anywhere),
        cmocka_unit_test(a_nul_behind_the_mac_is_not_overlooked),
        cmocka_unit_test(the_mac_is_one_line_of_one_form_at_the_end),
        cmocka_unit_test(nothing_follows_the_mac),
        cmocka_unit_test(the_mac_of_another_manifest_does_not_fit),
        cmocka_unit_test(without_its_mac_it_is_refused),
        cmocka_unit_test(stripped_of_encryption_it_does_not_pass_for_encrypted),
        cmocka_unit_test(version_1_is_never_authentic),
        cmocka_unit_test(only_an_encrypted_manifest_is_authentic),
        cmocka_unit_test(another_key_does_not_fit),
        cmocka_unit_test(another_store_does_not_fit),
        cmocka_unit_test(the_last_letter_of_the_longest_store_id_counts),
        cmocka_unit_test(an_encrypted_version_1_needs_no_key),
        cmocka_unit_test(the_mac_counts_for_the_limit_of_the_reader),
    };

    return cmocka_run_group_tests(tests, make_key, drop_key);
}
