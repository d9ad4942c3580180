# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes the full-size model in the layout that each program reads, all with the same weights.

    nemo_MS/           as NeMo exports it (nemostt)
    sherpa_MS/         for sherpa-onnx
    sherpa_int8_MS/    the same, quantized as sherpa-onnx's export scripts do it
    parakeet_rs_MS/    for parakeet-rs, with the changes that `fit_parakeet_rs` describes

MS is the lookahead: a model of sherpa-onnx or parakeet-rs has exactly one. All of them emit tokens at the same rate
(`calibrate_random_weights`).
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from export_nemo.layouts import LAYOUTS, Shape, sherpa_metadata, to_layers_first  # noqa: E402
from export_nemo.onnx_edit import set_metadata, set_shape  # noqa: E402

import audio  # noqa: E402
import synthetic_model  # noqa: E402
import numpy as np  # noqa: E402
from calibrate_random_weights import calibrate_random_weights  # noqa: E402

FRAME_MS = 80
SHAPE = Shape(
    synthetic_model.LAYERS,
    synthetic_model.WIDTH,
    synthetic_model.CONV,
    labels=synthetic_model.TOKENS,
    lstm_layers=1,
    lstm_width=synthetic_model.LSTM,
)
# What export_nemo would read from a checkpoint.
KIND = SimpleNamespace(
    name="EncDecHybridRNNTCTCBPEModel",
    left=synthetic_model.LEFT,
    mels=synthetic_model.MELS,
    frame_ms=FRAME_MS,
    prompts=None,
)
# Hard-coded in parakeet-rs 0.4.4 (`N_MELS` and `decoder_lstm_layers` of its Nemotron).
PARAKEET_RS_MELS, PARAKEET_RS_LSTMS = 128, 2


def write(target: Path, lookaheads: list[int], clip: Path, tokens_per_second: float, int8: bool) -> None:
    """Writes the models below `target` unless they are up to date; `lookaheads` in milliseconds."""
    stamp, wanted = target / "complete", f"{lookaheads} {tokens_per_second} {int8} {digest(clip)}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(target, ignore_errors=True)
    weights = synthetic_model.Weights()
    encoder = weights.fill("encoder-model.onnx")
    weights.fill("decoder_joint-model.onnx")
    frames = [lookahead // FRAME_MS for lookahead in lookaheads]
    calibrated = list(zip(lookaheads, calibrate_random_weights(weights, audio.read(clip), frames, tokens_per_second)))
    counts = [count for _, (_, count) in calibrated]
    print(f"bench: tokens in the clip, for each lookahead: {counts}", file=sys.stderr)

    first, shared = None, target / f"nemo_{lookaheads[0]}" / "encoder-model.onnx"
    save(encoder, shared)
    for lookahead, (bias, _) in calibrated:
        weights.biases["joint_net.2.bias"] = bias
        directory = target / f"nemo_{lookahead}"
        save(weights.fill("decoder_joint-model.onnx"), directory / "decoder_joint-model.onnx")
        synthetic_model.write_tokens(directory / "tokens.txt")
        if lookahead != lookaheads[0]:
            os.link(shared, directory / shared.name)
        directory = target / f"sherpa_{lookahead}"
        set_metadata(encoder, sherpa_metadata("encoder", KIND, SHAPE, lookahead // FRAME_MS))
        save(encoder, directory / "encoder.onnx")
        save(weights.fill("decoder.onnx"), directory / "decoder.onnx")
        save(weights.fill("joiner.onnx"), directory / "joiner.onnx")
        synthetic_model.write_tokens(directory / "tokens.txt")
        if int8:
            first = quantize(directory, target / f"sherpa_int8_{lookahead}", lookahead, first)
    to_layers_first(encoder, LAYOUTS["parakeet-rs"], KIND, SHAPE, lookaheads[0] // FRAME_MS)
    fit_parakeet_rs(encoder)
    for lookahead, (bias, _) in calibrated:
        weights.biases["joint_net.2.bias"] = bias
        directory = target / f"parakeet_rs_{lookahead}"
        decoder_joint = weights.fill("decoder_joint-model.onnx")
        fit_states(decoder_joint)
        set_metadata(encoder, {"chunk_size_output_frames": lookahead // FRAME_MS + 1, "pre_encode_cache": 9})
        save(encoder, directory / "encoder.onnx")
        save(decoder_joint, directory / "decoder_joint.onnx")
        (directory / "tokenizer.model").write_bytes(sentencepiece())
    stamp.write_text(wanted)


def digest(clip: Path) -> str:
    """Hash of the clip and of everything that determines the models."""
    here = Path(__file__).parent
    sources = [here / f"{name}.py" for name in ("models", "synthetic_model", "calibrate_random_weights")]
    files = [clip, *sources, *sorted((here / "weightless_model").iterdir())]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def save(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def quantize(source: Path, target: Path, lookahead: int, done: Path | None) -> Path:
    """Quantizes every file with `quantize_dynamic` and QUInt8, as sherpa-onnx's script for this architecture does
    (scripts/nemo/fast-conformer-hybrid-transducer-ctc). `done` is the result for another lookahead, from which all
    files but the joiner can be reused, with different metadata."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokens.txt", target / "tokens.txt")
    for role in ("encoder", "decoder", "joiner"):
        file = target / f"{role}.int8.onnx"
        if done is None or role == "joiner":
            quantize_dynamic(source / f"{role}.onnx", file, weight_type=QuantType.QUInt8)
        elif role != "encoder":
            os.link(done / file.name, file)
        else:
            model = onnx.load(done / file.name)
            set_metadata(model, sherpa_metadata("encoder", KIND, SHAPE, lookahead // FRAME_MS))
            onnx.save(model, file)
    return target


def fit_parakeet_rs(model: onnx.ModelProto) -> None:
    """parakeet-rs always computes 128 mels: interpolate 80 from them, so that the model sees similar features."""
    graph, name = model.graph, "processed_signal"
    info = next(info for info in graph.input if info.name == name)
    set_shape(info, ["batch", PARAKEET_RS_MELS, "frames"])
    for node in graph.node:
        node.input[:] = [f"{name}_80" if tensor == name else tensor for tensor in node.input]
    # Each row interpolates between the two nearest mels.
    at = (np.arange(synthetic_model.MELS) + 1) * (PARAKEET_RS_MELS + 1) / (synthetic_model.MELS + 1) - 1
    mix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(PARAKEET_RS_MELS)[None])).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(mix, f"{name}_mix"))
    graph.node.insert(0, helper.make_node("MatMul", [f"{name}_mix", name], [f"{name}_80"]))


def fit_states(model: onnx.ModelProto) -> None:
    """parakeet-rs always passes the states of two LSTMs: use the first, and return the new state twice."""
    graph = model.graph
    for number in (1, 2):
        old, new = f"input_states_{number}", f"output_states_{number}"
        for node in graph.node:
            node.input[:] = [f"{old}_one" if tensor == old else tensor for tensor in node.input]
            node.output[:] = [f"{new}_one" if tensor == new else tensor for tensor in node.output]
            node.input[:] = [f"{new}_one" if tensor == new else tensor for tensor in node.input]
        for part, value in (("begin", 0), ("end", 1)):
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{old}_{part}"))
        graph.node.insert(0, helper.make_node("Slice", [old, f"{old}_begin", f"{old}_end"], [f"{old}_one"]))
        graph.node.append(helper.make_node("Concat", [f"{new}_one"] * PARAKEET_RS_LSTMS, [new], axis=0))
        for info in (*graph.input, *graph.output):
            if info.name in (old, new):
                set_shape(info, [PARAKEET_RS_LSTMS, "batch", synthetic_model.LSTM])


def sentencepiece() -> bytes:
    """A SentencePiece model of the synthetic pieces: field 1 of the model is a piece, field 1 of a piece its text."""

    def field(content: bytes) -> bytes:
        assert len(content) < 128
        return b"\x0a" + bytes([len(content)]) + content

    return b"".join(field(field(name.encode())) for name in synthetic_model.pieces())

