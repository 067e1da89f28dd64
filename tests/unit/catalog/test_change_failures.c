/* SPDX-License-Identifier: MIT */
/*
 * test_change_failures.c - every function that changes something, with each of its writes and
 * syncs failing in turn: all or nothing, no event of what did not happen, and it works the next
 * time.
 */
#include "fixture.h"

/* ---- a disk that fails once ---- */

/* SQLite's own file system, but its n-th write or sync gives an error. */
static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    /* The database and its -wal have methods of their own; writes and syncs are the same. */
    const sqlite3_io_methods *methods[4];
    sqlite3_io_methods patched[4];
    int countdown; /* 0: none fails */
    bool failed;
} disk;

static bool fails_now(void)
{
    if (disk.countdown == 0 || --disk.countdown > 0)
        return false;
    disk.failed = true;
    errno = EIO;
    return true;
}

static int failing_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
    return fails_now() ? SQLITE_IOERR_WRITE : disk.methods[0]->xWrite(file, data, size, offset);
}

static int failing_sync(sqlite3_file *file, int flags)
{
    return fails_now() ? SQLITE_IOERR_FSYNC : disk.methods[0]->xSync(file, flags);
}

static int open_on_disk(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    int rc = disk.real->xOpen(disk.real, name, file, flags, out);
    if (rc != SQLITE_OK || !file->pMethods)
        return rc;
    size_t i = 0;
    while (disk.methods[i] && disk.methods[i] != file->pMethods)
        i++;
    assert_true(i < sizeof disk.methods / sizeof disk.methods[0]);
    disk.methods[i] = file->pMethods;
    disk.patched[i] = *file->pMethods;
    assert_ptr_equal(file->pMethods->xWrite, disk.methods[0]->xWrite);
    disk.patched[i].xWrite = failing_write;
    disk.patched[i].xSync = failing_sync;
    file->pMethods = &disk.patched[i];
    return rc;
}

static int disk_setup(void **state)
{
    (void)state;
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.zName = "failing";
    disk.vfs.xOpen = open_on_disk;
    return sqlite3_vfs_register(&disk.vfs, 1) == SQLITE_OK ? 0 : -1;
}

static int disk_teardown(void **state)
{
    (void)state;
    return sqlite3_vfs_unregister(&disk.vfs) == SQLITE_OK ? 0 : -1;
}

/* ---- what is changed ---- */

/* Rows on which each action works. */
struct stage {
    struct job pending, running, old, fresh[2];
    struct record made, found, good, pinned, suspect, missing, deleting;
};

static struct stage stage;

static void set_stage(struct fixture *f)
{
    size_t count;

    sql(f, "DELETE FROM jobs; DELETE FROM records; DELETE FROM ticks; DELETE FROM repos");
    stage.missing = stored_record(f, "away");
    OK(catalog_records_missing(f->c, "app", "away", NULL, 0, &count, &f->err));
    stage.good = stored_record(f, "main");
    stage.pinned = stored_record(f, "main");
    OK(catalog_record_pin(f->c, stage.pinned.ulid, true, &f->err));
    stage.suspect = stored_record(f, "main");
    OK(catalog_record_mark_suspect(f->c, stage.suspect.ulid, true, &f->err));
    stage.deleting = stored_record(f, "main");
    OK(catalog_record_delete_begin(f->c, stage.deleting.ulid, &f->err));
    stage.old = job_in(f, JOB_FAILED);
    stage.pending = job_in(f, JOB_PENDING);
    stage.running = job_in(f, JOB_RUNNING);
    stage.fresh[0] = new_job("app", "main");
    stage.fresh[1] = new_job("app", "main");
    stage.made = new_record("app", "main");
    memcpy(stage.made.ulid, stage.running.record, sizeof stage.made.ulid);
    stage.found = new_record("app", "main");
}

static int create(struct fixture *f)
{
    return catalog_jobs_create(f->c, stage.fresh, 2, &f->err);
}

static int start(struct fixture *f)
{
    return catalog_job_start(f->c, stage.pending.ulid, stage.found.ulid, NOW, &f->err);
}

static int succeed(struct fixture *f)
{
    return catalog_job_succeed(f->c, stage.running.ulid, &stage.made, NULL, NOW, &f->err);
}

static int fail_running(struct fixture *f)
{
    struct error e = why(ERR_CANCELLED, 0);
    return catalog_job_fail(f->c, stage.running.ulid, JOB_FAILED, &e, NULL, NOW, &f->err);
}

static int interrupt(struct fixture *f)
{
    size_t count;
    return catalog_jobs_interrupt(f->c, NOW, &count, &f->err);
}

static void ignore_pruned(void *ctx, const char *ulid)
{
    (void)ulid;
    ++*(int *)ctx;
}

static int prune(struct fixture *f)
{
    int told = 0;
    size_t count = 0;
    int result = catalog_jobs_prune(f->c, INT64_MAX, CATALOG_PRUNE_MAX, ignore_pruned, &told,
                                    &count, &f->err);

    assert_int_equal(told, result == 0 ? 1 : 0);
    return result;
}

static int adopt(struct fixture *f)
{
    bool adopted;
    return catalog_record_adopt(f->c, &stage.found, &adopted, &f->err);
}

static int bring_back(struct fixture *f)
{
    bool adopted;
    return catalog_record_adopt(f->c, &stage.missing, &adopted, &f->err);
}

static int miss(struct fixture *f)
{
    size_t missing;
    return catalog_records_missing(f->c, "app", "main", NULL, 0, &missing, &f->err);
}

static int pin(struct fixture *f)
{
    return catalog_record_pin(f->c, stage.good.ulid, true, &f->err);
}

static int unpin(struct fixture *f)
{
    return catalog_record_pin(f->c, stage.pinned.ulid, false, &f->err);
}

static int suspect(struct fixture *f)
{
    return catalog_record_mark_suspect(f->c, stage.good.ulid, true, &f->err);
}

static int review(struct fixture *f)
{
    return catalog_record_mark_suspect(f->c, stage.suspect.ulid, false, &f->err);
}

static int begin(struct fixture *f)
{
    return catalog_record_delete_begin(f->c, stage.good.ulid, &f->err);
}

static int end(struct fixture *f)
{
    return catalog_record_delete_end(f->c, stage.deleting.ulid, &f->err);
}

static int set_tick(struct fixture *f)
{
    return catalog_tick_set(f->c, "app", "main", NOW, &f->err);
}

static const struct {
    const char *name;
    int (*act)(struct fixture *f);
    size_t events; /* of a success */
} actions[] = {
    {"create", create, 2},     {"start", start, 1},           {"succeed", succeed, 2},
    {"fail", fail_running, 1}, {"interrupt", interrupt, 2},   {"prune", prune, 0},
    {"adopt", adopt, 1},       {"bring back", bring_back, 1}, {"miss", miss, 3},
    {"pin", pin, 1},           {"unpin", unpin, 1},           {"suspect", suspect, 1},
    {"review", review, 1},     {"begin", begin, 1},           {"end", end, 1},
    {"tick", set_tick, 0},
};
#define ACTIONS (sizeof actions / sizeof actions[0])

/* ---- the cases ---- */

static size_t heard;

static void count_event(void *ctx, const struct catalog_event *e)
{
    (void)ctx, (void)e;
    heard++;
}

static void prepare(struct fixture *f)
{
    catalog_on_event(f->c, NULL, NULL);
    set_stage(f);
    catalog_on_event(f->c, count_event, NULL);
    heard = 0;
}

static void assert_works(struct fixture *f, size_t a, const char *before)
{
    if (actions[a].act(f) != 0)
        fail_msg("%s: %s", actions[a].name, f->err.message);
    __attribute__((cleanup(free_charp))) char *after = dump(f);
    assert_string_not_equal(before, after);
    assert_int_equal(heard, actions[a].events);
}

static void assert_nothing_happened(struct fixture *f, size_t a, const char *before)
{
    __attribute__((cleanup(free_charp))) char *after = dump(f);

    if (strcmp(before, after) != 0 || heard != 0)
        fail_msg("%s: %zu events, and\n%s became\n%s", actions[a].name, heard, before, after);
    assert_true(sqlite3_get_autocommit(f->c->sqlite));
}

/* The failing write may be one that does not matter, as of a checkpoint after the commit. */
static bool works_with_failure(struct fixture *f, size_t a, int nth)
{
    prepare(f);
    __attribute__((cleanup(free_charp))) char *before = dump(f);
    disk.failed = false;
    disk.countdown = nth;
    int result = actions[a].act(f);
    disk.countdown = 0;
    if (result == 0) {
        assert_int_equal(heard, actions[a].events);
        return !disk.failed;
    }
    assert_true(disk.failed);
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    assert_int_equal(f->err.errnum, EIO);
    assert_nothing_happened(f, a, before);
    assert_works(f, a, before);
    return false;
}

static void each_write_and_sync_that_fails_leaves_all_as_it_was(void **state)
{
    struct fixture *f = *state;

    for (size_t a = 0; a < ACTIONS; a++) {
        int nth = 1;
        while (!works_with_failure(f, a, nth))
            nth++;
        if (nth < 3)
            fail_msg("%s: only %d calls", actions[a].name, nth - 1);
    }
}

static int refuse_commit(void *ctx)
{
    ++*(int *)ctx;
    return 1;
}

static void commit_that_fails_leaves_all_as_it_was(void **state)
{
    struct fixture *f = *state;

    for (size_t a = 0; a < ACTIONS; a++) {
        int refused = 0;
        prepare(f);
        __attribute__((cleanup(free_charp))) char *before = dump(f);
        sqlite3_commit_hook(f->c->sqlite, refuse_commit, &refused);
        assert_int_equal(actions[a].act(f), -1);
        assert_int_equal(refused, 1);
        assert_nothing_happened(f, a, before);
        sqlite3_commit_hook(f->c->sqlite, NULL, NULL);
        assert_works(f, a, before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_write_and_sync_that_fails_leaves_all_as_it_was),
        TEST(commit_that_fails_leaves_all_as_it_was),
    };
    return cmocka_run_group_tests(tests, disk_setup, disk_teardown);
}
