/* SPDX-License-Identifier: MIT */
/*
 * late.c - see late.h.
 */
#include "fs/late.h"

#include "service/health.h"

#include <errno.h>
#include <stdlib.h>

int late_since(const struct tree *t, const struct store *store, time_ms *since)
{
    struct error err;

    if (service_store_overdue(t->service, store, since, &err) != 0)
        return tree_errno(&err);
    return *since ? 0 : ENOENT;
}

struct rows {
    const struct config *config;
    struct catalog_entry *items;
    size_t count;
};

static bool add_configured(void *ctx, const struct catalog_entry *e)
{
    struct rows *r = ctx;
    const struct store *store = config_store(r->config, e->name);

    if (store && r->count < r->config->store_count)
        r->items[r->count++] = (struct catalog_entry){e->row, store->id};
    return true;
}

/* All rows are read before the first store is looked at, which asks the catalog again. */
int late_list(const struct tree *t, const struct config *config, int64_t after, catalog_list_fn fn,
              void *ctx)
{
    struct rows r = {.config = config};
    struct error err;
    time_ms since;
    int result = 0;

    r.items = xcalloc(config->store_count + 1, sizeof *r.items);
    if (catalog_list_stores(service_catalog(t->service), after, add_configured, &r, &err) != 0)
        result = tree_errno(&err);
    for (size_t i = 0; result == 0 && i < r.count; i++) {
        result = late_since(t, config_store(config, r.items[i].name), &since);
        if (result == 0 && !fn(ctx, &r.items[i]))
            break;
        if (result == ENOENT)
            result = 0;
    }
    free(r.items);
    return result;
}
