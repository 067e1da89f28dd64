#!/bin/sh
# SPDX-License-Identifier: MIT
#
# mail-failure.sh TO [MOUNT] - mails why a backup failed. In the configuration, of a store or for all:
#
#   [defaults]
#   on_failure = /usr/local/bin/mail-failure.sh root /mnt/keepfs
#
# keepfs gives the job in KEEPFS_* variables, and a fixed PATH, in which sendmail has to be. With MOUNT
# the end of the job's log is in the mail as well. What this script prints is in that log, too.
set -eu

to=${1:?usage: mail-failure.sh TO [MOUNT]}
mount=${2:-}
: "${KEEPFS_JOB:?is set by keepfs, for on_failure}"

{
    cat <<END
To: $to
Subject: backup of $KEEPFS_STORE/$KEEPFS_REPO $KEEPFS_STATE: $KEEPFS_ERROR_CODE on $(uname -n)
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

$KEEPFS_ERROR

job $KEEPFS_JOB
END
    if [ -n "$mount" ]; then
        printf '\nThe end of its log:\n\n'
        tail -n 20 "$mount/jobs/$KEEPFS_JOB/log" || true
    fi
} | sendmail -t -i
