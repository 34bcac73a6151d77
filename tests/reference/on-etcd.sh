#!/usr/bin/env bash
# Makes a directory of our programs in which kube-store is a real etcd: the unit's command line is the same.
#   on-etcd.sh etcd|etcd-old      etcd 3.5, or Debian 12's 3.4, which is too old for progress requests
# The programs come from $KEELSON_BIN. Prints the directory, to be the KEELSON_BIN of deploy/up.sh.
set -euo pipefail
name=${1:?usage: on-etcd.sh etcd|etcd-old}
bin=${KEELSON_BIN:?KEELSON_BIN must name the directory of our programs}
etcd=$("$(dirname "$0")/fetch.sh" "$name")/etcd
out=$bin/on-$name
rm -rf "$out"
mkdir -p "$out"
# Hard links, because kubeadm looks for the other programs beside its own file.
for program in "$bin"/{kube,cluster-dns,keelson-}*; do
    [ ! -x "$program" ] || [ -d "$program" ] || cp -l "$program" "$out/"
done
rm "$out/kube-store"
cat > "$out/kube-store" <<PROGRAM
#!/bin/sh
# The one flag whose name these versions do not know yet.
for flag; do
    shift
    case \$flag in --watch-progress-notify-interval=*) flag=--experimental-\${flag#--} ;; esac
    set -- "\$@" "\$flag"
done
exec $etcd "\$@"
PROGRAM
chmod 755 "$out/kube-store"
printf '%s\n' "$out"
