/* SPDX-License-Identifier: MIT */
/*
 * test_migrate.c - a file of each older schema becomes one of the newest, with all its rows.
 */
#include "fixture.h"

#include <fcntl.h>

/* What sqlite3's .dump gives of a file of schema version 1: never changed. */
static const char version_1[] =
    "PRAGMA application_id = 1801807216; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;"
    "BEGIN;"
    "CREATE TABLE jobs (  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ulid TEXT NOT NULL UNIQUE CHECK (length(ulid) = 26),  kind TEXT NOT NULL,"
    "  store TEXT NOT NULL,  repo TEXT NOT NULL,  state TEXT NOT NULL CHECK"
    "    (state IN ('pending', 'running', 'succeeded', 'failed', 'interrupted')),"
    "  record TEXT CHECK (length(record) = 26),  requested_by TEXT NOT NULL,  key TEXT,"
    "  label TEXT NOT NULL,  created_at INTEGER NOT NULL,  started_at INTEGER,"
    "  finished_at INTEGER,"
    "  progress INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),"
    "  stats TEXT NOT NULL DEFAULT '{}' CHECK (stats GLOB '{*}'),  error_code TEXT,"
    "  error_errno INTEGER NOT NULL DEFAULT 0,  error_message TEXT,"
    "  CHECK (state <> 'pending' OR started_at IS NULL),"
    "  CHECK (state NOT IN ('running', 'succeeded') OR started_at IS NOT NULL),"
    "  CHECK ((state IN ('pending', 'running')) = (finished_at IS NULL)),"
    "  CHECK ((state IN ('failed', 'interrupted')) = (error_code IS NOT NULL))) STRICT;"
    "INSERT INTO jobs VALUES(1,'01M7YCS50V0401CR5M03H6YNE1','backup','app','main','succeeded',"
    " '01M7YCS50V0401CR5M03H6YNR1','uid:0','deploy-1','before upgrade',1000,1001,2000,100,"
    " '{\"content_bytes\":7}',NULL,0,NULL);"
    "INSERT INTO jobs VALUES(2,'01M7YCS50V0401CR5M03H6YNE2','backup','app','main','failed',"
    " '01M7YCS50V0401CR5M03H6YNR9','uid:1000',NULL,'',3000,3001,3002,42,'{}',"
    " 'source_unavailable',5,'it is gone');"
    "INSERT INTO jobs VALUES(4,'01M7YCS50V0401CR5M03H6YNE4','backup','web','main','running',"
    " '01M7YCS50V0401CR5M03H6YNR8','uid:1000',NULL,'',4000,4001,NULL,0,'{}',NULL,0,NULL);"
    "INSERT INTO jobs VALUES(5,'01M7YCS50V0401CR5M03H6YNE5','backup','web','main','pending',"
    " NULL,'uid:1000',NULL,'',5000,NULL,NULL,0,'{}',NULL,0,NULL);"
    "CREATE TABLE records (  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ulid TEXT NOT NULL UNIQUE CHECK (length(ulid) = 26),  store TEXT NOT NULL,"
    "  store_kind TEXT NOT NULL,  repo TEXT NOT NULL,  created_at INTEGER NOT NULL,"
    "  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),"
    "  content_bytes INTEGER NOT NULL CHECK (content_bytes >= 0),  sha256 TEXT NOT NULL,"
    "  manifest_bytes INTEGER NOT NULL CHECK (manifest_bytes >= 0),"
    "  payload_id_count INTEGER NOT NULL CHECK (payload_id_count >= 0),"
    "  payload_ids_bytes INTEGER NOT NULL CHECK (payload_ids_bytes >= 0),"
    "  state TEXT NOT NULL DEFAULT 'good' CHECK (state IN ('good', 'missing', 'deleting')),"
    "  pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))) STRICT;"
    "INSERT INTO records VALUES(1,'01M7YCS50V0401CR5M03H6YNR1','app','sqlite','main',1001,90,100,"
    " 'aa',640,0,0,'good',0);"
    "INSERT INTO records VALUES(2,'01M7YCS50V0401CR5M03H6YNR2','app','sqlite','main',1002,91,101,"
    " 'bb',641,2,40,'good',1);"
    "INSERT INTO records VALUES(3,'01M7YCS50V0401CR5M03H6YNR3','app','sqlite','main',1003,1,1,"
    " 'cc',1,0,0,'missing',0);"
    "INSERT INTO records VALUES(6,'01M7YCS50V0401CR5M03H6YNR6','app','sqlite','main',1004,1,1,"
    " 'dd',1,0,0,'deleting',0);"
    "CREATE TABLE stores (  id INTEGER PRIMARY KEY AUTOINCREMENT,  name TEXT NOT NULL UNIQUE"
    ") STRICT;"
    "INSERT INTO stores VALUES(1,'app');INSERT INTO stores VALUES(3,'web');"
    "CREATE TABLE repos (  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  store INTEGER NOT NULL REFERENCES stores (id),  name TEXT NOT NULL,  UNIQUE (store, name)"
    ") STRICT;"
    "INSERT INTO repos VALUES(1,1,'main');INSERT INTO repos VALUES(7,3,'main');"
    "CREATE TABLE places (  repo INTEGER NOT NULL REFERENCES repos (id),  place TEXT NOT NULL,"
    "  PRIMARY KEY (repo, place)) STRICT, WITHOUT ROWID;"
    "INSERT INTO places VALUES(1,'/backup/app');"
    "DELETE FROM sqlite_sequence;"
    "INSERT INTO sqlite_sequence VALUES('jobs',9);INSERT INTO sqlite_sequence VALUES('records',8);"
    "INSERT INTO sqlite_sequence VALUES('stores',3);INSERT INTO sqlite_sequence VALUES('repos',7);"
    "CREATE UNIQUE INDEX jobs_record ON jobs (record) WHERE record IS NOT NULL;"
    "CREATE UNIQUE INDEX jobs_key ON jobs (key) WHERE key IS NOT NULL;"
    "CREATE INDEX jobs_keyed ON jobs (id, key) WHERE key IS NOT NULL;"
    "CREATE INDEX jobs_active ON jobs (id, ulid) WHERE state IN ('pending', 'running');"
    "CREATE INDEX jobs_active_of_store ON jobs (store, state)"
    "  WHERE state IN ('pending', 'running');"
    "CREATE INDEX records_good ON records (id, ulid) WHERE state = 'good';"
    "CREATE INDEX records_of_store ON records (store, created_at, ulid) WHERE state = 'good';"
    "CREATE INDEX records_of_repo ON records (store, repo, created_at, ulid)"
    "  WHERE state = 'good';"
    "COMMIT;";

#define JOB(n)    "01M7YCS50V0401CR5M03H6YNE" #n
#define RECORD(n) "01M7YCS50V0401CR5M03H6YNR" #n

/* In the place of the fixture's file; f->c is closed. */
static void make_version_1(struct fixture *f, const char *more)
{
    sqlite3 *db = NULL;

    catalog_close(f->c);
    f->c = NULL;
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, version_1, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, more, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void count_fault(void *ctx, const char *text)
{
    (void)text;
    ++*(int *)ctx;
}

/* The texts of all tables and indexes, without blanks. */
static char *schema_of(struct fixture *f)
{
    sqlite3_stmt *s = NULL;
    struct buf out = BUF_INIT;

    assert_int_equal(sqlite3_prepare_v2(f->c->sqlite,
                                        "SELECT type, name, replace(sql, ' ', '') FROM"
                                        " sqlite_schema ORDER BY type, name",
                                        -1, &s, NULL),
                     SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW)
        buf_addf(&out, "%s %s %s\n", sqlite3_column_text(s, 0), sqlite3_column_text(s, 1),
                 sqlite3_column_text(s, 2) ? (const char *)sqlite3_column_text(s, 2) : "");
    sqlite3_finalize(s);
    return buf_steal(&out);
}

static void migrated_file_has_the_schema_of_a_new_one(void **state)
{
    struct fixture *f = *state;
    __attribute__((cleanup(free_charp))) char *fresh = schema_of(f);
    int64_t version = sql_int(f, "PRAGMA user_version");
    int faults = 0;

    make_version_1(f, "");
    reopen(f);
    __attribute__((cleanup(free_charp))) char *migrated = schema_of(f);
    assert_string_equal(fresh, migrated);
    assert_int_equal(sql_int(f, "PRAGMA user_version"), version);
    OK(catalog_integrity(f->c, count_fault, &faults, &f->err));
    assert_int_equal(faults, 0);
    /* And once more, with nothing to do. */
    reopen(f);
    __attribute__((cleanup(free_charp))) char *again = schema_of(f);
    assert_string_equal(fresh, again);
}

static void jobs_of_version_1_are_there_with_every_field(void **state)
{
    struct fixture *f = *state;

    make_version_1(f, "");
    reopen(f);
    struct job done = get_job(f, JOB(1)), failed = get_job(f, JOB(2));
    assert_int_equal(done.row, 1);
    assert_int_equal(done.state, JOB_SUCCEEDED);
    assert_int_equal(done.attempt, 1);
    assert_string_equal(done.record, RECORD(1));
    assert_int_equal(done.record_row, 1);
    assert_string_equal(done.key, "deploy-1");
    assert_string_equal(done.label, "before upgrade");
    assert_int_equal(done.finished_at, 2000);
    assert_int_equal(stats_get(&done.stats, "content_bytes"), 7);
    assert_int_equal(failed.attempt, 1);
    assert_int_equal(failed.progress, 42);
    assert_int_equal(failed.error.code, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(failed.error.errnum, EIO);
    assert_string_equal(failed.error.message, "it is gone");
    assert_int_equal(list_count(f, LIST_JOBS), 4);
    assert_int_equal(list_count(f, LIST_JOBS_ACTIVE), 2);
}

static void records_of_version_1_are_there_with_pin_and_state(void **state)
{
    struct fixture *f = *state;
    struct record r;

    make_version_1(f, "");
    reopen(f);
    OK(catalog_record_get(f->c, RECORD(1), &r, &f->err));
    assert_int_equal(r.row, 1);
    assert_int_equal(r.content_bytes, 100);
    assert_string_equal(r.job, JOB(1));
    assert_false(r.pinned || r.suspect);
    OK(catalog_record_get(f->c, RECORD(2), &r, &f->err));
    assert_true(r.pinned && !r.suspect);
    assert_int_equal(r.payload_ids_bytes, 40);
    assert_int_equal(state_of(f, RECORD(3)), RECORD_MISSING);
    assert_int_equal(state_of(f, RECORD(6)), RECORD_DELETING);
}

static void see_record(void *ctx, const struct record *r)
{
    buf_addf(ctx, "%s\n", r->ulid);
}

static void ignore_pruned(void *ctx, const char *ulid)
{
    (void)ctx, (void)ulid;
}

/* The new indexes have the old rows, and rows go on where they were. */
static void rows_of_version_1_take_part_in_what_is_new(void **state)
{
    struct fixture *f = *state;
    struct buf seen = BUF_INIT;
    time_ms handled = -1;
    int64_t row;
    size_t count;

    make_version_1(f, "");
    reopen(f);
    OK(catalog_records_deleting(f->c, see_record, &seen, &f->err));
    assert_string_equal(buf_text(&seen), RECORD(6) "\n");
    buf_release(&seen);
    OK(catalog_jobs_prune(f->c, 10000, 100, ignore_pruned, NULL, &count, &f->err));
    assert_int_equal(count, 1);
    get_job(f, JOB(1));
    OK(catalog_tick_get(f->c, "web", "main", &handled, &f->err));
    assert_int_equal(handled, 0);
    OK(catalog_tick_set(f->c, "web", "main", NOW, &f->err));
    assert_int_equal(sql_int(f, "SELECT repo FROM ticks"), 7);
    OK(catalog_store_row(f->c, "new", &row, &f->err));
    assert_int_equal(row, 4);
    assert_int_equal(job_in(f, JOB_PENDING).row, 10);
    bool used = false;
    OK(catalog_repo_is_used(f->c, "app", "main", "/backup/app", &used, &f->err));
    assert_true(used);
}

static void look_at_version_1_is_refused_and_leaves_it(void **state)
{
    struct fixture *f = *state;

    make_version_1(f, "");
    assert_null(catalog_open_look(f->path, &f->err));
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    MESSAGE_HAS("older keepfs");
    reopen(f);
    get_job(f, JOB(1));
}

/* The last statement of the script cannot work. */
static void migration_that_fails_leaves_version_1_whole(void **state)
{
    struct fixture *f = *state;
    sqlite3 *db = NULL;

    make_version_1(f, "CREATE TABLE ticks (somebody_elses)");
    assert_null(catalog_open(f->path, &f->err));
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "SELECT attempt FROM jobs", NULL, NULL, NULL), SQLITE_ERROR);
    assert_int_equal(sqlite3_exec(db, "DROP TABLE ticks", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    reopen(f);
    get_job(f, JOB(1));
    assert_int_equal(list_count(f, LIST_JOBS), 4);
}

/* The sums begin with what the history has. */
static void sums_are_made_of_the_rows_of_version_1(void **state)
{
    struct fixture *f = *state;
    struct repo_standing s;

    make_version_1(f, "");
    reopen(f);
    OK(catalog_repo_standing(f->c, "app", "main", NOW, &s, &f->err));
    assert_int_equal(s.records, 2);
    assert_true(s.size_bytes == 181 && s.content_bytes == 201);
    assert_string_equal(s.newest, RECORD(2));
    assert_int_equal(s.outcome_count, 2);
    assert_string_equal(s.job, JOB(2));
    assert_int_equal(s.job_state, JOB_FAILED);
    assert_int_equal(s.job_error, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(s.job_run_ms, 1);
    for (size_t i = 0; i < s.outcome_count; i++) {
        assert_int_equal(s.outcomes[i].jobs, 1);
        assert_int_equal(s.outcomes[i].run_ms, s.outcomes[i].state == JOB_SUCCEEDED ? 999 : 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sums_are_made_of_the_rows_of_version_1),
        TEST(migrated_file_has_the_schema_of_a_new_one),
        TEST(jobs_of_version_1_are_there_with_every_field),
        TEST(records_of_version_1_are_there_with_pin_and_state),
        TEST(rows_of_version_1_take_part_in_what_is_new),
        TEST(look_at_version_1_is_refused_and_leaves_it),
        TEST(migration_that_fails_leaves_version_1_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
