/* SPDX-License-Identifier: MIT */
/*
 * test_gate.c - the first link counts what passed, and lets nothing pass once cancel was asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/gate.h"
#include "util/buf.h"

#include <stdbool.h>
#include <string.h>

struct fixture {
    struct writer sink;
    struct cancel cancel;
    struct buf got;
    struct writer *gate;
    int finishes, frees;
    bool fail_write, fail_finish;
    bool cancel_in_write;
    uint64_t passed;
    int passes;
};

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct fixture *f = (struct fixture *)w;

    if (f->fail_write)
        return error_set(err, ERR_DESTINATION_NO_SPACE, "sink full");
    if (f->cancel_in_write)
        cancel_request(&f->cancel, ERR_CANCELLED, "cancelled by uid:7");
    buf_add(&f->got, data, len);
    return 0;
}

static int sink_finish(struct writer *w, struct error *err)
{
    struct fixture *f = (struct fixture *)w;

    f->finishes++;
    return f->fail_finish ? error_set(err, ERR_DESTINATION_UNREACHABLE, "sink lost") : 0;
}

static void sink_free(struct writer *w)
{
    ((struct fixture *)w)->frees++;
}

static void passed(void *ctx, uint64_t bytes)
{
    struct fixture *f = ctx;

    f->passed += bytes;
    f->passes++;
    assert_int_equal(f->passed, f->got.len); /* only what the next link has taken */
}

static int setup(void **state)
{
    static const struct writer_ops ops = {sink_write, sink_finish, sink_free};
    static struct fixture f;

    f = (struct fixture){.sink.ops = &ops};
    cancel_init(&f.cancel);
    f.gate = gate_new(&f.sink, &f.cancel, passed, &f);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    writer_free(f->gate);
    cancel_release(&f->cancel);
    buf_release(&f->got);
    return f->frees == 1 ? 0 : -1;
}

static void bytes_pass_and_are_counted(void **state)
{
    struct fixture *f = *state;
    struct error err;

    assert_int_equal(writer_write(f->gate, "one", 3, &err), 0);
    assert_int_equal(writer_write(f->gate, "", 0, &err), 0);
    assert_int_equal(writer_write(f->gate, " two", 4, &err), 0);
    assert_int_equal(f->finishes, 0);
    assert_int_equal(writer_finish(f->gate, &err), 0);
    assert_string_equal(buf_text(&f->got), "one two");
    assert_int_equal(f->passed, 7);
    assert_int_equal(f->finishes, 1);
}

static void nothing_passes_after_a_request(void **state)
{
    struct fixture *f = *state;
    struct error err;

    assert_int_equal(writer_write(f->gate, "one", 3, &err), 0);
    cancel_request(&f->cancel, ERR_INTERRUPTED, "keepfs was stopped");
    assert_int_equal(writer_write(f->gate, "two", 3, &err), -1);
    assert_int_equal(err.code, ERR_INTERRUPTED);
    assert_string_equal(err.message, "keepfs was stopped");
    assert_string_equal(buf_text(&f->got), "one");
    assert_int_equal(f->passes, 1);
}

static void a_request_after_the_last_write_prevents_the_finish(void **state)
{
    struct fixture *f = *state;
    struct error err;

    f->cancel_in_write = true;
    assert_int_equal(writer_write(f->gate, "one", 3, &err), 0);
    assert_int_equal(writer_finish(f->gate, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_string_equal(err.message, "cancelled by uid:7");
    assert_int_equal(f->finishes, 0);
}

static void errors_of_the_next_link_come_back_as_they_are(void **state)
{
    struct fixture *f = *state;
    struct error err;

    f->fail_write = true;
    assert_int_equal(writer_write(f->gate, "one", 3, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
    assert_string_equal(err.message, "sink full");
    assert_int_equal(f->passes, 0);
}

static void a_failed_finish_comes_back_as_it_is(void **state)
{
    struct fixture *f = *state;
    struct error err;

    f->fail_finish = true;
    assert_int_equal(writer_finish(f->gate, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_UNREACHABLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_pass_and_are_counted),
        TEST(nothing_passes_after_a_request),
        TEST(a_request_after_the_last_write_prevents_the_finish),
        TEST(errors_of_the_next_link_come_back_as_they_are),
        TEST(a_failed_finish_comes_back_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
