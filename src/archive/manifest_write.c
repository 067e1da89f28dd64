/* SPDX-License-Identifier: MIT */
/*
 * manifest_write.c - a manifest as YAML, by libyaml's emitter.
 *
 * Block style, one key per line, never folded; a list that is empty is `[]`. Text that some YAML
 * reader could take for a number, a time or a truth is quoted by us; text that is no valid plain
 * scalar is quoted by libyaml. The style depends on nothing but the text, so equal input gives
 * equal bytes. A document without end marker is written: it ends with the line break of its last
 * key, behind which the line of the MAC is one more key to every reader of YAML.
 *
 * The text grows in a buffer of its own, whose sink refuses to pass LIMIT_MANIFEST, less the line
 * of the MAC where there will be one: the caller's buffer gets a whole manifest or nothing.
 */
#include "archive/manifest_fields.h"
#include "util/clock.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct writing {
    yaml_emitter_t emitter;
    struct buf text;
    size_t limit;
    bool full;     /* the sink refused */
    bool bad_text; /* no YAML can say it */
    const char *key;
};

static int sink(void *ctx, unsigned char *data, size_t len)
{
    struct writing *w = ctx;

    if (len > w->limit - w->text.len) {
        w->full = true;
        return 0;
    }
    buf_add(&w->text, data, len);
    return 1;
}

/* `made` is what the event's initialiser returned. The emitter takes the event over. */
static int emit(struct writing *w, yaml_event_t *event, int made)
{
    return made && yaml_emitter_emit(&w->emitter, event) ? 0 : -1;
}

/* A line break inside quotes would spread a value over several lines; double quotes escape it. */
static yaml_scalar_style_t text_style(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    return yaml_misreads(text) ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE;
}

static int emit_scalar(struct writing *w, const char *text, yaml_scalar_style_t style)
{
    yaml_event_t event;

    /* It fails without a word, of bad UTF-8 and for want of memory; malloc leaves its errno. */
    errno = 0;
    int made = yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text,
                                            (int)strlen(text), 1, 1, style);
    w->bad_text = !made && errno != ENOMEM;
    return emit(w, &event, made);
}

static int emit_text(struct writing *w, const char *text)
{
    return emit_scalar(w, text, text_style(text));
}

/* What is meant to be read as a number, a time or a truth. */
static int emit_plain(struct writing *w, const char *text)
{
    return emit_scalar(w, text, YAML_PLAIN_SCALAR_STYLE);
}

static int emit_map_start(struct writing *w)
{
    yaml_event_t event;

    return emit(
        w, &event,
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
}

static int emit_map_end(struct writing *w)
{
    yaml_event_t event;

    return emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static int emit_ids(struct writing *w, const struct manifest *m)
{
    yaml_event_t event;

    if (emit(w, &event,
             yaml_sequence_start_event_initialize(&event, NULL, NULL, 1,
                                                  YAML_BLOCK_SEQUENCE_STYLE)) != 0)
        return -1;
    for (uint64_t i = 0; i < m->payload_id_count; i++)
        if (emit_text(w, m->payload_ids[i]) != 0)
            return -1;
    return emit(w, &event, yaml_sequence_end_event_initialize(&event));
}

static int by_key(const void *a, const void *b, void *ctx)
{
    const struct manifest *m = ctx;

    return strcmp(m->engine_metadata[*(const size_t *)a].key,
                  m->engine_metadata[*(const size_t *)b].key);
}

static int emit_metadata(struct writing *w, const struct manifest *m)
{
    size_t order[sizeof m->engine_metadata / sizeof m->engine_metadata[0]];

    assert(m->engine_metadata_count <= sizeof order / sizeof order[0]);
    for (size_t i = 0; i < m->engine_metadata_count; i++)
        order[i] = i;
    /* by_key only reads. */
    qsort_r(order, m->engine_metadata_count, sizeof order[0], by_key, (struct manifest *)m);
    if (emit_map_start(w) != 0)
        return -1;
    for (size_t i = 0; i < m->engine_metadata_count; i++)
        if (emit_text(w, m->engine_metadata[order[i]].key) != 0 ||
            emit_text(w, m->engine_metadata[order[i]].value) != 0)
            return -1;
    return emit_map_end(w);
}

static int emit_fields(struct writing *w, const struct field *fields, const struct manifest *m);

static int emit_value(struct writing *w, const struct field *f, const struct manifest *m)
{
    const void *value = field_value(f, m);
    char text[TIME_TEXT_MAX];

    switch (f->type) {
    case FIELD_TEXT:
        return emit_text(w, value);
    case FIELD_TIME:
        return emit_plain(w, time_format(*(const time_ms *)value, text));
    case FIELD_NUMBER:
        snprintf(text, sizeof text, "%" PRIu64, *(const uint64_t *)value);
        return emit_plain(w, text);
    case FIELD_INT:
        snprintf(text, sizeof text, "%d", *(const int *)value);
        return emit_plain(w, text);
    case FIELD_FLAG:
        return emit_plain(w, *(const bool *)value ? "true" : "false");
    case FIELD_MAP:
        return emit_fields(w, f->fields, m);
    case FIELD_IDS:
        return emit_ids(w, m);
    case FIELD_METADATA:
    case FIELD_MAC: /* never gets here: it is omitted */
        break;
    }
    return emit_metadata(w, m);
}

static int emit_fields(struct writing *w, const struct field *fields, const struct manifest *m)
{
    if (emit_map_start(w) != 0)
        return -1;
    for (const struct field *f = fields; f->key; f++) {
        if (!field_applies(f, m->version) || field_omitted(f, m))
            continue;
        w->key = f->key;
        if (emit_text(w, f->key) != 0 || emit_value(w, f, m) != 0)
            return -1;
    }
    return emit_map_end(w);
}

static int emit_document(struct writing *w, const struct manifest *m)
{
    yaml_event_t event;

    yaml_emitter_set_output(&w->emitter, sink, w);
    yaml_emitter_set_width(&w->emitter, -1);
    yaml_emitter_set_unicode(&w->emitter, 1);
    if (emit(w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) != 0 ||
        emit(w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) != 0 ||
        emit_fields(w, manifest_fields, m) != 0 ||
        emit(w, &event, yaml_document_end_event_initialize(&event, 1)) != 0)
        return -1;
    return emit(w, &event, yaml_stream_end_event_initialize(&event));
}

/* A number that SQLite and off_t cannot hold is no size of anything. */
static const char *range_fault(const struct field *f, const struct manifest *m)
{
    if (f->type == FIELD_NUMBER && *(const uint64_t *)field_value(f, m) > INT64_MAX)
        return "is too large";
    return NULL;
}

static int judge(const struct manifest *m, struct error *err)
{
    if (m->version != MANIFEST_V1 && m->version != MANIFEST_V2)
        return error_set(err, ERR_MANIFEST_INVALID, "manifest_version: must be 1 or 2");
    for (const struct field *f = manifest_fields; f->key; f++) {
        if (!field_applies(f, m->version))
            continue;
        const char *fault = f->fault ? f->fault(m) : range_fault(f, m);
        if (fault)
            return error_set(err, ERR_MANIFEST_INVALID, "%s: %s", f->key, fault);
    }
    const char *fault = manifest_contradiction(m);
    if (fault)
        return error_set(err, ERR_MANIFEST_INVALID, "%s", fault);
    fault = manifest_unknown_need(m);
    return fault ? error_set(err, ERR_MANIFEST_UNSUPPORTED, "%s", fault) : 0;
}

static int write_yaml(struct writing *w, const struct manifest *m, struct error *err)
{
    if (!yaml_emitter_initialize(&w->emitter))
        return error_set(err, ERR_INTERNAL, "libyaml has no memory for an emitter");
    int result = emit_document(w, m);
    yaml_emitter_delete(&w->emitter);
    if (result == 0)
        return 0;
    if (w->full)
        return error_set(err, ERR_MANIFEST_INVALID, "%s makes it larger than %zu bytes", w->key,
                         LIMIT_MANIFEST);
    if (w->bad_text)
        return error_set(err, ERR_MANIFEST_INVALID, "%s: is not valid UTF-8", w->key);
    return error_set(err, ERR_INTERNAL, "libyaml has no memory for it");
}

static int write_mac(struct buf *text, const struct manifest *m, const struct key *key,
                     struct error *err)
{
    char mac[MAC_TEXT + 1];

    if (manifest_mac_make(key, m->store_id, text->data, text->len, mac, err) != 0)
        return -1;
    buf_addf(text, MAC_KEY ": %s\n", mac);
    return 0;
}

int manifest_write(const struct manifest *m, const struct key *key, struct buf *out,
                   struct error *err)
{
    bool mac = manifest_has_mac(m);
    struct writing w = {.text = BUF_INIT, .limit = LIMIT_MANIFEST - (mac ? MAC_LINE : 0)};

    assert(key || !mac);
    int result = judge(m, err);
    if (result == 0)
        result = write_yaml(&w, m, err);
    if (result == 0 && mac)
        result = write_mac(&w.text, m, key, err);
    if (result == 0)
        buf_add(out, buf_text(&w.text), w.text.len);
    else
        error_context(err, "cannot write the manifest");
    buf_release(&w.text);
    return result;
}
