/* SPDX-License-Identifier: MIT */
/* access.c and stores/ID/run: whose each file is, and what a store's own file takes. */
#include "fs/files.h"
#include "fs/run_file.h"

#include "fixture.h"

#define CONTROL 2001
#define READ    2002
#define RUN     2003

static const struct group_id none;
static const struct group_id run = {true, RUN};

static void expect(const struct access *a, const struct group_id *run_group, mode_t base,
                   mode_t mode, gid_t gid)
{
    struct stat st = {.st_gid = 77};

    access_grant(a, run_group, base, &st);
    assert_int_equal(st.st_mode, mode);
    assert_int_equal(st.st_gid, gid);
}

static void without_groups_the_group_is_anybody(void **state)
{
    const struct access a = {none, none};

    (void)state;
    expect(&a, NULL, S_IFREG | 0444, S_IFREG | 0444, 77);
    expect(&a, NULL, S_IFDIR | 0555, S_IFDIR | 0555, 77);
    expect(&a, NULL, S_IFDIR | 0775, S_IFDIR | 0755, 77);
    expect(&a, NULL, S_IFLNK | 0777, S_IFLNK | 0777, 77);
    expect(&a, NULL, S_IFREG | 0660, S_IFREG | 0600, 77);
    expect(&a, NULL, S_IFREG | 0664, S_IFREG | 0644, 77);
    expect(&a, NULL, S_IFREG | 0220, S_IFREG | 0200, 77);
    expect(&a, NULL, S_IFREG | 0400, S_IFREG | 0400, 77);
    expect(&a, NULL, S_IFREG | 0440, S_IFREG | 0400, 77);
    expect(&a, &none, S_IFREG | 0660, S_IFREG | 0600, 77);
    expect(&a, &run, S_IFREG | 0660, S_IFREG | 0660, RUN);
}

static void each_class_has_its_group(void **state)
{
    const struct access a = {{true, CONTROL}, {true, READ}};

    (void)state;
    expect(&a, NULL, S_IFREG | 0444, S_IFREG | 0444, 77);
    expect(&a, NULL, S_IFDIR | 0555, S_IFDIR | 0555, 77);
    expect(&a, NULL, S_IFLNK | 0777, S_IFLNK | 0777, 77);
    expect(&a, NULL, S_IFDIR | 0775, S_IFDIR | 0775, CONTROL);
    expect(&a, NULL, S_IFREG | 0660, S_IFREG | 0660, CONTROL);
    expect(&a, NULL, S_IFREG | 0664, S_IFREG | 0664, CONTROL);
    expect(&a, NULL, S_IFREG | 0220, S_IFREG | 0220, CONTROL);
    expect(&a, NULL, S_IFREG | 0400, S_IFREG | 0440, READ);
    expect(&a, NULL, S_IFREG | 0440, S_IFREG | 0440, READ);
    expect(&a, &run, S_IFREG | 0660, S_IFREG | 0660, RUN);
    expect(&a, &none, S_IFREG | 0660, S_IFREG | 0660, CONTROL);
}

static void one_group_opens_nothing_of_the_other(void **state)
{
    const struct access control = {{true, CONTROL}, none}, reads = {none, {true, READ}};

    (void)state;
    expect(&control, NULL, S_IFREG | 0400, S_IFREG | 0400, 77);
    expect(&control, NULL, S_IFREG | 0440, S_IFREG | 0400, 77);
    expect(&reads, NULL, S_IFREG | 0660, S_IFREG | 0600, 77);
    expect(&reads, NULL, S_IFDIR | 0775, S_IFDIR | 0755, 77);
}

/* ---- the same, in the tree ---- */

static void expect_file(struct fixture *f, const char *path, mode_t mode, gid_t gid)
{
    struct node_attr a = find(f, "%s", path);

    assert_int_equal(a.st.st_mode & 07777, mode);
    assert_int_equal(a.st.st_gid, gid);
    assert_int_equal(a.st.st_uid, geteuid());
}

static void the_tree_shows_them(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], path[128];

    make_record(f, job, record);
    f->tree.access = (struct access){{true, CONTROL}, {true, READ}};
    f->stores[1].run_group = run;
    expect_file(f, "ctl", 0660, CONTROL);
    expect_file(f, "reload", 0220, CONTROL);
    expect_file(f, "records", 0775, CONTROL);
    expect_file(f, "stores/app/run", 0660, CONTROL);
    expect_file(f, "stores/web/run", 0660, RUN);
    expect_file(f, "stores/web/why", 0444, getegid());
    expect_file(f, "stores", 0555, getegid());
    snprintf(path, sizeof path, "records/%s/payload", record);
    expect_file(f, path, 0440, READ);
    snprintf(path, sizeof path, "records/%s/pinned", record);
    expect_file(f, path, 0664, CONTROL);
    f->tree.access.control = none;
    expect_file(f, "stores/app/run", 0600, getegid());
    expect_file(f, "stores/web/run", 0660, RUN);
}

static void the_tree_has_them_from_the_configuration(void **state)
{
    struct fixture *f = *state;
    struct error err;

    tree_release(&f->tree);
    f->config.control_group = (struct group_id){true, CONTROL};
    f->config.read_group = (struct group_id){true, READ};
    assert_int_equal(tree_init(&f->tree, f->service, &f->clock, &err), 0);
    assert_int_equal(f->tree.access.control.gid, CONTROL);
    assert_int_equal(f->tree.access.read.gid, READ);
}

/* ---- stores/ID/run ---- */

/* What write(2) would say: bytes taken, or minus the errno. */
static int put(struct fixture *f, const char *path, const char *text, char *reply)
{
    struct handle *h = open_as(f, ME, O_RDWR, path);
    size_t taken, got = 0;
    int result = handle_write(h, text, strlen(text), &taken);

    if (reply) {
        assert_int_equal(handle_read(h, reply, 4000, 0, &got), 0);
        reply[got] = '\0';
    }
    handle_close(h);
    return result != 0 ? -result : (int)taken;
}

static struct job job_of(struct fixture *f, const char *reply)
{
    char ulid[ULID_LEN + 1];
    struct error err;
    struct job job;

    snprintf(ulid, sizeof ulid, "%s", reply);
    assert_int_equal(catalog_job_get(f->catalog, ulid, &job, &err), 0);
    return job;
}

static void one_is_all_repos_of_the_store(void **state)
{
    struct fixture *f = *state;
    char reply[4001];

    assert_int_equal(put(f, "stores/app/run", "1 label=by hand\n", reply), 16);
    assert_string_equal(job_of(f, reply).store, "app");
    assert_string_equal(job_of(f, reply).label, "by hand");
    assert_string_equal(job_of(f, reply).requested_by, "uid:1000");
    assert_non_null(strstr(reply, " app/main\n"));
    assert_non_null(strstr(reply, " app/nas\n"));
}

static void it_takes_what_ctl_takes_of_its_own_store(void **state)
{
    struct fixture *f = *state;
    char reply[4001];

    assert_int_equal(put(f, "stores/app/run", "app/nas key=k-1\n", reply), 16);
    assert_string_equal(reply + ULID_LEN, " app/nas\n");
    assert_string_equal(job_of(f, reply).key, "k-1");
    assert_int_equal(put(f, "stores/web/run", "web", reply), 3);
    assert_string_equal(reply + ULID_LEN, " web/main\n");
    assert_int_equal(put(f, "stores/web/run", "1", NULL), -EBUSY);
    assert_int_equal(put(f, "stores/app/run", "\n", NULL), -EINVAL);
    assert_int_equal(put(f, "stores/app/run", "0\n", NULL), -EPERM);
    assert_int_equal(put(f, "stores/app/run", "app/nosuch\n", NULL), -ENOENT);
    assert_last_error(f, ME, "\npath stores/app/run\ninput app/nosuch\n");
}

static void another_store_is_not_its_to_start(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {"web\n", "web/main\n", "nosuch\n", "1/main\n"};
    struct error err;
    struct job job;

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(put(f, "stores/app/run", lines[i], NULL), -EPERM);
        assert_last_error(f, ME, "\nmessage stores/app/run starts backups of app alone, not of ");
        assert_last_error(f, ME, ": write 1 or app/REPO\n");
    }
    assert_int_equal(catalog_job_latest(f->catalog, &job, &err), -1);
}

static void a_store_that_is_called_1_is_that(void **state)
{
    struct run_request q = {.store = "1"};
    struct error err;

    (void)state;
    assert_int_equal(run_file_aim("1", &q, &err), 0);
    assert_string_equal(q.store, "1");
    assert_int_equal(run_file_aim("app", &q, &err), 0);
    assert_string_equal(q.store, "app");
}

static void a_fresh_open_reads_the_grammar_and_its_own_ids(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDONLY, "stores/app/run");
    char text[4001];
    size_t got;

    assert_int_equal(handle_mode(h), HANDLE_STREAM);
    assert_int_equal(handle_read(h, text, 4000, 0, &got), 0);
    text[got] = '\0';
    assert_non_null(strstr(text, "\n1\napp\napp/main\napp/nas\n"));
    assert_null(strstr(text, "web"));
    handle_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups_the_group_is_anybody),
        cmocka_unit_test(each_class_has_its_group),
        cmocka_unit_test(one_group_opens_nothing_of_the_other),
        TREE_TEST(the_tree_shows_them),
        TREE_TEST(the_tree_has_them_from_the_configuration),
        TREE_TEST(one_is_all_repos_of_the_store),
        TREE_TEST(it_takes_what_ctl_takes_of_its_own_store),
        TREE_TEST(another_store_is_not_its_to_start),
        cmocka_unit_test(a_store_that_is_called_1_is_that),
        TREE_TEST(a_fresh_open_reads_the_grammar_and_its_own_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
