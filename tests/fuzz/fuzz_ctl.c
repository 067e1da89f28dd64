/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ctl.c - one line as anybody may write it to ctl: parsed or refused with a sentence, and what
 * is accepted is fit to be part of a path.
 */
#include "service/service.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run_request q;
    struct error err = {0};

    if (run_request_parse((const char *)data, size, &q, &err) != 0) {
        if (err.code != ERR_INVALID || err.message[0] == '\0')
            abort();
        return 0;
    }
    if (!id_valid(q.store) || (q.repo[0] && !id_valid(q.repo)) || strchr(q.key, '/') ||
        q.key[0] == '.' || strchr(q.label, '\n'))
        abort();
    return 0;
}
