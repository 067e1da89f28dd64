/* SPDX-License-Identifier: MIT */
/*
 * test_local.c - what only the kind `local` has: modes, mark and lock, foreign files, its check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "local_place.h"
#include "namespace.h"

#include <linux/magic.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

/* What statfs says instead of the truth, if not 0. */
static unsigned fake_magic;

int statfs(const char *path, struct statfs *out)
{
    int result = (int)syscall(SYS_statfs, path, out);

    if (fake_magic)
        out->f_type = fake_magic;
    return result;
}

static void in_place_of_root(struct place *p, const char *target)
{
    if (target)
        assert_return_code(symlink(target, p->root), errno);
    else
        assert_return_code(close(creat(p->root, 0600)), errno);
}

/* ---- the root ---- */

static void check_modes(struct place *p, mode_t mask)
{
    mode_t before = umask(mask);
    struct destination *d = place_open(p, DESTINATION_CREATE);

    put_ok(d, "group");
    struct put *put = begin_ok(d, "begun");
    umask(before);
    assert_int_equal(place_mode(p, "."), 0700);
    assert_int_equal(place_mode(p, ".keepfs"), 0600);
    assert_int_equal(place_mode(p, "begun.tmp"), 0700);
    assert_int_equal(place_mode(p, "group"), 0700);
    assert_int_equal(place_mode(p, "group/object"), 0600);
    d->kind->put_free(put);
    d->kind->close(d);
}

static void modes_are_exact_under_umask_0(void **state)
{
    check_modes(*state, 0);
}

static void modes_are_exact_under_umask_077(void **state)
{
    check_modes(*state, 077);
}

static void modes_are_exact_under_umask_0377(void **state)
{
    if (geteuid() != 0) {
        print_message("skipped: without root's rights a directory made under it is of no use\n");
        skip();
    }
    check_modes(*state, 0377);
}

static void an_existing_root_keeps_its_mode(void **state)
{
    struct place *p = *state;

    assert_return_code(mkdir(p->root, 0700), errno);
    assert_return_code(chmod(p->root, 0751), errno);
    struct destination *d = place_open(p, DESTINATION_CREATE);
    put_ok(d, "group");
    assert_int_equal(place_mode(p, "."), 0751);
    d->kind->close(d);
}

static void a_file_is_no_root(void **state)
{
    struct place *p = *state;
    struct destination *d;
    struct error err = {0};
    char warn[256];

    in_place_of_root(p, NULL);
    expect_error(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, p->root);
    assert_int_equal(err.errnum, ENOTDIR);
    expect_error(p->kind->check(&p->settings, warn, sizeof warn, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, p->root);
    place_descend(p, "below");
    expect_error(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, p->root);
    expect_error(p->kind->check(&p->settings, warn, sizeof warn, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "repo");
}

static void an_absent_root_stays_absent_unless_it_may_be_made(void **state)
{
    struct place *p = *state;
    struct destination *d;
    struct error err = {0};

    expect_error(p->kind->open(&p->settings, 0, &d, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 p->root);
    assert_int_equal(err.errnum, ENOENT);
    assert_false(place_has(p, "."));
}

/* ---- the mark and its lock ---- */

static void the_first_put_makes_a_mark_of_one_line(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    char *path = place_path(p, ".keepfs");
    char text[256] = "";

    assert_false(place_has(p, ".keepfs"));
    d->kind->put_free(begin_ok(d, "group"));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_non_null(strstr(text, "keepfs"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_null(fgets(text, sizeof text, f));
    fclose(f);
    free(path);
    d->kind->close(d);
}

static void without_its_mark_a_used_root_is_not_written_to(void **state)
{
    struct place *p = *state;
    struct put *put;
    struct error err = {0};

    assert_return_code(mkdir(p->root, 0700), errno);
    struct destination *d = place_open(p, 0);
    char *remedy = xasprintf("touch %s/.keepfs", p->root);
    expect_error(d->kind->put_begin(d, "group", &put, &err), &err, ERR_DESTINATION_NOT_FOUND,
                 remedy);
    assert_non_null(strstr(err.message, "is its file system mounted?"));
    assert_int_not_equal(err.errnum, ENOENT);
    assert_false(place_has(p, ".keepfs"));
    assert_false(place_has(p, "group.tmp"));
    place_file(p, ".keepfs", "", 0);
    put_ok(d, "group");
    free(remedy);
    d->kind->close(d);
}

static void without_its_mark_a_used_root_is_not_deleted_from(void **state)
{
    struct place *p = *state;
    struct error err = {0};

    assert_return_code(mkdir(p->root, 0700), errno);
    place_mkdir(p, "group");
    place_mkdir(p, "begun.tmp");
    place_file(p, "group/object", "text", 4);
    struct destination *d = place_open(p, 0);
    expect_error(d->kind->delete_object(d, "group", "object", &err), &err,
                 ERR_DESTINATION_NOT_FOUND, "mounted?");
    expect_error(d->kind->delete_group(d, "absent", &err), &err, ERR_DESTINATION_NOT_FOUND,
                 "mounted?");
    expect_error(d->kind->discard(d, "begun", &err), &err, ERR_DESTINATION_NOT_FOUND, "mounted?");
    assert_true(place_has(p, "group/object"));
    assert_true(place_has(p, "begun.tmp"));
    d->kind->close(d);
}

static void reading_needs_no_mark(void **state)
{
    struct place *p = *state;
    struct object *o;
    struct error err = {0};
    char text[8];

    assert_return_code(mkdir(p->root, 0700), errno);
    place_mkdir(p, "group");
    place_file(p, "group/object", "text", 4);
    struct destination *d = place_open(p, 0);
    expect_listing(d, "group ");
    assert_int_equal(d->kind->open_object(d, "group", "object", &o, &err), 0);
    assert_int_equal(d->kind->pread(o, text, sizeof text, 0, &err), 4);
    d->kind->close_object(o);
    assert_false(place_has(p, ".keepfs"));
    d->kind->close(d);
}

static void a_mark_that_is_no_file_is_refused(void **state)
{
    struct place *p = *state;
    struct put *put;
    struct error err = {0};
    char *mark = place_path(p, ".keepfs");
    struct destination *d = place_open(p, DESTINATION_CREATE);

    assert_return_code(mkfifo(mark, 0600), errno);
    expect_error(d->kind->put_begin(d, "group", &put, &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 ".keepfs");
    assert_return_code(unlink(mark), errno);
    assert_return_code(symlink("/dev/null", mark), errno);
    expect_error(d->kind->put_begin(d, "group", &put, &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 ".keepfs");
    free(mark);
    d->kind->close(d);
}

/* A child that has begun a put of "group", and waits. */
static pid_t start_putting(struct place *p)
{
    int ready[2];
    char byte;

    assert_return_code(pipe(ready), errno);
    pid_t pid = fork();
    assert_return_code(pid, errno);
    if (pid == 0) {
        struct destination *d;
        struct put *put;
        struct error err;
        child_check(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err) == 0);
        child_check(d->kind->put_begin(d, "group", &put, &err) == 0);
        child_check(put_bytes(put, "object", "text", 4, &err) == 0);
        child_check(write(ready[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void the_lock_of_another_process_holds_until_it_dies(void **state)
{
    struct place *p = *state;
    struct put *put;
    struct error err = {0};
    pid_t pid = start_putting(p);
    struct destination *d = place_open(p, DESTINATION_CREATE);

    int began = d->kind->put_begin(d, "other", &put, &err);
    int discarded = d->kind->discard(d, "group", &err);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(began, -1);
    expect_error(discarded, &err, ERR_DESTINATION_PATH_CONFLICT, p->root);
    expect_listing(d, "group? ");
    assert_int_equal(d->kind->discard(d, "group", &err), 0);
    expect_listing(d, "");
    d->kind->close(d);
}

/* ---- foreign things ---- */

static void what_a_dead_put_left_does_not_stop_the_next(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);

    place_mkdir(p, "group.tmp");
    place_file(p, "group.tmp/leftover", "old", 3);
    put_ok(d, "group");
    assert_true(place_has(p, "group/object"));
    assert_false(place_has(p, "group/leftover"));
    expect_listing(d, "group ");
    d->kind->close(d);
}

static void only_directories_of_proper_names_are_listed(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    char *link = place_path(p, "link");

    put_ok(d, "group");
    place_file(p, "file", "", 0);
    place_file(p, "file.tmp", "", 0);
    place_mkdir(p, "lost+found");
    place_mkdir(p, ".hidden");
    place_mkdir(p, ".tmp");
    place_mkdir(p, "begun.tmp");
    assert_return_code(symlink("group", link), errno);
    expect_listing(d, "begun? group ");
    free(link);
    d->kind->close(d);
}

static void symlinks_and_fifos_are_not_followed(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct object *o;
    struct error err = {0};
    char *link = place_path(p, "link"), *object = place_path(p, "group/link");
    char *fifo = place_path(p, "group/fifo");

    put_ok(d, "group");
    assert_return_code(symlink("group", link), errno);
    assert_return_code(symlink("object", object), errno);
    assert_return_code(mkfifo(fifo, 0600), errno);
    expect_error(d->kind->open_object(d, "link", "object", &o, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "link/object");
    expect_error(d->kind->open_object(d, "group", "link", &o, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "group/link");
    expect_error(d->kind->open_object(d, "group", "fifo", &o, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "group/fifo");
    expect_error(d->kind->delete_object(d, "link", "object", &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "link/object");
    assert_true(place_has(p, "group/object"));
    free(link);
    free(object);
    free(fifo);
    d->kind->close(d);
}

static void a_group_with_foreign_files_is_reported_and_stays(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct error err = {0};

    put_ok(d, "group");
    place_file(p, "group/notes.txt", "mine", 4);
    assert_int_equal(d->kind->delete_object(d, "group", "object", &err), 0);
    expect_error(d->kind->delete_group(d, "group", &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "group holds something that keepfs did not write");
    assert_int_equal(err.errnum, ENOTEMPTY);
    assert_true(place_has(p, "group/notes.txt"));
    d->kind->close(d);
}

static void discarding_removes_files_but_no_directories(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    struct put *put;
    struct error err = {0};

    put_ok(d, "group");
    place_mkdir(p, "begun.tmp");
    place_file(p, "begun.tmp/one", "1", 1);
    place_file(p, "begun.tmp/two", "2", 1);
    assert_int_equal(d->kind->discard(d, "begun", &err), 0);
    expect_listing(d, "group ");
    place_mkdir(p, "begun.tmp");
    place_mkdir(p, "begun.tmp/sub");
    expect_error(d->kind->discard(d, "begun", &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "begun.tmp holds something");
    expect_error(d->kind->put_begin(d, "begun", &put, &err), &err, ERR_DESTINATION_CONFIG_INVALID,
                 "begun.tmp");
    assert_true(place_has(p, "begun.tmp/sub"));
    d->kind->close(d);
}

/* ---- rights, check and place ---- */

/* Runs fn in a child without root's rights; its exit status. */
static int as_ordinary_user(int (*fn)(struct place *p), struct place *p)
{
    int status = 0;
    pid_t pid = fork();

    assert_return_code(pid, errno);
    if (pid == 0)
        _exit(geteuid() == 0 && setresuid(65534, 65534, 65534) != 0 ? 1 : fn(p));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int be_denied(struct place *p)
{
    struct destination *d;
    struct error err = {0};
    char warn[64];

    child_check(p->kind->check(&p->settings, warn, sizeof warn, &err) == -1);
    child_check(err.code == ERR_DESTINATION_PERMISSION_DENIED && err.errnum == EACCES);
    child_check(p->kind->open(&p->settings, DESTINATION_CREATE, &d, &err) == -1);
    child_check(err.code == ERR_DESTINATION_PERMISSION_DENIED && err.errnum == EACCES);
    return 0;
}

static void missing_rights_are_told_as_such(void **state)
{
    struct place *p = *state;

    assert_return_code(chmod(p->dir, 0555), errno);
    assert_int_equal(as_ordinary_user(be_denied, p), 0);
    assert_return_code(chmod(p->dir, 0), errno);
    assert_int_equal(as_ordinary_user(be_denied, p), 0);
    assert_return_code(chmod(p->dir, 0700), errno);
}

static void checking_accepts_a_root_that_can_be_made(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    char warn[64];

    place_descend(p, "deep/below");
    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), 0);
    assert_string_equal(warn, "");
    assert_false(place_has(p, "../.."));
}

static void a_dangling_symlink_is_no_place_for_a_root(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    char warn[64];

    in_place_of_root(p, "nowhere");
    expect_error(p->kind->check(&p->settings, warn, sizeof warn, &err), &err,
                 ERR_DESTINATION_CONFIG_INVALID, "symbolic link to nowhere");
}

static void network_file_systems_are_warned_about(void **state)
{
    static const struct {
        unsigned magic;
        const char *name;
    } cases[] = {{NFS_SUPER_MAGIC, "NFS"},
                 {CIFS_SUPER_MAGIC, "SMB"},
                 {SMB2_SUPER_MAGIC, "SMB"},
                 {SMB_SUPER_MAGIC, "SMB"},
                 {FUSE_SUPER_MAGIC, "FUSE"}};
    struct place *p = *state;
    struct error err = {0};
    char warn[512];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_magic = cases[i].magic;
        int result = p->kind->check(&p->settings, warn, sizeof warn, &err);
        fake_magic = 0;
        assert_int_equal(result, 0);
        assert_non_null(strstr(warn, cases[i].name));
        assert_non_null(strstr(warn, p->root));
    }
    assert_int_equal(p->kind->check(&p->settings, warn, sizeof warn, &err), 0);
    assert_string_equal(warn, "");
}

static void two_ways_to_one_directory_are_one_place(void **state)
{
    struct place *p = *state;
    char *direct = p->kind->place(&p->settings);
    char *link = xasprintf("%s/link", p->dir);
    char *by_link = xasprintf("%s/repo", link);

    assert_return_code(symlink(p->dir, link), errno);
    settings_release(&p->settings);
    free(p->root);
    p->root = by_link;
    place_settings(p, p->kind);
    char *resolved = p->kind->place(&p->settings);
    assert_string_equal(resolved, direct);
    free(resolved);
    free(direct);
    free(link);
}

static void a_path_that_cannot_be_resolved_is_its_own_place(void **state)
{
    struct place *p = *state;

    in_place_of_root(p, NULL);
    place_descend(p, "below");
    char *place = p->kind->place(&p->settings);
    assert_string_equal(place, p->root);
    free(place);
}

/* A test that failed may have left its lie behind. */
static int teardown(void **state)
{
    fake_magic = 0;
    return place_teardown(state);
}

#define local_test(f) cmocka_unit_test_setup_teardown(f, place_setup, teardown)

/* The number of blocks does not move, as what is free of them does. */
static void the_room_is_that_of_its_file_system(void **state)
{
    struct place *p = *state;
    struct destination *d = place_open(p, DESTINATION_CREATE);
    uint64_t free_bytes = 0, total_bytes = 0;
    struct statvfs fs;
    struct error err;

    put_ok(d, "group");
    assert_return_code(statvfs(p->root, &fs), errno);
    assert_int_equal(d->kind->room(d, &free_bytes, &total_bytes, &err), 0);
    assert_int_equal(total_bytes, (uint64_t)fs.f_blocks * fs.f_frsize);
    assert_true(free_bytes > 0 && free_bytes <= total_bytes);
    d->kind->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        local_test(the_room_is_that_of_its_file_system),
        local_test(modes_are_exact_under_umask_0),
        local_test(modes_are_exact_under_umask_077),
        local_test(modes_are_exact_under_umask_0377),
        local_test(an_existing_root_keeps_its_mode),
        local_test(a_file_is_no_root),
        local_test(an_absent_root_stays_absent_unless_it_may_be_made),
        local_test(the_first_put_makes_a_mark_of_one_line),
        local_test(without_its_mark_a_used_root_is_not_written_to),
        local_test(without_its_mark_a_used_root_is_not_deleted_from),
        local_test(reading_needs_no_mark),
        local_test(a_mark_that_is_no_file_is_refused),
        local_test(the_lock_of_another_process_holds_until_it_dies),
        local_test(what_a_dead_put_left_does_not_stop_the_next),
        local_test(only_directories_of_proper_names_are_listed),
        local_test(symlinks_and_fifos_are_not_followed),
        local_test(a_group_with_foreign_files_is_reported_and_stays),
        local_test(discarding_removes_files_but_no_directories),
        local_test(missing_rights_are_told_as_such),
        local_test(checking_accepts_a_root_that_can_be_made),
        local_test(a_dangling_symlink_is_no_place_for_a_root),
        local_test(network_file_systems_are_warned_about),
        local_test(two_ways_to_one_directory_are_one_place),
        local_test(a_path_that_cannot_be_resolved_is_its_own_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
