/* SPDX-License-Identifier: MIT */
/*
 * test_cancel.c - one request, the first, seen by everybody at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/cancel.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

static int setup(void **state)
{
    static struct cancel c;

    cancel_init(&c);
    *state = &c;
    return 0;
}

static int teardown(void **state)
{
    cancel_release(*state);
    return 0;
}

static void nothing_is_requested_at_first(void **state)
{
    struct error err = {.code = ERR_QUEUE_FULL};

    assert_false(cancel_requested(*state));
    assert_int_equal(cancel_check(*state, &err), 0);
    assert_int_equal(err.code, ERR_QUEUE_FULL); /* untouched on success */
}

static void a_request_says_who_and_why(void **state)
{
    struct error err;

    cancel_request(*state, ERR_CANCELLED, "cancelled by uid:0");
    assert_true(cancel_requested(*state));
    assert_int_equal(cancel_check(*state, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by uid:0");
}

static void the_first_request_stays(void **state)
{
    struct error err;

    cancel_request(*state, ERR_INTERRUPTED, "first");
    cancel_request(*state, ERR_CANCELLED, "second");
    assert_int_equal(cancel_check(*state, &err), -1);
    assert_int_equal(err.code, ERR_INTERRUPTED);
    assert_string_equal(err.message, "first");
}

static void a_long_reason_is_cut(void **state)
{
    char reason[500];
    struct error err;

    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    cancel_request(*state, ERR_CANCELLED, reason);
    assert_int_equal(cancel_check(*state, &err), -1);
    assert_true(strlen(err.message) < sizeof reason - 1);
    assert_memory_equal(err.message, reason, strlen(err.message));
}

static void a_wait_without_request_ends_by_itself(void **state)
{
    assert_false(cancel_wait(*state, 0));
    assert_false(cancel_wait(*state, 1));
}

static void a_wait_after_a_request_is_none(void **state)
{
    cancel_request(*state, ERR_CANCELLED, "now");
    assert_true(cancel_wait(*state, INT_MAX));
}

struct waiter {
    struct cancel cancel;
    sem_t ready;
};

static void *wait_long(void *ctx)
{
    struct waiter *w = ctx;

    sem_post(&w->ready);
    return cancel_wait(&w->cancel, INT_MAX) ? ctx : NULL;
}

/* A thread that is not woken would hold the test for 24 days. In many rounds, since a thread may
 * come so late that it need not be woken. */
static void a_request_wakes_all_who_wait(void **state)
{
    enum { WAITERS = 4 };

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct waiter w;
        pthread_t threads[WAITERS];
        void *woken;
        cancel_init(&w.cancel);
        sem_init(&w.ready, 0, 0);
        for (size_t i = 0; i < WAITERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, wait_long, &w), 0);
        for (size_t i = 0; i < WAITERS; i++)
            sem_wait(&w.ready);
        sched_yield();
        cancel_request(&w.cancel, ERR_CANCELLED, "wake up");
        for (size_t i = 0; i < WAITERS; i++) {
            pthread_join(threads[i], &woken);
            assert_ptr_equal(woken, &w);
        }
        sem_destroy(&w.ready);
        cancel_release(&w.cancel);
    }
}

struct requester {
    struct cancel *cancel;
    int number;
};

static void *request_and_read(void *ctx)
{
    struct requester *r = ctx;
    struct error err;
    char reason[128];

    memset(reason, 'a' + r->number, sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    cancel_request(r->cancel, ERR_CANCELLED, reason);
    cancel_check(r->cancel, &err);
    /* One request's reason, whole, and the same for all. */
    for (size_t i = 1; err.message[i]; i++)
        if (err.message[i] != err.message[0])
            return NULL;
    return (void *)(uintptr_t)(unsigned char)err.message[0];
}

static void requests_from_many_threads_do_not_mix(void **state)
{
    pthread_t threads[16];
    struct requester requesters[16];
    void *first = NULL, *seen;

    for (int i = 0; i < 16; i++) {
        requesters[i] = (struct requester){*state, i};
        assert_int_equal(pthread_create(&threads[i], NULL, request_and_read, &requesters[i]), 0);
    }
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], &seen);
        assert_non_null(seen);
        assert_true(!first || first == seen);
        first = seen;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_requested_at_first),
        TEST(a_request_says_who_and_why),
        TEST(the_first_request_stays),
        TEST(a_long_reason_is_cut),
        TEST(a_wait_without_request_ends_by_itself),
        TEST(a_wait_after_a_request_is_none),
        TEST(a_request_wakes_all_who_wait),
        TEST(requests_from_many_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
