/* SPDX-License-Identifier: MIT */
/* Which file was stored before: what makes two files one, and what an inode number alone does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/links.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    int errnum;          /* statx fails with it */
    unsigned taken_away; /* of what it answers */
} world;

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
    if (world.errnum) {
        errno = world.errnum;
        return -1;
    }
    long result = syscall(SYS_statx, fd, path, flags, mask, out);

    out->stx_mask &= ~world.taken_away;
    return (int)result;
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    *state = links_new();
    return 0;
}

static int teardown(void **state)
{
    links_free(*state);
    return 0;
}

static void add(struct links *l, struct link_id id, const char *path, nlink_t names)
{
    assert_true(links_add(l, &id, path, names));
}

static void expect(struct links *l, struct link_id id, const char *path)
{
    const char *found = links_find(l, &id);

    if (path) {
        assert_non_null(found);
        assert_string_equal(found, path);
    } else {
        assert_null(found);
    }
}

#define ID(...) ((struct link_id){__VA_ARGS__})

static void a_file_is_found_once_for_each_other_name(void **state)
{
    struct links *l = *state;

    expect(l, ID(1, 2, 3, 4), NULL);
    add(l, ID(1, 2, 3, 4), "first", 3);
    expect(l, ID(1, 2, 3, 4), "first");
    expect(l, ID(1, 2, 3, 4), "first");
    expect(l, ID(1, 2, 3, 4), NULL);
}

static void a_file_with_one_name_is_not_kept(void **state)
{
    struct links *l = *state;

    add(l, ID(1, 2, 3, 4), "only", 1);
    expect(l, ID(1, 2, 3, 4), NULL);
    add(l, ID(1, 2, 3, 4), "none", 0);
    expect(l, ID(1, 2, 3, 4), NULL);
}

/* An inode that was freed and taken again during the backup. */
static void a_file_born_at_another_time_is_another_one(void **state)
{
    struct links *l = *state;

    add(l, ID(1, 2, 30, 40), "old", 2);
    expect(l, ID(1, 2, 31, 40), NULL);
    expect(l, ID(1, 2, 30, 41), NULL);
    expect(l, ID(1, 2, 30, 40), "old");
}

/* Device numbers like these make one long chain of the table. */
static void equal_inode_numbers_of_many_file_systems_are_different_files(void **state)
{
    enum { MANY = 600 };
    struct links *l = *state;
    char path[16];

    for (dev_t dev = 0; dev < MANY; dev++) {
        snprintf(path, sizeof path, "on-%u", (unsigned)dev);
        add(l, ID(dev << 20, 77, 1, 1), path, 3);
    }
    for (int round = 0; round < 2; round++)
        for (dev_t dev = 0; dev < MANY; dev++) {
            snprintf(path, sizeof path, "on-%u", (unsigned)dev);
            expect(l, ID(dev << 20, 77, 1, 1), path);
        }
    for (dev_t dev = 0; dev < MANY; dev++)
        expect(l, ID(dev << 20, 77, 1, 1), NULL);
}

static void files_that_were_not_met_again_go_with_the_table(void **state)
{
    for (ino_t ino = 0; ino < 1000; ino++)
        add(*state, ID(1, ino, 1, 1), "here", 2);
}

static void the_birth_is_part_of_the_identity_where_it_is_known(void **state)
{
    struct stat st = {.st_dev = 5, .st_ino = 6};
    struct link_id id;

    (void)state;
    world.errnum = ENOSYS;
    id = link_id_of(STDIN_FILENO, &st);
    assert_true(id.dev == 5 && id.ino == 6 && id.birth_sec == 0 && id.birth_nsec == 0);
    world.errnum = 0;
    world.taken_away = STATX_BTIME;
    id = link_id_of(STDIN_FILENO, &st);
    assert_true(id.dev == 5 && id.ino == 6 && id.birth_sec == 0 && id.birth_nsec == 0);
}

static void nothing_is_freed_of_none(void **state)
{
    (void)state;
    links_free(NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_file_is_found_once_for_each_other_name),
        CASE(a_file_with_one_name_is_not_kept),
        CASE(a_file_born_at_another_time_is_another_one),
        CASE(equal_inode_numbers_of_many_file_systems_are_different_files),
        CASE(files_that_were_not_met_again_go_with_the_table),
        CASE(the_birth_is_part_of_the_identity_where_it_is_known),
        CASE(nothing_is_freed_of_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
