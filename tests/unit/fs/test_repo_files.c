/* SPDX-License-Identifier: MIT */
/* files.c: what stores and repos say of themselves. */
#include "fixture.h"

static void a_repo_says_where_it_is(void **state)
{
    struct fixture *f = *state;

    assert_text(f, "memory\n", "stores/app/repos/nas/kind");
    assert_text(f, "/backups/here\n", "stores/app/repos/nas/location");
    assert_int_not_equal(find(f, "stores/app/repos/main").node,
                         find(f, "stores/web/repos/main").node);
}

static void expect_policy(struct fixture *f, const char *encrypted, const char *compression)
{
    assert_text(f, encrypted, "stores/app/repos/main/encrypted");
    assert_text(f, compression, "stores/app/repos/main/compression");
    settings_release(&f->repos[0].settings);
}

static void a_repo_says_how_its_next_archive_will_be_made(void **state)
{
    struct fixture *f = *state;
    struct repo *main_repo = &f->repos[0];

    expect_policy(f, "no\n", "zstd:3\n");
    repo_says(main_repo, "compression", "none");
    expect_policy(f, "no\n", "none\n");
    repo_says(main_repo, "compression", "zstd:-7");
    repo_says(main_repo, "encryption_key", "env:KEY");
    expect_policy(f, "yes\n", "zstd:-7\n");
    repo_says(main_repo, "format", "v1");
    repo_says(main_repo, "encryption_key", "file:/etc/keepfs/key");
    expect_policy(f, "yes\n", "none\n"); /* v1 knows no compression */
    repo_says(main_repo, "encryption_key", "none");
    repo_says(main_repo, "old_keys", "env:KEY");
    expect_policy(f, "no\n", "zstd:3\n"); /* old keys are for reading */
    assert_text(f, "zstd:3\n", "stores/app/repos/nas/compression");
}

static void a_repo_shows_its_settings_under_the_names_of_their_keys(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *key, *unset, *value;
    } keys[] = {
        {"schedule", "", "@every 6h"}, {"jitter", "300", "0"},       {"catch_up", "no", "yes"},
        {"keep_count", "0", "7"},      {"keep_age_days", "0", "30"}, {"keep_hourly", "0", "24"},
        {"keep_daily", "0", "8"},      {"keep_weekly", "0", "4"},    {"keep_monthly", "0", "12"},
        {"keep_yearly", "0", "3"},
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        for (int set = 0; set < 2; set++) {
            char line[32];
            snprintf(line, sizeof line, "%s\n", set ? keys[i].value : keys[i].unset);
            if (set)
                repo_says(&f->repos[0], keys[i].key, keys[i].value);
            assert_text(f, line, "stores/app/repos/main/%s", keys[i].key);
            struct node_attr a = find(f, "stores/app/repos/main/%s", keys[i].key);
            assert_int_equal(a.st.st_size, strlen(line));
            assert_int_equal(a.st.st_mode, S_IFREG | 0444);
        }
    assert_text(f, "0\n", "stores/app/repos/nas/keep_count");
}

static void without_a_schedule_there_is_no_next_run(void **state)
{
    struct fixture *f = *state;

    assert_text(f, "\n", "stores/app/next_run");
    assert_text(f, "\n", "stores/app/repos/main/next_run");
}

static void a_store_says_why_on_one_line(void **state)
{
    struct fixture *f = *state;
    struct buf why = BUF_INIT;

    service_why(f->service, "app", &why);
    assert_true(why.len > 0);
    buf_adds(&why, "\n");
    assert_text(f, why.data, "stores/app/why");
    buf_release(&why);
}

static void a_repos_retention_is_that_of_the_service(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];
    struct buf expected = BUF_INIT;
    struct error err;

    repo_says(&f->repos[0], "keep_count", "1");
    make_record(f, job, record);
    assert_int_equal(service_retention(f->service, &f->repos[0], &expected, &err), 0);
    assert_non_null(strstr(expected.data, record));
    assert_text(f, expected.data, "stores/app/repos/main/retention");
    assert_int_equal(find(f, "stores/app/repos/main/retention").st.st_size, expected.len);
    buf_release(&expected);
}

/* ---- another configuration ---- */

static unsigned holders(struct fixture *f)
{
    return f->config.others;
}

static void nothing_keeps_a_configuration_but_what_is_loaded(void **state)
{
    struct fixture *f = *state;
    unsigned before = holders(f);
    struct node_attr a;
    node_id repo = find(f, "stores/app/repos/main").node;

    assert_int_equal(holders(f), before);
    {
        SUBJECT(s);
        assert_int_equal(subject_load(&f->tree, repo, ME, &s), 0);
        assert_ptr_equal(s.config, &f->config);
        assert_int_equal(holders(f), before + 1);
    }
    assert_int_equal(holders(f), before);
    {
        SUBJECT(s);
        assert_int_equal(subject_load(&f->tree, node_make(NODE_REPO, 77, 0), ME, &s), ENOENT);
    }
    assert_int_equal(walk(f, "stores/app/nothing", &a), ENOENT);
    assert_text(f, "memory\n", "stores/app/repos/main/kind");
    assert_int_equal(open_errno(f, "stores/app/kind", O_WRONLY), EACCES);
    assert_int_equal(holders(f), before);
}

static bool count_names(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    (void)name;
    (void)node;
    (void)mode;
    (void)cookie;
    ++*(int *)ctx;
    return true;
}

static int names_in(struct fixture *f, const char *dir)
{
    int count = 0;

    assert_int_equal(tree_list(&f->tree, find(f, "%s", dir).node, 0, count_names, &count), 0);
    return count - 2;
}

static void a_store_or_repo_is_there_while_the_configuration_has_it(void **state)
{
    struct fixture *f = *state;
    struct node_attr store = find(f, "stores/web"), file = find(f, "stores/web/kind"),
                     repo = find(f, "stores/app/repos/nas"), a;

    assert_int_equal(names_in(f, "stores"), 2);
    assert_int_equal(names_in(f, "stores/app/repos"), 2);
    f->config.store_count = 1;
    f->stores[0].repo_count = 1;
    assert_int_equal(names_in(f, "stores"), 1);
    assert_int_equal(names_in(f, "stores/app/repos"), 1);
    assert_int_equal(walk(f, "stores/web", &a), ENOENT);
    assert_int_equal(walk(f, "stores/app/repos/nas", &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, store.node, ME, &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, file.node, ME, &a), ENOENT);
    assert_int_equal(tree_attr(&f->tree, repo.node, ME, &a), ENOENT);
    f->config.store_count = 2;
    f->stores[0].repo_count = 2;
    assert_int_equal(find(f, "stores/web").node, store.node);
    assert_int_equal(find(f, "stores/app/repos/nas").node, repo.node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(a_repo_says_where_it_is),
        TREE_TEST(a_repo_says_how_its_next_archive_will_be_made),
        TREE_TEST(a_repo_shows_its_settings_under_the_names_of_their_keys),
        TREE_TEST(without_a_schedule_there_is_no_next_run),
        TREE_TEST(a_store_says_why_on_one_line),
        TREE_TEST(a_repos_retention_is_that_of_the_service),
        TREE_TEST(nothing_keeps_a_configuration_but_what_is_loaded),
        TREE_TEST(a_store_or_repo_is_there_while_the_configuration_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
