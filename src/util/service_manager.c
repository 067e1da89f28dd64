/* SPDX-License-Identifier: MIT */
/*
 * service_manager.c - one unconnected datagram socket, and the manager's address.
 *
 * Unconnected, since a manager that is executed anew (systemctl daemon-reexec) has a new socket
 * behind the same name. The kernel adds our credentials, by which systemd knows whose word it is.
 */
#include "util/service_manager.h"

#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#define VARIABLE "NOTIFY_SOCKET"

/* How long a message may wait for room in the manager's queue. A READY that is lost would have the
 * manager take the start for a failure. */
enum { PATIENCE_S = 10 };

struct service_manager {
    int fd;
    struct sockaddr_un address;
    socklen_t address_len;
};

/* An abstract name has no NUL at its end, a path has one. */
static int set_address(struct service_manager *m, const char *name)
{
    size_t len = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || len < 2) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    if (len >= sizeof m->address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    m->address.sun_family = AF_UNIX;
    memcpy(m->address.sun_path, name, len);
    if (name[0] == '@')
        m->address.sun_path[0] = '\0';
    else
        len++;
    m->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return 0;
}

static int open_socket(struct service_manager *m)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};

    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (m->fd < 0)
        return -1;
    return setsockopt(m->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

struct service_manager *service_manager_open(void)
{
    const char *name = getenv(VARIABLE);

    if (!name || !*name) {
        service_manager_forget();
        return NULL;
    }
    struct service_manager *m = xcalloc(1, sizeof *m);
    m->fd = -1;
    if (set_address(m, name) != 0 || open_socket(m) != 0) {
        log_warn("the service manager on %s cannot be told of the start: %m", name);
        service_manager_close(m);
        m = NULL;
    }
    service_manager_forget();
    return m;
}

void service_manager_forget(void)
{
    unsetenv(VARIABLE);
}

void service_manager_close(struct service_manager *m)
{
    if (!m)
        return;
    fd_close(&m->fd);
    free(m);
}

static void tell(struct service_manager *m, const char *message, int flags)
{
    ssize_t sent;

    do
        sent = sendto(m->fd, message, strlen(message), flags | MSG_NOSIGNAL,
                      (const struct sockaddr *)&m->address, m->address_len);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        log_warn("the service manager was not told %.*s: %m", (int)strcspn(message, "\n"), message);
}

void service_manager_ready(struct service_manager *m, const char *fmt, ...)
{
    struct buf message = BUF_INIT;
    va_list ap;

    if (!m)
        return;
    buf_adds(&message, "READY=1\nSTATUS=");
    size_t begin = message.len;
    va_start(ap, fmt);
    buf_vaddf(&message, fmt, ap);
    va_end(ap);
    for (char *p = message.data + begin; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    tell(m, buf_text(&message), 0);
    buf_release(&message);
}

void service_manager_reloading(struct service_manager *m)
{
    struct buf message = BUF_INIT;
    struct timespec now;

    if (!m)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buf_addf(&message, "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=Reading the configuration",
             (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    tell(m, buf_text(&message), 0);
    buf_release(&message);
}

void service_manager_stopping(struct service_manager *m)
{
    if (m)
        tell(m, "STOPPING=1\nSTATUS=Interrupting jobs and unmounting", MSG_DONTWAIT);
}
