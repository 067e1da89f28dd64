/* SPDX-License-Identifier: MIT */
/*
 * fixture.h - archives for tests: published into a place, altered behind keepfs's back, read back.
 *
 * It also has a destination kind with faults of its own: `local`, but its open_object, pread and
 * discard can be told to fail. Include it after cmocka.
 */
#ifndef TESTS_ARCHIVE_FIXTURE_H
#define TESTS_ARCHIVE_FIXTURE_H

#include "../destination/place.h"
#include "archive/payload.h"

/* In ascending order. */
#define ULID_1 "01HXYZ0123456789ABCDEFGHJ1"
#define ULID_2 "01HXYZ0123456789ABCDEFGHJ2"
#define ULID_3 "01HXYZ0123456789ABCDEFGHJ3"
#define ULID_4 "01HXYZ0123456789ABCDEFGHJ4"

static inline struct manifest manifest_of(const char *ulid, int version, size_t content)
{
    struct manifest m = {.version = version, .created_at = 1795242628123};

    snprintf(m.backup_id, sizeof m.backup_id, "%s", ulid);
    snprintf(m.store_id, sizeof m.store_id, "app");
    snprintf(m.store_kind, sizeof m.store_kind, "sqlite");
    snprintf(m.compression, sizeof m.compression, "none");
    m.content_bytes = content;
    return m;
}

static inline void manifest_add_id(struct manifest *m, const char *id)
{
    m->payload_ids = xrealloc(m->payload_ids, (m->payload_id_count + 1) * sizeof(char *));
    m->payload_ids[m->payload_id_count++] = xstrdup(id);
}

/* Publishes `m` with that payload. -1 with err. */
static inline int publish(struct destination *d, struct manifest *m, const void *data, size_t len,
                          struct error *err)
{
    struct publish *p;
    uint64_t manifest_bytes, ids_bytes;

    if (publish_begin(d, m->backup_id, &p, err) != 0)
        return -1;
    struct writer *w = publish_payload(p);
    int result = writer_write(w, data, len, err);
    if (result == 0)
        result = writer_finish(w, err);
    writer_free(w);
    if (result == 0)
        result = publish_commit(p, m, NULL, &manifest_bytes, &ids_bytes, err);
    publish_free(p);
    return result;
}

static const char fixture_payload[] = "the bytes of a backup\n";
enum { FIXTURE_BYTES = sizeof fixture_payload - 1 };

/* An archive of the fixture's payload and two payload ids. */
static inline int publish_fixture(struct destination *d, const char *ulid, struct error *err)
{
    struct manifest m = manifest_of(ulid, MANIFEST_V2, FIXTURE_BYTES);

    manifest_add_id(&m, "two");
    manifest_add_id(&m, "one");
    int result = publish(d, &m, fixture_payload, FIXTURE_BYTES, err);
    manifest_release(&m);
    return result;
}

static inline void publish_ok(struct destination *d, const char *ulid)
{
    struct error err = {0};

    if (publish_fixture(d, ulid, &err) != 0)
        fail_msg("cannot publish: %s", err.message);
}

/* A policy under which every archive may be read that needs no key. */
static const struct archive_policy fixture_policy = {.min_envelope = ENVELOPE_NONE};

/* The payload, read to its end and judged. *read gets the bytes that came before that. */
static inline int read_archive(struct destination *d, const char *ulid, size_t *read,
                               struct error *err)
{
    struct archive a;
    struct frame_cache *cache = frame_cache_new(0);
    struct reader *r = NULL;
    char buf[7];
    ssize_t n = 0;

    *read = 0;
    int result = archive_examine(d, ulid, &fixture_policy, &a, err);
    if (result == 0) {
        result = payload_reader(&a, cache, &r, err);
        archive_release(&a);
    }
    while (result == 0 && (n = reader_read(r, buf, sizeof buf, err)) > 0)
        *read += (size_t)n;
    if (result == 0)
        result = n < 0 ? -1 : reader_finish(r, err);
    reader_free(r);
    frame_cache_free(cache);
    return result;
}

/* All of the fixture's bytes come back, and are right. */
static inline void expect_whole(struct destination *d, const char *ulid)
{
    struct error err = {0};
    size_t read;

    if (read_archive(d, ulid, &read, &err) != 0)
        fail_msg("archive %s is not whole: %s", ulid, err.message);
    assert_int_equal(read, FIXTURE_BYTES);
}

static inline struct publish *publish_begin_ok(struct destination *d, const char *ulid)
{
    struct publish *p;
    struct error err = {0};

    if (publish_begin(d, ulid, &p, &err) != 0)
        fail_msg("cannot begin: %s", err.message);
    return p;
}

/* "ULID ULID " of archive_list. */
static inline void expect_archives(struct destination *d, const char *expected)
{
    struct archive_list list;
    struct error err = {0};
    struct buf text = BUF_INIT;

    if (archive_list(d, &list, &err) != 0)
        fail_msg("cannot list: %s", err.message);
    for (size_t i = 0; i < list.count; i++)
        buf_addf(&text, "%s ", list.ids[i]);
    assert_string_equal(buf_text(&text), expected);
    archive_list_free(&list);
    buf_release(&text);
}

/* "ULID " for a half-deleted and "ULID? " for a partial group that archive_sweep removed. */
static inline void fixture_swept(void *ctx, const char *ulid, bool partial)
{
    buf_addf(ctx, "%s%s ", ulid, partial ? "?" : "");
}

/* The one archive that is known to be good; "" for none. */
static const char *fixture_kept = "";

static inline bool fixture_keep(void *ctx, const char *ulid)
{
    (void)ctx;
    return strcmp(ulid, fixture_kept) == 0;
}

static inline int sweep(struct destination *d, struct buf *swept, struct error *err)
{
    buf_truncate(swept, 0);
    static const struct archive_sweep_ops ops = {.keep = fixture_keep, .swept = fixture_swept};

    return archive_sweep(d, &ops, swept, err);
}

/* A whole file below the root; the caller releases it. */
static inline struct buf place_read(const struct place *p, const char *name)
{
    char *path = place_path(p, "%s", name);
    struct buf text = BUF_INIT;
    char part[4096];
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        buf_add(&text, part, n);
    fclose(f);
    free(path);
    return text;
}

/* Replaces the first `from` in a file. */
static inline void place_replace(const struct place *p, const char *name, const char *from,
                                 const char *to)
{
    struct buf text = place_read(p, name);
    char *at = strstr(text.data, from);

    assert_non_null(at);
    char *changed = xasprintf("%.*s%s%s", (int)(at - text.data), text.data, to, at + strlen(from));
    place_file(p, name, changed, strlen(changed));
    free(changed);
    buf_release(&text);
}

/* ---- faults ---- */

static struct {
    const struct destination_kind *real;
    int opens, preads; /* calls so far */
    int fail_open;     /* the call that fails; 0 = none */
    int fail_pread;
    int errnum; /* of the failure */
} faulty;

static inline int faulty_open_object(struct destination *d, const char *group, const char *name,
                                     struct object **out, struct error *err);

static inline ssize_t faulty_pread(struct object *o, void *buf, size_t len, uint64_t offset,
                                   struct error *err)
{
    if (++faulty.preads == faulty.fail_pread)
        return error_sys(err, SIDE_DESTINATION, faulty.errnum, "injected");
    return faulty.real->pread(o, buf, len, offset, err);
}

/* Makes the open destination `d` fail as `faulty` says from now on. */
static inline void faulty_install(struct destination *d)
{
    static struct destination_kind kind;

    memset(&faulty, 0, sizeof faulty);
    faulty.real = d->kind;
    faulty.errnum = EIO;
    kind = *d->kind;
    kind.open_object = faulty_open_object;
    kind.pread = faulty_pread;
    d->kind = &kind;
}

static inline int faulty_open_object(struct destination *d, const char *group, const char *name,
                                     struct object **out, struct error *err)
{
    if (++faulty.opens == faulty.fail_open)
        return error_sys(err, SIDE_DESTINATION, faulty.errnum, "injected");
    if (faulty.real->open_object(d, group, name, out, err) != 0)
        return -1;
    (*out)->kind = d->kind;
    return 0;
}

#endif
