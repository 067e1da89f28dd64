/* SPDX-License-Identifier: MIT */
/*
 * audit.h - who commanded what at the mount: a line of the daemon's log for each.
 *
 *   audit uid=1000 pid=4711 verb=run target=app/nas job=01J... accepted
 *   audit uid=1000 pid=4711 verb=run target="no such" refused ENOENT "there is no store no; ..."
 *   audit uid=0 pid=812 verb=delete record=01J... refused EPERM "record 01J... is pinned"
 *   audit uid=1000 37 more refused
 *
 * Verbs: run, cancel, pin, unpin, review, reload, delete, and the name of any other file that is
 * written. A line of ctl that starts several jobs has a line for each of them. uid and pid are of
 * whoever opened the file, or removed the directory; pid is the kernel's number of that thread, and
 * 0 for a process that the daemon's PID namespace does not have. Text of a stranger stands in
 * quotes, with quotes, control characters and backslashes as \xNN, and is cut at AUDIT_TEXT bytes.
 *
 * What was accepted always has its line. Refusals cost whoever makes them nothing, so of one uid no
 * more than LIMIT_AUDIT_REFUSED are written in AUDIT_WINDOW_MS; the rest are counted, and the
 * number is written with the first command of anybody after that time, or at the end. Above
 * LIMIT_AUDIT_UIDS uids at a time, the others share one count, as uid=others.
 *
 * There is no line for what the kernel refused by itself (access.h), nor for removing anything but
 * a record or its payload: that cannot be asked for.
 *
 * Threads: any function but audit_free from any thread.
 */
#ifndef KEEPFS_FS_AUDIT_H
#define KEEPFS_FS_AUDIT_H

#include "keepfs/model.h"

#include <sys/types.h>

enum {
    AUDIT_TEXT = 200,        /* bytes of a target or a sentence, before escaping */
    AUDIT_WINDOW_MS = 60000, /* from a uid's first refusal */
};

struct audit;

struct audit *audit_new(void);
/* Writes the counts that are left. NULL is fine. */
void audit_free(struct audit *a);

struct audit_entry {
    uid_t uid;
    pid_t pid;
    const char *verb;
    /* What it is about, each NULL or printed by its name. */
    const char *target; /* STORE or STORE/REPO; of a refused line all that was written */
    size_t target_len;
    const char *job, *record; /* ULIDs */
    time_ms now;
};

void audit_accepted(struct audit *a, const struct audit_entry *e);
void audit_refused(struct audit *a, const struct audit_entry *e, int errnum, const char *sentence);

#endif
