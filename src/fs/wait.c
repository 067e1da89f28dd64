/* SPDX-License-Identifier: MIT */
/*
 * wait.c - see wait.h.
 *
 * Interrupts: libfuse calls on_interrupt with the request's own mutex held, from the worker that
 * read the INTERRUPT, or from within fuse_req_interrupt_func if it came earlier. So that is called
 * between waiters_begin and waiters_commit, without a lock, and what it is given is all the waiters
 * and not the one read, which may be answered and gone by then.
 *
 * Before any other answer the function is taken off the request: that waits until a call of it has
 * ended, since libfuse itself would read the pointer and its data one after the other while they
 * are being cleared. From within on_interrupt that would wait for itself, and is not needed.
 *
 * What an answer returns is of no use: ENOENT if the reader was interrupted at the same moment,
 * ENODEV if the mount is gone. The request is freed in any case.
 */
#include "fs/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

/* ---- answers ---- */

static void answer_data(void *request, const char *data, size_t len)
{
    fuse_req_interrupt_func(request, NULL, NULL);
    fuse_reply_buf(request, data, len);
}

static void answer_error(void *request, int errnum)
{
    fuse_req_interrupt_func(request, NULL, NULL);
    fuse_reply_err(request, errnum);
}

/* Wakes who sleeps in poll; the kernel then asks again. It waits for nothing. */
static void wake_poll(void *poll)
{
    fuse_lowlevel_notify_poll(poll);
}

static void drop_poll(void *poll)
{
    fuse_pollhandle_destroy(poll);
}

const struct waiters_calls wait_calls = {
    .data = answer_data,
    .error = answer_error,
    .wake = wake_poll,
    .drop = drop_poll,
};

/* ---- the kernel's patience ---- */

/* Seconds; 0 if there is no limit, or no such setting. */
static int request_timeout(const char *name)
{
    char path[64];
    int seconds = 0;

    snprintf(path, sizeof path, "/proc/sys/fs/fuse/%s_request_timeout", name);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%d", &seconds) != 1 || seconds < 0)
        seconds = 0;
    fclose(file);
    return seconds;
}

void wait_init(struct waiters *w)
{
    int seconds = request_timeout("default"), max = request_timeout("max");

    if (seconds == 0 || (max > 0 && max < seconds))
        seconds = max;
    waiters_hold(w, seconds * 500);
}

/* ---- requests ---- */

static void on_interrupt(fuse_req_t req, void *waiters)
{
    if (waiters && waiters_interrupt(waiters, req))
        fuse_reply_err(req, EINTR);
}

void wait_read(fuse_req_t req, struct handle *h, size_t size, int flags)
{
    struct waiters *w = handle_tree(h)->waiters;
    struct parked *parked = waiters_begin(handle_watch(h), req, size);

    if (!parked) {
        fuse_reply_err(req, handle_refuse_wait(h));
        return;
    }
    fuse_req_interrupt_func(req, on_interrupt, w);
    waiters_commit(w, parked, !(flags & O_NONBLOCK));
}

void wait_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *ph)
{
    struct watch *watch = handle_watch(h);

    /* First this: what changes behind the look at it shall wake. */
    if (ph && watch)
        watch_poll(watch, ph);
    else if (ph)
        fuse_pollhandle_destroy(ph);
    fuse_reply_poll(req, handle_poll(h));
}
