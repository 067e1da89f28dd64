/* SPDX-License-Identifier: MIT */
/*
 * fsck.c - the command: the catalog by itself, each repo (fsck_repo.c), then the state directory.
 *
 * Whether a daemon runs is asked with flock(2) on its lock, shared and for no longer than the call:
 * that cannot take anything from a daemon that runs. One that is starting in this very moment could
 * find the lock taken, so it is asked only when the answer makes the difference: with something at
 * hand that is normal under a daemon and a leftover without one. It is asked after that was seen,
 * so that a daemon that came meanwhile is given the benefit.
 */
#include "fsck_internal.h"

#include "archive/policy.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/fsutil.h"
#include "util/log.h"
#include "util/process.h"
#include "util/ulid.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* A start of the daemon, which a look may have to wait for, takes some ten ms here. */
enum { LOOK_PATIENCE_MS = 1000, LOOK_PAUSE_MS = 50 };

/* ---- findings ---- */

static const struct {
    const char *name;
    enum error_code class;
} findings[] = {
#define X(id, name, class) [id] = {name, class},
    FINDINGS(X)
#undef X
};

/* File names and what a manifest says are a stranger's, and a finding is one line. */
static void put_text(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            printf("\\x%02x", (unsigned)(unsigned char)*text);
        else
            putchar(*text);
}

void fsck_find(struct fsck *f, enum finding what, const struct subject *about,
               const struct error *why)
{
    printf("%s ", findings[what].name);
    if (about->store)
        printf("%s/%s ", about->store, about->repo);
    else
        printf("- ");
    printf("%s ", about->id ? about->id : "-");
    put_text(why->message);
    putchar('\n');
    f->findings++;
    f->repairable |= findings[what].class == ERR_REPAIRABLE;
    f->damaged |= findings[what].class == ERR_DAMAGED;
    if (findings[what].class == ERR_NONE && !f->unable)
        f->unable = why->code;
}

static int exit_status(const struct fsck *f)
{
    if (f->damaged)
        return error_code_exit(ERR_DAMAGED);
    if (f->unable)
        return error_code_exit(f->unable);
    return f->repairable ? error_code_exit(ERR_REPAIRABLE) : 0;
}

/* ---- the catalog ---- */

static int look_once(struct fsck *f, fsck_look_fn look, void *ctx, struct error *err)
{
    struct catalog *c = catalog_open_look(f->catalog, err);

    if (!c)
        return err->code == ERR_NOT_FOUND ? 1 : -1;
    int result = look(c, ctx, err);
    catalog_close(c);
    return result;
}

int fsck_look(struct fsck *f, fsck_look_fn look, void *ctx)
{
    struct error err;

    if (f->blind)
        return -1;
    int result = look_once(f, look, ctx, &err);
    time_ms until = clock_monotonic() + LOOK_PATIENCE_MS;
    while (result < 0 && clock_monotonic() < until) {
        usleep(LOOK_PAUSE_MS * 1000);
        result = look_once(f, look, ctx, &err);
    }
    if (result < 0) {
        fsck_find(f, CATALOG_UNREADABLE, &(struct subject){0}, &err);
        f->blind = true;
    }
    return result;
}

bool fsck_daemon_runs(const struct fsck *f)
{
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/lock", f->config->state);
    __attribute__((cleanup(fd_close))) int fd =
        open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno != ENOENT && errno != ENOTDIR;
    return flock(fd, LOCK_SH | LOCK_NB) != 0;
}

/* The faults of one check, a line each. */
static void keep_fault(void *ctx, const char *text)
{
    buf_addf(ctx, "%s\n", text);
}

static int look_at_pages(struct catalog *c, void *ctx, struct error *err)
{
    buf_truncate(ctx, 0);
    return catalog_integrity(c, keep_fault, ctx, err);
}

static void check_catalog(struct fsck *f)
{
    struct buf faults = BUF_INIT;
    struct error why;
    char *rest = NULL;
    int result = fsck_look(f, look_at_pages, &faults);

    if (result == 0 && faults.len > 0)
        result = fsck_look(f, look_at_pages, &faults);
    char *text = buf_steal(&faults);
    for (char *line = strtok_r(text, "\n", &rest); result == 0 && line;
         line = strtok_r(NULL, "\n", &rest)) {
        error_set(
            &why, ERR_DAMAGED,
            "%s: %s; if it is beyond repair, move it away: records are adopted again from the "
            "repos",
            f->catalog, line);
        fsck_find(f, CATALOG_DAMAGED, &(struct subject){0}, &why);
    }
    free(text);
}

struct repo_counts {
    struct repo_count {
        char store[LIMIT_ID + 1], repo[LIMIT_ID + 1];
        size_t records;
    } * repos;
    size_t count;
};

static void take_count(void *ctx, const char *store, const char *repo, size_t records)
{
    struct repo_counts *c = ctx;

    c->repos = xrealloc(c->repos, (c->count + 1) * sizeof c->repos[0]);
    struct repo_count *r = &c->repos[c->count++];
    snprintf(r->store, sizeof r->store, "%s", store);
    snprintf(r->repo, sizeof r->repo, "%s", repo);
    r->records = records;
}

static int look_at_counts(struct catalog *c, void *ctx, struct error *err)
{
    ((struct repo_counts *)ctx)->count = 0;
    return catalog_records_count(c, take_count, ctx, err);
}

static void check_configured(struct fsck *f)
{
    struct repo_counts counts = {0};
    struct error why;

    if (fsck_look(f, look_at_counts, &counts) == 0)
        for (size_t i = 0; i < counts.count; i++) {
            const struct repo_count *r = &counts.repos[i];
            const struct store *store = config_store(f->config, r->store);
            if (store && store_repo(store, r->repo))
                continue;
            error_set(&why, ERR_DESTINATION_CONFIG_INVALID,
                      "the repo is not in the configuration any more, but %zu of its records are "
                      "listed, which cannot be read",
                      r->records);
            fsck_find(f, REPO_NOT_CONFIGURED, &(struct subject){.store = r->store, .repo = r->repo},
                      &why);
        }
    free(counts.repos);
}

/* ---- jobs ---- */

static bool take_active(void *ctx, const struct catalog_entry *e)
{
    struct active_jobs *a = ctx;

    if (a->count == a->room) {
        a->room = a->room ? a->room * 2 : 16;
        a->jobs = xrealloc(a->jobs, a->room * sizeof a->jobs[0]);
    }
    snprintf(a->jobs[a->count++].ulid, sizeof a->jobs[0].ulid, "%s", e->name);
    return true;
}

int fsck_active_jobs(struct catalog *c, struct active_jobs *out, struct error *err)
{
    struct job job;

    out->count = 0;
    if (catalog_list(c, LIST_JOBS_ACTIVE, 0, take_active, out, err) != 0)
        return -1;
    for (size_t i = 0; i < out->count; i++) {
        struct active_job *a = &out->jobs[i];
        if (catalog_job_get(c, a->ulid, &job, err) != 0)
            return -1;
        a->state = job.state;
        memcpy(a->record, job.record, sizeof a->record);
        memcpy(a->store, job.store, sizeof a->store);
        memcpy(a->repo, job.repo, sizeof a->repo);
    }
    return 0;
}

static int look_at_jobs(struct catalog *c, void *ctx, struct error *err)
{
    return fsck_active_jobs(c, ctx, err);
}

static bool is_active(const struct active_jobs *active, const char *ulid)
{
    for (size_t i = 0; i < active->count; i++)
        if (strcmp(active->jobs[i].ulid, ulid) == 0)
            return true;
    return false;
}

/* A daemon that ends between the first look and the question has made them interrupted by then. */
static void check_jobs(struct fsck *f)
{
    struct active_jobs before = {0}, after = {0};
    struct error why;

    if (fsck_look(f, look_at_jobs, &before) == 0 && before.count > 0 && !fsck_daemon_runs(f) &&
        fsck_look(f, look_at_jobs, &after) == 0)
        for (size_t i = 0; i < after.count; i++) {
            const struct active_job *a = &after.jobs[i];
            if (!is_active(&before, a->ulid))
                continue;
            error_set(&why, ERR_REPAIRABLE,
                      "the job is %s, but no keepfs runs: the next start makes it interrupted",
                      job_state_name(a->state));
            fsck_find(f, JOB_LEFT_RUNNING,
                      &(struct subject){.store = a->store, .repo = a->repo, .id = a->ulid}, &why);
        }
    free(before.jobs);
    free(after.jobs);
}

/* ---- the state directory ---- */

/* The entries of STATE/`name`, a line each. What cannot be listed has none: a start makes it. */
static char *list_names(const struct fsck *f, const char *name)
{
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/%s", f->config->state, name);
    struct buf names = BUF_INIT;
    DIR *dir = opendir(path);

    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !strchr(e->d_name, '\n'))
            buf_addf(&names, "%s\n", e->d_name);
    if (dir)
        closedir(dir);
    return buf_steal(&names);
}

static void check_staging(struct fsck *f)
{
    __attribute__((cleanup(free_charp))) char *names = list_names(f, "staging");
    struct error why;
    char *rest = NULL;

    if (!*names || fsck_daemon_runs(f))
        return;
    for (char *name = strtok_r(names, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
        error_set(&why, ERR_REPAIRABLE, "%s/staging/%s was left by a job that died",
                  f->config->state, name);
        fsck_find(f, STAGING_LEFTOVER, &(struct subject){0}, &why);
    }
}

struct logs {
    char (*jobs)[ULID_LEN + 1];
    size_t count;
    bool *orphan;
};

/* The jobs that have a log. */
static void list_logs(const struct fsck *f, struct logs *out)
{
    __attribute__((cleanup(free_charp))) char *names = list_names(f, "logs");
    size_t room = strlen(names) / (ULID_LEN + 5);
    char *rest = NULL;

    *out = (struct logs){.jobs = xcalloc(room, sizeof out->jobs[0])};
    for (char *name = strtok_r(names, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
        if (strlen(name) != ULID_LEN + 4 || strcmp(name + ULID_LEN, ".log") != 0)
            continue;
        name[ULID_LEN] = '\0';
        if (ulid_valid(name))
            memcpy(out->jobs[out->count++], name, ULID_LEN + 1);
    }
    out->orphan = xcalloc(out->count, sizeof out->orphan[0]);
    memset(out->orphan, true, out->count);
}

static int look_for_log_jobs(struct catalog *c, void *ctx, struct error *err)
{
    struct logs *l = ctx;
    struct job job;

    for (size_t i = 0; i < l->count; i++) {
        l->orphan[i] = catalog_job_get(c, l->jobs[i], &job, err) != 0;
        if (l->orphan[i] && err->code != ERR_NOT_FOUND)
            return -1;
    }
    return 0;
}

/* A job's row is there before its log, so that beside a daemon every log has one. */
static void check_logs(struct fsck *f)
{
    struct error why;
    struct logs logs;

    list_logs(f, &logs);
    if (fsck_look(f, look_for_log_jobs, &logs) >= 0)
        for (size_t i = 0; i < logs.count; i++) {
            if (!logs.orphan[i])
                continue;
            error_set(&why, ERR_REPAIRABLE,
                      "%s/logs/%s.log is of a job that the catalog does not know", f->config->state,
                      logs.jobs[i]);
            fsck_find(f, LOG_WITHOUT_JOB, &(struct subject){.id = logs.jobs[i]}, &why);
        }
    free(logs.jobs);
    free(logs.orphan);
}

/* ---- the whole ---- */

static bool has_keys(const struct config *config)
{
    for (size_t i = 0; i < config->store_count; i++)
        for (size_t k = 0; k < config->stores[i]->repo_count; k++)
            if (archive_policy_of(config->stores[i]->repos[k]).key_count > 0)
                return true;
    return false;
}

static void check_all(struct fsck *f)
{
    check_catalog(f);
    for (size_t i = 0; i < f->config->store_count; i++)
        for (size_t k = 0; k < f->config->stores[i]->repo_count; k++)
            fsck_repo(f, f->config->stores[i]->repos[k]);
    check_configured(f);
    check_jobs(f);
    check_staging(f);
    check_logs(f);
    printf("%zu findings, %zu archives checked\n", f->findings, f->archives);
}

int fsck_run(const struct fsck_options *options)
{
    struct buf faults = BUF_INIT;
    struct config *config = config_load(options->config, NULL, &faults);

    fputs(buf_text(&faults), stderr);
    buf_release(&faults);
    if (!config)
        return error_code_exit(ERR_CONFIG_INVALID);
    if (has_keys(config))
        process_forbid_dumps();
    struct fsck f = {
        .config = config,
        .deep = options->deep,
        .catalog = xasprintf("%s/catalog.sqlite", config->state),
        .cache = frame_cache_new(0),
    };
    check_all(&f);
    frame_cache_free(f.cache);
    free(f.catalog);
    config_free(config);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status(&f);
    log_error("cannot write to stdout: %m");
    return error_code_exit(ERR_TARGET_FAILED);
}
