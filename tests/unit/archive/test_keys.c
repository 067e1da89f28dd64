/* SPDX-License-Identifier: MIT */
/*
 * test_keys.c - keys from the environment and what stays of them there, the page that a key lives
 * in, what is derived from a key, and the search for one among several.
 *
 * The program starts itself anew with its variables set, since only an environment that was there
 * from the start is in /proc/self/environ. Every test has variables of its own: what was loaded
 * once stays in the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keys_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIX "000102030405060708090A0B0C0D0e0f101112131415161718191a1B1c1d1E1F"

/* ---- from the environment ---- */

static void env_happy_path_64_hex_digits_of_any_case(void **state)
{
    (void)state;
    assert_int_equal(setenv("KEEPFS_T_LOWER", HEX, 1), 0);
    assert_int_equal(setenv("KEEPFS_T_MIXED", MIX, 1), 0);
    assert_int_equal(setenv("_9", " \t" HEX "\n", 1), 0);
    assert_loads("env:KEEPFS_T_LOWER");
    assert_loads("env:KEEPFS_T_MIXED");
    assert_loads("env:_9");
}

static void env_missing_unset_or_empty_is_a_missing_key(void **state)
{
    (void)state;
    assert_int_equal(setenv("KEEPFS_T_EMPTY", "", 1), 0);
    assert_int_equal(setenv("KEEPFS_T_BLANK", " \n\t", 1), 0);
    assert_no_key("env:KEEPFS_T_UNSET", "not set");
    assert_no_key("env:KEEPFS_T_EMPTY", "empty");
    assert_no_key("env:KEEPFS_T_BLANK", "empty");
}

static void env_wrong_length_is_refused_bad_key_length_too(void **state)
{
    static const char *const values[] = {"01234567", "000102030405060708090a0b0c0d0e0f", HEX "0",
                                         HEX "00", HEX " " HEX};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(setenv("KEEPFS_T_LENGTH", values[i], 1), 0);
        assert_no_key("env:KEEPFS_T_LENGTH", "exactly 64 hex digits");
    }
}

static void env_not_hex_is_refused_without_showing_it(void **state)
{
    static const char bad[] = "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg";
    struct key *k;
    struct error err;

    (void)state;
    for (size_t at = 0; at < 64; at += 21) {
        char value[65] = HEX;
        value[at] = "/:@`"[at % 4];
        assert_int_equal(setenv("KEEPFS_T_NOHEX", value, 1), 0);
        assert_no_key("env:KEEPFS_T_NOHEX", "hex digits");
    }
    assert_int_equal(setenv("KEEPFS_T_NOHEX", bad, 1), 0);
    assert_int_equal(key_load("env:KEEPFS_T_NOHEX", &k, &err), -1);
    assert_null(strstr(err.message, "gggg"));
    assert_string_equal(getenv("KEEPFS_T_NOHEX"), bad); /* to say the same next time */
}

static void bytes_that_are_all_the_same_are_no_key(void **state)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";

    (void)state;
    assert_int_equal(setenv("KEEPFS_T_ZEROS", zeros, 1), 0);
    assert_no_key("env:KEEPFS_T_ZEROS", "no random key");
}

static void env_name_bad_is_a_config_error(void **state)
{
    (void)state;
    assert_no_ref("env:lower", "name of a variable");
    /* The key itself can have the shape of a name; a message about the variable would tell it. */
    assert_no_ref("env:A0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDE",
                  "looks like the key itself");
    assert_no_ref("env:9A", "name of a variable");
    assert_no_ref("env:A=B", "name of a variable");
    assert_no_ref("env:A B", "name of a variable");
}

static void later_loads_have_the_key_that_the_environment_no_longer_has(void **state)
{
    (void)state;
    assert_int_equal(setenv("KEEPFS_T_TWICE", HEX, 1), 0);
    assert_loads("env:KEEPFS_T_TWICE");
    assert_null(getenv("KEEPFS_T_TWICE"));
    assert_loads("env:KEEPFS_T_TWICE");
    assert_loads("env:KEEPFS_T_TWICE");
}

static void *load_raced(void *loaded)
{
    struct key *k;
    struct error err;

    if (key_load("env:KEEPFS_T_RACE", &k, &err) == 0) {
        *(bool *)loaded = is_counting(k);
        key_free(k);
    }
    return NULL;
}

static void threads_that_load_the_same_variable_at_once_all_get_it(void **state)
{
    pthread_t threads[8];
    bool loaded[8] = {false};

    (void)state;
    assert_int_equal(setenv("KEEPFS_T_RACE", HEX, 1), 0);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_raced, &loaded[i]), 0);
    for (size_t i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_true(loaded[i]);
    }
}

/* Is there such text in what /proc shows of this process's environment? */
static bool environ_shows(const char *text)
{
    static char all[1 << 20];
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    size_t len = 0;
    for (ssize_t n; (n = read(fd, all + len, sizeof all - len)) > 0;)
        len += (size_t)n;
    fd_close(&fd);
    return memmem(all, len, text, strlen(text)) != NULL;
}

#define INITIAL_LOADED   "a10102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define INITIAL_FORGOT   "a20102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define INITIAL_NEIGHBOR "a30102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void a_loaded_variable_is_gone_from_proc_environ(void **state)
{
    struct key *k;
    struct error err;

    (void)state;
    assert_true(environ_shows(INITIAL_LOADED));
    assert_int_equal(key_load("env:KEEPFS_T_INITIAL", &k, &err), 0);
    assert_int_equal(key_bytes(k)[0], 0xa1);
    key_free(k);
    assert_false(environ_shows(INITIAL_LOADED));
    assert_null(getenv("KEEPFS_T_INITIAL"));
    assert_true(environ_shows(INITIAL_NEIGHBOR)); /* its name only begins the same */
    assert_string_equal(getenv("KEEPFS_T_INITIAL_2"), INITIAL_NEIGHBOR);
}

static void a_forgotten_variable_is_gone_without_being_loaded(void **state)
{
    (void)state;
    assert_true(environ_shows(INITIAL_FORGOT));
    key_ref_forget("env:KEEPFS_T_FORGET");
    assert_false(environ_shows(INITIAL_FORGOT));
    assert_no_key("env:KEEPFS_T_FORGET", "not set");
}

static void forgetting_other_references_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(setenv("KEEPFS_T_KEEP", HEX, 1), 0);
    assert_int_equal(setenv("lower", HEX, 1), 0);
    char *ref = make_file("kept", KEY_BYTES, 0600);
    key_ref_forget(ref);
    key_ref_forget("env:lower");
    key_ref_forget("KEEPFS_T_KEEP");
    key_ref_forget("env:KEEPFS_T_KEE");
    assert_loads(ref);
    assert_string_equal(getenv("lower"), HEX);
    assert_loads("env:KEEPFS_T_KEEP");
    free(ref);
}

/* ---- the page ---- */

/* The VmFlags of the mapping that has `p`, "" if none has. */
static void flags_of(const void *p, char *flags, size_t size)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[1024];
    bool ours = false;

    assert_non_null(f);
    *flags = '\0';
    while (fgets(line, sizeof line, f)) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            ours = (uintptr_t)p >= from && (uintptr_t)p < to;
        else if (ours && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, size, "%s", line);
    }
    fclose(f);
}

/* Where locking works at all: not under a sanitizer, for instance. */
static bool can_lock(void)
{
    char flags[1024];
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(page, MAP_FAILED);
    int locked = mlock(page, size);
    flags_of(page, flags, sizeof flags);
    munmap(page, size);
    return locked == 0 && strstr(flags, " lo ");
}

static void a_key_is_locked_and_kept_out_of_core_dumps_and_children(void **state)
{
    unsigned char bytes[KEY_BYTES] = {1};
    struct key *k = key_new(bytes);
    const void *at = key_bytes(k);
    char flags[1024];

    (void)state;
    flags_of(at, flags, sizeof flags);
    assert_non_null(strstr(flags, " dd "));
    assert_non_null(strstr(flags, " wf "));
    if (can_lock())
        assert_non_null(strstr(flags, " lo "));
    key_free(k);
}

static void a_freed_key_has_no_memory(void **state)
{
    unsigned char bytes[KEY_BYTES] = {1};
    struct key *k = key_new(bytes);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char resident;

    (void)state;
    assert_int_equal(mincore(k, size, &resident), 0);
    key_free(k);
    assert_int_equal(mincore(k, size, &resident), -1);
    assert_int_equal(errno, ENOMEM);
    key_free(NULL);
}

static void a_child_finds_zeros_where_the_key_was(void **state)
{
    unsigned char bytes[KEY_BYTES];
    int status;

    (void)state;
    memset(bytes, 7, sizeof bytes);
    struct key *k = key_new(bytes);
    const unsigned char *at = key_bytes(k);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (size_t i = 0; i < KEY_BYTES; i++)
            if (at[i] != 0)
                _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(at[0], 7);
    key_free(k);
}

static int loads_without_locking(const char *ref)
{
    struct rlimit none = {0, 0};
    struct key *k;
    struct error err;

    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || setenv("KEEPFS_T_UNLOCKED", HEX, 1) != 0 ||
        key_load(ref, &k, &err) != 0 || !is_counting(k))
        return 1;
    key_free(k);
    return 0;
}

static void a_key_that_cannot_be_locked_is_used_all_the_same(void **state)
{
    (void)state;
    assert_holds_for_a_common_user(loads_without_locking, "env:KEEPFS_T_UNLOCKED");
}

/* ---- what is derived; expected values by python-cryptography ---- */

static struct key *counting_key(unsigned char first)
{
    unsigned char bytes[KEY_BYTES];

    for (size_t i = 0; i < KEY_BYTES; i++)
        bytes[i] = (unsigned char)(first + i);
    return key_new(bytes);
}

static void derived_bytes_are_those_of_an_independent_implementation(void **state)
{
    struct key *k = counting_key(0);
    unsigned char out[42];
    char hex[2 * sizeof out + 1];
    struct error err;

    (void)state;
    assert_int_equal(key_derive(k, "salt", 4, "info", 4, out, sizeof out, &err), 0);
    for (size_t i = 0; i < sizeof out; i++)
        snprintf(hex + 2 * i, 3, "%02x", out[i]);
    assert_string_equal(hex, "64cc2a23b7a1da4310420350405fdf5d632cb9bda3700d753e96cbcfeb81d4496259e"
                             "7075d6da9d2c325");
    key_free(k);
}

static void a_key_s_id_is_that_of_an_independent_implementation(void **state)
{
    struct key *k = counting_key(0);
    char id[KEY_ID_HEX + 1];
    struct error err;

    (void)state;
    assert_int_equal(key_id(k, id, &err), 0);
    assert_string_equal(id, "4aede05976bff777");
    key_free(k);
}

/* ---- a ring of keys ---- */

static void the_key_of_an_id_is_found_also_behind_one_that_is_missing(void **state)
{
    assert_int_equal(setenv("KEEPFS_T_RING_1", "ff" HEX, 1), 0);
    char *good = make_file("ring", KEY_BYTES, 0600);
    const char *refs[] = {"env:KEEPFS_T_RING_0", "env:KEEPFS_T_RING_1", good};
    struct key *k;
    struct error err;

    (void)state;
    assert_int_equal(keyring_find(&(struct keyring){refs, 3}, "4aede05976bff777", &k, &err), 0);
    assert_true(is_counting(k));
    key_free(k);
    free(good);
}

static void an_id_that_no_key_has_is_a_wrong_key_with_the_ids_that_there_are(void **state)
{
    char *good = make_file("ring", KEY_BYTES, 0600);
    const char *refs[] = {good};
    struct key *k;
    struct error err;

    (void)state;
    assert_int_equal(keyring_find(&(struct keyring){refs, 1}, "0000000000000000", &k, &err), -1);
    assert_int_equal(err.code, ERR_DECRYPT_FAILED);
    assert_non_null(strstr(err.message, "wrong key"));
    assert_non_null(strstr(err.message, "0000000000000000"));
    assert_non_null(strstr(err.message, "4aede05976bff777"));
    free(good);
}

static void a_key_that_cannot_be_loaded_might_have_been_the_one(void **state)
{
    char *good = make_file("ring", KEY_BYTES, 0600), *lost = ref_of("lost");
    const char *refs[] = {lost, good};
    struct key *k;
    struct error err;

    (void)state;
    assert_int_equal(keyring_find(&(struct keyring){refs, 2}, "0000000000000000", &k, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_CREDENTIALS_INVALID);
    assert_non_null(strstr(err.message, lost));
    free(good);
    free(lost);
}

static void an_empty_ring_has_no_credentials(void **state)
{
    struct key *k;
    struct error err;

    (void)state;
    assert_int_equal(keyring_find(&(struct keyring){NULL, 0}, "0000000000000000", &k, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_CREDENTIALS_INVALID);
}

/* Comes back in a process whose initial environment has the variables. */
static void restart_with_variables(char **argv)
{
    if (getenv("KEEPFS_T_STARTED"))
        return;
    if (setenv("KEEPFS_T_STARTED", "1", 1) != 0 ||
        setenv("KEEPFS_T_INITIAL", INITIAL_LOADED, 1) != 0 ||
        setenv("KEEPFS_T_INITIAL_2", INITIAL_NEIGHBOR, 1) != 0 ||
        setenv("KEEPFS_T_FORGET", INITIAL_FORGOT, 1) != 0)
        abort();
    execv("/proc/self/exe", argv);
    abort();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(env_happy_path_64_hex_digits_of_any_case),
        cmocka_unit_test(env_missing_unset_or_empty_is_a_missing_key),
        cmocka_unit_test(env_wrong_length_is_refused_bad_key_length_too),
        cmocka_unit_test(env_not_hex_is_refused_without_showing_it),
        cmocka_unit_test(bytes_that_are_all_the_same_are_no_key),
        cmocka_unit_test(env_name_bad_is_a_config_error),
        cmocka_unit_test(later_loads_have_the_key_that_the_environment_no_longer_has),
        cmocka_unit_test(threads_that_load_the_same_variable_at_once_all_get_it),
        cmocka_unit_test(a_loaded_variable_is_gone_from_proc_environ),
        cmocka_unit_test(a_forgotten_variable_is_gone_without_being_loaded),
        cmocka_unit_test(forgetting_other_references_changes_nothing),
        cmocka_unit_test(a_key_is_locked_and_kept_out_of_core_dumps_and_children),
        cmocka_unit_test(a_freed_key_has_no_memory),
        cmocka_unit_test(a_child_finds_zeros_where_the_key_was),
        cmocka_unit_test(a_key_that_cannot_be_locked_is_used_all_the_same),
        cmocka_unit_test(derived_bytes_are_those_of_an_independent_implementation),
        cmocka_unit_test(a_key_s_id_is_that_of_an_independent_implementation),
        cmocka_unit_test(the_key_of_an_id_is_found_also_behind_one_that_is_missing),
        cmocka_unit_test(an_id_that_no_key_has_is_a_wrong_key_with_the_ids_that_there_are),
        cmocka_unit_test(a_key_that_cannot_be_loaded_might_have_been_the_one),
        cmocka_unit_test(an_empty_ring_has_no_credentials),
    };

    (void)argc;
    restart_with_variables(argv);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
