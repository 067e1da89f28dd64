/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the fixture of fakes.h, and its destination: it keeps objects in memory, can fail at
 * its Nth call of any kind, and holds every promise of keepfs/destination.h by assertion.
 */
#ifndef KEEPFS_TESTS_ENGINE_MEMORY_H
#define KEEPFS_TESTS_ENGINE_MEMORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive/payload.h"
#include "engine/backup.h"
#include "util/buf.h"
#include "util/ulid.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory_object {
    char name[65];
    struct buf data;
    bool finished;
};

struct memory_group {
    char name[65];
    bool committed;
    struct memory_object objects[4];
    size_t object_count;
    struct memory_group *next;
};

struct fixture {
    /* memory */
    struct memory_group *groups;
    int calls;   /* of the destination so far */
    int fail_at; /* the call that fails, from 1; 0 = none */
    int failing_errno;
    int failures;                              /* calls that failed */
    int destinations, puts, writers, readings; /* open now */
    int reopens, preads;                       /* ever */
    unsigned open_flags;
    void (*after_commit)(void);
    void (*in_payload_finish)(void);
    void (*in_reopen)(struct memory_object *o); /* may alter it */

    /* script */
    int (*script)(struct source_run *run, struct error *err);
    int source_open_errno; /* open fails with it */
    int sources_opened, sources, scripts_run;

    /* tape */
    struct buf tape; /* "start 10 50 95 succeed " */
    enum job_state job_state;
    char started_record[ULID_LEN + 1];
    struct job_progress last_progress;
    struct record record;
    struct stats stats;
    struct error why;
    time_ms started_at, finished_at;
    bool refuse_start, fail_progress, fail_succeed, fail_fail;

    struct buf log;
    struct store store;
    struct repo repo;
    struct cancel cancel;
    struct job_store jobs;
    struct clock clock;
    time_ms now;
    struct backup backup;
    struct error err;
};

static struct fixture fx;

/* ---- the destination ---- */

/* Objects may be written from a thread of the stream's, where a test cannot be ended by cmocka:
 * what is called there uses assert(3). */

struct memory_put {
    struct put put;
    struct memory_group *group;
    bool writing;
};

struct memory_writer {
    struct writer writer;
    struct memory_put *put;
    struct memory_object *object;
    bool failed;
};

static const struct destination_kind memory_kind;

/* Every call of the destination goes through here. */
static int memory_step(const char *what, struct error *err)
{
    if (++fx.calls != fx.fail_at)
        return 0;
    fx.failures++;
    return error_sys(err, SIDE_DESTINATION, fx.failing_errno, "memory: %s", what);
}

static struct memory_group *memory_find(const char *name)
{
    struct memory_group *g = fx.groups;

    while (g && strcmp(g->name, name) != 0)
        g = g->next;
    return g;
}

static struct memory_object *memory_object_of(struct memory_group *g, const char *name)
{
    for (size_t i = 0; i < g->object_count; i++)
        if (strcmp(g->objects[i].name, name) == 0)
            return &g->objects[i];
    return NULL;
}

static void memory_drop(struct memory_group *group)
{
    struct memory_group **at = &fx.groups;

    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    for (size_t i = 0; i < group->object_count; i++)
        buf_release(&group->objects[i].data);
    free(group);
}

static int memory_open(const struct settings *settings, unsigned flags, struct destination **out,
                       struct error *err)
{
    assert_ptr_equal(settings, &fx.repo.settings);
    fx.open_flags = flags;
    if (memory_step("open", err) != 0)
        return -1;
    *out = xcalloc(1, sizeof **out);
    (*out)->kind = &memory_kind;
    fx.destinations++;
    return 0;
}

static void memory_close(struct destination *d)
{
    if (!d)
        return;
    assert_int_equal(fx.puts, 0); /* all puts are freed before */
    fx.destinations--;
    free(d);
}

static int memory_put_begin(struct destination *d, const char *group, struct put **out,
                            struct error *err)
{
    if (memory_step("put_begin", err) != 0)
        return -1;
    if (memory_find(group))
        return error_sys(err, SIDE_DESTINATION, EEXIST, "memory: %s", group);
    struct memory_put *p = xcalloc(1, sizeof *p);
    p->put.destination = d;
    p->group = xcalloc(1, sizeof *p->group);
    snprintf(p->group->name, sizeof p->group->name, "%s", group);
    p->group->next = fx.groups;
    fx.groups = p->group;
    fx.puts++;
    *out = &p->put;
    return 0;
}

static int memory_write(struct writer *writer, const void *data, size_t len, struct error *err)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    assert(!w->failed && !w->object->finished); /* after a failure only free is allowed */
    w->failed = memory_step("write", err) != 0;
    if (w->failed)
        return -1;
    buf_add(&w->object->data, data, len);
    return 0;
}

static int memory_finish(struct writer *writer, struct error *err)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    assert(!w->failed);
    if (fx.in_payload_finish && strcmp(w->object->name, ARCHIVE_PAYLOAD) == 0)
        fx.in_payload_finish();
    w->failed = memory_step("finish", err) != 0;
    w->object->finished = !w->failed;
    return w->failed ? -1 : 0;
}

static void memory_writer_free(struct writer *writer)
{
    struct memory_writer *w = (struct memory_writer *)writer;

    w->put->writing = false;
    fx.writers--;
    free(w);
}

static int memory_put_object(struct put *put, const char *name, struct writer **out,
                             struct error *err)
{
    static const struct writer_ops ops = {memory_write, memory_finish, memory_writer_free};
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing); /* one at a time */
    if (memory_step("put_object", err) != 0)
        return -1;
    struct memory_group *g = p->group;
    assert_in_range(g->object_count, 0, 3);
    struct memory_object *o = &g->objects[g->object_count++];
    snprintf(o->name, sizeof o->name, "%s", name);
    struct memory_writer *w = xcalloc(1, sizeof *w);
    w->writer.ops = &ops;
    w->put = p;
    w->object = o;
    p->writing = true;
    fx.writers++;
    *out = &w->writer;
    return 0;
}

struct memory_reading {
    struct object object;
    const struct buf *data;
};

static void memory_read_from(struct memory_object *o, struct object **out)
{
    struct memory_reading *r = xcalloc(1, sizeof *r);

    assert_true(o->finished);
    r->object.kind = &memory_kind;
    r->object.size = o->data.len;
    r->data = &o->data;
    fx.readings++;
    *out = &r->object;
}

static int memory_put_reopen(struct put *put, const char *name, struct object **out,
                             struct error *err)
{
    struct memory_put *p = (struct memory_put *)put;
    struct memory_object *o = memory_object_of(p->group, name);

    assert_false(p->writing || p->group->committed);
    fx.reopens++;
    if (memory_step("put_reopen", err) != 0)
        return -1;
    assert_non_null(o);
    if (fx.in_reopen)
        fx.in_reopen(o);
    memory_read_from(o, out);
    return 0;
}

static int memory_open_object(struct destination *d, const char *group, const char *name,
                              struct object **out, struct error *err)
{
    struct memory_group *g = memory_find(group);
    struct memory_object *o = g && g->committed ? memory_object_of(g, name) : NULL;

    (void)d;
    if (!o)
        return error_sys(err, SIDE_DESTINATION, ENOENT, "memory: %s/%s", group, name);
    memory_read_from(o, out);
    return 0;
}

static ssize_t memory_pread(struct object *object, void *buf, size_t len, uint64_t offset,
                            struct error *err)
{
    const struct buf *data = ((struct memory_reading *)object)->data;

    fx.preads++;
    if (memory_step("pread", err) != 0)
        return -1;
    if (offset >= data->len)
        return 0;
    len = len < data->len - offset ? len : data->len - (size_t)offset;
    memcpy(buf, data->data + offset, len);
    return (ssize_t)len;
}

static void memory_close_object(struct object *o)
{
    fx.readings -= o != NULL;
    free(o);
}

static int memory_put_commit(struct put *put, struct error *err)
{
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing);
    for (size_t i = 0; i < p->group->object_count; i++)
        assert_true(p->group->objects[i].finished);
    if (memory_step("put_commit", err) != 0)
        return -1;
    p->group->committed = true;
    if (fx.after_commit)
        fx.after_commit();
    return 0;
}

static void memory_put_free(struct put *put)
{
    struct memory_put *p = (struct memory_put *)put;

    assert_false(p->writing);
    assert_int_equal(fx.readings, 0);
    if (!p->group->committed)
        memory_drop(p->group);
    fx.puts--;
    free(p);
}

static const struct destination_kind memory_kind = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .put_begin = memory_put_begin,
    .put_object = memory_put_object,
    .put_reopen = memory_put_reopen,
    .put_commit = memory_put_commit,
    .put_free = memory_put_free,
    .open_object = memory_open_object,
    .pread = memory_pread,
    .close_object = memory_close_object,
};

#endif
