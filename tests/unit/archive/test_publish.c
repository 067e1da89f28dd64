/* SPDX-License-Identifier: MIT */
/*
 * test_publish.c - publishing and reading archives, with a crash or a failure at each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../destination/hooks.h"
#include "fixture.h"

/* ---- publish ---- */

static void what_was_published_reads_back(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3), back;
    struct buf text = BUF_INIT;
    struct error err = {0};
    uint64_t manifest_bytes = 0, ids_bytes = 0;

    manifest_add_id(&m, "b");
    manifest_add_id(&m, "a");
    manifest_add_id(&m, "b");
    struct publish *p = publish_begin_ok(d, ULID_1);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_int_equal(publish_commit(p, &m, NULL, &manifest_bytes, &ids_bytes, &err), 0);
    publish_free(p);

    assert_int_equal(archive_manifest(d, ULID_1, &back, &text, &err), 0);
    assert_int_equal(back.stored.size, 3);
    assert_string_equal(back.stored.sha256,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(back.stored.sha256, m.stored.sha256);
    assert_string_equal(back.backup_id, ULID_1);
    assert_string_equal(back.store_id, "app");
    assert_int_equal(back.created_at, m.created_at);
    assert_int_equal(back.payload_id_count, 2);
    assert_int_equal(manifest_bytes, text.len);
    assert_int_equal(ids_bytes, 4);
    struct buf ids = place_read(place, ULID_1 "/payload_ids");
    assert_string_equal(buf_text(&ids), "a\nb\n");
    assert_string_equal(back.payload_ids_sha256,
                        "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2");
    buf_release(&ids);
    struct buf stored = place_read(place, ULID_1 "/manifest.yaml");
    assert_string_equal(buf_text(&stored), buf_text(&text));
    buf_release(&stored);
    buf_release(&text);
    manifest_release(&back);
    manifest_release(&m);
    d->kind->close(d);
}

static void an_archive_without_ids_has_no_list(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3);
    struct error err = {0};

    assert_int_equal(publish(d, &m, "abc", 3, &err), 0);
    assert_false(place_has(place, ULID_1 "/payload_ids"));
    assert_string_equal(m.payload_ids_sha256, "");
    d->kind->close(d);
}

static void an_encrypted_manifest_is_written_with_its_mac(void **state)
{
    static const unsigned char bytes[KEY_BYTES] = "a key that only a test may have";
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3), back;
    struct key *key = key_new(bytes);
    struct buf text = BUF_INIT;
    struct error err = {0};
    uint64_t size;

    m.encrypted = true;
    m.envelope = ENVELOPE_V2;
    assert_int_equal(key_id(key, m.key_id, &err), 0);
    struct publish *p = publish_begin_ok(d, ULID_1);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_int_equal(publish_commit(p, &m, key, &size, &size, &err), 0);
    publish_free(p);
    assert_int_equal(archive_manifest(d, ULID_1, &back, &text, &err), 0);
    assert_int_equal(back.envelope, ENVELOPE_V2);
    assert_int_equal(manifest_authenticate(&back, text.data, text.len, key, &err), 0);
    text.data[text.len / 2] ^= 1;
    expect_error(manifest_authenticate(&back, text.data, text.len, key, &err), &err,
                 ERR_MANIFEST_INVALID, "manifest altered");
    manifest_release(&back);
    buf_release(&text);
    key_free(key);
    d->kind->close(d);
}

static void a_payload_can_be_read_back_before_it_is_published(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3);
    struct error err = {0};
    struct object *o;
    uint64_t size;
    char got[8];

    struct publish *p = publish_begin_ok(d, ULID_1);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    assert_int_equal(publish_stored(p)->size, 3);
    assert_string_equal(publish_stored(p)->sha256,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(publish_reopen(p, &o, &err), 0);
    assert_int_equal(o->size, 3);
    assert_int_equal(o->kind->pread(o, got, sizeof got, 0, &err), 3);
    assert_memory_equal(got, "abc", 3);
    o->kind->close_object(o);
    expect_archives(d, "");
    assert_int_equal(publish_commit(p, &m, NULL, &size, &size, &err), 0);
    publish_free(p);
    expect_archives(d, ULID_1 " ");
    d->kind->close(d);
}

static void version_1_keeps_its_ids_in_the_manifest(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V1, 3), back;
    struct error err = {0};

    manifest_add_id(&m, "b");
    manifest_add_id(&m, "a");
    assert_int_equal(publish(d, &m, "abc", 3, &err), 0);
    assert_false(place_has(place, ULID_1 "/payload_ids"));
    assert_int_equal(archive_manifest(d, ULID_1, &back, NULL, &err), 0);
    assert_int_equal(back.payload_id_count, 2);
    assert_string_equal(back.payload_ids[0], "a");
    assert_string_equal(back.payload_ids[1], "b");
    manifest_release(&back);
    manifest_release(&m);
    d->kind->close(d);
}

static void an_empty_payload_is_an_archive(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 0);
    struct error err = {0};
    size_t read;

    assert_int_equal(publish(d, &m, "", 0, &err), 0);
    assert_string_equal(m.stored.sha256,
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(read_archive(d, ULID_1, &read, &err), 0);
    assert_int_equal(read, 0);
    d->kind->close(d);
}

static void the_manifest_comes_last_and_all_is_durable_in_order(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);

    publish_ok(d, ULID_1);
    hook_start(HOOK_RECORD, 0, 0, NULL);
    publish_ok(d, ULID_2);
    hook_stop();
    assert_string_equal(buf_text(&hook.calls), "mkdirat " ULID_2 ".tmp\n"
                                               "fchmod " ULID_2 ".tmp\n"
                                               "fchmod payload.bin\n"
                                               "write payload.bin\n"
                                               "fsync payload.bin\n"
                                               "fchmod payload_ids\n"
                                               "write payload_ids\n"
                                               "fsync payload_ids\n"
                                               "fchmod manifest.yaml\n"
                                               "write manifest.yaml\n"
                                               "fsync manifest.yaml\n"
                                               "fsync " ULID_2 ".tmp\n"
                                               "renameat2 " ULID_2 "\n"
                                               "fsync repo\n");
    d->kind->close(d);
}

static void nothing_is_listed_before_commit(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct manifest m = manifest_of(ULID_1, MANIFEST_V2, 3);
    struct error err = {0};
    uint64_t size;

    struct publish *p = publish_begin_ok(d, ULID_1);
    expect_archives(d, "");
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    expect_archives(d, "");
    assert_int_equal(publish_commit(p, &m, NULL, &size, &size, &err), 0);
    expect_archives(d, ULID_1 " ");
    publish_free(p);
    expect_archives(d, ULID_1 " ");
    d->kind->close(d);
}

static void giving_up_leaves_nothing(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    publish_free(NULL);
    publish_free(publish_begin_ok(d, ULID_1));
    expect_listing(d, "");

    struct publish *p = publish_begin_ok(d, ULID_1);
    struct writer *w = publish_payload(p);
    assert_int_equal(writer_write(w, "abc", 3, &err), 0);
    writer_free(w);
    publish_free(p);
    expect_listing(d, "");

    p = publish_begin_ok(d, ULID_1);
    w = publish_payload(p);
    assert_int_equal(writer_finish(w, &err), 0);
    writer_free(w);
    publish_free(p);
    expect_listing(d, "");
    d->kind->close(d);
}

static void a_second_archive_of_an_id_is_refused(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct error err = {0};

    publish_ok(d, ULID_1);
    expect_error(publish_fixture(d, ULID_1, &err), &err, ERR_DUPLICATE_ID, ULID_1);
    expect_whole(d, ULID_1);
    d->kind->close(d);
}

static struct manifest many_ids(int version)
{
    struct manifest m = manifest_of(ULID_1, version, 3);

    m.payload_id_count = 30000;
    m.payload_ids = xcalloc(m.payload_id_count, sizeof(char *));
    for (uint64_t i = 0; i < m.payload_id_count; i++)
        m.payload_ids[i] = xasprintf("%040llx", (unsigned long long)(i * 7919 % 30011));
    return m;
}

static void ids_without_number_are_no_trouble_for_version_2(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = many_ids(MANIFEST_V2), back;
    struct error err = {0};

    assert_int_equal(publish(d, &m, "abc", 3, &err), 0);
    assert_int_equal(archive_manifest(d, ULID_1, &back, NULL, &err), 0);
    assert_int_equal(back.payload_id_count, 30000);
    struct buf ids = place_read(place, ULID_1 "/payload_ids");
    assert_int_equal(ids.len, 30000 * 41);
    for (size_t i = 41; i < ids.len; i += 41)
        assert_true(memcmp(ids.data + i - 41, ids.data + i, 40) < 0);
    buf_release(&ids);
    manifest_release(&back);
    manifest_release(&m);
    d->kind->close(d);
}

static void what_could_not_be_read_back_is_not_published(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m = many_ids(MANIFEST_V1);
    struct error err = {0};

    expect_error(publish(d, &m, "abc", 3, &err), &err, ERR_MANIFEST_INVALID,
                 "payload_id_set makes it larger than 1048576 bytes");
    expect_listing(d, "");
    manifest_release(&m);
    d->kind->close(d);
}

static void each_failing_call_fails_the_publish_and_leaves_nothing(void **state)
{
    struct place *place = *state;
    bool hit = true;
    int at = 0;

    while (hit) {
        struct destination *d = place_open(place, DESTINATION_CREATE);
        struct error err = {0};
        hook_start(HOOK_FAIL, ++at, EIO, NULL);
        int result = publish_fixture(d, ULID_1, &err);
        hook_stop();
        hit = hook.hit;
        if (hit) {
            expect_error(result, &err, ERR_DESTINATION_UNREACHABLE, "");
            expect_listing(d, "");
        } else {
            assert_int_equal(result, 0);
            expect_whole(d, ULID_1);
        }
        d->kind->close(d);
        dir_clear(place->dir);
    }
    assert_int_equal(at, 19); /* 14 steps, and 4 for the mark */
}

static int publish_in_child(void *ctx)
{
    struct place *place = ctx;
    struct destination *d;
    struct error err;

    if (place->kind->open(&place->settings, DESTINATION_CREATE, &d, &err) != 0)
        return -1;
    return publish_fixture(d, ULID_1, &err);
}

static void a_crash_at_each_step_of_publish_leaves_all_or_nothing(void **state)
{
    struct place *place = *state;
    struct buf swept = BUF_INIT;
    bool died = true, published = false;
    int partial = 0;

    for (int at = 1; died; at++) {
        died = hook_dies(at, publish_in_child, place);
        struct destination *d = place_open(place, DESTINATION_CREATE);
        struct error err = {0};
        if (place_has(place, ULID_1)) {
            published = true;
            expect_archives(d, ULID_1 " ");
            expect_whole(d, ULID_1);
        } else {
            assert_false(published);
            expect_archives(d, "");
        }
        partial += place_has(place, ULID_1 ".tmp");
        assert_int_equal(sweep(d, &swept, &err), 0);
        expect_listing(d, published ? ULID_1 " " : "");
        d->kind->close(d);
        dir_clear(place->dir);
    }
    assert_true(published);
    assert_int_equal(partial, 12); /* from the mkdir to the rename */
    buf_release(&swept);
}

/* ---- read ---- */

static void a_manifest_alone_can_be_read(void **state)
{
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);
    struct manifest m;
    struct error err = {0};
    char *payload = place_path(place, ULID_1 "/payload.bin");

    publish_ok(d, ULID_1);
    assert_return_code(unlink(payload), errno);
    assert_int_equal(archive_manifest(d, ULID_1, &m, NULL, &err), 0);
    assert_int_equal(m.stored.size, FIXTURE_BYTES);
    manifest_release(&m);
    free(payload);
    d->kind->close(d);
}

static void an_unknown_archive_has_no_manifest(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct manifest m;
    struct error err = {0};

    expect_error(archive_manifest(d, ULID_1, &m, NULL, &err), &err, ERR_MANIFEST_MISSING, ULID_1);
    d->kind->close(d);
}

static void a_failed_read_is_no_missing_manifest(void **state)
{
    struct destination *d = place_open(*state, DESTINATION_CREATE);
    struct manifest m;
    struct object *o;
    struct error err = {0};

    publish_ok(d, ULID_1);
    faulty_install(d);
    faulty.fail_open = 1;
    expect_error(archive_manifest(d, ULID_1, &m, NULL, &err), &err, ERR_DESTINATION_UNREACHABLE,
                 "injected");
    faulty.opens = 0;
    expect_error(archive_open(d, ULID_1, ARCHIVE_PAYLOAD, &o, &err), &err,
                 ERR_DESTINATION_UNREACHABLE, "injected");
    faulty.fail_open = 0;
    faulty.fail_pread = 1;
    expect_error(archive_manifest(d, ULID_1, &m, NULL, &err), &err, ERR_DESTINATION_UNREACHABLE,
                 "injected");
    d->kind = faulty.real;
    d->kind->close(d);
}

static void what_is_no_ulid_never_becomes_a_path(void **state)
{
    static const char *const ids[] = {"",
                                      "..",
                                      "../../../../../../etc/passw",
                                      "/etc/passwd",
                                      "01hxyz0123456789abcdefghj1",
                                      ULID_1 "/",
                                      ".keepfs"};
    struct place *place = *state;
    struct destination *d = place_open(place, DESTINATION_CREATE);

    publish_ok(d, ULID_1);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct manifest m;
        struct publish *p;
        struct object *o;
        struct error err = {0};
        expect_error(publish_begin(d, ids[i], &p, &err), &err, ERR_INVALID, "no ULID");
        expect_error(archive_manifest(d, ids[i], &m, NULL, &err), &err, ERR_INVALID, "no ULID");
        expect_error(archive_open(d, ids[i], ARCHIVE_PAYLOAD, &o, &err), &err, ERR_INVALID,
                     "no ULID");
        expect_error(archive_delete(d, ids[i], &err), &err, ERR_INVALID, "no ULID");
    }
    assert_true(place_has(place, ".keepfs"));
    expect_whole(d, ULID_1);
    d->kind->close(d);
}

static int teardown(void **state)
{
    hook_stop();
    return place_teardown(state);
}

#define publish_test(f) cmocka_unit_test_setup_teardown(f, place_setup, teardown)

static int release_hook(void **state)
{
    (void)state;
    buf_release(&hook.calls);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        publish_test(what_was_published_reads_back),
        publish_test(an_archive_without_ids_has_no_list),
        publish_test(an_encrypted_manifest_is_written_with_its_mac),
        publish_test(a_payload_can_be_read_back_before_it_is_published),
        publish_test(version_1_keeps_its_ids_in_the_manifest),
        publish_test(an_empty_payload_is_an_archive),
        publish_test(the_manifest_comes_last_and_all_is_durable_in_order),
        publish_test(nothing_is_listed_before_commit),
        publish_test(giving_up_leaves_nothing),
        publish_test(a_second_archive_of_an_id_is_refused),
        publish_test(ids_without_number_are_no_trouble_for_version_2),
        publish_test(what_could_not_be_read_back_is_not_published),
        publish_test(each_failing_call_fails_the_publish_and_leaves_nothing),
        publish_test(a_crash_at_each_step_of_publish_leaves_all_or_nothing),
        publish_test(a_manifest_alone_can_be_read),
        publish_test(an_unknown_archive_has_no_manifest),
        publish_test(a_failed_read_is_no_missing_manifest),
        publish_test(what_is_no_ulid_never_becomes_a_path),
    };

    return cmocka_run_group_tests(tests, NULL, release_hook);
}
