#!/usr/bin/env bash
# Runs every test: style, lints, unit and simulation tests, then scenarios and faults against a cluster that
# deploy/up.sh starts for them. Needs root; installs what is missing with apt.
#   tests/run.sh [--no-cluster]     the second form leaves out what needs a cluster
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=yes
[ "${1:-}" != --no-cluster ] || cluster=no
export CARGO_TERM_COLOR=never

say() { printf '\n=== [%4ds] %s\n' "$SECONDS" "$*"; }

missing=()
command -v protoc > /dev/null || missing+=(protobuf-compiler)
command -v gcc > /dev/null || missing+=(build-essential)
command -v etcd > /dev/null || missing+=(etcd-server)
command -v etcdctl > /dev/null || missing+=(etcd-client)
command -v nft > /dev/null || missing+=(nftables)
command -v conntrack > /dev/null || missing+=(conntrack)
command -v curl > /dev/null || missing+=(curl)
command -v ip > /dev/null || missing+=(iproute2)
command -v mkfs.ext4 > /dev/null || missing+=(e2fsprogs)
command -v containerd > /dev/null || missing+=(containerd runc)
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
command -v busybox > /dev/null || missing+=(busybox-static)
command -v debootstrap > /dev/null || missing+=(debootstrap)
command -v systemd-nspawn > /dev/null || missing+=(systemd-container)
command -v npm > /dev/null || missing+=(nodejs npm)
python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
fi
command -v cargo-nextest > /dev/null || { say "installing cargo-nextest"; cargo install --locked cargo-nextest; }

# Programs of others and foreign clients, unpacked and installed beside the tree while we compile.
prepare() {
    local reference
    for reference in etcd etcd-old kubectl-old docker-registry; do tests/reference/fetch.sh $reference; done
    tests/clients/install.sh
    tests/machines/base.sh "$machines/base"
}
machines=${KEELSON_MACHINES:-/var/lib/keelson/machines}
preparing=
if [ $cluster = yes ]; then
    mkdir -p "${CARGO_TARGET_DIR:-target}"
    prepare > "${CARGO_TARGET_DIR:-target}/prepare.log" 2>&1 &
    preparing=$!
fi

# run_tests FILTER [OPTION...]: always of the whole workspace, because a selection by package has other features and would
# compile its dependencies again.
run_tests() { cargo nextest run --workspace --locked -E "$@"; }

say "formatting"
cargo fmt --all --check
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
say "unit and simulation tests"
run_tests 'not binary(scenarios) & not binary(store) & not package(keelson-store-tests)'
say "documentation tests"
cargo test --workspace --doc --locked -q
[ $cluster = yes ] || exit 0

say "building the programs"
cargo build --workspace --locked --bins
export KEELSON_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug
wait $preparing || { cat "${CARGO_TARGET_DIR:-target}/prepare.log"; exit 1; }
say "the store beside etcd"
run_tests 'package(keelson-tests) & binary(store)'
say "the store under faults, beside etcd, and with bytes that are nearly right"
run_tests 'package(keelson-store-tests)'
say "what a cluster leaves behind"
tests/down.sh
say "two machines"
tests/machines/two.sh "$KEELSON_BIN"
export KEELSON_DIR=${KEELSON_DIR:-/var/lib/keelson/tests}
finish() {
    code=$?
    if [ $code -ne 0 ]; then
        for log in "$KEELSON_DIR"/log/*.log; do printf '\n--- %s\n' "$log"; tail -n 25 "$log"; done
    fi
    deploy/down.sh --dir "$KEELSON_DIR" || true
    exit $code
}
trap finish EXIT
say "starting a cluster"
deploy/up.sh --dir "$KEELSON_DIR" --no-build
say "scenarios and faults"
run_tests 'binary(scenarios)' -j 4
deploy/down.sh --dir "$KEELSON_DIR"

# What concerns the API server again, with a real etcd in the store's place; 3.4 knows no progress requests.
for etcd in etcd etcd-old; do
    say "the same on $etcd"
    KEELSON_BIN=$(tests/reference/on-etcd.sh $etcd) deploy/up.sh --dir "$KEELSON_DIR" --no-build --no-sample
    run_tests 'binary(scenarios) & test(/::(apply|bad-input|cluster|configmaps|labels|mistakes|output|client-.*|clients)$/)' -j 4
    deploy/down.sh --dir "$KEELSON_DIR"
done
