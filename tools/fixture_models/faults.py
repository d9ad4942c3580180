# SPDX-License-Identifier: MIT OR Apache-2.0
"""Minimal unsupported exports, each with one fault that needs a real export to reproduce."""
import json
import shutil
from pathlib import Path

import edits
import nemo as nemo_package
import torch
from build import DATA, build, config, tokenizer, scratch_directory
from export import CACHES, nemo, trace, write_tokens, zeros
from nemo.collections.asr.models import EncDecRNNTBPEModel
from omegaconf import OmegaConf
from streaming import Graph

OUT = DATA / "faults"
TINY = {"width": 16, "layers": 1, "hidden": 8}
TOKENS, LEFT = 64, 70


def offline(model, target):
    """An offline model: symmetric convolutions, unlimited attention, normalized features, no caches."""
    nemo(model, target, None, None, caches=False)
    (target / "nemostt.json").write_text(json.dumps({"preprocessor": {"normalize": "per_feature"}}) + "\n")


def full_context(model, target):
    """Unlimited attention, [-1, -1], but with caches.

    NeMo's set_export_config computes an empty chunk for such a model and fails; with explicit sizes it can be exported.
    """
    model.encoder.setup_streaming_params(chunk_size=7, shift_size=7, max_context=LEFT)
    model.encoder.export_cache_support = True
    model.export(str(target / "model.onnx"))


def tdt(model, target):
    """Token-and-duration transducer: the logits of five durations follow those of the tokens."""
    nemo(model, target, LEFT, 6)


def lookahead3(model, target):
    """[70, 3]: 70 is not a multiple of 4. NeMo's constructor rejects it, set_default_att_context_size does not."""
    nemo(model, target, LEFT, 3)


def with_rc(model, target):
    """att_context_style chunked_limited_with_rc, as in parakeet-unified-en-0.6b: chunks attend beyond their end."""
    model.encoder.set_default_att_context_size([LEFT, 7, 6])
    nemo(model, target, None, None)


class Speakers(torch.nn.Module):
    """The multitalker encoder with its two speaker inputs, named as in parakeet-rs."""

    def __init__(self, model):
        super().__init__()
        self.model, self.encoder = model, model.encoder

    def forward(self, signal, length, channel, time, channel_len, speaker, background):
        self.model.set_speaker_targets(speaker, background)
        return self.encoder.forward_for_export(signal, length, channel, time, channel_len)


def multitalker(model, target):
    """NVIDIA's multitalker model, which needs to know for each frame who is speaking."""
    with scratch_directory() as scratch:
        model.freeze()
        parts = Path(scratch)
        model.encoder.set_default_att_context_size([LEFT, 6])
        trace(
            Speakers(model), [*zeros(model, 65), torch.ones(1, 7), torch.zeros(1, 7)], target / "encoder.onnx",
            ["processed_signal", "processed_signal_length", *CACHES, "spk_targets", "bg_spk_targets"],
            ["encoded", "encoded_len", *(f"{name}_next" for name in CACHES)],
            {"processed_signal": {0: "batch", 2: "time"},
             "spk_targets": {1: "frames"}, "bg_spk_targets": {1: "frames"}},
        )
        nemo(model, parts, LEFT, 6)
        shutil.copy(parts / "decoder_joint-model.onnx", target / "decoder_joint.onnx")


def settings(name, tokens):
    """Configuration and class of a fault."""
    streaming = [[LEFT, r] for r in (13, 6, 1, 0)]
    found = config(tokens, streaming, **TINY)
    kind = EncDecRNNTBPEModel
    if name in ("offline", "full_context"):
        found = config(tokens, [-1, -1], style="regular", **TINY)
    if name == "offline":
        found.preprocessor.normalize = "per_feature"
        found.encoder.update(causal_downsampling=False, conv_context_size=None, conv_norm_type="batch_norm")
    if name == "tdt":
        durations = [0, 1, 2, 3, 4]
        found.model_defaults.update(tdt_durations=durations, num_tdt_durations=5)
        found.joint.num_extra_outputs = 5
        found.decoding = OmegaConf.create(
            {"strategy": "greedy", "model_type": "tdt", "durations": durations, "greedy": {"max_symbols": 10}}
        )
        found.loss = OmegaConf.create({"loss_name": "tdt", "tdt_kwargs": {"durations": durations}})
    if name == "with_rc":
        found = config(tokens, [-1, -1], style="chunked_limited_with_rc", **TINY)
        found.encoder.att_chunk_context_size = [[LEFT], [2, 7, 13], [0, 2, 7, 13]]
    if name == "multitalker":
        from nemo.collections.asr.models.multitalker_asr_models import EncDecMultiTalkerRNNTBPEModel as kind

        found.update(spk_kernel_type="ff", spk_kernel_layers=[0], add_bg_spk_kernel=True)
    return kind, found


def write(_):
    """Write the faults that this NeMo version can build. Every graph must load: the fault is in what it computes."""
    edits.show()
    newer = int(nemo_package.__version__.split(".")[0]) >= 3
    faults = [with_rc] if newer else [offline, full_context, tdt, lookahead3, multitalker]
    for fault in faults:
        target = OUT / fault.__name__
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        with scratch_directory() as scratch:
            pieces = tokenizer(scratch, vocab_size=TOKENS)
            kind, found = settings(fault.__name__, scratch)
            fault(build(kind, found), target)
            write_tokens(target, pieces)
        for file in sorted(target.glob("*.onnx")):
            graph = Graph(str(file))
            print(fault.__name__, file.name, file.stat().st_size, [(i.name, i.type, i.shape) for i in graph.inputs],
                  [(o.name, o.shape) for o in graph.session.get_outputs()], flush=True)
