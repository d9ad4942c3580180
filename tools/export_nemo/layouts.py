# SPDX-License-Identifier: MIT OR Apache-2.0
"""The layouts that different readers expect: files, names, axes, metadata."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from . import onnx_edit
from .checks import Kind

SUBSAMPLING = 8
# Mel frames of the previous window that a window repeats (`get_streaming_cache_size` of NeMo's subsampling).
CARRY = 9


@dataclass
class Layout:
    """The layout of one reader."""

    name: str
    reader: str
    files: dict[str, str]
    """Role -> file name without .onnx."""
    split: bool = False
    """RNN-T as decoder and joiner instead of decoder_joint."""
    one_lookahead: bool = False
    """The reader supports one chunk size per directory."""
    layers_first: bool = False
    """Caches are [layers, B, …] with all axes fixed."""
    names: dict[str, str] = field(default_factory=dict)
    """NeMo's name of an encoder tensor -> the reader's."""
    marks_precision: bool = False
    """Files are named after their precision, such as encoder.int8.onnx."""

    def file(self, role: str, precision: str) -> str:
        mark = f".{precision}" if self.marks_precision and precision != "fp32" else ""
        return f"{self.files[role]}{mark}.onnx"

    def tensor(self, nemo: str) -> str:
        return self.names.get(nemo, nemo)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "nemo",
            "nemostt",
            {"encoder": "encoder-model", "decoder_joint": "decoder_joint-model", "ctc": "ctc"},
        ),
        Layout(
            "sherpa",
            "sherpa-onnx",
            {"encoder": "encoder", "decoder": "decoder", "joiner": "joiner", "ctc": "model"},
            split=True,
            one_lookahead=True,
            marks_precision=True,
        ),
        Layout(
            "parakeet-rs",
            "parakeet-rs",
            {"encoder": "encoder", "decoder_joint": "decoder_joint"},
            one_lookahead=True,
            layers_first=True,
            names={
                "audio_signal": "processed_signal",
                "length": "processed_signal_length",
                "outputs": "encoded",
                "encoded_lengths": "encoded_len",
                "cache_last_channel_next_len": "cache_last_channel_len_next",
            },
        ),
    )
}


@dataclass
class Shape:
    """Sizes that metadata and fixed axes need; read from the model before it is exported."""

    layers: int
    width: int
    conv_left: int
    labels: int
    lstm_layers: int
    lstm_width: int

    @classmethod
    def of(cls, model, labels: int) -> "Shape":
        encoder, decoder = model.encoder, getattr(model, "decoder", None)
        return cls(
            len(encoder.layers),
            encoder.d_model,
            encoder.conv_context_size[0],
            labels,
            getattr(decoder, "pred_rnn_layers", 0),
            getattr(decoder, "pred_hidden", 0),
        )


def arrange(
    layout: Layout,
    exported: dict[str, Path],
    target: Path,
    kind: Kind,
    shape: Shape,
    lookahead: int,
    cut: int,
    external: bool,
) -> dict[str, Path]:
    """Writes NeMo's graphs to `target` in `layout`: role -> file."""
    files = {}
    for role, source in exported.items():
        model = onnx_edit.read(source)
        if role in ("encoder", "ctc"):
            if cut:
                onnx_edit.cut_positions(model, cut)
            if layout.name == "sherpa":
                onnx_edit.set_metadata(model, sherpa_metadata(role, kind, shape, lookahead))
            if layout.layers_first:
                to_layers_first(model, layout, kind, shape, lookahead)
        onnx.checker.check_model(model) if model.ByteSize() < onnx_edit.EXTERNAL_FROM else None
        files[role] = target / layout.file(role, "fp32")
        onnx_edit.write(model, files[role], external and role in ("encoder", "ctc"))
    return files


def sherpa_metadata(role: str, kind: Kind, shape: Shape, lookahead: int) -> dict:
    """The keys that sherpa-onnx's loaders of online NeMo models require, and those that its export scripts add."""
    window = CARRY + SUBSAMPLING * (lookahead + 1)
    found = {
        # sherpa-onnx adds blank itself.
        "vocab_size": shape.labels,
        "window_size": window,
        "chunk_size_ms": kind.frame_ms * (lookahead + 1),
        "chunk_shift": SUBSAMPLING * (lookahead + 1),
        # Empty: none. Without this key, features are normalized per feature.
        "normalize_type": "",
        "cache_last_channel_dim1": shape.layers,
        "cache_last_channel_dim2": kind.left,
        "cache_last_channel_dim3": shape.width,
        "cache_last_time_dim1": shape.layers,
        "cache_last_time_dim2": shape.width,
        "cache_last_time_dim3": shape.conv_left,
        "subsampling_factor": SUBSAMPLING,
        "feat_dim": kind.mels,
        "model_type": kind.name,
        "version": "1",
        "model_author": "NeMo",
        "comment": f"The {'CTC' if role == 'ctc' else 'transducer'} branch, exported by nemostt",
    }
    if role == "encoder":
        found |= {"pred_rnn_layers": shape.lstm_layers, "pred_hidden": shape.lstm_width}
    if kind.prompts:
        found["prompt_dictionary"] = json.dumps(kind.prompts, sort_keys=True)
        if "auto" in kind.prompts:
            found["auto_prompt_id"] = kind.prompts["auto"]
    return found


def to_layers_first(model: onnx.ModelProto, layout: Layout, kind: Kind, shape: Shape, lookahead: int) -> None:
    """parakeet-rs reads the sizes of the caches from their shapes, so these are fixed, with a batch of one."""
    caches = {"cache_last_channel": "cache_last_channel_next", "cache_last_time": "cache_last_time_next"}
    onnx_edit.layers_first(model, caches)
    sizes = {
        "cache_last_channel": [shape.layers, 1, kind.left, shape.width],
        "cache_last_time": [shape.layers, 1, shape.width, shape.conv_left],
        "cache_last_channel_len": [1],
    }
    sizes |= {caches[name]: size for name, size in sizes.items() if name in caches}
    for info in (*model.graph.input, *model.graph.output):
        if info.name in sizes:
            onnx_edit.set_shape(info, sizes[info.name])
    onnx_edit.rename(model, layout.names)
    # Read by parakeet-rs, which otherwise uses the defaults for 560 ms.
    onnx_edit.set_metadata(model, {"chunk_size_output_frames": lookahead + 1, "pre_encode_cache": CARRY})
