/* SPDX-License-Identifier: MIT */
/*
 * print_rows.c - the program's own tables, for check.py to compare the man pages with: a line per
 * row, words parted by tabs.
 *
 *   key SECTION KEY TYPE DEFAULT MIN MAX WORD,WORD...      "-" where there is none
 *   file DIRECTORY NAME TYPE MODE
 *   code NAME EXIT-STATUS
 */
#include "archive/policy.h"
#include "config.h"
#include "destination/kinds.h"
#include "fs/files.h"
#include "source/kinds.h"

#include <inttypes.h>
#include <stdio.h>

static void print_keys(const char *section, const struct setting *row)
{
    static const char *const types[] = {
        [SETTING_TEXT] = "text", [SETTING_PATH] = "path", [SETTING_INT] = "int",
        [SETTING_BOOL] = "bool", [SETTING_WORD] = "word",
    };

    for (; row->key; row++) {
        printf("key\t%s\t%s\t%s\t%s\t%" PRId64 "\t%" PRId64 "\t", section, row->key,
               types[row->type], row->def ? row->def : "-", row->min, row->max);
        for (const char *const *word = row->words; word && *word; word++)
            printf("%s%s", *word, word[1] ? "," : "");
        puts(row->words ? "" : "-");
    }
}

static void print_all_keys(void)
{
    print_keys("keepfs", config_keepfs_settings);
    print_keys("store", config_store_settings);
    for (size_t i = 0; source_kinds[i]; i++)
        print_keys("store", source_kinds[i]->settings);
    print_keys("repo", config_repo_settings);
    print_keys("repo", archive_settings);
    for (size_t i = 0; destination_kinds[i]; i++)
        print_keys("repo", destination_kinds[i]->settings);
}

/* What a directory is called in keepfs.5; "-" for one that has no files of its own. */
static const char *directory(enum node_kind kind)
{
    switch (kind) {
    case NODE_ROOT:
        return "/";
    case NODE_JOBS:
        return "jobs/";
    case NODE_JOB:
        return "jobs/ID/";
    case NODE_RECORDS:
        return "records/";
    case NODE_RECORD:
        return "records/ID/";
    case NODE_STORE:
        return "stores/STORE/";
    case NODE_REPO:
        return "stores/STORE/repos/REPO/";
    default:
        return "-";
    }
}

static void print_files(void)
{
    const struct file *f;

    for (unsigned i = 1; (f = file_at(i)) != NULL; i++)
        printf("file\t%s\t%s\t%s\t%04o\n", directory(f->dir), f->name,
               f->type == FILE_LINK  ? "link"
               : f->type == FILE_DIR ? "dir"
                                     : "file",
               (unsigned)f->mode);
}

static void print_codes(void)
{
#define X(id, name, status, hint) printf("code\t%s\t%d\n", name, status);
    ERROR_CODES(X)
#undef X
}

int main(void)
{
    print_all_keys();
    print_files();
    print_codes();
    return 0;
}
