/* SPDX-License-Identifier: MIT */
/*
 * screen.h - /status: an overview as a screen for a person, `watch cat status`.
 *
 * What needs attention comes first: what is overdue, in words; then what runs; then a line for each
 * repo, those that are overdue, suspect or failed last before the others. No line is wider than
 * SCREEN_WIDTH; what does not fit is cut and ends with "~". There are at most SCREEN_LINES repos in
 * a part, then a line says how many more there are.
 *
 * The screen is for eyes: its words may change. Programs read the other files.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_FS_SCREEN_H
#define KEEPFS_FS_SCREEN_H

#include "fs/overview.h"

enum { SCREEN_WIDTH = 80, SCREEN_OVERDUE = 20, SCREEN_LINES = 300 };

/* `version` is keepfs's. */
void screen_render(const struct overview *o, const char *version, struct buf *out);

#endif
