/* SPDX-License-Identifier: MIT */
/*
 * events.c - what changed, told once it is true.
 *
 * A piece of work adds an event beside each change of state; they wait with the transaction, and
 * db_end either sends them all, right after the commit, or forgets them all. The mutex is held from
 * before the change until after the sending: so the order of events is that of commits, and no two
 * calls of the listener overlap.
 *
 * A change that does not happen adds no event, since the words come from the row that the statement
 * has returned. Progress is no change of state.
 */
#include "catalog/db.h"

#include "util/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* More than these are not kept for the next transaction. */
#define KEPT_ROOM 64

void catalog_on_event(struct catalog *c, catalog_event_fn fn, void *ctx)
{
    DB_HOLD(c);

    c->events.fn = fn;
    c->events.ctx = ctx;
}

void catalog_on_progress(struct catalog *c, catalog_progress_fn fn, void *ctx)
{
    DB_HOLD(c);

    c->progress.fn = fn;
    c->progress.ctx = ctx;
}

static struct catalog_event *next_free(struct events *q)
{
    if (q->count == q->room) {
        q->room = q->room ? q->room * 2 : 8;
        q->waiting = xrealloc(q->waiting, q->room * sizeof q->waiting[0]);
    }
    return &q->waiting[q->count++];
}

void event_add(struct catalog *c, enum catalog_object object, sqlite3_stmt *s, const char *from,
               const char *to)
{
    assert(!sqlite3_get_autocommit(c->sqlite));
    if (!c->events.fn)
        return;
    struct catalog_event *e = next_free(&c->events);
    *e = (struct catalog_event){.object = object, .from = from, .to = to};
    e->row = sqlite3_column_int64(s, 0);
    db_column_text(s, 1, e->ulid, sizeof e->ulid);
    db_column_text(s, 2, e->store, sizeof e->store);
    db_column_text(s, 3, e->repo, sizeof e->repo);
}

void events_send(struct catalog *c)
{
    struct events *q = &c->events;
    time_ms now = q->count ? clock_now(&clock_system) : 0;

    for (size_t i = 0; i < q->count; i++) {
        q->waiting[i].seq = ++q->seq;
        q->waiting[i].time = now;
        q->fn(q->ctx, &q->waiting[i]);
    }
    events_forget(c);
}

void events_forget(struct catalog *c)
{
    c->events.count = 0;
    if (c->events.room > KEPT_ROOM)
        events_release(c);
}

void events_release(struct catalog *c)
{
    free(c->events.waiting);
    c->events.waiting = NULL;
    c->events.count = c->events.room = 0;
}
