/* SPDX-License-Identifier: MIT */
/*
 * standing.c: how repos stand. The sums of the triggers are compared with what a count gives, after
 * each way in which records and jobs change.
 */
#include "fixture.h"

#define DAY ((time_ms)86400 * 1000)

static struct repo_standing standing(struct fixture *f, time_ms now)
{
    struct repo_standing s;

    OK(catalog_repo_standing(f->c, "app", "nightly", now, &s, &f->err));
    return s;
}

/* Of all repos: what the triggers say is what is there. */
static void assert_sums_are_right(struct fixture *f)
{
    assert_int_equal(
        sql_int(f, "SELECT count(*) FROM (SELECT store, repo, count(*) AS n, sum(suspect = 1) AS s,"
                   " total(size_bytes) AS b, total(content_bytes) AS c FROM records"
                   " WHERE state = 'good' GROUP BY store, repo) r"
                   " FULL JOIN (SELECT * FROM holdings WHERE records <> 0) h USING (store, repo)"
                   " WHERE n IS NOT records OR s IS NOT h.suspect OR b IS NOT h.size_bytes"
                   " OR c IS NOT h.content_bytes"),
        0);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM holdings WHERE records < 0 OR suspect < 0"
                                " OR (records = 0 AND (size_bytes <> 0 OR content_bytes <> 0))"),
                     0);
}

static void a_repo_without_anything_stands_at_nothing(void **state)
{
    struct fixture *f = *state;
    struct repo_standing s = standing(f, NOW);

    assert_string_equal(s.newest, "");
    assert_int_equal(s.records + s.suspect + s.outcome_count, 0);
    assert_string_equal(s.job, "");
}

static void records_are_summed_up_whatever_happens_to_them(void **state)
{
    struct fixture *f = *state;
    char none[1][ULID_LEN + 1];
    size_t missing;
    struct record a = stored_record(f, "nightly"), b = stored_record(f, "nightly"), c;
    bool adopted;

    c = stored_record(f, "weekly");
    job_in(f, JOB_SUCCEEDED);
    assert_sums_are_right(f);
    assert_int_equal(standing(f, NOW).records, 3);
    assert_true(standing(f, NOW).size_bytes == 3 * 12345678901.0);
    assert_true(standing(f, NOW).content_bytes == 3 * 12345678900.0);
    OK(catalog_record_mark_suspect(f->c, a.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, c.ulid, true, &f->err));
    OK(catalog_record_pin(f->c, b.ulid, true, &f->err));
    assert_sums_are_right(f);
    assert_int_equal(standing(f, NOW).suspect, 1);
    OK(catalog_record_mark_suspect(f->c, c.ulid, false, &f->err));
    OK(catalog_record_delete_begin(f->c, a.ulid, &f->err));
    assert_sums_are_right(f);
    assert_int_equal(standing(f, NOW).suspect, 0);
    OK(catalog_record_delete_end(f->c, a.ulid, &f->err));
    assert_sums_are_right(f);
    OK(catalog_records_missing(f->c, "app", "nightly", none, 0, &missing, &f->err));
    assert_int_equal(missing, 2);
    assert_sums_are_right(f);
    assert_int_equal(standing(f, NOW).records, 0);
    /* It comes back with another size, and even in another repo. */
    b.size_bytes = 5;
    snprintf(b.repo, sizeof b.repo, "weekly");
    OK(catalog_record_adopt(f->c, &b, &adopted, &f->err));
    assert_true(adopted);
    assert_sums_are_right(f);
    sql(f, "DELETE FROM records");
    assert_sums_are_right(f);
}

/* What two manifests claim may be more than an integer holds, and is no reason to refuse one. */
static void sums_do_not_overflow(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        struct record r = new_record("app", "nightly");
        bool adopted;
        r.content_bytes = INT64_MAX;
        OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    }
    assert_true(standing(f, NOW).content_bytes > 2.7e19);
    assert_int_equal(standing(f, NOW).records, 3);
}

static void add_record_at(struct fixture *f, time_ms at, char ulid[ULID_LEN + 1])
{
    struct record r = new_record("app", "nightly");
    bool adopted;

    r.created_at = at;
    r.size_bytes = (uint64_t)(at - NOW + 100 * DAY);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    memcpy(ulid, r.ulid, ULID_LEN + 1);
}

static void the_newest_is_not_one_of_the_future(void **state)
{
    struct fixture *f = *state;
    char old[ULID_LEN + 1], newer[ULID_LEN + 1], ahead[ULID_LEN + 1];

    add_record_at(f, NOW + DAY, ahead);
    assert_string_equal(standing(f, NOW).newest, ahead);
    add_record_at(f, NOW - DAY, newer);
    add_record_at(f, NOW - 2 * DAY, old);
    struct repo_standing s = standing(f, NOW);
    assert_string_equal(s.newest, newer);
    assert_int_equal(s.newest_at, NOW - DAY);
    assert_int_equal(s.newest_size_bytes, 99 * DAY);
    assert_int_equal(s.latest_at, NOW + DAY);
    assert_string_equal(standing(f, NOW + DAY).newest, ahead);
    assert_string_equal(standing(f, NOW + DAY - 60 * 1000).newest, ahead);
    assert_string_equal(standing(f, NOW + DAY - 60 * 1000 - 1).newest, newer);
    assert_string_equal(standing(f, NOW - DAY - 60 * 1000 - 1).newest, old);
}

static const struct outcome_sum *outcome(const struct repo_standing *s, enum job_state state)
{
    for (size_t i = 0; i < s->outcome_count; i++)
        if (s->outcomes[i].state == state)
            return &s->outcomes[i];
    return NULL;
}

static void outcomes_count_every_way_a_job_ends(void **state)
{
    struct fixture *f = *state;
    size_t count;

    job_in(f, JOB_SUCCEEDED);
    job_in(f, JOB_SUCCEEDED);
    job_in(f, JOB_FAILED);
    job_in(f, JOB_RUNNING);
    job_in(f, JOB_PENDING);
    struct repo_standing s = standing(f, NOW);
    assert_int_equal(s.outcome_count, 2);
    assert_int_equal(outcome(&s, JOB_SUCCEEDED)->jobs, 2);
    assert_int_equal(outcome(&s, JOB_SUCCEEDED)->run_ms, 2);
    assert_int_equal(outcome(&s, JOB_FAILED)->jobs, 1);
    assert_int_equal(s.job_state, JOB_FAILED);
    assert_int_equal(s.job_error, ERR_SOURCE_UNAVAILABLE);
    OK(catalog_jobs_interrupt(f->c, NOW + 11, &count, &f->err));
    s = standing(f, NOW);
    assert_int_equal(outcome(&s, JOB_INTERRUPTED)->jobs, 2);
    /* The one that ran did so for 10 ms, and the pending one not at all. */
    assert_int_equal(outcome(&s, JOB_INTERRUPTED)->run_ms, 10);
    assert_int_equal(s.job_state, JOB_INTERRUPTED);
    assert_int_equal(s.job_error, ERR_INTERRUPTED);
    struct job last = job_in(f, JOB_SUCCEEDED);
    s = standing(f, NOW);
    assert_string_equal(s.job, last.ulid);
    assert_int_equal(s.job_error, ERR_NONE);
    assert_int_equal(s.job_finished_at, NOW + 2);
    assert_int_equal(s.job_run_ms, 1);
}

static void ignore(void *ctx, const char *ulid)
{
    (void)ctx;
    (void)ulid;
}

static void pruning_takes_nothing_from_outcomes(void **state)
{
    struct fixture *f = *state;
    size_t count;

    for (int i = 0; i < 5; i++)
        job_in(f, i % 2 ? JOB_FAILED : JOB_SUCCEEDED);
    OK(catalog_jobs_prune(f->c, NOW + DAY, 100, ignore, NULL, &count, &f->err));
    assert_int_equal(count, 4);
    reopen(f);
    struct repo_standing s = standing(f, NOW);
    assert_int_equal(outcome(&s, JOB_SUCCEEDED)->jobs, 3);
    assert_int_equal(outcome(&s, JOB_FAILED)->jobs, 2);
}

static void the_last_result_is_that_of_a_backup(void **state)
{
    struct fixture *f = *state;
    struct job failed = job_in(f, JOB_FAILED), verify = new_job("app", "nightly");
    struct error e = why(ERR_CANCELLED, 0);

    snprintf(verify.kind, sizeof verify.kind, "verify");
    OK(catalog_jobs_create(f->c, &verify, 1, &f->err));
    OK(catalog_job_fail(f->c, verify.ulid, JOB_INTERRUPTED, &e, NULL, NOW + 9, &f->err));
    struct repo_standing s = standing(f, NOW);
    assert_string_equal(s.job, failed.ulid);
    assert_int_equal(s.outcome_count, 2);
}

static void the_newest_suspect_is_found(void **state)
{
    struct fixture *f = *state;
    char old[ULID_LEN + 1], newer[ULID_LEN + 1], ulid[ULID_LEN + 1];

    FAILS(catalog_record_suspect(f->c, "app", "nightly", ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    add_record_at(f, NOW - DAY, newer);
    add_record_at(f, NOW - 2 * DAY, old);
    OK(catalog_record_mark_suspect(f->c, newer, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, old, true, &f->err));
    OK(catalog_record_suspect(f->c, "app", "nightly", ulid, &f->err));
    assert_string_equal(ulid, newer);
}

/* ---- expectations ---- */

static time_ms expect(struct fixture *f, bool expected, time_ms now)
{
    struct expectation items[] = {{.store = "app", .repo = "other"},
                                  {.store = "app", .repo = "nightly", .expected = expected}};

    OK(catalog_expect(f->c, items, 2, now, &f->err));
    assert_int_equal(items[0].since, 0);
    return items[1].since;
}

static void what_is_expected_is_so_since_the_first_time_over_restarts(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(expect(f, true, NOW), NOW);
    reopen(f);
    assert_int_equal(expect(f, true, NOW + DAY), NOW);
    /* A little before is a clock that is being set; long before was a wrong one. */
    assert_int_equal(expect(f, true, NOW - 1000), NOW);
    assert_int_equal(expect(f, true, NOW - DAY), NOW - DAY);
    assert_int_equal(expect(f, true, NOW), NOW - DAY);
    assert_int_equal(expect(f, false, NOW), 0);
    assert_int_equal(expect(f, true, NOW + DAY), NOW + DAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repo_without_anything_stands_at_nothing),
        TEST(records_are_summed_up_whatever_happens_to_them),
        TEST(sums_do_not_overflow),
        TEST(the_newest_is_not_one_of_the_future),
        TEST(outcomes_count_every_way_a_job_ends),
        TEST(pruning_takes_nothing_from_outcomes),
        TEST(the_last_result_is_that_of_a_backup),
        TEST(the_newest_suspect_is_found),
        TEST(what_is_expected_is_so_since_the_first_time_over_restarts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
