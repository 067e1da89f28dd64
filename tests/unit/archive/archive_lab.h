/* SPDX-License-Identifier: MIT */
/*
 * archive_lab.h - whole archives in memory, of any kind keepfs writes, to be read, altered and read
 * again.
 *
 *   lab_make     runs content through keepfs's own writers into the three objects of an archive
 *   struct lab   a destination that has one archive and can fail; only what a reader needs
 *   lab_fill     content that is a pure function of its offset: any part of it can be expected
 *                without keeping the whole. A tenth of it does not compress.
 *
 * Keys come from variables of the environment, which lab_key sets; from its first use on keepfs
 * keeps such a key itself.
 */
#ifndef TESTS_ARCHIVE_LAB_H
#define TESTS_ARCHIVE_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/payload.h"
#include "stream/seekable.h"
#include "util/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is this a build that is many times slower than others? */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAB_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LAB_SANITIZED 1
#endif
#endif

#define LAB_ULID   "01HXYZ0123456789ABCDEFGHJ1"
#define LAB_ULID_2 "01HXYZ0123456789ABCDEFGHJ2"
#define LAB_STORE  "app"
#define LAB_TIME   ((time_ms)1795242628123)
#define LAB_KEY    "env:LAB_KEY"   /* what archives are written with */
#define LAB_OTHER  "env:LAB_OTHER" /* a key like any other */
#define LAB_GONE   "env:LAB_GONE"  /* a variable that nobody sets */

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* ---- content ---- */

static inline uint64_t lab_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

typedef void (*lab_fill_fn)(uint64_t offset, unsigned char *out, size_t len);

static inline void lab_fill(uint64_t offset, unsigned char *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint64_t at = offset + i;
        bool noise = lab_mix(at / 64) % 10 == 0;
        out[i] = noise ? (unsigned char)lab_mix(at) : (unsigned char)"keepfs, a backup"[at % 16];
    }
}

static inline void lab_expect(lab_fill_fn fill, uint64_t offset, const void *got, size_t len)
{
    unsigned char *expected = xmalloc(len);

    fill(offset, expected, len);
    if (memcmp(got, expected, len) != 0)
        fail_msg("content differs within %zu bytes at %" PRIu64, len, offset);
    free(expected);
}

/* ---- making an archive ---- */

struct lab_archive {
    char ulid[ULID_LEN + 1];
    struct buf payload, manifest, ids;
    bool has_payload, has_manifest, has_ids;
};

static inline void lab_archive_release(struct lab_archive *a)
{
    buf_release(&a->payload);
    buf_release(&a->manifest);
    buf_release(&a->ids);
    *a = (struct lab_archive){.has_payload = false};
}

struct lab_recipe {
    const char *ulid; /* LAB_ULID if NULL */
    int version;      /* of the manifest; MANIFEST_V2 if 0 */
    bool encrypt;
    bool compress;
    uint32_t frame_size; /* of the envelope; 0 = default */
    const char *ids;     /* as they are stored; NULL = none. Version 2 only */
    int (*random)(void *buf, size_t len);
    void (*alter)(struct manifest *m); /* before it is written; may be NULL */
};

struct lab_sink {
    struct writer writer;
    struct buf *out;
};

static inline int lab_sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    (void)err;
    buf_add(((struct lab_sink *)w)->out, data, len);
    return 0;
}

static inline int lab_sink_finish(struct writer *w, struct error *err)
{
    (void)w;
    (void)err;
    return 0;
}

static inline void lab_sink_free(struct writer *w)
{
    free(w);
}

static inline struct writer *lab_sink_new(struct buf *out)
{
    static const struct writer_ops ops = {
        .write = lab_sink_write, .finish = lab_sink_finish, .free = lab_sink_free};
    struct lab_sink *s = xcalloc(1, sizeof *s);

    s->writer.ops = &ops;
    s->out = out;
    return &s->writer;
}

static inline void lab_ok(int result, const struct error *err)
{
    if (result != 0)
        fail_msg("%s: %s", error_code_name(err->code), err->message);
}

/* Sets the variable of an env: reference to a key that only that name has. */
static inline void lab_key(const char *ref)
{
    char hex[2 * KEY_BYTES + 1];
    uint64_t seed = 0;

    for (const char *p = ref; *p; p++)
        seed = lab_mix(seed ^ (unsigned char)*p);
    for (int i = 0; i < KEY_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)(lab_mix(seed + (unsigned)i) & 0xff));
    assert_int_equal(setenv(ref + strlen("env:"), hex, 1), 0);
}

static inline int lab_keys_setup(void **state)
{
    (void)state;
    lab_key(LAB_KEY);
    lab_key(LAB_OTHER);
    return 0;
}

static inline struct key *lab_load(const char *ref)
{
    struct error err = {0};
    struct key *key;

    lab_ok(key_load(ref, &key, &err), &err);
    return key;
}

static inline int lab_envelope(const struct lab_recipe *r)
{
    if (!r->encrypt)
        return ENVELOPE_NONE;
    return r->version == MANIFEST_V1 ? ENVELOPE_V1 : ENVELOPE_V2;
}

/* What is known of the manifest before the payload is written. */
static inline struct manifest lab_manifest(const struct lab_recipe *r, const struct key *key)
{
    struct manifest m = {.version = r->version ? r->version : MANIFEST_V2,
                         .created_at = LAB_TIME,
                         .encrypted = r->encrypt,
                         .envelope = lab_envelope(r),
                         .compression_level = r->compress ? 3 : 0};
    struct error err = {0};

    snprintf(m.backup_id, sizeof m.backup_id, "%s", r->ulid ? r->ulid : LAB_ULID);
    snprintf(m.store_id, sizeof m.store_id, LAB_STORE);
    snprintf(m.store_kind, sizeof m.store_kind, "sqlite");
    snprintf(m.compression, sizeof m.compression, "%s", r->compress ? "zstd" : "none");
    if (m.envelope == ENVELOPE_V2)
        lab_ok(key_id(key, m.key_id, &err), &err);
    if (m.envelope == ENVELOPE_V1) {
        snprintf(m.encryption_algorithm, sizeof m.encryption_algorithm, "aes-256-gcm");
        snprintf(m.key_ref, sizeof m.key_ref, LAB_KEY);
    }
    return m;
}

/* The chain that the executor builds, down to `out`. */
static inline struct writer *lab_chain(const struct lab_recipe *r, const struct manifest *m,
                                       const struct key *key, struct buf *out,
                                       struct digest *stored)
{
    struct writer *w = digest_writer_new(lab_sink_new(out), stored);
    struct envelope envelope = {.version = m->envelope,
                                .store_id = m->store_id,
                                .record = m->backup_id,
                                .frame_size = r->frame_size,
                                .random = r->random};
    struct error err = {0};

    if (r->encrypt)
        lab_ok(envelope_writer_new(w, key, &envelope, &w, &err), &err);
    if (r->compress)
        lab_ok(seekable_writer_new(w, m->compression_level, 0, &w, &err), &err);
    return w;
}

static inline void lab_write(struct writer *w, lab_fill_fn fill, uint64_t size)
{
    unsigned char *piece = xmalloc(MIB);
    struct error err = {0};

    for (uint64_t at = 0; at < size;) {
        size_t n = size - at < 1000000 ? (size_t)(size - at) : 1000000;
        fill(at, piece, n);
        lab_ok(writer_write(w, piece, n, &err), &err);
        at += n;
    }
    lab_ok(writer_finish(w, &err), &err);
    writer_free(w);
    free(piece);
}

static inline void lab_set_ids(struct manifest *m, const char *ids, struct buf *out)
{
    struct digest digest;
    struct error err = {0};
    struct writer *w = digest_writer_new(lab_sink_new(out), &digest);

    lab_ok(writer_write(w, ids, strlen(ids), &err), &err);
    lab_ok(writer_finish(w, &err), &err);
    writer_free(w);
    memcpy(m->payload_ids_sha256, digest.sha256, sizeof m->payload_ids_sha256);
    for (const char *p = ids; *p; p++)
        m->payload_id_count += *p == '\n';
}

/* The archive of `size` bytes of `fill`; *m (may be NULL) gets its manifest. */
static inline void lab_make(struct lab_archive *a, const struct lab_recipe *r, lab_fill_fn fill,
                            uint64_t size, struct manifest *made)
{
    struct key *key = r->encrypt ? lab_load(LAB_KEY) : NULL;
    struct manifest m = lab_manifest(r, key);
    struct error err = {0};

    *a = (struct lab_archive){.has_payload = true, .has_manifest = true, .has_ids = r->ids};
    snprintf(a->ulid, sizeof a->ulid, "%s", m.backup_id);
    lab_write(lab_chain(r, &m, key, &a->payload, &m.stored), fill, size);
    m.content_bytes = size;
    if (r->ids)
        lab_set_ids(&m, r->ids, &a->ids);
    if (r->alter)
        r->alter(&m);
    lab_ok(manifest_write(&m, key, &a->manifest, &err), &err);
    if (made)
        *made = m;
    key_free(key);
}

/* ---- the destination ---- */

struct lab {
    struct destination destination;
    struct lab_archive *archive;
    const char *fail_open, *fail_pread; /* the object whose use fails with EIO; NULL = none */
    atomic_int opened, preads;          /* objects that are open; calls so far */
};

struct lab_object {
    struct object object;
    struct lab *lab;
    const char *name;
    const struct buf *data;
};

static inline int lab_open_object(struct destination *d, const char *group, const char *name,
                                  struct object **out, struct error *err)
{
    struct lab *lab = (struct lab *)d;
    struct lab_archive *a = lab->archive;
    const struct buf *data = strcmp(name, ARCHIVE_PAYLOAD) == 0    ? &a->payload
                             : strcmp(name, ARCHIVE_MANIFEST) == 0 ? &a->manifest
                                                                   : &a->ids;
    bool there = data == &a->payload    ? a->has_payload
                 : data == &a->manifest ? a->has_manifest
                                        : a->has_ids;

    if (lab->fail_open && strcmp(name, lab->fail_open) == 0)
        return error_sys(err, SIDE_DESTINATION, EIO, "lab: %s", name);
    if (strcmp(group, a->ulid) != 0 || !there)
        return error_sys(err, SIDE_DESTINATION, ENOENT, "lab: %s/%s", group, name);
    struct lab_object *o = xcalloc(1, sizeof *o);
    o->object = (struct object){.kind = d->kind, .size = data->len};
    o->lab = lab;
    o->name = name;
    o->data = data;
    lab->opened++;
    *out = &o->object;
    return 0;
}

/* In pieces, as a destination may. */
static inline ssize_t lab_pread(struct object *object, void *buf, size_t len, uint64_t offset,
                                struct error *err)
{
    struct lab_object *o = (struct lab_object *)object;

    o->lab->preads++;
    if (o->lab->fail_pread && strcmp(o->name, o->lab->fail_pread) == 0)
        return error_sys(err, SIDE_DESTINATION, EIO, "lab: %s", o->name);
    if (offset >= o->data->len)
        return 0;
    if (len > o->data->len - offset)
        len = (size_t)(o->data->len - offset);
    if (len > 300000)
        len = 300000;
    memcpy(buf, o->data->data + offset, len);
    return (ssize_t)len;
}

static inline void lab_close_object(struct object *object)
{
    struct lab_object *o = (struct lab_object *)object;

    if (o)
        o->lab->opened--;
    free(o);
}

static inline struct lab lab_over(struct lab_archive *archive)
{
    static const struct destination_kind kind = {.name = "lab",
                                                 .open_object = lab_open_object,
                                                 .pread = lab_pread,
                                                 .close_object = lab_close_object};

    return (struct lab){.destination = {.kind = &kind}, .archive = archive};
}

/* ---- reading it ---- */

/* A policy that admits what `r` makes and no less. */
static inline struct archive_policy lab_policy(const struct lab_recipe *r)
{
    struct archive_policy p = {.store = LAB_STORE, .min_envelope = lab_envelope(r)};

    if (r->encrypt)
        p.keys[p.key_count++] = LAB_KEY;
    return p;
}

static inline int lab_examine(struct lab *lab, const struct archive_policy *policy,
                              struct archive *out, struct error *err)
{
    return archive_examine(&lab->destination, lab->archive->ulid, policy, out, err);
}

static inline void lab_examine_ok(struct lab *lab, const struct archive_policy *policy,
                                  struct archive *out)
{
    struct error err = {0};

    lab_ok(lab_examine(lab, policy, out, &err), &err);
}

/* It failed with that code, and the message has `why` in it. */
static inline void lab_failed(int result, const struct error *err, enum error_code code,
                              const char *why)
{
    assert_int_equal(result, -1);
    if (err->code != code || !strstr(err->message, why))
        fail_msg("%s: \"%s\" instead of %s: \"%s\"", error_code_name(err->code), err->message,
                 error_code_name(code), why);
}

#endif
