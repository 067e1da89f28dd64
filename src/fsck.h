/* SPDX-License-Identifier: MIT */
/*
 * fsck.h - `keepfs fsck`: do catalog, repos and archives agree?
 *
 * It compares in both directions and writes nothing, neither in the state nor in a repo; it may run
 * beside the daemon, after a crash, or where there is no state at all. What it finds is in one of
 * three classes, which the exit status tells apart:
 *
 *   repairable   what the next start of keepfs puts right by itself (ERR_REPAIRABLE)
 *   unable       what cannot be looked at now: a repo, an archive, the catalog, a key (the status
 * of the error's code) damaged      what needs a person: bytes, manifests, rows that are not what
 * they were, archives that do not belong where they are (ERR_DAMAGED)
 *
 * The worst class counts: damaged before unable before repairable. Without a finding it is 0.
 *
 * On stdout there is a line for each finding,
 *
 *   NAME STORE/REPO ID sentence
 *
 * with `-` for what does not apply, and a last line "N findings, N archives checked". Names and
 * their classes are the table in fsck_internal.h; they are never renamed.
 *
 * Without `deep` each archive's manifest, policy, key, MAC and sizes are judged; with it every byte
 * of payload and payload ids is read as well.
 *
 * A daemon goes on meanwhile: it publishes, deletes, starts and ends. What looks wrong is therefore
 * looked at a second time, after all of its repo has been seen once, and is a finding only if it
 * stands unchanged. See fsck_repo.c for why twice is enough.
 */
#ifndef KEEPFS_FSCK_H
#define KEEPFS_FSCK_H

#include <stdbool.h>

struct fsck_options {
    const char *config;
    bool deep;
};

/* The exit status. */
int fsck_run(const struct fsck_options *options);

#endif
