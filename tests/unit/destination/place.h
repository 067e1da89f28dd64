/* SPDX-License-Identifier: MIT */
/*
 * place.h - a place of its own for each test of a destination, and the few verbs they share.
 *
 * place_setup makes a temporary directory and settings for the kind `local`, whose root does not
 * exist yet; place_teardown removes all of it, also after a failed test. Include it after cmocka.
 */
#ifndef TESTS_DESTINATION_PLACE_H
#define TESTS_DESTINATION_PLACE_H

#include "keepfs/destination.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char dir[64];
    char *root; /* dir/repo */
    const struct destination_kind *kind;
    struct settings settings;
};

/* Every path that the kind needs is `root`. */
static inline void place_settings(struct place *p, const struct destination_kind *kind)
{
    p->kind = kind;
    p->settings = (struct settings){.rows = {kind->settings}};
    for (const struct setting *row = kind->settings; row->key; row++)
        if (row->type == SETTING_PATH && row->flags & SETTING_REQUIRED)
            settings_add(&p->settings, row, xstrdup(p->root), 1);
}

static inline struct place *place_make(const struct destination_kind *kind)
{
    struct place *p = xcalloc(1, sizeof *p);
    const char *tmp = getenv("TMPDIR");

    snprintf(p->dir, sizeof p->dir, "%s/keepfs-test-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(p->dir));
    p->root = xasprintf("%s/repo", p->dir);
    place_settings(p, kind);
    return p;
}

static inline void place_remove(struct place *p)
{
    settings_release(&p->settings);
    dir_clear(p->dir);
    rmdir(p->dir);
    free(p->root);
    free(p);
}

static inline int place_setup(void **state)
{
    *state = place_make(destination_kind_find("local"));
    return 0;
}

static inline int place_teardown(void **state)
{
    place_remove(*state);
    return 0;
}

#define place_test(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)

static inline struct destination *place_open(const struct place *p, unsigned flags)
{
    struct destination *d;
    struct error err = {0};

    if (p->kind->open(&p->settings, flags, &d, &err) != 0)
        fail_msg("cannot open %s: %s", p->root, err.message);
    return d;
}

/* "<root>/<printf>"; the caller frees it. */
__attribute__((format(printf, 2, 3))) static inline char *place_path(const struct place *p,
                                                                     const char *fmt, ...)
{
    struct buf b = BUF_INIT;
    va_list ap;

    buf_addf(&b, "%s/", p->root);
    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    return buf_steal(&b);
}

static inline bool place_has(const struct place *p, const char *name)
{
    char *path = place_path(p, "%s", name);
    struct stat st;
    bool has = lstat(path, &st) == 0;

    free(path);
    return has;
}

static inline void place_mkdir(const struct place *p, const char *name)
{
    char *path = place_path(p, "%s", name);

    assert_return_code(mkdir(path, 0700), errno);
    free(path);
}

/* Makes or replaces a file below the root. */
static inline void place_file(const struct place *p, const char *name, const char *text, size_t len)
{
    char *path = place_path(p, "%s", name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_return_code(fd, errno);
    assert_return_code(fd_write_all(fd, text, len), errno);
    close(fd);
    free(path);
}

static inline unsigned place_mode(const struct place *p, const char *name)
{
    char *path = place_path(p, "%s", name);
    struct stat st;

    assert_return_code(lstat(path, &st), errno);
    free(path);
    return st.st_mode & 07777;
}

/* One object of a put. -1 with err. */
static inline int put_bytes(struct put *put, const char *name, const void *data, size_t len,
                            struct error *err)
{
    struct writer *w;

    if (put->destination->kind->put_object(put, name, &w, err) != 0)
        return -1;
    int result = writer_write(w, data, len, err);
    if (result == 0)
        result = writer_finish(w, err);
    writer_free(w);
    return result;
}

/* A whole group with one object. -1 with err. */
static inline int put_group(struct destination *d, const char *group, const char *name,
                            const void *data, size_t len, struct error *err)
{
    struct put *put;

    if (d->kind->put_begin(d, group, &put, err) != 0)
        return -1;
    int result = put_bytes(put, name, data, len, err);
    if (result == 0)
        result = d->kind->put_commit(put, err);
    d->kind->put_free(put);
    return result;
}

/* What list says, in ascending order: "name " for a group, "name? " for a partial one. */
struct listing {
    char names[64][80];
    size_t count;
};

static inline int listing_add(void *ctx, const char *group, bool partial, struct error *err)
{
    struct listing *l = ctx;

    (void)err;
    assert_true(l->count < 64);
    snprintf(l->names[l->count++], sizeof l->names[0], "%s%s ", group, partial ? "?" : "");
    return 0;
}

static inline int listing_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static inline void expect_listing(struct destination *d, const char *expected)
{
    struct listing l = {.count = 0};
    struct error err = {0};
    struct buf text = BUF_INIT;

    if (d->kind->list(d, listing_add, &l, &err) != 0)
        fail_msg("cannot list: %s", err.message);
    qsort(l.names, l.count, sizeof l.names[0], listing_compare);
    for (size_t i = 0; i < l.count; i++)
        buf_adds(&text, l.names[i]);
    assert_string_equal(buf_text(&text), expected);
    buf_release(&text);
}

/* A call failed like this, and says `why`. */
static inline void expect_error(int result, const struct error *err, enum error_code code,
                                const char *why)
{
    assert_int_equal(result, -1);
    if (err->code != code || !strstr(err->message, why))
        fail_msg("%s: \"%s\" instead of %s: \"%s\"", error_code_name(err->code), err->message,
                 error_code_name(code), why);
}

#endif
