/* SPDX-License-Identifier: MIT */
/*
 * test_error.c - codes and their stable names, classification by side, and how messages grow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepfs/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const enum error_code all_codes[] = {
#define X(id, name, status, hint) id,
    ERROR_CODES(X)
#undef X
};
#define CODE_COUNT (sizeof all_codes / sizeof all_codes[0])

/* Scripts match these: a line here may be added, never changed. */
static const char *const stable_names[] = {
    "destination_permission_denied",
    "destination_not_found",
    "destination_no_space",
    "destination_unreachable",
    "destination_credentials_invalid",
    "destination_path_conflict",
    "destination_config_invalid",
    "source_unavailable",
    "state_no_space",
    "state_unavailable",
    "backup_already_running",
    "queue_full",
    "stopping",
    "not_found",
    "invalid",
    "restore_precondition_failed",
    "cancelled",
    "interrupted",
    "integrity_failed",
    "decrypt_failed",
    "manifest_invalid",
    "manifest_unsupported",
    "manifest_missing",
    "archive_incomplete",
    "duplicate_id",
    "config_invalid",
    "usage",
    "internal",
};

static void every_code_has_a_name_a_hint_and_a_status(void **state)
{
    (void)state;
    assert_string_equal(error_code_name(ERR_NONE), "");
    assert_string_equal(error_code_hint(ERR_NONE), "");
    assert_int_equal(error_code_exit(ERR_NONE), 0);
    for (size_t i = 1; i < CODE_COUNT; i++) {
        assert_true(error_code_name(all_codes[i])[0]);
        assert_true(error_code_hint(all_codes[i])[0]);
        assert_in_range(error_code_exit(all_codes[i]), 1, 99);
    }
}

static void names_and_statuses_are_all_different(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODE_COUNT; i++)
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(error_code_name(all_codes[i]), error_code_name(all_codes[k]));
            assert_int_not_equal(error_code_exit(all_codes[i]), error_code_exit(all_codes[k]));
        }
}

static void released_names_are_still_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stable_names / sizeof stable_names[0]; i++)
        assert_string_equal(error_code_name(error_code_parse(stable_names[i])), stable_names[i]);
}

static void a_name_is_parsed_back_to_its_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODE_COUNT; i++)
        assert_int_equal(error_code_parse(error_code_name(all_codes[i])), all_codes[i]);
    assert_int_equal(error_code_parse("no_such_code"), ERR_INTERNAL);
    assert_int_equal(error_code_parse("Cancelled"), ERR_INTERNAL);
}

static const struct {
    enum error_side side;
    int errnum;
    enum error_code code;
} taxonomy[] = {
    {SIDE_DESTINATION, ENOSPC, ERR_DESTINATION_NO_SPACE},
    {SIDE_DESTINATION, EDQUOT, ERR_DESTINATION_NO_SPACE},
    {SIDE_DESTINATION, EACCES, ERR_DESTINATION_PERMISSION_DENIED},
    {SIDE_DESTINATION, EPERM, ERR_DESTINATION_PERMISSION_DENIED},
    {SIDE_DESTINATION, EROFS, ERR_DESTINATION_PERMISSION_DENIED},
    {SIDE_DESTINATION, ENOENT, ERR_DESTINATION_NOT_FOUND},
    {SIDE_DESTINATION, ENOTDIR, ERR_DESTINATION_CONFIG_INVALID},
    {SIDE_DESTINATION, EISDIR, ERR_DESTINATION_CONFIG_INVALID},
    {SIDE_DESTINATION, ELOOP, ERR_DESTINATION_CONFIG_INVALID},
    {SIDE_DESTINATION, ENAMETOOLONG, ERR_DESTINATION_CONFIG_INVALID},
    {SIDE_DESTINATION, EFBIG, ERR_DESTINATION_CONFIG_INVALID},
    {SIDE_DESTINATION, EEXIST, ERR_DUPLICATE_ID},
    {SIDE_DESTINATION, EIO, ERR_DESTINATION_UNREACHABLE},
    {SIDE_DESTINATION, ESTALE, ERR_DESTINATION_UNREACHABLE},
    {SIDE_DESTINATION, ETIMEDOUT, ERR_DESTINATION_UNREACHABLE},
    {SIDE_SOURCE, ENOENT, ERR_SOURCE_UNAVAILABLE},
    {SIDE_SOURCE, EACCES, ERR_SOURCE_UNAVAILABLE},
    {SIDE_SOURCE, EIO, ERR_SOURCE_UNAVAILABLE},
    {SIDE_SOURCE, ENOSPC, ERR_SOURCE_UNAVAILABLE},
    {SIDE_STATE, ENOSPC, ERR_STATE_NO_SPACE},
    {SIDE_STATE, EDQUOT, ERR_STATE_NO_SPACE},
    {SIDE_STATE, EIO, ERR_STATE_UNAVAILABLE},
    {SIDE_STATE, EACCES, ERR_STATE_UNAVAILABLE},
    {SIDE_STATE, ENOENT, ERR_STATE_UNAVAILABLE},
};

static void the_same_errno_means_another_thing_on_each_side(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof taxonomy / sizeof taxonomy[0]; i++)
        if (error_classify(taxonomy[i].side, taxonomy[i].errnum) != taxonomy[i].code)
            fail_msg("side %d, %s: %s", (int)taxonomy[i].side, error_errno_name(taxonomy[i].errnum),
                     error_code_name(error_classify(taxonomy[i].side, taxonomy[i].errnum)));
}

static void what_the_process_ran_out_of_is_no_sides_fault(void **state)
{
    static const int own[] = {0, EMFILE, ENFILE, ENOMEM, EINVAL, EBADF, EFAULT};

    (void)state;
    for (int side = SIDE_SOURCE; side <= SIDE_STATE; side++)
        for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
            assert_int_equal(error_classify((enum error_side)side, own[i]), ERR_INTERNAL);
}

static void a_cancelled_call_is_cancelled_on_every_side(void **state)
{
    (void)state;
    for (int side = SIDE_SOURCE; side <= SIDE_STATE; side++)
        assert_int_equal(error_classify((enum error_side)side, ECANCELED), ERR_CANCELLED);
}

static void every_errno_has_a_code_on_every_side(void **state)
{
    (void)state;
    for (int side = SIDE_SOURCE; side <= SIDE_STATE; side++)
        for (int errnum = -1; errnum < 4096; errnum++)
            assert_true(error_code_name(error_classify((enum error_side)side, errnum))[0]);
}

static void set_keeps_code_and_sentence_and_no_errno(void **state)
{
    struct error err = {.errnum = EIO};

    (void)state;
    assert_int_equal(error_set(&err, ERR_QUEUE_FULL, "%d jobs", 7), -1);
    assert_int_equal(err.code, ERR_QUEUE_FULL);
    assert_int_equal(err.errnum, 0);
    assert_string_equal(err.message, "7 jobs");
}

static void a_failed_system_call_keeps_its_errno_and_says_why(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(error_sys(&err, SIDE_DESTINATION, ENOSPC, "cannot write %s", "/srv/a"), -1);
    assert_int_equal(err.code, ERR_DESTINATION_NO_SPACE);
    assert_int_equal(err.errnum, ENOSPC);
    assert_string_equal(err.message, "cannot write /srv/a: No space left on device");
}

static void context_goes_in_front_and_changes_no_code(void **state)
{
    struct error err;

    (void)state;
    error_sys(&err, SIDE_SOURCE, EACCES, "%s", "inner");
    assert_int_equal(error_context(&err, "store %s", "app"), -1);
    assert_int_equal(error_context(&err, "job"), -1);
    assert_int_equal(err.code, ERR_SOURCE_UNAVAILABLE);
    assert_int_equal(err.errnum, EACCES);
    assert_string_equal(err.message, "job: store app: inner: Permission denied");
}

static void messages_are_cut_and_never_overrun(void **state)
{
    char longer[3 * ERROR_MESSAGE_MAX];
    struct error err;

    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    error_set(&err, ERR_INTERNAL, "%s", longer);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    error_context(&err, "%s", "front");
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    assert_memory_equal(err.message, "front: xxx", 10);
    error_context(&err, "%s", longer);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    for (size_t len = ERROR_MESSAGE_MAX - 30; len <= ERROR_MESSAGE_MAX + 1; len++) {
        error_sys(&err, SIDE_STATE, EIO, "%.*s", (int)len, longer);
        assert_true(strlen(err.message) < ERROR_MESSAGE_MAX);
    }
}

static void errnos_are_named(void **state)
{
    (void)state;
    assert_string_equal(error_errno_name(ENOSPC), "ENOSPC");
    assert_string_equal(error_errno_name(EBUSY), "EBUSY");
    assert_string_equal(error_errno_name(100000), "EIO");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_a_hint_and_a_status),
        cmocka_unit_test(names_and_statuses_are_all_different),
        cmocka_unit_test(released_names_are_still_there),
        cmocka_unit_test(a_name_is_parsed_back_to_its_code),
        cmocka_unit_test(the_same_errno_means_another_thing_on_each_side),
        cmocka_unit_test(what_the_process_ran_out_of_is_no_sides_fault),
        cmocka_unit_test(a_cancelled_call_is_cancelled_on_every_side),
        cmocka_unit_test(every_errno_has_a_code_on_every_side),
        cmocka_unit_test(set_keeps_code_and_sentence_and_no_errno),
        cmocka_unit_test(a_failed_system_call_keeps_its_errno_and_says_why),
        cmocka_unit_test(context_goes_in_front_and_changes_no_code),
        cmocka_unit_test(messages_are_cut_and_never_overrun),
        cmocka_unit_test(errnos_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
