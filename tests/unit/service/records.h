/* SPDX-License-Identifier: MIT */
/*
 * records.h - what tests of retention share: records that are made while the keeper does not run,
 * by repos without a policy. A test then either runs a pass, which marks, or starts the service,
 * whose keeper begins with a pass over all repos.
 */
#ifndef KEEPFS_TESTS_SERVICE_RECORDS_H
#define KEEPFS_TESTS_SERVICE_RECORDS_H

#include "stage.h"

enum { RECORDS_MAX = 16 };

/* What sources give, in bytes. */
static int size;

static inline int sized(const struct store *store, struct source_run *run, struct error *err)
{
    static const char bytes[4096];

    (void)store;
    return writer_write(run->out, bytes, (size_t)size, err);
}

/* Who has been told that they are gone. */
static struct {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    size_t jobs, records;
    char last[ULID_LEN + 1];
} gone = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void note_gone(void *ctx, bool is_job, const char *ulid)
{
    (void)ctx;
    pthread_mutex_lock(&gone.lock);
    gone.jobs += is_job;
    gone.records += !is_job;
    memcpy(gone.last, ulid, sizeof gone.last);
    pthread_cond_broadcast(&gone.changed);
    pthread_mutex_unlock(&gone.lock);
}

static inline void wait_gone_jobs(size_t count)
{
    pthread_mutex_lock(&gone.lock);
    while (gone.jobs < count)
        pthread_cond_wait(&gone.changed, &gone.lock);
    pthread_mutex_unlock(&gone.lock);
}

/* The stores a and b, each with the repo one. */
static inline int setup(void **state)
{
    struct fixture *f = fixture_make();

    stage_clear();
    gone.jobs = gone.records = 0;
    size = 1000;
    add_repo(f, add_store(f, "a", 0), "one");
    add_repo(f, add_store(f, "b", 1), "one");
    script = sized;
    set_clock(f, BEGIN);
    *state = f;
    return 0;
}

static inline void open_quietly(struct fixture *f)
{
    stage_open(f);
    stage_start_workers(f);
    service_on_gone(f->service, note_gone, NULL);
}

/* With its keeper, under the clock as it stands. */
static inline void start_whole(struct fixture *f)
{
    fixture_close(f);
    stage.count = 0;
    stage_open(f);
    service_on_gone(f->service, note_gone, NULL);
    stage_start(f);
}

/* One an hour, oldest first. */
static inline void make_records(struct fixture *f, const char *line, size_t count,
                                char (*ulids)[ULID_LEN + 1])
{
    for (size_t i = 0; i < count; i++) {
        set_clock(f, (time_ms)atomic_load(&f->now) + HOUR);
        struct record record = back_up(f, line);
        memcpy(ulids[i], record.ulid, sizeof ulids[i]);
    }
}

static inline enum record_state state_of(struct fixture *f, const char *ulid)
{
    enum record_state state;
    struct record record;
    struct error err;

    if (catalog_record_find(f->catalog, ulid, &record, &state, &err) != 0)
        fail_msg("%s", err.message);
    return state;
}

static inline bool is_good(struct fixture *f, const char *ulid)
{
    return state_of(f, ulid) == RECORD_GOOD;
}

static inline bool has_row(struct fixture *f, const char *ulid)
{
    enum record_state state;
    struct record record;
    struct error err;

    return catalog_record_find(f->catalog, ulid, &record, &state, &err) == 0;
}

static inline bool is_suspect(struct fixture *f, const char *ulid)
{
    struct record record;
    struct error err;

    assert_int_equal(catalog_record_get(f->catalog, ulid, &record, &err), 0);
    return record.suspect;
}

static inline bool archive_there(struct fixture *f, const char *store, const char *ulid)
{
    SCOPED_PATH(path, f, "%s-one/%s", store, ulid);

    return exists(path);
}

static inline void keep(struct fixture *f, const char *store, const char *key, const char *value)
{
    repo_says(repo_of(f, store, "one"), key, value);
}

static inline void pass(struct fixture *f)
{
    retention_run(f->service, repo_of(f, "a", "one"));
}

static inline void pin(struct fixture *f, const char *ulid)
{
    struct error err;

    assert_int_equal(service_pin(f->service, ulid, true, "uid:7", &err), 0);
}

static inline char *plan_of(struct fixture *f)
{
    struct buf text = BUF_INIT;
    struct error err;

    assert_int_equal(service_retention(f->service, repo_of(f, "a", "one"), &text, &err), 0);
    return buf_steal(&text);
}

/* Three records of the usual size and a tiny one. */
static inline void make_suspect(struct fixture *f, char (*r)[ULID_LEN + 1])
{
    open_quietly(f);
    make_records(f, "a/one", 3, r);
    size = 10;
    make_records(f, "a/one", 1, r + 3);
    keep(f, "a", "keep_count", "1");
}

static inline void review(struct fixture *f, const char *ulid)
{
    struct error err;

    if (service_review(f->service, ulid, "uid:7", &err) != 0)
        fail_msg("%s", err.message);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, stage_teardown)

#endif
