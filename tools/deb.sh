#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds target/debian/nemostt_VERSION_ARCHITECTURE.deb: what "make install PREFIX=/usr" installs, stripped, with the
# pinned ONNX Runtime. It is for the release of Debian or Ubuntu that it was built on, and newer ones.
set -euo pipefail
me=deb
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_deb=3.8.0
staged=$PWD/target/deb
cargo=${CARGO:-cargo}

has_apt || die "this is not Debian or Ubuntu"
# One of the user's own is not for others.
unset ORT_DYLIB_PATH
tools/setup.sh --deb

if [ "$(target/tools/bin/cargo-deb --version 2>/dev/null)" != "cargo-deb $cargo_deb" ]; then
    say "installing cargo-deb $cargo_deb into target/tools"
    "$cargo" install --quiet --locked --root target/tools --version "=$cargo_deb" cargo-deb ||
        die "cargo-deb could not be installed"
fi

rm -rf "$staged"
# Where Debian's zsh looks.
make install DESTDIR="$staged" PREFIX=/usr ZSHDIR=/usr/share/zsh/vendor-completions
find "$staged/usr" \( -name libgstnemostt.so -o -path '*/bin/nemostt' \) -exec strip --strip-unneeded {} +
tools/deb_copyright.py target/onnxruntime "$staged/doc"

rm -f target/debian/*.deb
package=$(target/tools/bin/cargo-deb deb --no-build --no-strip --locked --output target/debian/)
say "$package: $(stat -c %s "$package") bytes"
