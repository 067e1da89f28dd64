/* SPDX-License-Identifier: MIT */
/*
 * file_writer.c - small writes gathered into large ones, write-back kept close behind.
 *
 * A large file that is only fsynced at its end lets gigabytes of dirty pages pile up; its fsync
 * then lasts for minutes, without progress and without hearing a cancel. So write-back of each
 * WINDOW is started as soon as it is full, and the one two before is waited for: at most two
 * windows are left for the final fsync, and the disk sets the pace.
 *
 * Such a wait consumes a write-back error: the fsync after it would report success. So a failed
 * wait fails the write. File systems without the call just do without the pace.
 *
 * A crash leaves an incomplete file.
 */
#include "destination/file_writer.h"

#include "keepfs/limits.h"
#include "util/buf.h"
#include "util/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW ((off_t)8 << 20)

struct file_writer {
    struct writer writer;
    int dir_fd, fd;
    char *name, *path;
    char *pending; /* LIMIT_STREAM_CHUNK bytes, `filled` of them not written yet */
    size_t filled;
    off_t written; /* bytes given to the kernel */
    off_t started; /* of these, bytes whose write-back was started: whole windows */
    bool finished;
};

static int sync_window(struct file_writer *f, off_t start, unsigned how, struct error *err)
{
    if (sync_file_range(f->fd, start, WINDOW, how) == 0 || errno == ENOSYS || errno == EINVAL ||
        errno == ESPIPE || errno == EOPNOTSUPP)
        return 0;
    return error_sys(err, SIDE_DESTINATION, errno, "cannot write back %s", f->path);
}

static int pace(struct file_writer *f, struct error *err)
{
    for (; f->written - f->started >= WINDOW; f->started += WINDOW) {
        if (sync_window(f, f->started, SYNC_FILE_RANGE_WRITE, err) != 0)
            return -1;
        if (f->started >= 2 * WINDOW &&
            sync_window(f, f->started - 2 * WINDOW,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER,
                        err) != 0)
            return -1;
    }
    return 0;
}

static int put_bytes(struct file_writer *f, const char *data, size_t len, struct error *err)
{
    if (fd_write_all(f->fd, data, len) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot write %s", f->path);
    f->written += (off_t)len;
    return pace(f, err);
}

static int flush(struct file_writer *f, struct error *err)
{
    size_t len = f->filled;

    f->filled = 0;
    return put_bytes(f, f->pending, len, err);
}

static int file_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct file_writer *f = (struct file_writer *)w;
    const char *p = data;

    while (len > 0) {
        if (f->filled == 0 && len >= LIMIT_STREAM_CHUNK) {
            if (put_bytes(f, p, LIMIT_STREAM_CHUNK, err) != 0)
                return -1;
            p += LIMIT_STREAM_CHUNK;
            len -= LIMIT_STREAM_CHUNK;
            continue;
        }
        size_t room = LIMIT_STREAM_CHUNK - f->filled;
        size_t part = len < room ? len : room;
        memcpy(f->pending + f->filled, p, part);
        f->filled += part;
        p += part;
        len -= part;
        if (f->filled == LIMIT_STREAM_CHUNK && flush(f, err) != 0)
            return -1;
    }
    return 0;
}

static int file_finish(struct writer *w, struct error *err)
{
    struct file_writer *f = (struct file_writer *)w;

    if (flush(f, err) != 0)
        return -1;
    if (fsync(f->fd) != 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make %s durable", f->path);
    int closed = close(f->fd);
    f->fd = -1;
    /* EINTR: the descriptor is gone all the same, and the bytes were durable before. */
    if (closed != 0 && errno != EINTR)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot close %s", f->path);
    f->finished = true;
    return 0;
}

static void file_free(struct writer *w)
{
    struct file_writer *f = (struct file_writer *)w;

    fd_close(&f->fd);
    if (!f->finished)
        unlinkat(f->dir_fd, f->name, 0);
    free(f->name);
    free(f->path);
    free(f->pending);
    free(f);
}

int file_writer_new(int dir_fd, const char *place, const char *name, struct writer **out,
                    struct error *err)
{
    static const struct writer_ops ops = {
        .write = file_write, .finish = file_finish, .free = file_free};
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_sys(err, SIDE_DESTINATION, errno, "cannot make %s/%s", place, name);
    struct file_writer *f = xcalloc(1, sizeof *f);
    f->writer.ops = &ops;
    f->dir_fd = dir_fd;
    f->fd = fd;
    f->name = xstrdup(name);
    f->path = xasprintf("%s/%s", place, name);
    f->pending = xmalloc(LIMIT_STREAM_CHUNK);
    if (fchmod(fd, 0600) != 0) {
        int saved = errno;
        file_free(&f->writer);
        return error_sys(err, SIDE_DESTINATION, saved, "cannot set the mode of %s/%s", place, name);
    }
    *out = &f->writer;
    return 0;
}
