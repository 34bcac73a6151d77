# Test machines in systemd-nspawn, on a bridge of their own; sourced, not run.
# Expects: work (a directory), base (see base.sh). Addresses: 10.98.7.N for machine N.
bridge=kmach0

network_up() {
    ip link show $bridge > /dev/null 2>&1 || ip link add $bridge type bridge
    ip addr replace 10.98.7.254/24 dev $bridge
    ip link set $bridge up
    sysctl -qw net.ipv4.ip_forward=1
}

network_down() { ip link del $bridge 2> /dev/null || true; }

# machine_start NAME N: copies the base and boots it; returns once systemd answers.
machine_start() {
    local name=$1 number=$2 root=$work/$1 end
    cp -a --reflink=auto "$base" "$root"
    echo "$name" > "$root/etc/hostname"
    printf '127.0.0.1 localhost\n10.98.7.%s %s\n' "$number" "$name" > "$root/etc/hosts"
    mkdir -p "$root/etc/systemd/network"
    printf '[Match]\nName=host0\n[Network]\nAddress=10.98.7.%s/24\nGateway=10.98.7.254\n' "$number" \
        > "$root/etc/systemd/network/10-host0.network"
    ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    setsid systemd-nspawn --quiet --boot --register=no --keep-unit --machine="$name" --directory="$root" \
        --network-bridge=$bridge --capability=all --system-call-filter='@mount @keyring bpf' \
        --console=passive > "$work/$name.console" 2>&1 < /dev/null &
    echo $! > "$work/$name.pid"
    end=$((SECONDS + 60))
    until machine "$name" systemctl is-active containerd.service > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { tail -20 "$work/$name.console" >&2; echo "machine $name did not boot" >&2; return 1; }
        sleep 0.2
    done
}

# The process number 1 of a machine, as the host numbers it.
machine_leader() {
    local nspawn child
    nspawn=$(cat "$work/$1.pid")
    for child in $(cat /proc/"$nspawn"/task/*/children 2> /dev/null); do
        if [ "$(cat /proc/"$child"/comm)" = systemd ]; then echo "$child"; return; fi
    done
    return 1
}

# machine NAME COMMAND...: runs a command inside.
machine() {
    local leader
    leader=$(machine_leader "$1") || return 1
    shift
    nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
}

# machine_off NAME: as if the power were cut.
machine_off() {
    local leader
    leader=$(machine_leader "$1") || return 0
    kill -KILL "$leader" "$(cat "$work/$1.pid")" 2> /dev/null || true
}
