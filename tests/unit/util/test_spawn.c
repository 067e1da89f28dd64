/* SPDX-License-Identifier: MIT */
/*
 * test_spawn.c - what a program finds, what is heard of it, and why it cannot be run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spawn_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* --- output --- */

static void output_comes_line_by_line(void **state)
{
    (void)state;
    sh("echo one; echo two >&2; printf '\\nlast'");
    expect_text("one\ntwo\n\nlast\n");
    expect_end(SPAWN_EXITED, 0);
    assert_int_equal(t.result.lines, 4);
    assert_int_equal(t.result.lines_cut, 0);
    assert_int_equal(t.result.lines_dropped, 0);
}

static void no_output_is_no_line(void **state)
{
    (void)state;
    sh(":");
    expect_text("");
    assert_int_equal(t.result.lines, 0);
}

static void bytes_stay_as_they_are_but_nul(void **state)
{
    (void)state;
    sh("printf 'a\\0b\\033\\377\\001\\r \\n'");
    expect_text("a?b\033\377\001\r \n");
}

static void a_long_line_is_cut(void **state)
{
    struct buf expected = BUF_INIT;
    char line[SPAWN_LINE_MAX + 1];

    (void)state;
    memset(line, 'x', SPAWN_LINE_MAX);
    line[SPAWN_LINE_MAX] = '\0';
    buf_addf(&expected, "%s\n%s\nnext\n", line, line);
    char *script = xasprintf("x() { head -c $1 /dev/zero | tr '\\0' x; echo; }; "
                             "x %d; x %d; echo next",
                             SPAWN_LINE_MAX, SPAWN_LINE_MAX + 1);
    sh(script);
    expect_text(buf_text(&expected));
    assert_int_equal(t.result.lines, 3);
    assert_int_equal(t.result.lines_cut, 1);
    free(script);
    buf_release(&expected);
}

static void after_the_bound_lines_are_counted_only(void **state)
{
    (void)state;
    t.options.output_max = 22;
    sh("echo 123456789; echo 123456789; echo 123456789; echo 1; echo");
    expect_text("123456789\n123456789\n");
    assert_int_equal(t.result.lines, 5);
    assert_int_equal(t.result.lines_dropped, 3);
}

static void a_bound_that_is_reached_exactly_drops_nothing(void **state)
{
    (void)state;
    t.options.output_max = 20;
    sh("echo 123456789; echo 123456789");
    expect_text("123456789\n123456789\n");
    assert_int_equal(t.result.lines_dropped, 0);
}

static void fifty_megabytes_pass(void **state)
{
    (void)state;
    /* 63 characters and a newline */
    sh("yes 0123456789012345678901234567890123456789012345678901234567890AB | head -c 52428800");
    expect_end(SPAWN_EXITED, 0);
    assert_int_equal(t.result.lines, 819200);
    assert_int_equal(t.result.lines_dropped, 819200 - (1 << 20) / 64);
    assert_int_equal(t.text.len, 1 << 20);
}

static void fifty_megabytes_of_one_line_pass(void **state)
{
    (void)state;
    sh("head -c 52428800 /dev/zero");
    expect_end(SPAWN_EXITED, 0);
    assert_int_equal(t.result.lines, 1);
    assert_int_equal(t.longest, SPAWN_LINE_MAX);
}

static void nobody_need_listen(void **state)
{
    (void)state;
    t.options.line = NULL;
    sh("echo one; exit 4");
    expect_end(SPAWN_EXITED, 4);
    assert_int_equal(t.result.lines, 1);
}

/* --- what the program finds --- */

static void arguments_come_as_they_are(void **state)
{
    char *argv[] = {"/usr/bin/printf", "[%s]\\n", "a b", "", "$HOME", "*", "'", NULL};

    (void)state;
    assert_int_equal(run(argv), 0);
    expect_text("[a b]\n[]\n[$HOME]\n[*]\n[']\n");
}

static void the_environment_is_what_was_given(void **state)
{
    char *argv[] = {"/usr/bin/env", NULL};
    char *env[] = {"KEEPFS_STORE=app", "EMPTY=", NULL};

    (void)state;
    t.options.env = env;
    assert_int_equal(run(argv), 0);
    expect_text("KEEPFS_STORE=app\nEMPTY=\nPATH=" SPAWN_PATH "\n");
    buf_truncate(&t.text, 0);
    t.options.env = NULL;
    assert_int_equal(run(argv), 0);
    expect_text("PATH=" SPAWN_PATH "\n");
}

/* ls opens the directory as the first number that is free. */
static void no_descriptor_but_the_three(void **state)
{
    char *argv[] = {"/bin/ls", "/proc/self/fd", NULL};
    int leaks[20];

    (void)state;
    for (size_t i = 0; i < 20; i++)
        leaks[i] = open("/dev/null", O_RDWR);
    int far = fcntl(leaks[0], F_DUPFD, 900);
    assert_int_equal(run(argv), 0);
    close(far);
    for (size_t i = 0; i < 20; i++)
        close(leaks[i]);
    expect_text("0\n1\n2\n3\n");
}

static void stdin_is_dev_null(void **state)
{
    char *argv[] = {"/bin/readlink", "/proc/self/fd/0", NULL};

    (void)state;
    assert_int_equal(run(argv), 0);
    expect_text("/dev/null\n");
}

static void stdout_and_stderr_are_one_pipe(void **state)
{
    (void)state;
    sh("[ \"$(readlink /proc/$$/fd/1)\" != '' ] && [ /proc/$$/fd/1 -ef /proc/$$/fd/2 ] && "
       "[ -p /proc/$$/fd/2 ] && echo same");
    expect_text("same\n");
}

static void signals_are_as_in_a_new_login(void **state)
{
    char *argv[] = {"/bin/grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status", NULL};
    sigset_t all, before;

    (void)state;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    int result = run(argv);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    sigset_t now;
    sigprocmask(SIG_SETMASK, &before, &now);
    assert_int_equal(result, 0);
    expect_text("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    assert_int_equal(sigismember(&now, SIGUSR1), 1); /* ours was put back */
}

static void the_mask_of_the_caller_stays(void **state)
{
    sigset_t now;

    (void)state;
    sh(":");
    sigprocmask(SIG_SETMASK, NULL, &now);
    for (int sig = 1; sig < 32; sig++)
        assert_int_equal(sigismember(&now, sig), 0);
}

static void umask_and_directory_are_fixed(void **state)
{
    char here[4096];
    mode_t before = umask(022);

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir("/usr"), 0);
    sh("umask; pwd");
    umask(before);
    assert_int_equal(chdir(here), 0);
    expect_text("0077\n/\n");
}

static void it_leads_a_session_and_a_group_without_terminal(void **state)
{
    (void)state;
    sh("read -r a b c d group session terminal rest </proc/$$/stat; "
       "echo $((group - $$)) $((session - $$)) $terminal");
    expect_text("0 0 0\n");
}

static void low_descriptors_need_not_be_open(void **state)
{
    (void)state;
    for (int keep = -1; keep < 4; keep++) {
        pid_t pid = fork();
        int status;
        if (pid == 0) {
            for (int fd = 0; fd < 5; fd++)
                if (fd != keep)
                    close(fd);
            char *argv[] = {"/bin/sh", "-c", "echo out; echo err >&2; exit 6", NULL};
            bool well = run(argv) == 0 && t.result.status == 6 &&
                        strcmp(buf_text(&t.text), "out\nerr\n") == 0;
            _exit(well ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

/* --- it cannot be run --- */

static void expect_failure(const char *program, enum error_side side, enum error_code code,
                           int errnum, const char *message)
{
    char *argv[] = {(char *)(uintptr_t)program, NULL};

    t.options.side = side;
    memset(&t.err, 0, sizeof t.err);
    assert_int_equal(run(argv), -1);
    assert_int_equal(t.err.code, code);
    assert_int_equal(t.err.errnum, errnum);
    assert_string_equal(t.err.message, message);
    expect_text("");
}

static void a_missing_program_is_told(void **state)
{
    (void)state;
    expect_failure("/keepfs-test/no", SIDE_SOURCE, ERR_SOURCE_UNAVAILABLE, ENOENT,
                   "/keepfs-test/no cannot be run: No such file or directory");
    expect_failure("/keepfs-test/no", SIDE_DESTINATION, ERR_DESTINATION_NOT_FOUND, ENOENT,
                   "/keepfs-test/no cannot be run: No such file or directory");
}

static void a_program_that_may_not_be_run_is_told(void **state)
{
    (void)state;
    expect_failure("/etc/passwd", SIDE_SOURCE, ERR_SOURCE_UNAVAILABLE, EACCES,
                   "/etc/passwd cannot be run: Permission denied");
    expect_failure("/etc", SIDE_DESTINATION, ERR_DESTINATION_PERMISSION_DENIED, EACCES,
                   "/etc cannot be run: Permission denied");
}

static void fail_script(const char *text, int errnum, const char *before, const char *behind)
{
    snprintf(t.dir, sizeof t.dir, "%s", "/tmp/keepfs-test-spawn.XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    char *path = xasprintf("%s/script", t.dir);
    char *message = xasprintf("%s%s%s", before, path, behind);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    expect_failure(path, SIDE_SOURCE, ERR_SOURCE_UNAVAILABLE, errnum, message);
    unlink(path);
    free(path);
    free(message);
}

static void a_missing_interpreter_is_told(void **state)
{
    (void)state;
    fail_script("#!/keepfs-test/no\n", ENOENT,
                "the interpreter that it names in its first line is missing: ",
                " cannot be run: No such file or directory");
}

static void no_shell_runs_what_is_no_program(void **state)
{
    (void)state;
    fail_script("echo ran\n", ENOEXEC, "", " cannot be run: Exec format error");
}

static void no_descriptors_is_our_own_fault(void **state)
{
    (void)state;
    for (int at = 1; at <= 2; at++) {
        atomic_store(&fail_pipe2_at, at);
        expect_failure("/bin/true", SIDE_SOURCE, ERR_INTERNAL, EMFILE,
                       "/bin/true cannot be started: pipe: Too many open files");
    }
    atomic_store(&fail_pipe2_at, 0);
    atomic_store(&fail_pidfd_open, 1);
    expect_failure("/bin/sleep", SIDE_SOURCE, ERR_INTERNAL, EMFILE,
                   "/bin/sleep cannot be started: pidfd_open: Too many open files");
}

/* In a process of its own: as somebody who may have no process more. */
static void no_process_is_our_own_fault(void **state)
{
    const struct rlimit none = {0, 0};
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        char *argv[] = {"/bin/true", NULL};
        if (setrlimit(RLIMIT_NPROC, &none) != 0 || (getuid() == 0 && setuid(65534) != 0))
            _exit(2);
        bool told = run(argv) == -1 && t.err.code == ERR_INTERNAL && t.err.errnum == EAGAIN &&
                    strstr(t.err.message, "/bin/true cannot be started: fork: ");
        _exit(told ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* With room for two pipes and a pidfd, but not for the second descriptor that the child moves. */
static void what_fails_in_the_child_is_told(void **state)
{
    const struct rlimit few = {8, 8};
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        char *argv[] = {"/bin/true", NULL};
        if (close_range(3, ~0U, 0) != 0 || setrlimit(RLIMIT_NOFILE, &few) != 0)
            _exit(2);
        bool told =
            run(argv) == -1 && t.err.code == ERR_INTERNAL && t.err.errnum == EMFILE &&
            strcmp(t.err.message, "/bin/true cannot be started: fcntl: Too many open files") == 0;
        _exit(told ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- words --- */

static void expect_words(const char *line, const char *joined)
{
    struct buf got = BUF_INIT;
    char **argv, why[128];

    assert_true(spawn_split(line, &argv, why, sizeof why));
    for (size_t i = 0; argv[i]; i++)
        buf_addf(&got, "[%s]", argv[i]);
    assert_string_equal(buf_text(&got), joined);
    free(argv);
    buf_release(&got);
}

static void expect_no_words(const char *line, const char *reason)
{
    char *none = NULL, **argv = &none, why[128];

    assert_false(spawn_split(line, &argv, why, sizeof why));
    assert_string_equal(why, reason);
    assert_ptr_equal(argv, &none);
}

static void a_line_is_split_at_blanks(void **state)
{
    (void)state;
    expect_words("/bin/x", "[/bin/x]");
    expect_words(" \t/bin/x\t a  b ", "[/bin/x][a][b]");
    expect_words("/ a b c d e f g h", "[/][a][b][c][d][e][f][g][h]");
}

static void quotes_group(void **state)
{
    (void)state;
    expect_words("/usr/local/bin/x --a 'b c'", "[/usr/local/bin/x][--a][b c]");
    expect_words("/x \"b  c\" '' \"\"", "[/x][b  c][][]");
    expect_words("/x --a='b c'd\"e f\"", "[/x][--a=b cde f]");
    expect_words("/x \"it's\" 'say \"hi\"'", "[/x][it's][say \"hi\"]");
    expect_words("'/dir with blank/x' y", "[/dir with blank/x][y]");
}

static void a_backslash_escapes_outside_single_quotes(void **state)
{
    (void)state;
    expect_words("/x a\\ b \\\\ \\' \\\" \\n", "[/x][a b][\\]['][\"][n]");
    expect_words("/x \"a\\\"b\\\\c\\$\"", "[/x][a\"b\\c$]");
    expect_words("/x 'a\\b' 'c\\'", "[/x][a\\b][c\\]");
}

static void nothing_is_expanded(void **state)
{
    (void)state;
    expect_words("/x $HOME ~ * `id` a;b >c #d", "[/x][$HOME][~][*][`id`][a;b][>c][#d]");
}

static void what_is_no_command_is_refused(void **state)
{
    (void)state;
    expect_no_words("", "there is no command in it");
    expect_no_words(" \t ", "there is no command in it");
    expect_no_words("/x 'a", "a single quote is not closed");
    expect_no_words("/x 'a\\", "a single quote is not closed");
    expect_no_words("/x a\"b", "a double quote is not closed");
    expect_no_words("/x \"a\\\"", "a double quote is not closed");
    expect_no_words("/x a\\", "there is nothing behind the backslash at its end");
    expect_no_words("x /y", "its first word must be the absolute path of a program");
    expect_no_words("'' /y", "its first word must be the absolute path of a program");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_comes_line_by_line),
        TEST(no_output_is_no_line),
        TEST(bytes_stay_as_they_are_but_nul),
        TEST(a_long_line_is_cut),
        TEST(after_the_bound_lines_are_counted_only),
        TEST(a_bound_that_is_reached_exactly_drops_nothing),
        TEST(fifty_megabytes_pass),
        TEST(fifty_megabytes_of_one_line_pass),
        TEST(nobody_need_listen),
        TEST(arguments_come_as_they_are),
        TEST(the_environment_is_what_was_given),
        TEST(no_descriptor_but_the_three),
        TEST(stdin_is_dev_null),
        TEST(stdout_and_stderr_are_one_pipe),
        TEST(signals_are_as_in_a_new_login),
        TEST(the_mask_of_the_caller_stays),
        TEST(umask_and_directory_are_fixed),
        TEST(it_leads_a_session_and_a_group_without_terminal),
        TEST(low_descriptors_need_not_be_open),
        TEST(a_missing_program_is_told),
        TEST(a_program_that_may_not_be_run_is_told),
        TEST(a_missing_interpreter_is_told),
        TEST(no_shell_runs_what_is_no_program),
        TEST(no_descriptors_is_our_own_fault),
        TEST(no_process_is_our_own_fault),
        TEST(what_fails_in_the_child_is_told),
        TEST(a_line_is_split_at_blanks),
        TEST(quotes_group),
        TEST(a_backslash_escapes_outside_single_quotes),
        TEST(nothing_is_expanded),
        TEST(what_is_no_command_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
