/* SPDX-License-Identifier: MIT */
/*
 * test_recovery.c - what a start makes of repos, rows and leftovers that it finds. What the policy
 * of a repo makes of archives is in test_recovery_policy.c.
 */
#include "fixture.h"

#define ULID_1 "01HXYZ0123456789ABCDEFGHJ1"
#define ULID_2 "01HXYZ0123456789ABCDEFGHJ2"
#define ULID_3 "01HXYZ0123456789ABCDEFGHJ3"

/* app has main and nas, web has main. */
static int setup(void **state)
{
    struct fixture *f = fixture_make();
    struct store *app = add_store(f, "app", 0), *web = add_store(f, "web", 1);

    add_repo(f, app, "main");
    add_repo(f, app, "nas");
    add_repo(f, web, "main");
    fixture_open(f);
    *state = f;
    return 0;
}

/* ---- archives without a daemon ---- */

static struct manifest manifest_for(const char *store, const char *ulid)
{
    struct manifest m = {.version = MANIFEST_V2, .created_at = 1795000000000};

    snprintf(m.backup_id, sizeof m.backup_id, "%s", ulid);
    snprintf(m.store_id, sizeof m.store_id, "%s", store);
    snprintf(m.store_kind, sizeof m.store_kind, "scripted");
    snprintf(m.compression, sizeof m.compression, "none");
    m.content_bytes = strlen(CONTENT);
    return m;
}

static void publish_manifest(const struct repo *repo, struct manifest *m)
{
    struct destination *d;
    struct publish *p;
    struct error err;
    uint64_t manifest_bytes, ids_bytes;

    assert_int_equal(repo->kind->open(&repo->settings, DESTINATION_CREATE, &d, &err), 0);
    assert_int_equal(publish_begin(d, m->backup_id, &p, &err), 0);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, CONTENT, strlen(CONTENT), &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    if (publish_commit(p, m, NULL, &manifest_bytes, &ids_bytes, &err) != 0)
        fail_msg("%s", err.message);
    publish_free(p);
    repo->kind->close(d);
    manifest_release(m);
}

static void publish(struct fixture *f, const char *store, const char *repo, const char *ulid)
{
    struct manifest m = manifest_for(store, ulid);

    publish_manifest(repo_of(f, store, repo), &m);
}

static bool has_record(struct fixture *f, const char *ulid)
{
    struct record record;
    struct error err;

    return catalog_record_get(f->catalog, ulid, &record, &err) == 0;
}

static struct record record_of(struct fixture *f, const char *ulid)
{
    struct record record;
    struct error err;

    if (catalog_record_get(f->catalog, ulid, &record, &err) != 0)
        fail_msg("%s", err.message);
    return record;
}

/* As the next start of the daemon: everything is opened again. */
static void restart(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
    fixture_recover(f);
}

/* As a kill: rows stay as they are. */
static void die(struct fixture *f)
{
    live_stop(&f->service->live);
    live_clear(&f->service->live);
    service_free(f->service);
    catalog_close(f->catalog);
    fixture_open(f);
}

/* ---- adopting ---- */

static void a_valid_archive_without_a_row_is_adopted(void **state)
{
    struct fixture *f = *state;
    struct manifest m = manifest_for("app", ULID_1);

    m.payload_ids = xcalloc(2, sizeof *m.payload_ids);
    m.payload_ids[m.payload_id_count++] = xstrdup("two");
    m.payload_ids[m.payload_id_count++] = xstrdup("one");
    publish_manifest(repo_of(f, "app", "nas"), &m);
    fixture_recover(f);

    struct record r = record_of(f, ULID_1);
    assert_string_equal(r.store, "app");
    assert_string_equal(r.repo, "nas");
    assert_string_equal(r.store_kind, "scripted");
    assert_true(r.created_at == 1795000000000);
    assert_int_equal(r.size_bytes, strlen(CONTENT));
    assert_int_equal(r.content_bytes, strlen(CONTENT));
    assert_int_equal(strlen(r.sha256), 64);
    assert_int_equal(r.payload_id_count, 2);
    assert_int_equal(r.payload_ids_bytes, 8);
    assert_string_equal(r.job, "");
    SCOPED_PATH(path, f, "app-nas/" ULID_1 "/manifest.yaml");
    __attribute__((cleanup(free_charp))) char *text = read_file(path);
    assert_int_equal(r.manifest_bytes, strlen(text));
}

static void archives_of_version_1_are_adopted(void **state)
{
    struct fixture *f = *state;
    struct manifest m = manifest_for("app", ULID_1);

    m.version = MANIFEST_V1;
    publish_manifest(repo_of(f, "app", "main"), &m);
    fixture_recover(f);
    assert_int_equal(record_of(f, ULID_1).content_bytes, strlen(CONTENT));
}

static void adopting_twice_changes_nothing(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    fixture_recover(f);
    struct record before = record_of(f, ULID_1);
    restart(f);
    struct record after = record_of(f, ULID_1);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
}

/* The other store's own repo is read first, so that nothing calls the archive missing afterwards.
 */
static void an_archive_of_another_store_is_not_adopted(void **state)
{
    struct fixture *f = *state;
    struct manifest m = manifest_for("app", ULID_1);

    publish_manifest(repo_of(f, "web", "main"), &m);
    fixture_recover(f);
    assert_false(has_record(f, ULID_1));
    SCOPED_PATH(kept, f, "web-main/" ULID_1 "/manifest.yaml");
    assert_true(exists(kept));
}

static void an_archive_with_a_short_or_long_payload_is_not_adopted(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    publish(f, "app", "main", ULID_2);
    publish(f, "app", "main", ULID_3);
    SCOPED_PATH(shorter, f, "app-main/" ULID_1 "/payload.bin");
    SCOPED_PATH(longer, f, "app-main/" ULID_2 "/payload.bin");
    assert_int_equal(truncate(shorter, 3), 0);
    assert_int_equal(truncate(longer, 1000), 0);
    fixture_recover(f);
    assert_false(has_record(f, ULID_1));
    assert_false(has_record(f, ULID_2));
    assert_true(has_record(f, ULID_3)); /* its neighbours do not matter */
    assert_true(exists(shorter));
}

static void an_archive_without_payload_is_not_adopted(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    SCOPED_PATH(payload, f, "app-main/" ULID_1 "/payload.bin");
    SCOPED_PATH(manifest, f, "app-main/" ULID_1 "/manifest.yaml");
    assert_int_equal(unlink(payload), 0);
    fixture_recover(f);
    assert_false(has_record(f, ULID_1));
    assert_true(exists(manifest));
}

static void a_damaged_manifest_is_not_adopted_and_not_removed(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    SCOPED_PATH(manifest, f, "app-main/" ULID_1 "/manifest.yaml");
    write_file(manifest, "manifest_version: 2\nbackup_id: [\n");
    fixture_recover(f);
    assert_false(has_record(f, ULID_1));
    assert_true(exists(manifest));
}

static void a_manifest_of_another_archive_is_not_adopted(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    SCOPED_PATH(from, f, "app-main/" ULID_1);
    SCOPED_PATH(to, f, "app-main/" ULID_2);
    assert_int_equal(rename(from, to), 0);
    fixture_recover(f);
    assert_false(has_record(f, ULID_1));
    assert_false(has_record(f, ULID_2));
}

/* ---- records without an archive ---- */

static void a_record_whose_archive_is_gone_is_missing_until_it_comes_back(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    publish(f, "app", "main", ULID_2);
    fixture_recover(f);
    int64_t row = record_of(f, ULID_1).row;
    SCOPED_PATH(here, f, "app-main/" ULID_1);
    SCOPED_PATH(away, f, "away");
    assert_int_equal(rename(here, away), 0);
    restart(f);
    assert_false(has_record(f, ULID_1));
    assert_true(has_record(f, ULID_2));
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
    assert_int_equal(rename(away, here), 0);
    restart(f);
    assert_true(has_record(f, ULID_1));
    assert_int_equal(record_of(f, ULID_1).row, row);
}

static void a_repo_that_cannot_be_read_keeps_its_records_and_stops_nobody(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    fixture_recover(f);
    SCOPED_PATH(repo, f, "app-main");
    SCOPED_PATH(away, f, "away");
    assert_int_equal(rename(repo, away), 0);
    write_file(repo, "a file where the repo was");
    publish(f, "web", "main", ULID_2);
    restart(f);
    assert_true(has_record(f, ULID_1)); /* nothing is known of it: neither that it is gone */
    assert_true(has_record(f, ULID_2));
    assert_int_equal(unlink(repo), 0);
    assert_int_equal(rename(away, repo), 0);
    restart(f);
    assert_true(has_record(f, ULID_1));
}

static void an_absent_repo_keeps_its_records_and_is_not_made(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    fixture_recover(f);
    SCOPED_PATH(repo, f, "app-main");
    SCOPED_PATH(away, f, "away");
    assert_int_equal(rename(repo, away), 0);
    restart(f);
    assert_true(has_record(f, ULID_1));
    assert_false(exists(repo));
}

/* The disk is not mounted, and the start sees its empty mount point. */
static void an_empty_directory_in_the_place_of_a_repo_keeps_its_records(void **state)
{
    struct fixture *f = *state;

    fixture_start(f);
    struct run_reply reply = run_ok(f, "web");
    wait_idle(f);
    SCOPED_PATH(repo, f, "web-main");
    SCOPED_PATH(away, f, "away");
    assert_int_equal(rename(repo, away), 0);
    assert_int_equal(mkdir(repo, 0700), 0);
    restart(f);
    assert_true(has_record(f, job_of(f, reply.jobs[0].job).record));
    assert_int_equal(rmdir(repo), 0); /* nothing was made in it */
    assert_int_equal(rename(away, repo), 0);
    restart(f);
    assert_true(has_record(f, job_of(f, reply.jobs[0].job).record));
}

/* Also when it is only by adoption that the catalog knows of it: else the next backup would fill
 * an empty mount point, and the next start would take its archives for gone. */
static void the_place_of_an_adopted_archive_is_not_made_again(void **state)
{
    struct fixture *f = *state;
    struct repo *repo = repo_of(f, "web", "main");
    struct error err;
    bool used = false;

    publish(f, "web", "main", ULID_1);
    fixture_recover(f);
    assert_true(has_record(f, ULID_1));
    assert_int_equal(catalog_repo_is_used(f->catalog, "web", "main", repo->place, &used, &err), 0);
    assert_true(used);
}

static void deleting_the_catalog_brings_the_same_records_back(void **state)
{
    struct fixture *f = *state;
    struct record before[2], after[2];
    struct error err;

    fixture_start(f);
    run_ok(f, "app/main");
    run_ok(f, "web");
    wait_idle(f);
    assert_int_equal(catalog_record_latest(f->catalog, "app", NULL, &before[0], &err), 0);
    assert_int_equal(catalog_record_latest(f->catalog, "web", NULL, &before[1], &err), 0);
    fixture_close(f);
    assert_int_equal(unlink(f->database), 0);
    fixture_open(f);
    fixture_recover(f);
    assert_int_equal(count_of(f, LIST_RECORDS), 2);
    for (int i = 0; i < 2; i++) {
        after[i] = record_of(f, before[i].ulid);
        /* Rows are new, jobs are only in the catalog, and so were pins; nothing else may differ. */
        assert_true(after[i].pinned);
        after[i].pinned = before[i].pinned;
        after[i].row = before[i].row;
        after[i].job_row = before[i].job_row;
        memcpy(after[i].job, before[i].job, sizeof after[i].job);
        assert_memory_equal(&before[i], &after[i], sizeof before[i]);
    }
}

/* ---- jobs ---- */

static void start_row(struct fixture *f, const char *job, const char *record)
{
    struct error err;

    if (catalog_job_start(f->catalog, job, record, 1795242700000, &err) != 0)
        fail_msg("%s", err.message);
}

static void pending_and_running_jobs_become_interrupted(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    struct run_reply pending = run_ok(f, "app"), running = run_ok(f, "web");
    start_row(f, running.jobs[0].job, ULID_1);
    die(f);
    fixture_recover(f);
    const char *ids[] = {pending.jobs[0].job, pending.jobs[1].job, running.jobs[0].job};
    for (size_t i = 0; i < 3; i++) {
        struct job job = job_of(f, ids[i]);
        assert_int_equal(job.state, JOB_INTERRUPTED);
        assert_int_equal(job.error.code, ERR_INTERRUPTED);
        assert_true(job.error.message[0]);
        assert_true(job.finished_at >= job.created_at);
    }
    assert_int_equal(count_of(f, LIST_JOBS_ACTIVE), 0);
    run_ok(f, "app"); /* nothing is busy any more */
}

static void ended_jobs_stay_as_they_are(void **state)
{
    struct fixture *f = *state;

    fixture_start(f);
    struct run_reply reply = run_ok(f, "web");
    wait_idle(f);
    struct job before = job_of(f, reply.jobs[0].job);
    assert_int_equal(before.state, JOB_SUCCEEDED);
    restart(f);
    struct job after = job_of(f, reply.jobs[0].job);
    assert_memory_equal(&before, &after, sizeof before);
}

/* The crash came between publish and the final state. */
static void an_interrupted_job_whose_archive_was_whole_says_so_and_has_it(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    struct run_reply reply = run_ok(f, "web");
    start_row(f, reply.jobs[0].job, ULID_1);
    publish(f, "web", "main", ULID_1);
    die(f);
    fixture_recover(f);
    struct job job = job_of(f, reply.jobs[0].job);
    struct record record = record_of(f, ULID_1);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_non_null(strstr(job.error.message, "adopted"));
    assert_non_null(strstr(job.error.message, ULID_1));
    assert_string_equal(job.record, ULID_1);
    assert_int_equal(job.record_row, record.row);
    assert_string_equal(record.job, job.ulid);
    assert_int_equal(record.job_row, job.row);
}

static void an_interrupted_job_without_archive_has_no_record(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    struct run_reply reply = run_ok(f, "web");
    start_row(f, reply.jobs[0].job, ULID_1);
    die(f);
    fixture_recover(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.record_row, 0);
    assert_null(strstr(job.error.message, "adopted"));
}

/* ---- leftovers ---- */

static void half_written_and_half_deleted_archives_are_removed(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    publish(f, "app", "main", ULID_2);
    SCOPED_PATH(partial, f, "app-main/" ULID_3 ".tmp");
    SCOPED_PATH(part, f, "app-main/" ULID_3 ".tmp/payload.bin");
    SCOPED_PATH(manifest, f, "app-main/" ULID_2 "/manifest.yaml");
    SCOPED_PATH(deleted, f, "app-main/" ULID_2);
    SCOPED_PATH(foreign, f, "app-main/holiday.tmp");
    assert_int_equal(mkdir(partial, 0700), 0);
    write_file(part, "half");
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(mkdir(foreign, 0700), 0);
    fixture_recover(f);
    assert_false(exists(partial));
    assert_false(exists(deleted));
    assert_true(exists(foreign)); /* not ours to judge */
    assert_true(has_record(f, ULID_1));
}

/* A deletion would have taken the record first. What is left of the archive is all there is: no
 * start may remove it, the next one neither, by which time the record is not listed any more. */
static void an_archive_that_lost_its_manifest_keeps_its_payload(void **state)
{
    struct fixture *f = *state;

    publish(f, "app", "main", ULID_1);
    fixture_recover(f);
    assert_true(has_record(f, ULID_1));
    SCOPED_PATH(manifest, f, "app-main/" ULID_1 "/manifest.yaml");
    SCOPED_PATH(payload, f, "app-main/" ULID_1 "/payload.bin");
    assert_int_equal(unlink(manifest), 0);
    restart(f);
    assert_false(has_record(f, ULID_1));
    assert_true(exists(payload));
    restart(f);
    assert_true(exists(payload));
}

static void staging_is_emptied(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    SCOPED_PATH(staging, f, "state/staging");
    SCOPED_PATH(leftover, f, "state/staging/leftover");
    write_file(leftover, "x");
    restart(f);
    assert_false(exists(leftover));
    assert_true(exists(staging));
}

static void logs_of_unknown_jobs_are_removed(void **state)
{
    struct fixture *f = *state;

    fixture_start(f);
    struct run_reply reply = run_ok(f, "web");
    wait_idle(f);
    __attribute__((cleanup(free_charp))) char *known =
        service_log_path(f->service, reply.jobs[0].job);
    SCOPED_PATH(stray, f, "state/logs/" ULID_1 ".log");
    SCOPED_PATH(foreign, f, "state/logs/notes.txt");
    write_file(stray, "x");
    write_file(foreign, "x");
    restart(f);
    assert_true(exists(known));
    assert_false(exists(stray));
    assert_true(exists(foreign));
}

/* The first backup does, and a path that was mistyped is not there for ever. */
static void a_start_makes_no_repo(void **state)
{
    struct fixture *f = *state;

    fixture_recover(f);
    SCOPED_PATH(main_repo, f, "app-main");
    SCOPED_PATH(logs, f, "state/logs");
    assert_false(exists(main_repo));
    assert_true(exists(logs)); /* its own directories it does make */
    assert_int_equal(count_of(f, LIST_RECORDS), 0);
}

static void a_state_directory_that_cannot_be_used_stops_the_start(void **state)
{
    struct fixture *f = *state;
    struct error err;

    SCOPED_PATH(staging, f, "state/staging");
    write_file(staging, "a file in its place");
    assert_int_equal(service_recover(f->service, &err), -1);
    assert_int_equal(err.code, ERR_STATE_UNAVAILABLE);
    assert_non_null(strstr(err.message, staging));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_valid_archive_without_a_row_is_adopted),
        TEST(archives_of_version_1_are_adopted),
        TEST(adopting_twice_changes_nothing),
        TEST(an_archive_of_another_store_is_not_adopted),
        TEST(an_archive_with_a_short_or_long_payload_is_not_adopted),
        TEST(an_archive_without_payload_is_not_adopted),
        TEST(a_damaged_manifest_is_not_adopted_and_not_removed),
        TEST(a_manifest_of_another_archive_is_not_adopted),
        TEST(a_record_whose_archive_is_gone_is_missing_until_it_comes_back),
        TEST(a_repo_that_cannot_be_read_keeps_its_records_and_stops_nobody),
        TEST(an_absent_repo_keeps_its_records_and_is_not_made),
        TEST(an_empty_directory_in_the_place_of_a_repo_keeps_its_records),
        TEST(the_place_of_an_adopted_archive_is_not_made_again),
        TEST(deleting_the_catalog_brings_the_same_records_back),
        TEST(pending_and_running_jobs_become_interrupted),
        TEST(ended_jobs_stay_as_they_are),
        TEST(an_interrupted_job_whose_archive_was_whole_says_so_and_has_it),
        TEST(an_interrupted_job_without_archive_has_no_record),
        TEST(half_written_and_half_deleted_archives_are_removed),
        TEST(an_archive_that_lost_its_manifest_keeps_its_payload),
        TEST(staging_is_emptied),
        TEST(logs_of_unknown_jobs_are_removed),
        TEST(a_start_makes_no_repo),
        TEST(a_state_directory_that_cannot_be_used_stops_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
