/* SPDX-License-Identifier: MIT */
/*
 * test_reading.c - archives as the mount reads them: objects as they are stored, payloads decoded,
 * and everything that may not be shown as the payload of a record refused at the open.
 */
#include "fixture.h"

static char key_ref[256], other_ref[256];

enum { CONTENT_BYTES = (3 << 20) + 5 };

static char content_at(uint64_t i)
{
    return (char)((i * UINT64_C(2654435761)) >> 11);
}

static int much_content(const struct store *store, struct source_run *run, struct error *err)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(CONTENT_BYTES);

    (void)store;
    for (size_t i = 0; i < CONTENT_BYTES; i++)
        data[i] = content_at(i);
    return writer_write(run->out, data, CONTENT_BYTES, err);
}

static int setup(void **state)
{
    struct fixture *f = fixture_make();

    add_repo(f, add_store(f, "app", 0), "main");
    make_key(f, "key", key_ref);
    make_key(f, "other", other_ref);
    script = much_content;
    fixture_open(f);
    fixture_start_workers(f);
    *state = f;
    return 0;
}

static struct record back_up_under(struct fixture *f, const char *format, const char *compression,
                                   const char *key)
{
    struct repo *r = repo_of(f, "app", "main");

    repo_says(r, "format", format);
    repo_says(r, "compression", compression);
    repo_says(r, "encryption_key", key);
    return back_up(f, "app");
}

static void expect_slice(struct service_object *o, uint64_t offset, size_t len)
{
    __attribute__((cleanup(free_charp))) char *data = xmalloc(len);
    size_t whole = offset < CONTENT_BYTES ? CONTENT_BYTES - (size_t)offset : 0;
    struct error err;
    ssize_t n = service_pread(o, data, len, offset, &err);

    if (n < 0)
        fail_msg("%s", err.message);
    assert_int_equal(n, len < whole ? len : whole);
    for (ssize_t i = 0; i < n; i++)
        if (data[i] != content_at(offset + (uint64_t)i))
            fail_msg("byte %llu differs", (unsigned long long)offset + (unsigned long long)i);
}

static void expect_refused(struct fixture *f, const struct record *r, enum error_code code,
                           const char *why)
{
    struct service_object o;
    struct error err = {0};

    assert_int_equal(service_open_payload(f->service, r, &o, &err), -1);
    if (err.code != code || !strstr(err.message, why))
        fail_msg("%s: %s", error_code_name(err.code), err.message);
    assert_null(o.destination);
    service_close_object(&o); /* is empty */
}

static void expect_readable(struct fixture *f, const struct record *r)
{
    struct service_object o;
    struct error err;

    if (service_open_payload(f->service, r, &o, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(o.size, CONTENT_BYTES);
    expect_slice(&o, 0, CONTENT_BYTES);
    service_close_object(&o);
}

/* ---- as it is stored ---- */

static void an_archives_objects_are_read_by_name(void **state)
{
    struct fixture *f = *state;
    struct service_object o;
    struct record record;
    struct error err;
    char data[64] = "";

    script = write_content;
    record = back_up(f, "app");
    assert_int_equal(service_open_object(f->service, &record, ARCHIVE_PAYLOAD, &o, &err), 0);
    assert_int_equal(o.size, strlen(CONTENT));
    assert_int_equal(service_pread(&o, data, sizeof data, 4, &err), strlen(CONTENT) - 4);
    assert_string_equal(data, &CONTENT[4]);
    service_close_object(&o);
    service_close_object(&o); /* is empty by now */
    assert_int_equal(service_open_object(f->service, &record, ARCHIVE_PAYLOAD_IDS, &o, &err), -1);
    assert_int_equal(err.code, ERR_ARCHIVE_INCOMPLETE);
    assert_null(o.destination);
}

static void a_record_of_a_repo_that_is_not_configured_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    struct record record = {.ulid = "01HXYZ0123456789ABCDEFGHJ1", .store = "app", .repo = "gone"};
    struct service_object o;
    struct error err;

    assert_int_equal(service_open_object(f->service, &record, ARCHIVE_PAYLOAD, &o, &err), -1);
    assert_int_equal(err.code, ERR_DESTINATION_CONFIG_INVALID);
    assert_non_null(strstr(err.message, "app/gone"));
    expect_refused(f, &record, ERR_DESTINATION_CONFIG_INVALID, "app/gone");
}

/* ---- as the source gave it ---- */

static void a_payload_of_every_policy_is_what_the_source_gave(void **state)
{
    static const char *const policies[][3] = {
        {"v2", "none", "none"},    {"v2", "zstd:3", "none"}, {"v2", "none", key_ref},
        {"v2", "zstd:1", key_ref}, {"v1", "none", "none"},   {"v1", "none", key_ref},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        struct record r = back_up_under(f, policies[i][0], policies[i][1], policies[i][2]);
        struct service_object o;
        struct error err;
        if (service_open_payload(f->service, &r, &o, &err) != 0)
            fail_msg("%s", err.message);
        assert_int_equal(o.size, CONTENT_BYTES);
        expect_slice(&o, CONTENT_BYTES - 1, 1);
        expect_slice(&o, (1 << 20) - 1, 2);
        expect_slice(&o, 0, CONTENT_BYTES);
        expect_slice(&o, CONTENT_BYTES - 3, 100);
        expect_slice(&o, CONTENT_BYTES, 1);
        service_close_object(&o);
        service_close_object(&o);
    }
}

static void several_payloads_are_open_at_once(void **state)
{
    struct fixture *f = *state;
    struct service_object o[3];
    struct error err;

    struct record r[3] = {back_up_under(f, "v2", "zstd:3", key_ref),
                          back_up_under(f, "v2", "zstd:3", key_ref),
                          back_up_under(f, "v2", "none", key_ref)};
    for (int i = 0; i < 3; i++)
        assert_int_equal(service_open_payload(f->service, &r[i], &o[i], &err), 0);
    for (uint64_t at = 0; at < CONTENT_BYTES; at += 100000)
        for (int i = 0; i < 3; i++)
            expect_slice(&o[i], at, 100000);
    service_close_object(&o[1]);
    expect_slice(&o[0], 0, 1000);
    expect_slice(&o[2], 0, 1000);
    service_close_object(&o[0]);
    service_close_object(&o[2]);
}

static void after_a_change_of_keys_an_old_payload_needs_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct repo *repo = repo_of(f, "app", "main");

    for (int v1 = 0; v1 < 2; v1++) {
        struct record r = back_up_under(f, v1 ? "v1" : "v2", "none", key_ref);
        repo_says(repo, "encryption_key", other_ref);
        expect_refused(f, &r, ERR_DECRYPT_FAILED, "wrong key");
        repo_says(repo, "old_keys", key_ref);
        expect_readable(f, &r);
        repo_says(repo, "old_keys", NULL);
    }
}

static void without_its_key_a_payload_is_refused(void **state)
{
    struct fixture *f = *state;
    SCOPED_PATH(key, f, "key");

    for (int v1 = 0; v1 < 2; v1++) {
        struct record r = back_up_under(f, v1 ? "v1" : "v2", "none", key_ref);
        assert_int_equal(unlink(key), 0);
        expect_refused(f, &r, ERR_DESTINATION_CREDENTIALS_INVALID, key_ref);
        make_key(f, "key", key_ref);
        expect_readable(f, &r);
    }
}

static void an_unencrypted_payload_is_refused_where_archives_must_be_encrypted(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_under(f, "v2", "zstd:3", "none");

    expect_readable(f, &r);
    repo_says(repo_of(f, "app", "main"), "encryption_key", key_ref);
    expect_refused(f, &r, ERR_ENCRYPTION_REQUIRED, "not encrypted");
    repo_says(repo_of(f, "app", "main"), "min_envelope", "none");
    expect_readable(f, &r);
}

/* What each archive of a record is called below its repo, exchanged between two of them. */
static void exchange(struct fixture *f, const struct record *a, const struct record *b,
                     const char *name)
{
    SCOPED_PATH(first, f, "app-main/%s/%s", a->ulid, name);
    SCOPED_PATH(second, f, "app-main/%s/%s", b->ulid, name);

    assert_int_equal(renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE), 0);
}

static void the_payload_of_another_archive_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record a = back_up_under(f, "v2", "none", key_ref);
    struct record b = back_up_under(f, "v2", "none", key_ref);

    assert_int_equal(a.size_bytes, b.size_bytes);
    exchange(f, &a, &b, "payload.bin");
    expect_refused(f, &a, ERR_INTEGRITY_FAILED, "wrong archive");
    expect_refused(f, &b, ERR_INTEGRITY_FAILED, "wrong archive");
    exchange(f, &a, &b, "payload.bin");
    expect_readable(f, &a);
    exchange(f, &a, &b, "manifest.yaml");
    expect_refused(f, &a, ERR_MANIFEST_INVALID, "manifest of archive");
}

/* A whole and good archive of that very id, store and key; only the catalog knows that it is not
 * the one that was written. */
static void another_archive_in_the_place_of_the_record_is_refused(void **state)
{
    static const char *const keys[] = {"none", key_ref};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        struct record r = back_up_under(f, "v2", "zstd:3", keys[i]), other = r;
        memset(other.sha256, 'a', sizeof other.sha256 - 1);
        expect_readable(f, &r);
        expect_refused(f, &other, ERR_INTEGRITY_FAILED, "another archive stands in the place");
        struct service_object o;
        struct error err;
        assert_int_equal(service_open_object(f->service, &other, ARCHIVE_PAYLOAD, &o, &err), 0);
        service_close_object(&o);
    }
}

static void alter(struct fixture *f, const struct record *r, const char *name, off_t offset)
{
    SCOPED_PATH(path, f, "app-main/%s/%s", r->ulid, name);
    __attribute__((cleanup(fd_close))) int fd = open(path, O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

static void an_altered_manifest_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_under(f, "v2", "none", key_ref);
    SCOPED_PATH(path, f, "app-main/%s/manifest.yaml", r.ulid);
    __attribute__((cleanup(free_charp))) char *text = read_file(path);

    alter(f, &r, "manifest.yaml", strchr(strstr(text, "created_at"), 'Z') - 1 - text);
    expect_refused(f, &r, ERR_MANIFEST_INVALID, "manifest altered");
}

/* Frames of an envelope v2 stand at 80 + n * (1 MiB + 16). */
static void a_damaged_frame_fails_alone(void **state)
{
    struct fixture *f = *state;
    struct record r = back_up_under(f, "v2", "none", key_ref);
    struct service_object o;
    struct error err = {0};
    char byte;

    alter(f, &r, "payload.bin", 80 + 1 * ((1 << 20) + 16) + 77);
    assert_int_equal(service_open_payload(f->service, &r, &o, &err), 0);
    expect_slice(&o, 0, 1 << 20);
    assert_int_equal(service_pread(&o, &byte, 1, (1 << 20) + 500, &err), -1);
    assert_int_equal(err.code, ERR_INTEGRITY_FAILED);
    assert_non_null(strstr(err.message, "damaged frame 1"));
    expect_slice(&o, 2 << 20, 1 << 20);
    service_close_object(&o);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_archives_objects_are_read_by_name),
        TEST(a_record_of_a_repo_that_is_not_configured_cannot_be_read),
        TEST(a_payload_of_every_policy_is_what_the_source_gave),
        TEST(several_payloads_are_open_at_once),
        TEST(after_a_change_of_keys_an_old_payload_needs_the_old_one),
        TEST(without_its_key_a_payload_is_refused),
        TEST(an_unencrypted_payload_is_refused_where_archives_must_be_encrypted),
        TEST(the_payload_of_another_archive_is_refused),
        TEST(another_archive_in_the_place_of_the_record_is_refused),
        TEST(an_altered_manifest_is_refused),
        TEST(a_damaged_frame_fails_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
