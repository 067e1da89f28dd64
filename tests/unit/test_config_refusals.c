/* SPDX-License-Identifier: MIT */
/*
 * test_config_refusals.c - a configuration that cannot be read to its end, more that is wrong than
 * anybody reads, and where a key may lie.
 */
#include "config_fixture.h"

#define APART   "mount point, state, sources and repos apart from each other\n"
#define OUTSIDE "a key outside of the mount point and of all repos\n"

/* A store at line 1 with its source at line 3, and its repo at line 4 with a key at line 7. */
#define STORE(source, repo, key)                                                                   \
    "[store a]\nkind = dir\npath = " source "\n[repo a/r]\nkind = disk\npath = " repo              \
    "\nencryption_key = file:" key "\nkeep = 1\n"

/* ---- reading ---- */

/* This process's memory is a file, of which nothing can be read at its beginning. */
static void a_file_that_cannot_be_read_to_its_end_is_no_configuration(void **state)
{
    struct buf faults = BUF_INIT;

    (void)state;
    assert_null(config_load("/proc/self/mem", NULL, &faults));
    assert_string_equal(buf_text(&faults), "/proc/self/mem: cannot be read: Input/output error\n");
    buf_release(&faults);
}

static void an_id_longer_than_there_is_room_for_is_refused(void **state)
{
    char id[LIMIT_ID + 2], text[256];
    struct buf faults = BUF_INIT;

    (void)state;
    memset(id, 'x', sizeof id);
    id[LIMIT_ID + 1] = '\0';
    snprintf(text, sizeof text, "[store %s]\nkind = pipe\ncommand = x\n", id);
    assert_null(load(text, "@/mnt", &faults));
    assert_non_null(strstr(buf_text(&faults), "keepfs.conf:1: bad id in [store xxx"));
    buf_release(&faults);
}

/* ---- many faults ---- */

static void pairs_of_places_that_meet_are_told_up_to_the_ceiling_and_then_counted(void **state)
{
    enum { REPOS = 150, PAIRS = REPOS * (REPOS - 1) / 2 };
    struct buf text = BUF_INIT, faults = BUF_INIT;
    char last[128];

    (void)state;
    for (int i = 0; i < REPOS; i++)
        buf_addf(&text,
                 "[store s%d]\nkind = dir\npath = @/s%d\n"
                 "[repo s%d/r]\nkind = disk\npath = @/r\nkeep = 1\n",
                 i, i, i);
    assert_null(load(buf_text(&text), "@/mnt", &faults));
    snprintf(last, sizeof last, "%d more faults; required: correct those above first\n",
             PAIRS - 10000);
    assert_non_null(strstr(buf_text(&faults), last));
    buf_release(&faults);
    buf_release(&text);
}

/* ---- where a key may lie ---- */

static void a_key_may_lie_in_a_source_or_in_the_state(void **state)
{
    (void)state;
    config_free(load_good("[keepfs]\nstate = @/state\n" STORE("@/data", "@/r", "@/data/key")));
    config_free(load_good("[keepfs]\nstate = @/state\n" STORE("@/data", "@/r", "@/state/key")));
}

static void a_key_may_not_lie_in_the_mount_or_in_a_repo(void **state)
{
    (void)state;
    assert_faults(STORE("@/data", "@/r", "@/mnt/key"),
                  "7: a key of repo a/r (@/mnt/key) lies inside the mount point (@/mnt); "
                  "allowed: " OUTSIDE);
    assert_faults(STORE("@/data", "@/r", "@/r/key"),
                  "7: a key of repo a/r (@/r/key) lies inside repo a/r (@/r, line 6); "
                  "allowed: " OUTSIDE);
    assert_faults(STORE("@/data", "@/k/r", "@/k"),
                  "7: a key of repo a/r (@/k) contains repo a/r (@/k/r, line 6); "
                  "allowed: " OUTSIDE);
}

/* ---- the state directory ---- */

static struct config *load_as_user(struct buf *faults)
{
    uid_t me = geteuid();

    write_config("", 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(file, 0644), 0);
    if (me == 0)
        assert_int_equal(seteuid(65534), 0);
    struct config *c = config_load(file, NULL, faults);
    assert_int_equal(seteuid(me), 0);
    return c;
}

static void without_a_home_a_user_must_say_where_the_state_is(void **state)
{
    struct buf faults = BUF_INIT;

    (void)state;
    unsetenv("HOME");
    assert_null(load_as_user(&faults));
    assert_non_null(strstr(buf_text(&faults), "no place for the state"));
    buf_release(&faults);
}

static void a_home_that_goes_up_is_no_place_for_the_state(void **state)
{
    struct buf faults = BUF_INIT;

    (void)state;
    setenv("HOME", "/home/../elsewhere", 1);
    assert_null(load_as_user(&faults));
    assert_non_null(strstr(buf_text(&faults), "/home/../elsewhere"));
    assert_non_null(strstr(buf_text(&faults), "has a \"..\" in it"));
    buf_release(&faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_that_cannot_be_read_to_its_end_is_no_configuration),
        TEST(an_id_longer_than_there_is_room_for_is_refused),
        TEST(pairs_of_places_that_meet_are_told_up_to_the_ceiling_and_then_counted),
        TEST(a_key_may_lie_in_a_source_or_in_the_state),
        TEST(a_key_may_not_lie_in_the_mount_or_in_a_repo),
        TEST(without_a_home_a_user_must_say_where_the_state_is),
        TEST(a_home_that_goes_up_is_no_place_for_the_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
