/* SPDX-License-Identifier: MIT */
/*
 * last_error.h - why the last command of a user was refused, as /last_error shows it.
 *
 * write(2) can answer no more than an errno; the sentence behind it is kept here, one per uid. A
 * user whose last command was accepted has none and reads "ok". At most LIMIT_LAST_ERROR_UIDS are
 * kept; then the one that is oldest goes.
 *
 * Threads: any function but last_errors_free from any thread.
 */
#ifndef KEEPFS_FS_LAST_ERROR_H
#define KEEPFS_FS_LAST_ERROR_H

#include "keepfs/model.h"
#include "util/buf.h"

#include <sys/types.h>

/* Of the input that is kept. */
#define LAST_ERROR_INPUT 200

struct last_errors;

struct last_errors *last_errors_new(void);
void last_errors_free(struct last_errors *l); /* NULL is fine */

struct last_error {
    time_ms time;
    int errnum;
    const char *path;  /* relative to the mount */
    const char *input; /* what was written, as it was; not terminated */
    size_t input_len;
    const char *message;
};

/* Replaces what `uid` had. Copies. */
void last_errors_set(struct last_errors *l, uid_t uid, const struct last_error *e);
/* The last command of `uid` was accepted. */
void last_errors_clear(struct last_errors *l, uid_t uid);
/* Appends "ok\n", or the lines time, errno, path, input, message. */
void last_errors_render(struct last_errors *l, uid_t uid, struct buf *out);

#endif
