/* SPDX-License-Identifier: MIT */
/*
 * kinds.c - the table of destination kinds. A new kind is its file, a line in kinds.h and a row
 * here; the conformance tests, `kind =` and the help find it by themselves.
 */
#include "destination/kinds.h"

#include <string.h>

const struct destination_kind *const destination_kinds[] = {
    &destination_local,
    NULL,
};

const struct destination_kind *destination_kind_find(const char *name)
{
    for (size_t i = 0; destination_kinds[i]; i++)
        if (strcmp(destination_kinds[i]->name, name) == 0)
            return destination_kinds[i];
    return NULL;
}
