# SPDX-License-Identifier: MIT OR Apache-2.0
"""Exports NeMo's cache-aware streaming models to ONNX, and holds what comes out to NeMo's own numbers.

In the order of the work: cli (the whole run), arguments, checkpoint (find and open one, without loading it), checks
(may it be exported?), preflight (modules, memory, disk), loading (NeMo builds the model), reference (what NeMo itself makes
of the clips), graphs (NeMo's export), layouts (names, axes and files of each reader), vocabulary and sidecar (the files
beside the graphs), precision and fp16 (int8, fp16), runner (ONNX Runtime hears the clips), parity (the comparison and
its report).

onnx_edit changes graphs; audio reads clips; capture_output keeps NeMo's messages out of the way; errors has what all of them
raise when it does not work out.
"""
