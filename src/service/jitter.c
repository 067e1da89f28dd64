/* SPDX-License-Identifier: MIT */
/*
 * jitter.c - a hash instead of a random number, so that nothing has to be kept.
 */
#include "service/jitter.h"

#include <stdint.h>

unsigned schedule_jitter(const char *id, unsigned max_seconds)
{
    uint64_t hash = 0xcbf29ce484222325;

    if (max_seconds == 0)
        return 0;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 0x100000001b3;
    return (unsigned)(hash % max_seconds);
}
