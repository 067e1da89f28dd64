/* SPDX-License-Identifier: MIT */
/*
 * zone.h - a time zone as a value. libc knows one zone per process, chosen by a variable.
 *
 * A zone is a row of spans that cover all time: from `start` on, up to but not including `end`,
 * local time is UTC plus `offset`. Where one span meets the next the local clock goes on, jumps
 * ahead (a gap: local times that never are) or jumps back (an overlap: local times that are
 * twice). Whoever maps local times to UTC walks the spans and sees all three; a local time L is at
 * UTC L - offset in each span that has that instant, which is none, one or two.
 *
 * A zone comes from a TZif file (RFC 8536, versions 1 to 4), normally of the package tzdata: its
 * table, and behind the table's end the rule in its footer, so that 2038 is a year like another. A
 * file that counts leap seconds is refused, since the system's clock does not.
 *
 *   1. zone_open   2. zone_offset, zone_span_at, any number of times   3. zone_free
 *
 * Errors: ERR_INVALID for a name or a file that is not fit, ERR_NOT_FOUND for a zone that is not
 * there. Threads: immutable once opened. Opening reads TZ by getenv, which no thread may be
 * changing.
 */
#ifndef KEEPFS_UTIL_ZONE_H
#define KEEPFS_UTIL_ZONE_H

#include "keepfs/error.h"

#include <stddef.h>
#include <stdint.h>

struct zone;

/* Seconds since the epoch. */
struct zone_span {
    int64_t start, end; /* INT64_MIN and INT64_MAX where there is no bound */
    int32_t offset;     /* seconds, positive east of Greenwich */
};

/* Of every offset and so of every jump: a local time is less than this away from UTC. */
enum { ZONE_OFFSET_MAX = 26 * 3600 };

/*
 * Opens a zone by its name ("Europe/Rome"): [A-Za-z0-9_+-] and single slashes between, below
 * /usr/share/zoneinfo. "UTC" needs no file.
 *
 * NULL is the machine's own: the variable TZ if it is set, else /etc/localtime, else UTC. TZ is a
 * name as above, an absolute path, or a POSIX rule ("CET-1CEST,M3.5.0,M10.5.0/3"), each with or
 * without a colon before it; empty it is UTC. A TZ that is none of these is an error and not UTC:
 * backups at the wrong hour help nobody.
 */
int zone_open(const char *name, struct zone **out, struct error *err);
/* NULL is fine. */
void zone_free(struct zone *z);

/* Both take any time; one before the year 1 or after 9999 is answered as the nearest within. */
int32_t zone_offset(const struct zone *z, int64_t utc);
/* The span that has `utc` in it. Neighbours may have the same offset. */
struct zone_span zone_span_at(const struct zone *z, int64_t utc);

/* Where zones are; tests and fuzzers give their own. */
struct zone_places {
    const char *directory; /* of zones by name */
    const char *local;     /* the machine's zone if TZ is not set */
};
int zone_open_at(const struct zone_places *places, const char *name, struct zone **out,
                 struct error *err);
/* The same from a file's bytes. */
int zone_parse(const void *data, size_t len, struct zone **out, struct error *err);

#endif
