/* SPDX-License-Identifier: MIT */
/* The names of a directory: in order, all of them, and what is told when they cannot be listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/walk.h"
#include "tree.h"

#include <sys/syscall.h>

static struct {
    int calls, fail_at; /* of getdents64, from 1 */
    int errnum;
} world;

ssize_t getdents64(int fd, void *buffer, size_t len)
{
    if (++world.calls == world.fail_at) {
        errno = world.errnum;
        return -1;
    }
    return syscall(SYS_getdents64, fd, buffer, len);
}

static struct walk *walk;

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    if (tree_setup(state) != 0)
        return -1;
    walk = walk_new(&((struct tree *)*state)->cancel);
    return 0;
}

static int teardown(void **state)
{
    walk_free(walk);
    return tree_teardown(state);
}

static int enter_root(struct tree *t)
{
    int fd = open(t->src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return walk_enter(walk, fd);
}

/* What follows, separated by blanks. */
static void expect_rest(const char *names)
{
    struct buf got = BUF_INIT;
    struct walk_entry entry;

    while (walk_next(walk, &entry)) {
        assert_string_equal(entry.name, entry.path);
        buf_addf(&got, "%s%s", got.len ? " " : "", entry.path);
    }
    assert_string_equal(buf_text(&got), names);
    buf_release(&got);
}

static void names_that_begin_with_dots_are_names(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; touch .a ..a ... .. ..b- z; mkdir .d"));
    assert_int_equal(enter_root(t), 0);
    expect_rest("... ..a ..b- .a .d z");
}

static void a_listing_that_fails_is_told_and_the_names_until_then_follow(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; touch a b c"));
    world.errnum = EIO;
    world.fail_at = 1;
    assert_int_equal(enter_root(t), EIO);
    expect_rest("");
    world.fail_at = world.calls + 2;
    assert_int_equal(enter_root(t), EIO);
    expect_rest("a b c");
}

static void a_directory_that_was_removed_has_no_names(void **state)
{
    struct tree *t = *state;

    world.errnum = ENOENT;
    world.fail_at = 1;
    assert_int_equal(enter_root(t), 0);
    expect_rest("");
}

static void a_cancel_ends_the_listing(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; touch a b c"));
    cancel_request(&t->cancel, ERR_CANCELLED, "enough");
    assert_int_equal(enter_root(t), 0);
    assert_int_equal(world.calls, 0);
    expect_rest("");
}

static void an_end_in_the_middle_closes_what_is_open(void **state)
{
    struct tree *t = *state;
    size_t before = open_descriptors();
    struct walk_entry entry;

    free(tree_shell(t, "cd src; touch a b c"));
    assert_int_equal(enter_root(t), 0);
    assert_true(walk_next(walk, &entry));
    walk_free(walk);
    walk = NULL;
    walk_free(walk);
    assert_int_equal(open_descriptors(), before);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(names_that_begin_with_dots_are_names),
        CASE(a_listing_that_fails_is_told_and_the_names_until_then_follow),
        CASE(a_directory_that_was_removed_has_no_names),
        CASE(a_cancel_ends_the_listing),
        CASE(an_end_in_the_middle_closes_what_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
