/* SPDX-License-Identifier: MIT */
/*
 * schedule.c - see schedule.h. After a long sleep of a schedule of every minute there are millions
 * of ticks behind: only those that may still be on time are walked.
 */
#include "service/schedule.h"

static void plan(struct schedule *s)
{
    if (!cron_next(s->cron, s->handled, &s->tick))
        s->tick = 0;
    s->owed = false;
    s->fire = s->tick ? s->tick + s->jitter : 0;
}

void schedule_begin(struct schedule *s, struct cron *cron, time_ms jitter, bool catch_up,
                    time_ms handled, time_ms now)
{
    bool usable = handled > 0 && handled <= now + SCHEDULE_LATE_MS;

    *s = (struct schedule){
        .cron = cron, .jitter = jitter, .catch_up = catch_up, .handled = usable ? handled : now};
    plan(s);
}

void schedule_release(struct schedule *s)
{
    cron_free(s->cron);
    s->cron = NULL;
}

/* The last tick that is on time at `now`; 0 if all that are due were missed. */
static time_ms last_on_time(const struct schedule *s, time_ms now)
{
    time_ms from = now - s->jitter - SCHEDULE_LATE_MS - 1, found = 0, tick;

    if (from < s->handled)
        from = s->handled;
    while (cron_next(s->cron, from, &tick) && tick + s->jitter <= now)
        from = found = tick;
    return found;
}

enum schedule_due schedule_look(struct schedule *s, time_ms now, time_ms *tick)
{
    if (now + SCHEDULE_LATE_MS < s->handled) {
        s->handled = now;
        plan(s);
    }
    if (!s->tick || now < s->fire)
        return SCHEDULE_WAIT;
    *tick = last_on_time(s, now);
    if (*tick)
        return SCHEDULE_RUN;
    /* All that are behind, whenever the last of them was. */
    *tick = now - s->jitter;
    if (s->owed)
        return SCHEDULE_RUN;
    return s->catch_up ? SCHEDULE_CATCH : SCHEDULE_MISSED;
}

void schedule_handled(struct schedule *s, time_ms tick)
{
    s->handled = tick;
    plan(s);
}

void schedule_postpone(struct schedule *s, time_ms now)
{
    s->owed = true;
    s->fire = now + SCHEDULE_RETRY_MS;
}
