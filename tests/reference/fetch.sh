#!/usr/bin/env bash
# Unpacks reference programs from Debian packages beside the tree, without installing them:
#   fetch.sh etcd         etcd and etcdctl 3.5 from a newer suite      -> target/reference/etcd/usr/bin
#   fetch.sh kubectl-old  kubectl 1.20 of Debian 12                    -> target/reference/kubectl-old/usr/bin
#   fetch.sh containerd   containerd 2 from a newer suite              -> target/reference/containerd/usr/bin
#   fetch.sh etcd-old     etcd 3.4 of Debian 12                        -> target/reference/etcd-old/usr/bin
#   fetch.sh docker-registry  the registry of Debian 12                -> target/reference/docker-registry/usr/bin
# Prints the directory of the programs.
set -euo pipefail
name=${1:?usage: fetch.sh etcd|etcd-old|kubectl-old|containerd|docker-registry}
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/reference
case $name in
    etcd) suite=sid packages="etcd-server etcd-client" ;;
    containerd) suite=sid packages=containerd ;;
    kubectl-old) suite=bookworm packages=kubernetes-client ;;
    etcd-old) suite=bookworm packages="etcd-server etcd-client" ;;
    docker-registry) suite=bookworm packages=docker-registry ;;
    *) echo "unknown reference $name" >&2; exit 2 ;;
esac
if [ ! -e "$out/$name/.done" ]; then
    apt=$out/apt-$suite
    mkdir -p "$apt"/{lists/partial,cache/archives/partial} "$out/$name"
    # The mirror the machine already uses.
    mirror=$(sed -n 's/^URIs: *\(http[^ ]*debian\.org\/debian\)\/*$/\1/p; s/^deb \(http[^ ]*\/debian\)\/* .*/\1/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | head -1 || true)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main" \
        > "$apt/sources.list"
    touch "$apt/status"
    options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
        -o Dir::Cache="$apt/cache" -o Dir::State::status="$apt/status" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update >&2
    (cd "$apt" && apt-get -qq "${options[@]}" download $packages >&2)
    for deb in "$apt"/*.deb; do dpkg -x "$deb" "$out/$name"; rm "$deb"; done
    touch "$out/$name/.done"
fi
printf '%s\n' "$out/$name/usr/bin"
