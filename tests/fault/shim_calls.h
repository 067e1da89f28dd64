/* SPDX-License-Identifier: MIT */
/*
 * shim_calls.h - the calls that the shim stands in for; the second half of shim.c.
 *
 * Most are one row: WRAP says what a call is, where it happens and what it returns when it fails.
 * Those that move bytes can also be cut short or have a bit flipped, and are written out.
 * malloc and its family are counted by the library that calls them; they never take the way through
 * dlsym, which needs memory itself.
 */
#ifndef KEEPFS_TESTS_SHIM_CALLS_H
#define KEEPFS_TESTS_SHIM_CALLS_H

/* The function that is stood in for: looked up at its first call. */
#define REAL(ret, name, params)                                                                    \
    static ret(*real) params;                                                                      \
    if (!real)                                                                                     \
    real = (ret(*) params)dlsym(RTLD_NEXT, #name)

#define ENTER(call, place) (armed() ? enter(call, place, true) : (struct point){GO, 0})

/* A call that fails with `failed` and errno, at `place`. */
#define WRAP(ret, failed, name, call, place, params, ...)                                          \
    ret name params                                                                                \
    {                                                                                              \
        REAL(ret, name, params);                                                                   \
        struct point at = ENTER(call, place);                                                      \
        if (at.action == LIE)                                                                      \
            return (ret)0;                                                                         \
        if (at.action == FAIL) {                                                                   \
            errno = at.err;                                                                        \
            return failed;                                                                         \
        }                                                                                          \
        ret result = real(__VA_ARGS__);                                                            \
        leave(&at);                                                                                \
        return result;                                                                             \
    }

#define CALLER in_code(__builtin_return_address(0))

/* ---- durability, names, attributes ---- */

WRAP(int, -1, fsync, "fsync", on_fd(fd), (int fd), fd)
WRAP(int, -1, fdatasync, "fdatasync", on_fd(fd), (int fd), fd)
WRAP(int, -1, sync_file_range, "sync_file_range", on_fd(fd),
     (int fd, off64_t from, off64_t len, unsigned how), fd, from, len, how)
WRAP(int, -1, ftruncate, "ftruncate", on_fd(fd), (int fd, off_t len), fd, len)
WRAP(int, -1, ftruncate64, "ftruncate", on_fd(fd), (int fd, off64_t len), fd, len)
WRAP(int, -1, fallocate, "fallocate", on_fd(fd), (int fd, int mode, off_t at_, off_t len), fd, mode,
     at_, len)
WRAP(int, -1, fallocate64, "fallocate", on_fd(fd), (int fd, int mode, off64_t at_, off64_t len), fd,
     mode, at_, len)
WRAP(int, -1, rename, "rename", at_path(AT_FDCWD, to), (const char *from, const char *to), from, to)
WRAP(int, -1, renameat, "renameat", at_path(to_dir, to),
     (int from_dir, const char *from, int to_dir, const char *to), from_dir, from, to_dir, to)
WRAP(int, -1, renameat2, "renameat2", at_path(to_dir, to),
     (int from_dir, const char *from, int to_dir, const char *to, unsigned flags), from_dir, from,
     to_dir, to, flags)
WRAP(int, -1, link, "link", at_path(AT_FDCWD, to), (const char *from, const char *to), from, to)
WRAP(int, -1, linkat, "linkat", at_path(to_dir, to),
     (int from_dir, const char *from, int to_dir, const char *to, int flags), from_dir, from,
     to_dir, to, flags)
WRAP(int, -1, symlinkat, "symlinkat", at_path(dir, path),
     (const char *text, int dir, const char *path), text, dir, path)
WRAP(int, -1, unlink, "unlink", at_path(AT_FDCWD, path), (const char *path), path)
WRAP(int, -1, unlinkat, "unlinkat", at_path(dir, path), (int dir, const char *path, int flags), dir,
     path, flags)
WRAP(int, -1, mkdir, "mkdir", at_path(AT_FDCWD, path), (const char *path, mode_t mode), path, mode)
WRAP(int, -1, mkdirat, "mkdirat", at_path(dir, path), (int dir, const char *path, mode_t mode), dir,
     path, mode)
WRAP(int, -1, rmdir, "rmdir", at_path(AT_FDCWD, path), (const char *path), path)
WRAP(int, -1, chmod, "chmod", at_path(AT_FDCWD, path), (const char *path, mode_t mode), path, mode)
WRAP(int, -1, fchmod, "fchmod", on_fd(fd), (int fd, mode_t mode), fd, mode)
WRAP(int, -1, fchown, "fchown", on_fd(fd), (int fd, uid_t uid, gid_t gid), fd, uid, gid)
WRAP(int, -1, utimensat, "utimensat", at_path(dir, path),
     (int dir, const char *path, const struct timespec times[2], int flags), dir, path, times,
     flags)
WRAP(int, -1, futimens, "futimens", on_fd(fd), (int fd, const struct timespec times[2]), fd, times)
WRAP(int, -1, flock, (how & LOCK_UN) ? "flock-unlock" : "flock", on_fd(fd), (int fd, int how), fd,
     how)

/* ---- looking ---- */

WRAP(int, -1, fstat, "fstat", on_fd(fd), (int fd, struct stat *st), fd, st)
WRAP(int, -1, fstat64, "fstat", on_fd(fd), (int fd, struct stat64 *st), fd, st)
WRAP(int, -1, stat, "stat", at_path(AT_FDCWD, path), (const char *path, struct stat *st), path, st)
WRAP(int, -1, stat64, "stat", at_path(AT_FDCWD, path), (const char *path, struct stat64 *st), path,
     st)
WRAP(int, -1, lstat, "lstat", at_path(AT_FDCWD, path), (const char *path, struct stat *st), path,
     st)
WRAP(int, -1, lstat64, "lstat", at_path(AT_FDCWD, path), (const char *path, struct stat64 *st),
     path, st)
WRAP(int, -1, fstatat, "fstatat", at_path(dir, path),
     (int dir, const char *path, struct stat *st, int flags), dir, path, st, flags)
WRAP(int, -1, fstatat64, "fstatat", at_path(dir, path),
     (int dir, const char *path, struct stat64 *st, int flags), dir, path, st, flags)
WRAP(int, -1, statx, "statx", at_path(dir, path),
     (int dir, const char *path, int flags, unsigned mask, struct statx *st), dir, path, flags,
     mask, st)
WRAP(int, -1, access, "access", at_path(AT_FDCWD, path), (const char *path, int how), path, how)
WRAP(int, -1, faccessat, "faccessat", at_path(dir, path),
     (int dir, const char *path, int how, int flags), dir, path, how, flags)
WRAP(int, -1, statfs64, "statfs", at_path(AT_FDCWD, path), (const char *path, struct statfs64 *st),
     path, st)
WRAP(int, -1, statvfs64, "statvfs", at_path(AT_FDCWD, path),
     (const char *path, struct statvfs64 *st), path, st)
WRAP(ssize_t, -1, readlinkat, "readlinkat", at_path(dir, path),
     (int dir, const char *path, char *out, size_t size), dir, path, out, size)
WRAP(off64_t, -1, lseek64, "lseek", on_fd(fd), (int fd, off64_t to, int whence), fd, to, whence)
WRAP(ssize_t, -1, flistxattr, "flistxattr", on_fd(fd), (int fd, char *out, size_t size), fd, out,
     size)
WRAP(ssize_t, -1, fgetxattr, "fgetxattr", on_fd(fd),
     (int fd, const char *name, void *out, size_t size), fd, name, out, size)
WRAP(DIR *, NULL, opendir, "opendir", at_path(AT_FDCWD, path), (const char *path), path)
WRAP(DIR *, NULL, fdopendir, "fdopendir", on_fd(fd), (int fd), fd)
WRAP(struct dirent *, NULL, readdir, "readdir", on_fd(dirfd(dir)), (DIR * dir), dir)
WRAP(struct dirent64 *, NULL, readdir64, "readdir", on_fd(dirfd(dir)), (DIR * dir), dir)
WRAP(ssize_t, -1, getdents64, "getdents64", on_fd(fd), (int fd, void *out, size_t size), fd, out,
     size)
WRAP(char *, NULL, realpath, "realpath", at_path(AT_FDCWD, path), (const char *path, char *out),
     path, out)

/* ---- opening and closing ---- */

/* The mode counts only if something may be made; passing it on regardless is harmless. */
#define WRAP_OPEN(name)                                                                            \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;                    \
        va_end(ap);                                                                                \
        return open_at(AT_FDCWD, path, flags, mode);                                               \
    }
#define WRAP_OPENAT(name)                                                                          \
    int name(int dir, const char *path, int flags, ...)                                            \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;                    \
        va_end(ap);                                                                                \
        return open_at(dir, path, flags, mode);                                                    \
    }

/* An open that may make a file changes something, one that may not only looks. */
static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    struct point at = ENTER(flags & O_CREAT ? "create" : "open", at_path(dir, path));

    if (at.action == FAIL) {
        errno = at.err;
        return -1;
    }
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    leave(&at);
    return fd;
}

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

int __openat64_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags)
{
    return open_at(dir, path, flags, 0);
}

WRAP(FILE *, NULL, fopen, "fopen", at_path(AT_FDCWD, path), (const char *path, const char *mode),
     path, mode)
WRAP(FILE *, NULL, fopen64, "fopen", at_path(AT_FDCWD, path), (const char *path, const char *mode),
     path, mode)
WRAP(int, -1, mkostemp64, "mkostemp", at_path(AT_FDCWD, path), (char *path, int flags), path, flags)

/* As the kernel does it: the descriptor is gone, whatever the answer. */
int close(int fd)
{
    struct point at = ENTER("close", on_fd(fd));
    int result = (int)syscall(SYS_close, fd);

    leave(&at);
    if (at.action != FAIL)
        return result;
    errno = at.err;
    return -1;
}

/* Locks alone, not the flags of descriptors. One that cannot be given back is still held. */
#define WRAP_FCNTL(name)                                                                           \
    int name(int fd, int what, ...)                                                                \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, what);                                                                        \
        void *arg = va_arg(ap, void *);                                                            \
        va_end(ap);                                                                                \
        struct point at = {GO, 0};                                                                 \
        bool locks = what == F_SETLK || what == F_SETLKW || what == F_OFD_SETLK;                   \
        if (locks)                                                                                 \
            at = ENTER(((const struct flock *)arg)->l_type == F_UNLCK ? "fcntl-unlock"             \
                                                                      : "fcntl-lock",              \
                       on_fd(fd));                                                                 \
        if (at.action == FAIL) {                                                                   \
            errno = at.err;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        int result = (int)syscall(SYS_fcntl, fd, what, arg);                                       \
        leave(&at);                                                                                \
        return result;                                                                             \
    }
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

int posix_fadvise64(int fd, off64_t from, off64_t len, int advice)
{
    REAL(int, posix_fadvise64, (int, off64_t, off64_t, int));
    struct point at = ENTER("posix_fadvise", on_fd(fd));

    return at.action == FAIL ? at.err : real(fd, from, len, advice);
}

/* ---- bytes ---- */

static size_t shorten(const struct point *at, size_t len)
{
    return at->action == SHORT && len > 1 ? len / 2 : len;
}

static ssize_t finish_read(const struct point *at, void *data, ssize_t n)
{
    if (at->action == FLIP && n > 0)
        ((char *)data)[n / 2] ^= 1;
    leave(at);
    return n;
}

/* Libc's own, and no bare system call: libfuse ends its threads by cancelling this. */
ssize_t read(int fd, void *data, size_t len)
{
    REAL(ssize_t, read, (int, void *, size_t));
    struct point at = ENTER("read", on_fd(fd));

    if (at.action == FAIL) {
        errno = at.err;
        return -1;
    }
    return finish_read(&at, data, real(fd, data, shorten(&at, len)));
}

static ssize_t read_at(int fd, void *data, size_t len, off64_t from)
{
    struct point at = ENTER("pread", on_fd(fd));

    if (at.action == FAIL) {
        errno = at.err;
        return -1;
    }
    return finish_read(&at, data, syscall(SYS_pread64, fd, data, shorten(&at, len), from));
}

ssize_t pread(int fd, void *data, size_t len, off_t from)
{
    return read_at(fd, data, len, from);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t from)
{
    return read_at(fd, data, len, from);
}

/* `from` is -1 for a write at the descriptor's own position. */
static ssize_t write_at(const char *call, int fd, const void *data, size_t len, off64_t from)
{
    struct point at = ENTER(call, on_fd(fd));
    unsigned char *spoilt = NULL;

    if (at.action == FAIL) {
        errno = at.err;
        return -1;
    }
    if (at.action == FLIP && len > 0 && (spoilt = malloc(len))) {
        memcpy(spoilt, data, len);
        spoilt[len / 2] ^= 1;
        data = spoilt;
    }
    len = shorten(&at, len);
    ssize_t n =
        from < 0 ? syscall(SYS_write, fd, data, len) : syscall(SYS_pwrite64, fd, data, len, from);
    int saved = errno;
    free(spoilt);
    errno = saved;
    leave(&at);
    return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
    return write_at("write", fd, data, len, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t from)
{
    return write_at("pwrite", fd, data, len, from);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t from)
{
    return write_at("pwrite", fd, data, len, from);
}

WRAP(ssize_t, -1, writev, "writev", on_fd(fd), (int fd, const struct iovec *parts, int n), fd,
     parts, n)

/* ---- of the process, by who asks for it ---- */

/* A file by its path; what belongs to no file, by the library that wants it. */
static struct place mapped(int fd, const void *caller)
{
    return fd >= 0 ? on_fd(fd) : in_code(caller);
}

WRAP(void *, MAP_FAILED, mmap, "mmap", mapped(fd, __builtin_return_address(0)),
     (void *where, size_t len, int prot, int flags, int fd, off_t from), where, len, prot, flags,
     fd, from)
WRAP(void *, MAP_FAILED, mmap64, "mmap", mapped(fd, __builtin_return_address(0)),
     (void *where, size_t len, int prot, int flags, int fd, off64_t from), where, len, prot, flags,
     fd, from)
WRAP(int, at.err, pthread_create, "pthread_create", CALLER,
     (pthread_t * out, const pthread_attr_t *attr, void *(*run)(void *), void *arg), out, attr, run,
     arg)
WRAP(pid_t, -1, fork, "fork", CALLER, (void))
WRAP(int, -1, pipe2, "pipe2", CALLER, (int ends[2], int flags), ends, flags)
WRAP(int, -1, mlock, "mlock", CALLER, (const void *data, size_t len), data, len)
WRAP(int, -1, memfd_create, "memfd_create", CALLER, (const char *name, unsigned flags), name, flags)
WRAP(ssize_t, -1, getrandom, "getrandom", CALLER, (void *out, size_t len, unsigned flags), out, len,
     flags)

/* ---- memory ---- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static bool no_memory(const char *call, const void *caller)
{
    struct point at = armed() ? enter(call, in_code(caller), false) : (struct point){GO, 0};

    if (at.action != FAIL)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return no_memory("malloc", __builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return no_memory("calloc", __builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return no_memory("realloc", __builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}

#endif
