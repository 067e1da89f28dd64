/* SPDX-License-Identifier: MIT */
/*
 * config_keys.c - the keys of [keepfs], of every store and of every repo: one row each.
 */
#include "config.h"

#include "util/cron.h"
#include "util/duration.h"
#include "util/spawn.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- values with a grammar of their own ---- */

static int check_schedule(const char *text, char *why, size_t why_size)
{
    struct cron *cron;

    if (cron_parse(text, &cron, why, why_size) != 0)
        return -1;
    cron_free(cron);
    return 0;
}

static int check_command(const char *text, char *why, size_t why_size)
{
    char **argv;

    if (!spawn_split(text, &argv, why, why_size))
        return -1;
    free(argv);
    return 0;
}

/* "0.2", "0", "1.000": up to three digits behind the point, at most 1. */
int config_permille(const char *text)
{
    char *end;
    long whole = strtol(text, &end, 10), part = 0;

    if (text[0] < '0' || text[0] > '1' || end != text + 1)
        return -1;
    if (*end == '.') {
        const char *digits = end + 1;
        long unit = 100;
        for (end++; *end >= '0' && *end <= '9' && unit > 0; end++, unit /= 10)
            part += unit * (*end - '0');
        if (end == digits)
            return -1;
    }
    long all = whole * 1000 + part;
    return *end == '\0' && all <= 1000 ? (int)all : -1;
}

static const char *ratio_fault(const char *text)
{
    return config_permille(text) < 0 ? "is no ratio" : NULL;
}

static const char *duration_fault(const char *text)
{
    int64_t seconds;

    return duration_parse(text, &seconds) ? NULL : "is no duration";
}

/* ---- the rows ---- */

/* Looked up when the configuration is loaded: config_groups.c. */
#define GROUP(key_, help_)                                                                         \
    {                                                                                              \
        .key = key_, .type = SETTING_TEXT, .help = help_                                           \
    }

const struct setting config_keepfs_settings[] = {
    {.key = "state",
     .type = SETTING_PATH,
     .help = "directory of the state; /var/lib/keepfs for root, else $XDG_STATE_HOME/keepfs or "
             "$HOME/.local/state/keepfs"},
    {.key = "max_jobs",
     .type = SETTING_INT,
     .def = "2",
     .min = 1,
     .max = LIMIT_JOBS_RUNNING,
     .help = "how many jobs run at the same time"},
    {.key = "max_queue",
     .type = SETTING_INT,
     .def = "1024",
     .min = 1,
     .max = LIMIT_QUEUE,
     .help = "how many jobs may be pending and running"},
    {.key = "job_history",
     .type = SETTING_INT,
     .def = "30",
     .min = 1,
     .max = 36500,
     .help = "days that finished jobs and their logs are kept"},
    GROUP("control_group", "group that may start, cancel, pin, review, delete and reload"),
    GROUP("read_group", "group that may read what was backed up: payloads, and the events"),
    {.key = NULL},
};

#define COMMAND(key_, help_)                                                                       \
    {                                                                                              \
        .key = key_, .type = SETTING_TEXT, .check = check_command, .help = help_                   \
    }

const struct setting config_store_settings[] = {
    COMMAND("before", "command to run before each backup; if it fails, so does the job"),
    COMMAND("after", "command to run after each backup, whatever came of it"),
    COMMAND("on_failure", "command to run after a backup that failed"),
    {.key = "hook_timeout",
     .type = SETTING_INT,
     .def = "300",
     .min = 1,
     .max = 86400,
     .help = "seconds that one of these commands may take"},
    GROUP("run_group", "group that may start this store's backups, by stores/ID/run"),
    {.key = NULL},
};

#define KEEP(key_, help_)                                                                          \
    {                                                                                              \
        .key = key_, .type = SETTING_INT, .def = "0", .min = 0, .max = 1000000, .help = help_      \
    }

const struct setting config_repo_settings[] = {
    {.key = "schedule",
     .type = SETTING_TEXT,
     .check = check_schedule,
     .help = "when to back up by itself: cron's five fields, @daily, @every 6h, ...; never"},
    {.key = "jitter",
     .type = SETTING_INT,
     .def = "300",
     .min = 0,
     .max = 86400,
     .help = "seconds over which the repos' scheduled starts are spread, each always at its own"},
    {.key = "catch_up",
     .type = SETTING_BOOL,
     .def = "no",
     .help = "after downtime, run once for all starts that were missed"},
    {.key = "retries",
     .type = SETTING_INT,
     .def = "0",
     .min = 0,
     .max = 10,
     .help = "how often to try again after an error that may pass"},
    {.key = "retry_delay",
     .type = SETTING_INT,
     .def = "60",
     .min = 1,
     .max = 86400,
     .help = "seconds before each of these"},
    {.key = "expect_every",
     .type = SETTING_TEXT,
     .fault = duration_fault,
     .allowed = "90m, 6h, 1d12h, a number of seconds, up to ten years; never or 0",
     .help = "overdue without a good backup for so long; by default the longest time between two "
             "starts of the schedule, and half of it"},
    KEEP("keep_count", "keep the newest so many records"),
    KEEP("keep_age_days", "keep every record of the last so many days"),
    KEEP("keep_hourly", "keep the newest record of each of so many hours that have any"),
    KEEP("keep_daily", "likewise of so many days"),
    KEEP("keep_weekly", "likewise of so many weeks"),
    KEEP("keep_monthly", "likewise of so many months"),
    KEEP("keep_yearly", "likewise of so many years"),
    {.key = "suspect_ratio",
     .type = SETTING_TEXT,
     .def = "0.2",
     .fault = ratio_fault,
     .allowed = "0 (never) to 1, with up to three digits behind the point",
     .help = "a backup under this part of the usual size is suspect, and nothing is deleted"},
    {.key = NULL},
};
