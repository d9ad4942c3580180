#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Packs every crate of the workspace as "cargo publish" would, without building it. Fails if crates.io would reject one as
# too large, or if it lacks a file that every package must have. The examples are not published.
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
pack() {
    "${CARGO:-cargo}" package --workspace --exclude nemostt-examples --locked --no-verify --allow-dirty --quiet "$@"
}
# Usually nothing must be downloaded.
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
    [ "$size" -lt "$most" ] || complain "$name has $size bytes, more than $most"
    for file in "${required[@]}"; do
        grep -qxF "$name/$file" <<<"$files" || complain "$name lacks $file"
    done
done
[ "$fault" = no ] || die "some packages are too large or incomplete"
