/* SPDX-License-Identifier: MIT */
/*
 * plan.h - what tests of the scheduler share: two stores, and a clock that stands still until the
 * test moves it. Most tests are the scheduler's thread themselves: they call the step that it takes
 * whenever it wakes.
 */
#ifndef KEEPFS_TESTS_SERVICE_PLAN_H
#define KEEPFS_TESTS_SERVICE_PLAN_H

#include "stage.h"

#define EVERY_MINUTE "CRON_TZ=UTC * * * * *"
#define EVERY_HOUR   "CRON_TZ=UTC 0 * * * *"

/* The stores a and b, each with the repos one and two; nothing is scheduled. */
static inline int setup(void **state)
{
    struct fixture *f = fixture_make();

    stage_clear();
    for (size_t i = 0; i < 2; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        struct store *s = add_store(f, id, i);
        add_repo(f, s, "one");
        add_repo(f, s, "two");
    }
    set_clock(f, BEGIN);
    *state = f;
    return 0;
}

static inline void plan(struct fixture *f, const char *store, const char *repo,
                        const char *schedule)
{
    struct repo *r = repo_of(f, store, repo);

    repo_says(r, "jitter", "0");
    repo_says(r, "schedule", schedule);
}

static inline void begin(struct fixture *f)
{
    stage_open(f);
    stage_start_workers(f);
}

static inline void restart(struct fixture *f)
{
    fixture_close(f);
    begin(f);
}

/* The scheduler wakes at that time. Returns when it wants to wake next. */
static inline time_ms step_at(struct fixture *f, time_ms now)
{
    set_clock(f, now);
    return scheduler_step(f->service);
}

static inline time_ms tick_of(struct fixture *f, const char *store, const char *repo)
{
    time_ms tick;
    struct error err;

    assert_int_equal(catalog_tick_get(f->catalog, store, repo, &tick, &err), 0);
    return tick;
}

static inline bool why_has(struct fixture *f, const char *store, const char *words)
{
    struct buf text = BUF_INIT;

    service_why(f->service, store, &text);
    bool has = strstr(buf_text(&text), words) != NULL;
    buf_release(&text);
    return has;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, stage_teardown)

#endif
