/* SPDX-License-Identifier: MIT */
/*
 * tree.h - a directory store of its own for each test, and a run that keeps what it is given.
 *
 * tree_setup makes a temporary directory with src/ (the store) and out/ (for unpacking);
 * tree_teardown removes it, also after a failed test. tree_backup streams src/ to the file
 * stream.tar. Include it after cmocka.
 */
#ifndef TESTS_SOURCE_TREE_H
#define TESTS_SOURCE_TREE_H

#include "source/kinds.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tree {
    char dir[64];
    char *src, *out, *tar;
    struct store store;
    struct source_run run;
    struct writer writer;
    struct cancel cancel;
    struct stats stats;
    struct buf log;
    int fd;                          /* of the stream, while it is written */
    uint64_t written;                /* bytes taken */
    size_t writes;                   /* calls of write */
    size_t fail_at;                  /* the write that fails, counted from 1; 0 = none */
    bool skip_zeros;                 /* leave a hole in stream.tar where they are */
    void (*on_first)(struct tree *); /* called with the first bytes */
};

static inline struct tree *tree_of_run(struct source_run *run)
{
    return (struct tree *)(void *)((char *)run - offsetof(struct tree, run));
}

static inline bool is_zeros(const char *data, size_t len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static inline int tree_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct tree *t = (struct tree *)(void *)((char *)w - offsetof(struct tree, writer));

    if (++t->writes == 1 && t->on_first)
        t->on_first(t);
    if (t->writes == t->fail_at)
        return error_sys(err, SIDE_DESTINATION, ENOSPC, "the sink is full at write %zu", t->writes);
    if (t->skip_zeros && is_zeros(data, len)) {
        if (ftruncate(t->fd, (off_t)(t->written + len)) < 0 || lseek(t->fd, 0, SEEK_END) < 0)
            return error_sys(err, SIDE_DESTINATION, errno, "writing the stream");
    } else if (fd_write_all(t->fd, data, len) < 0)
        return error_sys(err, SIDE_DESTINATION, errno, "writing the stream");
    t->written += len;
    return 0;
}

static inline int tree_finish(struct writer *w, struct error *err)
{
    (void)w, (void)err;
    fail_msg("a source must not finish its output");
    return -1;
}

static inline void tree_free(struct writer *w)
{
    (void)w;
    fail_msg("a source must not free its output");
}

static inline void tree_units(struct source_run *run, uint64_t units)
{
    (void)run, (void)units;
}

static inline void tree_log(struct source_run *run, const char *line)
{
    buf_addf(&tree_of_run(run)->log, "%s\n", line);
}

static inline void tree_stat(struct source_run *run, const char *key, uint64_t value)
{
    stats_add(&tree_of_run(run)->stats, key, value);
}

static inline int tree_payload_id(struct source_run *run, const char *id, size_t len,
                                  struct error *err)
{
    (void)run, (void)id, (void)len, (void)err;
    return 0;
}

static const struct writer_ops tree_writer_ops = {tree_write, tree_finish, tree_free};
static const struct source_run_ops tree_run_ops = {tree_units, tree_units, tree_log, tree_stat,
                                                   tree_payload_id};

/* One more line of the store's section. */
static inline void tree_set(struct tree *t, const char *key, const char *value)
{
    const struct setting *row = settings_row(&t->store.settings, key);
    char *text, why[256];

    assert_non_null(row);
    assert_int_equal(setting_parse(row, value, &text, why, sizeof why), 0);
    settings_add(&t->store.settings, row, text, 1);
}

static inline int tree_setup(void **state)
{
    struct tree *t = xcalloc(1, sizeof *t);
    const char *tmp = getenv("TMPDIR");

    snprintf(t->dir, sizeof t->dir, "%s/keepfs-test-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(t->dir));
    assert_int_equal(chmod(t->dir, 0755), 0);
    t->src = xasprintf("%s/src", t->dir);
    t->out = xasprintf("%s/out", t->dir);
    t->tar = xasprintf("%s/stream.tar", t->dir);
    assert_int_equal(mkdir(t->src, 0755), 0);
    assert_int_equal(mkdir(t->out, 0755), 0);
    t->store = (struct store){
        .id = "docs", .kind = &directory_source, .settings = {.rows = {directory_source.settings}}};
    tree_set(t, "path", t->src);
    cancel_init(&t->cancel);
    t->writer.ops = &tree_writer_ops;
    t->run = (struct source_run){.ops = &tree_run_ops, .out = &t->writer, .cancel = &t->cancel};
    t->fd = -1;
    *state = t;
    return 0;
}

static inline int tree_teardown(void **state)
{
    struct tree *t = *state;
    /* What an ordinary user closed must be opened to be removed. */
    char *command = xasprintf("chmod -R u+rwX '%s'; rm -rf --one-file-system '%s'", t->dir, t->dir);
    int result = system(command);

    free(command);
    fd_close(&t->fd);
    settings_release(&t->store.settings);
    cancel_release(&t->cancel);
    buf_release(&t->log);
    free(t->src);
    free(t->out);
    free(t->tar);
    free(t);
    return result;
}

/* Opens the store, backs it up and closes it. */
static inline int tree_try(struct tree *t, struct error *err)
{
    struct source *source = NULL;
    int result = -1;

    *err = (struct error){0};
    t->written = t->writes = 0;
    t->stats = (struct stats){0};
    buf_truncate(&t->log, 0);
    fd_close(&t->fd);
    t->fd = open(t->tar, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(t->fd >= 0);
    if (directory_source.open(&t->store, t->dir, &source, err) == 0)
        result = directory_source.backup(source, &t->run, err);
    directory_source.close(source);
    fd_close(&t->fd);
    return result;
}

static inline void tree_backup(struct tree *t)
{
    struct error err;

    if (tree_try(t, &err) < 0)
        fail_msg("the backup failed: %s: %s", error_code_name(err.code), err.message);
    assert_int_equal(err.code, ERR_NONE);
}

/* The store's backup fails with this code, and names `what`. */
static inline void tree_fails(struct tree *t, enum error_code code, const char *what)
{
    struct error err;

    assert_int_equal(tree_try(t, &err), -1);
    if (!strstr(err.message, what))
        fail_msg("\"%s\" does not say \"%s\"", err.message, what);
    assert_string_equal(error_code_name(err.code), error_code_name(code));
}

/* Runs a shell command in the test's directory; its output, without the last newline. */
static inline char *tree_shell(struct tree *t, const char *command)
{
    char *line = xasprintf("cd '%s' && { %s\n} 2>&1", t->dir, command);
    FILE *f = popen(line, "re");
    struct buf out = BUF_INIT;
    char piece[4096];

    assert_non_null(f);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_add(&out, piece, n);
    int status = pclose(f);
    if (status != 0)
        fail_msg("%s\nended with %d: %s", command, status, buf_text(&out));
    free(line);
    if (out.len > 0 && out.data[out.len - 1] == '\n')
        buf_truncate(&out, out.len - 1);
    return buf_steal(&out);
}

/* The command must succeed and print exactly this. */
static inline void tree_prints(struct tree *t, const char *command, const char *expected)
{
    char *out = tree_shell(t, command);

    if (strcmp(out, expected) != 0)
        fail_msg("%s\nprints \"%s\", not \"%s\"", command, out, expected);
    free(out);
}

#define TREE_UNPACK "tar --acls --xattrs --xattrs-include='*' -xpf stream.tar -C out"
#define TREE_DIFF   "rsync -aHAXn --delete --itemize-changes src/ out/"

static inline void tree_restores(struct tree *t)
{
    tree_prints(t, TREE_UNPACK, "");
    tree_prints(t, TREE_DIFF, "");
}

static inline char *tree_path(const struct tree *t, const char *name)
{
    return xasprintf("%s/%s", t->src, name);
}

/* `len` bytes of a repeated letter. */
static inline void tree_file(struct tree *t, const char *name, char letter, size_t len)
{
    char *path = tree_path(t, name), *text = xmalloc(len + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    memset(text, letter, len);
    assert_int_equal(fd_write_all(fd, text, len), 0);
    fd_close(&fd);
    free(path);
    free(text);
}

static inline bool tree_logged(const struct tree *t, const char *text)
{
    return strstr(buf_text(&t->log), text) != NULL;
}

static inline size_t open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
