/* SPDX-License-Identifier: MIT */
/*
 * scheduler.c - one thread that starts what is due: ticks of schedules, and retries.
 *
 * It sleeps on a timerfd until the first fire of all. The timer is absolute on CLOCK_REALTIME and
 * is cancelled when somebody sets the clock, so that nothing is ever polled; an eventfd wakes it
 * for another plan or the end. A step looks at every entry, which for thousands of repos takes
 * less than the commit of one job.
 *
 * A start goes through service_run like anybody's. The tick that it stands for is stored with the
 * job in one transaction, and by itself where no job came of it, so that after any crash a tick is
 * handled once. A busy repo drops the tick: that is a line in the log and in stores/ID/why, no job.
 *
 * `lock` guards entries, retries and stopping; it is not held while a job is started, and an entry
 * is found again by its name after that, since a reload may have put others in their place.
 */
#include "service/internal.h"

#include "service/jitter.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct entry {
    char store[LIMIT_ID + 1];
    char repo[LIMIT_ID + 1];
    char *text; /* of the schedule, to tell whether it is another one */
    struct schedule schedule;
    bool unknown;   /* its last tick could not be read, and must not be written over */
    char note[256]; /* why the last tick started nothing; "" if it did */
};

struct retry {
    struct run_request request;
    time_ms at;
    struct retry *next;
};

struct scheduler {
    pthread_mutex_t lock;
    struct entry *entries; /* by name */
    size_t count;
    struct retry *retries;
    bool stopping;
    int timer, wake;
    pthread_t thread;
    bool started;
};

struct scheduler *scheduler_new(void)
{
    struct scheduler *k = xcalloc(1, sizeof *k);

    pthread_mutex_init(&k->lock, NULL);
    k->timer = k->wake = -1;
    return k;
}

static void free_entries(struct entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        schedule_release(&entries[i].schedule);
        free(entries[i].text);
    }
    free(entries);
}

void scheduler_free(struct scheduler *k)
{
    free_entries(k->entries, k->count);
    for (struct retry *r = k->retries, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    fd_close(&k->timer);
    fd_close(&k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

static void wake(struct scheduler *k)
{
    const uint64_t one = 1;

    /* It can only fail for a counter that is full: then it is awake already. */
    if (k->wake >= 0 && write(k->wake, &one, sizeof one) < 0)
        return;
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = strcmp(x->store, y->store);

    return order ? order : strcmp(x->repo, y->repo);
}

/* With the lock held. */
static struct entry *find_entry(const struct scheduler *k, const char *store, const char *repo)
{
    struct entry key;

    snprintf(key.store, sizeof key.store, "%s", store);
    snprintf(key.repo, sizeof key.repo, "%s", repo);
    return k->count ? bsearch(&key, k->entries, k->count, sizeof key, by_name) : NULL;
}

/* ---- the plan ---- */

static time_ms handled_of(struct service *s, const struct repo *repo, bool *unknown)
{
    struct error err;
    time_ms handled = 0;

    *unknown = catalog_tick_get(s->catalog, repo->store->id, repo->id, &handled, &err) != 0;
    if (*unknown)
        log_warn("%s/%s: its last start is not known, the schedule begins now: %s", repo->store->id,
                 repo->id, err.message);
    return handled;
}

/* True if the repo has a schedule that can be read. */
static bool fill_entry(struct service *s, const struct repo *repo, struct entry *out)
{
    const char *text = settings_text(&repo->settings, "schedule");
    unsigned jitter = (unsigned)settings_int(&repo->settings, "jitter");
    char name[2 * LIMIT_ID + 2], why[SETTING_WHY_MAX];
    struct cron *cron;

    *out = (struct entry){0};
    if (!text)
        return false;
    /* The configuration has been checked; but zones are files, and may have gone since. */
    if (cron_parse(text, &cron, why, sizeof why) != 0) {
        log_error("%s/%s: no schedule: %s", repo->store->id, repo->id, why);
        return false;
    }
    snprintf(out->store, sizeof out->store, "%s", repo->store->id);
    snprintf(out->repo, sizeof out->repo, "%s", repo->id);
    out->text = xstrdup(text);
    snprintf(name, sizeof name, "%s/%s", out->store, out->repo);
    schedule_begin(&out->schedule, cron, (time_ms)schedule_jitter(name, jitter) * 1000,
                   settings_bool(&repo->settings, "catch_up"), handled_of(s, repo, &out->unknown),
                   clock_now(s->clock));
    return true;
}

static bool is_same(const struct entry *old, const struct entry *e)
{
    return old && strcmp(old->text, e->text) == 0;
}

/* Where a schedule begins is stored: what a later start finds missed is missed also if no tick of
 * it was ever handled. */
static void store_place(struct service *s, const struct entry *e, bool first)
{
    struct scheduler *k = s->scheduler;
    struct error err;

    pthread_mutex_lock(&k->lock);
    bool same = is_same(find_entry(k, e->store, e->repo), e);
    pthread_mutex_unlock(&k->lock);
    time_ms place = first ? e->schedule.handled : clock_now(s->clock);
    if (!same && !e->unknown && catalog_tick_set(s->catalog, e->store, e->repo, place, &err) != 0)
        log_warn("%s/%s: where its schedule begins is not stored: %s", e->store, e->repo,
                 err.message);
}

/* One that stays as it was keeps its place in time; one that is new or other begins now. */
static void keep_place(const struct scheduler *k, struct entry *e, bool first, time_ms now)
{
    const struct entry *old = find_entry(k, e->store, e->repo);
    bool same = is_same(old, e);

    if (first)
        return;
    struct cron *cron = e->schedule.cron;
    schedule_begin(&e->schedule, cron, e->schedule.jitter, e->schedule.catch_up,
                   same ? old->schedule.handled : now, now);
    if (!same)
        return;
    e->schedule.owed = old->schedule.owed;
    memcpy(e->note, old->note, sizeof e->note);
}

void scheduler_load(struct service *s, const struct config *config, bool first)
{
    struct scheduler *k = s->scheduler;
    struct entry *entries = NULL;
    size_t count = 0;

    for (size_t i = 0; i < config->store_count; i++)
        for (size_t j = 0; j < config->stores[i]->repo_count; j++) {
            entries = xrealloc(entries, (count + 1) * sizeof *entries);
            if (fill_entry(s, config->stores[i]->repos[j], &entries[count]))
                count++;
        }
    if (count > 0)
        qsort(entries, count, sizeof *entries, by_name);
    for (size_t i = 0; i < count; i++)
        store_place(s, &entries[i], first);
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < count; i++)
        keep_place(k, &entries[i], first, clock_now(s->clock));
    struct entry *old = k->entries;
    size_t old_count = k->count;
    k->entries = entries;
    k->count = count;
    pthread_mutex_unlock(&k->lock);
    free_entries(old, old_count);
    wake(k);
}

static time_ms next_of_repo(struct scheduler *k, const char *store, const char *repo)
{
    pthread_mutex_lock(&k->lock);
    const struct entry *e = find_entry(k, store, repo);
    time_ms fire = e ? e->schedule.fire : 0;
    pthread_mutex_unlock(&k->lock);
    return fire;
}

time_ms scheduler_next(struct scheduler *k, const char *store, const char *repo)
{
    time_ms first = 0;

    if (repo)
        return next_of_repo(k, store, repo);
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->count; i++) {
        const struct entry *e = &k->entries[i];
        if (strcmp(e->store, store) == 0 && e->schedule.fire &&
            (!first || e->schedule.fire < first))
            first = e->schedule.fire;
    }
    pthread_mutex_unlock(&k->lock);
    return first;
}

void scheduler_notes(struct scheduler *k, const char *store, bool several, struct buf *out)
{
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->count; i++) {
        const struct entry *e = &k->entries[i];
        if (strcmp(e->store, store) == 0 && e->note[0])
            buf_addf(out, "; %s%s%s", several ? e->repo : "", several ? ": " : "", e->note);
    }
    pthread_mutex_unlock(&k->lock);
}

/* ---- ticks ---- */

/* What was done about a tick. */
enum outcome { STARTED, DROPPED, LATER };

static enum outcome drop(struct service *s, const struct run_request *q, const char *why,
                         char note[256])
{
    char when[TIME_TEXT_MAX];
    struct error err;

    snprintf(note, 256, "the start of %s was dropped: %.180s", time_format(q->tick, when), why);
    log_warn("%s/%s: %s", q->store, q->repo, note);
    if (catalog_tick_set(s->catalog, q->store, q->repo, q->tick, &err) != 0)
        log_warn("%s/%s: that is not stored: %s", q->store, q->repo, err.message);
    return DROPPED;
}

static enum outcome start(struct service *s, const struct run_request *q, char note[256])
{
    struct run_reply reply;
    struct error err;

    if (service_run(s, q, &reply, &err) == 0) {
        note[0] = '\0';
        return STARTED;
    }
    if (err.code == ERR_BACKUP_ALREADY_RUNNING || err.code == ERR_NOT_FOUND)
        return drop(s, q, err.message, note);
    snprintf(note, 256, "its start is tried again: %.200s", err.message);
    log_warn("%s/%s: %s", q->store, q->repo, note);
    return LATER;
}

/* Carries out what `due` says, without the lock. */
static enum outcome act(struct service *s, const struct run_request *q, enum schedule_due due,
                        char note[256])
{
    if (due == SCHEDULE_MISSED)
        return drop(s, q, "keepfs did not run then, or the machine slept", note);
    if (due == SCHEDULE_CATCH)
        log_info("%s/%s: catching up with what was missed", q->store, q->repo);
    return start(s, q, note);
}

/* Does the first thing that is due; false if nothing is. With the lock held, which it lets go. */
static bool tick_step(struct service *s)
{
    struct scheduler *k = s->scheduler;
    struct run_request q = {.requested_by = "schedule", .attempt = 1};
    enum schedule_due due = SCHEDULE_WAIT;
    char note[256] = "";

    for (size_t i = 0; i < k->count && due == SCHEDULE_WAIT; i++) {
        struct entry *e = &k->entries[i];
        due = schedule_look(&e->schedule, clock_now(s->clock), &q.tick);
        memcpy(q.store, e->store, sizeof q.store);
        memcpy(q.repo, e->repo, sizeof q.repo);
    }
    if (due == SCHEDULE_WAIT)
        return false;
    pthread_mutex_unlock(&k->lock);
    enum outcome outcome = act(s, &q, due, note);
    pthread_mutex_lock(&k->lock);
    struct entry *e = find_entry(k, q.store, q.repo);
    /* Another schedule may have begun meanwhile, and this tick is none of its own. */
    if (e && e->schedule.handled < q.tick) {
        memcpy(e->note, note, sizeof e->note);
        if (outcome == LATER)
            schedule_postpone(&e->schedule, clock_now(s->clock));
        else
            schedule_handled(&e->schedule, q.tick);
    }
    return true;
}

/* ---- retries ---- */

/* With the lock held. */
static void drop_retry(struct scheduler *k, const char *store, const char *repo)
{
    struct retry **at = &k->retries;

    while (*at &&
           (strcmp((*at)->request.store, store) != 0 || strcmp((*at)->request.repo, repo) != 0))
        at = &(*at)->next;
    struct retry *r = *at;
    if (r)
        *at = r->next;
    free(r);
}

void scheduler_forget_retry(struct scheduler *k, const char *store, const char *repo)
{
    pthread_mutex_lock(&k->lock);
    drop_retry(k, store, repo);
    pthread_mutex_unlock(&k->lock);
}

time_ms scheduler_retry_at(struct scheduler *k, const char *store, const char *repo)
{
    time_ms at = 0;

    pthread_mutex_lock(&k->lock);
    for (const struct retry *r = k->retries; r && !at; r = r->next)
        if (strcmp(r->request.store, store) == 0 && strcmp(r->request.repo, repo) == 0)
            at = r->at;
    pthread_mutex_unlock(&k->lock);
    return at;
}

/* One a repo: another failure's takes the place of an earlier one's. */
void scheduler_retry(struct service *s, const struct run_request *request, time_ms at)
{
    struct scheduler *k = s->scheduler;
    struct retry *r = xcalloc(1, sizeof *r);

    *r = (struct retry){.request = *request, .at = at};
    pthread_mutex_lock(&k->lock);
    drop_retry(k, request->store, request->repo);
    r->next = k->retries;
    k->retries = r;
    pthread_mutex_unlock(&k->lock);
    wake(k);
}

/* As tick_step. A repo that is busy by now needs no retry. */
static bool retry_step(struct service *s)
{
    struct scheduler *k = s->scheduler;
    struct retry **at = &k->retries;
    struct run_reply reply;
    struct error err;

    while (*at && (*at)->at > clock_now(s->clock))
        at = &(*at)->next;
    struct retry *r = *at;
    if (!r)
        return false;
    *at = r->next;
    pthread_mutex_unlock(&k->lock);
    if (service_run(s, &r->request, &reply, &err) != 0) {
        log_warn("%s/%s: attempt %d is not made: %s", r->request.store, r->request.repo,
                 r->request.attempt, err.message);
        if (err.code == ERR_QUEUE_FULL || err.code == ERR_STATE_NO_SPACE ||
            err.code == ERR_STATE_UNAVAILABLE)
            scheduler_retry(s, &r->request, clock_now(s->clock) + SCHEDULE_RETRY_MS);
    }
    free(r);
    pthread_mutex_lock(&k->lock);
    return true;
}

/* ---- the thread ---- */

time_ms scheduler_step(struct service *s)
{
    struct scheduler *k = s->scheduler;
    time_ms first = 0;

    pthread_mutex_lock(&k->lock);
    while (!k->stopping && (tick_step(s) || retry_step(s)))
        ;
    for (size_t i = 0; i < k->count; i++)
        if (k->entries[i].schedule.fire && (!first || k->entries[i].schedule.fire < first))
            first = k->entries[i].schedule.fire;
    for (const struct retry *r = k->retries; r; r = r->next)
        if (!first || r->at < first)
            first = r->at;
    pthread_mutex_unlock(&k->lock);
    return first;
}

/* A timer that is not set never expires; one in the past expires at once. False if the clock was
 * set since the last look: what was planned before that is no plan. */
static bool set_timer(const struct scheduler *k, time_ms at)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = at / 1000, .tv_nsec = (long)(at % 1000) * 1000000}};

    if (timerfd_settime(k->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL) == 0)
        return true;
    if (errno == ECANCELED)
        return false;
    log_error("the scheduler's timer cannot be set: %m");
    return true;
}

static void empty(int fd)
{
    uint64_t count;

    /* ECANCELED says that the clock was set, and that is looked at anyhow. */
    if (read(fd, &count, sizeof count) < 0)
        return;
}

static bool is_stopping(struct scheduler *k)
{
    pthread_mutex_lock(&k->lock);
    bool stopping = k->stopping;
    pthread_mutex_unlock(&k->lock);
    return stopping;
}

static void *scheduler_main(void *arg)
{
    struct service *s = arg;
    struct scheduler *k = s->scheduler;
    struct pollfd fds[] = {{.fd = k->timer, .events = POLLIN}, {.fd = k->wake, .events = POLLIN}};

    pthread_setname_np(pthread_self(), "keepfs-schedule");
    while (!is_stopping(k)) {
        if (!set_timer(k, scheduler_step(s)) || poll(fds, 2, -1) < 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (fds[i].revents)
                empty(fds[i].fd);
    }
    live_leave(&s->live);
    return NULL;
}

int scheduler_start(struct service *s, struct error *err)
{
    struct scheduler *k = s->scheduler;

    k->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (k->timer < 0 || k->wake < 0)
        return error_sys(err, SIDE_STATE, errno, "cannot make the scheduler's timer");
    int failed = pthread_create(&k->thread, NULL, scheduler_main, s);
    if (failed)
        return error_sys(err, SIDE_STATE, failed, "cannot start the scheduler");
    k->started = true;
    return 0;
}

void scheduler_stop(struct scheduler *k)
{
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_mutex_unlock(&k->lock);
    wake(k);
}

bool scheduler_started(const struct scheduler *k)
{
    return k->started;
}

void scheduler_join(struct scheduler *k)
{
    if (k->started)
        pthread_join(k->thread, NULL);
    k->started = false;
}
