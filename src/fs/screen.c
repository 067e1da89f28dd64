/* SPDX-License-Identifier: MIT */
/*
 * screen.c - lines of text. Each is written to a buffer of its own, and cut to the width when it is
 * whole, so that nothing here counts columns but the few that stand in a table.
 *
 * The rate of a job is the mean since its start, and what is left follows from it: of a source that
 * cannot say how much it has, nothing is said.
 */
#include "fs/screen.h"

#include "fs/text.h"
#include "util/duration.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_WIDTH = 20, JOB_WIDTH = 18, BAR_WIDTH = 14, SIZE_TEXT_MAX = 16 };

/* ---- words ---- */

/* "0 B", "1023 B", "1.5 KiB", ... "8.0 EiB". */
static const char *size_words(uint64_t bytes, char text[SIZE_TEXT_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes / 1024;
    size_t i = 0;

    if (bytes < 1024) {
        snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " B", bytes);
        return text;
    }
    while (value >= 1023.95 && i + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        i++;
    }
    snprintf(text, SIZE_TEXT_MAX, "%.1f %s", value, units[i]);
    return text;
}

/* "STORE/REPO", or the store alone where it has no other repo. */
static const char *name_of(const struct repo *repo, char text[2 * LIMIT_ID + 2])
{
    if (repo->store->repo_count > 1)
        snprintf(text, 2 * LIMIT_ID + 2, "%s/%s", repo->store->id, repo->id);
    else
        snprintf(text, 2 * LIMIT_ID + 2, "%s", repo->store->id);
    return text;
}

static const char *ago(time_ms now, time_ms then, char text[DURATION_TEXT_MAX + 8])
{
    char words[DURATION_TEXT_MAX];

    if (then > now + 60 * 1000)
        return "future";
    snprintf(text, DURATION_TEXT_MAX + 8, "%s ago", duration_words((now - then) / 1000, words));
    return text;
}

/* ---- lines ---- */

/* The line, cut to the width; columns are counted in UTF-8 characters, and none is cut in two. */
static void end_line(struct buf *line, struct buf *out)
{
    size_t columns = 0, last = 0; /* where the last column that fits begins */

    for (size_t i = 0; i < line->len; i++) {
        if (((unsigned char)line->data[i] & 0xc0) == 0x80)
            continue;
        if (++columns == SCREEN_WIDTH)
            last = i;
    }
    if (columns > SCREEN_WIDTH) {
        buf_truncate(line, last);
        buf_adds(line, "~");
    }
    while (line->len > 0 && line->data[line->len - 1] == ' ')
        buf_truncate(line, line->len - 1);
    buf_add(out, buf_text(line), line->len);
    buf_adds(out, "\n");
    buf_truncate(line, 0);
}

/* In a column: what is too long is cut. */
/* What is too long is cut in the middle: names of one kind mostly differ at their ends. */
static void add_cell(struct buf *line, const char *text, int width)
{
    size_t len = strlen(text);
    int head = (width - 1) / 2, tail = width - 1 - head;

    if (len > (size_t)width)
        buf_addf(line, "%.*s~%s ", head, text, text + len - (size_t)tail);
    else
        buf_addf(line, "%-*s ", width, text);
}

static void add_head(const struct overview *o, const char *version, struct buf *line,
                     struct buf *out)
{
    char now[TIME_TEXT_MAX], up[DURATION_TEXT_MAX];

    time_format(o->now, now);
    buf_addf(line, "keepfs %s   %.10s %.8s UTC   up %s   ", version, now, now + 11,
             duration_words((o->now - o->started) / 1000, up));
    text_escape(line, o->config ? o->config : "", o->config ? strlen(o->config) : 0);
    end_line(line, out);
}

static void add_counts(const struct overview *o, struct buf *line, struct buf *out)
{
    size_t overdue = 0, suspect = 0;

    for (size_t i = 0; i < o->repo_count; i++) {
        overdue += o->repos[i].health.overdue != 0;
        suspect += o->repos[i].health.standing.suspect;
    }
    buf_addf(line, "%zu running, %zu pending, %zu overdue", o->running_count, o->pending, overdue);
    if (suspect > 0)
        buf_addf(line, ", %zu suspect record%s", suspect, suspect == 1 ? "" : "s");
    end_line(line, out);
}

static void add_more(size_t count, struct buf *line, struct buf *out)
{
    if (count == 0)
        return;
    buf_addf(line, "... and %zu more", count);
    end_line(line, out);
}

/* ---- what is overdue ---- */

static void add_overdue_line(const struct overview *o, const struct overview_repo *r,
                             struct buf *line, struct buf *out)
{
    char name[2 * LIMIT_ID + 2], every[DURATION_TEXT_MAX], when[DURATION_TEXT_MAX + 8];
    const struct repo_standing *s = &r->health.standing;

    add_cell(line, name_of(r->repo, name), NAME_WIDTH);
    if (s->newest[0])
        buf_addf(line, "last backup %s, ", ago(o->now, s->newest_at, when));
    else
        buf_adds(line, "no backup yet, ");
    buf_addf(line, "expected every %s", duration_words(r->health.figure.every / 1000, every));
    end_line(line, out);
}

static void add_overdue(const struct overview *o, struct buf *line, struct buf *out)
{
    size_t count = 0;

    for (size_t i = 0; i < o->repo_count; i++) {
        if (!o->repos[i].health.overdue)
            continue;
        if (count++ == 0)
            buf_adds(out, "\nOVERDUE\n");
        if (count <= SCREEN_OVERDUE)
            add_overdue_line(o, &o->repos[i], line, out);
    }
    add_more(count > SCREEN_OVERDUE ? count - SCREEN_OVERDUE : 0, line, out);
}

/* ---- what runs ---- */

static void add_bar(struct buf *line, int percent)
{
    int full = percent * BAR_WIDTH / 100;

    buf_adds(line, "[");
    for (int i = 0; i < BAR_WIDTH; i++)
        buf_adds(line, i < full ? "#" : ".");
    buf_addf(line, "] %3d %%", percent);
}

static void add_running_line(const struct overview *o, const struct job *job, struct buf *line,
                             struct buf *out)
{
    uint64_t done = stats_get(&job->stats, "content_bytes");
    uint64_t expected = stats_get(&job->stats, "expected_bytes");
    time_ms elapsed = o->now - job->started_at;
    char name[2 * LIMIT_ID + 2], size[SIZE_TEXT_MAX], words[DURATION_TEXT_MAX];
    double rate = elapsed > 0 ? (double)done * 1000 / (double)elapsed : 0;

    snprintf(name, sizeof name, "%s/%s", job->store, job->repo);
    add_cell(line, name, JOB_WIDTH);
    add_bar(line, job->progress);
    buf_addf(line, " %9s/s", size_words((uint64_t)rate, size));
    buf_addf(line, " for %s", duration_words(elapsed / 1000, words));
    if (rate > 0 && expected > done)
        buf_addf(line, ", %s left",
                 duration_words((int64_t)((double)(expected - done) / rate), words));
    end_line(line, out);
}

static void add_running(const struct overview *o, struct buf *line, struct buf *out)
{
    if (o->running_count > 0)
        buf_adds(out, "\nRUNNING\n");
    for (size_t i = 0; i < o->running_count; i++)
        add_running_line(o, &o->running[i], line, out);
}

/* ---- the repos ---- */

/* The higher the sooner it is to be seen. */
static int urgency(const struct overview_repo *r)
{
    const struct repo_standing *s = &r->health.standing;

    if (r->health.overdue)
        return 3;
    if (s->job[0] && s->job_state == JOB_FAILED)
        return 2;
    return s->suspect > 0 || (s->job[0] && s->job_state == JOB_INTERRUPTED);
}

static void add_next_run(const struct overview *o, time_ms next, struct buf *line)
{
    char words[DURATION_TEXT_MAX];

    if (!next)
        add_cell(line, "-", 8);
    else if (next <= o->now)
        add_cell(line, "now", 8);
    else
        add_cell(line, duration_words((next - o->now) / 1000, words), 8);
}

static void add_repo_line(const struct overview *o, const struct overview_repo *r, struct buf *line,
                          struct buf *out)
{
    char name[2 * LIMIT_ID + 2], size[SIZE_TEXT_MAX], when[DURATION_TEXT_MAX + 8];
    const struct repo_standing *s = &r->health.standing;
    bool any = s->newest[0] != '\0';

    add_cell(line, name_of(r->repo, name), NAME_WIDTH);
    add_cell(line, any ? ago(o->now, s->newest_at, when) : "never", 12);
    add_cell(line, any ? size_words(s->newest_size_bytes, size) : "-", 10);
    add_next_run(o, r->health.next_run, line);
    if (!s->job[0])
        buf_adds(line, "-");
    else if (s->job_state == JOB_SUCCEEDED)
        buf_adds(line, job_state_name(s->job_state));
    else /* the code says more, and fits */
        buf_adds(line, error_code_name(s->job_error));
    if (s->suspect > 0)
        buf_adds(line, ", suspect");
    end_line(line, out);
}

static void add_repos(const struct overview *o, struct buf *line, struct buf *out)
{
    size_t shown = 0;

    buf_adds(out, "\n");
    add_cell(line, "STORE", NAME_WIDTH);
    buf_addf(line, "%-12s %-10s %-8s %s", "LAST SUCCESS", "SIZE", "NEXT RUN", "LAST RESULT");
    end_line(line, out);
    for (int level = 3; level >= 0; level--)
        for (size_t i = 0; i < o->repo_count && shown < SCREEN_LINES; i++)
            if (urgency(&o->repos[i]) == level) {
                add_repo_line(o, &o->repos[i], line, out);
                shown++;
            }
    add_more(o->repo_count - shown, line, out);
}

void screen_render(const struct overview *o, const char *version, struct buf *out)
{
    __attribute__((cleanup(buf_release))) struct buf line = BUF_INIT;

    add_head(o, version, &line, out);
    add_counts(o, &line, out);
    add_overdue(o, &line, out);
    add_running(o, &line, out);
    add_repos(o, &line, out);
}
