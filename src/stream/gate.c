/* SPDX-License-Identifier: MIT */
/*
 * gate.c - one comparison and one call per write.
 */
#include "stream/gate.h"

#include "util/buf.h"

#include <stdlib.h>

struct gate {
    struct writer writer;
    struct writer *next;
    struct cancel *cancel;
    gate_passed_fn passed;
    void *ctx;
    struct error failure; /* ERR_NONE while all goes well */
};

static int gate_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct gate *g = (struct gate *)w;

    if (cancel_check(g->cancel, err) != 0 || writer_write(g->next, data, len, err) != 0) {
        g->failure = *err;
        return -1;
    }
    g->passed(g->ctx, len);
    return 0;
}

static int gate_finish(struct writer *w, struct error *err)
{
    struct gate *g = (struct gate *)w;

    if (cancel_check(g->cancel, err) != 0)
        return -1;
    return writer_finish(g->next, err);
}

static void gate_free(struct writer *w)
{
    struct gate *g = (struct gate *)w;

    writer_free(g->next);
    free(g);
}

struct writer *gate_new(struct writer *next, struct cancel *cancel, gate_passed_fn passed,
                        void *ctx)
{
    static const struct writer_ops ops = {
        .write = gate_write, .finish = gate_finish, .free = gate_free};
    struct gate *g = xcalloc(1, sizeof *g);

    *g = (struct gate){
        .writer.ops = &ops, .next = next, .cancel = cancel, .passed = passed, .ctx = ctx};
    return &g->writer;
}

const struct error *gate_failure(const struct writer *gate)
{
    const struct gate *g = (const struct gate *)gate;

    return g->failure.code == ERR_NONE ? NULL : &g->failure;
}
