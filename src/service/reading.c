/* SPDX-License-Identifier: MIT */
/*
 * reading.c - archives as the mount reads them: an object as it stands, or the payload.
 *
 * payload_ids are what others decide by, which of their data is still needed: all of them are
 * checked against the manifest before the first is given. The manifest and payload.bin are given as
 * they stand.
 *
 * A payload is opened through the same examination as any other way back: policy, key, MAC, sizes.
 * Besides, the archive must be the one that the catalog knows: the sha256 of its manifest must be
 * the record's. All payloads that are open share the service's frame cache.
 */
#include "service/internal.h"

#include <string.h>

/* Opens the place of the record's repo, by the configuration that has it. On failure nothing is
 * held. */
static int open_place(struct service *s, const struct record *record, const struct repo **repo,
                      struct service_object *o, struct error *err)
{
    *repo = service_find_repo(s, record->store, record->repo, &o->config);
    int result = *repo ? (*repo)->kind->open(&(*repo)->settings, 0, &o->destination, err)
                       : error_set(err, ERR_DESTINATION_CONFIG_INVALID,
                                   "the repo %s/%s of record %s is not in the configuration any "
                                   "more",
                                   record->store, record->repo, record->ulid);
    if (result != 0)
        config_free(o->config);
    return result;
}

static void close_place(struct service_object *o)
{
    o->destination->kind->close(o->destination);
    config_free(o->config);
}

/* Examines the record's archive, which must be the one that the catalog knows. */
static int examine(const struct record *record, const struct archive_policy *policy,
                   struct destination *d, struct archive *out, struct error *err)
{
    if (archive_examine(d, record->ulid, policy, out, err) != 0)
        return -1;
    if (strcmp(out->manifest.stored.sha256, record->sha256) == 0)
        return 0;
    archive_release(out);
    return error_set(err, ERR_INTEGRITY_FAILED,
                     "another archive stands in the place of record %s: its manifest has another "
                     "sha256",
                     record->ulid);
}

static int check_ids(const struct repo *repo, const struct record *record, struct destination *d,
                     struct error *err)
{
    struct archive_policy policy = archive_policy_of(repo);
    struct archive archive;

    if (examine(record, &policy, d, &archive, err) != 0)
        return -1;
    int result = archive_check_ids(&archive, err);
    archive_release(&archive);
    return result;
}

int service_open_object(struct service *s, const struct record *record, const char *name,
                        struct service_object *out, struct error *err)
{
    const struct repo *repo;
    struct service_object o = {0};

    *out = o;
    if (open_place(s, record, &repo, &o, err) != 0)
        return -1;
    bool ids = strcmp(name, ARCHIVE_PAYLOAD_IDS) == 0;
    if ((ids && check_ids(repo, record, o.destination, err) != 0) ||
        archive_open(o.destination, record->ulid, name, &o.object, err) != 0) {
        close_place(&o);
        return -1;
    }
    o.size = o.object->size;
    *out = o;
    return 0;
}

static int examine_and_open(struct service *s, const struct repo *repo, const struct record *record,
                            struct service_object *o, struct error *err)
{
    struct archive_policy policy = archive_policy_of(repo);
    struct archive archive;

    if (examine(record, &policy, o->destination, &archive, err) != 0)
        return -1;
    int result = payload_open(&archive, s->frames, true, &o->payload, err);
    archive_release(&archive);
    return result;
}

int service_open_payload(struct service *s, const struct record *record, struct service_object *out,
                         struct error *err)
{
    const struct repo *repo;
    struct service_object o = {0};

    *out = o;
    if (open_place(s, record, &repo, &o, err) != 0)
        return -1;
    if (examine_and_open(s, repo, record, &o, err) != 0) {
        close_place(&o);
        return -1;
    }
    o.size = payload_size(o.payload);
    o.checked = payload_checked(o.payload);
    *out = o;
    return 0;
}

ssize_t service_pread(struct service_object *o, void *buf, size_t len, uint64_t offset,
                      struct error *err)
{
    return o->payload ? payload_pread(o->payload, buf, len, offset, err)
                      : o->object->kind->pread(o->object, buf, len, offset, err);
}

void service_close_object(struct service_object *o)
{
    if (!o->destination)
        return;
    payload_close(o->payload);
    if (o->object)
        o->object->kind->close_object(o->object);
    close_place(o);
    *o = (struct service_object){0};
}
