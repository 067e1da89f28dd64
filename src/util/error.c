/* SPDX-License-Identifier: MIT */
/*
 * error.c - codes, their classification, and the sentence.
 *
 * The table is keepfs/error.h's ERROR_CODES; nothing here lists codes a second time but the
 * classifier, which maps (side, errno) to a code. It takes the side because the same ENOSPC needs
 * another action on a repo's disk than on the state's.
 */
#include "keepfs/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *hint;
    int exit_status;
} codes[] = {
#define X(id, name, status, hint) [id] = {name, hint, status},
    ERROR_CODES(X)
#undef X
};

#define CODE_COUNT ((int)(sizeof codes / sizeof codes[0]))

int error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    va_list ap;

    assert(code > ERR_NONE && (int)code < CODE_COUNT);
    err->code = code;
    err->errnum = 0;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return -1;
}

int error_sys(struct error *err, enum error_side side, int errnum, const char *fmt, ...)
{
    char reason[128];
    va_list ap;

    err->code = error_classify(side, errnum);
    err->errnum = errnum;
    va_start(ap, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s",
                 strerror_r(errnum, reason, sizeof reason));
    return -1;
}

int error_context(struct error *err, const char *fmt, ...)
{
    char before[ERROR_MESSAGE_MAX];
    char whole[2 * ERROR_MESSAGE_MAX + 2];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(before, sizeof before, fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s: %s", before, err->message);
    whole[sizeof err->message - 1] = '\0';
    memcpy(err->message, whole, strlen(whole) + 1);
    return -1;
}

/* What the process itself ran out of says nothing about either side. */
static int is_own_shortage(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == EINVAL ||
           errnum == EBADF || errnum == EFAULT;
}

static enum error_code classify_destination(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return ERR_DESTINATION_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DESTINATION_PERMISSION_DENIED;
    case ENOENT:
        return ERR_DESTINATION_NOT_FOUND;
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EFBIG:
    case ENOTEMPTY:
    case EISDIR:
        return ERR_DESTINATION_CONFIG_INVALID;
    case EEXIST:
        return ERR_DUPLICATE_ID;
    default:
        return ERR_DESTINATION_UNREACHABLE;
    }
}

enum error_code error_classify(enum error_side side, int errnum)
{
    if (errnum == 0)
        return ERR_INTERNAL;
    if (errnum == ECANCELED)
        return ERR_CANCELLED;
    if (is_own_shortage(errnum))
        return ERR_INTERNAL;
    switch (side) {
    case SIDE_SOURCE:
        return ERR_SOURCE_UNAVAILABLE;
    case SIDE_STATE:
        return errnum == ENOSPC || errnum == EDQUOT ? ERR_STATE_NO_SPACE : ERR_STATE_UNAVAILABLE;
    case SIDE_DESTINATION:
        return classify_destination(errnum);
    }
    return ERR_INTERNAL;
}

const char *error_code_name(enum error_code code)
{
    return codes[code].name;
}

const char *error_code_hint(enum error_code code)
{
    return codes[code].hint;
}

int error_code_exit(enum error_code code)
{
    return codes[code].exit_status;
}

bool error_code_transient(enum error_code code)
{
    switch (code) {
    case ERR_DESTINATION_UNREACHABLE:
    case ERR_SOURCE_UNAVAILABLE:
    case ERR_STATE_UNAVAILABLE:
        return true;
    default:
        return false;
    }
}

enum error_code error_code_parse(const char *name)
{
    for (int i = 0; i < CODE_COUNT; i++)
        if (strcmp(codes[i].name, name) == 0)
            return (enum error_code)i;
    return ERR_INTERNAL;
}

const char *error_errno_name(int errnum)
{
    const char *name = strerrorname_np(errnum);
    return name ? name : "EIO";
}
