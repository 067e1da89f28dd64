/* SPDX-License-Identifier: MIT */
/*
 * error.h - what went wrong, in words a job can keep.
 *
 * Every function that can fail returns 0 or -1 (or a pointer or NULL) and takes a caller-owned
 * `struct error *`. It is untouched on success. On failure it holds one code of the list below,
 * the errno behind it (0 if there was none) and one sentence. Callers add context on the way up
 * with error_context(); a code once set is never changed, so classification is idempotent.
 *
 * One list of codes serves the catalog, the files of the mount and the exit status. Codes may be
 * added, never renamed or removed: scripts match them. An errno for a system call on the mount is
 * chosen in src/fs alone.
 *
 * Threads: a struct error belongs to one thread at a time; the functions keep no state.
 */
#ifndef KEEPFS_ERROR_H
#define KEEPFS_ERROR_H

#include <stdbool.h>

#include <stdarg.h>

/* X(enumerator, stable name, exit status, hint for the operator) */
#define ERROR_CODES(X)                                                                             \
    X(ERR_NONE, "", 0, "")                                                                         \
    X(ERR_DESTINATION_PERMISSION_DENIED, "destination_permission_denied", 10,                      \
      "give the user that runs keepfs write access to the repo's path, and check that its file "   \
      "system is not mounted read-only")                                                           \
    X(ERR_DESTINATION_NOT_FOUND, "destination_not_found", 11,                                      \
      "check that the repo's path exists and that its file system is mounted")                     \
    X(ERR_DESTINATION_NO_SPACE, "destination_no_space", 12,                                        \
      "free space or inodes on the repo's file system, or raise its quota")                        \
    X(ERR_DESTINATION_UNREACHABLE, "destination_unreachable", 13,                                  \
      "check the repo's disk or network; the kernel log may say more")                             \
    X(ERR_DESTINATION_CREDENTIALS_INVALID, "destination_credentials_invalid", 14,                  \
      "enter the repo's credentials or key again")                                                 \
    X(ERR_DESTINATION_PATH_CONFLICT, "destination_path_conflict", 15,                              \
      "give each repo a place of its own that no other keepfs writes to")                          \
    X(ERR_DESTINATION_CONFIG_INVALID, "destination_config_invalid", 16,                            \
      "correct the repo's section of the configuration; `keepfs check CONFIG` explains it")        \
    X(ERR_SOURCE_UNAVAILABLE, "source_unavailable", 20,                                            \
      "check that the store's path exists, is readable by the user that runs keepfs and is whole") \
    X(ERR_STATE_NO_SPACE, "state_no_space", 30,                                                    \
      "free space on the file system of keepfs's state directory; a sqlite store is staged there") \
    X(ERR_STATE_UNAVAILABLE, "state_unavailable", 31,                                              \
      "check the disk and the permissions of keepfs's state directory")                            \
    X(ERR_BACKUP_ALREADY_RUNNING, "backup_already_running", 40,                                    \
      "wait for the job that is pending or running, or cancel it")                                 \
    X(ERR_QUEUE_FULL, "queue_full", 41, "wait until jobs have finished, or raise max_queue")       \
    X(ERR_STOPPING, "stopping", 42, "try again when keepfs is running again")                      \
    X(ERR_NOT_FOUND, "not_found", 43, "list stores/, jobs/ or records/ for what there is")         \
    X(ERR_INVALID, "invalid", 44, "read the file on a fresh open for its grammar")                 \
    X(ERR_RESTORE_PRECONDITION_FAILED, "restore_precondition_failed", 45,                          \
      "stop what uses the restore's target, then try again")                                       \
    X(ERR_TARGET_FAILED, "target_failed", 46,                                                      \
      "check the space and the permissions where the restored bytes were to be written")           \
    X(ERR_HOOK_FAILED, "hook_failed", 47,                                                          \
      "read the job's log: what the store's command printed is there")                             \
    X(ERR_CANCELLED, "cancelled", 50, "start it again when it suits")                              \
    X(ERR_INTERRUPTED, "interrupted", 51, "keepfs stopped while the job ran; start it again")      \
    X(ERR_INTEGRITY_FAILED, "integrity_failed", 60,                                                \
      "the stored bytes are not those that were written: check the disk, use another record")      \
    X(ERR_DECRYPT_FAILED, "decrypt_failed", 61,                                                    \
      "check that the key is the one the archive was written with")                                \
    X(ERR_MANIFEST_INVALID, "manifest_invalid", 62,                                                \
      "the archive's manifest is damaged or was altered: use another record")                      \
    X(ERR_MANIFEST_UNSUPPORTED, "manifest_unsupported", 63,                                        \
      "the archive was written by a newer keepfs: upgrade to read it")                             \
    X(ERR_MANIFEST_MISSING, "manifest_missing", 64,                                                \
      "there is no such archive, or its deletion was cut short")                                   \
    X(ERR_ARCHIVE_INCOMPLETE, "archive_incomplete", 65,                                            \
      "a part of the archive is gone from the repo: use another record")                           \
    X(ERR_DUPLICATE_ID, "duplicate_id", 66, "an archive of this id is there already; try again")   \
    X(ERR_ENCRYPTION_REQUIRED, "encryption_required", 67,                                          \
      "the archive is less protected than its repo asks for: do not trust it, or lower the "       \
      "repo's min_envelope if you know why")                                                       \
    X(ERR_REPAIRABLE, "repairable", 70, "start keepfs, or restart it: it repairs this by itself")  \
    X(ERR_DAMAGED, "damaged", 71, "see `keepfs fsck CONFIG`: this needs a decision of yours")      \
    X(ERR_CONFIG_INVALID, "config_invalid", 3, "correct the configuration; see `keepfs check`")    \
    X(ERR_USAGE, "usage", 2, "see `keepfs --help`")                                                \
    X(ERR_INTERNAL, "internal", 1, "see the log of keepfs; if it persists, report it")

enum error_code {
#define X(id, name, status, hint) id,
    ERROR_CODES(X)
#undef X
};

/* Longest message, with its NUL; longer ones are cut. */
#define ERROR_MESSAGE_MAX 1024

struct error {
    enum error_code code;
    int errnum; /* 0 where no system call failed */
    char message[ERROR_MESSAGE_MAX];
};

/* Which side a system call worked for: the same ENOSPC needs another action on each. */
enum error_side { SIDE_SOURCE, SIDE_DESTINATION, SIDE_STATE };

/* Sets code and message. Always returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Sets the code that error_classify() gives for `errnum` on `side`, and the message
 * "<fmt>: <strerror>". Always returns -1.
 */
int error_sys(struct error *err, enum error_side side, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "<fmt>: " before the message; code and errnum stay. Always returns -1. */
int error_context(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The code for an errno on a side. Total: what it does not know is ERR_INTERNAL. */
enum error_code error_classify(enum error_side side, int errnum);

/* The stable name ("destination_no_space"), the hint (never empty but for ERR_NONE), the exit
 * status of the command. All are static strings or numbers; all codes of the enum are known. */
const char *error_code_name(enum error_code code);
const char *error_code_hint(enum error_code code);
int error_code_exit(enum error_code code);

/* May the same work succeed a little later, with nobody having done anything? */
bool error_code_transient(enum error_code code);

/* The code of a stable name; ERR_INTERNAL for a name that is not in the list. */
enum error_code error_code_parse(const char *name);

/* "ENOSPC" for ENOSPC; "E<number>" has no name in libc and is written into static text "EIO". */
const char *error_errno_name(int errnum);

#endif
