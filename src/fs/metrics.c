/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - one family after the other, each with its HELP and TYPE and then a sample for each
 * repo: that is the order that the format wants. What is not known, such as the last success of a
 * repo that never had one, has no sample.
 */
#include "fs/metrics.h"

#include <inttypes.h>

/* ---- the format ---- */

static void add_family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_add_label_value(struct buf *out, const char *text)
{
    buf_adds(out, "\"");
    for (; *text; text++)
        switch (*text) {
        case '\\':
            buf_adds(out, "\\\\");
            break;
        case '"':
            buf_adds(out, "\\\"");
            break;
        case '\n':
            buf_adds(out, "\\n");
            break;
        default:
            buf_add(out, text, 1);
        }
    buf_adds(out, "\"");
}

static void add_repo_labels(struct buf *out, const char *store, const char *repo)
{
    buf_adds(out, "store=");
    metrics_add_label_value(out, store);
    buf_adds(out, ",repo=");
    metrics_add_label_value(out, repo);
}

/* Milliseconds as seconds, exactly. */
static void add_seconds(struct buf *out, time_ms ms)
{
    uint64_t size = ms < 0 ? (uint64_t)-ms : (uint64_t)ms;

    buf_addf(out, "%s%" PRIu64 ".%03" PRIu64 "\n", ms < 0 ? "-" : "", size / 1000, size % 1000);
}

/* ---- one value of the whole ---- */

static void add_number(struct buf *out, const char *name, const char *help, uint64_t value)
{
    add_family(out, name, "gauge", help);
    buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

static void add_daemon(const struct overview *o, const char *version, struct buf *out)
{
    add_family(out, "keepfs_build_info", "gauge", "Which keepfs this is.");
    buf_adds(out, "keepfs_build_info{version=");
    metrics_add_label_value(out, version);
    buf_adds(out, "} 1\n");
    add_family(out, "process_start_time_seconds", "gauge",
               "When the daemon was mounted, since the epoch.");
    buf_adds(out, "process_start_time_seconds ");
    add_seconds(out, o->started);
    add_number(out, "keepfs_jobs_running", "Jobs that run.", o->running_count);
    add_number(out, "keepfs_jobs_pending", "Jobs that wait to be run.", o->pending);
}

/* ---- one value of each repo ---- */

/* Appends the value and a newline; false if there is none. */
typedef bool (*value_fn)(const struct repo_health *h, struct buf *out);

static bool add_time(struct buf *out, time_ms t)
{
    if (t)
        add_seconds(out, t);
    return t != 0;
}

static bool add_count(struct buf *out, uint64_t value)
{
    buf_addf(out, "%" PRIu64 "\n", value);
    return true;
}

static bool last_success(const struct repo_health *h, struct buf *out)
{
    return h->standing.newest[0] && add_time(out, h->standing.newest_at);
}

static bool last_size(const struct repo_health *h, struct buf *out)
{
    return h->standing.newest[0] && add_count(out, h->standing.newest_size_bytes);
}

static bool last_content(const struct repo_health *h, struct buf *out)
{
    return h->standing.newest[0] && add_count(out, h->standing.newest_content_bytes);
}

static bool records(const struct repo_health *h, struct buf *out)
{
    return add_count(out, h->standing.records);
}

static bool suspect(const struct repo_health *h, struct buf *out)
{
    return add_count(out, h->standing.suspect);
}

static bool stored_bytes(const struct repo_health *h, struct buf *out)
{
    buf_addf(out, "%.17g\n", h->standing.size_bytes);
    return true;
}

static bool content_bytes(const struct repo_health *h, struct buf *out)
{
    buf_addf(out, "%.17g\n", h->standing.content_bytes);
    return true;
}

static bool overdue(const struct repo_health *h, struct buf *out)
{
    return add_count(out, h->overdue != 0);
}

static bool expected(const struct repo_health *h, struct buf *out)
{
    return add_time(out, h->figure.every);
}

static bool next_run(const struct repo_health *h, struct buf *out)
{
    return add_time(out, h->next_run);
}

static bool last_failed(const struct repo_health *h, struct buf *out)
{
    return h->standing.job[0] && add_count(out, h->standing.job_state != JOB_SUCCEEDED);
}

static bool last_end(const struct repo_health *h, struct buf *out)
{
    return h->standing.job[0] && add_time(out, h->standing.job_finished_at);
}

static bool last_duration(const struct repo_health *h, struct buf *out)
{
    if (h->standing.job[0])
        add_seconds(out, h->standing.job_run_ms);
    return h->standing.job[0] != '\0';
}

static bool free_bytes(const struct repo_health *h, struct buf *out)
{
    return h->figure.measured_at && add_count(out, h->figure.free_bytes);
}

static bool total_bytes(const struct repo_health *h, struct buf *out)
{
    return h->figure.measured_at && add_count(out, h->figure.total_bytes);
}

static bool measured_at(const struct repo_health *h, struct buf *out)
{
    return add_time(out, h->figure.measured_at);
}

static const struct gauge {
    const char *name, *help;
    value_fn value;
} gauges[] = {
    {"keepfs_overdue", "1 if the newest good backup is older than expected, or there is none.",
     overdue},
    {"keepfs_expected_interval_seconds", "How old the newest good backup may get.", expected},
    {"keepfs_last_success_timestamp_seconds", "When the newest good backup began.", last_success},
    {"keepfs_last_record_size_bytes", "What the newest good backup takes in the repo.", last_size},
    {"keepfs_last_record_content_bytes", "What the newest good backup holds.", last_content},
    {"keepfs_records", "Backups that can be restored.", records},
    {"keepfs_suspect_records", "Backups far smaller than usual that nobody has reviewed.", suspect},
    {"keepfs_stored_bytes", "What all backups take in the repo.", stored_bytes},
    {"keepfs_content_bytes", "What all backups hold, together.", content_bytes},
    {"keepfs_next_run_timestamp_seconds", "When the schedule starts the next job.", next_run},
    {"keepfs_last_job_failed", "1 if the last job did not succeed.", last_failed},
    {"keepfs_last_job_end_timestamp_seconds", "When the last job ended.", last_end},
    {"keepfs_last_job_duration_seconds", "How long the last job ran.", last_duration},
    {"keepfs_repo_free_bytes", "Room in the repo when it was used last.", free_bytes},
    {"keepfs_repo_size_bytes", "Room in the repo, with what is taken.", total_bytes},
    {"keepfs_repo_measured_timestamp_seconds", "When the room in the repo was asked for.",
     measured_at},
};

static void add_gauge(const struct overview *o, const struct gauge *g, struct buf *out)
{
    add_family(out, g->name, "gauge", g->help);
    for (size_t i = 0; i < o->repo_count; i++) {
        const struct overview_repo *r = &o->repos[i];
        size_t start = out->len;
        buf_addf(out, "%s{", g->name);
        add_repo_labels(out, r->repo->store->id, r->repo->id);
        buf_adds(out, "} ");
        if (!g->value(&r->health, out))
            buf_truncate(out, start);
    }
}

/* ---- outcomes ---- */

#define DURATION "keepfs_job_duration_seconds"

static void add_outcome_labels(const struct repo *repo, const struct outcome_sum *o,
                               struct buf *out)
{
    buf_adds(out, "{");
    add_repo_labels(out, repo->store->id, repo->id);
    buf_adds(out, ",kind=");
    metrics_add_label_value(out, o->kind);
    buf_addf(out, ",outcome=\"%s\"} ", job_state_name(o->state));
}

static void add_outcome(const struct repo *repo, const struct outcome_sum *o, struct buf *out)
{
    buf_adds(out, DURATION "_count");
    add_outcome_labels(repo, o, out);
    buf_addf(out, "%" PRIu64 "\n", o->jobs);
    buf_adds(out, DURATION "_sum");
    add_outcome_labels(repo, o, out);
    add_seconds(out, o->run_ms);
}

static void add_outcomes(const struct overview *o, struct buf *out)
{
    add_family(out, DURATION, "summary", "Jobs that ended, by outcome, and how long they ran.");
    for (size_t i = 0; i < o->repo_count; i++) {
        const struct repo_standing *s = &o->repos[i].health.standing;
        for (size_t k = 0; k < s->outcome_count; k++)
            add_outcome(o->repos[i].repo, &s->outcomes[k], out);
    }
}

void metrics_render(const struct overview *o, const char *version, struct buf *out)
{
    add_daemon(o, version, out);
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        add_gauge(o, &gauges[i], out);
    add_outcomes(o, out);
    buf_adds(out, "# EOF\n");
}
