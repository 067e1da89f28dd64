/* SPDX-License-Identifier: MIT */
/*
 * kinds.h - the kinds of destination, each in its own file; private to src/destination.
 */
#ifndef KEEPFS_DESTINATION_KINDS_H
#define KEEPFS_DESTINATION_KINDS_H

#include "keepfs/destination.h"

extern const struct destination_kind destination_local;

#endif
