/* SPDX-License-Identifier: MIT */
/*
 * seekable_write.c - frames compressed side by side and written in order, in a ring of slots.
 *
 * Frame i lives in slot i % slots and passes through three roles. Each role has a counter of the
 * frames that it is done with, and waits on a condition of its own for the role before it:
 *
 *   the caller's thread   fills a slot's content and seals it          `sealed`
 *   each worker           claims the oldest sealed frame, compresses   `claimed`, slot `compressed`
 *   the output thread     writes frames to `next` in order             `written`
 *
 *   written <= claimed <= sealed <= written + slots
 *
 * The counters and `compressed` are guarded by the lock. A slot's buffers are not: they belong to
 * the one role that the counters say, and change hands under the lock.
 *
 * A full frame is sealed when a byte after it comes, and the first one sealed starts the threads.
 * So a stream of at most one frame never has threads: finish compresses it where it stands. And
 * finish always finds the last frame of a stream, whatever its length, still to be sealed.
 *
 * `stopping` ends all threads at their next look at it. The first failure of anybody sets it and
 * stays in `error`, which every later write and finish returns; finish sets it when all is written;
 * free sets it whatever there is. Then the threads are joined, and `next` is the caller's again.
 *
 * Equal bytes for equal input: a frame is made from its content and the level alone. zstd's own
 * threads are not used, and a context that is used again gives what a new one gives.
 */
#include "stream/seekable.h"

#include "keepfs/limits.h"
#include "util/buf.h"

#include <assert.h>
#include <endian.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define FRAME_MAX ZSTD_COMPRESSBOUND(SEEKABLE_FRAME)

enum {
    SLOTS_PER_WORKER = 2,
    SLOTS_EXTRA = 2, /* the caller fills one, the output thread writes one */
    SLOTS_MAX = SLOTS_PER_WORKER * LIMIT_ZSTD_WORKERS + SLOTS_EXTRA,
};

enum { TABLE_HEADER = 8, TABLE_ENTRY = 8, TABLE_FOOTER = 9 };
#define TABLE_MAGIC        0x184D2A5Eu
#define TABLE_FOOTER_MAGIC 0x8F92EAB1u

struct slot {
    char *content, *frame; /* SEEKABLE_FRAME and FRAME_MAX; NULL until the slot's first use */
    size_t content_len, frame_len;
    bool compressed;
};

struct seekable_writer {
    struct writer writer;
    struct writer *next;
    struct slot *filling; /* the caller's frame; NULL before the first and after a failure */
    struct buf table;     /* the seek table as far as frames are written: the output thread's */

    struct worker {
        struct seekable_writer *owner;
        ZSTD_CCtx *zstd;
    } workers[LIMIT_ZSTD_WORKERS];
    unsigned worker_count;
    pthread_t threads[1 + LIMIT_ZSTD_WORKERS];
    unsigned started; /* threads that are to be joined */

    pthread_mutex_t lock; /* guards what follows, as said above */
    pthread_cond_t to_fill, to_compress, to_write;
    struct slot ring[SLOTS_MAX];
    size_t slots;
    size_t sealed; /* changed by the caller's thread alone, which reads it without the lock */
    size_t claimed, written;
    bool stopping;
    struct error error;
};

/* With the lock held. */
static void stop(struct seekable_writer *z)
{
    z->stopping = true;
    pthread_cond_broadcast(&z->to_fill);
    pthread_cond_broadcast(&z->to_compress);
    pthread_cond_broadcast(&z->to_write);
}

/* With the lock held. */
static void fail(struct seekable_writer *z, const struct error *err)
{
    if (z->error.code == ERR_NONE)
        z->error = *err;
    stop(z);
}

static int compress_frame(ZSTD_CCtx *zstd, struct slot *s, struct error *err)
{
    size_t n = ZSTD_compress2(zstd, s->frame, FRAME_MAX, s->content, s->content_len);

    if (ZSTD_isError(n))
        return error_set(err, ERR_INTERNAL, "zstd cannot compress: %s", ZSTD_getErrorName(n));
    s->frame_len = n;
    return 0;
}

static void table_add(struct seekable_writer *z, size_t value)
{
    uint32_t le = htole32((uint32_t)value);

    buf_add(&z->table, &le, sizeof le);
}

static int write_frame(struct seekable_writer *z, const struct slot *s, struct error *err)
{
    table_add(z, s->frame_len);
    table_add(z, s->content_len);
    return writer_write(z->next, s->frame, s->frame_len, err);
}

/* With the lock held: the oldest frame that no worker has, or NULL when there will be none. */
static struct slot *claim_sealed(struct seekable_writer *z)
{
    while (z->claimed == z->sealed && !z->stopping)
        pthread_cond_wait(&z->to_compress, &z->lock);
    return z->stopping ? NULL : &z->ring[z->claimed++ % z->slots];
}

static void *worker_run(void *ctx)
{
    struct worker *w = ctx;
    struct seekable_writer *z = w->owner;
    struct slot *s;
    struct error err;

    pthread_setname_np(pthread_self(), "keepfs-zstd");
    pthread_mutex_lock(&z->lock);
    while ((s = claim_sealed(z))) {
        pthread_mutex_unlock(&z->lock);
        int failed = compress_frame(w->zstd, s, &err);
        pthread_mutex_lock(&z->lock);
        s->compressed = !failed;
        if (failed)
            fail(z, &err);
        pthread_cond_signal(&z->to_write);
    }
    pthread_mutex_unlock(&z->lock);
    return NULL;
}

/* With the lock held: the frame whose turn it is, compressed, or NULL when there will be none. */
static struct slot *next_compressed(struct seekable_writer *z)
{
    struct slot *s = &z->ring[z->written % z->slots];

    while (!s->compressed && !z->stopping)
        pthread_cond_wait(&z->to_write, &z->lock);
    return z->stopping ? NULL : s;
}

static void *output_run(void *ctx)
{
    struct seekable_writer *z = ctx;
    struct slot *s;
    struct error err;

    pthread_setname_np(pthread_self(), "keepfs-zstd-out");
    pthread_mutex_lock(&z->lock);
    while ((s = next_compressed(z))) {
        pthread_mutex_unlock(&z->lock);
        int failed = write_frame(z, s, &err);
        pthread_mutex_lock(&z->lock);
        if (failed)
            fail(z, &err);
        s->compressed = false;
        z->written++;
        pthread_cond_signal(&z->to_fill);
    }
    pthread_mutex_unlock(&z->lock);
    return NULL;
}

static int start_thread(struct seekable_writer *z, void *(*run)(void *), void *ctx,
                        struct error *err)
{
    char reason[128];
    int errnum = pthread_create(&z->threads[z->started], NULL, run, ctx);

    if (errnum != 0) {
        error_set(err, ERR_INTERNAL, "cannot start a thread to compress in: %s",
                  strerror_r(errnum, reason, sizeof reason));
        err->errnum = errnum;
        return -1;
    }
    z->started++;
    return 0;
}

static int start_threads(struct seekable_writer *z, struct error *err)
{
    if (start_thread(z, output_run, z, err) != 0)
        return -1;
    for (unsigned i = 0; i < z->worker_count; i++)
        if (start_thread(z, worker_run, &z->workers[i], err) != 0)
            return -1;
    return 0;
}

/* Leaves `next` and all else to the caller's thread alone. What is not yet written is lost. */
static void end_threads(struct seekable_writer *z)
{
    pthread_mutex_lock(&z->lock);
    stop(z);
    pthread_mutex_unlock(&z->lock);
    while (z->started > 0)
        pthread_join(z->threads[--z->started], NULL);
}

/* A failure of the caller's thread, if it is the first. Always -1. */
static int give_up(struct seekable_writer *z, struct error *err)
{
    pthread_mutex_lock(&z->lock);
    fail(z, err);
    *err = z->error;
    pthread_mutex_unlock(&z->lock);
    return -1;
}

/* Seals the frame that is being filled. */
static int seal(struct seekable_writer *z, struct error *err)
{
    z->filling = NULL;
    if (z->started == 0 && start_threads(z, err) != 0)
        return give_up(z, err);
    pthread_mutex_lock(&z->lock);
    z->sealed++;
    pthread_cond_signal(&z->to_compress);
    pthread_mutex_unlock(&z->lock);
    return 0;
}

/* Waits until at most `count` sealed frames are not written; -1 at once if anything has failed. */
static int wait_for_written(struct seekable_writer *z, size_t count, struct error *err)
{
    pthread_mutex_lock(&z->lock);
    while (z->sealed - z->written > count && !z->stopping)
        pthread_cond_wait(&z->to_fill, &z->lock);
    int failed = z->error.code != ERR_NONE;
    if (failed)
        *err = z->error;
    pthread_mutex_unlock(&z->lock);
    return failed ? -1 : 0;
}

/* Makes `filling` an empty frame. */
static int next_frame(struct seekable_writer *z, struct error *err)
{
    if (z->filling && seal(z, err) != 0)
        return -1;
    if (wait_for_written(z, z->slots - 1, err) != 0)
        return -1;
    if (z->sealed == LIMIT_FRAMES) {
        error_set(err, ERR_DESTINATION_CONFIG_INVALID,
                  "more than the %zu MiB that a seekable zstd stream holds: store it uncompressed",
                  LIMIT_FRAMES * SEEKABLE_FRAME >> 20);
        return give_up(z, err);
    }
    struct slot *s = &z->ring[z->sealed % z->slots];
    if (!s->content) {
        s->content = xmalloc(SEEKABLE_FRAME);
        s->frame = xmalloc(FRAME_MAX);
    }
    s->content_len = 0;
    z->filling = s;
    return 0;
}

static int seekable_write(struct writer *w, const void *data, size_t len, struct error *err)
{
    struct seekable_writer *z = (struct seekable_writer *)w;

    for (const char *p = data; len > 0;) {
        if (!z->filling || z->filling->content_len == SEEKABLE_FRAME)
            if (next_frame(z, err) != 0)
                return -1;
        struct slot *s = z->filling;
        size_t room = SEEKABLE_FRAME - s->content_len;
        size_t n = len < room ? len : room;
        memcpy(s->content + s->content_len, p, n);
        s->content_len += n;
        p += n;
        len -= n;
    }
    return 0;
}

static int finish_frames(struct seekable_writer *z, struct error *err)
{
    struct slot *last = z->filling;

    if (last && z->started == 0) {
        z->filling = NULL;
        if (compress_frame(z->workers[0].zstd, last, err) != 0)
            return -1;
        return write_frame(z, last, err);
    }
    if (last && seal(z, err) != 0)
        return -1;
    if (wait_for_written(z, 0, err) != 0)
        return -1;
    end_threads(z);
    return 0;
}

static int finish_table(struct seekable_writer *z, struct error *err)
{
    size_t frames = (z->table.len - TABLE_HEADER) / TABLE_ENTRY;
    uint32_t size = htole32((uint32_t)(frames * TABLE_ENTRY + TABLE_FOOTER));

    memcpy(z->table.data + sizeof size, &size, sizeof size);
    table_add(z, frames);
    buf_add(&z->table, "", 1); /* the descriptor: no checksums */
    table_add(z, TABLE_FOOTER_MAGIC);
    return writer_write(z->next, z->table.data, z->table.len, err);
}

static int seekable_finish(struct writer *w, struct error *err)
{
    struct seekable_writer *z = (struct seekable_writer *)w;

    if (finish_frames(z, err) != 0 || finish_table(z, err) != 0 || writer_finish(z->next, err) != 0)
        return give_up(z, err);
    return 0;
}

static void seekable_free(struct writer *w)
{
    struct seekable_writer *z = (struct seekable_writer *)w;

    end_threads(z);
    writer_free(z->next);
    for (size_t i = 0; i < z->slots; i++) {
        free(z->ring[i].content);
        free(z->ring[i].frame);
    }
    for (unsigned i = 0; i < z->worker_count; i++)
        ZSTD_freeCCtx(z->workers[i].zstd);
    buf_release(&z->table);
    pthread_cond_destroy(&z->to_fill);
    pthread_cond_destroy(&z->to_compress);
    pthread_cond_destroy(&z->to_write);
    pthread_mutex_destroy(&z->lock);
    free(z);
}

static unsigned workers_for(unsigned asked)
{
    cpu_set_t cpus;

    /* Fails where there are more CPUs than a cpu_set_t has room for: more than enough. */
    if (asked == 0 && sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        asked = (unsigned)CPU_COUNT(&cpus);
    return asked == 0 || asked > LIMIT_ZSTD_WORKERS ? LIMIT_ZSTD_WORKERS : asked;
}

static struct seekable_writer *allocate(struct writer *next, unsigned workers)
{
    static const struct writer_ops ops = {
        .write = seekable_write, .finish = seekable_finish, .free = seekable_free};
    struct seekable_writer *z = xcalloc(1, sizeof *z);

    z->writer.ops = &ops;
    z->next = next;
    z->worker_count = workers;
    z->slots = SLOTS_PER_WORKER * workers + SLOTS_EXTRA;
    pthread_mutex_init(&z->lock, NULL);
    pthread_cond_init(&z->to_fill, NULL);
    pthread_cond_init(&z->to_compress, NULL);
    pthread_cond_init(&z->to_write, NULL);
    table_add(z, TABLE_MAGIC);
    table_add(z, 0); /* its size, when it is known */
    return z;
}

static int worker_init(struct worker *w, struct seekable_writer *owner, int level)
{
    w->owner = owner;
    w->zstd = ZSTD_createCCtx();
    if (!w->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_contentSizeFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1)))
        return -1;
    return 0;
}

int seekable_writer_new(struct writer *next, int level, unsigned workers, struct writer **out,
                        struct error *err)
{
    assert(level >= SEEKABLE_LEVEL_MIN && level <= SEEKABLE_LEVEL_MAX);
    assert(level != 0); /* zstd would take it for its default */
    struct seekable_writer *z = allocate(next, workers_for(workers));

    for (unsigned i = 0; i < z->worker_count; i++)
        if (worker_init(&z->workers[i], z, level) != 0) {
            seekable_free(&z->writer);
            return error_set(err, ERR_INTERNAL, "zstd has no memory for its contexts");
        }
    *out = &z->writer;
    return 0;
}
