/* SPDX-License-Identifier: MIT */
/*
 * test_config_policy.c - the keys of a repo's archives: where they may stand, what does not fit
 * together, and that a key pasted in the place of its reference is never repeated.
 */
#include "config_fixture.h"

#include "archive/policy.h"

/* Five lines; the keys of the repo under test begin at line 6. */
#define REPO                                                                                       \
    "[store app]\n"                                                                                \
    "kind = pipe\n"                                                                                \
    "command = dump\n"                                                                             \
    "[repo app/r]\n"                                                                               \
    "kind = cloud\n"
#define BUCKET "bucket = b\n"

static struct archive_policy policy_of(const struct config *c, const char *repo)
{
    return archive_policy_of(store_repo(config_store(c, "app"), repo));
}

/* ---- what is right ---- */

static void a_repos_policy_is_what_its_section_says(void **state)
{
    (void)state;
    struct config *c = load_good(REPO BUCKET "format = v2\n"
                                             "compression = zstd:-7\n"
                                             "encryption_key = env:KEEPFS_KEY\n"
                                             "old_keys = file:/etc/keepfs/old key\n"
                                             "old_keys = env:OLDER\n"
                                             "min_envelope = v1\n"
                                             "verify_after_write = yes\n");
    struct archive_policy p = policy_of(c, "r");

    assert_string_equal(p.store, "app");
    assert_int_equal(p.manifest_version, MANIFEST_V2);
    assert_true(p.compress);
    assert_int_equal(p.level, -7);
    assert_true(p.encrypt);
    assert_true(p.verify_after_write);
    assert_int_equal(p.min_envelope, ENVELOPE_V1);
    assert_int_equal(p.key_count, 3);
    assert_string_equal(p.keys[0], "env:KEEPFS_KEY");
    assert_string_equal(p.keys[1], "file:/etc/keepfs/old key");
    assert_string_equal(p.keys[2], "env:OLDER");
    config_free(c);
}

static void a_repo_that_says_nothing_compresses_only(void **state)
{
    (void)state;
    struct config *c = load_good(REPO BUCKET);
    struct archive_policy p = policy_of(c, "r");

    assert_int_equal(p.manifest_version, MANIFEST_V2);
    assert_int_equal(p.level, 3);
    assert_false(p.encrypt);
    assert_false(p.verify_after_write);
    assert_int_equal(p.min_envelope, ENVELOPE_NONE);
    assert_int_equal(p.key_count, 0);
    config_free(c);
}

static void defaults_give_the_policy_that_a_repo_does_not(void **state)
{
    (void)state;
    struct config *c = load_good(REPO BUCKET "[repo app/own]\nkind = cloud\nbucket = c\n"
                                             "encryption_key = none\n"
                                             "compression = none\n"
                                             "old_keys = env:MINE\n"
                                             "[defaults]\n"
                                             "compression = zstd:19\n"
                                             "encryption_key = file:/etc/keepfs/key\n"
                                             "old_keys = env:A\nold_keys = env:B\n"
                                             "verify_after_write = yes\n");
    struct archive_policy r = policy_of(c, "r"), own = policy_of(c, "own");

    assert_int_equal(r.level, 19);
    assert_true(r.encrypt && r.verify_after_write && own.verify_after_write);
    assert_int_equal(r.min_envelope, ENVELOPE_V2);
    assert_int_equal(r.key_count, 3);
    assert_string_equal(r.keys[0], "file:/etc/keepfs/key");
    assert_string_equal(r.keys[1], "env:A");
    assert_string_equal(r.keys[2], "env:B");
    assert_false(own.compress);
    assert_false(own.encrypt);
    assert_int_equal(own.key_count, 1);
    assert_string_equal(own.keys[0], "env:MINE");
    config_free(c);
}

static void the_policy_is_no_key_of_a_store(void **state)
{
    (void)state;
    assert_faults(
        "[store app]\nkind = pipe\ncommand = dump\ncompression = none\n"
        "[repo app/r]\nkind = cloud\n" BUCKET,
        "4: unknown key compression in [store app]; allowed: kind, command, level, " STORE_KEYS
        "\n");
}

/* ---- what does not fit together ---- */

static void version_1_knows_no_compression(void **state)
{
    (void)state;
#define WRONG "format = v1 knows no compression; allowed: compression = none, or format = v2\n"
    assert_faults(REPO "format = v1\ncompression = zstd:3\n" BUCKET, "7: [repo app/r]: " WRONG);
    assert_faults(REPO "compression = zstd:-1\n" BUCKET "format = v1\n", "6: [repo app/r]: " WRONG);
    assert_faults(REPO BUCKET "format = v1\n[defaults]\ncompression = zstd:3\n",
                  "9: [repo app/r]: " WRONG);
    config_free(load_good(REPO BUCKET "format = v1\ncompression = none\n"));
    struct config *c = load_good(REPO BUCKET "format = v1\n");
    assert_false(policy_of(c, "r").compress);
    config_free(c);
#undef WRONG
}

static void a_repo_must_admit_what_it_writes(void **state)
{
    static const struct {
        const char *keys;
        int most; /* of min_envelope */
    } writes[] = {{"", ENVELOPE_NONE},
                  {"format = v1\n", ENVELOPE_NONE},
                  {"old_keys = env:K\n", ENVELOPE_NONE},
                  {"encryption_key = env:K\nformat = v1\n", ENVELOPE_V1},
                  {"encryption_key = env:K\n", ENVELOPE_V2}};
    static const char *const words[] = {"none", "v1", "v2"};

    (void)state;
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
        for (int least = ENVELOPE_NONE; least <= ENVELOPE_V2; least++) {
            struct buf text = BUF_INIT;
            buf_addf(&text, REPO "min_envelope = %s\n" BUCKET "%s", words[least], writes[i].keys);
            if (least <= writes[i].most) {
                struct config *c = load_good(buf_text(&text));
                assert_int_equal(policy_of(c, "r").min_envelope, least);
                config_free(c);
            } else {
                assert_faults(buf_text(&text),
                              "6: [repo app/r]: min_envelope refuses what the repo itself writes; "
                              "allowed: at most v2 with an encryption_key, v1 if its format is "
                              "v1, none without a key\n");
            }
            buf_release(&text);
        }
}

static void keys_are_counted(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;

    buf_adds(&text, REPO BUCKET "encryption_key = env:NEW\n");
    for (int i = 1; i < LIMIT_KEYS; i++)
        buf_addf(&text, "old_keys = env:OLD_%d\n", i);
    struct config *c = load_good(buf_text(&text));
    assert_int_equal(policy_of(c, "r").key_count, LIMIT_KEYS);
    config_free(c);
    buf_adds(&text, "old_keys = env:ONE_MORE\n");
    assert_faults(buf_text(&text), "8: [repo app/r]: too many old_keys; allowed: 15\n");
    buf_release(&text);
}

/* ---- bad values ---- */

static void bad_values_say_what_is_allowed(void **state)
{
    (void)state;
    assert_faults(
        REPO BUCKET "format = v3\ncompression = gzip\nmin_envelope = 2\nverify_after_write = 1\n",
        "7: format = v3 is not a word it takes; allowed: v1, v2\n"
        "8: compression = gzip is no compression; allowed: zstd:LEVEL with a level of -7..-1 or "
        "1..19, none\n"
        "9: min_envelope = 2 is not a word it takes; allowed: none, v1, v2\n"
        "10: verify_after_write = 1 is neither yes nor no; allowed: yes, no\n");
    assert_faults(REPO BUCKET "encryption_key =\nold_keys = none\n",
                  "7: encryption_key has no value; allowed: env:NAME, file:/absolute/path, none\n"
                  "8: old_keys = (its value is not repeated here) is no reference to a key; "
                  "allowed: env:NAME, file:/absolute/path\n");
}

/* What a value that was refused would have meant is not guessed. */
static void a_bad_value_brings_no_second_fault(void **state)
{
    (void)state;
#define BAD_KEY                                                                                    \
    "encryption_key = (its value is not repeated here) is no reference to a key; allowed: "        \
    "env:NAME, file:/absolute/path, none\n"
    assert_faults(REPO BUCKET "encryption_key = key\nmin_envelope = v2\n", "7: " BAD_KEY);
    assert_faults(REPO BUCKET "min_envelope = v2\n[defaults]\nencryption_key = key\n",
                  "9: " BAD_KEY);
    assert_faults(REPO BUCKET "compression = zstd:3\nformat = V1\n",
                  "8: format = V1 is not a word it takes; allowed: v1, v2\n");
    /* Faults elsewhere in the section do not hide one of the policy. */
    assert_faults(
        REPO BUCKET "keep = x\nmin_envelope = v1\n",
        "7: keep = x is no decimal number; allowed: a number from 0 to 1000\n"
        "8: [repo app/r]: min_envelope refuses what the repo itself writes; allowed: at most "
        "v2 with an encryption_key, v1 if its format is v1, none without a key\n");
#undef BAD_KEY
}

#define DIGITS "00112233445566778899aabbccddeeff0123456789ABCDEFfedcba9876543210"

/* Faults with no piece of the key in them. */
static void expect_silence(const char *text)
{
    static const char digits[] = DIGITS;
    struct buf faults = BUF_INIT;
    char piece[9] = "";

    assert_null(load(text, "@/mnt", &faults));
    assert_non_null(strstr(buf_text(&faults), "(its value is not repeated here)"));
    for (size_t i = 0; i + 8 < sizeof digits; i++) {
        memcpy(piece, digits + i, 8);
        if (strstr(buf_text(&faults), piece))
            fail_msg("%s is in: %s", piece, buf_text(&faults));
    }
    buf_release(&faults);
}

static void a_key_in_the_place_of_its_reference_is_not_repeated(void **state)
{
    static const char *const keys[] = {"encryption_key", "old_keys"};
    static const char *const values[] = {DIGITS,          "hex:" DIGITS,  "env:" DIGITS,
                                         "file:" DIGITS,  "\"" DIGITS,    "Env:" DIGITS,
                                         "env:A " DIGITS, "none " DIGITS, "key = " DIGITS};

    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            struct buf text = BUF_INIT;
            buf_addf(&text, REPO BUCKET "%s = %s\n", keys[k], values[i]);
            expect_silence(buf_text(&text));
            buf_release(&text);
            buf_addf(&text, REPO BUCKET "[defaults]\n%s = %s\n", keys[k], values[i]);
            expect_silence(buf_text(&text));
            buf_release(&text);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repos_policy_is_what_its_section_says),
        TEST(a_repo_that_says_nothing_compresses_only),
        TEST(defaults_give_the_policy_that_a_repo_does_not),
        TEST(the_policy_is_no_key_of_a_store),
        TEST(version_1_knows_no_compression),
        TEST(a_repo_must_admit_what_it_writes),
        TEST(keys_are_counted),
        TEST(bad_values_say_what_is_allowed),
        TEST(a_bad_value_brings_no_second_fault),
        TEST(a_key_in_the_place_of_its_reference_is_not_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
