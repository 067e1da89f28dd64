/* SPDX-License-Identifier: MIT */
/*
 * fixture.h - a tree over a real catalog and a real service whose workers are not started: jobs
 * stay where a test puts them. Two stores: app with the repos main and nas, and web with main.
 * Their archives are in memory, with the same payload for every record.
 */
#ifndef KEEPFS_TESTS_FS_FIXTURE_H
#define KEEPFS_TESTS_FS_FIXTURE_H

#include "archive/policy.h"
#include "fs/handle.h"
#include "fs/tree.h"
#include "fs/waiters.h"
#include "util/fsutil.h"
#include "util/ulid.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ME ((uid_t)1000)

/* ---- a destination in memory ---- */

#define PAYLOAD_IDS "id-1\nid-2\n"

static struct {
    const char *payload;  /* what the repo has */
    struct digest stored; /* what manifests and records say of it */
    uint64_t claimed;     /* the size it says that it has */
    uint64_t fails_at;    /* reads behind this fail */
    int open;             /* destinations and objects */
} memory;

struct memory_object {
    struct object object;
    char *data;
};

/* The manifest of an archive of the store app; the caller frees it. */
static inline char *memory_manifest(const char *record)
{
    struct manifest m = {.version = MANIFEST_V2,
                         .created_at = 1800000000123,
                         .store_id = "app",
                         .store_kind = "sqlite",
                         .stored = memory.stored,
                         .content_bytes = memory.stored.size,
                         .compression = "none"};
    struct buf text = BUF_INIT;
    struct error err;

    snprintf(m.backup_id, sizeof m.backup_id, "%s", record);
    if (manifest_write(&m, NULL, &text, &err) != 0)
        fail_msg("%s", err.message);
    return buf_steal(&text);
}

static const struct destination_kind memory_kind;

static int memory_open(const struct settings *settings, unsigned flags, struct destination **out,
                       struct error *err)
{
    (void)settings;
    (void)flags;
    (void)err;
    *out = xcalloc(1, sizeof **out);
    (*out)->kind = &memory_kind;
    memory.open++;
    return 0;
}

static void memory_close(struct destination *d)
{
    free(d);
    memory.open--;
}

static int memory_open_object(struct destination *d, const char *group, const char *name,
                              struct object **out, struct error *err)
{
    bool payload = strcmp(name, "payload.bin") == 0;
    struct memory_object *o = xcalloc(1, sizeof *o);

    (void)d;
    (void)err;
    o->data = payload                              ? xstrdup(memory.payload)
              : strcmp(name, "manifest.yaml") == 0 ? memory_manifest(group)
                                                   : xstrdup(PAYLOAD_IDS);
    o->object.kind = &memory_kind;
    o->object.size = payload ? memory.claimed : strlen(o->data);
    *out = &o->object;
    memory.open++;
    return 0;
}

static void memory_close_object(struct object *o)
{
    if (!o)
        return;
    memory.open--;
    free(((struct memory_object *)o)->data);
    free(o);
}

/* A byte less than asked for, so that callers have to go on. */
static ssize_t memory_pread(struct object *o, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    const char *data = ((struct memory_object *)o)->data;
    size_t size = strlen(data);

    if (offset >= memory.fails_at)
        return error_set(err, ERR_DESTINATION_UNREACHABLE, "the disk is gone");
    if (offset >= size)
        return 0;
    if (len > size - offset)
        len = size - offset;
    len = len > 1 ? len - 1 : len;
    memcpy(buf, data + offset, len);
    return (ssize_t)len;
}

static const struct destination_kind memory_kind = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .open_object = memory_open_object,
    .pread = memory_pread,
    .close_object = memory_close_object,
};

static void memory_holds(const char *payload)
{
    struct writer *w = digest_writer_new(NULL, &memory.stored);
    struct error err;

    memory.payload = payload;
    memory.claimed = strlen(payload);
    memory.fails_at = UINT64_MAX;
    assert_int_equal(writer_write(w, payload, strlen(payload), &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
}

/* ---- the tree ---- */

struct fixture {
    char dir[64];
    struct config config;
    struct store stores[2], *store_list[2];
    struct repo repos[3], *app_repos[2], *web_repos[1];
    struct catalog *catalog;
    struct service *service;
    struct clock clock;
    time_ms now;
    struct tree tree;
};

static time_ms fixture_now(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static inline void repo_says(struct repo *r, const char *key, const char *value)
{
    settings_add(&r->settings, settings_row(&r->settings, key), xstrdup(value), 0);
}

static void fixture_repo(struct repo *r, const struct store *store, const char *id)
{
    static char place[] = "/backups/here";

    *r = (struct repo){.store = store, .kind = &memory_kind, .place = place};
    r->settings.rows[1] = archive_settings;
    r->settings.rows[2] = config_repo_settings;
    snprintf(r->id, sizeof r->id, "%s", id);
}

static void fixture_config(struct fixture *f)
{
    static const struct source_kind source = {.name = "sqlite"};

    for (int i = 0; i < 2; i++) {
        f->stores[i] = (struct store){.kind = &source, .group = (size_t)i};
        snprintf(f->stores[i].id, sizeof f->stores[i].id, "%s", i == 0 ? "app" : "web");
        f->store_list[i] = &f->stores[i];
    }
    fixture_repo(&f->repos[0], &f->stores[0], "main");
    fixture_repo(&f->repos[1], &f->stores[0], "nas");
    fixture_repo(&f->repos[2], &f->stores[1], "main");
    f->app_repos[0] = &f->repos[0];
    f->app_repos[1] = &f->repos[1];
    f->web_repos[0] = &f->repos[2];
    f->stores[0].repos = f->app_repos;
    f->stores[0].repo_count = 2;
    f->stores[1].repos = f->web_repos;
    f->stores[1].repo_count = 1;
    /* Held by the fixture, too, so that whoever gives it up last does not free it. */
    f->config =
        (struct config){.state = f->dir, .stores = f->store_list, .store_count = 2, .others = 1};
    f->config.settings.rows[0] = config_keepfs_settings;
    settings_add(&f->config.settings, settings_row(&f->config.settings, "max_queue"),
                 xstrdup("100000"), 0);
}

/* Who has no request to answer has none to lose. */
static inline void no_data(void *request, const char *data, size_t len)
{
    (void)request;
    (void)data;
    (void)len;
}

static inline void no_error(void *request, int errnum)
{
    (void)request;
    (void)errnum;
}

static inline void no_poll(void *poll)
{
    (void)poll;
}

static int fixture_setup(void **state)
{
    const struct waiters_calls calls = {no_data, no_error, no_poll, no_poll};
    struct fixture *f = xcalloc(1, sizeof *f);
    struct error err;

    snprintf(f->dir, sizeof f->dir, "/tmp/keepfs-fs.XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/catalog", f->dir);
    __attribute__((cleanup(free_charp))) char *logs = xasprintf("%s/logs", f->dir);
    fixture_config(f);
    f->now = 1800000000123;
    f->clock = (struct clock){fixture_now, f};
    f->catalog = catalog_open(path, &err);
    if (!f->catalog || dir_create(logs) != 0)
        return -1;
    f->service = service_new(&f->config, f->catalog, &f->clock);
    if (tree_init(&f->tree, f->service, &f->clock, &err) != 0)
        return -1;
    f->tree.waiters = waiters_start(&calls, &err);
    if (!f->tree.waiters)
        return -1;
    catalog_on_event(f->catalog, waiters_event, f->tree.waiters);
    catalog_on_progress(f->catalog, waiters_progress, f->tree.waiters);
    memory_holds("0123456789");
    *state = f;
    return 0;
}

static int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    tree_release(&f->tree);
    service_stop(f->service, 0); /* forgets what was queued */
    catalog_on_event(f->catalog, NULL, NULL);
    catalog_on_progress(f->catalog, NULL, NULL);
    waiters_free(f->tree.waiters);
    service_free(f->service);
    catalog_close(f->catalog);
    settings_release(&f->config.settings);
    for (size_t i = 0; i < sizeof f->repos / sizeof f->repos[0]; i++)
        settings_release(&f->repos[i].settings);
    dir_clear(f->dir);
    rmdir(f->dir);
    free(f);
    return memory.open == 0 ? 0 : -1;
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* ---- jobs and records ---- */

/* Queues what `line` says, with the ULID of its first job. */
static inline void run_job(struct fixture *f, const char *line, char ulid[ULID_LEN + 1])
{
    struct run_request request;
    struct run_reply reply;
    struct error err;

    assert_int_equal(run_request_parse(line, strlen(line), &request, &err), 0);
    snprintf(request.requested_by, sizeof request.requested_by, "uid:7");
    assert_int_equal(service_run(f->service, &request, &reply, &err), 0);
    memcpy(ulid, reply.jobs[0].job, ULID_LEN + 1);
}

/* A job's row only, unknown to the service. */
static inline struct job insert_job(struct fixture *f, const char *key)
{
    struct job job = {.kind = "backup",
                      .store = "app",
                      .repo = "main",
                      .label = "a\\b",
                      .requested_by = "uid:7",
                      .created_at = f->now};
    struct error err;

    ulid_new(f->now, job.ulid);
    snprintf(job.key, sizeof job.key, "%s", key);
    assert_int_equal(catalog_jobs_create(f->catalog, &job, 1, &err), 0);
    return job;
}

static inline void start_job(struct fixture *f, const char *job, char record[ULID_LEN + 1])
{
    struct error err;

    ulid_new(f->now, record);
    assert_int_equal(catalog_job_start(f->catalog, job, record, f->now + 1000, &err), 0);
}

static inline void succeed_job(struct fixture *f, const char *job, const char *record,
                               bool with_ids)
{
    struct record r = {.store = "app",
                       .store_kind = "sqlite",
                       .repo = "main",
                       .created_at = f->now + 1000,
                       .size_bytes = memory.stored.size,
                       .content_bytes = memory.stored.size};
    __attribute__((cleanup(free_charp))) char *manifest = memory_manifest(record);
    struct stats stats = {0};
    struct error err;

    memcpy(r.ulid, record, sizeof r.ulid);
    memcpy(r.sha256, memory.stored.sha256, sizeof r.sha256);
    r.manifest_bytes = strlen(manifest);
    if (with_ids) {
        r.payload_id_count = 2;
        r.payload_ids_bytes = strlen(PAYLOAD_IDS);
    }
    stats_add(&stats, "content_bytes", 10);
    stats_add(&stats, "files", 1);
    assert_int_equal(catalog_job_succeed(f->catalog, job, &r, &stats, f->now + 2000, &err), 0);
}

static inline void fail_job(struct fixture *f, const char *job, enum job_state state)
{
    struct error why, err;

    error_set(&why, ERR_DESTINATION_NO_SPACE, "/backups/a\nb: No space left on device");
    assert_int_equal(
        catalog_job_fail(f->catalog, job, state, &why, &(struct stats){0}, f->now + 2000, &err), 0);
}

/* One good backup of app/main; both ULIDs. */
static inline void make_record(struct fixture *f, char job[ULID_LEN + 1], char record[ULID_LEN + 1])
{
    struct job row = insert_job(f, "");

    memcpy(job, row.ulid, ULID_LEN + 1);
    start_job(f, job, record);
    succeed_job(f, job, record, false);
}

/* ---- paths ---- */

/* Follows `path` without links; 0 or an errno. */
static inline int walk(struct fixture *f, const char *path, struct node_attr *out)
{
    __attribute__((cleanup(free_charp))) char *copy = xstrdup(path);
    char *save = NULL;
    int result = tree_attr(&f->tree, NODE_ROOT_ID, ME, out);

    for (char *name = strtok_r(copy, "/", &save); result == 0 && name;
         name = strtok_r(NULL, "/", &save))
        result = tree_lookup(&f->tree, out->node, name, ME, out);
    return result;
}

__attribute__((format(printf, 2, 3))) static inline struct node_attr find(struct fixture *f,
                                                                          const char *fmt, ...)
{
    struct node_attr a;
    char path[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    if (walk(f, path, &a) != 0)
        fail_msg("%s is not there", path);
    return a;
}

/* All that an open of the node reads, NUL-terminated; the caller frees. Of what would block, "". */
static inline char *read_node(struct fixture *f, node_id node, uid_t uid, size_t *len)
{
    struct handle *h;
    struct buf text = BUF_INIT;
    char data[7]; /* small, so that offsets matter */
    size_t got;

    assert_int_equal(handle_open(&f->tree, node, O_RDONLY, uid, &h), 0);
    do {
        assert_int_equal(handle_read(h, data, sizeof data, text.len, &got),
                         handle_blocks(h) ? EAGAIN : 0);
        buf_add(&text, data, got);
    } while (got > 0);
    handle_close(h);
    if (len)
        *len = text.len;
    return buf_steal(&text);
}

#define assert_text(f, expected, ...)                                                              \
    do {                                                                                           \
        char *text_ = read_node(f, find(f, __VA_ARGS__).node, ME, NULL);                           \
        assert_string_equal(text_, expected);                                                      \
        free(text_);                                                                               \
    } while (0)

/* ---- handles ---- */

static inline struct handle *open_as(struct fixture *f, uid_t uid, int flags, const char *path)
{
    struct handle *h;

    assert_int_equal(handle_open(&f->tree, find(f, "%s", path).node, flags, uid, &h), 0);
    return h;
}

/* 0 or the errno of an open, which is closed again. */
static inline int open_errno(struct fixture *f, const char *path, int flags)
{
    struct handle *h;
    int result = handle_open(&f->tree, find(f, "%s", path).node, flags, ME, &h);

    if (result == 0)
        handle_close(h);
    return result;
}

/* What `uid` reads in last_error has `part` in it. */
static inline void assert_last_error(struct fixture *f, uid_t uid, const char *part)
{
    char *text = read_node(f, find(f, "last_error").node, uid, NULL);

    if (!strstr(text, part))
        fail_msg("%s is not in %s", part, text);
    free(text);
}

#endif
