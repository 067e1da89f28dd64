/* SPDX-License-Identifier: MIT */
/*
 * event_ring.h - the last changes of state as lines, kept once for however many readers.
 *
 *   TIME OBJECT ULID STORE/REPO FROM TO
 *   2026-09-01T12:00:00.000Z job 01J6Q0ZV7M8C3T5N9B2K4D6F8H app/nas running succeeded
 *
 * OBJECT, FROM and TO are the words of struct catalog_event; "-" stands for an empty one. Words are
 * only ever added at the end of a line.
 *
 * A reader is a cursor: a place in the ring. The ring never waits for it. Of a reader that was too
 * slow the oldest lines are lost; in their place it gets a line "dropped N" with their number. So a
 * reader costs the same however far it is behind.
 *
 * No memory beyond the structs. Threads: one at a time per ring and its cursors.
 */
#ifndef KEEPFS_FS_EVENT_RING_H
#define KEEPFS_FS_EVENT_RING_H

#include "catalog/catalog.h"

/* With its newline and a NUL: time, object, ULID, ids, words. */
enum { EVENT_LINE = 32 + 8 + ULID_LEN + 2 * LIMIT_ID + 2 * 16 + 8 };

struct event_line {
    unsigned len;
    char text[EVENT_LINE];
};

struct event_ring {
    uint64_t count; /* that ever came; number n is in lines[n % LIMIT_EVENTS] */
    struct event_line lines[LIMIT_EVENTS];
};

/* What is left of a text of which a part was given. */
struct event_rest {
    unsigned at, len;
    char text[EVENT_LINE];
};

struct event_cursor {
    uint64_t next;
    struct event_rest rest;
};

void event_ring_add(struct event_ring *r, const struct catalog_event *e);
/* At the end: what comes from now on. */
struct event_cursor event_ring_end(const struct event_ring *r);
/* Would event_ring_read give anything? */
bool event_ring_has(const struct event_ring *r, const struct event_cursor *c);
/* As many whole lines as fit `size`, and moves the cursor; of a line that is longer than `size` a
 * part, and the rest to the next calls. 0 if there is nothing. */
size_t event_ring_read(const struct event_ring *r, struct event_cursor *c, char *out, size_t size);
/* How much event_ring_read may give, at most. */
size_t event_ring_left(const struct event_ring *r, const struct event_cursor *c);

/* Gives of a rest up to `size` bytes. */
size_t event_rest_read(struct event_rest *rest, char *out, size_t size);

#endif
