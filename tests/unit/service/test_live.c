/* SPDX-License-Identifier: MIT */
/*
 * test_live.c - the table of live jobs: claims, order, groups, cancel and stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/live.h"
#include "util/buf.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORES = 4, REPOS = 8, QUEUE = 6 };

/* Repo i is of store i / 2, and each store is a group of its own. */
static struct store stores[STORES];
static struct repo repos[REPOS];
static struct config config; /* that all are of */
static struct live live;
static int next_id;

static int setup(void **state)
{
    (void)state;
    memset(stores, 0, sizeof stores);
    memset(repos, 0, sizeof repos);
    for (int i = 0; i < STORES; i++) {
        snprintf(stores[i].id, sizeof stores[i].id, "s%d", i);
        stores[i].group = (size_t)i;
    }
    for (int i = 0; i < REPOS; i++) {
        snprintf(repos[i].id, sizeof repos[i].id, "r%d", i);
        repos[i].store = &stores[i / 2];
    }
    live_init(&live, QUEUE);
    next_id = 0;
    return 0;
}

/* Whatever a test left, a failed one too. */
static int teardown(void **state)
{
    (void)state;
    while (live.first)
        live_remove(&live, live.first);
    live_release(&live);
    return 0;
}

static void make_id(char ulid[ULID_LEN + 1])
{
    snprintf(ulid, ULID_LEN + 1, "%026d", next_id++);
}

static int try_claim(struct repo *const *list, size_t count, struct live_job **out,
                     struct error *err)
{
    char ids[REPOS][ULID_LEN + 1];

    for (size_t i = 0; i < count; i++)
        make_id(ids[i]);
    return live_claim(&live, &config, list, ids, count, out, err);
}

static struct live_job *claim(int i)
{
    struct repo *repo = &repos[i];
    struct live_job *job;
    struct error err;

    if (try_claim(&repo, 1, &job, &err) != 0)
        fail_msg("repo %d: %s", i, err.message);
    return job;
}

static struct live_job *queued(int i)
{
    struct live_job *job = claim(i);

    live_queue(&live, &job, 1);
    return job;
}

/* Claiming repo i is refused for this reason, and leaves nothing. */
static void expect_refused(int i, enum error_code code, int errnum, const char *word)
{
    struct repo *repo = &repos[i];
    struct live_job *job = NULL;
    struct error err = {0};
    size_t count = live.count;

    assert_int_equal(try_claim(&repo, 1, &job, &err), -1);
    assert_int_equal(err.code, code);
    assert_int_equal(err.errnum, errnum);
    assert_non_null(strstr(err.message, word));
    assert_null(job);
    assert_int_equal(live.count, count);
}

/* ---- claims ---- */

static void a_claimed_repo_is_busy_with_that_job(void **state)
{
    (void)state;
    struct live_job *job = claim(0);

    expect_refused(0, ERR_BACKUP_ALREADY_RUNNING, EBUSY, job->ulid);
    expect_refused(0, ERR_BACKUP_ALREADY_RUNNING, EBUSY, "s0/r0");
    live_remove(&live, job);
    claim(0);
}

static void a_repo_is_busy_in_every_phase(void **state)
{
    (void)state;
    struct live_job *job = claim(0);

    live_queue(&live, &job, 1);
    expect_refused(0, ERR_BACKUP_ALREADY_RUNNING, EBUSY, "pending");
    assert_ptr_equal(live_take(&live), job);
    expect_refused(0, ERR_BACKUP_ALREADY_RUNNING, EBUSY, "running");
}

static void repos_are_claimed_all_or_none(void **state)
{
    struct repo *three[] = {&repos[0], &repos[1], &repos[2]};
    struct live_job *jobs[3];
    struct error err;

    (void)state;
    for (int busy = 0; busy < 3; busy++) {
        struct live_job *other = claim(busy);
        assert_int_equal(try_claim(three, 3, jobs, &err), -1);
        assert_int_equal(err.errnum, EBUSY);
        assert_non_null(strstr(err.message, other->ulid));
        assert_int_equal(live.count, 1);
        live_remove(&live, other);
    }
    assert_int_equal(try_claim(three, 3, jobs, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(jobs[i]->repo, &repos[i]);
        assert_int_equal(jobs[i]->phase, LIVE_CLAIMED);
    }
}

static void the_queue_has_room_for_max_queue_jobs(void **state)
{
    struct repo *last_two[] = {&repos[QUEUE - 1], &repos[QUEUE]};
    struct live_job *jobs[2];
    struct error err;

    (void)state;
    for (int i = 0; i < QUEUE - 1; i++)
        claim(i);
    assert_int_equal(try_claim(last_two, 2, jobs, &err), -1);
    assert_int_equal(err.code, ERR_QUEUE_FULL);
    assert_int_equal(err.errnum, EAGAIN);
    struct live_job *last = claim(QUEUE - 1);
    expect_refused(QUEUE, ERR_QUEUE_FULL, EAGAIN, "max_queue");
    live_remove(&live, last);
    claim(QUEUE);
}

/* ---- order ---- */

static void jobs_run_in_the_order_of_their_arrival(void **state)
{
    (void)state;
    struct live_job *a = queued(4), *b = queued(0), *c = queued(2);

    assert_ptr_equal(live_take(&live), a);
    assert_ptr_equal(live_take(&live), b);
    assert_ptr_equal(live_take(&live), c);
    assert_int_equal(a->phase, LIVE_RUNNING);
}

static void a_claimed_job_is_not_taken_before_its_row_is_there(void **state)
{
    (void)state;
    struct live_job *early = claim(0), *late = queued(2);

    assert_ptr_equal(live_take(&live), late);
    live_queue(&live, &early, 1);
    assert_ptr_equal(live_take(&live), early);
}

static void jobs_of_one_group_run_one_after_another(void **state)
{
    (void)state;
    struct live_job *first = queued(0), *same = queued(1), *other = queued(2);

    assert_ptr_equal(live_take(&live), first);
    assert_ptr_equal(live_take(&live), other); /* past the one that has to wait */
    live_ending(&live, first);
    struct live_job *third = queued(4);
    assert_ptr_equal(live_take(&live), third); /* an ending job still holds its group */
    live_remove(&live, first);
    assert_ptr_equal(live_take(&live), same);
}

static void stores_of_one_group_share_it(void **state)
{
    (void)state;
    stores[1].group = 0;
    struct live_job *first = queued(0), *same = queued(2), *other = queued(4);

    assert_ptr_equal(live_take(&live), first);
    assert_ptr_equal(live_take(&live), other);
    live_remove(&live, first);
    assert_ptr_equal(live_take(&live), same);
}

static void a_pending_job_that_is_removed_frees_no_group(void **state)
{
    struct live_job *mine;

    (void)state;
    struct live_job *runs = queued(0), *cancelled = queued(1), *other = queued(2);
    assert_ptr_equal(live_take(&live), runs);
    assert_true(live_cancel(&live, cancelled->ulid, "reason", &mine));
    assert_ptr_equal(mine, cancelled);
    live_remove(&live, mine);
    queued(1);
    struct live_job *last = queued(4);
    assert_ptr_equal(live_take(&live), other);
    assert_ptr_equal(live_take(&live), last); /* group 0 is held by `runs` still */
}

static void removing_from_the_middle_and_the_end_keeps_the_order(void **state)
{
    (void)state;
    struct live_job *a = queued(0), *b = queued(2), *c = queued(4);

    live_remove(&live, b);
    live_remove(&live, c);
    struct live_job *d = queued(6);
    assert_ptr_equal(live_take(&live), a);
    assert_ptr_equal(live_take(&live), d);
    assert_int_equal(live.count, 2);
}

/* ---- cancel ---- */

static void only_a_live_job_can_be_cancelled(void **state)
{
    struct live_job *mine = (struct live_job *)&live;

    (void)state;
    claim(0);
    assert_false(live_cancel(&live, "00000000000000000000000099", "reason", &mine));
    assert_null(mine);
}

static void a_claimed_job_is_asked_and_stays_with_its_claimer(void **state)
{
    struct live_job *mine;

    (void)state;
    struct live_job *job = claim(0);
    assert_true(live_cancel(&live, job->ulid, "cancelled by uid:5", &mine));
    assert_null(mine);
    assert_true(cancel_requested(&job->cancel));
    assert_int_equal(job->phase, LIVE_CLAIMED);
}

static void a_queued_job_becomes_the_cancellers(void **state)
{
    struct live_job *mine, *second;

    (void)state;
    struct live_job *job = queued(0), *other = queued(2);
    assert_true(live_cancel(&live, job->ulid, "cancelled by uid:5", &mine));
    assert_ptr_equal(mine, job);
    assert_int_equal(job->phase, LIVE_ENDING);
    assert_ptr_equal(live_take(&live), other); /* no worker gets it */
    assert_true(live_cancel(&live, job->ulid, "again", &second));
    assert_null(second); /* one party ends it */
}

static void a_job_given_back_by_its_canceller_keeps_its_place(void **state)
{
    struct live_job *mine;

    (void)state;
    struct live_job *job = queued(0);
    queued(2);
    assert_true(live_cancel(&live, job->ulid, "cancelled by uid:5", &mine));
    live_requeue(&live, mine);
    assert_ptr_equal(live_take(&live), job);
    assert_true(cancel_requested(&job->cancel));
}

static void a_running_job_is_asked_with_the_reason(void **state)
{
    struct live_job *mine;
    struct error err;

    (void)state;
    struct live_job *job = queued(0);
    assert_ptr_equal(live_take(&live), job);
    assert_false(cancel_requested(&job->cancel));
    assert_true(live_cancel(&live, job->ulid, "cancelled by uid:5", &mine));
    assert_null(mine);
    assert_int_equal(cancel_check(&job->cancel, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by uid:5");
}

static void an_ending_job_is_found_but_nothing_is_to_be_done(void **state)
{
    struct live_job *mine;

    (void)state;
    struct live_job *job = queued(0);
    live_take(&live);
    live_ending(&live, job);
    assert_true(live_cancel(&live, job->ulid, "late", &mine));
    assert_null(mine);
    assert_int_equal(job->phase, LIVE_ENDING);
}

/* ---- jobs that are about to end ---- */

static void *claim_repo_0(void *ctx)
{
    struct repo *repo = &repos[0];
    char id[1][ULID_LEN + 1] = {"99999999999999999999999999"};
    struct live_job *job = NULL;
    struct error *err = ctx;

    return live_claim(&live, &config, &repo, id, 1, &job, err) == 0 ? job : NULL;
}

static pthread_barrier_t barrier;

static void *claim_at_once(void *ctx)
{
    pthread_barrier_wait(&barrier);
    return claim_repo_0(ctx);
}

/* Whoever saw the final state must not be told that the repo is busy with that job. In many rounds,
 * since the claim may also come when the job has gone. */
static void a_claim_waits_for_a_job_that_is_about_to_end(void **state)
{
    (void)state;
    pthread_barrier_init(&barrier, NULL, 2);
    for (int round = 0; round < 500; round++) {
        struct error err = {0};
        pthread_t other;
        void *got;
        struct live_job *job = queued(0);
        live_take(&live);
        live_ending(&live, job);
        assert_int_equal(pthread_create(&other, NULL, claim_at_once, &err), 0);
        pthread_barrier_wait(&barrier);
        sched_yield();
        live_remove(&live, job);
        pthread_join(other, &got);
        if (!got)
            fail_msg("round %d: %s", round, err.message);
        live_remove(&live, got);
    }
    pthread_barrier_destroy(&barrier);
}

static void a_claim_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct live_job *job = queued(0);

    live_take(&live);
    live_ending(&live, job);
    expect_refused(0, ERR_BACKUP_ALREADY_RUNNING, EBUSY, job->ulid);
}

static void a_claim_that_waits_is_refused_by_a_stop(void **state)
{
    struct error err = {0};
    pthread_t other;
    void *got;

    (void)state;
    struct live_job *job = queued(0);
    live_take(&live);
    live_ending(&live, job);
    assert_int_equal(pthread_create(&other, NULL, claim_repo_0, &err), 0);
    live_stop(&live);
    pthread_join(other, &got);
    assert_null(got);
    assert_int_equal(err.errnum, ESHUTDOWN);
}

/* ---- many threads ---- */

enum { THREADS = 100 };

static void of_100_claims_exactly_one_wins(void **state)
{
    pthread_t threads[THREADS];
    static struct error errors[THREADS];
    int winners = 0;

    (void)state;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, claim_at_once, &errors[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *got;
        pthread_join(threads[i], &got);
        winners += got != NULL;
        assert_int_equal(errors[i].errnum, got ? 0 : EBUSY);
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(winners, 1);
    assert_int_equal(live.count, 1);
}

static atomic_int in_group[STORES], finished;

/* A worker: whatever is taken is alone in its group. */
static void *work(void *ctx)
{
    struct live_job *job;

    (void)ctx;
    while ((job = live_take(&live))) {
        size_t group = job->repo->store->group;
        bool alone = atomic_fetch_add(&in_group[group], 1) == 0;
        live_ending(&live, job);
        atomic_fetch_sub(&in_group[group], 1);
        live_remove(&live, job);
        if (!alone)
            return job;
        atomic_fetch_add(&finished, 1);
    }
    return NULL;
}

static void workers_and_claimers_share_the_table(void **state)
{
    enum { WORKERS = 4, ROUNDS = 500 };
    pthread_t workers[WORKERS];
    int claimed = 0;

    (void)state;
    atomic_store(&finished, 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, work, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct repo *repo = &repos[i % REPOS];
        char id[1][ULID_LEN + 1];
        struct live_job *job, *mine;
        struct error err;
        make_id(id[0]);
        if (live_claim(&live, &config, &repo, id, 1, &job, &err) != 0) {
            assert_true(err.errnum == EBUSY || err.errnum == EAGAIN);
            continue;
        }
        claimed++;
        live_queue(&live, &job, 1);
        if (i % 3 == 0 && live_cancel(&live, id[0], "reason", &mine) && mine) {
            live_remove(&live, mine);
            claimed--;
        }
    }
    while (atomic_load(&finished) < claimed)
        sched_yield();
    live_stop(&live);
    for (int i = 0; i < WORKERS; i++) {
        void *bad;
        pthread_join(workers[i], &bad);
        assert_null(bad);
    }
    assert_int_equal(atomic_load(&finished), claimed);
    assert_null(live.first);
}

/* ---- stop ---- */

static void *take_one(void *ctx)
{
    (void)ctx;
    return live_take(&live);
}

static void a_stop_wakes_every_taker_with_nothing(void **state)
{
    pthread_t takers[3];
    void *got;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&takers[i], NULL, take_one, NULL), 0);
    live_stop(&live);
    for (int i = 0; i < 3; i++) {
        pthread_join(takers[i], &got);
        assert_null(got);
    }
}

static void after_a_stop_nothing_is_claimed_or_taken(void **state)
{
    (void)state;
    queued(0);
    live_stop(&live);
    assert_null(live_take(&live));
    expect_refused(2, ERR_STOPPING, ESHUTDOWN, "stopping");
    expect_refused(0, ERR_STOPPING, ESHUTDOWN, "stopping"); /* not: busy */
}

static void a_stop_asks_every_job_to_end(void **state)
{
    struct error err;

    (void)state;
    struct live_job *runs = queued(0), *waits = queued(1);
    assert_ptr_equal(live_take(&live), runs);
    live_stop(&live);
    assert_int_equal(cancel_check(&runs->cancel, &err), -1);
    assert_int_equal(err.code, ERR_INTERRUPTED); /* not: cancelled */
    assert_true(cancel_requested(&waits->cancel));
}

static void clearing_frees_what_was_queued(void **state)
{
    (void)state;
    queued(0);
    queued(2);
    live_stop(&live);
    live_clear(&live);
    assert_null(live.first);
    assert_int_equal(live.count, 0);
}

static void *wait_long(void *ctx)
{
    (void)ctx;
    return live_wait_stop(&live, INT_MAX) ? &live : NULL;
}

static void a_sleeper_is_woken_by_a_stop(void **state)
{
    pthread_t sleeper;
    void *woken;

    (void)state;
    assert_false(live_wait_stop(&live, 1));
    assert_int_equal(pthread_create(&sleeper, NULL, wait_long, NULL), 0);
    live_stop(&live);
    pthread_join(sleeper, &woken);
    assert_ptr_equal(woken, &live);
    assert_true(live_wait_stop(&live, INT_MAX));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* No job of it may run meanwhile, and a tick is not lost by it. */
static void a_repo_that_is_looked_through_is_to_be_tried_again(void **state)
{
    struct repo *repo = &repos[0];
    struct live_job *job = claim(0), *other;
    struct error err;
    (void)state;

    assert_false(live_has(&live, &repos[1]));
    live_examining(&live, job);
    assert_true(live_has(&live, repo));
    assert_int_equal(try_claim(&repo, 1, &other, &err), -1);
    assert_int_equal(err.code, ERR_QUEUE_FULL);
    assert_int_equal(err.errnum, EAGAIN);
    live_remove(&live, job);
    assert_int_equal(try_claim(&repo, 1, &other, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repo_that_is_looked_through_is_to_be_tried_again),
        TEST(a_claimed_repo_is_busy_with_that_job),
        TEST(a_repo_is_busy_in_every_phase),
        TEST(repos_are_claimed_all_or_none),
        TEST(the_queue_has_room_for_max_queue_jobs),
        TEST(jobs_run_in_the_order_of_their_arrival),
        TEST(a_claimed_job_is_not_taken_before_its_row_is_there),
        TEST(jobs_of_one_group_run_one_after_another),
        TEST(stores_of_one_group_share_it),
        TEST(a_pending_job_that_is_removed_frees_no_group),
        TEST(removing_from_the_middle_and_the_end_keeps_the_order),
        TEST(only_a_live_job_can_be_cancelled),
        TEST(a_claimed_job_is_asked_and_stays_with_its_claimer),
        TEST(a_queued_job_becomes_the_cancellers),
        TEST(a_job_given_back_by_its_canceller_keeps_its_place),
        TEST(a_running_job_is_asked_with_the_reason),
        TEST(an_ending_job_is_found_but_nothing_is_to_be_done),
        TEST(a_claim_waits_for_a_job_that_is_about_to_end),
        TEST(a_claim_does_not_wait_for_ever),
        TEST(a_claim_that_waits_is_refused_by_a_stop),
        TEST(of_100_claims_exactly_one_wins),
        TEST(workers_and_claimers_share_the_table),
        TEST(a_stop_wakes_every_taker_with_nothing),
        TEST(after_a_stop_nothing_is_claimed_or_taken),
        TEST(a_stop_asks_every_job_to_end),
        TEST(clearing_frees_what_was_queued),
        TEST(a_sleeper_is_woken_by_a_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
