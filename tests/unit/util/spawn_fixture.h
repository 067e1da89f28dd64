/* SPDX-License-Identifier: MIT */
/*
 * spawn_fixture.h - one run at a time of a real program, with what it wrote and how it ended. After
 * every test there must be as many descriptors as before it, and no child.
 *
 * A script says "pid N" when it is where the test wants it; what is to happen then, happens in the
 * callback for that line, so that nothing is left to chance. Time is not waited for but put
 * forward: clock_gettime, like a few other calls, is the test's own. So it is for one .c file per
 * program, which includes cmocka first.
 */
#ifndef TESTS_UTIL_SPAWN_FIXTURE_H
#define TESTS_UTIL_SPAWN_FIXTURE_H

#include "util/buf.h"
#include "util/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HANG_MS = 30000 }; /* only a hang takes that long */

/* --- calls of libc that are ours here --- */

static atomic_long clock_ahead;     /* seconds */
static atomic_bool swallow_sigkill; /* as a program hung in the kernel does */
static atomic_bool killed_in_vain;  /* so the next wait takes an hour */
static atomic_int fail_pipe2_at, fail_pidfd_open;
static atomic_bool setsid_late;    /* it waits for a SIGTERM, ten seconds at most */
static void (*on_last_wait)(void); /* once, when poll waits for nothing but an exit */

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int result = (int)syscall(SYS_clock_gettime, id, ts);

    if (id == CLOCK_MONOTONIC)
        ts->tv_sec += atomic_load(&clock_ahead);
    return result;
}

static inline void an_hour_passes(void)
{
    atomic_fetch_add(&clock_ahead, 3600);
}

static inline int kill_really(pid_t pid, int sig)
{
    return (int)syscall(SYS_kill, pid, sig);
}

int kill(pid_t pid, int sig)
{
    if (sig == SIGKILL && atomic_load(&swallow_sigkill)) {
        atomic_store(&killed_in_vain, true);
        return 0;
    }
    return kill_really(pid, sig);
}

int pipe2(int fds[2], int flags)
{
    if (atomic_load(&fail_pipe2_at) && atomic_fetch_sub(&fail_pipe2_at, 1) == 1) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_pipe2, fds, flags);
}

static inline int pidfd_open_really(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int pidfd_open(pid_t pid, unsigned flags)
{
    (void)flags;
    if (atomic_exchange(&fail_pidfd_open, 0)) {
        errno = EMFILE;
        return -1;
    }
    return pidfd_open_really(pid);
}

static inline int poll_really(struct pollfd *fds, nfds_t n, int ms)
{
    return (int)syscall(SYS_poll, fds, n, ms);
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    const volatile struct pollfd *seen = fds; /* which libc declares to be written only */
    nfds_t live = 0;

    if (atomic_exchange(&killed_in_vain, false)) {
        an_hour_passes();
        return 0;
    }
    for (nfds_t i = 0; i < n; i++)
        live += seen[i].fd >= 0;
    if (live == 1 && on_last_wait) {
        void (*then)(void) = on_last_wait;
        on_last_wait = NULL;
        then();
    }
    return poll_really(fds, n, ms);
}

/* In the child, where signals are blocked. */
pid_t setsid(void)
{
    sigset_t pending;

    sigemptyset(&pending);
    for (int ms = 0; atomic_load(&setsid_late) && ms < 10000; ms++) {
        sigpending(&pending);
        if (sigismember(&pending, SIGTERM))
            break;
        poll_really(NULL, 0, 1);
    }
    return (pid_t)syscall(SYS_setsid);
}

/* --- the fixture --- */

static struct {
    struct spawn_options options;
    struct spawn_result result;
    struct error err;
    struct cancel cancel;
    struct buf text;      /* the lines, each with a newline */
    size_t longest;       /* of the lines */
    pid_t pid;            /* of the last line "pid N"; 0: none */
    int pidfd;            /* of it */
    void (*on_pid)(void); /* then */
    int descriptors;      /* before the test */
    char dir[64];         /* for files, if a test makes it */
} t;

static inline int count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static inline void take_line(void *ctx, const char *text)
{
    (void)ctx;
    buf_addf(&t.text, "%s\n", text);
    if (strlen(text) > t.longest)
        t.longest = strlen(text);
    if (sscanf(text, "pid %d", &t.pid) != 1)
        return;
    t.pidfd = pidfd_open_really(t.pid);
    assert_true(t.pidfd >= 0);
    if (t.on_pid)
        t.on_pid();
}

static inline int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    t.pidfd = -1;
    t.options = (struct spawn_options){.side = SIDE_SOURCE,
                                       .timeout_ms = 120000,
                                       .grace_ms = 5000,
                                       .output_max = 1 << 20,
                                       .line = take_line};
    cancel_init(&t.cancel);
    atomic_store(&clock_ahead, 0);
    atomic_store(&killed_in_vain, false);
    t.descriptors = count_descriptors();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    if (t.pidfd >= 0)
        close(t.pidfd);
    if (t.dir[0])
        rmdir(t.dir);
    buf_release(&t.text);
    cancel_release(&t.cancel);
    assert_int_equal(count_descriptors(), t.descriptors);
    assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    assert_int_equal(errno, ECHILD);
    return 0;
}

static inline int run(char *const *argv)
{
    t.options.argv = argv;
    return spawn_run(&t.options, &t.result, &t.err);
}

static inline void sh(const char *script)
{
    char *argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)script, NULL};

    assert_int_equal(run(argv), 0);
}

static inline void expect_text(const char *text)
{
    assert_string_equal(buf_text(&t.text), text);
}

static inline void expect_end(enum spawn_end end, int status)
{
    assert_int_equal(t.result.end, end);
    assert_int_equal(t.result.status, status);
    assert_false(t.result.stuck);
}

static inline void expect_description(const char *text)
{
    char got[SPAWN_TEXT_MAX];

    assert_string_equal(spawn_describe(&t.result, got), text);
}

static inline bool ends_within(int pidfd, int ms)
{
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};

    return poll_really(&fd, 1, ms) == 1;
}

/* The process of the line "pid N" is dead, or dying. */
static inline void expect_death(void)
{
    bool ended = ends_within(t.pidfd, HANG_MS);

    if (!ended)
        kill_really(t.pid, SIGKILL);
    assert_true(ended);
}

/* It lives, and nobody is killing it. Of a signal sent it would be dead in a moment; that the
 * moment may be longer on a bad day can only hide a fault. */
static inline void expect_life(void)
{
    bool ended = ends_within(t.pidfd, 300);

    kill_really(t.pid, SIGKILL);
    assert_true(ends_within(t.pidfd, HANG_MS));
    assert_false(ended);
}

static inline void request_cancel(void)
{
    cancel_request(&t.cancel, ERR_CANCELLED, "cancelled by uid:0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
