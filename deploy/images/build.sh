#!/usr/bin/env bash
# Builds the local images (there is no registry to pull them from) as archives that `ctr images import` takes:
#   build.sh OUT_DIR   writes OUT_DIR/pause.tar and OUT_DIR/web.tar; what is newer than its sources is kept.
# keelson.local/pause:1  the sandbox
# keelson.local/web:1    busybox with its httpd on port 80: the sample application and the tests' tool box
set -euo pipefail
out=${1:?usage: build.sh OUT_DIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# archive NAME ROOTFS ENTRYPOINT_JSON: a docker archive with one layer. Times and owners are fixed, so that the
# same content gives the same image id.
archive() {
    local name=$1 rootfs=$2 entrypoint=$3 dir=$work/archive diff config
    rm -rf "$dir" && mkdir -p "$dir"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$rootfs" -cf "$dir/layer.tar" .
    diff=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/bin:/sbin:/usr/bin"],"Entrypoint":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}' \
        "$entrypoint" "$diff" > "$dir/config.json"
    config=$(sha256sum "$dir/config.json" | cut -d' ' -f1)
    mv "$dir/config.json" "$dir/$config.json"
    printf '[{"Config":"%s.json","RepoTags":["keelson.local/%s"],"Layers":["layer.tar"]}]' "$config" "$name" \
        > "$dir/manifest.json"
    tar --sort=name --mtime=@0 -C "$dir" -cf "$out/${name%%:*}.tar.new" manifest.json "$config.json" layer.tar
    mv "$out/${name%%:*}.tar.new" "$out/${name%%:*}.tar"
}

if [ ! "$out/pause.tar" -nt "$here/pause.c" ] || [ ! "$out/pause.tar" -nt "$here/build.sh" ]; then
    mkdir -p "$work/pause"
    gcc -Os -static -s -o "$work/pause/pause" "$here/pause.c"
    archive pause:1 "$work/pause" '["/pause"]'
fi
if [ ! "$out/web.tar" -nt "$here/web-init" ] || [ ! "$out/web.tar" -nt "$here/fetch" ] || [ ! "$out/web.tar" -nt "$here/build.sh" ]; then
    root=$work/web
    mkdir -p "$root"/{bin,sbin,etc,tmp,www,root,var}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
    install -m 755 "$here/web-init" "$root/web-init"
    install -m 755 "$here/fetch" "$root/bin/fetch"
    # A resolver that follows resolv.conf's search list as programs do: glibc's, by getent.
    install -m 755 "$(command -v getent)" "$root/bin/getent"
    for library in $(ldd "$(command -v getent)" | grep -o '/[^ ]*'); do
        install -D "$library" "$root$library"
    done
    printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
    archive web:1 "$root" '["/web-init"]'
fi
