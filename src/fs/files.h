/* SPDX-License-Identifier: MIT */
/*
 * files.h - every name in a directory of the mount that is not an id: one row each.
 *
 * To add a file: a row in files.c with its directory, mode and caching, and a function that
 * renders it. tree.c lists and stats from the rows, handle.c opens what they say. Rows may be put
 * anywhere; the numbers of files last as long as a mount.
 *
 * A render function appends exactly what a reader shall get, in one go. Text of a stranger goes
 * through text_escape, so that one value is one line.
 *
 * Threads: any.
 */
#ifndef KEEPFS_FS_FILES_H
#define KEEPFS_FS_FILES_H

#include "fs/tree.h"
#include "fs/waiters.h"

enum file_type {
    FILE_TEXT,    /* render */
    FILE_LINK,    /* render gives the target */
    FILE_DIR,     /* opens a directory of kind `opens` and of the same row */
    FILE_CTL,     /* commands in, job ids out; in a store's directory, of that store: run_file.h */
    FILE_SWITCH,  /* "1" in, and "0" if it can also be read: turn, render */
    FILE_LOG,     /* a job's log file */
    FILE_OBJECT,  /* an object of a record's archive, as it is stored: object, size */
    FILE_PAYLOAD, /* what the source gave: size */
    FILE_STREAM,  /* blocks: watch; once it is final it is a text: render */
};

enum file_caching {
    CACHE_NEVER,   /* may change at any time */
    CACHE_SUBJECT, /* final once the thing that it tells of is */
};

struct file {
    const char *name;
    enum node_kind dir;
    enum file_type type;
    mode_t mode; /* access.h has what becomes of it */
    enum file_caching caching;
    enum node_kind opens;
    /* NULL if the file is always there. Else 0, or ENOENT, or what failed; may load into the
     * subject what render and time then use. */
    int (*present)(struct subject *s);
    /* NULL for the subject's own time. */
    time_ms (*time)(const struct subject *s);
    /* 0 or an errno. */
    int (*render)(struct subject *s, struct buf *out);
    /* Writing 1 or 0. `id` is the job's or record's; as a function of service.h. */
    int (*turn)(struct service *s, const char *id, bool on, const char *by, struct error *err);
    const char *verbs[2]; /* of 0 and 1 in the audit; NULL: the file's name */
    const char *grammar;  /* what may be written, as a sentence */
    const char *object;
    uint64_t (*size)(const struct subject *s);
    /* Whom reads wait for; of a text whom poll waits for, until it is final. */
    enum watch_kind watch;
};

/* Rows are numbered from 1. NULL for a number that is none. */
const struct file *file_at(unsigned index);
unsigned file_index(const struct file *f);
/* NULL if the directory has no file of that name. */
const struct file *file_find(enum node_kind dir, const char *name);

/* 0 if the file is there. */
int file_present(const struct file *f, struct subject *s);
/* Will its bytes never change again? */
bool file_final(const struct file *f, const struct subject *s);

/* The text of /README. */
extern const char manual_text[];

#endif
