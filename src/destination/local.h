/* SPDX-License-Identifier: MIT */
/*
 * local.h - what local.c and local_put.c share; private to the kind `local`.
 *
 *   <path>/.keepfs        the mark: this place is ours; locked by whoever puts or discards
 *   <path>/<group>/       a group, with its objects as files: 0700 and 0600 whatever the umask
 *   <path>/<group>.tmp/   a group whose put has not committed
 *
 * The lock is a flock() on the mark: it dies with its process, so whatever <group>.tmp somebody
 * finds while holding it was left by a dead one. Reading takes no lock and needs no mark, so that
 * a copy of a repo, or one mounted read-only, can be read.
 *
 * A place that was written to before (no DESTINATION_CREATE) must have the mark before anything is
 * written or deleted: if a disk is not mounted there is an empty directory in its place, which
 * would be filled, or in which deleting "succeeds".
 */
#ifndef KEEPFS_DESTINATION_LOCAL_H
#define KEEPFS_DESTINATION_LOCAL_H

#include "keepfs/destination.h"
#include "util/fsutil.h"

#define LOCAL_PARTIAL  ".tmp"
#define LOCAL_NAME     64 /* longest name of a group or object */
#define LOCAL_OPEN_DIR (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define AUTO_FD        __attribute__((cleanup(fd_close))) int

struct local {
    struct destination destination;
    char *root;
    int root_fd;
    bool create;
};

static inline struct local *local_of(struct destination *d)
{
    return (struct local *)d;
}

/* What the callers owe: see keepfs/destination.h. */
bool local_name_valid(const char *name);

/* Is `name` that of a group's put under way, or of what is left of one? `group` (of LOCAL_NAME + 1
 * bytes) gets the group's name. So no group's own name may end like that. */
bool local_is_partial(const char *name, char *group);

/* Takes the lock of the place: *out is the descriptor that holds it. ERR_DESTINATION_PATH_CONFLICT
 * if somebody else has it. */
int local_lock(const struct local *l, int *out, struct error *err);

/* Opens a directory right below the root, no symlink. -1 with errno. */
int local_open_below(const struct local *l, const char *name);

/* Removes the directory `name` with the regular files in it; anything else in it makes that fail
 * with ENOTEMPTY. What is not there is fine. -1 with errno. */
int local_remove(const struct local *l, const char *name);

/* The regular file `name` in the directory `dir_fd` (`place` in messages), open for reading. */
int local_object_new(int dir_fd, const char *place, const char *name, struct object **out,
                     struct error *err);

/* local_put.c */
int local_put_begin(struct destination *d, const char *group, struct put **out, struct error *err);
int local_put_object(struct put *put, const char *name, struct writer **out, struct error *err);
int local_put_reopen(struct put *put, const char *name, struct object **out, struct error *err);
int local_put_commit(struct put *put, struct error *err);
void local_put_free(struct put *put);

#endif
