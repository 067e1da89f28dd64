/* SPDX-License-Identifier: MIT */
/*
 * recent.c - jobs that were read a moment ago.
 *
 * A client that looks at one file of a job has the job read three times: to find its directory, to
 * find the file, to open it. SQLite takes most of the time of such a look, and nearly always it
 * gives what it gave before.
 *
 * The copies are good as long as this connection has changed no row, of whichever table: SQLite
 * counts them, also those of TEMP tables and those that are rolled back later. Another process may
 * change rows, an operator's sqlite3: that is seen after RECENT_MS. A connection that only looks
 * beside a daemon keeps none. Within a transaction none is made, since it may be rolled back.
 */
#include "catalog/db.h"

#include "util/buf.h"
#include "util/clock.h"

#include <stdlib.h>
#include <string.h>

#define RECENT_MS 100

/* Empties it if anything has changed. */
static struct recent_jobs *refresh(struct catalog *c)
{
    struct recent_jobs *r = &c->recent;
    int64_t changes = sqlite3_total_changes64(c->sqlite);
    time_ms now = clock_monotonic();

    if (r->changes != changes || now - r->since >= RECENT_MS)
        *r = (struct recent_jobs){.jobs = r->jobs, .changes = changes, .since = now};
    return r;
}

bool recent_find(struct catalog *c, int64_t row, const char *ulid, struct job *out)
{
    const struct recent_jobs *r = refresh(c);

    for (size_t i = 0; i < r->count; i++) {
        const struct job *job = &r->jobs[i];
        if (ulid ? strcmp(job->ulid, ulid) == 0 : job->row == row) {
            *out = *job;
            return true;
        }
    }
    return false;
}

void recent_keep(struct catalog *c, const struct job *job)
{
    struct recent_jobs *r = refresh(c);

    if (c->looks || !sqlite3_get_autocommit(c->sqlite))
        return;
    if (!r->jobs)
        r->jobs = xcalloc(LIMIT_RECENT_JOBS, sizeof *r->jobs);
    r->jobs[r->next] = *job;
    r->next = (r->next + 1) % LIMIT_RECENT_JOBS;
    if (r->count < LIMIT_RECENT_JOBS)
        r->count++;
}

void recent_release(struct catalog *c)
{
    free(c->recent.jobs);
    c->recent = (struct recent_jobs){0};
}
