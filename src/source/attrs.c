/* SPDX-License-Identifier: MIT */
/*
 * attrs.c - listxattr, then getxattr of each name.
 *
 * An attribute that is removed between the two calls has never been there. The kernel keeps ACLs in
 * the attributes system.posix_acl_access and _default, in the form that linux/posix_acl_xattr.h
 * describes: a version, then entries of tag, permissions and id, little endian.
 */
#include "source/attrs.h"

#include "util/buf.h"

#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <linux/limits.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

struct attrs {
    char names[XATTR_LIST_MAX];
    _Alignas(struct posix_acl_xattr_entry) char value[XATTR_SIZE_MAX];
};

/* Where one file's attributes are read from. */
struct place {
    int fd;
    char path[32]; /* "" = use fd */
};

struct attrs *attrs_new(void)
{
    return xmalloc(sizeof(struct attrs));
}

void attrs_free(struct attrs *a)
{
    free(a);
}

static ssize_t list(const struct place *p, char *names, size_t size)
{
    return p->path[0] ? listxattr(p->path, names, size) : flistxattr(p->fd, names, size);
}

static ssize_t get(const struct place *p, const char *name, void *value, size_t size)
{
    return p->path[0] ? getxattr(p->path, name, value, size) : fgetxattr(p->fd, name, value, size);
}

static int acl_tag(uint16_t tag)
{
    switch (tag) {
    case 0x01:
        return ARCHIVE_ENTRY_ACL_USER_OBJ;
    case 0x02:
        return ARCHIVE_ENTRY_ACL_USER;
    case 0x04:
        return ARCHIVE_ENTRY_ACL_GROUP_OBJ;
    case 0x08:
        return ARCHIVE_ENTRY_ACL_GROUP;
    case 0x10:
        return ARCHIVE_ENTRY_ACL_MASK;
    case 0x20:
        return ARCHIVE_ENTRY_ACL_OTHER;
    default:
        return 0;
    }
}

/* Returns 0 or EINVAL for what is no ACL. */
static int add_acl(struct tar *t, int type, const char *value, size_t size)
{
    struct posix_acl_xattr_header header;
    struct posix_acl_xattr_entry raw;
    struct archive_entry *entry = tar_entry(t);

    if (size < sizeof header || (size - sizeof header) % sizeof raw != 0)
        return EINVAL;
    memcpy(&header, value, sizeof header);
    if (le32toh(header.a_version) != POSIX_ACL_XATTR_VERSION)
        return EINVAL;
    for (size_t at = sizeof header; at < size; at += sizeof raw) {
        memcpy(&raw, value + at, sizeof raw);
        int tag = acl_tag(le16toh(raw.e_tag)), id = -1;
        const char *name = NULL;
        if (tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP) {
            id = (int)le32toh(raw.e_id);
            name = tag == ARCHIVE_ENTRY_ACL_USER ? tar_user(t, le32toh(raw.e_id))
                                                 : tar_group(t, le32toh(raw.e_id));
        }
        /* The permission bits of libarchive are those of the kernel. */
        if (tag == 0 ||
            archive_entry_acl_add_entry(entry, type, le16toh(raw.e_perm), tag, id, name) != 0)
            return EINVAL;
    }
    return 0;
}

static int add_one(struct attrs *a, const struct place *p, const char *name, struct tar *t)
{
    ssize_t size = get(p, name, a->value, sizeof a->value);

    if (size < 0)
        return errno == ENODATA ? 0 : errno;
    if (strcmp(name, "system.posix_acl_access") == 0)
        return add_acl(t, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, a->value, (size_t)size);
    if (strcmp(name, "system.posix_acl_default") == 0)
        return add_acl(t, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, a->value, (size_t)size);
    archive_entry_xattr_add_entry(tar_entry(t), name, a->value, (size_t)size);
    return 0;
}

int attrs_add(struct attrs *a, int fd, bool by_path, struct tar *t)
{
    struct place p = {.fd = fd};

    if (by_path)
        snprintf(p.path, sizeof p.path, "/proc/self/fd/%d", fd);
    ssize_t len = list(&p, a->names, sizeof a->names);
    if (len < 0)
        return errno == ENOTSUP ? 0 : errno;
    for (const char *name = a->names; name < a->names + len; name += strlen(name) + 1) {
        int failed = add_one(a, &p, name, t);
        if (failed)
            return failed;
    }
    return 0;
}
