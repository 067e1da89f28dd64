/* SPDX-License-Identifier: MIT */
/*
 * parked.c COUNT FILE... - COUNT threads that read one of the files each, once.
 *
 * When all have ended it prints "last MS", when the last one did, in ms since the epoch, and for
 * each different thing that they got, "N WHAT": the text of a wait, "line" for events, "end" for
 * the end of the file, or an errno's name. In C, since thousands of threads of Python hold up each
 * other.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 16 };

struct reader {
    pthread_t thread;
    const char *path;
    char what[32];
    long long ended; /* ms */
};

static void *read_once(void *arg)
{
    struct reader *r = arg;
    char data[4096];
    struct timespec now;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, data, sizeof data - 1);

    clock_gettime(CLOCK_REALTIME, &now);
    r->ended = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
    data[got > 0 ? got : 0] = '\0';
    data[strcspn(data, "\n")] = '\0';
    snprintf(r->what, sizeof r->what, "%.31s",
             got < 0             ? strerrorname_np(errno)
             : got == 0          ? "end"
             : strchr(data, ' ') ? "line"
                                 : data);
    return NULL;
}

/* Ends the program if a thread cannot be had. */
static struct reader *start(int count, char **files, int file_count)
{
    struct reader *readers = calloc((size_t)count, sizeof *readers);
    pthread_attr_t small;

    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, (size_t)64 * 1024);
    for (int i = 0; readers && i < count; i++) {
        readers[i].path = files[i % file_count];
        if (pthread_create(&readers[i].thread, &small, read_once, &readers[i]) != 0) {
            perror("pthread_create");
            exit(1);
        }
    }
    return readers;
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[1]) : 0, numbers[KINDS] = {0};
    const char *kinds[KINDS] = {0};
    long long last = 0;

    struct reader *readers = count > 0 ? start(count, argv + 2, argc - 2) : NULL;
    if (!readers) {
        fprintf(stderr, "usage: parked COUNT FILE...\n");
        return 2;
    }
    for (int i = 0; i < count; i++) {
        int k = 0;
        pthread_join(readers[i].thread, NULL);
        while (k < KINDS - 1 && kinds[k] && strcmp(kinds[k], readers[i].what) != 0)
            k++;
        kinds[k] = readers[i].what;
        numbers[k]++;
        last = readers[i].ended > last ? readers[i].ended : last;
    }
    printf("last %lld\n", last);
    for (int k = 0; k < KINDS && kinds[k]; k++)
        printf("%d %s\n", numbers[k], kinds[k]);
    free(readers);
    return 0;
}
