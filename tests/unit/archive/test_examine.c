/* SPDX-License-Identifier: MIT */
/*
 * Proves of archive/payload.h: archive_examine judges form, id, policy, key, MAC and sizes in that
 * order, each with its code, finds the key among several, reads no payload but the header and the
 * first or last frame of an envelope v1, and leaves nothing open; archive_check_ids finds
 * everything that can be wrong with payload_ids.
 */
#include "archive_lab.h"

static const struct lab_recipe encrypted = {.encrypt = true, .ids = "one\ntwo\n"};

/* Replaces the first `from`. */
static void replace(struct buf *text, const char *from, const char *to)
{
    const char *at = strstr(buf_text(text), from);
    struct buf out = BUF_INIT;

    assert_non_null(at);
    buf_add(&out, text->data, (size_t)(at - text->data));
    buf_adds(&out, to);
    buf_adds(&out, at + strlen(from));
    buf_release(text);
    *text = out;
}

static void expect_examine(struct lab *lab, const struct archive_policy *policy,
                           enum error_code code, const char *why)
{
    struct archive archive;
    struct error err = {0};

    lab_failed(lab_examine(lab, policy, &archive, &err), &err, code, why);
    assert_int_equal(lab->opened, 0);
}

static void expect_good(struct lab *lab, const struct archive_policy *policy)
{
    struct archive archive;

    lab_examine_ok(lab, policy, &archive);
    archive_release(&archive);
    assert_int_equal(lab->opened, 0);
}

/* ---- what it gives ---- */

static void test_a_good_archive_comes_with_its_manifest_key_and_sizes(void **state)
{
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive_policy policy = lab_policy(&encrypted);
    struct archive archive;
    char id[KEY_ID_HEX + 1];
    struct error err = {0};

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 1000, NULL);
    lab_examine_ok(&lab, &policy, &archive);
    assert_string_equal(archive.manifest.backup_id, LAB_ULID);
    assert_int_equal(archive.manifest.content_bytes, 1000);
    assert_int_equal(archive.manifest.payload_id_count, 2);
    assert_int_equal(archive.manifest_bytes, a.manifest.len);
    assert_int_equal(archive.ids_bytes, strlen("one\ntwo\n"));
    lab_ok(key_id(archive.key, id, &err), &err);
    assert_string_equal(id, archive.manifest.key_id);
    archive_release(&archive);
    archive_release(&archive); /* is empty now */
    lab_archive_release(&a);
}

static void test_an_archive_without_ids_or_encryption_has_neither(void **state)
{
    static const struct lab_recipe plain = {.compress = true};
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive_policy policy = lab_policy(&plain);
    struct archive archive;
    struct error err = {0};

    (void)state;
    lab_make(&a, &plain, lab_fill, 1000, NULL);
    lab_examine_ok(&lab, &policy, &archive);
    assert_null(archive.key);
    assert_int_equal(archive.ids_bytes, 0);
    lab_ok(archive_check_ids(&archive, &err), &err);
    archive_release(&archive);
    lab_archive_release(&a);
}

static void test_of_version_1_the_content_is_counted_from_its_envelope(void **state)
{
    static const uint64_t sizes[] = {0, 1, 999, 1000, 1001, 5000};
    struct lab_recipe v1 = {.version = MANIFEST_V1, .encrypt = true, .frame_size = 1000};
    struct archive_policy policy = lab_policy(&v1);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct lab_archive a;
        struct lab lab = lab_over(&a);
        struct archive archive;
        lab_make(&a, &v1, lab_fill, sizes[i], NULL);
        lab_examine_ok(&lab, &policy, &archive);
        assert_int_equal(archive.manifest.content_bytes, sizes[i]);
        archive_release(&archive);
        lab_archive_release(&a);
    }
}

static void test_no_payload_is_read_but_that_of_an_envelope_v1(void **state)
{
    static const struct lab_recipe recipes[] = {{.compress = true},
                                                {.encrypt = true},
                                                {.encrypt = true, .compress = true},
                                                {.version = MANIFEST_V1},
                                                {.version = MANIFEST_V1, .encrypt = true}};

    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct archive_policy policy = lab_policy(&recipes[i]);
        struct lab_archive a;
        struct lab lab = lab_over(&a);
        lab_make(&a, &recipes[i], lab_fill, 1000, NULL);
        lab.fail_pread = ARCHIVE_PAYLOAD;
        if (lab_envelope(&recipes[i]) == ENVELOPE_V1)
            expect_examine(&lab, &policy, error_classify(SIDE_DESTINATION, EIO), "lab: ");
        else
            expect_good(&lab, &policy);
        lab_archive_release(&a);
    }
}

/* ---- the order ---- */

/* An archive with everything wrong; what is found is mended, and the next thing is found. */
static void test_faults_are_found_in_the_order_in_which_they_matter(void **state)
{
    struct archive_policy policy = {
        .store = "other", .min_envelope = 3, .keys = {LAB_OTHER}, .key_count = 1};
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 1000, NULL);
    snprintf(a.ulid, sizeof a.ulid, LAB_ULID_2);
    replace(&a.manifest, "store_kind: sqlite\n", "store_kind: sqlute\noops: 1\n");
    a.has_payload = a.has_ids = false;

    expect_examine(&lab, &policy, ERR_MANIFEST_INVALID, "oops");
    replace(&a.manifest, "oops: 1\n", "");
    expect_examine(&lab, &policy, ERR_MANIFEST_INVALID, "it is the manifest of archive " LAB_ULID);
    snprintf(a.ulid, sizeof a.ulid, LAB_ULID);
    expect_examine(&lab, &policy, ERR_MANIFEST_INVALID, "wrong archive: it is one of store app");
    policy.store = LAB_STORE;
    expect_examine(&lab, &policy, ERR_ENCRYPTION_REQUIRED, "must have v3");
    policy.min_envelope = ENVELOPE_V2;
    expect_examine(&lab, &policy, ERR_DECRYPT_FAILED, "wrong key");
    policy.keys[0] = LAB_KEY;
    expect_examine(&lab, &policy, ERR_MANIFEST_INVALID, "manifest altered");
    replace(&a.manifest, "sqlute", "sqlite");
    expect_examine(&lab, &policy, ERR_ARCHIVE_INCOMPLETE, ARCHIVE_PAYLOAD);
    a.has_payload = true;
    buf_adds(&a.payload, "x");
    expect_examine(&lab, &policy, ERR_INTEGRITY_FAILED, "trailing bytes");
    buf_truncate(&a.payload, a.payload.len - 1);
    expect_examine(&lab, &policy, ERR_ARCHIVE_INCOMPLETE, ARCHIVE_PAYLOAD_IDS);
    a.has_ids = true;
    expect_good(&lab, &policy);
    lab_archive_release(&a);
}

static void test_a_name_that_is_no_ulid_is_refused_before_anything_is_opened(void **state)
{
    struct lab_archive a = {.has_manifest = false};
    struct lab lab = lab_over(&a);
    struct archive_policy policy = lab_policy(&encrypted);
    struct archive archive;
    struct error err = {0};

    (void)state;
    lab.fail_open = ARCHIVE_MANIFEST;
    lab_failed(archive_examine(&lab.destination, "../etc", &policy, &archive, &err), &err,
               ERR_INVALID, "no ULID");
}

static void test_a_missing_manifest_is_told_from_one_that_cannot_be_read(void **state)
{
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive_policy policy = lab_policy(&encrypted);

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 10, NULL);
    a.has_manifest = false;
    expect_examine(&lab, &policy, ERR_MANIFEST_MISSING, LAB_ULID);
    a.has_manifest = true;
    lab.fail_open = ARCHIVE_MANIFEST;
    expect_examine(&lab, &policy, error_classify(SIDE_DESTINATION, EIO), "lab: ");
    lab.fail_open = NULL;
    lab.fail_pread = ARCHIVE_MANIFEST;
    expect_examine(&lab, &policy, error_classify(SIDE_DESTINATION, EIO), "lab: ");
    lab_archive_release(&a);
}

static void test_an_object_that_cannot_be_opened_is_not_called_missing(void **state)
{
    static const char *const names[] = {ARCHIVE_PAYLOAD, ARCHIVE_PAYLOAD_IDS};
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive_policy policy = lab_policy(&encrypted);

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 10, NULL);
    for (size_t i = 0; i < 2; i++) {
        lab.fail_open = names[i];
        expect_examine(&lab, &policy, error_classify(SIDE_DESTINATION, EIO), names[i]);
    }
    lab_archive_release(&a);
}

/* ---- policy and keys ---- */

static void test_an_unencrypted_archive_is_refused_before_any_key_is_loaded(void **state)
{
    static const struct lab_recipe plain = {.compress = true};
    struct archive_policy policy = {
        .store = LAB_STORE, .min_envelope = ENVELOPE_V1, .keys = {LAB_GONE}, .key_count = 1};
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &plain, lab_fill, 10, NULL);
    expect_examine(&lab, &policy, ERR_ENCRYPTION_REQUIRED, "not encrypted");
    lab_archive_release(&a);
}

static void test_a_v1_archive_is_refused_where_v2_is_the_least(void **state)
{
    static const struct lab_recipe v1 = {.version = MANIFEST_V1, .encrypt = true};
    struct archive_policy policy = lab_policy(&encrypted);
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &v1, lab_fill, 10, NULL);
    expect_examine(&lab, &policy, ERR_ENCRYPTION_REQUIRED, "v1");
    lab_archive_release(&a);
}

static void test_the_key_is_searched_among_all_that_are_configured(void **state)
{
    struct archive_policy policy = {
        .min_envelope = ENVELOPE_V2, .keys = {LAB_GONE, LAB_OTHER, LAB_KEY}, .key_count = 3};
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 10, NULL);
    expect_good(&lab, &policy);
    policy.key_count = 2; /* the one that cannot be loaded may be it */
    expect_examine(&lab, &policy, ERR_DESTINATION_CREDENTIALS_INVALID, LAB_GONE);
    policy.keys[0] = LAB_OTHER;
    expect_examine(&lab, &policy, ERR_DECRYPT_FAILED, "wrong key");
    policy.key_count = 0;
    expect_examine(&lab, &policy, ERR_DESTINATION_CREDENTIALS_INVALID, "no key");
    lab_archive_release(&a);
}

static const struct lab_recipe version_1 = {
    .version = MANIFEST_V1, .encrypt = true, .frame_size = 1000};

static void test_the_key_of_version_1_is_the_one_that_opens_it(void **state)
{
    struct archive_policy policy = {
        .min_envelope = ENVELOPE_V1, .keys = {LAB_GONE, LAB_OTHER, LAB_KEY}, .key_count = 3};
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive archive;
    struct key *right = lab_load(LAB_KEY);

    (void)state;
    lab_make(&a, &version_1, lab_fill, 3000, NULL);
    lab_examine_ok(&lab, &policy, &archive);
    assert_memory_equal(key_bytes(archive.key), key_bytes(right), KEY_BYTES);
    archive_release(&archive);
    policy.key_count = 2; /* the one that cannot be loaded may be it */
    expect_examine(&lab, &policy, ERR_DESTINATION_CREDENTIALS_INVALID, "LAB_GONE");
    policy.keys[0] = LAB_OTHER;
    expect_examine(&lab, &policy, ERR_DECRYPT_FAILED, "wrong key");
    policy.key_count = 0;
    expect_examine(&lab, &policy, ERR_DESTINATION_CREDENTIALS_INVALID, "no key");
    key_free(right);
    lab_archive_release(&a);
}

static void test_of_version_1_the_first_or_the_last_frame_tells_the_key(void **state)
{
    struct archive_policy policy = lab_policy(&version_1);
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &version_1, lab_fill, 3000, NULL);
    a.payload.data[2000] ^= 1;
    expect_good(&lab, &policy);
    a.payload.data[500] ^= 1;
    expect_good(&lab, &policy);
    a.payload.data[a.payload.len - 1] ^= 1;
    expect_examine(&lab, &policy, ERR_DECRYPT_FAILED, "wrong key");
    a.payload.data[500] ^= 1;
    expect_good(&lab, &policy);
    lab_archive_release(&a);
}

/* ---- sizes ---- */

static void one_byte_more(struct manifest *m)
{
    m->stored.size++;
}

static void one_byte_less(struct manifest *m)
{
    m->stored.size--;
}

static void expect_size_fault(const struct lab_recipe *like, void (*alter)(struct manifest *m),
                              const char *why)
{
    struct lab_recipe r = *like;
    struct archive_policy policy = lab_policy(&r);
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    r.alter = alter;
    lab_make(&a, &r, lab_fill, 3000, NULL);
    expect_examine(&lab, &policy, ERR_INTEGRITY_FAILED, why);
    lab_archive_release(&a);
}

static void test_a_payload_of_another_size_than_the_manifest_says_is_refused(void **state)
{
    static const struct lab_recipe recipes[] = {{.compress = true},
                                                {.encrypt = true},
                                                {.encrypt = true, .compress = true},
                                                {.version = MANIFEST_V1},
                                                {.version = MANIFEST_V1, .encrypt = true}};

    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        expect_size_fault(&recipes[i], one_byte_more, "truncated");
        expect_size_fault(&recipes[i], one_byte_less, "trailing bytes");
    }
}

static void test_a_damaged_header_of_version_1_is_found(void **state)
{
    struct archive_policy policy = lab_policy(&version_1);
    struct lab_archive a;
    struct lab lab = lab_over(&a);

    (void)state;
    lab_make(&a, &version_1, lab_fill, 3000, NULL);
    a.payload.data[0] ^= 1;
    expect_examine(&lab, &policy, ERR_INTEGRITY_FAILED, "damaged header");
    a.payload.data[0] ^= 1;
    memcpy(a.payload.data + 5, "\0\0\x05\xf0", 4); /* no frames of 1520 bytes end where it does */
    expect_examine(&lab, &policy, ERR_INTEGRITY_FAILED, "truncated");
    lab_archive_release(&a);
}

/* ---- payload_ids ---- */

static int check_ids(struct lab *lab, const struct lab_recipe *r, struct error *err)
{
    struct archive_policy policy = lab_policy(r);
    struct archive archive;

    lab_examine_ok(lab, &policy, &archive);
    int result = archive_check_ids(&archive, err);
    archive_release(&archive);
    assert_int_equal(lab->opened, 0);
    return result;
}

/* The ids that were published as `ids` and are `stored` now (NULL = the same). */
static void expect_ids(const struct lab_recipe *like, const char *ids, const char *stored,
                       const char *why)
{
    struct lab_recipe r = *like;
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct error err = {0};

    r.ids = ids;
    lab_make(&a, &r, lab_fill, 10, NULL);
    if (stored) {
        buf_truncate(&a.ids, 0);
        buf_adds(&a.ids, stored);
    }
    int result = check_ids(&lab, &r, &err);
    if (why)
        lab_failed(result, &err, ERR_INTEGRITY_FAILED, why);
    else
        lab_ok(result, &err);
    assert_true(!why || strstr(err.message, ARCHIVE_PAYLOAD_IDS));
    lab_archive_release(&a);
}

static void test_ids_that_were_altered_after_they_were_published_are_found(void **state)
{
    (void)state;
    expect_ids(&encrypted, "a\nb\nc\n", NULL, NULL);
    expect_ids(&encrypted, "a\nb\nc\n", "a\nb\n", "has 2 whole lines, the manifest says 3");
    expect_ids(&encrypted, "a\nb\nc\n", "a\nb\nc\nd\n", "has 4 whole lines, the manifest says 3");
    expect_ids(&encrypted, "a\nb\nc\n", "", "has 0 whole lines");
    expect_ids(&encrypted, "a\nb\nc\n", "a\nb\nd\n", "altered");
    expect_ids(&encrypted, "a\nb\nc\n", "a\nb\nc", "has 2 whole lines");
    expect_ids(&encrypted, "a\nb\nc\n", "a\nb\nc\nd", "has 3 whole lines");
}

/* Published so, as no digest can tell: the form alone is wrong. */
static void test_ids_that_are_not_a_sorted_list_are_refused_whatever_their_digest(void **state)
{
    char longest[LIMIT_PAYLOAD_ID + 3];

    (void)state;
    expect_ids(&encrypted, "a\nc\nb\n", NULL, "line 3 is not behind the one before");
    expect_ids(&encrypted, "a\nb\nb\n", NULL, "line 3 is not behind the one before");
    expect_ids(&encrypted, "\na\nb\n", NULL, "line 1 is no id");
    expect_ids(&encrypted, "a\n\nb\n", NULL, "line 2 is no id");
    expect_ids(&encrypted, "a\nb\n\n", NULL, "line 3 is no id");
    memset(longest, 'x', sizeof longest);
    snprintf(longest + LIMIT_PAYLOAD_ID, 2, "\n");
    expect_ids(&encrypted, longest, NULL, NULL);
    longest[LIMIT_PAYLOAD_ID] = 'x';
    snprintf(longest + LIMIT_PAYLOAD_ID + 1, 2, "\n");
    expect_ids(&encrypted, longest, NULL, "line 1 is too long");
}

static void test_an_id_with_a_nul_in_it_is_refused(void **state)
{
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct error err = {0};

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 10, NULL);
    a.ids.data[1] = '\0';
    lab_failed(check_ids(&lab, &encrypted, &err), &err, ERR_INTEGRITY_FAILED, "line 1 is no id");
    lab_archive_release(&a);
}

static void forget_digest(struct manifest *m)
{
    m->payload_ids_sha256[0] = '\0';
}

static void test_without_a_digest_the_form_and_the_number_of_ids_are_still_checked(void **state)
{
    static const struct lab_recipe r = {.compress = true, .alter = forget_digest};

    (void)state;
    expect_ids(&r, "a\nb\nc\n", NULL, NULL);
    expect_ids(&r, "a\nb\nc\n", "a\nb\n", "has 2 whole lines");
    expect_ids(&r, "a\nb\nc\n", "a\nc\nb\n", "line 3");
}

/* Lines lie across the pieces in which the object is read. */
static void test_many_ids_are_checked_to_the_last(void **state)
{
    struct buf ids = BUF_INIT;

    (void)state;
    for (int i = 0; i < 3000; i++)
        buf_addf(&ids, "%0997d\n", i);
    expect_ids(&encrypted, ids.data, NULL, NULL);
    char *other = xstrdup(ids.data);
    other[ids.len - 2] ^= 1; /* 2999 becomes 2998 */
    expect_ids(&encrypted, ids.data, other, "line 3000 is not behind the one before");
    other[ids.len - 2] = 'z';
    expect_ids(&encrypted, ids.data, other, "altered");
    free(other);
    buf_release(&ids);
}

static void test_ids_that_go_after_they_were_examined_are_reported_as_gone(void **state)
{
    struct archive_policy policy = lab_policy(&encrypted);
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct archive archive;
    struct error err = {0};

    (void)state;
    lab_make(&a, &encrypted, lab_fill, 10, NULL);
    lab_examine_ok(&lab, &policy, &archive);
    a.has_ids = false;
    lab_failed(archive_check_ids(&archive, &err), &err, ERR_ARCHIVE_INCOMPLETE,
               ARCHIVE_PAYLOAD_IDS);
    a.has_ids = true;
    lab.fail_pread = ARCHIVE_PAYLOAD_IDS;
    lab_failed(archive_check_ids(&archive, &err), &err, error_classify(SIDE_DESTINATION, EIO),
               "lab: ");
    assert_int_equal(lab.opened, 0);
    archive_release(&archive);
    lab_archive_release(&a);
}

/* Written by a manifest that counts no ids, so nothing may be looked for. */
static void test_of_version_1_no_ids_object_is_looked_for(void **state)
{
    static const struct lab_recipe v1 = {.version = MANIFEST_V1};
    struct lab_archive a;
    struct lab lab = lab_over(&a);
    struct error err = {0};

    (void)state;
    lab_make(&a, &v1, lab_fill, 10, NULL);
    replace(&a.manifest, "payload_id_set: []\n", "payload_id_set:\n- a\n- b\n");
    lab.fail_open = ARCHIVE_PAYLOAD_IDS;
    lab_ok(check_ids(&lab, &v1, &err), &err);
    lab_archive_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_archive_comes_with_its_manifest_key_and_sizes),
        cmocka_unit_test(test_an_archive_without_ids_or_encryption_has_neither),
        cmocka_unit_test(test_of_version_1_the_content_is_counted_from_its_envelope),
        cmocka_unit_test(test_no_payload_is_read_but_that_of_an_envelope_v1),
        cmocka_unit_test(test_faults_are_found_in_the_order_in_which_they_matter),
        cmocka_unit_test(test_a_name_that_is_no_ulid_is_refused_before_anything_is_opened),
        cmocka_unit_test(test_a_missing_manifest_is_told_from_one_that_cannot_be_read),
        cmocka_unit_test(test_an_object_that_cannot_be_opened_is_not_called_missing),
        cmocka_unit_test(test_an_unencrypted_archive_is_refused_before_any_key_is_loaded),
        cmocka_unit_test(test_a_v1_archive_is_refused_where_v2_is_the_least),
        cmocka_unit_test(test_the_key_is_searched_among_all_that_are_configured),
        cmocka_unit_test(test_the_key_of_version_1_is_the_one_that_opens_it),
        cmocka_unit_test(test_of_version_1_the_first_or_the_last_frame_tells_the_key),
        cmocka_unit_test(test_a_payload_of_another_size_than_the_manifest_says_is_refused),
        cmocka_unit_test(test_a_damaged_header_of_version_1_is_found),
        cmocka_unit_test(test_ids_that_were_altered_after_they_were_published_are_found),
        cmocka_unit_test(test_ids_that_are_not_a_sorted_list_are_refused_whatever_their_digest),
        cmocka_unit_test(test_an_id_with_a_nul_in_it_is_refused),
        cmocka_unit_test(test_without_a_digest_the_form_and_the_number_of_ids_are_still_checked),
        cmocka_unit_test(test_many_ids_are_checked_to_the_last),
        cmocka_unit_test(test_ids_that_go_after_they_were_examined_are_reported_as_gone),
        cmocka_unit_test(test_of_version_1_no_ids_object_is_looked_for),
    };

    return cmocka_run_group_tests(tests, lab_keys_setup, NULL);
}
