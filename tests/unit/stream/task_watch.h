/* SPDX-License-Identifier: MIT */
/*
 * task_watch.h - the threads of the test's own process as /proc/self/task shows them, to wait for
 * what they do where nothing else tells. A thread that has not yet named itself is not counted.
 */
#ifndef KEEPFS_TESTS_TASK_WATCH_H
#define KEEPFS_TESTS_TASK_WATCH_H

#include "util/buf.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline char *read_task_file(const char *task, const char *name)
{
    char *path = xasprintf("/proc/self/task/%s/%s", task, name);
    char line[512] = "";
    FILE *f = fopen(path, "re");

    /* A thread may end between readdir and here. */
    if (f && !fgets(line, sizeof line, f))
        line[0] = '\0';
    if (f)
        fclose(f);
    free(path);
    return xstrdup(line);
}

/* How many threads of this process are called `name`. */
static inline int threads_named(const char *name)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    assert_non_null(tasks);
    for (struct dirent *d; (d = readdir(tasks));) {
        char *comm = read_task_file(d->d_name, "comm");
        comm[strcspn(comm, "\n")] = '\0';
        count += strcmp(comm, name) == 0;
        free(comm);
    }
    closedir(tasks);
    return count;
}

/* The kernel tells nobody when a thread's name or state in /proc changes: so these two look, with a
 * breath in between. To be used for 0 too: a thread that was joined is in /proc for a moment more.
 */
static inline void await_threads(const char *name, int count)
{
    while (threads_named(name) != count)
        usleep(1000);
}

/* Until no other thread of this process runs. */
static inline void await_standstill(void)
{
    for (bool running = true; running;) {
        DIR *tasks = opendir("/proc/self/task");
        assert_non_null(tasks);
        running = false;
        for (struct dirent *d; (d = readdir(tasks));) {
            if (!isdigit((unsigned char)d->d_name[0]) || atoi(d->d_name) == gettid())
                continue;
            char *stat = read_task_file(d->d_name, "stat"), *end = strrchr(stat, ')');
            running |= end && end[2] != 'S';
            free(stat);
        }
        closedir(tasks);
        usleep(1000);
    }
}

#endif
