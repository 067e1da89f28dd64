/* SPDX-License-Identifier: MIT */
/*
 * kinds.c - the table of source kinds. A new kind is a file of its own, its line in kinds.h and its
 * row here.
 */
#include "source/kinds.h"

#include "util/buf.h"

#include <string.h>

const struct source_kind *const source_kinds[] = {&sqlite_source, &directory_source, NULL};

const struct source_kind *source_kind_find(const char *name)
{
    for (const struct source_kind *const *kind = source_kinds; *kind; kind++) {
        if (strcmp((*kind)->name, name) == 0)
            return *kind;
    }
    return NULL;
}

void source_log(struct source_run *run, const char *fmt, ...)
{
    struct buf line = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&line, fmt, ap);
    va_end(ap);
    run->ops->log(run, buf_text(&line));
    buf_release(&line);
}
