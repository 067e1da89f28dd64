/* SPDX-License-Identifier: MIT */
/*
 * overdue.c - see overdue.h.
 */
#include "service/overdue.h"

#include "util/duration.h"

/* What a clock may be ahead. */
#define TOLERANCE_MS ((time_ms)60 * 1000)

time_ms overdue_since(const struct promise *p, time_ms now)
{
    bool dated = p->newest && p->newest <= now + TOLERANCE_MS;
    time_ms late = (dated ? p->newest : p->since) + p->every;

    return p->every && late < now ? late : 0;
}

time_ms overdue_every(const char *expect_every, const struct cron *schedule, time_ms jitter,
                      time_ms now)
{
    int64_t seconds = 0;

    if (expect_every)
        return duration_parse(expect_every, &seconds) ? seconds * 1000 : 0;
    time_ms gap = schedule ? cron_longest_gap(schedule, now) : 0;
    return gap ? gap + gap / 2 + jitter : 0;
}
