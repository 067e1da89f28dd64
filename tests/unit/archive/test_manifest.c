/* SPDX-License-Identifier: MIT */
/*
 * test_manifest.c - exact bytes, what survives a round trip, what cannot be written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manifest_text.h"

#include <dlfcn.h>
#include <errno.h>
#include <yaml.h>

static int texts_left; /* the texts before the one that libyaml has no memory for; 0: for all */

int yaml_scalar_event_initialize(yaml_event_t *event, const yaml_char_t *anchor,
                                 const yaml_char_t *tag, const yaml_char_t *value, int length,
                                 int plain, int quoted, yaml_scalar_style_t style)
{
    static typeof(yaml_scalar_event_initialize) *real;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "yaml_scalar_event_initialize");
    if (texts_left > 0 && --texts_left == 0) {
        errno = ENOMEM;
        return 0;
    }
    return real(event, anchor, tag, value, length, plain, quoted, style);
}

static void v2_has_exactly_these_bytes(void **state)
{
    (void)state;
    struct manifest m = sample_v2();

    expect_text(&m, v2_text);
}

static void an_encrypted_v2_has_exactly_these_bytes(void **state)
{
    (void)state;
    struct manifest m = sample_encrypted();

    expect_text(&m, encrypted_text);
}

static void v1_has_exactly_these_bytes(void **state)
{
    (void)state;
    struct manifest m = sample_v1();

    expect_text(&m, v1_text);
    manifest_release(&m);
}

static void all_fields_of_v2_survive(void **state)
{
    (void)state;
    struct manifest m = read_ok(v2_text);

    assert_int_equal(m.version, 2);
    assert_string_equal(m.backup_id, ULID);
    assert_int_equal(m.created_at, 1795242628123);
    assert_string_equal(m.store_id, "app");
    assert_string_equal(m.store_kind, "sqlite");
    assert_string_equal(m.stored.sha256, SHA256);
    assert_int_equal(m.stored.size, 4096);
    assert_int_equal(m.content_bytes, 4096);
    assert_string_equal(m.compression, "none");
    assert_false(m.encrypted);
    assert_int_equal(m.envelope, ENVELOPE_NONE);
    assert_string_equal(m.key_id, "");
    assert_string_equal(m.mac, "");
    assert_int_equal(m.payload_id_count, 3);
    assert_string_equal(m.payload_ids_sha256, IDS_SHA256);
    assert_null(m.payload_ids);
    assert_int_equal(m.engine_metadata_count, 2);
    assert_string_equal(m.engine_metadata[0].key, "page_size");
    assert_string_equal(m.engine_metadata[0].value, "4096");
    assert_string_equal(m.engine_metadata[1].key, "schema");
    expect_text(&m, v2_text);
    manifest_release(&m);
}

static void all_fields_of_an_encrypted_v2_survive(void **state)
{
    (void)state;
    struct manifest m = read_ok(encrypted_text);

    assert_int_equal(m.stored.size, 2000);
    assert_int_equal(m.content_bytes, 4096);
    assert_string_equal(m.compression, "zstd");
    assert_int_equal(m.compression_level, 3);
    assert_true(m.encrypted);
    assert_int_equal(m.envelope, ENVELOPE_V2);
    assert_string_equal(m.key_id, KEY_ID);
    assert_string_equal(m.payload_ids_sha256, IDS_SHA256);
    assert_string_equal(m.mac, "v1:" MAC);
    expect_text(&m, encrypted_text);
    manifest_release(&m);
}

static void all_fields_of_v1_survive(void **state)
{
    (void)state;
    struct manifest m = read_ok(v1_text);

    assert_int_equal(m.version, 1);
    assert_true(m.encrypted);
    assert_int_equal(m.envelope, ENVELOPE_V1);
    assert_int_equal(m.content_bytes, 0);
    assert_string_equal(m.encryption_algorithm, "aes-256-gcm");
    assert_string_equal(m.key_ref, "env:APP_KEY");
    assert_int_equal(m.payload_id_count, 2);
    assert_string_equal(m.payload_ids[0], "a");
    assert_string_equal(m.payload_ids[1], "b");
    expect_text(&m, v1_text);
    manifest_release(&m);
}

static void each_level_of_compression_survives(void **state)
{
    (void)state;
    struct manifest m = sample(2);

    SET(m.compression, "zstd");
    m.content_bytes = 99999;
    for (int level = -7; level <= 19; level++) {
        if (level == 0)
            continue;
        m.compression_level = level;
        char *text = text_of(&m);
        char *map = xasprintf("compression:\n  algorithm: zstd\n  level: %d\nencryption:", level);
        assert_non_null(strstr(text, map));
        struct manifest back = read_ok(text);
        assert_string_equal(back.compression, "zstd");
        assert_int_equal(back.compression_level, level);
        assert_int_equal(back.content_bytes, 99999);
        free(map);
        free(text);
    }
}

/* Nothing is stored of an empty stream that is neither compressed nor encrypted. */
static void an_empty_stream_can_be_described(void **state)
{
    (void)state;
    struct manifest m = sample(2);

    m.content_bytes = m.stored.size = 0;
    char *text = text_of(&m);
    struct manifest back = read_ok(text);
    assert_int_equal(back.stored.size, 0);
    assert_int_equal(back.content_bytes, 0);
    free(text);
    m = sample_encrypted();
    m.content_bytes = 0;
    text = text_of(&m);
    back = read_ok(text);
    assert_int_equal(back.content_bytes, 0);
    free(text);
}

static void payload_ids_may_be_without_a_digest(void **state)
{
    (void)state;
    char *text = replaced(v2_text, "payload_ids_sha256: " IDS_SHA256 "\n", "");
    struct manifest m = read_ok(text);

    assert_int_equal(m.payload_id_count, 3);
    assert_string_equal(m.payload_ids_sha256, "");
    expect_text(&m, text);
    free(text);
}

static void other_writers_of_v1_are_read(void **state)
{
    (void)state;
    struct manifest m = read_ok("manifest_version: 1\n"
                                "backup_id: " ULID "\n"
                                "created_at: 2026-04-15T12:00:00.123456789Z\n"
                                "store_id: 8d7f3a52-0b7e-4c3c-9f7e-2f1c0c6a9d11\n"
                                "store_kind: badger\n"
                                "sha256: " SHA256 "\n"
                                "size_bytes: 18446744\n"
                                "encryption:\n"
                                "    enabled: false\n"
                                "payload_id_set:\n"
                                "    - export/path\n"
                                "    - \"123\"\n"
                                "engine_metadata:\n"
                                "    badger: v4\n");

    assert_string_equal(m.payload_ids[0], "123");
    assert_string_equal(m.payload_ids[1], "export/path");
    assert_int_equal(m.created_at % 1000, 123);
    assert_string_equal(m.compression, "none");
    assert_int_equal(m.content_bytes, 18446744);
    manifest_release(&m);
}

static void each_required_field_is_named_when_it_cannot_be_written(void **state)
{
    (void)state;
    struct manifest m;

    m = sample(2), m.version = 3;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "manifest_version");
    m = sample(2), m.backup_id[0] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "backup_id");
    m = sample(2), m.created_at = 0;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "created_at");
    m = sample(2), m.store_id[0] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "store_id");
    m = sample(2), m.store_kind[0] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "store_kind");
    m = sample(2), m.stored.sha256[0] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "sha256");
    m = sample(2), m.compression[0] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "compression");
    m = sample(2), m.content_bytes = 1;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "content_bytes");
    m = sample(2), m.stored.size = m.content_bytes = UINT64_MAX;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "size_bytes");
    m = sample(2), m.encrypted = true;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must have an envelope");
    m = sample(1), m.encrypted = true;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption");
    m = sample(2), add_metadata(&m, "a", "1"), add_metadata(&m, "a", "2");
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "engine_metadata: must have each key once");
    m = sample(2), add_metadata(&m, "", "1");
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "engine_metadata: must have keys that are not");
    m = sample(2), add_metadata(&m, "a\nb", "1");
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "engine_metadata: must have keys that are not");
}

static void what_could_not_be_read_cannot_be_written(void **state)
{
    (void)state;
    struct manifest m;

    m = sample_encrypted(), m.compression_level = 0;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "compression: must have a level");
    m = sample_encrypted(), m.compression_level = -8;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "compression: must have a level");
    m = sample_encrypted(), m.compression_level = 20;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "compression: must have a level");
    m = sample_encrypted(), m.envelope = ENVELOPE_V1;
    expect_unwritable(&m, ERR_MANIFEST_UNSUPPORTED, "encryption: this keepfs does not know");
    m = sample_encrypted(), m.key_id[15] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must have a key_id");
    m = sample_encrypted(), m.encrypted = false;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must have no envelope");
    m = sample_encrypted(), m.encrypted = false, m.envelope = ENVELOPE_NONE;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must have no envelope and no key_id");
    m = sample_encrypted(), m.stored.size = 0;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "size_bytes: is 0");
    m = sample_v2(), m.payload_id_count = 0;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "payload_ids_sha256: is there");
    m = sample_v2(), m.payload_ids_sha256[63] = '\0';
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "payload_ids_sha256: must be 64");
    m = sample(1), SET(m.compression, "zstd"), m.compression_level = 3;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "compression: must be none in version 1");
    m = sample_v1(), m.envelope = ENVELOPE_V2;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must be of envelope 1");
    manifest_release(&m);
    m = sample(1), m.envelope = ENVELOPE_V1;
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "encryption: must be of envelope 1, or none");
}

static void unused_keys_are_left_out(void **state)
{
    (void)state;
    struct manifest m = sample(1);
    char *text = text_of(&m);

    assert_null(strstr(text, "algorithm"));
    assert_null(strstr(text, "key_ref"));
    assert_null(strstr(text, "engine_metadata"));
    free(text);
    m = sample(2);
    text = text_of(&m);
    assert_null(strstr(text, "level"));
    assert_null(strstr(text, "envelope"));
    assert_null(strstr(text, "key_id"));
    assert_null(strstr(text, "payload_ids_sha256"));
    assert_null(strstr(text, "engine_metadata"));
    assert_null(strstr(text, "manifest_mac"));
    free(text);
}

static void payload_id_set_is_there_when_it_is_empty(void **state)
{
    (void)state;
    struct manifest m = sample(1);
    char *text = text_of(&m);

    assert_non_null(strstr(text, "\npayload_id_set: []\n"));
    struct manifest back = read_ok(text);
    assert_int_equal(back.payload_id_count, 0);
    manifest_release(&back);
    char *null = replaced(text, "payload_id_set: []", "payload_id_set: null");
    expect_refused(null, ERR_MANIFEST_INVALID, "payload_id_set: must be a list");
    free(null);
    null = replaced(text, "payload_id_set: []", "payload_id_set:");
    expect_refused(null, ERR_MANIFEST_INVALID, "payload_id_set: must be a list");
    free(null);
    free(text);
}

static void equal_input_gives_equal_bytes(void **state)
{
    (void)state;
    struct manifest a = sample(2), b = sample(2);

    add_metadata(&a, "one", "1");
    add_metadata(&a, "two", "2");
    add_metadata(&b, "two", "2");
    add_metadata(&b, "one", "1");
    char *text = text_of(&a);
    for (int i = 0; i < 50; i++)
        expect_text(&b, text);
    free(text);
}

/* Version 1 with a payload id set that makes its text exactly `size` bytes long. */
static struct manifest sized(size_t size)
{
    struct manifest m = sample(1);
    char id[1001];

    add_id(&m, "a");
    char *text = text_of(&m);
    size_t rest = size - strlen(text);
    free(text);
    for (size_t len; rest > 0; rest -= len + strlen("- \n")) {
        len = rest >= 2006 ? 1000 : rest > 1003 ? 500 : rest - 3;
        memset(id, 'x', len);
        id[len] = '\0';
        add_id(&m, id);
    }
    return m;
}

static void one_mebibyte_is_the_limit_on_both_sides(void **state)
{
    (void)state;
    struct manifest m = sized(LIMIT_MANIFEST);
    char *text = text_of(&m);

    assert_int_equal(strlen(text), LIMIT_MANIFEST);
    struct manifest back = read_ok(text);
    assert_int_equal(back.payload_id_count, m.payload_id_count);
    manifest_release(&back);
    char *longer = xasprintf("%s\n", text);
    expect_refused(longer, ERR_MANIFEST_INVALID, "larger than 1048576 bytes");
    free(longer);
    free(text);
    manifest_release(&m);
    m = sized(LIMIT_MANIFEST + 1);
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "payload_id_set makes it larger than 1048576");
    manifest_release(&m);
}

/* Hex digits are a number if they are all decimal, or but for one e. */
static void hex_that_yaml_would_misread_is_quoted(void **state)
{
    (void)state;
    static const char *const ids[] = {"1234567890123456", "0000000000000000", "12345678901234e5",
                                      "0e12345678901234", "0123456701234567", "0b01010101010101"};

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct manifest m = sample_encrypted();
        SET(m.key_id, ids[i]);
        memset(m.payload_ids_sha256, '1', SHA256_HEX);
        char *line =
            xasprintf("  key_id: '%s'\npayload_id_count: 3\npayload_ids_sha256: '11", ids[i]);
        char *text = text_of(&m);
        if (!strstr(text, line))
            fail_msg("%s is not quoted:\n%s", ids[i], text);
        struct manifest back = read_ok(text);
        assert_string_equal(back.key_id, ids[i]);
        assert_string_equal(back.payload_ids_sha256, m.payload_ids_sha256);
        char *quoted = xasprintf("'%s'", ids[i]);
        char *plain = replaced(text, quoted, ids[i]);
        expect_refused(plain, ERR_MANIFEST_INVALID, "encryption.key_id: must be text");
        free(plain);
        free(quoted);
        free(text);
        free(line);
    }
}

static void text_that_yaml_would_misread_is_quoted(void **state)
{
    (void)state;
    static const char *const words[] = {
        "null", "Null", "~",          "true",  "No",
        "on",   "Y",    "123",        "-1",    "+2",
        "0x1f", "0o17", "0b01",       "1_000", "1.5",
        "1e5",  ".5",   ".inf",       "-.INF", ".nan",
        "<<",   "=",    "2026-01-01", "12:30", "2026-01-01T00:00:00Z",
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct manifest m = sample(1);
        add_id(&m, words[i]);
        char *line = xasprintf("- '%s'\n", words[i]);
        char *text = text_of(&m);
        if (!strstr(text, line))
            fail_msg("%s is not quoted:\n%s", words[i], text);
        free(text);
        free(line);
        manifest_release(&m);
    }
}

static void any_text_survives_on_a_line_of_its_own(void **state)
{
    (void)state;
    static const char *const values[] = {
        "",
        " lead",
        "trail ",
        "a: b",
        "a #b",
        "# c",
        "- d",
        "[e]",
        "{f}",
        "'g'",
        "\"h\"",
        "i\nj",
        "k\r\n",
        "\tl",
        "\x01\x7f",
        "?",
        "-",
        "!m",
        "&n",
        "*o",
        "|p",
        ">q",
        "%r",
        "@s",
        "`t",
        "---",
        "...",
        "null",
        "1e9",
        "\xc3\xa4",
        "\xe2\x80\xa8u",
        "\\v",
        ":",
        ",",
        "w:",
        "\xef\xbb\xbfx",
        "\xf0\x9f\x92\xbe",
    };

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct manifest m = sample(2);
        add_metadata(&m, "key", values[i]);
        char *text = text_of(&m);
        assert_int_equal(strchr(strstr(text, "  key: "), '\n')[1], '\0');
        struct manifest back = read_ok(text);
        assert_string_equal(back.engine_metadata[0].value, values[i]);
        expect_text(&back, text);
        free(text);
        manifest_release(&back);
    }
}

static void long_values_are_not_folded(void **state)
{
    (void)state;
    struct manifest m = sample(2);

    add_metadata(&m, "words",
                 "many words that an emitter would like to fold at column eighty, and would "
                 "fold again at column one hundred and sixty, if it were allowed to do that");
    add_metadata(&m, "wordy",
                 "\x01many words that an emitter would like to fold at column eighty, and would "
                 "fold again at column one hundred and sixty, if it were allowed to do that");
    char *text = text_of(&m);
    size_t lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 16);
    free(text);
}

static void text_that_is_no_utf8_is_refused_by_name(void **state)
{
    (void)state;
    struct manifest m = sample(1);

    add_id(&m, "\xff");
    expect_unwritable(&m, ERR_MANIFEST_INVALID, "payload_id_set: is not valid UTF-8");
    manifest_release(&m);
}

/* Both fail without a word of libyaml's. */
static void text_without_memory_is_not_called_bad(void **state)
{
    (void)state;
    struct manifest m = sample_v2();

    for (int at = 1; at <= 20; at++) {
        texts_left = at;
        expect_unwritable(&m, ERR_INTERNAL, "libyaml has no memory");
    }
    assert_int_equal(texts_left, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v2_has_exactly_these_bytes),
        cmocka_unit_test(an_encrypted_v2_has_exactly_these_bytes),
        cmocka_unit_test(v1_has_exactly_these_bytes),
        cmocka_unit_test(all_fields_of_v2_survive),
        cmocka_unit_test(all_fields_of_an_encrypted_v2_survive),
        cmocka_unit_test(all_fields_of_v1_survive),
        cmocka_unit_test(each_level_of_compression_survives),
        cmocka_unit_test(an_empty_stream_can_be_described),
        cmocka_unit_test(payload_ids_may_be_without_a_digest),
        cmocka_unit_test(other_writers_of_v1_are_read),
        cmocka_unit_test(each_required_field_is_named_when_it_cannot_be_written),
        cmocka_unit_test(what_could_not_be_read_cannot_be_written),
        cmocka_unit_test(unused_keys_are_left_out),
        cmocka_unit_test(payload_id_set_is_there_when_it_is_empty),
        cmocka_unit_test(equal_input_gives_equal_bytes),
        cmocka_unit_test(one_mebibyte_is_the_limit_on_both_sides),
        cmocka_unit_test(hex_that_yaml_would_misread_is_quoted),
        cmocka_unit_test(text_that_yaml_would_misread_is_quoted),
        cmocka_unit_test(any_text_survives_on_a_line_of_its_own),
        cmocka_unit_test(long_values_are_not_folded),
        cmocka_unit_test(text_that_is_no_utf8_is_refused_by_name),
        cmocka_unit_test(text_without_memory_is_not_called_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
