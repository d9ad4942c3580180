#!/usr/bin/env bash
# Prepares a Debian 12+ or Ubuntu 22.04+ machine to build and run nemostt:
# system packages, Rust, and ONNX Runtime. Safe to run again: installs only what
# is missing.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: tools/setup.sh [--test] [--deb]

  --test   also install what the tests need
  --deb    also install what building a Debian package needs

To use your own ONNX Runtime instead of downloading one, set ORT_DYLIB_PATH to its libonnxruntime.so.
EOF
}

me=setup
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

want_tests=no want_deb=no
for arg in "$@"; do
    case $arg in
        --test) want_tests=yes ;;
        --deb) want_deb=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ---- System packages ----

packages=(
    gcc libc6-dev make pkg-config
    curl ca-certificates
    python3 # unpacks the ONNX Runtime wheel
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-tools
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-x
)
test_packages=(
    python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0
    meson ninja-build
    strace # for the test that no network connections are made
)

deb_packages=(dpkg-dev binutils)

# Package names differ on other systems, so only check for the tools and libraries.
check_without_dpkg() {
    local missing=() tool module
    for tool in cc curl python3 gst-launch-1.0 pkg-config; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    for module in gstreamer-1.0 gstreamer-base-1.0 gstreamer-audio-1.0 gstreamer-app-1.0 gstreamer-pbutils-1.0; do
        pkg-config --exists "$module" 2>/dev/null || missing+=("$module.pc")
    done
    [ "${#missing[@]}" -eq 0 ] ||
        die "this is not Debian or Ubuntu; install these manually: ${missing[*]}"
    say "system packages: not Debian or Ubuntu, but the build tools are installed"
}

[ "$want_tests" = no ] || packages+=("${test_packages[@]}")
[ "$want_deb" = no ] || packages+=("${deb_packages[@]}")
if has_apt; then
    install_packages
else
    check_without_dpkg
fi

# ---- Rust ----

cargo=${CARGO:-cargo}
cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# After rustup installs cargo, it is not in PATH until the next login.
case ":$PATH:" in
    *":$cargo_bin:"*) ;;
    *) PATH=$cargo_bin:$PATH ;;
esac

# Prints nothing if there is no working cargo.
cargo_version() { "$cargo" --version 2>/dev/null | awk '{ print $2 }' || true; }

is_new_enough() {
    [ -n "$1" ] && printf '%s\n' "$rust_wanted" "$1" | sort -V -C
}

install_rust() {
    local installer args rc=0
    installer=$(mktemp)
    args=(-y --profile minimal --component rustfmt --component clippy)
    say "installing Rust with rustup, into $cargo_bin"
    # Download the whole file first, so that a truncated script is not run.
    if curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 20 \
        https://sh.rustup.rs -o "$installer"; then
        RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$installer" "${args[@]}" || rc=$?
    else
        rc=1
    fi
    rm -f "$installer"
    [ "$rc" -eq 0 ] ||
        die "Rust could not be installed. Run this, then try again:" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- ${args[*]}"
    hash -r
}

version=$(cargo_version)
if is_new_enough "$version"; then
    say "Rust: cargo $version is already installed"
elif command -v rustup >/dev/null; then
    die "cargo $rust_wanted or newer is needed, found ${version:-no working cargo}. Run this, then try again:" \
        "  rustup update stable && rustup default stable"
else
    install_rust
    version=$(cargo_version)
    is_new_enough "$version" ||
        die "cargo is still ${version:-not found}. Put $cargo_bin first in PATH, then try again:" \
            "  export PATH=\"$cargo_bin:\$PATH\""
    say "Rust: cargo $version installed; for this shell: . \"${cargo_bin%/bin}/env\""
fi

if [ "$want_tests" = yes ]; then
    for component in fmt:rustfmt clippy:clippy; do
        "$cargo" "${component%:*}" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null ||
            die "cargo ${component%:*} is missing: install the package ${component#*:} of your Rust distribution"
        say "adding ${component#*:} to Rust"
        rustup component add "${component#*:}" ||
            die "${component#*:} could not be added. Run this, then try again:" \
                "  rustup component add ${component#*:}"
    done
fi

# ---- ONNX Runtime ----

lock=tools/onnxruntime.lock
ort_dir=target/onnxruntime
scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

sha256() { sha256sum "$1" | cut -d ' ' -f 1; }

# Downloads the wheel to $scratch, directly or with pip.
download_wheel() {
    local wheel=$1 url=$2 arch=$3 ort_version=$4
    say "downloading ONNX Runtime $ort_version for $arch"
    if curl --proto '=https' --tlsv1.2 -fsSL --retry 3 --connect-timeout 20 \
        -o "$scratch/$wheel" "$url"; then
        return
    fi
    rm -f "$scratch/$wheel"

    # pip uses the mirrors and proxies that are configured on this machine.
    say "the download failed; trying pip"
    if python3 -m pip download --quiet --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.11 \
        --platform "manylinux_2_28_$arch" \
        --dest "$scratch" "onnxruntime==$ort_version" &&
        [ -f "$scratch/$wheel" ]; then
        return
    fi
    die "ONNX Runtime could not be downloaded. Put this file into $ort_dir, then try again:" \
        "  $url" \
        "or set ORT_DYLIB_PATH to your own libonnxruntime.so."
}

fetch_onnxruntime() {
    local arch ort_version library wheel sum url file got
    # Needed where the library is passed on: in a Debian package.
    local notices=(LICENSE ThirdPartyNotices.txt)
    arch=$(uname -m)
    ort_version=$(awk '$1 == "version" { print $2 }' "$lock")
    library=libonnxruntime.so.$ort_version

    if [ -f "$ort_dir/$library" ] && { [ "$want_deb" = no ] || [ -f "$ort_dir/${notices[1]}" ]; }; then
        say "ONNX Runtime: $ort_dir/$library is already installed"
        ln -sfn "$library" "$ort_dir/libonnxruntime.so"
        return
    fi

    read -r wheel sum url < <(awk -v a="$arch" '$1 == a { print $2, $3, $4 }' "$lock") ||
        die "no ONNX Runtime is pinned for $arch: set ORT_DYLIB_PATH to your own libonnxruntime.so"

    mkdir -p "$ort_dir"
    scratch=$(mktemp -d "$ort_dir/.setup.XXXXXX")
    file=$ort_dir/$wheel
    if [ -f "$file" ] && [ "$(sha256 "$file")" = "$sum" ]; then
        say "ONNX Runtime: using $file"
    else
        [ ! -f "$file" ] || say "the checksum of $file does not match $lock; not using it"
        download_wheel "$wheel" "$url" "$arch" "$ort_version"
        file=$scratch/$wheel
    fi

    got=$(sha256 "$file")
    [ "$got" = "$sum" ] ||
        die "$wheel has the wrong checksum and is not used:" \
            "  expected $sum" "  got      $got"

    python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2], sys.argv[3:])' \
        "$file" "$scratch" "onnxruntime/capi/$library" "${notices[@]/#/onnxruntime/}" ||
        die "$wheel could not be unpacked"
    mv -f "${notices[@]/#/$scratch/onnxruntime/}" "$ort_dir"
    chmod 755 "$scratch/onnxruntime/capi/$library"
    # Atomically, so that an interrupted run does not leave a partial library.
    mv -f "$scratch/onnxruntime/capi/$library" "$ort_dir/$library"
    # .cargo/config.toml uses the name without the version.
    ln -sfn "$library" "$ort_dir/libonnxruntime.so"
    say "ONNX Runtime: $ort_dir/$library is ready"
}

if [ -n "${ORT_DYLIB_PATH:-}" ]; then
    [ -f "$ORT_DYLIB_PATH" ] || die "ORT_DYLIB_PATH is not a file: $ORT_DYLIB_PATH"
    say "ONNX Runtime: ORT_DYLIB_PATH is set, using $ORT_DYLIB_PATH"
else
    fetch_onnxruntime
fi
