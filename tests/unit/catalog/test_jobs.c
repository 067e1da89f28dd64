/* SPDX-License-Identifier: MIT */
/*
 * test_jobs.c - states that only move forward, progress, figures and texts of jobs.
 */
#include "fixture.h"

#include <sys/stat.h>

static const enum job_state all_states[] = {JOB_PENDING, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED,
                                            JOB_INTERRUPTED};
#define STATES (sizeof all_states / sizeof all_states[0])

/* ---- creation ---- */

static void created_job_survives_reopen_with_every_field(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("app", "nightly");

    snprintf(job.key, sizeof job.key, "deploy-42");
    snprintf(job.label, sizeof job.label, "before \"the\" upgrade\n\xff");
    job.attempt = 3;
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    assert_true(job.row > 0);
    reopen(f);
    struct job read = get_job(f, job.ulid);
    assert_int_equal(read.row, job.row);
    assert_string_equal(read.ulid, job.ulid);
    assert_string_equal(read.kind, "backup");
    assert_string_equal(read.store, "app");
    assert_string_equal(read.repo, "nightly");
    assert_int_equal(read.state, JOB_PENDING);
    assert_string_equal(read.record, "");
    assert_int_equal(read.record_row, 0);
    assert_string_equal(read.requested_by, "uid:1000");
    assert_string_equal(read.key, "deploy-42");
    assert_string_equal(read.label, job.label);
    assert_int_equal(read.attempt, 3);
    assert_int_equal(read.created_at, NOW);
    assert_int_equal(read.started_at, 0);
    assert_int_equal(read.finished_at, 0);
    assert_int_equal(read.progress, 0);
    assert_int_equal(read.stats.count, 0);
    assert_int_equal(read.error.code, ERR_NONE);
}

static void retry_names_the_job_before_it_and_a_first_attempt_is_one(void **state)
{
    struct fixture *f = *state;
    struct job first = new_job("app", "nightly"), retry = new_job("app", "nightly");

    snprintf(retry.requested_by, sizeof retry.requested_by, "retry:%s", first.ulid);
    retry.attempt = 2;
    OK(catalog_jobs_create(f->c, &first, 1, &f->err));
    OK(catalog_jobs_create(f->c, &retry, 1, &f->err));
    assert_int_equal(get_job(f, first.ulid).attempt, 1);
    assert_int_equal(get_job(f, retry.ulid).attempt, 2);
    struct job read = get_job(f, retry.ulid);
    assert_memory_equal(read.requested_by, "retry:", 6);
    assert_string_equal(read.requested_by + 6, first.ulid);
}

static void longest_texts_survive(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("", "");
    struct error e = why(ERR_INTERNAL, ENOMEM);

    memset(job.kind, 'k', sizeof job.kind - 1);
    memset(job.store, 's', sizeof job.store - 1);
    memset(job.repo, 'r', sizeof job.repo - 1);
    memset(job.requested_by, 'b', sizeof job.requested_by - 1);
    memset(job.key, 'y', sizeof job.key - 1);
    memset(job.label, 'l', sizeof job.label - 1);
    memset(e.message, 'm', sizeof e.message - 1);
    e.message[sizeof e.message - 1] = '\0';
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    OK(catalog_job_fail(f->c, job.ulid, JOB_FAILED, &e, NULL, NOW, &f->err));
    struct job read = get_job(f, job.ulid);
    assert_string_equal(read.kind, job.kind);
    assert_string_equal(read.store, job.store);
    assert_string_equal(read.repo, job.repo);
    assert_string_equal(read.requested_by, job.requested_by);
    assert_string_equal(read.key, job.key);
    assert_string_equal(read.label, job.label);
    assert_string_equal(read.error.message, e.message);
}

static void create_is_all_or_none(void **state)
{
    struct fixture *f = *state;
    struct job jobs[3] = {new_job("app", "a"), new_job("app", "b"), new_job("app", "c")};

    OK(catalog_jobs_create(f->c, jobs, 3, &f->err));
    assert_true(jobs[0].row < jobs[1].row && jobs[1].row < jobs[2].row);

    struct job more[2] = {new_job("web", "a"), new_job("web", "b")};
    snprintf(more[1].ulid, sizeof more[1].ulid, "%s", jobs[0].ulid);
    FAILS(catalog_jobs_create(f->c, more, 2, &f->err), ERR_INTERNAL, 0);
    assert_int_equal(more[0].row, 0);
    assert_int_equal(more[1].row, 0);
    struct job none;
    FAILS(catalog_job_get(f->c, more[0].ulid, &none, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(list_count(f, LIST_JOBS), 3);
}

static void used_key_is_refused_with_the_earlier_job_and_leaves_no_row(void **state)
{
    struct fixture *f = *state;
    struct job first = new_job("app", "a"), jobs[2] = {new_job("app", "a"), new_job("app", "b")};

    snprintf(first.key, sizeof first.key, "once");
    snprintf(jobs[1].key, sizeof jobs[1].key, "once");
    OK(catalog_jobs_create(f->c, &first, 1, &f->err));
    FAILS(catalog_jobs_create(f->c, jobs, 2, &f->err), ERR_INVALID, EEXIST);
    MESSAGE_HAS(first.ulid);
    MESSAGE_HAS("once");
    assert_int_equal(list_count(f, LIST_JOBS), 1);
    assert_int_equal(jobs[0].row, 0);

    struct job found;
    OK(catalog_job_by_key(f->c, "once", &found, &f->err));
    assert_string_equal(found.ulid, first.ulid);
}

static void key_used_twice_in_one_batch_is_refused(void **state)
{
    struct fixture *f = *state;
    struct job jobs[2] = {new_job("app", "a"), new_job("app", "b")};

    snprintf(jobs[0].key, sizeof jobs[0].key, "twice");
    snprintf(jobs[1].key, sizeof jobs[1].key, "twice");
    FAILS(catalog_jobs_create(f->c, jobs, 2, &f->err), ERR_INVALID, EEXIST);
    MESSAGE_HAS(jobs[0].ulid);
    assert_int_equal(list_count(f, LIST_JOBS), 0);
}

static void key_stays_used_after_its_job_ended(void **state)
{
    struct fixture *f = *state;
    struct job first = new_job("app", "a"), second = new_job("app", "a");
    struct error e = why(ERR_CANCELLED, 0);

    snprintf(first.key, sizeof first.key, "k");
    snprintf(second.key, sizeof second.key, "k");
    OK(catalog_jobs_create(f->c, &first, 1, &f->err));
    OK(catalog_job_fail(f->c, first.ulid, JOB_INTERRUPTED, &e, NULL, NOW, &f->err));
    FAILS(catalog_jobs_create(f->c, &second, 1, &f->err), ERR_INVALID, EEXIST);
}

/* ---- states ---- */

static void finished_jobs_survive_reopen_with_every_field(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("app", "nightly");
    struct stats stats = {.count = 0};
    struct error e = why(ERR_DESTINATION_NO_SPACE, ENOSPC);
    struct record r = new_record("app", "nightly");

    for (unsigned i = 0; i < LIMIT_STATS; i++) {
        char key[40];
        snprintf(key, sizeof key, "figure_%u_bytes", LIMIT_STATS - i);
        stats_add(&stats, key, i == 0 ? UINT64_MAX : i == 1 ? (uint64_t)INT64_MAX + 1 : 10 * i);
    }
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
    OK(catalog_job_start(f->c, job.ulid, r.ulid, NOW + 10, &f->err));
    OK(catalog_job_fail(f->c, job.ulid, JOB_FAILED, &e, &stats, NOW + 20, &f->err));
    struct job before = get_job(f, job.ulid);
    reopen(f);
    struct job read = get_job(f, job.ulid);
    assert_same_job(&before, &read);
    assert_int_equal(read.state, JOB_FAILED);
    assert_string_equal(read.record, r.ulid);
    assert_int_equal(read.started_at, NOW + 10);
    assert_int_equal(read.finished_at, NOW + 20);
    assert_memory_equal(&read.error, &e, offsetof(struct error, message));
    assert_string_equal(read.error.message, e.message);
    assert_int_equal(read.stats.count, stats.count);
    for (size_t i = 0; i < stats.count; i++) {
        assert_string_equal(read.stats.items[i].key, stats.items[i].key);
        assert_true(read.stats.items[i].value == stats.items[i].value);
    }
}

static void success_links_job_and_record(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);
    struct record r;

    OK(catalog_record_get(f->c, job.record, &r, &f->err));
    assert_int_equal(job.progress, 100);
    assert_int_equal(job.finished_at, NOW + 2);
    assert_int_equal(stats_get(&job.stats, "content_bytes"), 7);
    assert_int_equal(job.error.code, ERR_NONE);
    assert_string_equal(job.record, r.ulid);
    assert_int_equal(job.record_row, r.row);
    assert_string_equal(r.job, job.ulid);
    assert_int_equal(r.job_row, job.row);
}

static void pending_job_that_fails_never_started(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_PENDING);
    struct error e = why(ERR_SOURCE_UNAVAILABLE, ENOENT);

    OK(catalog_job_fail(f->c, job.ulid, JOB_FAILED, &e, NULL, NOW + 5, &f->err));
    job = get_job(f, job.ulid);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.started_at, 0);
    assert_int_equal(job.finished_at, NOW + 5);
}

static void failed_job_keeps_its_record_id_but_has_no_record(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_FAILED);
    struct record r;

    assert_int_equal(strlen(job.record), ULID_LEN);
    assert_int_equal(job.record_row, 0);
    FAILS(catalog_record_get(f->c, job.record, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
}

static int act_start(struct fixture *f, const struct job *job)
{
    struct record r = new_record("app", "nightly");
    return catalog_job_start(f->c, job->ulid, r.ulid, NOW + 50, &f->err);
}

static int act_progress(struct fixture *f, const struct job *job)
{
    struct job_progress p = {.percent = 60, .done = 6, .expected = 10};
    return catalog_job_progress(f->c, job->ulid, &p, &f->err);
}

static int act_succeed(struct fixture *f, const struct job *job)
{
    struct record r = new_record("late", "late");
    struct stats stats = {.count = 0};
    return catalog_job_succeed(f->c, job->ulid, &r, &stats, NOW + 50, &f->err);
}

static int act_end(struct fixture *f, const struct job *job, enum job_state end)
{
    struct error e = why(ERR_CANCELLED, 0);
    return catalog_job_fail(f->c, job->ulid, end, &e, NULL, NOW + 50, &f->err);
}

static int act_fail(struct fixture *f, const struct job *job)
{
    return act_end(f, job, JOB_FAILED);
}

static int act_interrupt(struct fixture *f, const struct job *job)
{
    return act_end(f, job, JOB_INTERRUPTED);
}

/* What each action makes of a job in a state; NO: the action is refused. */
#define NO (-1)
static const struct {
    int (*act)(struct fixture *f, const struct job *job);
    int result[STATES];
} actions[] = {
    {act_start, {JOB_RUNNING, NO, NO, NO, NO}},
    {act_progress, {NO, JOB_RUNNING, NO, NO, NO}},
    {act_succeed, {NO, JOB_SUCCEEDED, NO, NO, NO}},
    {act_fail, {JOB_FAILED, JOB_FAILED, NO, NO, NO}},
    {act_interrupt, {JOB_INTERRUPTED, JOB_INTERRUPTED, NO, NO, NO}},
};

static void every_action_leaves_only_the_states_it_may(void **state)
{
    struct fixture *f = *state;

    for (size_t a = 0; a < sizeof actions / sizeof actions[0]; a++)
        for (size_t s = 0; s < STATES; s++) {
            struct job before = job_in(f, all_states[s]);
            if (actions[a].result[s] != NO) {
                OK(actions[a].act(f, &before));
                assert_int_equal(get_job(f, before.ulid).state, actions[a].result[s]);
                continue;
            }
            FAILS(actions[a].act(f, &before), ERR_NOT_FOUND, ENOENT);
            MESSAGE_HAS(before.ulid);
            struct job after = get_job(f, before.ulid);
            assert_same_job(&before, &after);
        }
    /* A success that was refused has left no record either. */
    struct record r;
    OK(catalog_record_latest(f->c, "late", NULL, &r, &f->err));
    assert_int_equal(sql_int(f, "SELECT count(*) FROM records WHERE store = 'late'"), 1);
}

static void unknown_job_is_not_found_and_nothing_is_made(void **state)
{
    struct fixture *f = *state;
    struct job job = new_job("app", "nightly");
    struct buf json = BUF_INIT;

    for (size_t a = 0; a < sizeof actions / sizeof actions[0]; a++)
        FAILS(actions[a].act(f, &job), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_get(f->c, job.ulid, &job, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_at(f->c, 99, &job, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_latest(f->c, &job, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_by_key(f->c, "k", &job, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_job_json(f->c, 99, &json, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(json.len, 0);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM jobs"), 0);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM records"), 0);
}

/* ---- progress ---- */

static void progress(struct fixture *f, const struct job *job, int percent, uint64_t done,
                     uint64_t expected)
{
    struct job_progress p = {.percent = percent, .done = done, .expected = expected};
    OK(catalog_job_progress(f->c, job->ulid, &p, &f->err));
}

static void progress_is_read_like_a_column(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING), at;

    assert_int_equal(job.stats.count, 0);
    progress(f, &job, 50, 5000, 0);
    job = get_job(f, job.ulid);
    assert_int_equal(job.progress, 50);
    assert_int_equal(job.stats.count, 1);
    assert_int_equal(stats_get(&job.stats, "content_bytes"), 5000);
    progress(f, &job, 60, 6000, 10000);
    OK(catalog_job_at(f->c, job.row, &at, &f->err));
    assert_int_equal(at.progress, 60);
    assert_int_equal(stats_get(&at.stats, "content_bytes"), 6000);
    assert_int_equal(stats_get(&at.stats, "expected_bytes"), 10000);
}

static void progress_never_goes_back(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);

    progress(f, &job, 60, 6000, 10000);
    progress(f, &job, 40, 5000, 20000);
    job = get_job(f, job.ulid);
    assert_int_equal(job.progress, 60);
    assert_int_equal(stats_get(&job.stats, "content_bytes"), 6000);
    assert_int_equal(stats_get(&job.stats, "expected_bytes"), 20000);
}

static void progress_out_of_range_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    static const int wrong[] = {-1, 101, INT32_MAX, INT32_MIN};

    progress(f, &job, 10, 1, 2);
    struct job before = get_job(f, job.ulid);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct job_progress p = {.percent = wrong[i], .done = 9, .expected = 9};
        FAILS(catalog_job_progress(f->c, job.ulid, &p, &f->err), ERR_INTERNAL, 0);
    }
    struct job after = get_job(f, job.ulid);
    assert_same_job(&before, &after);
    progress(f, &job, 0, 0, 0);
    progress(f, &job, 100, 0, 0);
    assert_int_equal(get_job(f, job.ulid).progress, 100);
}

static void failure_keeps_the_last_progress_also_after_reopen(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);

    progress(f, &job, 73, 1, 2);
    OK(act_fail(f, &job));
    assert_int_equal(get_job(f, job.ulid).progress, 73);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM job_progress"), 0);
    reopen(f);
    assert_int_equal(get_job(f, job.ulid).progress, 73);
}

static off_t wal_size(struct fixture *f)
{
    char wal[320];
    struct stat st;

    snprintf(wal, sizeof wal, "%s-wal", f->path);
    assert_int_equal(stat(wal, &st), 0);
    return st.st_size;
}

static void progress_writes_nothing_to_the_file(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    off_t before = wal_size(f);

    assert_true(before > 0);
    for (int i = 0; i < 100; i++)
        progress(f, &job, i, (uint64_t)i, 100);
    assert_int_equal(wal_size(f), before);
    OK(act_succeed(f, &job));
    assert_true(wal_size(f) > before);
}

/* ---- start-up ---- */

static void interrupt_ends_pending_and_running_jobs_and_no_other(void **state)
{
    struct fixture *f = *state;
    struct job before[STATES];
    size_t count = 0;

    for (size_t s = 0; s < STATES; s++)
        before[s] = job_in(f, all_states[s]);
    reopen(f);
    OK(catalog_jobs_interrupt(f->c, NOW + 99, &count, &f->err));
    assert_int_equal(count, 2);
    for (size_t s = 0; s < STATES; s++) {
        struct job after = get_job(f, before[s].ulid);
        if (job_state_terminal(before[s].state)) {
            assert_same_job(&before[s], &after);
            continue;
        }
        assert_int_equal(after.state, JOB_INTERRUPTED);
        assert_int_equal(after.finished_at, NOW + 99);
        assert_int_equal(after.started_at, before[s].started_at);
        assert_int_equal(after.error.code, ERR_INTERRUPTED);
        assert_non_null(strstr(after.error.message, "keepfs stopped while this job was "));
        assert_non_null(strstr(after.error.message, job_state_name(before[s].state)));
    }
    assert_int_equal(list_count(f, LIST_JOBS_ACTIVE), 0);
    OK(catalog_jobs_interrupt(f->c, NOW + 100, &count, &f->err));
    assert_int_equal(count, 0);
}

static void interrupted_job_whose_archive_was_adopted_says_so(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING), other = job_in(f, JOB_RUNNING);
    struct record r = new_record("app", "nightly");
    bool adopted = false;
    size_t count;

    snprintf(r.ulid, sizeof r.ulid, "%s", job.record);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    assert_true(adopted);
    OK(catalog_jobs_interrupt(f->c, NOW + 99, &count, &f->err));
    job = get_job(f, job.ulid);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_non_null(strstr(job.error.message, "adopted as record"));
    assert_non_null(strstr(job.error.message, r.ulid));
    assert_true(job.record_row > 0);
    OK(catalog_record_get(f->c, r.ulid, &r, &f->err));
    assert_string_equal(r.job, job.ulid);
    assert_int_equal(r.job_row, job.row);
    assert_null(strstr(get_job(f, other.ulid).error.message, "adopted"));
}

/* ---- look-ups ---- */

static void latest_is_the_youngest_row_whatever_its_state(void **state)
{
    struct fixture *f = *state;
    struct job latest;

    for (size_t s = STATES; s-- > 0;) {
        struct job job = job_in(f, all_states[s]);
        OK(catalog_job_latest(f->c, &latest, &f->err));
        assert_same_job(&job, &latest);
    }
}

static void activity_of_a_store_is_the_most_active_of_its_jobs(void **state)
{
    struct fixture *f = *state;
    enum job_state word = JOB_FAILED;
    bool active = true;

    job_in(f, JOB_SUCCEEDED);
    OK(catalog_store_activity(f->c, "app", &word, &active, &f->err));
    assert_false(active);
    struct job running = job_in(f, JOB_RUNNING);
    job_in(f, JOB_PENDING);
    OK(catalog_store_activity(f->c, "app", &word, &active, &f->err));
    assert_true(active);
    assert_int_equal(word, JOB_RUNNING);
    OK(act_fail(f, &running));
    OK(catalog_store_activity(f->c, "app", &word, &active, &f->err));
    assert_true(active);
    assert_int_equal(word, JOB_PENDING);
    OK(catalog_store_activity(f->c, "other", &word, &active, &f->err));
    assert_false(active);
}

static void lists_hold_what_their_names_say(void **state)
{
    struct fixture *f = *state;
    struct job keyed = new_job("app", "nightly");
    struct listing l = {.count = 0};

    for (size_t s = 0; s < STATES; s++)
        job_in(f, all_states[s]);
    snprintf(keyed.key, sizeof keyed.key, "token");
    OK(catalog_jobs_create(f->c, &keyed, 1, &f->err));
    assert_int_equal(list_count(f, LIST_JOBS), STATES + 1);
    assert_int_equal(list_count(f, LIST_JOBS_ACTIVE), 3);
    assert_int_equal(list_count(f, LIST_RECORDS), 1);
    OK(catalog_list(f->c, LIST_JOBS_KEYED, 0, count_entry, &l, &f->err));
    assert_int_equal(l.count, 1);
    assert_int_equal(l.last, keyed.row);
    assert_string_equal(l.name, "token");
    l = (struct listing){.count = 0};
    OK(catalog_list(f->c, LIST_JOBS_ACTIVE, keyed.row - 1, count_entry, &l, &f->err));
    assert_int_equal(l.count, 1);
    assert_string_equal(l.name, keyed.ulid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(created_job_survives_reopen_with_every_field),
        TEST(retry_names_the_job_before_it_and_a_first_attempt_is_one),
        TEST(longest_texts_survive),
        TEST(create_is_all_or_none),
        TEST(used_key_is_refused_with_the_earlier_job_and_leaves_no_row),
        TEST(key_used_twice_in_one_batch_is_refused),
        TEST(key_stays_used_after_its_job_ended),
        TEST(finished_jobs_survive_reopen_with_every_field),
        TEST(success_links_job_and_record),
        TEST(pending_job_that_fails_never_started),
        TEST(failed_job_keeps_its_record_id_but_has_no_record),
        TEST(every_action_leaves_only_the_states_it_may),
        TEST(unknown_job_is_not_found_and_nothing_is_made),
        TEST(progress_is_read_like_a_column),
        TEST(progress_never_goes_back),
        TEST(progress_out_of_range_changes_nothing),
        TEST(failure_keeps_the_last_progress_also_after_reopen),
        TEST(progress_writes_nothing_to_the_file),
        TEST(interrupt_ends_pending_and_running_jobs_and_no_other),
        TEST(interrupted_job_whose_archive_was_adopted_says_so),
        TEST(latest_is_the_youngest_row_whatever_its_state),
        TEST(activity_of_a_store_is_the_most_active_of_its_jobs),
        TEST(lists_hold_what_their_names_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
