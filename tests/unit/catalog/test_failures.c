/* SPDX-License-Identifier: MIT */
/*
 * test_failures.c - what the world does to the catalog: full and failing disks, locks of others,
 * kills at the worst moment.
 */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- the disk ---- */

static void refused_write_is_unavailable_and_the_next_call_works(void **state)
{
    struct fixture *f = *state;
    struct job jobs[2] = {new_job("app", "a"), new_job("app", "b")};

    sql(f, "PRAGMA query_only = ON");
    FAILS(catalog_jobs_create(f->c, jobs, 2, &f->err), ERR_STATE_UNAVAILABLE, EIO);
    MESSAGE_HAS(f->path);
    assert_int_equal(list_count(f, LIST_JOBS), 0);
    sql(f, "PRAGMA query_only = OFF");
    OK(catalog_jobs_create(f->c, jobs, 2, &f->err));
    assert_int_equal(list_count(f, LIST_JOBS), 2);
}

static struct job big_job(void)
{
    struct job job = new_job("app", "nightly");

    memset(job.label, 'x', sizeof job.label - 1);
    return job;
}

/* Creates jobs until it fails; how many could be stored. */
static int create_until_failure(struct fixture *f)
{
    for (int n = 0; n < 100000; n++) {
        struct job job = big_job();
        if (catalog_jobs_create(f->c, &job, 1, &f->err) != 0)
            return n;
    }
    return -1;
}

static int stored_jobs(struct fixture *f)
{
    int count = 0;
    return catalog_list(f->c, LIST_JOBS, 0, count_any, &count, &f->err) == 0 ? count : -1;
}

/* A job that runs, so that its end can be tried on a full disk. */
static void start_one(struct fixture *f, struct job *job, struct record *r)
{
    *job = new_job("app", "nightly");
    *r = new_record("app", "nightly");
    CHILD_EXPECT(catalog_jobs_create(f->c, job, 1, &f->err) == 0);
    CHILD_EXPECT(catalog_job_start(f->c, job->ulid, r->ulid, NOW, &f->err) == 0);
}

static void check_full_disk(struct fixture *f)
{
    char ballast[320], chunk[4096] = "ballast";
    struct job job, more = big_job();
    struct record r;
    struct stats stats = {.count = 0};
    struct job_progress p = {.percent = 50};

    start_one(f, &job, &r);
    snprintf(ballast, sizeof ballast, "%s/ballast", f->dir);
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    while (write(fd, chunk, sizeof chunk) > 0)
        ;
    CHILD_EXPECT(errno == ENOSPC);
    close(fd);

    int created = create_until_failure(f);
    CHILD_EXPECT(created >= 0);
    CHILD_EXPECT(f->err.code == ERR_STATE_NO_SPACE && f->err.errnum == ENOSPC);
    CHILD_EXPECT(strstr(f->err.message, f->path));
    CHILD_EXPECT(stored_jobs(f) == created + 1);
    /* Progress needs no disk; the end of a job does, and can be tried again. */
    CHILD_EXPECT(catalog_job_progress(f->c, job.ulid, &p, &f->err) == 0);
    CHILD_EXPECT(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err) == -1);
    CHILD_EXPECT(f->err.code == ERR_STATE_NO_SPACE);
    CHILD_EXPECT(catalog_job_get(f->c, job.ulid, &job, &f->err) == 0);
    CHILD_EXPECT(job.state == JOB_RUNNING && job.progress == 50 && job.record_row == 0);

    CHILD_EXPECT(unlink(ballast) == 0);
    CHILD_EXPECT(catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err) == 0);
    CHILD_EXPECT(catalog_jobs_create(f->c, &more, 1, &f->err) == 0);
    catalog_close(f->c);
    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c && stored_jobs(f) == created + 2);
}

/* Mounts over the test's directory, where only this child and its mount namespace see it. */
static void with_full_disk(struct fixture *f)
{
    CHILD_EXPECT(unshare(CLONE_NEWNS) == 0);
    CHILD_EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHILD_EXPECT(mount("tmpfs", f->dir, "tmpfs", 0, "size=512k") == 0);
    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    check_full_disk(f);
    catalog_close(f->c);
}

static void need_root_for_mounts(void)
{
    if (geteuid() == 0)
        return;
    print_message("skipped: a tmpfs of its own needs root\n");
    skip();
}

static void full_disk_stores_nothing_and_works_again_with_space(void **state)
{
    need_root_for_mounts();
    assert_int_equal(in_child(*state, with_full_disk), 0);
}

static void open_on_full_disk(struct fixture *f)
{
    char ballast[320], chunk[4096] = "ballast";

    CHILD_EXPECT(unshare(CLONE_NEWNS) == 0);
    CHILD_EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHILD_EXPECT(mount("tmpfs", f->dir, "tmpfs", 0, "size=64k") == 0);
    snprintf(ballast, sizeof ballast, "%s/ballast", f->dir);
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    while (write(fd, chunk, sizeof chunk) > 0)
        ;
    close(fd);
    CHILD_EXPECT(!catalog_open(f->path, &f->err));
    CHILD_EXPECT(f->err.code == ERR_STATE_NO_SPACE && f->err.errnum == ENOSPC);
    CHILD_EXPECT(unlink(ballast) == 0);
    CHILD_EXPECT(mount(NULL, f->dir, NULL, MS_REMOUNT, "size=1m") == 0);
    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    catalog_close(f->c);
}

static void open_on_a_full_disk_says_so_and_works_again_with_space(void **state)
{
    need_root_for_mounts();
    assert_int_equal(in_child(*state, open_on_full_disk), 0);
}

/* A write that fails for another reason than space: EFBIG of the file size limit. */
static void with_failing_writes(struct fixture *f)
{
    struct rlimit limit;
    char wal[320];
    struct stat st;
    struct job job = big_job();

    signal(SIGXFSZ, SIG_IGN);
    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c && catalog_jobs_create(f->c, &job, 1, &f->err) == 0);
    snprintf(wal, sizeof wal, "%s-wal", f->path);
    CHILD_EXPECT(stat(wal, &st) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0);
    rlim_t whole = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)st.st_size;
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    int created = create_until_failure(f);
    CHILD_EXPECT(created >= 0);
    CHILD_EXPECT(f->err.code == ERR_STATE_UNAVAILABLE && f->err.errnum == EFBIG);
    CHILD_EXPECT(strstr(f->err.message, f->path));
    CHILD_EXPECT(stored_jobs(f) == created + 1);
    limit.rlim_cur = whole;
    CHILD_EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    job = big_job();
    CHILD_EXPECT(catalog_jobs_create(f->c, &job, 1, &f->err) == 0);
    CHILD_EXPECT(stored_jobs(f) == created + 2);
    catalog_close(f->c);
}

static void failing_write_is_unavailable_and_the_next_call_works(void **state)
{
    assert_int_equal(in_child(*state, with_failing_writes), 0);
}

/* ---- locks ---- */

/* An operator's sqlite3 shell in the middle of a transaction. */
struct holder {
    const char *path;
    pid_t waiter; /* the thread that will run into the lock */
    pthread_barrier_t locked;
};

static void *hold_lock(void *ctx)
{
    struct holder *h = ctx;
    sqlite3 *shell = NULL;
    int rc = sqlite3_open(h->path, &shell);

    if (rc == SQLITE_OK)
        rc = sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    pthread_barrier_wait(&h->locked);
    /* Until the other sleeps: in SQLite's busy handler, or, if there were none, in our join. */
    while (thread_state(h->waiter) != 'S')
        sched_yield();
    sqlite3_close(shell);
    return rc == SQLITE_OK ? h : NULL;
}

static void final_state_waits_for_another_process_lock(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};
    struct holder h = {.path = f->path, .waiter = gettid()};
    pthread_t thread;
    void *held;

    pthread_barrier_init(&h.locked, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, hold_lock, &h), 0);
    pthread_barrier_wait(&h.locked);
    int result = catalog_job_succeed(f->c, job.ulid, &r, &stats, NOW, &f->err);
    pthread_join(thread, &held);
    pthread_barrier_destroy(&h.locked);
    assert_non_null(held);
    OK(result);
}

static void lock_that_is_not_let_go_is_unavailable(void **state)
{
    struct fixture *f = *state;
    sqlite3 *shell = NULL;
    struct job job = new_job("app", "nightly");

    assert_int_equal(sqlite3_open(f->path, &shell), SQLITE_OK);
    assert_int_equal(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_busy_timeout(f->c->sqlite, 1);
    FAILS(catalog_jobs_create(f->c, &job, 1, &f->err), ERR_STATE_UNAVAILABLE, EIO);
    MESSAGE_HAS("another process");
    assert_int_equal(sqlite3_close(shell), SQLITE_OK);
    OK(catalog_jobs_create(f->c, &job, 1, &f->err));
}

/* ---- kills ---- */

static char child_ulid[ULID_LEN + 1], child_record[ULID_LEN + 1];

static void create_and_die(struct fixture *f)
{
    struct job job = new_job("app", "nightly");

    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    snprintf(job.ulid, sizeof job.ulid, "%s", child_ulid);
    CHILD_EXPECT(catalog_jobs_create(f->c, &job, 1, &f->err) == 0);
    raise(SIGKILL);
}

static void created_job_survives_a_kill(void **state)
{
    struct fixture *f = *state;

    ulid_new(NOW, child_ulid);
    int status = in_child(f, create_and_die);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(get_job(f, child_ulid).state, JOB_PENDING);
}

static void die_while_creating(struct fixture *f)
{
    struct job jobs[2] = {new_job("app", "a"), new_job("app", "b")};

    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    sqlite3_commit_hook(f->c->sqlite, die_before_commit, NULL);
    CHILD_EXPECT(catalog_jobs_create(f->c, jobs, 2, &f->err) == 0);
}

static void kill_within_a_transaction_leaves_no_row(void **state)
{
    struct fixture *f = *state;
    int status = in_child(f, die_while_creating);

    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(list_count(f, LIST_JOBS), 0);
    job_in(f, JOB_PENDING);
}

static void die_while_succeeding(struct fixture *f)
{
    struct record r = new_record("app", "nightly");
    struct stats stats = {.count = 0};

    f->c = catalog_open(f->path, &f->err);
    CHILD_EXPECT(f->c);
    snprintf(r.ulid, sizeof r.ulid, "%s", child_record);
    sqlite3_commit_hook(f->c->sqlite, die_before_commit, NULL);
    CHILD_EXPECT(catalog_job_succeed(f->c, child_ulid, &r, &stats, NOW, &f->err) == 0);
}

static void record_and_success_are_one_transaction(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_RUNNING);

    snprintf(child_ulid, sizeof child_ulid, "%s", job.ulid);
    snprintf(child_record, sizeof child_record, "%s", job.record);
    int status = in_child(f, die_while_succeeding);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct job after = get_job(f, job.ulid);
    assert_same_job(&job, &after);
    assert_int_equal(list_count(f, LIST_RECORDS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(refused_write_is_unavailable_and_the_next_call_works),
        TEST(full_disk_stores_nothing_and_works_again_with_space),
        TEST(open_on_a_full_disk_says_so_and_works_again_with_space),
        TEST(failing_write_is_unavailable_and_the_next_call_works),
        TEST(final_state_waits_for_another_process_lock),
        TEST(lock_that_is_not_let_go_is_unavailable),
        TEST(created_job_survives_a_kill),
        TEST(kill_within_a_transaction_leaves_no_row),
        TEST(record_and_success_are_one_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
