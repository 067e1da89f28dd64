/* SPDX-License-Identifier: MIT */
/*
 * report.c - see report.h. Each look is a look of its own: nothing is kept from one to the next.
 */
#include "fs/report.h"

#include "fs/metrics.h"
#include "fs/screen.h"

#include <inttypes.h>

static int load(struct subject *s, struct overview *out)
{
    const struct tree *t = s->tree;
    struct error err;

    return overview_load(t->service, s->config, clock_now(t->clock), t->mounted_at, out, &err) == 0
               ? 0
               : tree_errno(&err);
}

int report_status(struct subject *s, struct buf *out)
{
    struct overview o;
    int result = load(s, &o);

    if (result != 0)
        return result;
    screen_render(&o, KEEPFS_VERSION, out);
    overview_release(&o);
    return 0;
}

int report_metrics(struct subject *s, struct buf *out)
{
    struct overview o;
    int result = load(s, &o);

    if (result != 0)
        return result;
    metrics_render(&o, KEEPFS_VERSION, out);
    overview_release(&o);
    return 0;
}

int report_expect_every(struct subject *s, struct buf *out)
{
    time_ms every = service_expect_every(s->tree->service, s->repo);

    if (every)
        buf_addf(out, "%" PRId64 "\n", every / 1000);
    else
        buf_adds(out, "never\n");
    return 0;
}

int report_load_newest(struct subject *s)
{
    struct error err;

    return catalog_record_latest(service_catalog(s->tree->service), s->store->id, s->repo->id,
                                 &s->record, &err) == 0
               ? 0
               : tree_errno(&err);
}
