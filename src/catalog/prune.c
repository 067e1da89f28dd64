/* SPDX-License-Identifier: MIT */
/*
 * prune.c - the end of old jobs.
 *
 * The oldest finished ones go first, by (finished_at, row), a batch in a transaction; a batch is
 * what a trigger may have to wait for. Spared is the newest success of each repo and kind, which
 * says when the last backup or check was. Newest is by row, the order in which jobs were made: a
 * clock that once was wrong must not make an old job the newest for good.
 *
 * What belongs to a job outside the catalog goes after the commit: a crash in between leaves a log
 * without a job, never a job without its log.
 */
#include "catalog/db.h"

#include <assert.h>
#include <stdlib.h>

const struct db_text prune_sql[] = {
    {SQL_JOBS_OLDEST,
     "SELECT j.id, j.ulid FROM jobs j INDEXED BY jobs_finished WHERE j.finished_at < ?1"
     " AND (j.state <> 'succeeded' OR EXISTS (SELECT 1 FROM jobs n INDEXED BY jobs_succeeded"
     "  WHERE n.store = j.store AND n.repo = j.repo AND n.kind = j.kind"
     "  AND n.state = 'succeeded' AND n.id > j.id))"
     " ORDER BY j.finished_at, j.id LIMIT ?2"},
    {SQL_JOB_DELETE, "DELETE FROM jobs WHERE id = ?1 AND finished_at IS NOT NULL"},
    {0, NULL},
};

struct old_job {
    int64_t row;
    char ulid[ULID_LEN + 1];
};

static int find_oldest(struct catalog *c, time_ms finished_before, size_t limit,
                       struct old_job *jobs, size_t *count, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOBS_OLDEST);
    int more;

    db_bind_int(s, 1, finished_before);
    db_bind_int(s, 2, (int64_t)limit);
    for (*count = 0; (more = db_row(c, s, err)) == 1; ++*count) {
        jobs[*count].row = sqlite3_column_int64(s, 0);
        db_column_text(s, 1, jobs[*count].ulid, sizeof jobs[*count].ulid);
    }
    return more;
}

static int delete_job(struct catalog *c, int64_t row, struct error *err)
{
    DB_STATEMENT(s, c, SQL_JOB_DELETE);

    db_bind_int(s, 1, row);
    return db_run(c, s, err);
}

static int prune(struct catalog *c, time_ms finished_before, size_t limit, struct old_job *jobs,
                 size_t *count, struct error *err)
{
    if (find_oldest(c, finished_before, limit, jobs, count, err) != 0)
        return -1;
    for (size_t i = 0; i < *count; i++)
        if (delete_job(c, jobs[i].row, err) != 0)
            return -1;
    return 0;
}

static int prune_held(struct catalog *c, time_ms finished_before, size_t limit,
                      struct old_job *jobs, size_t *count, struct error *err)
{
    DB_HOLD(c);

    if (db_begin(c, err) != 0)
        return -1;
    return db_end(c, prune(c, finished_before, limit, jobs, count, err), err);
}

int catalog_jobs_prune(struct catalog *c, time_ms finished_before, size_t limit,
                       catalog_pruned_fn fn, void *ctx, size_t *count, struct error *err)
{
    assert(limit > 0 && limit <= CATALOG_PRUNE_MAX);
    struct old_job *jobs = xcalloc(limit, sizeof *jobs);
    size_t pruned = 0;
    int result = prune_held(c, finished_before, limit, jobs, &pruned, err);

    if (result == 0) {
        *count = pruned;
        for (size_t i = 0; i < pruned; i++)
            fn(ctx, jobs[i].ulid);
    }
    free(jobs);
    return result;
}
