# SPDX-License-Identifier: MIT
# keepfs fsck where a disk gives errors instead of answers: what could not be asked is said to be
# unreadable, and nothing is concluded from it.

load lib

# What KEEPFS_CASE_SQL names is a piece of a statement of the catalog's, which gives an error;
# KEEPFS_CASE_FILE a piece of a file's path, which cannot be read, and KEEPFS_CASE_DIR of a
# directory's, which cannot be listed.
case_setup() {
    if ldd "$KEEPFS" | grep -q 'lib[at]san'; then skip "nothing can stand before a sanitizer"; fi
    cat >"$T/fail.c" <<'EOF'
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(const char *name, const char *text)
{
    const char *piece = getenv(name);
    return piece && text && strstr(text, piece);
}
int sqlite3_step(sqlite3_stmt *s)
{
    if (fails("KEEPFS_CASE_SQL", sqlite3_sql(s)))
        return SQLITE_IOERR_READ;
    return ((int (*)(sqlite3_stmt *))dlsym(RTLD_NEXT, "sqlite3_step"))(s);
}
static int fails_on(const char *name, int fd)
{
    char link[64], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) <= 0 || !fails(name, path))
        return 0;
    errno = EIO;
    return 1;
}
struct dirent64 *readdir64(DIR *dir)
{
    if (fails_on("KEEPFS_CASE_DIR", dirfd(dir)))
        return NULL;
    return ((struct dirent64 *(*)(DIR *))dlsym(RTLD_NEXT, "readdir64"))(dir);
}
ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
    if (fails_on("KEEPFS_CASE_FILE", fd))
        return -1;
    return ((ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64"))(fd, buf, n, at);
}
ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t size)
{
    (void)size;
    return pread64(fd, buf, n, at);
}
EOF
    gcc -shared -fPIC -O1 -o "$T/fail.so" "$T/fail.c"
}

fsck() { # [VARIABLE=VALUE]
    STATUS=0
    env LD_PRELOAD="$T/fail.so" "$@" "$KEEPFS" fsck "$CONFIG" --deep >"$T/out" 2>"$T/err" || STATUS=$?
}

# A daemon that was killed in a job has left a record that is listed and one that is not.
leave_much() {
    config_app
    start
    backup app
    backup app
    hold_db "$T/src/app.db"
    JOB=$(trigger app)
    await is_state "$JOB" running
    kill_daemon
    release_db
    sqlite3 "$STATE/catalog.sqlite" "UPDATE records SET state = 'missing' WHERE ulid = '$RECORD'"
}

@test "a question that the catalog does not answer: it is unreadable, and nothing follows from that" {
    leave_much
    fsck
    [ "$(sed '$d' "$T/out" | cut -d' ' -f1 | sort | xargs)" = 'archive_without_record job_left_running partial_archive' ]
    while read -r sql; do
        fsck "KEEPFS_CASE_SQL=$sql"
        if [ "$STATUS" != 31 ] || [ "$(cut -d' ' -f1 "$T/out" | xargs)" != 'catalog_unreadable 1' ]; then
            echo "$sql: exit status $STATUS, and:" >&2
            cat "$T/out" "$T/err" >&2
            return 1
        fi
    done <<'END'
JOIN places
INDEXED BY jobs_active
j.ulid = ?1
r.ulid = ?1
r.store = ?1 AND r.repo = ?2
END
}

@test "the last questions, too: which records there are, and whose a log is" {
    leave_much
    rm -r "$T/repo"/*.tmp
    fsck "KEEPFS_CASE_SQL=GROUP BY"
    [ "$STATUS" = 31 ]
    [ "$(cut -d' ' -f1 "$T/out" | xargs)" = 'archive_without_record catalog_unreadable 2' ]
    # Without a job that runs, a job is looked up for its log only.
    start
    stop
    fsck
    [ "$STATUS" = 0 ]
    fsck 'KEEPFS_CASE_SQL=j.ulid = ?1'
    [ "$STATUS" = 31 ]
    [ "$(cut -d' ' -f1 "$T/out" | xargs)" = 'catalog_unreadable 1' ]
}

@test "a payload that the disk does not give is unreadable, and not damaged" {
    config_app
    start
    backup app
    stop
    fsck "KEEPFS_CASE_FILE=$RECORD/payload.bin"
    [ "$STATUS" = 13 ]
    [ "$(cut -d' ' -f1 "$T/out" | xargs)" = 'archive_unreadable 1' ]
    fsck "KEEPFS_CASE_FILE=$RECORD/manifest.yaml"
    [ "$STATUS" = 13 ]
    [ "$(cut -d' ' -f1 "$T/out" | xargs)" = 'archive_unreadable 1' ]
    fsck
    [ "$STATUS" = 0 ]
}

@test "a repo that the disk does not list is unreadable, and its records are not missing" {
    config_app
    start
    backup app
    stop
    fsck "KEEPFS_CASE_DIR=$T/repo"
    [ "$STATUS" = 13 ]
    [ "$(cut -d' ' -f1 "$T/out" | xargs)" = 'repo_unreadable 1' ]
}
