# SPDX-License-Identifier: MIT OR Apache-2.0
"""NeMo's own export: its graphs, with caches, as files.

The graph of the largest lookahead also serves the smaller ones: its mask works in chunks of R + 1 frames, and a smaller
chunk is within one of them as long as its size divides the left context. Only readers with one fixed chunk size need a
graph for each lookahead.
"""

from pathlib import Path

import torch

from .checks import Kind
from .loading import set_context

OPSET = 17
INPUTS = ("audio_signal", "length", "cache_last_channel", "cache_last_time", "cache_last_channel_len")


def export(model, kind: Kind, lookahead: int, decoders, split: bool, scratch: Path) -> dict[str, Path]:
    """Writes the graphs for one lookahead below `scratch`: role -> file.

    Roles are encoder, ctc and, for RNN-T, decoder_joint, or decoder and joiner if `split`.
    """
    # In this order: set_export_config computes the sizes of the caches from the context.
    set_context(model, kind.left, lookahead)
    model.set_export_config({"cache_support": True})
    # Each in its own folder: above 2 GB, PyTorch writes the weights to hundreds of files next to the graph.
    parts = {}
    if "rnnt" in decoders:
        parts["encoder"] = prompted(model) if kind.prompts else model.encoder
        if split:
            parts["decoder"], parts["joiner"] = model.decoder, model.joint
        else:
            parts["decoder_joint"] = model.decoder_joint
    if "ctc" in decoders:
        parts["ctc"] = prompted(model, True) if kind.prompts else with_ctc(model)
    files = {}
    for role, part in parts.items():
        files[role] = scratch / role / f"{role}.onnx"
        files[role].parent.mkdir(parents=True)
        part.export(str(files[role]), onnx_opset_version=OPSET)
    return files


def with_ctc(model):
    """The model, set up to be exported as one graph that ends in the CTC head."""
    if hasattr(model, "ctc_decoder"):
        model.set_export_config({"decoder_type": "ctc", "cache_support": True})
    return model


def prompted(model, ctc: bool = False):
    """The encoder followed by the prompt network, with the prompt's index as an input of the graph.

    NeMo exports these models without their prompt. Names and axes are those of its own export, plus `prompt_index` [B],
    as in other exports of nemotron-3.5-asr.
    """
    from nemo.core.classes.exportable import Exportable
    from nemo.core.neural_types import LabelsType, LogprobsType, NeuralType

    class Prompted(torch.nn.Module, Exportable):
        def __init__(self):
            super().__init__()
            self.encoder, self.prompt_kernel = model.encoder, model.prompt_kernel
            self.ctc_decoder = model.ctc_decoder if ctc else None
            self.prompts = model.num_prompts

        def forward(
            self, audio_signal, length, cache_last_channel, cache_last_time, cache_last_channel_len, prompt_index
        ):
            encoded, *rest = self.encoder.forward_for_export(
                audio_signal, length, cache_last_channel, cache_last_time, cache_last_channel_len
            )
            frames = encoded.transpose(1, 2)
            one_hot = torch.nn.functional.one_hot(prompt_index, self.prompts).to(frames.dtype)
            one_hot = one_hot.unsqueeze(1).expand(-1, frames.size(1), -1)
            encoded = self.prompt_kernel(torch.cat([frames, one_hot], dim=-1)).transpose(1, 2)
            return (self.ctc_decoder(encoder_output=encoded) if ctc else encoded, *rest)

        def input_example(self, max_batch=1, max_dim=256):
            return (*self.encoder.input_example(max_batch, max_dim), torch.zeros(max_batch, dtype=torch.int64))

        @property
        def input_types(self):
            # NeMo's encoder also has options among its inputs, which its own exports omit.
            types = {name: kind for name, kind in self.encoder.input_types_for_export.items() if name in INPUTS}
            return {**types, "prompt_index": NeuralType(tuple("B"), LabelsType())}

        @property
        def output_types(self):
            outputs = dict(self.encoder.output_types_for_export)
            if ctc:
                del outputs["outputs"]
                outputs = {"logprobs": NeuralType(("B", "T", "D"), LogprobsType()), **outputs}
            return outputs

    return Prompted()
