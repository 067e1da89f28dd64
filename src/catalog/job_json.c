/* SPDX-License-Identifier: MIT */
/*
 * job_json.c - a job as one JSON object.
 *
 * SQLite writes it, so that its escapes are those of a JSON library. Keys are stable and in this
 * order; new ones are added at the end.
 */
#include "catalog/db.h"

#include "util/clock.h"

#include <string.h>

const struct db_text job_json_sql[] = {
    {SQL_JOB_JSON,
     "SELECT json_object('id', ?1, 'kind', ?2, 'store', ?3, 'repo', ?4, 'state', ?5,"
     " 'requested_by', ?6, 'label', ?7, 'key', ?8, 'created_at', ?9, 'started_at', ?10,"
     " 'finished_at', ?11, 'progress', ?12, 'stats', json(?13), 'error', ?14, 'error_code', ?15,"
     " 'hint', ?16, 'record', ?17, 'attempt', ?18, 'error_errno', ?19,"
     " 'duration_ms', ?20)"},
    {0, NULL},
};

/* The length of the UTF-8 sequence at s, 0 if there is none: overlong forms, surrogates and what
 * is above U+10FFFF are none. */
static size_t utf8_sequence(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;

    if (n == 1)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

/* Labels come from a stranger and messages hold file names: neither has to be UTF-8, JSON has. */
void json_add_utf8(struct buf *out, const char *text)
{
    while (*text) {
        size_t n = utf8_sequence((const unsigned char *)text);
        if (n)
            buf_add(out, text, n);
        else
            buf_adds(out, "\xef\xbf\xbd");
        text += n ? n : 1;
    }
}

/* Texts that have to live while the statement runs. */
struct json_texts {
    char created[TIME_TEXT_MAX], started[TIME_TEXT_MAX], finished[TIME_TEXT_MAX];
    struct buf label, message, stats;
};

static const char *time_or_null(time_ms t, char text[TIME_TEXT_MAX])
{
    return t ? time_format(t, text) : NULL;
}

/* A clock that was set back makes none that is below zero. */
static time_ms duration(const struct job *job)
{
    return job->finished_at > job->started_at ? job->finished_at - job->started_at : 0;
}

static void bind_json(sqlite3_stmt *s, const struct job *job, struct json_texts *t)
{
    json_add_utf8(&t->label, job->label);
    json_add_utf8(&t->message, job->error.message);
    job_add_stats(&t->stats, &job->stats);
    db_bind_text(s, 1, job->ulid);
    db_bind_text(s, 2, job->kind);
    db_bind_text(s, 3, job->store);
    db_bind_text(s, 4, job->repo);
    db_bind_text(s, 5, job_state_name(job->state));
    db_bind_word(s, 6, job->requested_by);
    db_bind_word(s, 7, t->label.data);
    db_bind_word(s, 8, job->key);
    db_bind_word(s, 9, time_or_null(job->created_at, t->created));
    db_bind_word(s, 10, time_or_null(job->started_at, t->started));
    db_bind_word(s, 11, time_or_null(job->finished_at, t->finished));
    db_bind_int(s, 12, job->progress);
    db_bind_text(s, 13, t->stats.data);
    db_bind_word(s, 14, t->message.data);
    db_bind_word(s, 15, error_code_name(job->error.code));
    db_bind_word(s, 16, error_code_hint(job->error.code));
    db_bind_word(s, 17, job->record_row ? job->record : NULL);
    db_bind_int(s, 18, job->attempt);
    db_bind_word(s, 19, job->error.errnum ? strerrorname_np(job->error.errnum) : NULL);
    if (job->started_at && job->finished_at)
        db_bind_int(s, 20, duration(job)); /* unbound is null */
}

static int add_json(struct catalog *c, const struct job *job, struct buf *out, struct error *err)
{
    struct json_texts texts = {.label = BUF_INIT, .message = BUF_INIT, .stats = BUF_INIT};
    int result;
    {
        DB_STATEMENT(s, c, SQL_JOB_JSON);
        bind_json(s, job, &texts);
        result = db_row(c, s, err) == 1 ? 0 : -1;
        if (result == 0) {
            buf_adds(out, (const char *)sqlite3_column_text(s, 0));
            buf_adds(out, "\n");
        }
    }
    buf_release(&texts.label);
    buf_release(&texts.message);
    buf_release(&texts.stats);
    return result;
}

int catalog_job_json(struct catalog *c, int64_t row, struct buf *out, struct error *err)
{
    DB_HOLD(c);
    struct job job;

    if (job_read_at(c, row, &job, err) != 0)
        return -1;
    return add_json(c, &job, out, err);
}
