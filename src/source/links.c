/* SPDX-License-Identifier: MIT */
/*
 * links.c - a hash table with chains that doubles when it is full. A file leaves it with its last
 * name, so that it holds only what can still be asked for; the last answer is kept apart.
 */
#include "source/links.h"

#include "util/buf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 256 };

struct link {
    struct link *next;
    struct link_id id;
    nlink_t left; /* names not seen yet */
    char path[];
};

struct links {
    struct link **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct link *last; /* taken out by the last find */
};

struct link_id link_id_of(int fd, const struct stat *st)
{
    struct link_id id = {.dev = st->st_dev, .ino = st->st_ino};
    struct statx more;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &more) == 0 && (more.stx_mask & STATX_BTIME)) {
        id.birth_sec = more.stx_btime.tv_sec;
        id.birth_nsec = more.stx_btime.tv_nsec;
    }
    return id;
}

struct links *links_new(void)
{
    struct links *l = xcalloc(1, sizeof *l);

    l->bucket_count = BUCKETS_MIN;
    l->buckets = xcalloc(l->bucket_count, sizeof *l->buckets);
    return l;
}

void links_free(struct links *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->bucket_count; i++) {
        for (struct link *e = l->buckets[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    }
    free(l->last);
    free(l->buckets);
    free(l);
}

static struct link **bucket(const struct links *l, const struct link_id *id)
{
    uint64_t h = (id->ino ^ (id->dev << 32)) * UINT64_C(0x9e3779b97f4a7c15);

    return &l->buckets[(h >> 32) & (l->bucket_count - 1)];
}

static bool same(const struct link_id *a, const struct link_id *b)
{
    return a->ino == b->ino && a->dev == b->dev && a->birth_sec == b->birth_sec &&
           a->birth_nsec == b->birth_nsec;
}

const char *links_find(struct links *l, const struct link_id *id)
{
    for (struct link **at = bucket(l, id); *at; at = &(*at)->next) {
        struct link *found = *at;
        if (!same(&found->id, id))
            continue;
        if (--found->left == 0) {
            *at = found->next;
            l->count--;
            free(l->last);
            l->last = found;
        }
        return found->path;
    }
    return NULL;
}

static void grow(struct links *l)
{
    struct links bigger = {.bucket_count = 2 * l->bucket_count};

    bigger.buckets = xcalloc(bigger.bucket_count, sizeof *bigger.buckets);
    for (size_t i = 0; i < l->bucket_count; i++) {
        for (struct link *e = l->buckets[i], *next; e; e = next) {
            struct link **to = bucket(&bigger, &e->id);
            next = e->next;
            e->next = *to;
            *to = e;
        }
    }
    free(l->buckets);
    l->buckets = bigger.buckets;
    l->bucket_count = bigger.bucket_count;
}

bool links_add(struct links *l, const struct link_id *id, const char *path, nlink_t names)
{
    size_t size = strlen(path) + 1;

    if (names < 2)
        return true;
    if (l->count >= LINKS_MAX)
        return false;
    if (l->count >= l->bucket_count)
        grow(l);
    struct link *e = xmalloc(sizeof *e + size);
    struct link **to = bucket(l, id);
    *e = (struct link){.next = *to, .id = *id, .left = names - 1};
    memcpy(e->path, path, size);
    *to = e;
    l->count++;
    return true;
}
