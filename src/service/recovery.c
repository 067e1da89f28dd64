/* SPDX-License-Identifier: MIT */
/*
 * recovery.c - what a dead daemon left, put right before anything new begins.
 *
 *   1. each repo: leftovers are swept, archives without a row are adopted, records without an
 *      archive are marked missing - the last only after a complete listing of the very place
 *   2. every job that is pending or running becomes interrupted
 *   3. staging is emptied, logs of jobs that the catalog does not know are removed
 *
 * Adopting comes before interrupting, so that an interrupted job can say that its archive is
 * whole. A repo that cannot be read keeps its records as they are and is logged. Only a catalog
 * that cannot be written stops the start.
 */
#include "service/internal.h"

#include "archive/payload.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"
#include "util/ulid.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- adopting ---- */

/* An archive was durable before it appeared, so that its bytes need no reading here; one whose
 * sizes are not right was damaged afterwards and is not offered, nor is one that the repo's policy
 * does not admit, or whose key is not there to tell whether it is one of ours. */
int recovery_describe(struct destination *d, const struct repo *repo, const char *ulid,
                      struct record *out, struct error *err)
{
    struct archive_policy policy = archive_policy_of(repo);
    struct archive a;

    *out = (struct record){0};
    if (archive_examine(d, ulid, &policy, &a, err) != 0)
        return -1;
    const struct manifest *m = &a.manifest;
    memcpy(out->ulid, m->backup_id, sizeof out->ulid);
    snprintf(out->store, sizeof out->store, "%s", m->store_id);
    snprintf(out->store_kind, sizeof out->store_kind, "%s", m->store_kind);
    snprintf(out->repo, sizeof out->repo, "%s", repo->id);
    out->created_at = m->created_at;
    out->size_bytes = m->stored.size;
    out->content_bytes = m->content_bytes;
    snprintf(out->sha256, sizeof out->sha256, "%s", m->stored.sha256);
    out->manifest_bytes = a.manifest_bytes;
    out->payload_id_count = m->payload_id_count;
    out->payload_ids_bytes = a.ids_bytes;
    archive_release(&a);
    return 0;
}

/* `strange`: this catalog knows nothing of the place, so neither what was pinned there. */
static void adopt(struct service *s, struct destination *d, const struct repo *repo,
                  const char *ulid, bool strange)
{
    struct record known, record;
    struct error err;
    bool adopted = false;

    if (catalog_record_get(s->catalog, ulid, &known, &err) == 0)
        return;
    if (recovery_describe(d, repo, ulid, &record, &err) != 0) {
        log_warn("%s/%s: archive %s is not adopted: %s", repo->store->id, repo->id, ulid,
                 err.message);
        return;
    }
    record.pinned = strange;
    if (catalog_record_adopt(s->catalog, &record, &adopted, &err) != 0)
        log_error("%s/%s: archive %s cannot be adopted: %s", repo->store->id, repo->id, ulid,
                  err.message);
    else if (adopted)
        log_info("%s/%s: archive %s adopted", repo->store->id, repo->id, ulid);
}

/* ---- one repo ---- */

/* The repo being swept. */
struct sweep {
    struct catalog *catalog;
    const struct repo *repo;
};

/* A deletion takes the record first. So an archive with a record, listed or missing, has lost its
 * manifest in some other way, and its payload is all that there is. */
static bool has_record(void *ctx, const char *ulid)
{
    const struct sweep *s = ctx;
    enum record_state state;
    struct record record;
    struct error err;

    if (catalog_record_find(s->catalog, ulid, &record, &state, &err) == 0
            ? state == RECORD_DELETING
            : err.code == ERR_NOT_FOUND)
        return false;
    log_warn("%s/%s: archive %s has lost its manifest; its payload is left where it is",
             s->repo->store->id, s->repo->id, ulid);
    return true;
}

static void say_swept(void *ctx, const char *ulid, bool partial)
{
    const struct repo *repo = ((const struct sweep *)ctx)->repo;

    log_info("%s/%s: removed %s archive %s", repo->store->id, repo->id,
             partial ? "half-written" : "half-deleted", ulid);
}

/* What is not in `list` is missing only if this is the place where it was; and a place that is
 * ours, with archives in it, is not to be made anew when it is absent. */
static int reconcile_rows(struct service *s, struct destination *d, const struct repo *repo,
                          const struct archive_list *list, bool used, struct error *err)
{
    const char *store = repo->store->id;
    struct error why;
    size_t missing;

    bool ours = d->kind->recognise(d, &why) == 0;
    if (used && !ours) {
        *err = why;
        return -1;
    }
    if (ours && !used && list->count > 0 &&
        catalog_repo_used(s->catalog, store, repo->id, repo->place, err) != 0)
        return -1;
    if (catalog_records_missing(s->catalog, store, repo->id, list->ids, list->count, &missing,
                                err) != 0)
        return -1;
    if (missing > 0)
        log_warn("%s/%s: %zu records have no archive in %s any more and are not listed", store,
                 repo->id, missing, repo->place);
    return 0;
}

static int reconcile(struct service *s, struct destination *d, struct repo *repo, struct error *err)
{
    static const struct archive_sweep_ops ops = {.keep = has_record, .swept = say_swept};
    struct sweep sweep = {.catalog = s->catalog, .repo = repo};
    struct archive_list list;
    bool used;

    if (catalog_repo_is_used(s->catalog, repo->store->id, repo->id, repo->place, &used, err) != 0)
        return -1;
    if (archive_sweep(d, &ops, &sweep, err) != 0)
        log_warn("%s/%s: leftovers are not removed: %s", repo->store->id, repo->id, err->message);
    if (archive_list(d, &list, err) != 0)
        return -1;
    for (size_t i = 0; i < list.count; i++)
        adopt(s, d, repo, list.ids[i], !used);
    if (!used && list.count > 0)
        log_warn("%s/%s: %s is new to this catalog, and what was pinned there is not known: all "
                 "that it had is pinned now; `echo 0 > records/ULID/pinned` lets one go",
                 repo->store->id, repo->id, repo->place);
    int result = reconcile_rows(s, d, repo, &list, used, err);
    archive_list_free(&list);
    return result;
}

void recovery_reconcile(struct service *s, struct repo *repo)
{
    struct destination *d;
    struct error err, used_err;
    bool used = true;

    if (repo->kind->open(&repo->settings, 0, &d, &err) != 0) {
        if (err.code == ERR_DESTINATION_NOT_FOUND &&
            catalog_repo_is_used(s->catalog, repo->store->id, repo->id, repo->place, &used,
                                 &used_err) == 0 &&
            !used)
            return; /* the first backup makes it */
        log_warn("%s/%s: not reconciled: %s", repo->store->id, repo->id, err.message);
        return;
    }
    if (reconcile(s, d, repo, &err) != 0)
        log_warn("%s/%s: not reconciled: %s", repo->store->id, repo->id, err.message);
    figures_measure(s->figures, d, repo, clock_now(s->clock));
    repo->kind->close(d);
}

/* ---- the whole ---- */

static int make_directory(const char *path, struct error *err)
{
    if (dir_create(path) != 0)
        return error_sys(err, SIDE_STATE, errno, "%s cannot be made", path);
    return 0;
}

/* Logs whose job went with a catalog that was deleted. */
static void sweep_logs(struct service *s)
{
    struct job job;
    struct error err;
    DIR *dir = opendir(s->logs);

    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        char name[ULID_LEN + 1];
        size_t len = strlen(e->d_name);
        if (len != ULID_LEN + 4 || strcmp(e->d_name + ULID_LEN, ".log") != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", ULID_LEN, e->d_name);
        if (ulid_valid(name) && catalog_job_get(s->catalog, name, &job, &err) != 0 &&
            err.code == ERR_NOT_FOUND)
            unlinkat(dirfd(dir), e->d_name, 0);
    }
    closedir(dir);
}

int recovery_run(struct service *s, struct error *err)
{
    size_t interrupted;

    if (make_directory(s->staging, err) != 0 || make_directory(s->logs, err) != 0)
        return -1;
    for (size_t i = 0; i < s->config->store_count; i++)
        for (size_t k = 0; k < s->config->stores[i]->repo_count; k++)
            recovery_reconcile(s, s->config->stores[i]->repos[k]);
    if (catalog_jobs_interrupt(s->catalog, clock_now(s->clock), &interrupted, err) != 0)
        return error_context(err, "jobs of the last run cannot be marked as interrupted");
    if (interrupted > 0)
        log_warn("%zu jobs of the last run were interrupted", interrupted);
    if (dir_clear(s->staging) != 0)
        log_warn("%s: not all leftovers can be removed: %m", s->staging);
    sweep_logs(s);
    return 0;
}
