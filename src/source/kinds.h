/* SPDX-License-Identifier: MIT */
/*
 * kinds.h - the kinds of sources, each in a file of its own.
 */
#ifndef KEEPFS_SOURCE_KINDS_H
#define KEEPFS_SOURCE_KINDS_H

#include "keepfs/source.h"

extern const struct source_kind directory_source; /* directory.c */
extern const struct source_kind sqlite_source;    /* sqlite.c */

#endif
