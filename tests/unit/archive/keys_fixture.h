/* SPDX-License-Identifier: MIT */
/*
 * keys_fixture.h - a directory for key files, and what is expected of a reference. Include it after
 * cmocka.
 */
#ifndef TESTS_ARCHIVE_KEYS_FIXTURE_H
#define TESTS_ARCHIVE_KEYS_FIXTURE_H

#include "archive/keys.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static char dir[] = "/tmp/keepfs-keys-XXXXXX";

static inline bool is_counting(const struct key *k)
{
    for (size_t i = 0; i < KEY_BYTES; i++)
        if (key_bytes(k)[i] != i)
            return false;
    return true;
}

/* "file:" and the path of a file in the test's directory; the caller frees. */
static inline char *ref_of(const char *name)
{
    return xasprintf("file:%s/%s", dir, name);
}

/* A file of `len` bytes 0, 1, 2 ... */
static inline char *make_file(const char *name, size_t len, mode_t mode)
{
    char *ref = ref_of(name);
    unsigned char bytes[64];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    int fd = open(ref + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, bytes, len), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    fd_close(&fd);
    return ref;
}

static inline void assert_loads(const char *ref)
{
    struct key *k;
    struct error err = {.message = ""};

    if (key_load(ref, &k, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(is_counting(k));
    key_free(k);
}

/* It is refused with that code; the message has `words`, and the reference where it is one. */
static inline void assert_refused(const char *ref, enum error_code code, const char *words,
                                  bool named)
{
    struct key *k;
    struct error err = {.message = ""};

    assert_int_equal(key_load(ref, &k, &err), -1);
    if (err.code != code || !strstr(err.message, words))
        fail_msg("%s: %s, where \"%s\" was due", error_code_name(err.code), err.message, words);
    if (named != !!strstr(err.message, ref))
        fail_msg("the message %s name the reference: %s", named ? "does not" : "must not",
                 err.message);
}

static inline void assert_no_key(const char *ref, const char *words)
{
    assert_refused(ref, ERR_DESTINATION_CREDENTIALS_INVALID, words, true);
}

static inline void assert_wrong_kind(const char *ref, const char *words)
{
    assert_refused(ref, ERR_DESTINATION_CONFIG_INVALID, words, true);
}

static inline void assert_no_ref(const char *ref, const char *words)
{
    assert_refused(ref, ERR_DESTINATION_CONFIG_INVALID, words, false);
}

/* Runs `check` in a child as a user that is not root; it exits with 0 if all is well. */
static inline void assert_holds_for_a_common_user(int (*check)(const char *ref), const char *ref)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(setuid(4242) == 0 || geteuid() != 0 ? check(ref) : 99);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static inline int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static inline int remove_dir(void **state)
{
    (void)state;
    return dir_clear(dir) == 0 && rmdir(dir) == 0 ? 0 : -1;
}

#endif
