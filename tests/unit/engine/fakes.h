/* SPDX-License-Identifier: MIT */
/*
 * fakes.h - one run of the executor over the real archive room, with everything around it faked:
 *
 *   memory   a destination that keeps objects in memory, can fail at its Nth call of any kind, and
 *            holds every promise of keepfs/destination.h by assertion
 *   script   a source that does what a test's function says
 *   tape     a job store that writes down what it is told, and can fail each kind of call
 *   ticking  a clock that moves by one second with every look
 *
 * One fixture at a time, in `fx`, since the callbacks of a destination get no pointer of the test.
 */
#ifndef KEEPFS_TESTS_ENGINE_FAKES_H
#define KEEPFS_TESTS_ENGINE_FAKES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/publish.h"
#include "engine/backup.h"
#include "util/buf.h"
#include "util/ulid.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB_ULID   "01HXYZ0123456789ABCDEFGHJK"
#define START_TIME ((time_ms)1795242628123)

struct memory_object {
    char name[65];
    struct buf data;
    bool finished;
};

struct memory_group {
    char name[65];
    bool committed;
    struct memory_object objects[4];
    size_t object_count;
    struct memory_group *next;
};

struct fixture {
    /* memory */
    struct memory_group *groups;
    int calls;   /* of the destination so far */
    int fail_at; /* the call that fails, from 1; 0 = none */
    int failing_errno;
    int failures; /* calls that failed */
    int destinations, puts, writers;
    unsigned open_flags;
    void (*after_commit)(void);
    void (*in_payload_finish)(void);

    /* script */
    int (*script)(struct source_run *run, struct error *err);
    int source_open_errno; /* open fails with it */
    int sources_opened, sources, scripts_run;

    /* tape */
    struct buf tape; /* "start 10 50 95 succeed " */
    enum job_state job_state;
    char started_record[ULID_LEN + 1];
    struct job_progress last_progress;
    struct record record;
    struct stats stats;
    struct error why;
    time_ms started_at, finished_at;
    bool refuse_start, fail_progress, fail_succeed, fail_fail;

    struct buf log;
    struct store store;
    struct repo repo;
    struct cancel cancel;
    struct job_store jobs;
    struct clock clock;
    time_ms now;
    struct backup backup;
    struct error err;
};

static struct fixture fx;

/* ---- memory ---- */

/* Objects may be written from a thread of the stream's, where a test cannot be ended by cmocka:
 * what is called there uses assert(3). */

struct memory_put {
    struct put put;
    struct memory_group *group;
    bool writing;
};

struct memory_writer {
    struct writer writer;
    struct memory_put *put;
    struct memory_object *object;
    bool failed;
};

static const struct destination_kind memory_kind;

/* Every call of the destination goes through here. */
static int memory_step(const char *what, struct error *err)
{
    if (++fx.calls != fx.fail_at)
        return 0;
    fx.failures++;
    return error_sys(err, SIDE_DESTINATION, fx.failing_errno, "memory: %s", what);
}

static struct memory_group *memory_find(const char *name)
{
    struct memory_group *g = fx.groups;

    while (g && strcmp(g->name, name) != 0)
        g = g->next;
    return g;
}

static struct memory_object *memory_object_of(struct memory_group *g, const char *name)
{
    for (size_t i = 0; i < g->object_count; i++)
        if (strcmp(g->objects[i].name, name) == 0)
            return &g->objects[i];
    return NULL;
}

static void memory_drop(struct memory_group *group)
{
    struct memory_group **at = &fx.groups;

    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    for (size_t i = 0; i < group->object_count; i++)
        buf_release(&group->objects[i].data);
    free(group);
}

static int memory_open(const struct settings *settings, unsigned flags, struct destination **out,
                       struct error *err)
{
    assert_ptr_equal(settings, &fx.repo.settings);
    fx.open_flags = flags;
    if (memory_step("open", err) != 0)
        return -1;
    *out = xcalloc(1, sizeof **out);
    (*out)->kind = &memory_kind;
    fx.destinations++;
    return 0;
}

static void memory_close(struct destination *d)
{
    if (!d)
        return;
    assert_int_equal(fx.puts, 0); /* all puts are freed before */
    fx.destinations--;
    free(d);
}

static int memory_put_begin(struct destination *d, const char *group, struct put **out,
                            struct error *err)
{
    if (memory_step("put_begin", err) != 0)
        return -1;
    if (memory_find(group))
        return error_sys(err, SIDE_DESTINATION, EEXIST, "memory: %s", group);
    struct memory_put *p = xcalloc(1, sizeof *p);
    p->put.destination = d;
    p->group = xcalloc(1, sizeof *p->group);
    snprintf(p->group->name, sizeof p->group->name, "%s", group);
    p->group->next = fx.groups;
    fx.groups = p->group;
    fx.puts++;
    *out = &p->put;
    return 0;
}

static int memory_write(struct writer *writer, const void *data, size_t len, struct error *err)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    assert(!w->failed && !w->object->finished); /* after a failure only free is allowed */
    w->failed = memory_step("write", err) != 0;
    if (w->failed)
        return -1;
    buf_add(&w->object->data, data, len);
    return 0;
}

static int memory_finish(struct writer *writer, struct error *err)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    assert(!w->failed);
    if (fx.in_payload_finish && strcmp(w->object->name, ARCHIVE_PAYLOAD) == 0)
        fx.in_payload_finish();
    w->failed = memory_step("finish", err) != 0;
    w->object->finished = !w->failed;
    return w->failed ? -1 : 0;
}

static void memory_writer_free(struct writer *writer)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    w->put->writing = false;
    fx.writers--;
    free(w);
}

static int memory_put_object(struct put *put, const char *name, struct writer **out,
                             struct error *err)
{
    static const struct writer_ops ops = {memory_write, memory_finish, memory_writer_free};
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing); /* one at a time */
    if (memory_step("put_object", err) != 0)
        return -1;
    struct memory_group *g = p->group;
    assert_in_range(g->object_count, 0, 3);
    struct memory_object *o = &g->objects[g->object_count++];
    snprintf(o->name, sizeof o->name, "%s", name);
    struct memory_writer *w = xcalloc(1, sizeof *w);
    w->writer.ops = &ops;
    w->put = p;
    w->object = o;
    p->writing = true;
    fx.writers++;
    *out = &w->writer;
    return 0;
}

static int memory_put_commit(struct put *put, struct error *err)
{
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing);
    for (size_t i = 0; i < p->group->object_count; i++)
        assert_true(p->group->objects[i].finished);
    if (memory_step("put_commit", err) != 0)
        return -1;
    p->group->committed = true;
    if (fx.after_commit)
        fx.after_commit();
    return 0;
}

static void memory_put_free(struct put *put)
{
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing);
    if (!p->group->committed)
        memory_drop(p->group);
    fx.puts--;
    free(p);
}

static const struct destination_kind memory_kind = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .put_begin = memory_put_begin,
    .put_object = memory_put_object,
    .put_commit = memory_put_commit,
    .put_free = memory_put_free,
};

/* ---- script ---- */

static const struct source_kind script_kind;

static int script_open(const struct store *store, const char *staging, struct source **out,
                       struct error *err)
{
    assert_ptr_equal(store, &fx.store);
    assert_string_equal(staging, fx.backup.staging);
    fx.sources_opened++;
    if (fx.source_open_errno)
        return error_sys(err, SIDE_SOURCE, fx.source_open_errno, "/srv/app.db");
    *out = xcalloc(1, sizeof **out);
    (*out)->kind = &script_kind;
    fx.sources++;
    return 0;
}

static int script_backup(struct source *source, struct source_run *run, struct error *err)
{
    assert_ptr_equal(source->kind, &script_kind);
    assert_ptr_equal(run->cancel, &fx.cancel);
    assert_int_equal(fx.job_state, JOB_RUNNING); /* the row is there before any byte moves */
    fx.scripts_run++;
    return fx.script(run, err);
}

static void script_close(struct source *source)
{
    if (source)
        fx.sources--;
    free(source);
}

static const struct source_kind script_kind = {
    .name = "script", .open = script_open, .backup = script_backup, .close = script_close};

/* ---- tape ---- */

static int tape_start(struct job_store *s, const char *job, const char *record, time_ms now,
                      struct error *err)
{
    assert_ptr_equal(s, &fx.jobs);
    assert_string_equal(job, JOB_ULID);
    buf_adds(&fx.tape, "start ");
    if (fx.refuse_start)
        return error_set(err, ERR_NOT_FOUND, "job %s is not pending", job);
    assert_int_equal(fx.job_state, JOB_PENDING);
    fx.job_state = JOB_RUNNING;
    snprintf(fx.started_record, sizeof fx.started_record, "%s", record);
    fx.started_at = now;
    return 0;
}

static int tape_progress(struct job_store *s, const char *job, const struct job_progress *p,
                         struct error *err)
{
    (void)s;
    assert_string_equal(job, JOB_ULID);
    assert_int_equal(fx.job_state, JOB_RUNNING);
    assert_in_range(p->percent, 0, 100);
    if (p->percent != fx.last_progress.percent) /* a slow machine has repetitions */
        buf_addf(&fx.tape, "%d ", p->percent);
    fx.last_progress = *p;
    if (fx.fail_progress)
        return error_set(err, ERR_STATE_NO_SPACE, "progress: disk full");
    return 0;
}

static int tape_succeed(struct job_store *s, const char *job, const struct record *record,
                        const struct stats *stats, time_ms now, struct error *err)
{
    (void)s;
    assert_string_equal(job, JOB_ULID);
    assert_int_equal(fx.job_state, JOB_RUNNING);
    assert_true(fx.groups && fx.groups->committed); /* the archive stands before its record */
    buf_adds(&fx.tape, "succeed ");
    if (fx.fail_succeed)
        return error_sys(err, SIDE_STATE, ENOSPC, "catalog");
    fx.job_state = JOB_SUCCEEDED;
    fx.record = *record;
    fx.stats = *stats;
    fx.finished_at = now;
    return 0;
}

static int tape_fail(struct job_store *s, const char *job, enum job_state state,
                     const struct error *why, const struct stats *stats, time_ms now,
                     struct error *err)
{
    (void)s;
    assert_string_equal(job, JOB_ULID);
    assert_int_equal(fx.job_state, JOB_RUNNING);
    buf_addf(&fx.tape, "%s ", job_state_name(state));
    fx.why = *why;
    fx.stats = *stats;
    if (fx.fail_fail)
        return error_set(err, ERR_STATE_UNAVAILABLE, "catalog gone");
    fx.job_state = state;
    fx.finished_at = now;
    return 0;
}

static const struct job_store_ops tape_ops = {tape_start, tape_progress, tape_succeed, tape_fail};

/* ---- ticking ---- */

static time_ms tick(void *ctx)
{
    (void)ctx;
    time_ms now = fx.now;

    fx.now += 1000;
    return now;
}

/* ---- the run ---- */

static void take_log(void *ctx, const char *line)
{
    buf_addf(ctx, "%s\n", line);
}

static int fixture_setup(void **state)
{
    (void)state;
    fx = (struct fixture){.jobs.ops = &tape_ops, .now = START_TIME, .failing_errno = EIO};
    snprintf(fx.store.id, sizeof fx.store.id, "app");
    fx.store.kind = &script_kind;
    snprintf(fx.repo.id, sizeof fx.repo.id, "main");
    fx.repo.store = &fx.store;
    fx.repo.kind = &memory_kind;
    fx.clock.now = tick;
    cancel_init(&fx.cancel);
    fx.backup = (struct backup){
        .repo = &fx.repo,
        .job = JOB_ULID,
        .staging = "/state/staging",
        .cancel = &fx.cancel,
        .jobs = &fx.jobs,
        .clock = &fx.clock,
        .log = take_log,
        .log_ctx = &fx.log,
    };
    return 0;
}

static int fixture_teardown(void **state)
{
    (void)state;
    while (fx.groups)
        memory_drop(fx.groups);
    cancel_release(&fx.cancel);
    buf_release(&fx.tape);
    buf_release(&fx.log);
    return 0;
}

/* Runs it, and sees that everything that was opened is closed again. */
static inline enum job_state run(int (*script)(struct source_run *, struct error *))
{
    fx.script = script;
    enum job_state state = backup_run(&fx.backup, &fx.err);

    assert_int_equal(fx.sources, 0);
    assert_int_equal(fx.destinations, 0);
    assert_int_equal(fx.puts, 0);
    assert_int_equal(fx.writers, 0);
    return state;
}

/* Forgets the run before, for a loop within one test. */
static inline void again(void)
{
    fixture_teardown(NULL);
    fixture_setup(NULL);
}

/* ---- content ---- */

static inline unsigned char content_at(uint64_t i)
{
    return (unsigned char)((i * UINT64_C(2654435761)) >> 11);
}

/* Writes `size` bytes in pieces of `chunk`. */
static inline int write_content(struct writer *out, uint64_t size, size_t chunk, struct error *err)
{
    unsigned char *piece = xmalloc(chunk);
    int result = 0;

    for (uint64_t at = 0; result == 0 && at < size;) {
        size_t n = size - at < chunk ? (size_t)(size - at) : chunk;
        for (size_t i = 0; i < n; i++)
            piece[i] = content_at(at + i);
        result = writer_write(out, piece, n, err);
        at += n;
    }
    free(piece);
    return result;
}

static inline int a_few_bytes(struct source_run *r, struct error *err)
{
    return write_content(r->out, 1000, 100, err);
}

/* The one archive there is. */
static inline struct memory_group *the_archive(void)
{
    assert_non_null(fx.groups);
    assert_null(fx.groups->next);
    assert_true(fx.groups->committed);
    return fx.groups;
}

static inline struct manifest the_manifest(void)
{
    struct memory_object *o = memory_object_of(the_archive(), ARCHIVE_MANIFEST);
    struct manifest m;

    assert_non_null(o);
    if (manifest_read(o->data.data, o->data.len, &m, &fx.err) != 0)
        fail_msg("%s", fx.err.message);
    return m;
}

/* It ended without a record, and left nothing in the destination. */
static inline void expect_end(enum job_state returned, enum job_state state, enum error_code code)
{
    assert_int_equal(returned, state);
    assert_int_equal(fx.job_state, state);
    assert_string_equal(error_code_name(fx.why.code), error_code_name(code));
    assert_int_equal(fx.err.code, fx.why.code);
    assert_string_equal(fx.err.message, fx.why.message);
    assert_true(fx.why.message[0]);
    assert_null(strstr(buf_text(&fx.tape), "succeed "));
    assert_null(fx.groups);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
