/* SPDX-License-Identifier: MIT */
/*
 * settings.h - configuration keys as rows of a table, and their values.
 *
 * Whoever has keys (the daemon, every store, every repo, each source and destination kind)
 * declares them in an array of struct setting that ends with a row whose key is NULL. That one
 * table feeds parsing, defaults, bounds, error messages and the reference in the README.
 *
 * A struct settings holds the values that a section gave, already checked against their rows, and
 * falls back to the row's default. Getters assert that the key has a row of that type.
 *
 * Threads: immutable after parsing; any thread may read.
 */
#ifndef KEEPFS_SETTINGS_H
#define KEEPFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_type {
    SETTING_TEXT, /* any non-empty text */
    SETTING_PATH, /* absolute; kept cleaned of "//", "/./" and a trailing "/" */
    SETTING_INT,  /* decimal, within [min, max] */
    SETTING_BOOL, /* yes or no */
    SETTING_WORD, /* one of `words` */
};

enum setting_flag {
    SETTING_REQUIRED = 1,   /* the section must give it */
    SETTING_REPEATABLE = 2, /* may be given several times; all values are kept, in order */
    SETTING_SECRET = 4,     /* a bad value may be a secret put in the wrong place: never repeated */
};

/* Room for what is wrong with one value, and what is allowed. */
enum { SETTING_WHY_MAX = 1024 };

struct setting {
    const char *key;
    enum setting_type type;
    unsigned flags;
    const char *def; /* as it would be written; NULL = no value */
    int64_t min, max;
    const char *const *words; /* NULL-terminated, for SETTING_WORD */
    /* For SETTING_TEXT that is not any text: what is wrong with it, or NULL; and what is allowed.
     */
    const char *(*fault)(const char *text);
    const char *allowed;
    /* Instead of `fault` where what is wrong has a place: -1 and a sentence with what is allowed.
     */
    int (*check)(const char *text, char *why, size_t why_size);
    const char *help; /* one line */
};

struct setting_value {
    const struct setting *row;
    char *text;
    int line; /* of the configuration, for messages */
    struct setting_value *next;
};

struct settings {
    const struct setting *rows[4]; /* up to four tables apply; unused ones NULL */
    struct setting_value *first, *last;
};

/* The row of a key, searched in all tables of `s`; NULL if there is none. */
const struct setting *settings_row(const struct settings *s, const char *key);

/* Checks `text` against its row and writes the kept form (a cleaned path) to `out`, heap
 * allocated. On failure returns -1 and writes what is wrong and what is allowed to why. */
int setting_parse(const struct setting *row, const char *text, char **out, char *why,
                  size_t why_size);

/* Adds a checked value; takes over `text`. */
void settings_add(struct settings *s, const struct setting *row, char *text, int line);

/* Frees the values. */
void settings_release(struct settings *s);

/* The value or its default. Strings belong to `s`; NULL where there is neither. */
const char *settings_text(const struct settings *s, const char *key);
int64_t settings_int(const struct settings *s, const char *key);
bool settings_bool(const struct settings *s, const char *key);

/* Repeatable keys: start with prev = NULL; NULL at the end. No default applies. */
const struct setting_value *settings_next(const struct settings *s, const char *key,
                                          const struct setting_value *prev);

#endif
