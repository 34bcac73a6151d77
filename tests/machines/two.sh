#!/usr/bin/env bash
# Two machines with systemd: kubeadm init on one, kubeadm join on the other. Tokens and pins that must be refused; pods
# on both, traffic, Services and names; logs, exec and port-forward across; the joined machine's power cut and back; the
# first machine shut down and back; kubeadm reset on both; the same machines once more, from configuration files.
#   two.sh [BIN_DIR]      programs from BIN_DIR (default target/release)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$here/../..
bin=${1:-${CARGO_TARGET_DIR:-$repo/target}/release}
state=${KEELSON_MACHINES:-/var/lib/keelson/machines}
base=$state/base work=$state/two programs=$state/programs
. "$here/machine.sh"
. "$here/steps.sh"

finish() {
    code=$?
    [ $code = 0 ] || show_machines
    machines_down
    rm -rf "$programs"
    exit $code
}
trap finish EXIT
"$here/base.sh" "$base"
collect_programs
machines_up
"$repo/deploy/images/build.sh" "$work/images"
say "machines' files are made"
machine_create one 1
machine_create two 2
machine_boot one
machine_boot two
for name in one two; do
    import_images $name
    inventory $name > "$work/$name.before"
done
say "two machines run"

control_plane_comes_up
secrets_are_private
tokens_are_managed
wrong_tokens_are_refused
machine_joins
pods_run_on_both
traffic_flows
streams_reach_the_joined_machine
power_is_cut
certificates_are_renewed
machine_comes_back
control_plane_reboots
machines_are_reset
cluster_is_made_from_files
machines_are_reset
say "two machines: passed"
