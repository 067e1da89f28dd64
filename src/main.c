/* SPDX-License-Identifier: MIT */
/*
 * main.c - argv to a command. A command is a row; `mount.keepfs` is `keepfs mount` as mount(8)
 * calls it from fstab.
 */
#include "archive/policy.h"
#include "config.h"
#include "extract.h"
#include "fsck.h"
#include "keepfs/destination.h"
#include "keepfs/source.h"
#include "mount.h"
#include "util/buf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct command {
    const char *name, *arguments, *help;
    int (*run)(int argc, char **argv); /* argv[0] is the command */
};

static const struct command commands[];

static int usage_error(const char *command, const char *what)
{
    fprintf(stderr, "keepfs %s: %s\nTry: keepfs --help\n", command, what);
    return error_code_exit(ERR_USAGE);
}

/* ---- mount ---- */

static int parse_mount(int argc, char **argv, struct mount_options *out)
{
    static const struct option none[] = {{0}};

    for (int c; (c = getopt_long(argc, argv, ":fo:", none, NULL)) != -1;)
        if (c == 'f')
            out->foreground = true;
        else if (c == 'o')
            out->fuse_options = optarg;
        else
            return usage_error("mount", "the options are -f and -o OPTIONS");
    if (argc - optind != 2)
        return usage_error("mount", "it takes CONFIG and MOUNTPOINT");
    out->config = argv[optind];
    out->mountpoint = argv[optind + 1];
    return 0;
}

static int run_mount(int argc, char **argv)
{
    struct mount_options options = {0};
    int status = parse_mount(argc, argv, &options);

    return status ? status : mount_run(&options);
}

/* mount.keepfs SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE], see mount(8). */
static int run_mount_helper(int argc, char **argv)
{
    struct mount_options options = {0};
    bool fake = false;

    for (int c; (c = getopt(argc, argv, "sfnvN:o:t:")) != -1;)
        if (c == 'f')
            fake = true;
        else if (c == 'o')
            options.fuse_options = optarg;
        else if (c == '?')
            return usage_error("mount", "it is to be called by mount -t keepfs CONFIG DIR");
    if (argc - optind != 2)
        return usage_error("mount", "it is to be called by mount -t keepfs CONFIG DIR");
    options.config = argv[optind];
    options.mountpoint = argv[optind + 1];
    return fake ? 0 : mount_run(&options);
}

/* ---- check ---- */

/* What would make a backup fail today is no fault of the configuration: a disk may be unmounted. */
static void warn_of_store(const struct config *c, const struct store *store)
{
    struct source *source;
    struct error err;

    if (store->kind->open(store, NULL, &source, &err) == 0)
        store->kind->close(source);
    else
        fprintf(stderr, "%s:%d: warning: [store %s]: %s\n", c->path, store->line, store->id,
                err.message);
}

static void warn_of_repo(const struct config *c, const struct repo *repo)
{
    char warning[512] = "";
    struct error err;

    if (repo->kind->check(&repo->settings, warning, sizeof warning, &err) != 0)
        snprintf(warning, sizeof warning, "%.500s", err.message);
    if (warning[0])
        fprintf(stderr, "%s:%d: warning: [repo %s/%s]: %s\n", c->path, repo->line, repo->store->id,
                repo->id, warning);
}

static void warn_of_keys(const struct config *c, const struct repo *repo)
{
    struct archive_policy policy = archive_policy_of(repo);
    struct error err;

    for (size_t i = 0; i < policy.key_count; i++)
        if (key_ref_probe(policy.keys[i], &err) != 0)
            fprintf(stderr, "%s:%d: warning: [repo %s/%s]: %s\n", c->path, repo->line,
                    repo->store->id, repo->id, err.message);
}

static int run_check(int argc, char **argv)
{
    struct buf faults = BUF_INIT;
    size_t repos = 0;

    if (argc != 2)
        return usage_error("check", "it takes CONFIG");
    struct config *c = config_load(argv[1], NULL, &faults);
    fputs(buf_text(&faults), stderr);
    buf_release(&faults);
    if (!c)
        return error_code_exit(ERR_CONFIG_INVALID);
    for (size_t i = 0; i < c->store_count; i++) {
        warn_of_store(c, c->stores[i]);
        for (size_t k = 0; k < c->stores[i]->repo_count; k++, repos++) {
            warn_of_repo(c, c->stores[i]->repos[k]);
            warn_of_keys(c, c->stores[i]->repos[k]);
        }
    }
    printf("%s: ok: %zu stores, %zu repos, state in %s\n", c->path, c->store_count, repos,
           c->state);
    config_free(c);
    return 0;
}

/* ---- fsck ---- */

static int run_fsck(int argc, char **argv)
{
    static const struct option options[] = {{"deep", no_argument, NULL, 'd'}, {0}};
    struct fsck_options out = {0};

    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        if (c == 'd')
            out.deep = true;
        else
            return usage_error(argv[0], "the option is --deep");
    if (argc - optind != 1)
        return usage_error(argv[0], "it takes CONFIG");
    out.config = argv[optind];
    return fsck_run(&out);
}

/* ---- extract, verify ---- */

static int parse_bytes(const char *command, const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno != 0)
        return usage_error(command, "--offset and --length take a number of bytes");
    *out = value;
    return 0;
}

static int parse_extract(int argc, char **argv, bool ranges, struct extract_options *out)
{
    static const struct option options[] = {{"key", required_argument, NULL, 'k'},
                                            {"offset", required_argument, NULL, 'o'},
                                            {"length", required_argument, NULL, 'l'},
                                            {"allow-v1", no_argument, NULL, '1'},
                                            {0}};
    int status = 0;

    out->length = UINT64_MAX;
    for (int c; status == 0 && (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == 'k' && out->key_count < LIMIT_KEYS)
            out->keys[out->key_count++] = optarg;
        else if (c == 'k')
            status = usage_error(argv[0], "too many keys");
        else if (c == '1')
            out->allow_v1 = true;
        else if (ranges && (c == 'o' || c == 'l'))
            status = parse_bytes(argv[0], optarg, c == 'o' ? &out->offset : &out->length);
        else
            status = usage_error(
                argv[0], ranges ? "the options are --key REF, --allow-v1, --offset N, --length N"
                                : "the options are --key REF, --allow-v1");
        out->ranged |= c == 'o' || c == 'l';
    }
    if (status == 0 && argc - optind != 1)
        status = usage_error(argv[0], "it takes ARCHIVE_DIR");
    out->archive_dir = argv[optind];
    return status;
}

static int run_extract(int argc, char **argv)
{
    struct extract_options options = {0};
    int status = parse_extract(argc, argv, true, &options);

    if (status == 0 && isatty(STDOUT_FILENO))
        status =
            usage_error(argv[0], "it writes bytes to stdout, which is a terminal: redirect it");
    return status ? status : extract_run(&options);
}

static int run_verify(int argc, char **argv)
{
    struct extract_options options = {0};
    int status = parse_extract(argc, argv, false, &options);

    return status ? status : verify_run(&options);
}

/* ---- help and version ---- */

static int run_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("keepfs " KEEPFS_VERSION);
    return 0;
}

static int run_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("keepfs - backups by writing to files\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  keepfs %s %s\n      %s\n", c->name, c->arguments, c->help);
    puts("\nThe mount has a README. Exit status: 0 done, 2 usage, 3 configuration, else the code\n"
         "that the README of the source lists.");
    return 0;
}

static const struct command commands[] = {
    {"mount", "CONFIG MOUNTPOINT [-f] [-o OPTIONS]",
     "mount the backups of CONFIG; -f stays in the foreground and logs to stderr", run_mount},
    {"check", "CONFIG", "say what is wrong with CONFIG, all of it", run_check},
    {"fsck", "CONFIG [--deep]",
     "say where catalog, repos and archives do not agree, writing nothing; --deep reads every byte",
     run_fsck},
    {"extract", "ARCHIVE_DIR [--key REF]... [--allow-v1] [--offset N] [--length N]",
     "write what an archive holds to stdout, decrypted and decompressed; REF is env:NAME or "
     "file:/path",
     run_extract},
    {"verify", "ARCHIVE_DIR [--key REF]... [--allow-v1]",
     "read every byte of an archive and say whether it is what was written", run_verify},
    {"--version", "", "print the version", run_version},
    {"--help", "", "print this", run_help},
    {NULL, NULL, NULL, NULL},
};

/* Whoever starts us with 0, 1 or 2 closed would have a lock or a pipe take their place. Writing to
 * what stands there fails: a copy into nothing must not look like one. */
static void open_standard_files(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');

    open_standard_files();
    if (strcmp(slash ? slash + 1 : argv[0], "mount.keepfs") == 0)
        return run_mount_helper(argc, argv);
    for (const struct command *c = commands; argc > 1 && c->name; c++)
        if (strcmp(argv[1], c->name) == 0)
            return c->run(argc - 1, argv + 1);
    if (argc > 1)
        return usage_error(argv[1], "there is no such command");
    run_help(0, NULL);
    return error_code_exit(ERR_USAGE);
}
