/* SPDX-License-Identifier: MIT */
/* views.c: links to jobs and records by store, date, pin and time. */
#include "fixture.h"
#include "fs/removal.h"
#include "fs/views.h"
#include "util/clock.h"

/* ---- helpers ---- */

/* Names of a directory but "." and "..", with a blank behind each; a page takes `page` entries. */
struct names {
    struct buf text;
    size_t page, count;
    uint64_t cookie;
};

static bool add_name(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    struct names *n = ctx;

    (void)node;
    (void)mode;
    if (n->count == n->page)
        return false;
    assert_true(cookie > n->cookie);
    n->cookie = cookie;
    n->count++;
    if (name[0] != '.')
        buf_addf(&n->text, "%s ", name);
    return true;
}

static char *names_by(struct fixture *f, const char *path, size_t page)
{
    struct names n = {.text = BUF_INIT, .page = page};
    node_id dir = find(f, "%s", path).node;

    do {
        n.count = 0;
        assert_int_equal(tree_list(&f->tree, dir, n.cookie, add_name, &n), 0);
    } while (n.count > 0);
    if (!n.text.data)
        buf_adds(&n.text, "");
    return buf_steal(&n.text);
}

/* The same, whatever the size of a page. */
static void assert_names(struct fixture *f, const char *path, const char *expected)
{
    for (size_t page = 1; page < 5; page++) {
        __attribute__((cleanup(free_charp))) char *names = names_by(f, path, page);
        assert_string_equal(names, expected);
    }
}

static void assert_gone(struct fixture *f, const char *path)
{
    struct node_attr a;

    if (walk(f, path, &a) != ENOENT)
        fail_msg("%s is there", path);
}

__attribute__((format(printf, 3, 4))) static void assert_link(struct fixture *f, const char *target,
                                                              const char *fmt, ...)
{
    struct buf got = BUF_INIT;
    char path[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    struct node_attr a = find(f, "%s", path);
    assert_int_equal(a.st.st_mode, S_IFLNK | 0777);
    assert_int_equal(a.st.st_size, strlen(target));
    assert_int_equal(a.st.st_nlink, 1);
    assert_int_equal(tree_readlink(&f->tree, a.node, &got), 0);
    assert_string_equal(buf_text(&got), target);
    buf_release(&got);
}

static struct record adopt(struct fixture *f, const char *store, const char *time)
{
    struct record r = {.store_kind = "sqlite", .repo = "main"};
    struct error err;
    bool adopted;

    snprintf(r.store, sizeof r.store, "%s", store);
    assert_int_equal(time_parse(time, &r.created_at), 0);
    ulid_new(r.created_at, r.ulid);
    memset(r.sha256, 'a', 64);
    assert_int_equal(catalog_record_adopt(f->catalog, &r, &adopted, &err), 0);
    return r;
}

static void delete_record(struct fixture *f, const struct record *r)
{
    assert_int_equal(
        tree_rmdir(&f->tree, node_make(NODE_RECORDS, 0, NODE_FILE_NONE), r->ulid, ME, 0), 0);
}

static void pin(struct fixture *f, const struct record *r, bool pinned)
{
    struct error err;

    assert_int_equal(service_pin(f->service, r->ulid, pinned, "uid:7", &err), 0);
}

#define TEXT_OF(name, ...) __attribute__((cleanup(free_charp))) char *name = xasprintf(__VA_ARGS__)

/* ---- directories ---- */

static void views_of_nothing_are_empty(void **state)
{
    struct fixture *f = *state;
    static const char *const dirs[] = {"records/by-store", "records/by-date",    "records/pinned",
                                       "stores/app/jobs",  "stores/app/records", "stores/app/at"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        assert_names(f, dirs[i], "");
        assert_int_equal(find(f, "%s", dirs[i]).st.st_mode, S_IFDIR | 0555);
    }
}

static void by_store_has_the_stores_of_records_configured_or_not(void **state)
{
    struct fixture *f = *state;
    struct record first = adopt(f, "app", "2026-09-02T12:00:00Z");
    struct record second = adopt(f, "app", "2026-09-01T12:00:00Z");
    struct error err;
    int64_t row;

    assert_names(f, "records/by-store", "app ");
    assert_gone(f, "records/by-store/web");
    assert_int_equal(catalog_store_row(f->catalog, "left", &row, &err), 0);
    struct record left = adopt(f, "left", "2026-09-01T12:00:00Z");
    assert_names(f, "records/by-store", "app left ");
    assert_gone(f, "stores/left");
    TEXT_OF(names, "%s %s ", first.ulid, second.ulid);
    assert_names(f, "records/by-store/app", names);
    TEXT_OF(target, "../../%s", left.ulid);
    assert_link(f, target, "records/by-store/left/%s", left.ulid);
    TEXT_OF(other, "records/by-store/app/%s", left.ulid);
    assert_gone(f, other);
    assert_gone(f, "records/by-store/app/nothing");
    assert_gone(f, "records/by-store/app/01ARZ3NDEKTSV4RRFFQ69G5FAV");
}

static void by_date_has_what_has_records_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct record old = adopt(f, "app", "1969-12-31T23:59:59.999Z");
    struct record a = adopt(f, "app", "2026-09-01T00:00:00.000Z");
    struct record b = adopt(f, "web", "2026-09-01T23:59:59.999Z");
    struct record c = adopt(f, "app", "2026-09-30T12:00:00.000Z");
    struct record d = adopt(f, "app", "2026-12-31T12:00:00.000Z");
    struct record e = adopt(f, "app", "9999-12-31T12:00:00.000Z");

    assert_names(f, "records/by-date", "1969 2026 9999 ");
    assert_names(f, "records/by-date/2026", "09 12 ");
    assert_names(f, "records/by-date/2026/09", "01 30 ");
    assert_names(f, "records/by-date/9999", "12 ");
    assert_names(f, "records/by-date/9999/12", "31 ");
    TEXT_OF(names, "%s %s ", a.ulid, b.ulid);
    assert_names(f, "records/by-date/2026/09/01", names);
    const struct {
        const char *dir;
        const struct record *r;
    } links[] = {{"1969/12/31", &old}, {"2026/09/01", &a}, {"2026/09/01", &b},
                 {"2026/09/30", &c},   {"2026/12/31", &d}, {"9999/12/31", &e}};
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        TEXT_OF(target, "../../../../%s", links[i].r->ulid);
        assert_link(f, target, "records/by-date/%s/%s", links[i].dir, links[i].r->ulid);
    }
    TEXT_OF(elsewhere, "records/by-date/2026/09/01/%s", c.ulid);
    assert_gone(f, elsewhere);

    static const char *const gone[] = {
        "2025",       "2027",    "1970",    "26",         "02026",      "+026",
        "2026/08",    "2026/10", "2026/9",  "2026/009",   "2026/00",    "2026/13",
        "2026/99",    "2026/41", "2026/0a", "2026/09/02", "2026/09/00", "2026/09/31",
        "2026/09/33", "2026/13", "1969/11", "2026/09/1",  "2026/09/99", "2026/09/01/nothing",
    };
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        TEXT_OF(path, "records/by-date/%s", gone[i]);
        assert_gone(f, path);
    }
}

static void dates_go_with_their_last_record(void **state)
{
    struct fixture *f = *state;
    struct record a = adopt(f, "app", "2026-09-01T12:00:00Z");
    struct record b = adopt(f, "app", "2026-09-02T12:00:00Z");
    struct node_attr day = find(f, "records/by-date/2026/09/01"), ignored;
    struct node_attr link = find(f, "records/by-date/2026/09/01/%s", a.ulid);
    struct node_attr month = find(f, "records/by-date/2026/09");

    delete_record(f, &a);
    assert_int_equal(tree_attr(&f->tree, day.node, ME, &ignored), ENOENT);
    assert_int_equal(tree_attr(&f->tree, link.node, ME, &ignored), ENOENT);
    assert_int_equal(tree_attr(&f->tree, month.node, ME, &ignored), 0);
    assert_names(f, "records/by-date/2026/09", "02 ");
    delete_record(f, &b);
    assert_names(f, "records/by-date", "");
    assert_names(f, "records/by-store", "");
    assert_names(f, "stores/app/records", "");
    assert_gone(f, "records/by-store/app");
    assert_gone(f, "records/by-date/2026");
    assert_int_equal(tree_attr(&f->tree, month.node, ME, &ignored), ENOENT);
    assert_gone(f, "stores/app/at/2026-09-03");
}

static void pinned_has_what_is_pinned_now(void **state)
{
    struct fixture *f = *state;
    struct record a = adopt(f, "app", "2026-09-01T12:00:00Z");
    struct record b = adopt(f, "app", "2026-09-02T12:00:00Z");
    struct node_attr ignored;

    TEXT_OF(path, "records/pinned/%s", a.ulid);
    assert_gone(f, path);
    pin(f, &b, true);
    pin(f, &a, true);
    TEXT_OF(both, "%s %s ", a.ulid, b.ulid);
    assert_names(f, "records/pinned", both);
    TEXT_OF(target, "../%s", a.ulid);
    assert_link(f, target, "%s", path);
    struct node_attr link = find(f, "%s", path);
    pin(f, &a, false);
    assert_gone(f, path);
    assert_int_equal(tree_attr(&f->tree, link.node, ME, &ignored), ENOENT);
    TEXT_OF(one, "%s ", b.ulid);
    assert_names(f, "records/pinned", one);
}

static void a_store_has_its_jobs_and_records(void **state)
{
    struct fixture *f = *state;
    char web[ULID_LEN + 1], record[ULID_LEN + 1];
    struct job waits = insert_job(f, "");
    run_job(f, "web", web);
    struct job done = insert_job(f, "");
    start_job(f, done.ulid, record);
    succeed_job(f, done.ulid, record, false);
    struct record other = adopt(f, "web", "2026-09-01T12:00:00Z");

    TEXT_OF(app_jobs, "%s %s ", waits.ulid, done.ulid);
    assert_names(f, "stores/app/jobs", app_jobs);
    TEXT_OF(web_jobs, "%s ", web);
    assert_names(f, "stores/web/jobs", web_jobs);
    TEXT_OF(target, "../../../jobs/%s", done.ulid);
    assert_link(f, target, "stores/app/jobs/%s", done.ulid);
    TEXT_OF(not_its, "stores/app/jobs/%s", web);
    assert_gone(f, not_its);
    assert_int_equal(find(f, "stores/app/jobs/%s", done.ulid).st.st_mtim.tv_sec,
                     (f->now + 2000) / 1000);

    TEXT_OF(records, "%s ", record);
    assert_names(f, "stores/app/records", records);
    TEXT_OF(leads, "../../../records/%s", record);
    assert_link(f, leads, "stores/app/records/%s", record);
    TEXT_OF(not_this, "stores/app/records/%s", other.ulid);
    assert_gone(f, not_this);
    assert_int_equal(find(f, "stores/web/records/%s", other.ulid).st.st_mtim.tv_sec,
                     other.created_at / 1000);
}

/* ---- at ---- */

static void at_is_the_newest_record_not_later(void **state)
{
    struct fixture *f = *state;
    struct record a = adopt(f, "app", "2026-08-31T12:00:00.000Z");
    struct record b = adopt(f, "app", "2026-09-01T12:00:00.500Z");
    TEXT_OF(to_a, "../../../records/%s", a.ulid);
    TEXT_OF(to_b, "../../../records/%s", b.ulid);
    static const char *const gives_a[] = {"2026-08-31T12:00",         "2026-08-31T12:00:00Z",
                                          "2026-08-31T14:00+02:00",   "2026-09-01",
                                          "2026-09-01T12:00:00",      "2026-09-01T12:00",
                                          "2026-09-01T12:00:00.499Z", "2026-09-01T14:00+02:00"};
    static const char *const gives_b[] = {"2026-09-01T12:00:00.500Z",
                                          "2026-09-01T12:01",
                                          "2026-09-01 13:00",
                                          "2026-09-02",
                                          "2026-09-01T13",
                                          "2026-09-01T12:00-01:00",
                                          "2027-01-01",
                                          "9999-12-31"};
    static const char *const none[] = {"2026-08-31",
                                       "2026-08-31T11:59:59.999Z",
                                       "2026-08-31T13:00+02:00",
                                       "1970-01-01",
                                       "latest",
                                       "2026",
                                       "2026-09-31",
                                       "2026-09-01T12:00:00.",
                                       "..x"};

    adopt(f, "web", "2026-09-01T12:30:00.000Z");
    for (size_t i = 0; i < sizeof gives_a / sizeof gives_a[0]; i++)
        assert_link(f, to_a, "stores/app/at/%s", gives_a[i]);
    for (size_t i = 0; i < sizeof gives_b / sizeof gives_b[0]; i++)
        assert_link(f, to_b, "stores/app/at/%s", gives_b[i]);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        TEXT_OF(path, "stores/app/at/%s", none[i]);
        assert_gone(f, path);
    }
    assert_int_equal(find(f, "stores/app/at/2026-09-01").st.st_mtim.tv_sec, a.created_at / 1000);
    assert_names(f, "stores/app/at", "");
    delete_record(f, &b);
    assert_link(f, to_a, "stores/app/at/2027-01-01");
}

/* ---- all of them ---- */

/* Every node number of the tree, listed. */
struct numbers {
    node_id list[4096];
    size_t count;
};

static bool add_number(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    struct numbers *n = ctx;

    (void)cookie;
    if (name[0] == '.')
        return true;
    assert_true(n->count < 4096);
    n->list[n->count++] = S_ISDIR(mode) ? node : node | (node_id)1 << 63;
    return true;
}

static int compare_numbers(const void *a, const void *b)
{
    node_id x = *(const node_id *)a, y = *(const node_id *)b;

    return (x > y) - (x < y);
}

static void some_of_each(struct fixture *f)
{
    char job[ULID_LEN + 1], record[ULID_LEN + 1];
    static const char *const times[] = {"2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z",
                                        "2026-01-02T00:00:00Z", "2026-02-01T00:00:00Z"};

    make_record(f, job, record);
    insert_job(f, "key");
    for (size_t i = 0; i < 4; i++) {
        struct record r = adopt(f, i % 2 ? "web" : "app", times[i]);
        pin(f, &r, true);
    }
}

static void no_two_names_have_one_number(void **state)
{
    struct fixture *f = *state;
    struct numbers *n = xcalloc(1, sizeof *n);

    some_of_each(f);
    n->list[n->count++] = NODE_ROOT_ID;
    for (size_t i = 0; i < n->count; i++)
        if (n->list[i] <= INT64_MAX)
            assert_int_equal(tree_list(&f->tree, n->list[i], 0, add_number, n), 0);
        else
            n->list[i] &= INT64_MAX;
    assert_true(n->count > 150);
    qsort(n->list, n->count, sizeof n->list[0], compare_numbers);
    for (size_t i = 1; i < n->count; i++)
        assert_true(n->list[i - 1] < n->list[i]);
    free(n);
}

static void only_the_fixed_directories_are_final(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];

    make_record(f, job, record);
    struct record r = adopt(f, "app", "2026-09-01T12:00:00Z");
    pin(f, &r, true);
    assert_true(find(f, "records/by-store").final);
    assert_true(find(f, "records/by-date").final);
    assert_true(find(f, "records/pinned").final);
    static const char *const volatiles[] = {"records/by-store/app",    "records/by-date/2026",
                                            "records/by-date/2026/09", "stores/app/jobs",
                                            "stores/app/records",      "records/by-date/2026/09/01",
                                            "stores/app/at",           "stores/app/at/2027-01-01"};
    for (size_t i = 0; i < sizeof volatiles / sizeof volatiles[0]; i++)
        assert_false(find(f, "%s", volatiles[i]).final);
    assert_false(find(f, "records/by-store/app/%s", r.ulid).final);
    assert_false(find(f, "records/by-date/2026/09/01/%s", r.ulid).final);
    assert_false(find(f, "records/pinned/%s", r.ulid).final);
    assert_false(find(f, "stores/app/jobs/%s", job).final);
    assert_false(find(f, "stores/app/records/%s", r.ulid).final);
    assert_false(find(f, "records/%s/record.json", r.ulid).final);
}

static void nothing_of_a_view_can_be_removed(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], shell[ULID_LEN + 1];
    struct record r;

    make_record(f, job, r.ulid);
    pin(f, &r, true);
    pin(f, &r, false);
    static const char *const dirs[] = {"records/by-store/app",    "records/by-date/2027/01/15",
                                       "records/by-date/2027/01", "records/by-date/2027",
                                       "records/by-date",         "records/by-store",
                                       "records/pinned",          "stores/app/jobs",
                                       "stores/app/records",      "stores/app/at"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        node_id dir = find(f, "%s", dirs[i]).node;
        assert_int_equal(tree_unlink(&f->tree, dir, r.ulid, ME, 0, shell), EPERM);
        assert_int_equal(tree_rmdir(&f->tree, dir, r.ulid, ME, 0), EPERM);
    }
    assert_int_equal(
        tree_rmdir(&f->tree, node_make(NODE_RECORDS, 0, NODE_FILE_NONE), "by-date", ME, 0), EPERM);
    find(f, "records/%s", r.ulid);
}

static void numbers_and_cookies_of_no_date_are_refused(void **state)
{
    struct fixture *f = *state;
    static const int64_t rows[] = {0,
                                   1,
                                   2026 << 9,
                                   (2027 << 9 | 13 << 5 | 1),
                                   (2027 << 9 | 15 << 5),
                                   (2027 << 9 | 2 << 5 | 30),
                                   (int64_t)10001 << 9,
                                   ((int64_t)1 << 48) - 1};
    struct names n = {.text = BUF_INIT, .page = 100};
    struct node_attr a;

    adopt(f, "app", "2026-02-28T12:00:00Z");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(tree_attr(&f->tree, node_make(NODE_YEAR, rows[i], 0), ME, &a), ENOENT);
        assert_int_equal(tree_attr(&f->tree, node_make(NODE_MONTH, rows[i], 0), ME, &a), ENOENT);
        assert_int_equal(tree_attr(&f->tree, node_make(NODE_DAY, rows[i], 0), ME, &a), ENOENT);
    }
    node_id month = find(f, "records/by-date/2026/02").node;
    static const uint64_t cookies[] = {(uint64_t)(2027 << 9 | 2 << 5 | 31) * COOKIE_ROWS,
                                       (uint64_t)(2027 << 9 | 15 << 5 | 1) * COOKIE_ROWS, INT64_MAX,
                                       UINT64_MAX};
    for (size_t i = 0; i < sizeof cookies / sizeof cookies[0]; i++)
        assert_int_equal(tree_list(&f->tree, month, cookies[i], add_name, &n), 0);
    assert_int_equal(n.text.len, 0);
}

static void record_json_tells_also_of_one_that_is_leaving(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], shell[ULID_LEN + 1];

    make_record(f, job, record);
    struct node_attr json = find(f, "records/%s/record.json", record), leaving;
    char *text = read_node(f, json.node, ME, NULL);
    assert_non_null(strstr(text, "\"state\":\"good\"}\n"));
    assert_non_null(strstr(text, job));
    assert_int_equal(strlen(text), json.st.st_size);
    free(text);
    node_id dir = find(f, "records/%s", record).node;
    assert_int_equal(tree_unlink(&f->tree, dir, "payload", ME, 0, shell), 0);
    assert_int_equal(tree_lookup(&f->tree, dir, "record.json", ME, &leaving), 0);
    assert_int_equal(leaving.st.st_size, json.st.st_size + 4); /* "deleting" for "good" */
    assert_int_equal(tree_unlink(&f->tree, dir, "record.json", ME, 0, shell), 0);
    assert_names(f, "records/by-store", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(views_of_nothing_are_empty),
        TREE_TEST(by_store_has_the_stores_of_records_configured_or_not),
        TREE_TEST(by_date_has_what_has_records_and_nothing_else),
        TREE_TEST(dates_go_with_their_last_record),
        TREE_TEST(pinned_has_what_is_pinned_now),
        TREE_TEST(a_store_has_its_jobs_and_records),
        TREE_TEST(at_is_the_newest_record_not_later),
        TREE_TEST(no_two_names_have_one_number),
        TREE_TEST(only_the_fixed_directories_are_final),
        TREE_TEST(nothing_of_a_view_can_be_removed),
        TREE_TEST(numbers_and_cookies_of_no_date_are_refused),
        TREE_TEST(record_json_tells_also_of_one_that_is_leaving),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
