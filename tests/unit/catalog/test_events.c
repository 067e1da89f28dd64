/* SPDX-License-Identifier: MIT */
/*
 * test_events.c - one event for each change of state, after its commit, in the order of commits.
 */
#include "fixture.h"

#include <pthread.h>

static void listen_to(struct fixture *f, struct heard *h)
{
    *h = (struct heard){.lines = BUF_INIT};
    catalog_on_event(f->c, hear, h);
}

/* The lines since the last time, in which %1 and %2 stand for two ULIDs. */
static void assert_heard(struct heard *h, const char *one, const char *two, const char *expected)
{
    struct buf text = BUF_INIT;

    for (const char *c = expected; *c; c++)
        if (*c == '%')
            buf_adds(&text, *++c == '1' ? one : two);
        else
            buf_add(&text, c, 1);
    assert_string_equal(buf_text(&h->lines), buf_text(&text));
    buf_release(&text);
    buf_release(&h->lines);
}

/* ---- jobs ---- */

static void success_is_told_step_by_step_and_then_its_record(void **state)
{
    struct fixture *f = *state;
    struct heard h;

    listen_to(f, &h);
    struct job job = job_in(f, JOB_SUCCEEDED);
    assert_heard(&h, job.ulid, job.record,
                 "job %1 >pending\njob %1 pending>running\njob %1 running>succeeded\n"
                 "record %2 >created\n");
}

static void end_of_a_job_says_what_it_was_before(void **state)
{
    struct fixture *f = *state;
    struct error e = why(ERR_CANCELLED, 0);
    struct heard h;

    for (int i = JOB_FAILED; i <= JOB_INTERRUPTED; i++) {
        const char *word = job_state_name((enum job_state)i);
        struct job running = job_in(f, JOB_RUNNING), pending = job_in(f, JOB_PENDING);
        __attribute__((cleanup(free_charp))) char *expected =
            xasprintf("job %%1 running>%s\njob %%2 pending>%s\n", word, word);
        listen_to(f, &h);
        OK(catalog_job_fail(f->c, running.ulid, (enum job_state)i, &e, NULL, NOW, &f->err));
        OK(catalog_job_fail(f->c, pending.ulid, (enum job_state)i, &e, NULL, NOW, &f->err));
        assert_heard(&h, running.ulid, pending.ulid, expected);
        catalog_on_event(f->c, NULL, NULL);
    }
}

static void jobs_of_one_batch_are_told_in_its_order(void **state)
{
    struct fixture *f = *state;
    struct job jobs[2] = {new_job("app", "a"), new_job("app", "b")};
    struct heard h;

    listen_to(f, &h);
    OK(catalog_jobs_create(f->c, jobs, 2, &f->err));
    assert_heard(&h, jobs[0].ulid, jobs[1].ulid, "job %1 >pending\njob %2 >pending\n");
}

static void interrupt_at_a_start_is_told_for_each_job(void **state)
{
    struct fixture *f = *state;
    struct job running = job_in(f, JOB_RUNNING), pending = job_in(f, JOB_PENDING);
    struct heard h;
    size_t count;

    job_in(f, JOB_SUCCEEDED);
    job_in(f, JOB_FAILED);
    listen_to(f, &h);
    OK(catalog_jobs_interrupt(f->c, NOW, &count, &f->err));
    assert_int_equal(count, 2);
    assert_heard(&h, running.ulid, pending.ulid,
                 "job %1 running>interrupted\njob %2 pending>interrupted\n");
}

static void note_row(void *ctx, int64_t job)
{
    *(int64_t *)ctx = job;
}

static void progress_is_told_when_it_was_stored(void **state)
{
    struct fixture *f = *state;
    struct job pending = job_in(f, JOB_PENDING), job = job_in(f, JOB_RUNNING);
    struct job_progress p = {.percent = 50};
    int64_t row = 0;

    catalog_on_progress(f->c, note_row, &row);
    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    assert_int_equal(row, job.row);
    row = 0;
    assert_int_equal(catalog_job_progress(f->c, pending.ulid, &p, &f->err), -1);
    assert_int_equal(row, 0);
    /* Again, and lower. */
    OK(catalog_job_progress(f->c, job.ulid, &(struct job_progress){.percent = 40}, &f->err));
    assert_int_equal(row, job.row);
    row = 0;
    catalog_on_progress(f->c, NULL, NULL);
    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    assert_int_equal(row, 0);
}

static void progress_is_no_event(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct job_progress p = {.percent = 50};
    struct heard h;

    listen_to(f, &h);
    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    assert_int_equal(h.count, 0);
}

/* ---- records ---- */

static void each_change_of_a_record_is_told_once(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "main");
    struct heard h;
    size_t missing;
    bool adopted;

    listen_to(f, &h);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_pin(f->c, r.ulid, false, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_mark_suspect(f->c, r.ulid, false, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_records_missing(f->c, "app", "main", NULL, 0, &missing, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    for (int twice = 0; twice < 2; twice++)
        OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    OK(catalog_record_delete_end(f->c, r.ulid, &f->err));
    assert_heard(&h, r.ulid, "",
                 "record %1 >adopted\nrecord %1 good>pinned\nrecord %1 good>unpinned\n"
                 "record %1 good>suspect\nrecord %1 good>reviewed\nrecord %1 good>missing\n"
                 "record %1 missing>adopted\nrecord %1 good>deleting\n"
                 "record %1 deleting>deleted\n");
}

static void missing_records_are_told_each(void **state)
{
    struct fixture *f = *state;
    struct record a = stored_record(f, "main"), stays = stored_record(f, "main"),
                  b = stored_record(f, "main");
    struct heard h;
    size_t missing;

    stored_record(f, "other");
    listen_to(f, &h);
    OK(catalog_records_missing(f->c, "app", "main", &stays.ulid, 1, &missing, &f->err));
    assert_int_equal(missing, 2);
    assert_heard(&h, a.ulid, b.ulid, "record %1 good>missing\nrecord %2 good>missing\n");
}

/* ---- what is refused ---- */

static void what_is_refused_is_not_told(void **state)
{
    struct fixture *f = *state;
    struct job done = job_in(f, JOB_SUCCEEDED), running = job_in(f, JOB_RUNNING);
    struct job twice[2] = {new_job("app", "a"), new_job("app", "a")};
    struct record r = new_record("app", "nightly");
    struct error e = why(ERR_CANCELLED, 0);
    struct heard h;

    OK(catalog_record_pin(f->c, done.record, true, &f->err));
    listen_to(f, &h);
    memcpy(twice[1].ulid, twice[0].ulid, sizeof twice[1].ulid);
    r.size_bytes = UINT64_MAX;
    FAILS(catalog_jobs_create(f->c, twice, 2, &f->err), ERR_INTERNAL, 0);
    FAILS(catalog_job_start(f->c, running.ulid, r.ulid, NOW, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_succeed(f->c, running.ulid, &r, NULL, NOW, &f->err), ERR_MANIFEST_INVALID, 0);
    FAILS(catalog_job_fail(f->c, done.ulid, JOB_FAILED, &e, NULL, NOW, &f->err), ERR_NOT_FOUND,
          ENOENT);
    FAILS(catalog_record_delete_begin(f->c, done.record, &f->err), ERR_INVALID, EPERM);
    FAILS(catalog_record_delete_end(f->c, done.record, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(h.count, 0);
    /* Nor later, with the next transaction. */
    r = stored_record(f, "nightly");
    assert_heard(&h, r.ulid, "", "record %1 >adopted\n");
}

/* ---- fields and time ---- */

static void event_has_number_time_row_and_place(void **state)
{
    struct fixture *f = *state;
    struct heard h;
    struct timespec before, after;

    listen_to(f, &h);
    clock_gettime(CLOCK_REALTIME, &before);
    struct record r = stored_record(f, "nightly");
    clock_gettime(CLOCK_REALTIME, &after);
    assert_int_equal(h.last.seq, 1);
    assert_int_equal(h.last.object, OBJECT_RECORD);
    assert_int_equal(h.last.row, r.row);
    assert_string_equal(h.last.store, "app");
    assert_string_equal(h.last.repo, "nightly");
    assert_true(h.last.time >= before.tv_sec * 1000 && h.last.time <= (after.tv_sec + 1) * 1000);
    struct job job = job_in(f, JOB_PENDING);
    assert_int_equal(h.last.seq, 2);
    assert_int_equal(h.last.object, OBJECT_JOB);
    assert_int_equal(h.last.row, job.row);
    assert_string_equal(h.last.ulid, job.ulid);
    buf_release(&h.lines);
}

/* What another process could read at the time of the event. */
struct outsider {
    sqlite3 *db;
    struct buf states;
};

static void read_outside(void *ctx, const struct catalog_event *e)
{
    struct outsider *o = ctx;
    sqlite3_stmt *s = NULL;
    const char *query = e->object == OBJECT_JOB ? "SELECT state FROM jobs WHERE ulid = ?1"
                                                : "SELECT state FROM records WHERE ulid = ?1";

    assert_int_equal(sqlite3_prepare_v2(o->db, query, -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_text(s, 1, e->ulid, -1, SQLITE_STATIC);
    bool there = sqlite3_step(s) == SQLITE_ROW;
    buf_addf(&o->states, "%s ", there ? (const char *)sqlite3_column_text(s, 0) : "none");
    sqlite3_finalize(s);
}

static void event_comes_after_the_commit(void **state)
{
    struct fixture *f = *state;
    struct outsider o = {.states = BUF_INIT};

    assert_int_equal(sqlite3_open_v2(f->path, &o.db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    catalog_on_event(f->c, read_outside, &o);
    struct job job = job_in(f, JOB_SUCCEEDED);
    OK(catalog_record_delete_begin(f->c, job.record, &f->err));
    OK(catalog_record_delete_end(f->c, job.record, &f->err));
    assert_string_equal(buf_text(&o.states), "pending running succeeded good deleting none ");
    assert_int_equal(sqlite3_close(o.db), SQLITE_OK);
    buf_release(&o.states);
}

static void nothing_is_kept_while_nobody_listens(void **state)
{
    struct fixture *f = *state;

    job_in(f, JOB_SUCCEEDED);
    assert_int_equal(f->c->events.room, 0);
}

/* ---- threads ---- */

enum { THREADS = 8, JOBS_EACH = 50, JOBS = THREADS * JOBS_EACH, EVENTS_EACH = 6 };

/* Written by the listener alone, without a lock: the catalog's mutex has to do. */
struct chronicle {
    struct catalog_event events[JOBS * EVENTS_EACH + 1];
    size_t count;
};

static void write_down(void *ctx, const struct catalog_event *e)
{
    struct chronicle *c = ctx;

    if (c->count < sizeof c->events / sizeof c->events[0])
        c->events[c->count++] = *e;
}

struct worker {
    struct catalog *c;
    pthread_t thread;
    int failures;
};

static void *run_jobs(void *ctx)
{
    struct worker *w = ctx;
    struct error err;

    for (int i = 0; i < JOBS_EACH; i++) {
        struct job job = new_job("app", "nightly");
        struct record r = new_record("app", "nightly");
        w->failures += catalog_jobs_create(w->c, &job, 1, &err) ||
                       catalog_job_start(w->c, job.ulid, r.ulid, NOW, &err) ||
                       catalog_job_succeed(w->c, job.ulid, &r, NULL, NOW, &err) ||
                       catalog_record_pin(w->c, r.ulid, true, &err) ||
                       catalog_record_mark_suspect(w->c, r.ulid, true, &err);
    }
    return NULL;
}

/* The events of one row, in their order. */
static char *told_of(const struct chronicle *c, enum catalog_object object, int64_t row)
{
    struct buf out = BUF_INIT;

    for (size_t i = 0; i < c->count; i++)
        if (c->events[i].object == object && c->events[i].row == row)
            buf_addf(&out, "%s ", c->events[i].to);
    return buf_steal(&out);
}

static void assert_whole(const struct chronicle *c)
{
    int64_t last_row = 0;

    assert_int_equal(c->count, JOBS * EVENTS_EACH);
    for (size_t i = 0; i < c->count; i++) {
        assert_int_equal(c->events[i].seq, i + 1);
        /* Rows are numbered in the order of commits. */
        if (strcmp(c->events[i].to, "pending") == 0) {
            assert_true(c->events[i].row > last_row);
            last_row = c->events[i].row;
        }
    }
    for (int row = 1; row <= JOBS; row++) {
        __attribute__((cleanup(free_charp))) char *job = told_of(c, OBJECT_JOB, row);
        __attribute__((cleanup(free_charp))) char *record = told_of(c, OBJECT_RECORD, row);
        assert_string_equal(job, "pending running succeeded ");
        assert_string_equal(record, "created pinned suspect ");
    }
}

static void events_of_many_threads_are_in_order_and_none_is_lost(void **state)
{
    struct fixture *f = *state;
    struct chronicle *chronicle = xcalloc(1, sizeof *chronicle);
    struct worker workers[THREADS] = {0};

    catalog_on_event(f->c, write_down, chronicle);
    for (int i = 0; i < THREADS; i++) {
        workers[i].c = f->c;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_jobs, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_whole(chronicle);
    free(chronicle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(success_is_told_step_by_step_and_then_its_record),
        TEST(end_of_a_job_says_what_it_was_before),
        TEST(jobs_of_one_batch_are_told_in_its_order),
        TEST(interrupt_at_a_start_is_told_for_each_job),
        TEST(progress_is_told_when_it_was_stored),
        TEST(progress_is_no_event),
        TEST(each_change_of_a_record_is_told_once),
        TEST(missing_records_are_told_each),
        TEST(what_is_refused_is_not_told),
        TEST(event_has_number_time_row_and_place),
        TEST(event_comes_after_the_commit),
        TEST(nothing_is_kept_while_nobody_listens),
        TEST(events_of_many_threads_are_in_order_and_none_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
