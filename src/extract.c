/* SPDX-License-Identifier: MIT */
/*
 * extract.c - one archive, found by its directory, read through archive/payload.h.
 *
 * The directory's parent is taken for a place of kind `local`, so that what the mount reads and
 * what these commands read goes the same way. The policy comes from the command line: any store's,
 * and encrypted if a key was given.
 */
#include "extract.h"

#include "archive/payload.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/fsutil.h"
#include "util/log.h"
#include "util/process.h"
#include "util/ulid.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct extraction {
    const struct extract_options *options;
    struct archive_policy policy;
    struct destination *destination;
    char ulid[ULID_LEN + 1];
    struct archive archive;
    struct frame_cache *cache;
};

/* Takes the path apart: the place, and the archive's id. */
static int find_archive(const char *dir, char **place, char ulid[ULID_LEN + 1], struct error *err)
{
    __attribute__((cleanup(free_charp))) char *whole = realpath(dir, NULL);

    if (!whole)
        return error_sys(err, SIDE_DESTINATION, errno, "%s", dir);
    __attribute__((cleanup(free_charp))) char *for_base = xstrdup(whole);
    const char *base = basename(for_base);
    if (!ulid_valid(base))
        return error_set(err, ERR_INVALID,
                         "%s is no archive: an archive's directory is called by its ULID, 26 "
                         "characters; rename a copy back to the backup_id of its manifest",
                         dir);
    memcpy(ulid, base, ULID_LEN + 1);
    *place = xstrdup(dirname(whole));
    return 0;
}

static int open_place(struct extraction *x, struct error *err)
{
    const struct destination_kind *local = destination_kind_find("local");
    struct settings settings = {.rows = {local->settings}};
    char *place = NULL;

    if (find_archive(x->options->archive_dir, &place, x->ulid, err) != 0)
        return -1;
    settings_add(&settings, settings_row(&settings, "path"), place, 0);
    int result = local->open(&settings, 0, &x->destination, err);
    settings_release(&settings);
    return result;
}

static int begin(struct extraction *x, const struct extract_options *options, struct error *err)
{
    *x = (struct extraction){.options = options};
    x->policy.min_envelope = options->key_count == 0 ? ENVELOPE_NONE
                             : options->allow_v1     ? ENVELOPE_V1
                                                     : ENVELOPE_V2;
    x->policy.key_count = options->key_count;
    memcpy(x->policy.keys, options->keys, sizeof x->policy.keys);
    if (options->key_count > 0)
        process_forbid_dumps();
    if (open_place(x, err) != 0)
        return -1;
    if (archive_examine(x->destination, x->ulid, &x->policy, &x->archive, err) != 0)
        return error_context(err, "archive %s", x->ulid);
    x->cache = frame_cache_new(0);
    return 0;
}

static void end(struct extraction *x)
{
    archive_release(&x->archive);
    frame_cache_free(x->cache);
    if (x->destination)
        x->destination->kind->close(x->destination);
}

static int complain(const struct error *err)
{
    log_error("%s", err->message);
    return error_code_exit(err->code);
}

/* ---- extract ---- */

static int put_out(const void *data, size_t len, struct error *err)
{
    if (fd_write_all(STDOUT_FILENO, data, len) == 0)
        return 0;
    int errnum = errno;
    error_set(err, ERR_TARGET_FAILED, "cannot write to stdout: %s", strerror(errnum));
    err->errnum = errnum;
    return -1;
}

static int copy_whole(struct extraction *x, char *data, struct error *err)
{
    struct reader *in;
    ssize_t n;

    if (payload_reader(&x->archive, x->cache, &in, err) != 0)
        return -1;
    while ((n = reader_read(in, data, LIMIT_STREAM_CHUNK, err)) > 0)
        if (put_out(data, (size_t)n, err) != 0)
            break;
    int result = n == 0 ? reader_finish(in, err) : -1;
    reader_free(in);
    return result;
}

static int copy_bytes(const struct extract_options *o, struct payload *p, char *data,
                      struct error *err)
{
    uint64_t size = payload_size(p), at = o->offset;

    if (at > size)
        return error_set(err, ERR_INVALID,
                         "offset %" PRIu64 " is behind the end: the content has %" PRIu64 " bytes",
                         at, size);
    for (uint64_t left = o->length < size - at ? o->length : size - at; left > 0;) {
        ssize_t n = payload_pread(
            p, data, left < LIMIT_STREAM_CHUNK ? (size_t)left : LIMIT_STREAM_CHUNK, at, err);
        if (n == 0)
            return error_set(err, ERR_INTEGRITY_FAILED,
                             "truncated: the content ends at byte "
                             "%" PRIu64 " of %" PRIu64,
                             at, size);
        if (n < 0 || put_out(data, (size_t)n, err) != 0)
            return -1;
        at += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

static int copy_range(struct extraction *x, char *data, struct error *err)
{
    struct payload *p;

    if (payload_open(&x->archive, x->cache, false, &p, err) != 0)
        return -1;
    if (!payload_checked(p))
        log_warn("the archive is neither compressed nor encrypted: nothing checks a part of it; "
                 "keepfs verify checks the whole");
    int result = copy_bytes(x->options, p, data, err);
    payload_close(p);
    return result;
}

int extract_run(const struct extract_options *options)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(LIMIT_STREAM_CHUNK);
    struct extraction x;
    struct error err;

    signal(SIGPIPE, SIG_IGN); /* told as an error like any other */
    int result = begin(&x, options, &err);
    if (result == 0)
        result = options->ranged ? copy_range(&x, data, &err) : copy_whole(&x, data, &err);
    end(&x);
    return result == 0 ? 0 : complain(&err);
}

/* ---- verify ---- */

static void describe(const struct archive *a)
{
    const struct manifest *m = &a->manifest;
    char created[TIME_TEXT_MAX];

    printf("archive %s\nstore %s\nstore_kind %s\ncreated_at %s\n", m->backup_id, m->store_id,
           m->store_kind, time_format(m->created_at, created));
    printf("size_bytes %" PRIu64 "\ncontent_bytes %" PRIu64 "\nsha256 %s\n", m->stored.size,
           m->content_bytes, m->stored.sha256);
    if (m->compression_level != 0)
        printf("compression %s:%d\n", m->compression, m->compression_level);
    else
        printf("compression %s\n", m->compression);
    if (m->envelope == ENVELOPE_NONE)
        printf("envelope none\n");
    else
        printf("envelope v%d\n", m->envelope);
    if (m->key_id[0])
        printf("key_id %s\n", m->key_id);
    printf("payload_id_count %" PRIu64 "\nresult ok\n", m->payload_id_count);
}

static int verify_all(struct extraction *x, struct error *err)
{
    struct reader *in;

    if (payload_reader(&x->archive, x->cache, &in, err) != 0)
        return -1;
    int result = reader_finish(in, err);
    reader_free(in);
    return result == 0 ? archive_check_ids(&x->archive, err) : -1;
}

int verify_run(const struct extract_options *options)
{
    struct extraction x;
    struct error err;
    int result = begin(&x, options, &err);

    if (result == 0) {
        result = verify_all(&x, &err);
        if (result == 0)
            describe(&x.archive);
        else
            error_context(&err, "archive %s", x.ulid);
    }
    end(&x);
    if (result != 0)
        return complain(&err);
    if (fflush(stdout) != 0) {
        error_set(&err, ERR_TARGET_FAILED, "cannot write to stdout: %s", strerror(errno));
        return complain(&err);
    }
    return 0;
}
