/* SPDX-License-Identifier: MIT */
/* access.c - from base modes to classes. */
#include "fs/access.h"

static const struct group_id *group_of(const struct access *a, const struct group_id *run,
                                       mode_t base)
{
    if (base & S_IWGRP)
        return run && run->set ? run : &a->control;
    return base & S_IROTH ? NULL : &a->read;
}

void access_grant(const struct access *a, const struct group_id *run, mode_t base, struct stat *st)
{
    const struct group_id *group = S_ISLNK(base) ? NULL : group_of(a, run, base);

    st->st_mode = base;
    if (!group)
        return;
    if (group->set) {
        st->st_gid = group->gid;
        if (group == &a->read)
            st->st_mode |= (base & S_IRUSR) >> 3;
    } else {
        /* The owner's own group is nobody in particular. */
        st->st_mode = (base & ~(mode_t)S_IRWXG) | (base & S_IRWXO) << 3;
    }
}
