#!/usr/bin/env bash
# Makes the root file system that test machines are copied from: Debian 12 with systemd and containerd, as an
# operator would install it, and nothing of ours.
#   base.sh DIR
set -euo pipefail
base=${1:?usage: base.sh DIR}
made_by=$(sha256sum < "$0")
[ "$(cat "$base/.done" 2> /dev/null)" != "$made_by" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
missing=()
command -v debootstrap > /dev/null || missing+=(debootstrap)
command -v systemd-nspawn > /dev/null || missing+=(systemd-container)
[ ${#missing[@]} = 0 ] || { apt-get -qq update; apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null; }
rm -rf "$base"
mkdir -p "$base"

# The mirror and proxy that this machine's apt uses.
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Component: main' | sed -n 's/^bookworm //p' | sed -n 1p)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
packages=systemd,systemd-sysv,dbus,iproute2,nftables,conntrack,containerd,runc,containernetworking-plugins,procps,kmod,busybox-static
debootstrap --variant=minbase --include=$packages bookworm "$base" "${mirror:-http://deb.debian.org/debian}" > "$base.log" 2>&1 ||
    { tail -5 "$base.log" >&2; exit 1; }
rm -rf "$base"/var/cache/apt/archives/*.deb "$base"/var/lib/apt/lists/*
: > "$base/etc/machine-id"
ln -sf /dev/null "$base/etc/systemd/system/systemd-resolved.service"
mkdir -p "$base/etc/systemd/system/containerd.service.d" "$base/etc/containerd" "$base/usr/local/sbin"

# In a machine made by nspawn the cgroup v1 controllers are mounted read-only; a real machine's are not.
cat > "$base/usr/local/sbin/writable-cgroups" <<'SCRIPT'
#!/bin/sh
for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    dir=/sys/fs/cgroup/$controller
    [ -d "$dir" ] || continue
    while umount "$dir" 2> /dev/null; do :; done
    mount -t cgroup -o "$controller" cgroup "$dir"
done
exit 0
SCRIPT
chmod 755 "$base/usr/local/sbin/writable-cgroups"
printf '[Service]\nExecStartPre=/usr/local/sbin/writable-cgroups\n' \
    > "$base/etc/systemd/system/containerd.service.d/cgroups.conf"
cat > "$base/etc/containerd/config.toml" <<'CONFIG'
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "keelson.local/pause:1"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
CONFIG
echo "$made_by" > "$base/.done"
