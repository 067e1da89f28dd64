/* SPDX-License-Identifier: MIT */
/*
 * test_keeper.c - what is marked goes from real repos: archive first, then row; and old jobs go.
 */
#include "records.h"

/* ---- the keeper ---- */

static void a_start_prunes_without_any_success(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 5, r);
    keep(f, "a", "keep_count", "2");
    start_whole(f);
    wait_changes("deleted", 3);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(has_row(f, r[i]), i >= 3);
        assert_int_equal(archive_there(f, "a", r[i]), i >= 3);
    }
}

/* Where the archive stood when the catalog was told. */
static struct fixture *watching;
static size_t early, late;

static void note_archives(void *ctx, const struct catalog_event *e)
{
    if (strcmp(e->to, "deleting") == 0)
        early += !archive_there(watching, e->store, e->ulid);
    if (strcmp(e->to, "deleted") == 0)
        late += archive_there(watching, e->store, e->ulid);
    stage_note(ctx, e);
}

static void the_archive_goes_between_mark_and_row(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 4, r);
    keep(f, "a", "keep_count", "1");
    fixture_close(f);
    stage.count = early = late = 0;
    watching = f;
    stage_open(f);
    catalog_on_event(f->catalog, note_archives, NULL);
    stage_start(f);
    wait_changes("deleted", 3);
    assert_int_equal(changes_to("deleting"), 3);
    assert_int_equal(early, 0);
    assert_int_equal(late, 0);
}

static void an_older_one_goes_after_the_newer_one_stands(void **state)
{
    struct fixture *f = *state;

    keep(f, "a", "keep_count", "1");
    start_whole(f);
    for (int i = 1; i <= 4; i++) {
        set_clock(f, BEGIN + i * HOUR);
        back_up(f, "a/one");
        wait_changes("deleted", (size_t)i - 1);
    }
    size_t created = 0, deleting = 0;
    for (size_t i = 0; i < stage.count; i++) {
        created += strcmp(stage.changes[i].to, "created") == 0;
        deleting += strcmp(stage.changes[i].to, "deleting") == 0;
        assert_in_range(created - deleting, 0, 2);
        assert_true(deleting == 0 || created - deleting >= 1);
    }
    assert_int_equal(created, 4);
    assert_int_equal(deleting, 3);
}

static void a_repo_that_is_not_there_keeps_its_rows_until_it_is(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1], other[RECORDS_MAX][ULID_LEN + 1];
    SCOPED_PATH(place, f, "a-one");
    SCOPED_PATH(away, f, "away");

    open_quietly(f);
    make_records(f, "a/one", 3, r);
    make_records(f, "b/one", 3, other);
    keep(f, "a", "keep_count", "1");
    keep(f, "b", "keep_count", "1");
    assert_int_equal(rename(place, away), 0);
    start_whole(f);
    wait_changes("deleting", 4);
    wait_changes("deleted", 2);
    assert_true(service_stop(f->service, STOP_MS));
    assert_false(has_row(f, other[0]) || has_row(f, other[1]));
    assert_int_equal(state_of(f, r[0]), RECORD_DELETING);
    assert_int_equal(state_of(f, r[1]), RECORD_DELETING);
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
    assert_int_equal(rename(away, place), 0);
    start_whole(f);
    wait_changes("deleted", 2);
    assert_false(archive_there(f, "a", r[0]) || archive_there(f, "a", r[1]));
    assert_true(archive_there(f, "a", r[2]));
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
}

/* Its row is the first of those that are deleting: the others must go all the same, and nobody may
 * go on holding the configuration that it was looked for in. */
static void a_repo_that_is_not_configured_holds_up_and_holds_nothing(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;
    bool adopted;

    open_quietly(f);
    make_records(f, "b/one", 1, r);
    struct record stray;
    assert_int_equal(catalog_record_get(f->catalog, r[0], &stray, &err), 0);
    ulid_new(BEGIN, stray.ulid);
    snprintf(stray.store, sizeof stray.store, "gone");
    assert_int_equal(catalog_record_adopt(f->catalog, &stray, &adopted, &err), 0);
    assert_int_equal(catalog_record_delete_begin(f->catalog, stray.ulid, &err), 0);
    make_records(f, "b/one", 1, r);
    keep(f, "b", "keep_count", "1");
    start_whole(f);
    wait_changes("deleted", 1);
    assert_int_equal(state_of(f, stray.ulid), RECORD_DELETING);
    fixture_close(f);
    assert_int_equal(atomic_load(&f->config->others), 0);
}

static void make_stubborn(struct fixture *f, const char *ulid)
{
    SCOPED_PATH(path, f, "a-one/%s/not-ours", ulid);

    assert_int_equal(mkdir(path, 0700), 0);
}

/* An empty place where the repo was: its archives are not there, and that says nothing. */
static void an_unmounted_repo_is_not_taken_for_a_deletion(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;
    SCOPED_PATH(place, f, "a-one");
    SCOPED_PATH(away, f, "away");

    open_quietly(f);
    make_records(f, "a/one", 2, r);
    assert_int_equal(service_delete(f->service, r[0], "uid:7", &err), 0);
    assert_int_equal(rename(place, away), 0);
    assert_int_equal(mkdir(place, 0700), 0);
    keep(f, "b", "keep_count", "1");
    make_records(f, "b/one", 2, r + 2);
    start_whole(f);
    wait_changes("deleted", 1); /* of b: the keeper has been there */
    assert_true(service_stop(f->service, STOP_MS));
    assert_int_equal(state_of(f, r[0]), RECORD_DELETING);
    assert_int_equal(rmdir(place), 0);
    assert_int_equal(rename(away, place), 0);
}

static void one_that_cannot_be_removed_does_not_stop_the_others(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 6, r);
    make_stubborn(f, r[2]);
    keep(f, "a", "keep_count", "1");
    start_whole(f);
    wait_changes("deleted", 4);
    assert_true(service_stop(f->service, STOP_MS));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(has_row(f, r[i]), i == 2);
    assert_int_equal(state_of(f, r[2]), RECORD_DELETING);
    SCOPED_PATH(path, f, "a-one/%s/not-ours", r[2]);
    assert_int_equal(rmdir(path), 0);
    start_whole(f);
    wait_changes("deleted", 1);
    assert_false(has_row(f, r[2]));
    assert_false(archive_there(f, "a", r[2]));
}

static void a_restart_finishes_what_was_marked(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;

    open_quietly(f);
    make_records(f, "a/one", 3, r);
    assert_int_equal(service_delete(f->service, r[1], "uid:7", &err), 0);
    assert_true(archive_there(f, "a", r[1]));
    start_whole(f);
    wait_changes("deleted", 1);
    assert_false(archive_there(f, "a", r[1]));
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
    assert_int_equal(changes_to("adopted"), 0);
}

static void a_person_deletes_one_record(void **state)
{
    struct fixture *f = *state;
    struct error err;

    start_whole(f);
    struct record record = back_up(f, "a/one");
    pin(f, record.ulid);
    assert_int_equal(service_delete(f->service, record.ulid, "uid:7", &err), -1);
    assert_int_equal(err.errnum, EPERM);
    assert_int_equal(service_pin(f->service, record.ulid, false, "uid:7", &err), 0);
    assert_int_equal(service_delete(f->service, record.ulid, "uid:7", &err), 0);
    assert_int_equal(count_of(f, LIST_RECORDS), 0);
    wait_changes("deleted", 1);
    assert_false(archive_there(f, "a", record.ulid));
    assert_int_equal(service_delete(f->service, record.ulid, "uid:7", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(gone.records, 0);
    assert_true(service_stop(f->service, STOP_MS));
    assert_int_equal(service_delete(f->service, record.ulid, "uid:7", &err), -1);
    assert_int_equal(err.code, ERR_STOPPING);
}

static void a_review_makes_the_keeper_go_on_at_once(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    start_whole(f);
    wait_changes("suspect", 1);
    review(f, r[3]);
    wait_changes("deleted", 3);
    assert_true(is_good(f, r[3]));
}

/* ---- old jobs ---- */

static bool log_there(struct fixture *f, const char *job)
{
    __attribute__((cleanup(free_charp))) char *path = service_log_path(f->service, job);

    return exists(path);
}

static void old_jobs_go_with_their_logs(void **state)
{
    struct fixture *f = *state;
    char old[3][ULID_LEN + 1], young[ULID_LEN + 1];
    struct error err;
    struct job job;

    open_quietly(f);
    script = out_of_order;
    for (size_t i = 0; i < 3; i++) {
        memcpy(old[i], run_ok(f, "a/one").jobs[0].job, sizeof old[i]);
        wait_idle(f);
        assert_true(log_there(f, old[i]));
    }
    script = sized;
    struct record record = back_up(f, "a/one"); /* the newest success stays */
    script = out_of_order;
    set_clock(f, BEGIN + 30 * DAY);
    memcpy(young, run_ok(f, "a/one").jobs[0].job, sizeof young);
    wait_idle(f);
    set_clock(f, BEGIN + 30 * DAY + SECOND);
    start_whole(f);
    wait_gone_jobs(3);
    assert_true(service_stop(f->service, STOP_MS));
    assert_int_equal(gone.jobs, 3);
    assert_int_equal(gone.records, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_false(log_there(f, old[i]));
        assert_int_equal(catalog_job_get(f->catalog, old[i], &job, &err), -1);
    }
    assert_true(log_there(f, record.job));
    expect_state(f, record.job, JOB_SUCCEEDED);
    assert_true(log_there(f, young));
    expect_state(f, young, JOB_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_start_prunes_without_any_success),
        TEST(the_archive_goes_between_mark_and_row),
        TEST(an_older_one_goes_after_the_newer_one_stands),
        TEST(a_repo_that_is_not_there_keeps_its_rows_until_it_is),
        TEST(a_repo_that_is_not_configured_holds_up_and_holds_nothing),
        TEST(an_unmounted_repo_is_not_taken_for_a_deletion),
        TEST(one_that_cannot_be_removed_does_not_stop_the_others),
        TEST(a_restart_finishes_what_was_marked),
        TEST(a_person_deletes_one_record),
        TEST(a_review_makes_the_keeper_go_on_at_once),
        TEST(old_jobs_go_with_their_logs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
