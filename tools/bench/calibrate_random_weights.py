# SPDX-License-Identifier: MIT OR Apache-2.0
"""Adjusts random weights so that decoding emits tokens at a realistic rate.

Unadjusted, a random model emits the same token in every frame, or none at all, because its outputs hardly vary between
frames. So both inputs of the joint are standardized to mean 0 and a fixed standard deviation (over the frames of the
clip, and over all tokens), and the bias of blank is set for each lookahead to reach the wanted rate. Only the last
layers change, and no shapes, so the cost of a step stays the same.
"""

import numpy as np
import onnxruntime
from synthetic_model import CONV, LAYERS, LEFT, LSTM, MELS, TOKENS, WIDTH, Weights

# NeMo's limit of tokens per frame (`greedy.max_symbols`).
MAX_SYMBOLS = 10
RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
# Blank's bias is lowered by this until enough tokens are emitted.
STEP = 0.25
# Mel frames that a window shares with the previous one, and how many fewer the first window has.
CARRY, SHORT = 9, 7


def calibrate_random_weights(
    weights: Weights, samples: np.ndarray, lookaheads: list[int], tokens_per_second: float
) -> list[tuple[np.ndarray, int]]:
    """Changes the weights of the joint. Returns, for each lookahead (frames), the bias of its output layer and how many
    tokens are emitted for `samples` with it."""
    encoded = encode(weights, mel(samples), lookaheads)
    predict = Prediction(weights)
    standardize(weights, "enc", (WIDTH, LSTM), np.concatenate(encoded), 1.5)
    standardize(weights, "pred", (LSTM, LSTM), np.stack([predict(token)[0] for token in range(TOKENS)]), 0.3)
    weights.of_joint((LSTM, TOKENS + 1))[:] *= 6
    return [calibrate_blank(weights, predict, frames, tokens_per_second * len(samples) / RATE) for frames in encoded]


def calibrate_blank(
    weights: Weights, predict: "Prediction", encoded: np.ndarray, wanted: float
) -> tuple[np.ndarray, int]:
    """The bias of the joint's output layer with which at least `wanted` tokens are emitted, and how many are."""
    # Start at the bias at which the first token appears and lower it. Below some bias every token triggers the next,
    # and decoding never stops emitting.
    first = logits(weights, predict(TOKENS)[0], encoded)
    bias, count = np.zeros(TOKENS + 1, np.float32), 0
    bias[-1] = np.max(first[:, :-1].max(1) - first[:, -1])
    while count < wanted:
        bias[-1] -= STEP
        count = greedy(weights, predict, encoded, bias)
    return bias, count


class Prediction:
    """The prediction network: token and state in, output and state out."""

    def __init__(self, weights: Weights):
        self.session = session(weights.fill("decoder.onnx"))
        self.names = [info.name for info in self.session.get_inputs()]

    def __call__(self, token: int, state: tuple = (np.zeros((1, 1, LSTM), np.float32),) * 2) -> tuple:
        values = (np.array([[token]], np.int32), np.array([1], np.int32), *state)
        output, _, *state = self.session.run(None, dict(zip(self.names, values)))
        return output[0, :, 0], tuple(state)


def logits(weights: Weights, out: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Logits of all frames for one output of the prediction network, without the bias of the output layer."""
    frames = encoded @ weights.of_joint((WIDTH, LSTM)) + weights.biases["enc.bias"]
    mixed = frames + out @ weights.of_joint((LSTM, LSTM)) + weights.biases["pred.bias"]
    return np.maximum(mixed, 0) @ weights.of_joint((LSTM, TOKENS + 1))


def greedy(weights: Weights, predict: Prediction, encoded: np.ndarray, bias: np.ndarray) -> int:
    """How many tokens NeMo's greedy decoding emits. Stops early if there are more tokens than frames."""
    count, at, in_frame = 0, 0, 0
    out, state = predict(TOKENS)
    while at < len(encoded) and count < len(encoded):
        best = np.argmax(logits(weights, out, encoded[at : at + 32]) + bias, axis=1)
        skip = int(np.argmax(best != TOKENS))
        if best[skip] == TOKENS:
            at, in_frame = at + 32, 0
            continue
        in_frame = in_frame + 1 if skip == 0 else 1
        at, count = at + skip, count + 1
        out, state = predict(int(best[skip]), state)
        if in_frame == MAX_SYMBOLS:
            at, in_frame = at + 1, 0
    return count


def standardize(weights: Weights, name: str, shape: tuple, inputs: np.ndarray, deviation: float) -> None:
    """Scales and shifts a layer so that its outputs for `inputs` have mean 0 and standard deviation `deviation`."""
    weight = weights.of_joint(shape)
    weight *= deviation / (inputs @ weight).std(0)
    weights.biases[f"{name}.bias"] = -(inputs @ weight).mean(0)


def encode(weights: Weights, features: np.ndarray, lookaheads: list[int]) -> list[np.ndarray]:
    """Encoder frames for each lookahead, [frames, width]. Each window begins with 9 mel frames of the previous one. The
    first window, which has 7 frames fewer in nemostt, is padded at the front."""
    encoder, outputs = session(weights.fill("encoder-model.onnx")), []
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
        outputs.append(np.concatenate(frames))
    return outputs


def session(model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def mel(samples: np.ndarray) -> np.ndarray:
    """NeMo's log-mel features, [mels, frames], as nemostt computes them."""
    emphasized = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    padded = np.pad(emphasized, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    # Slaney's mel scale: linear up to 1 kHz, logarithmic above.
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    points = np.linspace(0, top, MELS + 2)
    corners = np.where(points < 15, points * 200 / 3, 1000 * 6.4 ** ((points - 15) / 27))
    bins, (low, middle, high) = np.fft.rfftfreq(FFT, 1 / RATE), (corners[at : at + MELS, None] for at in range(3))
    bank = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    # Slaney's normalization: every filter has the same area.
    return np.log(bank * 2 / (high - low) @ power.T + 2**-24).astype(np.float32)
