/* SPDX-License-Identifier: MIT */
/*
 * test_spawn_end.c - how programs end, by themselves and otherwise, and that nothing stays behind
 * of them; of one in a group of its own, of one that will not go, and of many at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spawn_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/* --- how it ends --- */

static void an_exit_status_is_told(void **state)
{
    (void)state;
    sh("exit 3");
    expect_end(SPAWN_EXITED, 3);
    expect_description("exited with status 3");
    sh("exit 255");
    expect_end(SPAWN_EXITED, 255);
}

static void a_signal_is_told(void **state)
{
    (void)state;
    sh("kill -KILL $$");
    expect_end(SPAWN_SIGNALLED, SIGKILL);
    expect_description("was killed by signal 9 (SIGKILL)");
    sh("kill -SEGV $$");
    expect_end(SPAWN_SIGNALLED, SIGSEGV);
    expect_description("was killed by signal 11 (SIGSEGV)");
    sh("kill -40 $$");
    expect_description("was killed by signal 40");
}

static void ends_have_their_words(void **state)
{
    (void)state;
    t.result = (struct spawn_result){.end = SPAWN_TIMED_OUT, .timeout_ms = 60000};
    expect_description("did not end within 60 s");
    t.result.timeout_ms = 1500;
    expect_description("did not end within 1500 ms");
    t.result.timeout_ms = 2147483647;
    t.result.stuck = true;
    expect_description("did not end within 2147483647 ms, and could not be killed");
    t.result.end = SPAWN_CANCELLED;
    expect_description("was cancelled, and could not be killed");
}

static void at_the_timeout_it_is_asked_to_end(void **state)
{
    (void)state;
    t.on_pid = an_hour_passes;
    sh("trap 'echo bye; exit 0' TERM; echo pid $$; while :; do :; done");
    expect_end(SPAWN_TIMED_OUT, 0);
    expect_description("did not end within 120 s");
    assert_false(t.result.killed);
    assert_non_null(strstr(buf_text(&t.text), "\nbye\n"));
    expect_death();
}

static void who_ignores_that_is_killed_with_the_group(void **state)
{
    (void)state;
    t.on_pid = an_hour_passes;
    t.options.grace_ms = 50;
    sh("trap '' TERM; sleep 1000 & echo pid $!; wait");
    expect_end(SPAWN_TIMED_OUT, 0);
    assert_true(t.result.killed);
    expect_death();
}

/* The leader goes when asked; its child does not, and has no output by which we would know. */
static void who_was_stopped_leaves_nothing_behind(void **state)
{
    (void)state;
    t.on_pid = an_hour_passes;
    sh("trap '' TERM; sleep 1000 >/dev/null 2>&1 & trap - TERM; echo pid $!; wait");
    expect_end(SPAWN_TIMED_OUT, 0);
    assert_false(t.result.killed);
    expect_death();
}

static void wait_until_stopped(void)
{
    char path[64], line[512], state = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", t.pid);
    while (state != 'T') {
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        assert_non_null(fgets(line, sizeof line, f));
        fclose(f);
        state = strrchr(line, ')')[2];
        sched_yield();
    }
    an_hour_passes();
}

static void a_stopped_program_is_asked_too(void **state)
{
    (void)state;
    t.on_pid = wait_until_stopped;
    sh("trap 'echo bye; exit 0' TERM; echo pid $$; kill -STOP $$; sleep 1000");
    expect_end(SPAWN_TIMED_OUT, 0);
    assert_false(t.result.killed);
    assert_non_null(strstr(buf_text(&t.text), "\nbye\n"));
}

static void a_stopped_program_that_ignores_it_is_killed(void **state)
{
    (void)state;
    t.on_pid = wait_until_stopped;
    t.options.grace_ms = 50;
    sh("trap '' TERM; echo pid $$; while :; do kill -STOP $$; done");
    expect_end(SPAWN_TIMED_OUT, 0);
    assert_true(t.result.killed);
    expect_death();
}

static void a_cancel_ends_it(void **state)
{
    (void)state;
    t.options.cancel = &t.cancel;
    t.on_pid = request_cancel;
    sh("echo pid $$; exec sleep 1000");
    expect_end(SPAWN_CANCELLED, 0);
    expect_description("was cancelled");
    assert_false(t.result.killed);
    expect_death();
}

static void *cancel_from_elsewhere(void *ctx)
{
    request_cancel();
    return ctx;
}

static pthread_t canceller;

static void start_canceller(void)
{
    assert_int_equal(pthread_create(&canceller, NULL, cancel_from_elsewhere, NULL), 0);
}

/* Only the exit is left to be waited for: the request has to end the wait. */
static void a_cancel_from_another_thread_is_seen(void **state)
{
    struct timespec began, ended;

    (void)state;
    t.options.cancel = &t.cancel;
    t.options.timeout_ms = 2 * HANG_MS;
    on_last_wait = start_canceller;
    clock_gettime(CLOCK_MONOTONIC, &began);
    sh("exec sleep 1000 >/dev/null 2>&1");
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_join(canceller, NULL);
    expect_end(SPAWN_CANCELLED, 0);
    assert_true(ended.tv_sec - began.tv_sec < HANG_MS / 1000);
}

static void a_cancel_before_the_start_prevents_it(void **state)
{
    char *argv[] = {"/keepfs-test/no/such/program", NULL};

    (void)state;
    request_cancel();
    t.options.cancel = &t.cancel;
    assert_int_equal(run(argv), 0);
    expect_end(SPAWN_CANCELLED, 0);
}

static void what_holds_the_output_is_killed_at_last(void **state)
{
    (void)state;
    t.options.grace_ms = 50;
    sh("sleep 1000 & echo pid $!; exit 3");
    expect_end(SPAWN_EXITED, 3);
    assert_true(t.result.killed);
    expect_death();
}

static void what_a_child_says_after_the_exit_is_heard(void **state)
{
    (void)state;
    t.options.grace_ms = HANG_MS;
    sh("p=$$; { while [ \"$(cut -d' ' -f3 /proc/$p/stat)\" != Z ]; do :; done; echo late; } & exit "
       "3");
    expect_end(SPAWN_EXITED, 3);
    assert_false(t.result.killed);
    expect_text("late\n");
}

static void what_does_not_hold_the_output_is_left_alone(void **state)
{
    (void)state;
    sh("sleep 1000 >/dev/null 2>&1 & echo pid $!");
    expect_end(SPAWN_EXITED, 0);
    assert_false(t.result.killed);
    expect_life();
}

/* A daemon that forgot to close its output: out of the group before the leader exits. */
static void a_daemon_that_holds_the_output_does_not_hang_us(void **state)
{
    (void)state;
    t.options.grace_ms = 50;
    sh("exec 3>&1; p=$(setsid sh -c 'sleep 1000 >&3 2>&3 & echo $!'); echo pid $p");
    expect_end(SPAWN_EXITED, 0);
    expect_life();
}

static void end_by_usr1(void)
{
    kill_really(t.pid, SIGUSR1);
}

static void closed_output_is_not_the_end(void **state)
{
    (void)state;
    on_last_wait = end_by_usr1;
    sh("echo pid $$; exec sleep 1000 >&- 2>&-");
    assert_null(on_last_wait);
    expect_end(SPAWN_SIGNALLED, SIGUSR1);
}

static void end_by_usr1_late(void)
{
    end_by_usr1();
    assert_true(ends_within(t.pidfd, HANG_MS));
    an_hour_passes();
}

static void an_exit_counts_before_a_timeout(void **state)
{
    (void)state;
    on_last_wait = end_by_usr1_late;
    sh("echo pid $$; exec sleep 1000 >&- 2>&-");
    expect_end(SPAWN_SIGNALLED, SIGUSR1);
}

static void a_timeout_before_there_is_a_group_ends_it(void **state)
{
    char *argv[] = {"/bin/true", NULL};

    (void)state;
    t.options.timeout_ms = 1;
    atomic_store(&setsid_late, true);
    int result = run(argv);
    atomic_store(&setsid_late, false);
    assert_int_equal(result, 0);
    expect_end(SPAWN_TIMED_OUT, 0);
    assert_false(t.result.killed);
}

static void what_cannot_be_killed_is_given_up(void **state)
{
    siginfo_t info;

    (void)state;
    t.on_pid = an_hour_passes;
    t.options.grace_ms = 0;
    atomic_store(&swallow_sigkill, true);
    sh("trap '' TERM; echo pid $$; exec sleep 1000");
    atomic_store(&swallow_sigkill, false);
    assert_int_equal(t.result.end, SPAWN_TIMED_OUT);
    assert_true(t.result.stuck);
    expect_description("did not end within 120 s, and could not be killed");
    kill_really(t.pid, SIGKILL);
    /* It is reaped all the same, by somebody else. */
    while (waitid(P_PID, (id_t)t.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        sched_yield();
    assert_int_equal(errno, ECHILD);
}

/* --- with the daemon --- */

static void tell_pid(void *ctx, const char *text)
{
    (void)!write(*(int *)ctx, text, strlen(text));
}

static void it_dies_with_its_caller(void **state)
{
    int told[2];
    char text[32] = "";

    (void)state;
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    pid_t caller = fork();
    if (caller == 0) {
        t.options.line = tell_pid;
        t.options.ctx = &told[1];
        char *argv[] = {"/bin/sh", "-c", "echo $$; exec sleep 1000", NULL};
        run(argv);
        _exit(1);
    }
    assert_true(read(told[0], text, sizeof text - 1) > 0);
    t.pid = atoi(text);
    t.pidfd = pidfd_open_really(t.pid);
    kill_really(caller, SIGKILL);
    assert_int_equal(waitpid(caller, NULL, 0), caller);
    close(told[0]);
    close(told[1]);
    expect_death();
}

/* --- many threads --- */

enum { THREADS = 8, RUNS = 50 };

static void keep_line(void *ctx, const char *text)
{
    buf_addf(ctx, "%s\n", text);
}

static bool run_numbered(int number)
{
    char name[16], status[16], expected[64];
    char *argv[] = {"/bin/sh", "-c", "echo $0; echo $1 >&2; exit $1", name, status, NULL};
    char *missing[] = {"/keepfs-test/no", NULL};
    struct buf text = BUF_INIT;
    struct spawn_options o = {.argv = number % 5 == 0 ? missing : argv,
                              .timeout_ms = 120000,
                              .grace_ms = 5000,
                              .output_max = 4096,
                              .line = keep_line,
                              .ctx = &text};
    struct spawn_result r;
    struct error err;

    snprintf(name, sizeof name, "%d", number);
    snprintf(status, sizeof status, "%d", number % 200);
    snprintf(expected, sizeof expected, "%d\n%d\n", number, number % 200);
    int result = spawn_run(&o, &r, &err);
    bool well = number % 5 == 0
                    ? result == -1 && err.errnum == ENOENT
                    : result == 0 && r.end == SPAWN_EXITED && r.status == number % 200 &&
                          !r.killed && strcmp(buf_text(&text), expected) == 0;
    buf_release(&text);
    return well;
}

static void *run_many(void *ctx)
{
    int first = *(int *)ctx;

    for (int i = 0; i < RUNS; i++)
        if (!run_numbered(first + i))
            return NULL;
    return ctx;
}

static void threads_do_not_disturb_each_other(void **state)
{
    pthread_t threads[THREADS];
    int first[THREADS];
    void *well;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        first[i] = i * RUNS;
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &first[i]), 0);
    }
    int good = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &well);
        good += well != NULL;
    }
    assert_int_equal(good, THREADS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_exit_status_is_told),
        TEST(a_signal_is_told),
        TEST(ends_have_their_words),
        TEST(at_the_timeout_it_is_asked_to_end),
        TEST(who_ignores_that_is_killed_with_the_group),
        TEST(who_was_stopped_leaves_nothing_behind),
        TEST(a_stopped_program_is_asked_too),
        TEST(a_stopped_program_that_ignores_it_is_killed),
        TEST(a_cancel_ends_it),
        TEST(a_cancel_from_another_thread_is_seen),
        TEST(a_cancel_before_the_start_prevents_it),
        TEST(what_holds_the_output_is_killed_at_last),
        TEST(what_a_child_says_after_the_exit_is_heard),
        TEST(what_does_not_hold_the_output_is_left_alone),
        TEST(a_daemon_that_holds_the_output_does_not_hang_us),
        TEST(closed_output_is_not_the_end),
        TEST(an_exit_counts_before_a_timeout),
        TEST(a_timeout_before_there_is_a_group_ends_it),
        TEST(what_cannot_be_killed_is_given_up),
        TEST(it_dies_with_its_caller),
        TEST(threads_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
