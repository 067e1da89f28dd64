/* SPDX-License-Identifier: MIT */
/*
 * test_records.c - records: adoption, what is newest, and those that went missing.
 */
#include "fixture.h"

#include <time.h>

static void assert_same_record(const struct record *a, const struct record *b)
{
    assert_string_equal(a->ulid, b->ulid);
    assert_string_equal(a->store, b->store);
    assert_string_equal(a->store_kind, b->store_kind);
    assert_string_equal(a->repo, b->repo);
    assert_int_equal(a->created_at, b->created_at);
    assert_true(a->size_bytes == b->size_bytes);
    assert_true(a->content_bytes == b->content_bytes);
    assert_string_equal(a->sha256, b->sha256);
    assert_true(a->manifest_bytes == b->manifest_bytes);
    assert_true(a->payload_id_count == b->payload_id_count);
    assert_true(a->payload_ids_bytes == b->payload_ids_bytes);
}

static struct record get(struct fixture *f, const char *ulid)
{
    struct record r;

    OK(catalog_record_get(f->c, ulid, &r, &f->err));
    return r;
}

static bool adopt(struct fixture *f, const struct record *r)
{
    bool adopted = false;

    OK(catalog_record_adopt(f->c, r, &adopted, &f->err));
    return adopted;
}

static size_t mark_missing(struct fixture *f, const char *store, const char *repo,
                           char (*ids)[ULID_LEN + 1], size_t count)
{
    size_t missing = 99;

    OK(catalog_records_missing(f->c, store, repo, ids, count, &missing, &f->err));
    return missing;
}

static void adopted_record_survives_reopen_with_every_field(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "nightly"), at;

    r.size_bytes = INT64_MAX;
    assert_true(adopt(f, &r));
    reopen(f);
    struct record read = get(f, r.ulid);
    assert_same_record(&r, &read);
    assert_true(read.row > 0);
    assert_string_equal(read.job, "");
    assert_int_equal(read.job_row, 0);
    OK(catalog_record_at(f->c, read.row, &at, &f->err));
    assert_memory_equal(&at, &read, sizeof at);
}

static void record_of_a_success_has_every_field(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};

    snprintf(r.ulid, sizeof r.ulid, "%s", job.record);
    OK(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err));
    reopen(f);
    struct record read = get(f, r.ulid);
    assert_same_record(&r, &read);
    assert_string_equal(read.job, job.ulid);
}

static void success_that_cannot_store_its_record_stays_running(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING), after;
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};

    snprintf(r.ulid, sizeof r.ulid, "%s", job.record);
    r.size_bytes = UINT64_MAX;
    FAILS(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err), ERR_MANIFEST_INVALID, 0);
    OK(catalog_job_get(f->c, job.ulid, &after, &f->err));
    assert_memory_equal(&job, &after, sizeof job);
    r.size_bytes = 1;
    OK(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err));
}

static void success_does_not_bring_back_a_record_that_is_being_deleted(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};

    snprintf(r.ulid, sizeof r.ulid, "%s", job.record);
    adopt(f, &r);
    sql(f, "UPDATE records SET state = 'deleting'");
    OK(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err));
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
}

static void adopting_what_is_there_changes_and_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "nightly"), other = r;

    assert_true(adopt(f, &r));
    sqlite3_commit_hook(f->c->sqlite, die_before_commit, NULL);
    other.size_bytes = 1;
    assert_false(adopt(f, &other));
    sqlite3_commit_hook(f->c->sqlite, NULL, NULL);
    struct record read = get(f, r.ulid);
    assert_same_record(&r, &read);
}

static void adopted_record_is_linked_with_the_failed_job_that_made_it(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_FAILED);
    struct record r = new_record("app", "nightly");

    snprintf(r.ulid, sizeof r.ulid, "%s", job.record);
    assert_true(adopt(f, &r));
    r = get(f, r.ulid);
    assert_string_equal(r.job, job.ulid);
    assert_int_equal(r.job_row, job.row);
    OK(catalog_job_get(f->c, job.ulid, &job, &f->err));
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.record_row, r.row);
}

static void unknown_record_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "nightly");

    FAILS(catalog_record_get(f->c, r.ulid, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    MESSAGE_HAS(r.ulid);
    FAILS(catalog_record_at(f->c, 5, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_latest(f->c, "app", NULL, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_latest(f->c, "app", "nightly", &r, &f->err), ERR_NOT_FOUND, ENOENT);
    MESSAGE_HAS("app/nightly");
}

/* By the real clock, which is what the catalog asks. */
static void a_record_of_the_future_is_newest_only_if_there_is_no_other(void **state)
{
    struct fixture *f = *state;
    struct record ahead = new_record("app", "a"), now = new_record("app", "a"), r;

    now.created_at = (time_ms)time(NULL) * 1000;
    ahead.created_at = now.created_at + (time_ms)3 * 365 * 86400 * 1000;
    adopt(f, &ahead);
    OK(catalog_record_latest(f->c, "app", NULL, &r, &f->err));
    assert_string_equal(r.ulid, ahead.ulid);
    adopt(f, &now);
    OK(catalog_record_latest(f->c, "app", NULL, &r, &f->err));
    assert_string_equal(r.ulid, now.ulid);
    OK(catalog_record_latest(f->c, "app", "a", &r, &f->err));
    assert_string_equal(r.ulid, now.ulid);
}

static void latest_is_by_time_then_ulid_not_by_row(void **state)
{
    struct fixture *f = *state;
    struct record old = new_record("app", "a"), tie = new_record("app", "b"),
                  newest = new_record("app", "a"), elsewhere = new_record("web", "a"), r;

    old.created_at = NOW - 1000;
    elsewhere.created_at = NOW + 1000;
    /* The newest first, so that its row is the oldest; `tie` has its time and a smaller ULID. */
    assert_true(strcmp(tie.ulid, newest.ulid) < 0);
    adopt(f, &newest);
    adopt(f, &tie);
    adopt(f, &old);
    adopt(f, &elsewhere);
    OK(catalog_record_latest(f->c, "app", NULL, &r, &f->err));
    assert_string_equal(r.ulid, newest.ulid);
    OK(catalog_record_latest(f->c, "app", "b", &r, &f->err));
    assert_string_equal(r.ulid, tie.ulid);
    OK(catalog_record_latest(f->c, "app", "a", &r, &f->err));
    assert_string_equal(r.ulid, newest.ulid);
}

static void record_absent_from_its_repo_is_neither_listed_nor_found(void **state)
{
    struct fixture *f = *state;
    struct record gone = new_record("app", "a"), stays = new_record("app", "a"),
                  other_repo = new_record("app", "b"), other_store = new_record("web", "a"), r;
    char ids[1][ULID_LEN + 1];

    gone.created_at = NOW + 5;
    adopt(f, &gone);
    adopt(f, &stays);
    adopt(f, &other_repo);
    adopt(f, &other_store);
    int64_t row = get(f, gone.ulid).row;
    memcpy(ids[0], stays.ulid, sizeof ids[0]);
    assert_int_equal(mark_missing(f, "app", "a", ids, 1), 1);

    FAILS(catalog_record_get(f->c, gone.ulid, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_at(f->c, row, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_latest(f->c, "app", "a", &r, &f->err));
    assert_string_equal(r.ulid, stays.ulid);
    assert_int_equal(list_count(f, LIST_RECORDS), 3);
    assert_int_equal(mark_missing(f, "app", "a", ids, 1), 0);
    assert_int_equal(mark_missing(f, "app", "b", NULL, 0), 1);
    assert_int_equal(list_count(f, LIST_RECORDS), 2);
}

static void job_of_a_missing_record_has_no_record_row(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);

    assert_true(job.record_row > 0);
    assert_int_equal(mark_missing(f, "app", "nightly", NULL, 0), 1);
    OK(catalog_job_get(f->c, job.ulid, &job, &f->err));
    assert_int_equal(job.record_row, 0);
    assert_int_equal(job.state, JOB_SUCCEEDED);
}

static void record_that_comes_back_keeps_its_row_and_takes_the_new_facts(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "a");

    adopt(f, &r);
    int64_t row = get(f, r.ulid).row;
    mark_missing(f, "app", "a", NULL, 0);
    reopen(f);
    /* Its directory was moved to another repo. */
    snprintf(r.repo, sizeof r.repo, "b");
    r.manifest_bytes++;
    assert_true(adopt(f, &r));
    struct record read = get(f, r.ulid);
    assert_int_equal(read.row, row);
    assert_same_record(&r, &read);
    assert_int_equal(list_count(f, LIST_RECORDS), 1);
}

static void record_that_is_being_deleted_is_not_adopted_again(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "a");

    adopt(f, &r);
    sql(f, "UPDATE records SET state = 'deleting'");
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
    assert_false(adopt(f, &r));
    FAILS(catalog_record_get(f->c, r.ulid, &r, &f->err), ERR_NOT_FOUND, ENOENT);
}

static void impossible_sizes_are_refused(void **state)
{
    struct fixture *f = *state;
    bool adopted;

    for (int i = 0; i < 5; i++) {
        struct record r = new_record("app", "a");
        uint64_t *const sizes[] = {&r.size_bytes, &r.content_bytes, &r.manifest_bytes,
                                   &r.payload_id_count, &r.payload_ids_bytes};
        *sizes[i] = (uint64_t)INT64_MAX + 1;
        FAILS(catalog_record_adopt(f->c, &r, &adopted, &f->err), ERR_MANIFEST_INVALID, 0);
        MESSAGE_HAS(r.ulid);
    }
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
}

static void many_missing_records_are_told_apart(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 300 };
    static char ids[COUNT][ULID_LEN + 1];

    for (int i = 0; i < COUNT; i++) {
        struct record r = new_record("app", "a");
        adopt(f, &r);
        memcpy(ids[i], r.ulid, sizeof ids[i]);
    }
    assert_int_equal(mark_missing(f, "app", "a", ids, COUNT), 0);
    assert_int_equal(mark_missing(f, "app", "a", ids + 100, COUNT - 100), 100);
    assert_int_equal(list_count(f, LIST_RECORDS), COUNT - 100);
    get(f, ids[100]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(adopted_record_survives_reopen_with_every_field),
        TEST(record_of_a_success_has_every_field),
        TEST(success_that_cannot_store_its_record_stays_running),
        TEST(success_does_not_bring_back_a_record_that_is_being_deleted),
        TEST(adopting_what_is_there_changes_and_writes_nothing),
        TEST(adopted_record_is_linked_with_the_failed_job_that_made_it),
        TEST(unknown_record_is_not_found),
        TEST(latest_is_by_time_then_ulid_not_by_row),
        TEST(a_record_of_the_future_is_newest_only_if_there_is_no_other),
        TEST(record_absent_from_its_repo_is_neither_listed_nor_found),
        TEST(job_of_a_missing_record_has_no_record_row),
        TEST(record_that_comes_back_keeps_its_row_and_takes_the_new_facts),
        TEST(record_that_is_being_deleted_is_not_adopted_again),
        TEST(impossible_sizes_are_refused),
        TEST(many_missing_records_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
