/* SPDX-License-Identifier: MIT */
/*
 * Proves that archives made by another program from the descriptions of the formats alone
 * (tests/golden/make.py) are read, whole and at any offset, with the content that they were made
 * of; and that keepfs's writers make every byte of them again from the same key, salt, nonces, id
 * and time. So the formats are what the headers say, and stay so.
 *
 * KEEPFS_GOLDEN is their directory, unless they are where the sources have them.
 */
#include "archive_lab.h"

#include <dirent.h>
#include <libgen.h>
#include <zstd.h>

enum {
    FRAME_V1 = 1024, /* as make.py has them */
    FRAME_V2 = 64 * KIB,
    HEADER_V1 = 9,
    SALT_AT = 16,
    SALT = 32,
    NONCE = 12,
    OVERHEAD_V1 = 32,
    ZSTD_OF_MAKE_PY = 10504,
};

static const struct golden {
    const char *name, *ulid;
    size_t size;
} goldens[] = {
    {"v2-enc-none-empty", "01KAGE00000000000000000001", 0},
    {"v2-enc-none-one-byte", "01KAGE00000000000000000002", 1},
    {"v2-enc-none-frames", "01KAGE00000000000000000003", 3 * FRAME_V2 + 5},
    {"v2-enc-zstd", "01KAGE00000000000000000004", 2 * MIB + 5},
    {"v2-enc-zstd-empty", "01KAGE00000000000000000005", 0},
    {"v2-enc-ids", "01KAGE00000000000000000006", 9},
    {"v2-plain-zstd", "01KAGE00000000000000000007", 100000},
    {"v2-plain-none", "01KAGE00000000000000000008", 5000},
    {"v1-enc-empty", "01KAGE00000000000000000009", 0},
    {"v1-enc-frames-less", "01KAGE0000000000000000000A", FRAME_V1 - 1},
    {"v1-enc-frames-one", "01KAGE0000000000000000000B", FRAME_V1},
    {"v1-enc-frames-more", "01KAGE0000000000000000000C", 3 * FRAME_V1 + 5},
    {"v1-plain", "01KAGE0000000000000000000D", 5000},
};

enum { GOLDENS = sizeof goldens / sizeof goldens[0] };

/* ---- files ---- */

static char *golden_path(const char *name)
{
    const char *dir = getenv("KEEPFS_GOLDEN");
    char here[] = __FILE__;

    return dir && *dir ? xasprintf("%s/%s", dir, name)
                       : xasprintf("%s/../../golden/%s", dirname(here), name);
}

/* The whole file; false if there is none. */
static bool read_file(const char *name, struct buf *out)
{
    __attribute__((cleanup(free_charp))) char *path = golden_path(name);
    char part[4096];
    FILE *f = fopen(path, "rb");

    if (!f)
        return false;
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        buf_add(out, part, n);
    assert_int_equal(ferror(f), 0);
    fclose(f);
    return true;
}

static bool read_object(const struct golden *g, const char *object, struct buf *out)
{
    __attribute__((cleanup(free_charp))) char *name =
        xasprintf("%s/%s/%s", g->name, g->ulid, object);

    return read_file(name, out);
}

static void load(const struct golden *g, struct lab_archive *a)
{
    *a = (struct lab_archive){.has_payload = false};
    snprintf(a->ulid, sizeof a->ulid, "%s", g->ulid);
    a->has_payload = read_object(g, ARCHIVE_PAYLOAD, &a->payload);
    a->has_manifest = read_object(g, ARCHIVE_MANIFEST, &a->manifest);
    a->has_ids = read_object(g, ARCHIVE_PAYLOAD_IDS, &a->ids);
    if (!a->has_payload || !a->has_manifest)
        fail_msg("%s/%s is not there: set KEEPFS_GOLDEN to tests/golden", g->name, g->ulid);
}

/* Puts the key of a file into the variable of `ref`. */
static void set_key(const char *file, const char *ref)
{
    struct buf key = BUF_INIT, hex = BUF_INIT;

    if (!read_file(file, &key))
        fail_msg("%s is not there: set KEEPFS_GOLDEN to tests/golden", file);
    assert_int_equal(key.len, KEY_BYTES);
    for (size_t i = 0; i < key.len; i++)
        buf_addf(&hex, "%02x", (unsigned char)key.data[i]);
    assert_int_equal(setenv(ref + strlen("env:"), hex.data, 1), 0);
    buf_release(&hex);
    buf_release(&key);
}

static int load_keys(void **state)
{
    (void)state;
    set_key("keys/master.key", LAB_KEY);
    set_key("keys/other.key", LAB_OTHER);
    return 0;
}

/* ---- reading ---- */

static const struct archive_policy any_policy = {
    .store = LAB_STORE, .keys = {LAB_KEY}, .key_count = 1};

/* The content, read in order and judged, by the sum that make.py gives for it. */
static void read_content(const struct golden *g, const struct archive *archive,
                         struct frame_cache *cache, struct buf *content)
{
    __attribute__((cleanup(free_charp))) char *name = xasprintf("%s/content.sha256", g->name);
    struct buf sum = BUF_INIT;
    struct digest digest;
    struct error err = {0};
    struct reader *r;
    char part[1000];
    ssize_t n;

    lab_ok(payload_reader(archive, cache, &r, &err), &err);
    struct writer *w = digest_writer_new(lab_sink_new(content), &digest);
    while ((n = reader_read(r, part, sizeof part, &err)) > 0)
        lab_ok(writer_write(w, part, (size_t)n, &err), &err);
    lab_ok((int)n, &err);
    lab_ok(reader_finish(r, &err), &err);
    lab_ok(writer_finish(w, &err), &err);
    writer_free(w);
    reader_free(r);
    assert_true(read_file(name, &sum));
    assert_int_equal(digest.size, g->size);
    assert_memory_equal(sum.data, digest.sha256, SHA256_HEX);
    buf_release(&sum);
}

static void expect_pieces(const struct archive *archive, struct frame_cache *cache,
                          const struct buf *content)
{
    enum { PIECE = 1500 };
    struct error err = {0};
    struct payload *p;
    char part[PIECE];

    lab_ok(payload_open(archive, cache, true, &p, &err), &err);
    assert_int_equal(payload_size(p), content->len);
    for (uint64_t i = 0; content->len > 0 && i < 50; i++) {
        size_t at = lab_mix(i) % content->len, left = content->len - at;
        ssize_t n = payload_pread(p, part, PIECE, at, &err);
        lab_ok(n < 0 ? -1 : 0, &err);
        assert_int_equal(n, left < PIECE ? left : PIECE);
        assert_memory_equal(part, content->data + at, (size_t)n);
    }
    payload_close(p);
}

static void test_every_golden_archive_is_read_whole_and_at_any_offset(void **state)
{
    (void)state;
    for (const struct golden *g = goldens; g < goldens + GOLDENS; g++) {
        struct lab_archive a;
        struct lab lab = lab_over(&a);
        struct frame_cache *cache = frame_cache_new(LIMIT_PREFETCHERS);
        struct buf content = BUF_INIT;
        struct archive archive;
        struct error err = {0};
        load(g, &a);
        lab_examine_ok(&lab, &any_policy, &archive);
        read_content(g, &archive, cache, &content);
        expect_pieces(&archive, cache, &content);
        lab_ok(archive_check_ids(&archive, &err), &err);
        archive_release(&archive);
        buf_release(&content);
        frame_cache_free(cache);
        lab_archive_release(&a);
    }
}

static void test_with_another_key_every_encrypted_one_is_refused(void **state)
{
    static const struct archive_policy other = {.keys = {LAB_OTHER}, .key_count = 1};

    (void)state;
    for (const struct golden *g = goldens; g < goldens + GOLDENS; g++) {
        struct lab_archive a;
        struct lab lab = lab_over(&a);
        struct frame_cache *cache = frame_cache_new(0);
        struct archive archive;
        struct reader *r;
        struct error err = {0};
        load(g, &a);
        if (strstr(buf_text(&a.manifest), "enabled: true")) {
            int result = lab_examine(&lab, &other, &archive, &err);
            if (result == 0) {
                result = payload_reader(&archive, cache, &r, &err);
                archive_release(&archive);
            }
            lab_failed(result, &err, ERR_DECRYPT_FAILED, "wrong key");
        }
        frame_cache_free(cache);
        lab_archive_release(&a);
    }
}

/* ---- writing ---- */

/* The archive that is made again; callbacks get no pointer of the test. */
static struct {
    struct lab_archive archive;
    struct manifest manifest;
    struct buf content;
    size_t nonces; /* taken so far */
} made;

/* The same salt and nonces, from where they are stored. */
static int same_random(void *buf, size_t len)
{
    const char *payload = made.archive.payload.data;

    if (len == SALT)
        memcpy(buf, payload + SALT_AT, SALT);
    else if (len == NONCE)
        memcpy(buf, payload + HEADER_V1 + made.nonces++ * (FRAME_V1 + OVERHEAD_V1), NONCE);
    else
        return -1;
    return 0;
}

static void same_content(uint64_t offset, unsigned char *out, size_t len)
{
    memcpy(out, made.content.data + offset, len);
}

/* What no recipe says. */
static void same_manifest(struct manifest *m)
{
    memcpy(m->engine_metadata, made.manifest.engine_metadata, sizeof m->engine_metadata);
    m->engine_metadata_count = made.manifest.engine_metadata_count;
    memcpy(m->key_ref, made.manifest.key_ref, sizeof m->key_ref);
    if (m->version != MANIFEST_V1)
        return;
    m->payload_ids = made.manifest.payload_ids;
    m->payload_id_count = made.manifest.payload_id_count;
}

static void expect_same(const struct golden *g, const char *object, const struct buf *got,
                        const struct buf *expected)
{
    if (got->len != expected->len ||
        (got->len > 0 && memcmp(got->data, expected->data, got->len) != 0))
        fail_msg("%s: another %s is written", g->name, object);
}

static void make_again(const struct golden *g, struct lab_archive *again)
{
    const struct manifest *m = &made.manifest;
    struct lab_recipe recipe = {.ulid = g->ulid,
                                .version = m->version,
                                .encrypt = m->encrypted,
                                .compress = m->compression_level != 0,
                                .frame_size = m->version == MANIFEST_V1 ? FRAME_V1 : FRAME_V2,
                                .ids = made.archive.has_ids ? buf_text(&made.archive.ids) : NULL,
                                .random = same_random,
                                .alter = same_manifest};

    made.nonces = 0;
    lab_make(again, &recipe, same_content, g->size, NULL);
}

/* Another version of zstd may find another way to say the same. */
static bool has_our_frames(void)
{
    return ZSTD_versionNumber() == ZSTD_OF_MAKE_PY;
}

static void test_keepfs_writes_the_same_bytes(void **state)
{
    (void)state;
    for (const struct golden *g = goldens; g < goldens + GOLDENS; g++) {
        struct lab lab = lab_over(&made.archive);
        struct frame_cache *cache = frame_cache_new(0);
        struct lab_archive again;
        struct archive archive;
        load(g, &made.archive);
        lab_examine_ok(&lab, &any_policy, &archive);
        made.manifest = archive.manifest;
        read_content(g, &archive, cache, &made.content);
        make_again(g, &again);
        if (archive.manifest.compression_level == 0 || has_our_frames()) {
            expect_same(g, ARCHIVE_PAYLOAD, &again.payload, &made.archive.payload);
            expect_same(g, ARCHIVE_MANIFEST, &again.manifest, &made.archive.manifest);
        }
        expect_same(g, ARCHIVE_PAYLOAD_IDS, &again.ids, &made.archive.ids);
        archive_release(&archive);
        lab_archive_release(&again);
        lab_archive_release(&made.archive);
        buf_release(&made.content);
        frame_cache_free(cache);
    }
}

static void test_no_golden_archive_is_left_out_here(void **state)
{
    __attribute__((cleanup(free_charp))) char *path = golden_path("");
    DIR *dir = opendir(path);
    size_t count = 0;

    (void)state;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        count += strncmp(e->d_name, "v1-", 3) == 0 || strncmp(e->d_name, "v2-", 3) == 0;
    closedir(dir);
    assert_int_equal(count, GOLDENS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_golden_archive_is_left_out_here),
        cmocka_unit_test(test_every_golden_archive_is_read_whole_and_at_any_offset),
        cmocka_unit_test(test_with_another_key_every_encrypted_one_is_refused),
        cmocka_unit_test(test_keepfs_writes_the_same_bytes),
    };

    return cmocka_run_group_tests(tests, load_keys, NULL);
}
