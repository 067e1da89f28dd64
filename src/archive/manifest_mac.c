/* SPDX-License-Identifier: MIT */
/*
 * manifest_mac.c - the MAC of an encrypted archive's manifest: found, made and checked.
 *
 * The MAC is over bytes, so it is found in bytes: the text must end with one line of fixed length
 * whose every byte but the 64 digits is given. All before that line is covered, comments and white
 * space too; nothing is behind it. What is covered does not depend on how YAML is read.
 *
 * Its key is derived from the master key for this purpose and this store alone: a manifest cannot
 * be moved to another store of the same key, and no other use of the key makes MACs that fit. The
 * id of the record is in the text. Derived keys are wiped before anything is returned.
 */
#include "archive/manifest_fields.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define MAC_INFO  "keepfs manifest mac v1"
#define MAC_BYTES (SHA256_HEX / 2)

bool manifest_mac_find(const char *text, size_t len, size_t *covered, char mac[MAC_TEXT + 1])
{
    static const char head[] = "\n" MAC_KEY ": " MAC_PREFIX;
    size_t head_len = sizeof head - 1;

    if (len < 1 + MAC_LINE || text[len - 1] != '\n')
        return false;
    const char *line = text + len - MAC_LINE;
    if (memcmp(line - 1, head, head_len) != 0)
        return false;
    memcpy(mac, line + MAC_LINE - 1 - MAC_TEXT, MAC_TEXT);
    mac[MAC_TEXT] = '\0';
    *covered = (size_t)(line - text);
    return strspn(mac + strlen(MAC_PREFIX), "0123456789abcdef") == SHA256_HEX;
}

static int derive(const struct key *key, const char *store_id, unsigned char out[KEY_BYTES],
                  struct error *err)
{
    char info[sizeof MAC_INFO + LIMIT_ID];
    int len = snprintf(info, sizeof info, MAC_INFO "%s", store_id);

    return key_derive(key, NULL, 0, info, (size_t)len, out, KEY_BYTES, err);
}

int manifest_mac_make(const struct key *key, const char *store_id, const char *text, size_t len,
                      char mac[MAC_TEXT + 1], struct error *err)
{
    unsigned char derived[KEY_BYTES], raw[MAC_BYTES];
    size_t made = 0;

    if (derive(key, store_id, derived, err) != 0)
        return -1;
    bool ok = EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, derived, sizeof derived,
                        (const unsigned char *)text, len, raw, sizeof raw, &made) &&
              made == sizeof raw;
    OPENSSL_cleanse(derived, sizeof derived);
    if (!ok)
        return error_set(err, ERR_INTERNAL, "OpenSSL cannot compute HMAC-SHA256");
    memcpy(mac, MAC_PREFIX, strlen(MAC_PREFIX));
    char *out = mac + strlen(MAC_PREFIX);
    for (size_t i = 0; i < sizeof raw; i++) {
        *out++ = "0123456789abcdef"[raw[i] >> 4];
        *out++ = "0123456789abcdef"[raw[i] & 15];
    }
    *out = '\0';
    return 0;
}

int manifest_authenticate(const struct manifest *m, const char *text, size_t len,
                          const struct key *key, struct error *err)
{
    char said[MAC_TEXT + 1], right[MAC_TEXT + 1];
    size_t covered;

    if (!manifest_has_mac(m) || !manifest_mac_find(text, len, &covered, said))
        return error_set(err, ERR_MANIFEST_INVALID, "manifest altered: it has no " MAC_KEY);
    if (manifest_mac_make(key, m->store_id, text, covered, right, err) != 0)
        return -1;
    if (CRYPTO_memcmp(said, right, MAC_TEXT) != 0)
        return error_set(err, ERR_MANIFEST_INVALID,
                         "manifest altered: its " MAC_KEY " is not of these bytes and this key");
    return 0;
}
