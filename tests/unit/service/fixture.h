/* SPDX-License-Identifier: MIT */
/*
 * fixture.h - a service over a real catalog, real local repos and a configuration built by hand.
 *
 * Everything is below one temporary directory: the state in state/, the repo STORE/REPO in
 * STORE-REPO/. Stores are of the kind `scripted`: what such a source does is a test's function.
 */
#ifndef KEEPFS_TESTS_SERVICE_FIXTURE_H
#define KEEPFS_TESTS_SERVICE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/payload.h"
#include "keepfs/destination.h"
#include "keepfs/source.h"
#include "service/internal.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/ulid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Deadline of a stop that is expected to be done long before. */
enum { STOP_MS = 60000 };

struct fixture {
    char *dir;
    char *database;
    struct config *config;
    struct catalog *catalog;
    struct service *service; /* NULL once a test has freed it */
    struct clock clock;
    atomic_llong now; /* moves by `step` with every look */
    atomic_int step;  /* a second, or nothing once a test has set the clock */
};

/* ---- the source ---- */

typedef int (*script_fn)(const struct store *store, struct source_run *run, struct error *err);
static script_fn script; /* what every source does; set before workers start */

struct scripted {
    struct source source;
    const struct store *store;
};

static inline int scripted_open(const struct store *store, const char *staging, struct source **out,
                                struct error *err);

static inline int scripted_backup(struct source *source, struct source_run *run, struct error *err)
{
    return script(((struct scripted *)source)->store, run, err);
}

static inline void scripted_close(struct source *source)
{
    free(source);
}

static const struct source_kind scripted_kind = {
    .name = "scripted", .open = scripted_open, .backup = scripted_backup, .close = scripted_close};

static inline int scripted_open(const struct store *store, const char *staging, struct source **out,
                                struct error *err)
{
    struct scripted *s = xcalloc(1, sizeof *s);

    (void)staging;
    (void)err;
    s->source.kind = &scripted_kind;
    s->store = store;
    *out = &s->source;
    return 0;
}

#define CONTENT "the bytes of a store"

static inline int write_content(const struct store *store, struct source_run *run,
                                struct error *err)
{
    (void)store;
    return writer_write(run->out, CONTENT, strlen(CONTENT), err);
}

/* ---- configuration ---- */

static inline struct store *add_store(struct fixture *f, const char *id, size_t group)
{
    struct config *c = f->config;
    struct store *s = xcalloc(1, sizeof *s);

    snprintf(s->id, sizeof s->id, "%s", id);
    s->kind = &scripted_kind;
    s->group = group;
    s->settings.rows[0] = config_store_settings;
    c->stores = xrealloc(c->stores, (c->store_count + 1) * sizeof *c->stores);
    c->stores[c->store_count++] = s;
    return s;
}

/* A second value takes the place of the first; NULL takes it away. */
static inline void settings_say(struct settings *s, const char *key, const char *value)
{
    struct settings old = *s;

    s->first = s->last = NULL;
    for (struct setting_value *v = old.first; v; v = v->next)
        if (strcmp(v->row->key, key) != 0)
            settings_add(s, v->row, xstrdup(v->text), v->line);
    if (value)
        settings_add(s, settings_row(s, key), xstrdup(value), 1);
    settings_release(&old);
}

static inline void repo_says(struct repo *r, const char *key, const char *value)
{
    settings_say(&r->settings, key, value);
}

static inline void store_says(struct store *s, const char *key, const char *value)
{
    settings_say(&s->settings, key, value);
}

/* Its archives are the stream itself unless a test says otherwise. */
static inline struct repo *add_repo(struct fixture *f, struct store *s, const char *id)
{
    struct repo *r = xcalloc(1, sizeof *r);

    snprintf(r->id, sizeof r->id, "%s", id);
    r->store = s;
    r->kind = destination_kind_find("local");
    r->settings.rows[0] = r->kind->settings;
    r->settings.rows[1] = archive_settings;
    r->settings.rows[2] = config_repo_settings;
    settings_add(&r->settings, settings_row(&r->settings, "path"),
                 xasprintf("%s/%s-%s", f->dir, s->id, id), 1);
    repo_says(r, "compression", "none");
    r->place = r->kind->place(&r->settings);
    s->repos = xrealloc(s->repos, (s->repo_count + 1) * sizeof(struct repo *));
    s->repos[s->repo_count++] = r;
    return r;
}

static inline void set_key(struct fixture *f, const char *key, const char *value)
{
    struct settings *s = &f->config->settings;

    settings_add(s, settings_row(s, key), xstrdup(value), 1);
}

static inline struct repo *repo_of(struct fixture *f, const char *store, const char *repo)
{
    return store_repo(config_store(f->config, store), repo);
}

/* ---- life ---- */

static inline time_ms fixture_now(void *ctx)
{
    struct fixture *f = ctx;

    return (time_ms)atomic_fetch_add(&f->now, atomic_load(&f->step));
}

/* From here on it is `now` until the next call. */
static inline void set_clock(struct fixture *f, time_ms now)
{
    atomic_store(&f->step, 0);
    atomic_store(&f->now, now);
}

/* After the stores are there: opens catalog and service; nothing is recovered or started yet. */
static inline void fixture_open(struct fixture *f)
{
    struct error err;

    f->catalog = catalog_open(f->database, &err);
    if (!f->catalog)
        fail_msg("%s", err.message);
    f->service = service_new(f->config, f->catalog, &f->clock);
}

static inline void fixture_recover(struct fixture *f)
{
    struct error err;

    if (service_recover(f->service, &err) != 0)
        fail_msg("%s", err.message);
}

static inline void fixture_start(struct fixture *f)
{
    struct error err;

    fixture_recover(f);
    assert_int_equal(service_start(f->service, &err), 0);
}

static inline void start_workers(struct fixture *f)
{
    struct service *s = f->service;
    size_t wanted = (size_t)settings_int(&f->config->settings, "max_jobs");

    s->workers = xcalloc(wanted, sizeof *s->workers);
    for (; s->worker_count < wanted; s->worker_count++)
        assert_int_equal(pthread_create(&s->workers[s->worker_count], NULL, worker_main, s), 0);
}

/* Without what works by itself, for tests that change settings under the service. */
static inline void fixture_start_workers(struct fixture *f)
{
    fixture_recover(f);
    start_workers(f);
}

static inline void fixture_close(struct fixture *f)
{
    if (f->service) {
        service_stop(f->service, STOP_MS);
        service_free(f->service);
        catalog_close(f->catalog);
    }
    f->service = NULL;
}

/* A directory and an empty configuration; the stores are a test's own. */
static inline struct fixture *fixture_make(void)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    char *made = xasprintf("%s/keepfs-service-XXXXXX", tmp ? tmp : "/tmp");

    f->dir = mkdtemp(made) ? realpath(made, NULL) : NULL;
    free(made);
    if (!f->dir)
        abort();
    f->config = xcalloc(1, sizeof *f->config);
    f->config->settings.rows[0] = config_keepfs_settings;
    f->config->state = xasprintf("%s/state", f->dir);
    f->config->path = xasprintf("%s/keepfs.conf", f->dir);
    f->database = xasprintf("%s/catalog.sqlite", f->config->state);
    f->clock = (struct clock){fixture_now, f};
    atomic_init(&f->now, 1795242628123);
    atomic_init(&f->step, 1000);
    script = write_content;
    if (dir_create(f->config->state) != 0)
        abort();
    return f;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    fixture_close(f);
    config_free(f->config);
    int result = dir_clear(f->dir) == 0 && rmdir(f->dir) == 0 ? 0 : -1;
    free(f->database);
    free(f->dir);
    free(f);
    return result;
}

/* ---- commands and rows ---- */

/* Parses and runs a line of ctl as uid:7. */
static inline int run_line(struct fixture *f, const char *line, struct run_reply *reply,
                           struct error *err)
{
    struct run_request q;

    if (run_request_parse(line, strlen(line), &q, err) != 0)
        return -1;
    snprintf(q.requested_by, sizeof q.requested_by, "uid:7");
    return service_run(f->service, &q, reply, err);
}

static inline struct run_reply run_ok(struct fixture *f, const char *line)
{
    struct run_reply reply = {0};
    struct error err;

    if (run_line(f, line, &reply, &err) != 0)
        fail_msg("'%s': %s", line, err.message);
    return reply;
}

static inline struct job job_of(struct fixture *f, const char *ulid)
{
    struct job job;
    struct error err;

    if (catalog_job_get(f->catalog, ulid, &job, &err) != 0)
        fail_msg("%s", err.message);
    return job;
}

static inline void expect_state(struct fixture *f, const char *ulid, enum job_state state)
{
    struct job job = job_of(f, ulid);

    if (job.state != state)
        fail_msg("job %s is %s (%s), not %s", ulid, job_state_name(job.state), job.error.message,
                 job_state_name(state));
}

static inline bool fixture_count(void *ctx, const struct catalog_entry *e)
{
    (void)e;
    ++*(size_t *)ctx;
    return true;
}

static inline size_t count_of(struct fixture *f, enum catalog_list what)
{
    size_t count = 0;
    struct error err;

    assert_int_equal(catalog_list(f->catalog, what, 0, fixture_count, &count, &err), 0);
    return count;
}

/* Until no job is live: every end is on disk then. */
static inline void wait_idle(struct fixture *f)
{
    struct live *l = &f->service->live;

    pthread_mutex_lock(&l->lock);
    while (l->first)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

/* ---- files ---- */

__attribute__((format(printf, 2, 3))) static inline char *path_in(const struct fixture *f,
                                                                  const char *fmt, ...)
{
    struct buf path = BUF_INIT;
    va_list ap;

    buf_addf(&path, "%s/", f->dir);
    va_start(ap, fmt);
    buf_vaddf(&path, fmt, ap);
    va_end(ap);
    return buf_steal(&path);
}

static inline void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

/* The whole file, or NULL if it is not there; the caller frees. */
static inline char *read_file(const char *path)
{
    int fd = open(path, O_RDONLY);
    struct buf text = BUF_INIT;
    char part[4096];
    ssize_t n;

    if (fd < 0)
        return NULL;
    while ((n = read(fd, part, sizeof part)) > 0)
        buf_add(&text, part, (size_t)n);
    close(fd);
    return buf_steal(&text);
}

static inline bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* Makes a key of its own, whose reference `ref` gets. */
static inline void make_key(struct fixture *f, const char *name, char ref[256])
{
    __attribute__((cleanup(free_charp))) char *path = path_in(f, "%s", name);
    char bytes[KEY_BYTES + 1];

    snprintf(bytes, sizeof bytes, "%-*s", KEY_BYTES, name);
    write_file(path, bytes);
    snprintf(ref, 256, "file:%s", path);
}

/* Runs that line of one job to its good end. The workers have been started. */
static inline struct record back_up(struct fixture *f, const char *line)
{
    struct run_reply reply = run_ok(f, line);
    struct record record;
    struct error err;

    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
    if (catalog_record_get(f->catalog, job_of(f, reply.jobs[0].job).record, &record, &err) != 0)
        fail_msg("%s", err.message);
    return record;
}

/* path_in() that frees itself at the end of the scope. */
#define SCOPED_PATH(name, ...)                                                                     \
    __attribute__((cleanup(free_charp))) char *name = path_in(__VA_ARGS__)

#endif
