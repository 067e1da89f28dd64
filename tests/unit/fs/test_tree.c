/* SPDX-License-Identifier: MIT */
/* tree.c, node.c and files.c: names, numbers, sizes, texts. */
#include "fixture.h"

/* ---- numbers ---- */

static void node_numbers_round_trip(void **state)
{
    const int64_t rows[] = {0, 1, 255, 256, 1 << 20, ((int64_t)1 << 48) - 1};

    (void)state;
    for (int kind = 0; kind < NODE_KINDS; kind++)
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            for (unsigned file = kind == NODE_ROOT ? 1 : 0; file <= 255; file++) {
                node_id n = node_make((enum node_kind)kind, rows[r], file);
                assert_int_equal(node_kind_of(n), kind);
                assert_int_equal(node_row(n), rows[r]);
                assert_int_equal(node_file(n), file);
                assert_int_not_equal(n, NODE_ROOT_ID);
                assert_true(n <= INT64_MAX);
            }
    assert_int_equal(node_make(NODE_ROOT, 0, NODE_FILE_NONE), 1);
    assert_int_equal(node_kind_of(1), NODE_ROOT);
    assert_int_equal(node_file(1), NODE_FILE_NONE);
}

static void numbers_that_are_no_node_are_enoent(void **state)
{
    struct fixture *f = *state;
    const node_id wrong[] = {0, 2, UINT64_MAX, node_make(NODE_ROOT, 0, 255)};
    struct node_attr a;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(tree_attr(&f->tree, wrong[i], ME, &a), ENOENT);
    for (int kind = NODE_STORE_REPOS; kind < NODE_KINDS; kind++)
        assert_int_equal(tree_attr(&f->tree, node_make((enum node_kind)kind, 77, 0), ME, &a),
                         ENOENT);
}

/* ---- the whole tree ---- */

struct entry {
    char name[128];
    node_id node;
    mode_t mode;
    uint64_t cookie;
};

struct entries {
    struct entry list[128];
    size_t count, limit;
};

static bool take_entry(void *ctx, const char *name, node_id node, mode_t mode, uint64_t cookie)
{
    struct entries *e = ctx;

    if (e->count == e->limit)
        return false;
    struct entry *entry = &e->list[e->count++];
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->node = node;
    entry->mode = mode;
    entry->cookie = cookie;
    return true;
}

static void list(struct fixture *f, node_id dir, struct entries *out)
{
    *out = (struct entries){.limit = 128};
    assert_int_equal(tree_list(&f->tree, dir, 0, take_entry, out), 0);
    assert_string_equal(out->list[0].name, ".");
    assert_int_equal(out->list[0].node, dir);
    assert_string_equal(out->list[1].name, "..");
}

static bool has_entry(struct fixture *f, const char *dir, const char *name)
{
    struct entries e;
    struct node_attr a;

    list(f, find(f, "%s", dir).node, &e);
    for (size_t i = 0; i < e.count; i++)
        if (strcmp(e.list[i].name, name) == 0)
            return true;
    /* What is not listed is not found either. */
    assert_int_equal(tree_lookup(&f->tree, find(f, "%s", dir).node, name, ME, &a), ENOENT);
    return false;
}

static void check_link(struct fixture *f, const char *dir, const struct node_attr *a)
{
    struct buf target = BUF_INIT;
    char path[512] = "";
    struct node_attr ignored;

    assert_int_equal(tree_readlink(&f->tree, a->node, &target), 0);
    assert_int_equal(target.len, a->st.st_size);
    /* Relative to its directory, it leads to something. */
    char *rest = target.data;
    snprintf(path, sizeof path, "%s", dir);
    while (strncmp(rest, "../", 3) == 0) {
        *strrchr(path, '/') = '\0';
        rest += 3;
    }
    strcat(strcat(path, "/"), rest);
    assert_int_equal(walk(f, path, &ignored), 0);
    buf_release(&target);
}

static void check_file(struct fixture *f, const struct node_attr *a)
{
    size_t len;

    assert_int_equal(a->st.st_nlink, 1);
    assert_int_equal(a->st.st_blocks, (a->st.st_size + 511) / 512);
    free(read_node(f, a->node, ME, &len));
    if ((a->st.st_mode & 0222) == 0 || a->st.st_size > 0)
        assert_int_equal(len, a->st.st_size);
}

/* Returns how many entries are in it and below. */
static size_t check_dir(struct fixture *f, const char *path, node_id dir, node_id parent)
{
    struct entries e;
    size_t total = 0;

    list(f, dir, &e);
    assert_int_equal(e.list[1].node, parent);
    for (size_t i = 2; i < e.count; i++, total++) {
        struct node_attr found, a;
        char child[512];

        assert_int_equal(tree_lookup(&f->tree, dir, e.list[i].name, ME, &found), 0);
        assert_int_equal(found.node, e.list[i].node);
        assert_int_equal(found.st.st_ino, found.node);
        assert_int_equal(found.st.st_mode & S_IFMT, e.list[i].mode);
        assert_int_equal(tree_attr(&f->tree, found.node, ME, &a), 0);
        assert_memory_equal(&a.st, &found.st, sizeof a.st);
        assert_int_equal(a.st.st_uid, geteuid());
        assert_int_equal(a.st.st_gid, getegid());
        if (S_ISDIR(a.st.st_mode)) {
            snprintf(child, sizeof child, "%s/%s", path, e.list[i].name);
            bool removable = strncmp(child, "/records", strlen("/records")) == 0 &&
                             strncmp(child, "/records/by-", strlen("/records/by-")) != 0 &&
                             strcmp(child, "/records/pinned") != 0;
            assert_int_equal(a.st.st_mode & 07777, removable ? 0755 : 0555);
            assert_int_equal(a.st.st_nlink, 2);
            total += check_dir(f, child, a.node, dir);
        } else if (S_ISLNK(a.st.st_mode)) {
            check_link(f, path, &a);
        } else {
            check_file(f, &a);
        }
    }
    return total;
}

static void jobs_in_every_state(struct fixture *f)
{
    char record[ULID_LEN + 1];

    insert_job(f, "waits");
    start_job(f, insert_job(f, "").ulid, record);
    struct job done = insert_job(f, "done");
    start_job(f, done.ulid, record);
    succeed_job(f, done.ulid, record, true);
    fail_job(f, insert_job(f, "").ulid, JOB_INTERRUPTED);
    struct job failed = insert_job(f, "");
    start_job(f, failed.ulid, record);
    fail_job(f, failed.ulid, JOB_FAILED);
    make_record(f, done.ulid, record);
}

static void what_is_listed_is_found_and_sizes_are_those_of_the_bytes(void **state)
{
    struct fixture *f = *state;

    assert_true(check_dir(f, "", NODE_ROOT_ID, NODE_ROOT_ID) > 20);
    jobs_in_every_state(f);
    /* 6 jobs with 17 files, 2 records with 11, and links. */
    assert_true(check_dir(f, "", NODE_ROOT_ID, NODE_ROOT_ID) > 150);
}

static void a_listing_goes_on_behind_any_cookie_while_jobs_are_added(void **state)
{
    struct fixture *f = *state;
    struct entries one = {.limit = 1};
    char seen[16][ULID_LEN + 1];
    size_t count = 0, others = 0;
    uint64_t cookie = 0;
    node_id jobs = find(f, "jobs").node;

    for (int i = 0; i < 3; i++)
        insert_job(f, "");
    for (int added = 0;; one.count = 0) {
        assert_int_equal(tree_list(&f->tree, jobs, cookie, take_entry, &one), 0);
        if (one.count == 0)
            break;
        assert_true(one.list[0].cookie > cookie);
        cookie = one.list[0].cookie;
        if (!ulid_valid(one.list[0].name)) {
            others++;
            continue;
        }
        memcpy(seen[count++], one.list[0].name, ULID_LEN + 1);
        if (added++ < 3)
            insert_job(f, "");
    }
    assert_int_equal(count, 6);
    for (size_t i = 1; i < count; i++)
        assert_true(strcmp(seen[i - 1], seen[i]) < 0);
    assert_int_equal(others, 5); /* . .. latest active by-key */
}

static void stores_and_repos_are_listed_in_pieces_too(void **state)
{
    struct fixture *f = *state;
    static const char *const dirs[] = {"stores", "stores/app/repos"};
    static const char *const names[][4] = {{".", "..", "app", "web"}, {".", "..", "main", "nas"}};

    for (size_t d = 0; d < 2; d++) {
        struct entries one = {.limit = 1};
        uint64_t cookie = 0;
        for (size_t i = 0; i < 4; i++, one.count = 0) {
            node_id dir = find(f, "%s", dirs[d]).node;
            assert_int_equal(tree_list(&f->tree, dir, cookie, take_entry, &one), 0);
            assert_string_equal(one.list[0].name, names[d][i]);
            cookie = one.list[0].cookie;
        }
        assert_int_equal(tree_list(&f->tree, find(f, "%s", dirs[d]).node, cookie, take_entry, &one),
                         0);
        assert_int_equal(one.count, 0);
    }
}

static void names_that_are_not_there_are_enoent(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"nothing",
                                        "jobs/nothing",
                                        "jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                        "jobs/latest",
                                        "jobs/active/01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                        "jobs/by-key/none",
                                        "records/nothing",
                                        "records/01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                        "stores/nothing",
                                        "stores/app/nothing",
                                        "stores/app/repos/nothing",
                                        "stores/web/repos/nas",
                                        "stores/app/repos/main/nothing",
                                        "stores/app/last_success",
                                        "stores/app/latest",
                                        "stores/app/jobs/nothing",
                                        "stores/app/records/nothing",
                                        "records/by-store/app",
                                        "records/by-date/2027",
                                        "records/pinned/01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                        "overdue/app",
                                        "overdue/nothing",
                                        "jobs/status"};
    struct node_attr a;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (walk(f, names[i], &a) != ENOENT)
            fail_msg("%s", names[i]);
    assert_int_equal(walk(f, "README/x", &a), ENOTDIR);
    struct buf target = BUF_INIT;
    assert_int_equal(tree_readlink(&f->tree, find(f, "README").node, &target), EINVAL);
    assert_int_equal(tree_readlink(&f->tree, find(f, "jobs").node, &target), EINVAL);
}

/* ---- texts ---- */

static void a_pending_job_has_empty_lines_for_what_is_not_there_yet(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "k");

    assert_text(f, "pending\n", "jobs/%s/status", j.ulid);
    assert_text(f, "backup\n", "jobs/%s/kind", j.ulid);
    assert_text(f, "app\n", "jobs/%s/store", j.ulid);
    assert_text(f, "main\n", "jobs/%s/repo", j.ulid);
    assert_text(f, "uid:7\n", "jobs/%s/requested_by", j.ulid);
    assert_text(f, "a\\x5cb\n", "jobs/%s/label", j.ulid);
    assert_text(f, "2027-01-15T08:00:00.123Z\n", "jobs/%s/created_at", j.ulid);
    assert_text(f, "\n", "jobs/%s/started_at", j.ulid);
    assert_text(f, "\n", "jobs/%s/finished_at", j.ulid);
    assert_text(f, "0\n", "jobs/%s/progress", j.ulid);
    assert_text(f, "", "jobs/%s/stats", j.ulid);
    assert_text(f, "\n", "jobs/%s/error", j.ulid);
    assert_text(f, "\n", "jobs/%s/error_code", j.ulid);
    assert_text(f, "\n", "jobs/%s/hint", j.ulid);
}

static void a_running_job_shows_its_progress(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char record[ULID_LEN + 1];
    struct error err;

    start_job(f, j.ulid, record);
    assert_int_equal(
        catalog_job_progress(f->catalog, j.ulid, &(struct job_progress){42, 1, 2}, &err), 0);
    assert_text(f, "running\n", "jobs/%s/status", j.ulid);
    assert_text(f, "42\n", "jobs/%s/progress", j.ulid);
    assert_text(f, "2027-01-15T08:00:01.123Z\n", "jobs/%s/started_at", j.ulid);
}

static void a_failed_job_says_why_on_one_line(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char record[ULID_LEN + 1];

    start_job(f, j.ulid, record);
    fail_job(f, j.ulid, JOB_FAILED);
    assert_text(f, "failed\n", "jobs/%s/status", j.ulid);
    assert_text(f, "/backups/a\\x0ab: No space left on device\n", "jobs/%s/error", j.ulid);
    assert_text(f, "destination_no_space\n", "jobs/%s/error_code", j.ulid);
    char *hint = read_node(f, find(f, "jobs/%s/hint", j.ulid).node, ME, NULL);
    assert_non_null(strstr(hint, "free space"));
    free(hint);
    assert_text(f, "2027-01-15T08:00:02.123Z\n", "jobs/%s/finished_at", j.ulid);
    char dir[64];
    snprintf(dir, sizeof dir, "jobs/%s", j.ulid);
    assert_false(has_entry(f, dir, "record"));
    assert_false(has_entry(f, "records", record));
}

static void a_good_job_and_its_record_name_each_other(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], size[32], link[64];
    struct buf target = BUF_INIT;

    make_record(f, job, record);
    assert_text(f, "succeeded\n", "jobs/%s/status", job);
    assert_text(f, "100\n", "jobs/%s/progress", job);
    assert_text(f, "content_bytes 10\nfiles 1\n", "jobs/%s/stats", job);
    char *json = read_node(f, find(f, "jobs/%s/job.json", job).node, ME, NULL);
    assert_non_null(strstr(json, record));
    free(json);
    assert_int_equal(tree_readlink(&f->tree, find(f, "jobs/%s/record", job).node, &target), 0);
    snprintf(link, sizeof link, "../../records/%s", record);
    assert_string_equal(target.data, link);
    buf_release(&target);
    assert_int_equal(tree_readlink(&f->tree, find(f, "records/%s/job", record).node, &target), 0);
    snprintf(link, sizeof link, "../../jobs/%s", job);
    assert_string_equal(target.data, link);
    buf_release(&target);

    snprintf(size, sizeof size, "%zu\n", strlen(memory.payload));
    assert_text(f, size, "records/%s/size_bytes", record);
    assert_text(f, size, "records/%s/content_bytes", record);
    assert_text(f, "app\n", "records/%s/store", record);
    assert_text(f, "sqlite\n", "records/%s/store_kind", record);
    assert_text(f, "main\n", "records/%s/repo", record);
    assert_text(f, "2027-01-15T08:00:01.123Z\n", "records/%s/created_at", record);
    __attribute__((cleanup(free_charp))) char *manifest = memory_manifest(record);
    assert_text(f, manifest, "records/%s/manifest.yaml", record);
    assert_text(f, memory.payload, "records/%s/payload", record);
    struct node_attr payload = find(f, "records/%s/payload", record);
    assert_int_equal(payload.st.st_mode, S_IFREG | 0400);
    assert_int_equal(payload.st.st_blksize, 128 * 1024);
    assert_int_equal(find(f, "records/%s/sha256", record).st.st_size, 65);
}

static void payload_ids_are_there_only_if_there_are_any(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1], dir[64];

    make_record(f, job, record);
    snprintf(dir, sizeof dir, "records/%s", record);
    assert_false(has_entry(f, dir, "payload_ids"));
    struct job with = insert_job(f, "");
    start_job(f, with.ulid, record);
    succeed_job(f, with.ulid, record, true);
    snprintf(dir, sizeof dir, "records/%s", record);
    assert_true(has_entry(f, dir, "payload_ids"));
    assert_text(f, PAYLOAD_IDS, "records/%s/payload_ids", record);
    assert_int_equal(find(f, "records/%s/payload_ids", record).st.st_mode, S_IFREG | 0400);
}

static void a_record_without_a_job_has_no_link(void **state)
{
    struct fixture *f = *state;
    struct record r = {
        .store = "app", .store_kind = "sqlite", .repo = "main", .created_at = f->now};
    struct error err;
    bool adopted;
    char dir[64];

    ulid_new(f->now, r.ulid);
    memset(r.sha256, 'a', 64);
    assert_int_equal(catalog_record_adopt(f->catalog, &r, &adopted, &err), 0);
    snprintf(dir, sizeof dir, "records/%s", r.ulid);
    assert_false(has_entry(f, dir, "job"));
}

static void jobs_latest_active_and_by_key_lead_to_jobs(void **state)
{
    struct fixture *f = *state;
    struct job first = insert_job(f, "deploy-1"), second = insert_job(f, "");
    struct buf target = BUF_INIT;
    struct node_attr active = find(f, "jobs/active/%s", first.ulid), a;
    char up[64];

    assert_int_equal(tree_readlink(&f->tree, find(f, "jobs/latest").node, &target), 0);
    assert_string_equal(target.data, second.ulid);
    buf_release(&target);
    snprintf(up, sizeof up, "../%s", first.ulid);
    assert_int_equal(tree_readlink(&f->tree, active.node, &target), 0);
    assert_string_equal(target.data, up);
    buf_release(&target);
    assert_int_equal(tree_readlink(&f->tree, find(f, "jobs/by-key/deploy-1").node, &target), 0);
    assert_string_equal(target.data, up);
    buf_release(&target);

    fail_job(f, first.ulid, JOB_INTERRUPTED);
    assert_false(has_entry(f, "jobs/active", first.ulid));
    assert_int_equal(tree_attr(&f->tree, active.node, ME, &a), ENOENT);
    assert_true(has_entry(f, "jobs/active", second.ulid));
    assert_true(has_entry(f, "jobs/by-key", "deploy-1"));
}

static void a_store_says_what_it_does_and_what_is_its_newest_record(void **state)
{
    struct fixture *f = *state;
    char record[ULID_LEN + 1], text[ULID_LEN + 2], link[64];
    struct buf target = BUF_INIT;

    assert_text(f, "sqlite\n", "stores/app/kind");
    assert_text(f, "idle\n", "stores/app/state");
    struct job j = insert_job(f, "");
    assert_text(f, "pending\n", "stores/app/state");
    assert_text(f, "idle\n", "stores/web/state");
    start_job(f, j.ulid, record);
    assert_text(f, "running\n", "stores/app/state");
    assert_false(has_entry(f, "stores/app", "last_success"));
    assert_false(has_entry(f, "stores/app", "latest"));
    succeed_job(f, j.ulid, record, false);
    assert_text(f, "idle\n", "stores/app/state");
    snprintf(text, sizeof text, "%s\n", record);
    assert_text(f, text, "stores/app/last_success");
    struct node_attr last = find(f, "stores/app/last_success");
    assert_int_equal(last.st.st_mtim.tv_sec, (f->now + 1000) / 1000);
    assert_int_equal(last.st.st_mtim.tv_nsec, 123000000);
    assert_int_equal(tree_readlink(&f->tree, find(f, "stores/app/latest").node, &target), 0);
    snprintf(link, sizeof link, "../../records/%s", record);
    assert_string_equal(target.data, link);
    buf_release(&target);
    assert_false(has_entry(f, "stores/web", "last_success"));
}

static void readme_is_a_page(void **state)
{
    struct fixture *f = *state;
    struct node_attr readme = find(f, "README");
    char *text = read_node(f, readme.node, ME, NULL);
    size_t lines = 0;

    for (char *line = text; *line; line += strcspn(line, "\n") + 1, lines++)
        assert_true(strcspn(line, "\n") <= 90);
    assert_true(lines >= 20 && lines <= 66);
    free(text);
    assert_int_equal(readme.st.st_mode, S_IFREG | 0444);
}

/* ---- caching and times ---- */

static void only_what_cannot_change_is_final(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "k");
    char record[ULID_LEN + 1];

    assert_true(find(f, "jobs").final);
    assert_true(find(f, "README").final);
    assert_true(find(f, "stores").final);
    assert_false(find(f, "stores/app").final);
    assert_false(find(f, "stores/app/kind").final);
    assert_false(find(f, "stores/app/repos").final);
    assert_false(find(f, "stores/app/repos/main/keep_count").final);
    assert_false(find(f, "last_error").final);
    for (int started = 0; started < 2; started++) {
        assert_false(find(f, "jobs/%s", j.ulid).final);
        assert_false(find(f, "jobs/%s/status", j.ulid).final);
        assert_false(find(f, "jobs/%s/kind", j.ulid).final);
        assert_false(find(f, "jobs/%s/log", j.ulid).final);
        assert_false(find(f, "jobs/active/%s", j.ulid).final);
        assert_false(find(f, "jobs/by-key/k").final);
        if (!started)
            start_job(f, j.ulid, record);
    }
    succeed_job(f, j.ulid, record, false);
    assert_true(find(f, "jobs/%s", j.ulid).final);
    assert_true(find(f, "jobs/%s/status", j.ulid).final);
    assert_true(find(f, "jobs/%s/log", j.ulid).final);
    assert_true(find(f, "records/%s", record).final);
    assert_true(find(f, "records/%s/payload", record).final);
    assert_false(find(f, "records/%s/pinned", record).final);
    assert_false(find(f, "records/%s/suspect", record).final);
    /* What tells of something else goes when that does. */
    assert_false(find(f, "records/%s/job", record).final);
    assert_false(find(f, "jobs/%s/record", j.ulid).final);
    assert_false(find(f, "jobs/%s/job.json", j.ulid).final);
    assert_false(find(f, "jobs/by-key/k").final);
    assert_false(find(f, "jobs/latest").final);
    assert_false(find(f, "stores/app/state").final);
    assert_false(find(f, "stores/app/last_success").final);
    assert_false(find(f, "stores/app/latest").final);
}

static void a_jobs_files_are_of_its_last_change_of_state(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    time_ms created = f->now;

    f->now += 60000;
    assert_int_equal(find(f, "jobs/%s/status", j.ulid).st.st_mtim.tv_sec, created / 1000);
    f->now = created;
    fail_job(f, j.ulid, JOB_INTERRUPTED); /* two seconds later */
    f->now += 60000;
    assert_int_equal(find(f, "jobs/%s/status", j.ulid).st.st_mtim.tv_sec, created / 1000 + 2);
    assert_int_equal(find(f, "jobs/%s", j.ulid).st.st_mtim.tv_sec, created / 1000 + 2);
}

static void last_error_has_a_size_for_each_user(void **state)
{
    struct fixture *f = *state;
    struct node_attr mine, theirs;
    node_id node = find(f, "last_error").node;

    last_errors_set(
        f->tree.last_errors, ME,
        &(struct last_error){.errnum = EBUSY, .path = "ctl", .input = "", .message = "x"});
    assert_int_equal(tree_attr(&f->tree, node, ME, &mine), 0);
    assert_int_equal(tree_attr(&f->tree, node, ME + 1, &theirs), 0);
    assert_int_equal(theirs.st.st_size, 3);
    assert_true(mine.st.st_size > 3);
}

/* ---- errno ---- */

static void each_error_has_its_errno(void **state)
{
    static const struct {
        enum error_code code;
        int errnum, expected;
    } cases[] = {
        {ERR_NOT_FOUND, ENOENT, ENOENT},
        {ERR_NOT_FOUND, 0, ENOENT},
        {ERR_INVALID, E2BIG, E2BIG},
        {ERR_INVALID, EEXIST, EEXIST},
        {ERR_INVALID, EPERM, EPERM},
        {ERR_INVALID, 0, EINVAL},
        {ERR_INVALID, ESTALE, EINVAL},
        {ERR_BACKUP_ALREADY_RUNNING, EBUSY, EBUSY},
        {ERR_BACKUP_ALREADY_RUNNING, 0, EBUSY},
        {ERR_QUEUE_FULL, 0, EAGAIN},
        {ERR_STOPPING, 0, ESHUTDOWN},
        {ERR_STATE_NO_SPACE, ENOSPC, ENOSPC},
        {ERR_STATE_NO_SPACE, EDQUOT, ENOSPC},
        {ERR_STATE_UNAVAILABLE, EROFS, EIO},
        {ERR_DESTINATION_NOT_FOUND, ENOENT, EIO},
        {ERR_DESTINATION_PATH_CONFLICT, EBUSY, EIO},
        {ERR_INTEGRITY_FAILED, 0, EIO},
        {ERR_INTERNAL, EINVAL, EIO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {.code = cases[i].code, .errnum = cases[i].errnum};
        assert_int_equal(tree_errno(&err), cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_numbers_round_trip),
        TREE_TEST(numbers_that_are_no_node_are_enoent),
        TREE_TEST(what_is_listed_is_found_and_sizes_are_those_of_the_bytes),
        TREE_TEST(a_listing_goes_on_behind_any_cookie_while_jobs_are_added),
        TREE_TEST(stores_and_repos_are_listed_in_pieces_too),
        TREE_TEST(names_that_are_not_there_are_enoent),
        TREE_TEST(a_pending_job_has_empty_lines_for_what_is_not_there_yet),
        TREE_TEST(a_running_job_shows_its_progress),
        TREE_TEST(a_failed_job_says_why_on_one_line),
        TREE_TEST(a_good_job_and_its_record_name_each_other),
        TREE_TEST(payload_ids_are_there_only_if_there_are_any),
        TREE_TEST(a_record_without_a_job_has_no_link),
        TREE_TEST(jobs_latest_active_and_by_key_lead_to_jobs),
        TREE_TEST(a_store_says_what_it_does_and_what_is_its_newest_record),
        TREE_TEST(readme_is_a_page),
        TREE_TEST(only_what_cannot_change_is_final),
        TREE_TEST(a_jobs_files_are_of_its_last_change_of_state),
        TREE_TEST(last_error_has_a_size_for_each_user),
        cmocka_unit_test(each_error_has_its_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
