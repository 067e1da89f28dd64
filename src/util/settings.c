/* SPDX-License-Identifier: MIT */
/*
 * settings.c - one value against its row, and the list of values that a section gave.
 *
 * Checking happens once, in setting_parse(); what settings_add() is given is right. Getters may
 * therefore convert without looking, and a default is right because it is written in our own
 * table (tests parse every one).
 *
 * Values hang in a list in the order of the file. Sections have a handful of keys, so that a walk
 * is all the look-up there is.
 */
#include "keepfs/settings.h"

#include "util/buf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct setting *settings_row(const struct settings *s, const char *key)
{
    for (size_t i = 0; i < sizeof s->rows / sizeof s->rows[0]; i++)
        for (const struct setting *row = s->rows[i]; row && row->key; row++)
            if (strcmp(row->key, key) == 0)
                return row;
    return NULL;
}

/* The path without "//", "/./" and a trailing "/"; NULL if a component is "..". */
static char *path_clean(const char *path)
{
    __attribute__((cleanup(buf_release))) struct buf out = BUF_INIT;

    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len == 2 && memcmp(p, "..", 2) == 0)
            return NULL;
        if (len > 0 && !(len == 1 && *p == '.'))
            buf_addf(&out, "/%.*s", (int)len, p);
        p += len;
    }
    if (out.len == 0)
        buf_adds(&out, "/");
    return buf_steal(&out);
}

/* Decimal digits with at most a minus. strtoll takes blanks and "+" as well; a value that looks odd
 * is more often a slip. */
static bool is_number(const char *text)
{
    const char *digits = text + (*text == '-');

    return *digits && digits[strspn(digits, "0123456789")] == '\0';
}

static bool is_in_range(const struct setting *row, const char *text)
{
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    return errno == 0 && value >= row->min && value <= row->max;
}

static bool is_word(const char *const *words, const char *text)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* Why the text is no value of the row; NULL if it is one. */
static const char *judge(const struct setting *row, const char *text)
{
    static const char *const yes_no[] = {"yes", "no", NULL};

    switch (row->type) {
    case SETTING_TEXT:
        return row->fault ? row->fault(text) : NULL;
    case SETTING_PATH:
        return text[0] == '/' ? NULL : "is not absolute";
    case SETTING_INT:
        if (!is_number(text))
            return "is no decimal number";
        return is_in_range(row, text) ? NULL : "is out of range";
    case SETTING_BOOL:
        return is_word(yes_no, text) ? NULL : "is neither yes nor no";
    case SETTING_WORD:
        return is_word(row->words, text) ? NULL : "is not a word it takes";
    }
    return NULL;
}

/* What values the row takes. */
static void describe_allowed(const struct setting *row, struct buf *out)
{
    switch (row->type) {
    case SETTING_TEXT:
        buf_adds(out, row->allowed ? row->allowed : "any text");
        break;
    case SETTING_PATH:
        buf_adds(out, "an absolute path without \"..\"");
        break;
    case SETTING_INT:
        buf_addf(out, "a number from %" PRId64 " to %" PRId64, row->min, row->max);
        break;
    case SETTING_BOOL:
        buf_adds(out, "yes, no");
        break;
    case SETTING_WORD:
        for (const char *const *word = row->words; *word; word++)
            buf_addf(out, "%s%s", word == row->words ? "" : ", ", *word);
        break;
    }
}

int setting_parse(const struct setting *row, const char *text, char **out, char *why,
                  size_t why_size)
{
    __attribute__((cleanup(buf_release))) struct buf allowed = BUF_INIT;
    const char *wrong = text[0] ? judge(row, text) : "has no value";
    char detail[SETTING_WHY_MAX];
    char *kept = NULL;

    if (!wrong && row->check && row->check(text, detail, sizeof detail) != 0) {
        snprintf(why, why_size, "%s = %.80s: %s", row->key, text, detail);
        return -1;
    }
    if (!wrong) {
        kept = row->type == SETTING_PATH ? path_clean(text) : xstrdup(text);
        if (!kept)
            wrong = "has a \"..\" in it";
    }
    if (kept) {
        *out = kept;
        return 0;
    }
    describe_allowed(row, &allowed);
    if (row->flags & SETTING_SECRET && text[0])
        text = "(its value is not repeated here)";
    /* A long value must not push what is allowed out of `why`. */
    snprintf(why, why_size, "%s%s%.80s %s; allowed: %s", row->key, text[0] ? " = " : "", text,
             wrong, buf_text(&allowed));
    return -1;
}

void settings_add(struct settings *s, const struct setting *row, char *text, int line)
{
    struct setting_value *value = xmalloc(sizeof *value);

    *value = (struct setting_value){.row = row, .text = text, .line = line};
    if (s->last)
        s->last->next = value;
    else
        s->first = value;
    s->last = value;
}

void settings_release(struct settings *s)
{
    for (struct setting_value *value = s->first, *next; value; value = next) {
        next = value->next;
        free(value->text);
        free(value);
    }
    s->first = s->last = NULL;
}

const struct setting_value *settings_next(const struct settings *s, const char *key,
                                          const struct setting_value *prev)
{
    assert(settings_row(s, key));
    const struct setting_value *value = prev ? prev->next : s->first;
    while (value && strcmp(value->row->key, key) != 0)
        value = value->next;
    return value;
}

static const char *value_or_default(const struct settings *s, const struct setting *row)
{
    const struct setting_value *value = settings_next(s, row->key, NULL);

    return value ? value->text : row->def;
}

const char *settings_text(const struct settings *s, const char *key)
{
    const struct setting *row = settings_row(s, key);

    assert(row && row->type != SETTING_INT && row->type != SETTING_BOOL);
    return value_or_default(s, row);
}

int64_t settings_int(const struct settings *s, const char *key)
{
    const struct setting *row = settings_row(s, key);

    assert(row && row->type == SETTING_INT);
    const char *text = value_or_default(s, row);
    return text ? strtoll(text, NULL, 10) : 0;
}

bool settings_bool(const struct settings *s, const char *key)
{
    const struct setting *row = settings_row(s, key);

    assert(row && row->type == SETTING_BOOL);
    const char *text = value_or_default(s, row);
    return text && strcmp(text, "yes") == 0;
}
