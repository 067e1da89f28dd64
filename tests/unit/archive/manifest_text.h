/* SPDX-License-Identifier: MIT */
/*
 * manifest_text.h - sample manifests, as structs and as text. Include it after cmocka.
 */
#ifndef TESTS_ARCHIVE_MANIFEST_TEXT_H
#define TESTS_ARCHIVE_MANIFEST_TEXT_H

#include "archive/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ULID   "01HXYZ0123456789ABCDEFGHJK"
#define SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define IDS_SHA256                                                                                 \
    "880553fca8fcea94e325ee2cfb48e5a985cc797f39a14cc6d3cedecfeb2ae4d2" /* a, b, c, on a line each  \
                                                                        */
#define KEY_ID "4aede05976bff777"
#define MAC    "e04541af438114f456ff45ffcd18a39fc2d48c329f5d6cc566e210ffaab8e3d3"

static const char v2_text[] = "manifest_version: 2\n"
                              "backup_id: " ULID "\n"
                              "created_at: 2026-11-21T06:30:28.123Z\n"
                              "store_id: app\n"
                              "store_kind: sqlite\n"
                              "sha256: " SHA256 "\n"
                              "size_bytes: 4096\n"
                              "content_bytes: 4096\n"
                              "compression:\n"
                              "  algorithm: none\n"
                              "encryption:\n"
                              "  enabled: false\n"
                              "payload_id_count: 3\n"
                              "payload_ids_sha256: " IDS_SHA256 "\n"
                              "engine_metadata:\n"
                              "  page_size: '4096'\n"
                              "  schema: app\n";

/* Its key id and MAC are not ours: computed with the hmac and hashlib of Python from test_key and
 * the words of manifest.h and keys.h. */
static const char encrypted_text[] = "manifest_version: 2\n"
                                     "backup_id: " ULID "\n"
                                     "created_at: 2026-11-21T06:30:28.123Z\n"
                                     "store_id: app\n"
                                     "store_kind: sqlite\n"
                                     "sha256: " SHA256 "\n"
                                     "size_bytes: 2000\n"
                                     "content_bytes: 4096\n"
                                     "compression:\n"
                                     "  algorithm: zstd\n"
                                     "  level: 3\n"
                                     "encryption:\n"
                                     "  enabled: true\n"
                                     "  envelope: 2\n"
                                     "  key_id: " KEY_ID "\n"
                                     "payload_id_count: 3\n"
                                     "payload_ids_sha256: " IDS_SHA256 "\n"
                                     "engine_metadata:\n"
                                     "  page_size: '4096'\n"
                                     "  schema: app\n"
                                     "manifest_mac: v1:" MAC "\n";

static const char v1_text[] = "manifest_version: 1\n"
                              "backup_id: " ULID "\n"
                              "created_at: 2026-11-21T06:30:28.123Z\n"
                              "store_id: app\n"
                              "store_kind: sqlite\n"
                              "sha256: " SHA256 "\n"
                              "size_bytes: 4096\n"
                              "encryption:\n"
                              "  enabled: true\n"
                              "  algorithm: aes-256-gcm\n"
                              "  key_ref: env:APP_KEY\n"
                              "payload_id_set:\n"
                              "- a\n"
                              "- b\n";

static inline void set(char *out, size_t size, const char *text)
{
    assert_true(strlen(text) < size);
    memcpy(out, text, strlen(text) + 1);
}
#define SET(field, text) set(field, sizeof(field), text)

static inline struct manifest sample(int version)
{
    struct manifest m = {.version = version, .created_at = 1795242628123, .content_bytes = 4096};

    SET(m.backup_id, ULID);
    SET(m.store_id, "app");
    SET(m.store_kind, "sqlite");
    SET(m.stored.sha256, SHA256);
    m.stored.size = 4096;
    SET(m.compression, "none");
    return m;
}

static inline void add_metadata(struct manifest *m, const char *key, const char *value)
{
    SET(m->engine_metadata[m->engine_metadata_count].key, key);
    SET(m->engine_metadata[m->engine_metadata_count].value, value);
    m->engine_metadata_count++;
}

static inline void add_id(struct manifest *m, const char *id)
{
    m->payload_ids = xrealloc(m->payload_ids, (m->payload_id_count + 1) * sizeof(char *));
    m->payload_ids[m->payload_id_count++] = xstrdup(id);
}

static inline struct manifest sample_v2(void)
{
    struct manifest m = sample(2);

    m.payload_id_count = 3;
    SET(m.payload_ids_sha256, IDS_SHA256);
    add_metadata(&m, "schema", "app");
    add_metadata(&m, "page_size", "4096");
    return m;
}

static inline struct manifest sample_encrypted(void)
{
    struct manifest m = sample_v2();

    m.stored.size = 2000;
    SET(m.compression, "zstd");
    m.compression_level = 3;
    m.encrypted = true;
    m.envelope = ENVELOPE_V2;
    SET(m.key_id, KEY_ID);
    return m;
}

static inline struct manifest sample_v1(void)
{
    struct manifest m = sample(1);

    m.encrypted = true;
    SET(m.encryption_algorithm, "aes-256-gcm");
    SET(m.key_ref, "env:APP_KEY");
    add_id(&m, "a");
    add_id(&m, "b");
    return m;
}

/* The key of bytes 0, 1, ... 31; the caller frees it. */
static inline struct key *test_key(void)
{
    unsigned char bytes[KEY_BYTES];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    struct key *key = key_new(bytes);
    assert_non_null(key);
    return key;
}

/* The text of `m`; the caller frees it. */
static inline char *text_of(const struct manifest *m)
{
    struct buf out = BUF_INIT;
    struct error err = {0};
    struct key *key = m->encrypted && m->version == MANIFEST_V2 ? test_key() : NULL;

    if (manifest_write(m, key, &out, &err) != 0)
        fail_msg("not written: %s", err.message);
    key_free(key);
    return buf_steal(&out);
}

static inline void expect_text(const struct manifest *m, const char *text)
{
    char *got = text_of(m);

    assert_string_equal(got, text);
    free(got);
}

static inline struct manifest read_ok(const char *text)
{
    struct manifest m;
    struct error err = {0};

    if (manifest_read(text, strlen(text), &m, &err) != 0)
        fail_msg("not read: %s\n%s", err.message, text);
    return m;
}

/* Reading fails with `code`, and the message contains `why`. */
static inline void expect_refused(const char *text, enum error_code code, const char *why)
{
    struct manifest m;
    struct error err = {0};

    if (manifest_read(text, strlen(text), &m, &err) == 0)
        fail_msg("accepted:\n%s", text);
    if (err.code != code || !strstr(err.message, why))
        fail_msg("%s: \"%s\" instead of \"%s\" for:\n%s", error_code_name(err.code), err.message,
                 why, text);
}

static inline void expect_unwritable(const struct manifest *m, enum error_code code,
                                     const char *why)
{
    struct buf out = BUF_INIT;
    struct error err = {0};

    struct key *key = test_key();

    buf_adds(&out, "before");
    assert_int_equal(manifest_write(m, key, &out, &err), -1);
    key_free(key);
    if (err.code != code || !strstr(err.message, why))
        fail_msg("%s: \"%s\" instead of \"%s\"", error_code_name(err.code), err.message, why);
    assert_non_null(strstr(err.message, "cannot write the manifest"));
    assert_string_equal(buf_text(&out), "before");
    buf_release(&out);
}

/* `text` with the first `from` replaced; the caller frees it. */
static inline char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    if (!at)
        fail_msg("no \"%s\" in the text", from);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

#endif
