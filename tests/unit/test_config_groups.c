/* SPDX-License-Identifier: MIT */
/* test_config_groups.c - control_group, read_group, run_group: names and numbers. */
#include "config_fixture.h"

#include <grp.h>

#define REPO             "[repo app/r]\nkind = cloud\nbucket = b\n"
#define REST(store_keys) "[store app]\nkind = dir\npath = @/app\n" store_keys REPO
#define HEAD             "[keepfs]\nstate = @/s\n"

static void without_a_group_nobody_else_is_let_in(void **state)
{
    (void)state;
    struct config *c = load_good(HEAD REST(""));

    assert_false(c->control_group.set || c->read_group.set || c->stores[0]->run_group.set);
    assert_false(config_shared(c));
    config_free(c);
}

static void a_group_is_a_name_or_a_number(void **state)
{
    (void)state;
    const struct group *daemon = getgrnam("daemon");
    assert_non_null(daemon);
    gid_t gid = daemon->gr_gid;
    struct config *c =
        load_good(HEAD "control_group = daemon\nread_group = 4294967294\n" REST("run_group = 0\n"));

    assert_true(c->control_group.set);
    assert_int_equal(c->control_group.gid, gid);
    assert_true(c->read_group.set);
    assert_int_equal(c->read_group.gid, 4294967294);
    assert_true(c->stores[0]->run_group.set);
    assert_int_equal(c->stores[0]->run_group.gid, 0);
    config_free(c);
}

static void any_of_the_three_shares_the_mount(void **state)
{
    static const char *const texts[] = {HEAD "control_group = 7\n" REST(""),
                                        HEAD "read_group = 7\n" REST(""),
                                        HEAD REST("run_group = 7\n")};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *c = load_good(texts[i]);
        assert_true(config_shared(c));
        config_free(c);
    }
}

static void defaults_give_a_run_group_to_every_store(void **state)
{
    (void)state;
    struct config *c = load_good(HEAD "[defaults]\nrun_group = 7\n" REST(
        "") "[store own]\nkind = dir\npath = @/own\nrun_group = 8\n"
            "[repo own/r]\nkind = cloud\nbucket = c\n");

    assert_int_equal(c->stores[0]->run_group.gid, 7);
    assert_int_equal(c->stores[1]->run_group.gid, 8);
    config_free(c);
}

#define ALLOWED "; allowed: a group's name, or its number\n"

static void a_group_that_there_is_not_is_a_fault_at_its_line(void **state)
{
    (void)state;
    assert_faults(
        HEAD "control_group = no-such-group\nread_group = 4294967295\n" REST("run_group = -1\n"),
        "3: control_group = no-such-group: there is no such group" ALLOWED
        "4: read_group = 4294967295 is out of range" ALLOWED
        "8: run_group = -1: there is no such group" ALLOWED);
    assert_faults(HEAD "read_group = 99999999999999999999\n" REST(""),
                  "3: read_group = 99999999999999999999 is out of range" ALLOWED);
    /* Once, however many stores have it from there. */
    assert_faults(
        HEAD "[defaults]\nrun_group = no-such-group\n" REST(
            "") "[store b]\nkind = dir\npath = @/b\n[repo b/r]\nkind = cloud\nbucket = c\n",
        "4: run_group = no-such-group: there is no such group" ALLOWED);
}

static void groups_are_the_same_by_their_gid(void **state)
{
    (void)state;
    const struct group_id none = {0}, zero = {true, 0}, seven = {true, 7};

    assert_true(group_same(none, (struct group_id){false, 9}));
    assert_true(group_same(seven, seven));
    assert_false(group_same(none, zero));
    assert_false(group_same(zero, seven));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_group_nobody_else_is_let_in),
        TEST(a_group_is_a_name_or_a_number),
        TEST(any_of_the_three_shares_the_mount),
        TEST(defaults_give_a_run_group_to_every_store),
        TEST(a_group_that_there_is_not_is_a_fault_at_its_line),
        TEST(groups_are_the_same_by_their_gid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
