/* SPDX-License-Identifier: MIT */
/*
 * ulid.h - sortable ids: 48 bits of ms since the epoch, 80 random bits, Crockford's base 32.
 * Source: https://github.com/ulid/spec
 */
#ifndef KEEPFS_UTIL_ULID_H
#define KEEPFS_UTIL_ULID_H

#include "keepfs/model.h"

#include <stdbool.h>

/* A new id, greater than every one this process made before (also when the clock steps back).
 * Any thread. Aborts if the kernel gives no randomness. */
void ulid_new(time_ms now, char out[ULID_LEN + 1]);

/* 26 upper-case characters of the alphabet, the first at most '7'. The only check that lets a
 * stranger's name become part of a path. */
bool ulid_valid(const char *text);

/* The time in a valid id. */
time_ms ulid_time(const char *text);

#endif
