#!/usr/bin/env bash
# Two machines with systemd: kubeadm init on one, kubeadm join on the other; pods on both, traffic both ways, the
# Service from each, tokens and pins that must be refused, and the joined machine's power cut.
#   two.sh [BIN_DIR]      programs from BIN_DIR (default target/release)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$here/../..
bin=${1:-${CARGO_TARGET_DIR:-$repo/target}/release}
state=${KEELSON_MACHINES:-/var/lib/keelson/machines}
base=$state/base work=$state/two
. "$here/machine.sh"

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }

finish() {
    code=$?
    if [ $code -ne 0 ]; then
        for name in one two; do
            printf '\n--- %s\n' "$name"
            machine "$name" journalctl --no-pager -p warning -n 40 || true
            machine "$name" journalctl --no-pager -u kubelet -u kube-apiserver -n 25 || true
        done
    fi
    machine_off one
    machine_off two
    network_down
    rm -rf "$work"
    exit $code
}

# until LIMIT WHAT COMMAND...: waits for a condition.
until_true() {
    local limit=$1 what=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "not within $limit s: $what" >&2; return 1; }
        sleep 0.3
    done
    say "$what"
}

equals() { [ "$("${@:2}" 2> /dev/null)" = "$1" ] || { echo "expected '$1' from: ${*:2}" >&2; return 1; }; }

install_programs() {
    local name
    for name in kubeadm kubelet kube-proxy keelson-network cluster-dns kube-store kube-apiserver kube-scheduler \
        kube-controller-manager; do
        install -m 755 "$bin/$name" "$work/$1/usr/local/bin/$name"
    done
    install -m 755 "$(command -v kubectl)" "$work/$1/usr/local/bin/kubectl" 2> /dev/null || true
    for name in pause web; do
        cp "$work/images/$name.tar" "$work/$1/root/$name.tar"
        machine "$1" ctr -n k8s.io images import --base-name keelson.local "/root/$name.tar" > /dev/null
    done
}

k() { kubectl --kubeconfig "$work/admin.conf" "$@"; }

# refused WHAT TEXT ARGUMENTS...: a join that must fail with a text and leave nothing behind.
refused() {
    local what=$1 text=$2 output
    shift 2
    if output=$(machine two kubeadm join "$@" 2>&1); then
        echo "$what was accepted" >&2
        return 1
    fi
    grep -qF "$text" <<< "$output" || { echo "$what: expected '$text' in: $output" >&2; return 1; }
    for left in /etc/kubernetes/pki /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf \
        /var/lib/kubelet /etc/systemd/system/kubelet.service; do
        ! machine two test -e "$left" || { echo "$what left $left behind" >&2; return 1; }
    done
    say "refused: $what"
}

ready_nodes() { k get nodes --no-headers | grep -c ' Ready '; }

pods_on() { k get pods -l app=web -o jsonpath="{range .items[?(@.spec.nodeName==\"$1\")]}{.metadata.name}{\"\\n\"}{end}"; }

fetch_from() { k exec "$1" -- fetch "$2"; }

# fetch_on MACHINE ADDRESS: from the machine itself, which has neither curl nor wget.
fetch_on() { machine "$1" timeout 3 bash -c "exec 3<>/dev/tcp/$2/80; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3"; }

mkdir -p "$work"
trap finish EXIT
"$here/base.sh" "$base"
"$repo/deploy/images/build.sh" "$work/images"
network_up
machine_start one 1 & first=$!
machine_start two 2
wait $first
say "two machines run"
install_programs one
install_programs two

machine one kubeadm init > "$work/init.log" 2>&1 || { tail -20 "$work/init.log"; exit 1; }
say "kubeadm init is done"
cp "$work/one/etc/kubernetes/admin.conf" "$work/admin.conf"
until_true 60 "the first node is Ready" equals 1 ready_nodes

join=$(machine one kubeadm token create --print-join-command)
read -r _ _ endpoint _ token _ pin <<< "$join"
until_true 30 "the token is signed" eval "k get configmap cluster-info -n kube-public -o yaml | grep -q jws-kubeconfig-${token%%.*}"
refused "a wrong CA pin" "none of the public keys" "$endpoint" --token "$token" --discovery-token-ca-cert-hash sha256:00ff
refused "an unknown token" "could not find a JWS signature" "$endpoint" --token zzzzzz.0123456789abcdef \
    --discovery-token-ca-cert-hash "$pin"
refused "a wrong secret" "failed to verify JWS signature" "$endpoint" --token "${token%%.*}.0123456789abcdef" \
    --discovery-token-ca-cert-hash "$pin"
gone=$(machine one kubeadm token create)
machine one kubeadm token delete "$gone" > /dev/null
until_true 30 "a deleted token is no longer signed" eval "! k get configmap cluster-info -n kube-public -o yaml | grep -q jws-kubeconfig-${gone%%.*}"
refused "a deleted token" "could not find a JWS signature" "$endpoint" --token "$gone" --discovery-token-ca-cert-hash "$pin"
short=$(machine one kubeadm token create --ttl 1s)
until_true 60 "an expired token is no longer signed" eval "! k get secret bootstrap-token-${short%%.*} -n kube-system"
refused "an expired token" "could not find a JWS signature" "$endpoint" --token "$short" --discovery-token-ca-cert-hash "$pin"

machine two $join > "$work/join.log" 2>&1 || { tail -20 "$work/join.log"; exit 1; }
say "kubeadm join is done"
until_true 60 "both nodes are Ready" equals 2 ready_nodes
k taint nodes one node-role.kubernetes.io/control-plane- > /dev/null
k apply -f "$repo/deploy/sample/web.yaml" > /dev/null
k scale deployment/web --replicas=6 > /dev/null
k rollout status deployment/web --timeout=120s > /dev/null
on_one=$(pods_on one | head -1) on_two=$(pods_on two | head -1)
[ -n "$on_one" ] && [ -n "$on_two" ] || { echo "not on both machines: $(k get pods -o wide)" >&2; exit 1; }
say "pods run on both machines"
ip_of() { k get pod "$1" -o jsonpath='{.status.podIP}'; }
until_true 30 "from the first machine's pod to the second's" equals "Hello from $on_two" fetch_from "$on_one" "$(ip_of "$on_two")"
until_true 30 "from the second machine's pod to the first's" equals "Hello from $on_one" fetch_from "$on_two" "$(ip_of "$on_one")"
service=$(k get service web -o jsonpath='{.spec.clusterIP}')
for name in one two; do
    until_true 30 "the Service answers on machine $name" eval "fetch_on $name $service | grep -q 'Hello from web'"
done
until_true 30 "the name resolves in a pod of the second machine" eval "fetch_from $on_two web.default.svc.cluster.local | grep -q Hello"

machine_off two
say "the second machine's power is cut"
until_true 120 "its node is not Ready" equals 1 ready_nodes
# Pods tolerate a lost node for five minutes by default; the operator need not wait.
k delete node two > /dev/null
until_true 120 "its pods are replaced" eval '[ "$(k get pods -l app=web --field-selector spec.nodeName=one,status.phase=Running --no-headers | wc -l)" = 6 ]'
say "two machines: passed"
