/* SPDX-License-Identifier: MIT */
/*
 * mount.c - the daemon: starts the rooms in order, stops them in reverse; the only file that knows
 * all of them.
 *
 *   start: clear a dead mount -> configuration -> state lock -> catalog -> recover -> mount
 *          -> workers -> signal thread -> serve
 *   stop:  (SIGTERM, SIGINT or an unmount) workers -> session -> unmount -> catalog -> lock
 *   SIGHUP reads the configuration again
 *   in the foreground, a service manager that asks for it is told of all this
 *
 * In the background the parent waits on a pipe: one byte says that the mount answers; end of file
 * says that the child gave up, having told why on the stderr they share.
 *
 * Signals are blocked in every thread but the signal thread, which waits for them. It stops the
 * service first, with the mount still answering, so that whoever watches a job sees it end.
 *
 * One daemon per state directory and per mount point: both are held by flock(2), which a crash
 * releases. A mount whose daemon died answers ENOTCONN to everybody and is cleared here.
 */
#include "mount.h"

#include "archive/policy.h"
#include "fs/session.h"
#include "service/service.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"
#include "util/mounts.h"
#include "util/process.h"
#include "util/service_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of the two seconds that stopping may take; the rest is for unmounting. */
enum { STOP_JOBS_MS = 1200, STOP_MOUNT_MS = 400, OPEN_FILES = 65536 };

struct daemon {
    const struct mount_options *options;
    char *mountpoint;
    struct config *config;
    int state_lock, mountpoint_lock;
    int ready_pipe;                  /* -1 in the foreground, and once the parent was told */
    struct service_manager *manager; /* in the foreground only */
    struct catalog *catalog;
    struct service *service;
    struct session *session;
    pthread_t signal_thread;
    atomic_int reloads; /* that SIGHUP asked for and that have not ended */
    bool jobs_joined;
};

static int complain(const struct error *err)
{
    log_error("%s", err->message);
    return error_code_exit(err->code);
}

/* ---- one daemon per place ---- */

/* The mount point with its parent's symlinks resolved; it may itself be a dead mount, which nothing
 * can resolve. */
static char *resolve_mountpoint(const char *path, struct error *err)
{
    char *whole = realpath(path, NULL);
    if (whole)
        return whole;
    if (errno != ENOTCONN) {
        error_set(err, ERR_USAGE, "mount point %s: %m", path);
        return NULL;
    }
    __attribute__((cleanup(free_charp))) char *for_dir = xstrdup(path);
    __attribute__((cleanup(free_charp))) char *for_base = xstrdup(path);
    __attribute__((cleanup(free_charp))) char *dir = realpath(dirname(for_dir), NULL);
    if (!dir) {
        error_set(err, ERR_USAGE, "mount point %s: its parent: %m", path);
        return NULL;
    }
    return xasprintf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, basename(for_base));
}

/* Has the daemon behind this mount died? What the kernel has cached does not count. */
static bool is_dead(const char *mountpoint)
{
    struct statx st;

    return statx(AT_FDCWD, mountpoint, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) != 0 &&
           errno == ENOTCONN;
}

/* Clears a dead keepfs mount; refuses a living one, and whatever is no directory. */
static int claim_mountpoint(struct daemon *d, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *source =
        mounts_source_at(d->mountpoint, "fuse.keepfs");

    if (source && is_dead(d->mountpoint)) {
        if (mounts_detach(d->mountpoint) != 0)
            return error_set(err, ERR_USAGE,
                             "%s is the mount of a keepfs that died, and it cannot be cleared: %m; "
                             "try: umount -l %s",
                             d->mountpoint, d->mountpoint);
        log_warn("cleared the mount that a dead keepfs left on %s", d->mountpoint);
    } else if (source) {
        return error_set(err, ERR_USAGE, "%s is mounted already, by a keepfs with %s",
                         d->mountpoint, source);
    }
    d->mountpoint_lock = open(d->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->mountpoint_lock < 0)
        return error_set(err, ERR_USAGE, "mount point %s: %m", d->mountpoint);
    /* Seen only now: the lock may be on the root of what another one has mounted meanwhile. */
    __attribute__((cleanup(free_charp))) char *other =
        mounts_source_at(d->mountpoint, "fuse.keepfs");
    if (!other && flock(d->mountpoint_lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (!other && errno != EWOULDBLOCK)
        return error_set(err, ERR_USAGE, "mount point %s cannot be locked: %m", d->mountpoint);
    return error_set(err, ERR_USAGE, "%s is being mounted by another keepfs", d->mountpoint);
}

/* The state holds the catalog: whoever can write there can make keepfs say anything. */
static int check_state_owner(const char *state, struct error *err)
{
    struct stat st;

    if (stat(state, &st) != 0)
        return error_sys(err, SIDE_STATE, errno, "state directory %s", state);
    if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return error_set(err, ERR_STATE_UNAVAILABLE,
                         "state directory %s can be written by others than the user that runs "
                         "keepfs; try: chown %u %s; chmod 700 %s",
                         state, (unsigned)geteuid(), state, state);
    return 0;
}

/* fsck asks by a shared lock of some microseconds whether a keepfs runs: that is not worth a
 * refusal. */
static int lock_state(int fd)
{
    const struct timespec breath = {.tv_nsec = 10 * 1000000};

    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK || tries == 5)
            return -1;
        nanosleep(&breath, NULL);
    }
    return 0;
}

static int claim_state(struct daemon *d, struct error *err)
{
    const char *state = d->config->state;
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/lock", state);
    char owner[512] = "";

    if (dir_create(state) != 0)
        return error_sys(err, SIDE_STATE, errno, "state directory %s cannot be made", state);
    if (check_state_owner(state, err) != 0)
        return -1;
    d->state_lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (d->state_lock < 0)
        return error_sys(err, SIDE_STATE, errno, "%s", path);
    if (lock_state(d->state_lock) != 0) {
        if (errno != EWOULDBLOCK)
            return error_sys(err, SIDE_STATE, errno, "%s cannot be locked", path);
        ssize_t n = pread(d->state_lock, owner, sizeof owner - 1, 0);
        owner[n > 0 ? n : 0] = '\0';
        owner[strcspn(owner, "\n")] = '\0';
        return error_set(err, ERR_USAGE, "state directory %s is in use by keepfs %s", state, owner);
    }
    int n = snprintf(owner, sizeof owner, "pid %d on %s\n", (int)getpid(), d->mountpoint);
    if (ftruncate(d->state_lock, 0) != 0 || pwrite(d->state_lock, owner, (size_t)n, 0) != n)
        log_warn("%s cannot be written: %m", path); /* it names the owner, the lock holds */
    return 0;
}

/* ---- the rooms, in order ---- */

static int open_rooms(struct daemon *d, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *database =
        xasprintf("%s/catalog.sqlite", d->config->state);

    d->catalog = catalog_open(database, err);
    if (!d->catalog)
        return -1;
    d->service = service_new(d->config, d->catalog, &clock_system);
    return service_recover(d->service, err);
}

/* On a FUSE worker, when the kernel has the mount. */
static void mount_answers(void *ctx)
{
    struct daemon *d = ctx;

    log_info("%s is mounted on %s", d->config->path, d->mountpoint);
    service_manager_ready(d->manager, "%s on %s", d->config->path, d->mountpoint);
    if (d->ready_pipe < 0)
        return;
    log_open(LOG_TO_SYSLOG);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd <= 2; fd++)
        dup2(null, fd);
    fd_close(&null);
    /* Whoever ended the start by killing the parent does not want a mount. */
    if (fd_write_all(d->ready_pipe, "", 1) != 0)
        kill(getpid(), SIGTERM);
    fd_close(&d->ready_pipe);
}

/* As many as were asked for. A path that hangs holds up no signal but another SIGHUP. */
static void *reload(void *ctx)
{
    struct daemon *d = ctx;
    struct error err;

    do {
        service_manager_reloading(d->manager);
        bool taken = service_reload(d->service, "SIGHUP", &err) == 0;
        if (!taken)
            log_warn("SIGHUP changed nothing");
        service_manager_ready(
            d->manager, "%s on %s%s%s", d->config->path, d->mountpoint,
            taken ? "" : ", as it was before a reload: ", taken ? "" : err.message);
    } while (atomic_fetch_sub(&d->reloads, 1) > 1);
    return NULL;
}

static void start_reload(struct daemon *d)
{
    pthread_t thread;

    if (atomic_fetch_add(&d->reloads, 1) > 0)
        return;
    int failed = pthread_create(&thread, NULL, reload, d);
    if (failed) {
        log_warn("SIGHUP changed nothing: no thread: %s", strerror(failed));
        atomic_store(&d->reloads, 0);
        return;
    }
    pthread_detach(thread);
}

static void *wait_for_signals(void *ctx)
{
    struct daemon *d = ctx;
    sigset_t set;
    int signal;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    while (sigwait(&set, &signal) != 0 || signal == SIGHUP)
        start_reload(d);
    service_manager_stopping(d->manager);
    d->jobs_joined = service_stop(d->service, STOP_JOBS_MS);
    if (!session_stop(d->session, STOP_MOUNT_MS)) {
        /* A reader hangs in a repo's system call, and with it a thread that nobody can end. */
        log_warn("a request did not end in time; leaving without it");
        service_interrupt(d->service);
        (void)mounts_detach(d->mountpoint); /* the next start clears it otherwise */
        _exit(0);
    }
    return NULL;
}

static int serve(struct daemon *d, struct error *err)
{
    struct session_options options = {
        .mountpoint = d->mountpoint,
        .fuse_options = d->options->fuse_options,
        .fsname = d->config->path,
        .shared = config_shared(d->config),
        .ready = mount_answers,
        .ready_ctx = d,
    };

    d->session = session_mount(d->service, &options, err);
    if (!d->session)
        return -1;
    int result = service_start(d->service, err);
    int failed = pthread_create(&d->signal_thread, NULL, wait_for_signals, d);
    if (failed)
        return error_sys(err, SIDE_STATE, failed, "cannot start the signal thread");
    if (result == 0)
        result = session_run(d->session, err);
    /* After an unmount from outside the jobs are to be stopped just as after a signal. */
    pthread_kill(d->signal_thread, SIGTERM);
    pthread_join(d->signal_thread, NULL);
    return result;
}

static void close_rooms(struct daemon *d, int status)
{
    session_free(d->session);
    /* umount -f ends it, and leaves the mount there as long as somebody has a file of it open. */
    if (d->session && is_dead(d->mountpoint))
        (void)mounts_detach(d->mountpoint);
    if (d->service && d->session)
        service_interrupt(d->service);
    if (d->service && d->session && (!d->jobs_joined || atomic_load(&d->reloads) > 0)) {
        /* A thread hangs in a system call. Its job is interrupted on disk; nothing may be freed. */
        log_warn("not all threads ended in time; what they left is the next start's");
        _exit(status);
    }
    service_free(d->service);
    catalog_close(d->catalog);
    config_free(d->config);
    fd_close(&d->state_lock);
    fd_close(&d->mountpoint_lock);
    fd_close(&d->ready_pipe);
    service_manager_close(d->manager);
    free(d->mountpoint);
}

/* ---- the process ---- */

static void prepare_process(void)
{
    struct rlimit files;
    sigset_t all;

    umask(077);
    sigfillset(&all);
    /* What a fault raises must reach the thread that caused it. */
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* A directory store takes one descriptor per level, every reader of a payload two. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < OPEN_FILES) {
        files.rlim_cur = files.rlim_max < OPEN_FILES ? files.rlim_max : OPEN_FILES;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (chdir("/") != 0)
        log_warn("cannot change to /: %m");
}

/* Calls fn (NULL: nothing) for every key of the configuration; how many there are. */
static size_t for_each_key(const struct config *config, void (*fn)(const char *ref))
{
    size_t count = 0;

    for (size_t i = 0; i < config->store_count; i++)
        for (size_t k = 0; k < config->stores[i]->repo_count; k++) {
            struct archive_policy policy = archive_policy_of(config->stores[i]->repos[k]);
            for (size_t n = 0; n < policy.key_count; n++, count++)
                if (fn)
                    fn(policy.keys[n]);
        }
    return count;
}

/* Loads it once: one from the environment is wiped there and kept, of any other we learn whether it
 * can be had while somebody is looking. */
static void take_key(const char *ref)
{
    struct key *key;
    struct error err;

    if (key_load(ref, &key, &err) == 0)
        key_free(key);
    else
        log_warn("%s; jobs and reads that need it will fail", err.message);
}

static int daemon_main(struct daemon *d)
{
    struct error err;
    int status = 0;

    prepare_process();
    if (d->options->foreground)
        d->manager = service_manager_open();
    if (for_each_key(d->config, NULL) > 0)
        process_forbid_dumps();
    for_each_key(d->config, take_key);
    if (claim_state(d, &err) != 0 || claim_mountpoint(d, &err) != 0 || open_rooms(d, &err) != 0 ||
        serve(d, &err) != 0)
        status = complain(&err);
    close_rooms(d, status);
    return status;
}

/* The parent's part: 0 if the child said that the mount answers, else the child's exit status. */
static int wait_until_ready(int pipe_fd, pid_t child)
{
    char byte;
    int status = 0;
    ssize_t n;

    do
        n = read(pipe_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        return WEXITSTATUS(status);
    log_error("the daemon ended before the mount answered");
    return error_code_exit(ERR_INTERNAL);
}

static int run_in_background(struct daemon *d)
{
    int ends[2];

    service_manager_forget();
    /* A daemon must not hold what a shell or a cron job happened to have open. */
    close_range(STDERR_FILENO + 1, ~0U, 0);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        log_error("pipe: %m");
        return error_code_exit(ERR_INTERNAL);
    }
    pid_t child = fork();
    if (child < 0) {
        log_error("fork: %m");
        return error_code_exit(ERR_INTERNAL);
    }
    if (child == 0) {
        close(ends[0]);
        d->ready_pipe = ends[1];
        setsid();
        exit(daemon_main(d));
    }
    close(ends[1]);
    for_each_key(d->config, key_ref_forget);
    int status = wait_until_ready(ends[0], child);
    close(ends[0]);
    config_free(d->config);
    free(d->mountpoint);
    return status;
}

int mount_run(const struct mount_options *options)
{
    struct daemon d = {
        .options = options, .state_lock = -1, .mountpoint_lock = -1, .ready_pipe = -1};
    struct buf faults = BUF_INIT;
    struct error err;

    signal(SIGCHLD, SIG_DFL); /* ignored, it would keep exit statuses from us */
    d.mountpoint = resolve_mountpoint(options->mountpoint, &err);
    if (!d.mountpoint)
        return complain(&err);
    d.config = config_load(options->config, d.mountpoint, &faults);
    if (!d.config) {
        fputs(buf_text(&faults), stderr);
        buf_release(&faults);
        free(d.mountpoint);
        return error_code_exit(ERR_CONFIG_INVALID);
    }
    return options->foreground ? daemon_main(&d) : run_in_background(&d);
}
