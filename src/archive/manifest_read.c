/* SPDX-License-Identifier: MIT */
/*
 * manifest_read.c - YAML back into a manifest, by libyaml's events.
 *
 * The text is a stranger's: it comes from a disk that may be damaged or in other hands. It is read
 * event by event, each of which must be what the table of keys expects at that place, so nothing
 * is ever built that a manifest cannot hold, and reading stops at the first oddity. Refused are
 * anchors, aliases, tags, directives, text over several lines, unknown and repeated keys, values
 * of another type than the key's, numbers in any but their shortest form, further documents.
 *
 * manifest_version must be the first key: it decides which keys there are, and what a newer
 * keepfs wrote behind it is not judged.
 *
 * manifest_mac must also be the last line of the bytes, in exactly the form that the writer gives
 * it: what it covers is then the same for whoever reads YAML and for whoever reads bytes, and no
 * comment, quoting, second key or later line can make a difference between them.
 *
 * next() keeps one event current; every read_* function finds the first event of its value there
 * and leaves the last.
 */
#include "archive/manifest_fields.h"
#include "util/clock.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reading {
    yaml_parser_t parser;
    yaml_event_t event;
    struct manifest *m;
    const char *parent, *key; /* where we are, for messages */
    struct error *err;
};

static int fail(struct reading *r, const char *why)
{
    return error_set(r->err, ERR_MANIFEST_INVALID, "line %zu: %s%s%s%s%s",
                     r->event.start_mark.line + 1, r->parent ? r->parent : "", r->parent ? "." : "",
                     r->key ? r->key : "", r->key ? ": " : "", why);
}

/* Is the current event one that a manifest may have at all? */
static bool event_is_bare(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return false;
    case YAML_SCALAR_EVENT:
        return !e->data.scalar.anchor && !e->data.scalar.tag &&
               e->start_mark.line == e->end_mark.line;
    case YAML_SEQUENCE_START_EVENT:
        return !e->data.sequence_start.anchor && !e->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT:
        return !e->data.mapping_start.anchor && !e->data.mapping_start.tag;
    case YAML_DOCUMENT_START_EVENT:
        return !e->data.document_start.version_directive &&
               e->data.document_start.tag_directives.start ==
                   e->data.document_start.tag_directives.end;
    default:
        return true;
    }
}

static int next(struct reading *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (!r->parser.problem) /* it has one for all but this, which is no fault of the manifest */
            return error_set(r->err, ERR_INTERNAL, "libyaml has no memory for the manifest");
        return error_set(r->err, ERR_MANIFEST_INVALID, "line %zu: not YAML: %s%s%s",
                         r->parser.problem_mark.line + 1, r->key ? r->key : "", r->key ? ": " : "",
                         r->parser.problem);
    }
    if (!event_is_bare(&r->event))
        return fail(
            r, "anchors, aliases, tags, directives and text over several lines are not allowed");
    return 0;
}

static int expect(struct reading *r, yaml_event_type_t type, const char *why)
{
    if (next(r) != 0)
        return -1;
    return r->event.type == type ? 0 : fail(r, why);
}

static bool is_plain(const struct reading *r)
{
    return r->event.type == YAML_SCALAR_EVENT &&
           r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* The text of the current scalar; NUL-terminated, but a NUL may also be inside. */
static const char *scalar(const struct reading *r)
{
    return (const char *)r->event.data.scalar.value;
}

static const char no_number[] = "must be a whole number in its shortest decimal form";

/* Decimal digits without sign and leading zeros, at most `max`. */
static int read_digits(struct reading *r, const char *text, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (!is_plain(r) || len == 0 || strspn(text, "0123456789") != len ||
        (text[0] == '0' && len > 1))
        return fail(r, no_number);
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (value > (max - digit) / 10)
            return fail(r, "is too large");
        value = value * 10 + digit;
    }
    *out = value;
    return 0;
}

static int read_number(struct reading *r, uint64_t max, uint64_t *out)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return fail(r, no_number);
    return read_digits(r, scalar(r), r->event.data.scalar.length, max, out);
}

/* The same with an optional minus, but not before 0. */
static int read_int(struct reading *r, int *out)
{
    uint64_t value;

    if (r->event.type != YAML_SCALAR_EVENT)
        return fail(r, no_number);
    bool minus = scalar(r)[0] == '-';
    if (read_digits(r, scalar(r) + minus, r->event.data.scalar.length - minus, INT_MAX, &value) !=
        0)
        return -1;
    if (minus && value == 0)
        return fail(r, no_number);
    *out = minus ? -(int)value : (int)value;
    return 0;
}

/* Any text that means text to every reader of YAML, without a NUL. */
static int read_any_text(struct reading *r, size_t max)
{
    if (r->event.type != YAML_SCALAR_EVENT || (is_plain(r) && yaml_misreads(scalar(r))))
        return fail(r, "must be text, in quotes if it could be read as something else");
    size_t len = r->event.data.scalar.length;
    if (strlen(scalar(r)) != len)
        return fail(r, "must not contain NUL");
    return len <= max ? 0 : fail(r, "is too long");
}

static int read_text(struct reading *r, char *out, size_t size)
{
    if (read_any_text(r, size - 1) != 0)
        return -1;
    if (!text_is_printable(scalar(r), r->event.data.scalar.length))
        return fail(r, "must not contain control characters");
    snprintf(out, size, "%s", scalar(r));
    return 0;
}

static int read_time(struct reading *r, time_ms *out)
{
    if (r->event.type != YAML_SCALAR_EVENT || strlen(scalar(r)) != r->event.data.scalar.length ||
        time_parse(scalar(r), out) != 0)
        return fail(r, "must be a time like 2026-11-21T06:30:28.123Z");
    return 0;
}

static int read_flag(struct reading *r, bool *out)
{
    if (!is_plain(r) || (strcmp(scalar(r), "true") != 0 && strcmp(scalar(r), "false") != 0))
        return fail(r, "must be true or false");
    *out = scalar(r)[0] == 't';
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_ids(struct reading *r)
{
    struct manifest *m = r->m;
    size_t room = 0;

    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return fail(r, "must be a list, [] if there are none");
    for (;;) {
        if (next(r) != 0)
            return -1;
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        if (read_any_text(r, LIMIT_PAYLOAD_ID) != 0)
            return -1;
        if (m->payload_id_count == room) {
            room = room ? room * 2 : 16;
            m->payload_ids = xrealloc(m->payload_ids, room * sizeof m->payload_ids[0]);
        }
        m->payload_ids[m->payload_id_count++] = xstrdup(scalar(r));
    }
    if (m->payload_id_count > 0)
        qsort(m->payload_ids, m->payload_id_count, sizeof m->payload_ids[0], by_bytes);
    return 0;
}

/* The entries are plain data, and the key comes first in each. */
static int by_metadata_key(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int read_metadata(struct reading *r)
{
    struct manifest *m = r->m;

    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail(r, "must be a map of text to text");
    for (;;) {
        if (next(r) != 0)
            return -1;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        if (m->engine_metadata_count == sizeof m->engine_metadata / sizeof m->engine_metadata[0])
            return fail(r, "has too many keys");
        char *key = m->engine_metadata[m->engine_metadata_count].key;
        char *value = m->engine_metadata[m->engine_metadata_count].value;
        if (read_text(r, key, sizeof m->engine_metadata[0].key) != 0 || next(r) != 0 ||
            read_any_text(r, sizeof m->engine_metadata[0].value - 1) != 0)
            return -1;
        snprintf(value, sizeof m->engine_metadata[0].value, "%s", scalar(r));
        m->engine_metadata_count++;
    }
    qsort(m->engine_metadata, m->engine_metadata_count, sizeof m->engine_metadata[0],
          by_metadata_key);
    return 0;
}

static int read_fields(struct reading *r, const struct field *fields, unsigned seen);

static int read_map(struct reading *r, const struct field *f)
{
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail(r, "must be a map");
    r->parent = f->key;
    r->key = NULL;
    if (read_fields(r, f->fields, 0) != 0)
        return -1;
    r->parent = NULL;
    r->key = f->key;
    return 0;
}

static int read_value(struct reading *r, const struct field *f)
{
    void *place = field_place(f, r->m);

    switch (f->type) {
    case FIELD_TEXT:
    case FIELD_MAC:
        return read_text(r, place, f->size);
    case FIELD_TIME:
        return read_time(r, place);
    case FIELD_NUMBER:
        return read_number(r, INT64_MAX, place);
    case FIELD_INT:
        return read_int(r, place);
    case FIELD_FLAG:
        return read_flag(r, place);
    case FIELD_MAP:
        return read_map(r, f);
    case FIELD_IDS:
        return read_ids(r);
    case FIELD_METADATA:
        break;
    }
    return read_metadata(r);
}

/* The row of the current scalar; NULL if no key of this version is called so. */
static const struct field *find_field(const struct reading *r, const struct field *fields)
{
    for (const struct field *f = fields; f->key; f++)
        if (field_applies(f, r->m->version) && strlen(f->key) == r->event.data.scalar.length &&
            strcmp(f->key, scalar(r)) == 0)
            return f;
    return NULL;
}

static int check_complete(struct reading *r, const struct field *fields, unsigned seen)
{
    for (const struct field *f = fields; f->key; f++) {
        if (!field_applies(f, r->m->version) || f->flags & FIELD_OPTIONAL ||
            seen & 1u << (f - fields))
            continue;
        r->key = f->key;
        return fail(r, "is missing");
    }
    return 0;
}

/* The row of the current scalar, which must be a key that is known and not among `seen`; NULL if it
 * is not. */
static const struct field *read_key(struct reading *r, const struct field *fields, unsigned *seen)
{
    char name[64];

    r->key = NULL;
    if (r->event.type != YAML_SCALAR_EVENT) {
        fail(r, "a key must be text");
        return NULL;
    }
    const struct field *f = find_field(r, fields);
    if (!f) {
        snprintf(name, sizeof name, "%s", scalar(r));
        r->key = name;
        fail(r, "is no key of a manifest of this version");
        r->key = NULL;
        return NULL;
    }
    r->key = f->key;
    unsigned bit = 1u << (f - fields);
    if (*seen & bit) {
        fail(r, "is there twice");
        return NULL;
    }
    *seen |= bit;
    return f;
}

/* The rest of a map whose keys `seen` were read. */
static int read_fields(struct reading *r, const struct field *fields, unsigned seen)
{
    for (;;) {
        if (next(r) != 0)
            return -1;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return check_complete(r, fields, seen);
        const struct field *f = read_key(r, fields, &seen);
        if (!f || next(r) != 0)
            return -1;
        size_t line = r->event.start_mark.line + 1;
        if (read_value(r, f) != 0)
            return -1;
        if (field_is_empty(f, r->m))
            return fail(r, "must be left out if it is empty or 0");
        const char *fault = f->fault ? f->fault(r->m) : NULL;
        if (fault)
            return error_set(r->err, ERR_MANIFEST_INVALID, "line %zu: %s: %s", line, f->key, fault);
    }
}

static int read_version(struct reading *r)
{
    r->key = manifest_fields[0].key;
    if (next(r) != 0)
        return -1;
    if (r->event.type != YAML_SCALAR_EVENT || strcmp(scalar(r), r->key) != 0)
        return fail(r, "is missing; it must be the first key");
    uint64_t version;
    if (next(r) != 0 || read_number(r, UINT64_MAX, &version) != 0)
        return -1;
    if (version == 0)
        return fail(r, "is missing: 0 is no version");
    if (version != MANIFEST_V1 && version != MANIFEST_V2)
        return error_set(r->err, ERR_MANIFEST_UNSUPPORTED,
                         "line %zu: %s: %s is not supported; this keepfs reads 1 and 2",
                         r->event.start_mark.line + 1, r->key, scalar(r));
    r->m->version = (int)version;
    return 0;
}

static int read_document(struct reading *r)
{
    if (expect(r, YAML_STREAM_START_EVENT, "is no text") != 0 ||
        expect(r, YAML_DOCUMENT_START_EVENT, "the manifest is empty") != 0 ||
        expect(r, YAML_MAPPING_START_EVENT, "the manifest must be a map") != 0)
        return -1;
    if (read_version(r) != 0 || read_fields(r, manifest_fields, 1) != 0)
        return -1;
    r->key = NULL;
    if (expect(r, YAML_DOCUMENT_END_EVENT, "the manifest does not end") != 0)
        return -1;
    return expect(r, YAML_STREAM_END_EVENT, "there is more than one document");
}

/* What version 1 says by being version 1: it knows no compression, and one envelope. */
static void derive_v1(struct manifest *m)
{
    m->envelope = m->encrypted ? ENVELOPE_V1 : ENVELOPE_NONE;
    snprintf(m->compression, sizeof m->compression, "none");
    m->content_bytes = m->encrypted ? 0 : m->stored.size;
}

/* Is there a MAC where one must be, and none elsewhere? Whether it is the right one is for
 * manifest_authenticate. */
static const char *mac_fault(const struct manifest *m, const char *text, size_t len)
{
    char mac[MAC_TEXT + 1];
    size_t covered;

    if (!manifest_has_mac(m))
        return m->mac[0] ? "must not be in a manifest that is not encrypted" : NULL;
    if (!m->mac[0])
        return "is missing";
    return manifest_mac_find(text, len, &covered, mac) && strcmp(mac, m->mac) == 0
               ? NULL
               : "must be the last line: " MAC_PREFIX " and 64 lower-case hex digits";
}

static int judge(struct manifest *m, const char *text, size_t len, struct error *err)
{
    if (m->version == MANIFEST_V1)
        derive_v1(m);
    const char *fault = manifest_unknown_need(m);
    if (fault)
        return error_set(err, ERR_MANIFEST_UNSUPPORTED, "%s", fault);
    fault = manifest_contradiction(m);
    if (fault)
        return error_set(err, ERR_MANIFEST_INVALID, "%s", fault);
    fault = mac_fault(m, text, len);
    return fault ? error_set(err, ERR_MANIFEST_INVALID, MAC_KEY ": %s", fault) : 0;
}

int manifest_read(const char *text, size_t len, struct manifest *out, struct error *err)
{
    struct manifest m = {0};
    struct reading r = {.m = &m, .err = err};

    if (len > LIMIT_MANIFEST)
        return error_set(err, ERR_MANIFEST_INVALID, "the manifest is larger than %zu bytes",
                         LIMIT_MANIFEST);
    if (!yaml_parser_initialize(&r.parser))
        return error_set(err, ERR_INTERNAL, "libyaml has no memory for a parser");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    int result = read_document(&r);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (result == 0)
        result = judge(&m, text, len, err);
    if (result != 0) {
        manifest_release(&m);
        return -1;
    }
    *out = m;
    return 0;
}
