/* SPDX-License-Identifier: MIT */
/*
 * test_manifest_failures.c - libyaml fails, as it does where there is no memory: every call of it
 * in turn, while manifests are written and read.
 *
 * That is no fault of a manifest and must not be called one; nothing half made comes of it. A
 * text's own event is not among the calls: test_manifest.c has it fail, beside text that is no
 * UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manifest_text.h"

#include <dlfcn.h>
#include <yaml.h>

/* ---- the calls ---- */

static struct {
    int count, fail_at; /* from 1; 0 = none fails */
} calls;

static bool must_fail(void)
{
    return ++calls.count == calls.fail_at;
}

#define STAND_IN(name, parameters, arguments)                                                      \
    int name parameters                                                                            \
    {                                                                                              \
        static int(*real) parameters;                                                              \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return must_fail() ? 0 : real arguments;                                                   \
    }

STAND_IN(yaml_parser_initialize, (yaml_parser_t * parser), (parser))
STAND_IN(yaml_parser_parse, (yaml_parser_t * parser, yaml_event_t *event), (parser, event))
STAND_IN(yaml_emitter_initialize, (yaml_emitter_t * emitter), (emitter))
STAND_IN(yaml_stream_start_event_initialize, (yaml_event_t * event, yaml_encoding_t encoding),
         (event, encoding))
STAND_IN(yaml_stream_end_event_initialize, (yaml_event_t * event), (event))
STAND_IN(yaml_document_start_event_initialize,
         (yaml_event_t * event, yaml_version_directive_t *version, yaml_tag_directive_t *start,
          yaml_tag_directive_t *end, int implicit),
         (event, version, start, end, implicit))
STAND_IN(yaml_document_end_event_initialize, (yaml_event_t * event, int implicit),
         (event, implicit))
STAND_IN(yaml_sequence_start_event_initialize,
         (yaml_event_t * event, const yaml_char_t *anchor, const yaml_char_t *tag, int implicit,
          yaml_sequence_style_t style),
         (event, anchor, tag, implicit, style))
STAND_IN(yaml_sequence_end_event_initialize, (yaml_event_t * event), (event))
STAND_IN(yaml_mapping_start_event_initialize,
         (yaml_event_t * event, const yaml_char_t *anchor, const yaml_char_t *tag, int implicit,
          yaml_mapping_style_t style),
         (event, anchor, tag, implicit, style))
STAND_IN(yaml_mapping_end_event_initialize, (yaml_event_t * event), (event))

/* Takes the event over, also when it fails. */
int yaml_emitter_emit(yaml_emitter_t *emitter, yaml_event_t *event)
{
    int (*real)(yaml_emitter_t *, yaml_event_t *);

    *(void **)&real = dlsym(RTLD_NEXT, "yaml_emitter_emit");
    if (!must_fail())
        return real(emitter, event);
    yaml_event_delete(event);
    return 0;
}

static void assert_no_memory(int result, const struct error *err)
{
    assert_int_equal(result, -1);
    if (err->code != ERR_INTERNAL || !strstr(err->message, "libyaml has no memory"))
        fail_msg("call %d: %s: \"%s\"", calls.fail_at, error_code_name(err->code), err->message);
}

/* ---- writing ---- */

/* Writes `m`, the Nth call failing; false when there is no Nth. */
static bool write_failing(const struct manifest *m, const struct key *key, int at)
{
    struct buf out = BUF_INIT;
    struct error err = {.message = ""};

    buf_adds(&out, "before");
    calls.count = 0;
    calls.fail_at = at;
    int result = manifest_write(m, key, &out, &err);
    calls.fail_at = 0;
    bool hit = calls.count >= at;
    if (hit) {
        assert_no_memory(result, &err);
        assert_non_null(strstr(err.message, "cannot write the manifest"));
        assert_string_equal(buf_text(&out), "before");
    } else {
        assert_int_equal(result, 0);
        assert_true(out.len > strlen("before"));
    }
    buf_release(&out);
    return hit;
}

/* How many calls there are, each of which has failed once. */
static int fail_each_write(const struct manifest *m)
{
    struct key *key = test_key();
    int at = 1;

    while (write_failing(m, key, at))
        at++;
    key_free(key);
    return at - 1;
}

static void a_manifest_is_written_whole_or_not_at_all(void **state)
{
    struct manifest v1 = sample_v1(), v2 = sample_v2(), encrypted = sample_encrypted();

    (void)state;
    /* Each of these has an event per line, or two, and seven for the emitter, stream and document.
     */
    assert_true(fail_each_write(&v1) > 14 + 7);
    assert_true(fail_each_write(&v2) > 17 + 7);
    assert_true(fail_each_write(&encrypted) > 20 + 7);
    manifest_release(&v1);
}

/* ---- reading ---- */

static bool read_failing(const char *text, int at)
{
    struct manifest m, untouched;
    struct error err = {.message = ""};

    memset(&m, 0x55, sizeof m);
    memcpy(&untouched, &m, sizeof m);
    calls.count = 0;
    calls.fail_at = at;
    int result = manifest_read(text, strlen(text), &m, &err);
    calls.fail_at = 0;
    bool hit = calls.count >= at;
    if (hit) {
        assert_no_memory(result, &err);
        assert_memory_equal(&m, &untouched, sizeof m);
    } else {
        assert_int_equal(result, 0);
        manifest_release(&m);
    }
    return hit;
}

static void a_right_manifest_is_not_called_damaged(void **state)
{
    static const char *const texts[] = {v1_text, v2_text, encrypted_text};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int at = 1;
        while (read_failing(texts[i], at))
            at++;
        assert_true(at > 14 + 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_is_written_whole_or_not_at_all),
        cmocka_unit_test(a_right_manifest_is_not_called_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
