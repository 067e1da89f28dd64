/* SPDX-License-Identifier: MIT */
/*
 * process.h - what this process lets others see of itself.
 */
#ifndef KEEPFS_UTIL_PROCESS_H
#define KEEPFS_UTIL_PROCESS_H

/* From now on the memory of this process gets into no core dump, and only root may trace it or read
 * it. For a process that is about to hold keys. */
void process_forbid_dumps(void);

#endif
