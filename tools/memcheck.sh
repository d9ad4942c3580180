#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Transcribes a clip under valgrind's memcheck and fails on any invalid access or leak that tools/valgrind.supp does not
# list. Needs "make build" and Debian's valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null || { echo "memcheck: valgrind is missing: apt-get install valgrind" >&2; exit 1; }
[ -f target/plugin/libgstnemostt.so ] || { echo "memcheck: run 'make build' first" >&2; exit 1; }

export GST_PLUGIN_PATH=target/plugin GST_REGISTRY=target/memcheck-registry.bin G_SLICE=always-malloc
gst-inspect-1.0 nemostt >/dev/null # scans all plugins, outside valgrind
clip=tests/data/wav/u1_command.wav
for decoder in rnnt ctc; do
    valgrind --tool=memcheck --quiet --error-exitcode=1 --num-callers=30 \
        --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        --suppressions=tools/valgrind.supp \
        gst-launch-1.0 -q --no-fault filesrc location=$clip ! wavparse \
        ! nemostt threads=1 lookahead=480 decoder=$decoder ! fakesink
    echo "memcheck: $decoder is clean"
done
