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

stopped() { ! kill -0 "$1" 2> /dev/null; }

supervised() { [ -s "$dir/run/supervisor.pid" ] && kill -0 "$(cat "$dir/run/supervisor.pid")" 2> /dev/null; }

# Every component but the runtime, which is needed to end the containers.
stop_components() {
    supervised || return 0
    local pids=() file
    for file in "$dir"/run/*.pid; do
        case ${file##*/} in supervisor.pid | containerd.pid) ;; *) pids+=("$(cat "$file")") ;; esac
    done
    find "$dir/units" -name '*.service' ! -name containerd.service -delete
    "$bin/keelson-supervisor" start --units "$dir/units" --run-dir "$dir/run" --log-dir "$dir/log"
    local pid
    for pid in "${pids[@]}"; do wait_for 60 "process $pid ends" stopped "$pid"; done
}

ctr_() { ctr -a "$socket" -n k8s.io "$@" 2> /dev/null; }

end_containers() {
    [ -S "$socket" ] && ctr_ version > /dev/null || return 0
    local one namespaces
    namespaces=$(for one in $(ctr_ containers ls -q); do ctr_ containers info "$one"; done |
        sed -n 's/.*"path": "\(\/[a-z/]*\/netns\/cni-[^"]*\)".*/\1/p' | sort -u)
    for one in $(ctr_ tasks ls -q); do ctr_ tasks rm -f "$one" > /dev/null || true; done
    for one in $(ctr_ containers ls -q); do ctr_ containers rm "$one" > /dev/null || true; done
    for one in $namespaces; do ip netns del "${one##*/}" 2> /dev/null || true; done
}

# Shims of this runtime that outlived it, known by the socket on their command line.
end_shims() {
    local proc
    for proc in /proc/[0-9]*; do
        if { tr '\0' ' ' < "$proc/cmdline"; } 2> /dev/null | grep -q "containerd-shim.* -address $socket"; then
            kill -KILL "${proc#/proc/}" 2> /dev/null || true
        fi
    done
}

remove_cgroups() {
    find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2> /dev/null || true
}

remove_mounts() {
    local at
    awk -v dir="$dir/" 'index($2, dir) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r at; do
        umount -l "$at" || true
    done
}

say "stopping the components"
stop_components
say "ending the containers"
end_containers
if [ -x "$bin/keelson-supervisor" ]; then "$bin/keelson-supervisor" stop --run-dir "$dir/run"; fi
end_shims
say "removing rules, network and mounts"
[ ! -x "$bin/kube-proxy" ] || "$bin/kube-proxy" --cleanup
[ ! -x "$bin/keelson-network" ] || "$bin/keelson-network" --cleanup --cni-conf-dir "$dir/cni/net.d"
remove_mounts
remove_cgroups
rm -rf "$dir/run" "$dir/cni" "$dir/kubelet" "$dir/units" "$dir/log/pods"
[ $keep = yes ] || rm -rf "$dir"
say "the cluster is gone"
