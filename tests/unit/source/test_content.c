/* SPDX-License-Identifier: MIT */
/*
 * test_content.c - the ranges of a file that hold data, and pages that cannot be read.
 *
 * Where data is, and what can be read, is what a test says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/content.h"
#include "tree.h"

#include <sys/syscall.h>

enum { PAGE = 4096, SIZE = 1 << 20 };

static struct {
    off_t step; /* data and holes alternate in pieces of that size, a hole first; 0: as they are */
    off_t data_at; /* the only data is said to be there */
    int seeks, cancel_at;
    struct cancel *cancel;
    off_t bad[2]; /* pages that cannot be read */
    int interrupted;
} world;

static off_t data_from(off_t at, int whence)
{
    if (world.data_at && whence == SEEK_DATA)
        return world.data_at;
    bool in_hole = at / world.step % 2 == 0;
    bool there = in_hole == (whence == SEEK_HOLE);

    return there ? at : (at / world.step + 1) * world.step;
}

off_t lseek(int fd, off_t offset, int whence)
{
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return syscall(SYS_lseek, fd, offset, whence);
    if (++world.seeks == world.cancel_at)
        cancel_request(world.cancel, ERR_CANCELLED, "enough");
    return world.step ? data_from(offset, whence) : syscall(SYS_lseek, fd, offset, whence);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    if (world.interrupted-- > 0) {
        errno = EINTR;
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        if (world.bad[i] && offset <= world.bad[i] && offset + (off_t)len > world.bad[i]) {
            if (offset == world.bad[i]) {
                errno = EIO;
                return -1;
            }
            len = (size_t)(world.bad[i] - offset);
        }
    }
    return syscall(SYS_pread64, fd, buf, len, offset);
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    if (tree_setup(state) != 0)
        return -1;
    world.cancel = &((struct tree *)*state)->cancel;
    return 0;
}

/* src/big, of which nothing takes room. */
static void make_empty(struct tree *t)
{
    free(tree_shell(t, "truncate -s 1M src/big"));
}

/* ---- ranges ---- */

static void a_file_of_many_pieces_comes_back(void **state)
{
    struct tree *t = *state;

    world.step = 8192;
    free(tree_shell(t, "for i in $(seq 1 2 127); do printf \"piece $i\" | dd of=src/big bs=8192 "
                       "seek=$i conv=notrunc status=none; done; truncate -s 1M src/big"));
    tree_backup(t);
    assert_true(world.seeks >= 127);
    assert_true(t->written < 3 * SIZE / 4); /* holes take no room */
    world.step = 0;
    tree_prints(t, TREE_UNPACK "; cmp src/big out/big && stat -c %s out/big", "1048576");
}

/* It has grown since its size was asked for. */
static void data_behind_the_end_are_not_of_the_file_as_it_was(void **state)
{
    static const off_t places[] = {SIZE, SIZE + PAGE};
    struct tree *t = *state;

    make_empty(t);
    for (size_t i = 0; i < 2; i++) {
        world.step = PAGE;
        world.data_at = places[i];
        tree_backup(t);
        assert_true(t->written < SIZE / 2);
        world.step = world.data_at = 0;
        tree_prints(t, "rm -f out/big; " TREE_UNPACK "; cmp src/big out/big && echo same", "same");
    }
}

static void a_cancel_ends_the_search_for_data_and_the_copy(void **state)
{
    struct tree *t = *state;
    struct error err;

    make_empty(t);
    world.step = PAGE;
    world.cancel_at = 4; /* with two ranges found, behind holes */
    assert_int_equal(tree_try(t, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(world.seeks, 4);
    content_free(NULL);
}

/* ---- pages ---- */

static void each_page_that_cannot_be_read_is_zeros_and_the_first_is_named(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', SIZE);
    world.bad[0] = 10 * PAGE;
    world.bad[1] = 50 * PAGE;
    tree_set(t, "unreadable", "warn");
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "unreadable"), 1);
    assert_true(tree_logged(t, "from byte 40960 on, 8192 bytes are zeros"));
    tree_prints(t, TREE_UNPACK "; stat -c %s out/big; tr -d '\\0' <out/big | wc -c",
                "1048576\n1040384");
}

static void a_read_that_a_signal_ends_is_done_again(void **state)
{
    struct tree *t = *state;

    tree_file(t, "big", 'b', SIZE);
    world.interrupted = 3;
    tree_backup(t);
    assert_string_equal(buf_text(&t->log), "");
    tree_prints(t, TREE_UNPACK "; cmp src/big out/big && echo same", "same");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_file_of_many_pieces_comes_back),
        CASE(data_behind_the_end_are_not_of_the_file_as_it_was),
        CASE(a_cancel_ends_the_search_for_data_and_the_copy),
        CASE(each_page_that_cannot_be_read_is_zeros_and_the_first_is_named),
        CASE(a_read_that_a_signal_ends_is_done_again),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
