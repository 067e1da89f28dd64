/* SPDX-License-Identifier: MIT */
/*
 * fuzz_names.c - any text as a name: of a store, an archive, an idempotency key, a time zone. What
 * is accepted becomes part of a path, so that it must be one plain component (a zone's name some
 * of them), of bounded length, and must mean itself.
 */
#include "config.h"
#include "service/service.h"
#include "util/ulid.h"
#include "util/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NAME_BYTES = 512 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* One component of a path that shows itself in a terminal and in a line of text. */
static void must_be_component(const char *name, size_t max)
{
    size_t len = strlen(name);

    must(len >= 1 && len <= max && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    for (size_t i = 0; i < len; i++)
        must(name[i] > ' ' && name[i] < 0x7f && name[i] != '/');
}

static int parse_line(const char *line, struct run_request *q)
{
    struct error err = {0};

    return run_request_parse(line, strlen(line), q, &err);
}

static void check_id(const char *text)
{
    char both[2 * NAME_BYTES + 2];
    struct run_request q;

    if (!id_valid(text)) {
        must(parse_line(text, &q) != 0 || strcmp(q.store, text) != 0);
        return;
    }
    must_be_component(text, LIMIT_ID);
    must(text[0] != '.' && text[0] != '-');
    snprintf(both, sizeof both, "%s/%s", text, text);
    must(parse_line(both, &q) == 0 && strcmp(q.store, text) == 0 && strcmp(q.repo, text) == 0);
    must(parse_line(text, &q) == 0 && strcmp(q.store, text) == 0 && q.repo[0] == '\0');
}

static void check_ulid(const char *text)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    if (!ulid_valid(text))
        return;
    must_be_component(text, ULID_LEN);
    must(strlen(text) == ULID_LEN && strspn(text, digits) == ULID_LEN);
    time_ms t = ulid_time(text);
    must(t >= 0 && t < (time_ms)1 << 48);
    for (int i = 9; i >= 0; i--, t >>= 5) /* the time, written again */
        must(text[i] == digits[t & 31]);
}

static void check_key(const char *text)
{
    char line[NAME_BYTES + 16];
    struct run_request q;

    snprintf(line, sizeof line, "a key=%s", text);
    if (parse_line(line, &q) != 0)
        return;
    must_be_component(q.key, LIMIT_KEY);
    must(q.key[0] != '.' && strncmp(q.key, text, strlen(q.key)) == 0);
    must(strchr(" \t", text[strlen(q.key)]) != NULL);
    char key[LIMIT_KEY + 1];
    memcpy(key, q.key, sizeof key);
    snprintf(line, sizeof line, "a key=%s", key);
    must(parse_line(line, &q) == 0 && strcmp(q.key, key) == 0);
}

/* In an empty directory a name that is fit is one that is not found. */
static void check_zone(const char *text)
{
    const struct zone_places nowhere = {"/proc/self/fdinfo/none", "/proc/self/fdinfo/none"};
    struct zone *zone = NULL;
    struct error err = {0};

    if (zone_open_at(&nowhere, text, &zone, &err) == 0) {
        must(strcmp(text, "UTC") == 0);
        zone_free(zone);
    } else if (err.code == ERR_NOT_FOUND) {
        must(text[0] != '/' && text[0] != '\0' && strlen(text) <= 255);
        must(!strstr(text, "..") && !strstr(text, "//") && !strchr(text, '\n'));
    } else {
        must(err.code == ERR_INVALID && err.message[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[NAME_BYTES + 1];

    if (size > NAME_BYTES)
        return -1;
    snprintf(text, sizeof text, "%.*s", (int)size, (const char *)data);
    check_id(text);
    check_ulid(text);
    check_key(text);
    check_zone(text);
    return 0;
}
