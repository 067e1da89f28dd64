/* SPDX-License-Identifier: MIT */
/*
 * config_check.c - from sections of raw pairs to stores and repos with checked settings.
 *
 * The order of the file does not matter: `kind` may stand behind the keys it gives a meaning to,
 * a repo before its store, [defaults] at the end. So all sections are read first, then
 *
 *   1. sections given twice are marked; the second is checked, but makes nothing;
 *   2. [keepfs] is taken, and the state directory found;
 *   3. [defaults] is checked against the tables of all kinds: a key must have a row in one, and
 *      its value must suit one. Whether it suits a section's kind is seen there;
 *   4. each [store] and then each [repo] is taken by the tables of its kind, and gets the defaults
 *      that it does not give itself;
 *   5. what belongs together is counted.
 *
 * A section without a good value for each key that it must give has no place, since its driver
 * could not tell one; config_overlaps() leaves it out. It is made all the same, so that its repos
 * find their store.
 */
#include "config_internal.h"

#include "archive/policy.h"
#include "keepfs/destination.h"
#include "keepfs/source.h"
#include "util/fsutil.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Which kind a section is of is its own to say, never a default. */
static const struct setting store_kind[] = {
    {.key = "kind", .type = SETTING_TEXT, .help = "what the store is"},
    {.key = NULL},
};
static const struct setting repo_kind[] = {
    {.key = "kind", .type = SETTING_TEXT, .help = "where the repo keeps archives"},
    {.key = NULL},
};

static void list_add(struct buf *list, const char *word)
{
    buf_addf(list, "%s%s", list->len ? ", " : "", word);
}

/* The key's first pair in the section; NULL if it gives none. */
static const struct pair *section_pair(const struct section *s, const char *key)
{
    for (size_t i = 0; i < s->pair_count; i++)
        if (!s->pairs[i].bad && strcmp(s->pairs[i].key, key) == 0)
            return &s->pairs[i];
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct section *x = *(struct section *const *)a, *y = *(struct section *const *)b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static void mark_duplicates(struct draft *d)
{
    struct section **sorted = xcalloc(d->count, sizeof(struct section *));

    if (d->count > 0)
        memcpy(sorted, d->sections, d->count * sizeof(struct section *));
    qsort(sorted, d->count, sizeof(struct section *), by_name);
    for (size_t i = 1, first = 0; i < d->count; i++) {
        struct section *s = sorted[i];
        if (strcmp(s->name, sorted[first]->name) != 0) {
            first = i;
        } else if (s->type != SECTION_BAD) {
            s->duplicate = true;
            faults_add(&d->faults, s->line,
                       "duplicate section [%s], given at line %d already; allowed: each section "
                       "once",
                       s->name, sorted[first]->line);
        }
    }
    free(sorted);
}

static void report_unknown_key(const struct settings *s, const struct section *section,
                               const struct pair *p, struct faults *f)
{
    __attribute__((cleanup(buf_release))) struct buf list = BUF_INIT;

    for (size_t i = 0; i < sizeof s->rows / sizeof s->rows[0]; i++)
        for (const struct setting *row = s->rows[i]; row && row->key; row++)
            list_add(&list, row->key);
    faults_add(f, p->line, "unknown key %s in [%s]; allowed: %s", p->key, section->name,
               buf_text(&list));
}

/* Takes one pair of the section itself. */
static void take_pair(struct settings *out, const struct section *s, const struct pair *p,
                      struct faults *f)
{
    const struct setting *row = settings_row(out, p->key);
    char why[SETTING_WHY_MAX];
    char *text;

    if (!row) {
        report_unknown_key(out, s, p, f);
        return;
    }
    const struct pair *first = section_pair(s, p->key);
    if (first != p && !(row->flags & SETTING_REPEATABLE))
        faults_add(f, p->line, "duplicate key %s in [%s], given at line %d already; allowed: once",
                   p->key, s->name, first->line);
    else if (setting_parse(row, p->value, &text, why, sizeof why) != 0)
        faults_add(f, p->line, "%s", why);
    else
        settings_add(out, row, text, p->line);
}

/* Takes one pair of [defaults] for a section that does not give the key. */
static void inherit_pair(struct settings *out, const struct section *s, const struct pair *p,
                         struct faults *f)
{
    const struct setting *row = settings_row(out, p->key);
    char why[SETTING_WHY_MAX];
    char *text;

    if (p->bad || !row || row->type == SETTING_PATH || section_pair(s, p->key))
        return;
    if (setting_parse(row, p->value, &text, why, sizeof why) != 0)
        faults_add(f, s->line, "[%s] takes from [defaults], line %d: %s", s->name, p->line, why);
    else
        settings_add(out, row, text, p->line);
}

/* Takes all of a section by the tables that stand in out->rows. `defaults` may be NULL. */
static void take_section(struct settings *out, const struct section *s,
                         const struct section *defaults, struct faults *f)
{
    for (size_t i = 0; i < s->pair_count; i++)
        take_pair(out, s, &s->pairs[i], f);
    for (size_t i = 0; defaults && i < defaults->pair_count; i++)
        inherit_pair(out, s, &defaults->pairs[i], f);
    if (s->duplicate)
        return;
    for (size_t i = 0; i < sizeof out->rows / sizeof out->rows[0]; i++)
        for (const struct setting *row = out->rows[i]; row && row->key; row++)
            if ((row->flags & SETTING_REQUIRED) && !section_pair(s, row->key) &&
                !settings_next(out, row->key, NULL))
                faults_add(f, s->line, "[%s] has no %s; required: %s = ... (%s)", s->name, row->key,
                           row->key, row->help ? row->help : row->key);
}

/* Every key that the section must give has a good value. */
static bool settings_complete(const struct settings *s)
{
    for (size_t i = 0; i < sizeof s->rows / sizeof s->rows[0]; i++)
        for (const struct setting *row = s->rows[i]; row && row->key; row++)
            if ((row->flags & SETTING_REQUIRED) && !settings_next(s, row->key, NULL))
                return false;
    return true;
}

/* The tables whose keys [defaults] may give, one after another, then NULL. */
static const struct setting *default_table(size_t i)
{
    static const struct setting *const common[] = {archive_settings, config_repo_settings,
                                                   config_store_settings};

    if (i < sizeof common / sizeof common[0])
        return common[i];
    i -= sizeof common / sizeof common[0];
    for (const struct source_kind *const *kind = source_kinds; *kind; kind++)
        if (i-- == 0)
            return (*kind)->settings;
    for (const struct destination_kind *const *kind = destination_kinds; *kind; kind++)
        if (i-- == 0)
            return (*kind)->settings;
    return NULL;
}

/* The keys that [defaults] may give: each once, though several kinds have it. */
static void list_default_keys(struct buf *list)
{
    const struct setting *table;

    for (size_t i = 0; (table = default_table(i)); i++)
        for (const struct setting *row = table; row->key; row++) {
            bool seen = row->type == SETTING_PATH;
            for (size_t j = 0; j < i && !seen; j++) {
                const struct settings before = {.rows = {default_table(j)}};
                const struct setting *twin = settings_row(&before, row->key);
                seen = twin && twin->type != SETTING_PATH;
            }
            if (!seen)
                list_add(list, row->key);
        }
}

static void report_no_default(const struct pair *p, struct faults *f)
{
    __attribute__((cleanup(buf_release))) struct buf list = BUF_INIT;

    list_default_keys(&list);
    faults_add(f, p->line, "key %s cannot stand in [defaults]; allowed: %s", p->key,
               list.len ? buf_text(&list) : "none");
}

/* Reports what nobody can use, and marks it. */
static void check_default(const struct section *defaults, struct pair *p, struct faults *f)
{
    bool known = false, accepted = false, repeatable = false;
    char why[SETTING_WHY_MAX];
    const struct setting *table;

    for (size_t i = 0; (table = default_table(i)); i++) {
        const struct settings one = {.rows = {table}};
        const struct setting *row = settings_row(&one, p->key);
        if (!row || row->type == SETTING_PATH)
            continue;
        char *text = NULL;
        known = true;
        repeatable |= (row->flags & SETTING_REPEATABLE) != 0;
        if (!accepted)
            accepted = setting_parse(row, p->value, &text, why, sizeof why) == 0;
        free(text);
    }
    const struct pair *first = section_pair(defaults, p->key);
    if (!known)
        report_no_default(p, f);
    else if (first != p && !repeatable)
        faults_add(f, p->line,
                   "duplicate key %s in [defaults], given at line %d already; allowed: once",
                   p->key, first->line);
    else if (!accepted)
        faults_add(f, p->line, "%s", why);
    else
        return;
    p->bad = true;
}

/* Reports that a section has no kind, or one that there is not. */
static void report_kind(const struct section *s, const struct pair *kind, const char *known,
                        struct faults *f)
{
    if (kind)
        faults_add(f, kind->line, "unknown kind %s in [%s]; allowed: %s", kind->value, s->name,
                   known);
    else
        faults_add(f, s->line, "[%s] has no kind; required: kind = ..., one of: %s", s->name,
                   known);
}

static const struct source_kind *source_kind_of(const struct section *s, struct faults *f)
{
    __attribute__((cleanup(buf_release))) struct buf list = BUF_INIT;
    const struct pair *p = section_pair(s, "kind");
    const struct source_kind *found = p ? source_kind_find(p->value) : NULL;

    for (const struct source_kind *const *kind = source_kinds; *kind; kind++)
        list_add(&list, (*kind)->name);
    if (!found)
        report_kind(s, p, buf_text(&list), f);
    return found;
}

static const struct destination_kind *destination_kind_of(const struct section *s, struct faults *f)
{
    __attribute__((cleanup(buf_release))) struct buf list = BUF_INIT;
    const struct pair *p = section_pair(s, "kind");
    const struct destination_kind *found = p ? destination_kind_find(p->value) : NULL;

    for (const struct destination_kind *const *kind = destination_kinds; *kind; kind++)
        list_add(&list, (*kind)->name);
    if (!found)
        report_kind(s, p, buf_text(&list), f);
    return found;
}

int config_key_line(const struct settings *s, const char *key, int fallback)
{
    const struct setting_value *value = settings_row(s, key) ? settings_next(s, key, NULL) : NULL;

    return value ? value->line : fallback;
}

/* Is reported with the errno of whoever could not resolve it. */
static void report_place(const struct settings *s, const struct section *section, struct faults *f)
{
    faults_add(f, config_key_line(s, "path", section->line),
               "the place of [%s] cannot be resolved: %s; allowed: a path whose existing part can "
               "be searched",
               section->name, strerror(errno));
}

/* Whether a key of the policy was given here or as a default, and no value of it was good. */
static bool policy_has_gap(const struct settings *s, const struct section *given)
{
    for (size_t i = 0; given && i < given->pair_count; i++) {
        const struct settings policy = {.rows = {archive_settings}};
        const char *key = given->pairs[i].key;
        if (settings_row(&policy, key) && !settings_next(s, key, NULL))
            return true;
    }
    return false;
}

/* What the keys of a repo's policy say against each other. One whose value was refused is reported
 * already, and what it would have said is not known. */
static void report_policy(const struct settings *s, const struct section *section,
                          const struct section *defaults, struct faults *f)
{
    const char *key;

    if (policy_has_gap(s, section) || policy_has_gap(s, defaults))
        return;
    const char *fault = archive_settings_fault(s, &key);

    if (fault)
        faults_add(f, config_key_line(s, key, section->line), "[%s]: %s", section->name, fault);
}

static struct store *make_store(const struct section *section, const struct section *defaults,
                                struct faults *f)
{
    struct store *s = xcalloc(1, sizeof *s);

    memcpy(s->id, section->store, sizeof s->id);
    s->line = section->line;
    s->kind = source_kind_of(section, f);
    if (!s->kind)
        return s;
    s->settings.rows[0] = store_kind;
    s->settings.rows[1] = s->kind->settings;
    s->settings.rows[2] = config_store_settings;
    take_section(&s->settings, section, defaults, f);
    config_take_group(&s->settings, "run_group", &s->run_group, f);
    if (!settings_row(&s->settings, "path"))
        return s;
    const char *path = settings_text(&s->settings, "path");
    s->place = path ? path_resolve(path) : NULL;
    if (path && !s->place)
        report_place(&s->settings, section, f);
    return s;
}

static struct repo *make_repo(const struct section *section, const struct section *defaults,
                              struct faults *f)
{
    struct repo *r = xcalloc(1, sizeof *r);

    memcpy(r->id, section->repo, sizeof r->id);
    r->line = section->line;
    r->kind = destination_kind_of(section, f);
    if (!r->kind)
        return r;
    r->settings.rows[0] = repo_kind;
    r->settings.rows[1] = archive_settings;
    r->settings.rows[2] = r->kind->settings;
    r->settings.rows[3] = config_repo_settings;
    take_section(&r->settings, section, defaults, f);
    report_policy(&r->settings, section, defaults, f);
    if (!settings_complete(&r->settings))
        return r;
    r->place = r->kind->place(&r->settings);
    if (!r->place)
        report_place(&r->settings, section, f);
    return r;
}

static void add_store(struct config *c, const struct section *section,
                      const struct section *defaults, struct faults *f)
{
    struct store *s = make_store(section, defaults, f);

    if (section->duplicate) {
        store_free(s);
        return;
    }
    if (c->store_count == LIMIT_STORES)
        faults_add(f, section->line, "too many stores; allowed: up to %d", LIMIT_STORES);
    c->stores = config_grow(c->stores, c->store_count, sizeof(struct store *));
    c->stores[c->store_count++] = s;
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct store *const *)a)->id, (*(struct store *const *)b)->id);
}

static void add_repo(struct config *c, const struct section *section,
                     const struct section *defaults, struct faults *f)
{
    struct repo *r = make_repo(section, defaults, f);
    struct store *s = config_store(c, section->store);

    if (!s)
        faults_add(f, section->line,
                   "[%s] is of an unknown store; allowed: the id of a [store ID], and there is no "
                   "[store %s]",
                   section->name, section->store);
    if (!s || section->duplicate) {
        repo_free(r);
        return;
    }
    if (s->repo_count == LIMIT_REPOS_PER_STORE)
        faults_add(f, section->line, "too many repos of store %s; allowed: up to %d", s->id,
                   LIMIT_REPOS_PER_STORE);
    r->store = s;
    s->repos = config_grow(s->repos, s->repo_count, sizeof(struct repo *));
    s->repos[s->repo_count++] = r;
}

/* Where the state goes if [keepfs] does not say; NULL if the environment does not tell. */
static char *default_state(void)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (geteuid() == 0)
        return xstrdup("/var/lib/keepfs");
    if (xdg && xdg[0] == '/')
        return xasprintf("%s/keepfs", xdg);
    if (home && home[0] == '/')
        return xasprintf("%s/.local/state/keepfs", home);
    return NULL;
}

static void find_state(struct config *c, struct faults *f)
{
    __attribute__((cleanup(free_charp))) char *unsaid = default_state();
    __attribute__((cleanup(free_charp))) char *path = NULL;
    const struct setting *row = settings_row(&c->settings, "state");
    const char *given = settings_text(&c->settings, "state");
    int line = config_key_line(&c->settings, "state", 0);
    char why[SETTING_WHY_MAX];

    if (!given && !unsaid)
        faults_add(f, line,
                   "no place for the state: neither $XDG_STATE_HOME nor $HOME is an absolute path; "
                   "allowed: state = PATH in [keepfs]");
    else if (setting_parse(row, given ? given : unsaid, &path, why, sizeof why) != 0)
        faults_add(f, line, "%s", why);
    else if (!(c->state = path_resolve(path)))
        faults_add(f, line,
                   "the state directory %s cannot be resolved: %s; allowed: a path whose existing "
                   "part can be searched",
                   path, strerror(errno));
}

/* The first section of the type; NULL if there is none. */
static const struct section *find_section(const struct draft *d, enum section_type type)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->sections[i]->type == type)
            return d->sections[i];
    return NULL;
}

static void take_keepfs(struct config *c, struct draft *d)
{
    bool said = false;

    c->settings.rows[0] = config_keepfs_settings;
    for (size_t i = 0; i < d->count; i++)
        if (d->sections[i]->type == SECTION_KEEPFS) {
            take_section(&c->settings, d->sections[i], NULL, &d->faults);
            said |= section_pair(d->sections[i], "state") != NULL;
        }
    config_take_group(&c->settings, "control_group", &c->control_group, &d->faults);
    config_take_group(&c->settings, "read_group", &c->read_group, &d->faults);
    /* A bad value has been reported; the default is not what was meant. */
    if (!said || settings_text(&c->settings, "state"))
        find_state(c, &d->faults);
}

/* What keepfs runs, it runs as its own user: whoever can write it down must be as trusted. */
static void check_commands(const struct store *s, struct draft *d)
{
    static const char *const keys[] = {"before", "after", "on_failure"};
    const struct stat *st = &d->file;
    bool safe = !S_ISREG(st->st_mode) || ((st->st_uid == geteuid() || st->st_uid == 0) &&
                                          !(st->st_mode & (S_IWGRP | S_IWOTH)));

    for (size_t i = 0; !safe && s->kind && i < sizeof keys / sizeof keys[0]; i++)
        if (settings_next(&s->settings, keys[i], NULL))
            faults_add(&d->faults, config_key_line(&s->settings, keys[i], s->line),
                       "%s in a file that others can write; allowed: commands in a file of root or "
                       "of the user that runs keepfs, mode 0644 or less",
                       keys[i]);
}

void config_interpret(struct config *c, struct draft *d)
{
    const struct section *defaults = find_section(d, SECTION_DEFAULTS);
    struct faults *f = &d->faults;

    mark_duplicates(d);
    take_keepfs(c, d);
    for (size_t i = 0; i < d->count; i++)
        for (size_t j = 0;
             d->sections[i]->type == SECTION_DEFAULTS && j < d->sections[i]->pair_count; j++)
            check_default(d->sections[i], &d->sections[i]->pairs[j], f);
    for (size_t i = 0; i < d->count; i++)
        if (d->sections[i]->type == SECTION_STORE)
            add_store(c, d->sections[i], defaults, f);

    c->by_id = xcalloc(c->store_count, sizeof(struct store *));
    if (c->store_count > 0)
        memcpy(c->by_id, c->stores, c->store_count * sizeof(struct store *));
    qsort(c->by_id, c->store_count, sizeof(struct store *), by_id);
    for (size_t i = 0; i < d->count; i++)
        if (d->sections[i]->type == SECTION_REPO)
            add_repo(c, d->sections[i], defaults, f);

    for (size_t i = 0; i < c->store_count; i++)
        check_commands(c->stores[i], d);
    for (size_t i = 0; i < c->store_count; i++)
        if (c->stores[i]->repo_count == 0)
            faults_add(f, c->stores[i]->line,
                       "store %s has no repo; required: at least one section [repo %s/NAME]",
                       c->stores[i]->id, c->stores[i]->id);
}
