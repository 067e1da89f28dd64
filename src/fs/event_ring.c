/* SPDX-License-Identifier: MIT */
/*
 * event_ring.c - lines in a ring, numbered from 0; a cursor holds the number of the next one.
 *
 * A line of which a part was given is kept by the cursor itself, since its place in the ring may be
 * taken before the reader comes again.
 */
#include "fs/event_ring.h"

#include "util/clock.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *word(const char *text)
{
    return text[0] ? text : "-";
}

void event_ring_add(struct event_ring *r, const struct catalog_event *e)
{
    struct event_line *line = &r->lines[r->count++ % LIMIT_EVENTS];
    const char *object = e->object == OBJECT_JOB ? "job" : "record";
    char time[TIME_TEXT_MAX];

    int n = snprintf(line->text, sizeof line->text, "%s %s %s %s/%s %s %s\n",
                     time_format(e->time, time), object, e->ulid, e->store, e->repo, word(e->from),
                     word(e->to));
    assert(n > 0 && (size_t)n < sizeof line->text);
    line->len = (unsigned)n;
}

struct event_cursor event_ring_end(const struct event_ring *r)
{
    return (struct event_cursor){.next = r->count};
}

bool event_ring_has(const struct event_ring *r, const struct event_cursor *c)
{
    return c->rest.at < c->rest.len || c->next < r->count;
}

size_t event_ring_left(const struct event_ring *r, const struct event_cursor *c)
{
    uint64_t lines = r->count - c->next;

    /* One more for the rest, or for the number of those that are lost. */
    return event_ring_has(r, c)
               ? (size_t)((lines < LIMIT_EVENTS ? lines : LIMIT_EVENTS) + 1) * EVENT_LINE
               : 0;
}

size_t event_rest_read(struct event_rest *rest, char *out, size_t size)
{
    size_t left = rest->len - rest->at;

    if (size > left)
        size = left;
    memcpy(out, rest->text + rest->at, size);
    rest->at += (unsigned)size;
    return size;
}

/* Puts a text behind the `*got` bytes that stand in `out`. A text that is too long for any room is
 * begun; else false, and nothing happened, if it does not fit. */
static bool give(struct event_cursor *c, const char *text, unsigned len, char *out, size_t size,
                 size_t *got)
{
    if (len <= size - *got) {
        memcpy(out + *got, text, len);
        *got += len;
        return true;
    }
    if (*got > 0)
        return false;
    c->rest = (struct event_rest){.len = len};
    memcpy(c->rest.text, text, len);
    *got = event_rest_read(&c->rest, out, size);
    return true;
}

/* Puts the cursor on the oldest line that is still there. False if there is no room to say so. */
static bool catch_up(const struct event_ring *r, struct event_cursor *c, char *out, size_t size,
                     size_t *got)
{
    uint64_t oldest = r->count > LIMIT_EVENTS ? r->count - LIMIT_EVENTS : 0;
    char text[EVENT_LINE];

    if (c->next >= oldest)
        return true;
    int len = snprintf(text, sizeof text, "dropped %" PRIu64 "\n", oldest - c->next);
    if (!give(c, text, (unsigned)len, out, size, got))
        return false;
    c->next = oldest;
    return true;
}

size_t event_ring_read(const struct event_ring *r, struct event_cursor *c, char *out, size_t size)
{
    size_t got = event_rest_read(&c->rest, out, size);

    if (got == size || !catch_up(r, c, out, size, &got))
        return got;
    while (c->next < r->count && got < size) {
        const struct event_line *line = &r->lines[c->next % LIMIT_EVENTS];
        if (!give(c, line->text, line->len, out, size, &got))
            break;
        c->next++;
    }
    return got;
}
