/* SPDX-License-Identifier: MIT */
/*
 * test_config_overlap.c - which places may not lie in one another, and which sources take turns.
 */
#include "config_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define APART "mount point, state, sources and repos apart from each other\n"
#define OWN   "a place for each repo, apart from all others\n"

/* A store with its source at line 3 and its repo at line 6. */
#define STORE(id, source, repo)                                                                    \
    "[store " id "]\nkind = dir\npath = " source "\n[repo " id "/r]\nkind = disk\npath = " repo    \
    "\nkeep = 1\n"
#define STATE(path) "[keepfs]\nstate = " path "\n"

static void two_repos_on_one_place_are_refused_through_symlinks(void **state)
{
    (void)state;
    make_dir("@/real");
    make_symlink("@/real", "@/link");
    assert_faults(STATE("@/state") STORE("a", "@/a", "@/real/x") STORE("b", "@/b", "@/link//x/"),
                  "15: repo b/r (@/real/x) is the same place as repo a/r (@/real/x, line 8); "
                  "allowed: " OWN);
}

static void nested_repos_are_refused(void **state)
{
    (void)state;
    assert_faults(STATE("@/state") STORE("a", "@/a", "@/r/x") STORE("b", "@/b", "@/r"),
                  "15: repo b/r (@/r) contains repo a/r (@/r/x, line 8); allowed: " OWN);
    assert_faults(STATE("@/state") STORE("a", "@/a", "@/r") STORE("b", "@/b", "@/r/x/y"),
                  "15: repo b/r (@/r/x/y) lies inside repo a/r (@/r, line 8); allowed: " OWN);
    config_free(load_good(STORE("a", "@/a", "@/r") STORE("b", "@/b", "@/rx")));
}

static void repos_of_other_than_paths_are_compared_as_words_of_their_kind(void **state)
{
    (void)state;
#define CLOUD(id, kind, bucket)                                                                    \
    "[store " id "]\nkind = pipe\ncommand = x\n[repo " id "/r]\nkind = " kind "\nbucket = " bucket \
    "\n"
    assert_faults(CLOUD("a", "cloud", "/b") CLOUD("b", "mist", "/b") CLOUD("c", "cloud", "/b"),
                  "16: repo c/r (/b) is the same place as repo a/r (/b, line 4); allowed: " OWN);
    config_free(load_good(CLOUD("a", "cloud", "/") CLOUD("b", "cloud", "/b")
                              CLOUD("c", "cloud", "@/mnt/x")));
#undef CLOUD
}

static void source_and_repo_overlaps_are_refused(void **state)
{
    (void)state;
    assert_faults(STATE("@/state") STORE("a", "@/data", "@/data/backup"),
                  "8: repo a/r (@/data/backup) lies inside the source of store a (@/data, line 5); "
                  "allowed: " APART);
    assert_faults(STATE("@/state") STORE("a", "@/all/data", "@/all"),
                  "8: repo a/r (@/all) contains the source of store a (@/all/data, line 5); "
                  "allowed: " APART);
    assert_faults(STATE("@/state") STORE("a", "@/data", "@/ra") STORE("b", "@/ra", "@/rb"),
                  "12: the source of store b (@/ra) is the same place as repo a/r (@/ra, line 8); "
                  "allowed: " APART);
}

static void a_source_at_the_root_contains_everything(void **state)
{
    (void)state;
    assert_faults(STORE("a", "/", "@/r") STATE("@/s"),
                  "3: the source of store a (/) contains the mount point (@/mnt); allowed: " APART
                  "6: repo a/r (@/r) lies inside the source of store a (/, line 3); allowed: " APART
                  "9: the state directory (@/s) lies inside the source of store a (/, line 3); "
                  "allowed: " APART);
}

static void state_overlaps_are_refused(void **state)
{
    (void)state;
    assert_faults(STATE("@/s") STORE("a", "@/s/data", "@/r"),
                  "5: the source of store a (@/s/data) lies inside the state directory (@/s, line "
                  "2); allowed: " APART);
    assert_faults(STATE("@/data/s") STORE("a", "@/data", "@/r"),
                  "5: the source of store a (@/data) contains the state directory (@/data/s, line "
                  "2); allowed: " APART);
    assert_faults(STATE("@/s") STORE("a", "@/data", "@/s"),
                  "8: repo a/r (@/s) is the same place as the state directory (@/s, line 2); "
                  "allowed: " APART);
    assert_faults(
        STORE("a", "@/data", "@/r") STATE("@/r/s"),
        "9: the state directory (@/r/s) lies inside repo a/r (@/r, line 6); allowed: " APART);
}

static void mount_overlaps_are_refused(void **state)
{
    (void)state;
    assert_faults(
        STATE("@/mnt/s") STORE("a", "@/a", "@/mnt/r"),
        "2: the state directory (@/mnt/s) lies inside the mount point (@/mnt); allowed: " APART
        "8: repo a/r (@/mnt/r) lies inside the mount point (@/mnt); allowed: " APART);
    assert_faults(STATE("@/s") STORE("a", "@/mnt", "@/r"),
                  "5: the source of store a (@/mnt) is the same place as the mount point (@/mnt); "
                  "allowed: " APART);
    assert_faults_at("@/data/mnt", STATE("@/s") STORE("a", "@/data", "@/r"),
                     "5: the source of store a (@/data) contains the mount point (@/data/mnt); "
                     "allowed: " APART);
}

static void without_a_mount_point_it_takes_no_part(void **state)
{
    (void)state;
    struct buf faults = BUF_INIT;
    struct config *c = load(STATE("@/s") STORE("a", "@/mnt", "@/r"), NULL, &faults);

    assert_non_null(c);
    config_free(c);
    buf_release(&faults);
}

/* The state directory when [keepfs] does not name it. */
static char *default_state(void)
{
    struct config *c = load_good("");
    char *state = xstrdup(c->state);

    config_free(c);
    return state;
}

static void two_places_that_the_file_does_not_give_are_told_once_without_a_line(void **state)
{
    (void)state;
    struct buf wanted = BUF_INIT;
    char *unsaid = default_state();

    buf_addf(&wanted,
             " the state directory (%s) is the same place as the mount point (%s); allowed: " APART,
             unsaid, unsaid);
    assert_faults_at(unsaid, "", buf_text(&wanted));
    buf_release(&wanted);
    free(unsaid);
}

static void a_bad_state_is_not_replaced_by_the_default(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    char *unsaid = default_state();

    buf_addf(&text, STATE("here") STORE("a", "%s", "@/r"), unsaid);
    assert_faults(buf_text(&text),
                  "2: state = here is not absolute; allowed: an absolute path without \"..\"\n");
    buf_release(&text);
    free(unsaid);
}

static void the_configuration_may_lie_in_a_source(void **state)
{
    (void)state;
    make_dir("@/etc");
    snprintf(file, sizeof file, "%s/etc/keepfs.conf", dir);
    config_free(load_good(STATE("@/s") STORE("etc", "@/etc", "@/r")));
}

static void a_file_and_its_siblings_do_not_overlap_but_its_directory_does(void **state)
{
    (void)state;
    make_dir("@/db");
    make_file("@/db/app.db");
    config_free(load_good(STATE("@/db/state") STORE("a", "@/db/app.db", "@/db/repo")));
    config_free(load_good(STATE("@/s") STORE("a", "@/db/app.db", "@/db/app.db-old")));
    assert_faults(STATE("@/s") STORE("a", "@/db/app.db", "@/db"),
                  "8: repo a/r (@/db) contains the source of store a (@/db/app.db, line 5); "
                  "allowed: " APART);
    assert_faults(STATE("@/db") STORE("a", "@/db/app.db", "@/r"),
                  "5: the source of store a (@/db/app.db) lies inside the state directory (@/db, "
                  "line 2); allowed: " APART);
    assert_faults(STATE("@/s") STORE("a", "@/db/app.db", "@/db/app.db"),
                  "8: repo a/r (@/db/app.db) is the same place as the source of store a "
                  "(@/db/app.db, line 5); allowed: " APART);
    assert_faults(STATE("@/s") STORE("a", "@/db/app.db", "@/db/app.db-wal"),
                  "8: repo a/r (@/db/app.db-wal) is the same place as a journal of store a "
                  "(@/db/app.db-wal, line 5); allowed: " APART);
}

static void names_like_journals_beside_a_directory_are_free(void **state)
{
    (void)state;
    make_dir("@/data");
    config_free(load_good(STATE("@/s") STORE("a", "@/data", "@/data-journal")));
}

static void places_that_cannot_be_resolved_are_refused(void **state)
{
    (void)state;
    make_symlink("@/loop", "@/loop");
    make_file("@/plain");
    assert_faults(
        STATE("@/loop/s") STORE("a", "@/loop", "@/plain/r"),
        "2: the state directory @/loop/s cannot be resolved: Too many levels of symbolic links; "
        "allowed: a path whose existing part can be searched\n"
        "5: the place of [store a] cannot be resolved: Too many levels of symbolic links; "
        "allowed: a path whose existing part can be searched\n"
        "8: the place of [repo a/r] cannot be resolved: Not a directory; allowed: a path whose "
        "existing part can be searched\n");
}

static void other_faults_do_not_hide_overlaps(void **state)
{
    (void)state;
    assert_faults(
        "[keepfs]\nmax_jobs = 0\nstate = @/d/s\n"
        "[store a]\nkind = dir\nlevel = 0\npath = @/d\n"
        "[repo a/r]\nkind = disk\nkeep = 1\nkeep = 2\npath = @/d/r\n",
        "2: max_jobs = 0 is out of range; allowed: a number from 1 to 64\n"
        "6: level = 0 is out of range; allowed: a number from 1 to 9\n"
        "7: the source of store a (@/d) contains the state directory (@/d/s, line 3); "
        "allowed: " APART
        "11: duplicate key keep in [repo a/r], given at line 10 already; allowed: once\n"
        "12: repo a/r (@/d/r) lies inside the source of store a (@/d, line 7); allowed: " APART);
}

/* ---- places that are one by file number ---- */

/* Runs `body` where mounts are its own, in a process that ends with its result; 77: not allowed. */
static int in_own_mounts(int (*body)(void))
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            _exit(77);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
            _exit(77);
        _exit(body());
    }
    while (waitpid(child, &status, 0) != child)
        ;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* cmocka's asserts are of no use in a child. */
static int same_faults(const char *text, const char *wanted)
{
    struct buf faults = BUF_INIT;
    char *all = expand(wanted);
    struct config *c = load(text, "@/mnt", &faults);
    int result = strcmp(buf_text(&faults), all) == 0 ? 0 : 1;

    if (result != 0)
        fprintf(stderr, "faults:\n%swanted:\n%s", buf_text(&faults), all);
    config_free(c);
    buf_release(&faults);
    free(all);
    return result;
}

static int load_with_bind_mounts(void)
{
    char *data = expand("@/data"), *bound = expand("@/bound");
    int result = 77;

    if (mount(data, bound, NULL, MS_BIND, NULL) == 0)
        result = same_faults(STATE("@/s") STORE("a", "@/data", "@/bound"),
                             "@/keepfs.conf:8: repo a/r (@/bound) is the same place as the source "
                             "of store a (@/data, line 5) by another path; allowed: " APART) |
                 same_faults(STATE("@/s") STORE("a", "@/data", "@/bound/new/r"),
                             "@/keepfs.conf:8: repo a/r (@/bound/new/r) lies inside the source of "
                             "store a (@/data, line 5) by another path; allowed: " APART);
    free(data);
    free(bound);
    return result;
}

static void bind_mounts_of_one_place_are_seen(void **state)
{
    (void)state;
    make_dir("@/data");
    make_dir("@/bound");
    int result = in_own_mounts(load_with_bind_mounts);
    if (result == 77)
        skip();
    assert_int_equal(result, 0);
}

/* ---- groups ---- */

static size_t group_of(const struct config *c, const char *id)
{
    return config_store(c, id)->group;
}

static void overlapping_sources_share_a_group_and_others_do_not(void **state)
{
    (void)state;
    make_dir("@/dbs");
    make_file("@/dbs/one.db");
    make_symlink("@/dbs", "@/again");
    struct config *c =
        load_good(STATE("@/s") STORE("apart", "@/dbsx", "@/r0") STORE("one", "@/dbs/one.db", "@/r1")
                      STORE("two", "@/dbs/two.db", "@/r2") STORE("lone", "@/lone", "@/r3")
                          STORE("all", "@/dbs", "@/r4") STORE("same", "@/lone", "@/r5")
                              STORE("far", "@/again/two.db", "@/r6"));

    assert_int_equal(group_of(c, "one"), group_of(c, "all"));
    assert_int_equal(group_of(c, "two"), group_of(c, "all"));
    assert_int_equal(group_of(c, "far"), group_of(c, "all"));
    assert_int_equal(group_of(c, "same"), group_of(c, "lone"));
    assert_int_not_equal(group_of(c, "lone"), group_of(c, "all"));
    assert_int_not_equal(group_of(c, "apart"), group_of(c, "all"));
    assert_int_not_equal(group_of(c, "apart"), group_of(c, "lone"));
    config_free(c);
}

static void journals_and_hard_links_of_a_file_are_of_its_group(void **state)
{
    (void)state;
    make_file("@/a.db");
    char *from = expand("@/a.db"), *to = expand("@/linked.db");
    assert_int_equal(link(from, to), 0);
    free(from);
    free(to);
    struct config *c = load_good(
        STATE("@/s") STORE("db", "@/a.db", "@/r0") STORE("wal", "@/a.db-wal", "@/r1")
            STORE("shm", "@/a.db-shm", "@/r2") STORE("journal", "@/a.db-journal", "@/r3")
                STORE("linked", "@/linked.db", "@/r4") STORE("old", "@/a.db-old", "@/r5"));

    assert_int_equal(group_of(c, "wal"), group_of(c, "db"));
    assert_int_equal(group_of(c, "shm"), group_of(c, "db"));
    assert_int_equal(group_of(c, "journal"), group_of(c, "db"));
    assert_int_equal(group_of(c, "linked"), group_of(c, "db"));
    assert_int_not_equal(group_of(c, "old"), group_of(c, "db"));
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_repos_on_one_place_are_refused_through_symlinks),
        TEST(nested_repos_are_refused),
        TEST(repos_of_other_than_paths_are_compared_as_words_of_their_kind),
        TEST(source_and_repo_overlaps_are_refused),
        TEST(a_source_at_the_root_contains_everything),
        TEST(state_overlaps_are_refused),
        TEST(mount_overlaps_are_refused),
        TEST(without_a_mount_point_it_takes_no_part),
        TEST(two_places_that_the_file_does_not_give_are_told_once_without_a_line),
        TEST(a_bad_state_is_not_replaced_by_the_default),
        TEST(the_configuration_may_lie_in_a_source),
        TEST(a_file_and_its_siblings_do_not_overlap_but_its_directory_does),
        TEST(names_like_journals_beside_a_directory_are_free),
        TEST(places_that_cannot_be_resolved_are_refused),
        TEST(other_faults_do_not_hide_overlaps),
        TEST(bind_mounts_of_one_place_are_seen),
        TEST(overlapping_sources_share_a_group_and_others_do_not),
        TEST(journals_and_hard_links_of_a_file_are_of_its_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
