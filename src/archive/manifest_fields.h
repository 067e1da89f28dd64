/* SPDX-License-Identifier: MIT */
/*
 * manifest_fields.h - the one table of a manifest's keys, and its MAC; private to manifest*.c.
 *
 * A row says how a key is called, in which versions it is, what it holds and where that lies in
 * struct manifest. The writer walks the table in order, the reader looks keys up in it, and both
 * judge values with the row's fault(): what one writes the other accepts.
 */
#ifndef KEEPFS_ARCHIVE_MANIFEST_FIELDS_H
#define KEEPFS_ARCHIVE_MANIFEST_FIELDS_H

#include "archive/manifest.h"

enum field_type {
    FIELD_TEXT,     /* char[size] */
    FIELD_TIME,     /* time_ms */
    FIELD_NUMBER,   /* uint64_t, at most INT64_MAX */
    FIELD_INT,      /* int */
    FIELD_FLAG,     /* bool */
    FIELD_MAP,      /* a map of `fields` */
    FIELD_IDS,      /* the list of payload ids */
    FIELD_METADATA, /* the map engine_metadata */
    FIELD_MAC,      /* char[size]; the writer appends it to the text of all others */
};

enum field_flag {
    FIELD_V1 = 1 << MANIFEST_V1,
    FIELD_V2 = 1 << MANIFEST_V2,
    FIELD_OPTIONAL = 1, /* left out when empty or 0 */
};

struct field {
    const char *key; /* NULL ends a table */
    enum field_type type;
    unsigned flags;
    size_t offset, size;
    const struct field *fields;
    /* What is wrong with the value, or NULL. May be NULL itself. */
    const char *(*fault)(const struct manifest *m);
};

/* All keys, in order; the first is manifest_version. */
extern const struct field manifest_fields[];

static inline bool field_applies(const struct field *f, int version)
{
    return (f->flags & 1u << version) != 0;
}

/* Is it an optional text or number, and empty or 0? Such a value is left out, never written. */
bool field_is_empty(const struct field *f, const struct manifest *m);

/* Is it left out of what the emitter writes? */
bool field_omitted(const struct field *f, const struct manifest *m);

/* Where the value of `f` is, to read it and to set it. */
static inline const void *field_value(const struct field *f, const struct manifest *m)
{
    return (const char *)m + f->offset;
}

static inline void *field_place(const struct field *f, struct manifest *m)
{
    return (char *)m + f->offset;
}

/* What is wrong between the fields of a manifest ("key: sentence"), or NULL. */
const char *manifest_contradiction(const struct manifest *m);
/* What it needs that this keepfs does not know ("key: sentence"), or NULL. */
const char *manifest_unknown_need(const struct manifest *m);

#define MAC_KEY    "manifest_mac"
#define MAC_PREFIX "v1:"
#define MAC_TEXT   (sizeof MAC_PREFIX - 1 + SHA256_HEX)                /* its value */
#define MAC_LINE   (sizeof MAC_KEY - 1 + sizeof ": \n" - 1 + MAC_TEXT) /* the line */

/* Has an archive like this a MAC? */
static inline bool manifest_has_mac(const struct manifest *m)
{
    return m->version == MANIFEST_V2 && m->encrypted;
}

/* Is the last line of `text` a MAC, byte for byte as it is written? Then *covered is the number of
 * bytes before that line and `mac` its value. */
bool manifest_mac_find(const char *text, size_t len, size_t *covered, char mac[MAC_TEXT + 1]);

/* The MAC of `text` for a store's archive. */
int manifest_mac_make(const struct key *key, const char *store_id, const char *text, size_t len,
                      char mac[MAC_TEXT + 1], struct error *err);

/* Would a YAML reader (1.1 or 1.2) take these words, unquoted, for something else than text? */
bool yaml_misreads(const char *text);

/* No byte of it is a control character; those only confuse whoever prints it. */
bool text_is_printable(const char *text, size_t len);

#endif
