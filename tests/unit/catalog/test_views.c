/* SPDX-License-Identifier: MIT */
/* views.c: listings of a part, and that none looks at what is not of it. */
#include "fixture.h"

#include "util/clock.h"
#include "util/date.h"

#define DAY_MS ((time_ms)DAY_SECONDS * 1000)

/* ---- plans ---- */

static void each_statement_is_a_search_in_its_index(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum db_sql id;
        const char *plan;
    } cases[] = {
        {SQL_LIST_PINNED, "SEARCH records USING INDEX records_pinned (id>?)"},
        {SQL_LIST_STORE_JOBS, "SEARCH jobs USING INDEX jobs_of_store (store=? AND rowid>?)"},
        {SQL_LIST_STORE_RECORDS,
         "SEARCH records USING INDEX records_in_store (store=? AND rowid>?)"},
        {SQL_LIST_DAY_RECORDS, "SEARCH records USING INDEX records_of_day (day=? AND rowid>?)"},
        {SQL_LIST_RECORD_STORES, "SEARCH r USING INDEX records_in_store (store=?)"},
        {SQL_RECORD_STORE_AT, "SEARCH r USING INDEX records_in_store (store=?)"},
        {SQL_RECORD_STORE_FIND, "SEARCH r USING INDEX records_in_store (store=?)"},
        {SQL_RECORD_NEXT_DAY, "SEARCH records USING INDEX records_of_day (day>?)"},
        {SQL_RECORD_NOT_LATER, "SEARCH n USING INDEX records_of_store (store=? AND created_at<?)"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        __attribute__((cleanup(free_charp))) char *query =
            xasprintf("EXPLAIN QUERY PLAN %s", sqlite3_sql(f->c->statements[cases[i].id]));
        struct buf plan = BUF_INIT;
        sqlite3_stmt *s = NULL;
        assert_int_equal(sqlite3_prepare_v2(f->c->sqlite, query, -1, &s, NULL), SQLITE_OK);
        while (sqlite3_step(s) == SQLITE_ROW)
            buf_addf(&plan, "%s\n", sqlite3_column_text(s, 3));
        sqlite3_finalize(s);
        if (!strstr(buf_text(&plan), cases[i].plan))
            fail_msg("%s: %s", cases[i].plan, plan.data);
        buf_release(&plan);
    }
}

/* Jobs and records in turn of two stores, each record of a day of its own but for every tenth. */
static void make_many(struct fixture *f, int count)
{
    __attribute__((cleanup(free_charp))) char *text = xasprintf(
        "BEGIN; INSERT INTO stores (name) VALUES ('s0'), ('none'), ('s1');"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        " INSERT INTO jobs (ulid, kind, store, repo, state, requested_by, label, created_at)"
        " SELECT printf('%%026d', i), 'backup', 's' || (i %% 2), 'r', 'pending', 'uid:0', '', i"
        " FROM n;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        " INSERT INTO records (ulid, store, store_kind, repo, created_at, size_bytes,"
        " content_bytes, sha256, manifest_bytes, payload_id_count, payload_ids_bytes, pinned)"
        " SELECT printf('%%026d', i), 's' || (i %% 2), 'sqlite', 'r', i / 10 * 864000000, 1, 1, '',"
        " 1, 0, 0, i %% 100 = 0 FROM n; COMMIT",
        count, count);

    sql(f, text);
}

static void a_page_takes_few_steps_among_many(void **state)
{
    struct fixture *f = *state;
    char store[LIMIT_ID + 1];
    struct record r;
    int64_t value;

    make_many(f, 100000);
    for (int id = 0; id < SQL_COUNT; id++)
        sqlite3_stmt_status(f->c->statements[id], SQLITE_STMTSTATUS_VM_STEP, 1);
    /* At the end, in the middle, and of what is not there. */
    static const int64_t behind[] = {99990, 100000};
    for (size_t i = 0; i < 2; i++) {
        struct listing l[5] = {{.count = 0}};
        OK(catalog_list_store_jobs(f->c, "s0", behind[i], count_entry, &l[0], &f->err));
        OK(catalog_list_store_records(f->c, "s0", behind[i], count_entry, &l[1], &f->err));
        OK(catalog_list(f->c, LIST_PINNED, behind[i], count_entry, &l[2], &f->err));
        OK(catalog_list_store_jobs(f->c, "none", 0, count_entry, &l[3], &f->err));
        OK(catalog_list_day_records(f->c, 50000, 0, count_entry, &l[4], &f->err));
        assert_int_equal(l[0].count, i == 0 ? 5 : 0);
        assert_int_equal(l[1].count, i == 0 ? 5 : 0);
        assert_int_equal(l[2].count, i == 0 ? 1 : 0);
        assert_int_equal(l[3].count, 0);
        assert_int_equal(l[4].count, 10);
    }
    OK(catalog_record_store_find(f->c, "s1", &value, &f->err));
    OK(catalog_record_store_at(f->c, value, store, &f->err));
    assert_string_equal(store, "s1");
    FAILS(catalog_record_store_find(f->c, "none", &value, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_next_day(f->c, 50001, &value, &f->err));
    assert_int_equal(value, 50010);
    OK(catalog_record_not_later(f->c, "s1", 50005 * DAY_MS, &r, &f->err));
    assert_int_equal(r.created_at, 50000 * DAY_MS);
    struct listing stores = {.count = 0};
    OK(catalog_list(f->c, LIST_RECORD_STORES, 0, count_entry, &stores, &f->err));
    assert_int_equal(stores.count, 2);
    for (int id = 0; id < SQL_COUNT; id++)
        if (sqlite3_stmt_status(f->c->statements[id], SQLITE_STMTSTATUS_VM_STEP, 0) > 1000)
            fail_msg("%s", sqlite3_sql(f->c->statements[id]));
}

/* ---- what is in them ---- */

static void a_listing_has_what_is_of_it_and_goes_on_behind_any_row(void **state)
{
    struct fixture *f = *state;
    struct listing first = {.stop_after = 700}, rest = {.count = 0};

    make_many(f, 3000);
    OK(catalog_list_store_jobs(f->c, "s1", 0, count_entry, &first, &f->err));
    assert_int_equal(first.last, 1399);
    sql(f, "DELETE FROM jobs WHERE id IN (1399, 1401)");
    rest.last = first.last;
    OK(catalog_list_store_jobs(f->c, "s1", first.last, count_entry, &rest, &f->err));
    assert_int_equal(rest.count, 799);
    assert_int_equal(rest.last, 2999);

    struct listing records = {.count = 0}, pinned = {.count = 0};
    sql(f, "UPDATE records SET state = 'missing' WHERE id % 1000 = 0");
    OK(catalog_list_store_records(f->c, "s0", 0, count_entry, &records, &f->err));
    assert_int_equal(records.count, 1497);
    assert_int_equal(records.last, 2998);
    OK(catalog_list(f->c, LIST_PINNED, 0, count_entry, &pinned, &f->err));
    assert_int_equal(pinned.count, 27);
    assert_string_equal(pinned.name, "00000000000000000000002900");
}

static struct record adopt(struct fixture *f, const char *store, const char *time)
{
    struct record r = new_record(store, "nightly");
    bool adopted;

    assert_int_equal(time_parse(time, &r.created_at), 0);
    OK(catalog_record_adopt(f->c, &r, &adopted, &f->err));
    OK(catalog_record_get(f->c, r.ulid, &r, &f->err));
    return r;
}

static int64_t day(int year, int month, int day_of_month)
{
    return date_to_days((struct date){year, month, day_of_month});
}

static void days_begin_at_midnight_utc_in_every_century(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *time;
        struct date date;
    } cases[] = {
        {"0000-01-01T00:00:00.000Z", {0, 1, 1}},      {"0000-01-01T23:59:59.999Z", {0, 1, 1}},
        {"1969-12-31T23:59:59.999Z", {1969, 12, 31}}, {"1970-01-01T00:00:00.000Z", {1970, 1, 1}},
        {"2024-02-29T12:00:00.000Z", {2024, 2, 29}},  {"2026-11-21T00:00:00.000Z", {2026, 11, 21}},
        {"2026-11-21T23:59:59.999Z", {2026, 11, 21}}, {"9999-12-31T23:59:59.999Z", {9999, 12, 31}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct listing l = {.count = 0};
        struct record r = adopt(f, "app", cases[i].time);
        int64_t found;
        OK(catalog_record_next_day(f->c, date_to_days(cases[i].date), &found, &f->err));
        assert_int_equal(found, date_to_days(cases[i].date));
        OK(catalog_list_day_records(f->c, found, 0, count_entry, &l, &f->err));
        assert_true(l.count >= 1);
        assert_string_equal(l.name, r.ulid);
    }
}

static void next_day_is_the_first_one_of_a_good_record(void **state)
{
    struct fixture *f = *state;
    struct record old = adopt(f, "app", "2025-03-01T10:00:00.000Z");
    int64_t found;

    adopt(f, "web", "2026-11-21T10:00:00.000Z");
    OK(catalog_record_next_day(f->c, day(0, 1, 1), &found, &f->err));
    assert_int_equal(found, day(2025, 3, 1));
    OK(catalog_record_next_day(f->c, day(2025, 3, 2), &found, &f->err));
    assert_int_equal(found, day(2026, 11, 21));
    FAILS(catalog_record_next_day(f->c, day(2026, 11, 22), &found, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_delete_begin(f->c, old.ulid, &f->err));
    OK(catalog_record_next_day(f->c, day(0, 1, 1), &found, &f->err));
    assert_int_equal(found, day(2026, 11, 21));
}

static void stores_with_records_are_listed_whatever_else_has_a_row(void **state)
{
    struct fixture *f = *state;
    struct listing l = {.count = 0}, none = {.count = 0};
    char name[LIMIT_ID + 1];
    int64_t app, web, row;

    OK(catalog_store_row(f->c, "app", &app, &f->err));
    OK(catalog_store_row(f->c, "web", &web, &f->err));
    struct record r = adopt(f, "web", "2026-11-21T10:00:00.000Z");
    OK(catalog_list(f->c, LIST_RECORD_STORES, 0, count_entry, &l, &f->err));
    assert_int_equal(l.count, 1);
    assert_int_equal(l.last, web);
    assert_string_equal(l.name, "web");
    OK(catalog_record_store_at(f->c, web, name, &f->err));
    assert_string_equal(name, "web");
    FAILS(catalog_record_store_at(f->c, app, name, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_store_at(f->c, 77, name, &f->err), ERR_NOT_FOUND, ENOENT);
    OK(catalog_record_store_find(f->c, "web", &row, &f->err));
    assert_int_equal(row, web);
    FAILS(catalog_record_store_find(f->c, "new", &row, &f->err), ERR_NOT_FOUND, ENOENT);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM stores"), 2);
    OK(catalog_record_delete_begin(f->c, r.ulid, &f->err));
    OK(catalog_list(f->c, LIST_RECORD_STORES, 0, count_entry, &none, &f->err));
    assert_int_equal(none.count, 0);
    FAILS(catalog_record_store_find(f->c, "web", &row, &f->err), ERR_NOT_FOUND, ENOENT);
}

/* ---- not later ---- */

static void assert_not_later(struct fixture *f, const char *time, const struct record *wanted)
{
    struct record r;
    time_ms t;

    assert_int_equal(time_parse(time, &t), 0);
    OK(catalog_record_not_later(f->c, "app", t, &r, &f->err));
    assert_string_equal(r.ulid, wanted->ulid);
}

static void not_later_is_the_newest_good_one_up_to_and_with_that_time(void **state)
{
    struct fixture *f = *state;
    struct record second = adopt(f, "app", "2026-09-02T12:00:00.500Z"); /* adopted first */
    struct record first = adopt(f, "app", "2026-09-01T12:00:00.500Z");
    struct record ahead = adopt(f, "app", "2099-01-01T00:00:00.000Z"), r;
    time_ms before;

    adopt(f, "web", "2026-09-01T18:00:00.000Z");
    assert_not_later(f, "2026-09-01T12:00:00.500Z", &first);
    assert_not_later(f, "2026-09-02T12:00:00.499Z", &first);
    assert_not_later(f, "2026-09-02T12:00:00.500Z", &second);
    assert_not_later(f, "2098-12-31T00:00:00.000Z", &second);
    assert_not_later(f, "2099-01-01T00:00:00.000Z", &ahead);
    assert_int_equal(time_parse("2026-09-01T12:00:00.499Z", &before), 0);
    FAILS(catalog_record_not_later(f->c, "app", before, &r, &f->err), ERR_NOT_FOUND, ENOENT);
    FAILS(catalog_record_not_later(f->c, "none", before, &r, &f->err), ERR_NOT_FOUND, ENOENT);

    OK(catalog_record_delete_begin(f->c, second.ulid, &f->err));
    assert_not_later(f, "2098-12-31T00:00:00.000Z", &first);
    /* Of two of one millisecond the one with the higher ULID. */
    struct record same = adopt(f, "app", "2026-09-01T12:00:00.500Z");
    assert_not_later(f, "2026-09-03T00:00:00.000Z",
                     strcmp(same.ulid, first.ulid) > 0 ? &same : &first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_statement_is_a_search_in_its_index),
        TEST(a_page_takes_few_steps_among_many),
        TEST(a_listing_has_what_is_of_it_and_goes_on_behind_any_row),
        TEST(days_begin_at_midnight_utc_in_every_century),
        TEST(next_day_is_the_first_one_of_a_good_record),
        TEST(stores_with_records_are_listed_whatever_else_has_a_row),
        TEST(not_later_is_the_newest_good_one_up_to_and_with_that_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
