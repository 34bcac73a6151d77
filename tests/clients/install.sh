#!/usr/bin/env bash
# Installs the official Python and JavaScript clients, pinned, beside the tree: target/clients/{python,javascript}.
# What is there already is kept. Prints the directory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${CARGO_TARGET_DIR:-$here/../../target}/clients
mkdir -p "$out/javascript"
out=$(cd "$out" && pwd)
if ! cmp -s "$here/python/requirements.txt" "$out/python/requirements.txt"; then
    rm -rf "$out/python"
    python3 -m venv "$out/python" >&2
    "$out/python/bin/pip" -q --disable-pip-version-check install -r "$here/python/requirements.txt" >&2
    cp "$here/python/requirements.txt" "$out/python/"
fi
if ! cmp -s "$here/javascript/package-lock.json" "$out/javascript/package-lock.json" || [ ! -d "$out/javascript/node_modules" ]; then
    cp "$here"/javascript/package*.json "$out/javascript/"
    (cd "$out/javascript" && npm ci --silent --no-audit --no-fund >&2)
fi
printf '%s\n' "$out"
