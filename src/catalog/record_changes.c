/* SPDX-License-Identifier: MIT */
/*
 * record_changes.c - what is done to one record: pins, suspicion, deletion.
 *
 * A deletion takes the row first: good -> deleting, then whoever deletes removes the archive, then
 * the row. From the first commit on the record is neither listed nor found, and no pin can stop it
 * half way, since a pin needs a good row; nor can it begin on a pinned one, since its UPDATE asks
 * for that too. A crash in between leaves a row that is deleting, which the next start takes up.
 *
 * Each function looks first and writes nothing if the row stands so already: no fsync, no event.
 * What then changes it has its conditions in its own WHERE, so that nobody else's change counts
 * as seen.
 */
#include "catalog/db.h"

#include <errno.h>
#include <string.h>

#define CHANGED " RETURNING id, ulid, store, repo"

const struct db_text record_change_sql[] = {
    {SQL_RECORD_PIN, "UPDATE records SET pinned = ?2"
                     " WHERE ulid = ?1 AND state = 'good' AND pinned <> ?2" CHANGED},
    {SQL_RECORD_SUSPECT, "UPDATE records SET suspect = ?2"
                         " WHERE ulid = ?1 AND state = 'good' AND suspect < ?2" CHANGED},
    {SQL_RECORD_DELETE_BEGIN, "UPDATE records SET state = 'deleting'"
                              " WHERE ulid = ?1 AND state = 'good' AND pinned = 0" CHANGED},
    {SQL_RECORD_EXPIRE, "UPDATE records SET state = 'deleting'"
                        " WHERE ulid = ?1 AND state = 'good' AND pinned = 0 AND EXISTS"
                        " (SELECT 1 FROM records WHERE ulid = ?2 AND state = 'good')" CHANGED},
    {SQL_RECORD_DELETE_END, "DELETE FROM records WHERE ulid = ?1 AND state = 'deleting'" CHANGED},
    {0, NULL},
};

static int not_there(struct error *err, const char *ulid)
{
    return db_not_found(err, "there is no record %s", ulid);
}

/* ERR_NOT_FOUND for a row of another state too. */
static int find_good(struct catalog *c, const char *ulid, struct record_standing *out,
                     struct error *err)
{
    int found = record_standing(c, ulid, out, err);

    if (found < 0)
        return -1;
    if (found == 1 && strcmp(out->state, "deleting") == 0)
        return db_not_found(err, "record %s is being deleted", ulid);
    return found == 1 && strcmp(out->state, "good") == 0 ? 0 : not_there(err, ulid);
}

/* What is done to which record, and what its event says. */
struct change {
    enum db_sql id;
    const char *ulid;
    const int *value; /* ?2, or NULL */
    const char *from, *to;
    const char *other; /* ?2, or NULL */
};

static int apply(struct catalog *c, const struct change *change, struct error *err)
{
    DB_STATEMENT(s, c, change->id);

    db_bind_text(s, 1, change->ulid);
    if (change->value)
        db_bind_int(s, 2, *change->value);
    if (change->other)
        db_bind_text(s, 2, change->other);
    int found = db_row(c, s, err);
    if (found == 0)
        return not_there(err, change->ulid);
    if (found < 0)
        return -1;
    event_add(c, OBJECT_RECORD, s, change->from, change->to);
    return db_run(c, s, err);
}

static int commit_change(struct catalog *c, const struct change *change, struct error *err)
{
    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, apply(c, change, err), err);
}

/* ---- pins and suspicion ---- */

int catalog_record_pin(struct catalog *c, const char *ulid, bool pinned, struct error *err)
{
    const int value = pinned;
    struct change change = {
        SQL_RECORD_PIN, ulid, &value, "good", pinned ? "pinned" : "unpinned", NULL};
    struct record_standing now;

    DB_HOLD(c);
    if (find_good(c, ulid, &now, err) != 0)
        return -1;
    return now.pinned == pinned ? 0 : commit_change(c, &change, err);
}

int catalog_record_mark_suspect(struct catalog *c, const char *ulid, bool suspect,
                                struct error *err)
{
    const int value = suspect ? 1 : 2;
    struct change change = {
        SQL_RECORD_SUSPECT, ulid, &value, "good", suspect ? "suspect" : "reviewed", NULL};
    struct record_standing now;

    DB_HOLD(c);
    if (find_good(c, ulid, &now, err) != 0)
        return -1;
    return now.suspect >= value ? 0 : commit_change(c, &change, err);
}

/* ---- deletion ---- */

static int pinned(const char *ulid, struct error *err)
{
    error_set(err, ERR_INVALID,
              "record %s is pinned, so it is not deleted; `echo 0 > records/%s/pinned` unpins it",
              ulid, ulid);
    err->errnum = EPERM;
    return -1;
}

int catalog_record_delete_begin(struct catalog *c, const char *ulid, struct error *err)
{
    struct change change = {SQL_RECORD_DELETE_BEGIN, ulid, NULL, "good", "deleting", NULL};
    struct record_standing now;

    DB_HOLD(c);
    int found = record_standing(c, ulid, &now, err);
    if (found < 0)
        return -1;
    if (found == 1 && strcmp(now.state, "deleting") == 0)
        return 0;
    if (found == 0 || strcmp(now.state, "good") != 0)
        return not_there(err, ulid);
    return now.pinned ? pinned(ulid, err) : commit_change(c, &change, err);
}

int catalog_record_expire(struct catalog *c, const char *ulid, const char *kept, struct error *err)
{
    struct change change = {SQL_RECORD_EXPIRE, ulid, NULL, "good", "deleting", kept};

    DB_HOLD(c);
    return commit_change(c, &change, err);
}

int catalog_record_delete_end(struct catalog *c, const char *ulid, struct error *err)
{
    struct change change = {SQL_RECORD_DELETE_END, ulid, NULL, "deleting", "deleted", NULL};

    DB_HOLD(c);
    return commit_change(c, &change, err);
}
