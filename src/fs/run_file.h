/* SPDX-License-Identifier: MIT */
/*
 * run_file.h - stores/ID/run: ctl for one store.
 *
 *   1                       back up to each repo of the store
 *   STORE, STORE/REPO       as in ctl, of this very store
 *
 * with key= and label= as in ctl, and the same answer on the same open. Whoever may write here may
 * start that store's backups and nothing else.
 *
 * Threads: no state.
 */
#ifndef KEEPFS_FS_RUN_FILE_H
#define KEEPFS_FS_RUN_FILE_H

#include "service/service.h"

/* What a fresh open reads: the grammar, and what can be written. */
void run_file_render(const struct store *store, struct buf *out);
/* Makes `1` the store itself. ERR_INVALID with errnum EPERM for another store's name: it is not
 * that it would not be there. */
int run_file_aim(const char *store, struct run_request *request, struct error *err);

#endif
