/* SPDX-License-Identifier: MIT */
/*
 * reload.c - which configuration is in force, and how another takes its place.
 *
 * A configuration is immutable and counted (config.h): whoever works with one holds it. A reload
 * reads the file anew and puts the result in force by one assignment, so that everything begun
 * before it goes on by the old one, and everything after by the new one.
 *
 * `past` keeps configurations that name a repo which no later one does: its records stay readable
 * and can be deleted until keepfs ends.
 *
 * Refused, besides whatever `keepfs check` refuses: another state directory, another max_jobs,
 * another control_group or read_group, and the first run_group, which take a restart: attributes
 * that the kernel keeps have the groups, and the mount was made for its owner alone or not; another
 * place for a repo that has records, since they would seem lost.
 */
#include "service/internal.h"

#include "archive/policy.h"
#include "util/buf.h"
#include "util/log.h"
#include "util/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct config *service_config(struct service *s)
{
    pthread_mutex_lock(&s->config_lock);
    struct config *config = config_ref(s->config);
    pthread_mutex_unlock(&s->config_lock);
    return config;
}

static struct repo *find_repo(const struct config *c, const char *store, const char *repo)
{
    const struct store *found = config_store(c, store);

    return found ? store_repo(found, repo) : NULL;
}

struct repo *service_find_repo(struct service *s, const char *store, const char *repo,
                               struct config **config)
{
    struct repo *found;

    pthread_mutex_lock(&s->config_lock);
    *config = s->config;
    found = find_repo(s->config, store, repo);
    for (size_t i = s->past_count; !found && i-- > 0;) {
        *config = s->past[i];
        found = find_repo(s->past[i], store, repo);
    }
    config_ref(*config);
    pthread_mutex_unlock(&s->config_lock);
    return found;
}

/* ---- reload ---- */

static int refuse(struct error *err, const char *what)
{
    error_set(err, ERR_CONFIG_INVALID, "%s", what);
    err->errnum = EINVAL;
    return -1;
}

/* The faults go to the log, the first of them to whoever asked. */
static int refuse_faults(struct error *err, struct buf *faults)
{
    char *text = buf_steal(faults), *rest = text;

    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line)
            log_error("%s", line);
    error_set(err, ERR_CONFIG_INVALID, "%s", text);
    err->errnum = EINVAL;
    free(text);
    return -1;
}

/* What was ever stored at the old place, or is about to be, would seem lost. */
static int check_place(struct service *s, const struct repo *before, const struct repo *after,
                       struct error *err)
{
    bool used = false;

    if (!before || strcmp(before->place, after->place) == 0)
        return 0;
    if (catalog_repo_is_used(s->catalog, after->store->id, after->id, before->place, &used, err) !=
        0)
        return -1;
    if (!used && !live_has(&s->live, before))
        return 0;
    error_set(err, ERR_CONFIG_INVALID,
              "the path of %s/%s cannot change from %s to %s while it has records: give the new "
              "place a repo of another name",
              after->store->id, after->id, before->place, after->place);
    err->errnum = EINVAL;
    return -1;
}

/* Every name gets its row now, so that nothing can fail once it is in force. */
static int check_repos(struct service *s, const struct config *after, struct error *err)
{
    int result = 0;

    for (size_t i = 0; i < after->store_count; i++) {
        struct store *store = after->stores[i];
        if (catalog_store_row(s->catalog, store->id, &store->row, err) != 0)
            return -1;
        for (size_t j = 0; result == 0 && j < store->repo_count; j++) {
            struct repo *repo = store->repos[j];
            struct config *held; /* one of a past configuration may be back */
            const struct repo *known = service_find_repo(s, store->id, repo->id, &held);
            result = catalog_repo_row(s->catalog, store->id, repo->id, &repo->row, err);
            if (result == 0)
                result = check_place(s, known, repo, err);
            config_free(held);
        }
    }
    return result;
}

static int check_groups(const struct config *before, const struct config *after, struct error *err)
{
    if (!group_same(before->control_group, after->control_group))
        return refuse(err, "control_group cannot change without a restart");
    if (!group_same(before->read_group, after->read_group))
        return refuse(err, "read_group cannot change without a restart");
    if (config_shared(after) && !config_shared(before))
        return refuse(err, "the first run_group takes a restart: until then the mount is its "
                           "owner's alone");
    return 0;
}

static int check_change(struct service *s, const struct config *before, const struct config *after,
                        struct error *err)
{
    if (strcmp(before->state, after->state) != 0)
        return refuse(err, "the state directory cannot change without a restart");
    if (settings_int(&before->settings, "max_jobs") != settings_int(&after->settings, "max_jobs"))
        return refuse(err, "max_jobs cannot change without a restart");
    return check_groups(before, after, err) != 0 ? -1 : check_repos(s, after, err);
}

/* Does `before` name a repo that `after` does not? */
static bool has_more(const struct config *before, const struct config *after)
{
    for (size_t i = 0; i < before->store_count; i++)
        for (size_t j = 0; j < before->stores[i]->repo_count; j++)
            if (!find_repo(after, before->stores[i]->id, before->stores[i]->repos[j]->id))
                return true;
    return false;
}

/* `after` is in force from here on. Past ones that it makes needless are given up. */
static void put_in_force(struct service *s, struct config *after)
{
    pthread_mutex_lock(&s->config_lock);
    struct config **all = xcalloc(s->past_count + 1, sizeof(struct config *));
    size_t kept = 0;
    for (size_t i = 0; i <= s->past_count; i++) {
        struct config *c = i < s->past_count ? s->past[i] : s->config;
        if (has_more(c, after))
            all[kept++] = c;
        else
            config_free(c);
    }
    free(s->past);
    s->past = all;
    s->past_count = kept;
    s->config = after;
    pthread_mutex_unlock(&s->config_lock);
}

static void try_keys(const struct repo *r)
{
    struct archive_policy policy = archive_policy_of(r);
    struct error err;
    struct key *key;

    for (size_t i = 0; i < policy.key_count; i++) {
        process_forbid_dumps();
        if (key_load(policy.keys[i], &key, &err) == 0)
            key_free(key);
        else
            log_warn("%s; jobs and reads that need it will fail", err.message);
    }
}

/* What stands at places that are new here is adopted; keys that cannot be had are told of. */
static void welcome(struct service *s, const struct config *before, struct config *after)
{
    for (size_t i = 0; i < after->store_count; i++)
        for (size_t j = 0; j < after->stores[i]->repo_count; j++) {
            struct repo *r = after->stores[i]->repos[j];
            const struct repo *old = find_repo(before, r->store->id, r->id);
            try_keys(r);
            if (!old || strcmp(old->place, r->place) != 0)
                keeper_reconcile(s->keeper, after, r);
        }
}

static int reload(struct service *s, struct config *before, struct error *err)
{
    struct buf faults = BUF_INIT;
    struct config *after = config_load(before->path, before->mountpoint, &faults);

    if (!after)
        return refuse_faults(err, &faults);
    if (check_change(s, before, after, err) != 0) {
        config_free(after);
        return -1;
    }
    put_in_force(s, config_ref(after));
    live_set_max_queue(&s->live, (size_t)settings_int(&after->settings, "max_queue"));
    scheduler_load(s, after, false);
    figures_load(s->figures, s->catalog, after, clock_now(s->clock));
    welcome(s, before, after);
    config_free(after);
    return 0;
}

int service_reload(struct service *s, const char *by, struct error *err)
{
    if (live_is_stopping(&s->live))
        return live_stopping_error(err);
    pthread_mutex_lock(&s->reload_lock);
    struct config *before = service_config(s);
    int result = reload(s, before, err);
    if (result == 0 && !is_caller(by))
        log_info("%s was read again for %s", before->path, by);
    else if (result != 0)
        log_error("%s was not taken, all stays as it was: %s", before->path, err->message);
    config_free(before);
    pthread_mutex_unlock(&s->reload_lock);
    return result;
}
