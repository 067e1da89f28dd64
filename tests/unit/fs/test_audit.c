/* SPDX-License-Identifier: MIT */
/* audit.c: the lines, their bounds, and what the tree writes of commands. */
#include "fs/audit.h"

#include "fs/removal.h"

#include "fixture.h"

#include <sys/mman.h>

#define NOW ((time_ms)1800000000000)

/* ---- stderr is a file in memory during a test ---- */

static int kept_stderr, caught;

static void catch_log(void)
{
    kept_stderr = dup(STDERR_FILENO);
    caught = memfd_create("stderr", MFD_CLOEXEC);
    /* The place to write to is not the threads' common one, as it is in a file of a disk. */
    assert_true(caught >= 0 && fcntl(caught, F_SETFL, O_APPEND) == 0);
    assert_true(dup2(caught, STDERR_FILENO) >= 0);
}

/* All that was logged since catch_log(), which this ends; the caller frees. */
static char *logged(void)
{
    struct buf text = BUF_INIT;
    char data[4096];
    ssize_t n;

    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    for (off_t at = 0; (n = pread(caught, data, sizeof data, at)) > 0; at += n)
        buf_add(&text, data, (size_t)n);
    close(caught);
    return text.len > 0 ? buf_steal(&text) : xstrdup("");
}

static void expect_log(const char *wanted)
{
    __attribute__((cleanup(free_charp))) char *text = logged();

    assert_string_equal(text, wanted);
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* ---- lines ---- */

static void a_command_is_one_line(void **state)
{
    struct audit *a = audit_new();
    struct audit_entry e = {.uid = 1000, .pid = 4711, .verb = "run", .now = NOW};

    (void)state;
    catch_log();
    e.target = "app/nas";
    e.target_len = 7;
    e.job = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    audit_accepted(a, &e);
    e.job = NULL;
    audit_refused(a, &e, EBUSY, "job X is running");
    audit_accepted(a, &(struct audit_entry){.verb = "delete", .record = "R", .now = NOW});
    audit_accepted(a, &(struct audit_entry){.uid = 4294967294, .verb = "reload", .now = NOW});
    audit_free(a);
    expect_log("keepfs: audit uid=1000 pid=4711 verb=run target=app/nas "
               "job=01ARZ3NDEKTSV4RRFFQ69G5FAV accepted\n"
               "keepfs: audit uid=1000 pid=4711 verb=run target=app/nas refused EBUSY "
               "\"job X is running\"\n"
               "keepfs: audit uid=0 pid=0 verb=delete record=R accepted\n"
               "keepfs: audit uid=4294967294 pid=0 verb=reload accepted\n");
}

static void refuse(struct audit *a, uid_t uid, time_ms now, const char *target, size_t len)
{
    struct audit_entry e = {
        .uid = uid, .verb = "run", .target = target, .target_len = len, .now = now};

    audit_refused(a, &e, EINVAL, "no");
}

static void a_stranger_s_text_forges_nothing(void **state)
{
    struct audit *a = audit_new();

    (void)state;
    catch_log();
    refuse(a, 1, NOW, "a\" accepted\nkeepfs: audit uid=0", 31);
    refuse(a, 1, NOW, "a\\\0b\"", 5);
    refuse(a, 1, NOW, "", 0);
    audit_refused(a, &(struct audit_entry){.uid = 1, .verb = "cancel", .now = NOW}, EPERM,
                  "of \"x\"\n");
    audit_free(a);
    expect_log("keepfs: audit uid=1 pid=0 verb=run target=\"a\\x22 accepted\\x0akeepfs: audit "
               "uid=0\" refused EINVAL \"no\"\n"
               "keepfs: audit uid=1 pid=0 verb=run target=\"a\\x5c\\x00b\\x22\" refused EINVAL "
               "\"no\"\n"
               "keepfs: audit uid=1 pid=0 verb=run target=\"\" refused EINVAL \"no\"\n"
               "keepfs: audit uid=1 pid=0 verb=cancel refused EPERM \"of \\x22x\\x22\\x0a\"\n");
}

static void a_line_has_an_end(void **state)
{
    struct audit *a = audit_new();
    static char longest[1024];

    (void)state;
    memset(longest, 'x', sizeof longest);
    catch_log();
    refuse(a, 1, NOW, longest, sizeof longest);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_int_equal(count(text, "x"), AUDIT_TEXT);
    assert_non_null(strstr(text, "x...\" refused"));
}

/* ---- floods ---- */

static void refuse_often(struct audit *a, uid_t uid, time_ms now, int times)
{
    for (int i = 0; i < times; i++)
        refuse(a, uid, now, "x", 1);
}

static void many_refusals_of_one_uid_are_counted(void **state)
{
    struct audit *a = audit_new();

    (void)state;
    catch_log();
    refuse_often(a, 5, NOW, LIMIT_AUDIT_REFUSED + 37);
    refuse_often(a, 6, NOW, LIMIT_AUDIT_REFUSED);
    audit_accepted(a, &(struct audit_entry){.uid = 5, .verb = "pin", .now = NOW});
    refuse_often(a, 5, NOW + AUDIT_WINDOW_MS - 1, 1);
    /* Somebody else's command after the minute tells the count. */
    audit_accepted(a, &(struct audit_entry){.uid = 7, .verb = "pin", .now = NOW + AUDIT_WINDOW_MS});
    refuse_often(a, 5, NOW + AUDIT_WINDOW_MS, 1);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_int_equal(count(text, "uid=5 pid=0 verb=run"), LIMIT_AUDIT_REFUSED + 1);
    assert_int_equal(count(text, "uid=6 pid=0 verb=run"), LIMIT_AUDIT_REFUSED);
    assert_int_equal(count(text, " accepted\n"), 2);
    assert_int_equal(count(text, " more refused"), 1);
    assert_non_null(strstr(text, "keepfs: audit uid=5 38 more refused\n"
                                 "keepfs: audit uid=7 pid=0 verb=pin accepted\n"));
}

static void the_end_tells_what_is_left_to_tell(void **state)
{
    struct audit *a = audit_new();

    (void)state;
    catch_log();
    refuse_often(a, 5, NOW, LIMIT_AUDIT_REFUSED + 1);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_non_null(strstr(text, "keepfs: audit uid=5 1 more refused\n"));
}

static void a_clock_that_was_set_back_silences_nobody(void **state)
{
    struct audit *a = audit_new();

    (void)state;
    catch_log();
    refuse_often(a, 5, NOW, LIMIT_AUDIT_REFUSED + 1);
    refuse_often(a, 5, NOW - 3600000, 1);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_int_equal(count(text, "verb=run"), LIMIT_AUDIT_REFUSED + 1);
}

static void many_uids_have_one_bound(void **state)
{
    struct audit *a = audit_new();

    (void)state;
    catch_log();
    for (uid_t uid = 0; uid < 10 * LIMIT_AUDIT_UIDS; uid++)
        refuse_often(a, uid, NOW, LIMIT_AUDIT_REFUSED);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_int_equal(count(text, "verb=run"), (LIMIT_AUDIT_UIDS + 1) * LIMIT_AUDIT_REFUSED);
    assert_non_null(strstr(text, "keepfs: audit uid=others "));
}

enum { THREADS = 4, EACH = 200 };

static void *refuse_and_accept(void *audit)
{
    struct audit_entry e = {.uid = 9, .verb = "pin", .now = NOW};

    for (int i = 0; i < EACH; i++) {
        audit_accepted(audit, &e);
        refuse(audit, 5, NOW, "x", 1);
    }
    return NULL;
}

static void threads_lose_no_line_and_no_count(void **state)
{
    struct audit *a = audit_new();
    pthread_t threads[THREADS];

    (void)state;
    catch_log();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, refuse_and_accept, a), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    audit_free(a);
    __attribute__((cleanup(free_charp))) char *text = logged();
    __attribute__((cleanup(free_charp))) char *more =
        xasprintf("keepfs: audit uid=5 %d more refused\n", THREADS * EACH - LIMIT_AUDIT_REFUSED);
    assert_int_equal(count(text, "keepfs: audit uid=9 pid=0 verb=pin accepted\n"), THREADS * EACH);
    assert_int_equal(count(text, "verb=run"), LIMIT_AUDIT_REFUSED);
    assert_non_null(strstr(text, more));
}

/* ---- what the tree writes ---- */

static int put(struct fixture *f, const char *path, const char *text)
{
    struct handle *h = open_as(f, ME, O_WRONLY, path);
    size_t taken;

    handle_opened_by(h, 4711);
    int result = handle_write(h, text, strlen(text), &taken);
    handle_close(h);
    return result != 0 ? -result : (int)taken;
}

#define WHO "keepfs: audit uid=1000 pid=4711 verb="

static void each_job_that_is_started_has_its_line(void **state)
{
    struct fixture *f = *state;
    struct job job;
    struct error err;

    catch_log();
    assert_int_equal(put(f, "ctl", "web\napp/no\n"), 4);
    assert_int_equal(put(f, "stores/web/run", "1"), -EBUSY);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_int_equal(catalog_job_latest(f->catalog, &job, &err), 0);
    __attribute__((cleanup(free_charp))) char *wanted = xasprintf(
        WHO "run target=web/main job=%s accepted\n" WHO
            "run target=app/no refused ENOENT \"there is no repo app/no; `ls stores` shows the ids "
            "there are\"\n" WHO "run target=1 refused EBUSY \"",
        job.ulid);
    assert_memory_equal(text, wanted, strlen(wanted));
    assert_int_equal(count(text, "\n"), 3);

    catch_log();
    assert_int_equal(put(f, "ctl", "app"), 3);
    __attribute__((cleanup(free_charp))) char *both = logged();
    assert_int_equal(count(both, WHO "run target=app/main job="), 1);
    assert_int_equal(count(both, WHO "run target=app/nas job="), 1);
    assert_int_equal(count(both, "\n"), 2);
}

static void every_other_command_has_one_too(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], live[ULID_LEN + 1], shell[ULID_LEN + 1];
    char path[128];
    node_id records = node_make(NODE_RECORDS, 0, NODE_FILE_NONE);

    make_record(f, job, record);
    run_job(f, "web", live);
    node_id dir = find(f, "records/%s", record).node;
    catch_log();
    snprintf(path, sizeof path, "records/%s/pinned", record);
    assert_int_equal(put(f, path, "1\n"), 2);
    assert_int_equal(tree_rmdir(&f->tree, records, record, ME, 4711), EPERM);
    assert_int_equal(tree_unlink(&f->tree, dir, "payload", ME, 4711, shell), EPERM);
    assert_int_equal(tree_unlink(&f->tree, dir, "sha256", ME, 4711, shell), EPERM);
    assert_int_equal(put(f, path, "0"), 1);
    assert_int_equal(put(f, path, "2"), -EINVAL);
    snprintf(path, sizeof path, "records/%s/review", record);
    assert_int_equal(put(f, path, "1"), 1);
    snprintf(path, sizeof path, "jobs/%s/cancel", live);
    assert_int_equal(put(f, path, "1"), 1);
    assert_int_equal(put(f, path, "no"), -EINVAL);
    assert_int_equal(tree_unlink(&f->tree, dir, "payload", ME, 4711, shell), 0);
    assert_int_equal(tree_unlink(&f->tree, dir, "sha256", ME, 4711, shell), 0);
    assert_int_equal(tree_rmdir(&f->tree, records, record, ME, 4711), 0);
    __attribute__((cleanup(free_charp))) char *text = logged();

#define R "%1$s"
#define J "%2$s"
#define PINNED                                                                                     \
    WHO "delete record=" R " refused EPERM \"record " R                                            \
        " is pinned, so it is not deleted; `echo 0 > records/" R "/pinned` unpins it\"\n"
    __attribute__((cleanup(free_charp))) char *wanted =
        xasprintf(WHO "pin record=" R " accepted\n" PINNED PINNED WHO "unpin record=" R
                      " accepted\n" WHO "pin record=" R " refused EINVAL \"write 1 to keep the "
                      "record from deletion, 0 to let it go\"\n" WHO "review record=" R
                      " accepted\n" WHO "cancel job=" J " accepted\n" WHO "cancel job=" J
                      " refused EINVAL \"write 1 to cancel the job, and nothing else\"\n" WHO
                      "delete record=" R " accepted\n",
                  record, live);
    assert_string_equal(text, wanted);
}

static void a_reload_has_its_line(void **state)
{
    struct fixture *f = *state;
    char nowhere[] = "/nowhere/keepfs.conf";

    f->config.path = nowhere;
    catch_log();
    assert_int_equal(put(f, "reload", "1"), -EINVAL);
    __attribute__((cleanup(free_charp))) char *text = logged();
    assert_non_null(strstr(text, WHO "reload refused EINVAL \"/nowhere/keepfs.conf: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_one_line),
        cmocka_unit_test(a_stranger_s_text_forges_nothing),
        cmocka_unit_test(a_line_has_an_end),
        cmocka_unit_test(many_refusals_of_one_uid_are_counted),
        cmocka_unit_test(the_end_tells_what_is_left_to_tell),
        cmocka_unit_test(a_clock_that_was_set_back_silences_nobody),
        cmocka_unit_test(many_uids_have_one_bound),
        cmocka_unit_test(threads_lose_no_line_and_no_count),
        TREE_TEST(each_job_that_is_started_has_its_line),
        TREE_TEST(every_other_command_has_one_too),
        TREE_TEST(a_reload_has_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
