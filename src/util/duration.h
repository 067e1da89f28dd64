/* SPDX-License-Identifier: MIT */
/*
 * duration.h - lengths of time as words: those of the configuration in, those for a person out.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_UTIL_DURATION_H
#define KEEPFS_UTIL_DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No duration of a configuration is longer: ten years. */
#define DURATION_MAX ((int64_t)3660 * 86400)

/*
 * Seconds of "90m", "6h", "1d12h" (numbers of d, h, m, s, in that order, as behind cron's @every),
 * of "5400", which is seconds, and of "never", which is 0 as "0" is. False for any other text, and
 * for one above DURATION_MAX.
 */
bool duration_parse(const char *text, int64_t *seconds);

enum { DURATION_TEXT_MAX = 24 };
/* "12 s", "3 min", "5 h", "2 d", "14 mo", "3 y": rounded down, in the largest unit of which there
 * are at least two, so that it is never off by half or more. A negative one is "0 s". Returns
 * text. */
const char *duration_words(int64_t seconds, char text[DURATION_TEXT_MAX]);

#endif
