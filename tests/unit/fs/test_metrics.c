/* SPDX-License-Identifier: MIT */
/* metrics.c: the text of given facts. That others can read it is shown on a mount, health.bats. */
#include "overview_fixture.h"

#include "fs/metrics.h"

#include <stdlib.h>

static char *render(const struct overview *o)
{
    struct buf out = BUF_INIT;

    metrics_render(o, "1.2", &out);
    return buf_steal(&out);
}

/* A whole line of it. */
static void assert_line(const char *text, const char *line)
{
    __attribute__((cleanup(free_charp))) char *whole = xasprintf("\n%s\n", line);

    if (!strstr(text, whole))
        fail_msg("'%s' is no line of:\n%s", line, text);
}

static void facts_are_samples(void **state)
{
    (void)state;
    struct facts f;

    facts_init(&f);
    facts_backup(&f, 0, 3 * HOUR, JOB_SUCCEEDED);
    facts_backup(&f, 1, 3 * DAY, JOB_FAILED);
    facts_overdue(&f, 1, 36 * HOUR);
    f.rows[0].health.next_run = NOON + 21 * HOUR;
    f.rows[0].health.figure.measured_at = NOON - HOUR;
    f.rows[0].health.figure.free_bytes = UINT64_MAX;
    f.rows[0].health.figure.total_bytes = 1;
    f.rows[0].health.standing.outcomes[0] = (struct outcome_sum){"backup", JOB_FAILED, 3, 61005};
    f.rows[0].health.standing.outcome_count = 1;
    facts_running(&f, "web", 1, 1, 1);
    f.o.pending = 4;
    __attribute__((cleanup(free_charp))) char *text = render(&f.o);
    static const char *const lines[] = {
        "keepfs_build_info{version=\"1.2\"} 1",
        "process_start_time_seconds 1795003200.000",
        "keepfs_jobs_running 1",
        "keepfs_jobs_pending 4",
        "keepfs_overdue{store=\"app\",repo=\"main\"} 0",
        "keepfs_overdue{store=\"app\",repo=\"nas\"} 1",
        "keepfs_expected_interval_seconds{store=\"app\",repo=\"nas\"} 129600.000",
        "keepfs_last_success_timestamp_seconds{store=\"app\",repo=\"main\"} 1795251600.000",
        "keepfs_last_record_size_bytes{store=\"app\",repo=\"main\"} 40108321",
        "keepfs_last_record_content_bytes{store=\"app\",repo=\"main\"} 104857600",
        "keepfs_records{store=\"web\",repo=\"main\"} 0",
        "keepfs_stored_bytes{store=\"app\",repo=\"nas\"} 280758247",
        "keepfs_content_bytes{store=\"app\",repo=\"nas\"} 734003200",
        "keepfs_next_run_timestamp_seconds{store=\"app\",repo=\"main\"} 1795338000.000",
        "keepfs_last_job_failed{store=\"app\",repo=\"main\"} 0",
        "keepfs_last_job_failed{store=\"app\",repo=\"nas\"} 1",
        "keepfs_last_job_duration_seconds{store=\"app\",repo=\"nas\"} 1.500",
        "keepfs_repo_free_bytes{store=\"app\",repo=\"main\"} 18446744073709551615",
        "keepfs_repo_measured_timestamp_seconds{store=\"app\",repo=\"main\"} 1795258800.000",
        "# TYPE keepfs_job_duration_seconds summary",
        "keepfs_job_duration_seconds_count{store=\"app\",repo=\"main\",kind=\"backup\","
        "outcome=\"failed\"} 3",
        "keepfs_job_duration_seconds_sum{store=\"app\",repo=\"main\",kind=\"backup\","
        "outcome=\"failed\"} 61.005",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_line(text, lines[i]);
    /* What is not known is not there. */
    assert_null(strstr(text, "keepfs_last_success_timestamp_seconds{store=\"web\""));
    assert_null(strstr(text, "keepfs_repo_free_bytes{store=\"web\""));
    assert_null(strstr(text, "keepfs_last_job_failed{store=\"web\""));
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    assert_int_equal(strncmp(text, "# HELP ", 7), 0);
}

static void values_of_labels_are_escaped(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;

    metrics_add_label_value(&out, "a\"b\\c\nd");
    assert_string_equal(buf_text(&out), "\"a\\\"b\\\\c\\nd\"");
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_samples),
        cmocka_unit_test(values_of_labels_are_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
