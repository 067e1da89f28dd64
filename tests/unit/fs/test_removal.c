/* SPDX-License-Identifier: MIT */
/* removal.c: unlink and rmdir, as rm, find and others call them; pinned, suspect and review. */
#include "fs/removal.h"

#include "fixture.h"

struct names {
    char list[32][32];
    size_t count;
};

static bool add_name(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    struct names *n = ctx;

    (void)node;
    (void)mode;
    (void)cookie;
    if (name[0] != '.')
        snprintf(n->list[n->count++], sizeof n->list[0], "%s", name);
    return true;
}

static struct names list(struct fixture *f, node_id dir)
{
    struct names n = {.count = 0};

    assert_int_equal(tree_list(&f->tree, dir, 0, add_name, &n), 0);
    return n;
}

static node_id records_node(void)
{
    return node_make(NODE_RECORDS, 0, NODE_FILE_NONE);
}

static int unlink_in(struct fixture *f, node_id dir, const char *name)
{
    char shell[ULID_LEN + 1];

    return tree_unlink(&f->tree, dir, name, ME, 0, shell);
}

static int rmdir_record(struct fixture *f, const char *record)
{
    return tree_rmdir(&f->tree, records_node(), record, ME, 0);
}

/* Neither the catalog nor a listing has it. */
static void assert_deleted(struct fixture *f, const char *record)
{
    struct names n = list(f, records_node());
    struct record r;
    struct error err;

    for (size_t i = 0; i < n.count; i++)
        assert_string_not_equal(n.list[i], record);
    assert_int_equal(catalog_record_get(f->catalog, record, &r, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void assert_listed(struct fixture *f, const char *record)
{
    struct record r;
    struct error err;

    assert_int_equal(catalog_record_get(f->catalog, record, &r, &err), 0);
}

static int write_in(struct fixture *f, const char *record, const char *name, const char *text)
{
    __attribute__((cleanup(free_charp))) char *path = xasprintf("records/%s/%s", record, name);
    struct handle *h = open_as(f, ME, O_WRONLY, path);
    size_t taken;
    int result = handle_write(h, text, strlen(text), &taken);

    assert_int_equal(taken, result == 0 ? strlen(text) : 0);
    handle_close(h);
    return result;
}

/* ---- deleting ---- */

static void rmdir_deletes_once(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];
    struct node_attr a;

    make_record(f, job, record);
    node_id dir = find(f, "records/%s", record).node;
    assert_int_equal(rmdir_record(f, record), 0);
    assert_deleted(f, record);
    assert_last_error(f, ME, "ok\n");
    assert_int_equal(tree_lookup(&f->tree, records_node(), record, ME, &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, dir, ME, &a), ENOENT);
    assert_int_equal(rmdir_record(f, record), ENOENT);
    assert_int_equal(rmdir_record(f, "nothing"), ENOENT);
}

/* All requests of rm, even if the kernel forgets each answer at once. */
static void rm_r_removes_what_it_has_listed_and_then_the_directory(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], shell[ULID_LEN + 1];
    struct node_attr a;

    make_record(f, job, record);
    node_id dir = find(f, "records/%s", record).node;
    struct names n = list(f, dir);
    assert_true(n.count > 10);
    assert_string_equal(n.list[0], "payload");
    for (size_t i = 0; i < n.count; i++) {
        assert_int_equal(tree_attr(&f->tree, dir, ME, &a), 0);
        assert_int_equal(tree_lookup(&f->tree, dir, n.list[i], ME, &a), 0);
        assert_int_equal(tree_attr(&f->tree, a.node, ME, &a), 0);
        assert_int_equal(tree_unlink(&f->tree, dir, n.list[i], ME, 0, shell), 0);
        assert_string_equal(shell, i == 0 ? record : "");
        assert_deleted(f, record);
    }
    assert_int_equal(list(f, dir).count, 0);
    assert_int_equal(tree_lookup(&f->tree, records_node(), record, ME, &a), 0);
    assert_false(a.final);
    assert_int_equal(rmdir_record(f, record), 0);
    assert_int_equal(tree_lookup(&f->tree, records_node(), record, ME, &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, dir, ME, &a), ENOENT);
    assert_int_equal(unlink_in(f, dir, "store"), ENOENT);
    assert_int_equal(rmdir_record(f, record), ENOENT);
}

static void without_its_payload_a_record_is_an_empty_shell_for_a_minute(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];
    struct node_attr a;
    struct handle *h;

    make_record(f, job, record);
    node_id dir = find(f, "records/%s", record).node;
    node_id payload = find(f, "records/%s/payload", record).node;
    node_id store = find(f, "records/%s/store", record).node;
    assert_int_equal(unlink_in(f, dir, "payload"), 0);
    assert_int_equal(unlink_in(f, dir, "payload"), ENOENT);
    assert_int_equal(tree_lookup(&f->tree, dir, "payload", ME, &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, payload, ME, &a), ENOENT);
    assert_int_equal(unlink_in(f, dir, "nothing"), ENOENT);
    assert_int_equal(unlink_in(f, dir, "payload_ids"), ENOENT);
    assert_int_equal(handle_open(&f->tree, store, O_RDONLY, ME, &h), ENOENT);
    assert_int_equal(tree_attr(&f->tree, dir, ME, &a), 0);
    f->now += LEAVING_MS;
    assert_int_equal(tree_attr(&f->tree, dir, ME, &a), ENOENT);
    assert_int_equal(tree_lookup(&f->tree, records_node(), record, ME, &a), ENOENT);
    assert_int_equal(rmdir_record(f, record), ENOENT);
}

static void more_shells_than_can_be_kept_lose_the_oldest(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], records[LEAVING_MAX + 1][ULID_LEN + 1];
    struct node_attr a;

    for (size_t i = 0; i <= LEAVING_MAX; i++) {
        make_record(f, job, records[i]);
        assert_int_equal(unlink_in(f, find(f, "records/%s", records[i]).node, "payload"), 0);
    }
    assert_int_equal(tree_lookup(&f->tree, records_node(), records[0], ME, &a), ENOENT);
    for (size_t i = 1; i <= LEAVING_MAX; i++)
        assert_int_equal(rmdir_record(f, records[i]), 0);
}

/* ---- refusing ---- */

static void any_other_name_of_a_live_record_stays(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];

    make_record(f, job, record);
    node_id dir = find(f, "records/%s", record).node;
    struct names n = list(f, dir);
    for (size_t i = 1; i < n.count; i++)
        assert_int_equal(unlink_in(f, dir, n.list[i]), EPERM);
    assert_last_error(f, ME, "errno EPERM\n");
    assert_last_error(f, ME, "rmdir records/");
    assert_int_equal(unlink_in(f, dir, "nothing"), ENOENT);
    assert_int_equal(unlink_in(f, dir, "payload_ids"), ENOENT);
    assert_listed(f, record);
}

static void a_pinned_record_stays_and_says_why(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];

    make_record(f, job, record);
    node_id dir = find(f, "records/%s", record).node;
    assert_int_equal(write_in(f, record, "pinned", "1\n"), 0);
    struct names n = list(f, dir);
    for (size_t i = 0; i < n.count; i++) {
        assert_int_equal(unlink_in(f, dir, n.list[i]), EPERM);
        assert_last_error(f, ME, "errno EPERM\n");
        assert_last_error(f, ME, "is pinned");
        assert_last_error(f, ME, n.list[i]);
    }
    assert_int_equal(rmdir_record(f, record), EPERM);
    assert_last_error(f, ME, "is pinned");
    assert_listed(f, record);
    assert_int_equal(list(f, dir).count, n.count);
    assert_int_equal(write_in(f, record, "pinned", "0"), 0);
    assert_int_equal(unlink_in(f, dir, "payload"), 0);
    assert_last_error(f, ME, "ok\n");
    assert_deleted(f, record);
}

static void nothing_but_records_can_be_removed(void **state)
{
    struct fixture *f = *state;
    struct job job = insert_job(f, "");
    static const char *const dirs[] = {
        "", "jobs", "stores", "stores/app", "stores/app/repos/main", "records"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        node_id dir = find(f, "%s", dirs[i]).node;
        assert_int_equal(unlink_in(f, dir, "README"), EPERM);
        if (i < 5)
            assert_int_equal(tree_rmdir(&f->tree, dir, job.ulid, ME, 0), EPERM);
    }
    node_id dir = find(f, "jobs/%s", job.ulid).node;
    assert_int_equal(unlink_in(f, dir, "log"), EPERM);
    assert_int_equal(tree_rmdir(&f->tree, dir, "log", ME, 0), EPERM);
    assert_int_equal(unlink_in(f, find(f, "README").node, "x"), EPERM);
}

/* ---- what is open stays ---- */

static void an_open_payload_is_what_it_was(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], text[32];
    struct node_attr before, after;
    size_t got;

    make_record(f, job, record);
    before = find(f, "records/%s/payload", record);
    __attribute__((cleanup(free_charp))) char *path = xasprintf("records/%s/payload", record);
    assert_int_equal(handle_attr(&f->tree, before.node, &after), ENOENT);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(rmdir_record(f, record), 0);
    assert_int_equal(tree_attr(&f->tree, before.node, ME, &after), ENOENT);
    assert_int_equal(handle_attr(&f->tree, before.node, &after), 0);
    assert_memory_equal(&before.st, &after.st, sizeof before.st);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), 0);
    assert_int_equal(got, strlen(memory.payload));
    handle_close(h);
    assert_int_equal(handle_attr(&f->tree, before.node, &after), ENOENT);
}

/* ---- pinned, suspect, review ---- */

static void pinned_is_read_and_written(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], text[8] = "";
    static const char *const wrong[] = {"", "\n", "2", "yes\n", "1\n0\n", "10", "0 "};
    size_t got;

    make_record(f, job, record);
    struct node_attr a = find(f, "records/%s/pinned", record);
    assert_int_equal(a.st.st_mode, S_IFREG | 0644);
    assert_int_equal(a.st.st_size, 2);
    assert_true(handle_accepts_truncate(a.node));
    assert_text(f, "0\n", "records/%s/pinned", record);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(write_in(f, record, "pinned", wrong[i]), EINVAL);
    assert_last_error(f, ME, "pinned\ninput 0 \nmessage write 1 to keep");
    assert_text(f, "0\n", "records/%s/pinned", record);
    __attribute__((cleanup(free_charp))) char *path = xasprintf("records/%s/pinned", record);
    struct handle *h = open_as(f, ME, O_RDWR, path);
    assert_int_equal(handle_mode(h), HANDLE_DIRECT);
    assert_int_equal(handle_write(h, "1", 1, &got), 0);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), 0);
    assert_string_equal(text, "1\n");
    handle_close(h);
    assert_last_error(f, ME, "ok\n");
    assert_text(f, "1\n", "records/%s/pinned", record);
    assert_int_equal(write_in(f, record, "pinned", "0\n"), 0);
    assert_text(f, "0\n", "records/%s/pinned", record);
    h = open_as(f, ME, O_WRONLY, path);
    assert_int_equal(rmdir_record(f, record), 0);
    assert_int_equal(handle_write(h, "1", 1, &got), ENOENT);
    handle_close(h);
}

static void a_review_ends_the_suspicion(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];
    struct error err;

    make_record(f, job, record);
    assert_text(f, "no\n", "records/%s/suspect", record);
    assert_int_equal(catalog_record_mark_suspect(f->catalog, record, true, &err), 0);
    assert_text(f, "yes\n", "records/%s/suspect", record);
    struct node_attr a = find(f, "records/%s/review", record);
    assert_int_equal(a.st.st_mode, S_IFREG | 0200);
    assert_int_equal(a.st.st_size, 0);
    assert_int_equal(write_in(f, record, "review", "0\n"), EINVAL);
    assert_last_error(f, ME, "message write 1 to confirm");
    assert_text(f, "yes\n", "records/%s/suspect", record);
    assert_int_equal(write_in(f, record, "review", "1\n"), 0);
    assert_text(f, "no\n", "records/%s/suspect", record);
}

static void reload_is_a_switch_of_the_root(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "reload");
    size_t taken;

    assert_int_equal(find(f, "reload").st.st_mode, S_IFREG | 0200);
    assert_int_equal(handle_mode(h), HANDLE_STREAM);
    assert_int_equal(handle_write(h, "0\n", 2, &taken), EINVAL);
    assert_last_error(f, ME, "path reload\n");
    assert_last_error(f, ME, "message write 1 to read the configuration again");
    handle_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(rmdir_deletes_once),
        TREE_TEST(rm_r_removes_what_it_has_listed_and_then_the_directory),
        TREE_TEST(without_its_payload_a_record_is_an_empty_shell_for_a_minute),
        TREE_TEST(more_shells_than_can_be_kept_lose_the_oldest),
        TREE_TEST(any_other_name_of_a_live_record_stays),
        TREE_TEST(a_pinned_record_stays_and_says_why),
        TREE_TEST(nothing_but_records_can_be_removed),
        TREE_TEST(an_open_payload_is_what_it_was),
        TREE_TEST(pinned_is_read_and_written),
        TREE_TEST(a_review_ends_the_suspicion),
        TREE_TEST(reload_is_a_switch_of_the_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
