/* SPDX-License-Identifier: MIT */
/*
 * payload.c - views laid on each other, as the manifest says.
 *
 * What a manifest claims is judged before it is acted on: of an encrypted archive of version 2
 * nothing but store_id, encryption and the text itself is used before the MAC was found right.
 * Version 1 has no MAC; its key is the one among the configured ones that opens a frame, and the
 * key_ref in the manifest is for people only.
 */
#include "archive/payload.h"

#include "stream/seekable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the object as a view ---- */

struct object_view {
    struct view view;
    struct object *object;
};

static ssize_t object_view_pread(struct view *v, void *buf, size_t len, uint64_t offset,
                                 struct error *err)
{
    struct object *o = ((struct object_view *)v)->object;
    size_t got = 0;

    while (got < len) {
        ssize_t n = o->kind->pread(o, (char *)buf + got, len - got, offset + got, err);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static void object_view_free(struct view *v)
{
    struct object_view *o = (struct object_view *)v;

    o->object->kind->close_object(o->object);
    free(o);
}

/* Owns `object`. */
static struct view *object_view_new(struct object *object)
{
    static const struct view_ops ops = {.pread = object_view_pread, .free = object_view_free};
    struct object_view *o = xcalloc(1, sizeof *o);

    o->view = (struct view){.ops = &ops, .size = object->size};
    o->object = object;
    return &o->view;
}

/* ---- is the archive what it says? ---- */

static int check_size(const struct object *o, const struct manifest *m, struct error *err)
{
    if (o->size == m->stored.size)
        return 0;
    return error_set(err, ERR_INTEGRITY_FAILED,
                     "%s: " ARCHIVE_PAYLOAD " has %" PRIu64 " bytes, its manifest says %" PRIu64,
                     o->size < m->stored.size ? "truncated" : "trailing bytes", o->size,
                     m->stored.size);
}

static struct envelope envelope_of(const struct manifest *m)
{
    return (struct envelope){
        .version = m->envelope, .store_id = m->store_id, .record = m->backup_id};
}

static int authenticate(struct archive *a, const struct buf *text, struct error *err)
{
    struct keyring ring = archive_policy_keys(a->policy);

    if (a->manifest.envelope != ENVELOPE_V2)
        return 0;
    if (keyring_find(&ring, a->manifest.key_id, &a->key, err) != 0)
        return -1;
    return manifest_authenticate(&a->manifest, text->data, text->len, a->key, err);
}

/* The one among the policy's keys that opens the first or last frame of an envelope v1. */
static int find_key_v1(struct archive *a, struct view *stored, struct error *err)
{
    struct envelope envelope = envelope_of(&a->manifest);
    struct error unloaded = {0};

    for (size_t i = 0; i < a->policy->key_count; i++) {
        struct key *key;
        bool fits;
        if (key_load(a->policy->keys[i], &key, &unloaded) != 0)
            continue;
        int result = envelope_fits(stored, key, &envelope, &fits, err);
        if (result == 0 && fits) {
            a->key = key;
            return 0;
        }
        key_free(key);
        if (result != 0)
            return error_context(err, ARCHIVE_PAYLOAD);
    }
    if (a->policy->key_count == 0)
        return error_set(err, ERR_DESTINATION_CREDENTIALS_INVALID,
                         "it is encrypted and there is no key to read it with");
    if (unloaded.code) {
        *err = unloaded;
        return -1;
    }
    return error_set(err, ERR_DECRYPT_FAILED,
                     "wrong key: none of the configured keys opens its first or last frame");
}

static int examine_payload(struct archive *a, struct error *err)
{
    struct manifest *m = &a->manifest;
    struct object *o;

    if (archive_open(a->destination, m->backup_id, ARCHIVE_PAYLOAD, &o, err) != 0)
        return -1;
    struct view *stored = object_view_new(o);
    int result = check_size(o, m, err);
    if (result == 0 && m->envelope == ENVELOPE_V1)
        result = envelope_content_size(stored, ENVELOPE_V1, &m->content_bytes, err);
    if (result == 0 && m->envelope == ENVELOPE_V1)
        result = find_key_v1(a, stored, err);
    view_free(stored);
    return result;
}

static int examine_ids(struct archive *a, struct error *err)
{
    const struct manifest *m = &a->manifest;
    struct object *o;

    if (m->version == MANIFEST_V1 || m->payload_id_count == 0)
        return 0;
    if (archive_open(a->destination, m->backup_id, ARCHIVE_PAYLOAD_IDS, &o, err) != 0)
        return -1;
    a->ids_bytes = o->size;
    o->kind->close_object(o);
    return 0;
}

int archive_examine(struct destination *d, const char *ulid, const struct archive_policy *policy,
                    struct archive *out, struct error *err)
{
    struct archive a = {.destination = d, .policy = policy};
    struct buf text = BUF_INIT;

    if (archive_manifest(d, ulid, &a.manifest, &text, err) != 0)
        return -1;
    a.manifest_bytes = text.len;
    int result = archive_policy_admit(policy, &a.manifest, err);
    if (result == 0)
        result = authenticate(&a, &text, err);
    if (result == 0)
        result = examine_payload(&a, err);
    if (result == 0)
        result = examine_ids(&a, err);
    buf_release(&text);
    if (result == 0)
        *out = a;
    else
        archive_release(&a);
    return result;
}

void archive_release(struct archive *a)
{
    manifest_release(&a->manifest);
    key_free(a->key);
    *a = (struct archive){0};
}

/* ---- payload_ids ---- */

/* What is said of the ids so far. */
struct ids_check {
    char line[LIMIT_PAYLOAD_ID + 1], before[LIMIT_PAYLOAD_ID + 1];
    size_t len;
    uint64_t count;
};

static int take_line(struct ids_check *c, struct error *err)
{
    c->line[c->len] = '\0';
    if (c->len == 0 || strlen(c->line) != c->len)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         ARCHIVE_PAYLOAD_IDS " line %" PRIu64 " is no id", c->count + 1);
    if (c->count > 0 && strcmp(c->before, c->line) >= 0)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         ARCHIVE_PAYLOAD_IDS " line %" PRIu64 " is not behind the one before",
                         c->count + 1);
    memcpy(c->before, c->line, c->len + 1);
    c->len = 0;
    c->count++;
    return 0;
}

static int take_bytes(struct ids_check *c, const char *data, size_t len, struct error *err)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n') {
            if (take_line(c, err) != 0)
                return -1;
        } else if (c->len == LIMIT_PAYLOAD_ID) {
            return error_set(err, ERR_INTEGRITY_FAILED,
                             ARCHIVE_PAYLOAD_IDS " line %" PRIu64 " is too long", c->count + 1);
        } else {
            c->line[c->len++] = data[i];
        }
    }
    return 0;
}

static int read_ids(struct view *ids, const struct manifest *m, struct ids_check *c,
                    struct error *err)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(LIMIT_STREAM_CHUNK);
    ssize_t n;

    for (uint64_t at = 0; (n = view_pread(ids, data, LIMIT_STREAM_CHUNK, at, err)) > 0;
         at += (uint64_t)n)
        if (take_bytes(c, data, (size_t)n, err) != 0)
            return -1;
    if (n < 0)
        return -1;
    if (c->len > 0 || c->count != m->payload_id_count)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         ARCHIVE_PAYLOAD_IDS " has %" PRIu64 " whole lines, the manifest says "
                                             "%" PRIu64 " ids",
                         c->count, m->payload_id_count);
    return 0;
}

int archive_check_ids(const struct archive *a, struct error *err)
{
    const struct manifest *m = &a->manifest;
    struct digest expected = {.size = a->ids_bytes};
    struct ids_check check = {0};
    struct object *o;

    if (m->version == MANIFEST_V1 || m->payload_id_count == 0)
        return 0;
    if (archive_open(a->destination, m->backup_id, ARCHIVE_PAYLOAD_IDS, &o, err) != 0)
        return -1;
    memcpy(expected.sha256, m->payload_ids_sha256, sizeof expected.sha256);
    struct view *ids = digest_view_new(object_view_new(o), &expected);
    int result = read_ids(ids, m, &check, err);
    if (result == 0 && expected.sha256[0] && digest_view_judge(ids, err) != 0)
        result = error_context(err, ARCHIVE_PAYLOAD_IDS);
    view_free(ids);
    return result;
}

/* ---- the layers ---- */

struct payload {
    struct view *view;   /* of the content; owns what is below */
    struct view *digest; /* the layer that hashes, somewhere below; NULL if there is none */
    bool checked;        /* there are frames */
};

/* That the key is right is known by then: of v2 from the MAC, of v1 from a frame that it opens. */
static int envelope_failed(struct error *err)
{
    if (err->code == ERR_DECRYPT_FAILED)
        err->code = ERR_INTEGRITY_FAILED;
    return -1;
}

/* Lays on p->view what the manifest says. */
static int add_layers(struct payload *p, const struct manifest *m, const struct key *key,
                      struct frame_cache *cache, bool prefetch, struct error *err)
{
    bool compressed = strcmp(m->compression, "none") != 0;
    struct envelope envelope = envelope_of(m);
    struct view *below = p->view;

    p->checked = compressed || m->envelope != ENVELOPE_NONE;
    if (m->envelope != ENVELOPE_NONE) {
        p->view = NULL;
        if (envelope_view_new(below, key, &envelope, cache, prefetch && !compressed, &p->view,
                              err) != 0)
            return envelope_failed(err);
        below = p->view;
    }
    if (compressed) {
        p->view = NULL;
        if (seekable_view_new(below, cache, prefetch, &p->view, err) != 0)
            return -1;
    }
    if (p->view->size != m->content_bytes)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "it holds %" PRIu64 " bytes of content, its manifest says %" PRIu64,
                         p->view->size, m->content_bytes);
    return 0;
}

/* Owns `object` in any case. */
static int payload_new(struct object *object, const struct manifest *m, const struct key *key,
                       struct frame_cache *cache, bool prefetch, bool whole, struct payload **out,
                       struct error *err)
{
    struct payload *p = xcalloc(1, sizeof *p);

    p->view = object_view_new(object);
    if (whole)
        p->view = p->digest = digest_view_new(p->view, &m->stored);
    if (check_size(object, m, err) != 0) {
        payload_close(p);
        return -1;
    }
    if (add_layers(p, m, key, cache, prefetch, err) != 0) {
        payload_close(p);
        return error_context(err, ARCHIVE_PAYLOAD);
    }
    *out = p;
    return 0;
}

static int open_layers(const struct archive *a, struct frame_cache *cache, bool prefetch,
                       bool whole, struct payload **out, struct error *err)
{
    const struct manifest *m = &a->manifest;
    struct object *o;

    if (archive_open(a->destination, m->backup_id, ARCHIVE_PAYLOAD, &o, err) != 0)
        return -1;
    return payload_new(o, m, a->key, cache, prefetch, whole, out, err);
}

int payload_open(const struct archive *a, struct frame_cache *cache, bool prefetch,
                 struct payload **out, struct error *err)
{
    return open_layers(a, cache, prefetch, false, out, err);
}

uint64_t payload_size(const struct payload *p)
{
    return p->view->size;
}

bool payload_checked(const struct payload *p)
{
    return p->checked;
}

ssize_t payload_pread(struct payload *p, void *buf, size_t len, uint64_t offset, struct error *err)
{
    ssize_t n = view_pread(p->view, buf, len, offset, err);

    if (n < 0) {
        envelope_failed(err);
        return error_context(err, ARCHIVE_PAYLOAD);
    }
    return n;
}

void payload_close(struct payload *p)
{
    if (!p)
        return;
    view_free(p->view);
    free(p);
}

/* ---- the whole, in order ---- */

struct payload_reader {
    struct reader reader;
    struct payload *payload;
    uint64_t offset;
};

static ssize_t reader_pread(struct reader *r, void *buf, size_t len, struct error *err)
{
    struct payload_reader *p = (struct payload_reader *)r;
    ssize_t n = payload_pread(p->payload, buf, len, p->offset, err);

    if (n > 0)
        p->offset += (uint64_t)n;
    return n;
}

static int reader_judge(struct reader *r, struct error *err)
{
    struct payload_reader *p = (struct payload_reader *)r;
    __attribute__((cleanup(free_charp))) char *rest = xmalloc(LIMIT_STREAM_CHUNK);
    ssize_t n;

    while ((n = reader_pread(r, rest, LIMIT_STREAM_CHUNK, err)) > 0)
        ;
    if (n < 0)
        return -1;
    if (p->offset != payload_size(p->payload))
        return error_set(err, ERR_INTEGRITY_FAILED,
                         ARCHIVE_PAYLOAD ": truncated: its content ends at byte %" PRIu64
                                         " of %" PRIu64,
                         p->offset, payload_size(p->payload));
    if (digest_view_judge(p->payload->digest, err) != 0)
        return error_context(err, ARCHIVE_PAYLOAD);
    return 0;
}

static void reader_release(struct reader *r)
{
    struct payload_reader *p = (struct payload_reader *)r;

    payload_close(p->payload);
    free(p);
}

static struct reader *read_in_order(struct payload *payload)
{
    static const struct reader_ops ops = {
        .read = reader_pread, .finish = reader_judge, .free = reader_release};
    struct payload_reader *p = xcalloc(1, sizeof *p);

    p->reader.ops = &ops;
    p->payload = payload;
    return &p->reader;
}

int payload_reader(const struct archive *a, struct frame_cache *cache, struct reader **out,
                   struct error *err)
{
    struct payload *p;

    if (open_layers(a, cache, false, true, &p, err) != 0)
        return -1;
    *out = read_in_order(p);
    return 0;
}

int payload_reader_new(struct object *object, const struct manifest *m, const struct key *key,
                       struct frame_cache *cache, struct reader **out, struct error *err)
{
    struct payload *p;

    if (payload_new(object, m, key, cache, false, true, &p, err) != 0)
        return -1;
    *out = read_in_order(p);
    return 0;
}
