/* SPDX-License-Identifier: MIT */
/*
 * clock.h - the time, injectable, and its one text form.
 */
#ifndef KEEPFS_UTIL_CLOCK_H
#define KEEPFS_UTIL_CLOCK_H

#include "keepfs/model.h"

/* Tests give their own. Any thread may call now(). */
struct clock {
    time_ms (*now)(void *ctx); /* UTC, ms since the epoch */
    void *ctx;
};

/* CLOCK_REALTIME. */
extern const struct clock clock_system;

static inline time_ms clock_now(const struct clock *c)
{
    return c->now(c->ctx);
}

/* CLOCK_MONOTONIC in ms, for deadlines. */
time_ms clock_monotonic(void);

#define TIME_TEXT_MAX 32
/* "2026-11-21T06:30:28.123Z" (RFC 3339, UTC); years 0000-9999. Returns text. */
const char *time_format(time_ms t, char text[TIME_TEXT_MAX]);
/* The inverse, for exactly that form with 0 to 9 digits of fraction and a Z; -1 otherwise. */
int time_parse(const char *text, time_ms *out);

#endif
