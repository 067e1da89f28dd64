/* SPDX-License-Identifier: MIT */
/*
 * test_catalog.c - the database itself: its file, its plans, its threads.
 */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

/* ---- the file ---- */

static mode_t mode_of(const char *path, const char *suffix)
{
    char name[320];
    struct stat st;

    snprintf(name, sizeof name, "%s%s", path, suffix);
    assert_int_equal(stat(name, &st), 0);
    return st.st_mode & 07777;
}

static void files_are_the_owners_alone_whatever_the_umask(void **state)
{
    struct fixture *f = *state;
    static const mode_t masks[] = {0, 022, 0777};

    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        char path[320];
        snprintf(path, sizeof path, "%s/umask-%zu.db", f->dir, i);
        mode_t old = umask(masks[i]);
        struct catalog *c = catalog_open(path, &f->err);
        umask(old);
        if (!c)
            fail_msg("%s", f->err.message);
        assert_int_equal(mode_of(path, ""), 0600);
        assert_int_equal(mode_of(path, "-wal"), 0600);
        assert_int_equal(mode_of(path, "-shm"), 0600);
        catalog_close(c);
    }
}

static void connection_is_durable_and_distrustful(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(sql_int(f, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
    assert_int_equal(sql_int(f, "PRAGMA synchronous"), 2);
    assert_int_equal(sql_int(f, "PRAGMA foreign_keys"), 1);
    assert_int_equal(sql_int(f, "PRAGMA temp_store"), 2);
    assert_int_equal(sql_int(f, "PRAGMA trusted_schema"), 0);
    assert_int_equal(sql_int(f, "PRAGMA cell_size_check"), 1);
    assert_int_equal(sql_int(f, "PRAGMA busy_timeout"), 500);
    int defensive = 0;
    sqlite3_db_config(f->c->sqlite, SQLITE_DBCONFIG_DEFENSIVE, -1, &defensive);
    assert_int_equal(defensive, 1);
}

static char *slurp(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *data = xmalloc((size_t)st.st_size);
    *len = (size_t)st.st_size;
    assert_int_equal(fd_pread_all(fd, data, *len, 0), st.st_size);
    close(fd);
    return data;
}

static void spill(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, data, len), 0);
    close(fd);
}

/* The file is refused with both texts in the message, and is not changed. */
static void assert_refused_unchanged(struct fixture *f, const char *path, const char *text)
{
    size_t before_len, after_len;
    __attribute__((cleanup(free_charp))) char *before = slurp(path, &before_len);

    memset(&f->err, 0, sizeof f->err);
    assert_null(catalog_open(path, &f->err));
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    assert_int_not_equal(f->err.errnum, 0);
    MESSAGE_HAS(path);
    MESSAGE_HAS(text);
    MESSAGE_HAS("adopted again");
    __attribute__((cleanup(free_charp))) char *after = slurp(path, &after_len);
    assert_int_equal(before_len, after_len);
    assert_memory_equal(before, after, before_len);
}

static void garbage_is_refused_with_advice_and_not_changed(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {2, 99, 4096, 10000};
    char path[320], garbage[10000];

    memset(garbage, 'x', sizeof garbage);
    snprintf(path, sizeof path, "%s/garbage.db", f->dir);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        spill(path, garbage, sizes[i]);
        assert_refused_unchanged(f, path, "away");
    }
}

static void newer_schema_is_refused_by_name_and_not_changed(void **state)
{
    struct fixture *f = *state;

    sql(f, "PRAGMA user_version = 77");
    catalog_close(f->c);
    f->c = NULL;
    assert_refused_unchanged(f, f->path, "schema version 77");
    MESSAGE_HAS("newer keepfs");
}

static void newer_schema_with_a_wal_left_behind_is_not_changed_either(void **state)
{
    struct fixture *f = *state;
    char copy[320], name[340];
    size_t len;

    sql(f, "PRAGMA user_version = 77");
    snprintf(copy, sizeof copy, "%s/copy.db", f->dir);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s%s", f->path, i ? "-wal" : "");
        __attribute__((cleanup(free_charp))) char *data = slurp(name, &len);
        assert_true(len > 0);
        snprintf(name, sizeof name, "%s%s", copy, i ? "-wal" : "");
        spill(name, data, len);
    }
    assert_refused_unchanged(f, copy, "schema version 77");
}

static void database_of_another_program_is_refused_and_not_changed(void **state)
{
    struct fixture *f = *state;
    char path[320];
    sqlite3 *other = NULL;

    snprintf(path, sizeof path, "%s/other.db", f->dir);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE jobs (id)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    assert_refused_unchanged(f, path, "another program");
}

static void changed_schema_is_refused_with_advice(void **state)
{
    struct fixture *f = *state;

    sql(f, "DROP TABLE places");
    catalog_close(f->c);
    f->c = catalog_open(f->path, &f->err);
    assert_null(f->c);
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    MESSAGE_HAS("places");
    MESSAGE_HAS("adopted again");
}

static void damaged_page_is_unavailable_not_a_crash(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 100; i++)
        job_in(f, JOB_SUCCEEDED);
    sqlite3_stmt *root;
    assert_int_equal(sqlite3_prepare_v2(f->c->sqlite,
                                        "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'",
                                        -1, &root, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(root), SQLITE_ROW);
    off_t at = (off_t)(sqlite3_column_int64(root, 0) - 1) * 4096;
    sqlite3_finalize(root);
    catalog_close(f->c);
    f->c = NULL;
    int fd = open(f->path, O_WRONLY);
    char other[4096];
    memset(other, 0xee, sizeof other);
    assert_int_equal(pwrite(fd, other, sizeof other, at), sizeof other);
    close(fd);
    f->c = catalog_open(f->path, &f->err);
    assert_non_null(f->c);
    struct job job;
    FAILS(catalog_job_latest(f->c, &job, &f->err), ERR_STATE_UNAVAILABLE, EIO);
    MESSAGE_HAS(f->path);
    MESSAGE_HAS("adopted again");
    struct job more = new_job("app", "nightly");
    FAILS(catalog_jobs_create(f->c, &more, 1, &f->err), ERR_STATE_UNAVAILABLE, EIO);
}

static void path_that_cannot_be_made_is_named(void **state)
{
    struct fixture *f = *state;
    char path[320];

    snprintf(path, sizeof path, "%s/absent/keepfs.db", f->dir);
    assert_null(catalog_open(path, &f->err));
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    assert_int_equal(f->err.errnum, ENOENT);
    MESSAGE_HAS(path);
    /* A directory stands in the way. */
    assert_null(catalog_open(f->dir, &f->err));
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    MESSAGE_HAS(f->dir);
}

static void empty_file_becomes_a_catalog(void **state)
{
    struct fixture *f = *state;

    catalog_close(f->c);
    spill(f->path, "", 0);
    f->c = catalog_open(f->path, &f->err);
    assert_non_null(f->c);
    job_in(f, JOB_SUCCEEDED);
}

static void only_known_words_can_be_states(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {
        "UPDATE jobs SET state = 'cancelled'",   "UPDATE jobs SET progress = 101",
        "UPDATE jobs SET progress = 'half'",     "UPDATE jobs SET state = 'pending'",
        "UPDATE jobs SET error_code = 'x'",      "UPDATE records SET state = 'bad'",
        "UPDATE jobs SET finished_at = NULL",    "UPDATE records SET size_bytes = -1",
        "INSERT INTO repos VALUES (9, 77, 'r')",
    };

    job_in(f, JOB_SUCCEEDED);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(sqlite3_exec(f->c->sqlite, wrong[i], NULL, NULL, NULL) & 0xff,
                         SQLITE_CONSTRAINT);
}

/* ---- plans ---- */

/* Walks a partial index or no table of the file at all. */
static bool scan_is_allowed(const char *detail)
{
    static const char *const allowed[] = {"SCAN json_each",
                                          "SCAN CONSTANT ROW",
                                          "SCAN job_progress",
                                          "USING INDEX jobs_active",
                                          "USING COVERING INDEX jobs_active",
                                          "USING INDEX records_of_repo"};

    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        if (strstr(detail, allowed[i]))
            return true;
    return false;
}

static void no_statement_scans_or_sorts_a_table(void **state)
{
    struct fixture *f = *state;
    size_t searches = 0;

    for (int id = 0; id < SQL_COUNT; id++) {
        const char *text = sqlite3_sql(f->c->statements[id]);
        __attribute__((cleanup(free_charp))) char *query = xasprintf("EXPLAIN QUERY PLAN %s", text);
        sqlite3_stmt *s = NULL;
        assert_int_equal(sqlite3_prepare_v2(f->c->sqlite, query, -1, &s, NULL), SQLITE_OK);
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *detail = (const char *)sqlite3_column_text(s, 3);
            searches += strstr(detail, "SEARCH") != NULL;
            if ((strstr(detail, "SCAN") && !scan_is_allowed(detail)) ||
                strstr(detail, "TEMP B-TREE") || strstr(detail, "AUTOMATIC"))
                fail_msg("%s: %s", text, detail);
        }
        sqlite3_finalize(s);
    }
    assert_true(searches >= 20);
}

/* ---- listings ---- */

static void make_many_jobs(struct fixture *f, int count)
{
    char text[512];

    snprintf(text, sizeof text,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO jobs (ulid, kind, store, repo, state, requested_by, key, label,"
             " created_at, started_at, finished_at, error_code)"
             " SELECT printf('%%026d', i), 'backup', 'many', 'r', 'failed', 'uid:0',"
             " CASE WHEN i %% 10 = 0 THEN 'k' || i END, '', i, i, i, 'internal' FROM n",
             count);
    sql(f, text);
}

static void listing_of_many_jobs_uses_constant_memory(void **state)
{
    struct fixture *f = *state;

    make_many_jobs(f, 100000);
    assert_int_equal(list_count(f, LIST_JOBS), 100000);
    assert_int_equal(list_count(f, LIST_JOBS_KEYED), 10000);
    /* The page cache is warm now; what grows from here on is the listing's own. */
    sqlite3_int64 before = sqlite3_memory_used();
    sqlite3_memory_highwater(1);
    assert_int_equal(list_count(f, LIST_JOBS), 100000);
    assert_true(before > 0);
    assert_true(sqlite3_memory_highwater(0) - before < 65536);
}

static void look_ups_among_many_jobs_take_few_steps(void **state)
{
    struct fixture *f = *state;
    struct job job;
    enum job_state word;
    bool active;

    make_many_jobs(f, 100000);
    OK(catalog_job_latest(f->c, &job, &f->err));
    OK(catalog_job_get(f->c, "00000000000000000000050000", &job, &f->err));
    OK(catalog_job_by_key(f->c, "k70000", &job, &f->err));
    OK(catalog_store_activity(f->c, "many", &word, &active, &f->err));
    assert_int_equal(list_count(f, LIST_JOBS_ACTIVE), 0);
    job_in(f, JOB_SUCCEEDED);
    for (int id = 0; id < SQL_COUNT; id++)
        if (sqlite3_stmt_status(f->c->statements[id], SQLITE_STMTSTATUS_VM_STEP, 0) > 2000)
            fail_msg("%s", sqlite3_sql(f->c->statements[id]));
}

static void listing_goes_on_behind_where_it_stopped(void **state)
{
    struct fixture *f = *state;
    struct listing l = {.stop_after = 700};

    make_many_jobs(f, 1500);
    OK(catalog_list(f->c, LIST_JOBS, 0, count_entry, &l, &f->err));
    assert_int_equal(l.count, 700);
    assert_int_equal(l.last, 700);
    sql(f, "DELETE FROM jobs WHERE id IN (700, 701)");
    l.stop_after = 0;
    OK(catalog_list(f->c, LIST_JOBS, l.last, count_entry, &l, &f->err));
    assert_int_equal(l.count, 1499);
    assert_int_equal(l.last, 1500);
    OK(catalog_list(f->c, LIST_JOBS, l.last, count_entry, &l, &f->err));
    assert_int_equal(l.count, 1499);
}

struct insert_meanwhile {
    struct listing listing;
    struct fixture *f;
    struct job job;
    int result;
    pthread_t thread;
};

static void *insert_one(void *ctx)
{
    struct insert_meanwhile *m = ctx;
    struct error err;

    m->result = catalog_jobs_create(m->f->c, &m->job, 1, &err);
    return NULL;
}

static bool insert_at_first_entry(void *ctx, const struct catalog_entry *e)
{
    struct insert_meanwhile *m = ctx;

    if (m->listing.count == 0)
        assert_int_equal(pthread_create(&m->thread, NULL, insert_one, m), 0);
    return count_entry(&m->listing, e);
}

static void insert_during_a_listing_neither_repeats_nor_hides_entries(void **state)
{
    struct fixture *f = *state;
    struct insert_meanwhile m = {.f = f, .job = new_job("app", "nightly")};

    make_many_jobs(f, 5000);
    OK(catalog_list(f->c, LIST_JOBS, 0, insert_at_first_entry, &m, &f->err));
    pthread_join(m.thread, NULL);
    assert_int_equal(m.result, 0);
    /* count_entry has seen that the rows ascend; the new one may be there or not. */
    assert_true(m.listing.count == 5000 || m.listing.count == 5001);
    assert_int_equal(list_count(f, LIST_JOBS), 5001);
}

static void row_ids_are_never_used_again(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);

    sql(f, "DELETE FROM jobs; DELETE FROM records");
    reopen(f);
    struct job next = job_in(f, JOB_SUCCEEDED);
    assert_true(next.row > job.row);
    assert_true(next.record_row > job.record_row);
}

/* ---- stores ---- */

static void stores_and_repos_keep_their_rows(void **state)
{
    struct fixture *f = *state;
    int64_t app, web, app_a, web_a, app_b, again;

    OK(catalog_store_row(f->c, "app", &app, &f->err));
    OK(catalog_repo_row(f->c, "app", "a", &app_a, &f->err));
    OK(catalog_repo_row(f->c, "web", "a", &web_a, &f->err));
    OK(catalog_repo_row(f->c, "app", "b", &app_b, &f->err));
    OK(catalog_store_row(f->c, "web", &web, &f->err));
    assert_true(app > 0 && web > 0 && app != web);
    assert_true(app_a > 0 && app_a != web_a && app_a != app_b && web_a != app_b);
    reopen(f);
    OK(catalog_store_row(f->c, "app", &again, &f->err));
    assert_int_equal(again, app);
    OK(catalog_store_row(f->c, "web", &again, &f->err));
    assert_int_equal(again, web);
    OK(catalog_repo_row(f->c, "web", "a", &again, &f->err));
    assert_int_equal(again, web_a);
}

static void a_row_says_whose_it_is(void **state)
{
    struct fixture *f = *state;
    char store[LIMIT_ID + 1], repo[LIMIT_ID + 1];
    int64_t app, nas;

    OK(catalog_store_row(f->c, "app", &app, &f->err));
    OK(catalog_repo_row(f->c, "web", "nas", &nas, &f->err));
    reopen(f);
    OK(catalog_store_at(f->c, app, store, &f->err));
    assert_string_equal(store, "app");
    OK(catalog_repo_at(f->c, nas, store, repo, &f->err));
    assert_string_equal(store, "web");
    assert_string_equal(repo, "nas");
    assert_int_equal(catalog_store_at(f->c, 77, store, &f->err), -1);
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
    assert_int_equal(catalog_repo_at(f->c, 77, store, repo, &f->err), -1);
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
    assert_string_equal(store, "web");
}

static bool add_name(void *ctx, const struct catalog_entry *e)
{
    char *names = ctx;

    strcat(strcat(names, e->name), " ");
    return strcmp(e->name, "c") != 0;
}

static void stores_are_listed_by_row_behind_any_of_them(void **state)
{
    struct fixture *f = *state;
    static const char *const ids[] = {"b", "a", "c", "d"};
    char names[16] = "";
    int64_t rows[4];

    for (size_t i = 0; i < 4; i++)
        OK(catalog_store_row(f->c, ids[i], &rows[i], &f->err));
    OK(catalog_list_stores(f->c, 0, add_name, names, &f->err));
    assert_string_equal(names, "b a c ");
    names[0] = '\0';
    OK(catalog_list_stores(f->c, rows[2], add_name, names, &f->err));
    assert_string_equal(names, "d ");
    names[0] = '\0';
    OK(catalog_list_stores(f->c, rows[3], add_name, names, &f->err));
    assert_string_equal(names, "");
}

static void repo_is_used_at_each_place_it_was_used_at(void **state)
{
    struct fixture *f = *state;
    bool used = true;

    OK(catalog_repo_is_used(f->c, "app", "a", "/backups", &used, &f->err));
    assert_false(used);
    OK(catalog_repo_used(f->c, "app", "a", "/backups", &f->err));
    OK(catalog_repo_used(f->c, "app", "a", "/moved", &f->err));
    OK(catalog_repo_used(f->c, "app", "a", "/backups", &f->err));
    reopen(f);
    OK(catalog_repo_is_used(f->c, "app", "a", "/backups", &used, &f->err));
    assert_true(used);
    OK(catalog_repo_is_used(f->c, "app", "a", "/moved", &used, &f->err));
    assert_true(used);
    OK(catalog_repo_is_used(f->c, "app", "a", "/other", &used, &f->err));
    assert_false(used);
    OK(catalog_repo_is_used(f->c, "app", "b", "/backups", &used, &f->err));
    assert_false(used);
    OK(catalog_repo_is_used(f->c, "web", "a", "/backups", &used, &f->err));
    assert_false(used);
}

/* ---- threads ---- */

enum { THREADS = 8, JOBS_EACH = 200 };

struct worker {
    struct catalog *c;
    pthread_t thread;
    int number, failures;
    struct error err;
};

static int run_job(struct worker *w, int i)
{
    struct job job = new_job("app", "nightly"), read;
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};
    struct job_progress p = {.percent = 50, .done = 5, .expected = 10};
    int listed = 0;

    snprintf(job.key, sizeof job.key, "%d-%d", w->number, i);
    return catalog_jobs_create(w->c, &job, 1, &w->err) ||
           catalog_job_start(w->c, job.ulid, r.ulid, NOW, &w->err) ||
           catalog_job_progress(w->c, job.ulid, &p, &w->err) ||
           catalog_list(w->c, LIST_JOBS_ACTIVE, 0, count_any, &listed, &w->err) || listed < 1 ||
           catalog_job_succeed(w->c, job.ulid, &r, &stats, NOW, &w->err) ||
           catalog_job_by_key(w->c, job.key, &read, &w->err) || read.state != JOB_SUCCEEDED ||
           strcmp(read.record, r.ulid) != 0 || read.record_row == 0;
}

static void *run_jobs(void *ctx)
{
    struct worker *w = ctx;

    for (int i = 0; i < JOBS_EACH; i++)
        w->failures += run_job(w, i);
    return NULL;
}

static void threads_share_one_catalog(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS] = {0};

    for (int i = 0; i < THREADS; i++) {
        workers[i].c = f->c;
        workers[i].number = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_jobs, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        if (workers[i].failures)
            fail_msg("%d failed: %s", workers[i].failures, workers[i].err.message);
    reopen(f);
    assert_int_equal(list_count(f, LIST_JOBS), THREADS * JOBS_EACH);
    assert_int_equal(list_count(f, LIST_RECORDS), THREADS * JOBS_EACH);
    assert_int_equal(list_count(f, LIST_JOBS_ACTIVE), 0);
    assert_int_equal(sql_int(f, "SELECT count(*) FROM jobs JOIN records ON record = records.ulid"
                                " WHERE jobs.state = 'succeeded' AND progress = 100"),
                     THREADS * JOBS_EACH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_the_owners_alone_whatever_the_umask),
        TEST(connection_is_durable_and_distrustful),
        TEST(garbage_is_refused_with_advice_and_not_changed),
        TEST(newer_schema_is_refused_by_name_and_not_changed),
        TEST(newer_schema_with_a_wal_left_behind_is_not_changed_either),
        TEST(database_of_another_program_is_refused_and_not_changed),
        TEST(changed_schema_is_refused_with_advice),
        TEST(damaged_page_is_unavailable_not_a_crash),
        TEST(path_that_cannot_be_made_is_named),
        TEST(empty_file_becomes_a_catalog),
        TEST(only_known_words_can_be_states),
        TEST(no_statement_scans_or_sorts_a_table),
        TEST(listing_of_many_jobs_uses_constant_memory),
        TEST(look_ups_among_many_jobs_take_few_steps),
        TEST(listing_goes_on_behind_where_it_stopped),
        TEST(insert_during_a_listing_neither_repeats_nor_hides_entries),
        TEST(row_ids_are_never_used_again),
        TEST(stores_and_repos_keep_their_rows),
        TEST(a_row_says_whose_it_is),
        TEST(stores_are_listed_by_row_behind_any_of_them),
        TEST(repo_is_used_at_each_place_it_was_used_at),
        TEST(threads_share_one_catalog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
