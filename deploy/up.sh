#!/usr/bin/env bash
# Starts a one-node cluster on this machine and deploys the sample application. Safe to run again.
#   deploy/up.sh [--dir DIR] [--node-name NAME] [--no-build] [--no-sample]
# Everything lies below DIR (default /var/lib/keelson/local): DIR/admin.conf is the administrator's kubeconfig,
# DIR/run/NAME.pid a process's id, DIR/log/NAME.log its log. deploy/down.sh removes it all.
. "$(dirname "$0")/lib/local.sh"

build=yes sample=yes node=$(hostname | tr '[:upper:]' '[:lower:]')
while [ $# -gt 0 ]; do
    case $1 in
        --dir) dir=${2:?--dir needs a directory}; shift ;;
        --dir=*) dir=${1#*=} ;;
        --node-name) node=${2:?--node-name needs a name}; shift ;;
        --node-name=*) node=${1#*=} ;;
        --no-build) build=no ;;
        --no-sample) sample=no ;;
        -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift
done
as_root
bin=$(binaries)
socket=$dir/run/containerd/containerd.sock

install_missing() {
    local missing=() pair
    for pair in gcc:build-essential protoc:protobuf-compiler containerd:containerd runc:runc nft:nftables ip:iproute2 \
        conntrack:conntrack busybox:busybox-static kubectl:kubernetes-client; do
        command -v "${pair%%:*}" > /dev/null || missing+=("${pair##*:}")
    done
    [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null ||
        fail "apt could not install ${missing[*]}"
}

build() {
    say "building (a first build takes some minutes)"
    (cd "$repo" && cargo build --release --locked --bins) || fail "the build failed"
}

write_containerd_config() {
    mkdir -p "$dir/containerd" "$dir/run/containerd" "$dir/cni/net.d"
    cat > "$dir/containerd/config.toml" <<CONFIG
version = 2
root = "$dir/containerd/root"
state = "$dir/run/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "keelson.local/pause:1"
  restrict_oom_score_adj = $(cannot_lower_oom_score && echo true || echo false)
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$dir/containerd/certs.d"
CONFIG
}

# Without CAP_SYS_RESOURCE no process may be made less likely to be killed than its parent.
cannot_lower_oom_score() {
    ! (echo -999 > /proc/self/oom_score_adj) 2> /dev/null
}

import_images() {
    "$repo/deploy/images/build.sh" "$dir/images"
    wait_for 30 "containerd answers" ctr -a "$socket" version
    local image
    for image in pause web; do
        ctr -a "$socket" -n k8s.io images import --base-name keelson.local "$dir/images/$image.tar" > /dev/null ||
            fail "containerd did not take the image $image"
    done
}

start_cluster() {
    local skip=mark-control-plane,show-join-command
    if [ -s "$dir/run/supervisor.pid" ] && kill -0 "$(cat "$dir/run/supervisor.pid")" 2> /dev/null; then
        say "a cluster runs here already: taking up changes"
        skip=$skip,preflight
    fi
    sysctl -qw net.ipv4.ip_forward=1
    modprobe -q br_netfilter 2> /dev/null || true
    mkdir -p "$dir/log"
    # Images are needed only once the first pod starts: their import runs beside the control plane's start.
    import_images &
    local importing=$!
    "$bin/kubeadm" init --state-dir "$dir" --service-manager supervisor --node-name "$node" --skip-phases "$skip" \
        > "$dir/log/kubeadm.log" 2>&1 || { tail -5 "$dir/log/kubeadm.log" >&2; fail "kubeadm init failed"; }
    wait $importing || fail "the images could not be imported"
    say "the control plane is up"
    wait_for 60 "the node registers" kubectl get node "$node"
    kubectl wait --for=condition=Ready "node/$node" --timeout=60s > /dev/null ||
        fail "the node is not ready; see $dir/log/kubelet.log"
    say "the node is ready"
}

deploy_sample() {
    say "deploying the sample application"
    wait_for 30 "the default service account" kubectl get serviceaccount default
    kubectl apply -f "$repo/deploy/sample/web.yaml"
    kubectl rollout status deployment/web --timeout=120s || fail "the sample did not become ready; see 'kubectl get events'"
}

show() {
    printf '\n'
    kubectl get nodes -o wide
    printf '\n'
    kubectl get pods -o wide
    printf '\n'
    kubectl get services
    printf '\n'
    kubectl get events --sort-by=.metadata.creationTimestamp
}

install_missing
[ $build = no ] || build
[ -x "$bin/kubeadm" ] || fail "$bin/kubeadm is missing: run without --no-build"
export KUBECONFIG=$dir/admin.conf
write_containerd_config
start_cluster
[ $sample = no ] || { deploy_sample && show; }
printf '\nThe cluster is up. To use it:\n  export KUBECONFIG=%s/admin.conf\n  kubectl get pods -A\n' "$dir"
