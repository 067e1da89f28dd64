/* SPDX-License-Identifier: MIT */
/*
 * record_json.c - a record as one JSON object, written by SQLite as in job_json.c.
 */
#include "catalog/db.h"

#include "util/clock.h"

#define TRUTH(key, parameter) "'" key "', json(iif(" parameter ", 'true', 'false')), "

const struct db_text record_json_sql[] = {
    {SQL_RECORD_JSON,
     "SELECT json_object('id', ?1, 'store', ?2, 'store_kind', ?3, 'repo', ?4, 'created_at', ?5,"
     " 'size_bytes', ?6, 'content_bytes', ?7, 'sha256', ?8, 'manifest_bytes', ?9,"
     " 'payload_id_count', ?10, 'payload_ids_bytes', ?11, " TRUTH("pinned", "?12")
         TRUTH("suspect", "?13") TRUTH("reviewed", "?14") "'job', ?15, 'state', ?16)"},
    {0, NULL},
};

static const char *const states[] = {
    [RECORD_GOOD] = "good",
    [RECORD_MISSING] = "missing",
    [RECORD_DELETING] = "deleting",
};

static void bind_json(sqlite3_stmt *s, const struct record *r, const char *kind,
                      const char *created)
{
    db_bind_text(s, 1, r->ulid);
    db_bind_text(s, 2, r->store);
    db_bind_text(s, 3, kind);
    db_bind_text(s, 4, r->repo);
    db_bind_text(s, 5, created);
    db_bind_int(s, 6, (int64_t)r->size_bytes);
    db_bind_int(s, 7, (int64_t)r->content_bytes);
    db_bind_text(s, 8, r->sha256);
    db_bind_int(s, 9, (int64_t)r->manifest_bytes);
    db_bind_int(s, 10, (int64_t)r->payload_id_count);
    db_bind_int(s, 11, (int64_t)r->payload_ids_bytes);
    db_bind_int(s, 12, r->pinned);
    db_bind_int(s, 13, r->suspect);
    db_bind_int(s, 14, r->reviewed);
    db_bind_word(s, 15, r->job);
}

static int add_json(struct catalog *c, const struct record *r, enum record_state state,
                    const char *kind, struct buf *out, struct error *err)
{
    char created[TIME_TEXT_MAX];
    DB_STATEMENT(s, c, SQL_RECORD_JSON);

    bind_json(s, r, kind, time_format(r->created_at, created));
    db_bind_text(s, 16, states[state]);
    if (db_row(c, s, err) != 1)
        return -1;
    buf_adds(out, (const char *)sqlite3_column_text(s, 0));
    buf_adds(out, "\n");
    return 0;
}

int catalog_record_json(struct catalog *c, const struct record *r, enum record_state state,
                        struct buf *out, struct error *err)
{
    DB_HOLD(c);
    struct buf kind = BUF_INIT; /* a manifest's word, which may have come from anywhere */

    json_add_utf8(&kind, r->store_kind);
    int result = add_json(c, r, state, buf_text(&kind), out, err);
    buf_release(&kind);
    return result;
}
