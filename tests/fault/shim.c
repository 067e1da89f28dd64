/* SPDX-License-Identifier: MIT */
/*
 * shim.c - stands between a program and libc, counts the calls that matter, and spoils one of them.
 *
 * Loaded by LD_PRELOAD. It is told what to do by the environment:
 *
 *   KEEPFS_SHIM_LEDGER   a file of sizeof(struct ledger) bytes, mapped by the shim and by whoever
 *                        drives it: counts, the order of calls, and what is told while it runs
 *   KEEPFS_SHIM_AREAS    NAME=/path:NAME=/path...: only what happens below these paths counts
 *   KEEPFS_SHIM_POINT    CALL PLACE#N=ACTION: what to spoil; absent: only count
 *   KEEPFS_SHIM_HOLD     CALL PLACE#N: this call waits until the ledger says `released`
 *
 * Threads of a daemon interleave, so that "the 100th call" is another one in each run. A point is
 * therefore a class and a number within it: `fsync repo/ULID.tmp/payload.bin#1` is the first fsync
 * of whatever archive's payload. A class is the name of the call, without the "64" of large files,
 * and a place:
 *
 *   - a path in one of the areas, with ULIDs written as ULID; descriptors are looked up in /proc,
 *     so that no table can go stale;
 *   - for calls without a path (malloc, pthread_create) the library that makes the call.
 *
 * What has no place is passed on and not counted: /dev/fuse, the log, libc's start. Counts live in
 * the ledger, which parent and child of a fork share, and which outlives a SIGKILL.
 *
 * Actions: an errno's name (once), the name with `+` (from then on every such call in that area),
 * kill-before, kill-after, short (half the bytes), flip (one bit of what is read or written), lie
 * (success without doing it).
 */
/* The plain names are wanted as they are: without redirection to their 64 twins or to checked ones.
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { CLASS = 120, CLASSES = 4096, ORDER = 1 << 16, AREAS = 8, LIBRARIES = 64 };
enum { ULID = 26 };

/* Shared with sandbox.py, which knows this layout. */
struct ledger {
    atomic_uint armed;    /* by the driver: count and spoil only now */
    atomic_uint hits;     /* how often the point was spoilt */
    atomic_uint held;     /* the call to be held is waiting */
    atomic_uint released; /* by the driver: it may go on */
    atomic_uint lock;
    atomic_uint calls; /* all that were counted, but for memory */
    uint32_t unused[10];
    struct class
    {
        char name[CLASS];
        uint32_t count, unused;
    } classes[CLASSES];
    uint32_t order[ORDER]; /* the class of each call */
};

enum action { GO, FAIL, KILL_BEFORE, KILL_AFTER, SHORT, FLIP, LIE };

struct place {
    char text[CLASS]; /* empty: does not count */
};

/* What is to happen to one call. */
struct point {
    enum action action;
    int err;
};

static struct ledger *ledger;

static struct {
    char class[CLASS], call[CLASS], area[CLASS];
    unsigned number;
    bool for_ever;
    struct point point;
    atomic_bool begun;
} target;

static struct {
    char class[CLASS];
    unsigned number;
} hold;

static struct area {
    char name[32], path[512];
} areas[AREAS];
static int area_count;

static struct library {
    char name[48];
    uintptr_t begin, end;
} libraries[LIBRARIES];
static int library_count;

/* ---- places ---- */

static bool is_ulid(const char *s)
{
    return strspn(s, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") >= ULID && s[0] <= '7';
}

/* A path as a class has it: area/rest, ULIDs and names made at random left out. */
static struct place place_of(const char *path)
{
    struct place p = {""};

    for (int i = 0; i < area_count; i++) {
        size_t len = strlen(areas[i].path), n;
        if (strncmp(path, areas[i].path, len) != 0 || (path[len] != '\0' && path[len] != '/'))
            continue;
        n = (size_t)snprintf(p.text, sizeof p.text, "%s", areas[i].name);
        for (const char *s = path + len; *s && *s != ' ' && n + 6 < sizeof p.text;) {
            if (strncmp(s, "/sqlite.", 8) == 0 || strncmp(s, "/etilqs_", 8) == 0) {
                n += (size_t)sprintf(p.text + n, "/*");
                break;
            }
            if (is_ulid(s)) {
                n += (size_t)sprintf(p.text + n, "ULID");
                s += ULID;
            } else {
                p.text[n++] = *s++;
            }
        }
        p.text[n] = '\0';
        break;
    }
    return p;
}

static bool fd_path(int fd, char *out, size_t size)
{
    char link[40];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static struct place on_fd(int fd)
{
    char path[1024];

    return fd_path(fd, path, sizeof path) ? place_of(path) : (struct place){""};
}

static struct place at_path(int dir, const char *path)
{
    char whole[1024];

    if (!path || path[0] == '/' || dir == AT_FDCWD)
        return place_of(path ? path : "");
    if (!fd_path(dir, whole, sizeof whole))
        return (struct place){""};
    size_t n = strlen(whole);
    if (strcmp(path, ".") != 0 && path[0] != '\0')
        snprintf(whole + n, sizeof whole - n, "/%s", path);
    return place_of(whole);
}

/* Whose code is it? A library that came later than the shim, or the loader: nobody's. */
static struct place in_code(const void *address)
{
    struct place p = {""};

    for (int i = 0; i < library_count; i++)
        if ((uintptr_t)address >= libraries[i].begin && (uintptr_t)address < libraries[i].end) {
            snprintf(p.text, sizeof p.text, "%s", libraries[i].name);
            break;
        }
    return p;
}

/* ---- counting and spoiling ---- */

/* The class's slot; found by its name, so that it is the same for all processes. */
static struct class *slot_of(const char *name)
{
    uint32_t hash = 2166136261u;

    for (const char *s = name; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 16777619u;
    for (unsigned i = 0; i < CLASSES; i++) {
        struct class *c = &ledger->classes[(hash + i) % CLASSES];
        if (c->name[0] == '\0')
            snprintf(c->name, sizeof c->name, "%s", name);
        if (strcmp(c->name, name) == 0)
            return c;
    }
    abort(); /* more classes than the ledger has room for: nothing it says could be trusted */
}

/* Counts a call and tells which of its class it is. */
static unsigned count(const char *class, bool in_order)
{
    while (atomic_exchange(&ledger->lock, 1))
        ;
    struct class *c = slot_of(class);
    unsigned number = ++c->count;
    if (in_order) {
        unsigned at = ledger->calls++;
        if (at < ORDER)
            ledger->order[at] = (uint32_t)(c - ledger->classes);
    }
    atomic_store(&ledger->lock, 0);
    return number;
}

/* By looking: the one who releases is another program, that writes a byte of the shared ledger. */
static void wait_for_release(void)
{
    ledger->held = 1;
    while (!ledger->released)
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static void die(void)
{
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

/* Is this call the one? Or, of a fault that stays, one like it and later. */
static bool is_target(const char *class, const char *call, const char *place, unsigned number)
{
    if (strcmp(class, target.class) == 0 && number == target.number) {
        target.begun = true;
        return true;
    }
    size_t len = strlen(target.area);
    return target.for_ever && target.begun && strcmp(call, target.call) == 0 &&
           strncmp(place, target.area, len) == 0 && (place[len] == '/' || place[len] == '\0');
}

static struct point enter(const char *call, struct place place, bool in_order)
{
    struct point at = {GO, 0};
    char class[CLASS];
    int saved = errno;

    if (place.text[0] == '\0') {
        errno = saved;
        return at;
    }
    snprintf(class, sizeof class, "%s %.*s", call, (int)(CLASS - 32), place.text);
    unsigned number = count(class, in_order);
    if (number == hold.number && strcmp(class, hold.class) == 0)
        wait_for_release();
    if (is_target(class, call, place.text, number)) {
        at = target.point;
        ledger->hits++;
        if (at.action == KILL_BEFORE)
            die();
    }
    errno = saved;
    return at;
}

static void leave(const struct point *at)
{
    if (at->action == KILL_AFTER)
        die();
}

/* Also false until the shim has read its orders: what libraries do before is nobody's business. */
static bool armed(void)
{
    return ledger && ledger->armed;
}

/* ---- orders ---- */

static const struct {
    const char *name;
    struct point point;
} actions[] = {
    {"EIO", {FAIL, EIO}},
    {"ENOSPC", {FAIL, ENOSPC}},
    {"EINTR", {FAIL, EINTR}},
    {"EMFILE", {FAIL, EMFILE}},
    {"ENOMEM", {FAIL, ENOMEM}},
    {"EACCES", {FAIL, EACCES}},
    {"EAGAIN", {FAIL, EAGAIN}},
    {"ENOLCK", {FAIL, ENOLCK}},
    {"ENOSYS", {FAIL, ENOSYS}},
    {"EINVAL", {FAIL, EINVAL}},
    {"EOPNOTSUPP", {FAIL, EOPNOTSUPP}},
    {"kill-before", {KILL_BEFORE, 0}},
    {"kill-after", {KILL_AFTER, 0}},
    {"short", {SHORT, 0}},
    {"flip", {FLIP, 0}},
    {"lie", {LIE, 0}},
};

__attribute__((noreturn)) static void refuse_order(const char *text)
{
    fprintf(stderr, "shim: cannot understand %s\n", text);
    _exit(127);
}

static void read_action(const char *text)
{
    size_t len = strcspn(text, "+");

    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strlen(actions[i].name) == len && strncmp(actions[i].name, text, len) == 0) {
            target.point = actions[i].point;
            target.for_ever = text[len] == '+';
            return;
        }
    refuse_order(text);
}

static void read_point(const char *text)
{
    char action[32];

    if (sscanf(text, "%119[^#]#%u=%31s", target.class, &target.number, action) != 3 ||
        sscanf(target.class, "%119s %119[^/]", target.call, target.area) != 2)
        refuse_order(text);
    read_action(action);
}

static void read_areas(const char *text)
{
    for (int n; area_count < AREAS && sscanf(text, "%31[^=]=%511[^:]%n", areas[area_count].name,
                                             areas[area_count].path, &n) == 2;
         text += n + (text[n] == ':'))
        area_count++;
    if (*text)
        refuse_order(text);
}

static int note_library(struct dl_phdr_info *info, size_t size, void *ctx)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = info->dlpi_name[0] == '\0' ? "program" : slash ? slash + 1 : info->dlpi_name;
    (void)size;
    (void)ctx;
    if (strncmp(name, "ld-linux", 8) == 0 || strstr(name, "shim") || strstr(name, "vdso"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && library_count < LIBRARIES; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X))
            continue;
        struct library *l = &libraries[library_count++];
        snprintf(l->name, sizeof l->name, "%.*s", (int)strcspn(name, "."), name);
        l->begin = info->dlpi_addr + h->p_vaddr;
        l->end = l->begin + h->p_memsz;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("KEEPFS_SHIM_LEDGER"), *list = getenv("KEEPFS_SHIM_AREAS");
    const char *point = getenv("KEEPFS_SHIM_POINT"), *held = getenv("KEEPFS_SHIM_HOLD");

    if (!path || !list)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || map == MAP_FAILED)
        refuse_order(path);
    close(fd);
    read_areas(list);
    dl_iterate_phdr(note_library, NULL);
    if (point)
        read_point(point);
    if (held && sscanf(held, "%119[^#]#%u", hold.class, &hold.number) != 2)
        refuse_order(held);
    ledger = map;
}

#include "shim_calls.h"
