/* SPDX-License-Identifier: MIT */
/*
 * config_groups.c - the groups that a configuration names, by name or number.
 *
 * A name is asked for when the configuration is loaded, and not again: what gid it had then is what
 * the mount shows. A number need not be a group's.
 */
#include "config_internal.h"

#include "util/buf.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>

/* All digits; the highest of all stands for no group in chown(2). */
static bool is_number(const char *text)
{
    return text[strspn(text, "0123456789")] == '\0';
}

static bool parse_gid(const char *text, gid_t *out)
{
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);

    *out = (gid_t)value;
    return errno == 0 && value < (gid_t)-1;
}

/* 0, ENOENT, or why it is not known. Group databases give entries with all their members. */
static int look_up(const char *name, gid_t *out)
{
    struct group entry, *found = NULL;
    int result = ERANGE;

    for (size_t size = 1024; result == ERANGE && size <= LIMIT_GROUP_ENTRY; size *= 4) {
        __attribute__((cleanup(free_charp))) char *room = xmalloc(size);
        do
            result = getgrnam_r(name, &entry, room, size, &found);
        while (result == EINTR);
        if (result == 0 && found)
            *out = found->gr_gid;
    }
    /* The words that systems have for it differ. */
    if ((result == 0 && !found) || result == ESRCH || result == EBADF || result == EPERM)
        return ENOENT;
    return result;
}

void config_take_group(const struct settings *s, const char *key, struct group_id *out,
                       struct faults *f)
{
    static const char allowed[] = "a group's name, or its number";
    const char *text = settings_text(s, key);
    int line = config_key_line(s, key, 0);
    gid_t gid = 0;

    if (!text)
        return;
    if (is_number(text)) {
        if (!parse_gid(text, &gid))
            faults_add(f, line, "%s = %.80s is out of range; allowed: %s", key, text, allowed);
    } else {
        int failed = look_up(text, &gid);
        if (failed == ENOENT)
            faults_add(f, line, "%s = %.80s: there is no such group; allowed: %s", key, text,
                       allowed);
        else if (failed)
            faults_add(f, line, "%s = %.80s cannot be looked up: %s; allowed: %s", key, text,
                       strerror(failed), allowed);
    }
    *out = (struct group_id){.set = true, .gid = gid};
}

bool config_shared(const struct config *c)
{
    bool shared = c->control_group.set || c->read_group.set;

    for (size_t i = 0; i < c->store_count && !shared; i++)
        shared = c->stores[i]->run_group.set;
    return shared;
}

bool group_same(struct group_id a, struct group_id b)
{
    return a.set == b.set && (!a.set || a.gid == b.gid);
}
