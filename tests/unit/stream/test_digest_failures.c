/* SPDX-License-Identifier: MIT */
/*
 * test_digest_failures.c - OpenSSL fails while bytes are hashed: that is said to be internal and
 * never damage, nothing is handed on that was not hashed, and no stream is finished.
 *
 * The calls are defined here; their real selves do the work, except for the one that is to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/digest.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ABC_SHA "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static const char *failing; /* the call that fails; NULL = none */
static int contexts;        /* made and not freed */

static bool must_fail(const char *name)
{
    return failing && strcmp(name, failing) == 0;
}

EVP_MD_CTX *EVP_MD_CTX_new(void)
{
    EVP_MD_CTX *(*real)(void);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_MD_CTX_new");
    if (must_fail("EVP_MD_CTX_new"))
        return NULL;
    contexts++;
    return real();
}

void EVP_MD_CTX_free(EVP_MD_CTX *ctx)
{
    void (*real)(EVP_MD_CTX *);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_MD_CTX_free");
    contexts -= ctx != NULL;
    real(ctx);
}

int EVP_DigestInit_ex(EVP_MD_CTX *ctx, const EVP_MD *type, ENGINE *engine)
{
    int (*real)(EVP_MD_CTX *, const EVP_MD *, ENGINE *);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_DigestInit_ex");
    return must_fail("EVP_DigestInit_ex") ? 0 : real(ctx, type, engine);
}

int EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *data, size_t len)
{
    int (*real)(EVP_MD_CTX *, const void *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_DigestUpdate");
    return must_fail("EVP_DigestUpdate") ? 0 : real(ctx, data, len);
}

int EVP_DigestFinal_ex(EVP_MD_CTX *ctx, unsigned char *out, unsigned *len)
{
    int (*real)(EVP_MD_CTX *, unsigned char *, unsigned *);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_DigestFinal_ex");
    return must_fail("EVP_DigestFinal_ex") ? 0 : real(ctx, out, len);
}

static int setup(void **state)
{
    (void)state;
    failing = NULL;
    contexts = 0;
    return 0;
}

/* ---- ends of chains ---- */

static struct {
    struct writer writer;
    int writes, finishes, frees;
} sink;

static int sink_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    (void)w, (void)data, (void)len, (void)err;
    sink.writes++;
    return 0;
}

static int sink_finish(struct writer *w, struct error *err)
{
    (void)w, (void)err;
    sink.finishes++;
    return 0;
}

static void sink_free(struct writer *w)
{
    (void)w;
    sink.frees++;
}

static ssize_t abc_pread(struct view *v, void *buf, size_t len, uint64_t offset, struct error *err)
{
    size_t n = offset < v->size ? (size_t)(v->size - offset) : 0;

    (void)err;
    n = n < len ? n : len;
    memcpy(buf, &"abc"[n ? offset : 0], n);
    return (ssize_t)n;
}

static void abc_free(struct view *v)
{
    (void)v;
}

static void assert_openssl_failed(int result, const struct error *err)
{
    assert_int_equal(result, -1);
    assert_string_equal(error_code_name(err->code), error_code_name(ERR_INTERNAL));
    assert_string_equal(err->message, "OpenSSL cannot compute SHA-256");
}

/* ---- writing ---- */

static struct writer *writer_with(struct digest *out)
{
    static const struct writer_ops ops = {sink_write, sink_finish, sink_free};

    memset(&sink, 0, sizeof sink);
    sink.writer.ops = &ops;
    return digest_writer_new(&sink.writer, out);
}

static void what_cannot_be_hashed_is_not_handed_on(void **state)
{
    static const char *const calls[] = {"EVP_MD_CTX_new", "EVP_DigestInit_ex", "EVP_DigestUpdate"};

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct digest out = {0};
        struct error err = {0};
        failing = calls[i];
        struct writer *w = writer_with(&out);
        assert_openssl_failed(writer_write(w, "abc", 3, &err), &err);
        assert_int_equal(sink.writes, 0);
        writer_free(w);
        assert_int_equal(sink.frees, 1);
        assert_int_equal(contexts, 0);
    }
}

static void an_empty_stream_without_a_digest_is_not_finished(void **state)
{
    static const char *const calls[] = {"EVP_MD_CTX_new", "EVP_DigestInit_ex",
                                        "EVP_DigestFinal_ex"};

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct digest out = {.size = 7};
        struct error err = {0};
        failing = calls[i];
        struct writer *w = writer_with(&out);
        assert_openssl_failed(writer_finish(w, &err), &err);
        assert_int_equal(sink.finishes, 0);
        assert_int_equal(out.size, 7);
        writer_free(w);
        assert_int_equal(contexts, 0);
    }
}

/* ---- reading ---- */

static struct view *view_of_abc(struct view *abc)
{
    static const struct view_ops ops = {.pread = abc_pread, .free = abc_free};
    struct digest expected = {.size = 3};

    snprintf(expected.sha256, sizeof expected.sha256, "%s", ABC_SHA);
    *abc = (struct view){.ops = &ops, .size = 3};
    return digest_view_new(abc, &expected);
}

static void bytes_that_cannot_be_hashed_are_not_given(void **state)
{
    static const char *const calls[] = {"EVP_MD_CTX_new", "EVP_DigestInit_ex", "EVP_DigestUpdate"};
    char bytes[3];

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct error err = {0};
        struct view abc;
        failing = calls[i];
        struct view *v = view_of_abc(&abc);
        assert_openssl_failed((int)view_pread(v, bytes, 3, 0, &err), &err);
        assert_openssl_failed(digest_view_judge(v, &err), &err);
        view_free(v);
        assert_int_equal(contexts, 0);
    }
}

static void without_a_digest_there_is_no_verdict(void **state)
{
    struct error err = {0};
    struct view abc;

    (void)state;
    struct view *v = view_of_abc(&abc);
    assert_int_equal(digest_view_judge(v, &err), 0);
    view_free(v);
    failing = "EVP_DigestFinal_ex";
    v = view_of_abc(&abc);
    assert_openssl_failed(digest_view_judge(v, &err), &err);
    view_free(v);
    assert_int_equal(contexts, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_cannot_be_hashed_is_not_handed_on),
        TEST(an_empty_stream_without_a_digest_is_not_finished),
        TEST(bytes_that_cannot_be_hashed_are_not_given),
        TEST(without_a_digest_there_is_no_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
