/* SPDX-License-Identifier: MIT */
/*
 * destination.h - what a driver author owes to keep archives somewhere.
 *
 * A destination is a dumb object store: it holds groups of named objects and knows no backup. A
 * kind is one const struct destination_kind in a file of src/destination and one row in kinds.c;
 * tests/unit/destination runs its conformance cases over the whole table.
 *
 * Writing a group:
 *   1. put_begin(group): fails with ERR_DUPLICATE_ID if the group is there. From now until
 *      put_free no other process can begin or sweep here (ERR_DESTINATION_PATH_CONFLICT).
 *   2. put_object(name): a writer; its finish makes the object durable. One at a time; objects
 *      are written in the order in which a reader may trust them, the marker last.
 *      put_reopen(name) reads a finished one back, past the machine's caches where a driver can.
 *   3. put_commit: the group appears as a whole and durably, or not at all. A driver without
 *      rename relies on the marker's coming last.
 *   4. put_free: without a commit everything is removed.
 *   A failed fsync ends the attempt and is never retried.
 *
 * Reading: list names the groups; open_object gives random access.
 * Deleting: objects first, in the order the caller chooses, then the group. What is missing
 * already is fine. A deletion is durable when group_delete returns.
 *
 * Errors are classified with SIDE_DESTINATION and carry the errno. An object or group that is
 * definitely not there is ERR_DESTINATION_NOT_FOUND with errnum ENOENT; anything less certain
 * must not be reported that way, since callers delete on it.
 *
 * Group and object names are given by the caller, who has checked them: [A-Za-z0-9._-]{1,64}, no
 * leading dot. Threads: calls on one struct destination may come from several threads; one put is
 * used by one thread.
 */
#ifndef KEEPFS_DESTINATION_H
#define KEEPFS_DESTINATION_H

#include "keepfs/model.h"
#include "keepfs/stream.h"

struct destination {
    const struct destination_kind *kind;
};

struct put {
    struct destination *destination;
};

/* One stored object, open for reading. pread may be called from several threads at once. */
struct object {
    const struct destination_kind *kind;
    uint64_t size;
    time_ms mtime;
};

/* A group as list reports it: `partial` is one whose put never committed. */
typedef int (*destination_list_fn)(void *ctx, const char *group, bool partial, struct error *err);

enum destination_flag {
    DESTINATION_CREATE = 1, /* make the place if it is absent: the first backup of a repo */
};

struct destination_kind {
    const char *name; /* the word after `kind =` */
    const char *help;
    const struct setting *settings; /* its keys in [repo STORE/NAME] */

    /* The place in canonical words, symlinks resolved as far as it exists; heap allocated. Two
     * repos with equal places are one place. */
    char *(*place)(const struct settings *settings);
    /* True if the place is a path of this machine, so that overlaps can be seen. */
    bool is_path;
    /* Would a backup work? Without side effects. `warn` gets what is merely unwise, or "". */
    int (*check)(const struct settings *settings, char *warn, size_t warn_size, struct error *err);

    int (*open)(const struct settings *settings, unsigned flags, struct destination **out,
                struct error *err);
    void (*close)(struct destination *d); /* NULL is fine; all puts and objects are freed before */

    int (*put_begin)(struct destination *d, const char *group, struct put **out, struct error *err);
    int (*put_object)(struct put *p, const char *name, struct writer **out, struct error *err);
    int (*put_reopen)(struct put *p, const char *name, struct object **out, struct error *err);
    int (*put_commit)(struct put *p, struct error *err);
    void (*put_free)(struct put *p);

    /* Calls fn for every group until it returns non-zero, which is then returned. Any order. */
    int (*list)(struct destination *d, destination_list_fn fn, void *ctx, struct error *err);
    int (*open_object)(struct destination *d, const char *group, const char *name,
                       struct object **out, struct error *err);
    /* Up to len bytes at offset: how many, 0 past the end, -1 on failure. */
    ssize_t (*pread)(struct object *o, void *buf, size_t len, uint64_t offset, struct error *err);
    void (*close_object)(struct object *o); /* NULL is fine */

    int (*delete_object)(struct destination *d, const char *group, const char *name,
                         struct error *err);
    int (*delete_group)(struct destination *d, const char *group, struct error *err);
    /* Removes a partial group with all its objects. ERR_DESTINATION_PATH_CONFLICT while a put of
     * any process is under way here. */
    int (*discard)(struct destination *d, const char *group, struct error *err);

    /* Is this the very place that was written to before, and not, say, the empty mount point of a
     * disk that is not there? ERR_DESTINATION_NOT_FOUND with errnum 0 if it is not. What is absent
     * here then says nothing. */
    int (*recognise)(struct destination *d, struct error *err);

    /* How many bytes could still be written here, and how many the place has in all. NULL if the
     * kind cannot tell. */
    int (*room)(struct destination *d, uint64_t *free_bytes, uint64_t *total_bytes,
                struct error *err);
};

extern const struct destination_kind *const destination_kinds[];
const struct destination_kind *destination_kind_find(const char *name);

#endif
