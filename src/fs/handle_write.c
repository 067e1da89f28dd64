/* SPDX-License-Identifier: MIT */
/*
 * handle_write.c - commands: lines of ctl, switches; and what is told of those that are refused.
 *
 * Programs cut long output where their buffer ends, in the middle of a line: `ls stores > ctl` with
 * many stores. Such a write is known by its length, a multiple of CUT_BLOCK, and by having lines
 * before the one without a newline; that one is kept in `rest`, for the next write to go on with.
 * If there is none, it is not known to be whole and is not run. What a short write leaves of such a
 * write comes again by itself and is still cut: `owed` is its length.
 *
 * bash writes each line by itself, whatever became of the one before. So a command that was refused
 * stays in last_error as long as this open lasts.
 *
 * Switches: who has written reads what was written; under `lock` as well.
 */
#include "fs/handle_internal.h"

#include "fs/run_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CUT_BLOCK 512 /* programs' buffers are multiples of it */

/* ---- what the caller reads in last_error ---- */

static void handle_path(const struct handle *h, struct buf *out)
{
    if (h->file->dir == NODE_RECORD)
        buf_addf(out, "records/%s/", h->record.ulid);
    else if (h->file->dir == NODE_JOB)
        buf_addf(out, "jobs/%s/", h->job);
    else if (h->file->dir == NODE_STORE)
        buf_addf(out, "stores/%s/", h->store);
    buf_adds(out, h->file->name);
}

/* ---- what the operator reads in the log ---- */

static struct audit_entry audit_entry(const struct handle *h, const char *verb)
{
    return (struct audit_entry){
        .uid = h->uid, .pid = h->pid, .verb = verb, .now = clock_now(h->tree->clock)};
}

static struct audit_entry audit_switch(const struct handle *h, bool on)
{
    const char *verb = h->file->verbs[on];
    struct audit_entry e = audit_entry(h, verb ? verb : h->file->name);

    e.job = h->file->dir == NODE_JOB ? h->job : NULL;
    e.record = h->file->dir == NODE_RECORD ? h->record.ulid : NULL;
    return e;
}

static void audit_jobs(const struct handle *h, const struct run_request *request,
                       const struct run_reply *reply)
{
    struct audit_entry e = audit_entry(h, "run");
    char target[2 * LIMIT_ID + 2];

    e.target = target;
    for (size_t i = 0; i < reply->count; i++) {
        e.target_len =
            (size_t)snprintf(target, sizeof target, "%s/%s", request->store, reply->jobs[i].repo);
        e.job = reply->jobs[i].job;
        audit_accepted(h->tree->audit, &e);
    }
}

static void audit_refusal(const struct handle *h, int errnum, const struct error *err,
                          const char *input, size_t len)
{
    struct audit_entry e = h->file->type == FILE_CTL ? audit_entry(h, "run")
                                                     : audit_switch(h, len == 0 || *input != '0');

    if (h->file->type == FILE_CTL) {
        e.target = input;
        e.target_len = len;
    }
    audit_refused(h->tree->audit, &e, errnum, err->message);
}

bool handle_is_written(const struct file *f)
{
    return f->type == FILE_CTL || f->type == FILE_SWITCH;
}

int handle_refuse(const struct handle *h, const struct error *err, const char *input, size_t len)
{
    struct buf path = BUF_INIT;

    handle_path(h, &path);
    int errnum = tree_refuse(h->tree, h->uid, buf_text(&path), input, len, err);
    buf_release(&path);
    if (handle_is_written(h->file))
        audit_refusal(h, errnum, err, input, len);
    return errnum;
}

/* ---- ctl ---- */

/* The longest that one command can answer. */
#define REPLY_MAX (LIMIT_REPOS_PER_STORE * (ULID_LEN + 2 * LIMIT_ID + sizeof " /\n"))

/* From the first write on there is only the reply. Is there room for another one? */
static int prepare_reply(struct handle *h, struct error *err)
{
    pthread_mutex_lock(&h->lock);
    if (!h->written || h->place == h->text.len) {
        buf_truncate(&h->text, 0);
        h->place = 0;
    }
    h->written = true;
    bool full = h->text.len + REPLY_MAX > LIMIT_CTL_REPLY;
    pthread_mutex_unlock(&h->lock);
    if (!full)
        return 0;
    return error_set(err, ERR_QUEUE_FULL,
                     "the answers to earlier commands of this open were not read: read them first");
}

static void add_reply(struct handle *h, const struct run_request *request,
                      const struct run_reply *reply)
{
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < reply->count; i++)
        buf_addf(&h->text, "%s %s/%s\n", reply->jobs[i].job, request->store, reply->jobs[i].repo);
    pthread_mutex_unlock(&h->lock);
}

static int refuse_line(struct handle *h, const struct error *err, const char *line, size_t len)
{
    pthread_mutex_lock(&h->lock);
    h->refused = true;
    pthread_mutex_unlock(&h->lock);
    return handle_refuse(h, err, line, len);
}

static void accept_line(struct handle *h, const struct run_request *request,
                        const struct run_reply *reply)
{
    pthread_mutex_lock(&h->lock);
    bool refused = h->refused;
    pthread_mutex_unlock(&h->lock);
    if (!refused)
        last_errors_clear(h->tree->last_errors, h->uid);
    if (h->readable)
        add_reply(h, request, reply);
}

static int run_line(struct handle *h, const char *line, size_t len)
{
    struct run_request request;
    struct run_reply reply;
    struct error err;

    if ((h->readable && prepare_reply(h, &err) != 0) ||
        run_request_parse(line, len, &request, &err) != 0 ||
        (h->store[0] && run_file_aim(h->store, &request, &err) != 0))
        return refuse_line(h, &err, line, len);
    snprintf(request.requested_by, sizeof request.requested_by, "uid:%u", (unsigned)h->uid);
    if (service_run(h->tree->service, &request, &reply, &err) != 0)
        return refuse_line(h, &err, line, len);
    audit_jobs(h, &request, &reply);
    accept_line(h, &request, &reply);
    return 0;
}

/* All that is left of the data, if it is the beginning of a line. */
static void keep_rest(struct handle *h, const char *line, size_t len)
{
    pthread_mutex_lock(&h->lock);
    buf_truncate(&h->rest, 0);
    buf_add(&h->rest, line, len);
    pthread_mutex_unlock(&h->lock);
}

static void take_rest(struct handle *h, struct buf *out)
{
    pthread_mutex_lock(&h->lock);
    *out = h->rest;
    h->rest = (struct buf)BUF_INIT;
    pthread_mutex_unlock(&h->lock);
}

/* `cut`: the last line may go on in the next write. */
static int run_lines(struct handle *h, const char *data, size_t len, bool cut, size_t *taken)
{
    *taken = 0;
    while (*taken < len) {
        const char *line = data + *taken, *newline = memchr(line, '\n', len - *taken);
        size_t line_len = newline ? (size_t)(newline - line) : len - *taken;
        if (!newline && cut && line_len <= LIMIT_CTL_LINE) {
            keep_rest(h, line, line_len);
            *taken = len;
            return 0;
        }
        if (!newline && *taken > 0 && len > LIMIT_CTL_LINE)
            return 0;
        int result = run_line(h, line, line_len);
        if (result != 0)
            return *taken > 0 ? 0 : result;
        *taken += line_len + (newline ? 1 : 0);
    }
    return 0;
}

static int write_ctl(struct handle *h, const char *data, size_t len, size_t *taken)
{
    struct buf all;

    take_rest(h, &all);
    size_t rest = all.len, done;
    buf_add(&all, data, len);
    bool again = len == h->owed && len > 0;
    bool cut = again || (len % CUT_BLOCK == 0 && (rest > 0 || memchr(data, '\n', len)));
    int result = run_lines(h, buf_text(&all), all.len, cut, &done);
    *taken = done > rest ? done - rest : 0;
    /* Whoever is told to try again goes on with the same beginning. */
    if (rest > 0 && (result == EAGAIN || result == EBUSY))
        keep_rest(h, buf_text(&all), rest);
    h->owed = cut && *taken < len ? len - *taken : 0;
    buf_release(&all);
    return result;
}

/* Nobody waits for an answer any more, but last_error is looked at. */
void handle_drop_rest(struct handle *h)
{
    struct error err;

    if (h->rest.len == 0)
        return;
    error_set(&err, ERR_INVALID,
              "the last of many lines has no newline at its end and may be cut: write it again");
    handle_refuse(h, &err, h->rest.data, h->rest.len);
    buf_release(&h->rest);
}

/* ---- switches ---- */

/* "1" or "0", with a newline or without one. "0" only where it can be read, too. */
static bool is_turn(const struct file *f, const char *data, size_t len)
{
    bool known = len > 0 && (data[0] == '1' || (data[0] == '0' && f->render));

    return known && (len == 1 || (len == 2 && data[1] == '\n'));
}

static int write_switch(struct handle *h, const char *data, size_t len, size_t *taken)
{
    const char *id = h->file->dir == NODE_RECORD ? h->record.ulid : h->job;
    char by[32];
    struct error err;

    *taken = 0;
    if (!is_turn(h->file, data, len)) {
        error_set(&err, ERR_INVALID, "%s", h->file->grammar);
        return handle_refuse(h, &err, data, len);
    }
    snprintf(by, sizeof by, "uid:%u", (unsigned)h->uid);
    if (h->file->turn(h->tree->service, id, data[0] == '1', by, &err) != 0)
        return handle_refuse(h, &err, data, len);
    struct audit_entry entry = audit_switch(h, data[0] == '1');
    audit_accepted(h->tree->audit, &entry);
    last_errors_clear(h->tree->last_errors, h->uid);
    pthread_mutex_lock(&h->lock);
    buf_truncate(&h->text, 0);
    if (h->file->render)
        buf_addf(&h->text, "%c\n", data[0]);
    pthread_mutex_unlock(&h->lock);
    *taken = len;
    return 0;
}

int handle_write(struct handle *h, const char *data, size_t len, size_t *taken)
{
    switch (h->file->type) {
    case FILE_CTL:
        return write_ctl(h, data, len, taken);
    case FILE_SWITCH:
        return write_switch(h, data, len, taken);
    default:
        return EACCES;
    }
}
