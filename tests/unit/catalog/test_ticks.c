/* SPDX-License-Identifier: MIT */
/*
 * test_ticks.c - the last tick of a schedule that was handled.
 */
#include "fixture.h"

static time_ms tick(struct fixture *f, const char *store, const char *repo)
{
    time_ms handled = -1;

    OK(catalog_tick_get(f->c, store, repo, &handled, &f->err));
    return handled;
}

static void ticks_are_kept_for_each_repo_and_survive_reopen(void **state)
{
    struct fixture *f = *state;
    int64_t row;

    OK(catalog_repo_row(f->c, "app", "a", &row, &f->err));
    assert_int_equal(tick(f, "app", "a"), 0);
    assert_int_equal(tick(f, "app", "unknown"), 0);
    OK(catalog_tick_set(f->c, "app", "a", NOW, &f->err));
    OK(catalog_tick_set(f->c, "app", "b", NOW + 1, &f->err));
    OK(catalog_tick_set(f->c, "web", "a", NOW + 2, &f->err));
    reopen(f);
    assert_int_equal(tick(f, "app", "a"), NOW);
    assert_int_equal(tick(f, "app", "b"), NOW + 1);
    assert_int_equal(tick(f, "web", "a"), NOW + 2);
    OK(catalog_tick_set(f->c, "app", "a", NOW + 60000, &f->err));
    assert_int_equal(tick(f, "app", "a"), NOW + 60000);
    assert_int_equal(tick(f, "web", "a"), NOW + 2);
    /* Its row is the repo's own. */
    int64_t again;
    OK(catalog_repo_row(f->c, "app", "a", &again, &f->err));
    assert_int_equal(again, row);
}

/* A clock that was wrong and is put right. */
static void tick_may_go_back(void **state)
{
    struct fixture *f = *state;

    OK(catalog_tick_set(f->c, "app", "a", NOW, &f->err));
    OK(catalog_tick_set(f->c, "app", "a", NOW - 60000, &f->err));
    assert_int_equal(tick(f, "app", "a"), NOW - 60000);
}

/* Pages are counted when they are committed. */
static int pages = 0;

static int count_pages(void *ctx, sqlite3 *db, const char *name, int in_wal)
{
    (void)ctx, (void)db, (void)name;
    pages = in_wal;
    return SQLITE_OK;
}

static void setting_a_tick_writes_one_page(void **state)
{
    struct fixture *f = *state;

    OK(catalog_tick_set(f->c, "app", "a", NOW, &f->err));
    sqlite3_wal_hook(f->c->sqlite, count_pages, NULL);
    OK(catalog_tick_set(f->c, "app", "a", NOW + 60000, &f->err));
    int before = pages;
    OK(catalog_tick_set(f->c, "app", "a", NOW + 120000, &f->err));
    assert_int_equal(pages, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ticks_are_kept_for_each_repo_and_survive_reopen),
        TEST(tick_may_go_back),
        TEST(setting_a_tick_writes_one_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
