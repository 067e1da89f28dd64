/* SPDX-License-Identifier: MIT */
/*
 * manifest.c - what a manifest consists of: the table of keys and the judgement of each value.
 *
 * Reading is in manifest_read.c, writing in manifest_write.c, the MAC in manifest_mac.c. Every rule
 * about a value stands here once, so that nothing is published that could not be read back: a
 * field's fault() is about that key alone, as it is asked for when the key was read and others were
 * not; what two keys say together is a contradiction, judged at the end.
 */
#include "archive/manifest.h"

#include "archive/manifest_fields.h"
#include "util/ulid.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DIGITS       "0123456789"
#define LOWER        "abcdefghijklmnopqrstuvwxyz"
#define MIN_LEVEL    (-7) /* of zstd */
#define MAX_LEVEL    19
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

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, DIGITS "abcdef") == len;
}

static const char *fault_sha256(const struct manifest *m)
{
    return is_hex(m->stored.sha256, SHA256_HEX) ? NULL : "must be 64 lower-case hex digits";
}

static const char *fault_payload_ids_sha256(const struct manifest *m)
{
    const char *hex = m->payload_ids_sha256;

    return *hex == '\0' || is_hex(hex, SHA256_HEX) ? NULL : "must be 64 lower-case hex digits";
}

static const char *fault_compression(const struct manifest *m)
{
    if (m->compression[0] == '\0')
        return "must name an algorithm, or none";
    if (strcmp(m->compression, "none") == 0 && m->compression_level != 0)
        return "must have no level where nothing is compressed";
    if (strcmp(m->compression, "zstd") == 0 &&
        (m->compression_level < MIN_LEVEL || m->compression_level > MAX_LEVEL ||
         m->compression_level == 0))
        return "must have a level of -7 to 19, and not 0, for zstd";
    return NULL;
}

/* Another envelope may name its keys in another way: it is not judged but found unknown. */
static const char *fault_encryption_v2(const struct manifest *m)
{
    if (!m->encrypted)
        return m->envelope != ENVELOPE_NONE || m->key_id[0]
                   ? "must have no envelope and no key_id unless it is enabled"
                   : NULL;
    if (m->envelope < 1)
        return "must have an envelope";
    if (m->envelope == ENVELOPE_V2 && !is_hex(m->key_id, KEY_ID_HEX))
        return "must have a key_id of 16 lower-case hex digits";
    return NULL;
}

static const char *fault_encryption(const struct manifest *m)
{
    if (m->version != MANIFEST_V1)
        return fault_encryption_v2(m);
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
    {.key = "envelope", .type = FIELD_INT, .flags = FIELD_V2 | FIELD_OPTIONAL, AT(envelope)},
    {.key = "key_id", .flags = FIELD_V2 | FIELD_OPTIONAL, TEXT_AT(key_id)},
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
    {.key = "payload_ids_sha256",
     .flags = FIELD_V2 | FIELD_OPTIONAL,
     TEXT_AT(payload_ids_sha256),
     .fault = fault_payload_ids_sha256},
    {.key = "engine_metadata",
     .type = FIELD_METADATA,
     .flags = BOTH | FIELD_OPTIONAL,
     .fault = fault_metadata},
    {.key = MAC_KEY,
     .type = FIELD_MAC,
     .flags = FIELD_V2 | FIELD_OPTIONAL,
     AT(mac),
     .size = MAC_TEXT + 1},
    {.key = NULL},
};

_Static_assert(sizeof((struct manifest *)0)->mac > MAC_TEXT, "a MAC has its place");

bool field_is_empty(const struct field *f, const struct manifest *m)
{
    if (!(f->flags & FIELD_OPTIONAL))
        return false;
    switch (f->type) {
    case FIELD_TEXT:
    case FIELD_MAC:
        return *(const char *)field_value(f, m) == '\0';
    case FIELD_INT:
        return *(const int *)field_value(f, m) == 0;
    default:
        return false;
    }
}

bool field_omitted(const struct field *f, const struct manifest *m)
{
    return f->type == FIELD_MAC || field_is_empty(f, m) ||
           (f->type == FIELD_METADATA && m->engine_metadata_count == 0);
}

/* Version 1 has no words for compression and for its envelope: what it cannot say must not be. */
static const char *contradiction_v1(const struct manifest *m)
{
    if (strcmp(m->compression, "none") != 0)
        return "compression: must be none in version 1";
    if (m->envelope != ENVELOPE_NONE && (!m->encrypted || m->envelope != ENVELOPE_V1))
        return "encryption: must be of envelope 1, or none, in version 1";
    return NULL;
}

/* How large an envelope is depends on its frames, whose size is not known here. */
static const char *contradiction_v2(const struct manifest *m)
{
    bool as_it_is = !m->encrypted && strcmp(m->compression, "none") == 0;

    if (as_it_is && m->content_bytes != m->stored.size)
        return "content_bytes: differs from size_bytes, although nothing is compressed";
    if (!as_it_is && m->stored.size == 0)
        return "size_bytes: is 0, although an envelope and a seek table are never empty";
    if (m->payload_id_count == 0 && m->payload_ids_sha256[0])
        return "payload_ids_sha256: is there, although there are no payload ids";
    return NULL;
}

const char *manifest_contradiction(const struct manifest *m)
{
    return m->version == MANIFEST_V1 ? contradiction_v1(m) : contradiction_v2(m);
}

const char *manifest_unknown_need(const struct manifest *m)
{
    if (m->version == MANIFEST_V2 && m->encrypted && m->envelope != ENVELOPE_V2)
        return "encryption: this keepfs does not know the envelope";
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
