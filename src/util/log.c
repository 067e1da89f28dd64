/* SPDX-License-Identifier: MIT */
/*
 * log.c - one write(2) per line on stderr, so that lines of several threads never mix.
 */
#include "util/log.h"

#include "util/buf.h"
#include "util/fsutil.h"

#include <stdarg.h>
#include <syslog.h>
#include <unistd.h>

static _Atomic enum log_target target = LOG_TO_STDERR;

void log_open(enum log_target t)
{
    if (t == LOG_TO_SYSLOG)
        openlog("keepfs", LOG_PID, LOG_DAEMON);
    target = t;
}

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            buf_addf(out, "\\x%02x", (unsigned char)*text);
        else
            buf_add(out, text, 1);
}

static void emit(int priority, const char *level, const char *fmt, va_list ap)
{
    struct buf text = BUF_INIT, line = BUF_INIT;
    enum log_target to = target;

    buf_vaddf(&text, fmt, ap);
    if (to == LOG_TO_STDERR)
        buf_addf(&line, "%s: ", level);
    add_escaped(&line, buf_text(&text));
    if (to == LOG_TO_STDERR) {
        buf_adds(&line, "\n");
        /* A log that cannot be written has nowhere to say so. */
        (void)fd_write_all(STDERR_FILENO, line.data, line.len);
    } else {
        syslog(priority, "%s", buf_text(&line));
    }
    buf_release(&text);
    buf_release(&line);
}

#define DEFINE_LOG(name, priority, level)                                                          \
    void name(const char *fmt, ...)                                                                \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        emit(priority, level, fmt, ap);                                                            \
        va_end(ap);                                                                                \
    }

DEFINE_LOG(log_info, LOG_INFO, "keepfs")
DEFINE_LOG(log_warn, LOG_WARNING, "keepfs: warning")
DEFINE_LOG(log_error, LOG_ERR, "keepfs: error")
