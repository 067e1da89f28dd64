/* SPDX-License-Identifier: MIT */
/*
 * fuzz_manifest.c - a manifest from a repo that anybody wrote to: refused with a sentence, or read
 * into a manifest that writes and reads back as itself.
 */
#include "archive/manifest.h"
#include "util/ulid.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest m, again;
    struct error err = {0};
    struct buf text = BUF_INIT;

    if (manifest_read((const char *)data, size, &m, &err) != 0) {
        if ((err.code != ERR_MANIFEST_INVALID && err.code != ERR_MANIFEST_UNSUPPORTED) ||
            err.message[0] == '\0')
            abort();
        return 0;
    }
    if (!ulid_valid(m.backup_id) || strlen(m.stored.sha256) != SHA256_HEX)
        abort();
    if (manifest_write(&m, &text, &err) == 0) {
        if (manifest_read(text.data, text.len, &again, &err) != 0 ||
            strcmp(m.backup_id, again.backup_id) != 0 || m.stored.size != again.stored.size)
            abort();
        manifest_release(&again);
    }
    buf_release(&text);
    manifest_release(&m);
    return 0;
}
