/* SPDX-License-Identifier: MIT */
/*
 * ulid.c - monotonic within the process: within one ms, or when the clock went back, the last id
 * plus one. Source: https://github.com/ulid/spec
 */
#include "util/ulid.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

enum { BYTES = 16, TIME_BYTES = 6 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char last[BYTES]; /* big endian; guarded by lock */

/* 128 bits as 26 digits of 5 bits; the first has 3. */
static void encode(const unsigned char id[BYTES], char out[ULID_LEN + 1])
{
    for (int i = 0; i < ULID_LEN; i++) {
        int bit = i * 5 - 2; /* position of the digit's first bit */
        unsigned value = 0;
        for (int b = bit; b < bit + 5; b++)
            value = value << 1 | (b < 0 ? 0u : (unsigned)(id[b / 8] >> (7 - b % 8)) & 1u);
        out[i] = alphabet[value];
    }
    out[ULID_LEN] = '\0';
}

static void increment(unsigned char id[BYTES])
{
    for (int i = BYTES - 1; i >= 0 && ++id[i] == 0; i--)
        ;
}

static void fill_random(unsigned char *p, size_t len)
{
    ssize_t n;

    do
        n = getrandom(p, len, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)len) {
        fputs("keepfs: the kernel gives no randomness\n", stderr);
        abort();
    }
}

void ulid_new(time_ms now, char out[ULID_LEN + 1])
{
    unsigned char id[BYTES];

    for (int i = 0; i < TIME_BYTES; i++)
        id[i] = (unsigned char)((uint64_t)now >> (8 * (TIME_BYTES - 1 - i)));
    fill_random(id + TIME_BYTES, BYTES - TIME_BYTES);

    pthread_mutex_lock(&lock);
    if (memcmp(id, last, TIME_BYTES) <= 0) {
        memcpy(id, last, BYTES);
        increment(id);
    }
    memcpy(last, id, BYTES);
    pthread_mutex_unlock(&lock);
    encode(id, out);
}

bool ulid_valid(const char *text)
{
    return strlen(text) == ULID_LEN && text[0] <= '7' && strspn(text, alphabet) == ULID_LEN;
}

time_ms ulid_time(const char *text)
{
    uint64_t ms = 0;

    for (int i = 0; i < 10; i++)
        ms = ms << 5 | (uint64_t)(strchr(alphabet, text[i]) - alphabet);
    return (time_ms)ms;
}
