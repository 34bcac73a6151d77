# What up.sh and down.sh share; sourced, not run.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
dir=/var/lib/keelson/local

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

binaries() { printf '%s\n' "${KEELSON_BIN:-${CARGO_TARGET_DIR:-$repo/target}/release}"; }

# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    local limit=$1 what=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within $limit s; logs are in $dir/log"
        sleep 0.1
    done
}

as_root() { [ "$(id -u)" = 0 ] || fail "run as root: containers, mounts and nftables need it"; }
