/* SPDX-License-Identifier: MIT */
/*
 * fuzz_envelope_v1.c - a payload in an envelope v1 that anybody wrote to: see fuzz_envelope.h.
 */
#include "fuzz_envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_envelope(data, size, ENVELOPE_V1);
    return 0;
}
