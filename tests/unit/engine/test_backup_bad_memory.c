/* SPDX-License-Identifier: MIT */
/*
 * test_backup_bad_memory.c - what is stored is what was written, and that is not what the source
 * gave: only reading back with verify_after_write can know.
 *
 * This program has a relay_new of its own in the place of the stream room's, which alters a bit on
 * the way from the source to the archive, as a machine with bad memory does.
 */
#include "fakes.h"

#include "stream/relay.h"

static uint64_t altered_at; /* the byte; UINT64_MAX for none */

struct altering {
    struct writer writer;
    struct writer *next;
    uint64_t passed;
};

static int altering_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct altering *a = (struct altering *)w;
    __attribute__((cleanup(free_charp))) char *copy = xmalloc(len);

    memcpy(copy, data, len);
    if (altered_at >= a->passed && altered_at - a->passed < len)
        copy[altered_at - a->passed] ^= 4;
    a->passed += len;
    return writer_write(a->next, copy, len, err);
}

static int altering_finish(struct writer *w, struct error *err)
{
    return writer_finish(((struct altering *)w)->next, err);
}

static void altering_free(struct writer *w)
{
    writer_free(((struct altering *)w)->next);
    free(w);
}

struct writer *relay_new(struct writer *next)
{
    static const struct writer_ops ops = {altering_write, altering_finish, altering_free};
    struct altering *a = xcalloc(1, sizeof *a);

    a->writer.ops = &ops;
    a->next = next;
    return &a->writer;
}

static void a_bit_that_changed_before_it_was_hashed_is_found_by_reading_back(void **state)
{
    static const uint64_t places[] = {0, 500, 999};

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        again();
        repo_says("verify_after_write", "yes");
        altered_at = places[i];
        expect_end(run(a_few_bytes), JOB_FAILED, ERR_INTEGRITY_FAILED);
        assert_string_equal(fx.why.message, "reading the archive back: it decodes to other bytes "
                                            "than were written");
        assert_null(strstr(buf_text(&fx.log), "read back: "));
    }
    again();
    repo_says("verify_after_write", "yes");
    altered_at = UINT64_MAX;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bit_that_changed_before_it_was_hashed_is_found_by_reading_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
