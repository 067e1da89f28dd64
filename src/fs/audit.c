/* SPDX-License-Identifier: MIT */
/*
 * audit.c - the lines, and how many refusals each uid has had.
 *
 * A slot belongs to a uid from its first refusal until its window has passed. There is no thread
 * that would write the counts of windows that end: each entry first closes those that have ended,
 * which is a look at each of a few slots. The last slot is everybody's whose uid found no free one,
 * so that all lines together have a bound, too, however many uids somebody has.
 */
#include "fs/audit.h"

#include "fs/text.h"
#include "util/buf.h"
#include "util/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define OTHERS LIMIT_AUDIT_UIDS

struct slot {
    uid_t uid;
    time_ms since; /* 0: free */
    unsigned long refused;
};

struct audit {
    pthread_mutex_t lock; /* guards all below */
    struct slot slots[LIMIT_AUDIT_UIDS + 1];
};

struct audit *audit_new(void)
{
    struct audit *a = xcalloc(1, sizeof *a);

    pthread_mutex_init(&a->lock, NULL);
    return a;
}

/* Frees the slot. */
static void close_slot(struct audit *a, struct slot *slot)
{
    unsigned long untold =
        slot->refused > LIMIT_AUDIT_REFUSED ? slot->refused - LIMIT_AUDIT_REFUSED : 0;

    if (untold > 0 && slot == &a->slots[OTHERS])
        log_info("audit uid=others %lu more refused", untold);
    else if (untold > 0)
        log_info("audit uid=%u %lu more refused", (unsigned)slot->uid, untold);
    *slot = (struct slot){0};
}

/* A clock that was set back ends a window as well. */
static void close_ended(struct audit *a, time_ms now)
{
    for (size_t i = 0; i <= OTHERS; i++) {
        struct slot *slot = &a->slots[i];
        if (slot->since != 0 && (now < slot->since || now - slot->since >= AUDIT_WINDOW_MS))
            close_slot(a, slot);
    }
}

void audit_free(struct audit *a)
{
    if (!a)
        return;
    for (size_t i = 0; i <= OTHERS; i++)
        close_slot(a, &a->slots[i]);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static struct slot *slot_of(struct audit *a, uid_t uid)
{
    struct slot *found = &a->slots[OTHERS];

    for (size_t i = OTHERS; i-- > 0;)
        if (a->slots[i].since == 0)
            found = &a->slots[i];
        else if (a->slots[i].uid == uid)
            return &a->slots[i];
    return found;
}

/* Has this one a line of its own? */
static bool count_refusal(struct audit *a, const struct audit_entry *e)
{
    struct slot *slot = slot_of(a, e->uid);

    if (slot->since == 0)
        *slot = (struct slot){.uid = e->uid, .since = e->now};
    return ++slot->refused <= LIMIT_AUDIT_REFUSED;
}

/* ---- lines ---- */

static void add_quoted(struct buf *out, const char *text, size_t len)
{
    const char *end = text + (len > AUDIT_TEXT ? AUDIT_TEXT : len);

    buf_adds(out, "\"");
    for (const char *quote; (quote = memchr(text, '"', (size_t)(end - text))); text = quote + 1) {
        text_escape(out, text, (size_t)(quote - text));
        buf_adds(out, "\\x22");
    }
    text_escape(out, text, (size_t)(end - text));
    buf_adds(out, len > AUDIT_TEXT ? "...\"" : "\"");
}

/* Ids stand as they are; whatever else there may be is a stranger's. */
static void add_target(struct buf *out, const char *text, size_t len)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789._-/";
    bool clean = len > 0 && len <= AUDIT_TEXT;

    for (size_t i = 0; i < len && clean; i++)
        clean = memchr(plain, text[i], sizeof plain - 1) != NULL;
    buf_adds(out, " target=");
    if (clean)
        buf_add(out, text, len);
    else
        add_quoted(out, text, len);
}

static void add_entry(struct buf *out, const struct audit_entry *e)
{
    buf_addf(out, "audit uid=%u pid=%d verb=%s", (unsigned)e->uid, (int)e->pid, e->verb);
    if (e->target)
        add_target(out, e->target, e->target_len);
    if (e->job)
        buf_addf(out, " job=%s", e->job);
    if (e->record)
        buf_addf(out, " record=%s", e->record);
}

void audit_accepted(struct audit *a, const struct audit_entry *e)
{
    struct buf line = BUF_INIT;

    add_entry(&line, e);
    pthread_mutex_lock(&a->lock);
    close_ended(a, e->now);
    pthread_mutex_unlock(&a->lock);
    log_info("%s accepted", buf_text(&line));
    buf_release(&line);
}

void audit_refused(struct audit *a, const struct audit_entry *e, int errnum, const char *sentence)
{
    struct buf line = BUF_INIT;

    pthread_mutex_lock(&a->lock);
    close_ended(a, e->now);
    bool told = count_refusal(a, e);
    pthread_mutex_unlock(&a->lock);
    if (!told)
        return;
    add_entry(&line, e);
    buf_addf(&line, " refused %s ", error_errno_name(errnum));
    add_quoted(&line, sentence, strlen(sentence));
    log_info("%s", buf_text(&line));
    buf_release(&line);
}
