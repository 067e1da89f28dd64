/* SPDX-License-Identifier: MIT */
/*
 * fsck_repo.c - one repo: its groups against the rows of the catalog, each archive by itself.
 *
 * A look is a listing of the groups, then the active jobs, then the rows. An archive's life beside
 * a daemon is
 *
 *   job running -> <ulid>.tmp -> <ulid> -> row good and job ended, at once
 *   [-> row deleting -> group gone -> row gone]
 *
 * or, if it fails, <ulid>.tmp gone -> job ended. It never goes back, so in that order of looking:
 *
 *   - a .tmp or an archive that was listed has a running job or, later, a good row; without either,
 *     its job ended, or it was deleted, between the listing and the rows
 *   - a good row whose archive was not listed was published after the listing
 *
 * What looks wrong for these reasons looks right the second time, since then the listing comes
 * after the first look's rows. What is wrong looks the same. An archive that is deleted while it is
 * read gives errors; the second look does not have it any more.
 *
 * What is absent counts only in the very place where it was: a repo that was used and is not
 * recognised is said to be unreadable, and nothing more.
 */
#include "fsck_internal.h"

#include "archive/payload.h"
#include "util/buf.h"
#include "util/ulid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A group with the name of an archive, or a good row, or both. */
struct entry {
    char ulid[ULID_LEN + 1];
    bool stored;    /* listed as a group */
    bool partial;   /* one that was never committed */
    bool in_work;   /* a job of a living daemon makes it */
    bool known;     /* it has a row, of this repo or another one */
    bool elsewhere; /* of another one */
    enum record_state state;
    struct record record;
    enum finding suspect;
    struct error *why; /* NULL: nothing is wrong */
};

struct look {
    struct fsck *fsck;
    const struct repo *repo;
    struct entry *entries; /* ascending */
    size_t count, room, listed;
    bool used; /* archives were kept at this very place */
};

struct repo_check {
    struct fsck *fsck;
    const struct repo *repo;
    struct destination *destination;
    struct archive_policy policy;
};

/* ---- looking ---- */

static int by_ulid(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = strcmp(x->ulid, y->ulid);

    return order ? order : (int)x->partial - (int)y->partial;
}

static struct entry *add_entry(struct look *l, const char *ulid)
{
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 64;
        l->entries = xrealloc(l->entries, l->room * sizeof l->entries[0]);
    }
    struct entry *e = &l->entries[l->count++];
    *e = (struct entry){0};
    memcpy(e->ulid, ulid, sizeof e->ulid);
    return e;
}

/* Among the first `count` entries, which are sorted. */
static struct entry *find_entry(const struct look *l, size_t count, const char *ulid, bool partial)
{
    struct entry key = {.partial = partial};

    memcpy(key.ulid, ulid, sizeof key.ulid);
    return count ? bsearch(&key, l->entries, count, sizeof key, by_ulid) : NULL;
}

static int take_group(void *ctx, const char *group, bool partial, struct error *err)
{
    (void)err;
    if (ulid_valid(group)) {
        struct entry *e = add_entry(ctx, group);
        e->stored = true;
        e->partial = partial;
    }
    return 0;
}

static void take_record(void *ctx, const struct record *r)
{
    struct look *l = ctx;
    struct entry *e = find_entry(l, l->listed, r->ulid, false);

    if (!e)
        e = add_entry(l, r->ulid);
    e->known = true;
    e->state = RECORD_GOOD;
    e->record = *r;
}

/* The row of a group that has no good one in this repo. */
static int find_row(struct catalog *c, const struct repo *repo, struct entry *e, struct error *err)
{
    if (e->known || e->partial)
        return 0;
    if (catalog_record_find(c, e->ulid, &e->record, &e->state, err) != 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    e->known = true;
    e->elsewhere =
        strcmp(e->record.store, repo->store->id) != 0 || strcmp(e->record.repo, repo->id) != 0;
    return 0;
}

/* A job that has not ended, without a daemon, makes nothing any more. */
static int mark_jobs(struct catalog *c, struct look *l, struct error *err)
{
    struct active_jobs active = {0};
    int result = fsck_active_jobs(c, &active, err);
    bool alive = result == 0 && active.count > 0 && fsck_daemon_runs(l->fsck);

    for (size_t i = 0; alive && i < active.count; i++)
        for (int partial = 0; active.jobs[i].record[0] && partial <= 1; partial++) {
            struct entry *e = find_entry(l, l->listed, active.jobs[i].record, partial);
            if (e)
                e->in_work = true;
        }
    free(active.jobs);
    return result;
}

static int look_at_rows(struct catalog *c, void *ctx, struct error *err)
{
    struct look *l = ctx;
    const struct repo *repo = l->repo;

    l->count = l->listed;
    for (size_t i = 0; i < l->listed; i++)
        l->entries[i].in_work = l->entries[i].known = false;
    if (catalog_repo_is_used(c, repo->store->id, repo->id, repo->place, &l->used, err) != 0 ||
        mark_jobs(c, l, err) != 0 ||
        catalog_records_of_repo(c, repo->store->id, repo->id, take_record, l, err) != 0)
        return -1;
    for (size_t i = 0; i < l->listed; i++)
        if (find_row(c, repo, &l->entries[i], err) != 0)
            return -1;
    return 0;
}

/* `d` is NULL for the rows alone. The look is freed by the caller, also after a failure. */
static int take_look(struct fsck *f, const struct repo *repo, struct destination *d, struct look *l,
                     struct error *err)
{
    *l = (struct look){.fsck = f, .repo = repo};
    if (d && d->kind->list(d, take_group, l, err) != 0)
        return -1;
    l->listed = l->count;
    if (l->count > 0)
        qsort(l->entries, l->count, sizeof l->entries[0], by_ulid);
    (void)fsck_look(f, look_at_rows, l);
    if (l->count > 0)
        qsort(l->entries, l->count, sizeof l->entries[0], by_ulid);
    return 0;
}

static void release_look(struct look *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->entries[i].why);
    free(l->entries);
}

/* ---- one archive ---- */

static struct error *suspect(struct entry *e, enum finding what)
{
    if (!e->why)
        e->why = xcalloc(1, sizeof *e->why);
    e->suspect = what;
    return e->why;
}

/* Names the first thing in which the row is not what the manifest says. */
static const char *difference(const struct record *r, const struct archive *a)
{
    const struct manifest *m = &a->manifest;

    if (strcmp(r->sha256, m->stored.sha256) != 0)
        return "sha256";
    if (r->size_bytes != m->stored.size)
        return "size_bytes";
    if (r->content_bytes != m->content_bytes)
        return "content_bytes";
    if (r->created_at != m->created_at)
        return "created_at";
    if (strcmp(r->store_kind, m->store_kind) != 0)
        return "store_kind";
    if (r->manifest_bytes != a->manifest_bytes)
        return "the manifest's size";
    if (r->payload_id_count != m->payload_id_count)
        return "payload_id_count";
    return r->payload_ids_bytes != a->ids_bytes ? "the size of payload_ids" : NULL;
}

static void suspect_difference(struct entry *e, const char *what)
{
    error_set(suspect(e, RECORD_DIFFERS), ERR_DAMAGED,
              "the catalog and the archive have different values for %s: another archive stands in "
              "its place, or one of both was altered",
              what);
}

/* What of an archive can be said that has no key: its manifest, which only its MAC makes sure of,
 * may contradict the row, or name another store. */
static bool judge_manifest(struct repo_check *c, struct entry *e)
{
    struct manifest m;
    struct error err;

    if (archive_manifest(c->destination, e->ulid, &m, NULL, &err) != 0)
        return false;
    if (e->known && strcmp(m.stored.sha256, e->record.sha256) != 0)
        suspect_difference(e, "sha256");
    else if (!e->known && strcmp(m.store_id, c->repo->store->id) != 0)
        error_set(suspect(e, ARCHIVE_MISPLACED), ERR_DAMAGED,
                  "it is an archive of store %s and never listed here: move it to where it belongs",
                  m.store_id);
    manifest_release(&m);
    return e->why != NULL;
}

/* What a failure to examine or to read says about the archive; `damage` if it is damage. */
static enum finding finding_of(const struct error *err, enum finding damage)
{
    switch (err->code) {
    case ERR_DESTINATION_CREDENTIALS_INVALID:
        return KEY_MISSING;
    case ERR_DECRYPT_FAILED:
        return damage == ARCHIVE_DAMAGED ? KEY_MISSING : damage;
    case ERR_MANIFEST_UNSUPPORTED:
        return ARCHIVE_UNSUPPORTED;
    case ERR_ENCRYPTION_REQUIRED:
        return ARCHIVE_REFUSED;
    case ERR_DESTINATION_UNREACHABLE:
    case ERR_DESTINATION_PERMISSION_DENIED:
    case ERR_INTERNAL:
        return ARCHIVE_UNREADABLE;
    default:
        return damage;
    }
}

static void judge_failure(struct repo_check *c, struct entry *e, const struct error *err)
{
    bool good = e->known && e->state == RECORD_GOOD;

    if (err->code == ERR_MANIFEST_MISSING && good)
        error_set(suspect(e, ARCHIVE_DAMAGED), ERR_DAMAGED,
                  "its manifest is gone: the next start takes what is left for half deleted, and "
                  "removes it");
    else if (err->code == ERR_MANIFEST_MISSING)
        error_set(suspect(e, HALF_DELETED_ARCHIVE), ERR_REPAIRABLE,
                  "it has no manifest: its deletion was cut short, and the next start ends it");
    else if (!judge_manifest(c, e))
        *suspect(e, finding_of(err, ARCHIVE_DAMAGED)) = *err;
}

static int read_all(struct fsck *f, const struct archive *a, struct error *err)
{
    struct reader *in;

    if (payload_reader(a, f->cache, &in, err) != 0)
        return -1;
    int result = reader_finish(in, err);
    reader_free(in);
    return result == 0 ? archive_check_ids(a, err) : -1;
}

static void judge_archive(struct repo_check *c, struct entry *e)
{
    struct fsck *f = c->fsck;
    struct archive a;
    struct error err;

    if (archive_examine(c->destination, e->ulid, &c->policy, &a, &err) != 0) {
        f->archives += err.code != ERR_MANIFEST_MISSING;
        judge_failure(c, e, &err);
        return;
    }
    f->archives++;
    const char *what = e->known && e->state == RECORD_GOOD ? difference(&e->record, &a) : NULL;
    if (what)
        suspect_difference(e, what);
    else if (f->deep && read_all(f, &a, &err) != 0)
        *suspect(e, finding_of(&err, PAYLOAD_DAMAGED)) = err;
    else if (!f->blind && (!e->known || e->state == RECORD_MISSING))
        error_set(suspect(e, ARCHIVE_WITHOUT_RECORD), ERR_REPAIRABLE,
                  "it is whole and not listed: the next start adopts it");
    archive_release(&a);
}

/* ---- one entry ---- */

static void judge_partial(struct repo_check *c, struct entry *e)
{
    if (!e->in_work && !c->fsck->blind)
        error_set(suspect(e, PARTIAL_ARCHIVE), ERR_REPAIRABLE,
                  "it was left half-written by a job that died: the next start removes it");
}

static void judge(struct repo_check *c, struct entry *e)
{
    if (e->partial)
        judge_partial(c, e);
    else if (!e->stored)
        error_set(suspect(e, RECORD_WITHOUT_ARCHIVE), ERR_REPAIRABLE,
                  "its archive is not in %s any more: the next start takes it off the list",
                  c->repo->place);
    else if (e->elsewhere)
        error_set(suspect(e, ARCHIVE_MISPLACED), ERR_DAMAGED,
                  "the record of that id is one of %s/%s, and an archive of it is here",
                  e->record.store, e->record.repo);
    else if (e->known && e->state == RECORD_DELETING)
        error_set(suspect(e, DELETION_UNFINISHED), ERR_REPAIRABLE,
                  "its deletion was begun and is not done");
    else if (e->known || !e->in_work)
        judge_archive(c, e);
}

/* Is it as it was at the first look? */
static bool stands(const struct look *again, const struct entry *e)
{
    const struct entry *now = find_entry(again, again->count, e->ulid, e->partial);

    return now && now->stored == e->stored && now->in_work == e->in_work &&
           now->known == e->known && (!e->known || now->state == e->state) &&
           now->elsewhere == e->elsewhere;
}

static void report(struct repo_check *c, const struct look *first, const struct look *again)
{
    for (size_t i = 0; i < first->count; i++) {
        const struct entry *e = &first->entries[i];
        struct subject about = {c->repo->store->id, c->repo->id, e->ulid};
        if (!e->why || !stands(again, e))
            continue;
        if (e->suspect == DELETION_UNFINISHED && fsck_daemon_runs(c->fsck))
            continue;
        fsck_find(c->fsck, e->suspect, &about, e->why);
    }
}

/* ---- the repo ---- */

static int judge_all(struct repo_check *c, struct look *first, struct error *err)
{
    struct look again;
    bool any = false;

    for (size_t i = 0; i < first->count; i++) {
        judge(c, &first->entries[i]);
        any |= first->entries[i].why != NULL;
    }
    if (!any)
        return 0;
    int result = take_look(c->fsck, c->repo, c->destination, &again, err);
    if (result == 0)
        report(c, first, &again);
    release_look(&again);
    return result;
}

static int check_place(struct repo_check *c, struct error *err)
{
    struct look first;
    struct error why;
    int result = take_look(c->fsck, c->repo, c->destination, &first, err);

    if (result == 0 && first.used && c->destination->kind->recognise(c->destination, &why) != 0) {
        *err = why;
        result = -1;
    }
    if (result == 0)
        result = judge_all(c, &first, err);
    release_look(&first);
    return result;
}

/* Does anybody expect archives here? If not, the first backup makes the place. */
static bool is_expected(struct fsck *f, const struct repo *repo)
{
    struct look rows;
    struct error err;

    (void)take_look(f, repo, NULL, &rows, &err);
    bool expected = f->blind || rows.used || rows.count > 0;
    release_look(&rows);
    return expected;
}

void fsck_repo(struct fsck *f, const struct repo *repo)
{
    const struct subject about = {.store = repo->store->id, .repo = repo->id};
    struct repo_check c = {.fsck = f, .repo = repo, .policy = archive_policy_of(repo)};
    struct error err;

    if (repo->kind->open(&repo->settings, 0, &c.destination, &err) != 0) {
        if (err.code != ERR_DESTINATION_NOT_FOUND || is_expected(f, repo))
            fsck_find(f, REPO_UNREADABLE, &about, &err);
        return;
    }
    if (check_place(&c, &err) != 0)
        fsck_find(f, REPO_UNREADABLE, &about, &err);
    repo->kind->close(c.destination);
}
