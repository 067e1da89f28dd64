/* SPDX-License-Identifier: MIT */
/*
 * process.c - limits and flags of the process as a whole.
 */
#include "util/process.h"

#include "util/log.h"

#include <sys/prctl.h>
#include <sys/resource.h>

/* The limit alone does not keep a core from a program that the kernel pipes cores to; not being
 * dumpable does. */
void process_forbid_dumps(void)
{
    const struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
        log_warn("core dumps cannot be forbidden: %m");
}
