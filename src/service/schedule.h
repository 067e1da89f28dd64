/* SPDX-License-Identifier: MIT */
/*
 * schedule.h - when one repo's next backup starts. Date arithmetic and nothing else: the time comes
 * in, no clock is read, nobody is called.
 *
 *   tick     a moment that the cron expression names
 *   jitter   what the repo starts later than its ticks, always the same, so that repos with one
 *            schedule do not all start at once
 *   fire     tick + jitter, when it is acted on
 *   handled  the last tick that is dealt with: run, dropped or caught up with
 *
 * Rules:
 *
 *   - A tick is on time until SCHEDULE_LATE_MS after its fire. One that nobody looked at by then,
 *     since keepfs was down or the machine slept, is missed: dropped, or with catch_up run as soon
 *     as it is seen, once for however many were missed.
 *   - Of several ticks that are due at once, one run stands for all.
 *   - A clock that went back by more than SCHEDULE_LATE_MS behind `handled` begins anew from where
 *     it is; by less, nothing that was handled comes again. A clock that went forward has missed
 *     ticks, like sleep.
 *   - What could not be started for a reason that passes (queue full, state disk full) is tried
 *     again every SCHEDULE_RETRY_MS, until the next tick stands for it.
 *
 * Threads: none of its own; the owner locks.
 */
#ifndef KEEPFS_SERVICE_SCHEDULE_H
#define KEEPFS_SERVICE_SCHEDULE_H

#include "keepfs/model.h"
#include "util/cron.h"

enum { SCHEDULE_LATE_MS = 10 * 60 * 1000, SCHEDULE_RETRY_MS = 60 * 1000 };

struct schedule {
    struct cron *cron;
    time_ms jitter;
    bool catch_up;
    bool owed; /* a start was put off: it stays due, however late it gets */
    time_ms handled;
    time_ms tick; /* the next one; 0 = there will be none */
    time_ms fire; /* of it, or when it is tried again; 0 = never */
};

/* From `handled` on; 0, and what is too far ahead of `now`, is taken for `now`. Takes over `cron`.
 */
void schedule_begin(struct schedule *s, struct cron *cron, time_ms jitter, bool catch_up,
                    time_ms handled, time_ms now);
void schedule_release(struct schedule *s);

enum schedule_due {
    SCHEDULE_WAIT,   /* until s->fire */
    SCHEDULE_RUN,    /* a tick is on time */
    SCHEDULE_CATCH,  /* ticks were missed, and one run is owed for them */
    SCHEDULE_MISSED, /* ticks were missed, and that is all */
};
/* What is to be done at `now`. *tick is then the last tick that it is for. */
enum schedule_due schedule_look(struct schedule *s, time_ms now, time_ms *tick);
/* It is done, or never will be. */
void schedule_handled(struct schedule *s, time_ms tick);
/* It could not be done at `now`. */
void schedule_postpone(struct schedule *s, time_ms now);

#endif
