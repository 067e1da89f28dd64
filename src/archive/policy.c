/* SPDX-License-Identifier: MIT */
/*
 * policy.c - the rows of a repo's policy and what they come to.
 */
#include "archive/policy.h"

#include "stream/seekable.h"

#include <stdlib.h>
#include <string.h>

static bool is_none(const char *text)
{
    return strcmp(text, "none") == 0;
}

/* The level of "zstd:LEVEL"; 0, which is none, if the text is something else. */
static int parse_level(const char *text)
{
    char *end;

    if (strncmp(text, "zstd:", 5) != 0)
        return 0;
    const char *digits = text + 5 + (text[5] == '-');
    if (*digits < '1' || *digits > '9' || strlen(digits) > 2)
        return 0;
    long level = strtol(text + 5, &end, 10);
    return *end == '\0' && level >= SEEKABLE_LEVEL_MIN && level <= SEEKABLE_LEVEL_MAX ? (int)level
                                                                                      : 0;
}

static const char *compression_fault(const char *text)
{
    return is_none(text) || parse_level(text) != 0 ? NULL : "is no compression";
}

static const char *key_fault(const char *text)
{
    char why[512];

    return is_none(text) || key_ref_check(text, why, sizeof why) == 0 ? NULL
                                                                      : "is no reference to a key";
}

static const char *old_key_fault(const char *text)
{
    return is_none(text) ? "is no reference to a key" : key_fault(text);
}

static const char *const formats[] = {"v1", "v2", NULL};
static const char *const envelopes[] = {"none", "v1", "v2", NULL};

const struct setting archive_settings[] = {
    {.key = "format",
     .type = SETTING_WORD,
     .words = formats,
     .def = "v2",
     .help = "manifest and envelope of new archives"},
    {.key = "compression",
     .type = SETTING_TEXT,
     .fault = compression_fault,
     .allowed = "zstd:LEVEL with a level of -7..-1 or 1..19, none",
     .help = "of new archives; zstd:3, or none with format = v1"},
    {.key = "encryption_key",
     .type = SETTING_TEXT,
     .flags = SETTING_SECRET,
     .def = "none",
     .fault = key_fault,
     .allowed = "env:NAME, file:/absolute/path, none",
     .help = "the key that new archives are encrypted with"},
    {.key = "old_keys",
     .type = SETTING_TEXT,
     .flags = SETTING_REPEATABLE | SETTING_SECRET,
     .fault = old_key_fault,
     .allowed = "env:NAME, file:/absolute/path",
     .help = "a key that older archives were encrypted with"},
    {.key = "min_envelope",
     .type = SETTING_WORD,
     .words = envelopes,
     .help = "archives with less are refused; what the repo writes"},
    {.key = "verify_after_write",
     .type = SETTING_BOOL,
     .def = "no",
     .help = "read each archive back and compare before it is published"},
    {.key = NULL},
};

static size_t count_old_keys(const struct settings *s)
{
    size_t count = 0;

    for (const struct setting_value *v = NULL; (v = settings_next(s, "old_keys", v));)
        count++;
    return count;
}

static int written_envelope(const struct settings *s)
{
    if (is_none(settings_text(s, "encryption_key")))
        return ENVELOPE_NONE;
    return strcmp(settings_text(s, "format"), "v1") == 0 ? ENVELOPE_V1 : ENVELOPE_V2;
}

static int least_envelope(const struct settings *s)
{
    const char *word = settings_text(s, "min_envelope");

    if (!word)
        return written_envelope(s);
    return is_none(word) ? ENVELOPE_NONE : strcmp(word, "v1") == 0 ? ENVELOPE_V1 : ENVELOPE_V2;
}

const char *archive_settings_fault(const struct settings *s, const char **key)
{
    const char *compression = settings_text(s, "compression");

    *key = "compression";
    if (strcmp(settings_text(s, "format"), "v1") == 0 && compression && !is_none(compression))
        return "format = v1 knows no compression; allowed: compression = none, or format = v2";
    *key = "min_envelope";
    if (least_envelope(s) > written_envelope(s))
        return "min_envelope refuses what the repo itself writes; allowed: at most v2 with an "
               "encryption_key, v1 if its format is v1, none without a key";
    *key = "old_keys";
    if (count_old_keys(s) >= LIMIT_KEYS)
        return "too many old_keys; allowed: 15";
    return NULL;
}

struct archive_policy archive_policy_of(const struct repo *repo)
{
    const struct settings *s = &repo->settings;
    const char *compression = settings_text(s, "compression");
    bool v1 = strcmp(settings_text(s, "format"), "v1") == 0;
    struct archive_policy p = {
        .store = repo->store->id,
        .manifest_version = v1 ? MANIFEST_V1 : MANIFEST_V2,
        .encrypt = written_envelope(s) != ENVELOPE_NONE,
        .verify_after_write = settings_bool(s, "verify_after_write"),
        .min_envelope = least_envelope(s),
    };

    p.level = parse_level(compression ? compression : v1 ? "none" : "zstd:3");
    p.compress = p.level != 0;
    if (p.encrypt)
        p.keys[p.key_count++] = settings_text(s, "encryption_key");
    for (const struct setting_value *v = NULL;
         p.key_count < LIMIT_KEYS && (v = settings_next(s, "old_keys", v));)
        p.keys[p.key_count++] = v->text;
    return p;
}

int archive_policy_envelope(const struct archive_policy *p)
{
    if (!p->encrypt)
        return ENVELOPE_NONE;
    return p->manifest_version == MANIFEST_V1 ? ENVELOPE_V1 : ENVELOPE_V2;
}

int archive_policy_admit(const struct archive_policy *p, const struct manifest *m,
                         struct error *err)
{
    if (p->store && strcmp(m->store_id, p->store) != 0)
        return error_set(err, ERR_MANIFEST_INVALID, "wrong archive: it is one of store %s",
                         m->store_id);
    if (m->envelope >= p->min_envelope)
        return 0;
    if (m->envelope == ENVELOPE_NONE)
        return error_set(err, ERR_ENCRYPTION_REQUIRED,
                         "its manifest says that it is not encrypted, and here archives must be");
    return error_set(err, ERR_ENCRYPTION_REQUIRED,
                     "its envelope is v%d, and here archives must have v%d", m->envelope,
                     p->min_envelope);
}
