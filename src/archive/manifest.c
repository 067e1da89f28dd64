/* SPDX-License-Identifier: MIT */
/*
 * manifest.c - what a manifest consists of: the table of keys and the judgement of each value.
 *
 * Reading is in manifest_read.c, writing in manifest_write.c. Every rule about a value stands here
 * once, so that nothing is published that could not be read back.
 */
#include "archive/manifest.h"

#include "archive/manifest_fields.h"
#include "util/ulid.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DIGITS       "0123456789"
#define LOWER        "abcdefghijklmnopqrstuvwxyz"
#define MAX_LEVEL    22 /* of zstd */
#define V1_ALGORITHM "aes-256-gcm"

static const char *fault_backup_id(const struct manifest *m)
{
    return ulid_valid(m->backup_id) ? NULL : "must be a ULID";
}

static const char *fault_created_at(const struct manifest *m)
{
    return m->created_at > 0 ? NULL : "must be a time after 1970";
}

static const char *fault_store_id(const struct manifest *m)
{
    const char *id = m->store_id;

    if (*id && strchr(LOWER DIGITS, *id) && id[strspn(id, LOWER DIGITS "._-")] == '\0')
        return NULL;
    return "must be a store's id: [a-z0-9][a-z0-9._-]{0,63}";
}

static const char *fault_store_kind(const struct manifest *m)
{
    const char *kind = m->store_kind;

    if (*kind && kind[strspn(kind, LOWER DIGITS "._-")] == '\0')
        return NULL;
    return "must be the name of a source kind";
}

static const char *fault_sha256(const struct manifest *m)
{
    const char *hex = m->stored.sha256;

    return strlen(hex) == SHA256_HEX && strspn(hex, DIGITS "abcdef") == SHA256_HEX
               ? NULL
               : "must be 64 lower-case hex digits";
}

static const char *fault_compression(const struct manifest *m)
{
    if (m->compression[0] == '\0')
        return "must name an algorithm, or none";
    if (strcmp(m->compression, "none") == 0 && m->compression_level != 0)
        return "must have no level where nothing is compressed";
    if (strcmp(m->compression, "zstd") == 0 &&
        (m->compression_level < 1 || m->compression_level > MAX_LEVEL))
        return "must have a level of 1 to 22 for zstd";
    return NULL;
}

static const char *fault_encryption(const struct manifest *m)
{
    if (m->version != MANIFEST_V1)
        return NULL;
    if (!m->encrypted)
        return m->encryption_algorithm[0] || m->key_ref[0]
                   ? "must have no algorithm and no key_ref unless it is enabled"
                   : NULL;
    if (strcmp(m->encryption_algorithm, V1_ALGORITHM) != 0)
        return "must have the algorithm " V1_ALGORITHM;
    return m->key_ref[0] ? NULL : "must have a key_ref";
}

static const char *fault_payload_id_set(const struct manifest *m)
{
    for (uint64_t i = 0; i < m->payload_id_count; i++) {
        size_t len = strlen(m->payload_ids[i]);
        if (len == 0 || len > LIMIT_PAYLOAD_ID || memchr(m->payload_ids[i], '\n', len))
            return "must have ids of 1 to 1024 bytes without newline";
    }
    return NULL;
}

static const char *fault_metadata(const struct manifest *m)
{
    for (size_t i = 0; i < m->engine_metadata_count; i++) {
        const char *key = m->engine_metadata[i].key;
        if (*key == '\0' || !text_is_printable(key, strlen(key)))
            return "must have keys that are not empty and without control characters";
        for (size_t j = 0; j < i; j++)
            if (strcmp(key, m->engine_metadata[j].key) == 0)
                return "must have each key once";
    }
    return NULL;
}

#define AT(member)      .offset = offsetof(struct manifest, member)
#define TEXT_AT(member) .type = FIELD_TEXT, AT(member), .size = sizeof((struct manifest *)0)->member

enum { BOTH = FIELD_V1 | FIELD_V2 };

static const struct field compression_fields[] = {
    {.key = "algorithm", .flags = FIELD_V2, TEXT_AT(compression)},
    {.key = "level", .type = FIELD_INT, .flags = FIELD_V2 | FIELD_OPTIONAL, AT(compression_level)},
    {.key = NULL},
};

static const struct field encryption_fields[] = {
    {.key = "enabled", .type = FIELD_FLAG, .flags = BOTH, AT(encrypted)},
    {.key = "algorithm", .flags = FIELD_V1 | FIELD_OPTIONAL, TEXT_AT(encryption_algorithm)},
    {.key = "key_ref", .flags = FIELD_V1 | FIELD_OPTIONAL, TEXT_AT(key_ref)},
    {.key = NULL},
};

const struct field manifest_fields[] = {
    {.key = "manifest_version", .type = FIELD_INT, .flags = BOTH, AT(version)},
    {.key = "backup_id", .flags = BOTH, TEXT_AT(backup_id), .fault = fault_backup_id},
    {.key = "created_at",
     .type = FIELD_TIME,
     .flags = BOTH,
     AT(created_at),
     .fault = fault_created_at},
    {.key = "store_id", .flags = BOTH, TEXT_AT(store_id), .fault = fault_store_id},
    {.key = "store_kind", .flags = BOTH, TEXT_AT(store_kind), .fault = fault_store_kind},
    {.key = "sha256", .flags = BOTH, TEXT_AT(stored.sha256), .fault = fault_sha256},
    {.key = "size_bytes", .type = FIELD_NUMBER, .flags = BOTH, AT(stored.size)},
    {.key = "content_bytes", .type = FIELD_NUMBER, .flags = FIELD_V2, AT(content_bytes)},
    {.key = "compression",
     .type = FIELD_MAP,
     .flags = FIELD_V2,
     .fields = compression_fields,
     .fault = fault_compression},
    {.key = "encryption",
     .type = FIELD_MAP,
     .flags = BOTH,
     .fields = encryption_fields,
     .fault = fault_encryption},
    {.key = "payload_id_set", .type = FIELD_IDS, .flags = FIELD_V1, .fault = fault_payload_id_set},
    {.key = "payload_id_count", .type = FIELD_NUMBER, .flags = FIELD_V2, AT(payload_id_count)},
    {.key = "engine_metadata",
     .type = FIELD_METADATA,
     .flags = BOTH | FIELD_OPTIONAL,
     .fault = fault_metadata},
    {.key = NULL},
};

bool field_omitted(const struct field *f, const struct manifest *m)
{
    if (!(f->flags & FIELD_OPTIONAL))
        return false;
    switch (f->type) {
    case FIELD_TEXT:
        return *(const char *)field_value(f, m) == '\0';
    case FIELD_INT:
        return *(const int *)field_value(f, m) == 0;
    case FIELD_METADATA:
        return m->engine_metadata_count == 0;
    default:
        return false;
    }
}

const char *manifest_contradiction(const struct manifest *m)
{
    if (m->version == MANIFEST_V2 && !m->encrypted && strcmp(m->compression, "none") == 0 &&
        m->content_bytes != m->stored.size)
        return "content_bytes: differs from size_bytes, although nothing is compressed";
    return NULL;
}

const char *manifest_unknown_need(const struct manifest *m)
{
    if (m->version == MANIFEST_V2 && m->encrypted)
        return "encryption: this keepfs cannot read encrypted archives of version 2";
    if (strcmp(m->compression, "none") != 0 && strcmp(m->compression, "zstd") != 0)
        return "compression: this keepfs does not know the algorithm";
    return NULL;
}

/* Numbers, sexagesimal ones too, and times: all begin with a digit, sign or dot. The set is wider
 * than the grammars, which costs a pair of quotes at times and never a wrong reading. */
static bool looks_like_number(const char *s)
{
    s += *s == '+' || *s == '-';
    if (*s == '\0' || !strchr(DIGITS ".", *s))
        return false;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        return s[2 + strspn(s + 2, DIGITS "abcdefABCDEF_")] == '\0';
    if (s[0] == '0' && (s[1] == 'b' || s[1] == 'o'))
        return s[2 + strspn(s + 2, "01234567_")] == '\0';
    return strcasecmp(s, ".inf") == 0 || strcasecmp(s, ".nan") == 0 ||
           s[strspn(s, DIGITS "_.:eE+-tTzZ ")] == '\0';
}

bool yaml_misreads(const char *text)
{
    static const char *const words[] = {"",   "~",   "null", "true", "false", "yes", "no",
                                        "on", "off", "y",    "n",    "<<",    "="};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(text, words[i]) == 0)
            return true;
    return looks_like_number(text);
}

bool text_is_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

void manifest_release(struct manifest *m)
{
    /* What was read of version 2 has a count, but the ids are elsewhere. */
    for (uint64_t i = 0; m->payload_ids && i < m->payload_id_count; i++)
        free(m->payload_ids[i]);
    free(m->payload_ids);
    m->payload_ids = NULL;
    m->payload_id_count = 0;
}
