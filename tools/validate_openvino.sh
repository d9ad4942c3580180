#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the tests against NeMo's reference values with device=openvino, on the CPU: downloads the ONNX Runtime of
# tools/openvino.lock (85 MB) into target/openvino. The tolerance of these tests is 1e-4, so they fail if OpenVINO computes in
# bfloat16 or float16, where the processor has it.
set -euo pipefail

me=validate_openvino
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=target/openvino lock=tools/openvino.lock
[ "$(uname -sm)" = "Linux x86_64" ] || die "PyPI has onnxruntime-openvino for Linux on x86-64 only"

if ! cmp -s "$lock" "$work/lock"; then
    rm -rf "$work"
    say "downloading ONNX Runtime with OpenVINO"
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: \
        --platform manylinux_2_28_x86_64 --python-version 3.11 --implementation cp --abi cp311 \
        --dest "$work/wheels" -r "$lock" || die "the wheel of $lock could not be downloaded"
    python3 -m zipfile -e "$work"/wheels/*.whl "$work/unpacked"
    rm -rf "$work/wheels"
    cp "$lock" "$work/lock"
fi

libraries=$PWD/$work/unpacked/onnxruntime/capi
runtime=$(echo "$libraries"/libonnxruntime.so.*)
[ -f "$runtime" ] || die "$libraries has no libonnxruntime.so"

export ORT_DYLIB_PATH=$runtime NEMOSTT_TEST_DEVICE=openvino
"${CARGO:-cargo}" test --locked -p nemostt --test recognizer goldens "$@"
say "encoder outputs within 1e-4 of NeMo's, tokens and text equal, with OpenVINO on the CPU"
