# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs exported graphs with ONNX Runtime, over the windows of nemostt or any others, with greedy decoding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from . import onnx_edit
from .checks import Kind
from .layouts import CARRY, SUBSAMPLING, Layout, Shape

# NeMo's limit of tokens per frame (`greedy.max_symbols`).
MAX_SYMBOLS = 10


def windows(frames: int, lookahead: int) -> Iterator[tuple[int, int, int]]:
    """First frame, last frame + 1 and drop of every window, as in nemostt (docs/design.md)."""
    end = min(1 + SUBSAMPLING * lookahead, frames)
    yield 0, end, 0
    while end < frames:
        carry = min(CARRY, end)
        begin, end = end - carry, min(end + SUBSAMPLING * (lookahead + 1), frames)
        # A full set of cached frames repeats two encoder frames; the single cached frame of the second window at
        # lookahead 0 repeats one.
        yield begin, end, 2 if carry == CARRY else 1


def session(path: Path, patch=None) -> onnxruntime.InferenceSession:
    """Loads a graph, modified by `patch` in memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Spinning threads would take the CPU from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    if patch is None:
        return onnxruntime.InferenceSession(str(path), options, providers)
    model = onnx_edit.read(path, weights=False)
    patch(model)
    if not onnx_edit.is_large(path):
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers)
    # External weights are found relative to the graph's file.
    patched = path.with_name(f".{path.stem}.patched.onnx")
    try:
        patched.write_bytes(model.SerializeToString())
        return onnxruntime.InferenceSession(str(patched), options, providers)
    finally:
        patched.unlink(missing_ok=True)


class EncoderGraph:
    """The graph with the encoder, with or without the CTC head."""

    def __init__(self, path: Path, layout: Layout, kind: Kind, shape: Shape, prompt: int | None):
        self.session = session(path, onnx_edit.make_drop_an_input)
        self.layout, self.kind, self.shape, self.prompt = layout, kind, shape, prompt
        # Both kinds of output are returned with frames first.
        first = self.session.get_outputs()[0].name
        self.frames_last = first == layout.tensor("outputs")
        self.outputs = [first, *map(layout.tensor, ("encoded_lengths", *CACHES_NEXT))]

    def start(self) -> list[np.ndarray]:
        """Empty caches."""
        layers, left, width, conv = self.shape.layers, self.kind.left, self.shape.width, self.shape.conv_left
        caches = [np.zeros((1, layers, left, width), np.float32), np.zeros((1, layers, width, conv), np.float32)]
        if self.layout.layers_first:
            caches = [cache.swapaxes(0, 1) for cache in caches]
        return [*caches, np.zeros(1, np.int64)]

    def step(self, mel: np.ndarray, length: int, drop: int, caches: list[np.ndarray]):
        """Runs one window [mels, T]: returns its output, [T', …], and the caches after it."""
        inputs = dict(zip(map(self.layout.tensor, CACHES), caches))
        inputs[self.layout.tensor("audio_signal")] = np.ascontiguousarray(mel[None])
        inputs[self.layout.tensor("length")] = np.array([length], np.int64)
        inputs[onnx_edit.DROP_INPUT] = np.array([drop], np.int64)
        if self.prompt is not None:
            inputs["prompt_index"] = np.array([self.prompt], np.int64)
        output, lengths, *caches = self.session.run(self.outputs, inputs)
        frames = output[0].T if self.frames_last else output[0]
        return frames[: int(lengths[0])], caches

    def encode(self, mel: np.ndarray, lookahead: int) -> np.ndarray:
        """Runs a whole clip [mels, T] in nemostt's windows."""
        caches, encoded = self.start(), []
        for begin, end, drop in windows(mel.shape[1], lookahead):
            frames, caches = self.step(mel[:, begin:end], end - begin, drop, caches)
            encoded.append(frames)
        return np.concatenate(encoded)


CACHES = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")
CACHES_NEXT = ("cache_last_channel_next", "cache_last_time_next", "cache_last_channel_next_len")


class Transducer:
    """Prediction network and joint, in one graph or two."""

    def __init__(self, files: dict[str, Path], shape: Shape):
        self.shape = shape
        self.joint = session(files.get("decoder_joint") or files["joiner"])
        self.predictor = session(files["decoder"]) if "decoder" in files else None

    def decode(self, frames: np.ndarray) -> list[int]:
        """Greedy decoding like NeMo's: state and last token change on non-blank tokens only. Starts with blank."""
        labels, last, state = [], self.shape.labels, self.zeros()
        for frame in frames:
            for _ in range(MAX_SYMBOLS):
                scores, following = self.score(frame, last, state)
                best = int(scores.argmax())
                if best == self.shape.labels:
                    break
                labels.append(best)
                last, state = best, following
        return labels

    def zeros(self) -> list[np.ndarray]:
        return [np.zeros((self.shape.lstm_layers, 1, self.shape.lstm_width), np.float32) for _ in range(2)]

    def score(self, frame: np.ndarray, last: int, state: list[np.ndarray]):
        """Scores of all tokens for one frame, and the next state if one is emitted."""
        encoded = np.ascontiguousarray(frame[None, :, None])
        label = [np.array([[last]], np.int32), np.array([1], np.int32)]
        if self.predictor is None:
            scores, _, *following = self.joint.run(None, by_position(self.joint, [encoded, *label, *state]))
        else:
            predicted, _, *following = self.predictor.run(None, by_position(self.predictor, [*label, *state]))
            scores = self.joint.run(None, by_position(self.joint, [encoded, predicted]))[0]
        return scores.reshape(-1), following


def by_position(loaded: onnxruntime.InferenceSession, values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Assigns inputs by position: the states of a separate prediction network have names generated by PyTorch."""
    return {taken.name: value for taken, value in zip(loaded.get_inputs(), values, strict=True)}
