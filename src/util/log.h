/* SPDX-License-Identifier: MIT */
/*
 * log.h - lines for the operator: to stderr with -f and until the mount answers, else to syslog.
 *
 * On stderr each line is "<level>: text", which systemd's journal and a person both read. Control
 * characters in the text are written as \xNN, so that a file name cannot forge a line.
 * Threads: any.
 */
#ifndef KEEPFS_UTIL_LOG_H
#define KEEPFS_UTIL_LOG_H

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Before the first call lines go to stderr. May be called again to change the target. */
void log_open(enum log_target target);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
