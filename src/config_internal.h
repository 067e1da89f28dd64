/* SPDX-License-Identifier: MIT */
/*
 * config_internal.h - the configuration half way: read, but not yet understood.
 *
 *   1. config.c reads the file into a draft: sections of raw pairs, each with its line.
 *   2. config_check.c makes stores and repos of it (config_interpret).
 *      Groups are looked up by config_groups.c.
 *   3. config_overlap.c compares their places and forms the groups (config_overlaps).
 *
 * Each step adds what it finds to the faults and goes on, so that one run reports everything.
 * Private to these four files.
 */
#ifndef KEEPFS_CONFIG_INTERNAL_H
#define KEEPFS_CONFIG_INTERNAL_H

#include "config.h"

#include <sys/stat.h>

struct fault {
    int line; /* 0: of the file as a whole */
    size_t order;
    char *text; /* "what is wrong; what is allowed" */
};

/* How many faults are told one by one. Repos copied onto one place make a pair of every two. */
enum { FAULTS_MAX = 10000 };

struct faults {
    const char *file; /* as the user named it */
    struct fault *items;
    size_t count;
    size_t untold; /* above FAULTS_MAX */
};

void faults_add(struct faults *f, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct pair {
    char *key;
    char *value;
    int line;
    bool bad; /* reported already, to be ignored */
};

enum section_type {
    SECTION_KEEPFS,
    SECTION_DEFAULTS,
    SECTION_STORE,
    SECTION_REPO,
    SECTION_BAD, /* reported already; it takes the pairs behind it */
};

struct section {
    enum section_type type;
    char *name;               /* what stands in the brackets: "repo app/local" */
    char store[LIMIT_ID + 1]; /* a store's id, or the store of a repo */
    char repo[LIMIT_ID + 1];
    int line;
    bool duplicate;
    struct pair *pairs;
    size_t pair_count;
};

struct draft {
    struct section **sections; /* in the order of the file */
    size_t count;
    struct stat file;
    struct faults faults;
};

/* Fills c->settings, state and stores. */
void config_interpret(struct config *c, struct draft *d);

/* Compares all places, and sets the group of every store. */
void config_overlaps(struct config *c, const char *mountpoint, struct faults *f);

/* The line of the key's (first) value, `fallback` if there is none. */
int config_key_line(const struct settings *s, const char *key, int fallback);

/* The group that the key names, if it is given; a fault if the system has none such. */
void config_take_group(const struct settings *s, const char *key, struct group_id *out,
                       struct faults *f);

void store_free(struct store *s);
void repo_free(struct repo *r);

/* `array` with room for one more element behind its `count`. */
void *config_grow(void *array, size_t count, size_t size);

#endif
