# SPDX-License-Identifier: MIT OR Apache-2.0
"""Streaming loops over ONNX Runtime, to compare exports with NeMo's reference values and with each other."""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """A session with positional inputs, regardless of their names."""

    def __init__(self, source):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs = self.session.get_inputs()

    def __call__(self, *values):
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
                  "tensor(int32)": np.int32}
        feed = {i.name: np.asarray(v).astype(dtypes[i.type]) for i, v in zip(self.inputs, values, strict=True)}
        return self.session.run(None, feed)


def drop_input(path):
    """NeMo's encoder, serialized, with its constant drop of 2 replaced by an additional last input.

    The constant is in the `Sub` of 2 from the length, before a `Clip` from 0, and in the `Slice` of axis 1 from 2 to
    the end.
    """
    model = onnx.load(path)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node
                  if n.op_type == "Constant" and n.attribute[0].name == "value"}

    def value(node, index):
        found = constants.get(node.input[index])
        return found.item() if found is not None and found.size == 1 else None

    clipped = {n.input[0] for n in model.graph.node if n.op_type == "Clip"}
    changed = 0
    for node in model.graph.node:
        sub = node.op_type == "Sub" and value(node, 1) == 2 and node.output[0] in clipped
        cut = node.op_type == "Slice" and value(node, 1) == 2 and value(node, 3) == 1 and value(node, 2) > 1 << 40
        if sub or cut:
            node.input[1] = "drop"
            changed += 1
    assert changed == 2, changed
    model.graph.input.append(helper.make_tensor_value_info("drop", TensorProto.INT64, [1]))
    return model.SerializeToString()


def exact(mel, lookahead, step, caches):
    """Encoder output with NeMo's windows, frames [T', width]. `step(window, length, *caches, drop)`."""
    frames, at, first, found = mel.shape[1], 0, True, []
    new = 1 + 8 * lookahead
    while at < frames:
        carry = min(at, 9 if lookahead or at > 1 else 0)
        carry = 0 if first else (1 if at == 1 else carry)
        drop = 0 if first else (1 if at == 1 else 2)
        window = mel[:, at - carry : at + new]
        length = window.shape[1]
        full = carry + new
        window = np.pad(window, ((0, 0), (0, full - length)))
        encoded, encoded_len, *caches = step(window[None], [length], *caches, [drop])
        found.append(encoded[0][:, : encoded_len[0]].T)
        at, first, new = at + new, False, 8 + 8 * lookahead
    return np.concatenate(found)


def padded(mel, lookahead, step, caches, carry_inside=False):
    """The same with 9 zero frames before the first window and a drop of 2 in all windows, as every layout allows."""
    new, found = 8 + 8 * lookahead, []
    before = np.zeros((mel.shape[0], 9), np.float32)
    for at in range(0, mel.shape[1], new):
        chunk = mel[:, at : at + new]
        length = chunk.shape[1]
        chunk = np.pad(chunk, ((0, 0), (0, new - length)))
        if carry_inside:
            encoded, encoded_len, *caches = step(chunk[None], [length], before[None], *caches)
            before, caches = caches[0][0], caches[1:]
        else:
            window = np.concatenate([before, chunk], 1)
            encoded, encoded_len, *caches = step(window[None], [9 + length], *caches)
            before = chunk[:, -9:] if new >= 9 else window[:, -9:]
        found.append((encoded, int(encoded_len[0])))
    return found


def greedy(encoded, step, blank, layers, hidden, limit=10):
    """Greedy tokens, their frames, and the smallest difference between the best and the second best logit.

    `step(frame, token, state)` returns logits and the next state.
    """
    state = [np.zeros((layers, 1, hidden), np.float32)] * 2
    tokens, at, gap, last = [], [], np.inf, blank
    for number, frame in enumerate(encoded):
        for _ in range(limit):
            logits, next_state = step(frame, last, state)
            logits = logits.ravel().astype(np.float32)
            best = int(logits.argmax())
            gap = min(gap, float(logits[best] - np.partition(logits, -2)[-2]))
            if best == blank:
                break
            tokens.append(best)
            at.append(number)
            last, state = best, next_state
    return tokens, at, gap


def fused(graph):
    """A step of NeMo's decoder_joint."""
    def step(frame, token, state):
        logits, _, *state = graph(frame[None, :, None], [[token]], [1], *state)
        return logits, state
    return step


def split(decoder, joint, frames_first=False):
    """A step of prediction network and joint. `frames_first`: its inputs are [B, T, width] and [B, U, hidden]."""
    def step(frame, token, state):
        if frames_first:
            output, *state = decoder([[token]], *state)
            return joint(frame[None, None], output.reshape(1, 1, -1))[0], state
        output, _, *state = decoder([[token]], [1], *state)
        return joint(frame[None, :, None], output)[0], state
    return step
