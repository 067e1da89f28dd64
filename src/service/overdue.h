/* SPDX-License-Identifier: MIT */
/*
 * overdue.h - since when a backup is late. Arithmetic and nothing else: the times come in, no clock
 * is read, nobody is asked.
 *
 *   every      so old may the newest good record of a repo get; 0 = nothing is expected
 *   since      when a backup was first expected, for a repo that has none
 *   newest     the date of its newest good record; 0 = there is none
 *
 * The age counts from the record's date, which is when its backup began: what it holds is as old as
 * that. A record that is suspect counts: the backup was made, and what is odd about it is said
 * elsewhere; nobody shall look for a dead schedule because a source became small.
 *
 * A record dated later than now, by more than a minute, was dated by a wrong clock. It says nothing
 * of its age, and the time since a backup is expected stands in for it, so that a clock that once
 * was wrong does not silence the alarm for years. If that is in the future, too, nothing can be
 * said, and nothing is overdue.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_SERVICE_OVERDUE_H
#define KEEPFS_SERVICE_OVERDUE_H

#include "keepfs/model.h"
#include "util/cron.h"

struct promise {
    time_ms every, since, newest;
};

/* Since when it is overdue; 0 if it is not. */
time_ms overdue_since(const struct promise *p, time_ms now);

/* What a repo's `every` is: what `expect_every` says (valid; NULL: it says nothing), else one and a
 * half times the longest gap of the schedule (NULL: there is none), and the `jitter` by which its
 * starts come behind the ticks. */
time_ms overdue_every(const char *expect_every, const struct cron *schedule, time_ms jitter,
                      time_ms now);

#endif
