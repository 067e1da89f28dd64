/* SPDX-License-Identifier: MIT */
/*
 * test_retention.c - which records a pass marks, and when it marks none.
 */
#include "records.h"

/* ---- a pass ---- */

static void without_a_policy_all_stay(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 4, r);
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 4);
}

static void what_no_rule_keeps_is_marked(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1], other[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 5, r);
    make_records(f, "b/one", 2, other);
    keep(f, "a", "keep_count", "2");
    pass(f);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(state_of(f, r[i]), i < 3 ? RECORD_DELETING : RECORD_GOOD);
    assert_true(is_good(f, other[0]) && is_good(f, other[1]));
    assert_int_equal(gone.records, 3);
    assert_string_equal(gone.last, r[0]);
    assert_int_equal(gone.jobs, 0);
    for (size_t i = 0; i < 5; i++)
        assert_true(archive_there(f, "a", r[i]));
}

static void attempts_that_failed_are_no_records(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;

    open_quietly(f);
    make_records(f, "a/one", 2, r);
    script = out_of_order;
    for (int i = 0; i < 3; i++) {
        run_ok(f, "a/one");
        wait_idle(f);
    }
    script = endless;
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    wait_idle(f);
    keep(f, "a", "keep_count", "2");
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
    assert_int_equal(count_of(f, LIST_JOBS), 6);
    expect_state(f, reply.jobs[0].job, JOB_INTERRUPTED);
}

static void the_newest_stays_however_old(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 3, r);
    keep(f, "a", "keep_age_days", "1");
    set_clock(f, BEGIN + 365 * DAY);
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
    assert_true(is_good(f, r[2]));
}

static void pinned_ones_stay_and_take_no_place(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 4, r);
    pin(f, r[0]);
    pin(f, r[3]);
    keep(f, "a", "keep_count", "1");
    pass(f);
    assert_true(is_good(f, r[0]) && is_good(f, r[2]) && is_good(f, r[3]));
    assert_int_equal(state_of(f, r[1]), RECORD_DELETING);
}

/* Between the pass's listing and its mark: the first to go is told of before the last is marked. */
static struct fixture *pinning;
static char to_pin[ULID_LEN + 1];

static void pin_meanwhile(void *ctx, bool is_job, const char *ulid)
{
    struct error err;

    note_gone(ctx, is_job, ulid);
    if (to_pin[0])
        assert_int_equal(catalog_record_pin(pinning->catalog, to_pin, true, &err), 0);
    to_pin[0] = '\0';
    assert_int_equal(catalog_record_pin(pinning->catalog, ulid, true, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void a_pin_during_a_pass_is_in_time_or_is_refused(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    service_on_gone(f->service, pin_meanwhile, NULL);
    make_records(f, "a/one", 4, r);
    pinning = f;
    memcpy(to_pin, r[0], sizeof to_pin);
    keep(f, "a", "keep_count", "1");
    pass(f);
    assert_true(is_good(f, r[0]) && is_good(f, r[3]));
    assert_int_equal(state_of(f, r[1]), RECORD_DELETING);
    assert_int_equal(state_of(f, r[2]), RECORD_DELETING);
    assert_int_equal(gone.records, 2);
}

static void what_is_foretold_is_what_is_done(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 12, r);
    pin(f, r[4]);
    keep(f, "a", "keep_count", "2");
    keep(f, "a", "keep_hourly", "3");
    keep(f, "a", "keep_daily", "2");
    set_clock(f, BEGIN + 40 * DAY);
    __attribute__((cleanup(free_charp))) char *text = plan_of(f);
    pass(f);
    char *line = text;
    for (size_t i = 12; i-- > 0; line = strchr(line, '\n') + 1) {
        assert_int_equal(strncmp(line, r[i], ULID_LEN), 0);
        const char *verdict = strchr(line + ULID_LEN + 1, ' ');
        assert_int_equal(strncmp(verdict, " keep ", 6) == 0, is_good(f, r[i]));
        assert_int_equal(strncmp(verdict, " delete\n", 8) == 0, !is_good(f, r[i]));
    }
    assert_string_equal(line, "");
    assert_int_equal(count_of(f, LIST_RECORDS), 4);
}

/* A person deletes the one that stays, between the pass's listing and its marks. */
static void delete_meanwhile(void *ctx, bool is_job, const char *ulid)
{
    struct error err;

    note_gone(ctx, is_job, ulid);
    if (to_pin[0])
        assert_int_equal(catalog_record_delete_begin(pinning->catalog, to_pin, &err), 0);
    to_pin[0] = '\0';
}

static void a_pass_never_empties_a_repo_with_the_help_of_a_person(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    service_on_gone(f->service, delete_meanwhile, NULL);
    make_records(f, "a/one", 4, r);
    pinning = f;
    memcpy(to_pin, r[3], sizeof to_pin);
    keep(f, "a", "keep_count", "1");
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
    assert_int_equal(gone.records, 1);
}

/* ---- when nothing is deleted ---- */

/* A source that shrank once and stays small, with nobody looking for several backups, or for good.
 */
static void small_ones_do_not_become_usual_by_their_number(void **state)
{
    struct fixture *f = *state;
    char large[RECORDS_MAX][ULID_LEN + 1], small[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 2, large);
    size = 100;
    make_records(f, "a/one", 7, small);
    keep(f, "a", "keep_count", "2");
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 9);
    for (int i = 0; i < 7; i++)
        assert_true(is_suspect(f, small[i]));
    /* Deleting some of them on the log's advice changes nothing for the others. */
    struct error err;
    for (int i = 0; i < 5; i++)
        assert_int_equal(catalog_record_delete_begin(f->catalog, small[i], &err), 0);
    pass(f);
    assert_true(is_good(f, large[0]) && is_good(f, large[1]));
    assert_int_equal(service_review(f->service, small[6], "uid:7", &err), 0);
    pass(f);
    assert_true(is_good(f, small[5]) && is_good(f, small[6]));
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
}

static void nothing_is_deleted_while_the_clock_is_behind(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    open_quietly(f);
    make_records(f, "a/one", 3, r);
    keep(f, "a", "keep_count", "1");
    set_clock(f, BEGIN + 3 * HOUR - 1);
    __attribute__((cleanup(free_charp))) char *behind = plan_of(f);
    assert_int_equal(strncmp(behind, "# nothing is deleted: the clock is behind", 41), 0);
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 3);
    set_clock(f, BEGIN + 3 * HOUR);
    __attribute__((cleanup(free_charp))) char *right = plan_of(f);
    assert_int_not_equal(right[0], '#');
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
}

static void nothing_is_deleted_for_a_suspect_record(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    assert_false(is_suspect(f, r[3]));
    __attribute__((cleanup(free_charp))) char *before = plan_of(f);
    __attribute__((cleanup(free_charp))) char *why =
        xasprintf("# nothing is deleted: record %s is suspect", r[3]);
    assert_int_equal(strncmp(before, why, strlen(why)), 0);
    assert_false(is_suspect(f, r[3]));
    pass(f);
    assert_true(is_suspect(f, r[3]));
    assert_int_equal(count_of(f, LIST_RECORDS), 4);
    __attribute__((cleanup(free_charp))) char *after = plan_of(f);
    assert_string_equal(after, before);
    assert_int_equal(gone.records, 0);
}

static void a_good_backup_does_not_clear_the_suspect_one(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    pass(f);
    size = 1000;
    make_records(f, "a/one", 1, r + 4);
    pass(f);
    assert_true(is_suspect(f, r[3]));
    assert_false(is_suspect(f, r[4]));
    assert_int_equal(count_of(f, LIST_RECORDS), 5);
}

static void a_review_lets_it_go_on(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    pass(f);
    review(f, r[3]);
    pass(f);
    assert_false(is_suspect(f, r[3]));
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
    assert_true(is_good(f, r[3]));
}

static void a_review_sets_a_new_usual_size(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    keep(f, "a", "keep_count", "100");
    pass(f);
    review(f, r[3]);
    make_records(f, "a/one", 2, r + 4);
    pass(f);
    assert_false(is_suspect(f, r[5]));
    size = 1;
    make_records(f, "a/one", 1, r + 6);
    pass(f);
    assert_true(is_suspect(f, r[6]));
}

/* Two were suspect one after the other, and the review is of the newer. */
static void a_review_clears_earlier_ones_and_not_later_ones(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;

    open_quietly(f);
    make_records(f, "a/one", 3, r);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(catalog_record_mark_suspect(f->catalog, r[i], true, &err), 0);
    review(f, r[1]);
    assert_false(is_suspect(f, r[0]));
    assert_false(is_suspect(f, r[1]));
    assert_true(is_suspect(f, r[2]));
    assert_int_equal(service_review(f->service, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "uid:7", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void to_delete_the_suspect_one_lets_it_go_on_as_well(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];
    struct error err;

    make_suspect(f, r);
    pass(f);
    assert_int_equal(service_delete(f->service, r[3], "uid:7", &err), 0);
    assert_int_equal(gone.records, 0);
    pass(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
    assert_true(is_good(f, r[2]));
}

static void with_a_ratio_of_0_nothing_is_suspect(void **state)
{
    struct fixture *f = *state;
    char r[RECORDS_MAX][ULID_LEN + 1];

    make_suspect(f, r);
    keep(f, "a", "suspect_ratio", "0");
    pass(f);
    assert_false(is_suspect(f, r[3]));
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_policy_all_stay),
        TEST(what_no_rule_keeps_is_marked),
        TEST(attempts_that_failed_are_no_records),
        TEST(the_newest_stays_however_old),
        TEST(pinned_ones_stay_and_take_no_place),
        TEST(a_pin_during_a_pass_is_in_time_or_is_refused),
        TEST(what_is_foretold_is_what_is_done),
        TEST(a_pass_never_empties_a_repo_with_the_help_of_a_person),
        TEST(small_ones_do_not_become_usual_by_their_number),
        TEST(nothing_is_deleted_while_the_clock_is_behind),
        TEST(nothing_is_deleted_for_a_suspect_record),
        TEST(a_good_backup_does_not_clear_the_suspect_one),
        TEST(a_review_lets_it_go_on),
        TEST(a_review_sets_a_new_usual_size),
        TEST(a_review_clears_earlier_ones_and_not_later_ones),
        TEST(to_delete_the_suspect_one_lets_it_go_on_as_well),
        TEST(with_a_ratio_of_0_nothing_is_suspect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
