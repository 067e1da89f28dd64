/* SPDX-License-Identifier: MIT */
/*
 * exclude.c - a list of patterns, tried in order. What a pattern is matched against is decided
 * once, when it is read.
 */
#include "source/exclude.h"

#include "util/buf.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

struct pattern {
    struct pattern *next;
    bool whole_path;
    char text[];
};

struct exclude {
    struct pattern *first;
};

static struct pattern *pattern_new(const char *text)
{
    size_t len = strlen(text);

    while (len > 1 && text[len - 1] == '/')
        len--;
    bool whole_path = memchr(text, '/', len) != NULL;
    if (text[0] == '/') {
        text++;
        len--;
    }
    struct pattern *p = xcalloc(1, sizeof *p + len + 1);
    p->whole_path = whole_path;
    memcpy(p->text, text, len);
    return p;
}

struct exclude *exclude_new(const struct settings *settings, const char *key)
{
    struct exclude *x = xcalloc(1, sizeof *x);
    struct pattern **end = &x->first;

    for (const struct setting_value *v = settings_next(settings, key, NULL); v;
         v = settings_next(settings, key, v)) {
        *end = pattern_new(v->text);
        end = &(*end)->next;
    }
    return x;
}

void exclude_free(struct exclude *x)
{
    if (!x)
        return;
    for (struct pattern *p = x->first, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    free(x);
}

bool exclude_matches(const struct exclude *x, const char *path, const char *name)
{
    for (const struct pattern *p = x->first; p; p = p->next) {
        if (fnmatch(p->text, p->whole_path ? path : name, p->whole_path ? FNM_PATHNAME : 0) == 0)
            return true;
    }
    return false;
}
