# SPDX-License-Identifier: MIT
# The unit, as far as it can be shown without systemd as this machine's init: what it says is read by
# systemd's own parser, and run by hand.

load lib

UNIT=$BATS_TEST_DIRNAME/../../examples/keepfs.service

# Every option of systemd.exec(5), up to systemd 257, with which a service gets a mount namespace of
# its own, or one of another's, and its mounts are seen by nobody else; and what takes privileges from
# set-user-ID programs.
NAMESPACE_OPTIONS=(
    RootDirectory RootImage RootImageOptions RootEphemeral RootHash RootVerity MountAPIVFS ProtectProc ProcSubset
    BindPaths BindReadOnlyPaths MountImages ExtensionImages ExtensionDirectories DynamicUser User PrivateUsers
    ProtectSystem ProtectHome ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths
    TemporaryFileSystem PrivateTmp PrivateDevices PrivateNetwork NetworkNamespacePath PrivateIPC IPCNamespacePath
    PrivatePIDs ProtectHostname ProtectClock ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups
    RestrictNamespaces PrivateMounts PrivateBPF MountFlags JoinsNamespaceOf LogNamespace
    LoadCredential LoadCredentialEncrypted SetCredential SetCredentialEncrypted ImportCredential
    SystemCallFilter NoNewPrivileges RestrictSUIDSGID
)

# The values of an option, a line each.
option() { # NAME
    sed -n "s/^$1=//p" "$UNIT"
}

@test "no option of the unit gives the service a mount namespace" {
    [ "$(option Type)" = notify ]
    for name in "${NAMESPACE_OPTIONS[@]}"; do
        assert_no_match -E "^[[:space:]]*$name[[:space:]]*=" "$UNIT"
    done
}

@test "systemd-analyze accepts the unit" {
    command -v systemd-analyze >/dev/null || skip "systemd is not installed"
    sed "s|^ExecStart=keepfs|ExecStart=$KEEPFS|" "$UNIT" >"$T/keepfs.service"
    run systemd-analyze verify --man=no "$T/keepfs.service"
    [ "$status" = 0 ]
    [ -z "$output" ]
    # It is looked at: a key that there is not is told.
    sed -i 's/^KillMode=/KillMood=/' "$T/keepfs.service"
    run systemd-analyze verify --man=no "$T/keepfs.service"
    [[ $output == *KillMood* ]]
}

# The command of an option with the case's paths.
command_of() { # OPTION
    option "$1" | sed -e 's/^-//' -e "s|^keepfs|$KEEPFS|" -e "s|/etc/keepfs.conf|$CONFIG|g" -e "s|/mnt/keepfs|$M|g"
}

# Runs the service as systemd would: its capabilities, its umask, and a manager who is told.
serve() {
    local bound
    bound=$(option CapabilityBoundingSet | sed -e 's/CAP_/+/g' -e 's/ /,/g' | tr '[:upper:]' '[:lower:]')
    python3 - "$T/notify" "$T/told" >"$T/manager.out" 3>&- <<'EOF2' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("ready", flush=True)
while True:
    data = s.recv(4096)
    with open(sys.argv[2], "ab") as out:
        out.write(data + b"\n")
EOF2
    CHILDREN+=("$!")
    await grep -qx ready "$T/manager.out"
    # The words of the line, as neither systemd nor this test needs quotes in it.
    # shellcheck disable=SC2046
    (umask "$(option UMask)" && exec env -i NOTIFY_SOCKET="$T/notify" PATH=/usr/bin:/bin \
        setpriv --bounding-set="-all,$bound" --inh-caps=-all $(command_of ExecStart)) 2>"$T/log" 3>&- &
    DAEMON=$!
    CHILDREN+=("$DAEMON")
    await grep -qsx READY=1 "$T/told"
}

@test "with the capabilities that the unit leaves it mounts, and backs up what others own" {
    if [ "$(id -u)" != 0 ]; then skip "capabilities can be taken away from root only"; fi
    mkdir -m 700 "$T/src/private" "$T/src/tree"
    make_db "$T/src/private/app.db" 100 WAL
    echo mine >"$T/src/tree/mine"
    chmod 000 "$T/src/tree/mine"
    chown -R nobody "$T/src"
    config <<EOF2
[store app]
kind = sqlite
path = $T/src/private/app.db
before = /usr/bin/setpriv --reuid=nobody --regid=nogroup --clear-groups id -un
[repo app/main]
kind = local
path = $T/repo/app
[store docs]
kind = directory
path = $T/src/tree
[repo docs/main]
kind = local
path = $T/repo/docs
EOF2
    serve
    refute grep -q "^CapBnd:[[:space:]]*$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)$" "/proc/$DAEMON/status"
    backup app
    grep -q 'before: nobody' "$M/jobs/$JOB/log"
    sqlite3 "file:$M/records/$RECORD/payload?immutable=1" 'PRAGMA integrity_check' | grep -qx ok
    backup docs
    tar -xOf "$M/records/$RECORD/payload" mine | grep -qx mine
    kill -TERM "$DAEMON"
    wait "$DAEMON"
    grep -qx STOPPING=1 "$T/told"
}

@test "reload takes a good configuration, and fails with the reason for a bad one" {
    config_app
    start
    command_of ExecReload >"$T/reload"
    run sh "$T/reload"
    [ "$status" = 0 ]
    [ -z "$output" ]
    echo 'nonsense = yes' >>"$CONFIG"
    run sh "$T/reload"
    [ "$status" = 1 ]
    [[ $output == *nonsense* ]]
}

@test "a crash is cleared by the commands of the next start; a bad configuration is not tried again" {
    config_app
    start
    kill_daemon
    command_of ExecStartPre >"$T/pre"
    sh "$T/pre" 2>/dev/null || true
    start
    backup app
    stop
    rmdir "$M"
    sh "$T/pre"
    start
    stop
    echo 'nonsense = yes' >>"$CONFIG"
    run "$KEEPFS" mount -f "$CONFIG" "$M"
    [[ " $(option RestartPreventExitStatus) " == *" $status "* ]]
}
