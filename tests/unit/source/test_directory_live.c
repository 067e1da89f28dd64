/* SPDX-License-Identifier: MIT */
/*
 * What a directory store does while the tree changes under it, cannot be read, or its output fails.
 *
 * A race is made certain instead of likely: either the fake output acts when the first bytes
 * arrive, while the first big file is being read, or this file's own fstatat, pread and lseek act
 * between two steps of the source.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tree.h"

#include <grp.h>
#include <pwd.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { BIG = 2 << 20 };

static struct {
    const char *name; /* act when this name is looked at, after the answer */
    void (*act)(struct tree *t);
    int times; /* that often */
    struct tree *tree;
    const char *closed;     /* nobody may look at this name */
    off_t bad_from, bad_to; /* reads in here fail */
    off_t end;              /* if not 0, reads from here on find the end of the file */
    bool huge;              /* its file's holes are told by nobody */
    int no_names;           /* users and groups cannot be looked up, for this reason */
    int asked;              /* how often that was tried */
} world;

/* Everybody is called "who". */
int getpwuid_r(uid_t uid, struct passwd *user, char *buf, size_t size, struct passwd **out)
{
    (void)uid;
    world.asked++;
    *out = NULL;
    if (world.no_names)
        return world.no_names;
    if (size < 5000) /* a long entry */
        return ERANGE;
    strcpy(buf, "who");
    *user = (struct passwd){.pw_name = buf};
    *out = user;
    return 0;
}

int getgrgid_r(gid_t gid, struct group *group, char *buf, size_t size, struct group **out)
{
    (void)gid;
    world.asked++;
    *out = NULL;
    if (world.no_names)
        return world.no_names;
    snprintf(buf, size, "whose");
    *group = (struct group){.gr_name = buf};
    *out = group;
    return 0;
}

int fstatat(int dirfd, const char *name, struct stat *st, int flags)
{
    long result = syscall(SYS_newfstatat, dirfd, name, st, flags);

    if (world.closed && strcmp(name, world.closed) == 0) {
        errno = EACCES;
        return -1;
    }
    if (world.times > 0 && strcmp(name, world.name) == 0) {
        world.times--;
        world.act(world.tree);
    }
    return (int)result;
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    if (offset < world.bad_to && offset + (off_t)len > world.bad_from) {
        if (offset >= world.bad_from) {
            errno = EIO;
            return -1;
        }
        len = (size_t)(world.bad_from - offset);
    }
    if (world.end > 0 && offset >= world.end)
        return 0;
    if (world.huge && offset > BIG) { /* the kernel takes its time to make gigabytes of zeros */
        memset(buf, 0, len);
        return (ssize_t)len;
    }
    return syscall(SYS_pread64, fd, buf, len, offset);
}

off_t lseek(int fd, off_t offset, int whence)
{
    if (world.huge && (whence == SEEK_DATA || whence == SEEK_HOLE)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_lseek, fd, offset, whence);
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    return tree_setup(state);
}

static void on_look(struct tree *t, const char *name, int times, void (*act)(struct tree *))
{
    world.tree = t;
    world.name = name;
    world.act = act;
    world.times = times;
}

static void remove_victim(struct tree *t)
{
    free(tree_shell(t, "rm -rf src/victim"));
}

static void shrink_big(struct tree *t)
{
    char *path = tree_path(t, "big");

    assert_int_equal(truncate(path, 300000), 0);
    free(path);
}

static void append_to_big(struct tree *t)
{
    free(tree_shell(t, "printf more >>src/big"));
}

static void rewrite_big(struct tree *t)
{
    free(tree_shell(
        t, "printf other | dd of=src/big conv=notrunc status=none; touch -d 2001-01-01 src/big"));
}

static void swap_for_symlink(struct tree *t)
{
    free(tree_shell(t, "rm -rf src/victim; ln -s ../secret src/victim"));
}

static void swap_for_directory(struct tree *t)
{
    free(tree_shell(t, "rm -rf src/victim; mkdir src/victim; touch src/victim/new"));
}

static void swap_for_another_file(struct tree *t)
{
    free(tree_shell(t, "echo other >src/tmp; mv src/tmp src/victim"));
}

static void swap_for_pipe(struct tree *t)
{
    free(tree_shell(t, "rm -rf src/victim; mkfifo src/victim"));
}

static void remove_root(struct tree *t)
{
    free(tree_shell(t, "rm -rf src"));
}

static void close_root(struct tree *t)
{
    uid_t self = geteuid();

    assert_true(getuid() != 0 || seteuid(0) == 0);
    assert_int_equal(chmod(t->src, 0), 0);
    assert_int_equal(seteuid(self), 0);
}

static void cancel_it(struct tree *t)
{
    cancel_request(&t->cancel, ERR_CANCELLED, "cancelled by uid:0");
}

/* ---- names that vanish, files that change ---- */

static void a_file_that_vanishes_is_counted_and_the_rest_is_whole(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    tree_file(t, "victim", 'v', 10);
    tree_file(t, "z", 'z', 10);
    t->on_first = remove_victim; /* its name was listed, it was not looked at */
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "vanished"), 1);
    assert_int_equal(stats_get(&t->stats, "files"), 2);
    assert_string_equal(buf_text(&t->log), "victim: vanished before it could be read\n");
    tree_prints(t, TREE_UNPACK "; cmp src/big out/big; cmp src/z out/z; ls out | xargs", "big z");
}

static void what_vanishes_after_it_was_seen_is_counted_too(void **state)
{
    struct tree *t = *state;

    for (int i = 0; i < 3; i++) {
        free(tree_shell(t, (const char *const[]){"touch src/victim",
                                                 "mkdir src/victim; touch src/victim/x",
                                                 "ln -s x src/victim"}[i]));
        on_look(t, "victim", 1, remove_victim);
        tree_backup(t);
        assert_int_equal(world.times, 0);
        assert_int_equal(stats_get(&t->stats, "vanished"), 1);
        tree_prints(t, "tar -tf stream.tar", "./");
    }
}

static void a_file_that_shrinks_is_padded_to_the_size_it_had(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    tree_file(t, "z", 'z', 10);
    t->on_first = shrink_big;
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "changed"), 1);
    assert_true(tree_logged(t, "big: became shorter while it was read; padded with zeros\n"));
    tree_prints(t,
                TREE_UNPACK "; stat -c %s out/big; cmp -n 262144 src/big out/big; tail -c 1000000 "
                            "out/big | tr -d '\\0' | wc -c; cat out/z",
                "2097152\n0\nzzzzzzzzzz");
}

static void a_file_that_has_less_than_its_size_says_is_padded(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    world.end = 3000; /* as in sysfs */
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "changed"), 1);
    tree_prints(t, TREE_UNPACK "; stat -c %s out/big", "2097152");
}

static void a_file_that_grows_is_cut_to_the_size_it_had(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    tree_file(t, "z", 'z', 10);
    t->on_first = append_to_big;
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "changed"), 1);
    assert_string_equal(buf_text(&t->log), "big: grew while it was read; cut to the size it had\n");
    tree_prints(t, TREE_UNPACK "; stat -c %s out/big; cmp -n 2097152 src/big out/big; cat out/z",
                "2097152\nzzzzzzzzzz");
}

static void a_file_that_is_rewritten_is_reported(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    t->on_first = rewrite_big;
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "changed"), 1);
    assert_string_equal(buf_text(&t->log),
                        "big: changed while it was read; old and new may be mixed\n");
}

static void a_symlink_that_replaces_a_file_or_directory_is_never_followed(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "mkdir secret; echo secret >secret/file"));
    for (int i = 0; i < 2; i++) {
        free(tree_shell(t, i == 0
                               ? "echo plain >src/victim"
                               : "rm src/victim; mkdir src/victim; echo plain >src/victim/file"));
        on_look(t, "victim", 1, swap_for_symlink);
        tree_backup(t);
        assert_int_equal(world.times, 0);
        tree_prints(t,
                    "tar -tvf stream.tar | grep -c 'victim -> ../secret'; grep -ac '^secret' "
                    "stream.tar || true",
                    "1\n0");
        assert_int_equal(stats_get(&t->stats, "symlinks"), 1);
    }
}

static void what_replaces_a_name_is_stored_as_what_it_is(void **state)
{
    static void (*const swaps[])(struct tree *) = {swap_for_directory, swap_for_another_file,
                                                   swap_for_pipe};
    static const char *const expected[] = {"d ./ d victim/ - victim/new", "d ./ - victim",
                                           "d ./ p victim"};
    struct tree *t = *state;

    for (size_t i = 0; i < 3; i++) {
        free(tree_shell(t, "rm -rf src/victim; echo plain >src/victim"));
        on_look(t, "victim", 1, swaps[i]);
        tree_backup(t);
        tree_prints(t, "tar -tvf stream.tar | sed -E 's/^(.).* /\\1 /' | xargs", expected[i]);
        assert_int_equal(stats_get(&t->stats, "changed"), 0);
    }
    tree_prints(t, "tar -xf stream.tar -C out; test -p out/victim && echo pipe", "pipe");
}

static void what_is_replaced_again_and_again_is_given_up_and_counted(void **state)
{
    struct tree *t = *state;

    tree_file(t, "victim", 'v', 10);
    on_look(t, "victim", 2, swap_for_another_file);
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "changed"), 1);
    assert_string_equal(buf_text(&t->log),
                        "victim: was replaced while it was read; it is not stored\n");
    tree_prints(t, "tar -tf stream.tar", "./");
}

static void a_root_that_is_removed_fails_the_backup(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    t->on_first = remove_root;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "was removed during the backup");
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, t->src); /* it does not open any more */
    free(tree_shell(t, "echo file >src"));
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "Not a directory");
}

/* ---- what cannot be read ---- */

static void a_page_that_cannot_be_read_fails_it_or_becomes_zeros(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', BIG);
    world.bad_from = 1000000;
    world.bad_to = 1000001;
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/big: Input/output error");
    tree_set(t, "unreadable", "warn");
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "unreadable"), 1);
    assert_true(tree_logged(t, "big: reading it failed: Input/output error; it is stored damaged: "
                               "from byte 1000000 on, 3520 bytes are zeros"));
    tree_prints(
        t,
        TREE_UNPACK
        "; stat -c %s out/big; tr -d '\\0' <out/big | wc -c; cmp -i 1003520 src/big out/big",
        "2097152\n2093632");
}

/* The effective user is nobody until the end of the test. */
static bool become_nobody(void)
{
    return geteuid() != 0 || seteuid(65534) == 0;
}

static int teardown_as_root(void **state)
{
    if (getuid() == 0 && seteuid(0) < 0)
        return -1;
    return tree_teardown(state);
}

static void an_unreadable_file_fails_the_backup_by_name(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "chmod 777 .; mkdir src/dir; touch src/dir/readable src/dir/secret; chmod "
                       "000 src/dir/secret"));
    assert_true(become_nobody());
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/dir/secret: Permission denied");
}

static void an_unreadable_file_is_left_out_with_a_warning(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "chmod 777 .; mkdir src/a src/closed; touch src/a/readable src/a/secret "
                       "src/closed/x src/z\n"
                       "chmod 000 src/a/secret; chmod 000 src/closed"));
    tree_set(t, "unreadable", "warn");
    assert_true(become_nobody());
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "unreadable"), 2);
    assert_string_equal(buf_text(&t->log),
                        "a/secret: opening it failed: Permission denied; it is not stored\n"
                        "closed: opening it failed: Permission denied; only its name is stored\n");
    tree_prints(t, "tar -tf stream.tar | xargs", "./ a/ a/readable closed/ z");
}

static void a_directory_that_may_not_be_searched_is_judged_name_by_name(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "chmod 777 .; mkdir src/dir; touch src/dir/x src/dir/y; chmod 444 src/dir"));
    tree_set(t, "unreadable", "warn");
    assert_true(become_nobody());
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "unreadable"), 2);
    assert_true(tree_logged(t, "dir/x: looking at it failed: Permission denied"));
}

static void a_root_that_cannot_be_read_is_never_forgiven(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "chmod 777 .; chmod 000 src"));
    tree_set(t, "unreadable", "warn");
    assert_true(become_nobody());
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src: Permission denied");
}

static void a_root_that_is_closed_after_the_start_is_never_forgiven(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "chmod 777 ."));
    tree_set(t, "unreadable", "warn");
    assert_true(become_nobody());
    on_look(t, ".", 1, close_root);
    tree_fails(t, ERR_SOURCE_UNAVAILABLE, "src/.: Permission denied");
    assert_int_equal(world.times, 0);
}

/* ---- other file systems ---- */

enum { MAY_NOT_MOUNT = 77 };

/* Backs up in a process with mounts of its own: to one.tar as it is by default, to closed.tar when
 * the mount is one that not even root may look at, to all.tar with all file systems. */
static int back_up_with_a_mount(struct tree *t, const char *point, const char *inside)
{
    struct error err;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", point, "tmpfs", 0, "size=64k,mode=0751") < 0)
        return MAY_NOT_MOUNT;
    close(open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (tree_try(t, &err) < 0 || rename(t->tar, "one.tar") < 0)
        return 1;
    world.closed = "other";
    if (tree_try(t, &err) < 0 || rename(t->tar, "closed.tar") < 0)
        return 2;
    world.closed = NULL;
    tree_set(t, "one_file_system", "no");
    return tree_try(t, &err) < 0 || rename(t->tar, "all.tar") < 0 ? 3 : 0;
}

static void a_mount_point_is_stored_but_not_what_is_mounted_there(void **state)
{
    struct tree *t = *state;
    char *point = tree_path(t, "other"), *inside = tree_path(t, "other/inside");
    int status;

    free(tree_shell(t, "mkdir src/other; touch src/here"));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(chdir(t->dir) < 0 ? 4 : back_up_with_a_mount(t, point, inside));
    free(point);
    free(inside);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == MAY_NOT_MOUNT)
        skip();
    assert_int_equal(status, 0);
    tree_prints(t, "tar -tf one.tar | xargs; tar -tvf one.tar other/ | cut -d' ' -f1",
                "./ here other/\ndrwxr-x--x");
    tree_prints(t, "tar -tf closed.tar | xargs", "./ here");
    tree_prints(t, "tar -tf all.tar | xargs", "./ here other/ other/inside");
}

/* ---- cancel and a failing output ---- */

static void cancel_stops_it_between_entries_and_inside_a_file(void **state)
{
    struct tree *t = *state;
    struct error err;

    tree_file(t, "big", 'b', 8 * BIG);
    t->on_first = cancel_it;
    assert_int_equal(tree_try(t, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by uid:0");
    assert_true(t->written <= 1 << 20);

    t->on_first = NULL; /* the request stays: nothing is read any more */
    assert_int_equal(tree_try(t, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(t->written, 0);
}

static void the_outputs_own_error_comes_back_from_every_write(void **state)
{
    struct tree *t = *state;
    struct error err;
    size_t n = 0;

    free(tree_shell(
        t, "cd src; mkdir -p d/e/f; head -c 1500000 /dev/zero >d/big; truncate -s 1G d/e/holes\n"
           "for i in $(seq 400); do head -c 3000 /dev/urandom >d/e/f/$i; done; ln -s x d/link\n"
           "touch \"$(printf 'invalid\\377')\"; ln d/big z"));
    size_t before = open_descriptors();
    do {
        t->fail_at = ++n;
        if (tree_try(t, &err) == 0)
            break;
        char message[64];
        snprintf(message, sizeof message, "the sink is full at write %zu: %s", n, strerror(ENOSPC));
        assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
        assert_string_equal(err.message, message);
        assert_int_equal(t->writes, n); /* nothing after it */
        assert_int_equal(open_descriptors(), before);
    } while (n < 1000);
    assert_in_range(n, 10, 999);
    free(tree_shell(t, TREE_UNPACK));
    tree_prints(t, TREE_DIFF, "");
    assert_int_equal(open_descriptors(), before);
}

static void small_entries_are_written_in_large_pieces(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; for i in $(seq 2000); do echo $i >$i; done"));
    tree_backup(t);
    assert_true(t->written / t->writes > 200000);
}

static void files_above_8_gib_are_streamed_whole(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "truncate -s 9G src/huge; echo after >src/z"));
    world.huge = true;
    t->skip_zeros = true;
    tree_backup(t);
    assert_true(t->written > (uint64_t)9 << 30);
    tree_prints(t, "tar -tvf stream.tar | tail -2 | sed -E 's/ +/ /g' | cut -d' ' -f3,6",
                "9663676416 huge\n6 z");
}

/* ---- names of owners ---- */

static void owners_have_names_and_are_looked_up_once(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "touch src/a src/b"));
    tree_backup(t);
    tree_prints(t, "tar -tvf stream.tar | cut -d' ' -f2 | uniq", "who/whose");
    assert_in_range(world.asked, 2, 5); /* with some for the long entry */
    assert_string_equal(buf_text(&t->log), "");
}

static void an_owner_that_nobody_has_is_a_number(void **state)
{
    struct tree *t = *state;

    world.no_names = ENOENT;
    free(tree_shell(t, "touch src/a"));
    tree_backup(t);
    tree_prints(t, "tar -tvf stream.tar | cut -d' ' -f2 | uniq | grep -c '^[0-9]*/[0-9]*$'", "1");
    assert_string_equal(buf_text(&t->log), "");
}

static void owners_that_cannot_be_looked_up_are_logged_once(void **state)
{
    struct tree *t = *state;

    world.no_names = EIO;
    /* Behind a symlink nothing of an entry is taken over from the last. */
    free(tree_shell(t, "touch src/a; ln -s a src/b; ln -s a src/c"));
    tree_backup(t);
    assert_int_equal(world.asked, 2);
    const char *log = buf_text(&t->log);
    const char *user = strstr(log, "the name of user "), *group = strstr(log, "the name of group ");
    assert_non_null(user);
    assert_non_null(group);
    assert_null(strstr(user + 1, "the name of user "));
    assert_non_null(strstr(log, strerror(EIO)));
}

static void without_memory_for_an_owner_the_backup_fails(void **state)
{
    static const int shortages[] = {ENOMEM, EMFILE, ENFILE};
    struct tree *t = *state;

    free(tree_shell(t, "touch src/a"));
    for (size_t i = 0; i < sizeof shortages / sizeof shortages[0]; i++) {
        world.no_names = shortages[i];
        tree_fails(t, ERR_INTERNAL, "the name of an owner");
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown_as_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_file_that_vanishes_is_counted_and_the_rest_is_whole),
        CASE(what_vanishes_after_it_was_seen_is_counted_too),
        CASE(a_file_that_shrinks_is_padded_to_the_size_it_had),
        CASE(a_file_that_has_less_than_its_size_says_is_padded),
        CASE(a_file_that_grows_is_cut_to_the_size_it_had),
        CASE(a_file_that_is_rewritten_is_reported),
        CASE(a_symlink_that_replaces_a_file_or_directory_is_never_followed),
        CASE(what_replaces_a_name_is_stored_as_what_it_is),
        CASE(what_is_replaced_again_and_again_is_given_up_and_counted),
        CASE(a_root_that_is_removed_fails_the_backup),
        CASE(a_page_that_cannot_be_read_fails_it_or_becomes_zeros),
        CASE(an_unreadable_file_fails_the_backup_by_name),
        CASE(an_unreadable_file_is_left_out_with_a_warning),
        CASE(a_directory_that_may_not_be_searched_is_judged_name_by_name),
        CASE(a_root_that_cannot_be_read_is_never_forgiven),
        CASE(a_root_that_is_closed_after_the_start_is_never_forgiven),
        CASE(a_mount_point_is_stored_but_not_what_is_mounted_there),
        CASE(cancel_stops_it_between_entries_and_inside_a_file),
        CASE(the_outputs_own_error_comes_back_from_every_write),
        CASE(small_entries_are_written_in_large_pieces),
        CASE(files_above_8_gib_are_streamed_whole),
        CASE(owners_have_names_and_are_looked_up_once),
        CASE(an_owner_that_nobody_has_is_a_number),
        CASE(owners_that_cannot_be_looked_up_are_logged_once),
        CASE(without_memory_for_an_owner_the_backup_fails),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
