/* SPDX-License-Identifier: MIT */
/*
 * test_service_manager.c - what arrives at a manager's socket, and what becomes of messages that
 * nobody takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/service_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char dir[64], path[96], got[4096];
static int manager = -1;

/* The manager's side; `name` as in NOTIFY_SOCKET. */
static void listen_on(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = strlen(name);

    memcpy(a.sun_path, name, len);
    if (name[0] == '@')
        a.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager >= 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
                     0);
}

/* The next message; "" if there is none. */
static const char *message(void)
{
    ssize_t n = recv(manager, got, sizeof got - 1, MSG_DONTWAIT);

    got[n > 0 ? n : 0] = '\0';
    return got;
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/keepfs-test.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/notify", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (manager >= 0)
        close(manager);
    manager = -1;
    unlink(path);
    unsetenv("NOTIFY_SOCKET");
    return rmdir(dir);
}

static struct service_manager *open_on(const char *name)
{
    setenv("NOTIFY_SOCKET", name, 1);
    struct service_manager *m = service_manager_open();
    assert_null(getenv("NOTIFY_SOCKET"));
    return m;
}

static void a_life_is_told_in_order(struct service_manager *m)
{
    struct timespec now;
    long long usec;

    assert_non_null(m);
    service_manager_ready(m, "%s on %s", "/etc/keepfs.conf", "/mnt");
    assert_string_equal(message(), "READY=1\nSTATUS=/etc/keepfs.conf on /mnt");
    service_manager_reloading(m);
    assert_int_equal(sscanf(message(), "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=", &usec), 1);
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long age = now.tv_sec * 1000000LL + now.tv_nsec / 1000 - usec;
    assert_in_range(age, 0, 60 * 1000000);
    service_manager_stopping(m);
    assert_int_equal(strncmp(message(), "STOPPING=1\nSTATUS=", 18), 0);
    assert_string_equal(message(), "");
    service_manager_close(m);
}

static void a_socket_that_is_a_file(void **state)
{
    (void)state;
    listen_on(path);
    a_life_is_told_in_order(open_on(path));
}

static void a_socket_with_an_abstract_name(void **state)
{
    char name[96];

    (void)state;
    snprintf(name, sizeof name, "@keepfs-test-%d", (int)getpid());
    listen_on(name);
    a_life_is_told_in_order(open_on(name));
}

static void without_a_manager_nothing_is_told(void **state)
{
    (void)state;
    assert_null(service_manager_open());
    assert_null(open_on(""));
    service_manager_ready(NULL, "%s", "x");
    service_manager_reloading(NULL);
    service_manager_stopping(NULL);
    service_manager_close(NULL);
}

static void a_name_that_is_no_socket_of_ours_is_refused(void **state)
{
    char name[256] = "/";

    (void)state;
    assert_null(open_on("vsock:2:1234"));
    assert_null(open_on("relative/path"));
    assert_null(open_on("/"));
    memset(name + 1, 'x', 107); /* sun_path has 108 bytes, with a NUL */
    assert_null(open_on(name));
    name[107] = '\0';
    struct service_manager *m = open_on(name);
    assert_non_null(m);
    service_manager_close(m);
}

static void no_name_can_forge_a_message(void **state)
{
    (void)state;
    listen_on(path);
    struct service_manager *m = open_on(path);
    service_manager_ready(m, "/etc/x\nMAINPID=1\x7f on %s", "/mnt\r");
    assert_string_equal(message(), "READY=1\nSTATUS=/etc/x?MAINPID=1? on /mnt?");
    service_manager_close(m);
}

/* One that is gone, and one that is back behind the same name. */
static void a_manager_that_is_gone_does_no_harm(void **state)
{
    (void)state;
    listen_on(path);
    struct service_manager *m = open_on(path);
    close(manager);
    service_manager_ready(m, "x");
    unlink(path);
    service_manager_stopping(m);
    listen_on(path);
    service_manager_ready(m, "again");
    assert_string_equal(message(), "READY=1\nSTATUS=again");
    service_manager_close(m);
}

/* A queue that nobody empties: it would wait for ever, or until the alarm ends the test. */
static void stopping_never_waits(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fill = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timespec begin, end;

    (void)state;
    listen_on(path);
    strcpy(a.sun_path, path);
    while (sendto(fill, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&a, sizeof a) == 1)
        ;
    assert_int_equal(errno, EAGAIN);
    struct service_manager *m = open_on(path);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    service_manager_stopping(m);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec < 8); /* of the ten that a ready would wait */
    service_manager_close(m);
    close(fill);
}

/* What we start must neither have the socket nor know of it. */
static void the_socket_is_not_inherited(void **state)
{
    (void)state;
    int lowest = dup(STDIN_FILENO);
    close(lowest);
    struct service_manager *m = open_on(path);
    int flags = fcntl(lowest, F_GETFD);
    assert_true(flags >= 0);
    assert_true(flags & FD_CLOEXEC);
    service_manager_close(m);
    assert_int_equal(fcntl(lowest, F_GETFD), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_socket_that_is_a_file),
        TEST(a_socket_with_an_abstract_name),
        TEST(without_a_manager_nothing_is_told),
        TEST(a_name_that_is_no_socket_of_ours_is_refused),
        TEST(no_name_can_forge_a_message),
        TEST(a_manager_that_is_gone_does_no_harm),
        TEST(stopping_never_waits),
        TEST(the_socket_is_not_inherited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
