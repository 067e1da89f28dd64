/* SPDX-License-Identifier: MIT */
/* record_json.c: keys, truths, nulls, escapes. */
#include "fixture.h"

static char *json_of(struct fixture *f, const struct record *r, enum record_state state)
{
    struct buf out = BUF_INIT;

    OK(catalog_record_json(f->c, r, state, &out, &f->err));
    return buf_steal(&out);
}

static struct record get_record(struct fixture *f, const char *ulid)
{
    struct record r;

    OK(catalog_record_get(f->c, ulid, &r, &f->err));
    return r;
}

static void json_has_all_keys_in_order(void **state)
{
    struct fixture *f = *state;
    struct job job = job_in(f, JOB_SUCCEEDED);
    struct record r = get_record(f, job.record);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &r, RECORD_GOOD);
    __attribute__((cleanup(free_charp))) char *expected = xasprintf(
        "{\"id\":\"%s\",\"store\":\"app\",\"store_kind\":\"directory\",\"repo\":\"nightly\","
        "\"created_at\":\"2026-11-21T06:30:28.123Z\",\"size_bytes\":12345678901,"
        "\"content_bytes\":12345678900,\"sha256\":\"%s\",\"manifest_bytes\":640,"
        "\"payload_id_count\":3,\"payload_ids_bytes\":42,\"pinned\":false,\"suspect\":false,"
        "\"reviewed\":false,\"job\":\"%s\",\"state\":\"good\"}\n",
        r.ulid, r.sha256, job.ulid);

    assert_string_equal(json, expected);
}

static void pins_and_doubts_are_true_and_no_job_is_null(void **state)
{
    struct fixture *f = *state;
    struct record r = stored_record(f, "nightly");

    OK(catalog_record_pin(f->c, r.ulid, true, &f->err));
    OK(catalog_record_mark_suspect(f->c, r.ulid, true, &f->err));
    r = get_record(f, r.ulid);
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &r, RECORD_DELETING);
    assert_non_null(strstr(json, "\"pinned\":true,\"suspect\":true,\"reviewed\":false,"
                                 "\"job\":null,\"state\":\"deleting\"}\n"));
    OK(catalog_record_mark_suspect(f->c, r.ulid, false, &f->err));
    r = get_record(f, r.ulid);
    __attribute__((cleanup(free_charp))) char *reviewed = json_of(f, &r, RECORD_MISSING);
    assert_non_null(strstr(reviewed, "\"pinned\":true,\"suspect\":false,\"reviewed\":true,"
                                     "\"job\":null,\"state\":\"missing\"}\n"));
}

static void kind_is_escaped_and_utf8_whatever_the_manifest_said(void **state)
{
    struct fixture *f = *state;
    struct record r = new_record("app", "nightly");

    snprintf(r.store_kind, sizeof r.store_kind, "a\"\n\xff");
    __attribute__((cleanup(free_charp))) char *json = json_of(f, &r, RECORD_GOOD);
    assert_non_null(strstr(json, "\"store_kind\":\"a\\\"\\n\xef\xbf\xbd\","));
    r.store_kind[0] = '\0';
    __attribute__((cleanup(free_charp))) char *empty = json_of(f, &r, RECORD_GOOD);
    assert_non_null(strstr(empty, "\"store_kind\":\"\","));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_has_all_keys_in_order),
        TEST(pins_and_doubts_are_true_and_no_job_is_null),
        TEST(kind_is_escaped_and_utf8_whatever_the_manifest_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
