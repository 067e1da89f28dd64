#!/bin/sh
# SPDX-License-Identifier: MIT
#
# backup-then.sh [-m MOUNT] TARGET COMMAND [ARGUMENT...] - backs TARGET up (STORE or STORE/REPO, with
# options as in ctl) and runs the command only if that succeeded, to every repo:
#
#   backup-then.sh 'app label=before the upgrade' apt-get -y upgrade
#
# Exit status: the command's; 1 if the backup was refused or failed, with error and hint on stderr.
# For members of the store's run_group its own run file does what ctl does.
set -u

mount=/mnt/keepfs
while getopts m: option; do
    case $option in
    m) mount=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -lt 2 ]; then
    echo 'usage: backup-then.sh [-m MOUNT] TARGET COMMAND [ARGUMENT...]' >&2
    exit 2
fi
target=$1
shift

# Without a mount root's own > would make a file there.
true <"$mount/README" || exit 1
ctl=$mount/ctl
store=${target%%[ /]*}
[ -w "$ctl" ] || ctl=$mount/stores/$store/run

# Written and read back on one open, which answers with the jobs of this very write.
exec 3<>"$ctl" || exit 1
if ! echo "$target" >&3; then
    cat "$mount/last_error" >&2
    exit 1
fi
jobs=$(while read -r job _ <&3; do echo "$job"; done)
exec 3>&-

failed=0
for job in $jobs; do
    state=$(cat "$mount/jobs/$job/wait") # until the job has ended
    [ "$state" = succeeded ] && continue
    failed=1
    echo "backup of $target: job $job ${state:-is not known any more}" >&2
    cat "$mount/jobs/$job/error" "$mount/jobs/$job/hint" >&2
done
[ -n "$jobs" ] && [ $failed = 0 ] || exit 1
exec "$@"
