/* SPDX-License-Identifier: MIT */
/*
 * test_directory_failures.c - a directory store whose calls on a name fail one by one: what is
 * tried again, what is left out with a word, and what no policy forgives.
 *
 * The calls are defined here: on the name "victim" (or the root) they do what a test says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tree.h"

#include <sys/syscall.h>
#include <sys/sysmacros.h>

static struct {
    const char *victim;
    int open_errno, look_errno, fstat_errno;
    int open_only_with; /* of the open flags, for open_errno; 0: with any */
    int opens;          /* of the victim */
    int open_flags;     /* of the last */
    int fd;             /* the victim's, -1 = none */
    int fstats;         /* of it */
    int fstat_from;     /* the one of them from which on fstat_errno counts, from 1 */
    bool other_device;  /* fstat says so of it */
    off_t shrunk;       /* the bytes it has lost by the second fstat */
    uid_t uid;          /* ours; 0 = the real one */
    int statx_errno;
    bool mounted; /* statx says that it is another file system */
} world;

static bool is_victim(const char *name)
{
    return world.victim && strcmp(name, world.victim) == 0;
}

static int open_one(int dir, const char *name, int flags)
{
    if (is_victim(name)) {
        world.opens++;
        world.open_flags = flags;
        if (world.open_errno && (flags & world.open_only_with) == world.open_only_with) {
            errno = world.open_errno;
            return -1;
        }
    }
    int fd = (int)syscall(SYS_openat, dir, name, flags, 0);
    if (is_victim(name))
        world.fd = fd;
    return fd;
}

int openat(int dir, const char *name, int flags, ...)
{
    return open_one(dir, name, flags);
}

/* What openat is called in code that checks its arguments. */
int __openat64_2(int dir, const char *name, int flags);
int __openat64_2(int dir, const char *name, int flags)
{
    return open_one(dir, name, flags);
}

int fstatat(int dir, const char *name, struct stat *st, int flags)
{
    if (is_victim(name) && world.look_errno) {
        errno = world.look_errno;
        return -1;
    }
    return (int)syscall(SYS_newfstatat, dir, name, st, flags);
}

int fstat(int fd, struct stat *st)
{
    bool victim = world.fd >= 0 && fd == world.fd;

    if (victim && ++world.fstats >= world.fstat_from && world.fstat_errno) {
        errno = world.fstat_errno;
        return -1;
    }
    int result = (int)syscall(SYS_fstat, fd, st);
    if (victim && world.other_device)
        st->st_dev++;
    if (victim && world.fstats == 2)
        st->st_size -= world.shrunk;
    return result;
}

int statx(int dir, const char *restrict name, int flags, unsigned mask, struct statx *restrict out)
{
    if (is_victim(name) && world.statx_errno) {
        errno = world.statx_errno;
        return -1;
    }
    int result = (int)syscall(SYS_statx, dir, name, flags, mask, out);
    if (is_victim(name) && world.mounted)
        out->stx_dev_minor++;
    return result;
}

uid_t geteuid(void)
{
    return world.uid ? world.uid : (uid_t)syscall(SYS_geteuid);
}

static void begin(void)
{
    memset(&world, 0, sizeof world);
    world.fd = -1;
    world.victim = "victim";
}

static int setup(void **state)
{
    begin();
    return tree_setup(state);
}

static int teardown(void **state)
{
    begin();
    return tree_teardown(state);
}

static void archive_has(struct tree *t, const char *names)
{
    tree_prints(t, "tar -tf stream.tar | xargs", names);
}

/* ---- opening ---- */

static void what_this_process_lacks_fails_the_backup_under_either_policy(void **state)
{
    static const int shortages[] = {EMFILE, ENFILE, ENOMEM};
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    tree_set(t, "unreadable", "warn");
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++) {
        world.open_errno = shortages[i];
        tree_fails(t, ERR_INTERNAL, "src/victim");
        assert_string_equal(buf_text(&t->log), "");
    }
    world.open_errno = EIO;
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "unreadable"), 1);
    archive_has(t, "./");
}

/* They may mean that the name is something else by now: it is looked at once more. */
static void an_open_that_finds_another_kind_of_file_is_tried_twice(void **state)
{
    static const int errnums[] = {ELOOP, ENOTDIR, ENXIO};
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    for (size_t i = 0; i < sizeof errnums / sizeof errnums[0]; i++) {
        world.opens = 0;
        world.open_errno = errnums[i];
        tree_fails(t, ERR_SOURCE_UNAVAILABLE, strerror(errnums[i]));
        assert_int_equal(world.opens, 2);
    }
}

static void a_file_of_ours_is_read_without_a_trace_where_we_may(void **state)
{
    struct tree *t = *state;

    if (getuid() != 0)
        skip();
    tree_file(t, "victim", 'v', 10);
    world.uid = 54321;
    tree_backup(t);
    assert_int_equal(world.open_flags & O_NOATIME, 0); /* a stranger's */
    free(tree_shell(t, "chown 54321 src/victim"));
    tree_backup(t);
    assert_int_equal(world.open_flags & O_NOATIME, O_NOATIME);
    archive_has(t, "./ victim");
}

static void where_we_may_not_the_file_is_read_all_the_same(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    world.open_errno = EPERM;
    world.open_only_with = O_NOATIME;
    tree_backup(t);
    assert_int_equal(world.opens, 2);
    archive_has(t, "./ victim");
    world.open_only_with = 0;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Operation not permitted");
}

static void a_link_or_pipe_that_cannot_be_opened_is_judged_by_the_policy(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "mkfifo src/victim"));
    world.open_errno = EACCES;
    world.open_only_with = O_PATH;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Permission denied");
    tree_set(t, "unreadable", "warn");
    tree_backup(t);
    assert_string_equal(buf_text(&t->log),
                        "victim: opening it failed: Permission denied; it is not stored\n");
    archive_has(t, "./");
}

static void control_bytes_of_a_name_do_not_reach_the_log(void **state)
{
    struct tree *t = *state;

    world.victim = "vic\177\1tim";
    free(tree_shell(t, "touch \"$(printf 'src/vic\\177\\001tim')\""));
    world.open_errno = EACCES;
    tree_set(t, "unreadable", "warn");
    tree_backup(t);
    assert_string_equal(buf_text(&t->log),
                        "vic\\x7f\\x01tim: opening it failed: Permission denied; "
                        "it is not stored\n");
}

/* ---- looking at what is open ---- */

static void what_is_open_must_be_on_the_device_where_it_was_seen(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    world.other_device = true;
    tree_backup(t);
    assert_int_equal(world.opens, 2);
    assert_string_equal(buf_text(&t->log),
                        "victim: was replaced while it was read; it is not stored\n");
    archive_has(t, "./");
}

static void what_is_open_and_cannot_be_looked_at_is_unreadable(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    world.fstat_errno = EIO;
    world.fstat_from = 1;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Input/output error");
    world.fstats = 0;
    world.fstat_from = 2; /* when it was read */
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Input/output error");
    world.fstats = 0;
    tree_set(t, "unreadable", "warn");
    tree_backup(t);
    assert_true(tree_logged(t, "looking at it failed"));
    tree_prints(t, TREE_UNPACK "; cat out/victim", "vvvvvvvvvv");
}

static void a_file_that_shrinks_when_it_was_read_is_reported(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    world.shrunk = 1;
    tree_backup(t);
    assert_true(tree_logged(t, "victim: became shorter while it was read"));
    tree_prints(t, TREE_UNPACK "; cat out/victim", "vvvvvvvvvv");
}

/* ---- mounts that are closed to everybody else ---- */

static void a_name_that_may_not_be_looked_at_is_a_closed_mount_only_elsewhere(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    world.look_errno = EACCES;
    world.mounted = true;
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "excluded"), 1);
    assert_string_equal(buf_text(&t->log),
                        "victim: is another user's file system; it is not stored\n");
    archive_has(t, "./");
    world.mounted = false;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Permission denied");
    world.mounted = true;
    world.statx_errno = EACCES;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Permission denied");
    world.statx_errno = 0;
    world.look_errno = EIO;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Input/output error");
    world.look_errno = EACCES;
    tree_set(t, "one_file_system", "no");
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/victim: Permission denied");
}

/* ---- the root ---- */

static void a_root_that_goes_while_it_is_opened_was_removed(void **state)
{
    struct tree *t = *state;

    world.victim = ".";
    world.open_errno = ENOENT;
    tree_set(t, "unreadable", "warn");
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src was removed during the backup");
    world.open_errno = 0;
    world.look_errno = EIO;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src: Input/output error");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_this_process_lacks_fails_the_backup_under_either_policy),
        CASE(an_open_that_finds_another_kind_of_file_is_tried_twice),
        CASE(a_file_of_ours_is_read_without_a_trace_where_we_may),
        CASE(where_we_may_not_the_file_is_read_all_the_same),
        CASE(a_link_or_pipe_that_cannot_be_opened_is_judged_by_the_policy),
        CASE(control_bytes_of_a_name_do_not_reach_the_log),
        CASE(what_is_open_must_be_on_the_device_where_it_was_seen),
        CASE(what_is_open_and_cannot_be_looked_at_is_unreadable),
        CASE(a_file_that_shrinks_when_it_was_read_is_reported),
        CASE(a_name_that_may_not_be_looked_at_is_a_closed_mount_only_elsewhere),
        CASE(a_root_that_goes_while_it_is_opened_was_removed),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
