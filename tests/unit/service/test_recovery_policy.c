/* SPDX-License-Identifier: MIT */
/*
 * test_recovery_policy.c - which archives a start adopts: those that the policy of their repo
 * admits, and that its keys know as their own.
 *
 * Archives are made by real jobs; then the catalog is deleted, and what comes back is what was
 * adopted.
 */
#include "fixture.h"

static char key_ref[256], other_ref[256];

static int sized_content(const struct store *store, struct source_run *run, struct error *err)
{
    char piece[1000];

    (void)store;
    for (int i = 0; i < 5000; i++) {
        memset(piece, i, sizeof piece);
        if (writer_write(run->out, piece, sizeof piece, err) != 0)
            return -1;
    }
    return 0;
}

enum { CONTENT_BYTES = 5000 * 1000 };

/* app and web have main. */
static int setup(void **state)
{
    struct fixture *f = fixture_make();

    add_repo(f, add_store(f, "app", 0), "main");
    add_repo(f, add_store(f, "web", 1), "main");
    make_key(f, "key", key_ref);
    make_key(f, "other", other_ref);
    script = sized_content;
    fixture_open(f);
    fixture_start_workers(f);
    *state = f;
    return 0;
}

/* As the first start after the catalog was lost. */
static void start_anew(struct fixture *f)
{
    fixture_close(f);
    assert_int_equal(unlink(f->database), 0);
    fixture_open(f);
    fixture_recover(f);
}

static bool is_adopted(struct fixture *f, const struct record *r)
{
    struct record found;
    struct error err;

    return catalog_record_get(f->catalog, r->ulid, &found, &err) == 0;
}

/* The record comes back as it was, but for rows and its job, which only the catalog had. */
static void expect_same_record(struct fixture *f, const struct record *before)
{
    struct record after;
    struct error err;

    start_anew(f);
    if (catalog_record_get(f->catalog, before->ulid, &after, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(after.pinned);
    after.pinned = before->pinned;
    after.row = before->row;
    after.job_row = before->job_row;
    memcpy(after.job, before->job, sizeof after.job);
    assert_memory_equal(before, &after, sizeof after);
}

static struct repo *main_of(struct fixture *f, const char *format, const char *compression,
                            const char *key)
{
    struct repo *r = repo_of(f, "app", "main");

    repo_says(r, "format", format);
    repo_says(r, "compression", compression);
    repo_says(r, "encryption_key", key);
    return r;
}

static void archives_of_every_policy_come_back_as_they_were(void **state)
{
    static const char *const policies[][3] = {
        {"v2", "zstd:3", "none"}, {"v2", "none", key_ref}, {"v2", "zstd:1", key_ref},
        {"v1", "none", key_ref},  {"v1", "none", "none"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        main_of(f, policies[i][0], policies[i][1], policies[i][2]);
        struct record r = back_up(f, "app");
        assert_int_equal(r.content_bytes, CONTENT_BYTES);
        if (strcmp(policies[i][1], "none") != 0 || policies[i][2] == key_ref)
            assert_true(r.size_bytes != r.content_bytes);
        expect_same_record(f, &r);
        fixture_close(f);
        fixture_open(f);
        fixture_start_workers(f);
    }
}

static void an_encrypted_archive_waits_for_its_key(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v2", "zstd:3", key_ref);
    struct record r = back_up(f, "app");
    SCOPED_PATH(key, f, "key");
    SCOPED_PATH(away, f, "away");
    SCOPED_PATH(payload, f, "app-main/%s/payload.bin", r.ulid);
    assert_int_equal(rename(key, away), 0);
    start_anew(f);
    assert_false(is_adopted(f, &r));
    assert_true(exists(payload));
    assert_int_equal(rename(away, key), 0);
    expect_same_record(f, &r);
}

/* A key that is away for a moment is no reason to forget a backup. */
static void a_record_stays_when_its_key_cannot_be_had(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v2", "zstd:3", key_ref);
    struct record r = back_up(f, "app");
    SCOPED_PATH(key, f, "key");
    assert_int_equal(unlink(key), 0);
    fixture_close(f);
    fixture_open(f);
    fixture_recover(f);
    assert_true(is_adopted(f, &r));
}

static void after_a_change_of_keys_the_old_one_is_needed(void **state)
{
    struct fixture *f = *state;
    struct repo *repo = main_of(f, "v2", "none", key_ref);
    struct record r = back_up(f, "app");

    repo_says(repo, "encryption_key", other_ref);
    start_anew(f);
    assert_false(is_adopted(f, &r));
    repo_says(repo, "old_keys", key_ref);
    expect_same_record(f, &r);
    /* It may also be that nothing is encrypted any more. */
    repo_says(repo, "encryption_key", "none");
    expect_same_record(f, &r);
}

/* Flips the last digit of created_at in a manifest: it reads well, and is not what was written. */
static void alter_manifest(struct fixture *f, const struct record *r)
{
    SCOPED_PATH(path, f, "%s-main/%s/manifest.yaml", r->store, r->ulid);
    __attribute__((cleanup(free_charp))) char *text = read_file(path);
    char *at = strstr(text, "created_at: ");

    assert_non_null(at);
    at = strchr(at, 'Z') - 1;
    *at = *at == '0' ? '1' : '0';
    write_file(path, text);
}

static void an_altered_manifest_is_not_adopted(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v2", "none", key_ref);
    struct record r = back_up(f, "app");
    alter_manifest(f, &r);
    start_anew(f);
    assert_false(is_adopted(f, &r));
    alter_manifest(f, &r);
    SCOPED_PATH(payload, f, "app-main/%s/payload.bin", r.ulid);
    assert_true(exists(payload));
}

/* The same change to one that is not encrypted goes unnoticed: only a MAC can find it. */
static void only_the_mac_tells_of_a_change_that_reads_well(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v2", "none", "none");
    struct record r = back_up(f, "app");
    alter_manifest(f, &r);
    start_anew(f);
    assert_true(is_adopted(f, &r));
}

static void a_repo_that_encrypts_adopts_nothing_unencrypted(void **state)
{
    struct fixture *f = *state;
    struct repo *repo = main_of(f, "v2", "zstd:3", "none");
    struct record r = back_up(f, "app");

    repo_says(repo, "encryption_key", key_ref);
    start_anew(f);
    assert_false(is_adopted(f, &r));
    repo_says(repo, "min_envelope", "v1");
    start_anew(f);
    assert_false(is_adopted(f, &r));
    repo_says(repo, "min_envelope", "none");
    expect_same_record(f, &r);
}

static void a_repo_of_version_2_adopts_version_1_only_if_it_says_so(void **state)
{
    struct fixture *f = *state;
    struct repo *repo = main_of(f, "v1", "none", key_ref);
    struct record r = back_up(f, "app");

    repo_says(repo, "format", "v2");
    start_anew(f);
    assert_false(is_adopted(f, &r));
    repo_says(repo, "min_envelope", "v1");
    expect_same_record(f, &r);
}

/* Their key is the same. app is read first, so that nothing calls its archive missing afterwards.
 */
static void an_encrypted_archive_of_another_store_is_not_adopted(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v2", "none", key_ref);
    repo_says(repo_of(f, "web", "main"), "encryption_key", key_ref);
    struct record app = back_up(f, "app"), web = back_up(f, "web");
    SCOPED_PATH(from, f, "app-main/%s", app.ulid);
    SCOPED_PATH(to, f, "web-main/%s", app.ulid);
    assert_int_equal(rename(from, to), 0);
    start_anew(f);
    assert_false(is_adopted(f, &app));
    assert_true(is_adopted(f, &web));
    assert_int_equal(rename(to, from), 0);
    expect_same_record(f, &app);
}

static void a_payload_that_is_no_envelope_is_not_adopted_as_one(void **state)
{
    struct fixture *f = *state;

    main_of(f, "v1", "none", key_ref);
    struct record r = back_up(f, "app");
    SCOPED_PATH(path, f, "app-main/%s/payload.bin", r.ulid);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "XXXX", 4, 0), 4);
    close(fd);
    start_anew(f);
    assert_false(is_adopted(f, &r));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(archives_of_every_policy_come_back_as_they_were),
        TEST(an_encrypted_archive_waits_for_its_key),
        TEST(a_record_stays_when_its_key_cannot_be_had),
        TEST(after_a_change_of_keys_the_old_one_is_needed),
        TEST(an_altered_manifest_is_not_adopted),
        TEST(only_the_mac_tells_of_a_change_that_reads_well),
        TEST(a_repo_that_encrypts_adopts_nothing_unencrypted),
        TEST(a_repo_of_version_2_adopts_version_1_only_if_it_says_so),
        TEST(an_encrypted_archive_of_another_store_is_not_adopted),
        TEST(a_payload_that_is_no_envelope_is_not_adopted_as_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
