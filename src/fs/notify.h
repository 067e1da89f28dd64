/* SPDX-License-Identifier: MIT */
/*
 * notify.h - tells the kernel which names are gone, so that it forgets what it keeps of them.
 *
 * The kernel keeps finished jobs and records for an hour (tree.h). One that is removed through the
 * mount it forgets by itself; for one that keepfs removed it has to be told, by one thread that
 * does nothing else: notifier_start -> notifier_gone, notifier_cancel -> notifier_stop ->
 * notifier_free.
 *
 * To tell the kernel means to wait for a lock of the directory that somebody may hold who waits for
 * an answer of ours. So it is never done within a request or by a thread that holds a lock, and to
 * queue a name never waits. The queue is bounded: of names that find it full, which then takes a
 * kernel that has stopped taking any, the number is logged; they are seen to be gone when the
 * kernel asks again, within the hour.
 *
 * Threads: notifier_gone and notifier_cancel from any thread, until notifier_free.
 */
#ifndef KEEPFS_FS_NOTIFY_H
#define KEEPFS_FS_NOTIFY_H

#include "fs/tree.h"

/* Names that wait to be told; those that wait for their time get half of it. */
enum { NOTIFY_QUEUE = 1024 };

struct notifier;

/* Tells the kernel. What it answers is of no use: mostly that it did not know the name. */
typedef void (*notify_fn)(void *ctx, node_id dir, const char *name);

struct notifier *notifier_start(notify_fn send, void *ctx, struct error *err);
/* The entry `name` of a directory without a row is to be forgotten, after `delay_ms`. */
void notifier_gone(struct notifier *n, enum node_kind dir, const char *name, int delay_ms);
/* It need not be any more. */
void notifier_cancel(struct notifier *n, enum node_kind dir, const char *name);
/* Ends the thread; what still waits, and what comes later, is dropped. False if it hangs in the
 * kernel after `deadline_ms`: then it may be called again. */
bool notifier_stop(struct notifier *n, int deadline_ms);
/* After notifier_stop has returned true. NULL is fine. */
void notifier_free(struct notifier *n);

#endif
