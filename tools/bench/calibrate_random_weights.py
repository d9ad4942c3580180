# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes random weights say something now and then.

As drawn they say one label for ever, or none: what they compute hardly varies from frame to frame. So the two inputs of
the joint are brought to mean 0 and a fixed deviation, over the frames of the clip and over all labels, and blank becomes as
likely as it takes, for each lookahead anew. Only the last layers change, and no sizes: a step costs what it did.
"""

import numpy as np
import onnxruntime
from synthetic_model import CONV, LABELS, LAYERS, LEFT, LSTM, MELS, WIDTH, Weights

# NeMo's own limit of labels in one frame (`greedy.max_symbols`).
MAX_SYMBOLS = 10
RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
# By which blank becomes less likely until enough is said.
STEP = 0.25
# Mel frames that a window carries over from the one before it, and those that the first one has less than the others.
CARRY, SHORT = 9, 7


def calibrate_random_weights(
    weights: Weights, samples: np.ndarray, lookaheads: list[int], labels_per_second: float
) -> list[tuple[np.ndarray, int]]:
    """Changes the weights of the joint; gives, for each lookahead (frames), its last bias and how many labels `samples` have
    with it."""
    encoded = encode(weights, mel(samples), lookaheads)
    predict = Prediction(weights)
    normalise(weights, "enc", (WIDTH, LSTM), np.concatenate(encoded), 1.5)
    normalise(weights, "pred", (LSTM, LSTM), np.stack([predict(label)[0] for label in range(LABELS)]), 0.3)
    weights.of_joint((LSTM, LABELS + 1))[:] *= 6
    return [quiet(weights, predict, frames, labels_per_second * len(samples) / RATE) for frames in encoded]


def quiet(weights: Weights, predict: "Prediction", encoded: np.ndarray, wanted: float) -> tuple[np.ndarray, int]:
    """The joint's last bias with which about as many labels as `wanted` are said, and how many are."""
    # From the quiet side: below some bias the labels feed themselves and do not end. It begins where the first is said.
    first = logits(weights, predict(LABELS)[0], encoded)
    bias, said = np.zeros(LABELS + 1, np.float32), 0
    bias[-1] = np.max(first[:, :-1].max(1) - first[:, -1])
    while said < wanted:
        bias[-1] -= STEP
        said = greedy(weights, predict, encoded, bias)
    return bias, said


class Prediction:
    """The prediction network: one label and state in, output and state out."""

    def __init__(self, weights: Weights):
        self.session = session(weights.fill("decoder.onnx"))
        self.names = [info.name for info in self.session.get_inputs()]

    def __call__(self, label: int, state: tuple = (np.zeros((1, 1, LSTM), np.float32),) * 2) -> tuple:
        values = (np.array([[label]], np.int32), np.array([1], np.int32), *state)
        found, _, *state = self.session.run(None, dict(zip(self.names, values)))
        return found[0, :, 0], tuple(state)


def logits(weights: Weights, out: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Of all frames with one output of the prediction network, without the last bias."""
    frames = encoded @ weights.of_joint((WIDTH, LSTM)) + weights.biases["enc.bias"]
    mixed = frames + out @ weights.of_joint((LSTM, LSTM)) + weights.biases["pred.bias"]
    return np.maximum(mixed, 0) @ weights.of_joint((LSTM, LABELS + 1))


def greedy(weights: Weights, predict: Prediction, encoded: np.ndarray, bias: np.ndarray) -> int:
    """How many labels NeMo's greedy decoding emits; it ends early where there are more than frames."""
    said, at, here = 0, 0, 0
    out, state = predict(LABELS)
    while at < len(encoded) and said < len(encoded):
        best = np.argmax(logits(weights, out, encoded[at : at + 32]) + bias, axis=1)
        skip = int(np.argmax(best != LABELS))
        if best[skip] == LABELS:
            at, here = at + 32, 0
            continue
        here = here + 1 if skip == 0 else 1
        at, said = at + skip, said + 1
        out, state = predict(int(best[skip]), state)
        if here == MAX_SYMBOLS:
            at, here = at + 1, 0
    return said


def normalise(weights: Weights, name: str, shape: tuple, inputs: np.ndarray, deviation: float) -> None:
    """Scales and shifts a layer: its outputs over `inputs` get mean 0 and that deviation."""
    weight = weights.of_joint(shape)
    weight *= deviation / (inputs @ weight).std(0)
    weights.biases[f"{name}.bias"] = -(inputs @ weight).mean(0)


def encode(weights: Weights, features: np.ndarray, lookaheads: list[int]) -> list[np.ndarray]:
    """Encoder frames of each lookahead, [frames, width], by windows that begin with 9 frames of the one before. The first one
    has 7 frames less than nemostt's others, here filled up in front."""
    encoder, found = session(weights.fill("encoder-model.onnx")), []
    names = [info.name for info in encoder.get_inputs()]
    for lookahead in lookaheads:
        new, frames = 8 * (lookahead + 1), []
        padded = np.pad(features, ((0, 0), (CARRY + SHORT, 0)))
        shapes = (1, LAYERS, LEFT, WIDTH), (1, LAYERS, WIDTH, CONV)
        caches = [*(np.zeros(shape, np.float32) for shape in shapes), np.zeros(1, np.int64)]
        for begin in range(0, features.shape[1] + SHORT - new + 1, new):
            window = padded[None, :, begin : begin + CARRY + new]
            values = (np.ascontiguousarray(window), np.array([CARRY + new], np.int64), *caches)
            encoded, _, *caches = encoder.run(None, dict(zip(names, values)))
            frames.append(encoded[0].T)
        found.append(np.concatenate(frames))
    return found


def session(model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def mel(samples: np.ndarray) -> np.ndarray:
    """NeMo's log-mel features, [mels, frames], as nemostt computes them."""
    loud = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    around = np.pad(loud, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(around, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    # Slaney's scale: linear up to 1 kHz, logarithmic above.
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    points = np.linspace(0, top, MELS + 2)
    corners = np.where(points < 15, points * 200 / 3, 1000 * 6.4 ** ((points - 15) / 27))
    bins, (low, middle, high) = np.fft.rfftfreq(FFT, 1 / RATE), (corners[at : at + MELS, None] for at in range(3))
    bank = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    # Slaney's normalisation: every filter has the same area.
    return np.log(bank * 2 / (high - low) @ power.T + 2**-24).astype(np.float32)
