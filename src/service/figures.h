/* SPDX-License-Identifier: MIT */
/*
 * figures.h - what the service keeps in memory of each configured repo, for those who watch: how
 * often a backup is expected, and how much room its place had when somebody was there last.
 *
 * A repo is asked for its room by those who have just used it: the start, which looks it through,
 * and the worker after a success. So nobody who reads a file of the mount waits for a repo that
 * hangs, and a number is as old as it says.
 *
 *   figures_new -> figures_load for each configuration -> ... -> figures_free
 *
 * Locks: one mutex, not held during a call to another room. Threads: any.
 */
#ifndef KEEPFS_SERVICE_FIGURES_H
#define KEEPFS_SERVICE_FIGURES_H

#include "catalog/catalog.h"
#include "config.h"

struct figures;

struct figure {
    time_ms every;       /* 0: nothing is expected */
    time_ms since;       /* then a backup was first expected */
    time_ms measured_at; /* 0: its room was never asked for, or its place cannot say */
    uint64_t free_bytes; /* for whoever keepfs runs as */
    uint64_t total_bytes;
};

struct figures *figures_new(void);
void figures_free(struct figures *f);
/* The repos of `config`; what was measured of those that stay is kept. A repo that `config` has not
 * is not known any more. What the catalog fails to store is logged, and begins anew with each
 * start until it can. */
void figures_load(struct figures *f, struct catalog *c, const struct config *config, time_ms now);
/* False for a repo that is not known; *out is zeroes then. */
bool figures_get(struct figures *f, const char *store, const char *repo, struct figure *out);
/* Asks an open repo for its room, and keeps the answer. */
struct destination;
void figures_measure(struct figures *f, struct destination *d, const struct repo *repo,
                     time_ms now);

#endif
