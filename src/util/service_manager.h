/* SPDX-License-Identifier: MIT */
/*
 * service_manager.h - tells whoever started this process, systemd for one, how it is doing: the
 * datagrams of sd_notify(3), without its library.
 *
 * Life: service_manager_open, once, before there are threads -> ready -> (reloading -> ready)... ->
 * stopping -> service_manager_close.
 *
 * No watchdog is fed. A ping that a timer sends proves that the timer runs; whether the mount
 * answers can be said by reading a file of it, from outside, and only that should restart a daemon.
 *
 * A manager that does not take a message is a warning in the log and nothing else: it is told how
 * we are, it is not needed for it. Threads: any, but for open and close.
 */
#ifndef KEEPFS_UTIL_SERVICE_MANAGER_H
#define KEEPFS_UTIL_SERVICE_MANAGER_H

struct service_manager;

/* The manager that $NOTIFY_SOCKET names: a path, or '@' and an abstract name. NULL if there is
 * none, or none that can be told (which is logged); all functions take that. The variable is gone
 * afterwards, so that no program that we start speaks for us. */
struct service_manager *service_manager_open(void);
/* Takes the variable away without using it: for a process that tells by exiting. */
void service_manager_forget(void);
void service_manager_close(struct service_manager *m);

/* READY=1, after the start and after a reload, with a status for a person: one line; control
 * characters in it become '?', so that no path forges a message. May wait for some seconds, if the
 * manager's queue is full. */
void service_manager_ready(struct service_manager *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* RELOADING=1 and since when; a ready has to follow, whatever came of the reload. May wait. */
void service_manager_reloading(struct service_manager *m);
/* STOPPING=1. Never waits: stopping is not to be held up. */
void service_manager_stopping(struct service_manager *m);

#endif
