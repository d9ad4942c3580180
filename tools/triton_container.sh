#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Checks with a stock container of NVIDIA Triton what tools/triton.sh cannot: that its ONNX Runtime backend loads a model of
# `nemostt triton-repository`, keeps implicit state between requests, runs several streams together, and gives the frames of
# the local model. Needs docker and 20 GB for the image; with --gpu, an NVIDIA GPU and the NVIDIA Container Toolkit.
set -euo pipefail

me=triton_container
# shellcheck source=tools/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

usage() {
    cat <<'END'
usage: tools/triton_container.sh [--gpu]

  NEMOSTT   in the environment: the command (default: target/release/nemostt)
  IMAGE     in the environment: the container (default: nvcr.io/nvidia/tritonserver:24.10-py3)
  DOCKER    in the environment: docker, or a program with the same options such as podman
END
}

device=--cpu
run=()
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --gpu)
        device=--gpu
        # Exact matrix products: see docs/triton.md.
        run=(--gpus=all -e NVIDIA_TF32_OVERRIDE=0)
        shift
        ;;
esac
[ $# -eq 0 ] || { usage >&2; exit 2; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=${IMAGE:-nvcr.io/nvidia/tritonserver:24.10-py3}
docker=${DOCKER:-docker}
command -v "$docker" >/dev/null || die "$docker is missing: install it, or set DOCKER"
nemostt=$(realpath -m "${NEMOSTT:-target/release/nemostt}")
[ -x "$nemostt" ] || die "$nemostt is missing: run 'make build' first"

work=$(mktemp -d)
container=
cleanup() {
    [ -z "$container" ] || "$docker" rm --force "$container" >/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

for decoder in rnnt ctc; do
    "$nemostt" triton-repository embedded "$work/models" --lookahead 80 --decoder "$decoder" "$device" \
        --batch 16 --streams 40 --name "demo-80ms-$decoder" >/dev/null
done
# The server in the container may run as another user.
chmod -R a+rX "$work"

say "starting $image"
container=$("$docker" run --detach --publish 127.0.0.1::8000 --publish 127.0.0.1::8002 "${run[@]}" \
    --volume "$work/models:/models:ro" "$image" \
    tritonserver --model-repository=/models --disable-auto-complete-config)
address() { "$docker" port "$container" "$1/tcp" | head -n 1; }

ready=
for _ in $(seq 300); do
    if curl --silent --fail --output /dev/null "http://$(address 8000)/v2/health/ready"; then
        ready=1
        break
    fi
    [ "$("$docker" inspect --format '{{.State.Running}}' "$container")" = true ] || break
    sleep 1
done
[ -n "$ready" ] || { "$docker" logs "$container" >&2; die "the server does not serve the models; its log is above"; }

# The tests of tests/triton that compare frames, with this server instead of their own.
say "comparing frames: each model with a stream alone, then with 20 at once"
cd tests/triton
TRITON_HTTP="http://$(address 8000)" TRITON_METRICS="http://$(address 8002)" \
    "${CARGO:-cargo}" test --locked --test server -- --ignored --exact sequences::a_stock_server_gives_the_frames_of_the_local_model
say "a stock server gives the frames of the local model"
