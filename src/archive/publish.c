/* SPDX-License-Identifier: MIT */
/*
 * publish.c - archives as groups of a destination: what is written and removed, and in what order.
 *
 * The manifest is the marker: an archive exists from the moment it is there until the moment it
 * is deleted. So it is written last and deleted first, and everything else about an archive may be
 * in any state of completion without anybody taking it for one.
 *
 * What a crash leaves, and who removes it:
 *   during publish   a partial group, which the destination keeps apart     sweep: discard
 *   during delete    a group without manifest                               sweep: delete again
 *
 * A sweep decides on absence, so it takes only a definite absence for one: it lists and looks at
 * everything before it removes anything, ends at the first doubt, and looks once more right before
 * each removal of a group that has a whole archive's name.
 */
#include "archive/publish.h"

#include "util/ulid.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct publish {
    struct destination *destination;
    struct put *put;
    char ulid[ULID_LEN + 1];
    struct writer *payload; /* until the caller takes it */
    struct digest stored;   /* empty until the payload is finished */
};

static int check_id(const char *ulid, struct error *err)
{
    return ulid_valid(ulid)
               ? 0
               : error_set(err, ERR_INVALID, "'%s' is no ULID, so no archive's id", ulid);
}

/* The destination is sure that the object is not there. */
static bool is_absence(const struct error *e)
{
    return e->code == ERR_DESTINATION_NOT_FOUND && e->errnum == ENOENT;
}

/* ---- publish ---- */

int publish_begin(struct destination *d, const char *ulid, struct publish **out, struct error *err)
{
    struct put *put;
    struct writer *object;

    if (check_id(ulid, err) != 0 || d->kind->put_begin(d, ulid, &put, err) != 0)
        return -1;
    if (d->kind->put_object(put, ARCHIVE_PAYLOAD, &object, err) != 0) {
        d->kind->put_free(put);
        return -1;
    }
    struct publish *p = xcalloc(1, sizeof *p);
    p->destination = d;
    p->put = put;
    memcpy(p->ulid, ulid, sizeof p->ulid);
    p->payload = digest_writer_new(object, &p->stored);
    *out = p;
    return 0;
}

struct writer *publish_payload(struct publish *p)
{
    struct writer *w = p->payload;

    assert(w);
    p->payload = NULL;
    return w;
}

const struct digest *publish_stored(const struct publish *p)
{
    return &p->stored;
}

int publish_reopen(struct publish *p, struct object **out, struct error *err)
{
    return p->destination->kind->put_reopen(p->put, ARCHIVE_PAYLOAD, out, err);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the ids and drops what is there twice. */
static void sort_ids(struct manifest *m)
{
    uint64_t kept = 0;

    if (m->payload_id_count == 0)
        return;
    qsort(m->payload_ids, m->payload_id_count, sizeof m->payload_ids[0], by_bytes);
    for (uint64_t i = 1; i < m->payload_id_count; i++)
        if (strcmp(m->payload_ids[i], m->payload_ids[kept]) == 0)
            free(m->payload_ids[i]);
        else
            m->payload_ids[++kept] = m->payload_ids[i];
    m->payload_id_count = kept + 1;
}

/* Writes what `fill` gives as one object, durable when this returns 0. */
static int put_whole(struct publish *p, const char *name,
                     int (*fill)(struct writer *w, const void *ctx, struct error *err),
                     const void *ctx, struct digest *written, struct error *err)
{
    struct writer *object;

    if (p->destination->kind->put_object(p->put, name, &object, err) != 0)
        return -1;
    struct writer *w = digest_writer_new(object, written);
    int result = fill(w, ctx, err);
    if (result == 0)
        result = writer_finish(w, err);
    writer_free(w);
    return result;
}

static int fill_ids(struct writer *w, const void *ctx, struct error *err)
{
    const struct manifest *m = ctx;

    for (uint64_t i = 0; i < m->payload_id_count; i++) {
        size_t len = strlen(m->payload_ids[i]);
        if (writer_write(w, m->payload_ids[i], len, err) != 0 || writer_write(w, "\n", 1, err) != 0)
            return -1;
    }
    return 0;
}

static int fill_text(struct writer *w, const void *ctx, struct error *err)
{
    const struct buf *text = ctx;

    return writer_write(w, text->data, text->len, err);
}

/* Version 2 keeps the ids apart: an object of their own, whose digest is in the manifest. */
static int put_ids(struct publish *p, struct manifest *m, struct digest *written, struct error *err)
{
    *written = (struct digest){0};
    m->payload_ids_sha256[0] = '\0';
    if (m->version == MANIFEST_V1 || m->payload_id_count == 0)
        return 0;
    if (put_whole(p, ARCHIVE_PAYLOAD_IDS, fill_ids, m, written, err) != 0)
        return -1;
    memcpy(m->payload_ids_sha256, written->sha256, sizeof m->payload_ids_sha256);
    return 0;
}

int publish_commit(struct publish *p, struct manifest *m, const struct key *key,
                   uint64_t *manifest_bytes, uint64_t *ids_bytes, struct error *err)
{
    struct buf text = BUF_INIT;
    struct digest ids, written;

    assert(!p->payload && p->stored.sha256[0] && strcmp(p->ulid, m->backup_id) == 0);
    m->stored = p->stored;
    sort_ids(m);
    int result = put_ids(p, m, &ids, err);
    if (result == 0)
        result = manifest_write(m, key, &text, err);
    if (result == 0)
        result = put_whole(p, ARCHIVE_MANIFEST, fill_text, &text, &written, err);
    if (result == 0)
        result = p->destination->kind->put_commit(p->put, err);
    if (result == 0) {
        *manifest_bytes = written.size;
        *ids_bytes = ids.size;
    }
    buf_release(&text);
    return result;
}

void publish_free(struct publish *p)
{
    if (!p)
        return;
    writer_free(p->payload);
    p->destination->kind->put_free(p->put);
    free(p);
}

/* ---- read ---- */

/* The whole manifest object; its size is judged before anything is read. */
static int read_text(struct object *o, struct buf *out, struct error *err)
{
    if (o->size > LIMIT_MANIFEST)
        return error_set(err, ERR_MANIFEST_INVALID, "it has more than %zu bytes", LIMIT_MANIFEST);
    size_t room = (size_t)o->size + 1; /* one more, to notice that it grew */
    __attribute__((cleanup(free_charp))) char *data = xmalloc(room);
    size_t len = 0;
    while (len < room) {
        ssize_t n = o->kind->pread(o, data + len, room - len, len, err);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    if (len != o->size)
        return error_set(err, ERR_MANIFEST_INVALID, "its size changed while it was read");
    buf_add(out, data, len);
    return 0;
}

static int parse_text(const struct buf *text, const char *ulid, struct manifest *out,
                      struct error *err)
{
    struct manifest m;

    if (manifest_read(buf_text(text), text->len, &m, err) != 0)
        return -1;
    if (strcmp(m.backup_id, ulid) != 0) {
        error_set(err, ERR_MANIFEST_INVALID, "backup_id: it is the manifest of archive %s",
                  m.backup_id);
        manifest_release(&m);
        return -1;
    }
    *out = m;
    return 0;
}

int archive_manifest(struct destination *d, const char *ulid, struct manifest *out,
                     struct buf *text, struct error *err)
{
    struct buf whole = BUF_INIT;
    struct object *o;
    struct error e;

    if (check_id(ulid, err) != 0)
        return -1;
    if (d->kind->open_object(d, ulid, ARCHIVE_MANIFEST, &o, &e) != 0) {
        if (is_absence(&e))
            return error_set(err, ERR_MANIFEST_MISSING, "there is no archive %s (%s)", ulid,
                             e.message);
        *err = e;
        return -1;
    }
    int result = read_text(o, &whole, err);
    d->kind->close_object(o);
    if (result == 0)
        result = parse_text(&whole, ulid, out, err);
    if (result != 0)
        error_context(err, "%s/" ARCHIVE_MANIFEST, ulid);
    else if (text)
        buf_add(text, whole.data, whole.len);
    buf_release(&whole);
    return result;
}

int archive_open(struct destination *d, const char *ulid, const char *name, struct object **out,
                 struct error *err)
{
    struct error e;

    if (check_id(ulid, err) != 0)
        return -1;
    if (d->kind->open_object(d, ulid, name, out, &e) == 0)
        return 0;
    if (is_absence(&e))
        return error_set(err, ERR_ARCHIVE_INCOMPLETE, "archive %s has no %s any more (%s)", ulid,
                         name, e.message);
    *err = e;
    return -1;
}

/* ---- list ---- */

/* Whether the archive's marker is there; -1 if that cannot be said. */
static int has_manifest(struct destination *d, const char *ulid, bool *has, struct error *err)
{
    struct object *o;
    struct error e;

    if (d->kind->open_object(d, ulid, ARCHIVE_MANIFEST, &o, &e) == 0) {
        d->kind->close_object(o);
        *has = true;
        return 0;
    }
    *has = false;
    if (is_absence(&e))
        return 0;
    *err = e;
    return -1;
}

/* All groups with the name of an archive. */
struct inventory {
    struct archive_group {
        char ulid[ULID_LEN + 1];
        bool partial;  /* the destination says that it was never committed */
        bool complete; /* it has a manifest */
    } * groups;
    size_t count, room;
};

static int take_group(void *ctx, const char *group, bool partial, struct error *err)
{
    struct inventory *inv = ctx;

    (void)err;
    if (!ulid_valid(group))
        return 0;
    if (inv->count == inv->room) {
        inv->room = inv->room ? inv->room * 2 : 64;
        inv->groups = xrealloc(inv->groups, inv->room * sizeof inv->groups[0]);
    }
    struct archive_group *g = &inv->groups[inv->count++];
    memcpy(g->ulid, group, sizeof g->ulid);
    g->partial = partial;
    g->complete = false;
    return 0;
}

static int by_ulid(const void *a, const void *b)
{
    return strcmp(((const struct archive_group *)a)->ulid, ((const struct archive_group *)b)->ulid);
}

/* Looks at everything, in ascending order; the caller frees inv->groups, also after a failure. */
static int take_inventory(struct destination *d, struct inventory *inv, struct error *err)
{
    *inv = (struct inventory){0};
    if (d->kind->list(d, take_group, inv, err) != 0)
        return -1;
    if (inv->count > 0)
        qsort(inv->groups, inv->count, sizeof inv->groups[0], by_ulid);
    for (size_t i = 0; i < inv->count; i++) {
        struct archive_group *g = &inv->groups[i];
        if (!g->partial && has_manifest(d, g->ulid, &g->complete, err) != 0)
            return -1;
    }
    return 0;
}

int archive_list(struct destination *d, struct archive_list *out, struct error *err)
{
    struct inventory inv;

    if (take_inventory(d, &inv, err) != 0) {
        free(inv.groups);
        return error_context(err, "cannot list the archives");
    }
    out->ids = xcalloc(inv.count, sizeof out->ids[0]);
    out->count = 0;
    for (size_t i = 0; i < inv.count; i++)
        if (inv.groups[i].complete)
            memcpy(out->ids[out->count++], inv.groups[i].ulid, sizeof out->ids[0]);
    free(inv.groups);
    return 0;
}

void archive_list_free(struct archive_list *list)
{
    free(list->ids);
    *list = (struct archive_list){0};
}

/* ---- delete and sweep ---- */

int archive_delete(struct destination *d, const char *ulid, struct error *err)
{
    static const char *const order[] = {ARCHIVE_MANIFEST, ARCHIVE_PAYLOAD_IDS, ARCHIVE_PAYLOAD};

    if (check_id(ulid, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (d->kind->delete_object(d, ulid, order[i], err) != 0)
            return -1;
    return d->kind->delete_group(d, ulid, err);
}

/* Ends the deletion of a group whose manifest is gone; *removed unless it turns out to have one. */
static int end_deletion(struct destination *d, const char *ulid, bool *removed, struct error *err)
{
    bool has;

    *removed = false;
    if (has_manifest(d, ulid, &has, err) != 0)
        return -1;
    if (has)
        return 0;
    if (archive_delete(d, ulid, err) != 0)
        return -1;
    *removed = true;
    return 0;
}

static int sweep_group(struct destination *d, const struct archive_group *g,
                       const struct archive_sweep_ops *ops, void *ctx, struct error *err)
{
    bool removed = true;

    if (!g->partial && ops->keep(ctx, g->ulid))
        return 0;
    int result =
        g->partial ? d->kind->discard(d, g->ulid, err) : end_deletion(d, g->ulid, &removed, err);

    if (result == 0 && removed)
        ops->swept(ctx, g->ulid, g->partial);
    return result;
}

/* A group that holds files of somebody else stays, and must not keep the others from being swept;
 * it is what is reported then. Any other failure ends the sweep. */
int archive_sweep(struct destination *d, const struct archive_sweep_ops *ops, void *ctx,
                  struct error *err)
{
    struct inventory inv;
    struct error e;
    int result = take_inventory(d, &inv, err);
    bool go_on = result == 0;

    for (size_t i = 0; go_on && i < inv.count; i++) {
        if (inv.groups[i].complete || sweep_group(d, &inv.groups[i], ops, ctx, &e) == 0)
            continue;
        *err = e;
        result = -1;
        go_on = e.errnum == ENOTEMPTY;
    }
    free(inv.groups);
    return result;
}
