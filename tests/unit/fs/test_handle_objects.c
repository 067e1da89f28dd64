/* SPDX-License-Identifier: MIT */
/*
 * test_handle_objects.c - handle.c: archives through the mount, as they are stored and as the
 * source gave them.
 */
#include "fixture.h"

#include "service/internal.h"
#include "stream/seekable.h"

#include <pthread.h>

/* ---- archives in memory ---- */

static void payload_path(struct fixture *f, const char *name, char path[64])
{
    char job[ULID_LEN + 1], record[ULID_LEN + 1];

    make_record(f, job, record);
    snprintf(path, 64, "records/%s/%s", record, name);
}

static void a_payload_is_read_in_slices(void **state)
{
    struct fixture *f = *state;
    char path[64], text[64];
    size_t got;

    payload_path(f, "payload.bin", path);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_mode(h), HANDLE_FRESH);
    assert_int_equal(handle_read(h, text, 3, 4, &got), 0);
    assert_int_equal(got, 3);
    assert_memory_equal(text, "456", 3);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), 0);
    assert_int_equal(got, 10);
    assert_memory_equal(text, "0123456789", 10);
    assert_int_equal(handle_read(h, text, sizeof text, 10, &got), 0);
    assert_int_equal(got, 0);
    assert_int_equal(handle_read(h, text, sizeof text, UINT64_MAX, &got), 0);
    assert_int_equal(got, 0);
    handle_close(h);
}

static void *read_slices(void *ctx)
{
    char text[16];
    size_t got;

    for (uint64_t i = 0; i < 2000; i++)
        if (handle_read(ctx, text, 5, i % 5, &got) != 0 || got != 5 ||
            text[0] != '0' + (char)(i % 5))
            return "a slice is wrong";
    return NULL;
}

static void one_open_payload_serves_several_readers(void **state)
{
    struct fixture *f = *state;
    char path[64];
    pthread_t threads[4];
    void *complaint;

    payload_path(f, "payload", path);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_slices, h), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    handle_close(h);
}

static void an_archive_of_another_size_does_not_open(void **state)
{
    struct fixture *f = *state;
    char path[64];

    payload_path(f, "payload.bin", path);
    memory.claimed = 9;
    assert_int_equal(open_errno(f, path, O_RDONLY), EIO);
    assert_last_error(f, ME, "errno EIO\npath records/");
    assert_last_error(f, ME, "has 9 bytes and should have 10");
    assert_last_error(f, ME + 1, "ok\n");
    memory.claimed = 11;
    assert_int_equal(open_errno(f, path, O_RDONLY), EIO);
}

static void an_archive_that_ends_early_or_fails_is_eio_not_eof(void **state)
{
    struct fixture *f = *state;
    char path[64], text[64];
    size_t got;

    payload_path(f, "payload", path);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    memory.fails_at = 8;
    assert_int_equal(handle_read(h, text, 6, 0, &got), 0);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), EIO);
    assert_last_error(f, ME, "message payload.bin: the disk is gone\n");
    handle_close(h);
    memory.fails_at = UINT64_MAX;
    memory.payload = "0123";
    h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_read(h, text, 4, 0, &got), 0);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), EIO);
    assert_last_error(f, ME, "ends at byte 4 of 10");
    handle_close(h);
}

static void adopt_ok(struct fixture *f, const struct record *r)
{
    struct error err;
    bool adopted;

    assert_int_equal(catalog_record_adopt(f->catalog, r, &adopted, &err), 0);
    assert_true(adopted);
}

/* Its record tells of another content than the archive, or of another archive. */
static void what_is_not_the_records_is_never_shown_as_its_payload(void **state)
{
    struct fixture *f = *state;
    struct record r = {.store = "app",
                       .store_kind = "sqlite",
                       .repo = "main",
                       .created_at = f->now,
                       .size_bytes = 10,
                       .content_bytes = 7};
    char path[64];

    for (int other = 0; other < 2; other++) {
        ulid_new(f->now, r.ulid);
        memcpy(r.sha256, memory.stored.sha256, sizeof r.sha256);
        if (other)
            memset(r.sha256, 'a', 64);
        adopt_ok(f, &r);
        snprintf(path, sizeof path, "records/%s/payload", r.ulid);
        assert_int_equal(find(f, "%s", path).st.st_size, 7);
        assert_int_equal(open_errno(f, path, O_RDONLY), EIO);
        assert_last_error(f, ME, other ? "another archive" : "has 10 bytes and should have 7");
        snprintf(path, sizeof path, "records/%s/payload.bin", r.ulid);
        assert_int_equal(open_errno(f, path, O_RDONLY), 0);
    }
}

/* The teardown checks that nothing of the destination is open. */
static void what_is_still_open_is_closed_with_the_tree(void **state)
{
    struct fixture *f = *state;
    char path[64];

    payload_path(f, "payload", path);
    open_as(f, ME, O_RDONLY, path);
    open_as(f, ME, O_RDWR, "ctl");
    open_as(f, ME, O_RDONLY, path);
    assert_int_equal(memory.open, 4);
}

/* ---- archives that are not the stream itself ---- */

enum { SIZE = (3 << 20) + 5 };

/* Bytes that nothing makes smaller: each frame of zstd is then about one of the envelope. */
static unsigned char *make_content(void)
{
    unsigned char *data = xmalloc(SIZE);
    uint32_t x = 2463534242;

    for (size_t i = 0; i < SIZE; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        data[i] = (unsigned char)x;
    }
    return data;
}

/* From now on app/main is a directory, encrypted and compressed. */
static struct repo *make_real_repo(struct fixture *f)
{
    __attribute__((cleanup(free_charp))) char *key = xasprintf("%s/key", f->dir);
    __attribute__((cleanup(free_charp))) char *ref = xasprintf("file:%s", key);
    __attribute__((cleanup(free_charp))) char *path = xasprintf("%s/repo", f->dir);
    __attribute__((cleanup(fd_close))) int fd = open(key, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct repo *r = &f->repos[0];

    assert_int_equal(fd_write_all(fd, "thirty-two bytes that are a key.", KEY_BYTES), 0);
    r->kind = destination_kind_find("local");
    r->settings.rows[2] = r->kind->settings;
    repo_says(r, "path", path);
    repo_says(r, "encryption_key", ref);
    return r;
}

/* The content through zstd and the envelope, as the executor would. */
static void write_payload(struct publish *p, const struct key *key, struct manifest *m,
                          const unsigned char *content)
{
    const struct envelope e = {
        .version = ENVELOPE_V2, .store_id = m->store_id, .record = m->backup_id};
    struct writer *w;
    struct error err;

    assert_int_equal(envelope_writer_new(publish_payload(p), key, &e, &w, &err), 0);
    assert_int_equal(seekable_writer_new(w, m->compression_level, 1, &w, &err), 0);
    assert_int_equal(writer_write(w, content, SIZE, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
}

static void publish_content(struct destination *d, const char *key_ref, const char *ulid,
                            const unsigned char *content)
{
    struct manifest m = {.version = MANIFEST_V2,
                         .created_at = 1800000000123,
                         .store_id = "app",
                         .store_kind = "sqlite",
                         .content_bytes = SIZE,
                         .compression = "zstd",
                         .compression_level = 1,
                         .encrypted = true,
                         .envelope = ENVELOPE_V2};
    struct publish *p;
    struct key *key;
    uint64_t size;
    struct error err;

    snprintf(m.backup_id, sizeof m.backup_id, "%s", ulid);
    assert_int_equal(key_load(key_ref, &key, &err), 0);
    assert_int_equal(key_id(key, m.key_id, &err), 0);
    assert_int_equal(publish_begin(d, ulid, &p, &err), 0);
    write_payload(p, key, &m, content);
    if (publish_commit(p, &m, key, &size, &size, &err) != 0)
        fail_msg("%s", err.message);
    publish_free(p);
    key_free(key);
}

/* A record of an encrypted and compressed archive of that content. */
static void make_real_record(struct fixture *f, const unsigned char *content,
                             char ulid[ULID_LEN + 1])
{
    struct repo *repo = make_real_repo(f);
    struct archive_policy policy = archive_policy_of(repo);
    struct destination *d;
    struct record r;
    struct error err;

    ulid_new(f->now, ulid);
    assert_int_equal(repo->kind->open(&repo->settings, DESTINATION_CREATE, &d, &err), 0);
    publish_content(d, policy.keys[0], ulid, content);
    if (recovery_describe(d, repo, ulid, &r, &err) != 0)
        fail_msg("%s", err.message);
    repo->kind->close(d);
    adopt_ok(f, &r);
}

static void expect_slice(struct handle *h, const unsigned char *content, uint64_t offset,
                         size_t len)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(len);
    size_t got, whole = offset < SIZE ? SIZE - (size_t)offset : 0;

    assert_int_equal(handle_read(h, data, len, offset, &got), 0);
    assert_int_equal(got, len < whole ? len : whole);
    assert_memory_equal(data, content + offset, got);
}

static void an_encrypted_and_compressed_payload_reads_as_the_source_gave_it(void **state)
{
    struct fixture *f = *state;
    unsigned char *content = make_content();
    char ulid[ULID_LEN + 1], path[64];

    make_real_record(f, content, ulid);
    snprintf(path, sizeof path, "records/%s/payload", ulid);
    assert_int_equal(find(f, "%s", path).st.st_size, SIZE);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_mode(h), HANDLE_CACHED);
    expect_slice(h, content, SIZE - 3, 3);
    expect_slice(h, content, (1 << 20) - 5, 10);
    for (uint64_t at = 0; at < SIZE; at += 128 << 10)
        expect_slice(h, content, at, 128 << 10);
    expect_slice(h, content, SIZE - 1, 100);
    expect_slice(h, content, SIZE, 1);
    handle_close(h);
    snprintf(path, sizeof path, "records/%s/payload.bin", ulid);
    struct node_attr stored = find(f, "%s", path);
    char magic[5];
    size_t got;
    assert_true(stored.st.st_size > SIZE);
    h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_read(h, magic, sizeof magic, 0, &got), 0);
    assert_memory_equal(magic, "DFS1\2", 5); /* as it is stored */
    handle_close(h);
    free(content);
}

static void flip_in_payload(struct fixture *f, const char *ulid, off_t offset)
{
    __attribute__((cleanup(free_charp))) char *path =
        xasprintf("%s/repo/%s/payload.bin", f->dir, ulid);
    __attribute__((cleanup(fd_close))) int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

/* What comes before the damage can be had; what it touches is an error each time. */
static void a_damaged_frame_is_eio_and_named_in_last_error(void **state)
{
    struct fixture *f = *state;
    unsigned char *content = make_content();
    char ulid[ULID_LEN + 1], path[64], data[100];
    size_t got;

    make_real_record(f, content, ulid);
    flip_in_payload(f, ulid, 80 + 2 * ((1 << 20) + 16) + 1000);
    snprintf(path, sizeof path, "records/%s/payload", ulid);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    expect_slice(h, content, 0, 128 << 10);
    expect_slice(h, content, (1 << 20) - 100, 100);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(handle_read(h, data, sizeof data, (2 << 20) + 5000, &got), EIO);
        assert_int_equal(got, 0);
        assert_last_error(f, ME, "errno EIO\npath records/");
        assert_last_error(f, ME, "damaged frame 2");
    }
    expect_slice(h, content, 4096, 4096);
    handle_close(h);
    free(content);
}

static void without_its_key_a_payload_does_not_open(void **state)
{
    struct fixture *f = *state;
    unsigned char *content = make_content();
    __attribute__((cleanup(free_charp))) char *key = xasprintf("%s/key", f->dir);
    char ulid[ULID_LEN + 1], path[64];

    make_real_record(f, content, ulid);
    assert_int_equal(unlink(key), 0);
    snprintf(path, sizeof path, "records/%s/payload", ulid);
    assert_int_equal(find(f, "%s", path).st.st_size, SIZE); /* its size is no secret */
    assert_int_equal(open_errno(f, path, O_RDONLY), EIO);
    assert_last_error(f, ME, key);
    snprintf(path, sizeof path, "records/%s/payload.bin", ulid);
    assert_int_equal(open_errno(f, path, O_RDONLY), 0);
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(a_payload_is_read_in_slices),
        TREE_TEST(one_open_payload_serves_several_readers),
        TREE_TEST(an_archive_of_another_size_does_not_open),
        TREE_TEST(an_archive_that_ends_early_or_fails_is_eio_not_eof),
        TREE_TEST(what_is_not_the_records_is_never_shown_as_its_payload),
        TREE_TEST(what_is_still_open_is_closed_with_the_tree),
        TREE_TEST(an_encrypted_and_compressed_payload_reads_as_the_source_gave_it),
        TREE_TEST(a_damaged_frame_is_eio_and_named_in_last_error),
        TREE_TEST(without_its_key_a_payload_does_not_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
