/* SPDX-License-Identifier: MIT */
/*
 * config_fixture.h - what the configuration's tests share: kinds of their own, so that nothing but
 * this room is tested, and a directory for each test.
 *
 * In configurations and expected faults "@" stands for the test's directory, symlinks resolved. A
 * fault is compared whole, without the file's name before it: "LINE: what; what is allowed".
 */
#ifndef KEEPFS_TESTS_CONFIG_FIXTURE_H
#define KEEPFS_TESTS_CONFIG_FIXTURE_H

/* cmocka.h needs these four, in this order. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "config.h"

#include "keepfs/destination.h"
#include "keepfs/source.h"
#include "util/fsutil.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- kinds with keys of every type ---- */

static const char *const modes[] = {"fast", "slow", NULL};

static const struct setting dir_settings[] = {
    {.key = "path", .type = SETTING_PATH, .flags = SETTING_REQUIRED, .help = "what to back up"},
    {.key = "exclude", .type = SETTING_TEXT, .flags = SETTING_REPEATABLE},
    {.key = "level", .type = SETTING_INT, .def = "3", .min = 1, .max = 9},
    {.key = "mode", .type = SETTING_WORD, .words = modes, .def = "slow"},
    {.key = "strict", .type = SETTING_BOOL, .def = "no"},
    {.key = "scratch", .type = SETTING_PATH},
    {.key = NULL},
};
static const struct setting pipe_settings[] = {
    {.key = "command", .type = SETTING_TEXT, .flags = SETTING_REQUIRED, .help = "what to run"},
    {.key = "level", .type = SETTING_INT, .def = "1", .min = 1, .max = 19},
    {.key = NULL},
};
static const struct setting disk_settings[] = {
    {.key = "path", .type = SETTING_PATH, .flags = SETTING_REQUIRED, .help = "the directory"},
    {.key = "keep", .type = SETTING_INT, .flags = SETTING_REQUIRED, .min = 0, .max = 1000},
    {.key = NULL},
};
static const struct setting cloud_settings[] = {
    {.key = "bucket", .type = SETTING_TEXT, .flags = SETTING_REQUIRED, .help = "its name"},
    {.key = "keep", .type = SETTING_INT, .def = "1", .min = 0, .max = 1000},
    {.key = NULL},
};

static const struct source_kind dir_kind = {.name = "dir", .settings = dir_settings};
static const struct source_kind pipe_kind = {.name = "pipe", .settings = pipe_settings};
const struct source_kind *const source_kinds[] = {&dir_kind, &pipe_kind, NULL};

const struct source_kind *source_kind_find(const char *name)
{
    for (size_t i = 0; source_kinds[i]; i++)
        if (strcmp(source_kinds[i]->name, name) == 0)
            return source_kinds[i];
    return NULL;
}

static char *disk_place(const struct settings *settings)
{
    return path_resolve(settings_text(settings, "path"));
}

static char *cloud_place(const struct settings *settings)
{
    return strdup(settings_text(settings, "bucket"));
}

static const struct destination_kind disk_kind = {
    .name = "disk", .settings = disk_settings, .place = disk_place, .is_path = true};
static const struct destination_kind cloud_kind = {
    .name = "cloud", .settings = cloud_settings, .place = cloud_place};
static const struct destination_kind mist_kind = {
    .name = "mist", .settings = cloud_settings, .place = cloud_place};
const struct destination_kind *const destination_kinds[] = {&disk_kind, &cloud_kind, &mist_kind,
                                                            NULL};

const struct destination_kind *destination_kind_find(const char *name)
{
    for (size_t i = 0; destination_kinds[i]; i++)
        if (strcmp(destination_kinds[i]->name, name) == 0)
            return destination_kinds[i];
    return NULL;
}

/* What every repo takes, whatever its kind; and [defaults] for it. */
#define POLICY_KEYS                                                                                \
    "format, compression, encryption_key, old_keys, min_envelope, verify_after_write"

#define REPO_KEYS                                                                                  \
    "schedule, jitter, catch_up, retries, retry_delay, expect_every, keep_count, keep_age_days, "  \
    "keep_hourly, "                                                                                \
    "keep_daily, keep_weekly, keep_monthly, keep_yearly, suspect_ratio"
#define STORE_KEYS "before, after, on_failure, hook_timeout, run_group"

/* ---- a directory for each test ---- */

static char dir[PATH_MAX];
static char file[PATH_MAX + 16];

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char made[PATH_MAX];

    (void)state;
    snprintf(made, sizeof made, "%s/keepfs-config-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(made) || !realpath(made, dir))
        return -1;
    snprintf(file, sizeof file, "%s/keepfs.conf", dir);
    /* An ordinary user's state would go to the home of whoever runs the tests. */
    unsetenv("XDG_STATE_HOME");
    return setenv("HOME", dir, 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The text with "@" made the directory. */
static char *expand(const char *text)
{
    struct buf out = BUF_INIT;

    for (; *text; text++)
        if (*text == '@')
            buf_adds(&out, dir);
        else
            buf_add(&out, text, 1);
    return buf_steal(&out);
}

__attribute__((unused)) static void make_dir(const char *path)
{
    char *whole = expand(path);

    assert_int_equal(dir_create(whole), 0);
    free(whole);
}

__attribute__((unused)) static void make_file(const char *path)
{
    char *whole = expand(path);
    int fd = open(whole, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
    free(whole);
}

__attribute__((unused)) static void make_symlink(const char *target, const char *path)
{
    char *from = expand(target), *to = expand(path);

    assert_int_equal(symlink(from, to), 0);
    free(from);
    free(to);
}

__attribute__((unused)) static void write_config(const void *data, size_t len)
{
    int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, data, len), 0);
    close(fd);
}

__attribute__((unused)) static struct config *load(const char *text, const char *mountpoint,
                                                   struct buf *faults)
{
    char *whole = expand(text), *mount = mountpoint ? expand(mountpoint) : NULL;

    write_config(whole, strlen(whole));
    struct config *c = config_load(file, mount, faults);
    free(whole);
    free(mount);
    return c;
}

__attribute__((unused)) static struct config *load_good(const char *text)
{
    struct buf faults = BUF_INIT;
    struct config *c = load(text, "@/mnt", &faults);

    if (!c)
        fail_msg("refused:\n%s", buf_text(&faults));
    assert_int_equal(faults.len, 0);
    return c;
}

/* `wanted`: all faults, each "LINE: text\n", or " text\n" for one of the file as a whole. */
__attribute__((unused)) static void assert_faults_at(const char *mountpoint, const char *text,
                                                     const char *wanted)
{
    struct buf faults = BUF_INIT, all = BUF_INIT;
    char *lines = expand(wanted);

    assert_null(load(text, mountpoint, &faults));
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"))
        buf_addf(&all, "%s:%s\n", file, line);
    assert_string_equal(buf_text(&faults), buf_text(&all));
    buf_release(&faults);
    buf_release(&all);
    free(lines);
}

__attribute__((unused)) static void assert_faults(const char *text, const char *wanted)
{
    assert_faults_at("@/mnt", text, wanted);
}

#endif
