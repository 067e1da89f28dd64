/* SPDX-License-Identifier: MIT */
/*
 * removal.c - what unlink and rmdir do, and the records that are leaving.
 *
 * Deleting is one call of the service, which is done before the answer: a client that was told
 * that payload is gone finds no record in any listing. If two clients remove one record, the second
 * may find nothing (ENOENT), as in any directory.
 *
 * The record is remembered before it is deleted, so that there is no moment at which neither the
 * catalog nor the table knows it; if it could not be deleted it is forgotten again.
 */
#include "fs/removal.h"

#include "fs/files.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/ulid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the records that are leaving ---- */

struct slot {
    struct record record;
    time_ms until; /* 0: unused */
};

struct leaving {
    pthread_mutex_t lock; /* guards all below */
    size_t next;          /* the oldest, to be replaced */
    struct slot slots[LEAVING_MAX];
};

struct leaving *leaving_new(void)
{
    struct leaving *l = xcalloc(1, sizeof *l);

    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void leaving_free(struct leaving *l)
{
    if (!l)
        return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* With the lock held. */
static struct slot *find_slot(struct leaving *l, time_ms now, const char *ulid)
{
    for (size_t i = 0; i < LEAVING_MAX; i++)
        if (l->slots[i].until > now && strcmp(l->slots[i].record.ulid, ulid) == 0)
            return &l->slots[i];
    return NULL;
}

/* False if it is there already: then another client is removing it, and it is the other's. */
static bool leaving_add(struct tree *t, const struct record *record)
{
    struct leaving *l = t->leaving;
    time_ms now = clock_now(t->clock);

    pthread_mutex_lock(&l->lock);
    bool added = !find_slot(l, now, record->ulid);
    if (added) {
        l->slots[l->next] = (struct slot){.record = *record, .until = now + LEAVING_MS};
        l->next = (l->next + 1) % LEAVING_MAX;
    }
    pthread_mutex_unlock(&l->lock);
    return added;
}

/* Was it there? */
static bool leaving_remove(struct tree *t, const char *ulid)
{
    struct leaving *l = t->leaving;

    pthread_mutex_lock(&l->lock);
    struct slot *slot = find_slot(l, clock_now(t->clock), ulid);
    if (slot)
        slot->until = 0;
    pthread_mutex_unlock(&l->lock);
    return slot != NULL;
}

bool leaving_find(struct tree *t, const char *ulid, struct record *out)
{
    struct leaving *l = t->leaving;

    pthread_mutex_lock(&l->lock);
    const struct slot *slot = find_slot(l, clock_now(t->clock), ulid);
    if (slot)
        *out = slot->record;
    pthread_mutex_unlock(&l->lock);
    return slot != NULL;
}

bool leaving_at(struct tree *t, int64_t row, struct record *out)
{
    struct leaving *l = t->leaving;
    time_ms now = clock_now(t->clock);
    bool found = false;

    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < LEAVING_MAX && !found; i++) {
        found = l->slots[i].until > now && l->slots[i].record.row == row;
        if (found)
            *out = l->slots[i].record;
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

/* ---- removing ---- */

static int refuse(struct tree *t, uid_t uid, const char *record, const char *name,
                  const struct error *err)
{
    __attribute__((cleanup(free_charp))) char *path =
        xasprintf("records/%s%s%s", record, *name ? "/" : "", name);

    return tree_refuse(t, uid, path, "", 0, err);
}

static int delete_record(struct tree *t, uid_t uid, pid_t pid, const char *record, const char *name)
{
    struct audit_entry entry = {
        .uid = uid, .pid = pid, .verb = "delete", .record = record, .now = clock_now(t->clock)};
    char by[32];
    struct error err;

    snprintf(by, sizeof by, "uid:%u", (unsigned)uid);
    if (service_delete(t->service, record, by, &err) != 0) {
        int errnum = refuse(t, uid, record, name, &err);
        audit_refused(t->audit, &entry, errnum, err.message);
        return errnum;
    }
    audit_accepted(t->audit, &entry);
    last_errors_clear(t->last_errors, uid);
    return 0;
}

static int unlink_payload(struct tree *t, uid_t uid, pid_t pid, const struct record *record)
{
    bool added = leaving_add(t, record);
    int result = delete_record(t, uid, pid, record->ulid, "payload");

    if (result != 0 && added)
        leaving_remove(t, record->ulid);
    return result;
}

/* rm goes on with the other names when payload was refused: what it is told last is what counts. */
static int refuse_other(struct tree *t, uid_t uid, const struct record *r, const char *name)
{
    struct error err;

    if (r->pinned)
        error_set(&err, ERR_INVALID,
                  "record %s is pinned, so it is not deleted; `echo 0 > records/%s/pinned` unpins "
                  "it",
                  r->ulid, r->ulid);
    else
        error_set(&err, ERR_INVALID,
                  "a backup is deleted as a whole: rmdir records/%s, or rm -r, which begins with "
                  "payload",
                  r->ulid);
    err.errnum = EPERM;
    return refuse(t, uid, r->ulid, name, &err);
}

int tree_unlink(struct tree *t, node_id parent, const char *name, uid_t uid, pid_t pid,
                char shell[ULID_LEN + 1])
{
    const struct file *file = file_find(NODE_RECORD, name);
    SUBJECT(s);

    shell[0] = '\0';
    if (node_kind_of(parent) != NODE_RECORD || node_file(parent) != NODE_FILE_NONE)
        return EPERM;
    int result = subject_load(t, parent, uid, &s);
    if (result == 0)
        result = file ? file_present(file, &s) : ENOENT;
    if (result != 0 || s.leaving)
        return result;
    if (file->type != FILE_PAYLOAD)
        return refuse_other(t, uid, &s.record, name);
    result = unlink_payload(t, uid, pid, &s.record);
    if (result == 0)
        memcpy(shell, s.record.ulid, ULID_LEN + 1);
    return result;
}

int tree_rmdir(struct tree *t, node_id parent, const char *name, uid_t uid, pid_t pid)
{
    struct record record;
    struct error err;

    if (node_kind_of(parent) != NODE_RECORDS || node_file(parent) != NODE_FILE_NONE)
        return EPERM;
    if (!ulid_valid(name))
        return file_find(NODE_RECORDS, name) ? EPERM : ENOENT;
    if (leaving_remove(t, name))
        return 0;
    /* Deleting again would succeed. */
    if (catalog_record_get(service_catalog(t->service), name, &record, &err) != 0)
        return tree_errno(&err);
    return delete_record(t, uid, pid, name, "");
}
