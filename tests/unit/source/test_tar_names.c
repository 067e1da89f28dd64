/* SPDX-License-Identifier: MIT */
/*
 * test_tar_names.c - names in a tar stream: those of files without a locale that knows UTF-8, and
 * those of owners, of whom nobody knows how many there are or how the user database answers.
 *
 * The user database and the locale are what a test says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/tar.h"
#include "tree.h"

#include <dlfcn.h>
#include <grp.h>
#include <locale.h>
#include <pwd.h>

static struct {
    bool no_locale;
    int answer; /* to everybody who asks; 0: a name made of the number */
    int asked;
    size_t most; /* the longest entry there was room for */
} world;

locale_t newlocale(int mask, const char *name, locale_t base)
{
    locale_t (*real)(int, const char *, locale_t);

    *(void **)&real = dlsym(RTLD_NEXT, "newlocale");
    return world.no_locale ? (locale_t)0 : real(mask, name, base);
}

static int answer(char kind, unsigned id, char *entry, size_t size)
{
    world.asked++;
    world.most = size > world.most ? size : world.most;
    snprintf(entry, size, "%c%u", kind, id);
    return world.answer;
}

int getpwuid_r(uid_t uid, struct passwd *user, char *entry, size_t size, struct passwd **out)
{
    int failed = answer('u', uid, entry, size);

    *user = (struct passwd){.pw_name = entry};
    *out = failed ? NULL : user;
    return failed;
}

int getgrgid_r(gid_t gid, struct group *group, char *entry, size_t size, struct group **out)
{
    int failed = answer('g', gid, entry, size);

    *group = (struct group){.gr_name = entry};
    *out = failed ? NULL : group;
    return failed;
}

static struct tar *tar;

static int setup(void **state)
{
    struct error err;

    memset(&world, 0, sizeof world);
    if (tree_setup(state) != 0)
        return -1;
    struct tree *t = *state;
    t->fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    tar = tar_new(&t->run, &err);
    return tar ? 0 : -1;
}

static int teardown(void **state)
{
    tar_free(tar);
    return tree_teardown(state);
}

/* ---- owners ---- */

static void an_answer_is_kept_until_its_place_is_needed(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++)
        for (unsigned id = 1000; id < 1100; id++) {
            char name[16];
            snprintf(name, sizeof name, "u%u", id);
            assert_string_equal(tar_user(tar, id), name);
            name[0] = 'g';
            assert_string_equal(tar_group(tar, id), name);
        }
    assert_int_equal(world.asked, 2 * 100);
    /* These two are in one another's way. */
    for (int round = 0; round < 3; round++) {
        assert_string_equal(tar_user(tar, 7), "u7");
        assert_string_equal(tar_user(tar, 7 + 128), "u135");
    }
    assert_int_equal(world.asked, 2 * 100 + 6);
}

static void by_many_errnos_nobody_has_the_number(void **state)
{
    static const int absences[] = {ENOENT, ESRCH, EBADF, EPERM};
    struct tree *t = *state;

    for (unsigned i = 0; i < sizeof absences / sizeof absences[0]; i++) {
        world.answer = absences[i];
        assert_null(tar_user(tar, i));
        assert_null(tar_group(tar, i));
        assert_null(tar_user(tar, i));
    }
    assert_int_equal(world.asked, 8);
    assert_string_equal(buf_text(&t->log), "");
    world.answer = EIO;
    assert_null(tar_user(tar, 100));
    assert_true(tree_logged(t, "the name of user 100 cannot be looked up: Input/output error"));
}

static void an_entry_that_no_room_is_enough_for_is_given_up(void **state)
{
    struct tree *t = *state;

    world.answer = ERANGE;
    assert_null(tar_group(tar, 7));
    assert_in_range(world.most, 1 << 20, 64 << 20);
    assert_true(tree_logged(t, "the name of group 7 cannot be looked up"));
}

/* ---- files ---- */

static void without_a_locale_for_utf8_names_go_out_as_bytes(void **state)
{
    struct tree *t = *state;
    const char *binary = "grep -ac hdrcharset=BINARY stream.tar || true";

    free(tree_shell(t, "touch src/plain \"$(printf 'src/caf\\303\\251')\""));
    tree_backup(t);
    tree_prints(t, binary, "0");
    world.no_locale = true;
    tree_backup(t);
    tree_prints(t, binary, "1"); /* the plain name is the same either way */
    tree_prints(t,
                "tar -xf stream.tar -C out 2>/dev/null; ls src >a; ls out >b; cmp a b && echo same",
                "same");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_answer_is_kept_until_its_place_is_needed),
        CASE(by_many_errnos_nobody_has_the_number),
        CASE(an_entry_that_no_room_is_enough_for_is_given_up),
        CASE(without_a_locale_for_utf8_names_go_out_as_bytes),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
