/* SPDX-License-Identifier: MIT */
/*
 * views.c - a row for each kind of link; and dates as numbers.
 *
 * The row of a year, month or day is its date, with zeros for the parts that it does not have:
 *
 *   (year + 1) << 9 | month << 5 | day
 *
 * so that rows ascend with dates, none is 0, and cookies are made of them as of any row. What a
 * date's directory holds is asked of the catalog as the first day of a record behind the entry
 * before: one search for each entry, however many records there are.
 */
#include "fs/views.h"

#include "util/date.h"
#include "util/moment.h"
#include "util/ulid.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS   ((time_ms)DAY_SECONDS * 1000)
#define YEAR_MAX 9999

static struct catalog *catalog_of(const struct subject *s)
{
    return service_catalog(s->tree->service);
}

/* ---- links ---- */

static const struct link_kind {
    enum node_kind dir, link;
    const char *prefix; /* of the target; the ULID follows */
} views[] = {
    {NODE_STORE_JOBS, NODE_STORE_JOB_LINK, "../../../jobs/"},
    {NODE_STORE_RECORDS, NODE_STORE_RECORD_LINK, "../../../records/"},
    {NODE_STORE_AT, NODE_AT_LINK, "../../../records/"},
    {NODE_RECORD_STORE, NODE_BY_STORE_LINK, "../../"},
    {NODE_DAY, NODE_BY_DATE_LINK, "../../../../"},
    {NODE_PINNED, NODE_PINNED_LINK, "../"},
};
#define VIEWS (sizeof views / sizeof views[0])

static const struct link_kind *view_of_link(enum node_kind kind)
{
    for (size_t i = 0; i < VIEWS; i++)
        if (views[i].link == kind)
            return &views[i];
    return NULL;
}

static const struct link_kind *view_of_dir(enum node_kind kind)
{
    for (size_t i = 0; i < VIEWS; i++)
        if (views[i].dir == kind)
            return &views[i];
    return NULL;
}

bool view_is_link(enum node_kind kind)
{
    return view_of_link(kind) != NULL;
}

void view_target(const struct subject *s, struct buf *out)
{
    buf_adds(out, view_of_link(s->kind)->prefix);
    buf_adds(out, s->kind == NODE_STORE_JOB_LINK ? s->job.ulid : s->record.ulid);
}

/* ---- dates ---- */

static int64_t date_row(struct date d)
{
    return ((int64_t)d.year + 1) << 9 | d.month << 5 | d.day;
}

/* What a year or month has of a day's date. */
static struct date date_cut(struct date d, enum node_kind kind)
{
    if (kind == NODE_YEAR)
        d.month = 0;
    if (kind != NODE_DAY)
        d.day = 0;
    return d;
}

/* False for a row that is no date of that kind. */
static bool date_of_row(enum node_kind kind, int64_t row, struct date *out)
{
    int64_t year = (row >> 9) - 1;

    *out = (struct date){(int)year, (int)(row >> 5 & 15), (int)(row & 31)};
    if (year < 0 || year > YEAR_MAX || date_row(date_cut(*out, kind)) != row)
        return false;
    if (kind == NODE_YEAR)
        return true;
    if (out->month < 1 || out->month > 12)
        return false;
    return kind == NODE_MONTH ||
           (out->day >= 1 && out->day <= date_month_length(out->year, out->month));
}

/* Days as of date.h, both included. */
struct span {
    int64_t first, last;
};

static struct span span_of(enum node_kind kind, struct date d)
{
    struct date first = {0, 1, 1}, last = {YEAR_MAX, 12, 31};

    if (kind != NODE_BY_DATE)
        first.year = last.year = d.year;
    if (kind == NODE_MONTH || kind == NODE_DAY) {
        first.month = last.month = d.month;
        last.day = date_month_length(d.year, d.month);
    }
    if (kind == NODE_DAY)
        first.day = last.day = d.day;
    return (struct span){date_to_days(first), date_to_days(last)};
}

/* The date of a directory that was loaded; none of by-date itself. */
static struct date date_of(const struct subject *dir)
{
    struct date date = {0, 0, 0};

    if (dir->kind != NODE_BY_DATE)
        date_of_row(dir->kind, node_row(dir->node), &date);
    return date;
}

static int load_date(struct subject *s)
{
    struct error err;
    struct date date;
    int64_t day;

    if (!date_of_row(s->kind, node_row(s->node), &date))
        return ENOENT;
    struct span span = span_of(s->kind, date);
    if (catalog_record_next_day(catalog_of(s), span.first, &day, &err) != 0)
        return tree_errno(&err);
    return day <= span.last ? 0 : ENOENT;
}

/* What is in a directory of dates; NODE_KINDS for any other. */
static enum node_kind date_child(enum node_kind dir)
{
    switch (dir) {
    case NODE_BY_DATE:
        return NODE_YEAR;
    case NODE_YEAR:
        return NODE_MONTH;
    case NODE_MONTH:
        return NODE_DAY;
    default:
        return NODE_KINDS;
    }
}

static int *date_part(struct date *d, enum node_kind kind)
{
    return kind == NODE_YEAR ? &d->year : kind == NODE_MONTH ? &d->month : &d->day;
}

static int date_digits(enum node_kind kind)
{
    return kind == NODE_YEAR ? 4 : 2;
}

static int find_date(const struct subject *dir, const char *name, node_id *out)
{
    enum node_kind kind = date_child(dir->kind);
    struct date date = date_of(dir), same;
    int value = 0;

    if (strlen(name) != (size_t)date_digits(kind))
        return ENOENT;
    for (; *name; name++) {
        if (!isdigit((unsigned char)*name))
            return ENOENT;
        value = 10 * value + (*name - '0');
    }
    *date_part(&date, kind) = value;
    /* 99 does not fit into the bits of a month or day and becomes another row. */
    if (!date_of_row(kind, date_row(date), &same) || *date_part(&same, kind) != value)
        return ENOENT;
    *out = node_make(kind, date_row(date), NODE_FILE_NONE);
    return 0;
}

static int list_dates(const struct subject *dir, uint64_t cookie, tree_entry_fn fn, void *ctx)
{
    int64_t after = (int64_t)(cookie / COOKIE_ROWS), day;
    enum node_kind kind = date_child(dir->kind);
    struct span all = span_of(dir->kind, date_of(dir));
    struct date date;
    struct error err;
    char name[16];

    if (after && !date_of_row(kind, after, &date))
        return 0; /* no cookie of ours */
    int64_t from = after ? span_of(kind, date).last + 1 : all.first;
    while (catalog_record_next_day(catalog_of(dir), from, &day, &err) == 0) {
        if (day > all.last)
            return 0;
        date = date_cut(date_from_days(day), kind);
        snprintf(name, sizeof name, "%0*d", date_digits(kind), *date_part(&date, kind));
        if (!fn(ctx, name, node_make(kind, date_row(date), NODE_FILE_NONE), S_IFDIR,
                (uint64_t)date_row(date) * COOKIE_ROWS))
            return 0;
        from = span_of(kind, date).last + 1;
    }
    return err.code == ERR_NOT_FOUND ? 0 : tree_errno(&err);
}

/* ---- loading ---- */

static int load_link(struct subject *s)
{
    struct catalog *c = catalog_of(s);
    int64_t row = node_row(s->node);
    struct error err;

    int result = s->kind == NODE_STORE_JOB_LINK ? catalog_job_at(c, row, &s->job, &err)
                                                : catalog_record_at(c, row, &s->record, &err);
    if (result != 0)
        return tree_errno(&err);
    return s->kind == NODE_PINNED_LINK && !s->record.pinned ? ENOENT : 0;
}

int view_load(struct subject *s)
{
    struct error err;

    switch (s->kind) {
    case NODE_RECORD_STORE:
        return catalog_record_store_at(catalog_of(s), node_row(s->node), s->store_id, &err) == 0
                   ? 0
                   : tree_errno(&err);
    case NODE_YEAR:
    case NODE_MONTH:
    case NODE_DAY:
        return load_date(s);
    default:
        return view_is_link(s->kind) ? load_link(s) : 0;
    }
}

bool view_final(enum node_kind kind)
{
    return kind != NODE_RECORD_STORE && kind != NODE_YEAR && kind != NODE_MONTH &&
           kind != NODE_DAY && !view_is_link(kind);
}

node_id view_parent(const struct subject *s)
{
    struct date date = {0, 0, 0};

    switch (s->kind) {
    case NODE_BY_STORE:
    case NODE_BY_DATE:
    case NODE_PINNED:
        return node_make(NODE_RECORDS, 0, NODE_FILE_NONE);
    case NODE_STORE_JOBS:
    case NODE_STORE_RECORDS:
    case NODE_STORE_AT:
        return node_make(NODE_STORE, node_row(s->node), NODE_FILE_NONE);
    case NODE_RECORD_STORE:
        return node_make(NODE_BY_STORE, 0, NODE_FILE_NONE);
    case NODE_YEAR:
        return node_make(NODE_BY_DATE, 0, NODE_FILE_NONE);
    case NODE_MONTH:
        date = date_cut(date_of(s), NODE_YEAR);
        return node_make(NODE_YEAR, date_row(date), NODE_FILE_NONE);
    case NODE_DAY:
        date = date_cut(date_of(s), NODE_MONTH);
        return node_make(NODE_MONTH, date_row(date), NODE_FILE_NONE);
    default:
        return NODE_ROOT_ID;
    }
}

/* ---- names ---- */

static int find_store(const struct subject *dir, const char *name, node_id *out)
{
    struct error err;
    int64_t row;

    if (catalog_record_store_find(catalog_of(dir), name, &row, &err) != 0)
        return tree_errno(&err);
    *out = node_make(NODE_RECORD_STORE, row, NODE_FILE_NONE);
    return 0;
}

static int find_job(const struct subject *dir, const char *name, node_id *out)
{
    struct error err;
    struct job job;

    if (!ulid_valid(name))
        return ENOENT;
    if (catalog_job_get(catalog_of(dir), name, &job, &err) != 0)
        return tree_errno(&err);
    *out = node_make(NODE_STORE_JOB_LINK, job.row, NODE_FILE_NONE);
    return strcmp(job.store, dir->store->id) == 0 ? 0 : ENOENT;
}

static bool has_record(const struct subject *dir, const struct record *r)
{
    switch (dir->kind) {
    case NODE_RECORD_STORE:
        return strcmp(r->store, dir->store_id) == 0;
    case NODE_STORE_RECORDS:
        return strcmp(r->store, dir->store->id) == 0;
    case NODE_DAY:
        return floor_divide(r->created_at, DAY_MS) == date_to_days(date_of(dir));
    default:
        return r->pinned;
    }
}

static int find_record(const struct subject *dir, enum node_kind link, const char *name,
                       node_id *out)
{
    struct record record;
    struct error err;

    if (!ulid_valid(name))
        return ENOENT;
    if (catalog_record_get(catalog_of(dir), name, &record, &err) != 0)
        return tree_errno(&err);
    *out = node_make(link, record.row, NODE_FILE_NONE);
    return has_record(dir, &record) ? 0 : ENOENT;
}

static int find_moment(const struct subject *dir, const char *name, node_id *out)
{
    struct record record;
    struct error err;
    time_ms time;

    if (moment_parse(name, &time) != 0)
        return ENOENT;
    if (catalog_record_not_later(catalog_of(dir), dir->store->id, time, &record, &err) != 0)
        return tree_errno(&err);
    *out = node_make(NODE_AT_LINK, record.row, NODE_FILE_NONE);
    return 0;
}

int view_find(const struct subject *dir, const char *name, node_id *out)
{
    const struct link_kind *view = view_of_dir(dir->kind);

    switch (dir->kind) {
    case NODE_BY_STORE:
        return find_store(dir, name, out);
    case NODE_BY_DATE:
    case NODE_YEAR:
    case NODE_MONTH:
        return find_date(dir, name, out);
    case NODE_STORE_JOBS:
        return find_job(dir, name, out);
    case NODE_STORE_AT:
        return find_moment(dir, name, out);
    default:
        return view ? find_record(dir, view->link, name, out) : ENOENT;
    }
}

/* ---- listings ---- */

struct rows {
    enum node_kind kind;
    mode_t mode;
    tree_entry_fn fn;
    void *ctx;
};

static bool add_row(void *ctx, const struct catalog_entry *e)
{
    struct rows *r = ctx;

    return r->fn(r->ctx, e->name, node_make(r->kind, e->row, NODE_FILE_NONE), r->mode,
                 (uint64_t)e->row * COOKIE_ROWS);
}

static int list_rows(const struct subject *dir, int64_t after, struct rows *r, struct error *err)
{
    struct catalog *c = catalog_of(dir);

    switch (dir->kind) {
    case NODE_BY_STORE:
        return catalog_list(c, LIST_RECORD_STORES, after, add_row, r, err);
    case NODE_PINNED:
        return catalog_list(c, LIST_PINNED, after, add_row, r, err);
    case NODE_RECORD_STORE:
        return catalog_list_store_records(c, dir->store_id, after, add_row, r, err);
    case NODE_STORE_RECORDS:
        return catalog_list_store_records(c, dir->store->id, after, add_row, r, err);
    case NODE_STORE_JOBS:
        return catalog_list_store_jobs(c, dir->store->id, after, add_row, r, err);
    case NODE_DAY:
        return catalog_list_day_records(c, date_to_days(date_of(dir)), after, add_row, r, err);
    default:
        return 0;
    }
}

int view_list(const struct subject *dir, uint64_t cookie, tree_entry_fn fn, void *ctx)
{
    const struct link_kind *view = view_of_dir(dir->kind);
    struct rows r = {.kind = view ? view->link : NODE_RECORD_STORE,
                     .mode = view ? S_IFLNK : S_IFDIR,
                     .fn = fn,
                     .ctx = ctx};
    struct error err;

    if (date_child(dir->kind) != NODE_KINDS)
        return list_dates(dir, cookie, fn, ctx);
    if (list_rows(dir, (int64_t)(cookie / COOKIE_ROWS), &r, &err) != 0)
        return tree_errno(&err);
    return 0;
}
