/* SPDX-License-Identifier: MIT */
/*
 * test_key_files.c - the shape of references, and keys from files: which files are refused, and in
 * which words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keys_fixture.h"

#include <errno.h>

/* ---- from a file ---- */

static void file_happy_path_32_raw_bytes_for_the_owner_alone(void **state)
{
    (void)state;
    for (mode_t mode = 0400; mode <= 0700; mode += 0100) {
        char *ref = make_file("good", KEY_BYTES, mode);
        assert_loads(ref);
        free(ref);
    }
}

static void file_relative_path_is_a_config_error(void **state)
{
    (void)state;
    assert_no_ref("file:keys/main", "must be absolute");
    assert_no_ref("file:/etc/ke\ny", "control characters");
}

static void file_missing_is_a_missing_key(void **state)
{
    char *ref = ref_of("nowhere");

    (void)state;
    assert_no_key(ref, "cannot be found");
    free(ref);
}

static void file_wrong_size_is_refused_bad_key_length_too(void **state)
{
    static const size_t sizes[] = {0, 16, 31, 33, 64};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *ref = make_file("sized", sizes[i], 0600);
        assert_no_key(ref, "has exactly 32");
        free(ref);
    }
}

static void file_not_regular_a_directory_a_fifo_a_device_is_refused_at_once(void **state)
{
    char *here = xasprintf("file:%s", dir), *fifo = ref_of("fifo");

    (void)state;
    assert_int_equal(mkfifo(fifo + 5, 0600), 0);
    assert_wrong_kind(here, "is a directory");
    assert_wrong_kind(fifo, "is a FIFO");
    assert_wrong_kind("file:/dev/null", "is a device");
    free(here);
    free(fifo);
}

static void a_symlink_is_refused_but_one_among_the_parents_is_fine(void **state)
{
    char *ref = make_file("target", KEY_BYTES, 0600), *link = ref_of("link");
    char *there = ref_of("parent"), *below = ref_of("parent/target");

    (void)state;
    assert_int_equal(symlink("target", link + 5), 0);
    assert_int_equal(symlink(".", there + 5), 0);
    assert_wrong_kind(link, "is a symlink");
    assert_loads(below);
    free(below);
    free(there);
    free(link);
    free(ref);
}

static void a_file_that_others_may_use_is_refused(void **state)
{
    (void)state;
    for (mode_t bit = 1; bit <= 040; bit <<= 1) {
        char *ref = make_file("shared", KEY_BYTES, 0600 | bit);
        assert_no_key(ref, "group or others");
        free(ref);
    }
}

static void a_file_of_another_user_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char *ref = make_file("foreign", KEY_BYTES, 0600);
    assert_int_equal(chown(ref + 5, 4242, 0), 0);
    assert_no_key(ref, "belongs to user 4242");
    free(ref);
}

static int refuses_unreadable(const char *ref)
{
    struct key *k;
    struct error err;

    return key_load(ref, &k, &err) == -1 && err.code == ERR_DESTINATION_CREDENTIALS_INVALID &&
                   err.errnum == EACCES && strstr(err.message, "cannot be opened")
               ? 0
               : 1;
}

static void a_file_that_may_not_be_read_is_refused_with_the_reason(void **state)
{
    char *ref = make_file("unreadable", KEY_BYTES, 0);

    (void)state;
    assert_int_equal(chmod(dir, 0711), 0);
    assert_holds_for_a_common_user(refuses_unreadable, ref);
    free(ref);
}

/* ---- references ---- */

static void bare_string_and_unknown_scheme_are_refused_and_not_repeated(void **state)
{
    char long_ref[KEY_REF_MAX + 2];

    (void)state;
    memset(long_ref, 'A', sizeof long_ref - 1);
    long_ref[sizeof long_ref - 1] = '\0';
    memcpy(long_ref, "env:", 4);
    assert_no_ref(HEX, "no reference");
    assert_no_ref("kms:alias/main", "no reference");
    assert_no_ref("http://host/key", "no reference");
    assert_no_ref("ENV:NAME", "no reference");
    assert_no_ref("/etc/keepfs.key", "no reference");
    assert_no_ref(long_ref, "too long");
    long_ref[KEY_REF_MAX] = '\0';
    assert_no_key(long_ref, "not set");
}

static void validate_format_only_a_good_shape_passes_without_its_key(void **state)
{
    char why[256] = "";

    (void)state;
    assert_int_equal(key_ref_check("env:KEEPFS_T_ABSENT", why, sizeof why), 0);
    assert_int_equal(key_ref_check("file:/nowhere/at/all", why, sizeof why), 0);
    assert_string_equal(why, "");
}

static void validate_rejects_bad_scheme_name_and_path_and_says_what_is_allowed(void **state)
{
    static const char *const bad[] = {
        "http://x", "env:lower", "file:relative", "env:", "file:", "bare", ""};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char why[256] = "";
        assert_int_equal(key_ref_check(bad[i], why, sizeof why), -1);
        assert_non_null(strstr(why, "env:NAME"));
        assert_non_null(strstr(why, "file:/absolute/path"));
    }
}

static void a_probe_says_of_a_file_what_a_load_would(void **state)
{
    char *good = make_file("probed", KEY_BYTES, 0600), *bad = make_file("open", KEY_BYTES, 0644);
    char *absent = ref_of("absent");
    struct error err;

    (void)state;
    assert_int_equal(key_ref_probe(good, &err), 0);
    assert_int_equal(key_ref_probe(bad, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_CREDENTIALS_INVALID);
    assert_int_equal(key_ref_probe(absent, &err), -1);
    assert_int_equal(key_ref_probe("env:KEEPFS_T_ABSENT", &err), 0);
    assert_int_equal(key_ref_probe("nonsense", &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_CONFIG_INVALID);
    free(absent);
    free(bad);
    free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_happy_path_32_raw_bytes_for_the_owner_alone),
        cmocka_unit_test(file_relative_path_is_a_config_error),
        cmocka_unit_test(file_missing_is_a_missing_key),
        cmocka_unit_test(file_wrong_size_is_refused_bad_key_length_too),
        cmocka_unit_test(file_not_regular_a_directory_a_fifo_a_device_is_refused_at_once),
        cmocka_unit_test(a_symlink_is_refused_but_one_among_the_parents_is_fine),
        cmocka_unit_test(a_file_that_others_may_use_is_refused),
        cmocka_unit_test(a_file_of_another_user_is_refused),
        cmocka_unit_test(a_file_that_may_not_be_read_is_refused_with_the_reason),
        cmocka_unit_test(bare_string_and_unknown_scheme_are_refused_and_not_repeated),
        cmocka_unit_test(validate_format_only_a_good_shape_passes_without_its_key),
        cmocka_unit_test(validate_rejects_bad_scheme_name_and_path_and_says_what_is_allowed),
        cmocka_unit_test(a_probe_says_of_a_file_what_a_load_would),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
