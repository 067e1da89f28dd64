/* SPDX-License-Identifier: MIT */
/*
 * session.c - mounting, the loop, stopping, unmounting.
 *
 * Stopping: the thread in session_run sleeps in a semaphore inside fuse_session_loop_mt and looks
 * at the session's exit flag only when it wakes. session_stop sets the flag and then signals that
 * thread every 10 ms until it has left: a single signal could come just before the sleep. libfuse
 * then cancels its workers, which are cancellable only while they wait for a request, so that each
 * request that was read is answered. A stop before the loop began leaves the flag set, and the loop
 * ends as it begins. `lock` guards running.
 *
 * Parked reads are answered before that, while their answers still reach the readers; who comes
 * later is answered at once.
 *
 * The notifier is ended first, while requests are still answered: it may wait for a lock of
 * the kernel that somebody holds until an answer comes.
 *
 * Unmounted from outside: the device says ENODEV, the loop ends without an error.
 *
 * What libfuse has to say comes through one function for the whole process. While a thread mounts,
 * it is collected for that thread's error; later it goes to the log. fusermount3 is another
 * process and says it on descriptor 2, which is therefore caught during the mount.
 */
#include "fs/session.h"

#include "fs/ops.h"
#include "fs/wait.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WAKE_SIGNAL      SIGUSR2
#define WAKE_INTERVAL_NS 10000000
#define NOTIFIER_STOP_MS 5000

struct session {
    struct tree tree;
    struct ops_context context; /* has the notifier */
    struct fuse_session *fuse;
    bool mounted;
    pthread_mutex_t lock;
    pthread_cond_t left; /* running became false */
    bool running;
    pthread_t loop; /* valid while running */
};

/* ---- options ---- */

static bool is_for_mount(const char *option, size_t len)
{
    static const char *const words[] = {
        "auto",        "noauto",        "user",       "users",      "nouser",   "owner",
        "group",       "nofail",        "_netdev",    "defaults",   "relatime", "norelatime",
        "strictatime", "nostrictatime", "lazytime",   "nolazytime", "silent",   "loud",
        "nosymfollow", "iversion",      "noiversion", "mand",       "nomand"};
    static const char *const prefixes[] = {"x-", "X-", "comment="};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i]) == len && memcmp(words[i], option, len) == 0)
            return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strlen(prefixes[i]) <= len && memcmp(prefixes[i], option, strlen(prefixes[i])) == 0)
            return true;
    return len == 0;
}

/* Up to the next comma that no backslash protects. */
static size_t option_len(const char *option)
{
    size_t len = 0;

    while (option[len] && option[len] != ',')
        len += option[len] == '\\' && option[len + 1] ? 2 : 1;
    return len;
}

char *session_filter_options(const char *options)
{
    struct buf kept = BUF_INIT;

    for (const char *at = options; at && *at;) {
        size_t len = option_len(at);
        if (!is_for_mount(at, len)) {
            if (kept.len > 0)
                buf_adds(&kept, ",");
            buf_add(&kept, at, len);
        }
        at += at[len] ? len + 1 : len;
    }
    return kept.len > 0 ? buf_steal(&kept) : NULL;
}

/* Ours come last, since the last one counts. */
static char *all_options(const struct session_options *o)
{
    __attribute__((cleanup(free_charp))) char *kept = session_filter_options(o->fuse_options);
    struct buf all = BUF_INIT;

    if (kept)
        buf_addf(&all, "%s,", kept);
    if (o->shared)
        buf_adds(&all, "allow_other,");
    buf_adds(&all, "default_permissions,subtype=keepfs,fsname=");
    for (const char *c = o->fsname; *c; c++) {
        if (*c == ',' || *c == '\\')
            buf_adds(&all, "\\");
        buf_add(&all, c, 1);
    }
    return buf_steal(&all);
}

/* ---- libfuse's own words ---- */

static _Thread_local struct buf *collected;

__attribute__((format(printf, 2, 0))) static void on_fuse_log(enum fuse_log_level level,
                                                              const char *fmt, va_list ap)
{
    struct buf line = BUF_INIT;

    if (collected) {
        buf_vaddf(collected, fmt, ap);
        return;
    }
    buf_vaddf(&line, fmt, ap);
    while (line.len > 0 && line.data[line.len - 1] == '\n')
        buf_truncate(&line, line.len - 1);
    if (level <= FUSE_LOG_ERR)
        log_error("%s", buf_text(&line));
    else if (level == FUSE_LOG_WARNING)
        log_warn("%s", buf_text(&line));
    else
        log_info("%s", buf_text(&line));
    buf_release(&line);
}

/* Turns descriptor 2 to a file in memory. -1 if there is none to be had: then it is not caught. */
static int catch_stderr(int *original)
{
    int caught = memfd_create("keepfs-stderr", MFD_CLOEXEC);

    *original = caught < 0 ? -1 : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (*original < 0 || dup2(caught, STDERR_FILENO) < 0) {
        fd_close(original);
        fd_close(&caught);
    }
    return caught;
}

/* Turns it back, passes on what was written and appends it to `text`. */
static void release_stderr(int caught, int original, struct buf *text)
{
    char data[1024];
    ssize_t n;

    if (caught < 0)
        return;
    dup2(original, STDERR_FILENO);
    for (off_t at = 0; (n = fd_pread_all(caught, data, sizeof data, at)) > 0; at += n) {
        /* A daemon's stderr may be closed. */
        (void)fd_write_all(STDERR_FILENO, data, (size_t)n);
        buf_add(text, data, (size_t)n);
    }
    fd_close(&original);
    fd_close(&caught);
}

/* Lines to one sentence, without libfuse's "fuse: " before each. */
static void to_sentence(struct buf *text)
{
    struct buf out = BUF_INIT;
    char *save = NULL;

    if (!text->data)
        return;
    for (char *line = strtok_r(text->data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "fuse: ", strlen("fuse: ")) == 0)
            line += strlen("fuse: ");
        buf_addf(&out, "%s%s", out.len > 0 ? "; " : "", line);
    }
    buf_release(text);
    *text = out;
}

/* ---- mounting ---- */

static int check_mountpoint(const char *path, struct error *err)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        const char *more = errno == ENOTCONN ? "; the daemon of an earlier mount is gone, unmount "
                                               "it first with umount -l"
                                             : "";
        return error_set(err, ERR_USAGE, "cannot mount on %s: %m%s", path, more);
    }
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERR_USAGE, "cannot mount on %s: it is not a directory", path);
    return 0;
}

static int new_fuse(struct session *s, const struct session_options *o, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *options = all_options(o);
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct buf said = BUF_INIT;

    if (fuse_opt_add_arg(&args, "keepfs") != 0 || fuse_opt_add_arg(&args, "-o") != 0 ||
        fuse_opt_add_arg(&args, options) != 0)
        abort(); /* as for any other memory */
    collected = &said;
    s->fuse = fuse_session_new(&args, &fs_ops, sizeof fs_ops, &s->context);
    collected = NULL;
    fuse_opt_free_args(&args);
    to_sentence(&said);
    if (!s->fuse)
        error_set(err, ERR_USAGE, "cannot use the mount options %s: %s",
                  o->fuse_options ? o->fuse_options : "", buf_text(&said));
    buf_release(&said);
    return s->fuse ? 0 : -1;
}

/* fusermount3 says what is forbidden, but not that the configuration asked for it. */
static const char *advice(const struct session_options *o, const struct buf *said)
{
    if (!o->shared || geteuid() == 0 || !said->data || !strstr(said->data, "user_allow_other"))
        return "";
    return "; ask root for a line user_allow_other in /etc/fuse.conf, or take control_group, "
           "read_group and run_group out of the configuration";
}

static int mount_fuse(struct session *s, const struct session_options *o, struct error *err)
{
    struct buf said = BUF_INIT;
    int original, caught = catch_stderr(&original);

    collected = &said;
    s->mounted = fuse_session_mount(s->fuse, o->mountpoint) == 0;
    collected = NULL;
    release_stderr(caught, original, &said);
    to_sentence(&said);
    if (!s->mounted)
        error_set(err, ERR_INTERNAL, "cannot mount on %s: %s%s", o->mountpoint,
                  said.len > 0 ? said.data : "libfuse gives no reason; is fusermount3 installed?",
                  advice(o, &said));
    buf_release(&said);
    return s->mounted ? 0 : -1;
}

/* ---- what keepfs removed ---- */

/*
 * The parent's entry is all that has to go: what the kernel keeps below it is found by no name any
 * more, and an open file stays open. fuse_lowlevel_notify_delete would want the inode of what is
 * gone, refuses (and lets libfuse complain) if a file of it is open, and gives nothing else.
 */
static void tell_kernel(void *ctx, node_id dir, const char *name)
{
    struct session *s = ctx;

    (void)fuse_lowlevel_notify_inval_entry(s->fuse, dir, name, strlen(name));
}

static void on_gone(void *ctx, bool is_job, const char *ulid)
{
    struct session *s = ctx;

    notifier_gone(s->context.notifier, is_job ? NODE_JOBS : NODE_RECORDS, ulid, 0);
}

static int start_notifier(struct session *s, struct error *err)
{
    s->context.notifier = notifier_start(tell_kernel, s, err);
    if (!s->context.notifier)
        return -1;
    service_on_gone(s->tree.service, on_gone, s);
    return 0;
}

/* ---- what waits ---- */

static int start_waiters(struct session *s, struct error *err)
{
    struct catalog *catalog = service_catalog(s->tree.service);

    s->tree.waiters = waiters_start(&wait_calls, err);
    if (!s->tree.waiters)
        return -1;
    catalog_on_event(catalog, waiters_event, s->tree.waiters);
    catalog_on_progress(catalog, waiters_progress, s->tree.waiters);
    return 0;
}

/* Nobody tells them anything any more when this returns. */
static void stop_waiters(struct session *s)
{
    if (!s->tree.waiters)
        return;
    catalog_on_event(service_catalog(s->tree.service), NULL, NULL);
    catalog_on_progress(service_catalog(s->tree.service), NULL, NULL);
    waiters_stop(s->tree.waiters);
}

static struct session *new_shell(const struct session_options *options)
{
    struct session *s = xcalloc(1, sizeof *s);
    pthread_condattr_t monotonic;

    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->left, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->context = (struct ops_context){
        .tree = &s->tree, .ready = options->ready, .ready_ctx = options->ready_ctx};
    return s;
}

static void free_shell(struct session *s)
{
    pthread_cond_destroy(&s->left);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct session *session_mount(struct service *service, const struct session_options *options,
                              struct error *err)
{
    struct session *s = new_shell(options);

    fuse_set_log_func(on_fuse_log);
    if (tree_init(&s->tree, service, &clock_system, err) != 0) {
        free_shell(s);
        return NULL;
    }
    if (check_mountpoint(options->mountpoint, err) == 0 && new_fuse(s, options, err) == 0 &&
        start_notifier(s, err) == 0 && start_waiters(s, err) == 0 &&
        mount_fuse(s, options, err) == 0)
        return s;
    session_free(s);
    return NULL;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    struct notifier *notifier = s->context.notifier;
    stop_waiters(s);
    bool stopped = !notifier || notifier_stop(notifier, NOTIFIER_STOP_MS);
    if (s->mounted)
        fuse_session_unmount(s->fuse);
    if (!stopped && !notifier_stop(notifier, NOTIFIER_STOP_MS))
        return; /* it uses the session; the process ends anyway */
    if (notifier)
        service_on_gone(s->tree.service, NULL, NULL);
    notifier_free(notifier);
    if (s->fuse)
        fuse_session_destroy(s->fuse);
    struct waiters *waiters = s->tree.waiters;
    tree_release(&s->tree);
    waiters_free(waiters);
    free_shell(s);
}

/* ---- the loop ---- */

static void on_wake(int signum)
{
    (void)signum;
}

/* Without SA_RESTART, or the semaphore would go on waiting. */
static void prepare_wake(void)
{
    struct sigaction action = {.sa_handler = on_wake};
    sigset_t wake;

    sigemptyset(&action.sa_mask);
    sigaction(WAKE_SIGNAL, &action, NULL);
    sigemptyset(&wake);
    sigaddset(&wake, WAKE_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
}

static void set_running(struct session *s, bool running)
{
    pthread_mutex_lock(&s->lock);
    s->running = running;
    s->loop = pthread_self();
    pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
}

int session_run(struct session *s, struct error *err)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();

    if (!config)
        abort(); /* as for any other memory */
    /* The number of idle threads stays libfuse's own: 0 would make one for every request. */
    fuse_loop_cfg_set_max_threads(config, LIMIT_FUSE_WORKERS);
    fuse_loop_cfg_set_clone_fd(config, 0);
    prepare_wake();
    set_running(s, true);
    int result = fuse_session_loop_mt(s->fuse, config);
    set_running(s, false);
    fuse_loop_cfg_destroy(config);
    if (result == 0)
        return 0;
    return error_sys(err, SIDE_STATE, result < 0 ? -result : result, "the mount stopped answering");
}

bool session_stop(struct session *s, int deadline_ms)
{
    struct timespec until;

    if (!notifier_stop(s->context.notifier, deadline_ms))
        return false;
    waiters_stop(s->tree.waiters);
    /* To answer thousands takes its time; the deadline is for a request that hangs. */
    time_ms end = clock_monotonic() + deadline_ms;
    fuse_session_exit(s->fuse);
    pthread_mutex_lock(&s->lock);
    while (s->running && clock_monotonic() < end) {
        pthread_kill(s->loop, WAKE_SIGNAL);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAKE_INTERVAL_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&s->left, &s->lock, &until);
    }
    bool stopped = !s->running;
    pthread_mutex_unlock(&s->lock);
    return stopped;
}
