/* SPDX-License-Identifier: MIT */
/*
 * fuzz_manifest.c - a manifest from a repo that anybody wrote to: refused with a sentence, or read
 * into a manifest that writes and reads back as itself. None is authentic under a key that signed
 * none of the corpus; what is written under it is, if it is encrypted.
 */
#include "archive/manifest.h"
#include "util/ulid.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static struct key *fixed_key(void)
{
    static const unsigned char bytes[KEY_BYTES] = "no manifest of ours has this key";
    struct key *key = key_new(bytes);

    check(key != NULL);
    return key;
}

static void round_trip(const struct manifest *m, const struct key *key)
{
    bool signed_too = m->version == MANIFEST_V2 && m->encrypted;
    struct manifest again;
    struct error err = {0};
    struct buf text = BUF_INIT;

    /* Quotes and escapes may make a text longer than it was, so also too long. */
    if (manifest_write(m, key, &text, &err) == 0) {
        check(manifest_read(text.data, text.len, &again, &err) == 0);
        check(strcmp(m->backup_id, again.backup_id) == 0);
        check(m->stored.size == again.stored.size && m->envelope == again.envelope);
        check((manifest_authenticate(&again, text.data, text.len, key, &err) == 0) == signed_too);
        manifest_release(&again);
    }
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct manifest m;
    struct error err = {0};

    if (manifest_read(text, size, &m, &err) != 0) {
        check(err.code == ERR_MANIFEST_INVALID || err.code == ERR_MANIFEST_UNSUPPORTED);
        check(err.message[0] != '\0');
        return 0;
    }
    check(ulid_valid(m.backup_id) && strlen(m.stored.sha256) == SHA256_HEX);
    struct key *key = fixed_key();
    check(manifest_authenticate(&m, text, size, key, &err) != 0);
    round_trip(&m, key);
    key_free(key);
    manifest_release(&m);
    return 0;
}
