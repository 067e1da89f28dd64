/* SPDX-License-Identifier: MIT */
/*
 * fsutil.h - the system calls everybody needs, done completely: all bytes, EINTR retried.
 *
 * Functions return 0 or -1 with errno set, so that each room can classify on its own side.
 * Threads: any.
 */
#ifndef KEEPFS_UTIL_FSUTIL_H
#define KEEPFS_UTIL_FSUTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* All of it or -1. */
int fd_write_all(int fd, const void *data, size_t len);
/* Until len bytes or EOF: how many, or -1. */
ssize_t fd_pread_all(int fd, void *buf, size_t len, off_t offset);
/* Closes and sets to -1; a descriptor of -1 is fine. errno is kept. */
void fd_close(int *fd);

/* For scope cleanup: `__attribute__((cleanup(fd_close))) int fd = -1;`. */

/* Fsyncs the directory at `path`. */
int dir_fsync(const char *path);

/* Makes `path` and its missing parents with mode 0700 (exactly, whatever the umask), and fsyncs
 * the parent of each directory made. What exists is left as it is. */
int dir_create(const char *path);

/* The directory of every entry of `path` is emptied, recursively, without following symlinks or
 * leaving the file system; `path` itself stays. */
int dir_clear(const char *path);

/* Resolves symlinks of the longest existing part of an absolute path and appends the rest as it
 * is. Heap allocated; NULL with errno. */
char *path_resolve(const char *path);

/* True if `inner` is `outer` or lies below it. Both resolved. */
bool path_contains(const char *outer, const char *inner);

#endif
