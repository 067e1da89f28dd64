/* SPDX-License-Identifier: MIT */
/*
 * retention.c - which records of a repo go: the facts for keep.h's judgement, and its execution.
 *
 * A pass reads the repo's good records, newest first, and marks as `deleting` those that no rule
 * keeps; archives are removed by the keeper afterwards. It needs no lock on the store: what is
 * published during a pass is not among what it read and so stays, and what is pinned meanwhile is
 * refused by the catalog.
 *
 * Nothing is deleted while
 *   - the clock is behind the newest record: its idea of an age is worth nothing;
 *   - a record of the repo is suspect: it is under suspect_ratio of the median of the (up to) five
 *     before it that are not, and nobody has reviewed it. Half of a source that was not
 *     mounted must not push the last whole backups out, however often it is backed up. A review
 *     makes the record's size usual: those before it are not compared with any more.
 */
#include "service/internal.h"

#include "service/keep.h"
#include "util/buf.h"
#include "util/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EARLIER_MAX = 5, MARKS_MAX = 100 };

/* What is known of a record besides what keep.h asks for. */
struct fact {
    uint64_t size;
    bool marked, reviewed;
    bool suspect; /* judged so just now, or marked */
};

struct history {
    struct keep_item *items; /* newest first */
    struct fact *facts;      /* of each */
    size_t count;
    size_t suspect; /* the newest that is; `count` if none is */
};

static void add_record(void *ctx, const struct record *r)
{
    struct history *h = ctx;

    if ((h->count & (h->count - 1)) == 0) {
        size_t room = h->count ? 2 * h->count : 1;
        h->items = xrealloc(h->items, room * sizeof *h->items);
        h->facts = xrealloc(h->facts, room * sizeof *h->facts);
    }
    struct keep_item *item = &h->items[h->count];
    *item = (struct keep_item){.created_at = r->created_at, .pinned = r->pinned};
    memcpy(item->ulid, r->ulid, sizeof item->ulid);
    h->facts[h->count] =
        (struct fact){.size = r->content_bytes, .marked = r->suspect, .reviewed = r->reviewed};
    h->count++;
}

/* Each record against the five before it that are not suspect, from the oldest on; a review begins
 * anew. So it does not matter which records were looked at when, or are gone since. */
static void judge(struct history *h, unsigned ratio_permille)
{
    uint64_t usual[EARLIER_MAX]; /* newest first */
    size_t count = 0;

    h->suspect = h->count;
    for (size_t i = h->count; i-- > 0;) {
        struct fact *f = &h->facts[i];
        if (f->reviewed)
            count = 0;
        else
            f->suspect = f->marked || keep_suspect(f->size, usual, count, ratio_permille);
        if (f->suspect) {
            h->suspect = i;
            continue;
        }
        memmove(usual + 1, usual, (EARLIER_MAX - 1) * sizeof *usual);
        usual[0] = f->size;
        if (count < EARLIER_MAX)
            count++;
    }
}

static int read_history(struct service *s, const struct repo *repo, struct history *h,
                        struct error *err)
{
    int ratio = config_permille(settings_text(&repo->settings, "suspect_ratio"));

    *h = (struct history){0};
    if (catalog_records_newest(s->catalog, repo->store->id, repo->id, add_record, h, err) != 0)
        return -1;
    judge(h, (unsigned)ratio);
    return 0;
}

static void release(struct history *h)
{
    free(h->items);
    free(h->facts);
}

static struct keep_policy policy_of(const struct repo *repo)
{
    const struct settings *s = &repo->settings;

    return (struct keep_policy){
        .count = settings_int(s, "keep_count"),
        .age_days = settings_int(s, "keep_age_days"),
        .hourly = settings_int(s, "keep_hourly"),
        .daily = settings_int(s, "keep_daily"),
        .weekly = settings_int(s, "keep_weekly"),
        .monthly = settings_int(s, "keep_monthly"),
        .yearly = settings_int(s, "keep_yearly"),
    };
}

/* Is there a reason that nothing is deleted at present? Then `why` gets it. */
static bool is_held_up(const struct history *h, time_ms now, struct buf *why)
{
    if (h->count > 0 && keep_clock_behind(now, h->items[0].created_at)) {
        buf_adds(why, "the clock is behind the newest record");
    } else if (h->suspect < h->count) {
        const char *ulid = h->items[h->suspect].ulid;
        buf_addf(why,
                 "record %s is suspect, far smaller than those before it: look at it, then `rmdir "
                 "records/%s`, or confirm it and all before it by `echo 1 > records/%s/review`",
                 ulid, ulid, ulid);
    }
    return why->len > 0;
}

/* Newest first, and no more at once than takes a moment: the rest is judged again by the next. */
static void mark_suspects(struct service *s, const struct repo *repo, const struct history *h)
{
    struct error err;

    for (size_t i = 0, marks = 0; i < h->count && marks < MARKS_MAX; i++) {
        if (!h->facts[i].suspect || h->facts[i].marked)
            continue;
        marks++;
        if (catalog_record_mark_suspect(s->catalog, h->items[i].ulid, true, &err) != 0)
            log_warn("%s/%s: record %s is not marked as suspect: %s", repo->store->id, repo->id,
                     h->items[i].ulid, err.message);
    }
}

/* The newest that stays. While it is there, what the others are deleted for holds. */
static const char *newest_kept(const struct history *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->items[i].kept)
            return h->items[i].ulid;
    return "";
}

static void delete_unkept(struct service *s, const struct repo *repo, const struct history *h)
{
    const char *kept = newest_kept(h);
    struct error err;
    size_t deleted = 0;

    for (size_t i = 0; i < h->count; i++) {
        const struct keep_item *item = &h->items[i];
        if (item->kept || live_is_stopping(&s->live))
            continue;
        if (catalog_record_expire(s->catalog, item->ulid, kept, &err) == 0) {
            service_gone(s, false, item->ulid);
            deleted++;
        } else if (err.code != ERR_NOT_FOUND) {
            log_warn("%s/%s: record %s is not deleted: %s", repo->store->id, repo->id, item->ulid,
                     err.message);
        }
    }
    if (deleted > 0)
        log_info("%s/%s: %zu of %zu records are not kept any longer", repo->store->id, repo->id,
                 deleted, h->count);
}

void retention_run(struct service *s, const struct repo *repo)
{
    __attribute__((cleanup(buf_release))) struct buf why = BUF_INIT;
    struct keep_policy policy = policy_of(repo);
    time_ms now = clock_now(s->clock);
    struct history h;
    struct error err;

    if (read_history(s, repo, &h, &err) != 0) {
        log_error("%s/%s: retention: %s", repo->store->id, repo->id, err.message);
        release(&h);
        return;
    }
    mark_suspects(s, repo, &h);
    if (is_held_up(&h, now, &why)) {
        log_warn("%s/%s: nothing is deleted: %s", repo->store->id, repo->id, buf_text(&why));
    } else {
        keep_decide(&policy, h.items, h.count, now);
        delete_unkept(s, repo, &h);
    }
    release(&h);
}

int service_retention(struct service *s, const struct repo *repo, struct buf *out,
                      struct error *err)
{
    __attribute__((cleanup(buf_release))) struct buf why = BUF_INIT;
    struct keep_policy policy = policy_of(repo);
    time_ms now = clock_now(s->clock);
    struct history h;
    int result = read_history(s, repo, &h, err);

    if (result == 0) {
        if (is_held_up(&h, now, &why))
            buf_addf(out, "# nothing is deleted: %s\n", buf_text(&why));
        keep_decide(&policy, h.items, h.count, now);
        for (size_t i = 0; i < h.count; i++) {
            keep_line(&h.items[i], out);
            buf_adds(out, "\n");
        }
    }
    release(&h);
    return result;
}
