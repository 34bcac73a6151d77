# Test machines in systemd-nspawn; sourced, not run. Expects: work (a directory), base (see base.sh), programs (a
# directory, which every machine has as /usr/local/bin).
# Nothing of the host's is shared: the machines' bridge lies in a network namespace of its own, where the host's end is
# 10.98.7.254 and machine N is 10.98.7.N; their files are memory over the base; each has its own cgroups.
machines_netns=keelson-machines machines_bridge=machines0

# outside COMMAND...: runs a command in the machines' network, on no machine.
outside() { nsenter --net=/run/netns/$machines_netns "$@"; }

machines_up() {
    machines_down
    mkdir -p "$work"
    mount -t tmpfs -o mode=755,size=4g keelson-machines "$work"
    ip netns add $machines_netns
    outside ip link set lo up
    outside ip link add $machines_bridge type bridge
    outside ip address add 10.98.7.254/24 dev $machines_bridge
    outside ip link set $machines_bridge up
}

# Removes the machines and their network, also those of a run that was killed.
machines_down() {
    local pid
    for pid in "$work"/*.pid; do
        [ ! -e "$pid" ] || { pid=${pid##*/}; machine_off "${pid%.pid}"; }
    done
    [ ! -e /run/netns/$machines_netns ] || ip netns del $machines_netns
    ! mountpoint -q "$work" || umount -R -l "$work"
    rm -rf "$work"
}

# machine_create NAME N: a new machine, switched off.
machine_create() {
    local name=$1 number=$2 root=$work/$1
    mkdir -p "$root" "$work/$name.files"/{upper,work,containerd}
    mount -t overlay -o "lowerdir=$base,upperdir=$work/$name.files/upper,workdir=$work/$name.files/work" overlay "$root"
    echo "$name" > "$root/etc/hostname"
    printf '127.0.0.1 localhost\n10.98.7.%s %s\n' "$number" "$name" > "$root/etc/hosts"
    mkdir -p "$root/etc/systemd/network"
    printf '[Match]\nName=host0\n[Network]\nAddress=10.98.7.%s/24\nGateway=10.98.7.254\n' "$number" \
        > "$root/etc/systemd/network/10-host0.network"
    echo net.ipv4.ip_forward=1 > "$root/etc/sysctl.d/kubernetes.conf"
    ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
}

# The directories of a machine's cgroups: one below this shell's own in every hierarchy.
machine_cgroups() {
    local controllers path tree
    while IFS=: read -r _ controllers path; do
        tree=/sys/fs/cgroup/${controllers#name=}
        if [ -z "$controllers" ] && [ -d /sys/fs/cgroup/unified ]; then tree=/sys/fs/cgroup/unified; fi
        [ ! -d "$tree" ] || echo "${tree%/}${path%/}/keelson-$1"
    done < /proc/self/cgroup
}

enter_cgroups() {
    local dir file
    for dir in $(machine_cgroups "$1"); do
        mkdir -p "$dir"
        # A cpuset of cgroup v1 takes no process before it has CPUs.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$dir/$file" ] || [ -s "$dir/cgroup.controllers" ] || cat "$dir/../$file" > "$dir/$file"
        done
        echo "$BASHPID" > "$dir/cgroup.procs"
    done
}

# machine_boot NAME: switches a machine on; returns once systemd has started the container runtime.
machine_boot() {
    local name=$1 end
    (
        enter_cgroups "$name"
        exec setsid nsenter --net=/run/netns/$machines_netns systemd-nspawn --quiet --boot --register=no --keep-unit \
            --machine="$name" --directory="$work/$name" --network-bridge=$machines_bridge --capability=all \
            --system-call-filter='@mount @keyring bpf' --console=passive --bind-ro="$programs:/usr/local/bin" \
            --bind="$work/$name.files/containerd:/var/lib/containerd"
    ) >> "$work/$name.console" 2>&1 < /dev/null &
    echo $! > "$work/$name.pid"
    disown
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
        if [ "$(cat /proc/"$child"/comm)" = systemd ]; then echo "$child"; return 0; fi
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
    if leader=$(machine_leader "$1"); then kill -KILL "$leader" "$(cat "$work/$1.pid")" 2> /dev/null || true; fi
    machine_ended "$1"
}

# machine_shutdown NAME: an orderly end.
machine_shutdown() {
    machine "$1" systemctl --no-block poweroff
    machine_ended "$1"
}

# Waits until nothing of a machine runs, and removes its cgroups.
machine_ended() {
    local end=$((SECONDS + 60)) dirs left
    dirs=$(machine_cgroups "$1")
    while :; do
        left=$(for dir in $dirs; do find "$dir" -depth -type d ! -exec rmdir {} \; -print 2> /dev/null || true; done)
        [ -n "$left" ] || ! kill -0 "$(cat "$work/$1.pid")" 2> /dev/null || left=its-process
        [ -n "$left" ] || return 0
        [ "$SECONDS" -lt "$end" ] || { echo "machine $1 did not end: ${left:0:300}" >&2; return 1; }
        sleep 0.1
    done
}
