/* SPDX-License-Identifier: MIT */
/*
 * handle_internal.h - an open file; private to handle.c and handle_write.c.
 *
 * `lock` guards text, place, written, refused, rest and fresh; it is not held while the service
 * works.
 */
#ifndef KEEPFS_FS_HANDLE_INTERNAL_H
#define KEEPFS_FS_HANDLE_INTERNAL_H

#include "fs/files.h"
#include "fs/handle.h"

#include <pthread.h>

struct handle {
    struct tree *tree;
    struct handle *prev, *next; /* in tree->handles, under tree->lock */
    const struct file *file;
    uid_t uid;
    pid_t pid;
    enum handle_mode mode;
    bool readable; /* the opener will see what ctl answers */
    pthread_mutex_t lock;
    struct buf text; /* what is read */
    size_t place;    /* ctl: up to where it was read */
    bool written;    /* ctl: text is the reply, not the grammar */
    bool refused;    /* ctl: a line was */
    struct buf rest; /* ctl: the beginning of a line */
    size_t owed;     /* ctl: what a short write left of one that was cut; it comes again */
    char job[ULID_LEN + 1];
    char store[LIMIT_ID + 1]; /* of a file in a store's directory, else "" */
    int fd;                   /* log; -1 before its first line */
    struct record record;
    struct node_attr attr; /* objects; node 0 for other files. Under tree->lock */
    struct service_object object;
    node_id node;
    struct watch *watch; /* streams and watched texts */
    bool fresh;          /* a watched text, as it was rendered by open; nobody has looked */
};

bool handle_is_written(const struct file *f);
/* Keeps the sentence for the opener, tells of a command in the log, and gives the errno. */
int handle_refuse(const struct handle *h, const struct error *err, const char *input, size_t len);
/* At its close: the beginning of a line that nothing came after. */
void handle_drop_rest(struct handle *h);

#endif
