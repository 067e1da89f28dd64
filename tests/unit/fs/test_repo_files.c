/* SPDX-License-Identifier: MIT */
/* files.c: what a repo says of itself. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(a_repo_says_where_it_is),
        TREE_TEST(a_repo_says_how_its_next_archive_will_be_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
