/* SPDX-License-Identifier: MIT */
/*
 * test_reload.c - another configuration without a restart, from a file, while jobs run.
 *
 * The kinds are this test's own table: `scripted` takes no keys, and its sources do what the test
 * says. In configurations "@" stands for the test's directory.
 */
#include "stage.h"

#include "destination/kinds.h"
#include "util/log.h"

#include <malloc.h>

/* ---- the table of source kinds ---- */

const struct source_kind *const source_kinds[] = {&scripted_kind, NULL};

const struct source_kind *source_kind_find(const char *name)
{
    return strcmp(name, scripted_kind.name) == 0 ? &scripted_kind : NULL;
}

void source_log(struct source_run *run, const char *fmt, ...)
{
    (void)run;
    (void)fmt;
}

/* ---- the file ---- */

#define HEAD      "[keepfs]\nstate = @/state\n"
#define STORE(id) "[store " id "]\nkind = scripted\n"
#define REPO(store, name)                                                                          \
    "[repo " store "/" name "]\nkind = local\npath = @/" store "-" name "\ncompression = none\n"   \
    "jitter = 0\n"
#define A_ONE  STORE("a") REPO("a", "one")
#define B_ONE  STORE("b") REPO("b", "one")
#define HOURLY "schedule = CRON_TZ=UTC 0 * * * *\n"

/* In one step, so that a reload sees the one or the other. */
static void write_config(struct fixture *f, const char *text)
{
    __attribute__((cleanup(free_charp))) char *next = xasprintf("%s.%d", f->config->path, gettid());
    struct buf file = BUF_INIT;

    for (; *text; text++)
        if (*text == '@')
            buf_adds(&file, f->dir);
        else
            buf_add(&file, text, 1);
    write_file(next, buf_text(&file));
    assert_int_equal(rename(next, f->config->path), 0);
    buf_release(&file);
}

static int setup(void **state)
{
    struct fixture *f = fixture_make();

    stage_clear();
    set_clock(f, BEGIN);
    *state = f;
    return 0;
}

/* Starts with that file in place of the configuration built by hand. */
static void begin(struct fixture *f, const char *text)
{
    struct buf faults = BUF_INIT;

    write_config(f, text);
    struct config *config = config_load(f->config->path, NULL, &faults);
    if (!config)
        fail_msg("%s", buf_text(&faults));
    buf_release(&faults);
    config_free(f->config);
    f->config = config;
    stage_open(f);
    stage_start(f);
}

static void reload_ok(struct fixture *f, const char *text)
{
    struct error err;

    write_config(f, text);
    if (service_reload(f->service, "uid:0", &err) != 0)
        fail_msg("%s", err.message);
}

/* Refused with these words, and all is as before. */
static void reload_refused(struct fixture *f, const char *text, const char *words)
{
    struct config *before = service_config(f->service);
    struct error err;

    write_config(f, text);
    assert_int_equal(service_reload(f->service, "uid:0", &err), -1);
    assert_int_equal(err.code, ERR_CONFIG_INVALID);
    assert_int_equal(err.errnum, EINVAL);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
    struct config *after = service_config(f->service);
    assert_ptr_equal(after, before);
    config_free(after);
    config_free(before);
}

static void expect_payload(struct fixture *f, const struct record *record)
{
    struct service_object o;
    struct error err;
    char bytes[256];

    if (service_open_payload(f->service, record, &o, &err) != 0)
        fail_msg("%s", err.message);
    ssize_t n = service_pread(&o, bytes, sizeof bytes, 0, &err);
    service_close_object(&o);
    assert_int_equal(n, strlen(CONTENT));
    assert_memory_equal(bytes, CONTENT, strlen(CONTENT));
}

/* ---- a file that is good ---- */

static void what_is_new_is_in_force(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE);
    reload_ok(f, HEAD A_ONE HOURLY B_ONE);
    assert_int_equal(service_next_run(f->service, "a", "one"), BEGIN + HOUR);
    struct record record = back_up(f, "b/one");
    expect_payload(f, &record);
    struct config *now = service_config(f->service);
    assert_int_equal(now->store_count, 2);
    config_free(now);
}

static void a_schedule_that_stays_keeps_its_place(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE HOURLY);
    set_clock(f, BEGIN + HOUR - 1);
    reload_ok(f, HEAD A_ONE HOURLY B_ONE);
    set_clock(f, BEGIN + HOUR);
    reload_ok(f, HEAD A_ONE HOURLY B_ONE "schedule = CRON_TZ=UTC 30 * * * *\n");
    wait_changes("succeeded", 1);
    assert_string_equal(latest_job(f).store, "a");
    assert_string_equal(latest_job(f).requested_by, "schedule");
}

static void the_room_in_the_queue_changes(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply;
    struct error err;

    script = held;
    begin(f, HEAD A_ONE B_ONE);
    run_ok(f, "a/one");
    reload_ok(f, HEAD "max_queue = 1\n" A_ONE B_ONE);
    assert_int_equal(run_line(f, "b/one", &reply, &err), -1);
    assert_int_equal(err.code, ERR_QUEUE_FULL);
    reload_ok(f, HEAD "max_queue = 2\n" A_ONE B_ONE);
    run_ok(f, "b/one");
    let_go(2);
    wait_idle(f);
}

/* Archives that stand at the place of a repo that is new here. */
static void a_new_repo_brings_its_records(void **state)
{
    struct fixture *f = *state;
    SCOPED_PATH(wal, f, "state/catalog.sqlite-wal");
    SCOPED_PATH(shm, f, "state/catalog.sqlite-shm");

    begin(f, HEAD A_ONE B_ONE);
    struct record before = back_up(f, "b/one");
    fixture_close(f);
    unlink(f->database);
    unlink(wal);
    unlink(shm);
    stage.count = 0;
    begin(f, HEAD A_ONE);
    assert_int_equal(count_of(f, LIST_RECORDS), 0);
    reload_ok(f, HEAD A_ONE B_ONE);
    wait_changes("adopted", 1);
    wait_idle(f);
    struct record record;
    struct error err;
    assert_int_equal(catalog_record_get(f->catalog, before.ulid, &record, &err), 0);
    expect_payload(f, &record);
    back_up(f, "b/one");
}

/* ---- a file that is not ---- */

static void a_faulty_file_changes_nothing(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE HOURLY);
    reload_refused(f, HEAD A_ONE "keep_count = many\nnonsense = 1\n", "keepfs.conf:10: ");
    assert_int_equal(service_next_run(f->service, "a", "one"), BEGIN + HOUR);
    back_up(f, "a/one");
}

static void of_several_faults_the_first_is_told(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, HEAD A_ONE);
    write_config(f, HEAD A_ONE "keep_count = many\nnonsense = 1\n");
    assert_int_equal(service_reload(f->service, "uid:0", &err), -1);
    assert_null(strchr(err.message, '\n'));
    assert_null(strstr(err.message, "nonsense"));
    assert_non_null(strstr(err.message, "keepfs.conf:10: "));
}

static void a_file_that_is_gone_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, HEAD A_ONE);
    assert_int_equal(unlink(f->config->path), 0);
    assert_int_equal(service_reload(f->service, "uid:0", &err), -1);
    assert_non_null(strstr(err.message, "cannot be read"));
    back_up(f, "a/one");
}

static void what_takes_a_restart_is_refused(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE);
    reload_refused(f, "[keepfs]\nstate = @/elsewhere\n" A_ONE,
                   "the state directory cannot change without a restart");
    reload_refused(f, HEAD "max_jobs = 7\n" A_ONE, "max_jobs cannot change without a restart");
    reload_ok(f, HEAD "max_jobs = 2\n" A_ONE); /* the default */
}

#define A_RUN(gid) STORE("a") "run_group = " gid "\n" REPO("a", "one")

/* What the kernel keeps of finished jobs and records has the groups for an hour. */
static void groups_of_the_mount_take_a_restart(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD "control_group = 0\nread_group = 7\n" A_ONE);
    reload_refused(f, HEAD "control_group = 8\nread_group = 7\n" A_ONE,
                   "control_group cannot change without a restart");
    reload_refused(f, HEAD "read_group = 7\n" A_ONE,
                   "control_group cannot change without a restart");
    reload_refused(f, HEAD "control_group = 0\n" A_ONE,
                   "read_group cannot change without a restart");
    /* The same gid by another name is the same. */
    reload_ok(f, HEAD "control_group = root\nread_group = 7\n" A_ONE);
    /* A store's own may come, change and go: the mount lets others in already. */
    reload_ok(f, HEAD "control_group = 0\nread_group = 7\n" A_RUN("9"));
    reload_ok(f, HEAD "control_group = 0\nread_group = 7\n" A_RUN("10"));
    reload_ok(f, HEAD "control_group = 0\nread_group = 7\n" A_ONE);
}

static void the_first_group_takes_a_restart(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE);
    reload_refused(f, HEAD A_RUN("9"), "the first run_group takes a restart");
    reload_refused(f, HEAD "read_group = 7\n" A_ONE, "read_group cannot change");
    reload_refused(f, HEAD A_RUN("no-such-group"), "there is no such group");
}

#define A_MOVED STORE("a") "[repo a/one]\nkind = local\npath = @/moved\ncompression = none\n"

static void the_place_of_records_cannot_change(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE);
    struct record record = back_up(f, "a/one");
    reload_refused(f, HEAD A_MOVED, "the path of a/one cannot change from ");
    expect_payload(f, &record);
}

/* Nor by taking the repo out first. */
static void nor_can_it_in_two_steps(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE B_ONE);
    struct record record = back_up(f, "a/one");
    reload_ok(f, HEAD B_ONE);
    reload_refused(f, HEAD B_ONE A_MOVED, "the path of a/one cannot change from ");
    expect_payload(f, &record);
    reload_ok(f, HEAD A_ONE B_ONE);
    back_up(f, "a/one");
}

static void the_place_of_an_empty_repo_can(void **state)
{
    struct fixture *f = *state;
    SCOPED_PATH(old, f, "a-one");

    begin(f, HEAD A_ONE);
    reload_ok(f, HEAD A_MOVED);
    struct record record = back_up(f, "a/one");
    SCOPED_PATH(payload, f, "moved/%s/payload.bin", record.ulid);
    assert_true(exists(payload));
    assert_false(exists(old));
}

static void once_stopping_it_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, HEAD A_ONE);
    service_stop(f->service, STOP_MS);
    assert_int_equal(service_reload(f->service, "uid:0", &err), -1);
    assert_int_equal(err.code, ERR_STOPPING);
}

/* ---- what was begun before it ---- */

static void records_of_a_store_that_is_gone_stay_readable(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply;
    struct error err;

    begin(f, HEAD A_ONE B_ONE);
    struct record record = back_up(f, "a/one");
    for (int i = 0; i < 3; i++) {
        reload_ok(f, HEAD B_ONE);
        expect_payload(f, &record);
        assert_int_equal(f->service->past_count, 1);
    }
    assert_int_equal(run_line(f, "a/one", &reply, &err), -1);
    assert_int_equal(err.errnum, ENOENT);
    reload_ok(f, HEAD A_ONE B_ONE);
    assert_int_equal(f->service->past_count, 0);
    back_up(f, "a/one");
}

static void and_can_be_deleted(void **state)
{
    struct fixture *f = *state;
    struct error err;

    begin(f, HEAD A_ONE B_ONE);
    struct record record = back_up(f, "a/one");
    reload_ok(f, HEAD B_ONE);
    assert_int_equal(service_delete(f->service, record.ulid, "uid:0", &err), 0);
    wait_changes("deleted", 1);
    SCOPED_PATH(path, f, "a-one/%s", record.ulid);
    assert_false(exists(path));
}

static void a_running_job_goes_on_by_what_it_began_with(void **state)
{
    struct fixture *f = *state;
    struct record record;
    struct error err;

    script = held;
    begin(f, HEAD "[store a]\nkind = scripted\nafter = /bin/echo old\n" REPO("a", "one"));
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    reload_ok(f, HEAD "[store a]\nkind = scripted\nafter = /bin/echo new\n" REPO("a", "one"));
    let_go(1);
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
    __attribute__((cleanup(free_charp))) char *path =
        service_log_path(f->service, reply.jobs[0].job);
    __attribute__((cleanup(free_charp))) char *log = read_file(path);
    assert_non_null(strstr(log, "after: old\n"));
    assert_null(strstr(log, "after: new\n"));
    assert_int_equal(
        catalog_record_get(f->catalog, job_of(f, reply.jobs[0].job).record, &record, &err), 0);
    expect_payload(f, &record);
}

static void a_running_job_of_a_store_that_goes_makes_its_record(void **state)
{
    struct fixture *f = *state;
    struct record record;
    struct error err;

    script = held;
    begin(f, HEAD A_ONE B_ONE);
    struct run_reply reply = run_ok(f, "a/one");
    wait_entered(1);
    reload_ok(f, HEAD B_ONE);
    let_go(1);
    wait_idle(f);
    expect_state(f, reply.jobs[0].job, JOB_SUCCEEDED);
    assert_int_equal(
        catalog_record_get(f->catalog, job_of(f, reply.jobs[0].job).record, &record, &err), 0);
    expect_payload(f, &record);
}

/* The lock is on the store's name, not on one configuration's idea of it. */
static void jobs_before_and_after_it_take_turns(void **state)
{
    struct fixture *f = *state;
    struct run_reply reply;
    struct error err;

    script = held;
    begin(f, HEAD A_ONE REPO("a", "two") B_ONE);
    run_ok(f, "a/one");
    wait_entered(1);
    reload_ok(f, HEAD B_ONE A_ONE REPO("a", "two") "keep_count = 5\n");
    assert_int_equal(run_line(f, "a/one", &reply, &err), -1);
    assert_int_equal(err.errnum, EBUSY);
    struct run_reply second = run_ok(f, "a/two"), other = run_ok(f, "b/one");
    wait_entered(2);
    expect_state(f, second.jobs[0].job, JOB_PENDING);
    expect_state(f, other.jobs[0].job, JOB_RUNNING);
    let_go(3);
    wait_idle(f);
    assert_int_equal(changes_to("succeeded"), 3);
}

/* A success behind the keeper's back: b's own pass comes after a's. */
static void retention_goes_by_the_policy_in_force(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE "keep_count = 2\n" B_ONE "keep_count = 1\n");
    back_up(f, "a/one");
    set_clock(f, BEGIN + MINUTE);
    back_up(f, "a/one");
    set_clock(f, BEGIN + 2 * MINUTE);
    script = held;
    run_ok(f, "a/one");
    wait_entered(1);
    reload_ok(f, HEAD A_ONE "keep_count = 100\n" B_ONE "keep_count = 1\n");
    let_go(1);
    wait_idle(f);
    script = write_content;
    back_up(f, "b/one");
    set_clock(f, BEGIN + 3 * MINUTE);
    back_up(f, "b/one");
    wait_changes("deleted", 1);
    for (size_t i = 0; i < stage.count; i++)
        if (strcmp(stage.changes[i].to, "deleting") == 0)
            assert_string_equal(stage.changes[i].store, "b");
    assert_int_equal(count_of(f, LIST_RECORDS), 4);
}

/* ---- many ---- */

static void reload_many(struct fixture *f, int count)
{
    struct error err;

    for (int i = 0; i < count; i++)
        if (service_reload(f->service, "uid:0", &err) != 0)
            fail_msg("%s", err.message);
}

/* glibc's own count of what is allocated; a sanitizer has an allocator, and a count, of its own. */
static void a_thousand_reloads_keep_nothing(void **state)
{
    struct fixture *f = *state;

    script = held;
    log_open(LOG_TO_SYSLOG);
    begin(f, HEAD A_ONE HOURLY B_ONE HOURLY);
    run_ok(f, "a/one");
    wait_entered(1);
    reload_many(f, 100);
    size_t before = mallinfo2().uordblks;
    reload_many(f, 900);
    size_t after = mallinfo2().uordblks;
    log_open(LOG_TO_STDERR);
    assert_int_equal(f->service->past_count, 0);
    if (after > before + 128 * 1024)
        fail_msg("900 reloads hold %zu bytes", after - before);
    let_go(1);
    wait_idle(f);
    assert_int_equal(changes_to("succeeded"), 1);
}

static void a_store_that_comes_and_goes_is_kept_once(void **state)
{
    struct fixture *f = *state;

    begin(f, HEAD A_ONE B_ONE);
    struct record record = back_up(f, "a/one");
    for (int i = 0; i < 50; i++) {
        reload_ok(f, HEAD B_ONE);
        assert_int_equal(f->service->past_count, 1);
        expect_payload(f, &record);
        reload_ok(f, HEAD A_ONE B_ONE);
        assert_int_equal(f->service->past_count, 0);
    }
}

enum { THREADS = 4, RELOADS = 25 };

static void *reload_from_a_thread(void *arg)
{
    static const char *const texts[] = {HEAD A_ONE HOURLY B_ONE, HEAD A_ONE "keep_count = 3\n"};
    struct fixture *f = arg;
    struct error err;

    for (int i = 0; i < RELOADS; i++) {
        write_config(f, texts[i % 2]);
        if (service_reload(f->service, "uid:0", &err) != 0)
            return xstrdup(err.message);
        struct buf why = BUF_INIT;
        service_why(f->service, "a", &why);
        service_next_run(f->service, "b", NULL);
        buf_release(&why);
    }
    return NULL;
}

static void reloads_from_many_threads_agree(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    struct run_reply reply;
    struct error err;
    void *failed;

    begin(f, HEAD A_ONE B_ONE);
    struct record record = back_up(f, "b/one");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reload_from_a_thread, f), 0);
    for (int i = 0; i < RELOADS; i++) {
        if (run_line(f, "a/one", &reply, &err) != 0)
            assert_int_equal(err.errnum, EBUSY);
        expect_payload(f, &record);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        if (failed)
            fail_msg("%s", (char *)failed);
    }
    wait_idle(f);
    reload_ok(f, HEAD A_ONE B_ONE);
    assert_int_equal(f->service->past_count, 0);
    assert_int_equal(changes_to("failed"), 0);
    back_up(f, "a/one");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, stage_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_new_is_in_force),
        TEST(a_schedule_that_stays_keeps_its_place),
        TEST(the_room_in_the_queue_changes),
        TEST(a_new_repo_brings_its_records),
        TEST(a_faulty_file_changes_nothing),
        TEST(of_several_faults_the_first_is_told),
        TEST(a_file_that_is_gone_changes_nothing),
        TEST(what_takes_a_restart_is_refused),
        TEST(groups_of_the_mount_take_a_restart),
        TEST(the_first_group_takes_a_restart),
        TEST(the_place_of_records_cannot_change),
        TEST(nor_can_it_in_two_steps),
        TEST(the_place_of_an_empty_repo_can),
        TEST(once_stopping_it_is_refused),
        TEST(records_of_a_store_that_is_gone_stay_readable),
        TEST(and_can_be_deleted),
        TEST(a_running_job_goes_on_by_what_it_began_with),
        TEST(a_running_job_of_a_store_that_goes_makes_its_record),
        TEST(jobs_before_and_after_it_take_turns),
        TEST(retention_goes_by_the_policy_in_force),
        TEST(a_thousand_reloads_keep_nothing),
        TEST(a_store_that_comes_and_goes_is_kept_once),
        TEST(reloads_from_many_threads_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
