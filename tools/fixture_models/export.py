# SPDX-License-Identifier: MIT OR Apache-2.0
"""NeMo's export, and wrappers that export NeMo's encoder with the inputs and outputs of other projects."""
import warnings
from pathlib import Path

import onnx
import torch
from onnx import external_data_helper

OPSET = 17
CACHES = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")


def nemo(model, directory, left, lookahead, decoder="rnnt", caches=True):
    """NeMo's export: encoder-model.onnx and decoder_joint-model.onnx, or model.onnx with a CTC head."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    if left is not None:
        model.encoder.set_default_att_context_size([left, lookahead])
    hybrid = {"decoder_type": decoder} if hasattr(model, "ctc_decoder") else {}
    model.set_export_config({**hybrid, **({"cache_support": True} if caches else {})})
    model.export(str(Path(directory) / "model.onnx"))


def parts(model, directory, left, lookahead):
    """NeMo's export of each module separately, as sherpa-onnx's scripts do it: encoder, decoder, joiner."""
    model.encoder.set_default_att_context_size([left, lookahead])
    model.set_export_config({"cache_support": True})
    for name, module in (("encoder", model.encoder), ("decoder", model.decoder), ("joiner", model.joint)):
        module.export(str(Path(directory) / f"{name}.onnx"))


class LayersFirst(torch.nn.Module):
    """The streaming step with caches in NeMo's internal order, [layers, B, ...], and a prompt index if there is one."""

    def __init__(self, model):
        super().__init__()
        self.model, self.encoder, self.prompt = model, model.encoder, getattr(model, "prompt_kernel", None)

    def forward(self, signal, length, channel, time, channel_len, prompt_index=None):
        encoded, *rest = self.encoder.cache_aware_stream_step(
            processed_signal=signal, processed_signal_length=length, cache_last_channel=channel, cache_last_time=time,
            cache_last_channel_len=channel_len, keep_all_outputs=False,
            drop_extra_pre_encoded=self.encoder.streaming_cfg.drop_extra_pre_encoded,
        )
        if prompt_index is not None:
            encoded = prompted(self.model, encoded.transpose(1, 2), prompt_index).transpose(1, 2)
        return (encoded, *rest)


class BatchFirst(torch.nn.Module):
    """NeMo's exported encoder with the prompt index as an additional input."""

    def __init__(self, model):
        super().__init__()
        self.model, self.encoder = model, model.encoder

    def forward(self, signal, length, channel, time, channel_len, prompt_index):
        encoded, *rest = self.encoder.forward_for_export(signal, length, channel, time, channel_len)
        return (prompted(self.model, encoded.transpose(1, 2), prompt_index).transpose(1, 2), *rest)


class FramesFirst(torch.nn.Module):
    """The encoder with frames before channels: [B, T, mels] to [B, T', width]."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, signal, length, channel, time, channel_len):
        encoded, *rest = self.encoder.forward_for_export(signal.transpose(1, 2), length, channel, time, channel_len)
        return (encoded.transpose(1, 2), *rest)


class MelCache(torch.nn.Module):
    """The encoder with the mel frames shared by two windows as one more cache. Lengths are int32."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.carry = encoder, encoder.streaming_cfg.pre_encode_cache_size[1]

    def forward(self, signal, length, pre_cache, channel, time, channel_len):
        signal = torch.cat([pre_cache, signal], dim=2)
        encoded, encoded_len, channel, time, channel_len = self.encoder.cache_aware_stream_step(
            processed_signal=signal, processed_signal_length=length.long() + self.carry, cache_last_channel=channel,
            cache_last_time=time, cache_last_channel_len=channel_len.long(), keep_all_outputs=False,
            drop_extra_pre_encoded=self.encoder.streaming_cfg.drop_extra_pre_encoded,
        )
        pre_cache = signal[:, :, -self.carry :]
        return encoded.transpose(1, 2), encoded_len.int(), pre_cache, channel, time, channel_len.int()


class Prediction(torch.nn.Module):
    """The prediction network with its states. Output: [B, hidden, U], or [B, U, hidden] with `hidden_last`."""

    def __init__(self, decoder, hidden_last):
        super().__init__()
        self.decoder, self.hidden_last = decoder, hidden_last

    def forward(self, targets, h, c):
        output, (h, c) = self.decoder.predict(targets, state=(h, c), add_sos=False)
        return output if self.hidden_last else output.transpose(1, 2), h, c


class Joint(torch.nn.Module):
    """The joint over [B, T, width] and [B, U, hidden]."""

    def __init__(self, joint):
        super().__init__()
        self.joint = joint

    def forward(self, encoded, predicted):
        return self.joint.joint(encoded, predicted)


def prompted(model, encoded, prompt_index):
    """NeMo's PromptStreamingMixin._apply_prompt_to_encoded with the prompt as a tensor, on [B, T, width]."""
    batch, frames, _ = encoded.shape
    prompt = torch.zeros(batch, frames, model.num_prompts, dtype=encoded.dtype)
    prompt = prompt.scatter(2, prompt_index.view(batch, 1, 1).expand(-1, frames, -1), 1.0)
    return model.prompt_kernel(torch.cat([encoded, prompt], dim=-1))


def trace(module, inputs, path, input_names, output_names, dynamic=None):
    """torch.onnx.export by tracing, as NeMo and the other projects' scripts do it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(inputs), str(path), input_names=input_names, output_names=output_names,
            dynamic_axes=dynamic, opset_version=OPSET, dynamo=False,
        )


def zeros(model, frames, layers_first=False):
    """Inputs of one step: signal, length and the three caches."""
    channel, time, length = model.encoder.get_initial_cache_state(batch_size=1)
    if not layers_first:
        channel, time = channel.transpose(0, 1), time.transpose(0, 1)
    mels = model.cfg.encoder.feat_in
    return [torch.zeros(1, mels, frames), torch.tensor([frames]), channel.contiguous(), time.contiguous(), length]


def add_metadata(path, **values):
    graph = onnx.load(path)
    del graph.metadata_props[:]
    for key, value in values.items():
        graph.metadata_props.add(key=key, value=str(value))
    onnx.save(graph, path)


def sherpa_metadata(model, lookahead, **more):
    """The keys of sherpa-onnx's export scripts for CTC and transducer, in their order."""
    width, layers = model.encoder.d_model, len(model.encoder.layers)
    left = model.encoder.streaming_cfg.last_channel_cache_size
    return {
        "vocab_size": model.decoder.vocab_size, "window_size": 17 + 8 * lookahead, "chunk_shift": 8 + 8 * lookahead,
        "normalize_type": "", "cache_last_channel_dim1": layers, "cache_last_channel_dim2": left,
        "cache_last_channel_dim3": width, "cache_last_time_dim1": layers, "cache_last_time_dim2": width,
        "cache_last_time_dim3": model.encoder.conv_context_size[0], **more, "subsampling_factor": 8,
        "model_type": type(model).__name__, "version": "1", "model_author": "NeMo", "url": "",
        "comment": f"Only the {'transducer' if 'pred_hidden' in more else 'CTC'} branch is exported",
    }


def move_weights_out(path, single=True):
    """Move all weights into PATH.data, or each of at least 1 KiB into a separate file, as PyTorch does."""
    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        if single or len(tensor.raw_data) >= 1024:
            location = f"{Path(path).name}.data" if single else tensor.name.replace(":", "_")
            external_data_helper.set_external_data(tensor, location)
    for old in Path(path).parent.glob(f"{Path(path).name}.data"):
        old.unlink()
    onnx.save(graph, path)


def write_tokens(directory, pieces):
    lines = [f"{piece} {number}\n" for number, piece in enumerate(pieces)] + [f"<blk> {len(pieces)}\n"]
    (Path(directory) / "tokens.txt").write_text("".join(lines), encoding="utf-8")
