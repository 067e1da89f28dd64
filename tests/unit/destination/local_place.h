/* SPDX-License-Identifier: MIT */
/*
 * local_place.h - a few more verbs, for the tests of the kind `local` alone.
 */
#ifndef TESTS_DESTINATION_LOCAL_PLACE_H
#define TESTS_DESTINATION_LOCAL_PLACE_H

#include "place.h"

/* put_group with four bytes in "object"; must succeed. */
static inline void put_ok(struct destination *d, const char *group)
{
    struct error err = {0};

    if (put_group(d, group, "object", "text", 4, &err) != 0)
        fail_msg("cannot put: %s", err.message);
}

static inline struct put *begin_ok(struct destination *d, const char *group)
{
    struct put *put;
    struct error err = {0};

    if (d->kind->put_begin(d, group, &put, &err) != 0)
        fail_msg("cannot begin: %s", err.message);
    return put;
}

/* From now on the root is `tail` below what it was. */
static inline void place_descend(struct place *p, const char *tail)
{
    char *longer = xasprintf("%s/%s", p->root, tail);

    free(p->root);
    p->root = longer;
    settings_release(&p->settings);
    place_settings(p, p->kind);
}

#endif
