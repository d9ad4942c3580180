#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Counts the instructions of every stage outside ONNX Runtime with callgrind while the demo model transcribes 10 s. The
# counts do not depend on the load of the machine. Needs valgrind; takes a minute plus the build.
set -euo pipefail

me=instructions
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/packages.sh
. "$here/../packages.sh"
cd "$here/../.."

lookahead=${1:-480}
seconds=10
command -v valgrind >/dev/null || die "valgrind is missing:" "  apt-get install valgrind"
version=$(awk '$1 == "version" { print $2 }' tools/onnxruntime.lock)
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/target/onnxruntime/libonnxruntime.so.$version}
[ -f "$ORT_DYLIB_PATH" ] || die "$ORT_DYLIB_PATH is missing: run 'make setup' first"

target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release --locked -p nemostt --no-default-features --example bench_nemostt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - assets/demo.wav "$seconds" "$work/clip.wav" <<'EOF'
import sys, wave
with wave.open(sys.argv[1]) as source, wave.open(sys.argv[3], "wb") as clip:
    clip.setparams(source.getparams())
    clip.writeframes(source.readframes(int(sys.argv[2]) * source.getframerate()))
EOF
echo | valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect='*transcribe_clip*' \
    "$target/release/examples/bench_nemostt" crates/nemostt/assets/demo-model "$work/clip.wav" "$lookahead" 1 all auto \
    >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; die "valgrind failed"; }
python3 "$here/instructions.py" "$work/out" "$seconds"
