#!/usr/bin/env bash
# Measures the API server alone: kube-store and kube-apiserver in a directory of their own, on loopback, and
# `bench api` against them. No kubelet, scheduler or controller manager runs.
#   tests/bench/api.sh start [DIR]     starts both and prints how to reach them
#   tests/bench/api.sh bench [DIR] ARGUMENTS...   `bench api` with kubeconfig and process ids filled in
#   tests/bench/api.sh restart [DIR]   starts the API server anew on the same store
#   tests/bench/api.sh stop [DIR]      ends both and removes DIR
#   tests/bench/api.sh all [DIR]       every figure of docs/measurements.md, some minutes
# Programs come from KEELSON_BIN (default target/release). API_PORT (default 16443) and the next three are used.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
bin=${KEELSON_BIN:-${CARGO_TARGET_DIR:-$repo/target}/release}
port=${API_PORT:-16443}
step=${1:?usage: api.sh start|bench|restart|stop|all [DIR] ...}
dir=${2:-/tmp/keelson-bench-api}
client=$((port + 1)) peer=$((port + 2)) metrics=$((port + 3))

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

wait_ready() {
    local end=$((SECONDS + 60))
    until curl -sf --cacert "$dir/pki/ca.crt" "https://127.0.0.1:$port/readyz" > /dev/null; do
        kill -0 "$(cat "$dir/kube-apiserver.pid")" 2> /dev/null || { tail -5 "$dir/kube-apiserver.log" >&2; fail "the API server ended"; }
        [ "$SECONDS" -lt "$end" ] || fail "the API server is not ready within 60 s; see $dir/kube-apiserver.log"
        sleep 0.1
    done
}

run() { # NAME FLAGS...
    local name=$1
    shift
    "$bin/$name" "$@" > "$dir/$name.log" 2>&1 &
    echo $! > "$dir/$name.pid"
}

start_server() {
    local pki=$dir/pki
    run kube-apiserver --secure-port="$port" --bind-address=127.0.0.1 --advertise-address=127.0.0.1 \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --client-ca-file="$pki/ca.crt" \
        --etcd-servers="https://127.0.0.1:$client" --etcd-cafile="$pki/etcd/ca.crt" \
        --etcd-certfile="$pki/apiserver-etcd-client.crt" --etcd-keyfile="$pki/apiserver-etcd-client.key" \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$pki/sa.pub" \
        --service-account-signing-key-file="$pki/sa.key" --service-cluster-ip-range=10.96.0.0/12 \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key"
    wait_ready
}

start() {
    [ ! -e "$dir" ] || fail "$dir exists: '$0 stop $dir' first"
    mkdir -p "$dir"
    local phase pki
    for phase in certs kubeconfig; do
        "$bin/kubeadm" init phase "$phase" --state-dir "$dir/kubeadm" --node-name bench --service-manager supervisor \
            --apiserver-advertise-address 127.0.0.1 --apiserver-bind-port "$port" > "$dir/kubeadm.log" 2>&1 ||
            { tail -5 "$dir/kubeadm.log" >&2; fail "kubeadm init phase $phase"; }
    done
    pki=$(dirname "$(find "$dir/kubeadm" -name apiserver.crt)")
    ln -s "$pki" "$dir/pki"
    ln -s "$(find "$dir/kubeadm" -name super-admin.conf)" "$dir/admin.conf"
    run kube-store --name=bench --data-dir="$dir/store" --listen-client-urls="https://127.0.0.1:$client" \
        --advertise-client-urls="https://127.0.0.1:$client" --listen-peer-urls="https://127.0.0.1:$peer" \
        --initial-advertise-peer-urls="https://127.0.0.1:$peer" --initial-cluster="bench=https://127.0.0.1:$peer" \
        --cert-file="$pki/etcd/server.crt" --key-file="$pki/etcd/server.key" --trusted-ca-file="$pki/etcd/ca.crt" \
        --client-cert-auth=true --peer-cert-file="$pki/etcd/peer.crt" --peer-key-file="$pki/etcd/peer.key" \
        --peer-trusted-ca-file="$pki/etcd/ca.crt" --peer-client-cert-auth=true \
        --listen-metrics-urls="http://127.0.0.1:$metrics"
    start_server
    echo "kubeconfig $dir/admin.conf, API server $(cat "$dir/kube-apiserver.pid"), store $(cat "$dir/kube-store.pid")"
}

end() { # NAME
    local pid
    pid=$(cat "$dir/$1.pid" 2> /dev/null) || return 0
    kill "$pid" 2> /dev/null || return 0
    while kill -0 "$pid" 2> /dev/null; do sleep 0.05; done
}

stop() {
    end kube-apiserver
    end kube-store
    rm -rf "$dir"
}

bench() {
    "$bin/bench" api --kubeconfig "$dir/admin.conf" --pid "$(cat "$dir/kube-apiserver.pid")" \
        --store-pid "$(cat "$dir/kube-store.pid")" "$@"
}

# A fresh process, so that memory at rest is that of the objects alone.
restart_server() {
    end kube-apiserver
    start_server
}

all() {
    start
    trap stop EXIT
    echo "--- empty"
    bench memory
    echo "--- 10,000 pods"
    bench fill --pods 10000
    bench requests
    bench lists
    bench readers
    bench watchers --rates 20,50,100,200
    restart_server
    echo "--- 10,000 pods, started anew"
    bench memory
    bench fill --from 10000 --pods 30000
    restart_server
    echo "--- 30,000 pods, started anew"
    bench memory
    bench lists
    bench fill --from 30000 --pods 50000
    restart_server
    echo "--- 50,000 pods, started anew"
    bench memory
    bench requests
    bench lists --rounds 3
    bench readers --rounds 1
}

case $step in
    start) start ;;
    restart) restart_server ;;
    stop) stop ;;
    bench) shift 2; bench "$@" ;;
    all) all ;;
    *) fail "unknown step $step" ;;
esac
