/* SPDX-License-Identifier: MIT */
/*
 * Proves that damage never passes for content. Archives of three kinds are altered at every bit of
 * their headers and manifests and in KEEPFS_MUTATIONS random ways (mutations.h), and each time:
 *
 *   verify          (examine, judge a whole read, ids) fails unless all it vouches for is good
 *   extract         (examine, read the whole and judge it) fails unless the content is good
 *   random access   gives the bytes of the source or fails, piece by piece
 *   failures        have the codes and words that the headers promise
 *
 * Of an encrypted archive every byte counts. An unencrypted one vouches for its payload and its
 * ids; what its manifest says besides can be altered by whoever can write there: created_at,
 * store_kind, the level of the compression, engine_metadata; and the ids can be denied, or left
 * without their digest. See `vouched`.
 *
 * The seed is printed; KEEPFS_SEED gives it again.
 */
#include "mutations.h"

#include <malloc.h>
#include <time.h>

#ifdef LAB_SANITIZED
#define USUAL_MUTATIONS 2000
#else
#define USUAL_MUTATIONS 100000
#endif

/* ---- the samples ---- */

/* Blocks that do not compress between many that repeat the same KiB, so that frames of zstd hold a
 * MiB and are still small and soon decoded. */
static void fill_blocks(uint64_t seed, uint64_t offset, unsigned char *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint64_t at = offset + i;
        bool noise = at / (8 * KIB) % (5 + seed) == 0;
        out[i] = (unsigned char)lab_mix(seed ^ (noise ? at : at % KIB));
    }
}

static void fill_good(uint64_t offset, unsigned char *out, size_t len)
{
    fill_blocks(1, offset, out, len);
}

static void fill_strange(uint64_t offset, unsigned char *out, size_t len)
{
    fill_blocks(2, offset, out, len);
}

static const char good_ids[] = "blocks/0001\nblocks/0002\nblocks/0007\nblocks/0031\n";
static const char other_ids[] = "blocks/0001\nblocks/0002\nblocks/0007\nblocks/0032\n";

static struct sample samples[] = {
    {.name = "v2 with zstd",
     .recipe = {.encrypt = true, .compress = true, .frame_size = ENVELOPE_FRAME, .ids = good_ids},
     .size = MIB + 5000},
    {.name = "v2",
     .recipe = {.encrypt = true, .frame_size = ENVELOPE_FRAME, .ids = good_ids},
     .size = 3 * ENVELOPE_FRAME + 5},
    {.name = "zstd alone", .recipe = {.compress = true, .ids = good_ids}, .size = 2 * MIB + 5000},
};

enum { SAMPLES = sizeof samples / sizeof samples[0] };

static void find_envelope_frames(struct frames *f, size_t len)
{
    for (size_t at = ENVELOPE_HEADER; at < len; at += ENVELOPE_FRAME + ENVELOPE_TAG) {
        assert_true(f->count < FRAMES_MAX);
        f->at[f->count++] = at;
    }
    f->at[f->count] = len;
}

/* By the seek table: 9 bytes of footer behind 8 for each frame. */
static void find_zstd_frames(struct frames *f, const struct buf *payload)
{
    const unsigned char *end = (unsigned char *)payload->data + payload->len;

    f->count = end[-9];
    assert_in_range(f->count, 2, FRAMES_MAX);
    for (size_t i = 0; i < f->count; i++) {
        const unsigned char *entry = end - 9 - 8 * (f->count - i);
        f->at[i + 1] = f->at[i] + entry[0] + 256u * entry[1] + 65536u * entry[2];
    }
    assert_int_equal(f->at[f->count], payload->len - 17 - 8 * f->count);
}

static void find_frames(const struct sample *s, const struct buf *payload, struct frames *f)
{
    if (s->recipe.encrypt)
        find_envelope_frames(f, payload->len);
    else
        find_zstd_frames(f, payload);
    assert_in_range(f->count, 3, FRAMES_MAX);
}

static int make_samples(void **state)
{
    lab_keys_setup(state);
    for (struct sample *s = samples; s < samples + SAMPLES; s++) {
        struct lab_recipe other = s->recipe;
        lab_make(&s->good, &s->recipe, fill_good, s->size, &s->manifest);
        other.ulid = LAB_ULID_2;
        other.ids = other_ids;
        lab_make(&s->other, &other, fill_strange, s->size + !s->recipe.encrypt, NULL);
        s->content = xmalloc(s->size);
        fill_good(0, s->content, s->size);
        find_frames(s, &s->good.payload, &s->frames);
        find_frames(s, &s->other.payload, &s->other_frames);
    }
    /* Without encryption frames that stand in for others, and whole streams, are known by their
     * sizes: stored, or of content for the last one. But for these, only the digest would tell. */
    for (size_t i = 0; i + 1 < samples[2].frames.count; i++)
        assert_int_not_equal(frame_len(&samples[2].frames, i),
                             frame_len(&samples[2].other_frames, i));
    return 0;
}

static int free_samples(void **state)
{
    (void)state;
    for (struct sample *s = samples; s < samples + SAMPLES; s++) {
        lab_archive_release(&s->good);
        lab_archive_release(&s->other);
        free(s->content);
    }
    return 0;
}

/* ---- the words of failures ---- */

static struct word {
    const char *text;
    enum error_code code;
    size_t count;
} words[] = {
    {"manifest altered: ", ERR_MANIFEST_INVALID, 0},
    {"wrong archive: ", ERR_MANIFEST_INVALID, 0},
    {"wrong archive: ", ERR_INTEGRITY_FAILED, 0},
    {"wrong key: ", ERR_DECRYPT_FAILED, 0},
    {"damaged header: ", ERR_INTEGRITY_FAILED, 0},
    {"damaged frame ", ERR_INTEGRITY_FAILED, 0},
    {"damaged seek table: ", ERR_INTEGRITY_FAILED, 0},
    {ARCHIVE_PAYLOAD_IDS, ERR_INTEGRITY_FAILED, 0},
    {"truncated: ", ERR_INTEGRITY_FAILED, 0},
    {"trailing bytes: ", ERR_INTEGRITY_FAILED, 0},
    {"the stored bytes were altered: ", ERR_INTEGRITY_FAILED, 0},
    {" bytes of content, its manifest says ", ERR_INTEGRITY_FAILED, 0},
    {"here archives must ", ERR_ENCRYPTION_REQUIRED, 0},
    {"/" ARCHIVE_MANIFEST ": ", ERR_MANIFEST_INVALID, 0},
    {"/" ARCHIVE_MANIFEST ": ", ERR_MANIFEST_UNSUPPORTED, 0},
    {"there is no archive ", ERR_MANIFEST_MISSING, 0},
    {" any more (", ERR_ARCHIVE_INCOMPLETE, 0},
    {"no key is configured", ERR_DESTINATION_CREDENTIALS_INVALID, 0},
};

enum { WORDS = sizeof words / sizeof words[0] };

static size_t refused, harmless;

/* Counts the failure; -1 if it is none of those that are promised. */
static int count_word(const struct error *err)
{
    for (struct word *w = words; w < words + WORDS; w++) {
        const char *at = strstr(err->message, w->text);
        if (!at || w->code != err->code)
            continue;
        if (strcmp(w->text, "damaged frame ") == 0 && !strchr("0123456789", at[strlen(w->text)]))
            continue;
        w->count++;
        return 0;
    }
    return -1;
}

static int print_words(void **state)
{
    for (const struct word *w = words; w < words + WORDS; w++)
        print_message("%8zu  %-28s %s\n", w->count, error_code_name(w->code), w->text);
    print_message("%8zu  archives refused\n%8zu  altered where nothing vouches for it\n", refused,
                  harmless);
    return free_samples(state);
}

/* ---- what each altered archive has to do ---- */

/* One at a time: the archive that is judged and what was done to it. */
static struct trial {
    const struct sample *sample;
    struct lab_archive a;
    struct buf story;
    struct frame_cache *cache;
} trial;

static void complain(const char *what, const struct error *err)
{
    fail_msg("%s: %s\n%s\n%s: %s\n%s", trial.sample->name, what, buf_text(&trial.story),
             error_code_name(err->code), err->message, buf_text(&trial.a.manifest));
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool payload_is_good(void)
{
    return trial.a.has_payload && same(&trial.a.payload, &trial.sample->good.payload);
}

static bool ids_are_good(void)
{
    return trial.a.has_ids && same(&trial.a.ids, &trial.sample->good.ids);
}

static bool manifest_is_good(void)
{
    return trial.a.has_manifest && same(&trial.a.manifest, &trial.sample->good.manifest);
}

/* What an archive that is as it is now has to come to. */
struct verdicts {
    bool extract, verify;
};

/* So many lines, sorted, none empty or twice: all that can be said of ids without their digest. */
static bool ids_have_form(uint64_t count)
{
    const struct buf *ids = &trial.a.ids;
    __attribute__((cleanup(free_charp))) char *text = strndup(buf_text(ids), ids->len);
    const char *before = "";

    if (strlen(text) != ids->len || ids->len == 0 || text[ids->len - 1] != '\n')
        return false;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, count--) {
        *end = '\0';
        if (strcmp(before, line) >= 0 || strlen(line) > LIMIT_PAYLOAD_ID)
            return false;
        before = line;
    }
    return count == 0;
}

static bool ids_vouched(const struct manifest *m)
{
    const struct manifest *good = &trial.sample->manifest;

    if (m->payload_id_count == 0)
        return true;
    if (m->payload_ids_sha256[0] == '\0')
        return ids_have_form(m->payload_id_count);
    return strcmp(m->payload_ids_sha256, good->payload_ids_sha256) == 0 && ids_are_good() &&
           m->payload_id_count == good->payload_id_count;
}

/* Without encryption the manifest may be written in another way, too: order, quotes, comments. */
static struct verdicts vouched(const struct manifest *m)
{
    const struct manifest *good = &trial.sample->manifest;
    struct verdicts v = {
        .extract =
            m->version == good->version && strcmp(m->backup_id, good->backup_id) == 0 &&
            strcmp(m->store_id, good->store_id) == 0 && m->stored.size == good->stored.size &&
            strcmp(m->stored.sha256, good->stored.sha256) == 0 &&
            m->content_bytes == good->content_bytes &&
            strcmp(m->compression, good->compression) == 0 && m->encrypted == good->encrypted &&
            payload_is_good() && (m->payload_id_count == 0 || trial.a.has_ids),
    };

    v.verify = v.extract && ids_vouched(m);
    return v;
}

static struct verdicts right_verdicts(void)
{
    struct manifest m;
    struct error err;

    if (!trial.a.has_manifest || (trial.sample->recipe.encrypt && !manifest_is_good()) ||
        manifest_read(buf_text(&trial.a.manifest), trial.a.manifest.len, &m, &err) != 0)
        return (struct verdicts){.extract = false};
    struct verdicts v = vouched(&m);
    manifest_release(&m);
    return v;
}

/* A whole read: in order into memory, or judged at once. */
static int read_whole(const struct archive *archive, bool in_order, struct error *err)
{
    const struct sample *s = trial.sample;
    struct reader *r;
    unsigned char buf[70000];
    size_t at = 0;
    ssize_t n = 0;

    if (payload_reader(archive, trial.cache, &r, err) != 0)
        return -1;
    while (in_order && (n = reader_read(r, buf, sizeof buf, err)) > 0) {
        if ((size_t)n > s->size - at || memcmp(buf, s->content + at, (size_t)n) != 0)
            complain("a read in order gave other bytes", err);
        at += (size_t)n;
    }
    int result = n < 0 ? -1 : reader_finish(r, err);
    if (result == 0 && in_order && at != s->size)
        complain("a read in order gave less", err);
    reader_free(r);
    return result;
}

/* Each piece fails or is right. */
static void read_pieces(const struct archive *archive, size_t start)
{
    const struct sample *s = trial.sample;
    static unsigned char buf[300000];
    struct payload *p;
    struct error err = {0};

    if (payload_open(archive, trial.cache, false, &p, &err) != 0) {
        if (count_word(&err) != 0)
            complain("opening failed with other words", &err);
        return;
    }
    for (size_t i = 0; i * sizeof buf < s->size; i++) {
        size_t at = (start + i * sizeof buf) % s->size, left = s->size - at;
        ssize_t n = payload_pread(p, buf, sizeof buf, at, &err);
        size_t expected = left < sizeof buf ? left : sizeof buf;
        if (n < 0 ? count_word(&err) != 0
                  : (size_t)n != expected || memcmp(buf, s->content + at, expected) != 0)
            complain("random access gave other bytes or words", &err);
    }
    payload_close(p);
}

static void expect_verdicts(int extract, int verify, const struct error *err)
{
    struct verdicts right = right_verdicts();

    if ((extract == 0) != right.extract)
        complain("extract has the wrong verdict", err);
    if ((verify == 0) != right.verify)
        complain("verify has the wrong verdict", err);
    if (verify != 0 && count_word(err) != 0)
        complain("refused in other words", err);
    refused += verify != 0;
    harmless += verify == 0;
}

static void judge(struct dice *d)
{
    struct lab lab = lab_over(&trial.a);
    struct archive_policy policy = lab_policy(&trial.sample->recipe);
    struct archive archive;
    struct error err = {0};
    int extract = lab_examine(&lab, &policy, &archive, &err), verify = -1;

    if (extract == 0) {
        extract = read_whole(&archive, roll(d, 2), &err);
        if (extract == 0)
            verify = archive_check_ids(&archive, &err);
        read_pieces(&archive, roll(d, trial.sample->size));
        archive_release(&archive);
    }
    assert_int_equal(lab.opened, 0);
    expect_verdicts(extract, verify, &err);
}

/* ---- trials ---- */

static void trial_begin(const struct sample *s)
{
    trial.sample = s;
    trial.cache = frame_cache_new(0);
}

static void trial_end(void)
{
    frame_cache_free(trial.cache);
    lab_archive_release(&trial.a);
    buf_release(&trial.story);
}

static void restore(void)
{
    const struct lab_archive *good = &trial.sample->good;

    set_bytes(&trial.a.payload, good->payload.data, good->payload.len);
    set_bytes(&trial.a.manifest, good->manifest.data, good->manifest.len);
    set_bytes(&trial.a.ids, good->ids.data, good->ids.len);
    trial.a.has_payload = trial.a.has_manifest = trial.a.has_ids = true;
    memcpy(trial.a.ulid, good->ulid, sizeof trial.a.ulid);
    buf_truncate(&trial.story, 0);
}

static void test_the_samples_are_good(void **state)
{
    (void)state;
    for (const struct sample *s = samples; s < samples + SAMPLES; s++) {
        struct dice dice = {.state = 1};
        trial_begin(s);
        restore();
        buf_adds(&trial.story, "nothing");
        harmless = 0;
        judge(&dice);
        assert_int_equal(harmless, 1);
        trial_end();
    }
    harmless = 0;
}

/* Every bit of bytes [from, to) of an object. */
static void flip_every_bit(struct buf *part, size_t from, size_t to)
{
    struct dice dice = {.state = 7};

    for (size_t at = from; at < to; at++)
        for (int bit = 0; bit < 8; bit++) {
            part->data[at] ^= (char)(1 << bit);
            buf_truncate(&trial.story, 0);
            buf_addf(&trial.story, "bit %d of byte %zu flipped", bit, at);
            judge(&dice);
            part->data[at] ^= (char)(1 << bit);
        }
}

static void test_every_bit_of_a_header_counts(void **state)
{
    (void)state;
    for (const struct sample *s = samples; s < samples + SAMPLES; s++) {
        trial_begin(s);
        restore();
        flip_every_bit(&trial.a.payload, 0, s->recipe.encrypt ? ENVELOPE_HEADER : 20);
        trial_end();
    }
}

static void test_every_bit_of_the_seek_table_counts(void **state)
{
    const struct sample *s = &samples[2];

    (void)state;
    trial_begin(s);
    restore();
    flip_every_bit(&trial.a.payload, s->frames.at[s->frames.count], trial.a.payload.len);
    trial_end();
}

static void test_every_bit_of_the_manifest_counts_or_is_known_not_to(void **state)
{
    (void)state;
    for (const struct sample *s = samples; s < samples + SAMPLES; s++) {
        trial_begin(s);
        restore();
        flip_every_bit(&trial.a.manifest, 0, trial.a.manifest.len);
        trial_end();
    }
}

static void test_every_bit_of_the_ids_counts(void **state)
{
    (void)state;
    trial_begin(&samples[1]);
    restore();
    flip_every_bit(&trial.a.ids, 0, trial.a.ids.len);
    trial_end();
}

static uint64_t number_of(const char *variable, uint64_t usual)
{
    const char *text = getenv(variable);

    return text && *text ? strtoull(text, NULL, 10) : usual;
}

/* Ids take longest to be found wrong, after all else was read: they are rolled less often. */
static size_t any_mutation(struct dice *d)
{
    size_t which = roll(d, MUTATION_COUNT - FITS);

    if (strncmp(mutations[which].name, "ids_", 4) == 0 && roll(d, 3))
        return roll(d, MUTATION_COUNT - FITS);
    return which;
}

/* One to four mutations, then perhaps a manifest that fits; false if it all came to nothing. */
static bool mutate(struct dice *d)
{
    size_t count = roll(d, 4) ? 1 : 2 + roll(d, 3);

    restore();
    for (size_t i = 0; i <= count; i++) {
        size_t which = any_mutation(d);
        if (i == count) {
            if (roll(d, 3) > 0)
                break;
            which = MUTATION_COUNT - (trial.sample->recipe.encrypt ? 1 : 2);
        }
        mutations[which].apply(&trial.a, trial.sample, d);
        buf_addf(&trial.story, " %s", mutations[which].name);
    }
    return !(payload_is_good() && manifest_is_good() && ids_are_good());
}

static void test_random_mutations_never_pass_for_content(void **state)
{
    uint64_t seed = number_of("KEEPFS_SEED", (uint64_t)time(NULL));
    uint64_t count = number_of("KEEPFS_MUTATIONS", USUAL_MUTATIONS);

    (void)state;
    print_message("KEEPFS_SEED=%" PRIu64 " KEEPFS_MUTATIONS=%" PRIu64 "\n", seed, count);
    for (size_t k = 0; k < SAMPLES; k++) {
        trial_begin(&samples[k]);
        for (uint64_t i = 0; i < count / SAMPLES;) {
            struct dice dice = {.state = lab_mix(seed * SAMPLES + k)};
            dice.state += i * 1000;
            while (!mutate(&dice))
                ;
            i++;
            judge(&dice);
        }
        trial_end();
    }
}

int main(void)
{
    /* Memory that comes and goes with each trial is not given back to the kernel. */
    mallopt(M_MMAP_THRESHOLD, 64 * MIB);
    mallopt(M_TRIM_THRESHOLD, 64 * MIB);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_samples_are_good),
        cmocka_unit_test(test_every_bit_of_a_header_counts),
        cmocka_unit_test(test_every_bit_of_the_seek_table_counts),
        cmocka_unit_test(test_every_bit_of_the_manifest_counts_or_is_known_not_to),
        cmocka_unit_test(test_every_bit_of_the_ids_counts),
        cmocka_unit_test(test_random_mutations_never_pass_for_content),
    };

    return cmocka_run_group_tests(tests, make_samples, print_words);
}
