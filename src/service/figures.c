/* SPDX-License-Identifier: MIT */
/*
 * figures.c - a table sorted by name, made anew for each configuration.
 *
 * What is expected by a schedule takes reading it, and with it the file of a time zone: that is
 * done once for each schedule that differs from the one of the repo before it, which in a
 * configuration with [defaults] is once.
 */
#include "service/figures.h"

#include "keepfs/destination.h"
#include "service/overdue.h"
#include "util/buf.h"
#include "util/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char store[LIMIT_ID + 1];
    char repo[LIMIT_ID + 1];
    struct figure figure;
    bool unread; /* what its schedule says is not known now */
};

struct figures {
    pthread_mutex_t lock; /* guards entries and count */
    struct entry *entries;
    size_t count;
};

struct figures *figures_new(void)
{
    struct figures *f = xcalloc(1, sizeof *f);

    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void figures_free(struct figures *f)
{
    pthread_mutex_destroy(&f->lock);
    free(f->entries);
    free(f);
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = strcmp(x->store, y->store);

    return order ? order : strcmp(x->repo, y->repo);
}

/* With the lock held. */
static struct entry *find_entry(const struct figures *f, const char *store, const char *repo)
{
    struct entry key;

    snprintf(key.store, sizeof key.store, "%s", store);
    snprintf(key.repo, sizeof key.repo, "%s", repo);
    return f->count ? bsearch(&key, f->entries, f->count, sizeof key, by_name) : NULL;
}

bool figures_get(struct figures *f, const char *store, const char *repo, struct figure *out)
{
    pthread_mutex_lock(&f->lock);
    const struct entry *e = find_entry(f, store, repo);
    *out = e ? e->figure : (struct figure){0};
    pthread_mutex_unlock(&f->lock);
    return e != NULL;
}

/* ---- a configuration ---- */

/* The schedule that was read last. */
struct reading {
    const char *text;
    struct cron *cron;
};

/* NULL for a schedule that cannot be read any more: its zone's file is gone. */
static const struct cron *read_schedule(struct reading *r, const char *text)
{
    char why[SETTING_WHY_MAX];

    if (r->text && strcmp(r->text, text) == 0)
        return r->cron;
    cron_free(r->cron);
    r->text = text;
    if (cron_parse(text, &r->cron, why, sizeof why) != 0)
        r->cron = NULL;
    return r->cron;
}

static void expect(struct entry *e, const struct repo *repo, struct reading *r, time_ms now)
{
    const char *text = settings_text(&repo->settings, "schedule");
    const char *every = settings_text(&repo->settings, "expect_every");
    const struct cron *schedule = text ? read_schedule(r, text) : NULL;
    time_ms jitter = settings_int(&repo->settings, "jitter") * 1000;

    e->figure.every = overdue_every(every, schedule, jitter, now);
    e->unread = !every && text && !schedule;
}

static size_t count_repos(const struct config *config)
{
    size_t count = 0;

    for (size_t i = 0; i < config->store_count; i++)
        count += config->stores[i]->repo_count;
    return count;
}

/* All repos of the configuration, sorted, with what is expected of them. */
static struct entry *make_entries(const struct config *config, size_t count, time_ms now)
{
    struct entry *entries = xcalloc(count + 1, sizeof *entries), *e = entries;
    struct reading reading = {0};

    for (size_t i = 0; i < config->store_count; i++)
        for (size_t j = 0; j < config->stores[i]->repo_count; j++, e++) {
            const struct repo *repo = config->stores[i]->repos[j];
            snprintf(e->store, sizeof e->store, "%s", repo->store->id);
            snprintf(e->repo, sizeof e->repo, "%s", repo->id);
            expect(e, repo, &reading, now);
        }
    cron_free(reading.cron);
    qsort(entries, count, sizeof *entries, by_name);
    return entries;
}

/* Since when that is expected. */
static void date_entries(struct catalog *c, struct entry *entries, size_t count, time_ms now)
{
    struct expectation *items = xcalloc(count + 1, sizeof *items);
    struct error err;

    for (size_t i = 0; i < count; i++)
        items[i] = (struct expectation){.store = entries[i].store,
                                        .repo = entries[i].repo,
                                        .expected = entries[i].figure.every > 0};
    bool known = catalog_expect(c, items, count, now, &err) == 0;
    if (!known)
        log_warn("since when backups are expected is not stored: %s", err.message);
    for (size_t i = 0; i < count; i++)
        entries[i].figure.since = known || !items[i].expected ? items[i].since : now;
    free(items);
}

/* Of a schedule that cannot be read now, what it said before: silence would be the worst. */
static void keep_unread(struct figures *f, struct entry *entries, size_t count)
{
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < count; i++) {
        const struct entry *old = find_entry(f, entries[i].store, entries[i].repo);
        if (entries[i].unread && old)
            entries[i].figure.every = old->figure.every;
    }
    pthread_mutex_unlock(&f->lock);
    for (size_t i = 0; i < count; i++)
        if (entries[i].unread)
            log_warn("%s/%s: its schedule cannot be read now, so what is expected stays as it was",
                     entries[i].store, entries[i].repo);
}

void figures_load(struct figures *f, struct catalog *c, const struct config *config, time_ms now)
{
    size_t count = count_repos(config);
    struct entry *entries = make_entries(config, count, now);

    keep_unread(f, entries, count);
    date_entries(c, entries, count, now);
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < count; i++) {
        const struct entry *old = find_entry(f, entries[i].store, entries[i].repo);
        if (!old)
            continue;
        entries[i].figure.measured_at = old->figure.measured_at;
        entries[i].figure.free_bytes = old->figure.free_bytes;
        entries[i].figure.total_bytes = old->figure.total_bytes;
    }
    struct entry *past = f->entries;
    f->entries = entries;
    f->count = count;
    pthread_mutex_unlock(&f->lock);
    free(past);
}

/* ---- room ---- */

void figures_measure(struct figures *f, struct destination *d, const struct repo *repo, time_ms now)
{
    uint64_t free_bytes, total_bytes;
    struct error err;

    if (!d->kind->room)
        return;
    if (d->kind->room(d, &free_bytes, &total_bytes, &err) != 0) {
        log_warn("%s/%s: how much room there is cannot be told: %s", repo->store->id, repo->id,
                 err.message);
        return;
    }
    pthread_mutex_lock(&f->lock);
    struct entry *e = find_entry(f, repo->store->id, repo->id);
    if (e) {
        e->figure.measured_at = now;
        e->figure.free_bytes = free_bytes;
        e->figure.total_bytes = total_bytes;
    }
    pthread_mutex_unlock(&f->lock);
}
