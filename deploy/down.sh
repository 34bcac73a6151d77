#!/usr/bin/env bash
# Removes the cluster that deploy/up.sh started: processes, containers, mounts, network, rules, files.
#   deploy/down.sh [--dir DIR] [--keep-data]
# --keep-data leaves certificates, the store and images, so that the next up.sh finds the same cluster.
. "$(dirname "$0")/lib/local.sh"

keep=no
while [ $# -gt 0 ]; do
    case $1 in
        --dir) dir=${2:?--dir needs a directory}; shift ;;
        --dir=*) dir=${1#*=} ;;
        --keep-data) keep=yes ;;
        -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done
as_root
bin=$(binaries)
socket=$dir/run/containerd/containerd.sock
[ -d "$dir" ] || { say "nothing at $dir"; exit 0; }

# Shims of this runtime that outlived it, known by the socket on their command line.
end_shims() {
    local proc
    for proc in /proc/[0-9]*; do
        if { tr '\0' ' ' < "$proc/cmdline"; } 2> /dev/null | grep -q "containerd-shim.* -address $socket"; then
            kill -KILL "${proc#/proc/}" 2> /dev/null || true
        fi
    done
}

# Whether no process has a path of this cluster on its command line (one that ended and waits to be reaped has none).
all_ended() {
    local proc
    for proc in /proc/[0-9]*; do
        ! { tr '\0' ' ' < "$proc/cmdline"; } 2> /dev/null | grep -qF "$dir/" || return 1
    done
}

remove_mounts() {
    local at
    awk -v dir="$dir/" 'index($2, dir) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r at; do
        umount -l "$at" || true
    done
}

[ -x "$bin/kubeadm" ] || fail "$bin/kubeadm is missing: it is needed to take the cluster apart"
say "stopping the components and removing pods, rules, network and mounts"
keep_data=()
[ $keep = no ] || keep_data=(--keep-data)
"$bin/kubeadm" reset --force --state-dir "$dir" --service-manager supervisor "${keep_data[@]}" > /dev/null ||
    fail "kubeadm reset could not remove everything, see above; nothing below $dir was deleted"
end_shims
wait_for 10 "the cluster's processes end" all_ended
remove_mounts
rm -rf "$dir/run" "$dir/cni" "$dir/kubelet" "$dir/units" "$dir/log/pods"
[ $keep = yes ] || rm -rf "$dir"
say "the cluster is gone"
