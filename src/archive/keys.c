/* SPDX-License-Identifier: MIT */
/*
 * keys.c - pages that hold a key, and the two places keys come from.
 *
 * A struct key is the start of an anonymous page that is locked, excluded from core dumps and
 * zeroed in children. `live` tells a key from a page that a fork has wiped: to use the latter would
 * encrypt under a key of zeros. Bytes go from their file or hex digits straight into the page; no
 * copy is made on the stack or the heap.
 *
 * The vault is the process's list of keys that came from the environment, newest first; guarded by
 * its lock, which is also held while the environment is changed. An entry stays for good. A
 * variable whose value is no key is left as it is, so that every load says the same of it.
 *
 * A file is judged by fstat of the descriptor that is then read. O_NONBLOCK keeps a FIFO from
 * blocking the open, O_NOFOLLOW refuses a symlink as the last component.
 */
#include "archive/keys.h"

#include "archive/hkdf.h"
#include "util/buf.h"
#include "util/fsutil.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_SCHEME  "env:"
#define FILE_SCHEME "file:"
#define UPPER       "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define WHITE       " \t\r\n\v\f"
#define ALLOWED     "write env:NAME or file:/absolute/path"
#define BAD_REF     ERR_DESTINATION_CONFIG_INVALID
#define NO_KEY      ERR_DESTINATION_CREDENTIALS_INVALID

/* ---- the page ---- */

struct key {
    unsigned char bytes[KEY_BYTES];
    unsigned char live;
};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void protect_page(void *page)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;

    if (mlock(page, page_size()) != 0 && !atomic_flag_test_and_set(&warned))
        log_warn("a key's memory cannot be locked and may reach the swap: raise RLIMIT_MEMLOCK");
    if ((madvise(page, page_size(), MADV_DONTDUMP) != 0 ||
         madvise(page, page_size(), MADV_WIPEONFORK) != 0) &&
        !atomic_flag_test_and_set(&warned))
        log_warn("a key's memory cannot be kept out of core dumps and children: %s",
                 strerror(errno));
}

static struct key *key_alloc(void)
{
    void *page =
        mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        log_error("out of memory for a key");
        abort();
    }
    protect_page(page);
    struct key *k = page;
    k->live = 1;
    return k;
}

struct key *key_new(const unsigned char *bytes)
{
    struct key *k = key_alloc();

    memcpy(k->bytes, bytes, KEY_BYTES);
    return k;
}

void key_free(struct key *k)
{
    if (!k)
        return;
    OPENSSL_cleanse(k, sizeof *k);
    munmap(k, page_size());
}

const unsigned char *key_bytes(const struct key *k)
{
    /* In a child after fork there are zeros in the page: never to be taken for a key. */
    if (!k->live)
        abort();
    return k->bytes;
}

/* ---- the shape of a reference ---- */

static bool has_scheme(const char *ref, const char *scheme)
{
    return strncmp(ref, scheme, strlen(scheme)) == 0;
}

static const char *env_fault(const char *name)
{
    if (strlen(name) == 2 * (size_t)KEY_BYTES && strspn(name, "0123456789ABCDEF") == strlen(name))
        return "this looks like the key itself: put it into a variable and name that";
    if (*name && strchr(UPPER "_", *name) && name[strspn(name, UPPER "_0123456789")] == '\0')
        return NULL;
    return "the name of a variable must match [A-Z_][A-Z0-9_]*";
}

static const char *file_fault(const char *path)
{
    if (*path != '/')
        return "the path of a key file must be absolute";
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return "the path of a key file must have no control characters";
    return NULL;
}

/* What is wrong with it, or NULL. Says nothing of its text: people do put the key itself here. */
static const char *ref_fault(const char *ref)
{
    if (strlen(ref) > KEY_REF_MAX)
        return "a reference to a key is too long";
    if (has_scheme(ref, ENV_SCHEME))
        return env_fault(ref + strlen(ENV_SCHEME));
    if (has_scheme(ref, FILE_SCHEME))
        return file_fault(ref + strlen(FILE_SCHEME));
    return "this is no reference to a key";
}

int key_ref_check(const char *ref, char *why, size_t why_size)
{
    const char *fault = ref_fault(ref);

    if (!fault)
        return 0;
    snprintf(why, why_size, "%s: " ALLOWED, fault);
    return -1;
}

const char *key_ref_path(const char *ref)
{
    return has_scheme(ref, FILE_SCHEME) ? ref + strlen(FILE_SCHEME) : NULL;
}

static int check_ref(const char *ref, struct error *err)
{
    const char *fault = ref_fault(ref);

    return fault ? error_set(err, BAD_REF, "%s: " ALLOWED, fault) : 0;
}

/* A file that a crash left full of zeros, or a variable that somebody filled in for a test, is no
 * secret, and everything would seem to work. */
static int check_bytes(const struct key *k, const char *ref, struct error *err)
{
    for (size_t i = 1; i < KEY_BYTES; i++)
        if (k->bytes[i] != k->bytes[0])
            return 0;
    return error_set(err, NO_KEY, "%s: all %d bytes are the same: that is no random key", ref,
                     KEY_BYTES);
}

/* ---- from a file ---- */

static int cannot(struct error *err, const char *ref, const char *what, int errnum)
{
    error_set(err, NO_KEY, "%s: the key file cannot be %s: %s", ref, what, strerror(errnum));
    err->errnum = errnum;
    return -1;
}

static int open_failed(struct error *err, const char *ref, int errnum)
{
    if (errnum == ENOENT)
        cannot(err, ref, "found", errnum);
    else if (errnum == ELOOP)
        error_set(err, BAD_REF, "%s is a symlink: name the key file itself", ref);
    else
        cannot(err, ref, "opened", errnum);
    err->errnum = errnum;
    return -1;
}

static int judge_file(const struct stat *st, const char *ref, struct error *err)
{
    if (S_ISDIR(st->st_mode))
        return error_set(err, BAD_REF, "%s is a directory: name a file of %d bytes", ref,
                         KEY_BYTES);
    if (S_ISFIFO(st->st_mode))
        return error_set(err, BAD_REF, "%s is a FIFO: name a file of %d bytes", ref, KEY_BYTES);
    if (!S_ISREG(st->st_mode))
        return error_set(err, BAD_REF, "%s is a device: name a file of %d bytes", ref, KEY_BYTES);
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return error_set(err, NO_KEY,
                         "%s belongs to user %u: it must belong to root or to the user that runs "
                         "keepfs",
                         ref, st->st_uid);
    if (st->st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, NO_KEY, "%s can be used by group or others (mode %03o): chmod it 600",
                         ref, st->st_mode & 0777);
    if (st->st_size != KEY_BYTES)
        return error_set(err, NO_KEY, "%s has %jd bytes: a key file has exactly %d", ref,
                         (intmax_t)st->st_size, KEY_BYTES);
    return 0;
}

/* A descriptor of a key file that is fit to be read, or -1. */
static int open_file(const char *ref, struct error *err)
{
    struct stat st;
    int fd =
        open(ref + strlen(FILE_SCHEME), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return open_failed(err, ref, errno);
    int result =
        fstat(fd, &st) != 0 ? cannot(err, ref, "examined", errno) : judge_file(&st, ref, err);
    if (result != 0)
        fd_close(&fd);
    return fd;
}

static int load_file(const char *ref, struct key **out, struct error *err)
{
    __attribute__((cleanup(fd_close))) int fd = open_file(ref, err);

    if (fd < 0)
        return -1;
    struct key *k = key_alloc();
    ssize_t n = fd_pread_all(fd, k->bytes, KEY_BYTES, 0);
    int errnum = n < 0 ? errno : EIO; /* EIO: it shrank since it was examined */
    if (n != KEY_BYTES)
        cannot(err, ref, "read", errnum);
    else if (check_bytes(k, ref, err) == 0) {
        *out = k;
        return 0;
    }
    key_free(k);
    return -1;
}

/* ---- from the environment ---- */

struct vault_entry {
    struct vault_entry *next;
    char *name;
    struct key *key;
};

static struct vault_entry *vault;
static pthread_mutex_t vault_lock = PTHREAD_MUTEX_INITIALIZER;

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool decode(const char *hex, unsigned char *bytes)
{
    for (size_t i = 0; i < KEY_BYTES; i++) {
        int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* The key of the variable as it stands in the environment. */
static int read_variable(const char *ref, struct key **out, struct error *err)
{
    const char *value = getenv(ref + strlen(ENV_SCHEME));

    if (!value || value[strspn(value, WHITE)] == '\0')
        return error_set(err, NO_KEY, "%s: the variable is %s: set it to the key's %d hex digits",
                         ref, value ? "empty" : "not set", 2 * KEY_BYTES);
    value += strspn(value, WHITE);
    size_t len = strlen(value);
    while (strchr(WHITE, value[len - 1]))
        len--;
    struct key *k = key_alloc();
    if (len != 2 * (size_t)KEY_BYTES || !decode(value, k->bytes))
        error_set(err, NO_KEY, "%s: the variable's value must be exactly %d hex digits", ref,
                  2 * KEY_BYTES);
    else if (check_bytes(k, ref, err) == 0) {
        *out = k;
        return 0;
    }
    key_free(k);
    return -1;
}

/* With the lock held. Every entry of that name is wiped where it stands: that is what
 * /proc/PID/environ shows. */
static void wipe_variable(const char *name)
{
    size_t len = strlen(name);

    for (char **entry = environ; entry && *entry; entry++)
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            OPENSSL_cleanse(*entry + len + 1, strlen(*entry + len + 1));
    unsetenv(name);
}

/* With the lock held: the key of the variable, which from now on only the vault has. */
static int move_to_vault(const char *ref, const struct key **out, struct error *err)
{
    const char *name = ref + strlen(ENV_SCHEME);
    struct key *key = NULL;

    for (struct vault_entry *v = vault; v; v = v->next)
        if (strcmp(v->name, name) == 0) {
            *out = v->key;
            return 0;
        }
    if (read_variable(ref, &key, err) != 0)
        return -1;
    struct vault_entry *v = xmalloc(sizeof *v);
    *v = (struct vault_entry){.next = vault, .name = xstrdup(name), .key = key};
    vault = v;
    wipe_variable(name);
    *out = key;
    return 0;
}

static int load_variable(const char *ref, struct key **out, struct error *err)
{
    const struct key *kept;

    pthread_mutex_lock(&vault_lock);
    int result = move_to_vault(ref, &kept, err);
    pthread_mutex_unlock(&vault_lock);
    if (result == 0)
        *out = key_new(key_bytes(kept));
    return result;
}

void key_ref_forget(const char *ref)
{
    if (ref_fault(ref) || !has_scheme(ref, ENV_SCHEME))
        return;
    pthread_mutex_lock(&vault_lock);
    wipe_variable(ref + strlen(ENV_SCHEME));
    pthread_mutex_unlock(&vault_lock);
}

/* ---- from either ---- */

int key_load(const char *ref, struct key **out, struct error *err)
{
    if (check_ref(ref, err) != 0)
        return -1;
    return has_scheme(ref, FILE_SCHEME) ? load_file(ref, out, err) : load_variable(ref, out, err);
}

int key_ref_probe(const char *ref, struct error *err)
{
    if (check_ref(ref, err) != 0)
        return -1;
    if (!has_scheme(ref, FILE_SCHEME))
        return 0;
    int fd = open_file(ref, err);
    if (fd < 0)
        return -1;
    fd_close(&fd);
    return 0;
}

/* ---- what is derived ---- */

int key_derive(const struct key *k, const void *salt, size_t salt_len, const void *info,
               size_t info_len, void *out, size_t len, struct error *err)
{
    const struct hkdf in = {.key = key_bytes(k),
                            .key_len = KEY_BYTES,
                            .salt = salt,
                            .salt_len = salt_len,
                            .info = info,
                            .info_len = info_len};

    return hkdf_sha256(&in, out, len, err);
}

int key_id(const struct key *k, char out[KEY_ID_HEX + 1], struct error *err)
{
    static const char info[] = "keepfs key id";
    unsigned char id[KEY_ID_HEX / 2];

    if (key_derive(k, NULL, 0, info, strlen(info), id, sizeof id, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof id; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
    return 0;
}

/* ---- one among several ---- */

/* Loads the key of `ref` if it has that id; else *out stays and `found` gets the id it has. */
static int try_ref(const char *ref, const char *id, struct key **out, struct buf *found,
                   struct error *err)
{
    char its_id[KEY_ID_HEX + 1];
    struct key *k;

    if (key_load(ref, &k, err) != 0)
        return -1;
    if (key_id(k, its_id, err) != 0) {
        key_free(k);
        return -1;
    }
    if (strcmp(its_id, id) == 0) {
        *out = k;
        return 0;
    }
    key_free(k);
    buf_addf(found, "%s%s", found->len ? ", " : "", its_id);
    return 0;
}

static int none_fits(const char *id, const struct buf *found, const struct error *unloaded,
                     struct error *err)
{
    if (unloaded->code != ERR_NONE)
        return error_set(err, NO_KEY, "the key %s may be one that cannot be loaded: %s", id,
                         unloaded->message);
    if (found->len == 0)
        return error_set(err, NO_KEY, "the key %s is needed and no key is configured", id);
    return error_set(err, ERR_DECRYPT_FAILED,
                     "wrong key: the key %s is needed, the configured ones are %s", id,
                     found->data);
}

int keyring_find(const struct keyring *ring, const char *id, struct key **out, struct error *err)
{
    struct error unloaded = {0}, one;
    struct buf found = BUF_INIT;
    struct key *k = NULL;

    for (size_t i = 0; i < ring->count && !k; i++)
        if (try_ref(ring->refs[i], id, &k, &found, &one) != 0 && unloaded.code == ERR_NONE)
            unloaded = one;
    int result = k ? 0 : none_fits(id, &found, &unloaded, err);
    if (k)
        *out = k;
    buf_release(&found);
    return result;
}
