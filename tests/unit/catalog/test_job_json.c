/* SPDX-License-Identifier: MIT */
/*
 * test_job_json.c - a job as one JSON object: keys, nulls, escapes.
 */
#include "fixture.h"

static char *json_of(struct fixture *f, const struct job *job)
{
    struct buf out = BUF_INIT;

    OK(catalog_job_json(f->c, job->row, &out, &f->err));
    return buf_steal(&out);
}

static void json_of_a_success_has_all_keys_in_order(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    __attribute__((cleanup(free_charp))) char *expected = xasprintf(
        "{\"id\":\"%s\",\"kind\":\"backup\",\"store\":\"app\",\"repo\":\"nightly\","
        "\"state\":\"succeeded\",\"requested_by\":\"uid:1000\",\"label\":null,\"key\":null,"
        "\"created_at\":\"2026-11-21T06:30:28.123Z\",\"started_at\":\"2026-11-21T06:30:28.124Z\","
        "\"finished_at\":\"2026-11-21T06:30:28.125Z\",\"progress\":100,"
        "\"stats\":{\"content_bytes\":7},\"error\":null,\"error_code\":null,\"hint\":null,"
        "\"record\":\"%s\",\"attempt\":1,\"error_errno\":null,\"duration_ms\":1}\n",
        job.ulid, job.record);

    assert_string_equal(json, expected);
}

static void json_of_a_failure_has_error_code_and_hint(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_FAILED);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    __attribute__((cleanup(free_charp))) char *expected = xasprintf(
        "\"error\":\"the reason of source_unavailable\",\"error_code\":\"source_unavailable\","
        "\"hint\":\"%s\",\"record\":null,\"attempt\":1,\"error_errno\":\"EIO\",\"duration_ms\":1}"
        "\n",
        error_code_hint(ERR_SOURCE_UNAVAILABLE));

    assert_non_null(strstr(json, expected));
}

static void json_of_a_pending_job_has_nulls(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_PENDING);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);

    assert_non_null(strstr(json, "\"started_at\":null,\"finished_at\":null,\"progress\":0,"
                                 "\"stats\":{},\"error\":null,"));
    assert_non_null(strstr(json, "\"error_errno\":null,\"duration_ms\":null}\n"));
}

static void duration_is_not_below_zero_when_the_clock_was_set_back(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct error e = why(ERR_INTERNAL, 0);

    OK(catalog_job_fail(f->c, job.ulid, JOB_FAILED, &e, &(struct stats){0}, NOW - 5000, &f->err));
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    assert_non_null(strstr(json, "\"error_errno\":null,\"duration_ms\":0}\n"));
}

static void json_of_a_running_job_has_its_progress(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct job_progress p = {.percent = 33, .done = 300, .expected = 900};

    OK(catalog_job_progress(f->c, job.ulid, &p, &f->err));
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    assert_non_null(
        strstr(json, "\"progress\":33,\"stats\":{\"content_bytes\":300,\"expected_bytes\":900},"));
}

static void json_escapes_and_is_utf8_whatever_the_label(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("app", "nightly");

    /* A quote, a newline, good UTF-8 of each length, then what is none: a lone byte, overlong, a
     * surrogate, above U+10FFFF, and a sequence cut at the end. */
    snprintf(job.label, sizeof job.label, "%s",
             "\"\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80|\xff|\xc0\x80|\xed\xa0\x80|"
             "\xf4\x90\x80\x80|\xe2\x82");
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
#define BAD "\xef\xbf\xbd"
    assert_non_null(strstr(json, "\"label\":\"\\\"\\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80|" BAD
                                 "|" BAD BAD "|" BAD BAD BAD "|" BAD BAD BAD BAD "|" BAD BAD "\""));
}

static void large_figures_keep_their_digits_in_json(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct error e = why(ERR_INTERNAL, 0);
    struct stats stats = {.count = 0};

    stats_add(&stats, "huge", UINT64_MAX);
    OK(catalog_job_fail(f->c, job.ulid, JOB_FAILED, &e, &stats, NOW, &f->err));
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    assert_non_null(strstr(json, "\"stats\":{\"huge\":18446744073709551615}"));
}

static void figures_that_are_no_figures_are_left_out(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_FAILED);

    sql(f, "UPDATE jobs SET stats = '{\"a b\":1,\"good\":2,\"\\\"\":3}'");
    job = get_job(f, job.ulid);
    assert_int_equal(job.stats.count, 1);
    assert_int_equal(stats_get(&job.stats, "good"), 2);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &job);
    assert_non_null(strstr(json, "\"stats\":{\"good\":2}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_of_a_success_has_all_keys_in_order),
        TEST(json_of_a_failure_has_error_code_and_hint),
        TEST(json_of_a_pending_job_has_nulls),
        TEST(json_of_a_running_job_has_its_progress),
        TEST(duration_is_not_below_zero_when_the_clock_was_set_back),
        TEST(json_escapes_and_is_utf8_whatever_the_label),
        TEST(large_figures_keep_their_digits_in_json),
        TEST(figures_that_are_no_figures_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
