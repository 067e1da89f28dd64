/* SPDX-License-Identifier: MIT */
/*
 * test_config_keys.c - the keys of every store and repo: what they take and what they say of what
 * they do not; and a configuration that several hold.
 */
#include "config_fixture.h"

#define HEAD(store_keys, repo_keys)                                                                \
    "[keepfs]\nstate = /keepfs-test/s\n[store app]\nkind = dir\npath = "                           \
    "/keepfs-test/app\n" store_keys "[repo app/r]\nkind = cloud\nbucket = b\n" repo_keys

/* As load() of the fixture, which would take the "@" of "@daily" for a directory. */
static struct config *load_as_is(const char *text, struct buf *faults)
{
    write_config(text, strlen(text));
    return config_load(file, NULL, faults);
}

static struct config *load_whole(const char *text)
{
    struct buf faults = BUF_INIT;
    struct config *c = load_as_is(text, &faults);

    if (!c)
        fail_msg("refused:\n%s", buf_text(&faults));
    return c;
}

static struct config *load_repo(const char *key, const char *value)
{
    char text[512];

    snprintf(text, sizeof text, HEAD("", "%s = %s\n"), key, value);
    return load_whole(text);
}

static void without_keys_nothing_happens_by_itself(void **state)
{
    (void)state;
    struct config *c = load_whole(HEAD("", ""));
    const struct settings *repo = &c->stores[0]->repos[0]->settings;
    static const char *const zero[] = {"retries",    "keep_count",  "keep_age_days", "keep_hourly",
                                       "keep_daily", "keep_weekly", "keep_monthly",  "keep_yearly"};

    assert_null(settings_text(repo, "schedule"));
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++)
        assert_int_equal(settings_int(repo, zero[i]), 0);
    assert_false(settings_bool(repo, "catch_up"));
    assert_int_equal(settings_int(repo, "jitter"), 300);
    assert_int_equal(settings_int(repo, "retry_delay"), 60);
    assert_string_equal(settings_text(repo, "suspect_ratio"), "0.2");
    assert_null(settings_text(&c->stores[0]->settings, "before"));
    assert_int_equal(settings_int(&c->stores[0]->settings, "hook_timeout"), 300);
    assert_int_equal(settings_int(&c->settings, "job_history"), 30);
    config_free(c);
}

static void schedules_are_cron_s(void **state)
{
    (void)state;
    static const char *const good[] = {"0 2 * * *", "@daily", "@every 6h", "*/15 8-18 * * mon-fri",
                                       "CRON_TZ=Europe/Rome 30 3 1 * *"};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct config *c = load_repo("schedule", good[i]);
        assert_string_equal(settings_text(&c->stores[0]->repos[0]->settings, "schedule"), good[i]);
        config_free(c);
    }
}

/* One line, with its number, the value and where in it the fault is. */
static void expect_schedule_fault(const char *value, const char *part)
{
    char text[512];
    struct buf faults = BUF_INIT;

    snprintf(text, sizeof text, HEAD("", "schedule = %s\n"), value);
    assert_null(load_as_is(text, &faults));
    assert_non_null(strstr(buf_text(&faults), ":9: schedule = "));
    if (!strstr(buf_text(&faults), part))
        fail_msg("no '%s' in: %s", part, buf_text(&faults));
    assert_ptr_equal(strchr(buf_text(&faults), '\n'), buf_text(&faults) + faults.len - 1);
    buf_release(&faults);
}

static void bad_schedules_say_where(void **state)
{
    (void)state;
    expect_schedule_fault("99 * * * *", "column 1");
    expect_schedule_fault("0 0 * 13 *", "column 7");
    expect_schedule_fault("0 0 30 2 *", "column");
    expect_schedule_fault("0 0 * *", "column");
    expect_schedule_fault("CRON_TZ=Mars/Base 0 0 * * *", "column 9");
    expect_schedule_fault("CRON_TZ=UTC", "column");
    expect_schedule_fault("gibberish", "column 1");
}

static void commands_are_absolute_and_whole(void **state)
{
    (void)state;
    struct config *c = load_whole(HEAD("before = /bin/sh -c 'exit 0'\n", ""));

    assert_string_equal(settings_text(&c->stores[0]->settings, "before"), "/bin/sh -c 'exit 0'");
    config_free(c);
    static const char *const bad[] = {"after = sh -c x\n", "before = /bin/sh 'x\n",
                                      "on_failure = /bin/sh \\\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf faults = BUF_INIT;
        char text[512];
        snprintf(text, sizeof text, HEAD("%s", ""), bad[i]);
        assert_null(load_as_is(text, &faults));
        assert_non_null(strstr(buf_text(&faults), ":6: "));
        buf_release(&faults);
    }
}

static void commands_are_taken_only_from_a_file_that_is_ours(void **state)
{
    static const mode_t open_to[] = {0620, 0602, 0666};
    (void)state;

    config_free(load_whole(HEAD("after = /bin/true\n", "")));
    for (size_t i = 0; i < sizeof open_to / sizeof open_to[0]; i++) {
        struct buf faults = BUF_INIT;
        assert_int_equal(chmod(file, open_to[i]), 0);
        assert_null(config_load(file, NULL, &faults));
        assert_non_null(strstr(buf_text(&faults), ":6: after in a file that others can write"));
        buf_release(&faults);
    }
    assert_int_equal(chmod(file, 0644), 0);
    struct buf none = BUF_INIT;
    config_free(config_load(file, NULL, &none));
    assert_int_equal(none.len, 0);
}

static void ratios_are_thousandths(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int permille;
    } rows[] = {{"0", 0},       {"1", 1000}, {"1.000", 1000}, {"0.2", 200}, {"0.25", 250},
                {"0.999", 999}, {"", -1},    {"1.001", -1},   {"0.", -1},   {".5", -1},
                {"-0.1", -1},   {"2", -1},   {"0.1234", -1},  {"0,5", -1},  {"0.2x", -1},
                {"00.2", -1},   {"1e-1", -1}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(config_permille(rows[i].text), rows[i].permille);
}

static void defaults_reach_every_repo(void **state)
{
    (void)state;
    struct config *c =
        load_whole("[defaults]\nkeep_daily = 7\nschedule = @daily\nafter = /bin/true\n" HEAD(
            "", "keep_daily = 3\n"));

    assert_int_equal(settings_int(&c->stores[0]->repos[0]->settings, "keep_daily"), 3);
    assert_string_equal(settings_text(&c->stores[0]->repos[0]->settings, "schedule"), "@daily");
    assert_string_equal(settings_text(&c->stores[0]->settings, "after"), "/bin/true");
    config_free(c);
}

static void who_holds_it_can_read_it(void **state)
{
    (void)state;
    struct config *c = load_whole(HEAD("", ""));

    assert_ptr_equal(config_ref(c), c);
    config_free(c);
    assert_string_equal(c->stores[0]->id, "app");
    config_free(c);
}

/* Two stores of one group by the first configuration, of two by the second. */
static void stores_conflict_across_configurations(void **state)
{
    (void)state;
    struct store a1 = {.id = "a", .group = 0}, b1 = {.id = "b", .group = 0};
    struct store a2 = {.id = "a", .group = 0}, b2 = {.id = "b", .group = 1},
                 x2 = {.id = "x", .group = 2};
    struct store *first[] = {&a1, &b1}, *second[] = {&a2, &b2, &x2};
    struct config c1 = {.stores = first, .store_count = 2};
    struct config c2 = {.stores = second, .store_count = 3};

    assert_true(stores_conflict(&c1, &a1, &c1, &b1));
    assert_false(stores_conflict(&c2, &a2, &c2, &b2));
    assert_true(stores_conflict(&c1, &a1, &c2, &a2));
    assert_true(stores_conflict(&c1, &a1, &c2, &b2));
    assert_true(stores_conflict(&c2, &b2, &c1, &a1));
    assert_false(stores_conflict(&c1, &a1, &c2, &x2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_keys_nothing_happens_by_itself),
        TEST(schedules_are_cron_s),
        TEST(bad_schedules_say_where),
        TEST(commands_are_absolute_and_whole),
        TEST(commands_are_taken_only_from_a_file_that_is_ours),
        TEST(ratios_are_thousandths),
        TEST(defaults_reach_every_repo),
        TEST(who_holds_it_can_read_it),
        TEST(stores_conflict_across_configurations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
