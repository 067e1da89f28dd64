/* SPDX-License-Identifier: MIT */
/*
 * handle.h - what is behind an open file.
 *
 *   text     rendered at open: a reader sees one moment, in slices, whatever happens meanwhile
 *   log      the job's log file itself: while the job runs it grows under the reader
 *   object   an object of a record's archive, open in its repo
 *   payload  what the source gave, decoded from it
 *   ctl      commands in, one line each; the ids of the jobs they started out; so is a store's run
 *   switch   "1" in, of some also "0"; these can be read, too
 *   stream   blocks until there is something: not read here but through waiters.h. Once what it
 *            waits for is final it is a text
 *
 * A text that can be polled for changes is rendered anew by a read at offset 0, but for the first
 * one after the open: so poll, then pread(0), again and again, works with one open file.
 *
 * Commands act in handle_write and nowhere else: a shell flushes before it writes and looks at no
 * answer but write's. Whoever opened the file is who asks, whichever process writes.
 *
 * Functions return 0 or an errno. Threads: calls on one handle may come from several threads at
 * once, but for handle_close.
 */
#ifndef KEEPFS_FS_HANDLE_H
#define KEEPFS_FS_HANDLE_H

#include "fs/tree.h"

struct handle;
struct watch;

/* How the kernel shall treat the file. */
enum handle_mode {
    HANDLE_CACHED, /* final bytes: keep them in the page cache */
    HANDLE_FRESH,  /* bytes that nothing vouches for: cached while open, read anew by the next open
                    */
    HANDLE_DIRECT, /* exact size, but every read comes here */
    HANDLE_STREAM, /* direct, and offsets mean nothing */
};

/* `flags` are open(2)'s. EACCES for writing to what is only read. */
int handle_open(struct tree *t, node_id node, int flags, uid_t uid, struct handle **out);
/* The process that opened it, for the audit; 0 until it is told. */
void handle_opened_by(struct handle *h, pid_t pid);
enum handle_mode handle_mode(const struct handle *h);
/* Up to `size` bytes at `offset` (which a stream ignores); *got is 0 at the end. */
int handle_read(struct handle *h, char *out, size_t size, uint64_t offset, size_t *got);
/*
 * Commands. Each line of `data` is one; the end of a write ends a line. *taken is less than `len`
 * if a later line failed: the caller writes the rest again and gets the errno then. A write longer
 * than a line may be is taken up to its last newline, since the kernel cuts long writes anywhere;
 * one as long as a program's buffer, whose last line of several has no newline, is taken whole, and
 * that line is run when the next write has completed it.
 */
int handle_write(struct handle *h, const char *data, size_t len, size_t *taken);
void handle_close(struct handle *h);
/* Closes every handle of the tree, when no other thread uses it any more. */
void handle_close_all(struct tree *t);

/* Is it a stream? Then its reads are those of its watch, and handle_read says EAGAIN. */
bool handle_blocks(const struct handle *h);
/* What of it can be waited for; NULL if nothing. It is closed with the handle. */
struct watch *handle_watch(struct handle *h);
/* The events of poll(2) at this moment. Of a text: POLLPRI and POLLERR, as in sysfs, if it differs
 * from what was last read. */
unsigned handle_poll(struct handle *h);
/* A read that cannot be parked since too many are: keeps the sentence, gives the errno. */
int handle_refuse_wait(struct handle *h);
struct tree *handle_tree(const struct handle *h);

/* What an object of an archive is that is open, also when its record is gone; else ENOENT. */
int handle_attr(struct tree *t, node_id node, struct node_attr *out);

/* May open files of this node be truncated and touched (to no effect)? */
bool handle_accepts_truncate(node_id node);

#endif
