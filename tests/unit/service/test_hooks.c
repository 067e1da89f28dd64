/* SPDX-License-Identifier: MIT */
/*
 * test_hooks.c - the commands around a backup: when they run, what they are told, and what of them
 * changes the job.
 */
#include "stage.h"

#include "util/spawn.h"

/* ---- a source that counts how often it was opened ---- */

static atomic_int opened;
static const char *needed; /* what must be there by then; NULL: nothing */

static int counting_open(const struct store *store, const char *staging, struct source **out,
                         struct error *err)
{
    atomic_fetch_add(&opened, 1);
    if (needed && !exists(needed))
        return error_set(err, ERR_INTERNAL, "%s is not there", needed);
    return scripted_open(store, staging, out, err);
}

static const struct source_kind counting_kind = {
    .name = "counting", .open = counting_open, .close = scripted_close};

/* ---- the store a with the repo one ---- */

static int setup(void **state)
{
    struct fixture *f = fixture_make();
    struct store *s = add_store(f, "a", 0);

    stage_clear();
    atomic_store(&opened, 0);
    needed = NULL;
    s->kind = &counting_kind;
    add_repo(f, s, "one");
    *state = f;
    return 0;
}

static void hook(struct fixture *f, const char *name, const char *line)
{
    store_says(config_store(f->config, "a"), name, line);
}

/* A hook that is a shell's script; "@" in it is the test's directory. */
static void script_hook(struct fixture *f, const char *name, const char *text)
{
    SCOPED_PATH(path, f, "%s.sh", name);
    struct buf script_text = BUF_INIT;

    buf_adds(&script_text, "#!/bin/sh\n");
    for (; *text; text++)
        if (*text == '@')
            buf_adds(&script_text, f->dir);
        else
            buf_add(&script_text, text, 1);
    write_file(path, buf_text(&script_text));
    assert_int_equal(chmod(path, 0700), 0);
    hook(f, name, path);
    buf_release(&script_text);
}

/* Each hook leaves a line in the file notes. */
static void note_all(struct fixture *f)
{
    static const char *const names[] = {"before", "after", "on_failure"};

    for (size_t i = 0; i < 3; i++)
        script_hook(f, names[i], "echo $KEEPFS_HOOK $KEEPFS_STATE $KEEPFS_ERROR_CODE >> @/notes\n");
}

static char *notes(struct fixture *f)
{
    SCOPED_PATH(path, f, "notes");
    char *text = read_file(path);

    return text ? text : xstrdup("");
}

static void expect_notes(struct fixture *f, const char *expected)
{
    __attribute__((cleanup(free_charp))) char *text = notes(f);

    assert_string_equal(text, expected);
}

static void begin(struct fixture *f, script_fn what)
{
    script = what;
    stage_open(f);
    stage_start_workers(f);
}

static struct job run_to_end(struct fixture *f)
{
    struct run_reply reply = run_ok(f, "a/one");

    wait_idle(f);
    return job_of(f, reply.jobs[0].job);
}

static char *log_of(struct fixture *f, const struct job *job)
{
    __attribute__((cleanup(free_charp))) char *path = service_log_path(f->service, job->ulid);

    return read_file(path);
}

static void expect_log(struct fixture *f, const struct job *job, const char *words)
{
    __attribute__((cleanup(free_charp))) char *log = log_of(f, job);

    if (!strstr(log, words))
        fail_msg("no '%s' in:\n%s", words, log);
}

/* ---- before ---- */

static void before_runs_before_the_source_is_opened(void **state)
{
    struct fixture *f = *state;
    SCOPED_PATH(mark, f, "mark");

    needed = mark;
    script_hook(f, "before", "touch @/mark\n");
    begin(f, write_content);
    assert_int_equal(run_to_end(f).state, JOB_SUCCEEDED);
    assert_int_equal(opened, 1);
}

static void what_before_refuses_is_not_read(void **state)
{
    struct fixture *f = *state;
    SCOPED_PATH(place, f, "a-one");

    hook(f, "before", "/bin/false");
    begin(f, write_content);
    struct job job = run_to_end(f);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_HOOK_FAILED);
    assert_string_equal(job.error.message, "the before command: /bin/false exited with status 1");
    assert_int_equal(opened, 0);
    assert_false(exists(place));
    assert_int_equal(count_of(f, LIST_RECORDS), 0);
}

static void a_program_that_is_not_there_fails_the_job(void **state)
{
    struct fixture *f = *state;

    hook(f, "before", "/nowhere/program");
    begin(f, write_content);
    struct job job = run_to_end(f);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_HOOK_FAILED);
    assert_non_null(strstr(job.error.message, "/nowhere/program"));
    assert_int_equal(opened, 0);
}

static void a_failed_hook_is_not_tried_again(void **state)
{
    struct fixture *f = *state;

    hook(f, "before", "/bin/false");
    repo_says(repo_of(f, "a", "one"), "retries", "3");
    begin(f, write_content);
    run_to_end(f);
    assert_int_equal(scheduler_step(f->service), 0);
}

/* ---- which hooks run ---- */

static void a_success_has_before_and_after(void **state)
{
    struct fixture *f = *state;

    note_all(f);
    begin(f, write_content);
    assert_int_equal(run_to_end(f).state, JOB_SUCCEEDED);
    expect_notes(f, "before\nafter succeeded\n");
}

static void a_failure_has_all_three(void **state)
{
    struct fixture *f = *state;

    note_all(f);
    begin(f, out_of_reach);
    assert_int_equal(run_to_end(f).state, JOB_FAILED);
    expect_notes(f, "before\nafter failed source_unavailable\n"
                    "on_failure failed source_unavailable\n");
}

static void a_failed_before_is_followed_by_the_others(void **state)
{
    struct fixture *f = *state;

    note_all(f);
    hook(f, "before", "/bin/false");
    begin(f, write_content);
    assert_int_equal(run_to_end(f).state, JOB_FAILED);
    expect_notes(f, "after failed hook_failed\non_failure failed hook_failed\n");
}

static void a_cancelled_job_has_after_and_no_on_failure(void **state)
{
    struct fixture *f = *state;
    struct error err;

    note_all(f);
    begin(f, endless);
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_INTERRUPTED);
    expect_notes(f, "before\nafter interrupted cancelled\n");
}

/* As soon as a worker has the job, and before it does anything for it. */
static time_ms cancel_at_once(void *ctx)
{
    struct fixture *f = ctx;
    struct live *l = &f->service->live;

    pthread_mutex_lock(&l->lock);
    if (l->first && l->first->phase == LIVE_RUNNING)
        cancel_request(&l->first->cancel, ERR_CANCELLED, "cancelled by uid:7");
    pthread_mutex_unlock(&l->lock);
    return fixture_now(f);
}

static void without_before_there_is_no_after(void **state)
{
    struct fixture *f = *state;

    note_all(f);
    f->clock.now = cancel_at_once;
    begin(f, write_content);
    assert_int_equal(run_to_end(f).state, JOB_INTERRUPTED);
    expect_notes(f, "");
}

static void what_after_does_changes_nothing(void **state)
{
    struct fixture *f = *state;

    hook(f, "after", "/bin/false");
    begin(f, write_content);
    struct job job = run_to_end(f);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    expect_log(f, &job, "Z after: the after command: /bin/false exited with status 1\n");
    assert_int_equal(count_of(f, LIST_RECORDS), 1);
}

/* ---- what they are told ---- */

/* The lines of the log that a hook printed, sorted as it printed them, without time and name. */
static char *printed_by(struct fixture *f, const struct job *job, const char *name)
{
    __attribute__((cleanup(free_charp))) char *log = log_of(f, job);
    __attribute__((cleanup(free_charp))) char *mark = xasprintf("Z %s: ", name);
    struct buf text = BUF_INIT;
    char *rest = log;

    for (char *line; (line = strsep(&rest, "\n"));) {
        char *at = strstr(line, mark);
        if (at)
            buf_addf(&text, "%s\n", at + strlen(mark));
    }
    return buf_steal(&text);
}

static void before_has_an_exact_environment(void **state)
{
    struct fixture *f = *state;

    setenv("KEEPFS_TEST_SECRET", "not for hooks", 1);
    hook(f, "before", "/usr/bin/env");
    begin(f, write_content);
    struct job job = run_to_end(f);
    __attribute__((cleanup(free_charp))) char *printed = printed_by(f, &job, "before");
    __attribute__((cleanup(free_charp))) char *expected = xasprintf(
        "KEEPFS_HOOK=before\nKEEPFS_STORE=a\nKEEPFS_REPO=one\nKEEPFS_JOB=%s\nKEEPFS_RECORD=%s\n"
        "PATH=" SPAWN_PATH "\n",
        job.ulid, job.record);
    assert_string_equal(printed, expected);
    unsetenv("KEEPFS_TEST_SECRET");
}

static void after_is_told_how_it_ended(void **state)
{
    struct fixture *f = *state;

    hook(f, "after", "/usr/bin/env");
    begin(f, write_content);
    struct job job = run_to_end(f);
    __attribute__((cleanup(free_charp))) char *printed = printed_by(f, &job, "after");
    __attribute__((cleanup(free_charp))) char *expected = xasprintf(
        "KEEPFS_HOOK=after\nKEEPFS_STORE=a\nKEEPFS_REPO=one\nKEEPFS_JOB=%s\nKEEPFS_RECORD=%s\n"
        "KEEPFS_STATE=succeeded\nKEEPFS_ERROR_CODE=\nKEEPFS_ERROR=\nPATH=" SPAWN_PATH "\n",
        job.ulid, job.record);
    assert_string_equal(printed, expected);
}

static void on_failure_is_told_why(void **state)
{
    struct fixture *f = *state;

    hook(f, "on_failure", "/usr/bin/env");
    begin(f, out_of_order);
    struct job job = run_to_end(f);
    __attribute__((cleanup(free_charp))) char *printed = printed_by(f, &job, "on_failure");
    assert_non_null(strstr(printed, "KEEPFS_HOOK=on_failure\n"));
    assert_non_null(strstr(printed, "KEEPFS_STATE=failed\nKEEPFS_ERROR_CODE=internal\n"
                                    "KEEPFS_ERROR=out of order\n"));
}

/* ---- the log ---- */

static void all_that_hooks_print_is_above_the_last_line(void **state)
{
    struct fixture *f = *state;

    script_hook(f, "before", "echo one; echo two >&2\n");
    script_hook(f, "after", "echo three\n");
    script_hook(f, "on_failure", "printf four\n");
    begin(f, out_of_order);
    struct job job = run_to_end(f);
    __attribute__((cleanup(free_charp))) char *log = log_of(f, &job);
    static const char *const lines[] = {"Z before: one\n", "Z before: two\n", "Z after: three\n",
                                        "Z on_failure: four\n", "Z failed: internal: "};
    char *at = log;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        at = strstr(at, lines[i]);
        assert_non_null(at);
    }
    assert_string_equal(strchr(at, '\n'), "\n");
}

static void a_hook_that_prints_too_much_is_cut_and_counted(void **state)
{
    struct fixture *f = *state;

    hook(f, "before", "/usr/bin/seq -f %0100.f 5000");
    begin(f, write_content);
    struct job job = run_to_end(f);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    __attribute__((cleanup(free_charp))) char *printed = printed_by(f, &job, "before");
    size_t lines = 0;
    for (const char *at = printed; (at = strchr(at, '\n')); at++)
        lines++;
    char count[64];
    snprintf(count, sizeof count, "\n%zu more lines of its output were dropped\n",
             5000 - (lines - 1));
    assert_true(lines > 1000);
    assert_non_null(strstr(printed, count));
}

/* ---- time and cancel ---- */

static void a_hook_has_its_time_and_no_more(void **state)
{
    struct fixture *f = *state;

    hook(f, "before", "/bin/sleep 100000");
    hook(f, "hook_timeout", "1");
    begin(f, write_content);
    struct job job = run_to_end(f);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.error.code, ERR_HOOK_FAILED);
    assert_non_null(strstr(job.error.message, "did not end within 1 s"));
    assert_int_equal(opened, 0);
}

static void make_fifo(struct fixture *f, const char *name)
{
    SCOPED_PATH(path, f, "%s", name);

    assert_int_equal(mkfifo(path, 0600), 0);
}

/* Blocks until a hook has opened the other end. */
static void meet(struct fixture *f, const char *name, int flags)
{
    SCOPED_PATH(path, f, "%s", name);
    int fd = open(path, flags | O_CLOEXEC);

    assert_true(fd >= 0);
    close(fd);
}

static void a_cancel_ends_before(void **state)
{
    struct fixture *f = *state;
    struct error err;

    note_all(f);
    make_fifo(f, "begun");
    script_hook(f, "before", ": > @/begun; exec sleep 100000\n");
    begin(f, write_content);
    struct run_reply reply = run_ok(f, "a/one");
    meet(f, "begun", O_RDONLY);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_INTERRUPTED);
    assert_int_equal(job.error.code, ERR_CANCELLED);
    assert_int_equal(opened, 0);
    expect_notes(f, "after interrupted cancelled\n");
}

static void a_cancel_does_not_end_after(void **state)
{
    struct fixture *f = *state;
    struct error err;

    make_fifo(f, "begun");
    make_fifo(f, "go");
    script_hook(f, "after", ": > @/begun; : < @/go; echo whole\n");
    begin(f, write_content);
    struct run_reply reply = run_ok(f, "a/one");
    meet(f, "begun", O_RDONLY);
    assert_int_equal(service_cancel(f->service, reply.jobs[0].job, "uid:7", &err), 0);
    meet(f, "go", O_WRONLY);
    wait_idle(f);
    struct job job = job_of(f, reply.jobs[0].job);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    expect_log(f, &job, "Z after: whole\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, stage_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(before_runs_before_the_source_is_opened),
        TEST(what_before_refuses_is_not_read),
        TEST(a_program_that_is_not_there_fails_the_job),
        TEST(a_failed_hook_is_not_tried_again),
        TEST(a_success_has_before_and_after),
        TEST(a_failure_has_all_three),
        TEST(a_failed_before_is_followed_by_the_others),
        TEST(a_cancelled_job_has_after_and_no_on_failure),
        TEST(without_before_there_is_no_after),
        TEST(what_after_does_changes_nothing),
        TEST(before_has_an_exact_environment),
        TEST(after_is_told_how_it_ended),
        TEST(on_failure_is_told_why),
        TEST(all_that_hooks_print_is_above_the_last_line),
        TEST(a_hook_that_prints_too_much_is_cut_and_counted),
        TEST(a_hook_has_its_time_and_no_more),
        TEST(a_cancel_ends_before),
        TEST(a_cancel_does_not_end_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
