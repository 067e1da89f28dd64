/* SPDX-License-Identifier: MIT */
/*
 * cancel.h - one job's cancel flag.
 *
 * Every run owns one. It goes from "not requested" to "requested, because..." once and never back.
 * Whoever does long work polls cancel_requested() between steps, and sleeps only in cancel_wait().
 *
 * Threads: request, requested, wait and check may be called from any thread at once.
 */
#ifndef KEEPFS_CANCEL_H
#define KEEPFS_CANCEL_H

#include "keepfs/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct cancel {
    atomic_bool requested;
    pthread_mutex_t lock; /* guards code and reason until requested is seen */
    pthread_cond_t wake;
    enum error_code code;
    char reason[128];
};

void cancel_init(struct cancel *c);
void cancel_release(struct cancel *c);

/* The first request decides the code (ERR_CANCELLED or ERR_INTERRUPTED) and the reason
 * ("cancelled by uid:0"); later ones change nothing. */
void cancel_request(struct cancel *c, enum error_code code, const char *reason);

static inline bool cancel_requested(const struct cancel *c)
{
    return atomic_load_explicit(&c->requested, memory_order_acquire);
}

/* 0 while nobody asked; else -1 and err has the request's code and reason. */
int cancel_check(struct cancel *c, struct error *err);

/* Sleeps `ms` milliseconds or until a request comes, whichever is first; true if requested. */
bool cancel_wait(struct cancel *c, int ms);

#endif
