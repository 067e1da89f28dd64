/* SPDX-License-Identifier: MIT */
/*
 * fakes.h - one run of the executor over the real archive room, with everything around it faked:
 *
 *   memory   a destination, in memory.h
 *   script   a source that does what a test's function says
 *   tape     a job store that writes down what it is told, and can fail each kind of call
 *   ticking  a clock that moves by one second with every look
 *
 * One fixture at a time, in `fx`, since the callbacks of a destination get no pointer of the test.
 */
#ifndef KEEPFS_TESTS_ENGINE_FAKES_H
#define KEEPFS_TESTS_ENGINE_FAKES_H

#include "memory.h"

#define JOB_ULID   "01HXYZ0123456789ABCDEFGHJK"
#define START_TIME ((time_ms)1795242628123)

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

/* What the repo's section says; a second value takes the place of the first. */
static inline void repo_says(const char *key, const char *value)
{
    struct settings *s = &fx.repo.settings;

    for (struct setting_value *v = s->first; v; v = v->next)
        if (strcmp(v->row->key, key) == 0) {
            free(v->text);
            v->text = xstrdup(value);
            return;
        }
    settings_add(s, settings_row(s, key), xstrdup(value), 1);
}

/* The repo stores the stream as it is: most tests look at its bytes. */
static int fixture_setup(void **state)
{
    (void)state;
    fx = (struct fixture){.jobs.ops = &tape_ops, .now = START_TIME, .failing_errno = EIO};
    snprintf(fx.store.id, sizeof fx.store.id, "app");
    fx.store.kind = &script_kind;
    snprintf(fx.repo.id, sizeof fx.repo.id, "main");
    fx.repo.store = &fx.store;
    fx.repo.kind = &memory_kind;
    fx.repo.settings.rows[1] = archive_settings;
    repo_says("compression", "none");
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
        .ctx = &fx.log,
    };
    return 0;
}

static int fixture_teardown(void **state)
{
    (void)state;
    while (fx.groups)
        memory_drop(fx.groups);
    settings_release(&fx.repo.settings);
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
    assert_int_equal(fx.readings, 0);
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
