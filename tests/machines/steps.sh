# The steps of two.sh, in order; sourced, not run.

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }

# until_true LIMIT WHAT COMMAND...: waits for a condition.
until_true() {
    local limit=$1 what=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "not within $limit s: $what" >&2; "$@" >&2 || true; return 1; }
        sleep 0.2
    done
    say "$what"
}

equals() { local got; got=$("${@:2}" 2> /dev/null); [ "$got" = "$1" ] || { echo "expected '$1' from: ${*:2}; got '$got'" >&2; return 1; }; }

# shows TEXT COMMAND...: the command's output has the text.
shows() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || { echo "failed: $*: $output" >&2; return 1; }
    grep -qF -e "$text" <<< "$output" || { echo "expected '$text' from: $*; got: $output" >&2; return 1; }
}

# fails_with TEXT COMMAND...: the command fails, and says the text.
fails_with() {
    local text=$1 output
    shift
    ! output=$("$@" 2>&1) || { echo "succeeded: $*: $output" >&2; return 1; }
    grep -qF -e "$text" <<< "$output" || { echo "expected '$text' from: $*; got: $output" >&2; return 1; }
}

k() { outside kubectl --kubeconfig "$work/admin.conf" "$@"; }

inventory() { machine "$1" bash -s < "$here/../inventory.sh"; }

# same WHAT BEFORE AFTER: two inventories are equal.
same() {
    diff "$2" "$3" > "$work/difference" || { echo "$1 (< was there before, > is left):" >&2; cat "$work/difference" >&2; return 1; }
    say "$1"
}

show_machines() {
    local name
    for name in one two; do
        printf '\n--- %s\n' "$name"
        machine "$name" journalctl --no-pager -o short-precise -p warning -n 30 || true
        machine "$name" journalctl --no-pager -o short-precise -u kubelet -u kube-apiserver -n 30 || true
    done
    k get nodes,pods -A -o wide || true
}

collect_programs() {
    local name
    rm -rf "$programs" && mkdir -p "$programs"
    for name in kubeadm kubelet kube-proxy keelson-network cluster-dns kube-store kube-apiserver kube-scheduler \
        kube-controller-manager; do
        ln "$bin/$name" "$programs/" 2> /dev/null || cp "$bin/$name" "$programs/"
    done
}

import_images() {
    local image
    for image in pause web; do
        machine "$1" ctr -n k8s.io images import --base-name keelson.local - < "$work/images/$image.tar" > /dev/null
    done
}

ready_nodes() { k get nodes --no-headers | awk '$2 == "Ready"' | wc -l; }

control_plane_comes_up() {
    machine one kubeadm init > "$work/init.log" 2>&1 || { tail -20 "$work/init.log"; return 1; }
    grep -qF 'Your Kubernetes control-plane has initialized successfully!' "$work/init.log"
    say "kubeadm init is done"
    cp "$work/one/etc/kubernetes/admin.conf" "$work/admin.conf"
    until_true 60 "the first node is Ready" equals 1 ready_nodes
    fails_with '[ERROR Port-6443]: Port 6443 is in use' machine one kubeadm init
}

secrets_are_private() {
    local open
    open=$(machine one find /etc/kubernetes /var/lib/kubelet/pki \( -name '*.key' -o -name '*.conf' -o -name 'kubelet-client-*.pem' \) -type f -perm /077)
    [ -z "$open" ] || { echo "others may read: $open" >&2; return 1; }
    say "keys and kubeconfigs are root's alone"
}

signatures() { k get configmap cluster-info -n kube-public -o jsonpath='{.data}'; }
unsigned() { local all; all=$(signatures) && ! grep -qF "jws-kubeconfig-${1%%.*}" <<< "$all"; }

tokens_are_managed() {
    local token
    read -r _ _ endpoint _ token _ pin <<< "$(machine one kubeadm token create --print-join-command)"
    join=(kubeadm join "$endpoint" --token "$token" --discovery-token-ca-cert-hash "$pin")
    known=$token
    shows 'system:bootstrappers:kubeadm:default-node-token' machine one kubeadm token list
    shows "$token" machine one kubeadm token list
    equals 23 machine one bash -c 'kubeadm token generate | tr -d "\n" | wc -c'
    gone=$(machine one kubeadm token create --description 'for nobody')
    shows 'for nobody' machine one kubeadm token list
    shows "bootstrap token \"${gone%%.*}\" deleted" machine one kubeadm token delete "$gone"
    short=$(machine one kubeadm token create --ttl 1s)
    fails_with 'already exists' machine one kubeadm token create "$known"
    say "tokens are made, listed and deleted"
}

# refused WHAT TEXT ARGUMENTS...: a join that must fail with a text and leave nothing behind.
refused() {
    fails_with "$2" machine two kubeadm join "$endpoint" "${@:3}"
    inventory two > "$work/two.after"
    same "refused: $1" "$work/two.before" "$work/two.after"
}

wrong_tokens_are_refused() {
    refused "a wrong CA pin" "none of the public keys" --token "$known" \
        --discovery-token-ca-cert-hash sha256:0000000000000000000000000000000000000000000000000000000000000000
    refused "an unknown token" "could not find a JWS signature" --token zzzzzz.0123456789abcdef --discovery-token-ca-cert-hash "$pin"
    refused "a wrong secret" "failed to verify JWS signature" --token "${known%%.*}.0123456789abcdef" --discovery-token-ca-cert-hash "$pin"
    until_true 30 "a deleted token is no longer signed" unsigned "$gone"
    refused "a deleted token" "could not find a JWS signature" --token "$gone" --discovery-token-ca-cert-hash "$pin"
    until_true 60 "an expired token is no longer signed" unsigned "$short"
    refused "an expired token" "could not find a JWS signature" --token "$short" --discovery-token-ca-cert-hash "$pin"
}

machine_joins() {
    machine two "${join[@]}" > "$work/join.log" 2>&1 || { tail -20 "$work/join.log"; return 1; }
    grep -qF 'This node has joined the cluster:' "$work/join.log"
    say "kubeadm join is done"
    until_true 60 "both nodes are Ready" equals 2 ready_nodes
    fails_with '[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists' machine two "${join[@]}"
}

pods_on() { k get pods -l "app=$2" --field-selector "spec.nodeName=$1,status.phase=Running" -o name; }
running_on() { pods_on "$1" "$2" | wc -l; }
ip_of() { k get "$1" -o jsonpath='{.status.podIP}'; }

pods_run_on_both() {
    k taint nodes one node-role.kubernetes.io/control-plane- > /dev/null
    k apply -f "$repo/deploy/sample/web.yaml" > /dev/null
    k patch service web -p '{"spec":{"type":"NodePort"}}' > /dev/null
    k scale deployment/web --replicas=4 > /dev/null
    k rollout status deployment/web --timeout=120s > /dev/null
    # These pods leave a lost node after two seconds instead of upstream's five minutes.
    k cordon one > /dev/null
    k apply -f "$here/quick.yaml" > /dev/null
    k rollout status deployment/quick --timeout=60s > /dev/null
    k uncordon one > /dev/null
    on_one=$(pods_on one web | sed -n 1p) on_two=$(pods_on two web | sed -n 1p)
    [ -n "$on_one" ] && [ -n "$on_two" ] || { echo "not on both machines: $(k get pods -o wide)" >&2; return 1; }
    equals 2 running_on two quick
    say "pods run on both machines"
}

fetch_from() { k exec "$1" -- fetch "$2"; }
page='exec 3<>/dev/tcp/$0/$1; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3'
# From a machine itself, and from outside: neither has curl.
fetch_on() { machine "$1" timeout 3 bash -c "$page" "$2" "$3"; }
fetch_outside() { outside timeout 3 bash -c "$page" "$1" "$2"; }

traffic_flows() {
    local name address port
    until_true 30 "from the first machine's pod to the second's" equals "Hello from ${on_two#pod/}" fetch_from "$on_one" "$(ip_of "$on_two")"
    until_true 30 "from the second machine's pod to the first's" equals "Hello from ${on_one#pod/}" fetch_from "$on_two" "$(ip_of "$on_one")"
    address=$(k get service web -o jsonpath='{.spec.clusterIP}') port=$(k get service web -o jsonpath='{.spec.ports[0].nodePort}')
    for name in one two; do
        until_true 30 "the Service answers on machine $name" shows "Hello from web" fetch_on $name "$address" 80
    done
    for name in 1 2; do
        until_true 30 "its node port answers from outside at machine $name" shows "Hello from web" fetch_outside 10.98.7.$name "$port"
    done
    for name in "$on_one" "$on_two"; do
        until_true 30 "its names resolve in $name" shows "Hello from web" fetch_from "$name" web.default.svc.cluster.local
        shows "Hello from web" fetch_from "$name" web
        # The other machine's endpoints too: every pod answers sooner or later.
        until_true 30 "it reaches the other machine's pods" shows "Hello from $([ "$name" = "$on_one" ] && echo "${on_two#pod/}" || echo "${on_one#pod/}")" fetch_from "$name" web
    done
}

streams_reach_the_joined_machine() {
    local forward
    equals "${on_two#pod/}" k exec "$on_two" -- hostname
    equals inside k exec -i "$on_two" -- cat <<< inside
    k exec "$on_two" -- sh -c 'echo told > /proc/1/fd/1'
    until_true 10 "logs come from the joined machine" equals told k logs "$on_two"
    k cp "$here/../inventory.sh" "${on_two#pod/}:/tmp/inventory.sh" > /dev/null
    k exec "$on_two" -- cat /tmp/inventory.sh | cmp - "$here/../inventory.sh"
    k port-forward "$on_two" :80 > "$work/forward" 2>&1 & forward=$!
    until_true 10 "port-forward listens" grep -q 'Forwarding from 127.0.0.1' "$work/forward"
    shows "Hello from ${on_two#pod/}" fetch_outside 127.0.0.1 "$(sed -n 's/Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")"
    kill $forward
    say "exec, cp and port-forward reach the joined machine"
}

condition_of_two() { k get node two -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'; }

power_is_cut() {
    machine_off two
    say "the second machine's power is cut"
    until_true 90 "its node is not Ready" equals Unknown condition_of_two
    until_true 30 "it is tainted" shows NoExecute k get node two -o jsonpath='{.spec.taints[?(@.key=="node.kubernetes.io/unreachable")].effect}'
    until_true 60 "its pods of short toleration are replaced" equals 2 running_on one quick
    # Others tolerate a lost node for five minutes; the operator need not wait.
    k delete node two > /dev/null
}

certificates_are_renewed() {
    local before after
    shows 'RESIDUAL TIME' machine one kubeadm certs check-expiration
    before=$(machine one sha256sum /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/admin.conf)
    shows 'certificate for serving the Kubernetes API renewed' machine one kubeadm certs renew all
    after=$(machine one sha256sum /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/admin.conf)
    [ "$before" != "$after" ] || { echo "no certificate was renewed" >&2; return 1; }
    cp "$work/one/etc/kubernetes/admin.conf" "$work/admin.conf"
    until_true 30 "certificates are renewed, and used" shows one k get node one
    until_true 120 "all pods of the removed node are replaced" equals 4 running_on one web
}

machine_comes_back() {
    machine_boot two
    say "the second machine is switched on"
    until_true 60 "it is Ready by itself" equals 2 ready_nodes
    k cordon one > /dev/null
    k rollout restart deployment/quick > /dev/null
    k rollout status deployment/quick --timeout=60s > /dev/null
    k uncordon one > /dev/null
    equals 2 running_on two quick
    on_two=$(pods_on two quick | sed -n 1p)
    equals "Hello from ${on_two#pod/}" fetch_from "$(pods_on one web | sed -n 1p)" "$(ip_of "$on_two")"
    say "it runs pods again"
}

control_plane_reboots() {
    local address
    address=$(ip_of "$on_two")
    machine_shutdown one
    say "the first machine is shut down"
    shows "Hello from ${on_two#pod/}" fetch_on two "$address" 80
    machine_boot one
    until_true 60 "its API server is back" equals ok k get --raw /readyz
    until_true 60 "both nodes are Ready" equals 2 ready_nodes
    k rollout status deployment/web --timeout=60s > /dev/null
    say "its pods are available"
    until_true 60 "they answer on the other machine" shows "Hello from web" fetch_on two "$(k get service web -o jsonpath='{.spec.clusterIP}')" 80
    equals "Hello from ${on_two#pod/}" fetch_from "$(pods_on one web | sed -n 1p)" "$(ip_of "$on_two")"
}

# Machines that were reset make a cluster again, this time from files.
cluster_is_made_from_files() {
    cp "$here/init.yaml" "$work/one/root/init.yaml"
    cp "$here/join.yaml" "$work/two/root/join.yaml"
    equals ok machine one kubeadm config validate --config /root/init.yaml
    machine one kubeadm init --config /root/init.yaml > "$work/init.log" 2>&1 || { tail -20 "$work/init.log"; return 1; }
    cp "$work/one/etc/kubernetes/admin.conf" "$work/admin.conf"
    machine two kubeadm join --config /root/join.yaml > "$work/join.log" 2>&1 || { tail -20 "$work/join.log"; return 1; }
    until_true 60 "machines that were reset are a cluster again" equals 2 ready_nodes
    equals "7 7" k get nodes -o jsonpath='{.items[*].status.capacity.pods}'
    equals file k get node one -o jsonpath='{.metadata.labels.made-by}'
    shows node-monitor-grace-period=20s machine one bash -c 'tr "\0" "\n" < /proc/$(pidof kube-controller-manager)/cmdline'
}

machines_are_reset() {
    local name
    for name in two one; do
        machine $name kubeadm reset --force > "$work/reset.log" 2>&1 || { tail -20 "$work/reset.log"; return 1; }
        inventory $name > "$work/$name.after"
        same "kubeadm reset left nothing on machine $name" "$work/$name.before" "$work/$name.after"
    done
}
