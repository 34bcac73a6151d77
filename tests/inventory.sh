#!/usr/bin/env bash
# Lists what a cluster puts on a machine, one thing per line, sorted: an inventory made before it came and one made
# after it went must be equal.
set -euo pipefail

processes() {
    local proc comm
    for proc in /proc/[0-9]*; do
        comm=$(cat "$proc/comm" 2> /dev/null) || continue
        # Without a command line it has ended and only waits to be reaped (or is the kernel's).
        [ -n "$(tr -d '\0' 2> /dev/null < "$proc/cmdline")" ] || continue
        case $comm in
            kube* | cluster-dns | keelson* | containerd-shim* | pause) echo "process $comm" ;;
            *) ! grep -qs /kubepods "$proc/cgroup" || echo "process $comm of a pod" ;;
        esac
    done
}

tables() {
    nft list tables | sed 's/^/nftables /'
    ! command -v iptables-legacy-save > /dev/null || iptables-legacy-save 2> /dev/null | grep '^-A' || true
}

below() { find "$@" 2> /dev/null | sed 's/^/file /' || true; }

{
    processes
    awk '{print "mount", $2, $3}' /proc/self/mounts
    below /run/netns -mindepth 1
    tables
    ip -o link | awk -F'[:@] *' '{print "link", $2}'
    ip route | sed 's/ *$//; s/^/route /'
    ip rule | sed 's/^/rule /'
    for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do find "$tree"/kubepods* -type d 2> /dev/null || true; done | sed 's/^/cgroup /'
    below /etc/cni/net.d /var/lib/cni -mindepth 1
    below /etc/kubernetes /var/lib/etcd /var/lib/kubelet /var/log/pods /var/log/containers /run/keelson /var/log/keelson
    below /etc/systemd/system
} | sort
