/* SPDX-License-Identifier: MIT */
/*
 * files.c - the table of files, and a function for each that has text.
 *
 * Conventions are those of cgroup v2: one value per file and a newline; groups are `KEY VALUE`
 * lines. A value that is not there yet is an empty line, so that `read x < file` succeeds and
 * gives "". Symlinks are relative, so that they hold inside any mount point.
 */
#include "fs/files.h"

#include "archive/policy.h"
#include "fs/report.h"
#include "fs/run_file.h"
#include "fs/text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void add_text(struct buf *out, const char *value)
{
    text_escape(out, value, strlen(value));
    buf_adds(out, "\n");
}

static void add_number(struct buf *out, uint64_t value)
{
    buf_addf(out, "%" PRIu64 "\n", value);
}

static void add_time(struct buf *out, time_ms t)
{
    char text[TIME_TEXT_MAX];

    add_text(out, t ? time_format(t, text) : "");
}

/* A file that shows one field of its subject. */
#define DEFINE_FIELD(function, add, expression)                                                    \
    static int function(struct subject *s, struct buf *out)                                        \
    {                                                                                              \
        add(out, expression);                                                                      \
        return 0;                                                                                  \
    }

/* ---- / ---- */

DEFINE_FIELD(root_readme, buf_adds, ((void)s, manual_text))

static int root_last_error(struct subject *s, struct buf *out)
{
    last_errors_render(s->tree->last_errors, s->uid, out);
    return 0;
}

/* What a fresh open of ctl reads. */
static int root_ctl(struct subject *s, struct buf *out)
{
    const struct config *config = s->config;

    buf_adds(out, "# Write one command per line; read the same open for the jobs it started.\n"
                  "#   STORE [key=TOKEN] [label=TEXT]       back up to each repo of the store\n"
                  "#   STORE/REPO [key=TOKEN] [label=TEXT]  back up to that repo\n"
                  "# What can be written here:\n");
    for (size_t i = 0; i < config->store_count; i++) {
        const struct store *store = config->stores[i];
        buf_addf(out, "%s\n", store->id);
        for (size_t k = 0; k < store->repo_count; k++)
            buf_addf(out, "%s/%s\n", store->id, store->repos[k]->id);
    }
    return 0;
}

static int turn_reload(struct service *s, const char *id, bool on, const char *by,
                       struct error *err)
{
    (void)id;
    (void)on;
    return service_reload(s, by, err);
}

/* ---- /jobs ---- */

static int jobs_have_latest(struct subject *s)
{
    struct error err;

    return catalog_job_latest(service_catalog(s->tree->service), &s->job, &err) == 0
               ? 0
               : tree_errno(&err);
}

static time_ms job_created(const struct subject *s)
{
    return s->job.created_at;
}

DEFINE_FIELD(jobs_latest, buf_adds, s->job.ulid)

/* ---- /jobs/ULID ---- */

DEFINE_FIELD(job_status, add_text, job_state_name(s->job.state))
DEFINE_FIELD(job_kind, add_text, s->job.kind)
DEFINE_FIELD(job_store, add_text, s->job.store)
DEFINE_FIELD(job_repo, add_text, s->job.repo)
DEFINE_FIELD(job_requested_by, add_text, s->job.requested_by)
DEFINE_FIELD(job_label, add_text, s->job.label)
DEFINE_FIELD(job_created_at, add_time, s->job.created_at)
DEFINE_FIELD(job_started_at, add_time, s->job.started_at)
DEFINE_FIELD(job_finished_at, add_time, s->job.finished_at)
DEFINE_FIELD(job_progress, add_number, (uint64_t)s->job.progress)
DEFINE_FIELD(job_error, add_text, s->job.error.code ? s->job.error.message : "")
DEFINE_FIELD(job_error_code, add_text, error_code_name(s->job.error.code))
DEFINE_FIELD(job_hint, add_text, error_code_hint(s->job.error.code))

static int job_stats(struct subject *s, struct buf *out)
{
    for (size_t i = 0; i < s->job.stats.count; i++)
        buf_addf(out, "%s %" PRIu64 "\n", s->job.stats.items[i].key, s->job.stats.items[i].value);
    return 0;
}

static int job_json(struct subject *s, struct buf *out)
{
    struct error err;

    return catalog_job_json(service_catalog(s->tree->service), s->job.row, out, &err) == 0
               ? 0
               : tree_errno(&err);
}

static int job_has_record(struct subject *s)
{
    return s->job.record_row ? 0 : ENOENT;
}

static int job_record(struct subject *s, struct buf *out)
{
    buf_addf(out, "../../records/%s", s->job.record);
    return 0;
}

static int turn_cancel(struct service *s, const char *id, bool on, const char *by,
                       struct error *err)
{
    (void)on;
    return service_cancel(s, id, by, err);
}

/* ---- /records/ULID ---- */

DEFINE_FIELD(record_size_bytes, add_number, s->record.size_bytes)
DEFINE_FIELD(record_content_bytes, add_number, s->record.content_bytes)
DEFINE_FIELD(record_sha256, add_text, s->record.sha256)
DEFINE_FIELD(record_created_at, add_time, s->record.created_at)
DEFINE_FIELD(record_store, add_text, s->record.store)
DEFINE_FIELD(record_store_kind, add_text, s->record.store_kind)
DEFINE_FIELD(record_repo, add_text, s->record.repo)
DEFINE_FIELD(record_pinned, add_number, s->record.pinned)
DEFINE_FIELD(record_suspect, add_text, s->record.suspect ? "yes" : "no")

static int turn_review(struct service *s, const char *id, bool on, const char *by,
                       struct error *err)
{
    (void)on;
    return service_review(s, id, by, err);
}

static int record_has_ids(struct subject *s)
{
    return s->record.payload_id_count ? 0 : ENOENT;
}

static int record_has_job(struct subject *s)
{
    return s->record.job_row ? 0 : ENOENT;
}

static int record_job(struct subject *s, struct buf *out)
{
    buf_addf(out, "../../jobs/%s", s->record.job);
    return 0;
}

static int record_json(struct subject *s, struct buf *out)
{
    enum record_state state = s->leaving ? RECORD_DELETING : RECORD_GOOD;
    struct error err;

    return catalog_record_json(service_catalog(s->tree->service), &s->record, state, out, &err) == 0
               ? 0
               : tree_errno(&err);
}

static uint64_t manifest_size(const struct subject *s)
{
    return s->record.manifest_bytes;
}

static uint64_t stored_size(const struct subject *s)
{
    return s->record.size_bytes;
}

/* The stream as it left the source. */
static uint64_t content_size(const struct subject *s)
{
    return s->record.content_bytes;
}

static uint64_t ids_size(const struct subject *s)
{
    return s->record.payload_ids_bytes;
}

/* ---- /stores/ID ---- */

DEFINE_FIELD(store_kind, add_text, s->store->kind->name)

static int store_run(struct subject *s, struct buf *out)
{
    run_file_render(s->store, out);
    return 0;
}

DEFINE_FIELD(store_next_run, add_time, service_next_run(s->tree->service, s->store->id, NULL))

static int store_why(struct subject *s, struct buf *out)
{
    struct buf why = BUF_INIT;

    service_why(s->tree->service, s->store->id, &why);
    add_text(out, buf_text(&why));
    buf_release(&why);
    return 0;
}

static int store_state(struct subject *s, struct buf *out)
{
    enum job_state state;
    struct error err;
    bool active;

    if (catalog_store_activity(service_catalog(s->tree->service), s->store->id, &state, &active,
                               &err) != 0)
        return tree_errno(&err);
    add_text(out, active ? job_state_name(state) : "idle");
    return 0;
}

static int store_has_record(struct subject *s)
{
    struct error err;

    if (s->record.row) /* for another file of the same listing */
        return 0;
    return catalog_record_latest(service_catalog(s->tree->service), s->store->id, NULL, &s->record,
                                 &err) == 0
               ? 0
               : tree_errno(&err);
}

/* The date of the last good backup: `find stores -name last_success -mmin +1500`. */
static time_ms store_last_time(const struct subject *s)
{
    return s->record.created_at;
}

DEFINE_FIELD(store_last_success, add_text, s->record.ulid)

static int store_latest(struct subject *s, struct buf *out)
{
    buf_addf(out, "../../records/%s", s->record.ulid);
    return 0;
}

/* ---- /stores/ID/repos/R ---- */

DEFINE_FIELD(repo_kind, add_text, s->repo->kind->name)
DEFINE_FIELD(repo_location, add_text, s->repo->place)

static int repo_encrypted(struct subject *s, struct buf *out)
{
    add_text(out, archive_policy_of(s->repo).encrypt ? "yes" : "no");
    return 0;
}

static int repo_compression(struct subject *s, struct buf *out)
{
    struct archive_policy p = archive_policy_of(s->repo);

    if (p.compress)
        buf_addf(out, "zstd:%d\n", p.level);
    else
        add_text(out, "none");
    return 0;
}

DEFINE_FIELD(repo_next_run, add_time, service_next_run(s->tree->service, s->store->id, s->repo->id))

static int repo_retention(struct subject *s, struct buf *out)
{
    struct error err;

    return service_retention(s->tree->service, s->repo, out, &err) == 0 ? 0 : tree_errno(&err);
}

/* The files that are named after keys of the configuration. */
static int repo_setting(struct subject *s, struct buf *out)
{
    const char *key = file_at(node_file(s->node))->name;
    const struct settings *settings = &s->repo->settings;
    const char *text;

    switch (settings_row(settings, key)->type) {
    case SETTING_INT:
        buf_addf(out, "%" PRId64 "\n", settings_int(settings, key));
        return 0;
    case SETTING_BOOL:
        add_text(out, settings_bool(settings, key) ? "yes" : "no");
        return 0;
    default:
        text = settings_text(settings, key);
        add_text(out, text ? text : "");
        return 0;
    }
}

/* ---- the table ---- */

#define TEXT(dir_, name_, mode_, caching_, render_)                                                \
    {                                                                                              \
        .dir = dir_, .name = name_, .type = FILE_TEXT, .mode = mode_, .caching = caching_,         \
        .render = render_                                                                          \
    }
#define LINK(dir_, name_, caching_, present_, render_)                                             \
    {                                                                                              \
        .dir = dir_, .name = name_, .type = FILE_LINK, .mode = 0777, .caching = caching_,          \
        .present = present_, .render = render_                                                     \
    }
#define DIRECTORY(dir_, name_, opens_)                                                             \
    {                                                                                              \
        .dir = dir_, .name = name_, .type = FILE_DIR, .mode = 0555, .caching = CACHE_SUBJECT,      \
        .opens = opens_                                                                            \
    }
#define OBJECT(name_, type_, mode_, object_, present_, size_)                                      \
    {                                                                                              \
        .dir = NODE_RECORD, .name = name_, .type = type_, .mode = mode_, .caching = CACHE_SUBJECT, \
        .object = object_, .present = present_, .size = size_                                      \
    }
#define SWITCH(dir_, name_, mode_, render_, turn_, grammar_)                                       \
    {                                                                                              \
        .dir = dir_, .name = name_, .type = FILE_SWITCH, .mode = mode_, .caching = CACHE_NEVER,    \
        .render = render_, .turn = turn_, .grammar = grammar_                                      \
    }
#define JOB_TEXT(name_, render_) TEXT(NODE_JOB, name_, 0444, CACHE_SUBJECT, render_)
#define JOB_WATCHED(name_, type_, render_, watch_)                                                 \
    {                                                                                              \
        .dir = NODE_JOB, .name = name_, .type = type_, .mode = 0444, .caching = CACHE_SUBJECT,     \
        .render = render_, .watch = watch_                                                         \
    }
#define RECORD_TEXT(name_, render_) TEXT(NODE_RECORD, name_, 0444, CACHE_SUBJECT, render_)
#define REPO_TEXT(name_, render_)   TEXT(NODE_REPO, name_, 0444, CACHE_SUBJECT, render_)
#define REPO_SETTING(key_)          REPO_TEXT(key_, repo_setting)

static const struct file files[] = {
    TEXT(NODE_ROOT, "README", 0444, CACHE_SUBJECT, root_readme),
    {.dir = NODE_ROOT,
     .name = "ctl",
     .type = FILE_CTL,
     .mode = 0660,
     .caching = CACHE_SUBJECT,
     .render = root_ctl},
    TEXT(NODE_ROOT, "last_error", 0444, CACHE_NEVER, root_last_error),
    {.dir = NODE_ROOT,
     .name = "events",
     .type = FILE_STREAM,
     .mode = 0440,
     .caching = CACHE_NEVER,
     .watch = WATCH_EVENTS},
    SWITCH(NODE_ROOT, "reload", 0220, NULL, turn_reload,
           "write 1 to read the configuration again, and nothing else"),
    TEXT(NODE_ROOT, "status", 0444, CACHE_NEVER, report_status),
    TEXT(NODE_ROOT, "metrics", 0444, CACHE_NEVER, report_metrics),
    DIRECTORY(NODE_ROOT, "overdue", NODE_OVERDUE),
    DIRECTORY(NODE_ROOT, "jobs", NODE_JOBS),
    DIRECTORY(NODE_ROOT, "records", NODE_RECORDS),
    DIRECTORY(NODE_ROOT, "stores", NODE_STORES),

    {.dir = NODE_JOBS,
     .name = "latest",
     .type = FILE_LINK,
     .mode = 0777,
     .caching = CACHE_NEVER,
     .present = jobs_have_latest,
     .time = job_created,
     .render = jobs_latest},
    DIRECTORY(NODE_JOBS, "active", NODE_JOBS_ACTIVE),
    DIRECTORY(NODE_JOBS, "by-key", NODE_JOBS_KEYED),

    JOB_WATCHED("status", FILE_TEXT, job_status, WATCH_STATUS),
    JOB_WATCHED("wait", FILE_STREAM, job_status, WATCH_WAIT),
    JOB_TEXT("kind", job_kind),
    JOB_TEXT("store", job_store),
    JOB_TEXT("repo", job_repo),
    JOB_TEXT("requested_by", job_requested_by),
    JOB_TEXT("label", job_label),
    JOB_TEXT("created_at", job_created_at),
    JOB_TEXT("started_at", job_started_at),
    JOB_TEXT("finished_at", job_finished_at),
    JOB_WATCHED("progress", FILE_TEXT, job_progress, WATCH_PROGRESS),
    JOB_TEXT("stats", job_stats),
    JOB_TEXT("error", job_error),
    JOB_TEXT("error_code", job_error_code),
    JOB_TEXT("hint", job_hint),
    /* Both tell whether the record is there, which can go when the job has long ended. */
    TEXT(NODE_JOB, "job.json", 0444, CACHE_NEVER, job_json),
    LINK(NODE_JOB, "record", CACHE_NEVER, job_has_record, job_record),
    {.dir = NODE_JOB, .name = "log", .type = FILE_LOG, .mode = 0444, .caching = CACHE_SUBJECT},
    SWITCH(NODE_JOB, "cancel", 0220, NULL, turn_cancel,
           "write 1 to cancel the job, and nothing else"),

    /* The first of its directory: see removal.h. */
    OBJECT("payload", FILE_PAYLOAD, 0400, NULL, NULL, content_size),
    OBJECT("manifest.yaml", FILE_OBJECT, 0444, "manifest.yaml", NULL, manifest_size),
    OBJECT("payload.bin", FILE_OBJECT, 0400, "payload.bin", NULL, stored_size),
    OBJECT("payload_ids", FILE_OBJECT, 0400, "payload_ids", record_has_ids, ids_size),
    RECORD_TEXT("size_bytes", record_size_bytes),
    RECORD_TEXT("content_bytes", record_content_bytes),
    RECORD_TEXT("sha256", record_sha256),
    RECORD_TEXT("created_at", record_created_at),
    RECORD_TEXT("store", record_store),
    RECORD_TEXT("store_kind", record_store_kind),
    RECORD_TEXT("repo", record_repo),
    TEXT(NODE_RECORD, "suspect", 0444, CACHE_NEVER, record_suspect),
    {.dir = NODE_RECORD,
     .name = "pinned",
     .type = FILE_SWITCH,
     .mode = 0664,
     .caching = CACHE_NEVER,
     .render = record_pinned,
     .turn = service_pin,
     .verbs = {"unpin", "pin"},
     .grammar = "write 1 to keep the record from deletion, 0 to let it go"},
    SWITCH(NODE_RECORD, "review", 0220, NULL, turn_review,
           "write 1 to confirm that the record is as it should be, and nothing else"),
    LINK(NODE_RECORD, "job", CACHE_NEVER, record_has_job, record_job),
    TEXT(NODE_RECORD, "record.json", 0444, CACHE_NEVER, record_json),

    DIRECTORY(NODE_RECORDS, "by-store", NODE_BY_STORE),
    DIRECTORY(NODE_RECORDS, "by-date", NODE_BY_DATE),
    DIRECTORY(NODE_RECORDS, "pinned", NODE_PINNED),

    TEXT(NODE_STORE, "kind", 0444, CACHE_SUBJECT, store_kind),
    {.dir = NODE_STORE,
     .name = "run",
     .type = FILE_CTL,
     .mode = 0660,
     .caching = CACHE_NEVER,
     .render = store_run},
    TEXT(NODE_STORE, "state", 0444, CACHE_NEVER, store_state),
    TEXT(NODE_STORE, "why", 0444, CACHE_NEVER, store_why),
    TEXT(NODE_STORE, "next_run", 0444, CACHE_NEVER, store_next_run),
    {.dir = NODE_STORE,
     .name = "last_success",
     .type = FILE_TEXT,
     .mode = 0444,
     .caching = CACHE_NEVER,
     .present = store_has_record,
     .time = store_last_time,
     .render = store_last_success},
    {.dir = NODE_STORE,
     .name = "latest",
     .type = FILE_LINK,
     .mode = 0777,
     .caching = CACHE_NEVER,
     .present = store_has_record,
     .time = store_last_time,
     .render = store_latest},
    DIRECTORY(NODE_STORE, "repos", NODE_STORE_REPOS),
    DIRECTORY(NODE_STORE, "jobs", NODE_STORE_JOBS),
    DIRECTORY(NODE_STORE, "records", NODE_STORE_RECORDS),
    DIRECTORY(NODE_STORE, "at", NODE_STORE_AT),

    REPO_TEXT("kind", repo_kind),
    REPO_TEXT("location", repo_location),
    REPO_TEXT("encrypted", repo_encrypted),
    REPO_TEXT("compression", repo_compression),
    REPO_TEXT("next_run", repo_next_run),
    REPO_TEXT("expect_every", report_expect_every),
    {.dir = NODE_REPO,
     .name = "last_success",
     .type = FILE_TEXT,
     .mode = 0444,
     .caching = CACHE_NEVER,
     .present = report_load_newest,
     .time = store_last_time,
     .render = store_last_success},
    REPO_TEXT("retention", repo_retention),
    REPO_SETTING("schedule"),
    REPO_SETTING("jitter"),
    REPO_SETTING("catch_up"),
    REPO_SETTING("keep_count"),
    REPO_SETTING("keep_age_days"),
    REPO_SETTING("keep_hourly"),
    REPO_SETTING("keep_daily"),
    REPO_SETTING("keep_weekly"),
    REPO_SETTING("keep_monthly"),
    REPO_SETTING("keep_yearly"),
};

#define FILE_COUNT (sizeof files / sizeof files[0])
/* A node has eight bits for the index; listings put cookies of fixed names below those of rows. */
static_assert(FILE_COUNT <= 250, "node numbers have no room for that many files");

const struct file *file_at(unsigned index)
{
    return index >= 1 && index <= FILE_COUNT ? &files[index - 1] : NULL;
}

unsigned file_index(const struct file *f)
{
    return (unsigned)(f - files) + 1;
}

const struct file *file_find(enum node_kind dir, const char *name)
{
    for (size_t i = 0; i < FILE_COUNT; i++)
        if (files[i].dir == dir && strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

int file_present(const struct file *f, struct subject *s)
{
    if (s->leaving && f->type == FILE_PAYLOAD)
        return ENOENT;
    return f->present ? f->present(s) : 0;
}

bool file_final(const struct file *f, const struct subject *s)
{
    return f->caching == CACHE_SUBJECT && subject_final(s);
}
