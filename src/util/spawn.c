/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - fork, exec, and a loop around poll(2) on three descriptors:
 *
 *   pidfd    readable when the program has exited. It is not reaped before the end of the run, so
 *            that its number, which is also the group's, cannot come to mean anybody else.
 *   out      what the program and its children write; at its end when all of them have closed it
 *   report   written by the child if it fails before or in exec, closed by a successful exec. In
 * the loop with the others, for exec itself can hang, on a dead network file system.
 *
 * Phases, each with a deadline:
 *
 *   RUNNING      timeout_ms          exited -> LINGERING; deadline, cancel -> SIGTERM, STOPPING
 *   STOPPING     grace_ms            deadline -> SIGKILL, KILLED
 *   LINGERING    grace_ms            deadline -> SIGKILL, SETTLING
 *   KILLED       KILL_WAIT_MS        exited -> SETTLING; deadline -> over: stuck
 *   SETTLING     SETTLE_MS           deadline -> over: somebody outside the group has the output
 *
 * and in each of them it is over as soon as the program has exited and its output is at its end.
 *
 * Between fork and exec the child of a process with many threads may find any lock taken for ever:
 * it makes system calls only, on what was prepared before. All signals are blocked around the fork,
 * so that no handler of ours runs in the child. Descriptors here are CLOEXEC, and each child closes
 * what it inherited from other threads before anything in it can hang.
 */
#include "util/spawn.h"

#include "util/buf.h"
#include "util/clock.h"
#include "util/fsutil.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CANCEL_LOOK_MS = 50,
    KILL_WAIT_MS = 10000, /* only a program in a hung system call takes longer to die */
    SETTLE_MS = 500,      /* what was killed closes its descriptors within it */
    REPORT_FD = 3,        /* in the child, until exec */
};

enum phase { RUNNING, STOPPING, LINGERING, KILLED, SETTLING };

/* What the child tells if it fails: the call, a literal at one address in parent and child. */
struct failure {
    const char *call;
    int errnum;
};

struct run {
    const struct spawn_options *options;
    struct spawn_result *result;
    pid_t pid;
    int pidfd, out, report; /* -1: not open, or not any more */
    enum phase phase;
    time_ms deadline;
    bool exited;
    struct failure failure; /* errnum 0: none */
    char line[SPAWN_LINE_MAX + 1];
    size_t len;
    bool in_line, cut; /* something came after the last newline; more than fits */
    bool full;         /* a line was dropped, so all later ones are */
    size_t delivered;
};

/* What the child needs, made before the fork. */
struct launch {
    char *const *argv;
    char **env;
    int out, report;
    pid_t parent;
};

/* --- in the child: system calls only --- */

static noreturn void child_fail(int report, const char *call)
{
    const struct failure f = {call, errno};

    (void)!write(report, &f, sizeof f);
    _exit(127);
}

/* The two are moved out of the way first: they may have any number, 0 to 3 included. */
static void child_descriptors(const struct launch *l)
{
    int report = fcntl(l->report, F_DUPFD_CLOEXEC, REPORT_FD + 1);
    if (report < 0)
        child_fail(l->report, "fcntl");
    int out = fcntl(l->out, F_DUPFD_CLOEXEC, REPORT_FD + 1);
    if (out < 0)
        child_fail(report, "fcntl");
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 ||
        dup3(report, REPORT_FD, O_CLOEXEC) < 0)
        child_fail(report, "dup2");
    if (close_range(REPORT_FD + 1, ~0U, 0) != 0)
        child_fail(REPORT_FD, "close_range");
    close(STDIN_FILENO);
    if (open("/dev/null", O_RDONLY) != STDIN_FILENO)
        child_fail(REPORT_FD, "open /dev/null");
}

/* An ignored signal would stay ignored, and a blocked one blocked, through exec. */
static void child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, &action, NULL); /* SIGKILL and SIGSTOP are refused */
    sigemptyset(&action.sa_mask);
    sigprocmask(SIG_SETMASK, &action.sa_mask, NULL);
}

static noreturn void child_run(const struct launch *l)
{
    (void)setsid(); /* fails only for the leader of a group */
    child_descriptors(l);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        child_fail(REPORT_FD, "prctl");
    if (getppid() != l->parent) /* it died before the prctl */
        _exit(127);
    umask(077);
    if (chdir("/") != 0)
        child_fail(REPORT_FD, "chdir");
    child_signals();
    execve(l->argv[0], l->argv, l->env);
    child_fail(REPORT_FD, "execve");
}

/* --- starting --- */

static int fail_own(struct error *err, const char *call, const char *program, int errnum)
{
    char reason[128];

    error_set(err, ERR_INTERNAL, "%s cannot be started: %s: %s", program, call,
              strerror_r(errnum, reason, sizeof reason));
    err->errnum = errnum;
    return -1;
}

/* An array of its own over the caller's strings. */
static char **environment(char *const *given)
{
    static char path[] = "PATH=" SPAWN_PATH;
    size_t n = 0;

    while (given && given[n]) {
        assert(strncmp(given[n], "PATH=", 5) != 0);
        n++;
    }
    char **env = xcalloc(n + 2, sizeof *env);
    for (size_t i = 0; i < n; i++)
        env[i] = given[i];
    env[n] = path;
    return env;
}

static int open_pipe(int *read_end, int *write_end)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return -1;
    *read_end = fds[0];
    *write_end = fds[1];
    return 0;
}

static pid_t fork_child(const struct launch *l)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child_run(l);
    int errnum = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = errnum;
    return pid;
}

/* The program has exited, or is about to: waits for it. 0 or -1 with errno. */
static int reap(pid_t pid, siginfo_t *info)
{
    while (waitid(P_PID, (id_t)pid, info, WEXITED) != 0)
        if (errno != EINTR)
            return -1;
    return 0;
}

static int start(struct run *r, struct error *err)
{
    __attribute__((cleanup(fd_close))) int out = -1;
    __attribute__((cleanup(fd_close))) int report = -1;
    const char *program = r->options->argv[0];
    siginfo_t info;

    if (open_pipe(&r->out, &out) != 0 || open_pipe(&r->report, &report) != 0)
        return fail_own(err, "pipe", program, errno);
    struct launch l = {.argv = r->options->argv,
                       .env = environment(r->options->env),
                       .out = out,
                       .report = report,
                       .parent = getpid()};
    r->pid = fork_child(&l);
    int errnum = errno;
    free(l.env);
    if (r->pid < 0)
        return fail_own(err, "fork", program, errnum);
    r->pidfd = pidfd_open(r->pid, 0);
    if (r->pidfd < 0) {
        errnum = errno;
        kill(r->pid, SIGKILL);
        reap(r->pid, &info);
        return fail_own(err, "pidfd_open", program, errnum);
    }
    r->deadline = clock_monotonic() + r->options->timeout_ms;
    return 0;
}

/* --- output --- */

static void end_line(struct run *r)
{
    const struct spawn_options *o = r->options;

    r->line[r->len] = '\0';
    r->result->lines++;
    r->result->lines_cut += r->cut;
    if (r->len + 1 > o->output_max - r->delivered)
        r->full = true;
    if (r->full) {
        r->result->lines_dropped++;
    } else {
        r->delivered += r->len + 1;
        if (o->line)
            o->line(o->ctx, r->line);
    }
    r->len = 0;
    r->in_line = r->cut = false;
}

static void take(struct run *r, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n') {
            end_line(r);
            continue;
        }
        r->in_line = true;
        if (r->len == SPAWN_LINE_MAX)
            r->cut = true;
        else
            r->line[r->len++] = data[i] ? data[i] : '?';
    }
}

/* Once, after poll: what is there, or the end. */
static void read_output(struct run *r)
{
    char data[16384];
    ssize_t n = read(r->out, data, sizeof data);

    if (n > 0)
        take(r, data, (size_t)n);
    else if (n == 0 || errno != EINTR)
        fd_close(&r->out);
}

static void read_report(struct run *r)
{
    struct failure f;
    ssize_t n = read(r->report, &f, sizeof f);

    if (n < 0 && errno == EINTR)
        return;
    if (n == (ssize_t)sizeof f)
        r->failure = f;
    fd_close(&r->report);
}

/* --- the loop --- */

static bool is_over(const struct run *r)
{
    if (r->exited && r->out < 0)
        return true;
    return r->phase >= KILLED && clock_monotonic() >= r->deadline;
}

static int ms_to_wait(const struct run *r)
{
    time_ms left = r->deadline - clock_monotonic();

    if (left < 0)
        return 0;
    if (r->phase == RUNNING && r->options->cancel && left > CANCEL_LOOK_MS)
        return CANCEL_LOOK_MS;
    return (int)left;
}

/* pidfd stands first: if it is found ready, all that the child reported is found as well. */
static void wait_events(struct run *r)
{
    struct pollfd fds[] = {
        {.fd = r->exited ? -1 : r->pidfd, .events = POLLIN},
        {.fd = r->out, .events = POLLIN},
        {.fd = r->report, .events = POLLIN},
    };

    if (poll(fds, 3, ms_to_wait(r)) <= 0)
        return;
    if (fds[0].revents)
        r->exited = true;
    if (fds[1].revents)
        read_output(r);
    if (fds[2].revents)
        read_report(r);
}

/* Before the child has made its group there is nobody but itself. */
static void signal_group(const struct run *r, int sig)
{
    if (kill(-r->pid, sig) != 0 && errno == ESRCH)
        kill(r->pid, sig);
}

static void enter(struct run *r, enum phase phase, int ms)
{
    r->phase = phase;
    r->deadline = clock_monotonic() + ms;
}

static void stop_program(struct run *r, enum spawn_end why)
{
    r->result->end = why;
    signal_group(r, SIGTERM);
    signal_group(r, SIGCONT);
    enter(r, STOPPING, r->options->grace_ms);
}

static void kill_program(struct run *r)
{
    r->result->killed = true;
    signal_group(r, SIGKILL);
    enter(r, KILLED, KILL_WAIT_MS);
}

/* An exit counts before a deadline or a request that came with it. */
static void advance(struct run *r)
{
    bool late = clock_monotonic() >= r->deadline;

    if (r->phase == RUNNING) {
        if (r->exited)
            enter(r, LINGERING, r->options->grace_ms);
        else if (r->options->cancel && cancel_requested(r->options->cancel))
            stop_program(r, SPAWN_CANCELLED);
        else if (late)
            stop_program(r, SPAWN_TIMED_OUT);
    } else if (r->phase < KILLED && late) {
        kill_program(r);
    }
    if (r->phase == KILLED && r->exited)
        enter(r, SETTLING, SETTLE_MS);
}

/* --- the end --- */

static void *reap_late(void *pid)
{
    siginfo_t info;

    reap((pid_t)(intptr_t)pid, &info);
    return NULL;
}

/* It will die some day, and must not stay a zombie. Without a thread it does. */
static void give_up(struct run *r)
{
    pthread_t thread;

    r->result->stuck = true;
    if (pthread_create(&thread, NULL, reap_late, (void *)(intptr_t)r->pid) == 0)
        pthread_detach(thread);
}

static int collect(struct run *r, struct error *err)
{
    struct spawn_result *result = r->result;
    siginfo_t info;

    if (reap(r->pid, &info) != 0)
        return error_set(err, ERR_INTERNAL, "the exit status of %s is lost: %s",
                         r->options->argv[0], strerrordesc_np(errno));
    if (result->end != SPAWN_EXITED)
        return 0;
    if (info.si_code != CLD_EXITED)
        result->end = SPAWN_SIGNALLED;
    result->status = info.si_status;
    return 0;
}

static int fail_child(const struct run *r, struct error *err)
{
    const char *program = r->options->argv[0];
    int errnum = r->failure.errnum;

    if (strcmp(r->failure.call, "execve") != 0)
        return fail_own(err, r->failure.call, program, errnum);
    error_sys(err, r->options->side, errnum, "%s cannot be run", program);
    if (errnum == ENOENT && access(program, F_OK) == 0)
        error_context(err, "the interpreter that it names in its first line is missing");
    return -1;
}

static int finish(struct run *r, struct error *err)
{
    if (r->in_line)
        end_line(r);
    if (r->result->end != SPAWN_EXITED)
        signal_group(r, SIGKILL);
    if (!r->exited)
        give_up(r);
    else if (collect(r, err) != 0)
        return -1;
    return r->failure.errnum ? fail_child(r, err) : 0;
}

int spawn_run(const struct spawn_options *options, struct spawn_result *result, struct error *err)
{
    struct run r = {.options = options, .result = result, .pidfd = -1, .out = -1, .report = -1};

    assert(options->argv[0] && options->argv[0][0] == '/' && options->timeout_ms > 0);
    *result = (struct spawn_result){.end = SPAWN_EXITED, .timeout_ms = options->timeout_ms};
    if (options->cancel && cancel_requested(options->cancel)) {
        result->end = SPAWN_CANCELLED;
        return 0;
    }
    int status = start(&r, err);
    if (status == 0) {
        while (!is_over(&r)) {
            wait_events(&r);
            advance(&r);
        }
        status = finish(&r, err);
    }
    fd_close(&r.pidfd);
    fd_close(&r.out);
    fd_close(&r.report);
    return status;
}

/* --- words --- */

static void describe_signal(int sig, char text[SPAWN_TEXT_MAX])
{
    const char *name = sigabbrev_np(sig);

    if (name)
        snprintf(text, SPAWN_TEXT_MAX, "was killed by signal %d (SIG%s)", sig, name);
    else
        snprintf(text, SPAWN_TEXT_MAX, "was killed by signal %d", sig);
}

const char *spawn_describe(const struct spawn_result *result, char text[SPAWN_TEXT_MAX])
{
    const char *stuck = result->stuck ? ", and could not be killed" : "";
    int ms = result->timeout_ms;

    switch (result->end) {
    case SPAWN_EXITED:
        snprintf(text, SPAWN_TEXT_MAX, "exited with status %d", result->status);
        break;
    case SPAWN_SIGNALLED:
        describe_signal(result->status, text);
        break;
    case SPAWN_TIMED_OUT:
        if (ms % 1000 == 0)
            snprintf(text, SPAWN_TEXT_MAX, "did not end within %d s%s", ms / 1000, stuck);
        else
            snprintf(text, SPAWN_TEXT_MAX, "did not end within %d ms%s", ms, stuck);
        break;
    case SPAWN_CANCELLED:
        snprintf(text, SPAWN_TEXT_MAX, "was cancelled%s", stuck);
        break;
    }
    return text;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Copies one word from *from to *to, with a NUL. NULL, or what is wrong. */
static const char *copy_word(const char **from, char **to)
{
    const char *p = *from;
    char *out = *to, quote = '\0';

    for (; *p && (quote || !is_blank(*p)); p++) {
        if (quote ? *p == quote : *p == '\'' || *p == '"')
            quote = quote ? '\0' : *p;
        else if (*p != '\\' || quote == '\'')
            *out++ = *p;
        else if (p[1])
            *out++ = *++p;
        else
            return "there is nothing behind the backslash at its end";
    }
    if (quote)
        return quote == '"' ? "a double quote is not closed" : "a single quote is not closed";
    *out++ = '\0';
    *from = p;
    *to = out;
    return NULL;
}

/* Into words[] and, behind it, text. NULL, or what is wrong. */
static const char *split(const char *p, char **words, char *text)
{
    size_t n = 0;

    for (;;) {
        while (is_blank(*p))
            p++;
        if (!*p)
            break;
        words[n++] = text;
        const char *wrong = copy_word(&p, &text);
        if (wrong)
            return wrong;
    }
    words[n] = NULL;
    if (n == 0)
        return "there is no command in it";
    return words[0][0] == '/' ? NULL : "its first word must be the absolute path of a program";
}

bool spawn_split(const char *line, char ***argv, char *why, size_t why_size)
{
    size_t len = strlen(line);
    size_t most = len / 2 + 1; /* words, each with its blank */
    char **words = xmalloc((most + 1) * sizeof *words + len + 1);
    const char *wrong = split(line, words, (char *)(words + most + 1));

    if (wrong) {
        snprintf(why, why_size, "%s", wrong);
        free(words);
        return false;
    }
    *argv = words;
    return true;
}
