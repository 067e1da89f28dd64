/* SPDX-License-Identifier: MIT */
/*
 * fuzz_zone.c - any bytes as a TZif file: refused with a sentence, or a zone whose spans cover all
 * time without holes.
 */
#include "util/zone.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void walk(const struct zone *z, int64_t at, int steps)
{
    const int64_t last = 253402300799; /* of 9999 */

    while (steps-- > 0 && at < last) {
        struct zone_span span = zone_span_at(z, at);
        must(span.start <= at && at < span.end);
        must(abs(span.offset) < ZONE_OFFSET_MAX && zone_offset(z, at) == span.offset);
        if (span.end >= last)
            return;
        at = span.end;
        must(zone_span_at(z, at - 1).end == at && zone_span_at(z, at).start == at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zone *z;
    struct error err = {0};

    if (zone_parse(data, size, &z, &err) != 0) {
        must(err.code == ERR_INVALID && err.message[0] != '\0');
        return 0;
    }
    must(err.code == ERR_NONE);
    walk(z, -62135596800, 200);
    walk(z, 1767225600, 100); /* 2026 */
    zone_free(z);
    return 0;
}
