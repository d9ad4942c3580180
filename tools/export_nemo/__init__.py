# SPDX-License-Identifier: MIT OR Apache-2.0
"""Exports NeMo's cache-aware streaming models to ONNX, and verifies the result against NeMo's output.

In order of execution: cli (the whole run), arguments, checkpoint (find and open one, without loading it), checks
(can it be exported?), preflight (modules, memory, disk), loading (NeMo builds the model), reference (NeMo's output
for the clips), graphs (NeMo's export), layouts (names, axes and files of each reader), vocabulary and sidecar (the
files next to the graphs), precision and fp16 (int8, fp16), runner (ONNX Runtime runs the graphs), parity (the
comparison and its report).

onnx_edit changes graphs; audio reads clips; capture_output hides NeMo's messages; errors has the exception that all of
them raise for failures that users can fix.
"""
