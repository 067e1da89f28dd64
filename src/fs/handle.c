/* SPDX-License-Identifier: MIT */
/*
 * handle.c - opening, reading, waiting, closing. See handle.h for the types.
 *
 * ctl: an open that was never written to reads the grammar. Once something was written it reads
 * the reply, each byte once, then EOF until more is written. Offsets are the kernel's count of
 * bytes both ways, so they are ignored and the handle keeps its own place.
 *
 * Texts that are watched: `lock` guards text and fresh. The watch of one is made by the first poll,
 * since most are only read; that of a stream by its open, before the job is looked at once more, so
 * that an end in between is not missed.
 *
 * Objects: an archive whose sizes are not those of the catalog is refused at open, and one that
 * ends early fails the read: a copy of a payload is whole or it is an error.
 */
#include "fs/handle_internal.h"

#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

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
        return handle_refuse(h, &err, "", 0);
    if (!h->object.checked)
        h->mode = HANDLE_FRESH;
    if (h->object.size == expected)
        return keep_attr(h, s);
    error_set(&err, ERR_INTEGRITY_FAILED,
              "%s of record %s in %s/%s has %" PRIu64 " bytes and should have %" PRIu64
              ": use another record",
              h->file->name, h->record.ulid, h->record.store, h->record.repo, h->object.size,
              expected);
    return handle_refuse(h, &err, "", 0);
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
    if ((flags & O_ACCMODE) != O_RDONLY && !handle_is_written(file))
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

void handle_close(struct handle *h)
{
    unlink_handle(h);
    watch_close(h->watch);
    service_close_object(&h->object);
    fd_close(&h->fd);
    buf_release(&h->text);
    handle_drop_rest(h);
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

    return file && handle_is_written(file);
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
            return handle_refuse(h, &err, "", 0);
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
    return handle_refuse(h, &err, "", 0);
}
