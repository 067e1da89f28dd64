/* SPDX-License-Identifier: MIT */
/*
 * test_seekable_no_memory.c - zstd refuses: a writer is not made without all of its workers, a
 * frame that cannot be compressed is not written, and one that cannot be decoded is not said to be
 * damaged.
 *
 * The calls are defined here; their real selves do the work, except for the one that is to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "built_stream.h"
#include "keepfs/limits.h"
#include "seekable_sink.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <zstd.h>
#include <zstd_errors.h>

#define NO_MEMORY ((size_t)-ZSTD_error_memory_allocation)

static struct {
    const char *call; /* that fails; NULL = none */
    int nth;          /* this one of them, from 1 */
    int seen;
    bool no_affinity;
    atomic_int contexts; /* made and not freed */
    int most_contexts;
    size_t short_by; /* bytes that a decoded frame lacks */
} world;

static bool must_fail(const char *call)
{
    return world.call && strcmp(call, world.call) == 0 && ++world.seen == world.nth;
}

ZSTD_CCtx *ZSTD_createCCtx(void)
{
    ZSTD_CCtx *(*real)(void);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_createCCtx");
    int made = atomic_fetch_add(&world.contexts, 1) + 1;
    if (made > world.most_contexts)
        world.most_contexts = made;
    return real();
}

size_t ZSTD_freeCCtx(ZSTD_CCtx *zstd)
{
    size_t (*real)(ZSTD_CCtx *);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_freeCCtx");
    atomic_fetch_sub(&world.contexts, zstd ? 1 : 0);
    return real(zstd);
}

size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *zstd, ZSTD_cParameter parameter, int value)
{
    size_t (*real)(ZSTD_CCtx *, ZSTD_cParameter, int);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_CCtx_setParameter");
    return must_fail("ZSTD_CCtx_setParameter") ? NO_MEMORY : real(zstd, parameter, value);
}

size_t ZSTD_compress2(ZSTD_CCtx *zstd, void *out, size_t max, const void *in, size_t len)
{
    size_t (*real)(ZSTD_CCtx *, void *, size_t, const void *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_compress2");
    return must_fail("ZSTD_compress2") ? NO_MEMORY : real(zstd, out, max, in, len);
}

ZSTD_DCtx *ZSTD_createDCtx(void)
{
    ZSTD_DCtx *(*real)(void);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_createDCtx");
    return must_fail("ZSTD_createDCtx") ? NULL : real();
}

size_t ZSTD_decompressDCtx(ZSTD_DCtx *zstd, void *out, size_t max, const void *in, size_t len)
{
    size_t (*real)(ZSTD_DCtx *, void *, size_t, const void *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "ZSTD_decompressDCtx");
    return real(zstd, out, max, in, len) - world.short_by;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *cpus)
{
    int (*real)(pid_t, size_t, cpu_set_t *);

    *(void **)&real = dlsym(RTLD_NEXT, "sched_getaffinity");
    if (!world.no_affinity)
        return real(pid, size, cpus);
    errno = EINVAL;
    return -1;
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    return 0;
}

/* ---- writing ---- */

static void a_context_that_cannot_be_set_up_fails_the_writer_and_frees_next(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 2 * 3; nth++) { /* two workers, three parameters each */
        struct writer *w = NULL;
        struct error err = {0};
        struct sink s;
        sink_init(&s);
        world.call = "ZSTD_CCtx_setParameter";
        world.nth = nth;
        world.seen = 0;
        assert_int_equal(seekable_writer_new(&s.writer, 3, 2, &w, &err), -1);
        assert_int_equal(err.code, ERR_INTERNAL);
        assert_null(w);
        assert_true(s.freed);
        assert_int_equal(world.contexts, 0);
        sink_release(&s);
    }
}

/* As on a machine with more CPUs than can be counted. */
static void where_cpus_cannot_be_counted_there_are_as_many_workers_as_allowed(void **state)
{
    struct sink s;

    (void)state;
    sink_init(&s);
    world.no_affinity = true;
    writer_free(seekable_ok(&s, 1, 0));
    assert_int_equal(world.most_contexts, LIMIT_ZSTD_WORKERS);
    world.most_contexts = 0;
    writer_free(seekable_ok(&s, 1, LIMIT_ZSTD_WORKERS + 1));
    assert_int_equal(world.most_contexts, LIMIT_ZSTD_WORKERS);
    assert_int_equal(world.contexts, 0);
    sink_release(&s);
}

static void a_stream_of_one_frame_that_cannot_be_compressed_is_not_finished(void **state)
{
    struct error err = {0};
    struct sink s;

    (void)state;
    sink_init(&s);
    struct writer *w = seekable_ok(&s, 1, 1);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    world.call = "ZSTD_compress2";
    world.nth = 1;
    assert_int_equal(writer_finish(w, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(s.writes, 0);
    assert_false(s.finished);
    writer_free(w);
    assert_true(s.freed);
    sink_release(&s);
}

/* ---- reading ---- */

static void expect_read(int result, enum error_code code, const char *why)
{
    struct frame_cache *c = frame_cache_new(0);
    char *text = text_of(1000), got[1000];
    struct error err = {0};
    struct built stream;
    struct view *v;

    build(&stream, text, 1000, 1000, 3);
    build_table(&stream, 0);
    struct memory m = memory_of(&stream.bytes);
    assert_int_equal(seekable_view_new(&m.view, c, false, &v, &err), 0);
    assert_int_equal(view_pread(v, got, sizeof got, 0, &err), result);
    assert_string_equal(error_code_name(err.code), error_code_name(code));
    if (!strstr(err.message, why))
        fail_msg("\"%s\" is not: %s", err.message, why);
    view_free(v);
    frame_cache_free(c);
    buf_release(&stream.bytes);
    free(text);
}

static void no_memory_to_decode_a_frame_is_no_damage_of_it(void **state)
{
    (void)state;
    expect_read(1000, ERR_NONE, "");
    world.call = "ZSTD_createDCtx";
    world.nth = 1;
    expect_read(-1, ERR_INTERNAL, "zstd has no memory to decode frame 0");
}

static void a_frame_that_gives_less_than_it_says_is_damaged(void **state)
{
    (void)state;
    world.short_by = 1;
    expect_read(-1, ERR_INTEGRITY_FAILED, "damaged frame 0: its content is short");
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_context_that_cannot_be_set_up_fails_the_writer_and_frees_next),
        TEST(where_cpus_cannot_be_counted_there_are_as_many_workers_as_allowed),
        TEST(a_stream_of_one_frame_that_cannot_be_compressed_is_not_finished),
        TEST(no_memory_to_decode_a_frame_is_no_damage_of_it),
        TEST(a_frame_that_gives_less_than_it_says_is_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
