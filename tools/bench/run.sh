#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Compares nemostt with other programs on one full-size model: see docs/benchmarks/README.md. Safe to run again: reuses
# what earlier runs built.
set -euo pipefail

me=bench
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tools/packages.sh
. "$here/../packages.sh"

venv=${XDG_CACHE_HOME:-$HOME/.cache}/nemostt/bench-venv
nemo_venv=${XDG_CACHE_HOME:-$HOME/.cache}/nemostt/export-venv
version=$(awk '$1 == "version" { print $2 }' "$root/tools/onnxruntime.lock")
runtime=${ORT_DYLIB_PATH:-$root/target/onnxruntime/libonnxruntime.so.$version}
nemo=no
options=()

usage() {
    cat <<EOF
usage: tools/bench/run.sh [--with-nemo] [ARGUMENTS of compare.py ...]

  --with-nemo      include NeMo, in the environment of tools/export_nemo.sh (8 GB) or with \$NEMO_PYTHON

Takes 5 GB below target/ and as much memory. Leave the machine idle while it runs.

EOF
}

export BENCH_ARGUMENTS="$*"
while [ $# -gt 0 ]; do
    case $1 in
        --with-nemo) nemo=yes ;;
        -h | --help) usage; python3 "$here/compare.py" --help; exit ;;
        *) options+=("$1") ;;
    esac
    shift
done

[ -f "$runtime" ] || die "$runtime is missing: run 'make setup' first"
stamp=$venv/nemostt-requirements
if ! cmp -s "$here/requirements.txt" "$stamp"; then
    say "creating $venv" >&2
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    # Last, so that an interrupted installation does not look complete.
    cp "$here/requirements.txt" "$stamp"
fi

say "building the programs" >&2
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
cargo build --quiet --release --locked -p nemostt --no-default-features --example bench_nemostt
CARGO_TARGET_DIR=$target/bench cargo build --quiet --release --locked --manifest-path tools/bench/parakeet_rs/Cargo.toml
options+=(--nemostt "$target/release/examples/bench_nemostt" --parakeet-rs "$target/bench/release/bench-parakeet-rs")

if [ "$nemo" = yes ]; then
    if [ -z "${NEMO_PYTHON:-}" ]; then
        tools/export_nemo.sh --install-only
        NEMO_PYTHON=$nemo_venv/bin/python
    fi
    options+=(--nemo-python "$NEMO_PYTHON")
fi
exec "$venv/bin/python" tools/bench/compare.py --runtime "$runtime" "${options[@]}"
