/* SPDX-License-Identifier: MIT */
/*
 * spawn.h - one command, run to its end: a program and its arguments, never a shell.
 *
 * A run, step by step:
 *   1. spawn_run() forks. The child gets a session, and so a process group, of its own and no
 *      terminal; only the environment given and SPAWN_PATH; /dev/null as stdin; one pipe as stdout
 *      and stderr, and no other descriptor; default signals, none blocked; umask 077; "/" as
 * working directory. User, groups, resource limits and namespaces are those of this process.
 *   2. What it writes is handed to `line`, a line a call, on the caller's thread.
 *   3. The program's exit ends the run, once its output is at its end too. If what it left behind
 *      in its group still holds the output open after grace_ms, the group gets SIGKILL; a process
 *      that left the group goes unharmed, its output unread. What is left behind without the output
 *      is left alone.
 *   4. At timeout_ms, or when `cancel` is requested, the group gets SIGTERM, and SIGCONT, for a
 *      stopped process would not see it. What has not ended and closed its output grace_ms later
 *      gets SIGKILL, and so does, at the end, whatever else is left in the group.
 *   5. A program that even SIGKILL does not end (it hangs in a file system, or runs as another
 * user) is given up after ten seconds: result->stuck. So a run never takes longer than timeout_ms,
 * grace_ms and some seconds, whatever the program does, if `line` returns.
 *
 * Death: if this process dies, the program is killed with it (PR_SET_PDEATHSIG). That signal is
 * bound to the thread that forked, which is the caller's: it waits here, so that it cannot end
 * earlier than the process. What the program itself started is not killed; it finds its output
 * closed. A set-user-ID program does not get the signal.
 *
 * Threads: any, several at once. The process must not ignore SIGCHLD nor wait for any child (-1):
 * exit statuses would be lost. No signal handler is installed.
 */
#ifndef KEEPFS_UTIL_SPAWN_H
#define KEEPFS_UTIL_SPAWN_H

#include "keepfs/cancel.h"
#include "keepfs/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPAWN_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
    SPAWN_LINE_MAX = 4096, /* of one line; what is longer is cut */
    SPAWN_TEXT_MAX = 96,   /* of a description, with its NUL */
};

struct spawn_options {
    char *const *argv;    /* NULL at the end; argv[0] is the absolute path of the program */
    char *const *env;     /* "NAME=value", NULL at the end; without PATH. NULL: PATH alone */
    enum error_side side; /* whose program it is, for the code of a failure */
    int timeout_ms;       /* > 0 */
    int grace_ms;
    size_t output_max; /* bytes handed to `line`, newlines counted; later lines are only counted */
    /*
     * One line without its newline, also the last one if it has none. Bytes are as they came, but a
     * NUL, which is a '?'. `text` is valid during the call. NULL: nobody listens.
     */
    void (*line)(void *ctx, const char *text);
    void *ctx;
    struct cancel *cancel; /* NULL: none. Has no descriptor, so it is looked at every 50 ms */
};

enum spawn_end { SPAWN_EXITED, SPAWN_SIGNALLED, SPAWN_TIMED_OUT, SPAWN_CANCELLED };

struct spawn_result {
    enum spawn_end end;
    int status;             /* SPAWN_EXITED: the exit status; SPAWN_SIGNALLED: the signal; else 0 */
    int timeout_ms;         /* of the options, for the description */
    bool killed;            /* something was still there after grace_ms: SIGKILL to the group */
    bool stuck;             /* it could not be killed; it is waited for behind the scenes */
    uint64_t lines;         /* written in all */
    uint64_t lines_cut;     /* of these longer than SPAWN_LINE_MAX */
    uint64_t lines_dropped; /* of these not handed over, for output_max */
};

/*
 * 0 if the program was started, however it ended, and if `cancel` was requested before: then it was
 * not. -1 if it could not be run: err names the program and the reason, with the code that its
 * errno has on `side`, or ERR_INTERNAL if this process is at fault.
 */
int spawn_run(const struct spawn_options *options, struct spawn_result *result, struct error *err);

/* "exited with status 3", "was killed by signal 9 (SIGKILL)", "did not end within 60 s", "was
 * cancelled": to be put behind the name of the program. Returns text. */
const char *spawn_describe(const struct spawn_result *result, char text[SPAWN_TEXT_MAX]);

/*
 * Splits "/usr/local/bin/x --a 'b c'" into words. Blanks and tabs part words; single and double
 * quotes group, also within a word; a backslash outside single quotes takes the next character as
 * it is. Nothing is expanded. *argv is one block, NULL at the end: free(*argv).
 *
 * False, a sentence in `why` and *argv untouched for: no word at all, an unclosed quote, a
 * backslash at the end, a first word that is not an absolute path.
 */
bool spawn_split(const char *line, char ***argv, char *why, size_t why_size);

#endif
