/* SPDX-License-Identifier: MIT */
/*
 * test_backup_archive.c - the executor under every policy of a repo: formats, compression and
 * encryption come back as what the source gave; a key is there before anything is opened; and what
 * is read back after the write is really read.
 */
#include "fakes.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- policies ---- */

static char key_dir[64], key_ref[128];

static void write_key(const char *name, size_t len, mode_t mode)
{
    static const char bytes[] = "a key that only a test may have.";
    char path[128];

    assert_int_equal(sizeof bytes - 1, KEY_BYTES);
    snprintf(path, sizeof path, "%s/%s", key_dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int keys_setup(void **state)
{
    (void)state;
    snprintf(key_dir, sizeof key_dir, "/tmp/keepfs-keys-XXXXXX");
    if (!mkdtemp(key_dir))
        return -1;
    snprintf(key_ref, sizeof key_ref, "file:%s/good", key_dir);
    write_key("good", KEY_BYTES, 0600);
    return 0;
}

static int keys_teardown(void **state)
{
    DIR *dir = opendir(key_dir);

    (void)state;
    for (struct dirent *e; (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    return rmdir(key_dir);
}

/* All that there are: format v1 knows no compression. */
static const struct combination {
    const char *format, *compression;
    bool encrypt;
    int envelope;
} combinations[] = {
    {"v2", "none", false, ENVELOPE_NONE}, {"v2", "zstd:3", false, ENVELOPE_NONE},
    {"v2", "none", true, ENVELOPE_V2},    {"v2", "zstd:-7", true, ENVELOPE_V2},
    {"v1", "none", false, ENVELOPE_NONE}, {"v1", "none", true, ENVELOPE_V1},
};
enum { COMBINATIONS = sizeof combinations / sizeof combinations[0] };

/* A fresh fixture with that policy. */
static void again_with(const struct combination *c)
{
    again();
    repo_says("format", c->format);
    repo_says("compression", c->compression);
    if (c->encrypt)
        repo_says("encryption_key", key_ref);
}

static bool is_compressed(const struct combination *c)
{
    return strcmp(c->compression, "none") != 0;
}

/* ---- the round trip ---- */

static uint64_t stream_size;

static int with_ids(struct source_run *r, struct error *err)
{
    if (r->ops->payload_id(r, "b", 1, err) != 0 || r->ops->payload_id(r, "a", 1, err) != 0)
        return -1;
    return write_content(r->out, stream_size, 100003, err);
}

static struct archive examine_ok(struct destination *d, const struct archive_policy *policy)
{
    struct archive a;

    if (archive_examine(d, fx.record.ulid, policy, &a, &fx.err) != 0)
        fail_msg("%s", fx.err.message);
    return a;
}

static void expect_content(struct reader *r)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(100000);
    uint64_t at = 0;
    ssize_t n;

    while ((n = reader_read(r, data, 100000, &fx.err)) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if ((unsigned char)data[i] != content_at(at))
                fail_msg("byte %" PRIu64 " differs", at);
    if (n < 0 || reader_finish(r, &fx.err) != 0)
        fail_msg("%s", fx.err.message);
    assert_int_equal(at, stream_size);
}

/* The archive, read under the policy of the repo that wrote it. */
static void expect_round_trip(void)
{
    struct destination d = {.kind = &memory_kind};
    struct archive_policy policy = archive_policy_of(&fx.repo);
    struct frame_cache *cache = frame_cache_new(0);
    struct archive a = examine_ok(&d, &policy);
    struct reader *r = NULL;

    if (archive_check_ids(&a, &fx.err) != 0 || payload_reader(&a, cache, &r, &fx.err) != 0)
        fail_msg("%s", fx.err.message);
    archive_release(&a);
    expect_content(r);
    reader_free(r);
    frame_cache_free(cache);
    assert_int_equal(fx.readings, 0);
}

static void expect_manifest(const struct combination *c)
{
    struct manifest m = the_manifest();
    bool v1 = strcmp(c->format, "v1") == 0;

    assert_int_equal(m.version, v1 ? MANIFEST_V1 : MANIFEST_V2);
    assert_int_equal(m.encrypted, c->encrypt);
    assert_int_equal(m.envelope, c->envelope);
    assert_string_equal(m.compression, is_compressed(c) ? "zstd" : "none");
    assert_int_equal(m.compression_level, is_compressed(c) ? atoi(c->compression + 5) : 0);
    assert_int_equal(strlen(m.key_id), c->envelope == ENVELOPE_V2 ? KEY_ID_HEX : 0);
    assert_string_equal(m.key_ref, c->envelope == ENVELOPE_V1 ? key_ref : "");
    assert_string_equal(m.encryption_algorithm, c->envelope == ENVELOPE_V1 ? "aes-256-gcm" : "");
    assert_int_equal(m.stored.size, memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data.len);
    if (!v1)
        assert_int_equal(m.content_bytes, stream_size);
    assert_int_equal(m.payload_id_count, 2);
    manifest_release(&m);
}

static void sha256_of(const struct buf *b, char hex[SHA256_HEX + 1])
{
    unsigned char raw[32];

    assert_int_equal(EVP_Digest(b->data, b->len, raw, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

static void expect_record(const struct combination *c)
{
    const struct buf *stored = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data;
    char hex[SHA256_HEX + 1];

    sha256_of(stored, hex);
    assert_string_equal(fx.record.sha256, hex);
    assert_int_equal(fx.record.size_bytes, stored->len);
    assert_int_equal(fx.record.content_bytes, stream_size);
    assert_int_equal(stats_get(&fx.stats, "stored_bytes"), stored->len);
    assert_int_equal(stats_get(&fx.stats, "content_bytes"), stream_size);
    if (!is_compressed(c) && !c->encrypt)
        assert_int_equal(stored->len, stream_size);
    else
        assert_int_not_equal(stored->len, stream_size);
}

/* Content of the stream is in the stored bytes just if these are the stream. */
static void expect_hidden(const struct combination *c)
{
    const struct buf *stored = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data;
    unsigned char piece[64];

    if (stream_size < 1000)
        return;
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = content_at(900 + i);
    const void *found = memmem(stored->data, stored->len, piece, sizeof piece);
    if (c->encrypt)
        assert_null(found);
    else if (!is_compressed(c))
        assert_non_null(found);
}

static void every_policy_round_trips(void **state)
{
    static const uint64_t sizes[] = {0, 1, 65536, 1 << 20, (5 << 20) + 3};

    (void)state;
    for (size_t i = 0; i < COMBINATIONS; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            again_with(&combinations[i]);
            stream_size = sizes[k];
            if (run(with_ids) != JOB_SUCCEEDED)
                fail_msg("%s", fx.err.message);
            expect_manifest(&combinations[i]);
            expect_record(&combinations[i]);
            expect_hidden(&combinations[i]);
            expect_round_trip();
            assert_int_equal(fx.reopens, 0); /* nobody asked for that */
        }
}

static void a_repo_that_says_nothing_compresses_and_does_not_encrypt(void **state)
{
    (void)state;
    settings_release(&fx.repo.settings);
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    struct manifest m = the_manifest();
    assert_int_equal(m.version, MANIFEST_V2);
    assert_string_equal(m.compression, "zstd");
    assert_int_equal(m.compression_level, 3);
    assert_false(m.encrypted);
    manifest_release(&m);
    stream_size = 1000;
    expect_round_trip();
}

static void the_ids_are_covered_by_a_digest_in_the_manifest(void **state)
{
    char hex[SHA256_HEX + 1];

    (void)state;
    stream_size = 10;
    assert_int_equal(run(with_ids), JOB_SUCCEEDED);
    const struct buf *ids = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD_IDS)->data;
    struct manifest m = the_manifest();
    sha256_of(ids, hex);
    assert_string_equal(buf_text(ids), "a\nb\n");
    assert_string_equal(m.payload_ids_sha256, hex);
    manifest_release(&m);
    again();
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    m = the_manifest();
    assert_string_equal(m.payload_ids_sha256, "");
    manifest_release(&m);
}

/* ---- keys ---- */

enum { SALT_AT = 16, SALT_BYTES = 32 };

static void no_two_runs_share_a_salt(void **state)
{
    char first[SALT_BYTES];

    (void)state;
    for (int i = 0; i < 2; i++) {
        again_with(&combinations[2]);
        assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
        const struct buf *stored = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data;
        assert_memory_equal(stored->data, "DFS1\2", 5);
        if (i == 0)
            memcpy(first, stored->data + SALT_AT, SALT_BYTES);
        else
            assert_memory_not_equal(first, stored->data + SALT_AT, SALT_BYTES);
    }
}

static void the_log_names_the_key_by_its_id_alone(void **state)
{
    (void)state;
    again_with(&combinations[2]);
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    struct manifest m = the_manifest();
    char *line = xasprintf("encrypting with the key %s, envelope v2\n", m.key_id);
    assert_string_equal(buf_text(&fx.log), line);
    free(line);
    manifest_release(&m);
    again();
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_string_equal(buf_text(&fx.log), "");
}

static void expect_unusable_key(const char *ref)
{
    for (size_t i = 0; i < COMBINATIONS; i++) {
        if (!combinations[i].encrypt)
            continue;
        again_with(&combinations[i]);
        repo_says("encryption_key", ref);
        expect_end(run(a_few_bytes), JOB_FAILED, ERR_DESTINATION_CREDENTIALS_INVALID);
        assert_non_null(strstr(fx.why.message, ref));
        assert_int_equal(fx.sources_opened, 0);
        assert_int_equal(fx.calls, 0);
        assert_string_equal(buf_text(&fx.tape), "start failed ");
    }
}

static void without_its_key_nothing_is_opened(void **state)
{
    char ref[160];

    (void)state;
    write_key("short", KEY_BYTES - 1, 0600);
    write_key("shared", KEY_BYTES, 0640);
    static const char *const names[] = {"missing", "short", "shared", "good/below"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(ref, sizeof ref, "file:%s/%s", key_dir, names[i]);
        expect_unusable_key(ref);
    }
    unsetenv("KEEPFS_TEST_KEY");
    expect_unusable_key("env:KEEPFS_TEST_KEY");
    setenv("KEEPFS_TEST_KEY", "not sixty-four hex digits", 1);
    expect_unusable_key("env:KEEPFS_TEST_KEY");
    unsetenv("KEEPFS_TEST_KEY");
}

static void a_key_may_come_from_the_environment(void **state)
{
    char digits[2 * KEY_BYTES + 1];

    (void)state;
    memset(digits, 'c', sizeof digits - 1);
    digits[0] = 'd'; /* all bytes alike would be no key */
    digits[sizeof digits - 1] = '\0';
    setenv("KEEPFS_TEST_BACKUP_KEY", digits, 1);
    again_with(&combinations[3]);
    repo_says("encryption_key", "env:KEEPFS_TEST_BACKUP_KEY");
    stream_size = 1000;
    assert_int_equal(run(with_ids), JOB_SUCCEEDED);
    expect_round_trip();
    assert_null(strstr(buf_text(&fx.log), "cccc"));
    assert_null(strstr(buf_text(&memory_object_of(the_archive(), ARCHIVE_MANIFEST)->data), "cccc"));
}

/* ---- reading back ---- */

static void what_was_written_well_passes_the_reading_back(void **state)
{
    static const uint64_t sizes[] = {0, 1, (5 << 20) + 3};

    (void)state;
    for (size_t i = 0; i < COMBINATIONS; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            again_with(&combinations[i]);
            repo_says("verify_after_write", "yes");
            stream_size = sizes[k];
            if (run(with_ids) != JOB_SUCCEEDED)
                fail_msg("%s", fx.err.message);
            assert_int_equal(fx.reopens, 1);
            assert_true(fx.preads > 0);
            assert_non_null(strstr(buf_text(&fx.log), "read back: "));
            expect_record(&combinations[i]);
            expect_round_trip();
        }
}

/* What a disk may have made of the payload. */
static uint64_t damage_at;

static void flip_a_bit(struct memory_object *o)
{
    o->data.data[damage_at] ^= 0x10;
}

static void drop_the_last_byte(struct memory_object *o)
{
    buf_truncate(&o->data, o->data.len - 1);
}

static void add_a_byte(struct memory_object *o)
{
    buf_adds(&o->data, "x");
}

static void lose_everything(struct memory_object *o)
{
    buf_truncate(&o->data, 0);
}

static void expect_damage_found(const struct combination *c, void (*damage)(struct memory_object *))
{
    again_with(c);
    repo_says("verify_after_write", "yes");
    fx.in_reopen = damage;
    expect_end(run(with_ids), JOB_FAILED, ERR_INTEGRITY_FAILED);
    assert_true(strncmp(fx.why.message, "reading the archive back: ", 26) == 0);
    assert_null(strstr(buf_text(&fx.log), "read back: "));
    assert_int_equal(fx.reopens, 1);
}

static void a_byte_that_changed_on_its_way_fails_the_job(void **state)
{
    (void)state;
    stream_size = (2 << 20) + 5;
    for (size_t i = 0; i < COMBINATIONS; i++) {
        again_with(&combinations[i]);
        assert_int_equal(run(with_ids), JOB_SUCCEEDED);
        uint64_t size = fx.record.size_bytes;
        const uint64_t places[] = {0, 5, 40, 90, size / 2, size - 5, size - 1};
        for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
            damage_at = places[k];
            expect_damage_found(&combinations[i], flip_a_bit);
        }
        expect_damage_found(&combinations[i], drop_the_last_byte);
        assert_non_null(strstr(fx.why.message, "truncated"));
        expect_damage_found(&combinations[i], add_a_byte);
        assert_non_null(strstr(fx.why.message, "trailing bytes"));
        expect_damage_found(&combinations[i], lose_everything);
    }
}

/* The frame size in the header of an envelope v1 that has one frame means nothing to its content:
 * only the digest of all that is stored has it. */
static void damage_that_decodes_all_the_same_fails_the_job(void **state)
{
    const struct combination *v1 = &combinations[COMBINATIONS - 1];

    (void)state;
    assert_int_equal(v1->envelope, ENVELOPE_V1);
    stream_size = 1000;
    damage_at = 8; /* the header's last byte */
    expect_damage_found(v1, flip_a_bit);
    assert_non_null(strstr(fx.why.message, "altered"));
}

static int calls_of_a_good_run(const struct combination *c)
{
    again_with(c);
    repo_says("verify_after_write", "yes");
    assert_int_equal(run(with_ids), JOB_SUCCEEDED);
    return fx.calls;
}

/* Every call, also those of reading back, in turn. */
static void each_call_of_the_destination_may_fail_under_every_policy(void **state)
{
    (void)state;
    stream_size = (3 << 20) + 1;
    for (size_t i = 0; i < COMBINATIONS; i++) {
        int calls = calls_of_a_good_run(&combinations[i]);
        for (int n = 1; n <= calls; n++) {
            again_with(&combinations[i]);
            repo_says("verify_after_write", "yes");
            fx.fail_at = n;
            expect_end(run(with_ids), JOB_FAILED, ERR_DESTINATION_UNREACHABLE);
            assert_int_equal(fx.failures, 1);
            assert_int_equal(fx.why.errnum, EIO);
            assert_non_null(strstr(fx.why.message, "memory: "));
        }
    }
}

/* ---- cancel ---- */

static enum error_code cancel_code;

static void cancel_in_reopen(struct memory_object *o)
{
    (void)o;
    cancel_request(&fx.cancel, cancel_code, "cancelled by uid:1000");
}

static void a_cancel_while_it_reads_back_is_in_time(void **state)
{
    static const enum error_code codes[] = {ERR_CANCELLED, ERR_INTERRUPTED};

    (void)state;
    stream_size = 8 << 20;
    for (size_t i = 0; i < COMBINATIONS; i++)
        for (size_t k = 0; k < 2; k++) {
            int calls = calls_of_a_good_run(&combinations[i]), whole = fx.preads;
            assert_true(calls > 0);
            again_with(&combinations[i]);
            repo_says("verify_after_write", "yes");
            cancel_code = codes[k];
            fx.in_reopen = cancel_in_reopen;
            expect_end(run(with_ids), JOB_INTERRUPTED, codes[k]);
            assert_string_equal(fx.why.message, "cancelled by uid:1000");
            assert_int_equal(fx.reopens, 1);
            assert_true(fx.preads < whole); /* it did not read on to the end */
        }
}

static sem_t source_runs;

static void *cancel_when_it_runs(void *ctx)
{
    (void)ctx;
    while (sem_wait(&source_runs) != 0)
        ;
    cancel_request(&fx.cancel, ERR_CANCELLED, "cancelled by uid:1000");
    return NULL;
}

/* Ends by cancel alone, with frames under way in every thread of the stream. */
static int writes_for_ever(struct source_run *r, struct error *err)
{
    if (write_content(r->out, 4 << 20, 1 << 20, err) != 0)
        return -1;
    sem_post(&source_runs);
    while (writer_write(r->out, "some bytes", 10, err) == 0)
        ;
    return -1;
}

static void a_cancel_from_another_thread_interrupts_every_kind_of_stream(void **state)
{
    pthread_t other;

    (void)state;
    for (size_t i = 0; i < COMBINATIONS; i++) {
        again_with(&combinations[i]);
        sem_init(&source_runs, 0, 0);
        assert_int_equal(pthread_create(&other, NULL, cancel_when_it_runs, NULL), 0);
        enum job_state end = run(writes_for_ever);
        pthread_join(other, NULL);
        sem_destroy(&source_runs);
        expect_end(end, JOB_INTERRUPTED, ERR_CANCELLED);
        assert_string_equal(fx.why.message, "cancelled by uid:1000");
    }
}

static int breaks_off(struct source_run *r, struct error *err)
{
    if (write_content(r->out, (3 << 20) + 100, 1 << 20, err) != 0)
        return -1;
    return error_sys(err, SIDE_SOURCE, EIO, "/srv/app.db");
}

static void a_source_that_breaks_off_leaves_nothing_under_any_policy(void **state)
{
    (void)state;
    for (size_t i = 0; i < COMBINATIONS; i++) {
        again_with(&combinations[i]);
        expect_end(run(breaks_off), JOB_FAILED, ERR_SOURCE_UNAVAILABLE);
        assert_string_equal(fx.why.message, "/srv/app.db: Input/output error");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_policy_round_trips),
        TEST(a_repo_that_says_nothing_compresses_and_does_not_encrypt),
        TEST(the_ids_are_covered_by_a_digest_in_the_manifest),
        TEST(no_two_runs_share_a_salt),
        TEST(the_log_names_the_key_by_its_id_alone),
        TEST(without_its_key_nothing_is_opened),
        TEST(a_key_may_come_from_the_environment),
        TEST(what_was_written_well_passes_the_reading_back),
        TEST(a_byte_that_changed_on_its_way_fails_the_job),
        TEST(damage_that_decodes_all_the_same_fails_the_job),
        TEST(each_call_of_the_destination_may_fail_under_every_policy),
        TEST(a_cancel_while_it_reads_back_is_in_time),
        TEST(a_cancel_from_another_thread_interrupts_every_kind_of_stream),
        TEST(a_source_that_breaks_off_leaves_nothing_under_any_policy),
    };

    return cmocka_run_group_tests(tests, keys_setup, keys_teardown);
}
