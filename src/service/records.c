/* SPDX-License-Identifier: MIT */
/*
 * records.c - what people do to records: pin, delete, review.
 *
 * Each is one row, and the answer says that it is on disk. A deletion is decided by it: the record
 * is not listed from then on, and the keeper removes the archive.
 */
#include "service/internal.h"

#include "util/log.h"

#include <string.h>

int service_pin(struct service *s, const char *ulid, bool pinned, const char *by, struct error *err)
{
    if (catalog_record_pin(s->catalog, ulid, pinned, err) != 0)
        return -1;
    if (!is_caller(by))
        log_info("record %s: %s by %s", ulid, pinned ? "pinned" : "unpinned", by);
    return 0;
}

int service_delete(struct service *s, const char *ulid, const char *by, struct error *err)
{
    if (live_is_stopping(&s->live))
        return live_stopping_error(err);
    if (catalog_record_delete_begin(s->catalog, ulid, err) != 0)
        return -1;
    if (!is_caller(by))
        log_info("record %s: deleted by %s", ulid, by);
    keeper_delete(s->keeper);
    return 0;
}

/* The suspect ones of a repo that are not newer than the reviewed one. */
struct review {
    struct service *service;
    const char *ulid;
    bool reached;
    int result;
    struct error *err;
};

static void review_one(void *ctx, const struct record *r)
{
    struct review *v = ctx;

    bool it = strcmp(r->ulid, v->ulid) == 0;
    v->reached |= it;
    if (v->reached && (it || r->suspect) && v->result == 0)
        v->result = catalog_record_mark_suspect(v->service->catalog, r->ulid, false, v->err);
}

int service_review(struct service *s, const char *ulid, const char *by, struct error *err)
{
    struct review v = {.service = s, .ulid = ulid, .err = err};
    struct record record;
    struct config *config;

    if (catalog_record_get(s->catalog, ulid, &record, err) != 0 ||
        catalog_records_newest(s->catalog, record.store, record.repo, review_one, &v, err) != 0 ||
        v.result != 0)
        return -1;
    if (!is_caller(by))
        log_info("record %s: reviewed by %s", ulid, by);
    struct repo *repo = service_find_repo(s, record.store, record.repo, &config);
    if (repo)
        keeper_pass(s->keeper, config, repo);
    config_free(config);
    return 0;
}
