/* SPDX-License-Identifier: MIT */
/*
 * test_manifest_strict.c - everything that a reader of manifests must refuse, by key and line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manifest_text.h"

/* `text` without the top-level key and what belongs to it. */
static char *without(const char *text, const char *key)
{
    char *line = xasprintf("\n%s:", key);
    const char *from = strstr(text, line) + 1;
    const char *to = strchr(from, '\n') + 1;

    while (*to == ' ' || *to == '-')
        to = strchr(to, '\n') + 1;
    free(line);
    return xasprintf("%.*s%s", (int)(from - text), text, to);
}

static void version_is_guarded(void **state)
{
    (void)state;
    char *text = replaced(v2_text, "version: 2", "version: 0");
    expect_refused(text, ERR_MANIFEST_INVALID, "line 1: manifest_version: is missing");
    free(text);
    text = replaced(v2_text, "version: 2", "version: 999");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "line 1: manifest_version: 999");
    free(text);
    text = replaced(v2_text, "version: 2", "version: two");
    expect_refused(text, ERR_MANIFEST_INVALID, "manifest_version");
    free(text);
    text = replaced(v2_text, "manifest_version: 2\n", "");
    expect_refused(text, ERR_MANIFEST_INVALID, "manifest_version: is missing");
    free(text);
}

static void what_a_newer_version_adds_is_not_called_damage(void **state)
{
    (void)state;
    expect_refused("manifest_version: 3\nfuture: [unknown, {deep: true}]\n",
                   ERR_MANIFEST_UNSUPPORTED, "3 is not supported");
}

static void each_required_key_is_named_when_it_is_missing(void **state)
{
    (void)state;
    static const char *const v1_keys[] = {"backup_id",  "created_at",    "store_id",
                                          "store_kind", "sha256",        "size_bytes",
                                          "encryption", "payload_id_set"};
    static const char *const v2_keys[] = {
        "backup_id",  "created_at",    "store_id",    "store_kind", "sha256",
        "size_bytes", "content_bytes", "compression", "encryption", "payload_id_count"};

    for (size_t i = 0; i < sizeof v1_keys / sizeof v1_keys[0]; i++) {
        char *text = without(v1_text, v1_keys[i]);
        char *why = xasprintf("%s: is missing", v1_keys[i]);
        expect_refused(text, ERR_MANIFEST_INVALID, why);
        free(text);
        free(why);
    }
    for (size_t i = 0; i < sizeof v2_keys / sizeof v2_keys[0]; i++) {
        char *text = without(v2_text, v2_keys[i]);
        char *why = xasprintf("%s: is missing", v2_keys[i]);
        expect_refused(text, ERR_MANIFEST_INVALID, why);
        free(text);
        free(why);
    }
    char *text = without(v2_text, "engine_metadata");
    read_ok(text);
    free(text);
    text = without(encrypted_text, "manifest_mac");
    expect_refused(text, ERR_MANIFEST_INVALID, "manifest_mac: is missing");
    free(text);
}

static void broken_yaml_is_labelled_with_its_line(void **state)
{
    (void)state;
    expect_refused("manifest_version: 2\nbackup_id: 'open\n", ERR_MANIFEST_INVALID, "not YAML");
    expect_refused("manifest_version: 2\n\tbackup_id: x\n", ERR_MANIFEST_INVALID,
                   "line 2: not YAML");
    expect_refused("manifest_version: 2\nbackup_id: " ULID ": b\n", ERR_MANIFEST_INVALID,
                   "line 2: not YAML");
    expect_refused("{\n", ERR_MANIFEST_INVALID, "line 2: ");
    expect_refused("manifest_version: 2\nbackup_id: \xff\xfe\n", ERR_MANIFEST_INVALID, "not YAML");
    expect_refused("", ERR_MANIFEST_INVALID, "empty");
    expect_refused("# nothing\n", ERR_MANIFEST_INVALID, "empty");
    expect_refused("- a\n", ERR_MANIFEST_INVALID, "must be a map");
    expect_refused("text\n", ERR_MANIFEST_INVALID, "must be a map");
}

static void what_a_manifest_cannot_say_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"store_id: app", "store_id: app\nstore_id: app", "line 5: store_id: is there twice"},
        {"sqlite\n", "sqlite\nmanifest_version: 2\n", "manifest_version: is there twice"},
        {"  algorithm: none", "  algorithm: none\n  algorithm: none", "algorithm: is there twice"},
        {"store_id: app", "store_id: app\ncolour: red", "line 5: colour: is no key"},
        {"  enabled: false", "  enabled: false\n  key_ref: x",
         "line 13: encryption.key_ref: is no key"},
        {"payload_id_count: 3", "payload_id_set: []", "payload_id_set: is no key"},
        {"store_id: app", "store_id: &a app", "line 4: store_id: anchors"},
        {"store_id: app", "store_id: *a", "store_id"},
        {"store_id: app", "store_id: !!str app", "store_id: anchors"},
        {"store_id: app", "store_id: ! app", "store_id: anchors"},
        {"store_id: app", "store_id: ! 'app'", "store_id: anchors"},
        {"store_id: app", "&a store_id: app", "anchors"},
        {"compression:\n", "compression: !!map\n", "anchors"},
        {"manifest_version: 2\n", "%YAML 1.1\n---\nmanifest_version: 2\n", "directives"},
        {"  schema: app\n", "  schema: app\n---\nmanifest_version: 2\n", "more than one document"},
        {"store_id: app", "store_id: app\n  more",
         "store_id: anchors, aliases, tags, directives and text"},
        {"store_id: app", "store_id: 'app\n  more'", "store_id: anchors"},
        {"store_id: app", "store_id: |\n  app", "store_id: anchors"},
        {"store_id: app", "store_id: [app]", "store_id: must be text"},
        {"store_id: app", "store_id: {a: b}", "store_id: must be text"},
        {"store_id: app", "[a, b]: app", "a key must be text"},
        {"store_id: app", "store_id: 123", "store_id: must be text"},
        {"store_id: app", "store_id: true", "store_id: must be text"},
        {"store_id: app", "store_id: ~", "store_id: must be text"},
        {"store_id: app", "store_id:", "store_id: must be text"},
        {"store_id: app", "store_id: ''", "store_id: must be a store's id"},
        {"store_id: app", "store_id: App", "store_id: must be a store's id"},
        {"store_id: app", "store_id: ../app", "store_id: must be a store's id"},
        {"store_id: app", "store_id: -app", "store_id: must be a store's id"},
        {"store_id: app", "store_id: \"a\\0b\"", "store_id: must not contain NUL"},
        {"store_id: app", "\"store_id\\0\": app", "is no key"},
        {"store_kind: sqlite", "store_kind: \"sql\\nite\"", "store_kind: must not contain control"},
        {"store_kind: sqlite", "store_kind: SQL", "store_kind: must be"},
        {"store_kind: sqlite", "store_kind: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "store_kind: is too"},
        {ULID, "01HXYZ0123456789ABCDEFGHJ", "backup_id: must be a ULID"},
        {ULID, "01hxyz0123456789abcdefghjk", "backup_id: must be a ULID"},
        {ULID, "81HXYZ0123456789ABCDEFGHJK", "backup_id: must be a ULID"},
        {ULID, "../../../../../../etc/passw", "backup_id"},
        {"e3b0c4", "E3B0C4", "sha256: must be 64 lower-case hex digits"},
        {"e3b0c4", "e3b0c", "sha256: must be 64 lower-case hex digits"},
        {"e3b0c4", "g3b0c4", "sha256: must be 64 lower-case hex digits"},
        {"e3b0c4", "0e3b0c4", "sha256: is too long"},
        {"2026-11-21T06:30:28.123Z", "2026-11-21", "created_at: must be a time"},
        {"2026-11-21T06:30:28.123Z", "2026-13-21T06:30:28Z", "created_at: must be a time"},
        {"2026-11-21T06:30:28.123Z", "2026-11-21T06:30:28+01:00", "created_at: must be a time"},
        {"2026-11-21T06:30:28.123Z", "1970-01-01T00:00:00Z", "created_at: must be a time after"},
        {"2026-11-21T06:30:28.123Z", "[]", "created_at: must be a time"},
        {"size_bytes: 4096", "size_bytes: -1", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: +1", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: 04096", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: 0x1000", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: 4_096", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: 4096.0", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: '4096'", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes:", "size_bytes: must be a whole number"},
        {"size_bytes: 4096", "size_bytes: 9223372036854775808", "size_bytes: is too large"},
        {"size_bytes: 4096", "size_bytes: 99999999999999999999", "size_bytes: is too large"},
        {"content_bytes: 4096", "content_bytes: 4097", "content_bytes: differs"},
        {"compression:\n  algorithm: none", "compression: none", "compression: must be a map"},
        {"  algorithm: none", "  algorithm: none\n  level: 3", "compression: must have no level"},
        {"  algorithm: none", "  algorithm: none\n  level: -1", "compression: must have no level"},
        {"  algorithm: none", "  algorithm: none\n  level: 0",
         "compression.level: must be left out"},
        {"  algorithm: none", "  algorithm: zstd", "compression: must have a level"},
        {"  algorithm: none", "  algorithm: zstd\n  level: 0",
         "compression.level: must be left out"},
        {"  algorithm: none", "  algorithm: zstd\n  level: 20", "compression: must have a level"},
        {"  algorithm: none", "  algorithm: zstd\n  level: -8", "compression: must have a level"},
        {"  algorithm: none", "  algorithm: zstd\n  level: -0",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: -a",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: --1",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: -03",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: +3",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: 03",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: '3'",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: [3]",
         "compression.level: must be a whole"},
        {"  algorithm: none", "  algorithm: zstd\n  level: 2147483648",
         "compression.level: is too large"},
        {"  algorithm: none", "  algorithm: zstd\n  level: -2147483648",
         "compression.level: is too large"},
        {"  algorithm: none", "  algorithm: ''", "compression: must name an algorithm"},
        {"compression:\n  algorithm: none", "compression: {}", "compression.algorithm: is missing"},
        {"enabled: false", "enabled: no", "encryption.enabled: must be true or false"},
        {"enabled: false", "enabled: 'false'", "encryption.enabled: must be true or false"},
        {"enabled: false", "enabled: 0", "encryption.enabled: must be true or false"},
        {"enabled: false", "enabled: true", "encryption: must have an envelope"},
        {"enabled: false", "enabled: false\n  envelope: 2", "encryption: must have no envelope"},
        {"enabled: false", "enabled: false\n  envelope: 0",
         "encryption.envelope: must be left out"},
        {"enabled: false", "enabled: false\n  key_id: " KEY_ID, "and no key_id"},
        {"enabled: false", "enabled: false\n  key_id: ''", "encryption.key_id: must be left out"},
        {"count: 3", "count: 0", "payload_ids_sha256: is there, although"},
        {IDS_SHA256, "''", "payload_ids_sha256: must be left out"},
        {"880553", "88055", "payload_ids_sha256: must be 64 lower-case hex digits"},
        {"880553fc", "880553FC", "payload_ids_sha256: must be 64 lower-case hex digits"},
        {"880553", "0880553", "payload_ids_sha256: is too long"},
        {"  schema: app\n", "  schema: app\nmanifest_mac: v1:" MAC "\n",
         "manifest_mac: must not be in a manifest that is not encrypted"},
        {"  schema: app\n", "  schema: app\nmanifest_mac: ''\n", "manifest_mac: must be left out"},
        {"page_size: '4096'", "page_size: 4096", "engine_metadata: must be text"},
        {"page_size: '4096'", "page_size: {a: b}", "engine_metadata: must be text"},
        {"page_size: '4096'", "schema: '4096'", "engine_metadata: must have each key once"},
        {"page_size: '4096'", "'': '4096'", "engine_metadata: must have keys that are not empty"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = replaced(v2_text, cases[i].from, cases[i].to);
        expect_refused(text, ERR_MANIFEST_INVALID, cases[i].why);
        free(text);
    }
}

/* The text has two; there is room for 16. */
static void metadata_is_bounded(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;

    buf_adds(&text, v2_text);
    for (int i = 2; i < 16; i++)
        buf_addf(&text, "  key%d: value\n", i);
    struct manifest m = read_ok(buf_text(&text));
    assert_int_equal(m.engine_metadata_count, 16);
    buf_adds(&text, "  one_more: value\n");
    expect_refused(buf_text(&text), ERR_MANIFEST_INVALID, "engine_metadata: has too many keys");
    buf_release(&text);
}

/* Only the flow style of YAML has a map end before the text does. */
static void what_follows_the_map_is_no_manifest(void **state)
{
    static const char map[] = "{manifest_version: 2, backup_id: " ULID ", created_at: "
                              "2026-11-21T06:30:28.123Z, store_id: app, store_kind: sqlite, "
                              "sha256: " SHA256 ", size_bytes: 4096, content_bytes: 4096, "
                              "compression: {algorithm: none}, encryption: {enabled: false}, "
                              "payload_id_count: 0}\n";
    static const struct {
        const char *more, *why;
    } cases[] = {
        {"@\n", "line 2: not YAML: "},
        {"more\n", "line 2: not YAML: "},
        {"--- {}\n", "line 2: there is more than one document"},
    };

    (void)state;
    struct manifest m = read_ok(map);
    assert_string_equal(m.backup_id, ULID);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = xasprintf("%s%s", map, cases[i].more);
        expect_refused(text, ERR_MANIFEST_INVALID, cases[i].why);
        free(text);
    }
}

static void what_is_stored_by_zstd_is_never_empty(void **state)
{
    (void)state;
    char *zstd = replaced(v2_text, "algorithm: none", "algorithm: zstd\n  level: 3");
    read_ok(zstd);
    char *text = replaced(zstd, "size_bytes: 4096", "size_bytes: 0");
    expect_refused(text, ERR_MANIFEST_INVALID, "size_bytes: is 0");
    free(text);
    free(zstd);
}

static void encryption_of_v2_must_be_whole(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"  envelope: 2\n", "", "encryption: must have an envelope"},
        {"envelope: 2", "envelope: 0", "encryption.envelope: must be left out"},
        {"envelope: 2", "envelope: -2", "encryption: must have an envelope"},
        {"envelope: 2", "envelope: v2", "encryption.envelope: must be a whole number"},
        {"  key_id: " KEY_ID "\n", "", "encryption: must have a key_id of 16"},
        {KEY_ID, "4aede05976bff77", "encryption: must have a key_id of 16"},
        {KEY_ID, "4aede05976bff7770", "encryption.key_id: is too long"},
        {KEY_ID, "4AEDE05976BFF777", "encryption: must have a key_id of 16"},
        {KEY_ID, "4aede05976bff77g", "encryption: must have a key_id of 16"},
        {KEY_ID, "1234567890123456", "encryption.key_id: must be text"},
        {"enabled: true", "enabled: false", "encryption: must have no envelope"},
        {"  key_id:", "  key_ref: env:KEY\n  key_id:", "encryption.key_ref: is no key"},
        {"  key_id:", "  algorithm: aes-256-gcm\n  key_id:", "encryption.algorithm: is no key"},
        {"size_bytes: 2000", "size_bytes: 0", "size_bytes: is 0"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = replaced(encrypted_text, cases[i].from, cases[i].to);
        expect_refused(text, ERR_MANIFEST_INVALID, cases[i].why);
        free(text);
    }
}

static void encryption_of_v1_must_be_whole(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"  algorithm: aes-256-gcm\n", "", "encryption: must have the algorithm"},
        {"  algorithm: aes-256-gcm\n", "  algorithm: rot13\n", "encryption: must have the algor"},
        {"  key_ref: env:APP_KEY\n", "", "encryption: must have a key_ref"},
        {"enabled: true", "enabled: false", "encryption: must have no algorithm"},
        {"env:APP_KEY", "''", "encryption.key_ref: must be left out"},
        {"enabled: true", "enabled: true\n  envelope: 1", "encryption.envelope: is no key"},
        {"enabled: true", "enabled: true\n  key_id: " KEY_ID, "encryption.key_id: is no key"},
        {"- b\n", "- b\nmanifest_mac: v1:" MAC "\n", "manifest_mac: is no key"},
        {"- a\n", "- ''\n", "payload_id_set: must have ids"},
        {"- a\n", "- 1\n", "payload_id_set: must be text"},
        {"- a\n", "- [a]\n", "payload_id_set: must be text"},
        {"- a\n", "- \"a\\nb\"\n", "payload_id_set: must have ids"},
        {"- a\n", "- \"a\\0b\"\n", "payload_id_set: must not contain NUL"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = replaced(v1_text, cases[i].from, cases[i].to);
        expect_refused(text, ERR_MANIFEST_INVALID, cases[i].why);
        free(text);
    }
}

static void what_this_keepfs_cannot_undo_is_unsupported(void **state)
{
    (void)state;
    char *text = replaced(encrypted_text, "envelope: 2", "envelope: 3");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "encryption");
    free(text);
    text = replaced(encrypted_text, "envelope: 2\n  key_id: " KEY_ID, "envelope: 3\n  key_id: k");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "encryption");
    free(text);
    text = replaced(encrypted_text, "envelope: 2", "envelope: 1");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "encryption");
    free(text);
    text = replaced(encrypted_text, "algorithm: zstd", "algorithm: lzma");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "compression");
    free(text);
    text = replaced(v2_text, "algorithm: none", "algorithm: lzma");
    expect_refused(text, ERR_MANIFEST_UNSUPPORTED, "compression");
    free(text);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static const char head[] = "manifest_version: 2\nbackup_id: ";
    char *text = xmalloc(LIMIT_MANIFEST + 1);

    memset(text, '[', LIMIT_MANIFEST);
    memcpy(text, head, sizeof head - 1);
    text[LIMIT_MANIFEST] = '\0';
    expect_refused(text, ERR_MANIFEST_INVALID, "");
    memset(text + sizeof head - 1, '{', LIMIT_MANIFEST - sizeof head + 1);
    expect_refused(text, ERR_MANIFEST_INVALID, "");
    for (size_t i = sizeof head - 2; i + 2 < LIMIT_MANIFEST; i += 2)
        memcpy(text + i, "\n-", 2);
    expect_refused(text, ERR_MANIFEST_INVALID, "");
    free(text);
}

/* Whatever is accepted is whole: it can be written, and says the same when read again. */
static void check_accepted(struct manifest *m, bool id_may_differ)
{
    if (!id_may_differ)
        assert_string_equal(m->backup_id, ULID);
    char *text = text_of(m);
    struct manifest back = read_ok(text);
    assert_int_equal(back.encrypted, m->encrypted);
    expect_text(&back, text);
    free(text);
    manifest_release(&back);
    manifest_release(m);
}

static void flip_every_byte(const char *text)
{
    char *copy = xstrdup(text);
    size_t len = strlen(text);
    size_t id = (size_t)(strstr(text, ULID) - text);
    struct manifest m;
    struct error err = {0};

    for (size_t at = 0; at < len; at++)
        for (int flip = 1; flip < 256; flip++) {
            copy[at] = (char)(text[at] ^ flip);
            if (manifest_read(copy, len, &m, &err) == 0)
                check_accepted(&m, at >= id && at < id + ULID_LEN);
            else
                assert_true(err.code == ERR_MANIFEST_INVALID ||
                            err.code == ERR_MANIFEST_UNSUPPORTED);
            copy[at] = text[at];
        }
    free(copy);
}

static void no_flipped_byte_crashes_or_changes_the_id(void **state)
{
    (void)state;
    flip_every_byte(v2_text);
    flip_every_byte(v1_text);
}

static void no_truncation_crashes_or_changes_the_id(void **state)
{
    (void)state;
    struct manifest m;
    struct error err = {0};

    for (size_t len = 0; len < sizeof v1_text; len++)
        if (manifest_read(v1_text, len, &m, &err) == 0)
            check_accepted(&m, false);
    for (size_t len = 0; len < sizeof v2_text; len++)
        if (manifest_read(v2_text, len, &m, &err) == 0)
            check_accepted(&m, false);
}

/* The last byte of the array is a NUL that does not belong to the text. */
static void no_truncation_of_an_encrypted_manifest_is_read(void **state)
{
    (void)state;
    struct manifest m;
    struct error err = {0};

    for (size_t len = 0; len < sizeof encrypted_text - 1; len++)
        assert_int_equal(manifest_read(encrypted_text, len, &m, &err), -1);
    assert_int_equal(manifest_read(encrypted_text, sizeof encrypted_text - 1, &m, &err), 0);
    manifest_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_is_guarded),
        cmocka_unit_test(what_a_newer_version_adds_is_not_called_damage),
        cmocka_unit_test(each_required_key_is_named_when_it_is_missing),
        cmocka_unit_test(broken_yaml_is_labelled_with_its_line),
        cmocka_unit_test(what_a_manifest_cannot_say_is_refused),
        cmocka_unit_test(metadata_is_bounded),
        cmocka_unit_test(what_follows_the_map_is_no_manifest),
        cmocka_unit_test(what_is_stored_by_zstd_is_never_empty),
        cmocka_unit_test(encryption_of_v2_must_be_whole),
        cmocka_unit_test(encryption_of_v1_must_be_whole),
        cmocka_unit_test(what_this_keepfs_cannot_undo_is_unsupported),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(no_flipped_byte_crashes_or_changes_the_id),
        cmocka_unit_test(no_truncation_crashes_or_changes_the_id),
        cmocka_unit_test(no_truncation_of_an_encrypted_manifest_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
