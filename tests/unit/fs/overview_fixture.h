/* SPDX-License-Identifier: MIT */
/*
 * overview_fixture.h - an overview of facts that a test makes up: store app with the repos main and
 * nas, and store web with main, at noon of 2026-11-21.
 */
#ifndef KEEPFS_TESTS_FS_OVERVIEW_FIXTURE_H
#define KEEPFS_TESTS_FS_OVERVIEW_FIXTURE_H

#include "fs/overview.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MINUTE ((time_ms)60 * 1000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define NOON   ((time_ms)1795262400000)

struct facts {
    struct store stores[2];
    struct repo repos[3];
    struct overview_repo rows[3];
    struct job running[2];
    struct overview o;
};

static inline void facts_init(struct facts *f)
{
    *f = (struct facts){0};
    snprintf(f->stores[0].id, sizeof f->stores[0].id, "app");
    snprintf(f->stores[1].id, sizeof f->stores[1].id, "web");
    f->stores[0].repo_count = 2;
    f->stores[1].repo_count = 1;
    for (int i = 0; i < 3; i++) {
        f->repos[i].store = &f->stores[i / 2];
        snprintf(f->repos[i].id, sizeof f->repos[i].id, "%s", i == 1 ? "nas" : "main");
        f->rows[i].repo = &f->repos[i];
    }
    f->o = (struct overview){.now = NOON,
                             .started = NOON - 3 * DAY,
                             .config = "/etc/keepfs.conf",
                             .running = f->running,
                             .repos = f->rows,
                             .repo_count = 3};
}

/* The repo's newest backup is so old, and its last job ended so. */
static inline void facts_backup(struct facts *f, int repo, time_ms age, enum job_state last)
{
    struct repo_standing *s = &f->rows[repo].health.standing;

    snprintf(s->newest, sizeof s->newest, "01M7ZXAXH41AA4Y44SS1K8C59Q");
    snprintf(s->job, sizeof s->job, "01M7ZXAXH41AA4Y44SS1K8C59R");
    s->newest_at = s->latest_at = NOON - age;
    s->newest_size_bytes = 40108321;
    s->newest_content_bytes = 104857600;
    s->records = 7;
    s->size_bytes = 7 * 40108321.0;
    s->content_bytes = 7 * 104857600.0;
    s->job_state = last;
    s->job_error = last == JOB_SUCCEEDED ? ERR_NONE : ERR_DESTINATION_NO_SPACE;
    s->job_finished_at = NOON - age + 1500;
    s->job_run_ms = 1500;
}

static inline void facts_overdue(struct facts *f, int repo, time_ms every)
{
    f->rows[repo].health.figure.every = every;
    f->rows[repo].health.overdue = NOON - 1;
}

static inline void facts_running(struct facts *f, const char *store, int percent, uint64_t done,
                                 uint64_t expected)
{
    struct job *j = &f->running[f->o.running_count++];

    *j = (struct job){.state = JOB_RUNNING, .progress = percent, .started_at = NOON - 10 * 1000};
    snprintf(j->store, sizeof j->store, "%s", store);
    snprintf(j->repo, sizeof j->repo, "main");
    stats_add(&j->stats, "content_bytes", done);
    if (expected)
        stats_add(&j->stats, "expected_bytes", expected);
}

#endif
