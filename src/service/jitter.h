/* SPDX-License-Identifier: MIT */
/*
 * jitter.h - how long after its tick a repo's run begins, so that not all begin at once.
 *
 * A repo keeps its place: the number comes from its id alone and is the same after a restart.
 */
#ifndef KEEPFS_SERVICE_JITTER_H
#define KEEPFS_SERVICE_JITTER_H

enum { JITTER_DEFAULT_SECONDS = 300 };

/* FNV-1a (64 bits) of the id, modulo max_seconds; 0 if that is 0. Source of the hash:
 * https://datatracker.ietf.org/doc/draft-eastlake-fnv/ */
unsigned schedule_jitter(const char *id, unsigned max_seconds);

#endif
