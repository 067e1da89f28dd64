/* SPDX-License-Identifier: MIT */
/*
 * tar.c - libarchive's pax writer over a run's output.
 *
 * What POSIX pax cannot say is written the way GNU tar and bsdtar both read: attributes and ACLs as
 * SCHILY.*, sparse files as GNU.sparse 1.0. Nothing of an entry depends on when or from which disk
 * it was read (no atime, ctime, inode, link count), so equal trees give equal bytes.
 *
 * Names are bytes to Linux and UTF-8 to pax. A name that is UTF-8 goes out as such; any other needs
 * the record hdrcharset=BINARY, for which GNU tar prints a warning, so it is given to none but the
 * entries that need it. libarchive cannot switch that per entry: hence two writers into one output,
 * of which `text` begins and ends the archive. It takes names for UTF-8 only while the thread's
 * locale says so.
 *
 * Owners go out by number and by name. That nobody has a number is no fault, and that the user
 * database cannot be asked is one for the job's log: the number is enough to restore by. Only what
 * this process itself lacks fails the job, as it does everywhere in this source: the next attempt
 * may have it, and the names would be gone in silence. What was answered is kept, a failure too, so
 * that an LDAP server that is down is waited for once and not for each file.
 *
 * libarchive writes in pieces of 512 bytes; they are gathered in `batch`, large pieces pass it by.
 * The output's error is kept here, since libarchive would replace it with one of its own.
 */
#include "source/tar.h"

#include "util/buf.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <locale.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

enum { BATCH = 256 << 10, HOLE = 1 << 20 };
/* A group's members are in what is looked up, so that it can be long. */
enum { NAMES = 128, ENTRY_MIN = 1 << 10, ENTRY_MAX = 16 << 20 };

/* What was answered for an id; each has one place in an array of these. */
struct name {
    bool asked;
    id_t id;
    char *text; /* NULL: there is none */
};

struct tar {
    struct source_run *run;
    struct archive *text, *binary; /* binary is made when the first name needs it */
    struct archive *current;       /* the one that writes this entry */
    struct archive_entry *entry;
    bool plain; /* entry has nothing that the next tar_begin does not replace */
    uid_t uid;  /* whose names the entry has, if plain */
    gid_t gid;
    struct name users[NAMES], groups[NAMES];
    int shortage; /* the errno with which a name could not be looked up */
    locale_t utf8;
    bool failed;
    struct error why;
    size_t fill;
    char batch[BATCH];
};

static int fail(struct tar *t, struct archive *a, const char *doing, struct error *err)
{
    if (t->failed)
        *err = t->why;
    else
        error_set(err, ERR_INTERNAL, "%s the tar stream: %s", doing,
                  archive_error_string(a) ? archive_error_string(a) : "no reason given");
    return -1;
}

static int put(struct tar *t, const void *data, size_t len)
{
    if (!t->failed && writer_write(t->run->out, data, len, &t->why) < 0)
        t->failed = true;
    return t->failed ? -1 : 0;
}

static int flush(struct tar *t)
{
    size_t len = t->fill;

    t->fill = 0;
    return len > 0 ? put(t, t->batch, len) : 0;
}

static la_ssize_t sink(struct archive *a, void *ctx, const void *data, size_t len)
{
    struct tar *t = ctx;
    const char *p = data;

    (void)a;
    if (t->failed)
        return -1;
    for (size_t left = len; left > 0;) {
        if (t->fill == 0 && left >= BATCH)
            return put(t, p, left) < 0 ? -1 : (la_ssize_t)len;
        size_t n = left < BATCH - t->fill ? left : BATCH - t->fill;
        memcpy(t->batch + t->fill, p, n);
        t->fill += n;
        p += n;
        left -= n;
        if (t->fill == BATCH && flush(t) < 0)
            return -1;
    }
    return (la_ssize_t)len;
}

/* libarchive frees all of its own only when it is closed, also after a failure; what it still wants
 * to write then, the sink refuses. */
static void discard(struct archive *a)
{
    if (!a)
        return;
    archive_write_close(a);
    archive_write_free(a);
}

static struct archive *open_writer(struct tar *t, bool binary, struct error *err)
{
    struct archive *a = archive_write_new();

    if (!a) {
        error_sys(err, SIDE_SOURCE, ENOMEM, "beginning the tar stream");
        return NULL;
    }
    if (archive_write_set_format_pax(a) != ARCHIVE_OK ||
        archive_write_set_format_option(a, "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
        (binary &&
         archive_write_set_format_option(a, "pax", "hdrcharset", "BINARY") != ARCHIVE_OK) ||
        archive_write_set_bytes_per_block(a, 0) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open2(a, t, NULL, sink, NULL, NULL) != ARCHIVE_OK) {
        fail(t, a, "beginning", err);
        t->failed = true;
        discard(a);
        return NULL;
    }
    return a;
}

struct tar *tar_new(struct source_run *run, struct error *err)
{
    struct tar *t = xcalloc(1, sizeof *t);

    t->run = run;
    t->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    t->entry = archive_entry_new();
    t->text = open_writer(t, false, err);
    if (!t->text) {
        tar_free(t);
        return NULL;
    }
    if (!t->entry) {
        error_sys(err, SIDE_SOURCE, ENOMEM, "beginning the tar stream");
        tar_free(t);
        return NULL;
    }
    return t;
}

void tar_free(struct tar *t)
{
    if (!t)
        return;
    t->failed = true;
    discard(t->text);
    discard(t->binary);
    for (size_t i = 0; i < NAMES; i++) {
        free(t->users[i].text);
        free(t->groups[i].text);
    }
    archive_entry_free(t->entry);
    if (t->utf8)
        freelocale(t->utf8);
    free(t);
}

/* ---- names of owners ---- */

/* Answers like getpwuid_r: 0 or an errno; *name is NULL if nobody has the id. */
typedef int (*ask_fn)(id_t id, char *entry, size_t size, const char **name);

static int ask_user(id_t id, char *entry, size_t size, const char **name)
{
    struct passwd user, *found = NULL;
    int failed = getpwuid_r(id, &user, entry, size, &found);

    *name = failed == 0 && found ? found->pw_name : NULL;
    return failed;
}

static int ask_group(id_t id, char *entry, size_t size, const char **name)
{
    struct group group, *found = NULL;
    int failed = getgrgid_r(id, &group, entry, size, &found);

    *name = failed == 0 && found ? found->gr_name : NULL;
    return failed;
}

/* 0 or an errno; *out is to be freed. */
static int ask(ask_fn fn, id_t id, char **out)
{
    const char *name = NULL;
    int failed = ERANGE;

    *out = NULL;
    for (size_t size = ENTRY_MIN; failed == ERANGE && size <= ENTRY_MAX; size *= 2) {
        __attribute__((cleanup(free_charp))) char *entry = xmalloc(size);
        failed = fn(id, entry, size, &name);
        if (name)
            *out = xstrdup(name);
    }
    return failed;
}

/* By some of these, POSIX says, an id that nobody has may be told. */
static bool is_absence(int errnum)
{
    return errnum == 0 || errnum == ENOENT || errnum == ESRCH || errnum == EBADF || errnum == EPERM;
}

static const char *name_of(struct tar *t, struct name *names, id_t id, ask_fn fn, const char *what)
{
    struct name *n = &names[id % NAMES];

    if (n->asked && n->id == id)
        return n->text;
    free(n->text);
    int failed = ask(fn, id, &n->text);
    n->asked = true;
    n->id = id;
    if (failed == ENOMEM || failed == EMFILE || failed == ENFILE)
        t->shortage = failed;
    else if (!is_absence(failed))
        source_log(t->run, "the name of %s %u cannot be looked up: %s; the number alone is stored",
                   what, (unsigned)id, strerror(failed));
    return n->text;
}

const char *tar_user(struct tar *t, uid_t uid)
{
    return name_of(t, t->users, uid, ask_user, "user");
}

const char *tar_group(struct tar *t, gid_t gid)
{
    return name_of(t, t->groups, gid, ask_group, "group");
}

/* ---- entries ---- */

void tar_begin(struct tar *t, const char *path, const struct stat *st)
{
    struct archive_entry *e = t->entry;

    if (!t->plain)
        archive_entry_clear(e);
    if (!t->plain || t->uid != st->st_uid)
        archive_entry_copy_uname(e, tar_user(t, st->st_uid));
    if (!t->plain || t->gid != st->st_gid)
        archive_entry_copy_gname(e, tar_group(t, st->st_gid));
    t->plain = true;
    t->uid = st->st_uid;
    t->gid = st->st_gid;
    archive_entry_copy_pathname(e, path);
    archive_entry_set_mode(e, st->st_mode);
    archive_entry_set_uid(e, st->st_uid);
    archive_entry_set_gid(e, st->st_gid);
    archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
    /* Readers do not agree on what a fraction before 1970 means, so it is left off. */
    archive_entry_set_mtime(e, st->st_mtim.tv_sec,
                            st->st_mtim.tv_sec < 0 ? 0 : st->st_mtim.tv_nsec);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        archive_entry_set_rdev(e, st->st_rdev);
        t->plain = false;
    }
}

struct archive_entry *tar_entry(struct tar *t)
{
    t->plain = false;
    return t->entry;
}

void tar_hardlink(struct tar *t, const char *target)
{
    archive_entry_copy_hardlink(tar_entry(t), target);
    archive_entry_unset_size(t->entry);
}

void tar_symlink(struct tar *t, const char *target)
{
    archive_entry_copy_symlink(tar_entry(t), target);
}

void tar_range(struct tar *t, off_t offset, off_t len)
{
    archive_entry_sparse_add_entry(tar_entry(t), offset, len);
}

static bool is_ascii(const char *s)
{
    while (*s != '\0' && (unsigned char)*s < 0x80)
        s++;
    return *s == '\0';
}

/* Of the thread's locale, which is UTF-8: not its own check in libarchive, which takes surrogates
 * for characters and would change such a name. */
static bool is_text(const char *s)
{
    return !s || mbstowcs(NULL, s, 0) != (size_t)-1;
}

static bool needs_binary(const struct tar *t)
{
    const char *path = archive_entry_pathname(t->entry);

    if (t->plain && is_ascii(path))
        return false;
    return !t->utf8 || !is_text(path) || !is_text(archive_entry_hardlink(t->entry)) ||
           !is_text(archive_entry_symlink(t->entry));
}

static int write_header(struct tar *t, struct error *err)
{
    t->current = t->text;
    if (t->shortage)
        return error_sys(err, SIDE_SOURCE, t->shortage, "looking up the name of an owner");
    if (needs_binary(t)) {
        if (!t->binary)
            t->binary = open_writer(t, true, err);
        if (!t->binary)
            return -1;
        t->current = t->binary;
    }
    /* A warning is about a name in the user database that is no UTF-8; it went out as it is. */
    if (archive_write_header(t->current, t->entry) < ARCHIVE_WARN)
        return fail(t, t->current, "writing a header to", err);
    /* The map of a sparse file goes out with its first data, of which there may be none. */
    if (!t->plain && archive_write_data(t->current, "", 0) < 0)
        return fail(t, t->current, "writing a header to", err);
    return 0;
}

int tar_header(struct tar *t, struct error *err)
{
    locale_t before = uselocale(t->utf8);
    int result = write_header(t, err);

    uselocale(before);
    return result;
}

int tar_data(struct tar *t, const void *data, size_t len, struct error *err)
{
    if (len > 0 && archive_write_data(t->current, data, len) != (la_ssize_t)len)
        return fail(t, t->current, "writing to", err);
    return 0;
}

int tar_hole(struct tar *t, uint64_t len, struct error *err)
{
    static const char nothing[HOLE];

    while (len > 0) {
        size_t n = len < HOLE ? (size_t)len : HOLE;
        if (cancel_check(t->run->cancel, err) < 0 || tar_data(t, nothing, n, err) < 0)
            return -1;
        len -= n;
    }
    return 0;
}

int tar_end(struct tar *t, struct error *err)
{
    if (archive_write_finish_entry(t->current) < ARCHIVE_WARN)
        return fail(t, t->current, "writing to", err);
    return 0;
}

int tar_finish(struct tar *t, struct error *err)
{
    if (archive_write_close(t->text) != ARCHIVE_OK || flush(t) < 0)
        return fail(t, t->text, "ending", err);
    return 0;
}
