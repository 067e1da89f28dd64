/* SPDX-License-Identifier: MIT */
/*
 * envelope_read.c - the frames of a stored envelope, found by arithmetic and judged by their tags.
 *
 * The header gives the frame size; with it, the size of the file says how many frames there are,
 * where each stands, how long it is and which is the last. That is only a claim until a tag agrees:
 * a frame is opened as what the claim makes of it. If it does not open, it is tried as what it
 * could be instead, only to find the word for what happened; its plaintext is then wiped.
 *
 * A v1 frame carries its length as well, outside of the tag's reach. It must agree with the claim,
 * and where it does not it helps to tell a cut file from one with something appended.
 *
 * The cache asks only for frames that have content. An empty last frame (an empty stream; v1 whose
 * content fills its frames) is therefore judged when the view is made.
 *
 * The source is not changed after it is made, so loads need no lock.
 */
#include "archive/envelope_internal.h"
#include "util/buf.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* What the sizes of the file and of its frames come to. */
struct geometry {
    uint64_t frames; /* at least 1 */
    uint64_t content;
    size_t last; /* content bytes of the last frame */
};

struct envelope_source {
    struct frame_source source;
    struct view *stored;
    struct envelope_header header;
    struct geometry geometry;
    struct gcm *gcm;
};

/* ---- header and geometry ---- */

/* All of it; a file that ends before is truncated. */
static int read_exactly(struct view *stored, void *buf, size_t len, uint64_t offset,
                        const char *what, struct error *err)
{
    ssize_t n = view_pread(stored, buf, len, offset, err);

    if (n < 0)
        return -1;
    if ((size_t)n != len)
        return error_set(err, ERR_INTEGRITY_FAILED, "truncated: the file ends within %s", what);
    return 0;
}

static int read_header(struct view *stored, int version, struct envelope_header *h,
                       struct error *err)
{
    if (read_exactly(stored, h->bytes, envelope_header_size(version), 0, "its header", err) != 0)
        return -1;
    return envelope_header_parse(h, version, err);
}

static int geometry_of(const struct view *stored, const struct envelope_header *h,
                       struct geometry *g, struct error *err)
{
    size_t overhead = envelope_overhead(h->version);
    uint64_t body = stored->size - h->len, whole = h->frame_size + overhead;
    uint64_t full = body / whole, rest = body % whole;
    bool ends_full = h->version == ENVELOPE_V2 && full > 0 && rest == 0;
    bool ends_empty = rest == overhead && (h->version == ENVELOPE_V1 || full == 0);

    if (!ends_full && !ends_empty && rest <= overhead)
        return error_set(err, ERR_INTEGRITY_FAILED, "truncated: the file ends %s frame %" PRIu64,
                         rest ? "within" : "before", full);
    *g = (struct geometry){
        .frames = ends_full ? full : full + 1,
        .last = ends_full ? h->frame_size : (size_t)rest - overhead,
    };
    g->content = (g->frames - 1) * h->frame_size + g->last;
    return 0;
}

int envelope_content_size(struct view *stored, int version, uint64_t *out, struct error *err)
{
    struct envelope_header header;
    struct geometry geometry;

    if (read_header(stored, version, &header, err) != 0 ||
        geometry_of(stored, &header, &geometry, err) != 0)
        return -1;
    *out = geometry.content;
    return 0;
}

/* ---- one frame ---- */

enum verdict {
    FRAME_RIGHT,
    FRAME_LENGTH_WRONG, /* opens, but its length field is wrong */
    FRAME_LAST,         /* opens as the last one, and more follows */
    FRAME_NOT_LAST,     /* opens as one that is not the last, and the file ends */
    FRAME_CUT,          /* should be longer than what there is */
    FRAME_CLOSED,       /* opens as nothing */
};

static bool is_last(const struct envelope_source *s, uint64_t index)
{
    return index == s->geometry.frames - 1;
}

static size_t content_of(const struct envelope_source *s, uint64_t index)
{
    return is_last(s, index) ? s->geometry.last : s->header.frame_size;
}

/* A frame as it was read, and where its content goes. */
struct frame {
    uint64_t index;
    const unsigned char *stored;
    void *out;
};

/* Opens the first `content` bytes of the frame, as the last one or not. */
static int try_open(const struct envelope_source *s, const struct frame *f, size_t content,
                    bool last, bool *right, struct error *err)
{
    const unsigned char *sealed = f->stored;
    struct gcm_input in;

    if (s->header.version == ENVELOPE_V1) {
        memcpy(in.nonce, sealed, GCM_NONCE);
        sealed += GCM_NONCE + ENVELOPE_LENGTH;
    }
    envelope_frame_input(&s->header, f->index, last, &in);
    return gcm_open(s->gcm, &in, sealed, content, f->out, right, err);
}

/* v1: what the length field says the frame is larger (> 0) or smaller than it should be. */
static int64_t length_excess(const struct envelope_source *s, const struct frame *f)
{
    uint32_t big;

    if (s->header.version != ENVELOPE_V1)
        return 0;
    memcpy(&big, f->stored + GCM_NONCE, sizeof big);
    return (int64_t)be32toh(big) - (int64_t)(content_of(s, f->index) + GCM_TAG);
}

/* What became of a frame that opens as what it should be, if its length is passed over. */
static int judge_length(const struct envelope_source *s, const struct frame *f, int64_t excess,
                        enum verdict *out, struct error *err)
{
    size_t expected = content_of(s, f->index);
    bool right;

    if (try_open(s, f, expected, is_last(s, f->index), &right, err) != 0)
        return -1;
    *out = right ? FRAME_LENGTH_WRONG : FRAME_CLOSED;
    if (right)
        return 0;
    if (excess > 0) {
        if (is_last(s, f->index) && expected + (uint64_t)excess <= s->header.frame_size)
            *out = FRAME_CUT;
        return 0;
    }
    if ((uint64_t)-excess > expected)
        return 0;
    if (try_open(s, f, expected - (size_t)-excess, true, &right, err) != 0)
        return -1;
    if (right)
        *out = FRAME_LAST;
    return 0;
}

/* The content is in f->out if the verdict is FRAME_RIGHT. */
static int judge(const struct envelope_source *s, const struct frame *f, enum verdict *out,
                 struct error *err)
{
    bool last = is_last(s, f->index), right;
    int64_t excess = length_excess(s, f);

    if (excess != 0)
        return judge_length(s, f, excess, out, err);
    *out = FRAME_RIGHT;
    if (try_open(s, f, content_of(s, f->index), last, &right, err) != 0)
        return -1;
    if (right)
        return 0;
    if (try_open(s, f, content_of(s, f->index), !last, &right, err) != 0)
        return -1;
    *out = !right ? FRAME_CLOSED : last ? FRAME_NOT_LAST : FRAME_LAST;
    return 0;
}

/* Reads and judges a frame; `stored` has room for it. Only right plaintext stays in `out`. */
static int open_frame(const struct envelope_source *s, uint64_t index, unsigned char *stored,
                      void *out, enum verdict *verdict, struct error *err)
{
    size_t overhead = envelope_overhead(s->header.version), content = content_of(s, index);
    uint64_t at = s->header.len + index * (s->header.frame_size + overhead);
    struct frame frame = {.index = index, .stored = stored, .out = out};

    if (read_exactly(s->stored, stored, content + overhead, at, "a frame", err) != 0)
        return -1;
    int result = judge(s, &frame, verdict, err);
    if (result != 0 || *verdict != FRAME_RIGHT)
        OPENSSL_cleanse(out, content);
    return result;
}

/* v1: does the frame show that the key is the right one? -1 if it is too damaged to say. */
static int key_opens(const struct envelope_source *s, uint64_t index, bool *fits, struct error *err)
{
    size_t content = content_of(s, index);
    unsigned char *stored = xmalloc(content + envelope_overhead(s->header.version));
    unsigned char *out = xmalloc(content);
    enum verdict verdict;
    int result = open_frame(s, index, stored, out, &verdict, err);

    if (result == 0)
        OPENSSL_cleanse(out, content);
    free(out);
    free(stored);
    if (result != 0)
        return -1;
    if (verdict == FRAME_CUT)
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "truncated: the file ends within frame %" PRIu64, index);
    *fits = verdict != FRAME_CLOSED;
    return 0;
}

/* v1: does the first frame open, or, if that is damaged, the last one? */
static int key_fits(const struct envelope_source *s, bool *fits, struct error *err)
{
    if (key_opens(s, 0, fits, err) != 0)
        return -1;
    if (*fits || s->geometry.frames == 1)
        return 0;
    return key_opens(s, s->geometry.frames - 1, fits, err);
}

/* v2: where such a frame ends is known from the size of the file only. */
static bool ends_short(const struct envelope_source *s, uint64_t index)
{
    return s->header.version == ENVELOPE_V2 && content_of(s, index) < s->header.frame_size;
}

/* The words for a frame that opens as nothing. In v1 it may be the key's fault. */
static int closed(const struct envelope_source *s, uint64_t index, struct error *err)
{
    bool fits = s->header.version == ENVELOPE_V2;

    if (!fits && key_fits(s, &fits, err) != 0)
        return -1;
    if (fits)
        return error_set(
            err, ERR_INTEGRITY_FAILED, "damaged frame %" PRIu64 ": its tag is wrong%s", index,
            ends_short(s, index) ? ", or the file was truncated or extended in it" : "");
    return error_set(err, ERR_DECRYPT_FAILED,
                     "wrong key: neither the first nor the last frame opens with it, or both are "
                     "damaged");
}

static int explain(const struct envelope_source *s, uint64_t index, enum verdict verdict,
                   struct error *err)
{
    switch (verdict) {
    case FRAME_RIGHT:
        return 0;
    case FRAME_LENGTH_WRONG:
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "damaged frame %" PRIu64 ": its length field is wrong", index);
    case FRAME_LAST:
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "trailing bytes: frame %" PRIu64 " is the last one, and more follow",
                         index);
    case FRAME_NOT_LAST:
        return error_set(
            err, ERR_INTEGRITY_FAILED,
            "truncated: the file ends after frame %" PRIu64 ", which is not the last one", index);
    case FRAME_CUT:
        return error_set(err, ERR_INTEGRITY_FAILED,
                         "truncated: the file ends within frame %" PRIu64, index);
    case FRAME_CLOSED:
        break;
    }
    return closed(s, index, err);
}

/* ---- the source of a framed view ---- */

static int source_load(struct frame_source *source, uint64_t index, void *out, size_t len,
                       struct frame_scratch *scratch, struct error *err)
{
    struct envelope_source *s = (struct envelope_source *)source;
    unsigned char *stored = frame_scratch(scratch, len + envelope_overhead(s->header.version));
    enum verdict verdict;

    assert(index < s->geometry.frames && len == content_of(s, index));
    if (open_frame(s, index, stored, out, &verdict, err) != 0)
        return -1;
    return explain(s, index, verdict, err);
}

static void source_free(struct frame_source *source)
{
    struct envelope_source *s = (struct envelope_source *)source;

    view_free(s->stored);
    gcm_free(s->gcm);
    free(s);
}

/* v1 has no commit: its frame 0 tells, once it is read. */
static bool commit_agrees(const struct envelope_source *s, const unsigned char *commit)
{
    return s->header.version == ENVELOPE_V1 ||
           CRYPTO_memcmp(commit, s->header.bytes + ENVELOPE_BOUND, ENVELOPE_COMMIT) == 0;
}

/* Everything up to the commit, which comes before the geometry: it vouches for the frame size. */
static int source_open(struct envelope_source *s, const struct key *key, const struct envelope *e,
                       bool *agrees, struct error *err)
{
    unsigned char commit[ENVELOPE_COMMIT];

    if (read_header(s->stored, e->version, &s->header, err) != 0 ||
        envelope_cipher_new(&s->header, key, e, commit, &s->gcm, err) != 0)
        return -1;
    *agrees = commit_agrees(s, commit);
    OPENSSL_cleanse(commit, sizeof commit);
    return 0;
}

/* An empty last frame, which no read will ever touch. */
static int check_empty_frame(const struct envelope_source *s, struct error *err)
{
    unsigned char stored[GCM_NONCE + ENVELOPE_LENGTH + GCM_TAG], nothing[1];
    uint64_t index = s->geometry.frames - 1;
    enum verdict verdict;

    if (s->geometry.last > 0)
        return 0;
    if (open_frame(s, index, stored, nothing, &verdict, err) != 0)
        return -1;
    return explain(s, index, verdict, err);
}

static int source_check(struct envelope_source *s, const struct key *key, const struct envelope *e,
                        struct error *err)
{
    bool agrees;

    if (source_open(s, key, e, &agrees, err) != 0)
        return -1;
    if (!agrees)
        return error_set(err, ERR_DECRYPT_FAILED,
                         "wrong archive: it was not written with this key for record %s of store "
                         "%s, or its header was altered",
                         e->record, e->store_id);
    if (geometry_of(s->stored, &s->header, &s->geometry, err) != 0)
        return -1;
    return check_empty_frame(s, err);
}

int envelope_view_new(struct view *stored, const struct key *key, const struct envelope *e,
                      struct frame_cache *cache, bool prefetch, struct view **out,
                      struct error *err)
{
    static const struct frame_source_ops ops = {.load = source_load, .free = source_free};
    struct envelope_source *s = xcalloc(1, sizeof *s);

    s->source.ops = &ops;
    s->stored = stored;
    if (source_check(s, key, e, err) != 0) {
        source_free(&s->source);
        return -1;
    }
    s->source.size = s->geometry.content;
    s->source.frame_size = s->header.frame_size;
    *out = framed_view_new(cache, &s->source, prefetch);
    return 0;
}

int envelope_fits(struct view *stored, const struct key *key, const struct envelope *e, bool *fits,
                  struct error *err)
{
    struct envelope_source s = {.stored = stored};
    int result = source_open(&s, key, e, fits, err);

    if (result == 0 && e->version == ENVELOPE_V1)
        result = geometry_of(stored, &s.header, &s.geometry, err);
    if (result == 0 && e->version == ENVELOPE_V1)
        result = key_fits(&s, fits, err);
    gcm_free(s.gcm);
    return result;
}
