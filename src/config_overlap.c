/* SPDX-License-Identifier: MIT */
/*
 * config_overlap.c - no two things may have their places in one another, sources excepted.
 *
 * Places are the mount point, the state directory, each source, each repo and each key file. For a
 * place P every
 * prefix of its path, itself included, is looked up among the places Q:
 *
 *   by path         Q's path is the prefix: Q contains P, or is P
 *   by file number  Q exists and is the same file as the prefix (device and inode): the same, by
 *                   a bind mount or a hard link that no resolving of symlinks shows
 *
 * Both look-ups are binary searches, so ten thousand stores are no matter. Where two places are
 * the same each finds the other, and only the later in the list reports it.
 *
 * Two sources that overlap are no fault: they may not run at the same time, though, and so come
 * into one group (a union-find over the stores).
 *
 * A key file may lie anywhere but in a repo, where it would lie beside what it encrypts, and in the
 * mount, where the daemon would wait for itself.
 *
 * A source that is a file is taken for a database, which has its journals beside it: PATH-wal,
 * PATH-shm and PATH-journal are places of that source too.
 */
#include "config_internal.h"

#include "archive/policy.h"
#include "keepfs/destination.h"
#include "util/fsutil.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum place_type { PLACE_MOUNT, PLACE_STATE, PLACE_SOURCE, PLACE_REPO, PLACE_KEY };

struct place {
    enum place_type type;
    const char *path;
    char *journal; /* the path, if it is a journal's; else NULL */
    char *key;     /* the path, if it is a key's */
    bool local;    /* a path of this machine; else a driver's words, compared as a whole */
    int line;      /* 0 if the file does not give it */
    bool exists;   /* then dev and ino are its file number */
    dev_t dev;
    ino_t ino;
    const struct repo *repo;
    const struct store *store;
    size_t store_index;
};

struct atlas {
    struct place *places;
    size_t count;
    const struct place **by_path; /* all of them */
    const struct place **by_file; /* the first file_count: those that exist */
    size_t file_count;
    size_t *group; /* of each store: the index of another one of its group, or its own */
    struct faults *faults;
};

static void atlas_add(struct atlas *a, struct place place)
{
    struct stat st;

    place.exists = place.local && stat(place.path, &st) == 0;
    if (place.exists) {
        place.dev = st.st_dev;
        place.ino = st.st_ino;
    }
    a->places = config_grow(a->places, a->count, sizeof *a->places);
    a->places[a->count++] = place;
}

static void add_journals(struct atlas *a, const struct place *source)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    struct stat st;

    if (stat(source->path, &st) != 0 || S_ISDIR(st.st_mode))
        return;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        struct place journal = *source;
        journal.path = journal.journal = xasprintf("%s%s", source->path, suffixes[i]);
        atlas_add(a, journal);
    }
}

static void add_keys(struct atlas *a, const struct repo *r)
{
    struct archive_policy policy = archive_policy_of(r);

    for (size_t i = 0; i < policy.key_count; i++) {
        const char *path = key_ref_path(policy.keys[i]);
        char *resolved = path ? path_resolve(path) : NULL;
        const char *row = i == 0 && policy.encrypt ? "encryption_key" : "old_keys";
        /* What cannot be resolved is told when the key is loaded. */
        if (resolved)
            atlas_add(a, (struct place){.type = PLACE_KEY,
                                        .path = resolved,
                                        .key = resolved,
                                        .local = true,
                                        .line = config_key_line(&r->settings, row, r->line),
                                        .repo = r,
                                        .store = r->store});
    }
}

static void add_store(struct atlas *a, const struct store *s, size_t index)
{
    if (s->place) {
        const struct place source = {.type = PLACE_SOURCE,
                                     .path = s->place,
                                     .local = true,
                                     .line = config_key_line(&s->settings, "path", s->line),
                                     .store = s,
                                     .store_index = index};
        atlas_add(a, source);
        add_journals(a, &source);
    }
    for (size_t i = 0; i < s->repo_count; i++) {
        const struct repo *r = s->repos[i];
        if (r->place)
            atlas_add(a, (struct place){.type = PLACE_REPO,
                                        .path = r->place,
                                        .local = r->kind->is_path,
                                        .line = config_key_line(&r->settings, "path", r->line),
                                        .repo = r,
                                        .store = s,
                                        .store_index = index});
        if (r->place)
            add_keys(a, r);
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp((*(const struct place *const *)a)->path, (*(const struct place *const *)b)->path);
}

static int compare_file(const struct place *p, dev_t dev, ino_t ino)
{
    if (p->dev != dev)
        return p->dev < dev ? -1 : 1;
    return (p->ino > ino) - (p->ino < ino);
}

static int by_file(const void *a, const void *b)
{
    const struct place *y = *(const struct place *const *)b;

    return compare_file(*(const struct place *const *)a, y->dev, y->ino);
}

static void atlas_sort(struct atlas *a)
{
    a->by_path = xcalloc(a->count, sizeof(struct place *));
    a->by_file = xcalloc(a->count, sizeof(struct place *));
    for (size_t i = 0; i < a->count; i++) {
        a->by_path[i] = &a->places[i];
        if (a->places[i].exists)
            a->by_file[a->file_count++] = &a->places[i];
    }
    qsort(a->by_path, a->count, sizeof(struct place *), by_path);
    qsort(a->by_file, a->file_count, sizeof(struct place *), by_file);
}

static size_t group_root(const struct atlas *a, size_t i)
{
    while (a->group[i] != i) {
        a->group[i] = a->group[a->group[i]];
        i = a->group[i];
    }
    return i;
}

static void group_join(struct atlas *a, size_t i, size_t j)
{
    i = group_root(a, i);
    j = group_root(a, j);
    a->group[i < j ? j : i] = i < j ? i : j;
}

/* "repo app/local (/backup" */
static void describe(struct buf *out, const struct place *p)
{
    switch (p->type) {
    case PLACE_MOUNT:
        buf_adds(out, "the mount point");
        break;
    case PLACE_STATE:
        buf_adds(out, "the state directory");
        break;
    case PLACE_SOURCE:
        buf_addf(out, "%s of store %s", p->journal ? "a journal" : "the source", p->store->id);
        break;
    case PLACE_REPO:
        buf_addf(out, "repo %s/%s", p->store->id, p->repo->id);
        break;
    case PLACE_KEY:
        buf_addf(out, "a key of repo %s/%s", p->store->id, p->repo->id);
        break;
    }
    buf_addf(out, " (%s", p->path);
}

/* Reports at the later line of the two, and names the other. `same`: they are one place. */
static void report(struct atlas *a, const struct place *outer, const struct place *inner, bool same,
                   bool hidden)
{
    __attribute__((cleanup(buf_release))) struct buf text = BUF_INIT;
    bool at_inner = inner->line >= outer->line;
    const struct place *at = at_inner ? inner : outer, *other = at_inner ? outer : inner;

    /* Ten thousand repos on one place are fifty million pairs: not worth their words. */
    if (a->faults->count == FAULTS_MAX) {
        a->faults->untold++;
        return;
    }
    describe(&text, at);
    buf_addf(&text, ") %s ", same ? "is the same place as" : at_inner ? "lies inside" : "contains");
    describe(&text, other);
    if (other->line > 0)
        buf_addf(&text, ", line %d", other->line);
    buf_addf(&text, ")%s; allowed: ", hidden ? " by another path" : "");
    if (at->type == PLACE_KEY || other->type == PLACE_KEY)
        buf_adds(&text, "a key outside of the mount point and of all repos");
    else if (at->type == PLACE_REPO && other->type == PLACE_REPO)
        buf_adds(&text, "a place for each repo, apart from all others");
    else
        buf_adds(&text, "mount point, state, sources and repos apart from each other");
    faults_add(a->faults, at->line, "%s", buf_text(&text));
}

/* A key is in nobody's way but where it must not be. */
static bool key_is_safe(const struct place *outer, const struct place *inner)
{
    if (inner->type == PLACE_KEY)
        return outer->type != PLACE_MOUNT && outer->type != PLACE_REPO;
    return outer->type == PLACE_KEY && inner->type != PLACE_REPO;
}

/* `outer` contains `inner`, or is the same place. `hidden`: the paths do not show it. */
static void meet(struct atlas *a, const struct place *outer, const struct place *inner, bool same,
                 bool hidden)
{
    if (outer == inner || (same && outer > inner) || outer->local != inner->local)
        return;
    if (!outer->local && outer->repo->kind != inner->repo->kind)
        return;
    if (key_is_safe(outer, inner))
        return;
    if (outer->type != PLACE_SOURCE || inner->type != PLACE_SOURCE)
        report(a, outer, inner, same, hidden);
    else
        group_join(a, outer->store_index, inner->store_index);
}

static void look_up_path(struct atlas *a, const struct place *p, const char *prefix, bool same)
{
    size_t low = 0, high = a->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(a->by_path[middle]->path, prefix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < a->count && strcmp(a->by_path[low]->path, prefix) == 0; low++)
        meet(a, a->by_path[low], p, same, false);
}

static void look_up_file(struct atlas *a, const struct place *p, const char *prefix, bool same)
{
    size_t low = 0, high = a->file_count;
    struct stat st;

    if (stat(prefix, &st) != 0)
        return;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_file(a->by_file[middle], st.st_dev, st.st_ino) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < a->file_count && compare_file(a->by_file[low], st.st_dev, st.st_ino) == 0; low++)
        /* What the path shows has been seen by it. */
        if (!path_contains(a->by_file[low]->path, p->path))
            meet(a, a->by_file[low], p, same, true);
}

static void look_up(struct atlas *a, const struct place *p)
{
    __attribute__((cleanup(free_charp))) char *prefix = xstrdup(p->path);

    look_up_path(a, p, prefix, true);
    if (!p->local)
        return;
    look_up_file(a, p, prefix, true);
    /* What lies above a journal lies above its database. */
    while (!p->journal && strcmp(prefix, "/") != 0) {
        char *slash = strrchr(prefix, '/');
        slash[slash == prefix ? 1 : 0] = '\0';
        look_up_path(a, p, prefix, false);
        look_up_file(a, p, prefix, false);
    }
}

static void atlas_release(struct atlas *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free(a->places[i].journal);
        free(a->places[i].key);
    }
    free(a->places);
    free(a->by_path);
    free(a->by_file);
    free(a->group);
}

void config_overlaps(struct config *c, const char *mountpoint, struct faults *f)
{
    struct atlas a = {.faults = f, .group = xcalloc(c->store_count, sizeof(size_t))};

    if (mountpoint)
        atlas_add(&a, (struct place){.type = PLACE_MOUNT, .path = mountpoint, .local = true});
    if (c->state)
        atlas_add(&a, (struct place){.type = PLACE_STATE,
                                     .path = c->state,
                                     .local = true,
                                     .line = config_key_line(&c->settings, "state", 0)});
    for (size_t i = 0; i < c->store_count; i++) {
        a.group[i] = i;
        add_store(&a, c->stores[i], i);
    }
    atlas_sort(&a);
    for (size_t i = 0; i < a.count; i++)
        look_up(&a, &a.places[i]);
    for (size_t i = 0; i < c->store_count; i++)
        c->stores[i]->group = group_root(&a, i);
    atlas_release(&a);
}
