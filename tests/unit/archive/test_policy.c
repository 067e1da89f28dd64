/* SPDX-License-Identifier: MIT */
/*
 * Proves of archive/policy.h: each setting of a repo has the grammar and the default that the
 * header's table says, what contradicts itself is named with its key, settings become the policy
 * that they describe, and a policy refuses exactly the archives of other stores and of weaker
 * envelopes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/policy.h"
#include "util/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a repo of a few settings ---- */

static const struct store store = {.id = "app"};

static int add(struct repo *repo, const char *key, const char *value, char *why, size_t why_size)
{
    const struct setting *row = settings_row(&repo->settings, key);
    char *text;

    assert_non_null(row);
    if (setting_parse(row, value, &text, why, why_size) != 0)
        return -1;
    settings_add(&repo->settings, row, text, 1);
    return 0;
}

/* A repo of lines "key = value", whose values are all good. */
static struct repo repo_of(const char *lines)
{
    struct repo repo = {.store = &store, .settings = {.rows = {archive_settings}}};
    char key[64], value[256], why[512];
    int used;

    while (sscanf(lines, " %63[a-z_] = %255s%n", key, value, &used) == 2) {
        if (add(&repo, key, value, why, sizeof why) != 0)
            fail_msg("%s", why);
        lines += used;
    }
    assert_int_equal(*lines, '\0');
    return repo;
}

static void expect_fault(const char *lines, const char *key, const char *word)
{
    struct repo repo = repo_of(lines);
    const char *at = NULL, *fault = archive_settings_fault(&repo.settings, &at);

    if (!fault)
        fail_msg("no fault: %s", lines);
    assert_string_equal(at, key);
    assert_non_null(strstr(fault, word));
    assert_non_null(strstr(fault, "; allowed: "));
    settings_release(&repo.settings);
}

/* The policy of settings without fault; its strings belong to `repo`. */
static struct archive_policy policy_of(struct repo *repo, const char *lines)
{
    const char *key, *fault;

    *repo = repo_of(lines);
    fault = archive_settings_fault(&repo->settings, &key);
    if (fault)
        fail_msg("%s: %s", lines, fault);
    return archive_policy_of(repo);
}

static void expect_refused(const char *key, const char *value)
{
    struct repo repo = repo_of("");
    char why[512];

    if (add(&repo, key, value, why, sizeof why) == 0)
        fail_msg("accepted: %s = %s", key, value);
    assert_non_null(strstr(why, key));
    assert_non_null(strstr(why, "; allowed: "));
    const struct setting *row = settings_row(&repo.settings, key);
    if (row->flags & SETTING_SECRET && !strstr(row->allowed, value))
        assert_null(strstr(why, value));
    settings_release(&repo.settings);
}

static void expect_accepted(const char *key, const char *value)
{
    struct repo repo = repo_of("");
    char why[512];

    if (add(&repo, key, value, why, sizeof why) != 0)
        fail_msg("%s", why);
    settings_release(&repo.settings);
}

/* ---- grammar ---- */

static void test_every_default_is_a_value_and_every_row_has_help(void **state)
{
    (void)state;
    for (const struct setting *row = archive_settings; row->key; row++) {
        assert_true(row->help && row->help[0]);
        if (row->def)
            expect_accepted(row->key, row->def);
    }
}

static void test_compression_is_none_or_zstd_with_a_level_in_its_shortest_form(void **state)
{
    static const char *const good[] = {"none",    "zstd:1",  "zstd:3",  "zstd:9",
                                       "zstd:10", "zstd:19", "zstd:-1", "zstd:-7"};
    static const char *const bad[] = {
        "zstd:0",  "zstd:20", "zstd:-8",  "zstd:+3",         "zstd:03", "zstd:-03",
        "zstd:-0", "zstd",    "zstd:",    "zstd:-",          "ZSTD:3",  "gzip",
        "zstd:3x", "zstd:3 ", "zstd: 3",  "zstd:--3",        "zstd:99", "zstd:3.",
        "zstd3",   "None",    "zstd:019", "zstd:4294967299", " zstd:3"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        expect_accepted("compression", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused("compression", bad[i]);
}

static void test_words_other_than_the_known_ones_are_refused(void **state)
{
    (void)state;
    expect_refused("format", "v3");
    expect_refused("format", "V2");
    expect_refused("format", "2");
    expect_refused("min_envelope", "v3");
    expect_refused("min_envelope", "NONE");
    expect_refused("verify_after_write", "true");
}

static void test_a_key_is_a_reference_and_a_bad_one_is_not_repeated(void **state)
{
    static const char *const bad[] = {
        "env:lower", "env:",   "file:relative",
        "kms:x",     "MY_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_refused("encryption_key", bad[i]);
        expect_refused("old_keys", bad[i]);
    }
    expect_accepted("encryption_key", "env:APP_KEY");
    expect_accepted("encryption_key", "file:/etc/keepfs/key");
    expect_accepted("old_keys", "file:/etc/keepfs/key");
}

static void test_only_the_key_to_write_with_may_be_none(void **state)
{
    (void)state;
    expect_accepted("encryption_key", "none");
    expect_refused("old_keys", "none");
}

/* ---- what it comes to ---- */

static void test_a_repo_without_settings_writes_v2_with_zstd_3_unencrypted(void **state)
{
    struct repo repo;
    struct archive_policy p = policy_of(&repo, "");

    (void)state;
    assert_string_equal(p.store, "app");
    assert_int_equal(p.manifest_version, MANIFEST_V2);
    assert_true(p.compress);
    assert_int_equal(p.level, 3);
    assert_false(p.encrypt);
    assert_false(p.verify_after_write);
    assert_int_equal(p.min_envelope, ENVELOPE_NONE);
    assert_int_equal(p.key_count, 0);
    assert_int_equal(archive_policy_envelope(&p), ENVELOPE_NONE);
    settings_release(&repo.settings);
}

static void test_compression_becomes_its_level(void **state)
{
    static const struct {
        const char *text;
        int level;
    } rows[] = {{"zstd:-7", -7}, {"zstd:-1", -1}, {"zstd:1", 1}, {"zstd:19", 19}, {"none", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[64];
        struct repo repo;
        snprintf(line, sizeof line, "compression = %s", rows[i].text);
        struct archive_policy p = policy_of(&repo, line);
        assert_int_equal(p.level, rows[i].level);
        assert_int_equal(p.compress, rows[i].level != 0);
        settings_release(&repo.settings);
    }
}

static void test_format_v1_writes_manifest_v1_and_does_not_compress(void **state)
{
    struct repo repo;
    struct archive_policy p = policy_of(&repo, "format = v1");

    (void)state;
    assert_int_equal(p.manifest_version, MANIFEST_V1);
    assert_false(p.compress);
    assert_int_equal(p.level, 0);
    settings_release(&repo.settings);
    p = policy_of(&repo, "format = v1 compression = none");
    assert_false(p.compress);
    settings_release(&repo.settings);
}

static void test_format_v1_with_compression_is_a_fault(void **state)
{
    (void)state;
    expect_fault("format = v1 compression = zstd:3", "compression", "v1");
}

static void test_a_key_makes_the_repo_encrypt_in_the_envelope_of_its_format(void **state)
{
    struct repo repo;
    struct archive_policy p = policy_of(&repo, "encryption_key = env:APP_KEY");

    (void)state;
    assert_true(p.encrypt);
    assert_int_equal(p.key_count, 1);
    assert_string_equal(p.keys[0], "env:APP_KEY");
    assert_int_equal(archive_policy_envelope(&p), ENVELOPE_V2);
    settings_release(&repo.settings);
    p = policy_of(&repo, "encryption_key = env:APP_KEY format = v1");
    assert_true(p.encrypt);
    assert_int_equal(archive_policy_envelope(&p), ENVELOPE_V1);
    settings_release(&repo.settings);
}

static void test_min_envelope_is_what_the_repo_writes_and_can_only_be_lowered(void **state)
{
    static const char *const repos[] = {"", "encryption_key = env:K format = v1",
                                        "encryption_key = env:K"};
    static const char *const words[] = {"none", "v1", "v2"};

    (void)state;
    for (int written = ENVELOPE_NONE; written <= ENVELOPE_V2; written++) {
        struct repo repo;
        struct archive_policy p = policy_of(&repo, repos[written]);
        assert_int_equal(p.min_envelope, written);
        settings_release(&repo.settings);
        for (int least = ENVELOPE_NONE; least <= ENVELOPE_V2; least++) {
            char lines[128];
            snprintf(lines, sizeof lines, "%s min_envelope = %s", repos[written], words[least]);
            if (least > written) {
                expect_fault(lines, "min_envelope", "refuses");
                continue;
            }
            p = policy_of(&repo, lines);
            assert_int_equal(p.min_envelope, least);
            settings_release(&repo.settings);
        }
    }
}

static void test_a_key_of_none_with_a_min_envelope_is_a_fault_too(void **state)
{
    (void)state;
    expect_fault("encryption_key = none min_envelope = v1", "min_envelope", "refuses");
    expect_fault("format = v1 min_envelope = v1", "min_envelope", "refuses");
}

static void test_the_key_to_write_with_comes_first_and_old_keys_in_their_order(void **state)
{
    struct repo repo;
    struct archive_policy p =
        policy_of(&repo, "old_keys = env:B old_keys = file:/c encryption_key = env:A");

    (void)state;
    struct keyring ring = archive_policy_keys(&p);
    assert_int_equal(ring.count, 3);
    assert_string_equal(ring.refs[0], "env:A");
    assert_string_equal(ring.refs[1], "env:B");
    assert_string_equal(ring.refs[2], "file:/c");
    settings_release(&repo.settings);
}

static void test_old_keys_alone_read_but_do_not_encrypt(void **state)
{
    struct repo repo;
    struct archive_policy p = policy_of(&repo, "old_keys = env:B");

    (void)state;
    assert_false(p.encrypt);
    assert_int_equal(p.min_envelope, ENVELOPE_NONE);
    assert_int_equal(p.key_count, 1);
    assert_string_equal(p.keys[0], "env:B");
    settings_release(&repo.settings);
}

static void test_fifteen_old_keys_are_the_most(void **state)
{
    struct buf lines = BUF_INIT;
    struct repo repo;

    (void)state;
    buf_adds(&lines, "encryption_key = env:KEY ");
    for (int i = 0; i < LIMIT_KEYS - 1; i++)
        buf_addf(&lines, "old_keys = env:OLD_%d ", i);
    lines.data[--lines.len] = '\0';
    struct archive_policy p = policy_of(&repo, lines.data);
    assert_int_equal(p.key_count, LIMIT_KEYS);
    assert_string_equal(p.keys[LIMIT_KEYS - 1], "env:OLD_14");
    settings_release(&repo.settings);
    buf_adds(&lines, " old_keys = env:ONE_MORE");
    expect_fault(lines.data, "old_keys", "too many");
    repo = repo_of(lines.data); /* which a policy is made of all the same, without what is beyond */
    p = archive_policy_of(&repo);
    assert_int_equal(p.key_count, LIMIT_KEYS);
    settings_release(&repo.settings);
    buf_release(&lines);
}

static void test_verify_after_write_is_taken_over(void **state)
{
    struct repo repo;
    struct archive_policy p = policy_of(&repo, "verify_after_write = yes");

    (void)state;
    assert_true(p.verify_after_write);
    settings_release(&repo.settings);
}

/* ---- admission ---- */

static struct manifest manifest_of(const char *store_id, int envelope)
{
    struct manifest m = {
        .version = MANIFEST_V2, .envelope = envelope, .encrypted = envelope != ENVELOPE_NONE};

    snprintf(m.store_id, sizeof m.store_id, "%s", store_id);
    return m;
}

static void test_an_envelope_is_admitted_exactly_from_the_least_one_up(void **state)
{
    (void)state;
    for (int least = ENVELOPE_NONE; least <= ENVELOPE_V2; least++)
        for (int has = ENVELOPE_NONE; has <= ENVELOPE_V2; has++) {
            struct archive_policy p = {.store = "app", .min_envelope = least};
            struct manifest m = manifest_of("app", has);
            struct error err = {0};
            int result = archive_policy_admit(&p, &m, &err);
            assert_int_equal(result, has >= least ? 0 : -1);
            assert_int_equal(err.code, has >= least ? ERR_NONE : ERR_ENCRYPTION_REQUIRED);
        }
}

static void test_the_refusal_says_what_the_archive_has_and_what_it_must_have(void **state)
{
    struct archive_policy p = {.store = "app", .min_envelope = ENVELOPE_V2};
    struct manifest m = manifest_of("app", ENVELOPE_NONE);
    struct error err = {0};

    (void)state;
    assert_int_equal(archive_policy_admit(&p, &m, &err), -1);
    assert_non_null(strstr(err.message, "not encrypted"));
    m = manifest_of("app", ENVELOPE_V1);
    assert_int_equal(archive_policy_admit(&p, &m, &err), -1);
    assert_non_null(strstr(err.message, "v1"));
    assert_non_null(strstr(err.message, "v2"));
}

static void test_an_archive_of_another_store_is_the_wrong_one_however_encrypted(void **state)
{
    struct archive_policy p = {.store = "app", .min_envelope = ENVELOPE_V2};

    (void)state;
    for (int envelope = ENVELOPE_NONE; envelope <= ENVELOPE_V2; envelope++) {
        struct manifest m = manifest_of("app2", envelope);
        struct error err = {0};
        assert_int_equal(archive_policy_admit(&p, &m, &err), -1);
        assert_int_equal(err.code, ERR_MANIFEST_INVALID);
        assert_non_null(strstr(err.message, "wrong archive"));
        assert_non_null(strstr(err.message, "app2"));
    }
}

static void test_a_policy_without_store_admits_those_of_all_stores(void **state)
{
    struct archive_policy p = {.min_envelope = ENVELOPE_V1};
    struct manifest m = manifest_of("app2", ENVELOPE_V2);
    struct error err = {0};

    (void)state;
    assert_int_equal(archive_policy_admit(&p, &m, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_default_is_a_value_and_every_row_has_help),
        cmocka_unit_test(test_compression_is_none_or_zstd_with_a_level_in_its_shortest_form),
        cmocka_unit_test(test_words_other_than_the_known_ones_are_refused),
        cmocka_unit_test(test_a_key_is_a_reference_and_a_bad_one_is_not_repeated),
        cmocka_unit_test(test_only_the_key_to_write_with_may_be_none),
        cmocka_unit_test(test_a_repo_without_settings_writes_v2_with_zstd_3_unencrypted),
        cmocka_unit_test(test_compression_becomes_its_level),
        cmocka_unit_test(test_format_v1_writes_manifest_v1_and_does_not_compress),
        cmocka_unit_test(test_format_v1_with_compression_is_a_fault),
        cmocka_unit_test(test_a_key_makes_the_repo_encrypt_in_the_envelope_of_its_format),
        cmocka_unit_test(test_min_envelope_is_what_the_repo_writes_and_can_only_be_lowered),
        cmocka_unit_test(test_a_key_of_none_with_a_min_envelope_is_a_fault_too),
        cmocka_unit_test(test_the_key_to_write_with_comes_first_and_old_keys_in_their_order),
        cmocka_unit_test(test_old_keys_alone_read_but_do_not_encrypt),
        cmocka_unit_test(test_fifteen_old_keys_are_the_most),
        cmocka_unit_test(test_verify_after_write_is_taken_over),
        cmocka_unit_test(test_an_envelope_is_admitted_exactly_from_the_least_one_up),
        cmocka_unit_test(test_the_refusal_says_what_the_archive_has_and_what_it_must_have),
        cmocka_unit_test(test_an_archive_of_another_store_is_the_wrong_one_however_encrypted),
        cmocka_unit_test(test_a_policy_without_store_admits_those_of_all_stores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
