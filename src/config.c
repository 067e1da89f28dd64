/* SPDX-License-Identifier: MIT */
/*
 * config.c - from a file to sections of raw pairs; loading and freeing.
 *
 * inih takes a line apart into key, value and comment, and no more is asked of it, since it
 * knows neither line numbers nor long names:
 *
 *   - Its lines come from next_line(), which counts them. One that is too long or has a NUL byte
 *     is reported there and handed on as an empty one, so that it is never cut or split.
 *   - inih cuts a section's name at 49 bytes (ours have up to 134), and ignores what follows the
 *     bracket. So next_line() keeps headers to itself too.
 *   - inih tells only the first line that it could not parse. So a line that ought to be a pair
 *     sets `unheard`, on_pair() clears it, and next_line() reports the line before if it is
 *     still set.
 *
 * A bad header opens a section all the same, so that the pairs behind it are not taken for those
 * of the section before.
 *
 * Faults are kept in a list and written at the end, sorted by line. They repeat what the file
 * says, so control characters are written as \xNN: a fault is one line whatever it quotes.
 */
#include "config.h"

#include "config_internal.h"
#include "util/fsutil.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for LIMIT_STORES stores with several KiB each; /dev/zero through a pipe has an end. */
static const size_t file_max = (size_t)64 << 20;

bool id_valid(const char *id)
{
    size_t len = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789._-");

    return len > 0 && len <= LIMIT_ID && id[len] == '\0' && isalnum((unsigned char)id[0]);
}

void *config_grow(void *array, size_t count, size_t size)
{
    /* Capacities are powers of two, so that the count alone tells when one is full. */
    if (count & (count - 1))
        return array;
    return xrealloc(array, (count ? 2 * count : 1) * size);
}

/* Faults repeat what the file says, and people do put a key itself where its name should be. */
static void hide_keys(struct buf *text)
{
    enum { KEY_DIGITS = 64 };

    for (char *p = text->data; p && *p;) {
        size_t len = strspn(p, "0123456789abcdefABCDEF");
        if (len >= KEY_DIGITS)
            memset(p, '*', len);
        p += len + (p[len] != '\0');
    }
}

void faults_add(struct faults *f, int line, const char *fmt, ...)
{
    struct buf text = BUF_INIT;
    va_list ap;

    if (f->count == FAULTS_MAX) {
        f->untold++;
        return;
    }
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    hide_keys(&text);
    f->items = config_grow(f->items, f->count, sizeof *f->items);
    f->items[f->count] = (struct fault){.line = line, .order = f->count, .text = buf_steal(&text)};
    f->count++;
}

static int by_line(const void *a, const void *b)
{
    const struct fault *x = a, *y = b;

    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text))
            buf_addf(out, "\\x%02x", (unsigned char)*text);
        else
            buf_add(out, text, 1);
}

static void faults_write(struct faults *f, struct buf *out)
{
    qsort(f->items, f->count, sizeof *f->items, by_line);
    for (size_t i = 0; i < f->count; i++) {
        const struct fault *fault = &f->items[i];
        /* Two places may meet in more than one way. */
        if (i > 0 && fault->line == fault[-1].line && strcmp(fault->text, fault[-1].text) == 0)
            continue;
        add_escaped(out, f->file);
        if (fault->line > 0)
            buf_addf(out, ":%d", fault->line);
        buf_adds(out, ": ");
        add_escaped(out, fault->text);
        buf_adds(out, "\n");
    }
    if (f->untold > 0) {
        add_escaped(out, f->file);
        buf_addf(out, ": %zu more faults; required: correct those above first\n", f->untold);
    }
}

struct reading {
    FILE *file;
    struct draft *draft;
    struct section *section; /* that pairs go to; NULL before the first header */
    size_t bytes;
    int errnum; /* why reading failed; 0 if it did not */
    int line;
    bool unheard; /* the line looked like a pair, and inih has not delivered it */
};

/* What stands in the brackets, words parted by one blank; NULL unless `line` is one header, with
 * at most a comment behind it. */
static char *header_name(const char *line)
{
    const char *end = strchr(line, ']');
    if (!end)
        return NULL;
    const char *rest = end + 1;
    while (isspace((unsigned char)*rest))
        rest++;
    if (*rest && (*rest != ';' || rest == end + 1))
        return NULL;

    struct buf name = BUF_INIT;
    for (const char *p = line + 1; p < end; p++) {
        if (!isspace((unsigned char)*p))
            buf_add(&name, p, 1);
        else if (name.len > 0 && name.data[name.len - 1] != ' ')
            buf_adds(&name, " ");
    }
    if (name.len > 0 && name.data[name.len - 1] == ' ')
        buf_truncate(&name, name.len - 1);
    return buf_steal(&name);
}

/* Keeps `len` bytes of `text` as an id if they are one. */
static bool take_id(char out[LIMIT_ID + 1], const char *text, size_t len)
{
    if (len > LIMIT_ID)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return id_valid(out);
}

/* Recognises the section by its name; false if its ids are none. */
static bool section_classify(struct section *s)
{
    const char *blank = strchrnul(s->name, ' ');
    const char *id = *blank ? blank + 1 : blank;
    size_t word = (size_t)(blank - s->name);

    if (strcmp(s->name, "keepfs") == 0) {
        s->type = SECTION_KEEPFS;
    } else if (strcmp(s->name, "defaults") == 0) {
        s->type = SECTION_DEFAULTS;
    } else if (word == 5 && memcmp(s->name, "store", word) == 0) {
        s->type = SECTION_STORE;
        return take_id(s->store, id, strlen(id));
    } else if (word == 4 && memcmp(s->name, "repo", word) == 0) {
        const char *slash = strchr(id, '/');
        s->type = SECTION_REPO;
        return slash && take_id(s->store, id, (size_t)(slash - id)) &&
               take_id(s->repo, slash + 1, strlen(slash + 1));
    }
    return true;
}

static void section_open(struct reading *r, const char *line)
{
    struct draft *d = r->draft;
    struct section *s = xcalloc(1, sizeof *s);
    char *name = header_name(line);

    *s = (struct section){.type = SECTION_BAD, .name = name ? name : xstrdup(""), .line = r->line};
    d->sections = config_grow(d->sections, d->count, sizeof(struct section *));
    d->sections[d->count++] = s;
    r->section = s;
    if (!name) {
        faults_add(&d->faults, r->line,
                   "bad section header; allowed: a name in [ and ], behind it at most \" ; a "
                   "comment\"");
    } else if (!section_classify(s)) {
        faults_add(&d->faults, r->line,
                   "bad id in [%s]; allowed: [%s], each id 1 to %d of a-z 0-9 . _ - and beginning "
                   "with a letter or digit",
                   name, s->type == SECTION_STORE ? "store ID" : "repo STORE/NAME", LIMIT_ID);
        s->type = SECTION_BAD;
    } else if (s->type == SECTION_BAD) {
        faults_add(&d->faults, r->line,
                   "unknown section [%s]; allowed: [keepfs], [defaults], [store ID], "
                   "[repo STORE/NAME]",
                   name);
    }
}

/* Reads up to the end of a line, of which `out` gets at most LIMIT_CONFIG_LINE bytes. Returns its
 * whole length, or -1 at the end of the file. */
static ssize_t read_line(struct reading *r, char *out, bool *nul)
{
    size_t len = 0;
    int c;

    *nul = false;
    while (r->bytes <= file_max && (c = getc_unlocked(r->file)) != EOF) {
        r->bytes++;
        if (c == '\n')
            return (ssize_t)len;
        if (len < LIMIT_CONFIG_LINE)
            out[len] = (char)c;
        len++;
        *nul |= c == '\0';
    }
    if (ferror(r->file))
        r->errnum = errno;
    return len > 0 ? (ssize_t)len : -1;
}

/* Reports the line before if nobody understood it. */
static void report_unheard(struct reading *r)
{
    if (r->unheard)
        faults_add(&r->draft->faults, r->line,
                   "a line without \"=\"; allowed: KEY = VALUE, [SECTION], or a comment behind "
                   "# or ;");
    r->unheard = false;
}

/* The ini_reader: hands inih the lines that are pairs or comments, the others as empty ones. */
static char *next_line(char *out, int size, void *stream)
{
    struct reading *r = stream;
    bool nul;

    assert(size > LIMIT_CONFIG_LINE);
    report_unheard(r);
    ssize_t len = read_line(r, out, &nul);
    if (len < 0)
        return NULL;
    r->line++;
    if (nul)
        faults_add(&r->draft->faults, r->line, "a NUL byte; allowed: text");
    else if (len > LIMIT_CONFIG_LINE)
        faults_add(&r->draft->faults, r->line, "a line of %zd bytes; allowed: up to %d", len,
                   LIMIT_CONFIG_LINE);
    if (nul || len > LIMIT_CONFIG_LINE)
        len = 0;
    out[len] = '\0';
    if (r->line == 1 && strncmp(out, "\xef\xbb\xbf", 3) == 0)
        memmove(out, out + 3, (size_t)len - 2);
    const char *start = out;
    while (isspace((unsigned char)*start))
        start++;
    if (*start == '[') {
        section_open(r, start);
        out[0] = '\0';
    } else {
        r->unheard = *start && *start != '#' && *start != ';';
    }
    return out;
}

/* The ini_handler: one pair of the line that next_line() gave last. */
static int on_pair(void *user, const char *section, const char *key, const char *value)
{
    struct reading *r = user;

    (void)section;
    r->unheard = false;
    if (key[0] == '\0') {
        faults_add(&r->draft->faults, r->line, "no key before \"=\"; allowed: KEY = VALUE");
    } else if (!r->section) {
        faults_add(&r->draft->faults, r->line,
                   "key %s before any section; allowed: keys behind [keepfs], [defaults], "
                   "[store ID] or [repo STORE/NAME]",
                   key);
    } else {
        struct section *s = r->section;
        s->pairs = config_grow(s->pairs, s->pair_count, sizeof *s->pairs);
        s->pairs[s->pair_count++] =
            (struct pair){.key = xstrdup(key), .value = xstrdup(value), .line = r->line};
    }
    return 1;
}

/* The distribution's inih is set by globals; ours are always the same. */
static void set_up_inih(void)
{
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    ini_allow_inline_comments = true;
    ini_stop_on_first_error = false;
    ini_use_stack = false;
    ini_allow_realloc = false;
    /* The newline is not handed on, but inih counts on room for it. */
    ini_max_line = ini_initial_alloc = LIMIT_CONFIG_LINE + 3;
}

/* Opens a file or a pipe (`keepfs check <(...)`); reports and returns NULL otherwise. */
static FILE *draft_open(struct draft *d, const char *path)
{
    /* A pipe that nobody writes to is empty, and not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    struct stat st;

    if (file && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)) &&
        fcntl(fd, F_SETFL, 0) == 0) {
        d->file = st;
        return file;
    }
    faults_add(&d->faults, 0, "cannot be read: %s; allowed: a text file",
               file ? "it is not a regular file" : strerror(errno));
    if (file)
        fclose(file);
    return NULL;
}

/* -1 if the file could not be read to its end; what is wrong in it is only reported. */
static int draft_read(struct draft *d, const char *path)
{
    struct reading r = {.draft = d, .file = draft_open(d, path)};

    if (!r.file)
        return -1;
    set_up_inih();
    /* What it returns is the first line with an error, and that has been reported. */
    int status = ini_parse_stream(next_line, &r, on_pair, &r);
    int failed = -1;
    if (status == -2 || r.errnum != 0)
        faults_add(&d->faults, 0, "cannot be read: %s", strerror(status == -2 ? ENOMEM : r.errnum));
    else if (r.bytes > file_max)
        faults_add(&d->faults, 0, "too large; allowed: up to %zu bytes", file_max);
    else
        failed = 0;
    fclose(r.file);
    return failed;
}

static void draft_release(struct draft *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct section *s = d->sections[i];
        for (size_t j = 0; j < s->pair_count; j++) {
            free(s->pairs[j].key);
            free(s->pairs[j].value);
        }
        free(s->pairs);
        free(s->name);
        free(s);
    }
    free(d->sections);
    for (size_t i = 0; i < d->faults.count; i++)
        free(d->faults.items[i].text);
    free(d->faults.items);
}

struct config *config_load(const char *path, const char *mountpoint, struct buf *faults)
{
    struct draft d = {.faults.file = path};
    struct config *c = xcalloc(1, sizeof *c);

    if (draft_read(&d, path) == 0) {
        /* A pipe has no path to resolve. */
        c->path = realpath(path, NULL);
        if (!c->path)
            c->path = xstrdup(path);
        c->mountpoint = mountpoint ? xstrdup(mountpoint) : NULL;
        config_interpret(c, &d);
        config_overlaps(c, mountpoint, &d.faults);
    }
    if (d.faults.count > 0) {
        faults_write(&d.faults, faults);
        config_free(c);
        c = NULL;
    }
    draft_release(&d);
    return c;
}

void repo_free(struct repo *r)
{
    settings_release(&r->settings);
    free(r->place);
    free(r);
}

void store_free(struct store *s)
{
    for (size_t i = 0; i < s->repo_count; i++)
        repo_free(s->repos[i]);
    free(s->repos);
    settings_release(&s->settings);
    free(s->place);
    free(s);
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add(&c->others, 1);
    return c;
}

void config_free(struct config *c)
{
    if (!c || atomic_fetch_sub(&c->others, 1) > 0)
        return;
    for (size_t i = 0; i < c->store_count; i++)
        store_free(c->stores[i]);
    free(c->stores);
    free(c->by_id);
    settings_release(&c->settings);
    free(c->state);
    free(c->mountpoint);
    free(c->path);
    free(c);
}

static int id_to_store(const void *id, const void *store)
{
    return strcmp(id, (*(struct store *const *)store)->id);
}

struct store *config_store(const struct config *c, const char *id)
{
    if (c->by_id) {
        struct store **found = c->store_count == 0 ? NULL
                                                   : bsearch(id, c->by_id, c->store_count,
                                                             sizeof *c->by_id, id_to_store);
        return found ? *found : NULL;
    }
    for (size_t i = 0; i < c->store_count; i++)
        if (strcmp(c->stores[i]->id, id) == 0)
            return c->stores[i];
    return NULL;
}

static bool same_group(const struct config *c, const struct store *s, const char *other)
{
    const struct store *o = config_store(c, other);

    return o && o->group == s->group;
}

bool stores_conflict(const struct config *ca, const struct store *a, const struct config *cb,
                     const struct store *b)
{
    if (ca == cb)
        return a->group == b->group;
    return strcmp(a->id, b->id) == 0 || same_group(ca, a, b->id) || same_group(cb, b, a->id);
}

struct repo *store_repo(const struct store *s, const char *id)
{
    for (size_t i = 0; i < s->repo_count; i++)
        if (strcmp(s->repos[i]->id, id) == 0)
            return s->repos[i];
    return NULL;
}
