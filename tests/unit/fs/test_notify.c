/* SPDX-License-Identifier: MIT */
/* notify.c: what is told, when, and that nobody has to wait for it. */
#include "fs/notify.h"

#include "util/ulid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LONG_MS = 3600000, PATIENCE_MS = 60000 };

/* A kernel that takes a name only while it is open. */
struct kernel {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;
    size_t asked, told;
    node_id dir;
    char name[ULID_LEN + 1]; /* the last one */
};

static void tell(void *ctx, node_id dir, const char *name)
{
    struct kernel *k = ctx;

    pthread_mutex_lock(&k->lock);
    k->asked++;
    pthread_cond_broadcast(&k->changed);
    while (k->closed)
        pthread_cond_wait(&k->changed, &k->lock);
    k->told++;
    k->dir = dir;
    snprintf(k->name, sizeof k->name, "%s", name);
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

static void wait_told(struct kernel *k, size_t count)
{
    pthread_mutex_lock(&k->lock);
    while (k->told < count)
        pthread_cond_wait(&k->changed, &k->lock);
    pthread_mutex_unlock(&k->lock);
}

static void wait_asked(struct kernel *k, size_t count)
{
    pthread_mutex_lock(&k->lock);
    while (k->asked < count)
        pthread_cond_wait(&k->changed, &k->lock);
    pthread_mutex_unlock(&k->lock);
}

static void open_kernel(struct kernel *k)
{
    pthread_mutex_lock(&k->lock);
    k->closed = false;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

#define KERNEL(closed_)                                                                            \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .closed = closed_  \
    }

static struct notifier *start(struct kernel *k)
{
    struct error err;
    struct notifier *n = notifier_start(tell, k, &err);

    assert_non_null(n);
    return n;
}

static void end(struct notifier *n)
{
    assert_true(notifier_stop(n, PATIENCE_MS));
    notifier_free(n);
}

static void a_name_is_told_with_its_directory(void **state)
{
    struct kernel k = KERNEL(false);
    struct notifier *n = start(&k);

    (void)state;
    notifier_gone(n, NODE_RECORDS, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 0);
    wait_told(&k, 1);
    assert_int_equal(k.dir, node_make(NODE_RECORDS, 0, NODE_FILE_NONE));
    assert_string_equal(k.name, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    notifier_gone(n, NODE_JOBS, "01ARZ3NDEKTSV4RRFFQ69G5FAW", 0);
    wait_told(&k, 2);
    assert_int_equal(k.dir, node_make(NODE_JOBS, 0, NODE_FILE_NONE));
    assert_string_equal(k.name, "01ARZ3NDEKTSV4RRFFQ69G5FAW");
    end(n);
}

static void a_name_waits_for_its_time_and_holds_up_no_other(void **state)
{
    struct kernel k = KERNEL(false);
    struct notifier *n = start(&k);

    (void)state;
    notifier_gone(n, NODE_RECORDS, "later", LONG_MS);
    notifier_gone(n, NODE_RECORDS, "soon", 1);
    wait_told(&k, 1);
    assert_string_equal(k.name, "soon");
    notifier_gone(n, NODE_RECORDS, "now", 0);
    wait_told(&k, 2);
    assert_string_equal(k.name, "now");
    end(n);
    assert_int_equal(k.told, 2);
}

static void what_is_cancelled_is_not_told(void **state)
{
    struct kernel k = KERNEL(true);
    struct notifier *n = start(&k);

    (void)state;
    notifier_gone(n, NODE_RECORDS, "first", 0);
    wait_asked(&k, 1);
    notifier_gone(n, NODE_JOBS, "a", 0);
    notifier_gone(n, NODE_RECORDS, "a", 0);
    notifier_cancel(n, NODE_RECORDS, "a");
    notifier_cancel(n, NODE_RECORDS, "nothing");
    open_kernel(&k);
    wait_told(&k, 2);
    assert_int_equal(k.dir, node_make(NODE_JOBS, 0, NODE_FILE_NONE));
    end(n);
    assert_int_equal(k.told, 2);
}

/* With the thread in the kernel, the queue takes what it has room for and drops the rest. */
static void a_kernel_that_takes_nothing_holds_up_nobody(void **state)
{
    struct kernel k = KERNEL(true);
    struct notifier *n = start(&k);

    (void)state;
    notifier_gone(n, NODE_RECORDS, "first", 0);
    wait_asked(&k, 1);
    for (int i = 0; i < 2 * NOTIFY_QUEUE; i++)
        notifier_gone(n, NODE_RECORDS, "more", 0);
    assert_false(notifier_stop(n, 1));
    open_kernel(&k);
    end(n);
    assert_true(k.told <= 2);
}

static void as_many_as_there_is_room_for_are_told(void **state)
{
    struct kernel k = KERNEL(true);
    struct notifier *n = start(&k);

    (void)state;
    notifier_gone(n, NODE_RECORDS, "first", 0);
    wait_asked(&k, 1);
    for (int i = 0; i < NOTIFY_QUEUE + 5; i++)
        notifier_gone(n, NODE_RECORDS, "later", LONG_MS);
    for (int i = 0; i < NOTIFY_QUEUE; i++)
        notifier_gone(n, NODE_RECORDS, "now", 0);
    open_kernel(&k);
    wait_told(&k, 1 + NOTIFY_QUEUE / 2);
    /* There is room again, and nothing else was waiting. */
    notifier_gone(n, NODE_RECORDS, "last", 0);
    wait_told(&k, 2 + NOTIFY_QUEUE / 2);
    assert_string_equal(k.name, "last");
    end(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_told_with_its_directory),
        cmocka_unit_test(a_name_waits_for_its_time_and_holds_up_no_other),
        cmocka_unit_test(what_is_cancelled_is_not_told),
        cmocka_unit_test(a_kernel_that_takes_nothing_holds_up_nobody),
        cmocka_unit_test(as_many_as_there_is_room_for_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
