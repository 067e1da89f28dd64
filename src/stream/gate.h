/* SPDX-License-Identifier: MIT */
/*
 * gate.h - the first link of every chain: counts the stream, reports progress, honours cancel.
 */
#ifndef KEEPFS_STREAM_GATE_H
#define KEEPFS_STREAM_GATE_H

#include "keepfs/cancel.h"
#include "keepfs/stream.h"

#include <stdint.h>

/* Called on the stream's thread after each write with the bytes that passed since the last call. */
typedef void (*gate_passed_fn)(void *ctx, uint64_t bytes);

/* A writer that checks `cancel` before each write and before finish, then hands the bytes to
 * `next`, which it owns from here on. It never fails. */
struct writer *gate_new(struct writer *next, struct cancel *cancel, gate_passed_fn passed,
                        void *ctx);

/* The first failure that a write through the gate ended with: of what is behind it, or the cancel.
 * NULL if there was none. It decides, whatever a source has made of it. */
const struct error *gate_failure(const struct writer *gate);

#endif
