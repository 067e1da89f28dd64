/* SPDX-License-Identifier: MIT */
/*
 * moment.h - a point in time as a person types it.
 */
#ifndef KEEPFS_UTIL_MOMENT_H
#define KEEPFS_UTIL_MOMENT_H

#include "keepfs/model.h"

/*
 * RFC 3339, or the beginning of it:
 *
 *   YYYY-MM-DD[Thh[:mm[:ss[.f...]]][ZONE]]
 *
 * The T may be a blank; ZONE is Z, +hh:mm or -hh:mm, and UTC if it is left out. What else is left
 * out is zero: a date alone is the moment at which the day begins. Of a fraction (1 to 9 digits)
 * what is below a millisecond is cut. -1 for anything else, and for what the calendar or the clock
 * does not have. Threads: any.
 */
int moment_parse(const char *text, time_ms *out);

#endif
