/* SPDX-License-Identifier: MIT */
/*
 * handle.c - opening, reading, writing. See handle.h for the types.
 *
 * ctl: an open that was never written to reads the grammar. Once something was written it reads
 * the reply, each byte once, then EOF until more is written. Offsets are the kernel's count of
 * bytes both ways, so they are ignored and the handle keeps its own place. `lock` guards text,
 * place and written; it is not held while the service works.
 *
 * Programs cut long output where their buffer ends, in the middle of a line: `ls stores > ctl` with
 * many stores. Such a write is known by its length, a multiple of CUT_BLOCK, and by having lines
 * before the one without a newline; that one is kept in `rest`, for the next write to go on with.
 * If there is none, it is not known to be whole and is not run.
 *
 * bash writes each line by itself, whatever became of the one before. So a command that was refused
 * stays in last_error as long as this open lasts.
 *
 * Switches: who has written reads what was written; under `lock` as well.
 *
 * Texts that are watched: `lock` guards text and fresh. The watch of one is made by the first poll,
 * since most are only read; that of a stream by its open, before the job is looked at once more, so
 * that an end in between is not missed.
 *
 * Objects: an archive whose sizes are not those of the catalog is refused at open, and one that
 * ends early fails the read: a copy of a payload is whole or it is an error.
 */
#include "fs/handle.h"

#include "fs/files.h"
#include "fs/run_file.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_BLOCK 512 /* programs' buffers are multiples of it */

struct handle {
    struct tree *tree;
    struct handle *prev, *next; /* in tree->handles, under tree->lock */
    const struct file *file;
    uid_t uid;
    pid_t pid;
    enum handle_mode mode;
    bool readable; /* the opener will see what ctl answers */
    pthread_mutex_t lock;
    struct buf text; /* what is read */
    size_t place;    /* ctl: up to where it was read */
    bool written;    /* ctl: text is the reply, not the grammar */
    bool refused;    /* ctl: a line was */
    struct buf rest; /* ctl: the beginning of a line */
    char job[ULID_LEN + 1];
    char store[LIMIT_ID + 1]; /* of a file in a store's directory, else "" */
    int fd;                   /* log; -1 before its first line */
    struct record record;
    struct node_attr attr; /* objects; node 0 for other files. Under tree->lock */
    struct service_object object;
    node_id node;
    struct watch *watch; /* streams and watched texts */
    bool fresh;          /* a watched text, as it was rendered by open; nobody has looked */
};

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

static bool is_written(const struct file *f)
{
    return f->type == FILE_CTL || f->type == FILE_SWITCH;
}

/* Keeps the sentence for the opener and gives the errno. */
static int fail(const struct handle *h, const struct error *err, const char *input, size_t len)
{
    struct buf path = BUF_INIT;

    handle_path(h, &path);
    int errnum = tree_refuse(h->tree, h->uid, buf_text(&path), input, len, err);
    buf_release(&path);
    if (is_written(h->file))
        audit_refusal(h, errnum, err, input, len);
    return errnum;
}

/* ---- open and close ---- */

/* So that fstat has an answer when the record is gone. */
static int keep_attr(struct handle *h, struct subject *s)
{
    struct node_attr attr;
    int result = tree_file_attr(h->file, s, &attr);

    if (result != 0)
        return result;
    pthread_mutex_lock(&h->tree->lock);
    h->attr = attr;
    pthread_mutex_unlock(&h->tree->lock);
    return 0;
}

static int open_object(struct handle *h, struct subject *s)
{
    struct service *service = h->tree->service;
    uint64_t expected = h->file->size(s);
    struct error err;

    int result = h->file->type == FILE_PAYLOAD
                     ? service_open_payload(service, &h->record, &h->object, &err)
                     : service_open_object(service, &h->record, h->file->object, &h->object, &err);
    if (result != 0)
        return fail(h, &err, "", 0);
    if (!h->object.checked)
        h->mode = HANDLE_FRESH;
    if (h->object.size == expected)
        return keep_attr(h, s);
    error_set(&err, ERR_INTEGRITY_FAILED,
              "%s of record %s in %s/%s has %" PRIu64 " bytes and should have %" PRIu64
              ": use another record",
              h->file->name, h->record.ulid, h->record.store, h->record.repo, h->object.size,
              expected);
    return fail(h, &err, "", 0);
}

static int open_log(struct handle *h)
{
    __attribute__((cleanup(free_charp))) char *path = service_log_path(h->tree->service, h->job);

    h->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return h->fd < 0 && errno != ENOENT ? EIO : 0;
}

static bool is_watched_text(const struct handle *h)
{
    return h->file->type == FILE_TEXT && h->file->watch && h->mode == HANDLE_DIRECT;
}

static int open_stream(struct handle *h, struct subject *s)
{
    SUBJECT(now);

    if (h->mode != HANDLE_STREAM)
        return h->file->render(s, &h->text);
    h->watch = watch_open(h->tree->waiters, h->file->watch, node_row(h->node));
    if (h->file->watch != WATCH_WAIT)
        return 0;
    int result = subject_load(h->tree, h->node, h->uid, &now);
    if (result == 0 && job_state_terminal(now.job.state))
        watch_ended(h->watch, job_state_name(now.job.state));
    return result;
}

static int open_by_type(struct handle *h, struct subject *s)
{
    switch (h->file->type) {
    case FILE_TEXT:
        h->fresh = is_watched_text(h);
        return h->file->render(s, &h->text);
    case FILE_STREAM:
        return open_stream(h, s);
    case FILE_CTL:
    case FILE_SWITCH:
        return h->readable && h->file->render ? h->file->render(s, &h->text) : 0;
    case FILE_LOG:
        return open_log(h);
    case FILE_OBJECT:
    case FILE_PAYLOAD:
        return open_object(h, s);
    default:
        return 0;
    }
}

static bool is_stream(const struct file *f, const struct subject *s)
{
    return f->type == FILE_CTL || (f->type == FILE_SWITCH && !f->render) ||
           (f->type == FILE_STREAM && !file_final(f, s));
}

static struct handle *new_handle(struct tree *t, const struct file *file, uid_t uid)
{
    struct handle *h = xcalloc(1, sizeof *h);

    *h = (struct handle){.tree = t, .file = file, .uid = uid, .fd = -1};
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_lock(&t->lock);
    h->next = t->handles;
    if (h->next)
        h->next->prev = h;
    t->handles = h;
    pthread_mutex_unlock(&t->lock);
    return h;
}

static void unlink_handle(struct handle *h)
{
    pthread_mutex_lock(&h->tree->lock);
    if (h->prev)
        h->prev->next = h->next;
    else
        h->tree->handles = h->next;
    if (h->next)
        h->next->prev = h->prev;
    pthread_mutex_unlock(&h->tree->lock);
}

int handle_open(struct tree *t, node_id node, int flags, uid_t uid, struct handle **out)
{
    const struct file *file = file_at(node_file(node));
    SUBJECT(s);
    int result = subject_load(t, node, uid, &s);

    if (result == 0 && file)
        result = s.leaving ? ENOENT : file_present(file, &s);
    if (result != 0)
        return result;
    if (!file || file->type == FILE_DIR || file->type == FILE_LINK)
        return EISDIR;
    /* The mode bits do not stop root. */
    if ((flags & O_ACCMODE) != O_RDONLY && !is_written(file))
        return EACCES;
    struct handle *h = new_handle(t, file, uid);
    h->readable = (flags & O_ACCMODE) != O_WRONLY;
    h->node = node;
    h->mode = is_stream(file, &s)    ? HANDLE_STREAM
              : file_final(file, &s) ? HANDLE_CACHED
                                     : HANDLE_DIRECT;
    memcpy(h->job, s.job.ulid, sizeof h->job);
    h->record = s.record;
    if (s.store)
        memcpy(h->store, s.store->id, sizeof h->store);
    result = open_by_type(h, &s);
    if (result != 0) {
        handle_close(h);
        return result;
    }
    *out = h;
    return 0;
}

void handle_opened_by(struct handle *h, pid_t pid)
{
    h->pid = pid;
}

enum handle_mode handle_mode(const struct handle *h)
{
    return h->mode;
}

int handle_attr(struct tree *t, node_id node, struct node_attr *out)
{
    int result = ENOENT;

    pthread_mutex_lock(&t->lock);
    for (const struct handle *h = t->handles; h && result != 0; h = h->next)
        if (h->attr.node == node) {
            *out = h->attr;
            result = 0;
        }
    pthread_mutex_unlock(&t->lock);
    return result;
}

/* Nobody waits for an answer any more, but last_error is looked at. */
static void drop_rest(struct handle *h)
{
    struct error err;

    if (h->rest.len == 0)
        return;
    error_set(&err, ERR_INVALID,
              "the last of many lines has no newline at its end and may be cut: write it again");
    fail(h, &err, h->rest.data, h->rest.len);
    buf_release(&h->rest);
}

void handle_close(struct handle *h)
{
    unlink_handle(h);
    watch_close(h->watch);
    service_close_object(&h->object);
    fd_close(&h->fd);
    buf_release(&h->text);
    drop_rest(h);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void handle_close_all(struct tree *t)
{
    while (t->handles)
        handle_close(t->handles);
}

bool handle_accepts_truncate(node_id node)
{
    const struct file *file = file_at(node_file(node));

    return file && is_written(file);
}

/* ---- read ---- */

static size_t slice(const struct buf *text, char *out, size_t size, uint64_t offset)
{
    if (offset >= text->len)
        return 0;
    size_t left = text->len - (size_t)offset;
    if (size > left)
        size = left;
    memcpy(out, text->data + offset, size);
    return size;
}

static size_t read_stream(struct handle *h, char *out, size_t size)
{
    pthread_mutex_lock(&h->lock);
    size_t got = slice(&h->text, out, size, h->place);
    h->place += got;
    pthread_mutex_unlock(&h->lock);
    return got;
}

static int read_log(struct handle *h, char *out, size_t size, uint64_t offset, size_t *got)
{
    int result = 0;

    *got = 0;
    pthread_mutex_lock(&h->lock);
    if (h->fd < 0)
        result = open_log(h);
    int fd = h->fd;
    pthread_mutex_unlock(&h->lock);
    if (result != 0 || fd < 0)
        return result;
    ssize_t n = fd_pread_all(fd, out, size, (off_t)offset);
    if (n < 0)
        return EIO;
    *got = (size_t)n;
    return 0;
}

/* All of it or an error: what is short here would be the end of the file to the kernel. */
static int read_object(struct handle *h, char *out, size_t size, uint64_t offset, size_t *got)
{
    uint64_t whole = h->object.size;
    struct error err;

    *got = 0;
    if (offset >= whole)
        return 0;
    if (size > whole - offset)
        size = (size_t)(whole - offset);
    while (*got < size) {
        ssize_t n = service_pread(&h->object, out + *got, size - *got, offset + *got, &err);
        if (n == 0)
            error_set(&err, ERR_INTEGRITY_FAILED,
                      "%s of record %s ends at byte %" PRIu64 " of %" PRIu64, h->file->name,
                      h->record.ulid, offset + *got, whole);
        if (n <= 0)
            return fail(h, &err, "", 0);
        *got += (size_t)n;
    }
    return 0;
}

/* The text of this moment. */
static int render_again(struct handle *h, struct buf *out)
{
    SUBJECT(s);
    int result = subject_load(h->tree, h->node, h->uid, &s);

    return result != 0 ? result : h->file->render(&s, out);
}

static int read_watched_text(struct handle *h, char *out, size_t size, uint64_t offset, size_t *got)
{
    struct buf now = BUF_INIT;
    int result = 0;

    *got = 0;
    pthread_mutex_lock(&h->lock);
    if (offset == 0 && !h->fresh) {
        result = render_again(h, &now);
        if (result == 0) {
            buf_truncate(&h->text, 0);
            buf_add(&h->text, buf_text(&now), now.len);
        }
        buf_release(&now);
    }
    h->fresh = false;
    if (result == 0)
        *got = slice(&h->text, out, size, offset);
    pthread_mutex_unlock(&h->lock);
    return result;
}

int handle_read(struct handle *h, char *out, size_t size, uint64_t offset, size_t *got)
{
    switch (h->file->type) {
    case FILE_LOG:
        return read_log(h, out, size, offset, got);
    case FILE_OBJECT:
    case FILE_PAYLOAD:
        return read_object(h, out, size, offset, got);
    case FILE_CTL:
        *got = read_stream(h, out, size);
        return 0;
    case FILE_STREAM:
        *got = slice(&h->text, out, size, offset);
        return handle_blocks(h) ? EAGAIN : 0;
    case FILE_SWITCH:
        pthread_mutex_lock(&h->lock);
        *got = slice(&h->text, out, size, offset);
        pthread_mutex_unlock(&h->lock);
        return 0;
    default:
        if (is_watched_text(h))
            return read_watched_text(h, out, size, offset, got);
        *got = slice(&h->text, out, size, offset);
        return 0;
    }
}

/* ---- waiting ---- */

bool handle_blocks(const struct handle *h)
{
    return h->file->type == FILE_STREAM && h->mode == HANDLE_STREAM;
}

struct tree *handle_tree(const struct handle *h)
{
    return h->tree;
}

struct watch *handle_watch(struct handle *h)
{
    if (!is_watched_text(h))
        return h->watch;
    pthread_mutex_lock(&h->lock);
    if (!h->watch)
        h->watch = watch_open(h->tree->waiters, h->file->watch, node_row(h->node));
    pthread_mutex_unlock(&h->lock);
    return h->watch;
}

/* What cannot be rendered any more has changed. */
static bool text_changed(struct handle *h)
{
    struct buf now = BUF_INIT;

    pthread_mutex_lock(&h->lock);
    bool changed = render_again(h, &now) != 0 || now.len != h->text.len ||
                   memcmp(buf_text(&now), buf_text(&h->text), now.len) != 0;
    h->fresh = false;
    pthread_mutex_unlock(&h->lock);
    buf_release(&now);
    return changed;
}

unsigned handle_poll(struct handle *h)
{
    const unsigned readable = POLLIN | POLLRDNORM;

    if (handle_blocks(h))
        return watch_ready(h->watch) ? readable : 0;
    if (is_watched_text(h))
        return readable | (text_changed(h) ? POLLPRI | POLLERR : 0);
    return readable | POLLOUT | POLLWRNORM;
}

int handle_refuse_wait(struct handle *h)
{
    struct error err;

    error_set(&err, ERR_QUEUE_FULL,
              "%d reads of wait and events are waiting, and no more can: end some, or poll",
              LIMIT_WAITERS);
    return fail(h, &err, "", 0);
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
    return fail(h, err, line, len);
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
    bool cut = len % CUT_BLOCK == 0 && (rest > 0 || memchr(data, '\n', len));
    int result = run_lines(h, buf_text(&all), all.len, cut, &done);
    buf_release(&all);
    *taken = done > rest ? done - rest : 0;
    return result;
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
        return fail(h, &err, data, len);
    }
    snprintf(by, sizeof by, "uid:%u", (unsigned)h->uid);
    if (h->file->turn(h->tree->service, id, data[0] == '1', by, &err) != 0)
        return fail(h, &err, data, len);
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
