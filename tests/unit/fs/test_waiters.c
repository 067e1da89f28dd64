/* SPDX-License-Identifier: MIT */
/* waiters.c: who is answered, with what, when, and that each is answered once. */
#include "fs/waiters.h"

#include "util/buf.h"
#include "util/clock.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ULID "01J6Q0ZV7M8C3T5N9B2K4D6F8H"

/* ---- requests and polls that note what became of them ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct request {
    int answers, errnum;
    size_t len;
    char text[8192];
};

struct poll {
    int wakes, drops;
};

static void on_data(void *request, const char *data, size_t len)
{
    struct request *r = request;

    pthread_mutex_lock(&lock);
    r->answers++;
    r->len = len;
    memcpy(r->text, data, len < sizeof r->text ? len : sizeof r->text - 1);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_error(void *request, int errnum)
{
    struct request *r = request;

    pthread_mutex_lock(&lock);
    r->answers++;
    r->errnum = errnum;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_wake(void *poll)
{
    pthread_mutex_lock(&lock);
    ((struct poll *)poll)->wakes++;
    pthread_mutex_unlock(&lock);
}

static void on_drop(void *poll)
{
    pthread_mutex_lock(&lock);
    ((struct poll *)poll)->drops++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_answer(const struct request *r)
{
    pthread_mutex_lock(&lock);
    while (r->answers == 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void assert_data(const struct request *r, const char *text)
{
    wait_answer(r);
    assert_int_equal(r->answers, 1);
    assert_int_equal(r->errnum, 0);
    assert_int_equal(r->len, strlen(text));
    assert_string_equal(r->text, text);
}

static void assert_errno(const struct request *r, int errnum)
{
    wait_answer(r);
    assert_int_equal(r->answers, 1);
    assert_int_equal(r->errnum, errnum);
}

/* Not answered, and the thread has had its time for it: it has answered another one since. */
static void assert_parked(struct waiters *w, const struct request *r)
{
    struct request probe = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 999999);

    waiters_commit(w, waiters_begin(watch, &probe, 100), true);
    watch_ended(watch, "failed");
    assert_data(&probe, "failed\n");
    watch_close(watch);
    pthread_mutex_lock(&lock);
    assert_int_equal(r->answers, 0);
    pthread_mutex_unlock(&lock);
}

static void assert_woken(const struct poll *p)
{
    pthread_mutex_lock(&lock);
    while (p->drops == 0)
        pthread_cond_wait(&changed, &lock);
    assert_int_equal(p->drops, 1);
    assert_int_equal(p->wakes, 1);
    pthread_mutex_unlock(&lock);
}

/* ---- the waiters ---- */

static int start(void **state)
{
    static const struct waiters_calls calls = {on_data, on_error, on_wake, on_drop};
    struct error err;

    *state = waiters_start(&calls, &err);
    return *state ? 0 : -1;
}

static int end(void **state)
{
    waiters_free(*state);
    return 0;
}

static void happens(struct waiters *w, enum catalog_object object, int64_t row, const char *to)
{
    struct catalog_event e = {.object = object,
                              .row = row,
                              .ulid = ULID,
                              .store = "a",
                              .repo = "b",
                              .from = "",
                              .to = to};

    waiters_event(w, &e);
}

static struct parked *begin(struct watch *watch, struct request *r, size_t size)
{
    struct parked *p = waiters_begin(watch, r, size);

    assert_non_null(p);
    return p;
}

static void park(struct waiters *w, struct watch *watch, struct request *r)
{
    waiters_commit(w, begin(watch, r, 4096), true);
}

/* ---- wait ---- */

static void wait_gives_the_final_state_once_and_then_the_end(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, again = {0}, once_more = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);

    park(w, watch, &r);
    assert_false(watch_ready(watch));
    happens(w, OBJECT_JOB, 7, "running");
    happens(w, OBJECT_JOB, 8, "failed");
    happens(w, OBJECT_JOB, 7 + 256, "failed"); /* in the same bucket */
    happens(w, OBJECT_RECORD, 7, "deleted");
    assert_parked(w, &r);
    happens(w, OBJECT_JOB, 7, "succeeded");
    assert_data(&r, "succeeded\n");
    assert_true(watch_ready(watch));
    park(w, watch, &again);
    assert_data(&again, "");
    park(w, watch, &once_more);
    assert_data(&once_more, "");
    watch_close(watch);
}

static void a_job_that_had_ended_before_the_read_is_answered_at_once(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, other = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 7), *late = watch_open(w, WATCH_WAIT, 7);

    happens(w, OBJECT_JOB, 7, "interrupted");
    waiters_commit(w, begin(watch, &r, 4096), false);
    assert_data(&r, "interrupted\n");
    watch_ended(late, "interrupted");
    waiters_commit(w, begin(late, &other, 4096), false);
    assert_data(&other, "interrupted\n");
    watch_close(watch);
    watch_close(late);
}

static void a_state_is_read_byte_by_byte(void **state)
{
    struct waiters *w = *state;
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);
    char text[16] = "";

    happens(w, OBJECT_JOB, 7, "failed");
    for (;;) {
        struct request r = {0};
        waiters_commit(w, begin(watch, &r, 1), true);
        wait_answer(&r);
        if (r.len == 0)
            break;
        strcat(text, r.text);
    }
    assert_string_equal(text, "failed\n");
    watch_close(watch);
}

static void of_two_reads_of_one_open_the_first_gets_the_state(void **state)
{
    struct waiters *w = *state;
    struct request first = {0}, second = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);

    park(w, watch, &first);
    park(w, watch, &second);
    happens(w, OBJECT_JOB, 7, "succeeded");
    assert_data(&first, "succeeded\n");
    assert_data(&second, "");
    watch_close(watch);
}

static void without_blocking_there_is_eagain(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, e = {0};
    struct watch *wait = watch_open(w, WATCH_WAIT, 7), *events = watch_open(w, WATCH_EVENTS, 0);

    waiters_commit(w, begin(wait, &r, 4096), false);
    assert_errno(&r, EAGAIN);
    waiters_commit(w, begin(events, &e, 4096), false);
    assert_errno(&e, EAGAIN);
    watch_close(wait);
    watch_close(events);
}

/* ---- events ---- */

static void events_gives_what_happens_from_its_opening_on(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, again = {0}, third = {0};

    happens(w, OBJECT_JOB, 1, "pending");
    struct watch *watch = watch_open(w, WATCH_EVENTS, 0);
    park(w, watch, &r);
    assert_parked(w, &r);
    happens(w, OBJECT_JOB, 1, "running");
    assert_data(&r, "1970-01-01T00:00:00.000Z job " ULID " a/b - running\n");
    park(w, watch, &again);
    assert_parked(w, &again);
    happens(w, OBJECT_RECORD, 1, "created");
    assert_data(&again, "1970-01-01T00:00:00.000Z record " ULID " a/b - created\n");
    happens(w, OBJECT_JOB, 2, "failed");
    assert_true(watch_ready(watch));
    park(w, watch, &third);
    assert_int_equal(third.answers, 1);
    assert_false(watch_ready(watch));
    watch_close(watch);
}

static void more_readers_than_fit_one_batch_all_get_the_line(void **state)
{
    enum { READERS = 300 };
    struct waiters *w = *state;
    struct watch *watches[READERS];
    struct request *r = calloc(READERS, sizeof *r);

    for (int i = 0; i < READERS; i++) {
        watches[i] = watch_open(w, WATCH_EVENTS, 0);
        park(w, watches[i], &r[i]);
    }
    happens(w, OBJECT_JOB, 1, "running");
    for (int i = 0; i < READERS; i++) {
        assert_data(&r[i], "1970-01-01T00:00:00.000Z job " ULID " a/b - running\n");
        watch_close(watches[i]);
    }
    free(r);
}

static void however_many_come_at_once_no_wait_misses_its_end(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, slow = {0};
    struct watch *wait = watch_open(w, WATCH_WAIT, 3), *events = watch_open(w, WATCH_EVENTS, 0);

    park(w, wait, &r);
    for (int64_t row = 1; row <= 4 * LIMIT_EVENTS; row++)
        happens(w, OBJECT_JOB, row, "interrupted");
    assert_data(&r, "interrupted\n");
    waiters_commit(w, begin(events, &slow, 100), true);
    char dropped[32];
    snprintf(dropped, sizeof dropped, "dropped %d\n", 3 * LIMIT_EVENTS);
    wait_answer(&slow);
    assert_memory_equal(slow.text, dropped, strlen(dropped));
    watch_close(wait);
    watch_close(events);
}

/* ---- interrupts ---- */

static void an_interrupt_gives_the_request_to_whoever_brings_it(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, other = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);

    park(w, watch, &r);
    park(w, watch, &other);
    assert_true(waiters_interrupt(w, &r));
    assert_false(waiters_interrupt(w, &r));
    happens(w, OBJECT_JOB, 7, "failed");
    assert_data(&other, "failed\n");
    assert_false(waiters_interrupt(w, &other));
    assert_int_equal(r.answers, 0);
    watch_close(watch);
}

static void an_interrupt_before_the_commit_is_not_lost(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, next = {0};
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);

    struct parked *p = begin(watch, &r, 4096);
    assert_false(waiters_interrupt(w, &r));
    /* What happens meanwhile is for the next read. */
    happens(w, OBJECT_JOB, 7, "failed");
    assert_parked(w, &r);
    waiters_commit(w, p, true);
    assert_errno(&r, EINTR);
    park(w, watch, &next);
    assert_data(&next, "failed\n");
    watch_close(watch);
}

static void what_happens_before_the_commit_is_not_lost(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, e = {0};
    struct watch *wait = watch_open(w, WATCH_WAIT, 7), *events = watch_open(w, WATCH_EVENTS, 0);

    struct parked *p = begin(wait, &r, 4096), *q = begin(events, &e, 4096);
    happens(w, OBJECT_JOB, 7, "failed");
    assert_parked(w, &r);
    assert_parked(w, &e);
    waiters_commit(w, p, true);
    assert_data(&r, "failed\n");
    waiters_commit(w, q, true);
    assert_int_equal(e.answers, 1);
    watch_close(wait);
    watch_close(events);
}

/* ---- polls ---- */

static void a_poll_is_woken_once_by_what_it_waits_for(void **state)
{
    struct waiters *w = *state;
    struct watch *wait = watch_open(w, WATCH_WAIT, 7), *events = watch_open(w, WATCH_EVENTS, 0),
                 *status = watch_open(w, WATCH_STATUS, 7),
                 *progress = watch_open(w, WATCH_PROGRESS, 7);
    struct poll of_wait = {0}, of_events = {0}, of_status = {0}, of_progress = {0};

    watch_poll(wait, &of_wait);
    watch_poll(events, &of_events);
    watch_poll(status, &of_status);
    watch_poll(progress, &of_progress);
    waiters_progress(w, 8);
    waiters_progress(w, 7);
    assert_woken(&of_progress);
    assert_int_equal(of_events.drops + of_status.drops, 0);
    of_progress = (struct poll){0};
    watch_poll(progress, &of_progress);
    happens(w, OBJECT_JOB, 7, "running");
    assert_woken(&of_events);
    assert_woken(&of_status);
    assert_woken(&of_progress);
    assert_int_equal(of_wait.drops, 0);
    happens(w, OBJECT_JOB, 7, "failed");
    assert_woken(&of_wait);
    watch_close(wait);
    watch_close(events);
    watch_close(status);
    watch_close(progress);
    assert_int_equal(of_wait.drops + of_events.drops + of_status.drops + of_progress.drops, 4);
}

static void a_poll_takes_the_place_of_the_earlier_and_goes_with_the_file(void **state)
{
    struct waiters *w = *state;
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);
    struct poll one = {0}, two = {0};

    watch_poll(watch, &one);
    watch_poll(watch, &two);
    assert_int_equal(one.drops, 1);
    assert_int_equal(two.drops, 0);
    watch_close(watch);
    assert_int_equal(two.drops, 1);
    assert_int_equal(one.wakes + two.wakes, 0);
}

/* ---- ceilings, patience, the end ---- */

static void no_more_are_parked_than_may_be(void **state)
{
    struct waiters *w = *state;
    struct watch *watch = watch_open(w, WATCH_WAIT, 7);
    struct request *r = calloc(LIMIT_WAITERS, sizeof *r), more = {0};

    for (int i = 0; i < LIMIT_WAITERS; i++)
        park(w, watch, &r[i]);
    assert_null(waiters_begin(watch, &more, 100));
    assert_true(waiters_interrupt(w, &r[5]));
    park(w, watch, &more);
    happens(w, OBJECT_JOB, 7, "failed");
    for (int i = 0; i < LIMIT_WAITERS; i++)
        if (i != 5)
            wait_answer(&r[i]);
    assert_data(&r[0], "failed\n");
    assert_data(&more, "");
    watch_close(watch);
    free(r);
}

static void no_read_is_held_longer_than_allowed(void **state)
{
    struct waiters *w = *state;
    struct request before = {0}, r = {0}, e = {0};
    struct watch *wait = watch_open(w, WATCH_WAIT, 7), *events = watch_open(w, WATCH_EVENTS, 0);

    park(w, wait, &before);
    waiters_hold(w, 50);
    assert_errno(&before, EINTR);
    time_ms begin = clock_monotonic();
    park(w, wait, &r);
    park(w, events, &e);
    assert_errno(&r, EINTR);
    assert_true(clock_monotonic() - begin >= 50);
    assert_errno(&e, EINTR);
    r = (struct request){0};
    park(w, wait, &r);
    happens(w, OBJECT_JOB, 7, "succeeded");
    assert_data(&r, "succeeded\n");
    watch_close(wait);
    watch_close(events);
}

static void the_end_answers_all_and_whoever_comes_later(void **state)
{
    struct waiters *w = *state;
    struct request r = {0}, e = {0}, late_wait = {0}, late = {0}, last = {0}, begun = {0};
    struct watch *wait = watch_open(w, WATCH_WAIT, 7), *events = watch_open(w, WATCH_EVENTS, 0),
                 *behind = watch_open(w, WATCH_EVENTS, 0);

    happens(w, OBJECT_JOB, 7, "running");
    struct watch *fresh = watch_open(w, WATCH_EVENTS, 0);
    park(w, wait, &r);
    park(w, fresh, &e);
    struct parked *p = begin(wait, &begun, 100);
    waiters_stop(w);
    assert_errno(&r, ESHUTDOWN);
    assert_data(&e, "");
    waiters_commit(w, p, true);
    assert_errno(&begun, ESHUTDOWN);
    park(w, wait, &late_wait);
    assert_errno(&late_wait, ESHUTDOWN);
    assert_true(watch_ready(wait) && watch_ready(events));
    park(w, behind, &late);
    assert_int_equal(late.answers, 1);
    assert_true(late.len > 0);
    park(w, behind, &last);
    assert_data(&last, "");
    waiters_stop(w);
    watch_close(wait);
    watch_close(events);
    watch_close(behind);
    watch_close(fresh);
}

/* ---- all at once ---- */

enum { CLIENTS = 4, READS = 3000 };

struct client {
    struct waiters *w;
    struct request *requests;
    atomic_int *given; /* how far: requests up to here may be interrupted */
    int interrupted;
};

/* Reads wait and events in turn, so that each read has a chance to end in each way. */
static void *read_all(void *arg)
{
    struct client *c = arg;

    for (int i = 0; i < READS; i++) {
        bool events = i % 2;
        struct watch *watch = watch_open(c->w, events ? WATCH_EVENTS : WATCH_WAIT, i % 8);
        struct parked *p = waiters_begin(watch, &c->requests[i], 256);
        atomic_store(c->given, i);
        waiters_commit(c->w, p, true);
        wait_answer(&c->requests[i]);
        watch_close(watch);
    }
    return NULL;
}

static void *interrupt_some(void *arg)
{
    struct client *c = arg;
    int at;

    while ((at = atomic_load(c->given)) < READS - 1) {
        struct request *r = &c->requests[at];
        if (waiters_interrupt(c->w, r)) {
            c->interrupted++;
            on_error(r, EINTR);
        }
    }
    return NULL;
}

static void readers_writers_and_interrupts_meet_and_each_read_is_answered_once(void **state)
{
    struct waiters *w = *state;
    pthread_t readers[CLIENTS], interrupters[CLIENTS];
    struct client clients[CLIENTS];
    atomic_int given[CLIENTS];
    bool done = false;

    for (int i = 0; i < CLIENTS; i++) {
        atomic_init(&given[i], 0);
        clients[i] = (struct client){
            .w = w, .requests = calloc(READS, sizeof(struct request)), .given = &given[i]};
        pthread_create(&readers[i], NULL, read_all, &clients[i]);
        pthread_create(&interrupters[i], NULL, interrupt_some, &clients[i]);
    }
    for (int64_t n = 0; !done; n++) {
        happens(w, OBJECT_JOB, n % 8, n % 3 ? "running" : "failed");
        waiters_progress(w, n % 8);
        done = true;
        for (int i = 0; i < CLIENTS; i++) {
            pthread_mutex_lock(&lock);
            done = done && clients[i].requests[READS - 1].answers > 0;
            pthread_mutex_unlock(&lock);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(readers[i], NULL);
        pthread_join(interrupters[i], NULL);
        for (int k = 0; k < READS; k++)
            assert_int_equal(clients[i].requests[k].answers, 1);
        free(clients[i].requests);
    }
}

#define WAITERS_TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WAITERS_TEST(wait_gives_the_final_state_once_and_then_the_end),
        WAITERS_TEST(a_job_that_had_ended_before_the_read_is_answered_at_once),
        WAITERS_TEST(a_state_is_read_byte_by_byte),
        WAITERS_TEST(of_two_reads_of_one_open_the_first_gets_the_state),
        WAITERS_TEST(without_blocking_there_is_eagain),
        WAITERS_TEST(events_gives_what_happens_from_its_opening_on),
        WAITERS_TEST(more_readers_than_fit_one_batch_all_get_the_line),
        WAITERS_TEST(however_many_come_at_once_no_wait_misses_its_end),
        WAITERS_TEST(an_interrupt_gives_the_request_to_whoever_brings_it),
        WAITERS_TEST(an_interrupt_before_the_commit_is_not_lost),
        WAITERS_TEST(what_happens_before_the_commit_is_not_lost),
        WAITERS_TEST(a_poll_is_woken_once_by_what_it_waits_for),
        WAITERS_TEST(a_poll_takes_the_place_of_the_earlier_and_goes_with_the_file),
        WAITERS_TEST(no_more_are_parked_than_may_be),
        WAITERS_TEST(no_read_is_held_longer_than_allowed),
        WAITERS_TEST(the_end_answers_all_and_whoever_comes_later),
        WAITERS_TEST(readers_writers_and_interrupts_meet_and_each_read_is_answered_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
