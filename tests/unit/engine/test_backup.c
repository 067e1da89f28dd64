/* SPDX-License-Identifier: MIT */
/*
 * test_backup.c - the executor when all goes well: what is stored, in what order, and what it says
 * on its way.
 */
#include "fakes.h"

#include "stream/digest.h"

#include <openssl/evp.h>

/* ---- record, manifest and job ---- */

static int with_ids_and_figures(struct source_run *r, struct error *err)
{
    r->ops->stat(r, "files", 2);
    r->ops->log(r, "a line");
    if (r->ops->payload_id(r, "beta", 4, err) != 0 || r->ops->payload_id(r, "alpha", 5, err) != 0 ||
        r->ops->payload_id(r, "beta!", 4, err) != 0)
        return -1;
    r->ops->stat(r, "files", 1);
    return a_few_bytes(r, err);
}

static void the_record_mirrors_the_stored_archive(void **state)
{
    (void)state;
    assert_int_equal(run(with_ids_and_figures), JOB_SUCCEEDED);
    struct memory_group *g = the_archive();
    struct manifest m = the_manifest();

    assert_string_equal(fx.record.store, "app");
    assert_string_equal(fx.record.repo, "main");
    assert_string_equal(fx.record.store_kind, "script");
    assert_string_equal(fx.record.job, JOB_ULID);
    assert_int_equal(fx.record.size_bytes, 1000);
    assert_int_equal(fx.record.content_bytes, 1000);
    assert_int_equal(fx.record.size_bytes, memory_object_of(g, ARCHIVE_PAYLOAD)->data.len);
    assert_int_equal(fx.record.manifest_bytes, memory_object_of(g, ARCHIVE_MANIFEST)->data.len);
    assert_int_equal(fx.record.payload_ids_bytes,
                     memory_object_of(g, ARCHIVE_PAYLOAD_IDS)->data.len);
    assert_int_equal(fx.record.payload_id_count, 2);
    assert_string_equal(fx.record.sha256, m.stored.sha256);
    assert_int_equal(fx.record.created_at, m.created_at);
    assert_int_equal(fx.err.code, ERR_NONE); /* untouched on success */
    manifest_release(&m);
}

static void the_digest_is_that_of_the_stored_bytes(void **state)
{
    unsigned char raw[32];
    char hex[65];

    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    struct buf *stored = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data;
    assert_int_equal(EVP_Digest(stored->data, stored->len, raw, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    assert_string_equal(fx.record.sha256, hex);
}

static void one_ulid_is_in_manifest_directory_record_and_job(void **state)
{
    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    struct manifest m = the_manifest();

    assert_true(ulid_valid(fx.record.ulid));
    assert_string_equal(m.backup_id, fx.record.ulid);
    assert_string_equal(the_archive()->name, fx.record.ulid);
    assert_string_equal(fx.started_record, fx.record.ulid);
    assert_string_not_equal(fx.record.ulid, JOB_ULID);
    manifest_release(&m);
}

static void every_attempt_has_a_ulid_of_its_own(void **state)
{
    char first[ULID_LEN + 1];

    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    memcpy(first, fx.record.ulid, sizeof first);
    again();
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_true(strcmp(fx.record.ulid, first) > 0);
}

static void the_manifest_says_what_the_archive_is(void **state)
{
    (void)state;
    assert_int_equal(run(with_ids_and_figures), JOB_SUCCEEDED);
    struct manifest m = the_manifest();

    assert_int_equal(m.version, MANIFEST_V2);
    assert_string_equal(m.store_id, "app");
    assert_string_equal(m.store_kind, "script");
    assert_int_equal(m.created_at, START_TIME); /* when the attempt began */
    assert_int_equal(m.stored.size, 1000);
    assert_int_equal(m.content_bytes, 1000);
    assert_string_equal(m.compression, "none");
    assert_false(m.encrypted);
    assert_int_equal(m.envelope, ENVELOPE_NONE);
    assert_int_equal(m.compression_level, 0);
    assert_string_equal(m.key_ref, "");
    assert_string_equal(m.encryption_algorithm, "");
    assert_int_equal(m.payload_id_count, 2);
    manifest_release(&m);
}

static void payload_ids_are_sorted_and_unique(void **state)
{
    (void)state;
    assert_int_equal(run(with_ids_and_figures), JOB_SUCCEEDED);
    struct memory_object *ids = memory_object_of(the_archive(), ARCHIVE_PAYLOAD_IDS);
    assert_string_equal(buf_text(&ids->data), "alpha\nbeta\n");
    again();
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_null(memory_object_of(the_archive(), ARCHIVE_PAYLOAD_IDS));
    assert_int_equal(fx.record.payload_id_count, 0);
}

static void the_manifest_is_the_last_object(void **state)
{
    (void)state;
    assert_int_equal(run(with_ids_and_figures), JOB_SUCCEEDED);
    struct memory_group *g = the_archive();

    assert_int_equal(g->object_count, 3);
    assert_string_equal(g->objects[0].name, ARCHIVE_PAYLOAD);
    assert_string_equal(g->objects[2].name, ARCHIVE_MANIFEST);
}

static void the_job_starts_and_ends_with_its_times(void **state)
{
    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_int_equal(fx.job_state, JOB_SUCCEEDED);
    assert_int_equal(fx.started_at, START_TIME);
    assert_true(fx.finished_at > fx.started_at);
    assert_true(fx.record.created_at == fx.started_at);
}

static void figures_and_lines_of_the_source_arrive(void **state)
{
    (void)state;
    assert_int_equal(run(with_ids_and_figures), JOB_SUCCEEDED);
    assert_int_equal(stats_get(&fx.stats, "files"), 3);
    assert_int_equal(stats_get(&fx.stats, "content_bytes"), 1000);
    assert_int_equal(stats_get(&fx.stats, "stored_bytes"), 1000);
    assert_string_equal(buf_text(&fx.log), "a line\n");
}

static void the_place_is_made_only_if_the_caller_allows_it(void **state)
{
    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_int_equal(fx.open_flags, 0);
    again();
    fx.backup.create = true;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_int_equal(fx.open_flags, DESTINATION_CREATE);
}

/* ---- the stream ---- */

static uint64_t stream_size;
static size_t stream_chunk;

static int sized_stream(struct source_run *r, struct error *err)
{
    return write_content(r->out, stream_size, stream_chunk, err);
}

static void every_byte_arrives_for_every_size(void **state)
{
    static const uint64_t sizes[] = {0, 1, 65535, 65536, 1 << 20, (5 << 20) + 3};
    static const size_t chunks[] = {7, 4093, 65536, 1 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
            if (sizes[i] / chunks[k] > 100000)
                continue;
            again();
            stream_size = sizes[i];
            stream_chunk = chunks[k];
            assert_int_equal(run(sized_stream), JOB_SUCCEEDED);
            struct buf *got = &memory_object_of(the_archive(), ARCHIVE_PAYLOAD)->data;
            assert_int_equal(got->len, sizes[i]);
            for (uint64_t at = 0; at < sizes[i]; at++)
                if ((unsigned char)got->data[at] != content_at(at))
                    fail_msg("size %" PRIu64 ", chunk %zu: byte %" PRIu64 " differs", sizes[i],
                             chunks[k], at);
            assert_int_equal(fx.record.content_bytes, sizes[i]);
        }
}

static void an_empty_store_is_a_good_backup(void **state)
{
    (void)state;
    stream_size = 0;
    stream_chunk = 1;
    assert_int_equal(run(sized_stream), JOB_SUCCEEDED);
    assert_string_equal(fx.record.sha256,
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* ---- progress ---- */

static void an_unknown_size_is_half_way_while_it_streams(void **state)
{
    (void)state;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_string_equal(buf_text(&fx.tape), "start 10 50 95 succeed ");
    assert_int_equal(fx.last_progress.done, 1000);
    assert_int_equal(fx.last_progress.expected, 0);
}

static int known_size(struct source_run *r, struct error *err)
{
    r->ops->expect(r, 1000);
    return write_content(r->out, 1000, 1, err);
}

/* Every step once, upwards; the numbers of the tape. */
static void expect_monotone(int least)
{
    char *save, *copy = xstrdup(buf_text(&fx.tape));
    int before = 0, steps = 0;

    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (word[0] < '0' || word[0] > '9')
            continue;
        assert_true(atoi(word) > before);
        before = atoi(word);
        steps++;
    }
    free(copy);
    assert_int_equal(before, 95);
    assert_true(steps >= least);
}

static void a_known_size_goes_from_10_to_95_step_by_step(void **state)
{
    (void)state;
    assert_int_equal(run(known_size), JOB_SUCCEEDED);
    expect_monotone(86); /* each of 10 to 95 */
    assert_int_equal(fx.last_progress.done, 1000);
    assert_int_equal(fx.last_progress.expected, 1000);
}

static void the_size_of_the_last_backup_is_the_first_guess(void **state)
{
    (void)state;
    fx.backup.expected_bytes = 2000;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_non_null(strstr(buf_text(&fx.tape), " 52 95 succeed ")); /* half of 10..95 at the end */
    expect_monotone(10);
}

static int low_then_high_estimate(struct source_run *r, struct error *err)
{
    r->ops->expect(r, 10);
    if (write_content(r->out, 500, 10, err) != 0)
        return -1;
    r->ops->expect(r, 100000);
    return write_content(r->out, 500, 10, err);
}

static void progress_never_goes_back_and_95_is_said_only_when_published(void **state)
{
    (void)state;
    assert_int_equal(run(low_then_high_estimate), JOB_SUCCEEDED);
    assert_string_equal(buf_text(&fx.tape), "start 10 94 95 succeed ");
}

static int far_too_low_an_estimate(struct source_run *r, struct error *err)
{
    r->ops->expect(r, 1);
    r->ops->advance(r, UINT64_C(1) << 62);
    return a_few_bytes(r, err);
}

static void the_worst_estimate_is_still_a_percentage(void **state)
{
    (void)state;
    assert_int_equal(run(far_too_low_an_estimate), JOB_SUCCEEDED);
    assert_string_equal(buf_text(&fx.tape), "start 10 94 95 succeed ");
}

static int staging_first(struct source_run *r, struct error *err)
{
    r->ops->expect(r, 2000);
    for (int i = 0; i < 10; i++)
        r->ops->advance(r, 100);
    assert_int_equal(fx.last_progress.percent, 52);
    return a_few_bytes(r, err);
}

static void work_before_the_stream_counts_as_well(void **state)
{
    (void)state;
    assert_int_equal(run(staging_first), JOB_SUCCEEDED);
    expect_monotone(10);
    assert_int_equal(fx.last_progress.done, 2000);
    assert_int_equal(fx.record.content_bytes, 1000);
}

static void progress_that_cannot_be_stored_fails_nothing(void **state)
{
    (void)state;
    fx.fail_progress = true;
    assert_int_equal(run(a_few_bytes), JOB_SUCCEEDED);
    assert_string_equal(buf_text(&fx.tape), "start 10 50 95 succeed ");
    assert_true(the_archive()->committed);
    assert_int_equal(fx.err.code, ERR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_record_mirrors_the_stored_archive),
        TEST(the_digest_is_that_of_the_stored_bytes),
        TEST(one_ulid_is_in_manifest_directory_record_and_job),
        TEST(every_attempt_has_a_ulid_of_its_own),
        TEST(the_manifest_says_what_the_archive_is),
        TEST(payload_ids_are_sorted_and_unique),
        TEST(the_manifest_is_the_last_object),
        TEST(the_job_starts_and_ends_with_its_times),
        TEST(figures_and_lines_of_the_source_arrive),
        TEST(the_place_is_made_only_if_the_caller_allows_it),
        TEST(every_byte_arrives_for_every_size),
        TEST(an_empty_store_is_a_good_backup),
        TEST(an_unknown_size_is_half_way_while_it_streams),
        TEST(a_known_size_goes_from_10_to_95_step_by_step),
        TEST(the_size_of_the_last_backup_is_the_first_guess),
        TEST(progress_never_goes_back_and_95_is_said_only_when_published),
        TEST(the_worst_estimate_is_still_a_percentage),
        TEST(work_before_the_stream_counts_as_well),
        TEST(progress_that_cannot_be_stored_fails_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
