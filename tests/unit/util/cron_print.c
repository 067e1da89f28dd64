/* SPDX-License-Identifier: MIT */
/*
 * cron_print.c - for tests/oracle/cron.py: reads lines "SCHEDULE<tab>AFTER_MS", at the last tab,
 * and answers each with its next tick in ms, "never", or "refused: " and why.
 */
#include "util/cron.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer(const char *schedule, time_ms after)
{
    struct cron *c;
    char why[512];
    time_ms next;

    if (cron_parse(schedule, &c, why, sizeof why) != 0) {
        printf("refused: %s\n", why);
        return;
    }
    if (cron_next(c, after, &next))
        printf("%" PRId64 "\n", next);
    else
        puts("never");
    cron_free(c);
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;

    while (getline(&line, &cap, stdin) > 0) {
        char *tab = strrchr(line, '\t');
        if (!tab) {
            fputs("a line is SCHEDULE<tab>AFTER_MS\n", stderr);
            return 2;
        }
        *tab = '\0';
        answer(line, strtoll(tab + 1, NULL, 10));
    }
    free(line);
    return 0;
}
