/* SPDX-License-Identifier: MIT */
/*
 * test_log.c - what arrives on stderr.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int kept_stderr, ends[2];
static char got[4096];

/* stderr is a pipe during a test. */
static int setup(void **state)
{
    (void)state;
    kept_stderr = dup(STDERR_FILENO);
    return pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) >= 0 && close(ends[1]) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    return close(ends[0]);
}

/* What was logged; ends the pipe. */
static const char *logged(void)
{
    size_t len = 0;
    ssize_t n;

    dup2(kept_stderr, STDERR_FILENO);
    while ((n = read(ends[0], got + len, sizeof got - 1 - len)) > 0)
        len += (size_t)n;
    got[len] = '\0';
    return got;
}

static void each_call_is_one_line_with_its_level(void **state)
{
    (void)state;
    log_info("job %d", 1);
    log_warn("careful");
    log_error("broken: %s", "disk");
    assert_string_equal(logged(), "keepfs: job 1\n"
                                  "keepfs: warning: careful\n"
                                  "keepfs: error: broken: disk\n");
}

static void no_name_can_forge_a_line(void **state)
{
    (void)state;
    log_info("a\nkeepfs: error: b\r\033[2J\x7f\tend \xc3\xa4");
    assert_string_equal(logged(), "keepfs: a\\x0akeepfs: error: b\\x0d\\x1b[2J\\x7f\\x09end "
                                  "\xc3\xa4\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_call_is_one_line_with_its_level),
        TEST(no_name_can_forge_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
