/* SPDX-License-Identifier: MIT */
/*
 * zone.c - reading TZif, and finding a span.
 *
 * A file is a header, a block with 4-byte times and, from version 2 on, a second header, the same
 * block with 8-byte times and a footer, a rule between two newlines (RFC 8536, section 3). Of a
 * file that has the second block the first is only stepped over.
 *
 * Kept are the times at which the offset changes; changes of a name alone are dropped. The rule of
 * the footer holds from the table's last time on, dropped or not, or always if the table is empty.
 *
 * A file is read whole, up to a ceiling far above any that tzdata has (4 KiB), and every count and
 * index in it is checked before it is used.
 */
#include "util/zone.h"

#include "util/buf.h"
#include "util/date.h"
#include "util/fsutil.h"
#include "util/zone_rule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 44, TYPE = 6, FILE_MAX = 256 * 1024, RULE_MAX = 255, NAME_MAX_LEN = 255 };

static const struct zone_places machine = {"/usr/share/zoneinfo", "/etc/localtime"};

/* Midnight of 0001-01-01, and the last second of 9999. */
static const int64_t first_time = -62135596800, last_time = 253402300799;

struct change {
    int64_t at;
    int32_t offset; /* from then on */
};

struct zone {
    int32_t before; /* offset before the first change */
    struct change *changes;
    size_t count;
    bool has_rule;
    struct zone_rule rule;
    int64_t rule_from;
};

/* ---- TZif ---- */

struct header {
    int version;                                                    /* 1 to 4 */
    uint32_t utc_flags, standard_flags, leaps, times, types, chars; /* how many of each */
};

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t get_time(const unsigned char *p, size_t width)
{
    if (width == 4)
        return (int32_t)get_u32(p);
    return (int64_t)((uint64_t)get_u32(p) << 32 | get_u32(p + 4));
}

static int damaged(struct error *err, const char *what)
{
    return error_set(err, ERR_INVALID, "it is no time zone file, or damaged: %s", what);
}

static int read_header(const unsigned char *p, size_t len, struct header *h, struct error *err)
{
    if (len < HEADER || memcmp(p, "TZif", 4) != 0)
        return damaged(err, "TZif is not where it must be");
    if (p[4] != '\0' && (p[4] < '2' || p[4] > '4'))
        return error_set(err, ERR_INVALID, "it is a time zone file of an unknown version");
    *h = (struct header){
        .version = p[4] ? p[4] - '0' : 1,
        .utc_flags = get_u32(p + 20),
        .standard_flags = get_u32(p + 24),
        .leaps = get_u32(p + 28),
        .times = get_u32(p + 32),
        .types = get_u32(p + 36),
        .chars = get_u32(p + 40),
    };
    return 0;
}

static uint64_t block_size(const struct header *h, size_t width)
{
    return h->times * (uint64_t)(width + 1) + h->types * (uint64_t)TYPE + h->chars +
           h->leaps * (uint64_t)(width + 4) + h->standard_flags + h->utc_flags;
}

static int check_counts(const struct header *h, struct error *err)
{
    if (h->leaps != 0)
        return error_set(err, ERR_INVALID,
                         "it counts leap seconds, and the system's clock does not");
    if (h->types < 1 || h->types > 256 || h->chars < 1)
        return damaged(err, "it has no types");
    if ((h->utc_flags && h->utc_flags != h->types) ||
        (h->standard_flags && h->standard_flags != h->types))
        return damaged(err, "its counts do not go together");
    return 0;
}

/* The offsets of all types. */
static int read_types(const unsigned char *p, const struct header *h, int32_t offsets[256],
                      struct error *err)
{
    for (uint32_t i = 0; i < h->types; i++, p += TYPE) {
        offsets[i] = (int32_t)get_u32(p);
        if (offsets[i] <= -ZONE_OFFSET_MAX || offsets[i] >= ZONE_OFFSET_MAX || p[4] > 1 ||
            p[5] >= h->chars)
            return damaged(err, "a type is out of range");
    }
    return 0;
}

/* The block at p: times, the type of each, the types. */
static int read_block(struct zone *z, const unsigned char *p, const struct header *h, size_t width,
                      struct error *err)
{
    const unsigned char *types = p + h->times * width;
    int32_t offsets[256];
    int64_t last = INT64_MIN;

    if (read_types(types + h->times, h, offsets, err) != 0)
        return -1;
    z->before = offsets[0];
    z->changes = xcalloc(h->times + 1, sizeof *z->changes);
    for (uint32_t i = 0; i < h->times; i++) {
        int64_t at = get_time(p + i * width, width);
        if (types[i] >= h->types)
            return damaged(err, "a change is to a type that is not there");
        if (i > 0 && at <= last)
            return damaged(err, "its changes are not in order");
        last = at;
        if (offsets[types[i]] != (z->count ? z->changes[z->count - 1].offset : z->before))
            z->changes[z->count++] = (struct change){at, offsets[types[i]]};
    }
    z->rule_from = last;
    return 0;
}

static int read_footer(struct zone *z, const unsigned char *p, size_t len, struct error *err)
{
    char text[RULE_MAX + 1];
    const unsigned char *end = len > 1 ? memchr(p + 1, '\n', len - 1) : NULL;

    if (!end || p[0] != '\n' || end - p - 1 > RULE_MAX)
        return damaged(err, "its footer is not where it must be");
    size_t size = (size_t)(end - p) - 1;
    memcpy(text, p + 1, size);
    text[size] = '\0';
    if (size == 0)
        return 0;
    if (strlen(text) != size || zone_rule_parse(text, &z->rule) != 0)
        return damaged(err, "its footer is no rule");
    z->has_rule = true;
    return 0;
}

static int read_file(struct zone *z, const unsigned char *p, size_t len, struct error *err)
{
    struct header h;
    size_t width = 4;

    if (read_header(p, len, &h, err) != 0)
        return -1;
    if (h.version > 1) {
        uint64_t skip = HEADER + block_size(&h, width);
        if (skip > len)
            return damaged(err, "it is cut short");
        p += skip;
        len -= skip;
        width = 8;
        if (read_header(p, len, &h, err) != 0)
            return -1;
    }
    if (check_counts(&h, err) != 0)
        return -1;
    p += HEADER;
    len -= HEADER;
    if (block_size(&h, width) > len)
        return damaged(err, "it is cut short");
    if (read_block(z, p, &h, width, err) != 0)
        return -1;
    size_t size = (size_t)block_size(&h, width);
    return width == 4 ? 0 : read_footer(z, p + size, len - size, err);
}

int zone_parse(const void *data, size_t len, struct zone **out, struct error *err)
{
    struct zone *z = xcalloc(1, sizeof *z);

    if (read_file(z, data, len, err) != 0) {
        zone_free(z);
        return -1;
    }
    *out = z;
    return 0;
}

void zone_free(struct zone *z)
{
    if (z)
        free(z->changes);
    free(z);
}

/* ---- opening ---- */

/* A zone of one rule for all time. */
static struct zone *of_rule(const struct zone_rule *rule)
{
    struct zone *z = xcalloc(1, sizeof *z);

    *z = (struct zone){.has_rule = true, .rule = *rule, .rule_from = INT64_MIN};
    return z;
}

static struct zone *utc(void)
{
    return of_rule(&(struct zone_rule){0});
}

static int unreadable(struct error *err, int errnum)
{
    error_set(err, errnum == ENOENT || errnum == ENOTDIR ? ERR_NOT_FOUND : ERR_INVALID, "%s",
              strerrordesc_np(errnum));
    err->errnum = errnum;
    return -1;
}

static int open_path(const char *path, struct zone **out, struct error *err)
{
    __attribute__((cleanup(fd_close))) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    __attribute__((cleanup(free_charp))) char *data = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return unreadable(err, errno);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        return damaged(err, "it is no regular file of at most 256 KiB");
    data = xmalloc(FILE_MAX);
    ssize_t len = fd_pread_all(fd, data, FILE_MAX, 0);
    if (len < 0)
        return unreadable(err, errno);
    return zone_parse(data, (size_t)len, out, err);
}

static bool name_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789_+-/";
    size_t len = strlen(name);

    return len > 0 && len <= NAME_MAX_LEN && strspn(name, allowed) == len && name[0] != '/' &&
           name[len - 1] != '/' && !strstr(name, "//");
}

static int open_name(const struct zone_places *places, const char *name, struct zone **out,
                     struct error *err)
{
    __attribute__((cleanup(free_charp))) char *path = NULL;

    if (!name_valid(name))
        return error_set(err, ERR_INVALID,
                         "the name of a time zone is letters, digits and _ + - with single slashes "
                         "between, as in Europe/Rome");
    if (strcmp(name, "UTC") == 0) {
        *out = utc();
        return 0;
    }
    path = xasprintf("%s/%s", places->directory, name);
    if (open_path(path, out, err) == 0)
        return 0;
    if (err->code == ERR_NOT_FOUND)
        return error_set(err, ERR_NOT_FOUND, "there is no time zone %s in %s", name,
                         places->directory);
    return error_context(err, "time zone %s", path);
}

/* What TZ says. */
static int open_variable(const struct zone_places *places, const char *value, struct zone **out,
                         struct error *err)
{
    const char *text = value + (*value == ':');
    struct zone_rule rule;
    struct error none;

    if (*text == '\0')
        *out = utc();
    else if (*text == '/')
        return open_path(text, out, err) == 0 ? 0 : error_context(err, "TZ=%.255s", value);
    else if (open_name(places, text, out, &none) == 0)
        return 0;
    else if (zone_rule_parse(text, &rule) == 0)
        *out = of_rule(&rule);
    else
        return error_set(err, ERR_INVALID,
                         "TZ=%.255s is neither a time zone in %s nor a rule such as "
                         "CET-1CEST,M3.5.0,M10.5.0/3",
                         value, places->directory);
    return 0;
}

static int open_local(const struct zone_places *places, struct zone **out, struct error *err)
{
    const char *variable = getenv("TZ");
    struct error why;

    if (variable)
        return open_variable(places, variable, out, err);
    if (open_path(places->local, out, &why) == 0)
        return 0;
    if (why.code == ERR_NOT_FOUND) {
        *out = utc();
        return 0;
    }
    *err = why;
    return error_context(err, "%s", places->local);
}

int zone_open_at(const struct zone_places *places, const char *name, struct zone **out,
                 struct error *err)
{
    return name ? open_name(places, name, out, err) : open_local(places, out, err);
}

int zone_open(const char *name, struct zone **out, struct error *err)
{
    return zone_open_at(&machine, name, out, err);
}

/* ---- spans ---- */

/* How many changes are not later than `at`. */
static size_t changes_until(const struct zone *z, int64_t at)
{
    size_t low = 0, high = z->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (z->changes[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct zone_span zone_span_at(const struct zone *z, int64_t at)
{
    struct zone_span span = {INT64_MIN, INT64_MAX, z->before};

    at = at < first_time ? first_time : at > last_time ? last_time : at;
    if (z->has_rule && at >= z->rule_from) {
        span = zone_rule_span(&z->rule, at);
        if (span.start < z->rule_from)
            span.start = z->rule_from;
        return span;
    }
    size_t i = changes_until(z, at);
    if (i > 0) {
        span.start = z->changes[i - 1].at;
        span.offset = z->changes[i - 1].offset;
    }
    if (i < z->count)
        span.end = z->changes[i].at;
    else if (z->has_rule)
        span.end = z->rule_from;
    return span;
}

int32_t zone_offset(const struct zone *z, int64_t utc)
{
    return zone_span_at(z, utc).offset;
}
