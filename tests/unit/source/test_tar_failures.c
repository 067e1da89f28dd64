/* SPDX-License-Identifier: MIT */
/*
 * test_tar_failures.c - libarchive fails: every call of it in turn. The backup fails, says so, and
 * nothing of the stream is left open; memory that is short is told as such.
 *
 * The calls are defined here; their real selves do the work, except for the one that is to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/tar.h"
#include "tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>

/* ---- the calls ---- */

static struct {
    const char *name; /* the call that fails; NULL = none */
    int nth;          /* this one of them, from 1 */
    int seen;
    int archives; /* made and not freed */
    bool wordless;
} world;

static bool must_fail(const char *name)
{
    return world.name && strcmp(name, world.name) == 0 && ++world.seen == world.nth;
}

#define STAND_IN(type, name, failure, parameters, arguments)                                       \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return must_fail(#name) ? (failure) : real arguments;                                      \
    }

STAND_IN(int, archive_write_set_format_pax, ARCHIVE_FATAL, (struct archive * a), (a))
STAND_IN(int, archive_write_set_format_option, ARCHIVE_FATAL,
         (struct archive * a, const char *module, const char *option, const char *value),
         (a, module, option, value))
STAND_IN(int, archive_write_set_bytes_per_block, ARCHIVE_FATAL, (struct archive * a, int bytes),
         (a, bytes))
STAND_IN(int, archive_write_set_bytes_in_last_block, ARCHIVE_FATAL, (struct archive * a, int bytes),
         (a, bytes))
STAND_IN(int, archive_write_open2, ARCHIVE_FATAL,
         (struct archive * a, void *ctx, archive_open_callback *opened, archive_write_callback *put,
          archive_close_callback *closed, archive_free_callback *freed),
         (a, ctx, opened, put, closed, freed))
STAND_IN(int, archive_write_header, ARCHIVE_FATAL,
         (struct archive * a, struct archive_entry *entry), (a, entry))
STAND_IN(la_ssize_t, archive_write_data, -1, (struct archive * a, const void *data, size_t len),
         (a, data, len))
STAND_IN(int, archive_write_finish_entry, ARCHIVE_FATAL, (struct archive * a), (a))
STAND_IN(int, archive_write_close, ARCHIVE_FATAL, (struct archive * a), (a))
STAND_IN(struct archive_entry *, archive_entry_new, NULL, (void), ())

struct archive *archive_write_new(void)
{
    struct archive *(*real)(void);

    *(void **)&real = dlsym(RTLD_NEXT, "archive_write_new");
    if (must_fail("archive_write_new"))
        return NULL;
    world.archives++;
    return real();
}

int archive_write_free(struct archive *a)
{
    int (*real)(struct archive *);

    *(void **)&real = dlsym(RTLD_NEXT, "archive_write_free");
    world.archives--;
    return real(a);
}

const char *archive_error_string(struct archive *a)
{
    (void)a;
    return world.wordless ? NULL : "what libarchive says";
}

static int setup(void **state)
{
    memset(&world, 0, sizeof world);
    return tree_setup(state);
}

static void let_fail(const char *name, int nth)
{
    world.name = name;
    world.nth = nth;
    world.seen = 0;
}

/* The nth call of `name` fails the backup with this message. */
static void fails_at(struct tree *t, const char *name, int nth, const char *message)
{
    size_t before = open_descriptors();

    let_fail(name, nth);
    tree_fails(t, ERR_INTERNAL, message);
    assert_int_equal(world.seen, nth); /* nothing more is asked of it */
    assert_int_equal(world.archives, 0);
    assert_int_equal(open_descriptors(), before);
}

/* ---- backups ---- */

static void a_stream_that_cannot_be_begun_fails_the_backup_before_a_byte(void **state)
{
    static const char *const calls[] = {
        "archive_write_set_format_pax", "archive_write_set_format_option",
        "archive_write_set_bytes_per_block", "archive_write_set_bytes_in_last_block",
        "archive_write_open2"};
    struct tree *t = *state;

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        fails_at(t, calls[i], 1, "beginning the tar stream: what libarchive says");
        assert_int_equal(t->written, 0);
    }
}

static void a_failure_without_a_word_is_told_as_one(void **state)
{
    world.wordless = true;
    fails_at(*state, "archive_write_open2", 1, "beginning the tar stream: no reason given");
}

static void no_memory_to_begin_with_is_told(void **state)
{
    static const char *const calls[] = {"archive_write_new", "archive_entry_new"};
    struct tree *t = *state;

    for (size_t i = 0; i < 2; i++) {
        fails_at(t, calls[i], 1, "beginning the tar stream: Cannot allocate memory");
        assert_int_equal(t->written, 0);
    }
}

/* Such a name needs a second writer, which may not be had. */
static void a_name_that_is_no_text_fails_the_backup_if_it_cannot_be_written(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "touch src/a \"$(printf 'src/z\\377')\""));
    fails_at(t, "archive_write_new", 2, "beginning the tar stream: Cannot allocate memory");
    /* Of the options, the first writer has one and the second two. */
    fails_at(t, "archive_write_set_format_option", 3, "beginning the tar stream");
    fails_at(t, "archive_write_open2", 2, "beginning the tar stream: what libarchive says");
    let_fail(NULL, 0);
    tree_backup(t);
    assert_int_equal(stats_get(&t->stats, "files"), 2);
}

static void a_header_that_cannot_be_written_fails_the_backup(void **state)
{
    struct tree *t = *state;

    /* The root, a directory, a file, its other name, a symlink, a hole. */
    free(tree_shell(t, "cd src; mkdir a; echo x >a/b; ln a/b c; ln -s x d; truncate -s 1M e"));
    for (int nth = 1; nth <= 6; nth++)
        fails_at(t, "archive_write_header", nth,
                 "writing a header to the tar stream: what libarchive says");
    let_fail("archive_write_header", 7);
    tree_backup(t);
}

/* libarchive calls it too, before a header and at the end. */
static void an_end_of_an_entry_that_cannot_be_written_fails_the_backup(void **state)
{
    struct tree *t = *state;

    free(tree_shell(t, "cd src; mkdir a; echo x >a/b; ln a/b c; ln -s x d; truncate -s 1M e"));
    let_fail("archive_write_finish_entry", 1000000);
    tree_backup(t);
    int calls = world.seen;
    assert_true(calls >= 6);
    for (int nth = 1; nth <= calls; nth++) {
        let_fail("archive_write_finish_entry", nth);
        tree_fails(t, ERR_INTERNAL, "the tar stream: what libarchive says");
        assert_int_equal(world.archives, 0);
    }
}

static void data_that_cannot_be_written_fail_the_backup(void **state)
{
    struct tree *t = *state;

    /* Data, a hole, data, and a hole at the end. */
    free(tree_shell(t, "cd src; head -c 65536 /dev/urandom >a; truncate -s 1M a; echo x >>a;"
                       "truncate -s 3M a"));
    let_fail("archive_write_data", 1000000);
    tree_backup(t);
    int calls = world.seen;
    assert_true(calls > 3);
    for (int nth = 1; nth <= calls; nth++)
        fails_at(t, "archive_write_data", nth, "the tar stream: what libarchive says");
}

static void an_archive_without_its_end_is_a_failure(void **state)
{
    free(tree_shell(*state, "echo x >src/a"));
    let_fail("archive_write_close", 1);
    tree_fails(*state, ERR_INTERNAL, "ending the tar stream: what libarchive says");
    assert_int_equal(world.archives, 0);
}

/* ---- holes ---- */

static void a_cancel_ends_a_long_hole(void **state)
{
    struct tree *t = *state;
    struct stat st = {.st_mode = S_IFREG | 0644, .st_size = (off_t)1 << 40};
    struct error err = {0};

    t->fd = open(t->tar, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct tar *tar = tar_new(&t->run, &err);
    assert_non_null(tar);
    tar_begin(tar, "file", &st);
    assert_int_equal(tar_header(tar, &err), 0);
    cancel_request(&t->cancel, ERR_CANCELLED, "enough");
    assert_int_equal(tar_hole(tar, (uint64_t)1 << 40, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    tar_free(tar);
    tar_free(NULL);
    assert_int_equal(world.archives, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_stream_that_cannot_be_begun_fails_the_backup_before_a_byte),
        CASE(a_failure_without_a_word_is_told_as_one),
        CASE(no_memory_to_begin_with_is_told),
        CASE(a_name_that_is_no_text_fails_the_backup_if_it_cannot_be_written),
        CASE(a_header_that_cannot_be_written_fails_the_backup),
        CASE(an_end_of_an_entry_that_cannot_be_written_fails_the_backup),
        CASE(data_that_cannot_be_written_fail_the_backup),
        CASE(an_archive_without_its_end_is_a_failure),
        CASE(a_cancel_ends_a_long_hole),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
