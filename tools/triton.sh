#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests models of `nemostt triton-repository` with NVIDIA Triton on this machine, without a GPU: installs the server of
# tools/triton.lock (120 MB) into target/triton, and runs the tests in tests/triton. Safe to run again: a complete
# installation is left alone.
#
# That server has no ONNX Runtime backend. It reads the generated configuration, and serves the generated graph with its
# Python backend; tools/triton_container.sh checks the rest with a stock container.
set -euo pipefail

me=triton
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

usage() {
    cat <<'END'
usage: tools/triton.sh [ARGUMENTS of cargo test ...]
       tools/triton.sh --install-only   prints the variables that the tests need

  NEMOSTT     in the environment: the command (default: target/release/nemostt)
  PYTHON      in the environment: a Python 3.11 with its shared library
END
}

install_only=
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --install-only) install_only=1; shift ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
[ "$(uname -sm)" = "Linux x86_64" ] || die "PyPI has nvidia-pytriton for Linux on x86-64 only"
# The server links to glibc 2.35.
[ "$(printf '2.35\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)" | sort -V | head -n 1)" = 2.35 ] ||
    die "this is glibc $(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2); the server needs 2.35 or newer"

# ---- The server ----

# The server's interpreter is the shared library of this Python, so the version must be that of the stub and the wheels.
usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}
python=
for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
    if usable "$candidate"; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || die "Python 3.11 with venv is needed, this is $(python3 --version 2>&1 || true)." \
    "Install it (Debian: apt-get install python3-venv libpython3.11), or set PYTHON to one."
libraries=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
multiarch=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("MULTIARCH") or "")')
for candidate in "$libraries" "$libraries/$multiarch"; do
    [ ! -e "$candidate/libpython3.11.so.1.0" ] || found=$candidate
done
[ -n "${found:-}" ] || die "$python has no libpython3.11.so.1.0 in $libraries." "Debian: apt-get install libpython3.11"

work=$root/target/triton lock=tools/triton.lock
site_packages=$work/venv/lib/python3.11/site-packages
server=$site_packages/pytriton/tritonserver
# Written last, so that an interrupted installation is not taken for a whole one.
if ! cmp -s "$lock" "$work/lock"; then
    rm -rf "$work"
    say "installing the server"
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --no-deps --require-hashes --only-binary=:all: -r "$lock" ||
        die "the wheels of $lock could not be installed"
    cp "$server/python_backend_stubs/3.11/triton_python_backend_stub" "$server/backends/python/"
    cp "$lock" "$work/lock"
fi

export TRITON_ROOT=$server TRITON_PYTHONPATH=$site_packages TRITON_LIBRARY_PATH=$found
if [ -n "$install_only" ]; then
    printf 'export TRITON_ROOT=%q TRITON_PYTHONPATH=%q TRITON_LIBRARY_PATH=%q\n' \
        "$TRITON_ROOT" "$TRITON_PYTHONPATH" "$TRITON_LIBRARY_PATH"
    exit
fi

# ---- Tests ----

NEMOSTT=$(realpath -m "${NEMOSTT:-target/release/nemostt}")
[ -x "$NEMOSTT" ] || die "$NEMOSTT is missing: run 'make build' first"
export NEMOSTT
cd tests/triton
"${CARGO:-cargo}" test --locked --tests "$@"
