/* SPDX-License-Identifier: MIT */
/*
 * test_record_changes.c - pins, suspicion and the protocol of deletion.
 */
#include "fixture.h"

#define UNKNOWN "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static struct record get(struct fixture *f, const char *ulid)
{
    struct record r;

    OK(catalog_record_get(f->c, ulid, &r, &f->err));
    return r;
}

static void set_state(struct fixture *f, const struct record *r, const char *word)
{
    __attribute__((cleanup(free_charp))) char *text =
        xasprintf("UPDATE records SET state = '%s' WHERE ulid = '%s'", word, r->ulid);

    sql(f, text);
}

static void take_one(void *ctx, const struct record *r)
{
    *(struct record *)ctx = *r;
}

/* ---- pins and suspicion ---- */

static void assert_read_everywhere(struct fixture *f, const struct record *r)
{
    enum record_state word;
    struct record found;

    OK(catalog_record_at(f->c, r->row, &found, &f->err));
    assert_memory_equal(&found, r, sizeof found);
    OK(catalog_record_latest(f->c, r->store, NULL, &found, &f->err));
    assert_memory_equal(&found, r, sizeof found);
    OK(catalog_record_latest(f->c, r->store, r->repo, &found, &f->err));
    assert_memory_equal(&found, r, sizeof found);
    OK(catalog_record_find(f->c, r->ulid, &found, &word, &f->err));
    assert_memory_equal(&found, r, sizeof found);
    OK(catalog_records_of_repo(f->c, r->store, r->repo, take_one, &found, &f->err));
    assert_memory_equal(&found, r, sizeof found);
    OK(catalog_records_newest(f->c, r->store, r->repo, take_one, &found, &f->err));
    assert_memory_equal(&found, r, sizeof found);
}

static void pin_and_suspicion_are_read_everywhere_and_survive_reopen(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    assert_false(r.pinned || r.suspect);
    for (int i = 2; i <= 5; i++) {
        bool pinned = i & 1, suspect = i & 2;
        OK(catalog_record_pin(f->c, r.ulid, pinned, &f->err));
        OK(catalog_record_mark_suspect(f->c, r.ulid, suspect, &f->err));
        reopen(f);
        struct record now = get(f, r.ulid);
        assert_int_equal(now.pinned, pinned);
        assert_int_equal(now.suspect, suspect);
        assert_read_everywhere(f, &now);
    }
}

static void pinning_one_record_leaves_the_others(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly"), other = stored_record(f, "nightly");

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    struct record after = get(f, other.ulid);
    assert_memory_equal(&after, &other, sizeof after);
}

static void setting_what_stands_already_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    sqlite3_commit_hook(f->c->sqlite, die_before_commit, NULL);
    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    sqlite3_commit_hook(f->c->sqlite, NULL, NULL);
}

static void a_review_stays_also_of_what_was_never_suspect(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    assert_false(r.reviewed);
    OK(catalog_record_mark_suspect(f->c, r.ulid, false, &f->err));
    reopen(f);
    assert_true(get(f, r.ulid).reviewed);
    assert_false(get(f, r.ulid).suspect);
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    assert_true(get(f, r.ulid).reviewed);
    assert_false(get(f, r.ulid).suspect);
}

static void a_record_goes_for_a_rule_only_while_the_one_that_stays_is_there(void **state)
{
    struct fixture *f = *state;
    struct record old = stored_record(f, "nightly"), kept = stored_record(f, "nightly");
    struct record pinned = stored_record(f, "nightly");

    OK(catalog_record_pin(f->c, pinned.ulid, true, &f->err));
    FAILS(catalog_record_expire(f->c, pinned.ulid, kept.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_expire(f->c, old.ulid, UNKNOWN, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_delete_begin(f->c, kept.ulid, &f->err));
    FAILS(catalog_record_expire(f->c, old.ulid, kept.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_expire(f->c, old.ulid, pinned.ulid, &f->err));
    FAILS(catalog_record_get(f->c, old.ulid, &old, &f->err), ERR_NOT_FOUND, ENOENT);
}

static void only_good_records_are_pinned_or_marked(void **state)
{
    struct fixture *f = *state;
    static const char *const words[] = {"missing", "deleting"};
    struct record r = stored_record(f, "nightly");

    for (int value = 0; value <= 1; value++) {
        FAILS(catalog_record_pin(f->c, UNKNOWN, value, &f->err), ERR_NOT_FOUND, ENOENT);
        MESSAGE_HAS(UNKNOWN);
        FAILS(catalog_record_mark_suspect(f->c, UNKNOWN, value, &f->err), ERR_NOT_FOUND, ENOENT);
        for (size_t i = 0; i < 2; i++) {
            set_state(f, &r, words[i]);
            FAILS(catalog_record_pin(f->c, r.ulid, value, &f->err), ERR_NOT_FOUND, ENOENT);
            MESSAGE_HAS(r.ulid);
            FAILS(catalog_record_mark_suspect(f->c, r.ulid, value, &f->err), ERR_NOT_FOUND, ENOENT);
            MESSAGE_HAS(r.ulid);
        }
    }
    assert_int_equal(sql_int(f, "SELECT sum(pinned + suspect) FROM records"), 0);
}

static void pin_and_suspicion_survive_being_missing(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");
    size_t missing;
    bool adopted;

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    OK(catalog_records_missing(f->c, "app", "nightly", NULL, 0, &missing, &f->err));
    assert_int_equal(missing, 1);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    assert_true(adopted);
    assert_true(get(f, r.ulid).pinned);
    assert_true(get(f, r.ulid).suspect);
}

/* ---- deletion ---- */

static void record_that_is_being_deleted_is_gone_for_readers(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);
    struct record r = get(f, job.record), found;
    bool adopted;

    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    reopen(f);
    assert_int_equal(state_of(f, r.ulid), RECORD_DELETING);
    FAILS(catalog_record_get(f->c, r.ulid, &found, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_at(f->c, r.row, &found, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_latest(f->c, "app", NULL, &found, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    assert_false(adopted);
    struct job after = get_job(f, job.ulid);
    assert_string_equal(after.record, r.ulid);
    assert_int_equal(after.record_row, 0);
}

static void deleted_record_leaves_no_row_and_its_job_still_names_it(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);
    struct record found;
    enum record_state word;

    OK(catalog_record_delete_begin(f->c, job.record, &f->err));
    OK(catalog_record_delete_end(f->c, job.record, &f->err));
    reopen(f);
    FAILS(catalog_record_find(f->c, job.record, &found, &word, &f->err), ERR_NOT_FOUND, ENOENT);
    struct job after = get_job(f, job.ulid);
    job.record_row = 0;
    assert_same_job(&job, &after);
}

static void beginning_twice_is_success_and_writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    sqlite3_commit_hook(f->c->sqlite, die_before_commit, NULL);
    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    sqlite3_commit_hook(f->c->sqlite, NULL, NULL);
    assert_int_equal(state_of(f, r.ulid), RECORD_DELETING);
}

static void pinned_record_is_not_deleted_and_the_error_says_how_to_unpin(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");
    char command[80];

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    FAILS(catalog_record_delete_begin(f->c, r.ulid, &f->err), ERR_INVALID, EPERM);
    snprintf(command, sizeof command, "`echo 0 > records/%s/pinned`", r.ulid);
    MESSAGE_HAS(command);
    assert_int_equal(state_of(f, r.ulid), RECORD_GOOD);
    FAILS(catalog_record_delete_end(f->c, r.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_pin(f->c, r.ulid, false, &f->err));
    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    FAILS(catalog_record_pin(f->c, r.ulid, true, &f->err), ERR_NOT_FOUND, ENOENT);
    MESSAGE_HAS("being deleted");
}

/* What counts is the row at the time of the change, not what a look before it saw. */
static void the_statement_itself_spares_a_pinned_record(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    DB_HOLD(f->c);
    DB_STATEMENT(s, f->c, SQL_RECORD_DELETE_BEGIN);
    db_bind_text(s, 1, r.ulid);
    assert_int_equal(db_row(f->c, s, &f->err), 0);
}

static void only_good_records_are_deleted_and_only_begun_deletions_end(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    FAILS(catalog_record_delete_begin(f->c, UNKNOWN, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_delete_end(f->c, UNKNOWN, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_delete_end(f->c, r.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    MESSAGE_HAS(r.ulid);
    set_state(f, &r, "missing");
    FAILS(catalog_record_delete_begin(f->c, r.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_delete_end(f->c, r.ulid, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM records"), 1);
}

/* ---- what is being deleted ---- */

struct ending {
    struct fixture *f;
    struct buf seen;
};

static void end_it(void *ctx, const struct record *r)
{
    struct ending *e = ctx;
    struct fixture *f = e->f;

    buf_addf(&e->seen, "%s/%s %s\n", r->store, r->repo, r->ulid);
    OK(catalog_record_delete_end(f->c, r->ulid, &f->err));
}

static void deletions_under_way_are_found_after_a_restart_and_can_be_ended(void **state)
{
    struct fixture *f = *state;
    struct record a = stored_record(f, "a"), good = stored_record(f, "a"),
                  b = stored_record(f, "b"), gone = stored_record(f, "b");
    struct ending e = {.f = f, .seen = BUF_INIT};

    OK(catalog_record_delete_begin(f->c, b.ulid, &f->err));
    OK(catalog_record_delete_begin(f->c, a.ulid, &f->err));
    set_state(f, &gone, "missing");
    reopen(f);
    OK(catalog_records_deleting(f->c, end_it, &e, &f->err));
    __attribute__((cleanup(free_charp))) char *expected =
        xasprintf("app/a %s\napp/b %s\n", a.ulid, b.ulid);
    assert_string_equal(buf_text(&e.seen), expected);
    OK(catalog_records_deleting(f->c, end_it, &e, &f->err));
    assert_string_equal(buf_text(&e.seen), expected);
    get(f, good.ulid);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM records"), 2);
    buf_release(&e.seen);
}

static struct record child_record;

static void begin_and_die(struct fixture *f)
{
    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    CHILD_EXPECT(catalog_record_delete_begin(f->c, child_record.ulid, &f->err) == 0);
    raise(SIGKILL);
}

static void deletion_that_was_begun_survives_a_kill(void **state)
{
    struct fixture *f = *state;

    child_record = stored_record(f, "nightly");
    int status = in_child(f, begin_and_die);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(state_of(f, child_record.ulid), RECORD_DELETING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pin_and_suspicion_are_read_everywhere_and_survive_reopen),
        TEST(pinning_one_record_leaves_the_others),
        TEST(setting_what_stands_already_writes_nothing),
        TEST(a_review_stays_also_of_what_was_never_suspect),
        TEST(a_record_goes_for_a_rule_only_while_the_one_that_stays_is_there),
        TEST(only_good_records_are_pinned_or_marked),
        TEST(pin_and_suspicion_survive_being_missing),
        TEST(record_that_is_being_deleted_is_gone_for_readers),
        TEST(deleted_record_leaves_no_row_and_its_job_still_names_it),
        TEST(beginning_twice_is_success_and_writes_nothing),
        TEST(pinned_record_is_not_deleted_and_the_error_says_how_to_unpin),
        TEST(the_statement_itself_spares_a_pinned_record),
        TEST(only_good_records_are_deleted_and_only_begun_deletions_end),
        TEST(deletions_under_way_are_found_after_a_restart_and_can_be_ended),
        TEST(deletion_that_was_begun_survives_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
