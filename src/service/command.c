/* SPDX-License-Identifier: MIT */
/*
 * command.c - what is written to ctl and cancel.
 *
 * service_run in order: the key is looked up first, so that whoever repeats a request learns of its
 * earlier job and not that the repo is busy with it; then all repos are claimed, then all rows are
 * inserted in one transaction (with the tick, if a schedule asks), then the jobs are queued. A
 * failure undoes the claim and leaves nothing.
 */
#include "service/internal.h"

#include "util/log.h"
#include "util/ulid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- grammar ---- */

static int invalid(struct error *err, int errnum, size_t column, const char *what)
{
    error_set(err, ERR_INVALID,
              "column %zu: %s; a line is STORE or STORE/REPO, then key=TOKEN and label=TEXT, both "
              "optional",
              column + 1, what);
    err->errnum = errnum;
    return -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool key_valid(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._:-";

    return *key && *key != '.' && strspn(key, allowed) == strlen(key);
}

/* Copies a word of at most `max` bytes; false if it is longer. */
static bool copy_word(char *out, size_t max, const char *word, size_t len)
{
    if (len > max)
        return false;
    memcpy(out, word, len);
    out[len] = '\0';
    return true;
}

static int parse_target(const char *word, size_t len, size_t column, struct run_request *out,
                        struct error *err)
{
    const char *slash = memchr(word, '/', len);
    size_t store_len = slash ? (size_t)(slash - word) : len;

    if (!copy_word(out->store, LIMIT_ID, word, store_len))
        return invalid(err, E2BIG, column, "the store's id is longer than 64 bytes");
    if (!id_valid(out->store))
        return invalid(err, EINVAL, column,
                       "a store's id is one of a-z 0-9, then a-z 0-9 . _ - only");
    if (!slash)
        return 0;
    if (!copy_word(out->repo, LIMIT_ID, slash + 1, len - store_len - 1))
        return invalid(err, E2BIG, column + store_len + 1, "the repo's id is longer than 64 bytes");
    if (!id_valid(out->repo))
        return invalid(err, EINVAL, column + store_len + 1,
                       "a repo's id is one of a-z 0-9, then a-z 0-9 . _ - only");
    return 0;
}

static int parse_key(const char *value, size_t len, size_t column, struct run_request *out,
                     struct error *err)
{
    if (out->key[0])
        return invalid(err, EINVAL, column, "key= is there twice");
    if (!copy_word(out->key, LIMIT_KEY, value, len))
        return invalid(err, E2BIG, column, "the key is longer than 64 bytes");
    if (!key_valid(out->key))
        return invalid(err, EINVAL, column,
                       "a key is letters, digits and . _ : - only and does not begin with a dot");
    return 0;
}

static int parse_label(const char *value, size_t len, size_t column, struct run_request *out,
                       struct error *err)
{
    while (len > 0 && is_blank(value[len - 1]))
        len--;
    if (len == 0)
        return invalid(err, EINVAL, column, "the label is empty");
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return invalid(err, EINVAL, column + i, "a control character in the label");
    if (!copy_word(out->label, LIMIT_LABEL, value, len))
        return invalid(err, E2BIG, column, "the label is longer than 256 bytes");
    return 0;
}

int run_request_parse(const char *line, size_t len, struct run_request *out, struct error *err)
{
    *out = (struct run_request){.attempt = 1};
    if (len > LIMIT_CTL_LINE)
        return invalid(err, E2BIG, LIMIT_CTL_LINE, "the line is longer than 1024 bytes");
    if (len > 0 && line[len - 1] == '\r')
        return invalid(err, EINVAL, len - 1,
                       "a carriage return at the end of the line: write lines that end with a "
                       "newline alone");
    for (size_t at = 0, end;; at = end) {
        while (at < len && is_blank(line[at]))
            at++;
        for (end = at; end < len && !is_blank(line[end]); end++)
            if (line[end] == '\0')
                return invalid(err, EINVAL, end, "a NUL byte");
        size_t word = end - at;
        if (word == 0)
            return out->store[0] ? 0 : invalid(err, EINVAL, at, "the line is empty");
        int result;
        if (!out->store[0])
            result = parse_target(line + at, word, at, out, err);
        else if (word >= 4 && memcmp(line + at, "key=", 4) == 0)
            result = parse_key(line + at + 4, word - 4, at + 4, out, err);
        else if (word >= 6 && memcmp(line + at, "label=", 6) == 0)
            return parse_label(line + at + 6, len - at - 6, at + 6, out, err);
        else
            result = invalid(err, EINVAL, at, "an unknown word");
        if (result != 0)
            return -1;
    }
}

/* ---- run ---- */

static int unknown(struct error *err, const char *fmt, const char *store, const char *repo)
{
    char what[2 * LIMIT_ID + 64];

    snprintf(what, sizeof what, fmt, store, repo);
    error_set(err, ERR_NOT_FOUND, "%s; `ls stores` shows the ids there are", what);
    err->errnum = ENOENT;
    return -1;
}

static int find_repos(const struct config *config, const struct run_request *q, struct repo **one,
                      struct repo *const **repos, size_t *count, struct error *err)
{
    const struct store *store = config_store(config, q->store);

    if (!store)
        return unknown(err, "there is no store %s", q->store, "");
    *repos = store->repos;
    *count = store->repo_count;
    if (q->repo[0]) {
        *one = store_repo(store, q->repo);
        if (!*one)
            return unknown(err, "there is no repo %s/%s", q->store, q->repo);
        *repos = one;
        *count = 1;
    }
    if (q->key[0] && *count != 1) {
        error_set(err, ERR_INVALID,
                  "a key stands for one job, and %s has %zu repos; write %s/REPO key=...", q->store,
                  *count, q->store);
        err->errnum = EINVAL;
        return -1;
    }
    return 0;
}

static int check_key(struct service *s, const struct run_request *q, struct error *err)
{
    struct job earlier;
    struct error none;

    if (!q->key[0])
        return 0;
    if (catalog_job_by_key(s->catalog, q->key, &earlier, &none) != 0) {
        if (none.code == ERR_NOT_FOUND)
            return 0;
        *err = none;
        return -1;
    }
    error_set(err, ERR_INVALID, "the key %s is that of job %s already", q->key, earlier.ulid);
    err->errnum = EEXIST;
    return -1;
}

static int insert_rows(struct service *s, const struct run_request *q, struct live_job **live,
                       size_t count, struct error *err)
{
    struct job jobs[LIMIT_REPOS_PER_STORE];
    time_ms now = clock_now(s->clock);

    for (size_t i = 0; i < count; i++) {
        struct job *j = &jobs[i];
        *j = (struct job){.state = JOB_PENDING, .kind = "backup", .created_at = now};
        snprintf(j->ulid, sizeof j->ulid, "%s", live[i]->ulid);
        snprintf(j->store, sizeof j->store, "%s", live[i]->repo->store->id);
        snprintf(j->repo, sizeof j->repo, "%s", live[i]->repo->id);
        snprintf(j->requested_by, sizeof j->requested_by, "%s", q->requested_by);
        snprintf(j->key, sizeof j->key, "%s", q->key);
        snprintf(j->label, sizeof j->label, "%s", q->label);
        j->attempt = q->attempt;
        j->tick = q->tick;
    }
    return catalog_jobs_create(s->catalog, jobs, count, err);
}

/* With what find_repos gave. */
static int enqueue(struct service *s, struct config *config, const struct run_request *q,
                   struct repo *const *repos, size_t count, struct run_reply *reply,
                   struct error *err)
{
    char ulids[LIMIT_REPOS_PER_STORE][ULID_LEN + 1];
    struct live_job *live[LIMIT_REPOS_PER_STORE];

    for (size_t i = 0; i < count; i++)
        ulid_new(clock_now(s->clock), ulids[i]);
    if (live_claim(&s->live, config, repos, ulids, count, live, err) != 0)
        return -1;
    if (insert_rows(s, q, live, count, err) != 0) {
        for (size_t i = 0; i < count; i++)
            live_remove(&s->live, live[i]);
        return -1;
    }
    reply->count = count;
    for (size_t i = 0; i < count; i++) {
        live[i]->attempt = q->attempt;
        memcpy(reply->jobs[i].job, ulids[i], sizeof ulids[i]);
        snprintf(reply->jobs[i].repo, sizeof reply->jobs[i].repo, "%s", repos[i]->id);
        if (!is_caller(q->requested_by))
            log_info("job %s: backup of %s/%s, asked for by %s", ulids[i], q->store, repos[i]->id,
                     q->requested_by);
    }
    for (size_t i = 0; i < count; i++)
        scheduler_forget_retry(s->scheduler, q->store, repos[i]->id);
    /* From here on the entries belong to the workers. */
    live_queue(&s->live, live, count);
    return 0;
}

int service_run(struct service *s, const struct run_request *q, struct run_reply *reply,
                struct error *err)
{
    struct config *config = service_config(s);
    struct repo *one, *const *repos;
    size_t count;
    int result = find_repos(config, q, &one, &repos, &count, err);

    if (result == 0)
        result = check_key(s, q, err);
    if (result == 0)
        result = enqueue(s, config, q, repos, count, reply, err);
    config_free(config);
    return result;
}

/* ---- cancel ---- */

int service_cancel(struct service *s, const char *ulid, const char *by, struct error *err)
{
    char reason[64];
    struct live_job *pending;
    struct job job;
    struct error why, failed;

    if (catalog_job_get(s->catalog, ulid, &job, err) != 0)
        return -1;
    snprintf(reason, sizeof reason, "cancelled by %s", by);
    if (!live_cancel(&s->live, ulid, reason, &pending))
        return 0;
    if (!is_caller(by))
        log_info("job %s: %s", ulid, reason);
    if (!pending)
        return 0;
    error_set(&why, ERR_CANCELLED, "%s while it was pending", reason);
    if (catalog_job_fail(s->catalog, ulid, JOB_INTERRUPTED, &why, &(struct stats){0},
                         clock_now(s->clock), &failed) == 0) {
        live_remove(&s->live, pending);
        return 0;
    }
    /* A worker finds the request and tries until its end is stored. */
    log_warn("job %s: %s; trying again", ulid, failed.message);
    live_requeue(&s->live, pending);
    return 0;
}
