/* SPDX-License-Identifier: MIT */
/*
 * cron.h - a schedule in cron's words, and when it comes next. Pure arithmetic: no clock, no timer.
 *
 *   [ZONE] MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK
 *   [ZONE] @hourly | @daily | @midnight | @weekly | @monthly | @yearly | @annually
 *   [ZONE] @every DURATION
 *
 * with blanks between the words. ZONE is CRON_TZ=Europe/Rome or TZ=Europe/Rome; without it times
 * are in the machine's own zone (util/zone.h).
 *
 * Fields are 0-59, 0-23, 1-31, 1-12 or jan-dec, 0-7 or sun-sat (0 and 7 are Sunday; names in any
 * case). Each is a list, with commas, of N, N-M, * (also written ?), and each of these with a slash
 * and a step S behind it; N with a step goes from N to the end. S is 1 to the greatest value of the
 * field. A range may not go backwards, but one that ends in `sun` ends in 7. A star or an N with a
 * step ends, among the days of the week, on Saturday.
 *
 * Which days: Vixie's rule, as in Debian's cron. A field that begins with a star is unrestricted,
 * whatever follows. If day of month and day of week are both restricted, a day that fits either is
 * taken; else it must fit both. "0 0 13 * 5" is every 13th and every Friday; with a star, a slash
 * and a 2 in the place of 13 it is every Friday on an odd day.
 *
 * Gaps and overlaps of local time: two rules, by the field of the hour.
 *
 *   It takes all 24 hours, however that is written ("0/5 * * * *", "30 0-23 * * *"). The schedule
 *   follows real time: its ticks are all instants whose local time fits, in an overlap those of
 *   both passes, and a gap has none. So it never pauses and never hurries.
 *
 *   Else each local time that fits is one tick, at the first instant at which the local clock
 *   reaches or passes it. A time in a gap is thereby a tick at the first instant after the gap, and
 *   all times of one gap are the same single tick; a time in an overlap is a tick in the first pass
 *   only. So a nightly job runs once a night.
 *
 * Vixie's cron takes for the first kind any schedule whose minute or hour begins with a star: every
 * 20 minutes of hour 2 would then come in both passes of an overlap, and in a gap not at all.
 *
 * @every is a number of d, h, m, s in that order ("1h30m"), in sum from 1 minute to 366 days. Its
 * ticks are the multiples of the duration since 1970-01-01 00:00 UTC, so that a restart does not
 * shift them; a zone makes no difference to it.
 *
 * Ticks are from 1970 to 9999. Threads: a cron is immutable.
 */
#ifndef KEEPFS_UTIL_CRON_H
#define KEEPFS_UTIL_CRON_H

#include "keepfs/model.h"

struct cron;

/*
 * 0 and *out, or -1 and in `why` "column N: what is wrong there; allowed: what is". Refused are
 * also days that no month of the schedule has ("0 0 30 2 *"): what is taken has a next tick.
 */
int cron_parse(const char *text, struct cron **out, char *why, size_t why_size);
/* NULL is fine. */
void cron_free(struct cron *c);

/* The first tick after `after`, not at it. False if there is none before the year 10000. Takes the
 * same small time, well under a millisecond, for every schedule. */
bool cron_next(const struct cron *c, time_ms after, time_ms *next);

/* The longest time between two ticks that follow on each other, from `from` on: over a year and a
 * month, and further as long as there are not two days with ticks in it. By the local clock; if it
 * changes in that time, an hour more, but for schedules that follow real time. 0 if there are not
 * two ticks before the year 10000. Takes some microseconds. */
time_ms cron_longest_gap(const struct cron *c, time_ms from);

#endif
