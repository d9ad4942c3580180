#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the tests of the kernels for instruction sets that this processor does not have, or does not use because it has better
# ones, under qemu-user. AMX and AVX-512 have no emulator in Debian.
set -euo pipefail
me=emulate
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
. tools/packages.sh

usage() {
    cat <<'END'
usage: tools/emulate.sh [avx2] [neon]     both, if none is named

  avx2   x86-64 with AVX2 and FMA, as most processors have (qemu-x86_64)
  neon   64-bit Arm (qemu-aarch64); needs a cross linker and installs Rust's standard library for it

Installs qemu-user where it is missing.
END
}

packages=(qemu-user)
sets=()
for argument in "$@"; do
    case $argument in
        -h | --help) usage; exit ;;
        avx2 | neon) sets+=("$argument") ;;
        *) usage >&2; exit 2 ;;
    esac
done
[ "${#sets[@]}" -gt 0 ] || sets=(avx2 neon)
[[ " ${sets[*]} " != *" neon "* ]] || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
has_apt || die "qemu-user is installed with apt: install it, then run cargo test -p nemostt-kernels with it as runner"
install_packages

# Debug builds are slow enough without an emulator.
test_kernels() { NEMOSTT_REQUIRE_ISA=$1 cargo test --release --locked -p nemostt-kernels --lib --test instruction_sets "${@:2}"; }

for set in "${sets[@]}"; do
    case $set in
        avx2)
            [ "$(uname -m)" = x86_64 ] || die "avx2: this machine has another architecture than x86-64"
            CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu max" test_kernels avx2
            ;;
        neon)
            rustup target add aarch64-unknown-linux-gnu
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
                CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
                test_kernels neon --target aarch64-unknown-linux-gnu
            ;;
    esac
done
say "passed: ${sets[*]}"
