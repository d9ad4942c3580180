#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Packs every crate of the workspace but the examples as "cargo publish" would, without building it, and fails where crates.io would
# refuse one as too large, or where a file is missing that every package must have.
set -euo pipefail
me=package
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# crates.io's limit for a packed crate.
most=$((10 * 1024 * 1024))
required=(Cargo.toml README.md LICENSE-MIT LICENSE-APACHE src/lib.rs)
packed=${CARGO_TARGET_DIR:-target}/package

rm -f "$packed"/*.crate
# --allow-dirty: what is checked is what is here, committed or not.
pack() { "${CARGO:-cargo}" package --workspace --exclude nemostt-examples --locked --no-verify --allow-dirty --quiet "$@"; }
# As a rule all that it looks up is at hand.
pack --offline 2>/dev/null || pack

fault=no
complain() {
    say "$*" >&2
    fault=yes
}
for crate in "$packed"/*.crate; do
    name=$(basename "$crate" .crate)
    size=$(stat -c %s "$crate")
    files=$(tar -tzf "$crate")
    say "$(printf '%-28s %9d bytes, %3d files' "$name" "$size" "$(wc -l <<<"$files")")"
    [ "$size" -lt "$most" ] || complain "$name has $size bytes, and $most are too many"
    for file in "${required[@]}"; do
        grep -qxF "$name/$file" <<<"$files" || complain "$name lacks $file"
    done
done
[ "$fault" = no ] || die "crates.io would not take these packages, or they are incomplete"
