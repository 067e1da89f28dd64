/* SPDX-License-Identifier: MIT */
/*
 * catalog.c - what the catalog costs with a long history: FILE is one that tests/big_catalog.py
 * made, and is changed.
 *
 * The figure that matters is how long a trigger, one job's insert, takes while somebody else prunes
 * or goes over all records: that is what a person at `ctl` waits for. All are of this machine and
 * its disk; nothing is judged.
 */
#include "catalog/catalog.h"
#include "util/buf.h"
#include "util/ulid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TRIGGERS = 500, BATCH = 500, PAUSE_US = 2000 };

static double clock_ms(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

static long rss_kib(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void check(int result, const struct error *err)
{
    if (result == 0)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void say(const char *what, double *ms, size_t count)
{
    qsort(ms, count, sizeof ms[0], ascending);
    printf("%-34s n %5zu   p50 %7.2f   p99 %7.2f   max %7.2f ms\n", what, count, ms[count / 2],
           ms[count * 99 / 100], ms[count - 1]);
    fflush(stdout);
}

/* ---- what goes on beside ---- */

struct beside {
    struct catalog *c;
    atomic_bool stop;
    double ms[20000]; /* of each round */
    size_t rounds;
    size_t rows;
    double cpu; /* of all rounds */
};

static void count_record(void *ctx, const struct record *r)
{
    (void)r;
    ++*(size_t *)ctx;
}

static void *go_over_records(void *ctx)
{
    struct beside *b = ctx;
    struct error err;

    while (!atomic_load(&b->stop) && b->rounds < 20000) {
        double start = now_ms();
        check(catalog_records_newest(b->c, "app0", "main", count_record, &b->rows, &err), &err);
        b->ms[b->rounds++] = now_ms() - start;
    }
    b->cpu = clock_ms(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void ignore_pruned(void *ctx, const char *ulid)
{
    (void)ctx, (void)ulid;
}

static void *prune(void *ctx)
{
    struct beside *b = ctx;
    size_t count = BATCH;
    struct error err;

    while (!atomic_load(&b->stop) && count == BATCH && b->rounds < 20000) {
        double start = now_ms();
        check(catalog_jobs_prune(b->c, INT64_MAX, BATCH, ignore_pruned, NULL, &count, &err), &err);
        b->ms[b->rounds++] = now_ms() - start;
        b->rows += count;
    }
    b->cpu = clock_ms(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

/* ---- triggers ---- */

static void trigger(struct catalog *c, const char *store)
{
    struct job job = {.kind = "backup", .repo = "main", .requested_by = "uid:0", .attempt = 1};
    struct timespec t;
    struct error err;

    clock_gettime(CLOCK_REALTIME, &t);
    job.created_at = (time_ms)t.tv_sec * 1000;
    ulid_new(job.created_at, job.ulid);
    snprintf(job.store, sizeof job.store, "%s", store);
    check(catalog_jobs_create(c, &job, 1, &err), &err);
}

static void measure(struct catalog *c, const char *what, const char *round, void *(*run)(void *))
{
    struct beside *b = xcalloc(1, sizeof *b);
    static double ms[TRIGGERS];
    pthread_t thread;

    b->c = c;
    if (run && pthread_create(&thread, NULL, run, b) != 0)
        abort();
    for (int i = 0; i < TRIGGERS; i++) {
        double start = now_ms();
        trigger(c, "app0");
        ms[i] = now_ms() - start;
        usleep(PAUSE_US);
    }
    atomic_store(&b->stop, true);
    if (run)
        pthread_join(thread, NULL);
    say(what, ms, TRIGGERS);
    if (b->rounds) {
        say(round, b->ms, b->rounds);
        printf("%-34s %zu rows in all, %.2f ms of CPU each time\n", "", b->rows,
               b->cpu / (double)b->rounds);
    }
    free(b);
}

static void *set_ticks(void *ctx)
{
    struct beside *b = ctx;
    struct error err;

    for (; b->rounds < 200; b->rounds++) {
        double start = now_ms();
        check(catalog_tick_set(b->c, "app0", "main", (time_ms)b->rounds + 1, &err), &err);
        b->ms[b->rounds] = now_ms() - start;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct beside *alone = xcalloc(1, sizeof *alone);
    struct error err;

    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    double start = now_ms();
    struct catalog *c = catalog_open(argv[1], &err);
    if (!c)
        check(-1, &err);
    printf("open %.1f ms, RSS %ld KiB\n", now_ms() - start, rss_kib());
    alone->c = c;
    set_ticks(alone);
    say("set a tick", alone->ms, alone->rounds);
    measure(c, "trigger, alone", "", NULL);
    measure(c, "trigger, beside a records pass", "  one pass", go_over_records);
    measure(c, "trigger, beside pruning", "  one batch of 500", prune);
    printf("RSS %ld KiB\n", rss_kib());
    start = now_ms();
    catalog_close(c);
    printf("close %.1f ms\n", now_ms() - start);
    free(alone);
    return 0;
}
