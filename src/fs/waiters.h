/* SPDX-License-Identifier: MIT */
/*
 * waiters.h - reads that are parked until there is something to read, and polls.
 *
 * Life: waiters_start -> watches -> waiters_stop -> all watches closed -> waiters_free.
 *
 * A watch is one open file that waits for something:
 *
 *   WATCH_WAIT      a job's wait: its final state once, then the end of the file
 *   WATCH_EVENTS    lines of event_ring.h, from its opening on
 *   WATCH_STATUS    only polled: the job's state
 *   WATCH_PROGRESS  only polled: the job's state or progress
 *
 * A read that can be answered is answered at once, any other is parked: no thread waits for it.
 * Requests and poll handles are pointers that only the functions of struct waiters_calls know.
 *
 * A read in three steps, so that an interrupt finds it however early it comes:
 *
 *   1. waiters_begin     it is known, and cannot be answered yet
 *   2. the caller has interrupts of it lead to waiters_interrupt
 *   3. waiters_commit    answers or parks it; from now on it may be gone
 *
 * Each request is answered exactly once: by waiters_commit, by the thread, or by the caller of
 * waiters_interrupt if that says so.
 *
 * No read is held longer than waiters_hold allows: then it fails with EINTR, upon which whoever
 * reads as POSIX wants it reads again. waiters_stop ends them all: wait fails with ESHUTDOWN,
 * since its end without a state would say that there is none, events gives what there is and ends.
 *
 * Threads: any. waiters_event and waiters_progress wait for nothing but a short lock, with which no
 * function of another room and none of struct waiters_calls is called.
 */
#ifndef KEEPFS_FS_WAITERS_H
#define KEEPFS_FS_WAITERS_H

#include "fs/event_ring.h"

struct waiters;
struct watch;

/* All are called without a lock, from any thread. */
struct waiters_calls {
    void (*data)(void *request, const char *data, size_t len); /* 0 bytes: the end */
    void (*error)(void *request, int errnum);
    void (*wake)(void *poll); /* something changed; then drop is called */
    void (*drop)(void *poll);
};

/* Starts the thread. */
struct waiters *waiters_start(const struct waiters_calls *calls, struct error *err);
/* In milliseconds; 0, as at the start, for as long as it takes. */
void waiters_hold(struct waiters *w, int hold_ms);
/* Everything parked is answered when it returns, and all that comes later at once. Idempotent. */
void waiters_stop(struct waiters *w);
void waiters_free(struct waiters *w); /* NULL is fine */

/* ---- what happens: for catalog_on_event and catalog_on_progress, ctx is the waiters ---- */

void waiters_event(void *waiters, const struct catalog_event *e);
void waiters_progress(void *waiters, int64_t job);

/* ---- open files ---- */

enum watch_kind { WATCH_NONE, WATCH_WAIT, WATCH_EVENTS, WATCH_STATUS, WATCH_PROGRESS };

/* `job` is the catalog's row; of no meaning for events. */
struct watch *watch_open(struct waiters *w, enum watch_kind kind, int64_t job);
/* The job was found to have ended as `state` (static), maybe before the watch was opened. */
void watch_ended(struct watch *watch, const char *state);
/* With no read of it parked, or after waiters_stop. NULL is fine. */
void watch_close(struct watch *watch);

/* Is there something to read now, or the end? */
bool watch_ready(struct watch *watch);
/* `poll` is woken once, at the next change; takes the place of an earlier one, which is dropped. */
void watch_poll(struct watch *watch, void *poll);

/* ---- reads of WATCH_WAIT and WATCH_EVENTS ---- */

struct parked;

/* NULL if LIMIT_WAITERS reads are parked: then the caller answers. */
struct parked *waiters_begin(struct watch *watch, void *request, size_t size);
/* `block` is false for EAGAIN instead of waiting. */
void waiters_commit(struct waiters *w, struct parked *p, bool block);
/* True if the request was parked and is now the caller's to answer. Else somebody answers it or has
 * done so. */
bool waiters_interrupt(struct waiters *w, void *request);

#endif
