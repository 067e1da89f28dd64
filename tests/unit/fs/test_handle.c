/* SPDX-License-Identifier: MIT */
/* handle.c: commands and their answers, texts, logs. Archives are in test_handle_objects.c. */
#include "fixture.h"

#include <poll.h>

/* What write(2) would say: bytes taken, or minus the errno. */
static int put(struct handle *h, const char *text)
{
    size_t taken;
    int result = handle_write(h, text, strlen(text), &taken);

    return result != 0 ? -result : (int)taken;
}

/* One read, of what there is up to 4000 bytes. */
static const char *get(struct handle *h, char text[4001])
{
    size_t got;

    assert_int_equal(handle_read(h, text, 4000, 999999, &got), 0);
    text[got] = '\0';
    return text;
}

static int put_once(struct fixture *f, const char *text)
{
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    int result = put(h, text);

    handle_close(h);
    return result;
}

static size_t job_count(struct fixture *f)
{
    size_t count = 0;
    struct error err;

    for (int64_t row = 1;; row++, count++) {
        struct job job;
        if (catalog_job_at(f->catalog, row, &job, &err) != 0)
            return count;
    }
}

/* ---- ctl ---- */

static void a_fresh_ctl_reads_the_grammar_and_the_ids(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDONLY, "ctl");
    char text[4001];

    get(h, text);
    assert_non_null(strstr(text, "STORE/REPO [key=TOKEN] [label=TEXT]"));
    assert_non_null(strstr(text, "\napp\napp/main\napp/nas\nweb\nweb/main\n"));
    assert_string_equal(get(h, text), "");
    assert_int_equal(handle_mode(h), HANDLE_STREAM);
    handle_close(h);
}

static void the_same_open_reads_the_jobs_that_its_writes_started(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDWR, "ctl");
    char text[4001], job[ULID_LEN + 1], repo[64];

    assert_int_equal(put(h, "app\n"), 4);
    get(h, text);
    assert_int_equal(sscanf(text, "%26s %63s", job, repo), 2);
    assert_true(ulid_valid(job));
    assert_string_equal(repo, "app/main");
    assert_non_null(strstr(text, " app/nas\n"));
    assert_string_equal(get(h, text), "");
    assert_int_equal(put(h, "web label=a new one\n"), 20);
    assert_non_null(strstr(get(h, text), " web/main\n"));
    assert_string_equal(get(h, text), "");
    handle_close(h);
    assert_int_equal(job_count(f), 3);
}

static void a_reply_can_be_read_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDWR, "ctl");
    char text[64] = "";
    size_t got, len = 0;

    assert_int_equal(put(h, "web\n"), 4);
    do {
        assert_int_equal(handle_read(h, text + len, 1, 0, &got), 0);
        len += got;
    } while (got == 1);
    assert_string_equal(text + ULID_LEN, " web/main\n");
    handle_close(h);
}

static void the_grammar_gives_way_to_the_reply(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDWR, "ctl");
    char text[4001];
    size_t got;

    assert_int_equal(handle_read(h, text, 5, 0, &got), 0);
    assert_int_equal(put(h, "web"), 3);
    assert_string_equal(get(h, text) + ULID_LEN, " web/main\n");
    /* A refused command has no reply, and the grammar does not come back. */
    assert_int_equal(put(h, "web"), -EBUSY);
    assert_string_equal(get(h, text), "");
    handle_close(h);
}

static void each_line_of_a_write_is_a_command_and_its_end_ends_one(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put_once(f, "app/main\nweb"), 12);
    assert_int_equal(job_count(f), 2);
}

static void a_bad_second_line_leaves_a_short_write_then_its_errno(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");

    assert_int_equal(put(h, "app/main\nnosuch\nweb\n"), 9);
    assert_last_error(f, ME, "\ninput nosuch\n");
    assert_int_equal(put(h, "nosuch\nweb\n"), -ENOENT);
    assert_int_equal(job_count(f), 1);
    assert_int_equal(put(h, "web\n\n"), 4);
    assert_int_equal(put(h, "\n"), -EINVAL);
    handle_close(h);
    assert_int_equal(job_count(f), 2);
}

static void each_refusal_has_its_errno_and_starts_nothing(void **state)
{
    struct fixture *f = *state;
    char longer[LIMIT_CTL_LINE + 2];

    assert_int_equal(put_once(f, "\n"), -EINVAL);
    assert_int_equal(put_once(f, " \n"), -EINVAL);
    assert_int_equal(put_once(f, "APP\n"), -EINVAL);
    assert_int_equal(put_once(f, "app what\n"), -EINVAL);
    assert_int_equal(put_once(f, "app/nosuch\n"), -ENOENT);
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(put_once(f, longer), -E2BIG);
    assert_int_equal(job_count(f), 0);
    assert_int_equal(put_once(f, "web key=k\n"), 10);
    assert_int_equal(put_once(f, "app/main key=k\n"), -EEXIST);
    assert_int_equal(put_once(f, "web\n"), -EBUSY);
    assert_int_equal(job_count(f), 1);
}

static void open_and_close_without_data_is_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put_once(f, ""), 0);
    handle_close(open_as(f, ME, O_WRONLY | O_TRUNC | O_APPEND, "ctl"));
    assert_int_equal(job_count(f), 0);
    assert_text(f, "ok\n", "last_error");
}

static void a_long_write_is_taken_up_to_its_last_newline(void **state)
{
    struct fixture *f = *state;
    char text[LIMIT_CTL_LINE + 100];
    int len = snprintf(text, sizeof text, "app/main label=");

    /* The kernel cut it in the middle of "web/main"; "web" alone would be another command. */
    memset(text + len, 'x', 200);
    len += 200;
    memset(text + len, ' ', LIMIT_CTL_LINE - 300);
    len += LIMIT_CTL_LINE - 300;
    len += snprintf(text + len, sizeof text - (size_t)len, "\napp/nas label=%0100d\nweb", 0);
    assert_true(len > LIMIT_CTL_LINE);
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    assert_int_equal(put(h, text), len - 3);
    assert_int_equal(job_count(f), 2);
    assert_int_equal(put(h, text + len - 3), 3);
    assert_int_equal(job_count(f), 3);
    handle_close(h);
}

/* `len` bytes: a line with a label, then the beginning of another one. */
static const char *cut_lines(char *text, size_t len, const char *second)
{
    size_t first = (size_t)sprintf(text, "app/main label=x");

    memset(text + first, ' ', len - first);
    text[len - strlen(second) - 1] = '\n';
    memcpy(text + len - strlen(second), second, strlen(second) + 1);
    return text;
}

static void a_line_that_a_buffer_cut_goes_on_in_the_next_write(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    char text[1025];

    /* "app" alone would be two other jobs. */
    assert_int_equal(put(h, cut_lines(text, 1024, "app")), 1024);
    assert_int_equal(job_count(f), 1);
    assert_int_equal(put(h, "/nas\nweb"), 8);
    assert_int_equal(job_count(f), 3);
    handle_close(h);
    assert_last_error(f, ME, "ok\n");
}

static void what_completes_a_cut_line_may_be_refused(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    char text[513];

    assert_int_equal(put(h, cut_lines(text, 512, "we")), 512);
    assert_int_equal(put(h, "c\nweb\n"), -ENOENT);
    assert_last_error(f, ME, "input wec\n");
    /* The cut line has been answered. */
    assert_int_equal(put(h, "web\n"), 4);
    assert_int_equal(job_count(f), 2);
    handle_close(h);
}

static void what_a_short_write_left_of_a_cut_one_is_cut_all_the_same(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    char text[513];
    struct job job;
    struct error err;

    assert_int_equal(put(h, "web\n"), 4);
    assert_int_equal(catalog_job_latest(f->catalog, &job, &err), 0);
    /* The second line is refused at first, and then is not. "app" is no line. */
    assert_int_equal(put(h, cut_lines(text, 512, "web\napp")), 512 - 7);
    assert_int_equal(service_cancel(f->service, job.ulid, "test", &err), 0);
    assert_int_equal(put(h, text + 512 - 7), 7);
    assert_int_equal(job_count(f), 3);
    assert_int_equal(put(h, "/nas\n"), 5);
    assert_int_equal(job_count(f), 4);
    handle_close(h);
}

static void who_is_to_try_again_keeps_the_beginning_of_the_line(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    struct handle *other = open_as(f, ME, O_WRONLY, "ctl");
    char text[513];
    struct job job;
    struct error err;

    assert_int_equal(put(h, cut_lines(text, 512, "we")), 512);
    assert_int_equal(put(other, "web\n"), 4);
    assert_int_equal(put(h, "b\n"), -EBUSY);
    assert_int_equal(catalog_job_latest(f->catalog, &job, &err), 0);
    assert_int_equal(service_cancel(f->service, job.ulid, "test", &err), 0);
    assert_int_equal(put(h, "b\n"), 2);
    handle_close(other);
    handle_close(h);
}

static void a_cut_line_may_go_on_for_long_but_not_for_ever(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    char text[513], blanks[513];

    memset(blanks, ' ', 512);
    blanks[512] = '\0';
    assert_int_equal(put(h, cut_lines(text, 512, "web")), 512);
    assert_int_equal(put(h, blanks), 512);
    assert_int_equal(put(h, blanks), -E2BIG);
    assert_int_equal(job_count(f), 1);
    handle_close(h);
}

static void the_rest_of_a_cut_line_that_never_comes_is_told(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");
    char text[513];

    assert_int_equal(put(h, cut_lines(text, 512, "web")), 512);
    handle_close(h);
    assert_int_equal(job_count(f), 1);
    assert_last_error(f, ME, "errno EINVAL\npath ctl\ninput web\nmessage the last of many lines");
}

static void who_opened_is_who_asks_and_who_reads_the_error(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, 4242, O_WRONLY, "ctl");
    struct job job;
    struct error err;

    assert_int_equal(put(h, "web\n"), 4);
    assert_int_equal(catalog_job_latest(f->catalog, &job, &err), 0);
    assert_text(f, "uid:4242\n", "jobs/%s/requested_by", job.ulid);
    assert_int_equal(put(h, "web\n"), -EBUSY);
    assert_last_error(f, 4242, "errno EBUSY\npath ctl\ninput web\nmessage ");
    assert_last_error(f, ME, "ok\n");
    handle_close(h);
    h = open_as(f, 4242, O_WRONLY, "ctl");
    assert_int_equal(put(h, "app\n"), 4);
    assert_last_error(f, 4242, "ok\n");
    handle_close(h);
}

/* bash writes the lines of one printf one by one. */
static void what_was_refused_is_told_however_the_same_open_goes_on(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_WRONLY, "ctl");

    assert_int_equal(put(h, "nosuch\n"), -ENOENT);
    assert_int_equal(put(h, "web\n"), 4);
    assert_last_error(f, ME, "input nosuch\n");
    handle_close(h);
    assert_last_error(f, ME, "input nosuch\n");
    assert_int_equal(put_once(f, "app\n"), 4);
    assert_last_error(f, ME, "ok\n");
}

/* A configuration whose replies are as long as they can be. */
struct many {
    struct store stores[120], *list[120];
    struct repo repos[120][LIMIT_REPOS_PER_STORE], *repo_lists[120][LIMIT_REPOS_PER_STORE];
};

static void make_many(struct many *m)
{
    for (int i = 0; i < 120; i++) {
        struct store *s = m->list[i] = &m->stores[i];
        snprintf(s->id, sizeof s->id, "s%063d", i);
        s->repos = m->repo_lists[i];
        s->repo_count = LIMIT_REPOS_PER_STORE;
        for (int k = 0; k < LIMIT_REPOS_PER_STORE; k++) {
            struct repo *r = m->repo_lists[i][k] = &m->repos[i][k];
            *r = (struct repo){.store = s, .kind = &memory_kind};
            snprintf(r->id, sizeof r->id, "r%063d", k);
        }
    }
}

static void replies_that_nobody_reads_are_bounded_and_none_is_lost(void **state)
{
    struct fixture *f = *state;
    struct many *m = xcalloc(1, sizeof *m);
    char line[LIMIT_ID + 2];
    size_t accepted, got, total = 0;
    char *data = xmalloc(LIMIT_CTL_REPLY);

    make_many(m);
    f->config.stores = m->list;
    f->config.store_count = 120;
    struct handle *h = open_as(f, ME, O_RDWR, "ctl");
    for (accepted = 0; accepted < 120; accepted++) {
        snprintf(line, sizeof line, "%s\n", m->stores[accepted].id);
        int result = put(h, line);
        if (result == -EAGAIN)
            break;
        assert_int_equal(result, LIMIT_ID + 1);
    }
    assert_true(accepted > 90 && accepted < 120);
    assert_int_equal(job_count(f), accepted * LIMIT_REPOS_PER_STORE);
    assert_int_equal(handle_read(h, data, LIMIT_CTL_REPLY, 0, &got), 0);
    for (size_t i = 0; i < got; i++)
        total += data[i] == '\n';
    assert_int_equal(total, accepted * LIMIT_REPOS_PER_STORE);
    assert_int_equal(put(h, line), LIMIT_ID + 1);
    handle_close(h);
    free(data);
    service_stop(f->service, 0); /* nothing is to use the stores any more */
    f->config.stores = f->store_list;
    f->config.store_count = 2;
    free(m);
}

/* ---- cancel ---- */

static int cancel(struct fixture *f, const char *job, const char *text)
{
    char path[64];

    snprintf(path, sizeof path, "jobs/%s/cancel", job);
    struct handle *h = open_as(f, ME, O_WRONLY, path);
    int result = put(h, text);
    handle_close(h);
    return result;
}

static void one_cancels_and_nothing_else_does(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1];
    static const char *const wrong[] = {"",       "\n", "0",     "0\n",  "11",
                                        "1\n1\n", "1 ", "yes\n", "1\n\n"};

    run_job(f, "web", job);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(cancel(f, job, wrong[i]), -EINVAL);
    assert_last_error(f, ME, "cancel\ninput 1\\x0a\\x0a\n");
    assert_text(f, "pending\n", "jobs/%s/status", job);
    assert_int_equal(cancel(f, job, "1\n"), 2);
    assert_text(f, "interrupted\n", "jobs/%s/status", job);
    assert_last_error(f, ME, "ok\n");
    char *why = read_node(f, find(f, "jobs/%s/error", job).node, ME, NULL);
    assert_non_null(strstr(why, "uid:1000"));
    free(why);
    run_job(f, "web", job);
    assert_int_equal(cancel(f, job, "1"), 1);
    assert_text(f, "interrupted\n", "jobs/%s/status", job);
}

static void cancel_of_a_finished_job_succeeds_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char job[ULID_LEN + 1], record[ULID_LEN + 1];

    make_record(f, job, record);
    assert_int_equal(cancel(f, job, "1\n"), 2);
    assert_text(f, "succeeded\n", "jobs/%s/status", job);
}

/* ---- opening ---- */

static void only_commands_open_for_writing(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char path[64];

    assert_int_equal(open_errno(f, "README", O_WRONLY), EACCES);
    assert_int_equal(open_errno(f, "README", O_RDWR), EACCES);
    assert_int_equal(open_errno(f, "last_error", O_WRONLY | O_TRUNC), EACCES);
    assert_int_equal(open_errno(f, "jobs", O_RDONLY), EISDIR);
    snprintf(path, sizeof path, "jobs/%s/status", j.ulid);
    assert_int_equal(open_errno(f, path, O_WRONLY), EACCES);
    snprintf(path, sizeof path, "jobs/%s/cancel", j.ulid);
    assert_int_equal(open_errno(f, path, O_RDWR), 0);
    assert_true(handle_accepts_truncate(find(f, "%s", path).node));
    assert_true(handle_accepts_truncate(find(f, "ctl").node));
    assert_false(handle_accepts_truncate(find(f, "README").node));
    assert_false(handle_accepts_truncate(NODE_ROOT_ID));
}

static void final_bytes_are_cached_and_live_ones_are_not(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    static const char *const names[] = {"status", "log", "label", "kind"};
    char path[64];

    for (int ended = 0; ended < 2; ended++) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            snprintf(path, sizeof path, "jobs/%s/%s", j.ulid, names[i]);
            struct handle *h = open_as(f, ME, O_RDONLY, path);
            assert_int_equal(handle_mode(h), ended ? HANDLE_CACHED : HANDLE_DIRECT);
            handle_close(h);
        }
        if (!ended)
            fail_job(f, j.ulid, JOB_INTERRUPTED);
    }
    /* These can change when all else is said. */
    static const char *const others[] = {"last_error", "stores/app/kind",
                                         "stores/app/repos/main/schedule"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct handle *h = open_as(f, ME, O_RDONLY, others[i]);
        assert_int_equal(handle_mode(h), HANDLE_DIRECT);
        handle_close(h);
    }
    snprintf(path, sizeof path, "jobs/%s/job.json", j.ulid);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_mode(h), HANDLE_DIRECT);
    handle_close(h);
}

static void a_text_is_of_the_moment_of_its_open(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char path[64], text[16] = "";
    size_t got;

    snprintf(path, sizeof path, "jobs/%s/status", j.ulid);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    fail_job(f, j.ulid, JOB_INTERRUPTED);
    assert_int_equal(handle_read(h, text, 4, 4, &got), 0);
    assert_string_equal(text, "ing\n");
    assert_int_equal(handle_read(h, text, 4, 8, &got), 0);
    assert_int_equal(got, 0);
    assert_int_equal(handle_read(h, text, 4, UINT64_MAX, &got), 0);
    assert_int_equal(got, 0);
    handle_close(h);
}

/* ---- what is waited for ---- */

static void wait_blocks_until_the_job_has_ended_and_is_a_file_then(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char path[64];

    snprintf(path, sizeof path, "jobs/%s/wait", j.ulid);
    assert_int_equal(find(f, "%s", path).st.st_size, 0);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_mode(h), HANDLE_STREAM);
    assert_true(handle_blocks(h));
    assert_int_equal(handle_poll(h), 0);
    fail_job(f, j.ulid, JOB_FAILED);
    assert_int_equal(handle_poll(h), POLLIN | POLLRDNORM);
    handle_close(h);
    assert_int_equal(find(f, "%s", path).st.st_size, strlen("failed\n"));
    assert_true(find(f, "%s", path).final);
    assert_text(f, "failed\n", "jobs/%s/wait", j.ulid);
    h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_mode(h), HANDLE_CACHED);
    assert_false(handle_blocks(h));
    assert_null(handle_watch(h));
    assert_true(handle_poll(h) & POLLIN);
    handle_close(h);
}

static void events_is_a_stream_that_is_readable_once_something_happened(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(find(f, "events").st.st_mode, S_IFREG | 0400);
    assert_int_equal(find(f, "events").st.st_size, 0);
    struct handle *h = open_as(f, ME, O_RDONLY, "events");
    assert_int_equal(handle_mode(h), HANDLE_STREAM);
    assert_true(handle_blocks(h));
    assert_int_equal(handle_poll(h), 0);
    insert_job(f, "");
    assert_int_equal(handle_poll(h), POLLIN | POLLRDNORM);
    handle_close(h);
}

/* A read at offset 0, as a string. */
static const char *reread(struct handle *h, char text[64])
{
    size_t got;

    assert_int_equal(handle_read(h, text, 63, 0, &got), 0);
    text[got] = '\0';
    return text;
}

static void poll_tells_of_a_change_until_it_was_read(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char status[64], progress[64], text[64], record[ULID_LEN + 1];
    struct error err;

    snprintf(status, sizeof status, "jobs/%s/status", j.ulid);
    snprintf(progress, sizeof progress, "jobs/%s/progress", j.ulid);
    struct handle *s = open_as(f, ME, O_RDONLY, status), *p = open_as(f, ME, O_RDONLY, progress);
    assert_non_null(handle_watch(s));
    assert_ptr_equal(handle_watch(s), handle_watch(s));
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM);
    start_job(f, j.ulid, record);
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM | POLLPRI | POLLERR);
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM | POLLPRI | POLLERR);
    assert_string_equal(reread(s, text), "running\n");
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM);
    assert_string_equal(reread(p, text), "0\n");
    assert_int_equal(
        catalog_job_progress(f->catalog, j.ulid, &(struct job_progress){.percent = 42}, &err), 0);
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM);
    assert_int_equal(handle_poll(p), POLLIN | POLLRDNORM | POLLPRI | POLLERR);
    assert_string_equal(reread(p, text), "42\n");
    fail_job(f, j.ulid, JOB_FAILED);
    assert_string_equal(reread(s, text), "failed\n");
    assert_string_equal(reread(s, text), "failed\n");
    assert_int_equal(handle_poll(s), POLLIN | POLLRDNORM);
    handle_close(s);
    handle_close(p);
    /* Of what has no watch poll says what it always said. */
    struct handle *h = open_as(f, ME, O_RDONLY, "README");
    assert_null(handle_watch(h));
    assert_int_equal(handle_poll(h), POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
    handle_close(h);
}

static void a_first_read_is_of_the_open_and_later_ones_at_0_are_new(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char path[64], text[64], record[ULID_LEN + 1];

    snprintf(path, sizeof path, "jobs/%s/status", j.ulid);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    start_job(f, j.ulid, record);
    assert_string_equal(reread(h, text), "pending\n");
    assert_string_equal(reread(h, text), "running\n");
    handle_close(h);
}

static void a_read_too_many_says_why(void **state)
{
    struct fixture *f = *state;
    struct handle *h = open_as(f, ME, O_RDONLY, "events");

    assert_int_equal(handle_refuse_wait(h), EAGAIN);
    assert_last_error(f, ME, "errno EAGAIN\npath events\ninput \nmessage 4096 reads of wait");
    handle_close(h);
}

/* ---- log ---- */

static void append_log(struct fixture *f, const char *job, const char *text)
{
    __attribute__((cleanup(free_charp))) char *path = service_log_path(f->service, job);
    __attribute__((cleanup(fd_close))) int fd =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void a_log_grows_under_its_reader_also_from_before_its_first_line(void **state)
{
    struct fixture *f = *state;
    struct job j = insert_job(f, "");
    char path[64], text[32] = "";
    size_t got;

    snprintf(path, sizeof path, "jobs/%s/log", j.ulid);
    assert_int_equal(find(f, "%s", path).st.st_size, 0);
    struct handle *h = open_as(f, ME, O_RDONLY, path);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), 0);
    assert_int_equal(got, 0);
    append_log(f, j.ulid, "one\n");
    assert_int_equal(find(f, "%s", path).st.st_size, 4);
    assert_int_equal(handle_read(h, text, sizeof text, 0, &got), 0);
    assert_int_equal(got, 4);
    append_log(f, j.ulid, "two\n");
    assert_int_equal(handle_read(h, text, sizeof text, 4, &got), 0);
    assert_memory_equal(text, "two\n", got);
    assert_int_equal(got, 4);
    handle_close(h);
    assert_text(f, "one\ntwo\n", "jobs/%s/log", j.ulid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(a_fresh_ctl_reads_the_grammar_and_the_ids),
        TREE_TEST(the_same_open_reads_the_jobs_that_its_writes_started),
        TREE_TEST(a_reply_can_be_read_byte_by_byte),
        TREE_TEST(the_grammar_gives_way_to_the_reply),
        TREE_TEST(each_line_of_a_write_is_a_command_and_its_end_ends_one),
        TREE_TEST(a_bad_second_line_leaves_a_short_write_then_its_errno),
        TREE_TEST(each_refusal_has_its_errno_and_starts_nothing),
        TREE_TEST(open_and_close_without_data_is_nothing),
        TREE_TEST(a_long_write_is_taken_up_to_its_last_newline),
        TREE_TEST(a_line_that_a_buffer_cut_goes_on_in_the_next_write),
        TREE_TEST(what_completes_a_cut_line_may_be_refused),
        TREE_TEST(what_a_short_write_left_of_a_cut_one_is_cut_all_the_same),
        TREE_TEST(who_is_to_try_again_keeps_the_beginning_of_the_line),
        TREE_TEST(a_cut_line_may_go_on_for_long_but_not_for_ever),
        TREE_TEST(the_rest_of_a_cut_line_that_never_comes_is_told),
        TREE_TEST(who_opened_is_who_asks_and_who_reads_the_error),
        TREE_TEST(what_was_refused_is_told_however_the_same_open_goes_on),
        TREE_TEST(replies_that_nobody_reads_are_bounded_and_none_is_lost),
        TREE_TEST(one_cancels_and_nothing_else_does),
        TREE_TEST(cancel_of_a_finished_job_succeeds_and_changes_nothing),
        TREE_TEST(only_commands_open_for_writing),
        TREE_TEST(final_bytes_are_cached_and_live_ones_are_not),
        TREE_TEST(a_text_is_of_the_moment_of_its_open),
        TREE_TEST(wait_blocks_until_the_job_has_ended_and_is_a_file_then),
        TREE_TEST(events_is_a_stream_that_is_readable_once_something_happened),
        TREE_TEST(poll_tells_of_a_change_until_it_was_read),
        TREE_TEST(a_first_read_is_of_the_open_and_later_ones_at_0_are_new),
        TREE_TEST(a_read_too_many_says_why),
        TREE_TEST(a_log_grows_under_its_reader_also_from_before_its_first_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
