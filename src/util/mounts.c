/* SPDX-License-Identifier: MIT */
/*
 * mounts.c - reads mountinfo, a line per mount, the latest last:
 *   36 35 98:0 /root /mount/point options optional... - type source superoptions
 * Blanks, newlines and backslashes in a path stand there as \ooo.
 */
#include "util/mounts.h"

#include "util/buf.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void unescape(char *s)
{
    char *out = s;

    for (; *s; s++, out++) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *out = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *out = *s;
        }
    }
    *out = '\0';
}

/* Field `n` (from 0) of blank-separated text, NUL-terminated in place; NULL if there are fewer. */
static char *field(char *text, int n)
{
    char *save, *word = strtok_r(text, " \n", &save);

    while (word && n-- > 0)
        word = strtok_r(NULL, " \n", &save);
    return word;
}

/* The source if `line` is a mount of `type` on `path`; *here says whether it is one on path at all.
 */
static char *match(char *line, const char *path, const char *wanted, int *here)
{
    char *behind = strstr(line, " - ");

    *here = 0;
    if (!behind)
        return NULL;
    *behind = '\0';
    char *point = field(line, 4);
    if (!point)
        return NULL;
    unescape(point);
    if (strcmp(point, path) != 0)
        return NULL;
    *here = 1;
    char *save, *type = strtok_r(behind + 3, " \n", &save);
    char *source = type ? strtok_r(NULL, " \n", &save) : NULL;
    if (!source || strcmp(type, wanted) != 0)
        return NULL;
    unescape(source);
    return source;
}

char *mounts_source_at(const char *path, const char *type)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, *found = NULL;
    size_t cap = 0;

    if (!f)
        return NULL;
    while (getline(&line, &cap, f) >= 0) {
        int here;
        char *source = match(line, path, type, &here);
        if (here) {
            free(found);
            found = source ? xstrdup(source) : NULL;
        }
    }
    free(line);
    fclose(f);
    return found;
}

int mounts_detach(const char *path)
{
    char *argv[] = {"fusermount3", "-u", "-z", "--", (char *)(size_t)path, NULL};
    pid_t pid;
    int status = -1;

    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    if (errno != EPERM)
        return -1;
    int failed = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (failed) {
        errno = failed;
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    errno = EPERM;
    return -1;
}
