/* SPDX-License-Identifier: MIT */
/*
 * run_file.c - a store may itself be called 1; in its own file both mean the same, in another's the
 * number is meant.
 */
#include "fs/run_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void run_file_render(const struct store *store, struct buf *out)
{
    buf_addf(out,
             "# Write one command per line; read the same open for the jobs it started.\n"
             "#   1 [key=TOKEN] [label=TEXT]           back up to each repo of %s\n"
             "#   %s/REPO [key=TOKEN] [label=TEXT]  back up to that repo\n"
             "# What can be written here:\n1\n%s\n",
             store->id, store->id, store->id);
    for (size_t i = 0; i < store->repo_count; i++)
        buf_addf(out, "%s/%s\n", store->id, store->repos[i]->id);
}

int run_file_aim(const char *store, struct run_request *request, struct error *err)
{
    if (strcmp(request->store, "1") == 0 && !request->repo[0])
        snprintf(request->store, sizeof request->store, "%s", store);
    if (strcmp(request->store, store) == 0)
        return 0;
    error_set(err, ERR_INVALID,
              "stores/%s/run starts backups of %s alone, not of %s: write 1 or %s/REPO", store,
              store, request->store, store);
    err->errnum = EPERM;
    return -1;
}
