/* SPDX-License-Identifier: MIT */
/*
 * test_look.c - looking at the catalog from outside: what is seen, and that nothing is changed,
 * whether it is open, was closed, or its last user died.
 */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

/* ---- what stands in the directory ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *describe(const char *dir, const char *name)
{
    char path[600];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(lstat(path, &st), 0);
    return xasprintf("%s %o %lld %lld.%09ld\n", name, st.st_mode, (long long)st.st_size,
                     (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* Names, modes, sizes and times; the caller frees it. */
static char *listing(const char *dir)
{
    char *lines[32];
    size_t count = 0;
    struct buf text = BUF_INIT;
    DIR *d = opendir(dir);

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            assert_true(count < 32);
            lines[count++] = describe(dir, e->d_name);
        }
    closedir(d);
    qsort(lines, count, sizeof lines[0], by_name);
    for (size_t i = 0; i < count; i++) {
        buf_adds(&text, lines[i]);
        free(lines[i]);
    }
    return buf_steal(&text);
}

static void count_fault(void *ctx, const char *text)
{
    assert_true(strlen(text) > 0);
    ++*(int *)ctx;
}

static bool sees(struct fixture *f, const char *record)
{
    struct catalog *c = catalog_open_look(f->path, &f->err);
    struct record r;
    int faults = 0;
    bool seen = c && catalog_record_get(c, record, &r, &f->err) == 0 &&
                catalog_integrity(c, count_fault, &faults, &f->err) == 0 && faults == 0;

    catalog_close(c);
    if (!seen)
        print_error("%s\n", f->err.message);
    return seen;
}

/* Is the record seen, and nothing changed? */
static bool look(struct fixture *f, const char *record)
{
    __attribute__((cleanup(free_charp))) char *before = listing(f->dir);
    bool seen = sees(f, record);
    __attribute__((cleanup(free_charp))) char *after = listing(f->dir);

    if (strcmp(before, after) != 0)
        print_error("%s became\n%s", before, after);
    return seen && strcmp(before, after) == 0;
}

/* Another process, since SQLite shares locks and maps within one: it stores a record, says so, and
 * goes on holding the catalog open. */
static pid_t hold_open(struct fixture *f, struct record *r)
{
    int ends[2];
    char byte;

    catalog_close(f->c);
    f->c = NULL;
    *r = new_record("app", "nightly");
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        bool adopted;
        struct catalog *c = catalog_open(f->path, &f->err);
        if (c && catalog_record_adopt(c, r, &adopted, &f->err) == 0)
            (void)!write(ends[1], "", 1);
        close(ends[1]);
        for (;;)
            pause();
    }
    close(ends[1]);
    ssize_t n = read(ends[0], &byte, 1);
    close(ends[0]);
    if (n != 1)
        kill(child, SIGKILL);
    assert_int_equal(n, 1);
    return child;
}

/* It dies without closing anything. */
static void end_holder(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void remove_beside(struct fixture *f, const char *suffix)
{
    char path[340];

    snprintf(path, sizeof path, "%s%s", f->path, suffix);
    assert_int_equal(unlink(path), 0);
}

/* ---- the cases ---- */

static void an_open_catalog_is_seen_and_so_is_one_whose_user_died(void **state)
{
    struct fixture *f = *state;
    struct record r, again;
    pid_t holder = hold_open(f, &r);

    if (!look(f, r.ulid))
        kill(holder, SIGKILL);
    assert_true(look(f, r.ulid));
    end_holder(holder);
    assert_true(look(f, r.ulid));
    remove_beside(f, "-shm");
    assert_true(look(f, r.ulid));
    f->c = catalog_open(f->path, &f->err);
    assert_non_null(f->c);
    OK(catalog_record_get(f->c, r.ulid, &again, &f->err));
}

static void a_closed_catalog_is_seen_and_gets_no_wal(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    catalog_close(f->c);
    f->c = NULL;
    assert_true(look(f, r.ulid));
}

static void a_path_is_no_uri(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");
    char odd[320];

    catalog_close(f->c);
    f->c = NULL;
    snprintf(odd, sizeof odd, "%s/a?b=c&d#e%%41 \xc3\xa4.db", f->dir);
    assert_int_equal(rename(f->path, odd), 0);
    snprintf(f->path, sizeof f->path, "%.299s", odd);
    assert_true(look(f, r.ulid));
}

static void nothing_can_be_changed(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly"), other = new_record("app", "nightly");
    bool adopted;

    catalog_close(f->c);
    f->c = catalog_open_look(f->path, &f->err);
    assert_non_null(f->c);
    assert_int_equal(catalog_record_adopt(f->c, &other, &adopted, &f->err), -1);
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    assert_int_equal(catalog_repo_used(f->c, "app", "nightly", "/x", &f->err), -1);
    OK(catalog_record_get(f->c, r.ulid, &other, &f->err));
}

static void assert_not_found(struct fixture *f)
{
    __attribute__((cleanup(free_charp))) char *before = listing(f->dir);

    memset(&f->err, 0, sizeof f->err);
    assert_null(catalog_open_look(f->path, &f->err));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
    __attribute__((cleanup(free_charp))) char *after = listing(f->dir);
    assert_string_equal(before, after);
}

static void no_file_and_an_empty_one_are_no_catalog_yet(void **state)
{
    struct fixture *f = *state;

    catalog_close(f->c);
    f->c = NULL;
    assert_int_equal(unlink(f->path), 0);
    assert_not_found(f);
    int fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_not_found(f);
}

static void refused(struct fixture *f, const char *text)
{
    memset(&f->err, 0, sizeof f->err);
    assert_null(catalog_open_look(f->path, &f->err));
    assert_int_equal(f->err.code, ERR_STATE_UNAVAILABLE);
    MESSAGE_HAS(text);
}

static void garbage_and_another_schema_are_refused(void **state)
{
    struct fixture *f = *state;
    char garbage[4096];

    sql(f, "PRAGMA user_version = 77");
    refused(f, "newer keepfs");
    sql(f, "PRAGMA user_version = -1");
    refused(f, "negative");
    catalog_close(f->c);
    f->c = NULL;
    assert_null(catalog_open(f->path, &f->err));
    MESSAGE_HAS("negative");
    memset(garbage, 'x', sizeof garbage);
    int fd = open(f->path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, garbage, sizeof garbage), 0);
    close(fd);
    refused(f, f->path);
}

static void integrity_names_lost_rows_and_references(void **state)
{
    struct fixture *f = *state;
    int faults = 0;

    stored_record(f, "nightly");
    OK(catalog_repo_used(f->c, "app", "nightly", "/x", &f->err));
    OK(catalog_integrity(f->c, count_fault, &faults, &f->err));
    assert_int_equal(faults, 0);
    sql(f, "PRAGMA foreign_keys = OFF; DELETE FROM repos");
    OK(catalog_integrity(f->c, count_fault, &faults, &f->err));
    assert_int_equal(faults, 1); /* a row of a table without rowid */
    sql(f, "PRAGMA ignore_check_constraints = ON; UPDATE records SET state = 'odd'");
    faults = 0;
    OK(catalog_integrity(f->c, count_fault, &faults, &f->err));
    assert_true(faults >= 1);
}

static void a_row_is_found_in_any_state(void **state)
{
    struct fixture *f = *state;
    static const char *const words[] = {"good", "missing", "deleting"};
    struct record r = stored_record(f, "nightly"), found;
    enum record_state word;

    for (int i = 0; i < 3; i++) {
        char text[64];
        snprintf(text, sizeof text, "UPDATE records SET state = '%s'", words[i]);
        sql(f, text);
        OK(catalog_record_find(f->c, r.ulid, &found, &word, &f->err));
        assert_int_equal(word, RECORD_GOOD + i);
        assert_string_equal(found.sha256, r.sha256);
        assert_string_equal(found.repo, "nightly");
    }
    FAILS(catalog_record_find(f->c, "01ARZ3NDEKTSV4RRFFQ69G5FAV", &found, &word, &f->err),
          ERR_NOT_FOUND, ENOENT);
}

static void see_record(void *ctx, const struct record *r)
{
    buf_addf(ctx, "%s/%s;", r->store, r->repo);
}

static void see_count(void *ctx, const char *store, const char *repo, size_t records)
{
    buf_addf(ctx, "%s/%s %zu;", store, repo, records);
}

static void records_are_listed_and_counted_by_repo(void **state)
{
    struct fixture *f = *state;
    struct buf of_repo = BUF_INIT, counts = BUF_INIT;

    stored_record(f, "near");
    stored_record(f, "near");
    struct record gone = stored_record(f, "near");
    stored_record(f, "far");
    char text[128];
    snprintf(text, sizeof text, "UPDATE records SET state = 'missing' WHERE ulid = '%s'",
             gone.ulid);
    sql(f, text);
    OK(catalog_records_of_repo(f->c, "app", "near", see_record, &of_repo, &f->err));
    assert_string_equal(buf_text(&of_repo), "app/near;app/near;");
    OK(catalog_records_count(f->c, see_count, &counts, &f->err));
    assert_string_equal(buf_text(&counts), "app/far 1;app/near 2;");
    buf_release(&of_repo);
    buf_release(&counts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_open_catalog_is_seen_and_so_is_one_whose_user_died),
        TEST(a_closed_catalog_is_seen_and_gets_no_wal),
        TEST(a_path_is_no_uri),
        TEST(nothing_can_be_changed),
        TEST(no_file_and_an_empty_one_are_no_catalog_yet),
        TEST(garbage_and_another_schema_are_refused),
        TEST(integrity_names_lost_rows_and_references),
        TEST(a_row_is_found_in_any_state),
        TEST(records_are_listed_and_counted_by_repo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
