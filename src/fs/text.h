/* SPDX-License-Identifier: MIT */
/*
 * text.h - strings from elsewhere as one line of a file of the mount.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_FS_TEXT_H
#define KEEPFS_FS_TEXT_H

#include "util/buf.h"

/* Appends `len` bytes with control characters and backslashes as \xNN, so that a value never
 * spans lines and can be read back. */
void text_escape(struct buf *out, const char *data, size_t len);

#endif
