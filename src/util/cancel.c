/* SPDX-License-Identifier: MIT */
/*
 * cancel.c - the flag is set last, under the lock, after code and reason; whoever sees it may read
 * both without the lock.
 */
#include "keepfs/cancel.h"

#include <stdio.h>
#include <time.h>

void cancel_init(struct cancel *c)
{
    pthread_condattr_t attr;

    atomic_init(&c->requested, false);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    c->code = ERR_NONE;
    c->reason[0] = '\0';
}

void cancel_release(struct cancel *c)
{
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
}

void cancel_request(struct cancel *c, enum error_code code, const char *reason)
{
    pthread_mutex_lock(&c->lock);
    if (!cancel_requested(c)) {
        c->code = code;
        snprintf(c->reason, sizeof c->reason, "%s", reason);
        atomic_store_explicit(&c->requested, true, memory_order_release);
        pthread_cond_broadcast(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
}

int cancel_check(struct cancel *c, struct error *err)
{
    if (!cancel_requested(c))
        return 0;
    return error_set(err, c->code, "%s", c->reason);
}

bool cancel_wait(struct cancel *c, int ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    while (!cancel_requested(c) && pthread_cond_timedwait(&c->wake, &c->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&c->lock);
    return cancel_requested(c);
}
