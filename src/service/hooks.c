/* SPDX-License-Identifier: MIT */
/*
 * hooks.c - the commands of a store around its backups.
 *
 *   before      after the job's row is running, before its source is opened: if it fails, the job
 *               fails with it (hook_failed) and nothing is read
 *   after       once the attempt is over, whatever came of it, if `before` was begun or there is
 *               none: what `before` stopped is started again here
 *   on_failure  after that, for a job that failed; not for one that was cancelled or interrupted
 *
 * The archive stands, or does not, by the time of the latter two, and nothing they do changes the
 * job's state: how they ended is in its log, together with all that they print. They run before the
 * final state is written, since a finished job's log does not change any more.
 *
 * No shell, a process group of its own, hook_timeout; a cancel ends `before` and not the others.
 * What they are told is in the environment: KEEPFS_HOOK, KEEPFS_STORE, KEEPFS_REPO, KEEPFS_JOB,
 * KEEPFS_RECORD, and behind the attempt KEEPFS_STATE, KEEPFS_ERROR_CODE and KEEPFS_ERROR.
 */
#include "service/internal.h"

#include "util/buf.h"
#include "util/spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOOK_GRACE_MS = 5000, HOOK_OUTPUT_MAX = 256 * 1024, HOOK_ENV_MAX = 8 };

struct environment {
    char *entries[HOOK_ENV_MAX + 1];
    size_t count;
};

static void add(struct environment *e, const char *name, const char *value)
{
    e->entries[e->count++] = xasprintf("%s=%s", name, value);
}

static void describe(struct environment *e, const char *hook, const struct hook_call *c)
{
    *e = (struct environment){0};
    add(e, "KEEPFS_HOOK", hook);
    add(e, "KEEPFS_STORE", c->repo->store->id);
    add(e, "KEEPFS_REPO", c->repo->id);
    add(e, "KEEPFS_JOB", c->job);
    add(e, "KEEPFS_RECORD", c->record);
    if (!c->state)
        return;
    add(e, "KEEPFS_STATE", c->state);
    add(e, "KEEPFS_ERROR_CODE", c->why ? error_code_name(c->why->code) : "");
    add(e, "KEEPFS_ERROR", c->why ? c->why->message : "");
}

static void release(struct environment *e)
{
    for (size_t i = 0; i < e->count; i++)
        free(e->entries[i]);
}

/* What the log says of it. */
struct told {
    const struct hook_call *call;
    const char *hook;
};

static void tell(void *ctx, const char *line)
{
    const struct told *t = ctx;
    struct buf text = BUF_INIT;

    buf_addf(&text, "%s: %s", t->hook, line);
    t->call->log(t->call->log_ctx, buf_text(&text));
    buf_release(&text);
}

static void tell_rest(struct told *t, const struct spawn_result *r)
{
    char text[96];

    if (r->lines_dropped > 0) {
        snprintf(text, sizeof text, "%llu more lines of its output were dropped",
                 (unsigned long long)r->lines_dropped);
        tell(t, text);
    }
    if (r->killed)
        tell(t, "what it left running with its output open was killed");
}

static int run(const struct hook_call *c, const char *hook, char **argv, struct cancel *cancel,
               struct error *err)
{
    struct told told = {.call = c, .hook = hook};
    struct environment env;
    struct spawn_result r;
    char how[SPAWN_TEXT_MAX];

    describe(&env, hook, c);
    int result = spawn_run(
        &(struct spawn_options){
            .argv = argv,
            .env = env.entries,
            .side = SIDE_SOURCE,
            .timeout_ms = (int)settings_int(&c->repo->store->settings, "hook_timeout") * 1000,
            .grace_ms = HOOK_GRACE_MS,
            .output_max = HOOK_OUTPUT_MAX,
            .line = tell,
            .ctx = &told,
            .cancel = cancel,
        },
        &r, err);
    release(&env);
    if (result == 0)
        tell_rest(&told, &r);
    if (result == 0 && r.end == SPAWN_CANCELLED && cancel_check(cancel, err) != 0)
        return -1;
    if (result == 0 && (r.end != SPAWN_EXITED || r.status != 0))
        result = error_set(err, ERR_HOOK_FAILED, "%s %s", argv[0], spawn_describe(&r, how));
    if (result != 0)
        err->code = ERR_HOOK_FAILED;
    return result;
}

int hook_run(const struct hook_call *c, const char *hook, struct cancel *cancel, struct error *err)
{
    const char *line = settings_text(&c->repo->store->settings, hook);
    char why[SETTING_WHY_MAX], **argv;

    if (!line)
        return 0;
    /* It was checked with the configuration. */
    if (!spawn_split(line, &argv, why, sizeof why))
        return error_set(err, ERR_HOOK_FAILED, "%s: %s", hook, why);
    int result = run(c, hook, argv, cancel, err);
    free(argv);
    if (result != 0 && err->code == ERR_HOOK_FAILED)
        error_context(err, "the %s command", hook);
    return result;
}
