/* SPDX-License-Identifier: MIT */
/*
 * last_error.c - a fixed table, searched from end to end: it is read when something went wrong.
 *
 * A slot holds the finished text. Slots are taken in order of arrival; `age` is a counter and not
 * the time, so that a clock that steps back does not evict the newest.
 */
#include "fs/last_error.h"

#include "fs/text.h"
#include "util/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    uid_t uid;
    uint64_t age; /* 0 = free */
    struct buf text;
};

struct last_errors {
    pthread_mutex_t lock; /* guards all below */
    uint64_t newest;
    struct slot slots[LIMIT_LAST_ERROR_UIDS];
};

struct last_errors *last_errors_new(void)
{
    struct last_errors *l = xcalloc(1, sizeof *l);

    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void last_errors_free(struct last_errors *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < LIMIT_LAST_ERROR_UIDS; i++)
        buf_release(&l->slots[i].text);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static struct slot *find(struct last_errors *l, uid_t uid)
{
    for (size_t i = 0; i < LIMIT_LAST_ERROR_UIDS; i++)
        if (l->slots[i].age != 0 && l->slots[i].uid == uid)
            return &l->slots[i];
    return NULL;
}

/* The free slot or the oldest one: a free one has age 0. */
static struct slot *find_oldest(struct last_errors *l)
{
    struct slot *oldest = &l->slots[0];

    for (size_t i = 1; i < LIMIT_LAST_ERROR_UIDS; i++)
        if (l->slots[i].age < oldest->age)
            oldest = &l->slots[i];
    return oldest;
}

static void render(const struct last_error *e, struct buf *out)
{
    char time[TIME_TEXT_MAX];
    bool cut = e->input_len > LAST_ERROR_INPUT;

    buf_addf(out, "time %s\nerrno %s\npath %s\ninput ", time_format(e->time, time),
             error_errno_name(e->errnum), e->path);
    text_escape(out, e->input, cut ? LAST_ERROR_INPUT : e->input_len);
    buf_adds(out, cut ? "...\nmessage " : "\nmessage ");
    text_escape(out, e->message, strlen(e->message));
    buf_adds(out, "\n");
}

void last_errors_set(struct last_errors *l, uid_t uid, const struct last_error *e)
{
    struct buf text = BUF_INIT;

    render(e, &text);
    pthread_mutex_lock(&l->lock);
    struct slot *slot = find(l, uid);
    if (!slot)
        slot = find_oldest(l);
    buf_release(&slot->text);
    *slot = (struct slot){.uid = uid, .age = ++l->newest, .text = text};
    pthread_mutex_unlock(&l->lock);
}

void last_errors_clear(struct last_errors *l, uid_t uid)
{
    pthread_mutex_lock(&l->lock);
    struct slot *slot = find(l, uid);
    if (slot) {
        buf_release(&slot->text);
        slot->age = 0;
    }
    pthread_mutex_unlock(&l->lock);
}

void last_errors_render(struct last_errors *l, uid_t uid, struct buf *out)
{
    pthread_mutex_lock(&l->lock);
    const struct slot *slot = find(l, uid);
    if (slot)
        buf_add(out, slot->text.data, slot->text.len);
    else
        buf_adds(out, "ok\n");
    pthread_mutex_unlock(&l->lock);
}
