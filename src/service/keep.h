/* SPDX-License-Identifier: MIT */
/*
 * keep.h - retention as a decision: which records of one repo stay, and by which rules. Nothing is
 * deleted, read or logged here.
 *
 * A policy is a set of rules, and a record stays if any of them keeps it:
 *
 *   pinned   it is pinned. Pinned records stand outside all other rules: they use up neither a
 *            count nor a period
 *   count    it is among the newest `count`
 *   age      it is at most `age_days` times 24 hours old, inclusive; or it is dated after `now`
 *   hourly, daily, weekly, monthly, yearly
 *            it is the newest of its hour (day, ...), and that hour is among the newest `hourly`
 *            hours that have a record. Hours without one do not count
 *   last     no rule keeps any record: the newest stays, so that no pass empties a repo. A pinned
 *            record is enough: with one, no other stays for this reason
 *   all      the policy has no rule
 *
 * The rules do not know of each other: a record that one of them keeps still counts for the others,
 * as with restic's --keep-*. Others differ: borg counts for a rule only what the rules before it
 * did not keep, so its --keep-daily 14 --keep-monthly 6 is mostly daily 14 and monthly 7 here; borg
 * and newer versions of restic also keep the oldest record while a rule is not used up; kopia also
 * drops what is more than N periods older than its newest snapshot. Here a gap in the history costs
 * no record.
 *
 * Periods are those of the UTC calendar, and weeks begin on Monday (ISO 8601): the same records
 * give the same answer on every machine, in every time zone, on both sides of a change to summer
 * time. While no pin changes and the clock goes forward, a pass after every backup and one pass at
 * the end leave the same records, too.
 *
 * Wrong clocks. A record that is dated after `now` stays, by the rule age, also if no age_days is
 * set: it has no age yet, and a clock that went back must not delete what was made before. It
 * counts like any other, and being the newest it counts first: `count` such records leave no room
 * for one that is made now. So do not act on a decision while keep_clock_behind says yes.
 *
 * Memory: none. Threads: no state.
 */
#ifndef KEEPFS_SERVICE_KEEP_H
#define KEEPFS_SERVICE_KEEP_H

#include "keepfs/model.h"
#include "util/buf.h"

#include <stddef.h>

/* 0 = the rule is not set; never negative. */
struct keep_policy {
    int64_t count, age_days;
    int64_t hourly, daily, weekly, monthly, yearly;
};

enum keep_rule {
    KEEP_PINNED = 1 << 0,
    KEEP_COUNT = 1 << 1,
    KEEP_AGE = 1 << 2,
    KEEP_HOURLY = 1 << 3,
    KEEP_DAILY = 1 << 4,
    KEEP_WEEKLY = 1 << 5,
    KEEP_MONTHLY = 1 << 6,
    KEEP_YEARLY = 1 << 7,
    KEEP_LAST = 1 << 8,
    KEEP_ALL = 1 << 9,
};

/* "pinned", "count", ...; static. Of one rule. */
const char *keep_rule_name(enum keep_rule rule);

struct keep_item {
    char ulid[ULID_LEN + 1];
    time_ms created_at;
    bool pinned;
    /* What keep_decide fills in. */
    unsigned rules; /* enum keep_rule: all that keep it; 0 if it goes */
    bool kept;
};

/* Decides on all records of a repo. They come newest first, by created_at and then by ulid:
 * asserted, since any other order would delete the wrong ones. */
void keep_decide(const struct keep_policy *p, struct keep_item *items, size_t count, time_ms now);

/* Appends "ULID TIME keep RULE,..." or "ULID TIME delete", without a newline. */
void keep_line(const struct keep_item *item, struct buf *out);

/*
 * Is a new backup so small that something may be wrong with its source: under `ratio_permille`
 * thousandths of the median of the up to five before it? `earlier` has their sizes, newest first;
 * of an even number the median is the mean of the middle two. Never if there are none before it,
 * and never with a ratio of 0.
 */
bool keep_suspect(uint64_t newest_size, const uint64_t *earlier, size_t n, unsigned ratio_permille);

/* Is the clock behind the newest record, so that one of them is wrong? 0 = there is no record. */
bool keep_clock_behind(time_ms now, time_ms newest);

#endif
