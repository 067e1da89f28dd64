/* SPDX-License-Identifier: MIT */
/*
 * model.c - words for states, and figures.
 */
#include "keepfs/model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
    [JOB_PENDING] = "pending", [JOB_RUNNING] = "running",         [JOB_SUCCEEDED] = "succeeded",
    [JOB_FAILED] = "failed",   [JOB_INTERRUPTED] = "interrupted",
};

const char *job_state_name(enum job_state state)
{
    return state_names[state];
}

int job_state_parse(const char *word, enum job_state *out)
{
    for (size_t i = 0; i < sizeof state_names / sizeof state_names[0]; i++)
        if (strcmp(word, state_names[i]) == 0) {
            *out = (enum job_state)i;
            return 0;
        }
    return -1;
}

static const struct stat_item *find(const struct stats *s, const char *key)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].key, key) == 0)
            return &s->items[i];
    return NULL;
}

void stats_add(struct stats *s, const char *key, uint64_t value)
{
    const struct stat_item *found = find(s, key);

    if (found) {
        s->items[found - s->items].value += value;
        return;
    }
    assert(s->count < LIMIT_STATS && strlen(key) < sizeof s->items[0].key);
    struct stat_item *item = &s->items[s->count++];
    snprintf(item->key, sizeof item->key, "%s", key);
    item->value = value;
}

uint64_t stats_get(const struct stats *s, const char *key)
{
    const struct stat_item *found = find(s, key);

    return found ? found->value : 0;
}
