#!/usr/bin/env bash
# deploy/down.sh leaves nothing behind: the inventory after it is that from before deploy/up.sh. Three times: a
# cluster that ran pods with host ports and volumes; the same with its data kept and taken up again; one whose
# supervisor, kubelet and runtime were killed.
#   down.sh      needs KEELSON_BIN's programs as deploy/up.sh does, and no other cluster on this machine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deploy=$here/../deploy
work=$(mktemp -d) dir=$(mktemp -d)
export KUBECONFIG=$dir/admin.conf

finish() {
    code=$?
    if [ $code -ne 0 ]; then for log in "$dir"/log/*.log; do printf '\n--- %s\n' "$log"; tail -n 15 "$log"; done; fi
    "$deploy/down.sh" --dir "$dir" > /dev/null 2>&1 || true
    rm -rf "$work" "$dir"
    exit $code
}
trap finish EXIT

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }

up() { "$deploy/up.sh" --dir "$dir" --no-build --no-sample > "$work/up.log" 2>&1 || { cat "$work/up.log"; return 1; }; }

run_pods() {
    until kubectl get serviceaccount default > /dev/null 2>&1; do sleep 0.1; done
    kubectl apply -f "$here/down.yaml" > /dev/null
    kubectl wait --for=condition=Ready pod/everything --timeout=60s > /dev/null
}

down() { "$deploy/down.sh" --dir "$dir" "$@" > "$work/down.log" 2>&1 || { cat "$work/down.log"; return 1; }; }

# What is there now and was not before; and what was there and is gone, though cgroups, files and empty tables that an
# earlier cluster left may go with ours.
nothing_is_left() {
    "$here/inventory.sh" > "$work/after"
    comm -13 "$work/before" "$work/after" | sed 's/^/left: /' > "$work/difference"
    comm -23 "$work/before" "$work/after" | grep -v -E '^(cgroup |file |nftables table ip6? nat$)' | sed 's/^/gone: /' >> "$work/difference" || true
    [ ! -s "$work/difference" ] || { echo "$1:"; cat "$work/difference"; return 1; }
    say "$1: nothing is left"
}

"$here/inventory.sh" > "$work/before"
up
run_pods
kept=$(kubectl get namespace default -o jsonpath='{.metadata.uid}')
say "a cluster runs pods"
down --keep-data
nothing_is_left "down.sh --keep-data"
up
[ "$(kubectl get namespace default -o jsonpath='{.metadata.uid}')" = "$kept" ] || { echo "it is another cluster"; exit 1; }
kubectl wait --for=condition=Ready pod/everything --timeout=60s > /dev/null
say "the same cluster is back"
down
[ ! -e "$dir/admin.conf" ] || { echo "down.sh left $dir/admin.conf"; exit 1; }
nothing_is_left "down.sh"
up
run_pods
for name in supervisor kubelet containerd; do kill -KILL "$(cat "$dir/run/$name.pid")"; done
say "supervisor, kubelet and runtime were killed"
down
nothing_is_left "down.sh after kills"
